//! Launches that may begin before the one before them on their stream has ended, which cust has no name for.

use std::ffi::{c_uint, c_void};

use cust::CudaApiVersion;
use cust::sys;

use crate::plan::Launch;

/// `CUlaunchConfig`.
#[repr(C)]
struct Config {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared_bytes: c_uint,
    stream: sys::CUstream,
    attributes: *const Attribute,
    n_attributes: c_uint,
}

/// `CUlaunchAttribute`: what it is, and a value of up to 64 bytes.
#[repr(C)]
struct Attribute {
    id: c_uint,
    padding: c_uint,
    value: [u64; 8],
}

const _: () = assert!(size_of::<Config>() == 56 && size_of::<Attribute>() == 72);

/// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`.
const PROGRAMMATIC_STREAM_SERIALIZATION: c_uint = 6;

unsafe extern "C" {
    fn cuLaunchKernelEx(
        config: *const Config,
        function: sys::CUfunction,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> sys::CUresult;
}

/// Whether the driver takes such launches, also where their stream is being captured into a graph: from 12.3 on.
pub fn is_known() -> bool {
    CudaApiVersion::get().is_ok_and(|version| (version.major(), version.minor()) >= (12, 3))
}

/// Launches a kernel that waits for the launch before by itself.
///
/// # Safety
///
/// As for `cuLaunchKernel`; [`is_known`]; the kernel touches nothing of what the launch before touches until it has
/// waited.
pub unsafe fn launch(
    stream: sys::CUstream,
    launch: &Launch,
    function: sys::CUfunction,
    parameters: &mut [*mut c_void],
) -> sys::CUresult {
    let attribute = Attribute {
        id: PROGRAMMATIC_STREAM_SERIALIZATION,
        padding: 0,
        value: [1, 0, 0, 0, 0, 0, 0, 0],
    };
    let config = Config {
        grid: [launch.grid, launch.grid_y, 1],
        block: [launch.block, 1, 1],
        shared_bytes: launch.shared_bytes,
        stream,
        attributes: &attribute,
        n_attributes: 1,
    };
    // SAFETY: the caller's; the driver reads the configuration before it returns.
    unsafe {
        cuLaunchKernelEx(
            &config,
            function,
            parameters.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    }
}
