//! LayerNorm as functions: forward gives y and what backward needs, backward gives the gradients.

use crate::pass::{BackwardInputs, BackwardOutputs, ForwardInputs, Statistics};
use crate::{Error, Gradients, GradientsInto, Needs, Result, Saved, Tensor};

/// LayerNorm forward and backward, without a layer that holds the parameters. The model is Unsloth's
/// `Fast_Layernorm`.
///
/// For each row of `n_cols` columns, in f32 for f32, f16 and bf16, in f64 for f64:
///
/// ```text
/// mean  = sum(x) / n_cols              dxhat = dy * weight          xhat = (x - mean) * rstd
/// var   = sum((x - mean)^2) / n_cols   dx = rstd * (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat))
/// rstd  = 1 / sqrt(var + eps)          dweight = sum over rows of dy * xhat
/// y     = xhat * weight + bias         dbias   = sum over rows of dy
/// ```
///
/// ```
/// use layernorm_host::{Device, FastLayerNorm, Tensor};
///
/// let device = Device::auto()?;
/// let x = Tensor::from_slice(&[1.0f32, 3.0, 2.0, 6.0], &[2, 2], &device)?;
/// let weight = Tensor::from_slice(&[1.0f32, 1.0], &[2], &device)?;
/// let (y, saved) = FastLayerNorm::forward(&x, Some(&weight), None, 0.0)?;
/// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0, -1.0, 1.0]);
/// let dy = Tensor::ones(x.dtype(), x.shape(), &device)?;
/// let (_dx, dweight, _) = FastLayerNorm::backward(saved, &dy)?;
/// assert_eq!(dweight.unwrap().to_vec::<f32>()?, [-2.0, 2.0]);
/// # Ok::<(), layernorm_host::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FastLayerNorm;

impl FastLayerNorm {
    /// Normalises x, of any rank, over its last dimensions: those of weight, or of bias, or the last
    /// one where both are absent. Gives y, of x's shape and dtype, and what backward needs.
    ///
    /// weight and bias have the dtype of x, or f32 for x in f16 or bf16, and both the same. For f64 eps is the
    /// f32's exact value.
    ///
    /// # Errors
    ///
    /// [`Error::RankZero`], [`Error::NoColumns`], [`Error::TooManyColumns`], [`Error::Eps`],
    /// [`Error::ParameterLength`], [`Error::NormalizedShape`], [`Error::Shape`],
    /// [`Error::DTypeMismatch`], [`Error::OtherDevice`], [`Error::Layout`], [`Error::Overflow`] for
    /// operands that do not fit; [`Error::OutOfMemory`], [`Error::Jit`], [`Error::Cuda`] from the
    /// device.
    ///
    /// ```
    /// use layernorm_host::{Device, FastLayerNorm, Tensor};
    ///
    /// let x = Tensor::from_slice(&[1.0f32, 3.0, 2.0, 6.0], &[2, 2], &Device::cpu())?;
    /// let (y, saved) = FastLayerNorm::forward(&x, None, None, 0.0)?;
    /// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0, -1.0, 1.0]);
    /// assert_eq!(saved.mean().to_vec::<f32>()?, [2.0, 4.0]);
    /// assert_eq!(saved.rstd().to_vec::<f32>()?, [1.0, 0.5]);
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn forward(
        x: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
    ) -> Result<(Tensor, Saved)> {
        let normalized_shape = shape_of_parameters(x, weight, bias)?;
        forward(ForwardInputs {
            x,
            residual: None,
            weight,
            bias,
            normalized_shape: &normalized_shape,
            eps,
        })
    }

