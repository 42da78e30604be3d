//! The kernels of a device: each is taken from the best image for it, compiled by the driver as a
//! module of its own when it is first needed, and kept.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, PoisonError, RwLock};

use cust::error::CudaError;
use cust::module::Module;
use cust::sys;
use kernels_gpu::abi::PORTABLE_CLUSTER;

use super::context::{self, Cause, Context};
use crate::trace::span;
use crate::{CudaCode, Entry, Error, IMAGES, Image, Result, Variant};

/// The kernels of one device.
pub struct Kernels {
    device_name: String,
    /// The newest that the device runs.
    image: &'static Image,
    compute_capability: (u32, u32),
    /// Held while a kernel is loaded, so that it is loaded once.
    loading: Mutex<()>,
    functions: RwLock<HashMap<Entry, Function>>,
}

/// A function of a module that is never unloaded.
#[derive(Clone, Copy)]
pub struct Function(sys::CUfunction);

// SAFETY: a function handle is an opaque value that the driver accepts on any thread, and it stays
// valid because its module lives as long as the process.
unsafe impl Send for Function {}
// SAFETY: as for Send; there is nothing to change through a shared handle.
unsafe impl Sync for Function {}

impl Function {
    pub fn raw(self) -> sys::CUfunction {
        self.0
    }
}

impl Kernels {
    /// Picks the image; loads nothing yet.
    pub fn for_device(name: &str, compute_capability: (u32, u32)) -> Result<Self> {
        let image = Image::best(compute_capability).ok_or_else(|| Error::NoImage {
            device: name.to_owned(),
            major: compute_capability.0,
            minor: compute_capability.1,
            oldest: IMAGES[0].target,
        })?;
        Ok(Kernels {
            device_name: name.to_owned(),
            image,
            compute_capability,
            loading: Mutex::new(()),
            functions: RwLock::new(HashMap::new()),
        })
    }

    pub fn target(&self) -> u32 {
        self.image.target
    }

    /// Loads every kernel. The device's context must be the current one.
    pub fn load(&self, context: &Context) -> Result<()> {
        Entry::all()
            .into_iter()
            .filter(|entry| entry.runs_on(self.compute_capability))
            .try_for_each(|entry| self.function(entry, context).map(|_| ()))
    }

    /// The function of an entry point. `context` must be the current one.
    pub fn function(&self, entry: Entry, context: &Context) -> Result<Function> {
        if let Some(function) = self.known(entry) {
            return Ok(function);
        }
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = self.known(entry) {
            return Ok(function);
        }
        let function = self.load_function(entry, context)?;
        self.functions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(entry, function);
        Ok(function)
    }

    fn known(&self, entry: Entry) -> Option<Function> {
        // A map whose writer panicked is still whole: the insert is its last step.
        let functions = self
            .functions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        functions.get(&entry).copied()
    }

    fn load_function(&self, entry: Entry, context: &Context) -> Result<Function> {
        let name = entry.to_string();
        let image = Image::with_kernel(&name, self.compute_capability).unwrap_or(self.image);
        let target = image.target;
        span!("load", kernel = %entry, image = target);
        let _relaxed = Relaxed::new();
        let ptx = image
            .kernel(&name)
            .ok_or(Error::NoKernel { entry, target })?;
        let module = load(&ptx).map_err(|(cause, log)| Error::Jit {
            device: self.device_name.clone(),
            target,
            cause,
            log,
        })?;
        let function = module
            .get_function(&name)
            .map_err(|error| context.error("looking a kernel up", error))?
            .to_raw();
        // SAFETY: the function is of the module loaded just now.
        let allowed = unsafe { allow_shared_memory(function) };
        allowed.map_err(|error| context.error("asking for a kernel's shared memory", error))?;
        let cluster = entry.variant().map_or(1, Variant::cluster_blocks);
        if cluster > PORTABLE_CLUSTER {
            // SAFETY: as above.
            let allowed = unsafe { allow_larger_clusters(function) };
            allowed.map_err(|error| context.error("asking for a kernel's clusters", error))?;
        }
        // Launches may come at any time until the process ends.
        std::mem::forget(module);
        Ok(Function(function))
    }
}

/// While it lives, its thread may load modules although a stream is being captured into a graph: that
/// stands on nothing that a module brings with it. Without it the driver refuses, and spoils the capture.
struct Relaxed(sys::CUstreamCaptureMode);

impl Relaxed {
    fn new() -> Option<Self> {
        let mut mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the call exchanges one value.
        let exchanged = unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) };
        context::check(exchanged).ok().map(|()| Relaxed(mode))
    }
}

