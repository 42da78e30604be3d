//! Shapes as the command line names them, and lists of them.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use layernorm_host::MAX_COLS;

/// Rows and their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n_rows: usize,
    pub n_cols: usize,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes = text
            .split('x')
            .map(|size| size.trim().parse().ok().filter(|size| *size > 0));
        let sizes: Option<Vec<usize>> = sizes.collect();
        let sizes = sizes.ok_or("allowed: ROWSxCOLUMNS, each at least 1, as in 4096x1024")?;
        let [leading @ .., n_cols] = sizes.as_slice() else {
            return Err("a shape has at least a number of rows and one of columns".to_owned());
        };
        if leading.is_empty() {
            return Err(format!(
                "{n_cols} columns, but of how many rows? As in 4096x{n_cols}"
            ));
        }
        if *n_cols > MAX_COLS {
            return Err(format!("at most {MAX_COLS} columns are allowed"));
        }
        let n_rows = leading
            .iter()
            .try_fold(1usize, |rows, size| rows.checked_mul(*size));
        // Half of the address space, at four bytes an element.
        let n_rows = n_rows.filter(|rows| {
            rows.checked_mul(*n_cols)
                .is_some_and(|len| len <= isize::MAX as usize / 8)
        });
        let n_rows = n_rows.ok_or("more elements than can be addressed")?;
        Ok(Shape {
            n_rows,
            n_cols: *n_cols,
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.n_rows, self.n_cols)
    }
}

/// Lists of shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// 256 to 65536 columns, at 2^28 elements or 32768 rows: where the memory's rate is what counts.
    Sweep,
    /// 32768 rows of lengths that are no multiple of 16 bytes.
    Ragged,
    /// 8192 rows of the hidden sizes of known models, 384 (MiniLM) to 12288 (GPT-3).
    Models,
    /// 1 to 512 rows: where a launch's own time is what counts.
    Small,
    /// Some megabytes each, for a CPU.
    Laptop,
    /// Small enough for the software GPU.
    Smoke,
}

impl Preset {
    pub fn for_kind(kind: &str) -> Self {
        match kind {
            "cuda" => Preset::Sweep,
            "cpu" => Preset::Laptop,
            _ => Preset::Smoke,
        }
    }

    pub fn shapes(self) -> Vec<Shape> {
        let shape = |(n_rows, n_cols)| Shape { n_rows, n_cols };
        let of_rows = |n_rows: usize, columns: &[usize]| -> Vec<Shape> {
            columns
                .iter()
                .map(|n_cols| shape((n_rows, *n_cols)))
                .collect()
        };
        match self {
            Preset::Sweep => {
                let mut shapes = of_rows(32768, &[256, 512, 1024, 2048, 4096, 8192]);
                shapes.extend([(16384, 16384), (8192, 32768), (4096, 65536)].map(shape));
                shapes
            }
            Preset::Ragged => of_rows(32768, &[255, 511, 1000, 1023, 2047, 4095, 4099, 5003, 8191]),
            Preset::Models => of_rows(
                8192,
                &[
                    384, 768, 1024, 1280, 1600, 2048, 2560, 4096, 4544, 5120, 8192, 12288,
                ],
            ),
            Preset::Small => [1, 8, 64, 512]
                .map(|n_rows| of_rows(n_rows, &[768, 4096]))
                .concat(),
            Preset::Laptop => [(16384, 256), (4096, 1024), (4096, 4096), (1024, 16384)]
                .map(shape)
                .to_vec(),
            Preset::Smoke => [(64, 256), (64, 1000), (64, 1024), (16, 4096)]
                .map(shape)
                .to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read() {
        let shape = |text: &str| text.parse::<Shape>();
        assert_eq!(
            shape("4096x1024"),
            Ok(Shape {
                n_rows: 4096,
                n_cols: 1024
            })
        );
        assert_eq!(
            shape("4x512x768"),
            Ok(Shape {
                n_rows: 2048,
                n_cols: 768
            })
        );
        for text in [
            "",
            "x",
            "5",
            "0x4",
            "4x0",
            "4x",
            "-1x4",
            "4X4",
            "ax4",
            "1x4294967296",
        ] {
            assert!(shape(text).is_err(), "{text}");
        }
        assert!(shape(&format!("{0}x{0}", usize::MAX)).is_err());
        assert!(shape("4611686018427387904x2").is_err());
    }

    #[test]
    fn presets_have_shapes() {
        for preset in Preset::value_variants() {
            assert!(preset.shapes().len() >= 4, "{preset:?}");
        }
    }
}
