//! What compilers are on this machine. Runs each one's `rustc -vV`, and decides nothing.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Candidate, Found, Origin, Version};
use crate::flags::is_in_the_way;

/// All compilers that are worth a look, each once, under the first origin that it was found by.
pub fn look() -> Vec<Candidate> {
    let mut candidates = Vec::new();
    if let Some(path) = env::var_os("CUDA_BUILDER_RUSTC").filter(|path| !path.is_empty()) {
        candidates.push(probe(Origin::Variable, path.into()));
    }
    let in_path: Vec<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    let exists = |folder: &PathBuf| {
        let rustc = folder.join("rustc");
        rustc.is_file().then_some(rustc)
    };
    if let Some(active) = in_path.iter().find_map(exists) {
        candidates.push(probe(Origin::Active, active));
    }
    for (name, rustc) in rustup_toolchains() {
        candidates.push(probe(Origin::Rustup(name), rustc));
    }
    let systems = ["/usr/local/bin", "/usr/bin"].map(PathBuf::from);
    for rustc in in_path.iter().chain(&systems).filter_map(exists) {
        if !is_rustups_proxy(&rustc) {
            candidates.push(probe(Origin::System, rustc));
        }
    }
    let mut seen = BTreeSet::new();
    candidates.retain(|candidate| {
        // The active toolchain is listed again under rustup's name, which `rustup component add`
        // needs to be told.
        let kind = matches!(candidate.origin, Origin::Rustup(_));
        let rustc = candidate.found.as_ref().map(|found| &found.rustc);
        let rustc = rustc.unwrap_or(&candidate.path);
        let rustc = rustc.canonicalize().unwrap_or_else(|_| rustc.clone());
        seen.insert((kind, rustc))
    });
    candidates
}

/// rustup's toolchains by name, without asking rustup, which may not be there to ask.
fn rustup_toolchains() -> Vec<(String, PathBuf)> {
    let home = env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".rustup")));
    let Some(entries) = home.and_then(|home| home.join("toolchains").read_dir().ok()) else {
        return Vec::new();
    };
    let mut toolchains: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let rustc = entry.path().join("bin/rustc");
            rustc
                .is_file()
                .then(|| (entry.file_name().to_string_lossy().into_owned(), rustc))
        })
        .collect();
    toolchains.sort();
    toolchains
}

/// rustup's `rustc` stands for the active toolchain, which was looked at.
fn is_rustups_proxy(rustc: &Path) -> bool {
    rustc
        .parent()
        .is_some_and(|folder| folder.join("rustup").exists())
}

fn probe(origin: Origin, path: PathBuf) -> Candidate {
    let found = found(&origin, &path);
    Candidate {
        origin,
        path,
        found,
    }
}

fn found(origin: &Origin, path: &Path) -> Result<Found, String> {
    let verbose = ask(origin, path, &["-vV"])?;
    let release = verbose
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
        .ok_or("`rustc -vV` names no release")?;
    let version = Version::parse(release).ok_or_else(|| format!("`{release}` is not a release"))?;
    let sysroot = PathBuf::from(ask(origin, path, &["--print", "sysroot"])?.trim());
    let or_else_beside = |name: &str| {
        [sysroot.join("bin").join(name), path.with_file_name(name)]
            .into_iter()
            .find(|program| program.is_file())
    };
    let library = sysroot.join("lib/rustlib/src/rust/library");
    Ok(Found {
        version,
        description: verbose.lines().next().unwrap_or_default().to_owned(),
        rustc: or_else_beside("rustc").unwrap_or_else(|| path.to_owned()),
        cargo: or_else_beside("cargo"),
        has_rust_src: library.join("core/Cargo.toml").is_file(),
    })
}

fn ask(origin: &Origin, rustc: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(rustc);
    command.args(arguments);
    for (variable, _) in env::vars_os() {
        // rustup's proxy is told by RUSTUP_TOOLCHAIN which toolchain is active.
        let says_which = *origin == Origin::Active && variable == "RUSTUP_TOOLCHAIN";
        if is_in_the_way(&variable.to_string_lossy()) && !says_which {
            command.env_remove(variable);
        }
    }
    let output = command
        .output()
        .map_err(|error| format!("cannot run it: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "`rustc {}` failed: {}",
            arguments.join(" "),
            stderr.trim()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_of_this_test_is_seen_and_understood() {
        let seen = look();
        assert!(
            seen.iter().any(|candidate| candidate.found.is_ok()),
            "cargo runs this test, so there is a rustc: {seen:#?}"
        );
        for candidate in &seen {
            if let Ok(found) = &candidate.found {
                assert!(found.rustc.is_file(), "{candidate:#?}");
                assert!(found.description.starts_with("rustc "), "{candidate:#?}");
            }
        }
    }

    #[test]
    fn a_compiler_that_is_not_there_is_a_candidate_with_a_reason() {
        let candidate = probe(Origin::Variable, "/nowhere/rustc".into());
        assert!(candidate.found.unwrap_err().starts_with("cannot run it: "));
    }

    #[test]
    fn a_program_that_is_no_compiler_says_so() {
        let candidate = probe(Origin::Variable, "/bin/true".into());
        assert_eq!(candidate.found.unwrap_err(), "`rustc -vV` names no release");
    }
}
