//! `cargo xtask mutate`: plants faults in copies of the sources, one at a time, and runs the suite against each.
//! A fault that no test sees fails the command: then the suite promises more than it checks.
//!
//! A device fault is built to PTX, into the image of its kind, and the suite runs it on the software GPU. A host fault
//! is built into the library, and the suite runs on the CPU and on the software GPU. `faults` has the faults.

mod fault;
mod faults;
mod scratch;
mod suite;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cuda_builder::{CudaBuilder, Toolchain};

use self::fault::{Fault, Kind};
use self::scratch::Tree;
use self::suite::{Control, Outcome, Suite};
use crate::images::{self, IMAGES};

#[derive(clap::Args)]
pub struct Arguments {
    /// The faults to plant; all of them without a name
    names: Vec<String>,
    /// Say which faults there are, and plant none
    #[arg(long)]
    list: bool,
    /// Write the table to docs/mutations.md
    #[arg(long, conflicts_with = "names")]
    write: bool,
}

/// A planted fault, and what the suite said.
struct Verdict {
    fault: &'static Fault,
    outcome: Outcome,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        for fault in faults::all() {
            println!("{:<28} {}", fault.name, fault.what);
        }
        return Ok(());
    }
    let chosen = chosen(&arguments.names)?;
    let start = Instant::now();
    let root = images::root();
    let folder = root.join("target/mutate");
    let toolchain = Toolchain::find()?;

    let host = Tree::copy(&root, &folder.join("host"))?;
    host.take_ptx_from_outside()?;
    let device = Tree::copy(&root, &folder.join("device"))?;
    let mut control = Control {
        suite: Suite::build(&host, &folder.join("host-target"))?.kept(&folder.join("control"))?,
        ptx: BTreeMap::new(),
    };
    // Only the images that these faults are in.
    for kind in chosen.iter().map(|fault| fault.kind) {
        let (arch, model) = kind.arch_and_model();
        if !control.ptx.contains_key(model) {
            let name = format!("control_{arch}");
            let ptx = build(&device, &folder, &toolchain, kind, &name)?;
            control.ptx.insert(model, ptx);
        }
    }
    println!(
        "built without a fault ({:.0} s)",
        start.elapsed().as_secs_f64()
    );

    let (for_host, for_device): (Vec<_>, Vec<_>) =
        chosen.iter().partition(|fault| fault.kind == Kind::Host);
    let (device_verdicts, host_verdicts) = thread::scope(|scope| {
        let device = scope.spawn(|| {
            each(for_device, |fault| {
                let planted = device.plant(fault)?;
                match build(planted.tree(), &folder, &toolchain, fault.kind, fault.name) {
                    Ok(ptx) => control.suite.run(fault.kind, &ptx, &control),
                    Err(error) => Ok(Outcome::Untried(format!("{error:#}"))),
                }
            })
        });
        let host = each(for_host, |fault| {
            let planted = host.plant(fault)?;
            match Suite::build(planted.tree(), &folder.join("host-target")) {
                Ok(suite) => suite.run(Kind::Host, control.ptx(Kind::Host), &control),
                Err(error) => Ok(Outcome::Untried(format!("{error:#}"))),
            }
        });
        let device = device
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (device, host)
    });
    let verdicts: Vec<Verdict> = device_verdicts?.into_iter().chain(host_verdicts?).collect();

    let text = table(&verdicts);
    println!("\n{text}");
    println!(
        "{} faults in {:.0} s",
        verdicts.len(),
        start.elapsed().as_secs_f64()
    );
    let missed: Vec<&str> = verdicts
        .iter()
        .filter(|verdict| matches!(verdict.outcome, Outcome::Passed | Outcome::Untried(_)))
        .map(|verdict| verdict.fault.name)
        .collect();
    if !missed.is_empty() {
        bail!("not caught: {}", missed.join(", "));
    }
    if arguments.write {
        let path = root.join("docs/mutations.md");
        fs::write(&path, format!("{HEAD}\n{text}"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

const HEAD: &str = "# Do the tests bite?

Each fault below was planted in a copy of the sources, alone, and the suite was run against it. Kernels were built to
PTX and run on the software GPU: most as an A100, those of sm_90's image as an H100, and as a T4 those that only a
device with little shared memory comes to. Host code was run on the CPU, and with the A100's kernels.

All were caught: none counts whose sources do not compile or whose PTX does not load, and the first test named passes
without the fault. A run ends with the third test that fails, or 20 seconds after the first.

Made by `cargo xtask mutate --write`; `cargo xtask mutate NAME` plants one. A fault's exact text is in
`xtask/src/mutate/faults.rs` and below.
";

/// The faults of these names, or all.
fn chosen(names: &[String]) -> Result<Vec<&'static Fault>> {
    if names.is_empty() {
        return Ok(faults::all().collect());
    }
    let find = |name: &String| {
        let fault = faults::all().find(|fault| fault.name == name);
        fault.with_context(|| format!("no fault is called {name}; --list has their names"))
    };
    names.iter().map(find).collect()
}

/// Plants each fault and says at once how it went.
fn each(
    faults: Vec<&'static Fault>,
    plant: impl Fn(&Fault) -> Result<Outcome>,
) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    for fault in faults {
        let start = Instant::now();
        let outcome = plant(fault).with_context(|| format!("fault {}", fault.name))?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{:<28} {outcome} ({seconds:.0} s)", fault.name);
        verdicts.push(Verdict { fault, outcome });
    }
    Ok(verdicts)
}

/// The PTX of a tree's kernels, as the image that faults of this kind are in.
fn build(
    tree: &Tree,
    folder: &Path,
    toolchain: &Toolchain,
    kind: Kind,
    name: &str,
) -> Result<PathBuf> {
    let (arch, _) = kind.arch_and_model();
    let image = IMAGES.iter().find(|image| image.arch == arch);
    let image = image.with_context(|| format!("there is no image for {arch}"))?;
    CudaBuilder::new(images::kernel_crate(tree.root()))
        .arch(image.arch)
        .ptx_version(image.ptx_version)
        .toolchain(toolchain.clone())
        .target_dir(folder.join("device-target"))
        .copy_to(folder.join(format!("{name}.ptx")))
        .build()
        .with_context(|| format!("the kernels with {name} do not compile"))
}

fn table(verdicts: &[Verdict]) -> String {
    let mut text =
        "| fault | what it does | where | tests that fail |\n|---|---|---|---|\n".to_owned();
    for Verdict { fault, outcome } in verdicts {
        let file = fault.file.rsplit('/').next().unwrap_or(fault.file);
        text += &format!(
            "| {} | {} | `{file}` | {outcome} |\n",
            fault.name, fault.what
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_can_be_planted_and_has_a_name_of_its_own() {
        let mut names: Vec<&str> = faults::all().map(|fault| fault.name).collect();
        for fault in faults::all() {
            let path = images::root().join(fault.file);
            let text = fs::read_to_string(&path).unwrap();
            let planted = fault.planted(&text);
            assert!(planted.is_ok(), "{}: {planted:?}", fault.name);
            assert_ne!(planted.unwrap(), text, "{}", fault.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), faults::all().count());
    }

    #[test]
    fn a_name_that_no_fault_has_is_an_error() {
        assert_eq!(chosen(&[]).unwrap().len(), faults::all().count());
        let known = faults::all().next().unwrap().name.to_owned();
        assert_eq!(chosen(&[known]).unwrap().len(), 1);
        assert!(chosen(&["no-such-fault".to_owned()]).is_err());
    }
}
