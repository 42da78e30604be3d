//! Where tensors lie and work is done.

mod storage;

use std::fmt;

pub(crate) use self::storage::{HostMemory, Storage};
use crate::host::HostBuffer;
use crate::{DType, Result};

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "no_cuda.rs"]
pub(crate) mod cuda;

/// A place for tensors and work: a CUDA GPU, the host's cores, or the software GPU, which runs the very
/// PTX that a CUDA GPU runs, slowly and with every access checked.
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
    Cpu { poison: bool },
    Cuda(cuda::CudaDevice),
}

impl Device {
    /// The first CUDA GPU if there is one, else the CPU. Where `LAYERNORM_DRIVER` is `nvidia` or
    /// `software`, or this process uses a driver already, its first device.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`](crate::Error::NoDevice) where the driver that LAYERNORM_DRIVER names has
    /// no device; [`Error::NoImage`](crate::Error::NoImage) on a GPU older than sm_75;
    /// [`Error::Cuda`](crate::Error::Cuda) where the driver fails.
    pub fn auto() -> Result<Self> {
        if cuda::is_available() {
            cuda::CudaDevice::open(cuda::Wanted::Any, 0).map(Self::from_cuda)
        } else {
            Ok(Self::cpu())
        }
    }

    /// The host's cores: native code for their vector instructions, on rayon's threads.
    ///
    /// The newest instructions are taken, or those that `LAYERNORM_CPU` names: `avx512`, `avx2`, `neon` or `scalar`.
    /// A pass gives [`Error::Instructions`](crate::Error::Instructions) where the processor does not have them. For
    /// one kind, the same input gives the same bits on any number of threads.
    ///
    /// Large buffers are kept for reuse when their tensors are dropped, up to 1 GiB;
    /// [`Device::free_kept_memory`] gives them back.
    pub fn cpu() -> Self {
        Device {
            kind: Kind::Cpu { poison: false },
        }
    }

    /// The CUDA GPU with this ordinal, as the driver numbers them.
    ///
    /// # Errors
    ///
    /// As [`Device::auto`]; [`Error::Ordinal`](crate::Error::Ordinal) where there are fewer devices;
    /// [`Error::DriverChosen`](crate::Error::DriverChosen) where this process runs on the software
    /// GPU already: a process has one driver.
    ///
    /// ```
    /// use layernorm_host::{Device, Error};
    ///
    /// match Device::cuda(0) {
    ///     Ok(device) => println!("{device}: {}", device.name()),
    ///     Err(Error::NoDevice { reason, .. }) => println!("no GPU here: {reason}"),
    ///     Err(other) => println!("{other}"),
    /// }
    /// ```
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

    /// Every device that this process's driver has, and the CPU.
    ///
    /// # Errors
    ///
    /// As [`Device::auto`].
    ///
    /// ```
    /// use layernorm_host::Device;
    ///
    /// for device in Device::all()? {
    ///     println!("{device}: {}, {:?}", device.name(), device.compute_capability());
    /// }
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn all() -> Result<Vec<Self>> {
        let devices = cuda::CudaDevice::all()?.into_iter().map(Self::from_cuda);
        Ok(devices.chain([Self::cpu()]).collect())
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
    ///
    /// ```
    /// use layernorm_host::{DType, Device, FastLayerNorm, Tensor};
    ///
    /// let device = Device::auto()?;
    /// let (one, other) = (device.with_new_stream()?, device.with_new_stream()?);
    /// let x = Tensor::ones(DType::F32, &[64, 256], &one)?;
    /// let y = Tensor::ones(DType::F32, &[64, 256], &other)?;
    /// // Both may run at the same time.
    /// FastLayerNorm::forward(&x, None, None, 1e-5)?;
    /// FastLayerNorm::forward(&y, None, None, 1e-5)?;
    /// one.synchronize()?;
    /// other.synchronize()?;
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn with_new_stream(&self) -> Result<Self> {
        match &self.kind {
            Kind::Cpu { .. } => Ok(self.clone()),
            Kind::Cuda(device) => device.with_new_stream().map(Self::from_cuda),
        }
    }

    /// The same device, whose new memory is filled with bytes of 0xFF: NaN in every dtype. A result
    /// that was never written then shows, which is what tests want.
    pub fn with_poisoned_memory(&self) -> Self {
        let mut device = self.clone();
        match &mut device.kind {
            Kind::Cpu { poison } => *poison = true,
            Kind::Cuda(device) => device.poison_memory(),
        }
        device
    }

    /// Compiles every kernel now, which takes the driver seconds. Otherwise each is compiled once a device,
    /// when a pass first needs it.
    ///
    /// # Errors
    ///
    /// [`Error::Jit`](crate::Error::Jit), with the driver's log.
    pub fn load_kernels(&self) -> Result<()> {
        match &self.kind {
            Kind::Cpu { .. } => Ok(()),
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
            Kind::Cpu { .. } => Ok(()),
            Kind::Cuda(device) => device.synchronize(),
        }
    }

    /// The device's name, as its driver gives it.
    pub fn name(&self) -> &str {
        match &self.kind {
            Kind::Cpu { .. } => "CPU",
            Kind::Cuda(device) => device.name(),
        }
    }

    /// Gives back the CPU's buffers that are kept for reuse. On other devices there are none.
    pub fn free_kept_memory(&self) {
        if let Kind::Cpu { .. } = self.kind {
            HostBuffer::forget_kept();
        }
    }

    /// `cuda`, `software` or `cpu`.
    pub fn kind(&self) -> &'static str {
        match &self.kind {
            Kind::Cpu { .. } => "cpu",
            Kind::Cuda(device) => device.kind(),
        }
    }

