//! `cargo xtask sass`: the machine code that ptxas makes of every image, for every device that the image is for,
//! counted into docs/sass/, a table a device. `--check` says where the committed tables are not of the committed PTX. Both fail
//! where a kernel spills, or has what no kernel may have.

mod count;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::images::{self, IMAGES};
use crate::ptxas::{self, Assembled};
use table::Kernel;

#[derive(Args)]
pub struct Arguments {
    /// Change nothing; fail where the tables would change
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let ptxas = ptxas::find("ptxas")?;
    let nvdisasm = ptxas::find("nvdisasm")?;
    let assembler = ptxas::release(&ptxas)?;
    let root = images::root();
    let folder = root.join("docs/sass");
    fs::create_dir_all(&folder)?;
    let scratch = Scratch::new()?;
    let mut failures = Vec::new();
    let mut written = Vec::new();
    // By device: the kernels that it takes, of all images.
    let mut tables: BTreeMap<&str, Vec<Kernel>> = BTreeMap::new();
    for image in IMAGES {
        let path = images::folder(&root).join(image.file_name());
        let assembled = ptxas::assemble_for_all(&ptxas, &path, image, Some(&scratch.0))?;
        failures.extend(ptxas::complaints(&assembled));
        let listings = ptxas::for_all(&assembled, |assembled| {
            let object = scratch.0.join(format!("{}.cubin", assembled.device));
            disassemble(&nvdisasm, &object)
        })?;
        for (assembled, listing) in assembled.iter().zip(listings) {
            let device = assembled.device;
            let kernels = kernels(assembled, &listing).with_context(|| device.to_owned())?;
            failures.extend(kernels.iter().flat_map(|kernel| kernel.complaints(device)));
            let table = tables.entry(device).or_default();
            // The host takes a kernel from the newest image that has it.
            table.retain(|old| kernels.iter().all(|new| new.name != old.name));
            table.extend(kernels);
        }
    }
    for (device, mut kernels) in tables {
        kernels.sort_by(|a, b| a.name.cmp(&b.name));
        let file = folder.join(format!("{device}.txt"));
        let text = table::text(device, &assembler, &kernels);
        let committed = fs::read_to_string(&file).unwrap_or_default();
        // Whatever git made of the line ends.
        let committed = committed.replace('\r', "");
        if arguments.check && committed != text {
            failures.push(explain(device, &committed, &text, &assembler));
        } else if committed != text {
            fs::write(&file, text)?;
            written.push(device);
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    println!("no spills, local memory, traps, atomics, or divisions; {assembler}");
    match written[..] {
        [] => println!("docs/sass is of this PTX"),
        _ => println!("docs/sass: written for {}", written.join(", ")),
    }
    Ok(())
}

/// Why a committed table is not the one that was made.
fn explain(device: &str, committed: &str, made: &str, assembler: &str) -> String {
    let head = committed.lines().next().unwrap_or("no table");
    if !committed.is_empty() && !head.contains(&format!("{assembler}.")) {
        return format!(
            "docs/sass/{device}.txt is of another ptxas ({head}); this is {assembler}\n\
             to mend it: run the release that .ci/run names, or `cargo xtask sass` and commit all of docs/sass"
        );
    }
    format!(
        "docs/sass/{device}.txt is not of this PTX:\n{}\n\
         to mend it: look at the difference, run `cargo xtask sass`, commit docs/sass",
        table::difference(committed, made)
    )
}

/// What ptxas said and what the code holds, in the order of the names.
fn kernels(assembled: &Assembled, listing: &str) -> Result<Vec<Kernel>> {
    let mut counts = count::parse(listing)?;
    let kernels = assembled
        .kernels
        .iter()
        .map(|kernel| {
            let counts = counts.remove(&kernel.name);
            Ok(Kernel {
                counts: counts.with_context(|| format!("no code of {}", kernel.name))?,
                name: kernel.name.clone(),
                registers: kernel.registers,
                shared: kernel.shared,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if let Some(name) = counts.keys().next() {
        bail!("code of {name}, which ptxas does not tell of");
    }
    Ok(kernels)
}

fn disassemble(nvdisasm: &Path, object: &Path) -> Result<String> {
    let output = Command::new(nvdisasm)
        .arg("--print-code")
        .arg(object)
        .output()
        .with_context(|| format!("cannot run {}", nvdisasm.display()))?;
    if !output.status.success() {
        bail!(
            "nvdisasm refuses {}:\n{}",
            object.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A folder for objects, gone when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("xtask-sass-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
