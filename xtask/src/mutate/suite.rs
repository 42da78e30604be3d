//! The suite as programs: built in a copy of the repository, and run against some PTX.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::fault::Kind;
use super::scratch::Tree;

/// The variable that names the file to take PTX from.
pub const PTX: &str = "MUTATED_PTX";

/// The suite takes a minute; what takes this long does not end.
const PATIENCE: Duration = Duration::from_secs(900);

/// Tests that have failed when there is no need to wait for the others, and how long these are waited for after one.
const ENOUGH: usize = 3;
const GRACE: Duration = Duration::from_secs(20);

/// What is said of PTX that a device does not take: by the library, and by `direct` of the tests.
const NOT_LOADED: [&str; 3] = [
    "could not load the image",
    "has no kernel",
    "the image loads",
];

/// The suite's programs, in the order in which they run: on the CPU, on the software GPU, with rows that are more than
/// 2^32 elements apart, on a device of two multiprocessors, whose clusters come to every slot of their exchanges
/// again, on one of one multiprocessor, whose blocks have all their teams, and with blocks in pairs.
const PROGRAMS: [&str; 6] = ["cpu", "software", "far_rows", "bytes", "teams", "pairs"];

/// The suite's programs.
pub struct Suite {
    programs: [PathBuf; PROGRAMS.len()],
    /// Where they run: the fixtures are found from there.
    folder: PathBuf,
}

/// What a fault is compared with: the suite and PTX without one.
pub struct Control {
    pub suite: Suite,
    /// By the device that runs it.
    pub ptx: BTreeMap<&'static str, PathBuf>,
}

impl Control {
    pub fn ptx(&self, kind: Kind) -> &Path {
        &self.ptx[kind.arch_and_model().1]
    }
}

/// What the suite says of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It saw nothing.
    Passed,
    /// The tests that failed.
    Failed(Vec<String>),
    /// It ended without saying which, as by a signal, or had to be ended.
    Broke(String),
    /// What has the fault could not be built or loaded: that says nothing of the suite.
    Untried(String),
}

impl Suite {
    /// Builds the suite of a tree.
    pub fn build(tree: &Tree, target: &Path) -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args("test --quiet --no-run --locked --package layernorm-tests".split(' '))
            .args(PROGRAMS.iter().flat_map(|name| ["--test", name]))
            .args(["--message-format", "json", "--target-dir"])
            .arg(target)
            .current_dir(tree.root())
            .output()
            .context("cannot run cargo")?;
        if !output.status.success() {
            bail!(
                "the suite does not compile: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let messages = String::from_utf8_lossy(&output.stdout).into_owned();
        let find = |name: &str| {
            let mut messages = messages.lines().map(serde_json::from_str::<Value>);
            let executable = messages.find_map(|message| {
                let message = message.ok()?;
                let executable = message["executable"].as_str()?;
                (message["target"]["name"] == name).then(|| PathBuf::from(executable))
            });
            executable.with_context(|| format!("cargo built no test called {name}"))
        };
        let [cpu, software, far_rows, bytes, teams, pairs] = PROGRAMS.map(find);
        Ok(Suite {
            programs: [cpu?, software?, far_rows?, bytes?, teams?, pairs?],
            folder: tree.root().join("tests"),
        })
    }

    /// Copies of the programs, which a later build leaves alone.
    pub fn kept(self, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        for (program, name) in self.programs.iter().zip(PROGRAMS) {
            let to = folder.join(name);
            fs::copy(program, &to).with_context(|| format!("cannot write {}", to.display()))?;
        }
        Ok(Suite {
            programs: PROGRAMS.map(|name| folder.join(name)),
            folder: self.folder,
        })
    }

    /// Runs it until some test fails: on the software GPU, and for a host fault on the CPU first.
    pub fn run(&self, kind: Kind, ptx: &Path, control: &Control) -> Result<Outcome> {
        let first = match kind {
            Kind::Host => 0,
            Kind::Device | Kind::Older | Kind::Clusters => 1,
        };
        for which in first..PROGRAMS.len() {
            let outcome = self.run_one(which, kind, ptx)?;
            match &outcome {
                Outcome::Passed => {}
                Outcome::Failed(failed) => {
                    let not_caught = self.not_caught(which, &failed[0], kind, ptx, control)?;
                    return Ok(not_caught.map_or(outcome, Outcome::Untried));
                }
                Outcome::Broke(_) | Outcome::Untried(_) => return Ok(outcome),
            }
        }
        Ok(Outcome::Passed)
    }

    /// One of the programs.
    fn run_one(&self, which: usize, kind: Kind, ptx: &Path) -> Result<Outcome> {
        let log = ptx.with_extension(format!("{}.log", PROGRAMS[which]));
        let stdout =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = self
            .command(which, kind, ptx)
            .stdout(stdout)
            .spawn()
            .with_context(|| format!("cannot run {}", PROGRAMS[which]))?;
        let start = Instant::now();
        let mut first_failure = None;
        loop {
            let status = child.try_wait()?;
            let text = fs::read_to_string(&log)
                .with_context(|| format!("cannot read {}", log.display()))?;
            if let Some(status) = status {
                return Ok(Outcome::of(&text, status.success(), &status.to_string()));
            }
            let so_far = Outcome::of(&text, true, "");
            let enough = match &so_far {
                Outcome::Failed(failed) => {
                    let since = first_failure.get_or_insert_with(Instant::now).elapsed();
                    failed.len() >= ENOUGH || since > GRACE
                }
                _ => false,
            };
            if enough || start.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Ok(match so_far {
                    Outcome::Passed => Outcome::Broke("the suite does not end".to_owned()),
                    failed => failed,
                });
            }
            sleep(Duration::from_millis(200));
        }
    }

