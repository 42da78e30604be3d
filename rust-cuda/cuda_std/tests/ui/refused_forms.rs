//! Functions that cannot be entry points. Each error stands at the word that is wrong.

use cuda_std::prelude::*;

#[kernel]
pub fn not_unsafe(x: *const f32) {}

#[kernel]
unsafe fn not_public(x: *const f32) {}

#[kernel]
pub unsafe fn returns(x: *const f32) -> f32 {
    0.0
}

#[kernel]
pub unsafe fn generic<T: Copy>(x: *const T) {}

#[kernel]
pub unsafe fn const_generic<const N: usize>(x: *const f32) {}

#[kernel]
pub unsafe fn hidden_generic(x: impl Copy) {}

#[kernel]
pub async unsafe fn asynchronous(x: *const f32) {}

#[kernel]
pub const unsafe fn constant(x: *const f32) {}

#[kernel]
pub unsafe extern "C" fn other_convention(x: *const f32) {}

#[kernel]
pub unsafe fn exclusive(x: &mut [f32]) {}

#[kernel]
pub unsafe fn text(x: &str) {}

#[kernel]
pub unsafe fn object(x: &dyn Fn()) {}

#[kernel(fast)]
pub unsafe fn arguments(x: *const f32) {}

#[kernel]
#[unsafe(no_mangle)]
#[unsafe(export_name = "two")]
pub unsafe fn two_names(x: *const f32) {}

#[kernel]
#[launch_bounds(1, 2, 3)]
pub unsafe fn three_bounds(x: *const f32) {}

#[kernel]
#[launch_bounds]
pub unsafe fn no_bounds(x: *const f32) {}

#[kernel]
#[launch_bounds(64)]
#[launch_bounds(64)]
pub unsafe fn bounds_twice(x: *const f32) {}

#[launch_bounds(64)]
pub unsafe fn bounds_of_no_kernel(x: *const f32) {}

struct Rows;

impl Rows {
    #[kernel]
    pub unsafe fn method(&self, x: *const f32) {}
}

fn main() {}
