//! A device's primary context: made current for a call and put back after it, and the place where a
//! driver's code becomes an error.

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::ptr;

use cust::error::CudaError;
use cust::sys;

use crate::{CudaCode, Error, Result};

/// The primary context, which every user of the device in this process shares.
pub struct Context {
    context: cust::context::Context,
    device_name: String,
}

/// While it lives, the context is this thread's current one; after it, what was before.
pub struct Current<'a> {
    // Pointers are neither Send nor Sync, and being current belongs to a thread.
    _thread: PhantomData<(&'a Context, *const ())>,
}

impl Context {
    pub fn retain(device: cust::device::Device, device_name: &str) -> Result<Self> {
        let failed = |cause| self::error(device_name, "retaining the primary context", cause);
        let mut before = ptr::null_mut();
        // SAFETY: `before` outlives the call, which writes it alone.
        check(unsafe { sys::cuCtxGetCurrent(&mut before) }).map_err(failed)?;
        let context = cust::context::Context::new(device)
            .map_err(Cause::code)
            .map_err(failed)?;
        // cust makes the context current, which would take a caller's own context away.
        // SAFETY: `before` is what the driver gave as current on this thread just now.
        check(unsafe { sys::cuCtxSetCurrent(before) }).map_err(failed)?;
        Ok(Context {
            context,
            device_name: device_name.to_owned(),
        })
    }

    pub fn enter(&self) -> Result<Current<'_>> {
        // SAFETY: the context is retained for as long as `self` lives.
        check(unsafe { sys::cuCtxPushCurrent_v2(self.context.as_raw()) })
            .map_err(|error| self.error("making the context current", error))?;
        Ok(Current {
            _thread: PhantomData,
        })
    }

    pub fn error(&self, doing: &'static str, cause: impl Cause) -> Error {
        self::error(&self.device_name, doing, cause)
    }
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let mut popped = ptr::null_mut();
        // SAFETY: `enter` pushed onto this thread's stack, and guards are dropped in reverse order.
        // A failure cannot be reported from here; the next call on this context reports it.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&mut popped) };
    }
}

/// An error of a driver call, with what the software GPU knows beyond the code.
pub fn error(device: &str, doing: &'static str, cause: impl Cause) -> Error {
    Error::Cuda {
        device: device.to_owned(),
        doing,
        cause: cause.code(),
        detail: cuda_driver::last_fault().unwrap_or_default(),
    }
}

/// What a driver call failed by: cust's error, which has the number but not the name, or the code itself.
pub trait Cause {
    fn code(self) -> CudaCode;
}

impl Cause for CudaError {
    fn code(self) -> CudaCode {
        code(self as u32)
    }
}

impl Cause for CudaCode {
    fn code(self) -> CudaCode {
        self
    }
}

/// The driver's own code and name.
fn code(code: u32) -> CudaCode {
    unsafe extern "C" {
        /// As cust has it, but for a number that is none of its enumeration.
        fn cuGetErrorName(error: u32, name: *mut *const c_char) -> u32;
    }
    let mut name = ptr::null();
    // SAFETY: `name` is writable; the driver takes any number.
    let known = unsafe { cuGetErrorName(code, &mut name) } == 0 && !name.is_null();
    let name = match known {
        // SAFETY: the driver's names end in a zero and are never freed.
        true => unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned(),
        false => "CUDA_ERROR_UNKNOWN".to_owned(),
    };
    CudaCode { code, name }
}

/// A raw result as what it says.
pub fn check(result: sys::CUresult) -> std::result::Result<(), CudaCode> {
    match result as u32 {
        0 => Ok(()),
        failed => Err(code(failed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_drivers() {
        let name = |error: CudaError| error.code().to_string();
        assert_eq!(
            name(CudaError::IllegalAddress),
            "CUDA_ERROR_ILLEGAL_ADDRESS (700)"
        );
        assert_eq!(name(CudaError::OutOfMemory), "CUDA_ERROR_OUT_OF_MEMORY (2)");
        assert_eq!(name(CudaError::NoDevice), "CUDA_ERROR_NO_DEVICE (100)");
        // One that cust has no name for.
        let captured = check(sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
        assert_eq!(
            captured.unwrap_err().to_string(),
            "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT (906)"
        );
    }
}
