//! NumPy's `.npy`: one array a file. f32, f16 and f64 in C order; NumPy has no dtype for bf16.
//!
//! ```
//! use layernorm_host::file::npy;
//! use layernorm_host::{Device, Tensor};
//!
//! let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0], &[1, 3], &Device::cpu())?;
//! let bytes = npy::to_bytes(&x)?;
//! let read = npy::from_bytes(&bytes, "x.npy".as_ref(), &Device::cpu())?;
//! assert_eq!((read.shape(), read.to_vec::<f32>()?), (&[1, 3][..], vec![1.0, 2.0, 3.0]));
//! # Ok::<(), layernorm_host::Error>(())
//! ```
//!
//! The format is `numpy.lib.format`'s, versions 1 to 3: a magic number, and a Python dictionary of three
//! entries.

use std::path::Path;

use crate::{DType, Device, Error, Result, Tensor};

/// What every file starts with.
pub const MAGIC: &[u8] = b"\x93NUMPY";

/// The header, its length and the magic number together are a multiple of this.
const ALIGNMENT: usize = 64;

/// Copies a file's array to a device. `name` is what errors call it.
///
/// # Errors
///
/// [`Error::NotNpy`]; [`Error::UnsupportedDType`] for another dtype than f32, f16 and f64, little-endian;
/// [`Error::Layout`] for Fortran order; and as [`Tensor::from_bytes`].
pub fn from_bytes(bytes: &[u8], name: &Path, device: &Device) -> Result<Tensor> {
    let broken = |reason: &str| Error::NotNpy {
        path: name.to_owned(),
        reason: reason.to_owned(),
    };
    let rest = bytes.strip_prefix(MAGIC);
    let rest = rest.ok_or_else(|| broken("it does not start with NumPy's magic number"))?;
    let (header, data) = split(rest).ok_or_else(|| broken("the header is cut off"))?;
    let header = std::str::from_utf8(header).map_err(|_| broken("the header is no text"))?;
    let (descr, fortran_order, shape) =
        entries(header).ok_or_else(|| broken("the header is not NumPy's dictionary"))?;
    let dtype = match descr {
        "<f4" => DType::F32,
        "<f2" => DType::F16,
        "<f8" => DType::F64,
        other => {
            return Err(Error::UnsupportedDType {
                name: name.display().to_string(),
                got: format!("{other:?} in NumPy's words"),
            });
        }
    };
    if fortran_order && shape.iter().filter(|size| **size != 1).count() > 1 {
        return Err(Error::Layout {
            name: "the array",
            problem: format!("{} is in Fortran order", name.display()),
            advice: "numpy.ascontiguousarray makes the C order that is needed",
        });
    }
    let elements = shape
        .iter()
        .try_fold(1usize, |len, size| len.checked_mul(*size));
    let expected = elements.and_then(|len| len.checked_mul(dtype.size()));
    if expected != Some(data.len()) {
        let got = data.len();
        return Err(broken(&format!(
            "{got} bytes of data are not {shape:?} of {dtype}"
        )));
    }
    Tensor::from_bytes(data, dtype, &shape, device)
}

/// A tensor as a file's bytes.
///
/// # Errors
///
/// [`Error::UnsupportedDType`] for bf16, which NumPy does not have; and as [`Tensor::to_bytes`].
pub fn to_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let descr = match tensor.dtype() {
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        DType::F64 => "<f8",
        DType::BF16 => {
            return Err(Error::UnsupportedDType {
                name: "a .npy file's array".to_owned(),
                got: "bf16, which NumPy has no dtype for".to_owned(),
            });
        }
    };
    let mut shape: String = tensor
        .shape()
        .iter()
        .map(|size| format!("{size}, "))
        .collect();
    if tensor.rank() > 1 {
        // Python wants the comma after a single element alone.
        shape.truncate(shape.len() - 2);
    }
    let mut header = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}",
        shape.trim_end()
    );
    // The version takes two bytes, the length two or in version 2 four, and the header ends with a line's end.
    let padded = |before: usize| (before + header.len() + 1).next_multiple_of(ALIGNMENT) - before;
    let mut bytes = MAGIC.to_vec();
    // A header of version 1 has room for some ten thousand dimensions.
    let len = match u16::try_from(padded(MAGIC.len() + 4)) {
        Ok(len) => {
            bytes.extend([1, 0]);
            bytes.extend(len.to_le_bytes());
            usize::from(len)
        }
        Err(_) => {
            let len = padded(MAGIC.len() + 6);
            let short = u32::try_from(len).map_err(|_| Error::File {
                path: "a .npy file".into(),
                doing: "write",
                source: std::io::Error::other("its header has more than 4 GiB"),
            })?;
            bytes.extend([2, 0]);
            bytes.extend(short.to_le_bytes());
            len
        }
    };
    header.extend(std::iter::repeat_n(' ', len - 1 - header.len()));
    header.push('\n');
    bytes.extend(header.as_bytes());
    bytes.extend(tensor.to_bytes()?);
    Ok(bytes)
}

