//! A forward or backward pass over tensors, checked: shapes, dtypes, devices, layouts and ownership of the
//! outputs all agree. Devices run a pass and check nothing again.

use crate::cpu;
use crate::device::Kind;
use crate::problem::{Problem, Strides, elements, parameter, rows_of};
use crate::trace::span;
use crate::{DType, Element, Error, Result, Tensor};

/// What a forward pass reads.
#[derive(Clone, Copy)]
pub struct ForwardInputs<'a> {
    pub x: &'a Tensor,
    pub residual: Option<&'a Tensor>,
    pub weight: Option<&'a Tensor>,
    pub bias: Option<&'a Tensor>,
    pub normalized_shape: &'a [usize],
    pub eps: f32,
}

/// A forward pass whose operands have been checked.
pub struct ForwardPass<'a> {
    pub problem: Problem,
    pub x: &'a Tensor,
    pub residual: Option<&'a Tensor>,
    pub weight: Option<&'a Tensor>,
    pub bias: Option<&'a Tensor>,
    pub y: &'a mut Tensor,
    pub sum: Option<&'a mut Tensor>,
    pub statistics: Option<Statistics<'a>>,
}

/// What a backward pass needs of a forward pass, beside what that read.
pub struct Statistics<'a> {
    pub mean: &'a mut Tensor,
    pub rstd: &'a mut Tensor,
}

impl Statistics<'_> {
    /// mean and rstd of so many rows at a time.
    pub fn host_chunks_mut<T: Element>(
        &mut self,
        rows: usize,
    ) -> Result<impl Iterator<Item = [&mut [T]; 2]>> {
        let mean = self.mean.host_slice_mut()?.chunks_mut(rows);
        let rstd = self.rstd.host_slice_mut()?.chunks_mut(rows);
        Ok(mean.zip(rstd).map(<[_; 2]>::from))
    }
}

/// What a backward pass reads. `x` is what the forward pass normalised.
#[derive(Clone, Copy)]
pub struct BackwardInputs<'a> {
    /// Where absent, dx holds dy.
    pub dy: Option<&'a Tensor>,
    pub x: &'a Tensor,
    pub weight: Option<&'a Tensor>,
    pub mean: &'a Tensor,
    pub rstd: &'a Tensor,
    pub dsum: Option<&'a Tensor>,
    pub normalized_shape: &'a [usize],
    pub parameter_dtype: DType,
    pub eps: f32,
}

/// What a backward pass writes.
#[derive(Default)]
pub struct BackwardOutputs<'a> {
    pub dx: Option<&'a mut Tensor>,
    pub dweight: Option<&'a mut Tensor>,
    pub dbias: Option<&'a mut Tensor>,
    /// dweight and dbias are added to.
    pub accumulate: bool,
}

/// A backward pass whose operands have been checked.
pub struct BackwardPass<'a> {
    pub problem: Problem,
    pub dy: Option<&'a Tensor>,
    pub x: &'a Tensor,
    pub weight: Option<&'a Tensor>,
    pub mean: &'a Tensor,
    pub rstd: &'a Tensor,
    pub dsum: Option<&'a Tensor>,
    pub dx: Option<&'a mut Tensor>,
    pub dweight: Option<&'a mut Tensor>,
    pub dbias: Option<&'a mut Tensor>,
    pub accumulate: bool,
}

impl<'a> ForwardInputs<'a> {
    /// The problem, with y contiguous.
    pub fn problem(&self) -> Result<Problem> {
        let x = self.x;
        let (n_rows, n_cols) = rows_of(x.shape(), self.normalized_shape)?;
        for (name, tensor) in [("weight", self.weight), ("bias", self.bias)] {
            if let Some(tensor) = tensor {
                check_parameter(name, tensor, x, self.normalized_shape, n_cols)?;
            }
        }
        let parameter_dtype = self.parameter_dtype()?;
        let problem = Problem::new(n_rows, n_cols, x.dtype(), parameter_dtype, self.eps)?;
        if let Some(residual) = self.residual {
            check_rows("residual", residual, x)?;
            same_stride("residual", residual, "x", x)?;
        }
        let x_stride = row_stride("x", x, self.normalized_shape)?;
        problem.with_strides(Strides {
            x: x_stride,
            ..problem.strides()
        })
    }

    /// The dtype of weight and bias, which have one; x's where both are absent.
    pub fn parameter_dtype(&self) -> Result<DType> {
        match (self.weight, self.bias) {
            (Some(weight), Some(bias)) if weight.dtype() != bias.dtype() => {
                Err(Error::DTypeMismatch {
                    name: "bias",
                    got: bias.dtype(),
                    allowed: vec![weight.dtype()],
                })
            }
            (Some(tensor), _) | (None, Some(tensor)) => Ok(tensor.dtype()),
            (None, None) => Ok(self.x.dtype()),
        }
    }

    /// Adds the outputs. `problem` is this input's.
    pub fn into_pass(
        self,
        problem: &Problem,
        y: &'a mut Tensor,
        mut sum: Option<&'a mut Tensor>,
        mut statistics: Option<Statistics<'a>>,
    ) -> Result<ForwardPass<'a>> {
        let x = self.x;
        check_rows("y", y, x)?;
        if let Some(sum) = &mut sum {
            check_rows("sum", sum, x)?;
            same_stride("sum", sum, "y", y)?;
            sum.require_unique("sum")?;
        }
        let strides = Strides {
            y: row_stride("y", y, self.normalized_shape)?,
            ..problem.strides()
        };
        y.require_unique("y")?;
        if let Some(Statistics { mean, rstd }) = &mut statistics {
            mean.require_unique("mean")?;
            rstd.require_unique("rstd")?;
        }
        Ok(ForwardPass {
            problem: problem.with_strides(strides)?,
            x,
            residual: self.residual,
            weight: self.weight,
            bias: self.bias,
            y,
            sum,
            statistics,
        })
    }
}

