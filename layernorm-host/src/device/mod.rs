//! Where tensors lie and work is done.

use std::fmt;

use crate::host::HostBuffer;
use crate::{DType, Result};

pub(crate) mod cuda;

/// A place for tensors and work: a CUDA GPU, or the software GPU that runs the same PTX.
///
/// A handle is cheap to clone and may be used from many threads. Clones share one stream, on which
/// work runs in order; [`Device::with_new_stream`] gives the same device with a stream of its own.
///
/// ```
/// use layernorm_host::{Device, Tensor};
///
/// let device = Device::auto()?;
/// let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2], &device)?;
/// assert_eq!(x.to_vec::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), layernorm_host::Error>(())
/// ```
#[derive(Clone)]
pub struct Device {
    pub(crate) kind: Kind,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Cuda(cuda::CudaDevice),
}

impl Device {
    /// The first CUDA GPU if there is one, else the software GPU. `LAYERNORM_DRIVER=nvidia` or
    /// `=software` decides instead.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`](crate::Error::NoDevice) where the driver that LAYERNORM_DRIVER names has
    /// no device; [`Error::NoImage`](crate::Error::NoImage) on a GPU older than sm_75;
    /// [`Error::Cuda`](crate::Error::Cuda) where the driver fails.
    pub fn auto() -> Result<Self> {
        cuda::CudaDevice::open(cuda::Wanted::Any, 0).map(Self::from_cuda)
    }

    /// The CUDA GPU with this ordinal, as the driver numbers them.
    ///
    /// # Errors
    ///
    /// As [`Device::auto`]; [`Error::Ordinal`](crate::Error::Ordinal) where there are fewer devices;
    /// [`Error::DriverChosen`](crate::Error::DriverChosen) where this process runs on the software
    /// GPU already: a process has one driver.
    pub fn cuda(ordinal: usize) -> Result<Self> {
        cuda::CudaDevice::open(cuda::Wanted::Nvidia, ordinal).map(Self::from_cuda)
    }

    /// The software GPU with this ordinal.
    ///
    /// # Errors
    ///
    /// As [`Device::cuda`], with the drivers' places exchanged.
    pub fn software(ordinal: usize) -> Result<Self> {
        cuda::CudaDevice::open(cuda::Wanted::Software, ordinal).map(Self::from_cuda)
    }

    /// Every device that this process's driver has, each with its own stream.
    ///
    /// # Errors
    ///
    /// As [`Device::auto`].
    pub fn all() -> Result<Vec<Self>> {
        Ok(cuda::CudaDevice::all()?
            .into_iter()
            .map(Self::from_cuda)
            .collect())
    }

    fn from_cuda(device: cuda::CudaDevice) -> Self {
        Device {
            kind: Kind::Cuda(device),
        }
    }

    /// The same device with a stream of its own, so that work given to it may overlap with other work.
    ///
    /// An operation runs on the stream of its x. Where its other operands belong to other streams, it
    /// waits for these first, and is complete when it returns.
    ///
    /// # Errors
    ///
    /// [`Error::Cuda`](crate::Error::Cuda) where the driver makes no stream.
    pub fn with_new_stream(&self) -> Result<Self> {
        match &self.kind {
            Kind::Cuda(device) => device.with_new_stream().map(Self::from_cuda),
        }
    }

    /// The same device, whose new memory is filled with bytes of 0xFF: NaN in every dtype. A result
    /// that was never written then shows, which is what tests want.
    pub fn with_poisoned_memory(&self) -> Self {
        match &self.kind {
            Kind::Cuda(device) => Self::from_cuda(device.with_poison()),
        }
    }

    /// Compiles the kernels now, which otherwise happens once a device, at the first pass.
    ///
    /// # Errors
    ///
    /// [`Error::Jit`](crate::Error::Jit), with the driver's log.
    pub fn load_kernels(&self) -> Result<()> {
        match &self.kind {
            Kind::Cuda(device) => device.load_kernels(),
        }
    }

    /// Waits for the work given to this handle's stream.
    ///
    /// # Errors
    ///
    /// [`Error::Cuda`](crate::Error::Cuda) where that work failed.
    pub fn synchronize(&self) -> Result<()> {
        match &self.kind {
            Kind::Cuda(device) => device.synchronize(),
        }
    }

    /// The device's name, as its driver gives it.
    pub fn name(&self) -> &str {
        match &self.kind {
            Kind::Cuda(device) => device.name(),
        }
    }

    /// `cuda` or `software`.
    pub fn kind(&self) -> &'static str {
        match &self.kind {
            Kind::Cuda(device) => device.kind(),
        }
    }

    /// The number among the devices of its kind.
    pub fn ordinal(&self) -> usize {
        match &self.kind {
            Kind::Cuda(device) => device.ordinal(),
        }
    }

    /// Compute capability, major and minor.
    pub fn compute_capability(&self) -> (u32, u32) {
        match &self.kind {
            Kind::Cuda(device) => device.compute_capability(),
        }
    }

    /// The target of the kernel image that runs here, such as 80 for sm_80.
    pub fn image_target(&self) -> u32 {
        match &self.kind {
            Kind::Cuda(device) => device.image_target(),
        }
    }

    /// Bytes of memory free and in all.
    ///
    /// # Errors
    ///
    /// [`Error::Cuda`](crate::Error::Cuda) where the driver does not say.
    pub fn memory(&self) -> Result<(usize, usize)> {
        match &self.kind {
            Kind::Cuda(device) => device.memory(),
        }
    }

    /// Whether both handles mean the same device, on whatever streams.
    pub fn is_same(&self, other: &Device) -> bool {
        (self.kind(), self.ordinal()) == (other.kind(), other.ordinal())
    }

    /// Memory for `len` elements, of unknown content.
    pub(crate) fn allocate(&self, dtype: DType, len: usize) -> Result<Storage> {
        match &self.kind {
            Kind::Cuda(device) => Ok(Storage::Cuda(device.allocate(len * dtype.size())?)),
        }
    }
}

/// `cuda:0`, `software:0`.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.ordinal())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({self}, {:?})", self.name())
    }
}

/// A tensor's memory.
pub(crate) enum Storage {
    Cuda(cuda::Buffer),
}

impl Storage {
    /// Copies to host memory from byte `start` on, waiting for the work that writes it.
    pub(crate) fn read(&self, start: usize, into: &mut HostBuffer) -> Result<()> {
        match self {
            Storage::Cuda(buffer) => buffer.read(start, into.bytes_mut()),
        }
    }

    /// Copies from host memory to byte `start` on.
    pub(crate) fn write(&mut self, start: usize, from: &[u8]) -> Result<()> {
        match self {
            Storage::Cuda(buffer) => buffer.write(start, from),
        }
    }

    /// Sets every byte.
    pub(crate) fn fill(&mut self, byte: u8) -> Result<()> {
        match self {
            Storage::Cuda(buffer) => buffer.fill(byte),
        }
    }
}
