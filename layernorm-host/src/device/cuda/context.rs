//! A device's primary context: made current for a call and put back after it, and the place where a
//! driver's code becomes an error.

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
        let failed = |error| self::error(device_name, "retaining the primary context", error);
        let mut before = ptr::null_mut();
        // SAFETY: `before` outlives the call, which writes it alone.
        check(unsafe { sys::cuCtxGetCurrent(&mut before) }).map_err(failed)?;
        let context = cust::context::Context::new(device).map_err(failed)?;
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

    pub fn error(&self, doing: &'static str, error: CudaError) -> Error {
        self::error(&self.device_name, doing, error)
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
pub fn error(device: &str, doing: &'static str, error: CudaError) -> Error {
    Error::Cuda {
        device: device.to_owned(),
        doing,
        cause: code(error),
        detail: cuda_driver::last_fault().unwrap_or_default(),
    }
}

/// The driver's own code and name.
pub fn code(error: CudaError) -> CudaCode {
    CudaCode {
        code: error as u32,
        name: name(&format!("{error:?}")),
    }
}

/// `IllegalAddress` to `CUDA_ERROR_ILLEGAL_ADDRESS`: cust's names are the driver's in another case.
fn name(cust_name: &str) -> String {
    let mut name = String::from("CUDA_ERROR");
    for letter in cust_name.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// A raw result as cust's error.
pub fn check(result: sys::CUresult) -> std::result::Result<(), CudaError> {
    use sys::cudaError_enum as raw;
    Err(match result {
        raw::CUDA_SUCCESS => return Ok(()),
        raw::CUDA_ERROR_INVALID_VALUE => CudaError::InvalidValue,
        raw::CUDA_ERROR_OUT_OF_MEMORY => CudaError::OutOfMemory,
        raw::CUDA_ERROR_NOT_INITIALIZED => CudaError::NotInitialized,
        raw::CUDA_ERROR_DEINITIALIZED => CudaError::Deinitialized,
        raw::CUDA_ERROR_INVALID_DEVICE => CudaError::InvalidDevice,
        raw::CUDA_ERROR_INVALID_IMAGE => CudaError::InvalidImage,
        raw::CUDA_ERROR_INVALID_CONTEXT => CudaError::InvalidContext,
        raw::CUDA_ERROR_NO_BINARY_FOR_GPU => CudaError::NoBinaryForGpu,
        raw::CUDA_ERROR_INVALID_PTX => CudaError::InvalidPtx,
        raw::CUDA_ERROR_INVALID_HANDLE => CudaError::InvalidHandle,
        raw::CUDA_ERROR_NOT_FOUND => CudaError::NotFound,
        raw::CUDA_ERROR_ILLEGAL_ADDRESS => CudaError::IllegalAddress,
        raw::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES => CudaError::LaunchOutOfResources,
        raw::CUDA_ERROR_LAUNCH_TIMEOUT => CudaError::LaunchTimeout,
        raw::CUDA_ERROR_ILLEGAL_INSTRUCTION => CudaError::IllegalInstruction,
        raw::CUDA_ERROR_MISALIGNED_ADDRESS => CudaError::MisalignedAddress,
        raw::CUDA_ERROR_INVALID_ADDRESS_SPACE => CudaError::InvalidAddressSpace,
        raw::CUDA_ERROR_LAUNCH_FAILED => CudaError::LaunchFailed,
        raw::CUDA_ERROR_NOT_PERMITTED => CudaError::NotPermitted,
        raw::CUDA_ERROR_NOT_SUPPORTED => CudaError::NotSupported,
        _ => CudaError::UnknownError,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_drivers() {
        let name = |error| code(error).to_string();
        assert_eq!(
            name(CudaError::IllegalAddress),
            "CUDA_ERROR_ILLEGAL_ADDRESS (700)"
        );
        assert_eq!(name(CudaError::OutOfMemory), "CUDA_ERROR_OUT_OF_MEMORY (2)");
        assert_eq!(name(CudaError::NoDevice), "CUDA_ERROR_NO_DEVICE (100)");
    }
}
