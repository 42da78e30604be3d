//! A copy of the repository's files, to plant faults in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::fault::{Fault, replaced};

/// A copy.
pub struct Tree {
    root: PathBuf,
}

/// A copy with a fault in it, which is taken out again at the end.
pub struct Planted<'a> {
    tree: &'a Tree,
    path: PathBuf,
    before: String,
}

impl Tree {
    /// Copies the files that git knows or would add. Those that are the same already keep their time, so that
    /// cargo does not build them again.
    pub fn copy(from: &Path, to: &Path) -> Result<Self> {
        let listed = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(from)
            .output()
            .context("cannot run git")?;
        if !listed.status.success() {
            bail!(
                "git ls-files: {}",
                String::from_utf8_lossy(&listed.stderr).trim()
            );
        }
        let names = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
        for name in names.split_terminator('\0') {
            let (from, to) = (from.join(name), to.join(name));
            // A file that was deleted and is still in git's index.
            let Ok(content) = fs::read(&from) else {
                continue;
            };
            if fs::read(&to).is_ok_and(|there| there == content) {
                continue;
            }
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)
                    .with_context(|| format!("cannot create {}", folder.display()))?;
            }
            fs::write(&to, content).with_context(|| format!("cannot write {}", to.display()))?;
        }
        Ok(Tree {
            root: to.to_owned(),
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes this copy's library take kernels from the file that [`super::suite::PTX`] names before its own images,
    /// so that the suite need not be built again for other PTX. The library itself has no such way in.
    pub fn take_ptx_from_outside(&self) -> Result<()> {
        let own = "let mut images = IMAGES.iter().rev();";
        let outside = format!(
            "static FROM_OUTSIDE: std::sync::OnceLock<Image> = std::sync::OnceLock::new();
        let outside = FROM_OUTSIDE.get_or_init(|| {{
            let path = std::env::var(\"{}\").unwrap();
            let ptx: &str = std::fs::read_to_string(path).unwrap().leak();
            let (_, target) = ptx.split_once(\".target sm_\").unwrap();
            Image {{ target: target[..2].parse().unwrap(), ptx }}
        }});
        let mut images = std::iter::once(outside).chain(IMAGES.iter().rev());",
            super::suite::PTX
        );
        self.edit("layernorm-host/src/images.rs", |text| {
            replaced(text, own, &outside)
        })
        .map(|_| ())
    }

    /// Plants a fault, until the value that is returned is dropped.
    pub fn plant(&self, fault: &Fault) -> Result<Planted<'_>> {
        let before = self.edit(fault.file, |text| fault.planted(text))?;
        Ok(Planted {
            tree: self,
            path: self.root.join(fault.file),
            before,
        })
    }

    /// Gives what was there before.
    fn edit(&self, file: &str, edit: impl Fn(&str) -> Result<String>) -> Result<String> {
        let path = self.root.join(file);
        let before =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let after = edit(&before).with_context(|| file.to_owned())?;
        fs::write(&path, after).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(before)
    }
}

impl Planted<'_> {
    pub fn tree(&self) -> &Tree {
        self.tree
    }
}

impl Drop for Planted<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.before) {
            eprintln!(
                "cannot take the fault out of {}: {error}",
                self.path.display()
            );
        }
    }
}
