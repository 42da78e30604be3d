//! A parameter that has an owner cannot be packed as bytes.

use cuda_std::prelude::*;

#[kernel]
pub unsafe fn owned(_x: Box<f32>, _names: &[String]) {}

fn main() {}
