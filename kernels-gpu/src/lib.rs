//! LayerNorm's device code, compiled to PTX by `cargo xtask build-ptx`. The host imports [`abi`] alone.
#![cfg_attr(target_arch = "nvptx64", no_std)]

pub mod abi;
