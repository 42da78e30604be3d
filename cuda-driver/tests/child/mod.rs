//! Tests that need a process of their own: for a fault that a context does not survive, for a variable
//! of the environment, for a driver chosen once.

use std::process::Command;

/// Set in the process that runs the body.
const MARK: &str = "CUDA_DRIVER_TEST_CHILD";

/// Runs the test's body in a process of its own, with these variables. Every other process runs the test
/// of this name again, in a new process, and gives back what that wrote to stderr.
pub fn run(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> Option<String> {
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
        .env(MARK, "1")
        .output()
        .expect("the test starts again");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{test} in its own process: {}\n{stdout}\n{stderr}",
        output.status
    );
    Some(stderr)
}
