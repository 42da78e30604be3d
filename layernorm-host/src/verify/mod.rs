//! Unsloth's own test of its LayerNorm, as functions: random activations, forward and backward on a device,
//! every result held against float64.
//!
//! Unsloth compares dx with PyTorch's, and asks for a Euclidean distance of at most [`UNSLOTH_DISTANCE`] over the
//! whole tensor. Here the reference is the formula in float64, computed on the host's cores, y, mean, rstd,
//! dweight and dbias are compared too, and each element has a bound of its own:
//!
//! | result | \|got - expected\| at most | because |
//! |---|---|---|
//! | y | 2e-6 of the row's largest \|xhat * weight\| + \|bias\| | some eight f32 roundings of 6e-8, and 2 units of the approximate rsqrt |
//! | mean | 5e-7 of the row's largest \|x\| | a tree sum of at most some hundred partial sums in f32 |
//! | rstd | 2e-6 of itself | half of the variance's relative error, and the rsqrt |
//! | dx | 4e-6 of the row's largest sum of the sizes of its three terms | as y, with two more means |
//! | dweight, dbias | 2e-6 * sqrt(n_rows) of the column's largest term | roundings add up as a random walk |
//!
//! To that comes what the mean's own rounding does to dx and dweight ([`MEAN`] of the row's largest |x|; the forward
//! pass takes it off), and one unit in the last place where the result is f16 or bf16: half of it is the result's own rounding, and near a tie an f32 error
//! moves it to the neighbour. For f64, which is f64 inside, the bounds are [`F64`] of f32's. A NaN is within no
//! bound.
//!
//! A test passes by these bounds. Unsloth's is reported beside them, and says less: a distance grows with the
//! tensor, and in bf16 a few elements in 10,000 are so near a tie that f32's rounding decides which neighbour
//! they become. On the suite's largest tensors that alone is more than 0.1, for PyTorch's f32 gradients too.
//!
//! ```
//! use layernorm_host::verify::Test;
//! use layernorm_host::{DType, Device};
//!
//! let test = Test { dim: 256, bsz: 2, seqlen: 31, dtype: DType::BF16, ..Test::default() };
//! let report = test.run(&Device::cpu())?;
//! assert!(report.passed(), "{report:?}");
//! # Ok::<(), layernorm_host::Error>(())
//! ```

mod data;
mod reference;

use std::time::{Duration, Instant};

use half::{bf16, f16};

use self::data::{Inputs, Value};
use crate::{DType, Device, FastLayerNorm, Result, Tensor};

/// Unsloth's bound on the Euclidean distance of dx, over the whole tensor.
pub const UNSLOTH_DISTANCE: f64 = 0.1;

/// The f32 mean's own error, relative to the row's largest |x|: half a unit in its last place, and as much from
/// adding it up about one of the row's elements.
pub const MEAN: f64 = 1.2e-7;

/// y's bound, relative to the row's largest term.
pub const Y: f64 = 2e-6;

/// mean's bound, relative to the row's largest |x|.
pub const STATISTIC_MEAN: f64 = 5e-7;

/// rstd's bound, relative to itself.
pub const STATISTIC_RSTD: f64 = 2e-6;

/// dx's bound, relative to the row's largest sum of its terms' sizes.
pub const DX: f64 = 4e-6;

/// dweight's and dbias's bound, relative to the column's largest term times the square root of n_rows.
pub const PARAMETERS: f64 = 2e-6;

/// The bounds for f64 relative to those for f32: the roundings are as many, and each 2^-53 instead of 2^-24.
pub const F64: f64 = 1.0 / (1u64 << 29) as f64;

/// A test to run: x of shape `[bsz, seqlen, dim]`. The names and the defaults are Unsloth's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Test {
    /// Columns, the hidden size.
    pub dim: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Of x, y, weight, bias and the gradients.
    pub dtype: DType,
    /// The batch: x's first dimension.
    pub bsz: usize,
    /// The seed of the random values, which are the same on every machine.
    pub random_state: u64,
    /// x's second dimension; `bsz * seqlen` is the number of rows.
    pub seqlen: usize,
}

impl Default for Test {
    fn default() -> Self {
        Test {
            dim: 1024,
            eps: 1e-5,
            dtype: DType::F16,
            bsz: 21,
            random_state: 3407,
            seqlen: 3341,
        }
    }
}

/// How far one result is from its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorError {
    /// `y`, `mean`, `rstd`, `dx`, `dweight` or `dbias`.
    pub tensor: &'static str,
    /// The largest |got - expected|; NaN if there is a NaN.
    pub largest: f64,
    /// The largest share that an error has of its element's bound: at most 1 where the test passes.
    pub of_bound: f64,
}

/// What a test found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The test.
    pub test: Test,
    /// One for each result.
    pub errors: Vec<TensorError>,
    /// The Euclidean distance of dx from the float64 dx rounded to dtype: what Unsloth bounds, with PyTorch's
    /// dx in the place of float64's.
    pub dx_distance: f64,
    /// How long both passes took on the device, with the compilation of kernels that were not there yet.
    pub device_time: Duration,
}

impl Report {
    /// Whether every element of every result is within its bound.
    pub fn passed(&self) -> bool {
        // Not `!(a > b)`: a NaN must not pass.
        self.errors.iter().all(|error| error.of_bound <= 1.0)
    }

