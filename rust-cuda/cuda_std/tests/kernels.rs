//! `#[kernel]` on the host: the forms that kernel crates use compile, and what comes out is a function
//! whose parameters are those of the entry point.

use cuda_std::ext;
use cuda_std::prelude::*;

const BLOCK: u32 = 64;

/// One thread's work that needs no device, so that it runs here.
#[kernel]
pub unsafe fn sum(x: &[f32], scale: f32, weights: &[f32], out: *mut f32) {
    let dot: f32 = x.iter().zip(weights).map(|(x, w)| x * w).sum();
    // SAFETY: the test passes a pointer to its own variable.
    unsafe { *out = dot * scale }
}

#[test]
fn a_slice_is_a_pointer_and_a_length_in_its_place() {
    let kernel: unsafe fn(*const f32, usize, f32, *const f32, usize, *mut f32) = sum;
    let (x, weights) = ([1.0_f32, 2.0, 3.0], [10.0_f32, 1.0, 0.1]);
    let mut out = 0.0;
    // SAFETY: the lengths are the arrays'.
    unsafe { kernel(x.as_ptr(), 3, 2.0, weights.as_ptr(), 2, &raw mut out) };
    assert_eq!(out, 24.0);
}

#[kernel]
#[launch_bounds(BLOCK * 2, 4)]
pub unsafe fn ask_for_the_thread(out: *mut u32) {
    // SAFETY: not reached on the host.
    unsafe { *out = thread::thread_idx_x() }
}

#[test]
#[should_panic(expected = "`thread_idx_x` runs on the GPU only")]
fn a_device_function_says_its_name_on_the_host() {
    // SAFETY: nothing is written, since the index is asked for first.
    unsafe { ask_for_the_thread(std::ptr::null_mut()) }
}

unsafe fn copy<T: Copy, const OFFSET: usize>(x: *const T, y: *mut T, n: u64) {
    if n > OFFSET as u64 {
        // SAFETY: the caller's.
        unsafe { *y.add(OFFSET) = *x.add(OFFSET) }
    }
}

/// Entry points from a macro: several kernels of one name in Rust, named for the host by `concat!`,
/// with a type and a constant from the macro's arguments, and the attributes in either order.
macro_rules! copy_entries {
    ($($x:ident, $element:ty, $offset:literal, $block:expr;)*) => {$(
        const _: () = {
            #[unsafe(export_name = concat!("copy_", stringify!($x), "_", stringify!($offset)))]
            #[kernel]
            #[launch_bounds($block)]
            pub unsafe fn entry(x: *const $element, y: *mut $element, n: u64, mask: &[$element]) {
                // SAFETY: the launch's.
                unsafe { copy::<$element, $offset>(x, y, n + mask.len() as u64) }
            }

            #[launch_bounds($block)]
            #[kernel]
            pub unsafe fn other_order(x: *const $element, y: *mut $element) {
                // SAFETY: the launch's.
                unsafe { copy::<$element, $offset>(x, y, 1) }
            }
        };
    )*};
}

copy_entries! {
    f32, f32, 0, 128;
    f16, u16, 4, BLOCK;
}

#[kernel]
pub unsafe fn uses_shared_memory(out: *mut f32) {
    let words = cuda_std::shared_words![f32; 32];
    let array: *mut f32 = cuda_std::shared_array![f32; 32];
    let dynamic: *mut f32 = shared::dynamic_shared_mem();
    // SAFETY: not reached on the host.
    unsafe {
        words.store(0, 1.0);
        thread::sync_threads();
        *out = words.load(0) + *array + *dynamic + ext::Shared::<f32>::dynamic().load(1);
    }
}

#[test]
#[should_panic(expected = "`__static_address` runs on the GPU only")]
fn shared_memory_is_the_devices() {
    // SAFETY: nothing is written, since the memory is asked for first.
    unsafe { uses_shared_memory(std::ptr::null_mut()) }
}

/// What is refused is refused in words. The files beside each say which.
#[test]
fn wrong_kernels_are_compile_errors_that_say_what_is_wrong() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