    /// As [`forward`](Self::forward), into a caller's y, whose rows may lie apart.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward); [`Error::SharedOutput`] where another tensor can reach y's memory.
    ///
    /// ```
    /// use layernorm_host::{DType, Device, FastLayerNorm, Tensor};
    ///
    /// let device = Device::cpu();
    /// let x = Tensor::from_slice(&[1.0f32, 3.0, 2.0, 6.0], &[2, 2], &device)?;
    /// // Rows of two columns that lie three elements apart.
    /// let mut y = Tensor::empty_strided(DType::F32, &[2, 2], 3, &device)?;
    /// FastLayerNorm::forward_into(&x, None, None, 0.0, &mut y)?;
    /// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn forward_into(
        x: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
        y: &mut Tensor,
    ) -> Result<Saved> {
        let normalized_shape = shape_of_parameters(x, weight, bias)?;
        let inputs = ForwardInputs {
            x,
            residual: None,
            weight,
            bias,
            normalized_shape: &normalized_shape,
            eps,
        };
        forward_into(inputs, y, None)
    }

    /// Normalises x + residual, the addition rounded to x's dtype. Gives y, the sum, and what
    /// backward needs, of which the sum takes x's place.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    ///
    /// ```
    /// use layernorm_host::{Device, FastLayerNorm, Tensor};
    ///
    /// let device = Device::cpu();
    /// let x = Tensor::from_slice(&[1.0f32, 2.0], &[1, 2], &device)?;
    /// let residual = Tensor::from_slice(&[0.0f32, 1.0], &[1, 2], &device)?;
    /// let (y, sum, _saved) = FastLayerNorm::forward_add(&x, &residual, None, None, 0.0)?;
    /// assert_eq!(sum.to_vec::<f32>()?, [1.0, 3.0]);
    /// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0]);
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn forward_add(
        x: &Tensor,
        residual: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
    ) -> Result<(Tensor, Tensor, Saved)> {
        let normalized_shape = shape_of_parameters(x, weight, bias)?;
        let inputs = ForwardInputs {
            x,
            residual: Some(residual),
            weight,
            bias,
            normalized_shape: &normalized_shape,
            eps,
        };
        inputs.problem()?;
        let mut y = Tensor::empty(x.dtype(), x.shape(), x.device())?;
        let mut sum = Tensor::empty(x.dtype(), x.shape(), x.device())?;
        let saved = forward_into(inputs, &mut y, Some(&mut sum))?;
        let saved = Saved {
            x: sum.clone(),
            ..saved
        };
        Ok((y, sum, saved))
    }

    /// The gradients of x, and of weight and bias where the forward pass had them. `dy` has y's shape
    /// and dtype, and is not changed.
    ///
    /// dweight and dbias are sums over rows in a fixed order: the same input gives the same bits.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::DTypeMismatch`], [`Error::OtherDevice`] for a dy that does not fit;
    /// [`Error::OutOfMemory`], [`Error::Jit`], [`Error::Cuda`] from the device.
    ///
    /// ```
    /// use layernorm_host::{Device, FastLayerNorm, Tensor};
    ///
    /// let device = Device::cpu();
    /// let x = Tensor::from_slice(&[1.0f32, 3.0, 2.0, 6.0], &[2, 2], &device)?;
    /// let weight = Tensor::from_slice(&[1.0f32, 1.0], &[2], &device)?;
    /// let (_, saved) = FastLayerNorm::forward(&x, Some(&weight), None, 0.0)?;
    /// let dy = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 2.0], &[2, 2], &device)?;
    /// let (dx, dweight, dbias) = FastLayerNorm::backward(saved, &dy)?;
    /// // A row of two columns is always -1 and 1: no x changes it.
    /// assert_eq!(dx.to_vec::<f32>()?, [0.0; 4]);
    /// assert_eq!(dweight.unwrap().to_vec::<f32>()?, [-1.0, 2.0]);
    /// assert!(dbias.is_none());
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn backward(saved: Saved, dy: &Tensor) -> Result<(Tensor, Option<Tensor>, Option<Tensor>)> {
        let x = &saved.x;
        saved.check_dy(dy)?;
        let mut dx = Tensor::empty(x.dtype(), x.shape(), x.device())?;
        let mut dweight = match saved.weight {
            Some(_) => Some(saved.empty_gradient()?),
            None => None,
        };
        let mut dbias = match saved.has_bias {
            true => Some(saved.empty_gradient()?),
            false => None,
        };
        let outputs = GradientsInto {
            dx: Some(&mut dx),
            dweight: dweight.as_mut(),
            dbias: dbias.as_mut(),
            accumulate: false,
        };
        Self::backward_into(saved, dy, outputs)?;
        Ok((dx, dweight, dbias))
    }

    /// The gradients that `needs` names, and no work for the others.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward); [`Error::Absent`] where dweight or dbias is asked for and the
    /// forward pass had no weight or bias.
    pub fn backward_needs(saved: Saved, dy: &Tensor, needs: Needs) -> Result<Gradients> {
        saved.check_dy(dy)?;
        saved.check_needs(needs.dweight, needs.dbias)?;
        let x = &saved.x;
        let mut gradients = Gradients::default();
        if needs.dx {
            gradients.dx = Some(Tensor::empty(x.dtype(), x.shape(), x.device())?);
        }
        if needs.dweight {
            gradients.dweight = Some(saved.empty_gradient()?);
        }
        if needs.dbias {
            gradients.dbias = Some(saved.empty_gradient()?);
        }
        let outputs = GradientsInto {
            dx: gradients.dx.as_mut(),
            dweight: gradients.dweight.as_mut(),
            dbias: gradients.dbias.as_mut(),
            accumulate: false,
        };
        Self::backward_into(saved, dy, outputs)?;
        Ok(gradients)
    }

    /// The gradients, into a caller's tensors; those that are absent are not computed.
    ///
    /// # Errors
    ///
    /// As [`backward_needs`](Self::backward_needs); [`Error::SharedOutput`] where another tensor can
    /// reach an output's memory.
    pub fn backward_into(saved: Saved, dy: &Tensor, into: GradientsInto<'_>) -> Result<()> {
        saved.check_needs(into.dweight.is_some(), into.dbias.is_some())?;
        saved.inputs(Some(dy)).into_pass(into.into())?.run()
    }

    /// As [`backward`](Self::backward), with dx written over dy.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward); [`Error::SharedOutput`] where another tensor can reach dy's
    /// memory.
    ///
    /// ```
    /// use layernorm_host::{DType, Device, FastLayerNorm, Tensor};
    ///
    /// let device = Device::cpu();
    /// let x = Tensor::from_slice(&[1.0f32, 3.0], &[1, 2], &device)?;
    /// let (_, saved) = FastLayerNorm::forward(&x, None, None, 0.0)?;
    /// let dy = Tensor::ones(DType::F32, &[1, 2], &device)?;
    /// let (dx, _, _) = FastLayerNorm::backward_in_place(saved, dy)?;
    /// assert_eq!(dx.to_vec::<f32>()?, [0.0; 2]);
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn backward_in_place(
        saved: Saved,
        mut dy: Tensor,
    ) -> Result<(Tensor, Option<Tensor>, Option<Tensor>)> {
        saved.check_dy(&dy)?;
        let mut dweight = match saved.weight {
            Some(_) => Some(saved.empty_gradient()?),
            None => None,
        };
        let mut dbias = match saved.has_bias {
            true => Some(saved.empty_gradient()?),
            false => None,
        };
        let outputs = BackwardOutputs {
            dx: Some(&mut dy),
            dweight: dweight.as_mut(),
            dbias: dbias.as_mut(),
            accumulate: false,
        };
        saved.inputs(None).into_pass(outputs)?.run()?;
        Ok((dy, dweight, dbias))
    }

    /// As [`backward`](Self::backward) after [`forward_add`](Self::forward_add): `dsum`, the gradient
    /// that reaches the sum by other ways, is added to dx, which is the gradient of x and of residual.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward), for dsum too.
    ///
    /// ```
    /// use layernorm_host::{DType, Device, FastLayerNorm, Tensor};
    ///
    /// let device = Device::cpu();
    /// let x = Tensor::from_slice(&[1.0f32, 2.0], &[1, 2], &device)?;
    /// let residual = Tensor::from_slice(&[0.0f32, 1.0], &[1, 2], &device)?;
    /// let (_y, _sum, saved) = FastLayerNorm::forward_add(&x, &residual, None, None, 0.0)?;
    /// let dy = Tensor::ones(DType::F32, &[1, 2], &device)?;
    /// let dsum = Tensor::from_slice(&[0.5f32, 0.25], &[1, 2], &device)?;
    /// let (dx, _, _) = FastLayerNorm::backward_add(saved, &dy, &dsum)?;
    /// assert_eq!(dx.to_vec::<f32>()?, [0.5, 0.25]);
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn backward_add(
        saved: Saved,
        dy: &Tensor,
        dsum: &Tensor,
    ) -> Result<(Tensor, Option<Tensor>, Option<Tensor>)> {
        let x = &saved.x;
        saved.check_dy(dy)?;
        let mut dx = Tensor::empty(x.dtype(), x.shape(), x.device())?;
        let mut dweight = match saved.weight {
            Some(_) => Some(saved.empty_gradient()?),
            None => None,
        };
        let mut dbias = match saved.has_bias {
            true => Some(saved.empty_gradient()?),
            false => None,
        };
        let inputs = BackwardInputs {
            dsum: Some(dsum),
            ..saved.inputs(Some(dy))
        };
        let outputs = BackwardOutputs {
            dx: Some(&mut dx),
            dweight: dweight.as_mut(),
            dbias: dbias.as_mut(),
            accumulate: false,
        };
        inputs.into_pass(outputs)?.run()?;
        Ok((dx, dweight, dbias))
    }
}

