//! Kernel launches: a problem and its addresses to `cuLaunchKernel`, on any stream.

use std::ffi::c_void;

use cust::sys;

use super::{Shared, context, overlap};
use crate::plan::{self, Launch};
use crate::trace::span;
use crate::{BackwardPointers, Entry, ForwardPointers, Problem, Result};

impl Shared {
    /// Puts a forward pass on a stream.
    ///
    /// # Safety
    ///
    /// Every address that is not 0 must be memory of this device, of the extent that the problem gives
    /// it, and must stay so until the stream has done the work; what is written must overlap nothing
    /// else. The stream must be one of this device's primary context.
    pub unsafe fn launch_forward(
        &self,
        stream: sys::CUstream,
        pointers: &ForwardPointers,
        problem: &Problem,
    ) -> Result<()> {
        let args = pointers.args(problem)?;
        let plan = {
            span!("plan", pass = "forward", ?problem);
            plan::forward(problem, &args, &self.limits)?
        };
        let Some(launch) = plan else {
            return Ok(());
        };
        let mut parameters = args.pointers().map(<*const c_void>::cast_mut);
        // SAFETY: the caller's promise about the addresses and the stream; the parameters are the entry
        // point's, as `abi` defines them.
        unsafe { self.launch(stream, &launch, &mut parameters) }
    }

    /// Puts a backward pass on a stream.
    ///
    /// # Safety
    ///
    /// As for [`Shared::launch_forward`]; dx may be dy itself.
    pub unsafe fn launch_backward(
        &self,
        stream: sys::CUstream,
        pointers: &BackwardPointers,
        problem: &Problem,
    ) -> Result<()> {
        let launches = {
            span!("plan", pass = "backward", ?problem);
            pointers.launches(problem, &self.limits)?
        };
        if let (Some(few), Some(args)) = (&launches.plan.few, &launches.few) {
            let mut parameters = args.pointers().map(<*const c_void>::cast_mut);
            // SAFETY: as in `launch_forward`; the plan gives no blocks for columns where dx is dy.
            return unsafe { self.launch(stream, &few.launch, &mut parameters) };
        }
        // Only dweight and dbias of no rows need no kernel over rows; only dx no sum over partials.
        let kernels = [&launches.plan.sums, &launches.plan.rows];
        for kernel in kernels.into_iter().flatten() {
            let mut parameters = launches.rows.pointers().map(<*const c_void>::cast_mut);
            // SAFETY: as in `launch_forward`; the partials and the rows' sums lie within the workspace, and
            // the stream runs the sums first.
            unsafe { self.launch(stream, kernel, &mut parameters)? };
        }
        if let Some(reduce) = &launches.reduce {
            let mut parameters = reduce.pointers().map(<*const c_void>::cast_mut);
            // SAFETY: as in `launch_forward`; the stream runs it after the kernel that writes the
            // partials.
            unsafe { self.launch(stream, &launches.plan.reduce, &mut parameters)? };
        }
        Ok(())
    }

    /// Loads a kernel, so that a later launch of it only launches.
    pub fn load(&self, entry: Entry) -> Result<()> {
        let _current = self.context.enter()?;
        self.kernels.function(entry, &self.context).map(|_| ())
    }

    /// Puts a copy on a stream.
    ///
    /// # Safety
    ///
    /// Both addresses must have as many bytes of this device's memory, apart from each other, until the
    /// stream has done the copy; the stream must be one of this device's primary context.
    pub unsafe fn copy(
        &self,
        stream: sys::CUstream,
        from: u64,
        to: u64,
        bytes: usize,
    ) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let _current = self.context.enter()?;
        // SAFETY: the caller's promise.
        let result = unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, stream) };
        context::check(result).map_err(|error| self.context.error("copying on the device", error))
    }

    unsafe fn launch(
        &self,
        stream: sys::CUstream,
        launch: &Launch,
        parameters: &mut [*mut c_void],
    ) -> Result<()> {
        span!("launch", kernel = %launch.entry, grid = launch.grid, block = launch.block);
        let _current = self.context.enter()?;
        let function = self.kernels.function(launch.entry, &self.context)?;
        if launch.overlaps && self.overlaps {
            // SAFETY: as below; the plan says it of kernels alone that wait by themselves.
            let result = unsafe { overlap::launch(stream, launch, function.raw(), parameters) };
            return context::check(result)
                .map_err(|error| self.context.error("launching a kernel", error));
        }
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
