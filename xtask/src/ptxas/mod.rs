//! `cargo xtask ptxas`: NVIDIA's assembler over every image, for every device that the image is for.
//! It is what knows how many registers a kernel takes, and whether they sufficed.

mod find;
mod report;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};

pub use find::find;
pub use report::complaints;
use report::{Kernel, parse, table};

use crate::images::{self, IMAGES, Image};

/// ptxas runs at a time: it is one thread, and takes memory.
const AT_A_TIME: usize = 2;

pub fn run() -> Result<()> {
    let ptxas = find("ptxas")?;
    println!("{}", version(&ptxas)?);
    let root = images::root();
    let folder = images::folder(&root);
    let mut failures = Vec::new();
    for image in IMAGES {
        let path = folder.join(image.file_name());
        if !path.is_file() {
            bail!(
                "{} is not there; to mend it: {}",
                path.display(),
                crate::build_ptx::REMEDY
            );
        }
        match assemble_for_all(&ptxas, &path, image, None) {
            Ok(assembled) => {
                println!("\n{}\n{}", image.file_name(), table(&assembled));
                failures.extend(complaints(&assembled));
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    println!("\nno spills, no local memory");
    Ok(())
}

/// `ptxas --version`'s last line but one: release and build.
pub fn version(ptxas: &Path) -> Result<String> {
    let output = Command::new(ptxas)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {}", ptxas.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let release = text.lines().find(|line| line.contains("release"));
    Ok(format!(
        "ptxas: {}",
        release.unwrap_or("of an unknown release").trim()
    ))
}

/// The release's number: `ptxas V13.5.37`.
pub fn release(ptxas: &Path) -> Result<String> {
    let version = version(ptxas)?;
    let number = version.rsplit(' ').next().unwrap_or_default();
    Ok(format!("ptxas {number}"))
}

/// An image assembled for one device.
#[derive(Clone, Debug)]
pub struct Assembled {
    pub device: &'static str,
    pub kernels: Vec<Kernel>,
}

/// What comes of one image for each device, in the image's order. The machine code goes to
/// `<device>.cubin` in a folder, or nowhere.
pub fn assemble_for_all(
    ptxas: &Path,
    ptx: &Path,
    image: &Image,
    objects: Option<&Path>,
) -> Result<Vec<Assembled>> {
    for_all(image.assembled_for, |device| {
        let object = match objects {
            Some(folder) => folder.join(format!("{device}.cubin")),
            None => null_device().into(),
        };
        let kernels = assemble(ptxas, ptx, device, &object)?;
        Ok(Assembled { device, kernels })
    })
}

/// Does a piece of work for each item, a few at a time. The results are in the items' order.
pub fn for_all<T: Sync, U: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<U> + Sync,
) -> Result<Vec<U>> {
    let jobs = Mutex::new(items.iter().enumerate());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let job = jobs.lock().ok().and_then(|mut jobs| jobs.next());
                    let Some((position, item)) = job else { break };
                    let result = work(item);
                    if let Ok(mut done) = done.lock() {
                        done.push((position, result));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(position, _)| *position);
    done.into_iter().map(|(_, result)| result).collect()
}

fn assemble(ptxas: &Path, ptx: &Path, device: &str, object: &Path) -> Result<Vec<Kernel>> {
    let output = Command::new(ptxas)
        .args(["--verbose", "--gpu-name", device, "--output-file"])
        .arg(object)
        .arg(ptx)
        .output()
        .with_context(|| format!("cannot run {}", ptxas.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(
            "ptxas refuses {} for {device}:\n{}",
            ptx.display(),
            first_lines(&said)
        );
    }
    let kernels = parse(&said).with_context(|| format!("ptxas for {device}"))?;
    let text = fs::read_to_string(ptx)?;
    let entries = cuda_builder::ptx::entry_names(&text);
    if kernels.len() != entries.len() {
        bail!(
            "{} has {} kernels, and ptxas tells of {} for {device}",
            ptx.display(),
            entries.len(),
            kernels.len()
        );
    }
    Ok(kernels)
}

/// One mistake in a kernel is one error in each of its instances: the first few will do.
fn first_lines(said: &str) -> String {
    const SHOWN: usize = 10;
    let mut lines: Vec<&str> = said.lines().take(SHOWN).collect();
    let more = said.lines().count().saturating_sub(SHOWN);
    let rest = format!("and {more} more lines");
    if more > 0 {
        lines.push(&rest);
    }
    lines.join("\n")
}

fn null_device() -> &'static str {
    if cfg!(windows) { "NUL" } else { "/dev/null" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_errors_is_cut() {
        assert_eq!(first_lines("a\nb\n"), "a\nb");
        let flood = "line 1, error\n".repeat(200);
        assert_eq!(first_lines(&flood).lines().count(), 11);
        assert!(first_lines(&flood).ends_with("and 190 more lines"));
    }
}