/// y alone, into new memory: no backward pass can follow.
pub(crate) fn forward_alone(inputs: ForwardInputs<'_>) -> Result<Tensor> {
    let problem = inputs.problem()?;
    let x = inputs.x;
    let mut y = Tensor::empty(x.dtype(), x.shape(), x.device())?;
    inputs.into_pass(&problem, &mut y, None, None)?.run()?;
    Ok(y)
}

/// A forward pass over given trailing dimensions, into new memory.
pub(crate) fn forward(inputs: ForwardInputs<'_>) -> Result<(Tensor, Saved)> {
    inputs.problem()?;
    let x = inputs.x;
    let mut y = Tensor::empty(x.dtype(), x.shape(), x.device())?;
    let saved = forward_into(inputs, &mut y, None)?;
    Ok((y, saved))
}

fn forward_into(
    inputs: ForwardInputs<'_>,
    y: &mut Tensor,
    sum: Option<&mut Tensor>,
) -> Result<Saved> {
    let problem = inputs.problem()?;
    let x = inputs.x;
    let leading = &x.shape()[..x.rank() - inputs.normalized_shape.len()];
    let statistics = x.dtype().accumulator();
    let mut mean = Tensor::empty(statistics, leading, x.device())?;
    let mut rstd = Tensor::empty(statistics, leading, x.device())?;
    let statistics = Statistics {
        mean: &mut mean,
        rstd: &mut rstd,
    };
    inputs
        .into_pass(&problem, y, sum, Some(statistics))?
        .run()?;
    Ok(Saved {
        x: x.clone(),
        weight: inputs.weight.cloned(),
        has_bias: inputs.bias.is_some(),
        mean,
        rstd,
        normalized_shape: inputs.normalized_shape.to_vec(),
        parameter_dtype: problem.parameter_dtype(),
        eps: inputs.eps,
    })
}

/// The dimensions to normalise over, where the parameters say them.
fn shape_of_parameters(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
) -> Result<Vec<usize>> {
    let last = x.shape().last().ok_or(Error::RankZero { name: "x" })?;
    Ok(match weight.or(bias) {
        // A single dimension of another length is best told as that.
        Some(parameter) if parameter.rank() > 1 => parameter.shape().to_vec(),
        _ => vec![*last],
    })
}