impl Drop for Relaxed {
    fn drop(&mut self) {
        // SAFETY: as in `new`. The value is one that the driver gave.
        let _ = unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut self.0) };
    }
}

/// Lets launches of the kernel have all the shared memory that a block of its device may have. Without
/// it they may have 48 KiB.
///
/// # Safety
///
/// `function` is of a loaded module of the current context.
unsafe fn allow_shared_memory(function: sys::CUfunction) -> std::result::Result<(), CudaCode> {
    let (mut device, mut most, mut declared) = (0, 0, 0);
    let optin = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    let is_static = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
    let dynamic = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // SAFETY: each call writes one value to where it is told; the function is the caller's.
    unsafe {
        context::check(sys::cuCtxGetDevice(&mut device))?;
        context::check(sys::cuDeviceGetAttribute(&mut most, optin, device))?;
        context::check(sys::cuFuncGetAttribute(&mut declared, is_static, function))?;
        context::check(sys::cuFuncSetAttribute(function, dynamic, most - declared))
    }
}

/// Lets launches of the kernel have clusters larger than every device with clusters takes.
///
/// # Safety
///
/// As for [`allow_shared_memory`].
unsafe fn allow_larger_clusters(function: sys::CUfunction) -> std::result::Result<(), CudaCode> {
    unsafe extern "C" {
        // With the attribute as a number: cust's list of them ends before this one.
        fn cuFuncSetAttribute(
            function: sys::CUfunction,
            attribute: c_int,
            value: c_int,
        ) -> sys::CUresult;
    }
    /// `CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED`.
    const NON_PORTABLE_CLUSTER_SIZE_ALLOWED: c_int = 14;
    // SAFETY: the function is the caller's.
    context::check(unsafe { cuFuncSetAttribute(function, NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1) })
}

/// Loads PTX. cust hands out no log, so a failed load is repeated with a buffer for one.
fn load(ptx: &str) -> std::result::Result<Module, (CudaCode, String)> {
    let text = CString::new(ptx).map_err(|_| {
        let log = "the image holds a nul byte".to_owned();
        (CudaError::InvalidPtx.code(), log)
    })?;
    Module::from_ptx_cstr(&text, &[]).map_err(|error| (error.code(), jit_log(&text)))
}

fn jit_log(ptx: &CString) -> String {
    let mut log = vec![0u8; 16 << 10];
    let mut options = [
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ];
    // A size is passed as the pointer's own value.
    let mut values: [*mut c_void; 2] = [
        log.as_mut_ptr().cast(),
        ptr::without_provenance_mut(log.len()),
    ];
    let mut module = ptr::null_mut();
    // SAFETY: the text ends with a nul, both arrays have the two options that are announced, and the
    // log has the size that is announced.
    let result = unsafe {
        sys::cuModuleLoadDataEx(
            &mut module,
            ptx.as_ptr().cast(),
            2,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    if context::check(result).is_ok() {
        // SAFETY: the module was loaded just now, and no function of it was looked up.
        let _ = unsafe { sys::cuModuleUnload(module) };
        return "loading failed at first and succeeded when repeated for its log".to_owned();
    }
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_too_old_is_an_error() {
        let error = Kernels::for_device("Tesla V100", (7, 0)).map(drop);
        assert!(matches!(
            &error,
            Err(Error::NoImage { major: 7, minor: 0, oldest: 75, device }) if device == "Tesla V100"
        ));
        Kernels::for_device("T4", (7, 5)).unwrap();
    }

    #[test]
    fn what_the_driver_cannot_compile_is_an_error_with_its_log() {
        let device = crate::Device::software(0).unwrap();
        let shared = device.cuda_shared().unwrap();
        let _current = shared.context.enter().unwrap();
        let ptx = ".version 7.0\n.target sm_75\n.address_size 64\n\
            .visible .entry k()\n{\n    no.such.instruction;\n    ret;\n}\n";
        let (cause, log) = load(ptx).map(drop).unwrap_err();
        assert_eq!(cause.to_string(), "CUDA_ERROR_INVALID_PTX (218)");
        assert!(log.contains("no.such.instruction"), "{log}");
        let error = Error::Jit {
            device: "T4".to_owned(),
            target: 75,
            cause,
            log: log.clone(),
        };
        let shown = error.to_string();
        assert!(
            shown.contains("sm_75") && shown.ends_with(log.trim()),
            "{shown}"
        );
    }
}