    /// The number among the devices of its kind.
    pub fn ordinal(&self) -> usize {
        match &self.kind {
            Kind::Cpu { .. } => 0,
            Kind::Cuda(device) => device.ordinal(),
        }
    }

    /// Compute capability, major and minor; `None` for the CPU.
    pub fn compute_capability(&self) -> Option<(u32, u32)> {
        match &self.kind {
            Kind::Cpu { .. } => None,
            Kind::Cuda(device) => Some(device.compute_capability()),
        }
    }

    /// The target of the kernel image that runs here, such as 80 for sm_80; `None` for the CPU.
    pub fn image_target(&self) -> Option<u32> {
        match &self.kind {
            Kind::Cpu { .. } => None,
            Kind::Cuda(device) => Some(device.image_target()),
        }
    }

    /// Bytes of device memory free and in all; `None` for the CPU.
    ///
    /// # Errors
    ///
    /// [`Error::Cuda`](crate::Error::Cuda) where the driver does not say.
    pub fn memory(&self) -> Result<Option<(usize, usize)>> {
        match &self.kind {
            Kind::Cpu { .. } => Ok(None),
            Kind::Cuda(device) => device.memory().map(Some),
        }
    }

    /// Bytes of the cache that all of the device shares, as its driver gives them; `None` for the CPU.
    pub fn l2_cache_bytes(&self) -> Option<usize> {
        match &self.kind {
            Kind::Cpu { .. } => None,
            Kind::Cuda(device) => Some(device.l2_cache_bytes()),
        }
    }

    /// The handle's stream, a `CUstream`, for a `Launcher` or other work that is to go
    /// behind the library's; `None` for the CPU. It lives as long as a clone of this handle, or a tensor that
    /// was made on one.
    pub fn stream(&self) -> Option<*mut std::ffi::c_void> {
        match &self.kind {
            Kind::Cpu { .. } => None,
            Kind::Cuda(device) => Some(device.raw_stream()),
        }
    }

    /// Whether both handles mean the same device, on whatever streams.
    pub fn is_same(&self, other: &Device) -> bool {
        (self.kind(), self.ordinal()) == (other.kind(), other.ordinal())
    }

    /// What the handles of a CUDA or software device share.
    #[cfg(feature = "cuda")]
    pub(crate) fn cuda_shared(&self) -> Option<std::sync::Arc<cuda::Shared>> {
        match &self.kind {
            Kind::Cpu { .. } => None,
            Kind::Cuda(device) => Some(device.shared().clone()),
        }
    }

    /// Memory for `len` elements, of unknown content.
    pub(crate) fn allocate(&self, dtype: DType, len: usize) -> Result<Storage> {
        match &self.kind {
            Kind::Cpu { poison } => {
                let mut memory = HostMemory::aligned(dtype, len)?;
                if *poison {
                    memory.bytes_mut().fill(0xFF);
                }
                Ok(Storage::Host(memory))
            }
            Kind::Cuda(device) => Ok(Storage::Cuda(device.allocate(len * dtype.size())?)),
        }
    }
}

/// `cuda:0`, `software:0`, `cpu`.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Kind::Cpu { .. } = self.kind {
            return f.write_str("cpu");
        }
        write!(f, "{}:{}", self.kind(), self.ordinal())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({self}, {:?})", self.name())
    }
}
