//! The side of a CUDA device: launches over memory of our own, timed by the device's events.
//!
//! All copies of a tensor lie in one allocation, and each call takes the next: a round of them is past the L2
//! cache several times. Before the first event of a batch the device is given copies to do, which last longer
//! than the host takes to queue the batch: the device then runs call after call without waiting for the host.

use std::ops::Range;
use std::time::Duration;

use layernorm_host::{
    BackwardPointers, DType, Device, ForwardPointers, Launcher, Problem, Result, Tensor, Timer,
};

use super::inputs::{EPS, Inputs};
use super::{Output, Subject, Timed};

/// A round of buffers in sizes of the L2 cache.
const ROUND: usize = 4;

/// Copies of a tensor at most, for the smallest shapes.
const MAX_SLOTS: usize = 4096;

/// Bytes of a copy that keeps the device busy, and such copies before a batch at most.
const BUSY_BYTES: usize = 64 << 20;
const MAX_BUSY: u32 = 64;

/// What the host takes at most to queue one launch, with a margin.
const QUEUEING: Duration = Duration::from_micros(8);

/// Buffers on the device, and the launcher.
pub struct Launched {
    device: Device,
    launcher: Launcher,
    problem: Problem,
    timer: Timer,
    slots: usize,
    slot: usize,
    len: usize,
    x: Tensor,
    dy: Tensor,
    y: Tensor,
    dx: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    dweight: Tensor,
    dbias: Tensor,
    workspace: Tensor,
    /// Source, target, and the time of one copy; none on the software GPU, which does its work at once.
    busy: Option<(Tensor, Tensor, Duration)>,
    next: usize,
}

impl Launched {
    pub fn new(inputs: &Inputs, device: &Device) -> Result<Self> {
        let (n_rows, n_cols) = (inputs.shape.n_rows, inputs.shape.n_cols);
        let (len, slot) = (n_rows * n_cols, inputs.slot());
        let l2 = device.l2_cache_bytes().unwrap_or(0);
        let software = device.kind() == "software";
        // The software GPU has no cache to get past.
        let slots = match software {
            true => 2,
            false => (ROUND * l2)
                .div_ceil(2 * slot * inputs.dtype.size())
                .clamp(1, MAX_SLOTS),
        };
        let problem = Problem::new(n_rows, n_cols, inputs.dtype, inputs.weight_dtype, EPS)?;
        let launcher = Launcher::new(device)?;
        launcher.prepare(&problem)?;
        let like_x = || Tensor::empty(inputs.dtype, &[slots, slot], device);
        let statistic = || Tensor::empty(inputs.dtype.accumulator(), &[n_rows], device);
        let gradient = || Tensor::empty(inputs.weight_dtype, &[n_cols], device);
        let workspace = launcher
            .workspace_bytes(&problem)
            .div_ceil(DType::F32.size());
        let mut launched = Launched {
            timer: Timer::new(device)?,
            slots,
            slot,
            len,
            x: inputs.x_tensor(slots, slot, device)?,
            dy: inputs.dy_tensor(slots, slot, device)?,
            y: like_x()?,
            dx: like_x()?,
            weight: inputs.weight_tensor(device)?,
            bias: inputs.bias_tensor(device)?,
            mean: statistic()?,
            rstd: statistic()?,
            dweight: gradient()?,
            dbias: gradient()?,
            workspace: Tensor::empty(DType::F32, &[workspace], device)?,
            busy: None,
            next: 0,
            device: device.clone(),
            launcher,
            problem,
        };
        if !software {
            launched.busy = Some(launched.busy_copy()?);
        }
        Ok(launched)
    }

    /// A copy that is long beside the queueing of a launch, and how long it is.
    fn busy_copy(&mut self) -> Result<(Tensor, Tensor, Duration)> {
        let memory = || Tensor::zeros(DType::F32, &[BUSY_BYTES / 4], &self.device);
        let (from, to) = (memory()?, memory()?);
        let mut shortest = Duration::MAX;
        for _ in 0..3 {
            self.timer.start()?;
            self.copy(&from, &to, 0, BUSY_BYTES)?;
            self.timer.stop()?;
            shortest = shortest.min(self.timer.elapsed()?);
        }
        Ok((from, to, shortest.max(Duration::from_micros(1))))
    }

