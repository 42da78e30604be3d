//! Kernel launches: a plan and its arguments to `cuLaunchKernel`.

use std::ffi::c_void;

use cust::sys;
use kernels_gpu::abi::{BackwardArgs, ForwardArgs, ReduceArgs};

use super::{Buffer, CudaDevice, Shared, context};
use crate::plan::{self, BackwardPlan, Launch};
use crate::{Problem, Result};

impl CudaDevice {
    /// Puts a forward pass on the handle's stream.
    ///
    /// # Safety
    ///
    /// Every address that is not 0 must be memory of this device, of the extent that the problem and
    /// the strides in `args` give it, and must stay so until the stream has done the work; what is
    /// written must overlap nothing else.
    pub unsafe fn launch_forward(&self, problem: &Problem, args: &ForwardArgs) -> Result<()> {
        let stream = self.stream.as_inner();
        // SAFETY: the caller's promise; the stream is this device's own.
        unsafe { self.shared.launch_forward(stream, problem, args) }
    }

    pub fn plan_backward(&self, problem: &Problem, args: &BackwardArgs) -> Result<BackwardPlan> {
        plan::backward(problem, args, &self.shared.limits)
    }

    pub fn workspace_bytes(&self, problem: &Problem) -> usize {
        plan::workspace_bytes(problem, &self.shared.limits)
    }

    /// Puts a backward pass on the handle's stream.
    ///
    /// # Safety
    ///
    /// As [`CudaDevice::launch_forward`], for both argument lists; dx may be dy itself. The partials
    /// must have room for the plan's `n_partials` rows.
    pub unsafe fn launch_backward(
        &self,
        plan: &BackwardPlan,
        args: &BackwardArgs,
        reduce: Option<&ReduceArgs>,
    ) -> Result<()> {
        let stream = self.stream.as_inner();
        // SAFETY: the caller's promise; the stream is this device's own.
        unsafe { self.shared.launch_backward(stream, plan, args, reduce) }
    }

    /// Waits for work on other streams that touches these buffers. Says whether there are any: work
    /// on a buffer must not outlast the call on a stream that is not its own.
    pub fn wait_for(&self, buffers: &[&Buffer]) -> Result<bool> {
        let mut waited = false;
        for buffer in buffers {
            if !buffer.device().same_stream(self) {
                buffer.device().synchronize()?;
                waited = true;
            }
        }
        Ok(waited)
    }
}

impl Shared {
    unsafe fn launch_forward(
        &self,
        stream: sys::CUstream,
        problem: &Problem,
        args: &ForwardArgs,
    ) -> Result<()> {
        let Some(launch) = plan::forward(problem, args, &self.limits)? else {
            return Ok(());
        };
        // SAFETY: the caller's promise about the addresses; the parameters are the entry point's, as
        // `abi` defines them.
        unsafe {
            self.launch(
                stream,
                &launch,
                &mut args.pointers().map(<*const c_void>::cast_mut),
            )
        }
    }

    unsafe fn launch_backward(
        &self,
        stream: sys::CUstream,
        plan: &BackwardPlan,
        args: &BackwardArgs,
        reduce: Option<&ReduceArgs>,
    ) -> Result<()> {
        if let Some(rows) = &plan.rows {
            let mut parameters = args.pointers().map(<*const c_void>::cast_mut);
            // SAFETY: as in `launch_forward`.
            unsafe { self.launch(stream, rows, &mut parameters)? };
        }
        if let Some(reduce) = reduce {
            let mut parameters = reduce.pointers().map(<*const c_void>::cast_mut);
            // SAFETY: as in `launch_forward`; the stream runs it after the kernel that writes the
            // partials.
            unsafe { self.launch(stream, &plan.reduce, &mut parameters)? };
        }
        Ok(())
    }

    unsafe fn launch(
        &self,
        stream: sys::CUstream,
        launch: &Launch,
        parameters: &mut [*mut c_void],
    ) -> Result<()> {
        let _current = self.context.enter()?;
        let function = self.kernels.function(launch.entry, &self.context)?;
        // SAFETY: the function is alive with its module; `parameters` points to values of the types
        // and in the order of the entry point, which the driver copies before it returns; the caller
        // answers for the memory that they name.
        let result = unsafe {
            sys::cuLaunchKernel(
                function.raw(),
                launch.grid,
                launch.grid_y,
                1,
                launch.block,
                1,
                1,
                launch.shared_bytes,
                stream,
                parameters.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        context::check(result).map_err(|error| self.context.error("launching a kernel", error))
    }
}
