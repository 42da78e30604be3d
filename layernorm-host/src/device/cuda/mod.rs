//! A device of the CUDA driver API, reached through cust: NVIDIA's or the software GPU.
//!
//! Only this folder names cust. What is loaded once a device, its primary context and kernels, is
//! shared by all handles and kept for the life of the process.

mod buffer;
mod context;
mod event;
mod launch;
mod launcher;
mod module;
mod overlap;
mod pinned;
mod run;

pub(crate) use buffer::Buffer;
pub(crate) use event::Event;
pub use launcher::Launcher;
pub(crate) use pinned::PinnedBytes;

use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, PoisonError};

use cuda_driver::Backend;
use cust::device::DeviceAttribute;
use cust::stream::{Stream, StreamFlags};
use cust::sys;

use self::context::{Cause, Context};
use self::module::Kernels;
use crate::plan::{Limits, memory_rate};
use crate::{CudaCode, Error, Result};

/// Which driver a caller asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    Nvidia,
    Software,
}

/// A handle: the shared device and a stream on it.
#[derive(Clone)]
pub(crate) struct CudaDevice {
    shared: Arc<Shared>,
    stream: Arc<OwnedStream>,
    poison: bool,
}

/// What all handles of one device share.
pub(crate) struct Shared {
    kind: &'static str,
    ordinal: usize,
    name: String,
    compute_capability: (u32, u32),
    limits: Limits,
    l2_cache_bytes: u32,
    /// A launch may begin before the one before it has ended.
    overlaps: bool,
    context: Context,
    kernels: Kernels,
}

/// Devices opened so far, by ordinal. A process has one driver, hence one list.
static OPENED: Mutex<Vec<(usize, CudaDevice)>> = Mutex::new(Vec::new());

impl CudaDevice {
    pub fn open(wanted: Wanted, ordinal: usize) -> Result<Self> {
        let kind = choose(wanted)?;
        // The list stays whole when a thread panics while it holds the lock: a push is the last step.
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, device)) = opened.iter().find(|(number, _)| *number == ordinal) {
            return Ok(device.clone());
        }
        let count = count(kind)?;
        if ordinal >= count {
            return Err(Error::Ordinal {
                kind,
                ordinal,
                count,
            });
        }
        let shared = Arc::new(Shared::new(kind, ordinal)?);
        let device = CudaDevice {
            stream: Arc::new(OwnedStream::new(Arc::clone(&shared))?),
            shared,
            poison: false,
        };
        opened.push((ordinal, device.clone()));
        Ok(device)
    }

    /// Every device that the kernels run on; one that is too old for them is left out.
    pub fn all() -> Result<Vec<Self>> {
        let count = count(choose(Wanted::Any)?)?;
        (0..count)
            .map(|ordinal| Self::open(Wanted::Any, ordinal))
            .filter(|device| !matches!(device, Err(Error::NoImage { .. })))
            .collect()
    }

    pub fn with_new_stream(&self) -> Result<Self> {
        Ok(CudaDevice {
            shared: Arc::clone(&self.shared),
            stream: Arc::new(OwnedStream::new(Arc::clone(&self.shared))?),
            poison: self.poison,
        })
    }

    pub fn poison_memory(&mut self) {
        self.poison = true;
    }

    pub fn synchronize(&self) -> Result<()> {
        let context = &self.shared.context;
        let _current = context.enter()?;
        // Fills and copies go through the driver's own stream, which a null handle names.
        // SAFETY: the device's context is current.
        let own = || context::check(unsafe { sys::cuStreamSynchronize(std::ptr::null_mut()) });
        self.stream
            .synchronize()
            .map_err(Cause::code)
            .and_then(|()| own())
            .map_err(|cause| context.error("waiting for the stream", cause))
    }

    pub fn load_kernels(&self) -> Result<()> {
        let _current = self.shared.context.enter()?;
        self.shared.kernels.load(&self.shared.context)
    }

    pub fn image_target(&self) -> u32 {
        self.shared.kernels.target()
    }

    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub fn kind(&self) -> &'static str {
        self.shared.kind
    }

    pub fn ordinal(&self) -> usize {
        self.shared.ordinal
    }

    pub fn compute_capability(&self) -> (u32, u32) {
        self.shared.compute_capability
    }

    pub fn memory(&self) -> Result<(usize, usize)> {
        let context = &self.shared.context;
        let _current = context.enter()?;
        cust::memory::mem_get_info().map_err(|error| context.error("asking for free memory", error))
    }

    pub fn l2_cache_bytes(&self) -> usize {
        self.shared.l2_cache_bytes as usize
    }

    pub fn raw_stream(&self) -> *mut std::ffi::c_void {
        self.stream.as_inner().cast()
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether both handles put their work on one stream.
    pub fn same_stream(&self, other: &CudaDevice) -> bool {
        Arc::ptr_eq(&self.stream, &other.stream)
    }
}

