//! The CUDA driver for programs that link to it, `cust` above all: NVIDIA's where there is one, else the
//! software device.
//!
//! `cust` asks the linker for `cu*` functions. This crate defines them, so no CUDA installation is needed
//! to build, and no GPU to run. At the first call, once for the process, it decides which driver they
//! lead to: NVIDIA's `libcuda.so.1` if it loads, starts and reports a device, else
//! [`software_gpu::driver`]. [`choose`] decides it in the program, and the environment variable
//! `LAYERNORM_DRIVER` for the process: `nvidia` or `software`.
//!
//! # What a crate that uses `cust` must do
//! - Depend on this crate and name it somewhere, or the compiler leaves it out and the linker finds no
//!   `cu*`: `use cuda_driver as _;` is enough. A library does this for whoever uses it.
//! - Set `CUDA_LIBRARY_PATH` for cust's build script, in the workspace's `.cargo/config.toml`, to this
//!   crate's folder `link`, which has an empty `libcuda.so` to satisfy `-lcuda`.
//!
//! ```
//! use cuda_driver::Backend;
//!
//! cuda_driver::choose(Backend::Software)?;
//! cust::init(cust::CudaFlags::empty())?;
//! assert!(cust::device::Device::num_devices()? >= 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(missing_docs)]

mod backend;
mod symbols;

pub use backend::{Backend, ChooseError, Error, SETTING, backend, choose, last_fault};
