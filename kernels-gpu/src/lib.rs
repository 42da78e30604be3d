//! LayerNorm's device code, compiled to PTX by `cargo xtask build-ptx`.
//!
//! The host imports [`abi`] alone.
//!
//! | what | where |
//! |---|---|
//! | entry points | `entry`, `cluster_entry` |
//! | the formula, with a row in registers | `forward`, `backward` |
//! | forward, with a row in shared memory | `shared_row` |
//! | backward, for long rows, in two kernels | `columns` |
//! | backward, for a few rows, in one launch | `few` |
//! | both passes, with a long row over a cluster's blocks | `cluster`, `cluster_forward`, `cluster_backward`, `cluster_wide` |
//! | dweight and dbias over blocks | `partials`, `pair` |
//! | both passes for rows of any length | `any` |
//! | both passes, with a row in registers, at any alignment | `ragged_rows`, by `ragged` and `chunk` |
//! | both passes in f64 | `double` |
//! | which thread has what | `place`, `team` |
//! | sums over threads | `reduce` |
//! | rows on their way in shared memory, weight and bias to L1, and what has no room in registers | `stage`, `near`, `kept` |
//! | elements, loads and stores, conversions | `vector`, `access`, `convert` |
#![warn(missing_docs)]
#![cfg_attr(
    target_arch = "nvptx64",
    no_std,
    feature(abi_ptx, asm_experimental_arch),
    allow(internal_features)
)]
// Loops over const-generic arrays, which must unroll, are written over indices.
#![allow(clippy::needless_range_loop)]
// An image has some of the kernels, and not what the others need.
#![cfg_attr(target_arch = "nvptx64", allow(dead_code))]

pub mod abi;
mod access;
mod any;
mod backward;
mod chunk;
mod cluster;
mod cluster_backward;
mod cluster_forward;
mod cluster_wide;
mod columns;
mod convert;
#[cfg(not(cuda_arch = "90"))]
mod double;
// The image for sm_90 has the kernels alone that the one for sm_80 has not, or not as good.
#[cfg_attr(cuda_arch = "90", allow(unused_imports, unused_macros))]
#[macro_use]
mod entry;
#[cfg(any(cuda_arch = "90", not(target_arch = "nvptx64")))]
mod cluster_entry;
mod few;
mod forward;
mod kept;
mod near;
mod pair;
mod partials;
mod place;
mod ragged;
mod ragged_rows;
mod reduce;
mod shared_row;
mod stage;
mod team;
mod vector;
