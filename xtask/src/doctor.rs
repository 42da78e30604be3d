//! `cargo xtask doctor`: what of this machine is ready, and the command for what is not.

use std::path::Path;

use anyhow::{Result, bail};
use cuda_builder::toolchain::{choose, look, verdict};

use crate::images::{self, IMAGES};
use crate::manifest::Manifest;
use crate::{build_ptx, ptxas};

pub fn run() -> Result<()> {
    let root = images::root();
    let is_fresh = ptx(&root)?;
    let has_compiler = compilers(is_fresh);
    assembler();
    if is_fresh || has_compiler {
        println!("\nready");
    }
    match (is_fresh, has_compiler) {
        (true, _) => Ok(()),
        (false, true) => bail!("the PTX is out of date; to mend it: {}", build_ptx::REMEDY),
        (false, false) => bail!("the PTX is out of date, and no compiler here can build it"),
    }
}

fn ptx(root: &Path) -> Result<bool> {
    println!("PTX, which the library runs on a device");
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

fn compilers(is_fresh: bool) -> bool {
    println!("\nCompiler for the device, which rebuilds the PTX");
    let candidates = look();
    let chosen = choose(&candidates);
    for candidate in &candidates {
        let judged = match verdict(candidate) {
            Ok(toolchain) if Ok(&toolchain) == chosen.as_ref() => {
                format!("{}, has rust-src: chosen", toolchain.description)
            }
            Ok(toolchain) => format!("{}, has rust-src", toolchain.description),
            Err(lack) => lack,
        };
        println!(
            "  {}, {}: {judged}",
            candidate.origin,
            candidate.path.display()
        );
    }
    match chosen {
        Ok(_) => true,
        Err(none) => {
            let need = if is_fresh {
                "to change kernels"
            } else {
                "to mend it"
            };
            println!("  none can build device code; {need}: {}", none.remedy());
            false
        }
    }
}

fn assembler() {
    println!("\nptxas, which counts the kernels' registers");
    match ptxas::find() {
        Ok(path) => {
            let version = ptxas::version(&path).unwrap_or_else(|error| format!("{error:#}"));
            println!("  {}: {version}", path.display());
        }
        Err(error) => println!("  {error:#}"),
    }
}
