//! What the forward pass keeps for the backward pass.

use crate::pass::{BackwardInputs, BackwardOutputs};
use crate::{DType, Error, Result, Tensor};

/// What a backward pass needs of its forward pass: x, weight, mean and rstd. It shares x's and
/// weight's memory, and backward consumes it, so that it cannot be used twice:
///
/// ```compile_fail,E0382
/// # use layernorm_host::{DType, Device, FastLayerNorm, Tensor};
/// # let x = Tensor::zeros(DType::F32, &[2, 2], &Device::cpu())?;
/// let (y, saved) = FastLayerNorm::forward(&x, None, None, 1e-5)?;
/// FastLayerNorm::backward(saved, &y)?;
/// FastLayerNorm::backward(saved, &y)?; // use of moved value
/// # Ok::<(), layernorm_host::Error>(())
/// ```
///
/// While it lives, x and weight cannot be outputs: what backward needs stays as it was.
#[derive(Debug)]
pub struct Saved {
    pub(crate) x: Tensor,
    pub(crate) weight: Option<Tensor>,
    pub(crate) has_bias: bool,
    pub(crate) mean: Tensor,
    pub(crate) rstd: Tensor,
    pub(crate) normalized_shape: Vec<usize>,
    pub(crate) parameter_dtype: DType,
    pub(crate) eps: f32,
}

impl Saved {
    /// What was normalised: x, or the sum of x and residual.
    pub fn x(&self) -> &Tensor {
        &self.x
    }

    /// The mean of each row, of x's leading dimensions: f32, or f64 for f64.
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// 1 / sqrt(var + eps) of each row, of x's leading dimensions: f32, or f64 for f64.
    pub fn rstd(&self) -> &Tensor {
        &self.rstd
    }

    pub(crate) fn inputs<'a>(&'a self, dy: Option<&'a Tensor>) -> BackwardInputs<'a> {
        BackwardInputs {
            dy,
            x: &self.x,
            weight: self.weight.as_ref(),
            mean: &self.mean,
            rstd: &self.rstd,
            dsum: None,
            normalized_shape: &self.normalized_shape,
            parameter_dtype: self.parameter_dtype,
            eps: self.eps,
        }
    }

    /// Before outputs are allocated, so that a dy that does not fit costs nothing.
    pub(crate) fn check_dy(&self, dy: &Tensor) -> Result<()> {
        self.inputs(Some(dy))
            .into_pass(BackwardOutputs::default())
            .map(|_| ())
    }

    pub(crate) fn check_needs(&self, dweight: bool, dbias: bool) -> Result<()> {
        if dweight && self.weight.is_none() {
            return Err(Error::Absent {
                asked: "dweight",
                missing: "the forward pass had no weight",
            });
        }
        if dbias && !self.has_bias {
            return Err(Error::Absent {
                asked: "dbias",
                missing: "the forward pass had no bias",
            });
        }
        Ok(())
    }

    pub(crate) fn empty_gradient(&self) -> Result<Tensor> {
        Tensor::empty(
            self.parameter_dtype,
            &self.normalized_shape,
            self.x.device(),
        )
    }
}
