//! `cargo xtask doctor`: what of this machine is ready, and the command for what is not.
//!
//! What the library needs to run must be there, or the command fails: PTX that is of these sources, and
//! a device. What only a change of the kernels needs is told, and may be missing.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use cuda_builder::Toolchain;
use cuda_builder::toolchain::{Candidate, NoToolchain, choose, look, verdict};

use crate::images::{self, IMAGES};
use crate::manifest::Manifest;
use crate::{build_ptx, ptxas};

pub fn run() -> Result<()> {
    let root = images::root();
    let mut missing = Vec::new();

    println!("PTX, which the library runs on a device");
    let is_fresh = ptx(&root)?;
    if !is_fresh {
        missing.push("PTX of these sources");
    }

    println!("\nDevices, on which it runs");
    if !devices(&root) {
        missing.push("a device");
    }

    println!("\nCompiler for the device, which changes the PTX");
    let candidates = look();
    let chosen = choose(&candidates);
    println!("{}", compilers(&candidates, &chosen));
    if !is_fresh && chosen.is_err() {
        missing.push("a compiler to build it");
    }

    println!("\nptxas, which counts the kernels' registers");
    match ptxas::find("ptxas").and_then(|path| Ok((ptxas::version(&path)?, path))) {
        Ok((version, path)) => println!("  {}: {version}", path.display()),
        Err(error) => println!("{}", indented(&format!("{error:#}"))),
    }

    println!();
    if missing.is_empty() {
        println!("ready");
        return Ok(());
    }
    bail!("missing: {}; see above", missing.join(", "))
}

fn ptx(root: &Path) -> Result<bool> {
    let found = match Manifest::read(root) {
        Ok(manifest) => {
            println!("  built by {}", manifest.compiler);
            manifest.disagreements(root, IMAGES)?
        }
        Err(error) => vec![format!("{error:#}")],
    };
    for disagreement in &found {
        println!("  {disagreement}");
    }
    if found.is_empty() {
        println!("  up to date: {} images", IMAGES.len());
    } else {
        println!("  to mend it: {}", build_ptx::REMEDY);
    }
    Ok(found.is_empty())
}

/// What the library itself finds, asked through its tool: this program does without the library, since
/// it must run when the PTX that the library holds is missing.
fn devices(root: &Path) -> bool {
    const DRIVER: &str = "LAYERNORM_DRIVER";
    let found = layernorm_devices(root, None);
    match &found {
        Ok(text) => println!("{}", indented(text)),
        Err(error) => println!("{}", indented(&format!("{error:#}"))),
    }
    if found.is_ok() && env::var_os(DRIVER).is_none() {
        // Why it is not NVIDIA's driver, if it is not, is said when that is asked for by name.
        if let Err(error) = layernorm_devices(root, Some((DRIVER, "nvidia"))) {
            println!("{}", indented(&format!("{error:#}")));
            println!(
                "  to use a GPU: install NVIDIA's driver, on Debian: apt-get install nvidia-driver"
            );
        }
    }
    found.is_ok()
}

fn layernorm_devices(root: &Path, variable: Option<(&str, &str)>) -> Result<String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(&cargo)
        .current_dir(root)
        .args(["run", "--quiet", "--release", "--package", "layernorm-host"])
        .args(["--", "devices"])
        .envs(variable)
        .output()
        .with_context(|| format!("cannot run {}", cargo.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", last_lines(&said));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One line a compiler that was looked at, with what was made of it.
fn compilers(candidates: &[Candidate], chosen: &Result<Toolchain, NoToolchain>) -> String {
    let mut lines: Vec<String> = candidates
        .iter()
        .map(|candidate| {
            let judged = match verdict(candidate) {
                Ok(toolchain) if Some(&toolchain) == chosen.as_ref().ok() => {
                    format!("{}, has rust-src: chosen", toolchain.description)
                }
                Ok(toolchain) => format!("{}, has rust-src", toolchain.description),
                Err(lack) => lack,
            };
            let path = candidate.path.display();
            format!("  {}, {path}: {judged}", candidate.origin)
        })
        .collect();
    if let Err(none) = chosen {
        let remedy = none.remedy();
        lines.push(format!(
            "  none can build device code; to mend it: {remedy}"
        ));
    }
    lines.join("\n")
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text
        .trim_end()
        .lines()
        .map(|line| format!("  {line}"))
        .collect();
    lines.join("\n")
}

/// A failed build says most at its end.
fn last_lines(said: &str) -> String {
    const SHOWN: usize = 10;
    let lines: Vec<&str> = said.trim_end().lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cuda_builder::toolchain::{Found, Origin, Version};

    fn candidate(origin: Origin, release: &str, has_rust_src: bool) -> Candidate {
        Candidate {
            origin,
            path: "/bin/rustc".into(),
            found: Ok(Found {
                version: Version::parse(release).unwrap(),
                description: format!("rustc {release} (test)"),
                rustc: "/bin/rustc".into(),
                cargo: Some("/bin/cargo".into()),
                has_rust_src,
            }),
        }
    }

    #[test]
    fn every_compiler_is_listed_with_what_was_made_of_it() {
        let candidates = [
            candidate(Origin::Active, "1.95.0", false),
            candidate(Origin::Rustup("nightly".into()), "1.97.0-nightly", true),
            candidate(Origin::System, "1.96.0", true),
        ];
        assert_eq!(
            compilers(&candidates, &choose(&candidates)),
            "  the active toolchain, /bin/rustc: 1.95.0 has no rust-src\n  \
             rustup's nightly, /bin/rustc: rustc 1.97.0-nightly (test), has rust-src: chosen\n  \
             the system's, /bin/rustc: rustc 1.96.0 (test), has rust-src"
        );
    }

    #[test]
    fn where_none_will_do_the_command_that_mends_it_is_told() {
        let candidates = [candidate(Origin::Rustup("stable".into()), "1.95.0", false)];
        let text = compilers(&candidates, &choose(&candidates));
        assert!(
            text.contains("to mend it: rustup component add rust-src --toolchain stable"),
            "{text}"
        );
    }

    #[test]
    fn a_long_build_log_is_cut_to_its_end() {
        assert_eq!(last_lines("error: a\n\n"), "error: a");
        let log = "note\n".repeat(50) + "error: no device";
        assert_eq!(last_lines(&log).lines().count(), 10);
        assert!(last_lines(&log).ends_with("error: no device"));
    }
}
