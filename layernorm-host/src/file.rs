//! Files: safetensors and NumPy's arrays, read to a device and written, and output that is written whole or not
//! at all.
//!
//! ```
//! use layernorm_host::file::{SafetensorsFile, SafetensorsWriter};
//! use layernorm_host::{Device, Tensor};
//!
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("x.safetensors");
//! let device = Device::auto()?;
//! let mut writer = SafetensorsWriter::create(&path)?;
//! writer.add("x", &Tensor::from_slice(&[1.0f32, 2.0], &[2], &device)?)?;
//! writer.finish()?;
//!
//! let file = SafetensorsFile::read(&path)?;
//! assert_eq!(file.tensor("x", &device)?.to_vec::<f32>()?, [1.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod npy;
mod whole;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, TensorView};

pub use self::whole::WholeFile;
use crate::{DType, Device, Error, Result, Tensor};

/// A file that was read and whose header holds together.
pub struct SafetensorsFile {
    path: PathBuf,
    bytes: Vec<u8>,
    header: Metadata,
    /// Where the tensors' bytes start.
    start: usize,
}

impl SafetensorsFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Error::File`] where it cannot be read, [`Error::NotSafetensors`].
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::File {
            path: path.to_owned(),
            doing: "read",
            source,
        })?;
        Self::from_bytes(bytes, path)
    }

    /// Takes a file's bytes. `path` is what errors call it.
    ///
    /// # Errors
    ///
    /// [`Error::NotSafetensors`].
    pub fn from_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self> {
        let (length, header) =
            SafeTensors::read_metadata(&bytes).map_err(|error| Error::NotSafetensors {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        Ok(SafetensorsFile {
            path: path.to_owned(),
            // The header's length itself takes 8 bytes.
            start: size_of::<u64>() + length,
            bytes,
            header,
        })
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.header.offset_keys();
        names.sort();
        names
    }

    /// A value of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let metadata = self.header.metadata().as_ref()?;
        metadata.get(key).map(String::as_str)
    }

    /// The number that the metadata has under `eps`.
    ///
    /// # Errors
    ///
    /// [`Error::Metadata`] where it is no number.
    pub fn eps(&self) -> Result<Option<f32>> {
        let Some(text) = self.metadata("eps") else {
            return Ok(None);
        };
        let eps = text.trim().parse().map_err(|_| Error::Metadata {
            path: self.path.clone(),
            key: "eps",
            got: text.to_owned(),
            allowed: "a number",
        })?;
        Ok(Some(eps))
    }

    /// Copies a tensor to a device.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`]; [`Error::UnsupportedDType`] for another dtype than f32, f16,
    /// bf16 and f64;
    /// and as [`Tensor::from_bytes`].
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let tensor = self.optional(name, device)?;
        tensor.ok_or_else(|| self.missing(name))
    }

    /// Copies a tensor to a device, if the file has it.
    ///
    /// # Errors
    ///
    /// As [`tensor`](Self::tensor), but for [`Error::MissingTensor`].
    pub fn optional(&self, name: &str, device: &Device) -> Result<Option<Tensor>> {
        let Some(info) = self.header.info(name) else {
            return Ok(None);
        };
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F64 => DType::F64,
            other => {
                return Err(Error::UnsupportedDType {
                    name: name.to_owned(),
                    got: format!("{other:?}"),
                });
            }
        };
        Tensor::from_bytes(self.bytes_of(name), dtype, &info.shape, device).map(Some)
    }

    /// The values of a float64 tensor, if the file has one of that name.
    pub fn float64(&self, name: &str) -> Option<Vec<f64>> {
        if self.header.info(name)?.dtype != Dtype::F64 {
            return None;
        }
        let (values, _) = self.bytes_of(name).as_chunks();
        let values = values.iter().map(|bytes| f64::from_le_bytes(*bytes));
        Some(values.collect())
    }

    /// The error that says which tensors there are instead of `name`.
    pub fn missing(&self, name: &str) -> Error {
        let names = self.names();
        let more = names.len().saturating_sub(8);
        let mut held = names[..names.len() - more].join(", ");
        if names.is_empty() {
            held.push_str("no tensors");
        } else if more > 0 {
            held.push_str(&format!(" and {more} more"));
        }
        Error::MissingTensor {
            path: self.path.clone(),
            name: name.to_owned(),
            held,
        }
    }

    fn bytes_of(&self, name: &str) -> &[u8] {
        let Some(info) = self.header.info(name) else {
            return &[];
        };
        let (from, to) = info.data_offsets;
        self.bytes
            .get(self.start + from..self.start + to)
            .unwrap_or_default()
    }
}