/// Header and data of what follows the magic number.
fn split(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (version, rest) = rest.split_at_checked(2)?;
    let (len, rest) = match version[0] {
        1 => {
            let (len, rest) = rest.split_at_checked(2)?;
            (usize::from(u16::from_le_bytes(len.try_into().ok()?)), rest)
        }
        2 | 3 => {
            let (len, rest) = rest.split_at_checked(4)?;
            (u32::from_le_bytes(len.try_into().ok()?) as usize, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

/// The dictionary's three entries, in whatever order: descr, fortran_order, shape.
fn entries(header: &str) -> Option<(&str, bool, Vec<usize>)> {
    let mut rest = header.trim().strip_prefix('{')?.strip_suffix('}')?;
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    loop {
        rest = rest.trim_start().trim_start_matches(',').trim_start();
        if rest.is_empty() {
            break;
        }
        let (key, after) = quoted(rest)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        rest = match key {
            "descr" => {
                let (text, after) = quoted(value)?;
                descr = Some(text);
                after
            }
            "fortran_order" => {
                let end = value.find([',', ' ']).unwrap_or(value.len());
                fortran_order = Some(match &value[..end] {
                    "True" => true,
                    "False" => false,
                    _ => return None,
                });
                &value[end..]
            }
            "shape" => {
                let (inside, after) = value.strip_prefix('(')?.split_once(')')?;
                let sizes = inside
                    .split(',')
                    .map(str::trim)
                    .filter(|size| !size.is_empty());
                shape = Some(sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?);
                after
            }
            _ => return None,
        };
    }
    Some((descr?, fortran_order?, shape?))
}

/// A string in quotes at the start of a text, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text
        .chars()
        .next()
        .filter(|quote| ['\'', '"'].contains(quote))?;
    text[1..].split_once(quote)
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Tensor> {
        from_bytes(bytes, "in.npy".as_ref(), &Device::cpu())
    }

    /// A file of version 1 with this header.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let len = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &len, header.as_bytes(), data].concat()
    }

    #[test]
    fn what_is_written_is_read() {
        // The last has a header that version 1 has no room for.
        for shape in [&[2, 3][..], &[6], &[1, 2, 3], &[0, 4], &[], &[1; 30_000]] {
            let len = shape.iter().product();
            let values: Vec<f16> = (0..len).map(|i| f16::from_f32(i as f32)).collect();
            let tensor = Tensor::from_slice(&values, shape, &Device::cpu()).unwrap();
            let bytes = to_bytes(&tensor).unwrap();
            assert_eq!((bytes.len() - len * 2) % 64, 0);
            let back = read(&bytes).unwrap();
            assert_eq!((back.shape(), back.dtype()), (shape, DType::F16));
            assert_eq!(back.to_vec::<f16>().unwrap(), values);
        }
    }

    #[test]
    fn headers_as_numpy_writes_them() {
        let tensor = Tensor::from_slice(&[1.0f32, 2.0], &[2], &Device::cpu()).unwrap();
        let bytes = to_bytes(&tensor).unwrap();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        assert!(
            bytes[10..].starts_with(header.as_bytes()),
            "{:?}",
            &bytes[..80]
        );
        assert_eq!(bytes[127], b'\n');
        // Another order and other quotes, version 2, and a column that both orders lay out alike.
        let header = "{\"shape\": (2, 1), \"fortran_order\": True, \"descr\": \"<f8\"}";
        let len = (header.len() as u32).to_le_bytes();
        let data = [1.0f64, 2.0].map(f64::to_le_bytes).concat();
        let bytes = [MAGIC, &[2, 0], &len, header.as_bytes(), &data].concat();
        assert_eq!(read(&bytes).unwrap().to_vec::<f64>().unwrap(), [1.0, 2.0]);
    }

    #[test]
    fn bad_files_are_errors() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
        assert!(read(&file(good, &[0; 4])).is_ok());
        for bytes in [
            Vec::new(),
            b"text".to_vec(),
            MAGIC.to_vec(),
            [MAGIC, &[9, 0, 0, 0]].concat(),
            file(good, &[0; 3]),
            file(good, &[0; 8]),
            file("{}", &[]),
            file("{'descr': '<f4', 'shape': (1,)}", &[0; 4]),
            file(
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1,",
                &[0; 4],
            ),
            file(
                "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
                &[0; 4],
            ),
            file(
                "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,), }",
                &[0; 4],
            ),
            file(
                "{'descr': '<f4, 'fortran_order': False, 'shape': (1,), }",
                &[0; 4],
            ),
            file(
                "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4294967296), }",
                &[],
            ),
            file("é", &[]),
        ] {
            assert!(
                matches!(read(&bytes), Err(Error::NotNpy { .. })),
                "{bytes:?}"
            );
        }
        let cut = file(good, &[0; 4]);
        for len in 0..cut.len() {
            assert!(read(&cut[..len]).is_err(), "{len}");
        }
        let dtype = |descr: &str| file(&good.replace("<f4", descr), &[0; 4]);
        for descr in [">f4", "<i4", "<V2", "|u1"] {
            assert!(
                matches!(read(&dtype(descr)), Err(Error::UnsupportedDType { .. })),
                "{descr}"
            );
        }
        let fortran = file(
            "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }",
            &[0; 16],
        );
        assert!(matches!(read(&fortran), Err(Error::Layout { .. })));
        let bf16 = Tensor::zeros(DType::BF16, &[2], &Device::cpu()).unwrap();
        assert!(matches!(
            to_bytes(&bf16),
            Err(Error::UnsupportedDType { .. })
        ));
    }
}
