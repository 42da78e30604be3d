//! A hash over everything in the repository that decides what the PTX is. It is the same on every
//! machine, with or without a compiler, so that stale PTX is found everywhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cuda_builder::flags;
use sha2::{Digest, Sha256};

use crate::images::Image;

/// Folders, and files, that go into the hash: the device code, and what is done to its assembly.
const SOURCES: &[&str] = &[
    "kernels-gpu/Cargo.toml",
    "kernels-gpu/src",
    "rust-cuda/cuda_std/Cargo.toml",
    "rust-cuda/cuda_std/src",
    "rust-cuda/cuda_std_macros/Cargo.toml",
    "rust-cuda/cuda_std_macros/src",
    "rust-cuda/cuda_builder/src/ptx/finish.rs",
];

/// The hash of the sources and of the flags for all images.
pub fn hash(root: &Path, images: &[Image]) -> Result<String> {
    let mut hash = Sha256::new();
    for (name, content) in read(root)? {
        add(&mut hash, name.as_bytes());
        add(&mut hash, &content);
    }
    for package in locked(root)? {
        add(&mut hash, package.as_bytes());
    }
    for image in images {
        let flags = flags::fingerprint(image.arch, Some(image.ptx_version));
        add(&mut hash, flags.as_bytes());
    }
    Ok(hex(hash))
}

/// Packages of a registry that device code is built from, as `Cargo.lock` has them: name, version, checksum.
const PACKAGES: &[&str] = &["half"];

/// The entries of [`PACKAGES`] in `Cargo.lock`.
fn locked(root: &Path) -> Result<Vec<String>> {
    let path = root.join("Cargo.lock");
    let lock = fs::read_to_string(&path);
    let lock = lock.with_context(|| format!("cannot read {}", path.display()))?;
    let lock = lock.replace('\r', "");
    PACKAGES
        .iter()
        .map(|package| {
            let name = format!("name = \"{package}\"\n");
            let entry = lock
                .split("[[package]]\n")
                .find(|entry| entry.starts_with(&name));
            let entry = entry.with_context(|| format!("{}: no {package}", path.display()))?;
            let wanted = ["name = ", "version = ", "checksum = "];
            let lines = entry.lines();
            let lines = lines.filter(|line| wanted.iter().any(|wanted| line.starts_with(wanted)));
            Ok(lines.collect::<Vec<_>>().join("\n"))
        })
        .collect()
}

/// The hash of one file's content.
pub fn hash_bytes(content: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(content);
    hex(hash)
}

/// With the length first, so that no two lists of parts hash alike.
fn add(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}

fn hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Every source file by its path from the root, in order. Line ends are those of the repository,
/// whatever git made of them here.
fn read(root: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    let mut read = files
        .into_iter()
        .map(|path| {
            let content =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.strip_prefix(root).unwrap_or(&path);
            let name: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
            let unix: Vec<u8> = content.into_iter().filter(|byte| *byte != b'\r').collect();
            Ok((name.join("/"), unix))
        })
        .collect::<Result<Vec<_>>>()?;
    read.sort();
    Ok(read)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    for entry in entries {
        let path = entry?.path();
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        if path.is_dir() || is_source {
            collect(&path, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::images::{IMAGES, root};

    const LOCK: &str = "[[package]]\nname = \"half\"\nversion = \"2.0.0\"\nchecksum = \"ab\"\n\n\
                        [[package]]\nname = \"other\"\nversion = \"1.0.0\"\n";

    /// A repository of the folders that are hashed, under a name of the test's own.
    pub fn repository(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::remove_dir_all(&root).ok();
        for source in SOURCES {
            let path = root.join(source);
            let is_file = path.extension().is_some();
            let (folder, file) = match is_file {
                true => (path.parent().unwrap().to_owned(), path),
                false => (path.clone(), path.join("lib.rs")),
            };
            fs::create_dir_all(folder).unwrap();
            fs::write(file, format!("// {source}\n")).unwrap();
        }
        fs::write(root.join("Cargo.lock"), LOCK).unwrap();
        root
    }

    #[test]
    fn every_source_is_there() {
        for source in SOURCES {
            assert!(root().join(source).exists(), "{source}");
        }
    }

    #[test]
    fn the_hash_is_of_names_contents_and_flags() {
        let root = repository("hash");
        let before = hash(&root, IMAGES).unwrap();
        assert_eq!(before.len(), 64);
        assert_eq!(hash(&root, IMAGES).unwrap(), before);
        assert_ne!(hash(&root, &IMAGES[..1]).unwrap(), before);

        let file = root.join("kernels-gpu/src/lib.rs");
        let content = fs::read_to_string(&file).unwrap();
        fs::write(&file, content.replace('\n', "\r\n")).unwrap();
        assert_eq!(
            hash(&root, IMAGES).unwrap(),
            before,
            "line ends are git's business"
        );

        fs::write(&file, content.clone() + " ").unwrap();
        assert_ne!(hash(&root, IMAGES).unwrap(), before);

        fs::rename(&file, root.join("kernels-gpu/src/other.rs")).unwrap();
        fs::write(root.join("kernels-gpu/src/other.rs"), content).unwrap();
        assert_ne!(hash(&root, IMAGES).unwrap(), before);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_hash_is_of_the_locked_half_too() {
        let root = repository("lock");
        let before = hash(&root, IMAGES).unwrap();
        let lock = root.join("Cargo.lock");
        fs::write(&lock, LOCK.replace("1.0.0", "1.0.1")).unwrap();
        assert_eq!(hash(&root, IMAGES).unwrap(), before, "another package");
        fs::write(&lock, LOCK.replace("2.0.0", "2.0.1")).unwrap();
        assert_ne!(hash(&root, IMAGES).unwrap(), before);
        fs::write(&lock, "").unwrap();
        let error = format!("{:#}", hash(&root, IMAGES).unwrap_err());
        assert!(error.contains("no half"), "{error}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_an_editor_leaves_is_no_source() {
        let root = repository("editor");
        let before = hash(&root, IMAGES).unwrap();
        fs::write(root.join("kernels-gpu/src/lib.rs.orig"), "old").unwrap();
        assert_eq!(hash(&root, IMAGES).unwrap(), before);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_missing_folder_is_an_error_with_its_name() {
        let root = repository("missing");
        fs::remove_dir_all(root.join("kernels-gpu/src")).unwrap();
        let error = format!("{:#}", hash(&root, IMAGES).unwrap_err());
        assert!(error.contains("kernels-gpu"), "{error}");
        fs::remove_dir_all(root).unwrap();
    }
}
