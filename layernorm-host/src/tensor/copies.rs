//! A tensor's elements to the host, from it, and to other devices.

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
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.check_element::<T>("to_vec's element type")?;
        let (n_rows, n_cols) = self.rows();
        let mut span = host::zeros(self.span())?;
        self.storage
            .read(self.byte_offset(), bytemuck::cast_slice_mut(&mut span))?;
        if self.is_contiguous() {
            return Ok(span);
        }
        let mut data = Vec::with_capacity(n_rows * n_cols);
        for row in span.chunks(self.row_stride) {
            data.extend_from_slice(&row[..n_cols]);
        }
        Ok(data)
    }

    /// The elements' bytes in row-major order, little-endian, copied to the host.
    ///
    /// # Errors
    ///
    /// As [`Tensor::to_vec`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(match self.dtype {
            DType::F32 => bytemuck::cast_slice(&self.to_vec::<f32>()?).to_vec(),
            DType::F16 => bytemuck::cast_slice(&self.to_vec::<half::f16>()?).to_vec(),
            DType::BF16 => bytemuck::cast_slice(&self.to_vec::<half::bf16>()?).to_vec(),
            DType::F64 => bytemuck::cast_slice(&self.to_vec::<f64>()?).to_vec(),
        })
    }

    /// The elements in row-major order as f32: exactly, but for f64, which is rounded to nearest even.
    ///
    /// # Errors
    ///
    /// As [`Tensor::to_vec`].
    pub fn to_f32_vec(&self) -> Result<Vec<f32>> {
        Ok(match self.dtype {
            DType::F32 => self.to_vec::<f32>()?,
            DType::F16 => self
                .to_vec::<half::f16>()?
                .into_iter()
                .map(f32::from)
                .collect(),
            DType::BF16 => self
                .to_vec::<half::bf16>()?
                .into_iter()
                .map(f32::from)
                .collect(),
            DType::F64 => self
                .to_vec::<f64>()?
                .into_iter()
                .map(|value| value as f32)
                .collect(),
        })
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
        Ok(self.to_f32_vec()?.into_iter().map(f64::from).collect())
    }

    /// Replaces the elements by `data`, in row-major order.
    ///
    /// # Errors
    ///
    /// [`Error::ElementCount`]; [`Error::DTypeMismatch`]; [`Error::SharedOutput`]; [`Error::Layout`]
    /// where rows lie apart; [`Error::Cuda`].
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
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        if let (Storage::Host(memory), true) = (&*self.storage, self.is_contiguous()) {
            let bytes = memory.bytes_of(self.byte_offset(), self.span() * self.dtype.size());
            return Self::from_bytes(bytes, self.dtype, &self.shape, device);
        }
        match self.dtype {
            DType::F32 => self.copied::<f32>(device),
            DType::F16 => self.copied::<half::f16>(device),
            DType::BF16 => self.copied::<half::bf16>(device),
            DType::F64 => self.copied::<f64>(device),
        }
    }

    fn copied<T: Element>(&self, device: &Device) -> Result<Self> {
        Self::from_slice(&self.to_vec::<T>()?, &self.shape, device)
    }
}
