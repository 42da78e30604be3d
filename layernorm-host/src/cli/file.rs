//! Safetensors files as the tool reads and writes them: groups of tensors in, a whole file or none out.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use layernorm_host::{DType, Device, Error, Result, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::NamedTempFile;

/// A file that was read.
pub struct Input {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Input {
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::File {
            path: path.to_owned(),
            doing: "read",
            source,
        })?;
        Ok(Input {
            path: path.to_owned(),
            bytes,
        })
    }

    /// The file's tensors and metadata.
    pub fn parse(&self) -> Result<Contents<'_>> {
        let invalid = |error: safetensors::SafeTensorError| Error::NotSafetensors {
            path: self.path.clone(),
            reason: error.to_string(),
        };
        let (_, header) = SafeTensors::read_metadata(&self.bytes).map_err(invalid)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Contents {
            path: &self.path,
            tensors: SafeTensors::deserialize(&self.bytes).map_err(invalid)?,
            eps: metadata.get("eps").cloned(),
        })
    }
}

/// The parsed file.
pub struct Contents<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
    eps: Option<String>,
}

impl Contents<'_> {
    /// Every `G` for which the file has `G/x`, in order.
    pub fn groups(&self) -> Result<Vec<String>> {
        let names = self.tensors.names();
        let mut groups: Vec<String> = names
            .into_iter()
            .filter_map(|name| name.strip_suffix("/x"))
            .map(str::to_owned)
            .collect();
        groups.sort();
        if groups.is_empty() {
            return Err(self.missing("<group>/x"));
        }
        Ok(groups)
    }

    /// The eps that the metadata names.
    pub fn eps(&self) -> Result<Option<f32>> {
        let Some(text) = &self.eps else {
            return Ok(None);
        };
        let eps = text.trim().parse().map_err(|_| Error::Metadata {
            path: self.path.to_owned(),
            key: "eps",
            got: text.clone(),
            allowed: "a number",
        })?;
        Ok(Some(eps))
    }

    /// A tensor that must be there.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let tensor = self.optional(name, device)?;
        tensor.ok_or_else(|| self.missing(name))
    }

    /// A tensor, if it is there.
    pub fn optional(&self, name: &str, device: &Device) -> Result<Option<Tensor>> {
        let Ok(view) = self.tensors.tensor(name) else {
            return Ok(None);
        };
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => {
                return Err(Error::UnsupportedDType {
                    name: name.to_owned(),
                    got: format!("{other:?}"),
                });
            }
        };
        Tensor::from_bytes(view.data(), dtype, view.shape(), device).map(Some)
    }

    /// A float64 reference, if it is there.
    pub fn reference(&self, name: &str) -> Option<Vec<f64>> {
        let view = self.tensors.tensor(name).ok()?;
        if view.dtype() != Dtype::F64 {
            return None;
        }
        let (values, _) = view.data().as_chunks();
        Some(
            values
                .iter()
                .map(|bytes| f64::from_le_bytes(*bytes))
                .collect(),
        )
    }

    fn missing(&self, name: &str) -> Error {
        let mut names = self.tensors.names();
        names.sort();
        let more = names.len().saturating_sub(8);
        let mut held = names[..names.len() - more].join(", ");
        if names.is_empty() {
            held.push_str("no tensors");
        } else if more > 0 {
            held.push_str(&format!(" and {more} more"));
        }
        Error::MissingTensor {
            path: self.path.to_owned(),
            name: name.to_owned(),
            held,
        }
    }
}

/// A file to be written: under a name of its own in the same folder, until it is whole.
pub struct Output {
    path: PathBuf,
    file: NamedTempFile,
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Output {
    /// Makes sure that the file can be written before anything is computed.
    pub fn create(path: &Path) -> Result<Self> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let failed = |source| Error::File {
            path: path.to_owned(),
            doing: "write",
            source,
        };
        if path.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".layernorm-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As any new file: what the user's mask leaves of it.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        Ok(Output {
            path: path.to_owned(),
            file: builder.tempfile_in(folder).map_err(failed)?,
            tensors: BTreeMap::new(),
        })
    }

    pub fn add(&mut self, name: String, tensor: &Tensor) -> Result<()> {
        let dtype = match tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
        };
        let held = (dtype, tensor.shape().to_vec(), tensor.to_bytes()?);
        self.tensors.insert(name, held);
        Ok(())
    }

    /// Writes the file and gives it its name.
    pub fn finish(mut self, eps: f32) -> Result<()> {
        let failed = |path: &Path, source| Error::File {
            path: path.to_owned(),
            doing: "write",
            source,
        };
        let views: Vec<(&String, TensorView<'_>)> = self
            .tensors
            .iter()
            .map(|(name, (dtype, shape, bytes))| {
                TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name, view))
            })
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| failed(&self.path, std::io::Error::other(error)))?;
        let metadata = [("eps".to_owned(), format!("{eps:e}"))].into();
        let bytes = safetensors::serialize(views, Some(metadata))
            .map_err(|error| failed(&self.path, std::io::Error::other(error)))?;
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.as_file().sync_all())
            .map_err(|source| failed(&self.path, source))?;
        self.file
            .persist(&self.path)
            .map_err(|error| failed(&self.path, error.error))?;
        Ok(())
    }
}
