//! The one memory pool of a device: it keeps nothing back, so its numbers are those of the device.

use super::error::{Code, Outcome};
use super::ffi::put;
use super::platform::{self, Device};

fn device_of(pool: usize) -> Outcome<&'static Device> {
    let mut devices = platform::devices()?.iter();
    devices
        .find(|device| device.pool == pool)
        .ok_or(Code::INVALID_HANDLE)
}

/// Nothing is kept, so there is nothing to trim.
pub(super) fn cuMemPoolTrimTo(pool: usize, _keep: usize) -> Outcome {
    device_of(pool).map(drop)
}

/// The settings say what to keep and reuse: nothing is, so each is taken and changes nothing.
pub(super) fn cuMemPoolSetAttribute(pool: usize, attribute: u32, value: *mut u8) -> Outcome {
    device_of(pool)?;
    match attribute {
        1..=4 if !value.is_null() => Ok(()),
        _ => Err(Code::INVALID_VALUE),
    }
}

pub(super) unsafe fn cuMemPoolGetAttribute(pool: usize, attribute: u32, out: *mut u8) -> Outcome {
    let (free, total) = device_of(pool)?.gpu.memory_info();
    // SAFETY: null or writable for the attribute's type, by the driver API's contract.
    unsafe {
        match attribute {
            1..=3 => put(out.cast(), 0_i32),
            4 => put(out.cast(), 0_u64),
            5..=8 => put(out.cast(), total - free),
            _ => Err(Code::INVALID_VALUE),
        }
    }
}
