//! Copies that run beside other work: page-locked host memory, and a copy that is on its way.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::device::{Device, Kind, cuda};
use crate::{Element, Error, Result, Tensor, host};

/// Host memory that a device copies from and to at full speed while other work goes on: page-locked on CUDA
/// devices, plain on the CPU. It reads and writes as a slice.
///
/// ```
/// use layernorm_host::{Device, Pinned, Tensor};
///
/// let device = Device::auto()?;
/// let mut x = Tensor::zeros(layernorm_host::DType::F32, &[2, 2], &device)?;
/// let mut memory = Pinned::<f32>::new(4, &device)?;
/// memory.copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
///
/// let copying = x.start_write(memory)?;
/// // ... other work ...
/// let memory = copying.wait()?;
///
/// let memory = x.start_read(memory)?.wait()?;
/// assert_eq!(*memory, [1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), layernorm_host::Error>(())
/// ```
pub struct Pinned<T: Element> {
    memory: Memory<T>,
}

enum Memory<T> {
    Host(Vec<T>),
    Cuda(cuda::PinnedBytes),
}

/// A copy that may still be on its way. It owns the host memory, and holds on to the tensor's: until it is
/// waited for, the tensor cannot be an output.
#[must_use = "the memory comes back when the copy is waited for"]
pub struct Copying<T: Element> {
    /// `None` once waited for.
    memory: Option<Pinned<T>>,
    tensor: Tensor,
}

impl<T: Element> Pinned<T> {
    /// `len` elements, all zero, for copies to and from a device.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfHostMemory`]; [`Error::Cuda`] where the driver cannot lock as much.
    pub fn new(len: usize, device: &Device) -> Result<Self> {
        let memory = match &device.kind {
            Kind::Cpu { .. } => Memory::Host(host::zeros(len)?),
            Kind::Cuda(device) => {
                let bytes = len.checked_mul(size_of::<T>());
                let bytes = bytes.ok_or(Error::OutOfHostMemory { asked: usize::MAX })?;
                Memory::Cuda(device.allocate_pinned(bytes)?)
            }
        };
        Ok(Pinned { memory })
    }
}

impl<T: Element> Deref for Pinned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.memory {
            Memory::Host(data) => data,
            // The driver locks whole pages, which are aligned for any type; no bytes lie anywhere.
            Memory::Cuda(bytes) if bytes.bytes().is_empty() => &[],
            Memory::Cuda(bytes) => bytemuck::cast_slice(bytes.bytes()),
        }
    }
}

impl<T: Element> DerefMut for Pinned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.memory {
            Memory::Host(data) => data,
            Memory::Cuda(bytes) if bytes.bytes().is_empty() => &mut [],
            Memory::Cuda(bytes) => bytemuck::cast_slice_mut(bytes.bytes_mut()),
        }
    }
}

impl<T: Element> fmt::Debug for Pinned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({} of {})", self.len(), T::DTYPE)
    }
}

impl Tensor {
    /// Starts to replace the elements by those of `from`, in row-major order, behind the work given to the
    /// tensor's stream so far. On the CPU it is done at once.
    ///
    /// # Errors
    ///
    /// As [`Tensor::copy_from_slice`].
    pub fn start_write<T: Element>(&mut self, from: Pinned<T>) -> Result<Copying<T>> {
        match &from.memory {
            Memory::Host(data) => self.copy_from_slice(data)?,
            Memory::Cuda(bytes) => {
                self.check_copy::<T>(from.len())?;
                self.require_unique("the tensor")?;
                // SAFETY: `Copying` keeps the host memory, and this tensor's from being written, until
                // the stream is done with them.
                unsafe { self.write_async(bytes)? };
            }
        }
        Ok(Copying {
            memory: Some(from),
            tensor: self.clone(),
        })
    }

    /// Starts to copy the elements, in row-major order, behind the work given to the tensor's stream so far.
    /// On the CPU it is done at once.
    ///
    /// # Errors
    ///
    /// [`Error::ElementCount`], [`Error::DTypeMismatch`], [`Error::Layout`] where rows lie apart,
    /// [`Error::Cuda`].
    pub fn start_read<T: Element>(&self, mut into: Pinned<T>) -> Result<Copying<T>> {
        self.check_copy::<T>(into.len())?;
        match &mut into.memory {
            Memory::Host(data) => data.copy_from_slice(&self.to_vec::<T>()?),
            // SAFETY: `Copying` keeps the host memory, and this tensor's from being written or freed,
            // until the stream is done with them.
            Memory::Cuda(bytes) => unsafe { self.read_async(bytes)? },
        }
        Ok(Copying {
            memory: Some(into),
            tensor: self.clone(),
        })
    }
}

impl<T: Element> Copying<T> {
    /// Waits for the copy and gives the host memory back.
    ///
    /// # Errors
    ///
    /// [`Error::Cuda`] where the copy, or work before it, failed.
    pub fn wait(mut self) -> Result<Pinned<T>> {
        self.tensor.device().synchronize()?;
        // It is taken here alone, and `wait` consumes the copy.
        self.memory
            .take()
            .ok_or(Error::OutOfHostMemory { asked: 0 })
    }
}

impl<T: Element> fmt::Debug for Copying<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Copying({:?})", self.tensor)
    }
}

impl<T: Element> Drop for Copying<T> {
    fn drop(&mut self) {
        if self.memory.is_some() && self.tensor.device().synchronize().is_err() {
            // What a failed stream still does to the memory nobody can say: it is never freed.
            std::mem::forget(self.memory.take());
        }
    }
}
