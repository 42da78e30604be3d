//! `manifest.json`, beside the images: which compiler built them, and from what. By it, stale or
//! damaged PTX is found without a compiler.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cuda_builder::ptx::entry_names;
use serde::{Deserialize, Serialize};

use crate::images::{self, Image};
use crate::sources;

pub const FILE_NAME: &str = "manifest.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `rustc -vV`'s first line. Another compiler's PTX may differ.
    pub compiler: String,
    /// [`sources::hash`] of what the images were built from.
    pub sources: String,
    pub images: Vec<ImageEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEntry {
    pub file: String,
    pub arch: String,
    pub ptx_version: String,
    pub sha256: String,
    /// Names of the kernels, in the file's order.
    pub entries: Vec<String>,
}

impl Manifest {
    /// Of images that were just built, with their text.
    pub fn new(compiler: &str, sources: String, built: &[(Image, String)]) -> Self {
        Self {
            compiler: compiler.to_owned(),
            sources,
            images: built
                .iter()
                .map(|(image, ptx)| ImageEntry {
                    file: image.file_name(),
                    arch: image.arch.to_string(),
                    ptx_version: image.ptx_version.to_string(),
                    sha256: sources::hash_bytes(ptx.as_bytes()),
                    entries: entry_names(ptx).into_iter().map(str::to_owned).collect(),
                })
                .collect(),
        }
    }

    pub fn read(root: &Path) -> Result<Self> {
        let path = images::folder(root).join(FILE_NAME);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// As it is committed.
    pub fn to_text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// What does not agree with the sources, the list of images, or the files: nothing, if the PTX is
    /// up to date as far as can be told without a compiler.
    pub fn disagreements(&self, root: &Path, images: &[Image]) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if self.sources != sources::hash(root, images)? {
            found.push("the device code or its flags changed, and the PTX did not".to_owned());
        }
        let listed: BTreeSet<_> = self
            .images
            .iter()
            .map(|entry| (&*entry.file, &*entry.arch, &*entry.ptx_version))
            .collect();
        for image in images {
            let (file, arch, version) = (
                image.file_name(),
                image.arch.to_string(),
                image.ptx_version.to_string(),
            );
            if !listed.contains(&(&*file, &*arch, &*version)) {
                found.push(format!(
                    "the manifest lacks {file}, {arch} with PTX {version}"
                ));
            }
        }
        for entry in &self.images {
            found.extend(entry.disagreement(root, images));
        }
        found.extend(self.strangers(root)?);
        Ok(found)
    }

    /// PTX files that the manifest does not name.
    fn strangers(&self, root: &Path) -> Result<Vec<String>> {
        let folder = images::folder(root);
        let mut strangers = Vec::new();
        for file in
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
        {
            let name = file?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".ptx") && self.images.iter().all(|entry| entry.file != name) {
                strangers.push(format!("{name} is not in the manifest"));
            }
        }
        strangers.sort();
        Ok(strangers)
    }
}

impl ImageEntry {
    fn disagreement(&self, root: &Path, images: &[Image]) -> Option<String> {
        let file = &self.file;
        if images.iter().all(|image| image.file_name() != *file) {
            return Some(format!("{file} is no longer one of the images"));
        }
        let ptx = match fs::read_to_string(images::folder(root).join(file)) {
            Ok(ptx) => ptx,
            Err(error) => return Some(format!("{file} cannot be read: {error}")),
        };
        if sources::hash_bytes(ptx.as_bytes()) != self.sha256 {
            return Some(format!("{file} is not the file that was built"));
        }
        if entry_names(&ptx) != self.entries {
            return Some(format!("{file} has other kernels than the manifest says"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::IMAGES;
    use crate::sources::tests::repository;
    use std::path::PathBuf;

    fn up_to_date(name: &str) -> (PathBuf, Manifest) {
        let root = repository(name);
        let folder = images::folder(&root);
        fs::create_dir_all(&folder).unwrap();
        let built: Vec<(Image, String)> = IMAGES
            .iter()
            .map(|image| {
                let ptx = format!(".visible .entry k_{}()\n{{\nret;\n}}\n", image.arch);
                fs::write(folder.join(image.file_name()), &ptx).unwrap();
                (*image, ptx)
            })
            .collect();
        let sources = sources::hash(&root, IMAGES).unwrap();
        let manifest = Manifest::new("rustc 1.96.0 (test)", sources, &built);
        fs::write(folder.join(FILE_NAME), manifest.to_text().unwrap()).unwrap();
        (root, manifest)
    }

    fn disagreements(root: &Path, manifest: &Manifest) -> Vec<String> {
        manifest.disagreements(root, IMAGES).unwrap()
    }

    #[test]
    fn what_was_just_built_is_up_to_date_and_survives_the_file() {
        let (root, manifest) = up_to_date("fresh");
        assert_eq!(disagreements(&root, &manifest), [""; 0]);
        assert_eq!(Manifest::read(&root).unwrap(), manifest);
        assert_eq!(manifest.images[0].entries, ["k_sm_75"]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn changed_device_code_is_seen() {
        let (root, manifest) = up_to_date("changed");
        fs::write(root.join("kernels-gpu/src/new.rs"), "").unwrap();
        assert_eq!(
            disagreements(&root, &manifest),
            ["the device code or its flags changed, and the PTX did not"]
        );
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn changed_missing_and_strange_images_are_seen() {
        let (root, manifest) = up_to_date("images");
        let folder = images::folder(&root);
        fs::write(folder.join("layernorm_sm_75.ptx"), "ret;").unwrap();
        fs::rename(
            folder.join("layernorm_sm_80.ptx"),
            folder.join("layernorm_sm_81.ptx"),
        )
        .unwrap();
        let found = disagreements(&root, &manifest);
        assert_eq!(
            found[0],
            "layernorm_sm_75.ptx is not the file that was built"
        );
        assert!(
            found[1].starts_with("layernorm_sm_80.ptx cannot be read"),
            "{found:?}"
        );
        assert_eq!(found[2], "layernorm_sm_81.ptx is not in the manifest");
        assert_eq!(found.len(), 3);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_list_of_images_that_changed_is_seen() {
        let (root, manifest) = up_to_date("list");
        let found = manifest.disagreements(&root, &IMAGES[..1]).unwrap();
        assert!(
            found.contains(&"layernorm_sm_80.ptx is no longer one of the images".to_owned()),
            "{found:?}"
        );
        let mut fewer = manifest.clone();
        fewer
            .images
            .retain(|image| image.file != "layernorm_sm_80.ptx");
        let found = disagreements(&root, &fewer);
        assert!(
            found
                .contains(&"the manifest lacks layernorm_sm_80.ptx, sm_80 with PTX 7.4".to_owned()),
            "{found:?}"
        );
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn kernels_that_the_manifest_does_not_name_are_seen() {
        let (root, mut manifest) = up_to_date("entries");
        manifest.images[1].entries.push("one_more".into());
        assert_eq!(
            disagreements(&root, &manifest),
            ["layernorm_sm_80.ptx has other kernels than the manifest says"]
        );
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_damaged_or_missing_manifest_is_named() {
        let (root, _) = up_to_date("damaged");
        let path = images::folder(&root).join(FILE_NAME);
        fs::write(&path, "{").unwrap();
        let error = format!("{:#}", Manifest::read(&root).unwrap_err());
        assert!(error.contains("manifest.json is damaged"), "{error}");
        fs::remove_file(&path).unwrap();
        let error = format!("{:#}", Manifest::read(&root).unwrap_err());
        assert!(error.contains("cannot read"), "{error}");
        fs::remove_dir_all(root).unwrap();
    }
}