impl Shared {
    fn new(kind: &'static str, ordinal: usize) -> Result<Self> {
        let failed = |doing| move |error| context::error(kind, doing, error);
        let number = u32::try_from(ordinal).unwrap_or(u32::MAX);
        let device = cust::device::Device::get_device(number).map_err(failed("opening"))?;
        let name = device.name().map_err(failed("asking for the name"))?;
        let attribute = |attribute| {
            let value = device.get_attribute(attribute);
            let value = value.map_err(failed("asking for the limits"))?;
            Ok::<u32, Error>(u32::try_from(value).unwrap_or(0))
        };
        let compute_capability = (
            attribute(DeviceAttribute::ComputeCapabilityMajor)?,
            attribute(DeviceAttribute::ComputeCapabilityMinor)?,
        );
        Ok(Shared {
            kind,
            ordinal,
            compute_capability,
            limits: Limits {
                max_grid: attribute(DeviceAttribute::MaxGridDimX)?,
                max_block: attribute(DeviceAttribute::MaxThreadsPerBlock)?,
                sm_count: attribute(DeviceAttribute::MultiprocessorCount)?,
                max_shared: shared_memory_per_block(device)
                    .map_err(|cause| context::error(kind, "asking for the limits", cause))?,
                compute_capability,
                // Not worth an error: without it the kernels are as right.
                memory_rate: memory_rate(
                    attribute(DeviceAttribute::MemoryClockRate).unwrap_or(0),
                    attribute(DeviceAttribute::GlobalMemoryBusWidth).unwrap_or(0),
                ),
            },
            l2_cache_bytes: attribute(DeviceAttribute::L2CacheSize)?,
            overlaps: overlap::is_known(),
            context: Context::retain(device, &name)?,
            kernels: Kernels::for_device(&name, compute_capability)?,
            name,
        })
    }
}

/// Bytes of shared memory that a block may ask for. cust has no name for this attribute.
fn shared_memory_per_block(device: cust::device::Device) -> std::result::Result<u32, CudaCode> {
    let optin = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    let mut bytes = 0;
    // SAFETY: the call writes one value to where it is told.
    context::check(unsafe { sys::cuDeviceGetAttribute(&mut bytes, optin, device.as_raw()) })?;
    Ok(u32::try_from(bytes).unwrap_or(0))
}

/// A stream that is destroyed in its own context.
struct OwnedStream {
    stream: ManuallyDrop<Stream>,
    shared: Arc<Shared>,
}

impl OwnedStream {
    fn new(shared: Arc<Shared>) -> Result<Self> {
        let stream = {
            let _current = shared.context.enter()?;
            // cust makes only streams that the legacy default stream waits for and that wait for
            // it. The blocking copies, which go there, are so ordered with the kernels.
            Stream::new(StreamFlags::DEFAULT, None)
                .map_err(|error| shared.context.error("making a stream", error))?
        };
        Ok(OwnedStream {
            stream: ManuallyDrop::new(stream),
            shared,
        })
    }
}

impl std::ops::Deref for OwnedStream {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl Drop for OwnedStream {
    fn drop(&mut self) {
        if let Ok(_current) = self.shared.context.enter() {
            // SAFETY: the stream is taken here alone, and nothing uses it after drop.
            unsafe { ManuallyDrop::drop(&mut self.stream) }
        }
    }
}

/// Whether there is a device to use without being told to: a GPU, or what the environment or an earlier
/// choice decided. Without one nothing is decided, and the software GPU stays to be had.
pub(crate) fn is_available() -> bool {
    !matches!(
        cuda_driver::choose(Backend::Nvidia),
        Err(cuda_driver::ChooseError::Unavailable(
            cuda_driver::Error::NotLoaded { .. }
                | cuda_driver::Error::NotStarted { .. }
                | cuda_driver::Error::NoDevice
        )) if std::env::var_os(cuda_driver::SETTING).is_none_or(|setting| setting.is_empty())
    )
}

/// Settles the process's driver and starts it. Gives the kind's name.
fn choose(wanted: Wanted) -> Result<&'static str> {
    let (backend, setting) = match wanted {
        Wanted::Any => (None, ""),
        Wanted::Nvidia => (Some(Backend::Nvidia), "nvidia"),
        Wanted::Software => (Some(Backend::Software), "software"),
    };
    if let Some(backend) = backend {
        cuda_driver::choose(backend).map_err(|error| match error {
            cuda_driver::ChooseError::AlreadyChosen(chosen) => Error::DriverChosen {
                wanted: kind_of(backend),
                chosen: chosen.name(),
                setting,
            },
            other => Error::NoDevice {
                wanted: kind_of(backend),
                reason: other.to_string(),
            },
        })?;
    }
    let backend = cuda_driver::backend().map_err(|error| Error::NoDevice {
        wanted: "CUDA",
        reason: error.to_string(),
    })?;
    let kind = kind_of(backend);
    cust::init(cust::CudaFlags::empty()).map_err(|error| {
        let CudaCode { code, name } = error.code();
        Error::NoDevice {
            wanted: kind,
            reason: format!("the driver does not start: {name} ({code})"),
        }
    })?;
    Ok(kind)
}

fn kind_of(backend: Backend) -> &'static str {
    match backend {
        Backend::Nvidia => "cuda",
        Backend::Software => "software",
    }
}

fn count(kind: &'static str) -> Result<usize> {
    let count = cust::device::Device::num_devices()
        .map_err(|error| context::error(kind, "counting devices", error))?;
    Ok(count as usize)
}
