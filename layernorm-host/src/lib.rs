//! Fused LayerNorm, forward and backward, on CUDA GPUs, with kernels written in Rust.
//!
//! ```
//! use layernorm_host::{DType, Device, LayerNorm, Tensor, fast_layernorm};
//!
//! let device = Device::auto()?; // the GPU if there is one, else the CPU
//! let layer = LayerNorm::new(&[384], DType::F32, &device)?;
//! let x = Tensor::zeros(DType::F32, &[4, 20, 384], &device)?;
//! let y = fast_layernorm(&layer, &x)?;
//! assert_eq!(y.to_vec::<f32>()?.len(), 4 * 20 * 384);
//! # Ok::<(), layernorm_host::Error>(())
//! ```
//!
//! | for | see |
//! |---|---|
//! | a layer with its parameters | [`LayerNorm`], [`fast_layernorm`] |
//! | forward and backward as functions | [`FastLayerNorm`], [`Saved`] |
//! | arrays, copies, views | [`Tensor`], [`DType`] |
//! | where it runs | [`Device`] |
//! | what was wrong | [`Error`] |
//! | the kernels themselves | [`IMAGES`], [`Entry`], [`Problem`], [`plan`] |
//!
//! A call goes through four rooms: [`Problem`] checks what is to be computed, [`plan`] chooses kernel and
//! grid, `device` copies and launches, and the kernels compute.

#![warn(missing_docs)]

mod cpu;
mod device;
mod dtype;
mod entry;
mod error;
pub mod file;
mod functional;
mod host;
mod images;
mod layer_norm;
mod pass;
pub mod plan;
mod pointers;
mod problem;
mod tensor;

pub use device::Device;
#[cfg(feature = "cuda")]
pub use device::cuda::Launcher;
pub use dtype::{DType, Element};
pub use entry::{Entry, Pass, Variant};
pub use error::{CudaCode, Error, Result};
pub use functional::{FastLayerNorm, Gradients, GradientsInto, Needs, Saved};
pub use images::{IMAGES, Image};
pub use kernels_gpu::abi;
pub use layer_norm::{LayerNorm, fast_layernorm};
pub use pointers::{BackwardLaunches, BackwardPointers, ForwardPointers};
pub use problem::{MAX_COLS, Problem, Strides};
pub use tensor::Tensor;

/// README's examples, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
