//! What is to be computed, checked once: shapes, dtypes, strides, sizes, eps. Everything further in takes a
//! [`Problem`] and checks none of it again. Nothing here knows CUDA.

use crate::{DType, Error, Result};

/// The most columns a row may have: kernels index columns with 32 bits.
pub const MAX_COLS: usize = i32::MAX as usize;

/// The most bytes an operand may span, as for any Rust allocation.
const MAX_BYTES: usize = isize::MAX as usize;

/// Elements from one row to the next, of each operand that has rows.
///
/// A fused residual has x's stride, the sum that is written y's, and the gradient that is added to dx
/// dx's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// Of x.
    pub x: usize,
    /// Of y.
    pub y: usize,
    /// Of dy.
    pub dy: usize,
    /// Of dx.
    pub dx: usize,
}

/// A LayerNorm over `n_rows` rows of `n_cols` columns, whose values have been checked.
///
/// ```
/// use layernorm_host::{DType, Problem};
///
/// let problem = Problem::new(8192, 4096, DType::BF16, DType::F32, 1e-5)?;
/// assert_eq!(problem.n_rows(), 8192);
/// assert!(Problem::new(8192, 0, DType::BF16, DType::F32, 1e-5).is_err());
/// # Ok::<(), layernorm_host::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Problem {
    n_rows: usize,
    n_cols: u32,
    dtype: DType,
    parameter_dtype: DType,
    eps: f32,
    strides: Strides,
}

impl Problem {
    /// A problem whose operands are contiguous.
    ///
    /// `dtype` is that of x, y, dy and dx; `parameter_dtype` that of weight, bias and their gradients:
    /// the same, or f32 for f16 and bf16.
    ///
    /// # Errors
    ///
    /// `n_cols` 0 or above [`MAX_COLS`], a `parameter_dtype` that is neither, an eps that is negative
    /// or not finite, a size above `isize::MAX` bytes.
    pub fn new(
        n_rows: usize,
        n_cols: usize,
        dtype: DType,
        parameter_dtype: DType,
        eps: f32,
    ) -> Result<Self> {
        let columns = columns(n_rows, n_cols)?;
        parameter("weight", dtype, parameter_dtype)?;
        if !(eps.is_finite() && eps >= 0.0) {
            return Err(Error::Eps { got: eps });
        }
        let strides = Strides {
            x: n_cols,
            y: n_cols,
            dy: n_cols,
            dx: n_cols,
        };
        Problem {
            n_rows,
            n_cols: columns,
            dtype,
            parameter_dtype,
            eps,
            strides,
        }
        .with_strides(strides)
    }

    /// The same problem over operands whose rows lie further apart than `n_cols` elements.
    ///
    /// # Errors
    ///
    /// A stride below `n_cols` where there are two rows or more, a span above `isize::MAX` bytes.
    ///
    /// ```
    /// use layernorm_host::{DType, Problem, Strides};
    ///
    /// let problem = Problem::new(64, 384, DType::F32, DType::F32, 1e-5)?;
    /// // x is a third of the columns of a wider tensor.
    /// let problem = problem.with_strides(Strides { x: 1152, ..problem.strides() })?;
    /// assert_eq!((problem.strides().x, problem.strides().y), (1152, 384));
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn with_strides(self, strides: Strides) -> Result<Self> {
        for (name, stride) in [
            ("x", strides.x),
            ("y", strides.y),
            ("dy", strides.dy),
            ("dx", strides.dx),
        ] {
            check_span(name, self.n_rows, self.n_cols(), stride, self.dtype)?;
        }
        // With no second row to reach, a stride means nothing.
        let contiguous = Strides {
            x: self.n_cols(),
            y: self.n_cols(),
            dy: self.n_cols(),
            dx: self.n_cols(),
        };
        let strides = if self.n_rows > 1 { strides } else { contiguous };
        Ok(Problem { strides, ..self })
    }

    /// Rows; may be 0.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Columns, the hidden size; at least 1.
    pub fn n_cols(&self) -> usize {
        self.n_cols as usize
    }

    /// Columns as the kernels take them.
    pub(crate) fn n_cols_u32(&self) -> u32 {
        self.n_cols
    }

    /// The dtype of x, y, dy and dx.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dtype of weight, bias, dweight and dbias.
    pub fn parameter_dtype(&self) -> DType {
        self.parameter_dtype
    }

    /// What is added to the variance.
    pub fn eps(&self) -> f32 {
        self.eps
    }

    /// Elements from one row to the next.
    pub fn strides(&self) -> Strides {
        self.strides
    }
}

/// Splits a shape into rows and columns: the trailing dimensions `normalized_shape` are the columns.
pub(crate) fn rows_of(shape: &[usize], normalized_shape: &[usize]) -> Result<(usize, usize)> {
    if shape.is_empty() {
        return Err(Error::RankZero { name: "x" });
    }
    if normalized_shape.is_empty() {
        return Err(Error::RankZero {
            name: "normalized_shape",
        });
    }
    if !shape.ends_with(normalized_shape) {
        return Err(Error::NormalizedShape {
            x: shape.to_vec(),
            normalized_shape: normalized_shape.to_vec(),
        });
    }
    let leading = &shape[..shape.len() - normalized_shape.len()];
    let n_cols = elements("x", normalized_shape)?;
    if n_cols == 0 {
        return Err(Error::NoColumns {
            name: "x",
            shape: shape.to_vec(),
        });
    }
    Ok((elements("x", leading)?, n_cols))
}

