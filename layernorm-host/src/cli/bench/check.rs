//! Results held against float64 before they are timed: a kernel that is fast and wrong has no time.
//!
//! The bounds are for the bench's own random rows, whose terms do not cancel much; the tests have the strict
//! ones. An element may be off by its own rounding, one unit in the last place, and by some roundings in f32
//! of the largest term that it is made of.

use layernorm_host::{DType, Result};
use rayon::prelude::*;
use serde::Serialize;

use super::inputs::{EPS, Inputs};
use super::{Output, Subject};

/// f32 roundings of the largest term: sums by trees, rsqrt.approx, the mean's own error.
const ROUNDINGS: f64 = 8e-6;

/// How far results are from float64: the difference's norm over the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Errors {
    pub y: f64,
    pub dx: f64,
    pub dweight: f64,
    pub dbias: f64,
}

/// Elements and how far each may be off.
#[derive(Default)]
struct Expected {
    values: Vec<f64>,
    bounds: Vec<f64>,
}

/// Elements that are read and compared at a time.
const PART: usize = 1 << 22;

/// Measures the results, or says the first that is outside its bound. A NaN is.
pub fn hold(inputs: &Inputs, subject: &dyn Subject) -> Result<std::result::Result<Errors, String>> {
    let reference = Reference::new(inputs);
    let compare = |output, expected: &Expected, len| expected.compare(output, len, inputs, subject);
    let (elements, n_cols) = (
        inputs.shape.n_rows * inputs.shape.n_cols,
        inputs.shape.n_cols,
    );
    let compared = [
        compare(Output::Y, &reference.y, elements)?,
        compare(Output::Dx, &reference.dx, elements)?,
        compare(Output::Dweight, &reference.dweight, n_cols)?,
        compare(Output::Dbias, &reference.dbias, n_cols)?,
    ];
    let [y, dx, dweight, dbias] = compared;
    Ok((|| {
        Ok(Errors {
            y: y?,
            dx: dx?,
            dweight: dweight?,
            dbias: dbias?,
        })
    })())
}

struct Reference {
    y: Expected,
    dx: Expected,
    dweight: Expected,
    dbias: Expected,
}

impl Reference {
    fn new(inputs: &Inputs) -> Self {
        let (n_rows, n_cols, rows) = (inputs.shape.n_rows, inputs.shape.n_cols, inputs.rows);
        let n = n_cols as f64;
        let (mut y, mut dx) = (Expected::default(), Expected::default());
        // Sums over rows, and over the terms' sizes.
        let mut dweight = vec![(0.0f64, 0.0f64); n_cols];
        let mut dbias = dweight.clone();
        for row in 0..rows {
            let x = &inputs.x[row * n_cols..][..n_cols];
            let dy = &inputs.dy[row * n_cols..][..n_cols];
            // Rows `row`, `row + rows`, ... below n_rows.
            let count = (n_rows - row).div_ceil(rows) as f64;
            let mean = x.iter().sum::<f64>() / n;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let rstd = (variance + f64::from(EPS)).sqrt().recip();
            // mean is one f32: its rounding is in every difference from it.
            let of_mean = 0.05 * x.iter().map(|x| x.abs()).sum::<f64>() / n * rstd;
            let xhat = |column: usize| (x[column] - mean) * rstd;
            let dxhat = |column: usize| dy[column] * inputs.weight[column];
            let mean_of = |term: &dyn Fn(usize) -> f64| (0..n_cols).map(term).sum::<f64>() / n;
            let c1 = mean_of(&|column| dxhat(column));
            let c2 = mean_of(&|column| dxhat(column) * xhat(column));
            let largest = |term: &dyn Fn(usize) -> f64| (0..n_cols).map(term).fold(0.0, f64::max);
            let y_terms = largest(&|column| {
                (xhat(column).abs() + of_mean) * inputs.weight[column].abs()
                    + inputs.bias[column].abs()
            });
            let dx_terms = rstd
                * largest(&|column| dxhat(column).abs() + c1.abs() + c2.abs() * xhat(column).abs())
                * (1.0 + of_mean);
            for column in 0..n_cols {
                let value = xhat(column) * inputs.weight[column] + inputs.bias[column];
                y.push(inputs.dtype, value, y_terms);
                let value = rstd * (dxhat(column) - c1 - xhat(column) * c2);
                dx.push(inputs.dtype, value, dx_terms);
                let (product, size) = (
                    dy[column] * xhat(column),
                    dy[column].abs() * (xhat(column).abs() + of_mean),
                );
                dweight[column] = (
                    dweight[column].0 + count * product,
                    dweight[column].1 + count * size,
                );
                dbias[column] = (
                    dbias[column].0 + count * dy[column],
                    dbias[column].1 + count * dy[column].abs(),
                );
            }
        }
        let sums = |sums: Vec<(f64, f64)>| {
            let mut expected = Expected::default();
            for (value, size) in sums {
                expected.push(inputs.weight_dtype, value, size);
            }
            expected
        };
        Reference {
            y,
            dx,
            dweight: sums(dweight),
            dbias: sums(dbias),
        }
    }
}

