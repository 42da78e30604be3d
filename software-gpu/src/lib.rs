//! A CUDA device in software: it parses PTX, runs it, checks every access and counts every byte.
//!
//! [`Gpu`] is the device and its memory, [`Module`] a loaded PTX text, and [`Gpu::launch`] runs one of
//! its kernels to the end. What goes wrong in a kernel comes back as a [`Fault`] that names the line of
//! the PTX, the block, the thread and the address.
#![warn(missing_docs)]

mod checks;
mod counters;
pub mod driver;
mod exec;
mod fault;
pub mod fuzzing;
mod gpu;
mod load;
mod memory;
mod model;
mod module;
mod program;
mod ptx;

pub use checks::Checks;
pub use counters::{Counters, InstructionClass};
pub use fault::{Fault, FaultKind, Site};
pub use gpu::{Gpu, LaunchConfig, Settings};
pub use memory::{AllocationInfo, MemoryError};
pub use model::Model;
pub use module::{Kernel, LoadError, LoadErrorClass, Module, Param, Problem};
pub use program::OPCODES;
