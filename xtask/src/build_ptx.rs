//! `cargo xtask build-ptx`: the kernels as PTX, which is committed so that using the library takes no
//! device compiler; and `--check`, which finds PTX that is not what the sources say.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cuda_builder::ptx::entry_names;
use cuda_builder::{CudaBuilder, Toolchain, check_ptx};

use crate::images::{self, IMAGES, Image};
use crate::manifest::{FILE_NAME, Manifest};
use crate::sources;

#[derive(clap::Args)]
pub struct Arguments {
    /// Change nothing; fail if the committed PTX is not what the sources give
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let root = images::root();
    if arguments.check {
        check(&root)
    } else {
        build(&root)
    }
}

fn build(root: &Path) -> Result<()> {
    let toolchain = Toolchain::find()?;
    // Before the build: a source that changes meanwhile makes the PTX stale, and is seen.
    let sources = sources::hash(root, IMAGES)?;
    let built = build_all(root, &toolchain)?;
    let manifest = Manifest::new(&toolchain.description, sources, &built);
    let folder = images::folder(root);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    remove_old(&folder)?;
    for (image, ptx) in &built {
        write(&folder.join(image.file_name()), ptx)?;
        println!(
            "{}: {} kernels, {} KiB",
            image.file_name(),
            entry_names(ptx).len(),
            ptx.len() / 1024
        );
    }
    write(&folder.join(FILE_NAME), &manifest.to_text()?)
}

/// Every image, built side by side, and refused if a kernel is not as kernels must be.
fn build_all(root: &Path, toolchain: &Toolchain) -> Result<Vec<(Image, String)>> {
    println!(
        "building with {} ({})",
        toolchain.description, toolchain.origin
    );
    let start = Instant::now();
    let builds: Vec<Result<(Image, String)>> = thread::scope(|scope| {
        let threads: Vec<_> = IMAGES
            .iter()
            .map(|image| scope.spawn(|| build_one(root, toolchain, *image)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    let built = builds.into_iter().collect::<Result<Vec<_>>>()?;
    println!("built in {:.1} s", start.elapsed().as_secs_f64());
    lint(&built)?;
    Ok(built)
}

fn build_one(root: &Path, toolchain: &Toolchain, image: Image) -> Result<(Image, String)> {
    let path = CudaBuilder::new(images::kernel_crate(root))
        .arch(image.arch)
        .ptx_version(image.ptx_version)
        .toolchain(toolchain.clone())
        .build()
        .with_context(|| format!("no PTX for {}", image.arch))?;
    let ptx =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((image, ptx))
}

/// Fails if there is anything in the PTX that makes kernels slow unseen.
fn lint(built: &[(Image, String)]) -> Result<()> {
    const SHOWN: usize = 20;
    let mut count = 0;
    for (image, ptx) in built {
        if entry_names(ptx).is_empty() {
            bail!("{} has no kernels", image.file_name());
        }
        for finding in check_ptx(ptx) {
            count += 1;
            if count <= SHOWN {
                eprintln!("{}, {finding}", image.file_name());
            }
        }
    }
    if count > SHOWN {
        eprintln!("and {} more", count - SHOWN);
    }
    if count > 0 {
        bail!("{count} lines of PTX that must not be: see above. Nothing was written");
    }
    Ok(())
}

/// What `--check` and `doctor` say is to be done about stale PTX.
pub const REMEDY: &str = "cargo xtask build-ptx";

fn check(root: &Path) -> Result<()> {
    let manifest =
        Manifest::read(root).with_context(|| format!("no manifest; to mend it: {REMEDY}"))?;
    let disagreements = manifest.disagreements(root, IMAGES)?;
    if !disagreements.is_empty() {
        bail!("{}\nto mend it: {REMEDY}", disagreements.join("\n"));
    }
    let committed = IMAGES
        .iter()
        .map(|image| {
            let path = images::folder(root).join(image.file_name());
            Ok((*image, fs::read_to_string(path)?))
        })
        .collect::<Result<Vec<_>>>()?;
    lint(&committed)?;
    println!("the PTX is of these sources: {} images", committed.len());
    compare_bytes(root, &manifest, &committed)
}

/// Builds again and compares, where the compiler is the one that built the committed images.
fn compare_bytes(root: &Path, manifest: &Manifest, committed: &[(Image, String)]) -> Result<()> {
    let built_by = &manifest.compiler;
    let toolchain = match Toolchain::find() {
        Ok(toolchain) if toolchain.description == *built_by => toolchain,
        Ok(other) => {
            println!(
                "not built again to compare: the images are {built_by}'s, and here is {}",
                other.description
            );
            return Ok(());
        }
        Err(_) => {
            println!("not built again to compare: no compiler for the device here");
            return Ok(());
        }
    };
    let built = build_all(root, &toolchain)?;
    for ((image, committed), (_, built)) in committed.iter().zip(&built) {
        if let Some(line) = first_difference(committed, built) {
            bail!(
                "{} line {line} is not what {built_by} makes of these sources\nto mend it: {REMEDY}",
                image.file_name()
            );
        }
    }
    println!("the same, byte for byte, when built again");
    Ok(())
}

/// The first line, counted from 1, that differs.
fn first_difference(a: &str, b: &str) -> Option<usize> {
    if a == b {
        return None;
    }
    let same = a
        .split_inclusive('\n')
        .zip(b.split_inclusive('\n'))
        .take_while(|(a, b)| a == b)
        .count();
    Some(same + 1)
}

/// Removes images that are no longer built.
fn remove_old(folder: &Path) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_current = IMAGES.iter().any(|image| image.file_name() == name);
        if name.starts_with("layernorm_") && name.ends_with(".ptx") && !is_current {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            println!("{name}: removed, no longer one of the images");
        }
    }
    Ok(())
}

/// Writes beside the file and renames, so that no half-written image is ever committed.
fn write(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, text)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("a\nb\n", "a\n"), Some(2));
        assert_eq!(first_difference("a\nb", "a\nb\n"), Some(2));
    }

    #[test]
    fn an_image_with_a_generic_access_is_refused() {
        let good = ".visible .entry k()\n{\n\tld.global.b32 %r1, [%rd1];\n\tret;\n}\n";
        lint(&[(IMAGES[0], good.to_owned())]).unwrap();
        let bad = good.replace("ld.global", "ld");
        let error = lint(&[(IMAGES[0], bad)]).unwrap_err().to_string();
        assert!(
            error.starts_with("1 lines of PTX that must not be"),
            "{error}"
        );
    }

    #[test]
    fn an_image_without_kernels_is_refused() {
        let error = lint(&[(IMAGES[0], ".version 6.3\n".into())]).unwrap_err();
        assert_eq!(error.to_string(), "layernorm_sm_75.ptx has no kernels");
    }
}
