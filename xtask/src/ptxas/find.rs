//! Where ptxas and nvdisasm are: they come with CUDA, or alone from PyPI, which puts them where no `PATH` leads.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// The command that mends its absence.
const INSTALL: &str = "python3 -m venv .venv && .venv/bin/pip install nvidia-cuda-nvcc nvidia-cuda-nvdisasm, \
                           then PTXAS=$(find .venv -name ptxas)";

/// For ptxas `$PTXAS`, for another tool what lies beside that; else what is in `PATH`, in a CUDA installation, or
/// among Python's packages.
pub fn find(tool: &str) -> Result<PathBuf> {
    if let Some(named) = env::var_os("PTXAS").filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        if !named.is_file() {
            bail!("PTXAS is {}, and there is no such file", named.display());
        }
        if tool == "ptxas" {
            return Ok(named);
        }
        let beside = named.with_file_name(tool);
        if beside.is_file() {
            return Ok(beside);
        }
    }
    let in_path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&in_path).map(|folder| folder.join(tool));
    let cuda = ["CUDA_PATH", "CUDA_HOME"]
        .into_iter()
        .filter_map(env::var_os);
    let cuda = cuda.map(PathBuf::from).chain(["/usr/local/cuda".into()]);
    let in_cuda = cuda.map(|folder| folder.join("bin").join(tool));
    in_path
        .chain(in_cuda)
        .find(|path| path.is_file())
        .or_else(|| site_packages().iter().find_map(|folder| in_packages(folder, tool)))
        .ok_or_else(|| anyhow::anyhow!(
            "no {tool}: not beside PTXAS, in PATH, CUDA_PATH, /usr/local/cuda or Python's packages\nto mend it: {INSTALL}"
        ))
}

/// The folders where Python keeps packages, by its own word.
fn site_packages() -> Vec<PathBuf> {
    const ASK: &str = "import site, sysconfig\n\
                       print(sysconfig.get_path('purelib'), *site.getsitepackages(), site.getusersitepackages(), sep='\\n')";
    let Ok(output) = Command::new("python3").args(["-c", ASK]).output() else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(PathBuf::from)
        .collect()
}

/// A tool in NVIDIA's packages: `nvidia/cu13/bin`, and `nvidia/cuda_nvcc/bin` in older ones.
fn in_packages(folder: &Path, tool: &str) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = folder
        .join("nvidia")
        .read_dir()
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path().join("bin").join(tool);
            path.is_file().then_some(path)
        })
        .collect();
    found.sort();
    found.pop()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_newest_of_nvidias_packages_is_taken() {
        let folder = env::temp_dir().join(format!("xtask-ptxas-{}", std::process::id()));
        assert_eq!(in_packages(&folder, "ptxas"), None);
        for package in ["cu12", "cu13", "cublas"] {
            fs::create_dir_all(folder.join("nvidia").join(package).join("bin")).unwrap();
        }
        assert_eq!(in_packages(&folder, "ptxas"), None);
        for package in ["cu12", "cu13"] {
            let path = folder.join("nvidia").join(package).join("bin/ptxas");
            fs::write(path, "").unwrap();
        }
        assert_eq!(
            in_packages(&folder, "ptxas"),
            Some(folder.join("nvidia/cu13/bin/ptxas"))
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
