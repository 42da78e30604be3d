//! Rust-CUDA's device library over rustc's own NVPTX backend, so that kernels are written as any
//! Rust-CUDA kernel crate is and can move to the upstream crate when it is published.
//!
//! ```
//! #![cfg_attr(target_arch = "nvptx64", no_std, feature(abi_ptx))]
//! use cuda_std::prelude::*;
//!
//! #[kernel]
//! pub unsafe fn scale(x: &[f32], y: *mut f32, factor: f32) {
//!     let i = thread::index_1d() as usize;
//!     if i < x.len() {
//!         unsafe { *y.add(i) = x[i] * factor };
//!     }
//! }
//! ```
//!
//! | module | |
//! |---|---|
//! | [`thread`] | indices and sizes of the grid, barriers, fences, as upstream |
//! | [`warp`] | shuffles, votes, matches, integer reductions, as upstream |
//! | [`shared`], [`ptr`] | shared memory and address spaces, as upstream |
//! | [`GpuFloat`] | the part of upstream's float functions that needs no libdevice |
//! | [`ext`] | what upstream lacks |
//!
//! Everything that must not be moved across a branch (barriers, shuffles, votes) is an LLVM intrinsic:
//! LLVM knows those to be convergent, and does not know it of `asm!`.
//!
//! On the host all of it type-checks. What has no meaning there panics with its name.
#![warn(missing_docs)]
#![cfg_attr(
    target_arch = "nvptx64",
    no_std,
    feature(asm_experimental_arch, link_llvm_intrinsics),
    allow(internal_features)
)]

pub mod ext;
pub mod float;
pub mod ptr;
pub mod shared;
pub mod thread;
pub mod warp;

pub use cuda_std_macros::{gpu_only, kernel, launch_bounds};
pub use float::GpuFloat;

#[doc(hidden)]
pub use cuda_std_macros::__static_shared;

/// What nearly every kernel uses.
pub mod prelude {
    pub use crate::float::GpuFloat;
    pub use crate::{kernel, launch_bounds, shared, thread, warp};
}

/// `#[kernel]` names this for each parameter's type, for its bound alone.
#[doc(hidden)]
pub const fn __kernel_parameter_must_be_copy<T: Copy>() {}

/// Nothing on the device can print the message, so a panic ends the kernel with an error.
#[cfg(target_arch = "nvptx64")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    ext::trap()
}
