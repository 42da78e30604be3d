//! A block has 1 to 1024 threads, and at least one block is on a multiprocessor.

use cuda_std::prelude::*;

#[kernel]
#[launch_bounds(0)]
pub unsafe fn empty(_x: *const f32) {}

#[kernel]
#[launch_bounds(2 * 1024)]
pub unsafe fn too_large(_x: *const f32) {}

#[kernel]
#[launch_bounds(256, 0)]
pub unsafe fn no_blocks(_x: *const f32) {}

fn main() {}
