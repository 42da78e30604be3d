//! Memory that the threads of a block share, as generic pointers: Rust-CUDA's interface.
//!
//! This backend has no address spaces, so an access through these pointers is a generic one, which is
//! slower. Kernels that care use [`ext::Shared`](crate::ext::Shared), whose accesses name the memory.
//!
//! The variables themselves are declared by `cuda_builder`, from a comment that each use leaves in
//! the PTX.

use cuda_std_macros::gpu_only;

/// A `*mut T` to static shared memory for `N` elements: `shared_array![T; N]`.
///
/// The memory belongs to the place in the source: however often it is reached, also from several
/// instances of a generic function, it is the same memory. It is not initialised.
///
/// # Safety
///
/// Reading it takes care: another thread's write is seen after
/// [`sync_threads`](crate::thread::sync_threads), and what was not written is unspecified.
#[macro_export]
macro_rules! shared_array {
    ($element:ty; $length:expr) => {
        $crate::shared::__generic_pointer::<$element>($crate::__static_shared!([$element; $length]))
    };
}

/// The shared memory whose size the launch says. Every call gives the same pointer, aligned to 128
/// bytes, to memory that is not initialised.
#[inline(always)]
pub fn dynamic_shared_mem<T>() -> *mut T {
    __generic_pointer(__dynamic_address::<T>())
}

/// The address in shared memory of the variable that belongs to a crate's hash and a number in it.
#[doc(hidden)]
#[gpu_only]
#[inline(always)]
pub fn __static_address<T, const CRATE: u32, const SITE: u32>() -> u32 {
    let address: u32;
    // SAFETY: the variable is there: `cuda_builder` declares it from the comment.
    unsafe {
        core::arch::asm!(
            "//cuda_std shared __shared_{krate}_{site}_{bytes} {bytes} {align}",
            "mov.u32 {address}, __shared_{krate}_{site}_{bytes};",
            krate = const CRATE,
            site = const SITE,
            bytes = const size_of::<T>(),
            align = const max(align_of::<T>(), 16),
            address = out(reg32) address,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
    address
}

/// The address in shared memory of what the launch added.
#[doc(hidden)]
#[gpu_only]
#[inline(always)]
pub fn __dynamic_address<T>() -> u32 {
    const {
        assert!(
            align_of::<T>() <= 128,
            "dynamic shared memory is aligned to 128 bytes, and this type needs more"
        )
    };
    let address: u32;
    // SAFETY: the variable is there: `cuda_builder` declares it from the comment.
    unsafe {
        core::arch::asm!(
            "//cuda_std dynamic_shared __dynamic_shared",
            "mov.u32 {address}, __dynamic_shared;",
            address = out(reg32) address,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
    address
}

/// An address in shared memory as a pointer that Rust can follow.
#[doc(hidden)]
#[gpu_only]
#[inline(always)]
pub fn __generic_pointer<T>(address: u32) -> *mut T {
    let address = address as u64 as *const T;
    // SAFETY: every caller passes an address in shared memory.
    unsafe {
        crate::ptr::convert_specific_address_space_to_generic(
            address,
            crate::ptr::AddressSpace::Shared,
        )
    }
    .cast_mut()
}

#[cfg(target_arch = "nvptx64")]
const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}
