//! Inputs for a case: random values that the case's dtypes hold exactly, so that the oracle and the device
//! start from the same numbers.

use half::{bf16, f16};
use layernorm_host::{DType, Device, Result, Tensor};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A LayerNorm problem to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub n_rows: usize,
    pub n_cols: usize,
    /// Of x, y, dy and dx.
    pub dtype: DType,
    /// Of weight, bias and their gradients.
    pub parameter_dtype: DType,
    pub weight: bool,
    pub bias: bool,
    /// dx over dy, which other kernels do where rows are few.
    pub in_place: bool,
    /// Of x, whose standard deviation is 1.
    pub mean: f64,
    pub eps: f32,
}

impl Case {
    pub fn new(n_rows: usize, n_cols: usize, dtype: DType, parameter_dtype: DType) -> Self {
        Case {
            n_rows,
            n_cols,
            dtype,
            parameter_dtype,
            weight: true,
            bias: true,
            in_place: false,
            mean: 0.5,
            eps: 1e-5,
        }
    }

    /// The case with dx beside dy, and over it.
    pub fn in_place_or_not(&self) -> [Case; 2] {
        [false, true].map(|in_place| Case { in_place, ..*self })
    }

    pub fn shape(&self) -> [usize; 2] {
        [self.n_rows, self.n_cols]
    }

    pub fn generate(&self) -> Inputs {
        self.generate_from((self.n_rows * 31 + self.n_cols * 7) as u64)
    }

    /// Values of a seed.
    pub fn generate_from(&self, seed: u64) -> Inputs {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut values = |n: usize, mean: f64, scale: f64, dtype: DType| -> Vec<f64> {
            (0..n)
                .map(|_| round(mean + scale * normal(&mut rng), dtype))
                .collect()
        };
        let (n, n_cols) = (self.n_rows * self.n_cols, self.n_cols);
        let x = values(n, self.mean, 1.0, self.dtype);
        let dy = values(n, 0.0, 1.0, self.dtype);
        let weight = values(n_cols, 1.0, 0.3, self.parameter_dtype);
        let bias = values(n_cols, 0.0, 0.3, self.parameter_dtype);
        Inputs {
            x,
            dy,
            weight: self.weight.then_some(weight),
            bias: self.bias.then_some(bias),
        }
    }
}

/// Every pair of dtypes of x and of the parameters.
pub fn dtypes() -> Vec<(DType, DType)> {
    let pairs = |x: DType| {
        x.parameter_dtypes()
            .into_iter()
            .map(move |weight| (x, weight))
    };
    DType::ALL.into_iter().flat_map(pairs).collect()
}

/// The values of a case.
#[derive(Clone)]
pub struct Inputs {
    pub x: Vec<f64>,
    pub dy: Vec<f64>,
    pub weight: Option<Vec<f64>>,
    pub bias: Option<Vec<f64>>,
}

/// A tensor of values that `dtype` holds exactly.
pub fn tensor(values: &[f64], shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    match dtype {
        DType::F32 => {
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            Tensor::from_slice(&values, shape, device)
        }
        DType::F16 => {
            let values: Vec<f16> = values.iter().map(|&v| f16::from_f64(v)).collect();
            Tensor::from_slice(&values, shape, device)
        }
        DType::BF16 => {
            let values: Vec<bf16> = values.iter().map(|&v| bf16::from_f64(v)).collect();
            Tensor::from_slice(&values, shape, device)
        }
        DType::F64 => Tensor::from_slice(values, shape, device),
    }
}

/// What a dtype makes of a value.
pub fn round(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(value as f32),
        DType::F16 => f16::from_f64(value).to_f64(),
        DType::BF16 => bf16::from_f64(value).to_f64(),
        DType::F64 => value,
    }
}

/// A normal deviate, by Box and Muller.
fn normal(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