/// Elements of a shape. A dimension of 0 does not excuse the others from being small enough.
pub(crate) fn elements(name: &'static str, shape: &[usize]) -> Result<usize> {
    let overflow = || Error::Overflow {
        name,
        shape: shape.to_vec(),
        stride: shape.last().copied().unwrap_or(0),
        max: MAX_BYTES,
    };
    let nonzero = shape
        .iter()
        .filter(|&&dimension| dimension != 0)
        .try_fold(1usize, |product, &dimension| product.checked_mul(dimension))
        .filter(|&product| product <= MAX_BYTES)
        .ok_or_else(overflow)?;
    Ok(if shape.contains(&0) { 0 } else { nonzero })
}

/// Checks that a parameter's dtype is x's own or f32.
pub(crate) fn parameter(name: &'static str, x: DType, got: DType) -> Result<()> {
    let allowed = x.parameter_dtypes();
    if allowed.contains(&got) {
        Ok(())
    } else {
        Err(Error::DTypeMismatch { name, got, allowed })
    }
}

/// Elements from the first row's first to the last row's last, checked against overlap and overflow.
pub(crate) fn check_span(
    name: &'static str,
    n_rows: usize,
    n_cols: usize,
    stride: usize,
    dtype: DType,
) -> Result<usize> {
    if n_rows > 1 && stride < n_cols {
        return Err(Error::Layout {
            name,
            problem: format!(
                "rows of {n_cols} columns lie {stride} elements apart, so they overlap"
            ),
            advice: "the row stride must be at least n_cols",
        });
    }
    if n_rows == 0 {
        return Ok(0);
    }
    (n_rows - 1)
        .checked_mul(stride)
        .and_then(|before| before.checked_add(n_cols))
        .filter(|&span| span <= MAX_BYTES / dtype.size())
        .ok_or_else(|| Error::Overflow {
            name,
            shape: vec![n_rows, n_cols],
            stride,
            max: MAX_BYTES,
        })
}

fn columns(n_rows: usize, n_cols: usize) -> Result<u32> {
    match u32::try_from(n_cols) {
        Ok(0) => Err(Error::NoColumns {
            name: "x",
            shape: vec![n_rows, n_cols],
        }),
        Ok(columns) if n_cols <= MAX_COLS => Ok(columns),
        _ => Err(Error::TooManyColumns {
            n_cols,
            max: MAX_COLS,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(n_rows: usize, n_cols: usize) -> Result<Problem> {
        Problem::new(n_rows, n_cols, DType::F16, DType::F32, 1e-5)
    }

    #[test]
    fn shapes_split_into_rows_and_columns() {
        assert_eq!(rows_of(&[4, 20, 384], &[384]).unwrap(), (80, 384));
        assert_eq!(rows_of(&[4, 20, 384], &[20, 384]).unwrap(), (4, 7680));
        assert_eq!(rows_of(&[384], &[384]).unwrap(), (1, 384));
        assert_eq!(rows_of(&[0, 384], &[384]).unwrap(), (0, 384));
    }

    #[test]
    fn shapes_that_do_not_fit_are_named() {
        assert!(matches!(
            rows_of(&[], &[4]),
            Err(Error::RankZero { name: "x" })
        ));
        assert!(matches!(rows_of(&[4], &[]), Err(Error::RankZero { .. })));
        assert!(matches!(
            rows_of(&[3, 0], &[0]),
            Err(Error::NoColumns { .. })
        ));
        let error = rows_of(&[2, 1023], &[1024]).unwrap_err().to_string();
        assert!(
            error.contains("[2, 1023]") && error.contains("[1024]"),
            "{error}"
        );
    }

    #[test]
    fn sizes_that_overflow_are_errors() {
        assert!(matches!(
            elements("x", &[usize::MAX, 2]),
            Err(Error::Overflow { .. })
        ));
        assert!(matches!(
            elements("x", &[0, usize::MAX, 2]),
            Err(Error::Overflow { .. })
        ));
        assert!(matches!(
            problem(usize::MAX / 4, 1024),
            Err(Error::Overflow { .. })
        ));
        assert!(matches!(
            problem(1, MAX_COLS + 1),
            Err(Error::TooManyColumns { .. })
        ));
        let strides = Strides {
            x: usize::MAX,
            y: 8,
            dy: 8,
            dx: 8,
        };
        let strided = problem(3, 8).unwrap().with_strides(strides);
        assert!(matches!(strided, Err(Error::Overflow { name: "x", .. })));
    }

    #[test]
    fn eps_must_be_finite_and_not_negative() {
        for eps in [-1e-5, f32::NAN, f32::INFINITY, -0.5] {
            let got = Problem::new(1, 1, DType::F32, DType::F32, eps);
            assert!(matches!(got, Err(Error::Eps { .. })), "{eps}");
        }
        assert!(Problem::new(1, 1, DType::F32, DType::F32, 0.0).is_ok());
    }

    #[test]
    fn parameters_have_the_dtype_of_x_or_f32() {
        assert!(Problem::new(1, 1, DType::BF16, DType::BF16, 0.0).is_ok());
        assert!(Problem::new(1, 1, DType::BF16, DType::F32, 0.0).is_ok());
        for (x, weight) in [(DType::F32, DType::F16), (DType::BF16, DType::F16)] {
            let error = Problem::new(1, 1, x, weight, 0.0).unwrap_err();
            assert!(matches!(error, Error::DTypeMismatch { name: "weight", .. }));
        }
    }

    #[test]
    fn rows_must_not_overlap() {
        let contiguous = problem(2, 8).unwrap();
        let strides = Strides {
            y: 7,
            ..contiguous.strides()
        };
        assert!(matches!(
            contiguous.with_strides(strides),
            Err(Error::Layout { name: "y", .. })
        ));
        let one_row = problem(1, 8).unwrap();
        assert_eq!(one_row.with_strides(strides).unwrap().strides().y, 8);
    }
}
