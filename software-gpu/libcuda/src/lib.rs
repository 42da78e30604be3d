//! The software device as a `libcuda.so.1`, for clients that load the driver at run time.
//!
//! ```text
//! cargo build --release -p software-gpu-libcuda
//! mkdir -p /opt/software-gpu
//! cp target/release/libsoftware_gpu_libcuda.so /opt/software-gpu/libcuda.so.1
//! ln -s libcuda.so.1 /opt/software-gpu/libcuda.so
//! LD_LIBRARY_PATH=/opt/software-gpu my-cuda-program
//! ```
//!
//! Beside the driver API's entry points there is [`softwareGpuLastFault`], for the words that a
//! `CUresult` has no room for.
#![warn(missing_docs)]

macro_rules! export {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => { $(
        /// As the CUDA driver API has it.
        ///
        /// # Safety
        /// Pointers are null or point to what the driver API says, with its sizes.
        #[unsafe(no_mangle)]
        #[allow(clippy::too_many_arguments, reason = "true of some symbols, not of all")]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> u32 {
            // SAFETY: passed on unchanged.
            unsafe { software_gpu::driver::$name($($arg),*) }
        }
    )* };
}

software_gpu::for_each_supported!(export);
software_gpu::for_each_unsupported!(export);

/// The stream functions under the names that clients get which compile for a default stream of each
/// thread. All streams do their work at the call, so the two kinds differ in one thing: null is the legacy
/// stream here too, which cannot be captured.
macro_rules! export_again {
    ($($name:ident = $same:ident($($arg:ident: $type:ty),*);)*) => { $(
        /// As the CUDA driver API has it.
        ///
        /// # Safety
        /// Pointers are null or point to what the driver API says, with its sizes.
        #[unsafe(no_mangle)]
        #[allow(clippy::too_many_arguments, reason = "true of some symbols, not of all")]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> u32 {
            // SAFETY: passed on unchanged.
            unsafe { software_gpu::driver::$same($($arg),*) }
        }
    )* };
}

export_again! {
    cuMemcpyHtoD_v2_ptds = cuMemcpyHtoD_v2(to: u64, from: *const u8, len: usize);
    cuMemcpyDtoH_v2_ptds = cuMemcpyDtoH_v2(to: *mut u8, from: u64, len: usize);
    cuMemcpyDtoD_v2_ptds = cuMemcpyDtoD_v2(to: u64, from: u64, len: usize);
    cuMemcpyHtoDAsync_v2_ptsz = cuMemcpyHtoDAsync_v2(to: u64, from: *const u8, len: usize, stream: usize);
    cuMemcpyDtoHAsync_v2_ptsz = cuMemcpyDtoHAsync_v2(to: *mut u8, from: u64, len: usize, stream: usize);
    cuMemcpyDtoDAsync_v2_ptsz = cuMemcpyDtoDAsync_v2(to: u64, from: u64, len: usize, stream: usize);
    cuMemsetD8_v2_ptds = cuMemsetD8_v2(to: u64, value: u8, n: usize);
    cuMemsetD16_v2_ptds = cuMemsetD16_v2(to: u64, value: u16, n: usize);
    cuMemsetD32_v2_ptds = cuMemsetD32_v2(to: u64, value: u32, n: usize);
    cuMemsetD8Async_ptsz = cuMemsetD8Async(to: u64, value: u8, n: usize, stream: usize);
    cuMemsetD32Async_ptsz = cuMemsetD32Async(to: u64, value: u32, n: usize, stream: usize);
    cuMemAllocAsync_ptsz = cuMemAllocAsync(out: *mut u64, bytes: usize, stream: usize);
    cuMemFreeAsync_ptsz = cuMemFreeAsync(address: u64, stream: usize);
    cuEventRecord_ptsz = cuEventRecord(event: usize, stream: usize);
    cuStreamQuery_ptsz = cuStreamQuery(stream: usize);
    cuStreamSynchronize_ptsz = cuStreamSynchronize(stream: usize);
    cuStreamWaitEvent_ptsz = cuStreamWaitEvent(stream: usize, event: usize, flags: u32);
    cuLaunchKernel_ptsz = cuLaunchKernel(f: usize, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared: u32, stream: usize, params: *mut *mut u8, extra: *mut *mut u8);
}

/// Writes what the device said of the last thing that went wrong in this process as a C string into
/// `buffer`, cut to `capacity` bytes, and gives the length of the whole text, 0 where there is none.
///
/// # Safety
/// `buffer` is null, or has `capacity` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softwareGpuLastFault(buffer: *mut u8, capacity: usize) -> usize {
    let text = software_gpu::driver::last_fault().unwrap_or_default();
    if !buffer.is_null() && capacity > 0 {
        let kept = text.len().min(capacity - 1);
        // SAFETY: kept + 1 <= capacity bytes are writable, and the text is this function's own.
        unsafe {
            buffer.copy_from_nonoverlapping(text.as_ptr(), kept);
            buffer.add(kept).write(0);
        }
    }
    text.len()
}
