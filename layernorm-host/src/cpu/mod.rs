//! The native path: both passes on the host's cores, vectorised for what the processor has, parallel over
//! rows. It takes a checked pass and knows nothing of plans or devices.
//!
//! Rows are cut into chunks by the problem's size alone, and partial sums are added in a fixed order: the same
//! input gives the same bits on any number of threads.

mod backward;
mod double;
mod forward;
mod gradients;
mod lanes;

use half::{bf16, f16};

use self::lanes::Lane;
use crate::dtype::sealed::Sealed;
use crate::host;
use crate::pass::{BackwardPass, ForwardPass};
use crate::{DType, Element, Result, Tensor};

/// Runs a forward pass over host tensors.
pub fn forward(pass: &mut ForwardPass<'_>) -> Result<()> {
    match pass.problem.dtype() {
        DType::F32 => forward::run::<f32>(pass),
        DType::F16 => forward::run::<f16>(pass),
        DType::BF16 => forward::run::<bf16>(pass),
        DType::F64 => double::forward(pass),
    }
}

/// Runs a backward pass over host tensors.
pub fn backward(pass: &mut BackwardPass<'_>) -> Result<()> {
    match pass.problem.dtype() {
        DType::F32 => backward::run::<f32>(pass),
        DType::F16 => backward::run::<f16>(pass),
        DType::BF16 => backward::run::<bf16>(pass),
        DType::F64 => double::backward(pass),
    }
}

/// A type that the kernels take.
trait Value: Element + Lane + Sealed {}

impl<T: Element + Lane + Sealed> Value for T {}

/// Row r of a tensor's elements.
fn row<T>(elements: &[T], r: usize, stride: usize, n_cols: usize) -> &[T] {
    &elements[r * stride..][..n_cols]
}

/// weight or bias as f32, so that the kernels know one kind; `absent` in every place where there is none.
fn parameter(tensor: Option<&Tensor>, n_cols: usize, absent: f32) -> Result<Vec<f32>> {
    match tensor {
        Some(tensor) => tensor.to_f32_vec(),
        None => {
            let mut values = host::zeros(n_cols)?;
            values.fill(absent);
            Ok(values)
        }
    }
}
