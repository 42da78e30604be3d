//! Which gradients a backward pass is asked for, and where they go.

use crate::Tensor;
use crate::pass::BackwardOutputs;

/// Which gradients a backward pass computes.
///
/// ```
/// use layernorm_host::{DType, Device, FastLayerNorm, Needs, Tensor};
///
/// let x = Tensor::zeros(DType::F32, &[2, 4], &Device::cpu())?;
/// let (y, saved) = FastLayerNorm::forward(&x, None, None, 1e-5)?;
/// let needs = Needs { dx: true, dweight: false, dbias: false };
/// let gradients = FastLayerNorm::backward_needs(saved, &y, needs)?;
/// assert!(gradients.dx.is_some() && gradients.dweight.is_none());
/// # Ok::<(), layernorm_host::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// dx, of x's shape and dtype.
    pub dx: bool,
    /// dweight, of weight's shape and dtype.
    pub dweight: bool,
    /// dbias, of bias's shape and dtype.
    pub dbias: bool,
}

/// The gradients that were asked for.
#[derive(Debug, Default)]
pub struct Gradients {
    /// Of x.
    pub dx: Option<Tensor>,
    /// Of weight.
    pub dweight: Option<Tensor>,
    /// Of bias.
    pub dbias: Option<Tensor>,
}

/// A caller's tensors for the gradients.
///
/// ```
/// use layernorm_host::{Device, FastLayerNorm, GradientsInto, Tensor};
///
/// let device = Device::cpu();
/// let x = Tensor::from_slice(&[1.0f32, 3.0], &[1, 2], &device)?;
/// let weight = Tensor::from_slice(&[1.0f32, 1.0], &[2], &device)?;
/// let dy = Tensor::from_slice(&[2.0f32, 5.0], &[1, 2], &device)?;
/// let mut dweight = Tensor::from_slice(&[10.0f32, 10.0], &[2], &device)?;
/// let (_, saved) = FastLayerNorm::forward(&x, Some(&weight), None, 0.0)?;
/// let into = GradientsInto {
///     dweight: Some(&mut dweight),
///     accumulate: true,
///     ..GradientsInto::default()
/// };
/// FastLayerNorm::backward_into(saved, &dy, into)?;
/// assert_eq!(dweight.to_vec::<f32>()?, [8.0, 15.0]);
/// # Ok::<(), layernorm_host::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct GradientsInto<'a> {
    /// Of x's shape and dtype.
    pub dx: Option<&'a mut Tensor>,
    /// Of weight's shape and dtype.
    pub dweight: Option<&'a mut Tensor>,
    /// Of bias's shape and dtype.
    pub dbias: Option<&'a mut Tensor>,
    /// dweight and dbias are added to what the tensors hold, instead of replacing it.
    pub accumulate: bool,
}

impl<'a> From<GradientsInto<'a>> for BackwardOutputs<'a> {
    fn from(into: GradientsInto<'a>) -> Self {
        BackwardOutputs {
            dx: into.dx,
            dweight: into.dweight,
            dbias: into.dbias,
            accumulate: into.accumulate,
        }
    }
}
