//! A pass over tensors on this device: addresses from tensors, workspace, launch.

use kernels_gpu::abi::{BackwardArgs, ForwardArgs, ReduceArgs};

use super::{Buffer, CudaDevice};
use crate::device::Storage;
use crate::pass::{BackwardPass, ForwardPass};
use crate::{Result, Tensor};

impl CudaDevice {
    pub fn forward(&self, pass: &mut ForwardPass<'_>) -> Result<()> {
        let problem = pass.problem;
        let strides = problem.strides();
        let outputs = [
            Some(&*pass.y),
            pass.sum.as_deref(),
            Some(&*pass.mean),
            Some(&*pass.rstd),
        ];
        let inputs = [Some(pass.x), pass.residual, pass.weight, pass.bias];
        let others = self.wait_for(&buffers(inputs.into_iter().chain(outputs)))?;
        let args = ForwardArgs {
            x: address(inputs[0]),
            residual: address(inputs[1]),
            weight: address(inputs[2]),
            bias: address(inputs[3]),
            y: address(outputs[0]),
            sum: address(outputs[1]),
            mean: address(outputs[2]),
            rstd: address(outputs[3]),
            n_rows: problem.n_rows() as u64,
            x_stride: strides.x as u64,
            y_stride: strides.y as u64,
            n_cols: problem.n_cols_u32(),
            eps: problem.eps(),
            inv_n: inv_n(problem.n_cols()),
        };
        // SAFETY: a pass holds tensors of this device whose shapes and strides are the problem's, and
        // whose outputs nothing else can reach. Their memory lives until its last owner frees it,
        // which waits for the work on it.
        unsafe { self.launch_forward(&problem, &args)? };
        if others { self.synchronize() } else { Ok(()) }
    }

    pub fn backward(&self, pass: &mut BackwardPass<'_>) -> Result<()> {
        let problem = pass.problem;
        let strides = problem.strides();
        let outputs = [
            pass.dx.as_deref(),
            pass.dweight.as_deref(),
            pass.dbias.as_deref(),
        ];
        let inputs = [
            // Without a dy of its own, dx holds it.
            pass.dy.or(outputs[0]),
            Some(pass.x),
            pass.weight,
            Some(pass.mean),
            Some(pass.rstd),
            pass.dsum,
        ];
        let others = self.wait_for(&buffers(inputs.into_iter().chain(outputs)))?;
        let wants_parameters = outputs[1].is_some() || outputs[2].is_some();
        let workspace = match wants_parameters {
            true => self.allocate(self.workspace_bytes(&problem))?,
            false => self.allocate(0)?,
        };
        let mut args = BackwardArgs {
            dy: address(inputs[0]),
            x: address(inputs[1]),
            weight: address(inputs[2]),
            mean: address(inputs[3]),
            rstd: address(inputs[4]),
            dsum: address(inputs[5]),
            dx: address(outputs[0]),
            partial_dweight: 0,
            partial_dbias: 0,
            n_rows: problem.n_rows() as u64,
            dy_stride: strides.dy as u64,
            x_stride: strides.x as u64,
            dx_stride: strides.dx as u64,
            n_cols: problem.n_cols_u32(),
            inv_n: inv_n(problem.n_cols()),
        };
        let plan = self.plan_backward(&problem, &args)?;
        let half = plan.n_partials as u64 * problem.n_cols() as u64 * size_of::<f32>() as u64;
        if outputs[1].is_some() {
            args.partial_dweight = workspace.address();
        }
        if outputs[2].is_some() {
            args.partial_dbias = workspace.address() + half;
        }
        // Without rows there are no partials to point to, and 0 would mean that no gradient is
        // wanted. The kernel reads none of them then, so any address serves.
        let partial = |partials, gradient| {
            if plan.n_partials > 0 {
                partials
            } else {
                gradient
            }
        };
        let (dweight, dbias) = (address(outputs[1]), address(outputs[2]));
        let reduce = ReduceArgs {
            partial_dweight: partial(args.partial_dweight, dweight),
            partial_dbias: partial(args.partial_dbias, dbias),
            dweight,
            dbias,
            n_partials: plan.n_partials,
            n_cols: problem.n_cols_u32(),
            accumulate: u32::from(pass.accumulate),
        };
        // SAFETY: as in `forward`; the workspace has room for any plan of this problem, and its free
        // waits for the work.
        unsafe { self.launch_backward(&plan, &args, wants_parameters.then_some(&reduce))? };
        if others { self.synchronize() } else { Ok(()) }
    }
}

fn buffers<'a>(tensors: impl Iterator<Item = Option<&'a Tensor>>) -> Vec<&'a Buffer> {
    tensors
        .flatten()
        .filter_map(|tensor| match tensor.storage() {
            Storage::Cuda(buffer) => Some(buffer),
            Storage::Host(_) => None,
        })
        .collect()
}

fn address(tensor: Option<&Tensor>) -> u64 {
    tensor.map_or(0, |tensor| match tensor.storage() {
        Storage::Cuda(buffer) => buffer.address() + tensor.byte_offset() as u64,
        // A pass's tensors lie on one device. The kernels take 0 for what is absent.
        Storage::Host(_) => 0,
    })
}

fn inv_n(n_cols: usize) -> f32 {
    (1.0 / n_cols as f64) as f32
}