    fn command(&self, which: usize, kind: Kind, ptx: &Path) -> Command {
        let mut command = Command::new(&self.programs[which]);
        command
            .current_dir(&self.folder)
            // The fixtures are looked for there, and cargo has set it for this program.
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .env(PTX, ptx)
            .env("SOFTWARE_GPU_MODEL", kind.arch_and_model().1)
            // The same sample of the peers' shapes for every fault.
            .env("LAYERNORM_GRID", "0")
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Why a test that failed says nothing of the fault: it fails without one too, or the PTX was not even loaded.
    fn not_caught(
        &self,
        which: usize,
        test: &str,
        kind: Kind,
        ptx: &Path,
        control: &Control,
    ) -> Result<Option<String>> {
        let alone = |suite: &Suite, ptx: &Path| {
            let mut command = suite.command(which, kind, ptx);
            let output = command.args(["--exact", test]).output();
            output.with_context(|| format!("cannot run {}", PROGRAMS[which]))
        };
        let without = alone(&control.suite, control.ptx(kind))?;
        if !without.status.success() || !has_run(&without.stdout) {
            return Ok(Some(format!("{test} does not pass without the fault")));
        }
        let with = alone(self, ptx)?;
        fs::write(ptx.with_extension("first.log"), &with.stdout)
            .with_context(|| format!("cannot write beside {}", ptx.display()))?;
        let said = String::from_utf8_lossy(&with.stdout);
        let mut lines = said.lines();
        let not_loaded = lines.find(|line| NOT_LOADED.iter().any(|text| line.contains(text)));
        Ok(not_loaded.map(str::to_owned))
    }
}

/// Whether a run of one test by its name was one of one test.
fn has_run(stdout: &[u8]) -> bool {
    String::from_utf8_lossy(stdout).contains("1 passed")
}

impl Outcome {
    fn of(text: &str, success: bool, status: &str) -> Self {
        let failed = text.lines().filter_map(|line| {
            let line = line.strip_prefix("test ")?;
            let name = line.strip_suffix("FAILED")?.trim_end_matches([' ', '.']);
            Some(name.to_owned())
        });
        let failed: Vec<String> = failed.collect();
        match (failed.is_empty(), success) {
            (false, _) => Outcome::Failed(failed),
            (true, true) => Outcome::Passed,
            (true, false) => Outcome::Broke(status.to_owned()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Passed => f.write_str("NOT CAUGHT"),
            Outcome::Broke(how) => f.write_str(how),
            Outcome::Untried(why) => write!(f, "NOT TRIED: {why}"),
            Outcome::Failed(failed) => {
                let shown = &failed[..failed.len().min(ENOUGH)];
                f.write_str(&shown.join(", "))?;
                f.write_str(if failed.len() < ENOUGH { "" } else { ", ..." })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_off_the_output() {
        let text = "running 3 tests\ntest a::b ... ok\ntest a::c ... FAILED\ntest d   ... FAILED\n\nfailures:\n";
        let failed = Outcome::Failed(vec!["a::c".to_owned(), "d".to_owned()]);
        assert_eq!(Outcome::of(text, false, "exit status: 101"), failed);
        assert_eq!(Outcome::of("test a ... ok\n", true, ""), Outcome::Passed);
        let broke = Outcome::of("test a ... ok\n", false, "signal: 6");
        assert_eq!(broke, Outcome::Broke("signal: 6".to_owned()));
    }

    #[test]
    fn a_run_of_no_test_is_no_control() {
        assert!(has_run(
            b"test result: ok. 1 passed; 0 failed; 70 filtered out"
        ));
        assert!(!has_run(
            b"test result: ok. 0 passed; 0 failed; 71 filtered out"
        ));
    }
}
