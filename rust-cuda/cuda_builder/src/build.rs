//! The build itself: one run of cargo, and its output made into PTX.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::flags::{CARGO_ARGUMENTS, PROFILE, RUSTC_ARGUMENTS, TARGET, is_in_the_way, rustflags};
use crate::ptx::finish_ptx;
use crate::{CudaBuilder, CudaBuilderError, Toolchain};

pub fn build(builder: &CudaBuilder) -> Result<PathBuf, CudaBuilderError> {
    let folder = &builder.path_to_crate;
    let folder = folder
        .canonicalize()
        .ok()
        .filter(|folder| folder.join("Cargo.toml").is_file())
        .ok_or_else(|| CudaBuilderError::CratePathDoesntExist(folder.clone()))?;
    if env::var_os("OUT_DIR").is_some() && env::var_os("CARGO_MANIFEST_DIR").is_some() {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    let toolchain = match &builder.toolchain {
        Some(toolchain) => toolchain.clone(),
        None => Toolchain::find()?,
    };
    let described = describe(&toolchain, &folder)?;
    let base = builder.target_dir.clone();
    let base = base.unwrap_or_else(|| described.target_directory.join("cuda-builder"));
    let target_dir = base.join(variant(builder, &toolchain));

    let suffix = file_suffix(&builder.build_args);
    let mut command = cargo(&toolchain, &folder);
    command
        .args(CARGO_ARGUMENTS)
        .args(&builder.build_args)
        .arg("--target-dir")
        .arg(&target_dir)
        .arg("--")
        .args(RUSTC_ARGUMENTS)
        .arg(format!("-Cextra-filename={suffix}"))
        .envs(PROFILE.iter().copied())
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            rustflags(builder.arch, builder.ptx_version).join("\x1f"),
        )
        // The assembly is all that is wanted, and there is nothing to link.
        .env("CARGO_TARGET_NVPTX64_NVIDIA_CUDA_LINKER", "true");
    let output = run(&mut command)?;
    eprint!(
        "{}",
        worth_showing(&String::from_utf8_lossy(&output.stderr))
    );

    let name = described.library;
    let assembly = target_dir
        .join(TARGET)
        .join("release/deps")
        .join(format!("{name}{suffix}.s"));
    let text = fs::read_to_string(&assembly).map_err(|source| CudaBuilderError::NoPtx {
        path: assembly,
        source,
    })?;
    let path = builder
        .ptx_file_copy_path
        .clone()
        .unwrap_or_else(|| target_dir.join(format!("{name}{suffix}.ptx")));
    write(&path, &finish_ptx(&text)?)?;
    Ok(path)
}

/// The part of the target folder's name that keeps builds apart: cargo keeps one file for all
/// compilers and targets, and would take one's output for another's.
fn variant(builder: &CudaBuilder, toolchain: &Toolchain) -> String {
    let ptx = builder.ptx_version.map(|version| version.target_feature());
    format!(
        "{}-{}-rustc-{}",
        builder.arch,
        ptx.as_deref().unwrap_or("ptx"),
        toolchain.version
    )
}

/// What keeps builds with different arguments apart inside a target folder, since cargo gives the
/// assembly of all of them one name and builds again only what it thinks is not there.
fn file_suffix(build_args: &[String]) -> String {
    if build_args.is_empty() {
        return String::new();
    }
    // Not the standard library's hash: the compiler's arguments must be the same in every build.
    let bytes = build_args.iter().flat_map(|arg| arg.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("-{hash:016x}")
}

/// What cargo says of the crate.
struct Described {
    library: String,
    target_directory: PathBuf,
}

fn describe(toolchain: &Toolchain, folder: &Path) -> Result<Described, CudaBuilderError> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
        target_directory: PathBuf,
    }
    #[derive(Deserialize)]
    struct Package {
        manifest_path: PathBuf,
        targets: Vec<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        crate_types: Vec<String>,
    }

    let mut command = cargo(toolchain, folder);
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    if let Some(target_dir) = env::var_os("CARGO_TARGET_DIR") {
        command.env("CARGO_TARGET_DIR", target_dir);
    }
    let output = run(&mut command)?;
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).map_err(|error| CudaBuilderError::BadMetadata {
            command: written_out(&command),
            message: error.to_string(),
        })?;
    let manifest = folder.join("Cargo.toml");
    let library = metadata
        .packages
        .into_iter()
        .filter(|package| package.manifest_path == manifest)
        .flat_map(|package| package.targets)
        .find(|target| {
            let is_library = |kind: &String| matches!(&**kind, "lib" | "rlib" | "cdylib");
            target.crate_types.iter().any(is_library)
        })
        .ok_or(CudaBuilderError::NoLibrary(manifest))?;
    Ok(Described {
        library: library.name.replace('-', "_"),
        target_directory: metadata.target_directory,
    })
}

