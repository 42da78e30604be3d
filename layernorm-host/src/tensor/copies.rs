//! A tensor's elements to the host, from it, and to other devices.

use bytemuck::Pod;
use half::{bf16, f16};

use crate::device::Storage;
use crate::device::cuda::PinnedBytes;
use crate::host;
use crate::{DType, Device, Element, Error, Result, Tensor};

impl Tensor {
    /// The elements in row-major order, copied to the host.
    ///
    /// # Errors
    ///
    /// [`Error::DTypeMismatch`] where `T` is not the tensor's type; [`Error::Cuda`] where the work
    /// that writes the tensor, or the copy, failed.
    ///
    /// ```
    /// use layernorm_host::{Device, Error, Tensor};
    ///
    /// let x = Tensor::from_slice(&[1.0f64, 2.0], &[2], &Device::cpu())?;
    /// assert_eq!(x.to_vec::<f64>()?, [1.0, 2.0]);
    /// assert!(matches!(x.to_vec::<f32>(), Err(Error::DTypeMismatch { .. })));
    /// assert_eq!(x.to_f32_vec()?, [1.0, 2.0]);
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.check_element::<T>("to_vec's element type")?;
        self.gathered(1)
    }

    /// The elements in row-major order, each as `per` units.
    fn gathered<U: Pod>(&self, per: usize) -> Result<Vec<U>> {
        let mut units: Vec<U> = host::zeros(self.span() * per)?;
        self.storage
            .read(self.byte_offset(), bytemuck::cast_slice_mut(&mut units))?;
        if self.is_contiguous() || units.is_empty() {
            return Ok(units);
        }
        // Every row moves to the end of the one before it.
        let (n_rows, n_cols) = self.rows();
        let (stride, len) = (self.row_stride * per, n_cols * per);
        for r in 1..n_rows {
            units.copy_within(r * stride..r * stride + len, r * len);
        }
        units.truncate(n_rows * len);
        units.shrink_to_fit();
        Ok(units)
    }

    /// The elements' bytes in row-major order, little-endian, copied to the host.
    ///
    /// # Errors
    ///
    /// As [`Tensor::to_vec`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.gathered(self.dtype.size())
    }

    /// The elements in row-major order as f32: exactly, but for f64, which is rounded to nearest even.
    ///
    /// # Errors
    ///
    /// As [`Tensor::to_vec`].
    pub fn to_f32_vec(&self) -> Result<Vec<f32>> {
        match self.dtype {
            DType::F32 => self.to_vec::<f32>(),
            DType::F16 => host::collected(self.to_vec::<f16>()?.into_iter().map(f32::from)),
            DType::BF16 => host::collected(self.to_vec::<bf16>()?.into_iter().map(f32::from)),
            DType::F64 => host::collected(self.to_vec()?.into_iter().map(|v: f64| v as f32)),
        }
    }

    /// The elements in row-major order as f64, which holds every value of every dtype.
    ///
    /// # Errors
    ///
    /// As [`Tensor::to_vec`].
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        if self.dtype == DType::F64 {
            return self.to_vec::<f64>();
        }
        host::collected(self.to_f32_vec()?.into_iter().map(f64::from))
    }

    /// Replaces the elements by `data`, in row-major order.
    ///
    /// # Errors
    ///
    /// [`Error::ElementCount`]; [`Error::DTypeMismatch`]; [`Error::SharedOutput`]; [`Error::Layout`]
    /// where rows lie apart; [`Error::Cuda`].
    ///
    /// ```
    /// use layernorm_host::{DType, Device, Tensor};
    ///
    /// let mut x = Tensor::zeros(DType::F32, &[2], &Device::cpu())?;
    /// x.copy_from_slice(&[1.0f32, 2.0])?;
    /// assert_eq!(x.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn copy_from_slice<T: Element>(&mut self, data: &[T]) -> Result<()> {
        self.check_copy::<T>(data.len())?;
        let start = self.offset * self.dtype.size();
        self.unique("the tensor")?
            .write(start, bytemuck::cast_slice(data))
    }

    /// Replaces the elements by another tensor's of the same dtype, shape and device, without a way over the
    /// host. On the CPU the cores share the work; on a CUDA device the copy goes behind the work given to
    /// this tensor's stream.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`]; [`Error::DTypeMismatch`]; [`Error::OtherDevice`]; [`Error::SharedOutput`];
    /// [`Error::Layout`] where rows of either lie apart; [`Error::Cuda`].
    ///
    /// ```
    /// use layernorm_host::{DType, Device, Tensor};
    ///
    /// let from = Tensor::ones(DType::F32, &[2, 3], &Device::cpu())?;
    /// let mut to = Tensor::zeros(DType::F32, &[2, 3], &Device::cpu())?;
    /// to.copy_from(&from)?;
    /// assert_eq!(to.to_vec::<f32>()?, [1.0; 6]);
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn copy_from(&mut self, other: &Tensor) -> Result<()> {
        if other.shape != self.shape {
            return Err(Error::Shape {
                name: "the copied tensor",
                got: other.shape.clone(),
                expected: self.shape.clone(),
            });
        }
        if other.dtype != self.dtype {
            return Err(Error::DTypeMismatch {
                name: "the copied tensor",
                got: other.dtype,
                allowed: vec![self.dtype],
            });
        }
        if !other.device.is_same(&self.device) {
            return Err(Error::OtherDevice {
                name: "the copied tensor",
                got: other.device.to_string(),
                expected: self.device.to_string(),
            });
        }
        self.require_contiguous("the tensor")?;
        other.require_contiguous("the copied tensor")?;
        let bytes = self.span() * self.dtype.size();
        let start = self.byte_offset();
        self.unique("the tensor")?
            .copy_from(start, &other.storage, other.byte_offset(), bytes)
    }

    /// Checks a copy of `got` elements of a type from or to this tensor.
    pub(crate) fn check_copy<T: Element>(&self, got: usize) -> Result<()> {
        self.check_element::<T>("the copy's element type")?;
        self.require_contiguous("the tensor")?;
        if got == self.len() {
            return Ok(());
        }
        Err(Error::ElementCount {
            shape: self.shape.clone(),
            got,
            expected: self.len(),
        })
    }

    /// # Safety
    ///
    /// As for `Buffer::write_async`.
    pub(crate) unsafe fn write_async(&mut self, from: &PinnedBytes) -> Result<()> {
        let start = self.byte_offset();
        match self.unique("the tensor")? {
            Storage::Host(memory) => memory.write(start, from.bytes()),
            // SAFETY: the caller's.
            Storage::Cuda(buffer) => return unsafe { buffer.write_async(start, from) },
        }
        Ok(())
    }

    /// # Safety
    ///
    /// As for `Buffer::read_async`.
    pub(crate) unsafe fn read_async(&self, into: &mut PinnedBytes) -> Result<()> {
        let start = self.byte_offset();
        match &*self.storage {
            Storage::Host(memory) => {
                let len = into.bytes().len();
                into.bytes_mut()
                    .copy_from_slice(memory.bytes_of(start, len));
            }
            // SAFETY: the caller's.
            Storage::Cuda(buffer) => return unsafe { buffer.read_async(start, into) },
        }
        Ok(())
    }

    /// Sets every byte of the tensor's memory, gaps between rows included: 0xFF makes NaN in every
    /// dtype.
    ///
    /// # Errors
    ///
    /// [`Error::SharedOutput`], [`Error::Cuda`].
    pub fn fill_bytes(&mut self, byte: u8) -> Result<()> {
        self.unique("the tensor")?.fill(byte)
    }

    /// A contiguous copy on the same device.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], [`Error::Cuda`].
    pub fn copy(&self) -> Result<Self> {
        self.to_device(&self.device)
    }

    /// A contiguous copy on another device, by way of the host.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], [`Error::Cuda`].
    ///
    /// ```
    /// use layernorm_host::{DType, Device, Tensor};
    ///
    /// let x = Tensor::ones(DType::F32, &[2, 3], &Device::cpu())?;
    /// let there = x.to_device(&Device::auto()?)?;
    /// assert_eq!(there.to_vec::<f32>()?, [1.0; 6]);
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        if let (Storage::Host(memory), true) = (&*self.storage, self.is_contiguous()) {
            let bytes = memory.bytes_of(self.byte_offset(), self.span() * self.dtype.size());
            return Self::from_bytes(bytes, self.dtype, &self.shape, device);
        }
        match self.dtype {
            DType::F32 => self.copied::<f32>(device),
            DType::F16 => self.copied::<f16>(device),
            DType::BF16 => self.copied::<bf16>(device),
            DType::F64 => self.copied::<f64>(device),
        }
    }

    fn copied<T: Element>(&self, device: &Device) -> Result<Self> {
        Self::from_slice(&self.to_vec::<T>()?, &self.shape, device)
    }
}
