//! A tensor's memory under another shape, or a part of it. Nothing is copied.

use std::ops::Range;

use crate::problem::elements;
use crate::{Error, Result, Tensor};

impl Tensor {
    /// The same elements in another shape.
    ///
    /// # Errors
    ///
    /// [`Error::ElementCount`] where the shape has another number of elements; [`Error::Layout`] where
    /// rows lie apart.
    ///
    /// ```
    /// use layernorm_host::{Device, Tensor};
    ///
    /// let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2], &Device::cpu())?;
    /// assert_eq!(x.reshape(&[1, 4])?.shape(), [1, 4]);
    /// assert!(x.columns(0..1)?.reshape(&[2]).is_err()); // would need a copy: x.columns(0..1)?.copy()?
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        self.require_contiguous("the tensor")?;
        let expected = elements("shape", shape)?;
        if expected != self.len() {
            return Err(Error::ElementCount {
                shape: shape.to_vec(),
                got: self.len(),
                expected,
            });
        }
        Ok(Tensor {
            shape: shape.to_vec(),
            row_stride: shape.last().copied().unwrap_or(1),
            ..self.clone()
        })
    }

    /// A view of some columns of every row. It shares the memory.
    ///
    /// # Errors
    ///
    /// [`Error::Layout`] where the range reaches past the last column; [`Error::RankZero`].
    pub fn columns(&self, range: Range<usize>) -> Result<Self> {
        let last = self.rank().checked_sub(1);
        let last = last.ok_or(Error::RankZero { name: "the tensor" })?;
        self.check_range(&range, self.shape[last], "columns")?;
        let mut view = self.clone();
        view.shape[last] = range.len();
        view.move_to(range.start);
        Ok(view)
    }

    /// A view of some of the first dimension. It shares the memory.
    ///
    /// # Errors
    ///
    /// [`Error::Layout`] where the range reaches past the end; [`Error::RankZero`] below rank 2.
    ///
    /// ```
    /// use layernorm_host::{Device, Tensor};
    ///
    /// let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2], &Device::cpu())?;
    /// assert_eq!(x.rows_in(1..2)?.to_vec::<f32>()?, [3.0, 4.0]);
    /// assert_eq!(x.columns(1..2)?.to_vec::<f32>()?, [2.0, 4.0]);
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn rows_in(&self, range: Range<usize>) -> Result<Self> {
        if self.rank() < 2 {
            return Err(Error::RankZero {
                name: "a row of the tensor",
            });
        }
        self.check_range(&range, self.shape[0], "rows")?;
        let rows_each: usize = self.shape[1..self.rank() - 1].iter().product();
        let mut view = self.clone();
        view.shape[0] = range.len();
        view.move_to(range.start * rows_each * self.row_stride);
        Ok(view)
    }

    /// Starts some elements further on; but a view of nothing stays, since what it would start at need not
    /// be there.
    fn move_to(&mut self, elements: usize) {
        if !self.is_empty() {
            self.offset += elements;
        }
    }

    /// A view of all the tensor's memory, gaps between rows included, as one dimension.
    ///
    /// # Errors
    ///
    /// [`Error::RankZero`] for a tensor of rank 0.
    pub fn with_gaps(&self) -> Result<Self> {
        if self.rank() == 0 {
            return Err(Error::RankZero { name: "the tensor" });
        }
        let span = self.span();
        Ok(Tensor {
            shape: vec![span],
            row_stride: span,
            ..self.clone()
        })
    }

    fn check_range(&self, range: &Range<usize>, len: usize, of: &str) -> Result<()> {
        if range.start <= range.end && range.end <= len {
            return Ok(());
        }
        Err(Error::Layout {
            name: "the view",
            problem: format!("{of} {range:?} of {len}"),
            advice: "a range must lie within the tensor",
        })
    }
}