/// The toolchain's cargo, in the crate's folder, in an environment where no other compiler's settings
/// are left and unstable flags are allowed: for this build, and nowhere else.
fn cargo(toolchain: &Toolchain, folder: &Path) -> Command {
    let mut command = Command::new(&toolchain.cargo);
    command.current_dir(folder);
    for (variable, _) in env::vars_os() {
        if is_in_the_way(&variable.to_string_lossy()) {
            command.env_remove(variable);
        }
    }
    command
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1");
    command
}

fn run(command: &mut Command) -> Result<std::process::Output, CudaBuilderError> {
    let output = command
        .output()
        .map_err(|source| CudaBuilderError::CannotRun {
            program: command.get_program().into(),
            source,
        })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(CudaBuilderError::BuildFailed {
        command: written_out(command),
        status: output.status,
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// The command with the variables that were set for it, as it could be typed.
fn written_out(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={:?}", name.display(), value?)));
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.display().to_string());
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// The compiler's warnings, less the one that every build has: that PTX versions are unstable.
fn worth_showing(stderr: &str) -> String {
    stderr
        .split("\n\n")
        .filter(|paragraph| {
            let unstable = paragraph.contains("unstable feature specified for `-Ctarget-feature`");
            let count = paragraph.lines().all(|line| {
                line.is_empty() || line.starts_with("warning: ") && line.contains(" generated ")
            });
            !unstable && !count
        })
        .map(|paragraph| format!("{}\n\n", paragraph.trim_end()))
        .collect()
}

/// Writes beside the file and renames, so that a reader sees the old file or the new one.
fn write(path: &Path, text: &str) -> Result<(), CudaBuilderError> {
    let mut partial = OsString::from(path);
    partial.push(".partial");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| CudaBuilderError::FailedToCopyPtxFile {
            path: path.to_owned(),
            source,
        })?;
    }
    fs::write(&partial, text)
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|source| CudaBuilderError::FailedToCopyPtxFile {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_that_every_build_has_is_not_shown() {
        let unstable = "warning: unstable feature specified for `-Ctarget-feature`: `ptx74`\n  |\n  \
                        = note: this feature is not stably supported\n\n";
        let count = "warning: `cuda_std` (lib) generated 1 warning\n";
        assert_eq!(worth_showing(&format!("{unstable}{count}")), "");
        let real = "warning: unused variable: `i`\n --> src/lib.rs:1:1\n\n";
        assert_eq!(worth_showing(&format!("{unstable}{real}{count}")), real);
        assert_eq!(worth_showing(""), "");
    }

    #[test]
    fn a_path_without_a_crate_is_named() {
        let error = CudaBuilder::new("/nowhere/at/all").build().unwrap_err();
        assert_eq!(
            error.to_string(),
            "crate path /nowhere/at/all does not exist, or has no Cargo.toml"
        );
    }

    #[test]
    fn builds_with_different_arguments_have_different_files() {
        let suffix = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            file_suffix(&args)
        };
        assert_eq!(suffix(&[]), "");
        assert_eq!(suffix(&["a"]), "-089be207b544f1e4");
        assert_ne!(suffix(&["a", "b"]), suffix(&["ab"]));
    }

    #[test]
    fn commands_are_written_with_their_variables() {
        let mut command = Command::new("cargo");
        command.args(["rustc", "--lib"]).env("RUSTC_BOOTSTRAP", "1");
        command.env_remove("RUSTFLAGS");
        assert_eq!(
            written_out(&command),
            "RUSTC_BOOTSTRAP=\"1\" cargo rustc --lib"
        );
    }
}