    /// Puts a copy on the device's stream.
    fn copy(&self, from: &Tensor, to: &Tensor, start: u64, bytes: usize) -> Result<()> {
        let (from, to) = (address(from) + start, address(to) + start);
        // SAFETY: both tensors are `self`'s or outlive the stream's work, which `elapsed` waits for, and have
        // as many bytes from `start` on; nothing else is done with `to` meanwhile.
        unsafe {
            self.launcher
                .launch_copy(stream(&self.device), from, to, bytes)
        }
    }

    fn call(&mut self, timed: Timed) -> Result<()> {
        let at = self.next % self.slots;
        self.next += 1;
        let size = self.problem.dtype().size();
        let offset = (at * self.slot * size) as u64;
        let stream = stream(&self.device);
        if timed == Timed::Copy {
            return self.copy(&self.x, &self.y, offset, self.len * size);
        }
        if timed != Timed::Backward {
            let pointers = ForwardPointers {
                x: address(&self.x) + offset,
                weight: address(&self.weight),
                bias: address(&self.bias),
                y: address(&self.y) + offset,
                mean: address(&self.mean),
                rstd: address(&self.rstd),
                ..ForwardPointers::default()
            };
            // SAFETY: each tensor is of the problem's shape and dtype from there on, is `self`'s, and is not
            // freed before the stream's work is done; the outputs are different tensors.
            unsafe {
                self.launcher
                    .launch_forward(stream, &pointers, &self.problem)?
            };
        }
        if timed != Timed::Forward {
            let pointers = BackwardPointers {
                dy: address(&self.dy) + offset,
                x: address(&self.x) + offset,
                weight: address(&self.weight),
                mean: address(&self.mean),
                rstd: address(&self.rstd),
                dx: address(&self.dx) + offset,
                dweight: address(&self.dweight),
                dbias: address(&self.dbias),
                workspace: address(&self.workspace),
                workspace_bytes: self.workspace.len() * DType::F32.size(),
                ..BackwardPointers::default()
            };
            // SAFETY: as above; every copy of x has the same rows, so one mean and rstd are all copies'.
            unsafe {
                self.launcher
                    .launch_backward(stream, &pointers, &self.problem)?
            };
        }
        Ok(())
    }
}

impl Subject for Launched {
    fn compute(&mut self) -> Result<()> {
        let outputs = [
            &mut self.y,
            &mut self.dx,
            &mut self.mean,
            &mut self.rstd,
            &mut self.dweight,
            &mut self.dbias,
            &mut self.workspace,
        ];
        for output in outputs {
            output.fill_bytes(0xFF)?;
        }
        self.next = 0;
        self.call(Timed::Both)
    }

    fn read(&self, output: Output, range: Range<usize>) -> Result<Vec<f64>> {
        // The first call took the first copies.
        let output = match output {
            Output::Y => &self.y,
            Output::Dx => &self.dx,
            Output::Dweight => &self.dweight,
            Output::Dbias => &self.dbias,
        };
        output
            .reshape(&[output.len()])?
            .columns(range)?
            .to_f64_vec()
    }

    fn time(&mut self, timed: Timed, calls: usize) -> Result<Duration> {
        if let Some((from, to, each)) = &self.busy {
            // A call is up to four launches.
            let wanted = QUEUEING * calls as u32 * 4;
            let copies = (wanted.as_nanos() / each.as_nanos()) as u32 + 1;
            for _ in 0..copies.min(MAX_BUSY) {
                self.copy(from, to, 0, BUSY_BYTES)?;
            }
        }
        self.timer.start()?;
        for _ in 0..calls {
            self.call(timed)?;
        }
        self.timer.stop()?;
        self.timer.elapsed()
    }

    fn batches(&self) -> bool {
        self.busy.is_some()
    }
}

/// The tensor's first byte; every tensor here lies on a device.
fn address(tensor: &Tensor) -> u64 {
    tensor.device_address().unwrap_or(0)
}

/// The stream that the library's own work on the device goes to.
fn stream(device: &Device) -> *mut std::ffi::c_void {
    device.stream().unwrap_or(std::ptr::null_mut())
}
