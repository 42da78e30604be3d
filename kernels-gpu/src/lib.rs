//! LayerNorm's device code, compiled to PTX by `cargo xtask build-ptx`.
//!
//! The host imports [`abi`] alone. `entry` names the kernels, `forward` and `backward` are the formula,
//! `reduce` and `vector` the instructions.
#![warn(missing_docs)]
#![cfg_attr(
    target_arch = "nvptx64",
    no_std,
    feature(abi_ptx, asm_experimental_arch),
    allow(internal_features)
)]
// Loops over const-generic arrays, which must unroll, are written over indices.
#![allow(clippy::needless_range_loop)]

pub mod abi;
mod any;
mod backward;
mod entry;
mod forward;
mod reduce;
mod vector;
