//! The CUDA driver API over the software device: what `libcuda.so.1` is to a real one.
//!
//! Each entry point is an `extern "C"` function of its own name, from two tables: those that the device
//! has, and those that it answers with `CUDA_ERROR_NOT_SUPPORTED`, naming them on stderr once. The crate
//! `cuda-driver` forwards to them, and the crate `software-gpu-libcuda` exports them.
//!
//! Handles are numbers in tables, so a stale one is an error and not undefined behaviour. Work is done
//! when its call returns; streams and events have their rules of ownership and real time stamps. A
//! kernel's fault is returned by its launch and by every later call in its context, as the real driver
//! does; [`last_fault`] has the words.
//!
//! | variable | meaning |
//! |---|---|
//! | `SOFTWARE_GPU_DEVICES` | how many devices, 0 to 64 (as many as models are named if unset) |
//! | `SOFTWARE_GPU_MODEL` | `h100` (if unset), `h200`, `a100`, `t4`, or a list with commas, one a device |
#![expect(
    non_snake_case,
    reason = "the entry points have the names that C gives them"
)]

mod attributes;
mod capture;
mod context;
mod copy;
mod device;
mod entry;
mod error;
mod event;
mod ffi;
mod function;
mod graph;
mod handles;
mod host;
mod launch;
mod lookup;
mod memory;
mod module;
mod occupancy;
mod overlap;
mod platform;
mod pool;
mod record;
mod report;
mod settings;
mod stream;
mod supported;
#[cfg(test)]
mod tests;
mod unsupported;

pub use entry::*;
pub use platform::choose_models;
pub use record::{LaunchRecord, record_launches, recorded_launches};
pub use report::last_fault;

/// `CUipcMemHandle` and `CUipcEventHandle`: both are 64 bytes and passed by value.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IpcHandle(pub [u8; 64]);
