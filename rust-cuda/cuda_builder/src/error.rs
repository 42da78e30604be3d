//! What can go wrong in a build. A failed build carries the compiler's own words.

use std::io;
use std::path::PathBuf;

use crate::ptx::MarkerError;
use crate::toolchain::NoToolchain;

/// Why there is no PTX.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaBuilderError {
    /// The path given to [`CudaBuilder::new`](crate::CudaBuilder::new) holds no crate.
    #[error("crate path {} does not exist, or has no Cargo.toml", .0.display())]
    CratePathDoesntExist(PathBuf),
    /// No compiler on this machine can build device code.
    #[error(transparent)]
    NoToolchain(#[from] NoToolchain),
    /// The crate has no library to build.
    #[error("{} has no library target: kernels are built from `src/lib.rs`", .0.display())]
    NoLibrary(PathBuf),
    /// A program could not be started.
    #[error("cannot run {}: {source}", program.display())]
    CannotRun {
        /// What was to be started.
        program: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// The compiler refused the crate.
    #[error("{command} failed ({status}):\n{output}")]
    BuildFailed {
        /// The command, as it could be typed.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote to stderr.
        output: String,
    },
    /// Cargo's description of the crate could not be read.
    #[error("cannot read the output of {command}: {message}")]
    BadMetadata {
        /// The command, as it could be typed.
        command: String,
        /// What is wrong with it.
        message: String,
    },
    /// The build went well and left no PTX where it should.
    #[error("the build succeeded but left no PTX at {}: {source}", path.display())]
    NoPtx {
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// A marker of `cuda_std` in the PTX makes no sense.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// The PTX could not be written.
    #[error("cannot write the PTX file {}: {source}", path.display())]
    FailedToCopyPtxFile {
        /// Where to.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
