//! Tests in a process of their own, whose dynamic linker finds the software device's library under the
//! names that clients of NVIDIA's driver look for.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Set in the process that runs the body.
const MARK: &str = "SOFTWARE_GPU_TEST_CHILD";

/// The library that this test was built with.
pub fn library() -> PathBuf {
    let exe = std::env::current_exe().expect("the test has a file");
    let built = exe.with_file_name("libsoftware_gpu_libcuda.so");
    assert!(
        built.is_file(),
        "{} is built with the test",
        built.display()
    );
    built
}

/// A folder with the library under its usual names.
fn folder(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder).expect("the target folder is writable");
    for name in ["libcuda.so", "libcuda.so.1"] {
        let _ = fs::remove_file(folder.join(name));
        std::os::unix::fs::symlink(library(), folder.join(name)).expect("links can be made");
    }
    folder
}

/// Runs the test's body in a new process with these variables. Gives what that wrote to stderr; nothing in the new
/// process itself.
pub fn on_the_software_device(
    test: &str,
    variables: &[(&str, &str)],
    body: impl FnOnce(),
) -> Option<String> {
    if std::env::var_os(MARK).is_some() {
        body();
        return None;
    }
    let output = Command::new(std::env::current_exe().expect("the test has a file"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env_remove("LAYERNORM_DRIVER")
        .env_remove("SOFTWARE_GPU_DEVICES")
        .env_remove("SOFTWARE_GPU_MODEL")
        .envs(variables.iter().copied())
        .env("LD_LIBRARY_PATH", folder(test))
        .env(MARK, "1")
        .output()
        .expect("the test starts again");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{test} in its own process: {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}
