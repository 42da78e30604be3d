//! The suite as programs: built in a copy of the repository, and run against some PTX.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::faults::Kind;
use super::scratch::Tree;

/// The variable that names the file to take PTX from.
pub const PTX: &str = "MUTATED_PTX";

/// The suite takes a minute; what takes this long does not end.
const PATIENCE: Duration = Duration::from_secs(900);

/// Tests that have failed when there is no need to wait for the others.
const ENOUGH: usize = 3;

/// What is said of PTX that a device does not take: by the library, and by `direct` of the tests.
const NOT_LOADED: [&str; 3] = [
    "could not load the image",
    "has no kernel",
    "the image loads",
];

/// The suite's programs.
pub struct Suite {
    cpu: PathBuf,
    software: PathBuf,
    /// Rows that are more than 2^32 elements apart, which the suite has none of.
    far_rows: PathBuf,
    /// A device of two multiprocessors, whose clusters come to every slot of their exchanges again.
    bytes: PathBuf,
    /// Where they run: the fixtures are found from there.
    folder: PathBuf,
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
        let arguments = "test --quiet --no-run --locked --package layernorm-tests \
                         --test cpu --test software --test far_rows --test bytes";
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(arguments.split(' '))
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
        Ok(Suite {
            cpu: find("cpu")?,
            software: find("software")?,
            far_rows: find("far_rows")?,
            bytes: find("bytes")?,
            folder: tree.root().join("tests"),
        })
    }

    /// Copies of the programs, which a later build leaves alone.
    pub fn kept(self, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let keep = |program: &Path, name: &str| {
            let to = folder.join(name);
            fs::copy(program, &to).with_context(|| format!("cannot write {}", to.display()))?;
            anyhow::Ok(to)
        };
        Ok(Suite {
            cpu: keep(&self.cpu, "cpu")?,
            software: keep(&self.software, "software")?,
            far_rows: keep(&self.far_rows, "far_rows")?,
            bytes: keep(&self.bytes, "bytes")?,
            folder: self.folder,
        })
    }

    /// Runs it on the software GPU, and for a host fault on the CPU first.
    pub fn run(&self, kind: Kind, ptx: &Path) -> Result<Outcome> {
        let mut outcome = Outcome::Passed;
        if kind == Kind::Host {
            outcome = self.run_one(&self.cpu, "cpu", kind, ptx)?;
        }
        for (program, on) in [
            (&self.software, ""),
            (&self.far_rows, "far_rows"),
            (&self.bytes, "bytes"),
        ] {
            if outcome == Outcome::Passed {
                outcome = self.run_one(program, on, kind, ptx)?;
            }
        }
        Ok(outcome)
    }

    /// `on` goes before the names of tests where they are not the suite's on the software GPU.
    fn run_one(&self, program: &Path, on: &str, kind: Kind, ptx: &Path) -> Result<Outcome> {
        let log = ptx.with_extension(format!("{on}log"));
        let stdout =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = self
            .command(program, kind, ptx)
            .stdout(stdout)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let start = Instant::now();
        loop {
            let status = child.try_wait()?;
            let text = fs::read_to_string(&log)
                .with_context(|| format!("cannot read {}", log.display()))?;
            if let Some(status) = status {
                let outcome = Outcome::of(&text, on, status.success(), &status.to_string());
                return self.tried(outcome, program, kind, ptx);
            }
            let so_far = Outcome::of(&text, on, true, "");
            let enough = matches!(&so_far, Outcome::Failed(failed) if failed.len() >= ENOUGH);
            if enough || start.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return match so_far {
                    Outcome::Passed => Ok(Outcome::Broke("the suite does not end".to_owned())),
                    failed => self.tried(failed, program, kind, ptx),
                };
            }
            sleep(Duration::from_millis(200));
        }
    }

    fn command(&self, program: &Path, kind: Kind, ptx: &Path) -> Command {
        let mut command = Command::new(program);
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

    /// Tests also fail if PTX cannot be loaded, whatever they test: what the first of them says tells the two apart.
    fn tried(&self, outcome: Outcome, program: &Path, kind: Kind, ptx: &Path) -> Result<Outcome> {
        let Outcome::Failed(failed) = &outcome else {
            return Ok(outcome);
        };
        let Some(name) = failed.first().and_then(|name| name.split(' ').next_back()) else {
            return Ok(outcome);
        };
        let output = self
            .command(program, kind, ptx)
            .args(["--exact", name])
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        fs::write(ptx.with_extension("first.log"), said.as_bytes())
            .with_context(|| format!("cannot write beside {}", ptx.display()))?;
        let not_loaded = said
            .lines()
            .find(|line| NOT_LOADED.iter().any(|text| line.contains(text)));
        Ok(match not_loaded {
            Some(line) => Outcome::Untried(line.to_owned()),
            None => outcome,
        })
    }
}

impl Outcome {
    fn of(text: &str, on: &str, success: bool, status: &str) -> Self {
        let failed = text.lines().filter_map(|line| {
            let line = line.strip_prefix("test ")?;
            let name = line.strip_suffix("FAILED")?.trim_end_matches([' ', '.']);
            Some(if on.is_empty() {
                name.to_owned()
            } else {
                format!("{on} {name}")
            })
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
        let failed = Outcome::Failed(vec!["cpu a::c".to_owned(), "cpu d".to_owned()]);
        assert_eq!(Outcome::of(text, "cpu", false, "exit status: 101"), failed);
        assert_eq!(
            Outcome::of("test a ... ok\n", "", true, ""),
            Outcome::Passed
        );
        let broke = Outcome::of("test a ... ok\n", "", false, "signal: 6");
        assert_eq!(broke, Outcome::Broke("signal: 6".to_owned()));
    }
}
