//! A block has 1 to 1024 threads, and a multiprocessor at most 32 blocks.

use cuda_std::prelude::*;

#[kernel]
#[launch_bounds(0)]
pub unsafe fn empty(_x: *const f32) {}

#[kernel]
#[launch_bounds(2 * 1024)]
pub unsafe fn too_large(_x: *const f32) {}

#[kernel]
#[launch_bounds(64, 33)]
pub unsafe fn too_many_blocks(_x: *const f32) {}

fn main() {}
