//! What can be set of a context and read back, and changes nothing here: limits and configurations.

use super::context::current;
use super::error::{Code, Outcome};
use super::ffi::{lock, put};

/// A context's.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    limits: [usize; LIMITS],
    cache_config: u32,
    shared_config: u32,
}

/// `CU_LIMIT_*` that exist.
const LIMITS: usize = 7;
/// Stack, printf buffer, heap, and the three that only need a plausible start.
const DEFAULT_LIMITS: [usize; LIMITS] = [1024, 1 << 20, 8 << 20, 2, 2048, 64, 0];

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            limits: DEFAULT_LIMITS,
            cache_config: 0,
            shared_config: 0,
        }
    }
}

pub(super) fn cuCtxSetLimit(limit: u32, value: usize) -> Outcome {
    let context = current()?;
    let mut settings = lock(&context.settings);
    let slot = settings.limits.get_mut(limit as usize);
    *slot.ok_or(Code::UNSUPPORTED_LIMIT)? = value;
    Ok(())
}

pub(super) unsafe fn cuCtxGetLimit(pvalue: *mut usize, limit: u32) -> Outcome {
    let context = current()?;
    let limits = lock(&context.settings).limits;
    let value = limits.get(limit as usize).ok_or(Code::UNSUPPORTED_LIMIT)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(pvalue, *value) }
}

pub(super) unsafe fn cuCtxGetCacheConfig(config: *mut u32) -> Outcome {
    let context = current()?;
    let value = lock(&context.settings).cache_config;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(config, value) }
}

pub(super) fn cuCtxSetCacheConfig(config: u32) -> Outcome {
    let context = current()?;
    if config > 3 {
        return Err(Code::INVALID_VALUE);
    }
    lock(&context.settings).cache_config = config;
    Ok(())
}

pub(super) unsafe fn cuCtxGetSharedMemConfig(config: *mut u32) -> Outcome {
    let context = current()?;
    let value = lock(&context.settings).shared_config;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(config, value) }
}

pub(super) fn cuCtxSetSharedMemConfig(config: u32) -> Outcome {
    let context = current()?;
    if config > 2 {
        return Err(Code::INVALID_VALUE);
    }
    lock(&context.settings).shared_config = config;
    Ok(())
}
