//! What the passes are given: random values, of which a few rows repeat, so that a large tensor is made and
//! checked in the time of a small one. Rows that repeat lie at other addresses, so no cache profits.

use half::{bf16, f16};
use layernorm_host::{DType, Device, Result, Tensor};

use super::shapes::Shape;

/// Different rows at most: a prime, so that no block, warp or multiprocessor always meets the same.
const ROWS: usize = 61;

/// Different elements at most, where rows are long.
const ELEMENTS: usize = 1 << 22;

pub const EPS: f32 = 1e-5;

/// Values as their dtype rounds them.
pub struct Inputs {
    pub shape: Shape,
    pub dtype: DType,
    pub weight_dtype: DType,
    /// The rows that repeat: row r of x and dy is row r % rows of these.
    pub rows: usize,
    pub x: Vec<f64>,
    pub dy: Vec<f64>,
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

impl Inputs {
    pub fn new(shape: Shape, dtype: DType, weight_dtype: DType) -> Self {
        let rows = shape.n_rows.min(ROWS).min((ELEMENTS / shape.n_cols).max(1));
        let mut random = fastrand::Rng::with_seed(0x1a7e_0000 + shape.n_cols as u64);
        let mut values = |count: usize, dtype: DType, mean: f64, scale: f64| -> Vec<f64> {
            // Four uniform numbers are near enough to a normal one of deviation 1.
            let mut normal = || (0..4).map(|_| random.f64() - 0.5).sum::<f64>() * 3f64.sqrt();
            (0..count)
                .map(|_| round(dtype, mean + scale * normal()))
                .collect()
        };
        Inputs {
            shape,
            dtype,
            weight_dtype,
            rows,
            x: values(rows * shape.n_cols, dtype, 0.5, 1.0),
            dy: values(rows * shape.n_cols, dtype, 0.1, 1.0),
            weight: values(shape.n_cols, weight_dtype, 1.0, 0.25),
            bias: values(shape.n_cols, weight_dtype, 0.0, 0.25),
        }
    }

    /// Elements from one copy of x to the next where several lie in one tensor: aligned as an allocator's.
    pub fn slot(&self) -> usize {
        (self.shape.n_rows * self.shape.n_cols).next_multiple_of(256)
    }

    /// `slots` copies of x, of `slot` elements each.
    pub fn x_tensor(&self, slots: usize, slot: usize, device: &Device) -> Result<Tensor> {
        self.repeated(&self.x, slots, slot, device)
    }

    /// As many of dy.
    pub fn dy_tensor(&self, slots: usize, slot: usize, device: &Device) -> Result<Tensor> {
        self.repeated(&self.dy, slots, slot, device)
    }

    fn repeated(&self, rows: &[f64], slots: usize, slot: usize, device: &Device) -> Result<Tensor> {
        let rows = encode(self.dtype, rows);
        let len = self.shape.n_rows * self.shape.n_cols * self.dtype.size();
        let mut bytes = Vec::with_capacity(slots * slot * self.dtype.size());
        for _ in 0..slots {
            let end = bytes.len() + slot * self.dtype.size();
            let whole = len / rows.len();
            (0..whole).for_each(|_| bytes.extend_from_slice(&rows));
            bytes.extend_from_slice(&rows[..len - whole * rows.len()]);
            bytes.resize(end, 0);
        }
        Tensor::from_bytes(&bytes, self.dtype, &[slots, slot], device)
    }

    pub fn weight_tensor(&self, device: &Device) -> Result<Tensor> {
        self.parameter(&self.weight, device)
    }

    pub fn bias_tensor(&self, device: &Device) -> Result<Tensor> {
        self.parameter(&self.bias, device)
    }

    fn parameter(&self, values: &[f64], device: &Device) -> Result<Tensor> {
        let bytes = encode(self.weight_dtype, values);
        Tensor::from_bytes(&bytes, self.weight_dtype, &[self.shape.n_cols], device)
    }
}

fn round(dtype: DType, value: f64) -> f64 {
    match dtype {
        DType::F32 => f64::from(value as f32),
        DType::F16 => f16::from_f64(value).to_f64(),
        DType::BF16 => bf16::from_f64(value).to_f64(),
        DType::F64 => value,
    }
}

/// Little-endian bytes of values that the dtype holds.
fn encode(dtype: DType, values: &[f64]) -> Vec<u8> {
    let values = values.iter();
    match dtype {
        DType::F32 => values
            .flat_map(|value| (*value as f32).to_le_bytes())
            .collect(),
        DType::F16 => values
            .flat_map(|value| f16::from_f64(*value).to_le_bytes())
            .collect(),
        DType::BF16 => values
            .flat_map(|value| bf16::from_f64(*value).to_le_bytes())
            .collect(),
        DType::F64 => values.flat_map(|value| value.to_le_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_repeat_in_every_slot() {
        let shape = Shape {
            n_rows: 130,
            n_cols: 3,
        };
        let inputs = Inputs::new(shape, DType::BF16, DType::F32);
        let x = inputs.x_tensor(2, inputs.slot(), &Device::cpu()).unwrap();
        assert_eq!(x.shape(), [2, 512]);
        let x = x.to_f32_vec().unwrap();
        for slot in x.chunks(512) {
            for (i, value) in slot[..390].iter().enumerate() {
                assert_eq!(f64::from(*value), inputs.x[i % (61 * 3)], "{i}");
            }
            assert!(slot[390..].iter().all(|value| *value == 0.0));
        }
        let deviation = inputs.x.iter().map(|x| (x - 0.5).powi(2)).sum::<f64>() / 183.0;
        assert!((0.7..1.4).contains(&deviation), "{deviation}");
    }

    #[test]
    fn long_rows_are_fewer() {
        let shape = Shape {
            n_rows: 8,
            n_cols: 1 << 21,
        };
        assert_eq!(Inputs::new(shape, DType::F32, DType::F32).rows, 2);
    }
}
