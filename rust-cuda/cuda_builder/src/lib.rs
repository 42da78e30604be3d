//! Builds a kernel crate to PTX, under Rust-CUDA's own names, by rustc's own NVPTX backend.
//!
//! ```no_run
//! use cuda_builder::{CudaBuilder, NvvmArch};
//!
//! let ptx = CudaBuilder::new("kernels-gpu")
//!     .arch(NvvmArch::Compute80)
//!     .copy_to("kernels.ptx")
//!     .build()?;
//! # Ok::<(), cuda_builder::CudaBuilderError>(())
//! ```
//!
//! This crate alone knows the compiler's flags, and finds the compiler: see [`Toolchain::find`].
//! Device code learns what it is built for by `#[cfg(cuda_arch = "80")]`, which is set for every
//! architecture up to the image's, and by rustc's own `target_feature = "ptx74"`.
//!
//! The crate that is built must be a library; its workspace's profile does not matter. Its output is
//! the same, byte for byte, wherever it is built, and changes with the compiler's version.
#![warn(missing_docs)]

mod arch;
mod build;
mod error;
pub mod flags;
pub mod ptx;
pub mod toolchain;

use std::path::{Path, PathBuf};

pub use arch::{NvvmArch, PtxVersion};
pub use error::CudaBuilderError;
pub use ptx::check_ptx;
pub use toolchain::Toolchain;

/// What to build, and for what. [`build`](Self::build) does it.
#[derive(Clone, Debug)]
pub struct CudaBuilder {
    path_to_crate: PathBuf,
    /// The architecture that the PTX is for; it runs on that and newer. sm_75 unless it is set.
    pub arch: NvvmArch,
    /// The PTX version; the compiler's own choice for the architecture unless it is set.
    pub ptx_version: Option<PtxVersion>,
    /// Where the PTX goes besides the target folder.
    pub ptx_file_copy_path: Option<PathBuf>,
    /// More arguments for `cargo rustc`.
    pub build_args: Vec<String>,
    /// Where the build keeps its files; `cuda-builder` in the crate's own target folder unless set.
    pub target_dir: Option<PathBuf>,
    /// The compiler; found unless it is set.
    pub toolchain: Option<Toolchain>,
}

impl CudaBuilder {
    /// A build of the crate in this folder.
    pub fn new(path_to_crate_root: impl AsRef<Path>) -> Self {
        Self {
            path_to_crate: path_to_crate_root.as_ref().to_owned(),
            arch: NvvmArch::Compute75,
            ptx_version: None,
            ptx_file_copy_path: None,
            build_args: Vec::new(),
            target_dir: None,
            toolchain: None,
        }
    }

    /// Sets the architecture that the PTX is for.
    pub fn arch(mut self, arch: NvvmArch) -> Self {
        self.arch = arch;
        self
    }

    /// Copies the PTX here once it is built.
    pub fn copy_to(mut self, path: impl AsRef<Path>) -> Self {
        self.ptx_file_copy_path = Some(path.as_ref().to_owned());
        self
    }

    /// Adds arguments for `cargo rustc`, such as `--features` and `--locked`.
    pub fn build_args(mut self, args: &[impl AsRef<str>]) -> Self {
        let args = args.iter().map(|argument| argument.as_ref().to_owned());
        self.build_args.extend(args);
        self
    }

    /// Sets the PTX version. Rust-CUDA has no such choice.
    pub fn ptx_version(mut self, version: PtxVersion) -> Self {
        self.ptx_version = Some(version);
        self
    }

    /// Sets the folder for the build's files. Rust-CUDA has no such choice.
    pub fn target_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.target_dir = Some(path.as_ref().to_owned());
        self
    }

    /// Sets the compiler, which saves looking for it again. Rust-CUDA has no such choice.
    pub fn toolchain(mut self, toolchain: Toolchain) -> Self {
        self.toolchain = Some(toolchain);
        self
    }

    /// Builds, and returns the PTX file's path: the copy's, if [`copy_to`](Self::copy_to) was called.
    ///
    /// Called from a build script, it also tells cargo to run that script again when the crate
    /// changes.
    ///
    /// # Errors
    ///
    /// If the crate or a compiler for it is not there, if the compiler refuses the crate (the error
    /// holds its output), or if the PTX cannot be written.
    pub fn build(self) -> Result<PathBuf, CudaBuilderError> {
        build::build(&self)
    }
}
