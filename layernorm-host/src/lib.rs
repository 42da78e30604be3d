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
//! | copies beside other work | [`Pinned`], [`Copying`] |
//! | where it runs | [`Device`] |
//! | how long it takes there | [`Timer`] |
//! | what was wrong | [`Error`] |
//! | whether a device computes what it should | `verify`, with the feature of that name |
#![cfg_attr(
    feature = "cuda",
    doc = "| a caller's own memory and stream | [`Launcher`], [`ForwardPointers`], [`BackwardPointers`] |"
)]
//! | the kernels themselves, for another engine | [`IMAGES`], [`Entry`], [`abi`], [`Problem`], [`plan`] |
//!
//! A call goes through four rooms: [`Problem`] checks what is to be computed, [`plan`] chooses kernel and
//! grid, `device` copies and launches, and the kernels compute. On the CPU a checked problem goes straight to
//! native code.
//!
//! # Misuse
//!
//! Every misuse is an error that says what was given and what is allowed, and nothing is written. No call
//! panics.
//!
//! | misuse | error |
//! |---|---|
//! | x's last dimensions are not the layer's | [`Error::NormalizedShape`] |
//! | weight or bias, or a gradient of one, of another length than x's rows | [`Error::ParameterLength`] |
//! | bias of another shape than weight; dy, dx, y or residual of another shape than x | [`Error::Shape`] |
//! | weight and bias of dtypes that differ, or neither x's nor f32; dy or an output of another dtype | [`Error::DTypeMismatch`] |
//! | a file's tensor of another dtype than f32, f16, bf16 and f64 | [`Error::UnsupportedDType`] |
//! | x of rank 0, an empty normalized shape | [`Error::RankZero`] |
//! | rows of no columns | [`Error::NoColumns`] |
//! | rows of 2^31 columns or more | [`Error::TooManyColumns`] |
//! | eps negative, infinite or NaN | [`Error::Eps`] |
//! | sizes above `isize::MAX` bytes | [`Error::Overflow`] |
//! | more memory than there is | [`Error::OutOfMemory`], [`Error::OutOfHostMemory`] |
//! | data of another length than its shape | [`Error::ElementCount`] |
//! | rows that overlap, a view past the end, gaps where none may be | [`Error::Layout`] |
//! | operands on two devices | [`Error::OtherDevice`] |
//! | a timer that was not started and stopped | [`Error::Absent`] |
//! | an output that another tensor can reach | [`Error::SharedOutput`] |
//! | dweight of a layer without weight, dbias of one without bias | [`Error::Absent`] |
//! | a saved forward pass used twice | does not compile: backward consumes it |
//! | no driver, no GPU, a build without CUDA | [`Error::NoDevice`] |
//! | a device number past the last | [`Error::Ordinal`] |
//! | NVIDIA's driver and the software GPU in one process | [`Error::DriverChosen`] |
//! | `LAYERNORM_CPU` with the name of instructions that the processor lacks | [`Error::Instructions`] |
//! | a GPU older than sm_75 | [`Error::NoImage`] |
//! | an address that is 0 or crooked; a workspace that is too small | [`Error::Address`], [`Error::Workspace`] |
//! | a file that is not there, cannot be written, is not safetensors, lacks a tensor | [`Error::File`], [`Error::NotSafetensors`], [`Error::MissingTensor`] |
//! | an eps in a file that is no number | [`Error::Metadata`] |
//! | a kernel that the device's limits forbid | [`Error::Limit`] |
//! | an array file that is not NumPy's, in Fortran order, of another dtype | [`Error::NotNpy`], [`Error::Layout`], [`Error::UnsupportedDType`] |
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `cuda` | yes | CUDA devices and the software GPU, through cust. Without it nothing of CUDA is linked |
//! | `cli` | yes | what the `layernorm` tool needs |
//! | `verify` | by `cli` | Unsloth's own test of a LayerNorm, on any device, against float64 |
//! | `ndarray` | no | tensors from and to `ndarray` |
//! | `tracing` | no | spans for passes, and within them plan, load and launch |

#![deny(missing_docs, missing_debug_implementations)]

pub mod abi;
mod cpu;
mod device;
mod dtype;
mod entry;
mod error;
pub mod file;
mod functional;
mod gradients;
mod host;
mod images;
mod layer_norm;
#[cfg(feature = "ndarray")]
mod ndarray;
mod pages;
mod pass;
mod pinned;
pub mod plan;
mod pointers;
mod problem;
mod saved;
mod tensor;
mod timer;
mod trace;
#[cfg(feature = "verify")]
pub mod verify;

pub use device::Device;
#[cfg(feature = "cuda")]
pub use device::cuda::Launcher;
pub use dtype::{DType, Element};
pub use entry::{Entry, Pass, Variant};
pub use error::{CudaCode, Error, Result};
pub use functional::FastLayerNorm;
pub use gradients::{Gradients, GradientsInto, Needs};
pub use images::{IMAGES, Image};
pub use layer_norm::{LayerNorm, fast_layernorm};
pub use pinned::{Copying, Pinned};
pub use pointers::{BackwardLaunches, BackwardPointers, ForwardPointers};
pub use problem::{MAX_COLS, Problem, Strides};
pub use saved::Saved;
pub use tensor::Tensor;
pub use timer::Timer;

// Handles and tensors may go to other threads and be shared by them.
const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<Device>();
    shared_by_threads::<Tensor>();
    shared_by_threads::<LayerNorm>();
    shared_by_threads::<Saved>();
    shared_by_threads::<Copying<f32>>();
    shared_by_threads::<Timer>();
    shared_by_threads::<Error>();
    #[cfg(feature = "cuda")]
    shared_by_threads::<Launcher>();
};

/// README's examples, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