    /// Whether dx is within Unsloth's bound.
    pub fn within_unsloths(&self) -> bool {
        self.dx_distance <= UNSLOTH_DISTANCE
    }
}

impl Test {
    /// Unsloth's suite: every dim, dtype, seqlen and random state that its authors try.
    pub fn suite() -> Vec<Test> {
        let mut tests = Vec::new();
        for dim in [512, 1024, 2048] {
            for dtype in [DType::F16, DType::BF16] {
                for seqlen in [3341, 2048, 349] {
                    for random_state in [3407, 42] {
                        tests.push(Test {
                            dim,
                            dtype,
                            seqlen,
                            random_state,
                            ..Test::default()
                        });
                    }
                }
            }
        }
        tests
    }

    /// Runs the test: x and dy from a normal distribution, weight and bias uniform from 0 to 1.
    ///
    /// # Errors
    ///
    /// As [`FastLayerNorm::forward`], such as for a dim of 0. Results that are wrong are no error but a
    /// report that has not [passed](Report::passed).
    pub fn run(&self, device: &Device) -> Result<Report> {
        match self.dtype {
            DType::F32 => self.run_in::<f32>(device),
            DType::F16 => self.run_in::<f16>(device),
            DType::BF16 => self.run_in::<bf16>(device),
            DType::F64 => self.run_in::<f64>(device),
        }
    }

    fn run_in<T: Value>(&self, device: &Device) -> Result<Report> {
        // A result that nobody wrote is then NaN.
        let device = &device.with_poisoned_memory();
        let shape = [self.bsz, self.seqlen, self.dim];
        let inputs = Inputs::<T>::random(self)?;
        let x = Tensor::from_slice(&inputs.x, &shape, device)?;
        let dy = Tensor::from_slice(&inputs.dy, &shape, device)?;
        let weight = Tensor::from_slice(&inputs.weight, &[self.dim], device)?;
        let bias = Tensor::from_slice(&inputs.bias, &[self.dim], device)?;

        device.synchronize()?;
        let start = Instant::now();
        let (y, saved) = FastLayerNorm::forward(&x, Some(&weight), Some(&bias), self.eps)?;
        let (mean, rstd) = (saved.mean().clone(), saved.rstd().clone());
        let gradients = FastLayerNorm::backward(saved, &dy)?;
        device.synchronize()?;
        let device_time = start.elapsed();

        let (dx, dweight, dbias) = gradients;
        let parameter = |tensor: Option<Tensor>| match tensor {
            Some(tensor) => tensor.to_f64_vec(),
            None => Ok(Vec::new()),
        };
        let got = reference::Results {
            y: y.to_vec::<T>()?,
            mean: mean.to_f64_vec()?,
            rstd: rstd.to_f64_vec()?,
            dx: dx.to_vec::<T>()?,
            dweight: parameter(dweight)?,
            dbias: parameter(dbias)?,
        };
        let (errors, dx_distance) = reference::compare(&inputs, &got, self);
        Ok(Report {
            test: *self,
            errors,
            dx_distance,
            device_time,
        })
    }
}

/// Unsloth's test under its own name and with its own arguments: [`Test::run`].
///
/// # Errors
///
/// As [`Test::run`].
pub fn test_layernorm(
    dim: usize,
    eps: f32,
    dtype: DType,
    bsz: usize,
    random_state: u64,
    seqlen: usize,
    device: &Device,
) -> Result<Report> {
    let test = Test {
        dim,
        eps,
        dtype,
        bsz,
        random_state,
        seqlen,
    };
    test.run(device)
}

/// Unsloth's suite under its own name: a report for each of [`Test::suite`].
///
/// # Errors
///
/// As [`Test::run`].
pub fn testing_suite_layernorm(device: &Device) -> Result<Vec<Report>> {
    Test::suite().iter().map(|test| test.run(device)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_is_unsloths() {
        let suite = Test::suite();
        assert_eq!(suite.len(), 3 * 2 * 3 * 2);
        assert!(suite.iter().all(|test| test.bsz == 21 && test.eps == 1e-5));
        assert!(suite.contains(&Test::default()));
    }

    #[test]
    fn every_dtype_passes_on_the_cpu_and_every_result_is_looked_at() {
        for dtype in DType::ALL {
            let report = test_layernorm(768, 1e-5, dtype, 3, 42, 67, &Device::cpu()).unwrap();
            assert!(report.passed(), "{report:?}");
            let names: Vec<_> = report.errors.iter().map(|error| error.tensor).collect();
            assert_eq!(names, ["y", "mean", "rstd", "dx", "dweight", "dbias"]);
            // All of them rounded somewhere: an error of nothing at all was not measured.
            for error in &report.errors {
                assert!(error.largest > 0.0, "{dtype}: {error:?}");
            }
        }
    }

    #[test]
    fn no_rows_are_no_error() {
        let test = Test {
            bsz: 0,
            ..Test::default()
        };
        assert!(test.run(&Device::cpu()).unwrap().passed());
    }

    #[test]
    fn a_dim_of_nothing_is_an_error() {
        let test = Test {
            dim: 0,
            ..Test::default()
        };
        assert!(test.run(&Device::cpu()).is_err());
    }

    #[test]
    fn sizes_that_no_memory_holds_are_an_error() {
        let test = Test {
            bsz: usize::MAX,
            ..Test::default()
        };
        assert!(test.run(&Device::cpu()).is_err());
    }
}
