//! Functions: a kernel as the client holds it, with the attributes that can be set on it.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::context::{self, current};
use super::error::{Code, Outcome};
use super::ffi::{put, put_if_wanted};
use super::handles::{Handle, Registry, fresh};
use crate::{Kernel, Model};

/// A kernel of a loaded module.
pub(super) struct Function {
    pub context: Handle,
    pub module: Handle,
    pub kernel: Arc<Kernel>,
    name: CString,
    carveout: AtomicU32,
}

static FUNCTIONS: Registry<Function> = Registry::new();

impl Function {
    pub fn new(context: Handle, module: Handle, kernel: Arc<Kernel>, name: CString) -> Function {
        Function {
            context,
            module,
            kernel,
            name,
            carveout: AtomicU32::new(u32::MAX),
        }
    }
}

pub(super) fn insert(function: Function) -> Handle {
    let handle = fresh();
    FUNCTIONS.insert(handle, Arc::new(function));
    handle
}

pub(super) fn remove_where(gone: impl Fn(&Function) -> bool) {
    FUNCTIONS.remove_where(gone);
}

/// The function, if its context is well.
pub(super) fn well(handle: Handle) -> Outcome<Arc<Function>> {
    current()?;
    let function = FUNCTIONS.get(handle)?;
    context::lookup(function.context)?.well()?;
    Ok(function)
}

/// The model of the device that the function is loaded on.
pub(super) fn model_of(function: &Function) -> Outcome<&'static Model> {
    Ok(context::lookup(function.context)?.device().gpu.model())
}

pub(super) unsafe fn cuFuncGetAttribute(out: *mut i32, attribute: u32, handle: usize) -> Outcome {
    let function = well(handle)?;
    let model = model_of(&function)?;
    let kernel = &function.kernel;
    let (major, minor) = model.compute_capability;
    let value = match attribute {
        0 => kernel.max_threads(),
        1 => kernel.static_shared_bytes(),
        2 | 7 => 0, // constants of its own; cached globals
        3 => kernel.local_bytes(),
        4 => kernel.registers(),
        5 | 6 => 10 * major + minor, // what it was compiled for: this device
        8 => kernel.max_dynamic_shared(model),
        9 => function.carveout.load(Ordering::SeqCst),
        10 => (kernel.explicit_cluster && kernel.required_cluster().is_none()).into(),
        11..=13 => kernel
            .required_cluster()
            .map_or(0, |cluster| cluster[attribute as usize - 11]),
        14 => kernel.allows_non_portable_cluster().into(),
        15 => 0, // how clusters are scheduled: as the device likes
        _ => return Err(Code::INVALID_VALUE),
    };
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, value as i32) }
}

pub(super) fn cuFuncSetAttribute(handle: usize, attribute: u32, value: i32) -> Outcome {
    let function = well(handle)?;
    let model = model_of(&function)?;
    match attribute {
        8 => {
            let bytes = u32::try_from(value).map_err(|_| Code::INVALID_VALUE)?;
            let fixed = function.kernel.static_shared_bytes();
            let most = model.max_shared_per_block_optin.saturating_sub(fixed);
            if bytes > most {
                return Err(Code::INVALID_VALUE);
            }
            function.kernel.allow_dynamic_shared(bytes);
            Ok(())
        }
        9 if (-1..=100).contains(&value) => {
            function.carveout.store(value as u32, Ordering::SeqCst);
            Ok(())
        }
        14 if model.compute_capability.0 >= 9 && matches!(value, 0 | 1) => {
            function.kernel.allow_non_portable_cluster(value == 1);
            Ok(())
        }
        // A preference that changes nothing here.
        15 if model.compute_capability.0 >= 9 && (0..=2).contains(&value) => Ok(()),
        10..=15 => Err(Code::NOT_SUPPORTED),
        _ => Err(Code::INVALID_VALUE),
    }
}

/// A preference that changes nothing here.
pub(super) fn cuFuncSetCacheConfig(handle: usize, config: u32) -> Outcome {
    well(handle)?;
    if config > 3 {
        return Err(Code::INVALID_VALUE);
    }
    Ok(())
}

/// A preference that changes nothing here.
pub(super) fn cuFuncSetSharedMemConfig(handle: usize, config: u32) -> Outcome {
    well(handle)?;
    if config > 2 {
        return Err(Code::INVALID_VALUE);
    }
    Ok(())
}

pub(super) unsafe fn cuFuncGetModule(out: *mut usize, handle: usize) -> Outcome {
    let function = well(handle)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, function.module) }
}

/// The name lives as long as the function's handle.
pub(super) unsafe fn cuFuncGetName(out: *mut *const u8, handle: usize) -> Outcome {
    let function = well(handle)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, function.name.as_ptr().cast()) }
}

pub(super) unsafe fn cuFuncGetParamInfo(
    handle: usize,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> Outcome {
    let function = well(handle)?;
    let param = function.kernel.params().get(index);
    let param = param.ok_or(Code::INVALID_VALUE)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe {
        put_if_wanted(size, param.size as usize);
        put(offset, param.offset as usize)
    }
}

/// A function is loaded with its module.
pub(super) unsafe fn cuFuncIsLoaded(state: *mut u32, handle: usize) -> Outcome {
    well(handle)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(state, 1) }
}

/// A function is loaded with its module.
pub(super) fn cuFuncLoad(handle: usize) -> Outcome {
    well(handle).map(drop)
}
