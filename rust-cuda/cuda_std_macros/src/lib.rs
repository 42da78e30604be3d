//! The attributes of `cuda_std`: what makes a Rust function a kernel, and what keeps a device
//! function compiling on the host. A crate of its own because procedural macros must be.
#![warn(missing_docs)]

mod gpu_only;
mod kernel;
mod launch_bounds;
mod shared;

use proc_macro::TokenStream;

/// Makes a function an entry point that the host can launch.
///
/// ```
/// # use cuda_std::prelude::*;
/// #[kernel]
/// pub unsafe fn scale(x: &[f32], y: *mut f32, factor: f32) {
///     let i = thread::index_1d() as usize;
///     if i < x.len() {
///         unsafe { *y.add(i) = x[i] * factor };
///     }
/// }
/// ```
///
/// The function must be `pub unsafe fn`, may have no type or const parameters, and returns nothing.
/// Its parameters must be `Copy`. A slice `x: &[T]` becomes two parameters of the entry point, a
/// pointer and a length in elements, in that order and in the slice's place; everything else is one.
/// `&mut` is refused, since every thread of the grid would hold it: take `*mut T`.
///
/// The entry point is named as the function is, or as `#[unsafe(export_name = ...)]` says, which may
/// be a `concat!(...)`.
///
/// The crate that holds kernels needs
/// `#![cfg_attr(target_arch = "nvptx64", no_std, feature(abi_ptx))]`. On the host the function is
/// type-checked and is an ordinary function under its Rust name.
#[proc_macro_attribute]
pub fn kernel(arguments: TokenStream, item: TokenStream) -> TokenStream {
    kernel::expand(arguments.into(), item.into())
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}

/// Tells the device compiler how large a block the kernel is launched with, so that it can give each
/// thread as many registers as that allows.
///
/// `#[launch_bounds(max_threads)]` or `#[launch_bounds(max_threads, min_blocks)]`: the most threads
/// in a block (1 to 1024), and how many blocks should fit on a multiprocessor together (up to 32; 0
/// asks for none). Both are constant expressions of type `u32`. Launching a larger block is an error of the driver.
///
/// ```
/// # use cuda_std::prelude::*;
/// const BLOCK: u32 = 256;
///
/// #[kernel]
/// #[launch_bounds(BLOCK, 4)]
/// pub unsafe fn fill(y: *mut f32) {
///     unsafe { *y.add(thread::index_1d() as usize) = 1.0 };
/// }
/// ```
#[proc_macro_attribute]
pub fn launch_bounds(arguments: TokenStream, item: TokenStream) -> TokenStream {
    launch_bounds::expand(arguments.into(), item.into())
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}

/// Keeps a function for the device alone: on the host it has the same signature and panics.
#[proc_macro_attribute]
pub fn gpu_only(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    gpu_only::expand(item.into())
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}

/// Names a block of static shared memory; what `cuda_std`'s macros for shared memory expand to.
#[doc(hidden)]
#[proc_macro]
pub fn __static_shared(input: TokenStream) -> TokenStream {
    shared::expand(input.into())
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
