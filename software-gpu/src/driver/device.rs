//! Devices: how many, their names and numbers.

use super::error::{self, Code, Outcome};
use super::ffi::{put, put_text, str_of};
use super::platform::{self, device};

/// The version that the driver reports: CUDA 12.9, whose JIT reads PTX 8.8.
const DRIVER_VERSION: i32 = 12090;

pub(super) fn cuInit(flags: u32) -> Outcome {
    if flags != 0 {
        return Err(Code::INVALID_VALUE);
    }
    platform::init()?;
    if platform::devices()?.is_empty() {
        return Err(Code::NO_DEVICE);
    }
    Ok(())
}

pub(super) unsafe fn cuDriverGetVersion(version: *mut i32) -> Outcome {
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(version, DRIVER_VERSION) }
}

pub(super) unsafe fn cuGetErrorName(code: u32, text: *mut *const u8) -> Outcome {
    // SAFETY: passed on unchanged.
    unsafe { put_description(text, error::describe(code).map(|(name, _)| name)) }
}

pub(super) unsafe fn cuGetErrorString(code: u32, text: *mut *const u8) -> Outcome {
    // SAFETY: passed on unchanged.
    unsafe { put_description(text, error::describe(code).map(|(_, text)| text)) }
}

unsafe fn put_description(out: *mut *const u8, text: Option<&'static str>) -> Outcome {
    let pointer = text.map_or(std::ptr::null(), str::as_ptr);
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, pointer) }?;
    text.map(drop).ok_or(Code::INVALID_VALUE)
}

pub(super) unsafe fn cuDeviceGet(out: *mut i32, ordinal: i32) -> Outcome {
    let device = device(ordinal)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, device.ordinal) }
}

pub(super) unsafe fn cuDeviceGetCount(count: *mut i32) -> Outcome {
    let devices = platform::devices()?.len();
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(count, devices as i32) }
}

pub(super) unsafe fn cuDeviceGetName(name: *mut u8, len: i32, dev: i32) -> Outcome {
    let device = device(dev)?;
    let len = usize::try_from(len).map_err(|_| Code::INVALID_VALUE)?;
    // SAFETY: null or `len` writable bytes, by the driver API's contract.
    unsafe { put_text(name, len, &device.gpu.model().name) }
}

pub(super) unsafe fn cuDeviceGetUuid(uuid: *mut u8, dev: i32) -> Outcome {
    let device = device(dev)?;
    let mut bytes = *b"software-gpu\0\0\0\0";
    bytes[12..].copy_from_slice(&device.ordinal.to_be_bytes());
    // SAFETY: null or 16 writable bytes, by the driver API's contract.
    unsafe { put(uuid.cast::<[u8; 16]>(), bytes) }
}

pub(super) unsafe fn cuDeviceGetUuid_v2(uuid: *mut u8, dev: i32) -> Outcome {
    // SAFETY: passed on unchanged.
    unsafe { cuDeviceGetUuid(uuid, dev) }
}

pub(super) unsafe fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: i32) -> Outcome {
    let device = device(dev)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(bytes, device.gpu.model().memory_bytes as usize) }
}

pub(super) unsafe fn cuDeviceComputeCapability(
    major: *mut i32,
    minor: *mut i32,
    dev: i32,
) -> Outcome {
    let (high, low) = device(dev)?.gpu.model().compute_capability;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe {
        put(major, high as i32)?;
        put(minor, low as i32)
    }
}

/// The bus number of the first device.
const FIRST_BUS: i32 = 1;

/// The bus number that a device is found under.
pub(super) fn bus(ordinal: i32) -> i32 {
    FIRST_BUS + ordinal
}

pub(super) unsafe fn cuDeviceGetPCIBusId(out: *mut u8, len: i32, dev: i32) -> Outcome {
    let device = device(dev)?;
    let len = usize::try_from(len).map_err(|_| Code::INVALID_VALUE)?;
    let text = format!("0000:{:02X}:00.0", bus(device.ordinal));
    // SAFETY: null or `len` writable bytes, by the driver API's contract.
    unsafe { put_text(out, len, &text) }
}

pub(super) unsafe fn cuDeviceGetByPCIBusId(out: *mut i32, text: *const u8) -> Outcome {
    let devices = platform::devices()?;
    // SAFETY: null or a C string, by the driver API's contract.
    let text = unsafe { str_of(text) }?;
    // `domain:bus:device.function`; the domain and the function may be left out.
    let mut parts = text.rsplit(':');
    let slot = parts.next().unwrap_or_default();
    let bus_text = parts.next().ok_or(Code::INVALID_VALUE)?;
    let wanted = i32::from_str_radix(bus_text, 16).map_err(|_| Code::INVALID_VALUE)?;
    let found = devices.iter().find(|device| bus(device.ordinal) == wanted);
    let found = found.filter(|_| slot.split('.').next() == Some("00"));
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, found.ok_or(Code::INVALID_DEVICE)?.ordinal) }
}

/// Devices reach each other's memory only through the host here.
pub(super) unsafe fn cuDeviceCanAccessPeer(out: *mut i32, dev: i32, peer: i32) -> Outcome {
    device(dev)?;
    device(peer)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, 0) }
}

pub(super) unsafe fn cuDeviceGetP2PAttribute(
    out: *mut i32,
    attribute: u32,
    from: i32,
    to: i32,
) -> Outcome {
    let (from, to) = (device(from)?, device(to)?);
    if from.ordinal == to.ordinal || !(1..=4).contains(&attribute) {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, 0) }
}

pub(super) unsafe fn cuDeviceGetMemPool(pool: *mut usize, dev: i32) -> Outcome {
    let device = device(dev)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(pool, device.pool) }
}

pub(super) unsafe fn cuDeviceGetDefaultMemPool(pool: *mut usize, dev: i32) -> Outcome {
    // SAFETY: passed on unchanged.
    unsafe { cuDeviceGetMemPool(pool, dev) }
}

/// Modules are loaded when they are asked for, not at first use.
pub(super) unsafe fn cuModuleGetLoadingMode(mode: *mut u32) -> Outcome {
    platform::devices()?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(mode, 1) }
}

pub(super) fn cuProfilerStart() -> Outcome {
    super::context::current().map(drop)
}

pub(super) fn cuProfilerStop() -> Outcome {
    super::context::current().map(drop)
}