/// The path and the tensors' names.
impl fmt::Debug for SafetensorsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SafetensorsFile({:?}, {:?})", self.path, self.names())
    }
}

/// Tensors and metadata that are to become a safetensors file.
///
/// ```
/// use layernorm_host::file::{Safetensors, SafetensorsFile};
/// use layernorm_host::{DType, Device, Tensor};
///
/// let mut file = Safetensors::new();
/// file.add("x", &Tensor::ones(DType::F16, &[2, 3], &Device::cpu())?)?;
/// file.metadata("eps", "1e-12");
/// let bytes = file.into_bytes("stdout".as_ref())?;
/// let read = SafetensorsFile::from_bytes(bytes, "stdin".as_ref())?;
/// assert_eq!((read.names(), read.eps()?), (vec!["x".to_owned()], Some(1e-12)));
/// # Ok::<(), layernorm_host::Error>(())
/// ```
#[derive(Default)]
pub struct Safetensors {
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    metadata: HashMap<String, String>,
}

impl Safetensors {
    /// Without tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies a tensor, to be written under `name`.
    ///
    /// # Errors
    ///
    /// As [`Tensor::to_bytes`].
    pub fn add(&mut self, name: impl Into<String>, tensor: &Tensor) -> Result<()> {
        let dtype = match tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::F64 => Dtype::F64,
        };
        let held = (dtype, tensor.shape().to_vec(), tensor.to_bytes()?);
        self.tensors.insert(name.into(), held);
        Ok(())
    }

    /// Sets a value of the file's metadata.
    pub fn metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.metadata.insert(key.into(), value.into());
    }

    /// The file's bytes. `path` is what errors call it.
    ///
    /// # Errors
    ///
    /// [`Error::File`] where the tensors do not make a file.
    pub fn into_bytes(self, path: &Path) -> Result<Vec<u8>> {
        let failed = |error| Error::File {
            path: path.to_owned(),
            doing: "write",
            source: std::io::Error::other(error),
        };
        let views: Vec<(&String, TensorView<'_>)> = self
            .tensors
            .iter()
            .map(|(name, (dtype, shape, bytes))| {
                TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name, view))
            })
            .collect::<std::result::Result<_, _>>()
            .map_err(failed)?;
        let metadata = (!self.metadata.is_empty()).then_some(self.metadata);
        safetensors::serialize(views, metadata).map_err(failed)
    }
}

/// The tensors' names, and the metadata.
impl fmt::Debug for Safetensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.tensors.keys().collect();
        write!(f, "Safetensors({names:?}, {:?})", self.metadata)
    }
}

/// A safetensors file to be written, whole or not at all.
#[derive(Debug)]
pub struct SafetensorsWriter {
    file: WholeFile,
    content: Safetensors,
}

impl SafetensorsWriter {
    /// Makes sure that the file can be written. What stands under `path` stays until
    /// [`finish`](Self::finish) replaces it.
    ///
    /// # Errors
    ///
    /// As [`WholeFile::create`].
    pub fn create(path: &Path) -> Result<Self> {
        Ok(SafetensorsWriter {
            file: WholeFile::create(path)?,
            content: Safetensors::new(),
        })
    }

    /// Copies a tensor, to be written under `name`.
    ///
    /// # Errors
    ///
    /// As [`Tensor::to_bytes`].
    pub fn add(&mut self, name: impl Into<String>, tensor: &Tensor) -> Result<()> {
        self.content.add(name, tensor)
    }

    /// Sets a value of the file's metadata.
    pub fn metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.content.metadata(key, value);
    }

    /// Writes the file and gives it its name. Without this call nothing is left of it.
    ///
    /// # Errors
    ///
    /// [`Error::File`]; the file is as it was before then.
    pub fn finish(self) -> Result<()> {
        let bytes = self.content.into_bytes(&self.file.path)?;
        self.file.finish(&bytes)
    }
}