impl Expected {
    fn push(&mut self, dtype: DType, value: f64, terms: f64) {
        let roundings = match dtype {
            // The reference has as many of its own, and adds up in no clever order.
            DType::F64 => 1e-12,
            _ => ROUNDINGS,
        };
        self.values.push(value);
        self.bounds
            .push(roundings * terms + unit(dtype) * value.abs() + f64::from(f32::MIN_POSITIVE));
    }

    /// The relative error of all elements, of which the expected ones repeat.
    fn compare(
        &self,
        output: Output,
        len: usize,
        inputs: &Inputs,
        subject: &dyn Subject,
    ) -> Result<std::result::Result<f64, String>> {
        let n_cols = inputs.shape.n_cols;
        let period = self.values.len();
        let part = (PART / n_cols).max(1) * n_cols;
        let (mut squares, mut norm) = (0.0, 0.0);
        for start in (0..len).step_by(part) {
            let got = subject.read(output, start..len.min(start + part))?;
            let rows = got.par_chunks(n_cols).enumerate().map(|(row, got)| {
                let row = start / n_cols + row;
                let first = row * n_cols % period;
                let (mut squares, mut norm) = (0.0, 0.0);
                for (column, got) in got.iter().enumerate() {
                    let (expected, bound) = (self.values[first + column], self.bounds[first + column]);
                    let difference = (got - expected).abs();
                    if difference > bound || difference.is_nan() {
                        let name = format!("{output:?}").to_lowercase();
                        return Err(format!(
                            "{name} is {got} at row {row}, column {column}; {expected} within {bound:.1e} is right"
                        ));
                    }
                    squares += difference * difference;
                    norm += expected * expected;
                }
                Ok((squares, norm))
            });
            match rows.try_reduce(|| (0.0, 0.0), |a, b| Ok((a.0 + b.0, a.1 + b.1))) {
                Ok(sums) => (squares, norm) = (squares + sums.0, norm + sums.1),
                Err(wrong) => return Ok(Err(wrong)),
            }
        }
        Ok(Ok(if squares == 0.0 {
            0.0
        } else {
            (squares / norm).sqrt()
        }))
    }
}

/// One unit in the last place, relative to the value at most.
fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => f64::from(half::f16::EPSILON),
        DType::BF16 => f64::from(half::bf16::EPSILON),
        DType::F64 => f64::EPSILON,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;
    use std::time::Duration;

    use layernorm_host::Device;

    use crate::cli::bench::Timed;
    use crate::cli::bench::host::Called;
    use crate::cli::bench::shapes::Shape;

    /// What a device gave, and then somebody changed.
    struct Held([Vec<f64>; 4]);

    impl Subject for Held {
        fn compute(&mut self) -> Result<()> {
            Ok(())
        }

        fn read(&self, output: Output, range: Range<usize>) -> Result<Vec<f64>> {
            Ok(self.0[output as usize][range].to_vec())
        }

        fn time(&mut self, _: Timed, _: usize) -> Result<Duration> {
            Ok(Duration::ZERO)
        }

        fn batches(&self) -> bool {
            false
        }
    }

    fn computed(inputs: &Inputs) -> Held {
        let mut called = Called::new(inputs, &Device::cpu()).unwrap();
        called.compute().unwrap();
        let (len, n_cols) = (
            inputs.shape.n_rows * inputs.shape.n_cols,
            inputs.shape.n_cols,
        );
        let read = |output, len| called.read(output, 0..len).unwrap();
        Held([
            read(Output::Y, len),
            read(Output::Dx, len),
            read(Output::Dweight, n_cols),
            read(Output::Dbias, n_cols),
        ])
    }

    #[test]
    fn right_results_pass_and_wrong_ones_are_named() {
        for (n_rows, n_cols) in [(1, 1), (3, 2), (130, 33), (200, 1024)] {
            for (dtype, weight_dtype) in [
                (DType::F32, DType::F32),
                (DType::BF16, DType::F32),
                (DType::F16, DType::F16),
                (DType::F64, DType::F64),
            ] {
                let inputs = Inputs::new(Shape { n_rows, n_cols }, dtype, weight_dtype);
                let right = computed(&inputs);
                let errors = hold(&inputs, &right)
                    .unwrap()
                    .unwrap_or_else(|error| panic!("{n_rows} x {n_cols} {dtype}: {error}"));
                assert!(errors.y < 4e-3 && errors.dweight < 4e-3, "{errors:?}");
            }
        }
        let inputs = Inputs::new(
            Shape {
                n_rows: 130,
                n_cols: 33,
            },
            DType::F32,
            DType::F32,
        );
        let off = |change: &dyn Fn(&mut [Vec<f64>; 4])| {
            let mut results = computed(&inputs);
            change(&mut results.0);
            hold(&inputs, &results).unwrap().unwrap_err()
        };
        // The last row and column, by 1e-4 of a value near 1; a NaN; one row too many.
        assert!(off(&|r| r[0][130 * 33 - 1] += 1e-4).contains("y is"));
        assert!(off(&|r| r[0][5] = f64::NAN).contains("y is NaN at row 0, column 5"));
        assert!(off(&|r| r[1][129 * 33] += 1e-4).contains("dx is"));
        assert!(off(&|r| r[2][32] += inputs.dy[32]).contains("dweight is"));
        assert!(off(&|r| r[3][0] += inputs.dy[0]).contains("dbias is"));
    }
}
