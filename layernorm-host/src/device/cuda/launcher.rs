//! Launches for callers who own memory and stream: PyTorch, candle, another engine.

use std::ffi::c_void;
use std::sync::Arc;

use super::Shared;
use crate::plan::{self, Limits};
use crate::{BackwardPointers, Device, Error, ForwardPointers, Pass, Problem, Result};

/// Puts LayerNorm on a caller's stream, over a caller's memory. It allocates no memory, waits for nothing,
/// and leaves the thread's current context as it was. It may be shared by threads.
///
/// A kernel is compiled by the driver when it is first launched, also where the stream is being captured
/// into a CUDA graph. [`prepare`](Self::prepare) does that beforehand, so that a launch only launches.
///
/// A graph holds the addresses that it was captured with: their memory must live as long as the graph is
/// launched, and what lies there at a launch is what it works on. The launcher itself must exist before the
/// capture, since opening a device makes a stream and a context.
///
/// ```
/// use layernorm_host::{DType, Device, ForwardPointers, Launcher, Problem, Tensor};
///
/// let device = Device::software(0)?;
/// let launcher = Launcher::new(&device)?;
/// let problem = Problem::new(2, 384, DType::F32, DType::F32, 1e-5)?;
/// launcher.prepare(&problem)?;
///
/// let x = Tensor::zeros(DType::F32, &[2, 384], &device)?;
/// let y = Tensor::empty(DType::F32, &[2, 384], &device)?;
/// let pointers = ForwardPointers {
///     x: x.device_address().unwrap(),
///     y: y.device_address().unwrap(),
///     ..ForwardPointers::default()
/// };
/// device.synchronize()?;
/// let legacy_stream = std::ptr::null_mut();
/// // SAFETY: x and y are this device's, of the problem's shape, and outlive the work.
/// unsafe { launcher.launch_forward(legacy_stream, &pointers, &problem)? };
/// assert_eq!(y.to_vec::<f32>()?, [0.0; 768]);
/// # Ok::<(), layernorm_host::Error>(())
/// ```
#[derive(Clone)]
pub struct Launcher {
    shared: Arc<Shared>,
}

/// The device: `cuda:0`, `software:0`.
impl std::fmt::Debug for Launcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Launcher({}:{})", self.shared.kind, self.shared.ordinal)
    }
}

impl Launcher {
    /// A launcher for a CUDA or software device.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`] for the CPU, which has no kernels to launch.
    pub fn new(device: &Device) -> Result<Self> {
        let shared = device.cuda_shared().ok_or(Error::NoDevice {
            wanted: "CUDA or software",
            reason: format!("{device} launches no kernels"),
        })?;
        Ok(Launcher { shared })
    }

    /// The device's limits, as [`plan`] takes them.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Bytes that a backward pass's workspace must have; for dx alone [`plan::row_sums_bytes`] will do.
    pub fn workspace_bytes(&self, problem: &Problem) -> usize {
        plan::workspace_bytes(problem, &self.shared.limits)
    }

    /// Compiles the kernels that launches of the problem can need, wherever its operands lie.
    ///
    /// # Errors
    ///
    /// [`Error::Jit`], with the driver's log; [`Error::Cuda`].
    pub fn prepare(&self, problem: &Problem) -> Result<()> {
        for pass in [Pass::Forward, Pass::Backward] {
            for entry in plan::entries(pass, problem, &self.shared.limits) {
                self.shared.load(entry)?;
            }
        }
        Ok(())
    }

    /// Puts a forward pass on a stream. No rows launch nothing.
    ///
    /// `stream` is a `CUstream` of the device's primary context: null for the legacy default stream, 2
    /// for the thread's own (`CU_STREAM_PER_THREAD`), or a stream's handle, also while it is captured.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] for an address that cannot be; [`Error::Limit`], [`Error::Jit`],
    /// [`Error::Cuda`] from the launch. A kernel's own fault shows where the caller waits for the stream.
    ///
    /// # Safety
    ///
    /// Every address that is not 0 must be memory of this device, of the shape, dtype and stride that
    /// the problem says, and must stay so until the stream has done the work. What is written must
    /// overlap no other operand.
    pub unsafe fn launch_forward(
        &self,
        stream: *mut c_void,
        pointers: &ForwardPointers,
        problem: &Problem,
    ) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { self.shared.launch_forward(stream.cast(), pointers, problem) }
    }

    /// Puts a backward pass on a stream. No rows give zero dweight and dbias.
    ///
    /// # Errors
    ///
    /// As [`launch_forward`](Self::launch_forward); [`Error::Workspace`].
    ///
    /// # Safety
    ///
    /// As for [`launch_forward`](Self::launch_forward); but dx may be dy itself. The workspace is
    /// written too, and its content means nothing afterwards.
    pub unsafe fn launch_backward(
        &self,
        stream: *mut c_void,
        pointers: &BackwardPointers,
        problem: &Problem,
    ) -> Result<()> {
        // SAFETY: the caller's.
        unsafe {
            self.shared
                .launch_backward(stream.cast(), pointers, problem)
        }
    }

    /// Puts a copy within the device's memory on a stream: what a pass over as many bytes can be compared with.
    ///
    /// # Errors
    ///
    /// [`Error::Cuda`].
    ///
    /// # Safety
    ///
    /// `from` and `to` must have `bytes` bytes of this device's memory, which do not overlap, and must stay so
    /// until the stream has done the copy.
    pub unsafe fn launch_copy(
        &self,
        stream: *mut c_void,
        from: u64,
        to: u64,
        bytes: usize,
    ) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { self.shared.copy(stream.cast(), from, to, bytes) }
    }
}
