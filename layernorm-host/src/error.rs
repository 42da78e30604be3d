//! The one error type: each variant says what was wrong, what was given and what is allowed.

mod shown;

use std::path::PathBuf;

pub use self::shown::CudaCode;
use self::shown::{Listed, Log};
use crate::DType;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong, with what was given and what is allowed.
///
/// Nothing is written to any output when a call returns an error, unless the error is
/// [`Error::Cuda`], which a device may report late.
///
/// ```
/// use layernorm_host::{DType, Device, Error, FastLayerNorm, Tensor};
///
/// let device = Device::cpu();
/// let x = Tensor::zeros(DType::F32, &[2, 1023], &device).unwrap();
/// let weight = Tensor::zeros(DType::F32, &[1024], &device).unwrap();
/// let error = FastLayerNorm::forward(&x, Some(&weight), None, 1e-5).unwrap_err();
/// assert!(matches!(error, Error::ParameterLength { got: 1024, n_cols: 1023, .. }));
/// assert_eq!(
///     error.to_string(),
///     "weight has 1024 elements, x has 1023 columns; they must be equal"
/// );
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor without dimensions was given where a row is needed.
    #[error("{name} has rank 0; at least one dimension is needed, the last being the columns")]
    RankZero {
        /// The operand.
        name: &'static str,
    },

    /// A row would have no columns.
    #[error("{name} has shape {shape:?}, so rows of 0 columns; at least 1 column is needed")]
    NoColumns {
        /// The operand.
        name: &'static str,
        /// Its shape.
        shape: Vec<usize>,
    },

    /// A row has more columns than a 32-bit index reaches.
    #[error("rows of {n_cols} columns; at most {max} are allowed")]
    TooManyColumns {
        /// Columns of a row.
        n_cols: usize,
        /// The largest allowed.
        max: usize,
    },

    /// x's last dimensions are not the layer's.
    #[error(
        "x has shape {x:?}; its last dimensions must be the normalized shape {normalized_shape:?}"
    )]
    NormalizedShape {
        /// x's shape.
        x: Vec<usize>,
        /// The trailing dimensions that are normalised over.
        normalized_shape: Vec<usize>,
    },

    /// A parameter's length is not the row's.
    #[error("{name} has {got} elements, x has {n_cols} columns; they must be equal")]
    ParameterLength {
        /// `weight` or `bias`.
        name: &'static str,
        /// Its elements.
        got: usize,
        /// Columns of a row of x.
        n_cols: usize,
    },

    /// Two shapes that must agree do not.
    #[error("{name} has shape {got:?}; {expected:?} is needed")]
    Shape {
        /// The operand.
        name: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The shape that is needed.
        expected: Vec<usize>,
    },

    /// A dtype that does not fit the others.
    #[error("{name} is {got}; allowed here: {}", Listed(.allowed))]
    DTypeMismatch {
        /// The operand.
        name: &'static str,
        /// Its dtype.
        got: DType,
        /// What it may be, given the other operands.
        allowed: Vec<DType>,
    },

    /// A dtype that no kernel has.
    #[error("{name} is {got}; supported: f32, f16, bf16, f64")]
    UnsupportedDType {
        /// The operand.
        name: String,
        /// Its dtype, as its source names it.
        got: String,
    },

    /// An eps that makes no sense.
    #[error("eps is {got}; it must be finite and not negative")]
    Eps {
        /// The value given.
        got: f32,
    },

    /// A size that does not fit the machine's address space.
    #[error(
        "{name} with shape {shape:?} and {stride} elements from row to row overflows; at most {max} bytes are allowed"
    )]
    Overflow {
        /// The operand.
        name: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// Elements from one row to the next.
        stride: usize,
        /// The largest number of bytes allowed.
        max: usize,
    },

    /// Rows would overlap, or a view reaches outside its memory.
    #[error("{name}: {problem}; {advice}")]
    Layout {
        /// The operand.
        name: &'static str,
        /// What is wrong with its layout.
        problem: String,
        /// What to do instead.
        advice: &'static str,
    },

    /// The number of elements is not the shape's.
    #[error("{got} elements were given for shape {shape:?}, which has {expected}")]
    ElementCount {
        /// The shape asked for.
        shape: Vec<usize>,
        /// Elements given.
        got: usize,
        /// Elements of the shape.
        expected: usize,
    },

    /// An operand lies on another device.
    #[error("{name} is on {got}, x is on {expected}; copy it there with Tensor::to_device")]
    OtherDevice {
        /// The operand.
        name: &'static str,
        /// Where it is.
        got: String,
        /// Where it must be.
        expected: String,
    },

    /// Memory that is to be written is also reachable through another tensor.
    #[error(
        "{name} shares its memory with another tensor; an output must be its only owner (Tensor::copy makes one)"
    )]
    SharedOutput {
        /// The output.
        name: &'static str,
    },

    /// Something asked for needs a parameter that is not there.
    #[error("{asked} was asked for, but {missing}")]
    Absent {
        /// What was asked for.
        asked: &'static str,
        /// Why there is none.
        missing: &'static str,
    },

    /// No device of the kind asked for.
    #[error("no {wanted} device: {reason}")]
    NoDevice {
        /// The kind asked for.
        wanted: &'static str,
        /// What the driver, or its absence, says.
        reason: String,
    },

    /// An ordinal beyond the last device.
    #[error("{kind} device {ordinal} does not exist; {count} found, numbered from 0")]
    Ordinal {
        /// `cuda` or `software`.
        kind: &'static str,
        /// The ordinal asked for.
        ordinal: usize,
        /// Devices there are.
        count: usize,
    },

    /// One process has one driver, and the other one was chosen already.
    #[error(
        "this process already runs on the {chosen} driver; to use {wanted}, ask for it first or set LAYERNORM_DRIVER={setting}"
    )]
    DriverChosen {
        /// The kind of device asked for.
        wanted: &'static str,
        /// The driver in use.
        chosen: &'static str,
        /// The value of LAYERNORM_DRIVER that selects the one wanted.
        setting: &'static str,
    },

    /// `LAYERNORM_CPU` names vector instructions that this processor does not have, or that nobody has.
    #[error("LAYERNORM_CPU is {got:?}; allowed here are {}", .allowed.join(", "))]
    Instructions {
        /// The variable's value.
        got: String,
        /// The names of what is here.
        allowed: Vec<&'static str>,
    },

    /// No kernel image runs on the device.
    #[error("{device} has compute capability {major}.{minor}; the oldest image is for sm_{oldest}")]
    NoImage {
        /// The device's name.
        device: String,
        /// Compute capability, major.
        major: u32,
        /// Compute capability, minor.
        minor: u32,
        /// Target of the oldest image.
        oldest: u32,
    },

    /// The image lacks a kernel, so it was built from other sources than this library.
    #[error("the image for sm_{target} has no kernel {entry}; `cargo xtask build-ptx` builds it")]
    NoKernel {
        /// The kernel.
        entry: crate::Entry,
        /// The image's target.
        target: u32,
    },

    /// The driver could not compile the kernels.
    #[error("{device} could not load the image for sm_{target}: {cause}{}", Log(.log))]
    Jit {
        /// The device's name.
        device: String,
        /// The image's target.
        target: u32,
        /// The driver's code and name.
        cause: CudaCode,
        /// The driver's log, empty when it gave none.
        log: String,
    },

    /// The device's memory does not suffice.
    #[error("{device} is out of memory: {asked} bytes asked for, {free} of {total} free")]
    OutOfMemory {
        /// The device's name.
        device: String,
        /// Bytes asked for.
        asked: usize,
        /// Bytes free.
        free: usize,
        /// Bytes in all.
        total: usize,
    },

    /// The host's memory does not suffice.
    #[error("the host is out of memory: {asked} bytes asked for")]
    OutOfHostMemory {
        /// Bytes asked for.
        asked: usize,
    },

    /// A driver call failed. A device reports a kernel's fault at a later call.
    #[error("{doing} on {device}: {cause}{}", Log(.detail))]
    Cuda {
        /// The device's name.
        device: String,
        /// What was being done.
        doing: &'static str,
        /// The driver's code and name.
        cause: CudaCode,
        /// What the software GPU says about the fault; empty on NVIDIA's driver.
        detail: String,
    },

    /// An address that an operand cannot have.
    #[error("{name} is at {got:#x}; {allowed} is needed")]
    Address {
        /// The operand.
        name: &'static str,
        /// The address; 0 where there is none.
        got: u64,
        /// What it must be.
        allowed: &'static str,
    },

    /// A workspace that is too small.
    #[error(
        "the workspace has {got} bytes; {needed} are needed, as workspace_bytes tells beforehand"
    )]
    Workspace {
        /// Its bytes.
        got: usize,
        /// The bytes needed.
        needed: usize,
    },

    /// A launch that the device's limits forbid.
    #[error("{name} is {got}; the device allows at most {max}")]
    Limit {
        /// The quantity.
        name: &'static str,
        /// Its value.
        got: usize,
        /// The device's limit.
        max: usize,
    },

    /// A file could not be read or written.
    #[error("{}: cannot {doing}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `write`.
        doing: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },

    /// A file is not safetensors.
    #[error("{}: not a safetensors file: {reason}", path.display())]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },

    /// A file is not NumPy's `.npy`.
    #[error("{}: not a .npy file: {reason}", path.display())]
    NotNpy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A file lacks a tensor.
    #[error("{}: no tensor {name:?}; the file holds {held}", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The names in the file, shortened.
        held: String,
    },

    /// A value in a file's metadata cannot be read.
    #[error("{}: metadata {key} is {got:?}; {allowed} is needed", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The metadata's key.
        key: &'static str,
        /// Its text.
        got: String,
        /// What is allowed.
        allowed: &'static str,
    },
}