impl ForwardPass<'_> {
    /// Runs the pass on x's device.
    pub fn run(&mut self) -> Result<()> {
        span!("forward", device = %self.x.device(), problem = ?self.problem);
        match &self.x.device().kind {
            Kind::Cpu { .. } => cpu::forward(self),
            Kind::Cuda(device) => device.forward(self),
        }
    }
}

impl<'a> BackwardInputs<'a> {
    /// Adds the outputs.
    pub fn into_pass(self, outputs: BackwardOutputs<'a>) -> Result<BackwardPass<'a>> {
        let x = self.x;
        let (n_rows, n_cols) = rows_of(x.shape(), self.normalized_shape)?;
        let problem = Problem::new(n_rows, n_cols, x.dtype(), self.parameter_dtype, self.eps)?;
        let BackwardOutputs {
            mut dx,
            mut dweight,
            mut dbias,
            accumulate,
        } = outputs;
        let mut strides = Strides {
            x: row_stride("x", x, self.normalized_shape)?,
            ..problem.strides()
        };
        if let Some(dx) = &mut dx {
            check_rows("dx", dx, x)?;
            dx.require_unique("dx")?;
            strides.dx = row_stride("dx", dx, self.normalized_shape)?;
            // In place, dx is dy.
            strides.dy = strides.dx;
        }
        if let Some(dy) = self.dy {
            check_rows("dy", dy, x)?;
            strides.dy = row_stride("dy", dy, self.normalized_shape)?;
        }
        if let Some(dsum) = self.dsum {
            check_rows("dsum", dsum, x)?;
            match &dx {
                Some(dx) => same_stride("dsum", dsum, "dx", dx)?,
                None => dsum.require_contiguous("dsum")?,
            }
        }
        for (name, gradient) in [("dweight", &mut dweight), ("dbias", &mut dbias)] {
            if let Some(gradient) = gradient {
                check_parameter(name, gradient, x, self.normalized_shape, n_cols)?;
                if gradient.dtype() != self.parameter_dtype {
                    return Err(Error::DTypeMismatch {
                        name,
                        got: gradient.dtype(),
                        allowed: vec![self.parameter_dtype],
                    });
                }
                gradient.require_unique(name)?;
            }
        }
        Ok(BackwardPass {
            problem: problem.with_strides(strides)?,
            dy: self.dy,
            x,
            weight: self.weight,
            mean: self.mean,
            rstd: self.rstd,
            dsum: self.dsum,
            dx,
            dweight,
            dbias,
            accumulate,
        })
    }
}

impl BackwardPass<'_> {
    /// Runs the pass on x's device.
    pub fn run(&mut self) -> Result<()> {
        span!("backward", device = %self.x.device(), problem = ?self.problem);
        match &self.x.device().kind {
            Kind::Cpu { .. } => cpu::backward(self),
            Kind::Cuda(device) => device.backward(self),
        }
    }
}

/// A tensor with a row for every row of x.
fn check_rows(name: &'static str, tensor: &Tensor, x: &Tensor) -> Result<()> {
    if tensor.shape() != x.shape() {
        return Err(Error::Shape {
            name,
            got: tensor.shape().to_vec(),
            expected: x.shape().to_vec(),
        });
    }
    if tensor.dtype() != x.dtype() {
        return Err(Error::DTypeMismatch {
            name,
            got: tensor.dtype(),
            allowed: vec![x.dtype()],
        });
    }
    check_device(name, tensor, x)
}

/// weight, bias, or the gradient of one.
fn check_parameter(
    name: &'static str,
    tensor: &Tensor,
    x: &Tensor,
    normalized_shape: &[usize],
    n_cols: usize,
) -> Result<()> {
    if tensor.len() != n_cols {
        return Err(Error::ParameterLength {
            name,
            got: elements(name, tensor.shape())?,
            n_cols,
        });
    }
    if tensor.shape() != normalized_shape {
        return Err(Error::Shape {
            name,
            got: tensor.shape().to_vec(),
            expected: normalized_shape.to_vec(),
        });
    }
    parameter(name, x.dtype(), tensor.dtype())?;
    tensor.require_contiguous(name)?;
    check_device(name, tensor, x)
}

fn check_device(name: &'static str, tensor: &Tensor, x: &Tensor) -> Result<()> {
    if tensor.device().is_same(x.device()) {
        return Ok(());
    }
    Err(Error::OtherDevice {
        name,
        got: tensor.device().to_string(),
        expected: x.device().to_string(),
    })
}

/// Elements from one row, over all of the normalized dimensions, to the next.
fn row_stride(name: &'static str, tensor: &Tensor, normalized_shape: &[usize]) -> Result<usize> {
    if normalized_shape.len() == 1 {
        return Ok(tensor.row_stride());
    }
    tensor.require_contiguous(name)?;
    Ok(normalized_shape.iter().product())
}

fn same_stride(name: &'static str, tensor: &Tensor, of: &str, other: &Tensor) -> Result<()> {
    // With no second row to reach, a stride means nothing.
    let without_gaps = tensor.is_contiguous() && other.is_contiguous();
    if without_gaps || tensor.row_stride() == other.row_stride() {
        return Ok(());
    }
    Err(Error::Layout {
        name,
        problem: format!(
            "its rows lie {} elements apart, those of {of} {}",
            tensor.row_stride(),
            other.row_stride()
        ),
        advice: "both must have one row stride; Tensor::copy makes a contiguous tensor",
    })
}
