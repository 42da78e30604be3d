//! Tensors from and to `ndarray`'s arrays.

use ndarray::{ArrayD, ArrayView, Dimension};

use crate::{Device, Element, Error, Result, Tensor};

impl Tensor {
    /// A tensor with a copy of an array, which must be in standard layout (row-major, no gaps).
    ///
    /// # Errors
    ///
    /// [`Error::Layout`] for another layout, which would need a second copy that is not to be hidden; and as
    /// [`Tensor::from_slice`].
    ///
    /// ```
    /// use layernorm_host::{Device, Tensor};
    /// use ndarray::array;
    ///
    /// let x = array![[1.0f32, 2.0], [3.0, 4.0]];
    /// let tensor = Tensor::from_ndarray(x.view(), &Device::auto()?)?;
    /// assert_eq!(tensor.to_ndarray::<f32>()?, x.clone().into_dyn());
    /// assert!(Tensor::from_ndarray(x.t(), &Device::auto()?).is_err());
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn from_ndarray<T: Element, D: Dimension>(
        array: ArrayView<'_, T, D>,
        device: &Device,
    ) -> Result<Self> {
        let data = array.as_slice().ok_or_else(|| Error::Layout {
            name: "the array",
            problem: format!(
                "its strides are {:?} for shape {:?}",
                array.strides(),
                array.shape()
            ),
            advice: "as_standard_layout makes a row-major copy",
        })?;
        Self::from_slice(data, array.shape(), device)
    }

    /// The elements as an array, copied to the host.
    ///
    /// # Errors
    ///
    /// As [`Tensor::to_vec`].
    pub fn to_ndarray<T: Element>(&self) -> Result<ArrayD<T>> {
        let data = self.to_vec()?;
        let got = data.len();
        ArrayD::from_shape_vec(self.shape(), data).map_err(|_| Error::ElementCount {
            shape: self.shape().to_vec(),
            got,
            expected: self.len(),
        })
    }
}
