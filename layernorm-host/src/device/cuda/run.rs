//! A pass over tensors on this device: addresses from tensors, workspace, launch on the handle's stream.

use super::{Buffer, CudaDevice};
use crate::device::Storage;
use crate::pass::{BackwardPass, ForwardPass};
use crate::{BackwardPointers, ForwardPointers, Result, Tensor};

impl CudaDevice {
    pub fn forward(&self, pass: &mut ForwardPass<'_>) -> Result<()> {
        let tensors = [
            Some(pass.x),
            pass.residual,
            pass.weight,
            pass.bias,
            Some(&*pass.y),
            pass.sum.as_deref(),
            pass.statistics.as_ref().map(|kept| &*kept.mean),
            pass.statistics.as_ref().map(|kept| &*kept.rstd),
        ];
        let [x, residual, weight, bias, y, sum, mean, rstd] = tensors.map(address);
        let pointers = ForwardPointers {
            x,
            residual,
            weight,
            bias,
            y,
            sum,
            mean,
            rstd,
        };
        let others = self.wait_for(&tensors)?;
        let stream = self.stream.as_inner();
        // SAFETY: a pass holds tensors of this device whose shapes and strides are the problem's, and
        // whose outputs nothing else can reach. Their memory lives until its last owner frees it,
        // which waits for the work on it. The stream is the handle's own.
        unsafe {
            self.shared
                .launch_forward(stream, &pointers, &pass.problem)?
        };
        if others { self.synchronize() } else { Ok(()) }
    }

    pub fn backward(&self, pass: &mut BackwardPass<'_>) -> Result<()> {
        let tensors = [
            // Without a dy of its own, dx holds it.
            pass.dy.or(pass.dx.as_deref()),
            Some(pass.x),
            pass.weight,
            Some(pass.mean),
            Some(pass.rstd),
            pass.dsum,
            pass.dx.as_deref(),
            pass.dweight.as_deref(),
            pass.dbias.as_deref(),
        ];
        let [dy, x, weight, mean, rstd, dsum, dx, dweight, dbias] = tensors.map(address);
        let without = BackwardPointers {
            dy,
            x,
            weight,
            mean,
            rstd,
            dsum,
            dx,
            dweight,
            dbias,
            workspace: 0,
            workspace_bytes: 0,
            accumulate: pass.accumulate,
        };
        // Of what this very pass needs: to allocate and free takes longer than a few rows, which need none.
        let workspace_bytes = without.workspace_needed(&pass.problem, &self.shared.limits)?;
        let workspace = self.allocate(workspace_bytes)?;
        let pointers = BackwardPointers {
            workspace: workspace.address(),
            workspace_bytes,
            ..without
        };
        let others = self.wait_for(&tensors)?;
        let stream = self.stream.as_inner();
        // SAFETY: as in `forward`; the workspace's free waits for the work on it, too.
        unsafe {
            self.shared
                .launch_backward(stream, &pointers, &pass.problem)?
        };
        if others { self.synchronize() } else { Ok(()) }
    }

    /// Waits for work on other streams that touches these tensors. Says whether there are any: work on a
    /// tensor must not outlast the call on a stream that is not its own.
    fn wait_for(&self, tensors: &[Option<&Tensor>]) -> Result<bool> {
        let mut waited = false;
        for buffer in tensors.iter().flatten().filter_map(|tensor| buffer(tensor)) {
            if !buffer.device().same_stream(self) {
                buffer.device().synchronize()?;
                waited = true;
            }
        }
        Ok(waited)
    }
}

/// A tensor's memory on the device. A pass's tensors all lie on one.
fn buffer(tensor: &Tensor) -> Option<&Buffer> {
    match tensor.storage() {
        Storage::Cuda(buffer) => Some(buffer),
        Storage::Host(_) => None,
    }
}

/// The first element's address; 0, which the kernels take for absent, where there is no tensor.
fn address(tensor: Option<&Tensor>) -> u64 {
    let Some(tensor) = tensor else { return 0 };
    buffer(tensor).map_or(0, |buffer| buffer.address() + tensor.byte_offset() as u64)
}
