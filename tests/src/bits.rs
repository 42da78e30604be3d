//! Two devices' results for the same inputs, bit for bit.

use std::fmt;
use std::path::Path;

use layernorm_host::file::SafetensorsFile;
use layernorm_host::{Device, Error, Tensor};

/// How far apart two tensors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distance {
    pub elements: usize,
    /// Elements whose bits differ.
    pub differ: usize,
    /// The farthest two of them are apart, in units in the last place. A NaN beside a number counts as
    /// `u64::MAX`.
    pub ulp: u64,
}

impl Distance {
    fn add(&mut self, other: Distance) {
        self.elements += other.elements;
        self.differ += other.differ;
        self.ulp = self.ulp.max(other.ulp);
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.differ {
            0 => write!(f, "{} elements, the same bits", self.elements),
            differ => write!(
                f,
                "{} elements, {differ} differ, by {} ulp at most",
                self.elements, self.ulp
            ),
        }
    }
}

/// What a comparison of two files came to, by the results' names.
#[derive(Debug, Default)]
pub struct Report {
    /// `y`, `mean` and so on, over all shapes.
    pub by_name: Vec<(String, Distance)>,
    /// y in the rows whose mean and rstd are the same bits.
    pub y_of_same_statistics: Distance,
    /// What must not be.
    pub wrong: Vec<String>,
    pub shapes: usize,
    /// Whose results they are.
    pub devices: [String; 2],
}

/// The most that `rsqrt.approx` of two devices may lie apart: 2 ulp of either from the true value.
const RSTD_ULP: u64 = 4;

/// The key of the files' metadata under which the shapes stand, with blanks between, whose forward kernel weighs the
/// means of parts of a row with an approximate division.
pub const MEANS_OF_PARTS: &str = "means_of_parts";

/// Compares two files that `plan-rows run --out` wrote.
///
/// All must be the same bits, but for what approximate instructions are in: rstd, y in the rows where rstd differs,
/// and the mean and y of shapes that are named under [`MEANS_OF_PARTS`].
///
/// # Errors
///
/// Where a file cannot be read, or lacks a tensor that the other has.
pub fn compare(a: &Path, b: &Path) -> Result<Report, Error> {
    let (a, b) = (SafetensorsFile::read(a)?, SafetensorsFile::read(b)?);
    let cpu = Device::cpu();
    let device = |file: &SafetensorsFile| file.metadata("device").unwrap_or_default().to_owned();
    let mut report = Report {
        devices: [device(&a), device(&b)],
        ..Report::default()
    };
    for name in b.names() {
        a.tensor(&name, &cpu)?;
    }
    let parts = a.metadata(MEANS_OF_PARTS).unwrap_or_default().to_owned();
    for name in a.names() {
        let (mine, theirs) = (a.tensor(&name, &cpu)?, b.tensor(&name, &cpu)?);
        let (shape, kind) = name.rsplit_once('/').unwrap_or(("", &name));
        let (mine, size) = (mine.to_bytes()?, element(&mine));
        let theirs = theirs.to_bytes()?;
        if mine.len() != theirs.len() {
            report.wrong.push(format!("{name}: not of one size"));
            continue;
        }
        let distance = distance(&mine, &theirs, size);
        match report.by_name.iter_mut().find(|(known, _)| known == kind) {
            Some((_, total)) => total.add(distance),
            None => report.by_name.push((kind.to_owned(), distance)),
        }
        let of_parts = parts.split(' ').any(|name| name == shape);
        match kind {
            "mean" | "y" if of_parts => {}
            "rstd" => {
                report.shapes += 1;
                if distance.ulp > RSTD_ULP {
                    report.wrong.push(format!("{name}: {distance}"));
                }
            }
            "y" => {
                let same = same_statistics(&a, &b, shape)?;
                let row = mine.len() / same.len().max(1);
                let rows = mine.chunks(row.max(1)).zip(theirs.chunks(row.max(1)));
                let mut of_same = Distance::default();
                for ((mine, theirs), _) in rows.zip(&same).filter(|(_, same)| **same) {
                    of_same.add(self::distance(mine, theirs, size));
                }
                report.y_of_same_statistics.add(of_same);
                if of_same.differ > 0 {
                    let rows = "rows of the same mean and rstd";
                    report.wrong.push(format!("{name}, {rows}: {of_same}"));
                }
            }
            _ if distance.differ > 0 => report.wrong.push(format!("{name}: {distance}")),
            _ => {}
        }
    }
    Ok(report)
}

/// Of each row, whether both files have the same bits for its mean and rstd.
fn same_statistics(
    a: &SafetensorsFile,
    b: &SafetensorsFile,
    shape: &str,
) -> Result<Vec<bool>, Error> {
    let cpu = Device::cpu();
    let mut same = Vec::new();
    for name in ["mean", "rstd"] {
        let name = format!("{shape}/{name}");
        let (mine, theirs) = (a.tensor(&name, &cpu)?, b.tensor(&name, &cpu)?);
        let size = element(&mine);
        let (mine, theirs) = (mine.to_bytes()?, theirs.to_bytes()?);
        same.resize(mine.len() / size, true);
        let pairs = mine.chunks(size).zip(theirs.chunks(size));
        for (same, (mine, theirs)) in same.iter_mut().zip(pairs) {
            *same &= mine == theirs;
        }
    }
    Ok(same)
}

fn element(tensor: &Tensor) -> usize {
    tensor.dtype().size()
}

fn distance(a: &[u8], b: &[u8], size: usize) -> Distance {
    let mut distance = Distance {
        elements: a.len() / size,
        ..Distance::default()
    };
    for (a, b) in a.chunks_exact(size).zip(b.chunks_exact(size)) {
        if a != b {
            distance.differ += 1;
            let apart = match (place(a), place(b)) {
                (Some(a), Some(b)) => a.abs_diff(b),
                _ => u64::MAX,
            };
            distance.ulp = distance.ulp.max(apart);
        }
    }
    distance
}

/// Where a floating-point number of this many bytes stands among all of them, 0 in the middle; `None` for a
/// NaN of 4 or 8 bytes. (f16 and bf16 have the same size: their NaNs are far from every number.)
fn place(bytes: &[u8]) -> Option<i64> {
    let (magnitude, negative) = match *bytes {
        [a, b] => {
            let bits = u16::from_le_bytes([a, b]);
            (i64::from(bits & 0x7fff), bits >> 15 == 1)
        }
        [a, b, c, d] => {
            let bits = u32::from_le_bytes([a, b, c, d]);
            if f32::from_bits(bits).is_nan() {
                return None;
            }
            (i64::from(bits & 0x7fff_ffff), bits >> 31 == 1)
        }
        [a, b, c, d, e, f, g, h] => {
            let bits = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            if f64::from_bits(bits).is_nan() {
                return None;
            }
            ((bits & (u64::MAX >> 1)) as i64, bits >> 63 == 1)
        }
        _ => return None,
    };
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn a_step_is_one_ulp_also_across_zero() {
        let next = f32::from_bits(1.0f32.to_bits() + 1);
        let tiny = f32::from_bits(1);
        let distance = distance(&f32s(&[1.0, -tiny, 5.0]), &f32s(&[next, tiny, 5.0]), 4);
        assert_eq!((distance.differ, distance.ulp), (2, 2));
    }

    #[test]
    fn a_nan_beside_a_number_is_never_near() {
        let distance = distance(&f32s(&[f32::NAN]), &f32s(&[1.0]), 4);
        assert_eq!(distance.ulp, u64::MAX);
    }
}
