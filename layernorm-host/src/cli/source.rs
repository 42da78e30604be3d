//! What `layernorm run` is given: groups of a safetensors file, or one array a file, or either from stdin.

use std::io::Read;
use std::path::{Path, PathBuf};

use layernorm_host::file::{SafetensorsFile, npy};
use layernorm_host::{Device, Error, Tensor};

use super::output::DASH;
use super::{Failure, Result};

/// Operands, read but on no device yet.
pub enum Source {
    Groups(SafetensorsFile),
    Arrays {
        x: File,
        weight: Option<File>,
        bias: Option<File>,
        dy: Option<File>,
    },
}

/// A file's bytes, and what errors call it.
pub struct File {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// What a pass takes.
pub struct Operands {
    pub x: Tensor,
    pub weight: Option<Tensor>,
    pub bias: Option<Tensor>,
    pub dy: Option<Tensor>,
}

impl Source {
    /// Reads the files: `others` are weight, bias and dy, which only a `.npy` x takes from files of their own.
    pub fn read(input: &Path, others: [Option<&Path>; 3]) -> Result<Self, Failure> {
        let x = File::read(input)?;
        if !x.bytes.starts_with(npy::MAGIC) {
            if others.iter().any(Option::is_some) {
                return Err(Failure::usage(
                    "--weight, --bias and --dy go with a .npy file; safetensors has them in its groups",
                ));
            }
            let contents = SafetensorsFile::from_bytes(x.bytes, &x.path)?;
            return Ok(Source::Groups(contents));
        }
        if others.iter().flatten().any(|path| path.as_os_str() == DASH) {
            return Err(Failure::usage("only x can come from stdin"));
        }
        let [weight, bias, dy] = others.map(|path| path.map(File::read).transpose());
        Ok(Source::Arrays {
            x,
            weight: weight?,
            bias: bias?,
            dy: dy?,
        })
    }

    /// Every `G` for which the file has `G/x`, in order; of arrays the one group without a name.
    pub fn groups(&self) -> Result<Vec<String>> {
        let Source::Groups(contents) = self else {
            return Ok(vec![String::new()]);
        };
        let names = contents.names();
        let groups = names.iter().filter_map(|name| name.strip_suffix("/x"));
        let groups: Vec<String> = groups.map(str::to_owned).collect();
        if groups.is_empty() {
            return Err(contents.missing("<group>/x"));
        }
        Ok(groups)
    }

    /// What people call the group.
    pub fn title(&self, group: &str) -> String {
        match self {
            Source::Groups(_) => group.to_owned(),
            Source::Arrays { x, .. } => x.path.display().to_string(),
        }
    }

    pub fn operands(&self, group: &str, device: &Device) -> Result<Operands> {
        match self {
            Source::Groups(contents) => {
                let name = |what: &str| format!("{group}/{what}");
                Ok(Operands {
                    x: contents.tensor(&name("x"), device)?,
                    weight: Some(contents.tensor(&name("weight"), device)?),
                    bias: Some(contents.tensor(&name("bias"), device)?),
                    dy: contents.optional(&name("dy"), device)?,
                })
            }
            Source::Arrays {
                x,
                weight,
                bias,
                dy,
            } => {
                let tensor =
                    |file: &Option<File>| file.as_ref().map(|file| file.tensor(device)).transpose();
                Ok(Operands {
                    x: x.tensor(device)?,
                    weight: tensor(weight)?,
                    bias: tensor(bias)?,
                    dy: tensor(dy)?,
                })
            }
        }
    }

    /// Whether all that a run gives is y and its statistics.
    pub fn is_forward_alone(&self) -> bool {
        matches!(self, Source::Arrays { dy: None, .. })
    }

    /// The file's own eps.
    pub fn eps(&self) -> Result<Option<f32>> {
        match self {
            Source::Groups(contents) => contents.eps(),
            Source::Arrays { .. } => Ok(None),
        }
    }

    /// A result's float64 reference, if the file has one.
    pub fn reference(&self, group: &str, name: &str) -> Option<Vec<f64>> {
        match self {
            Source::Groups(contents) => contents.float64(&format!("{group}/{name}_f64")),
            Source::Arrays { .. } => None,
        }
    }
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let stdin = path.as_os_str() == DASH;
        let bytes = if stdin {
            let mut bytes = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .map(|_| bytes)
        } else {
            std::fs::read(path)
        };
        let path = if stdin { Path::new("stdin") } else { path };
        match bytes {
            Ok(bytes) => Ok(File {
                path: path.to_owned(),
                bytes,
            }),
            Err(source) => Err(Error::File {
                path: path.to_owned(),
                doing: "read",
                source,
            }),
        }
    }

    fn tensor(&self, device: &Device) -> Result<Tensor> {
        npy::from_bytes(&self.bytes, &self.path, device)
    }
}
