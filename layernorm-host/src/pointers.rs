//! Device addresses for callers who own memory and stream, checked as far as numbers can be, and made into
//! the kernels' parameters. Nothing here needs a driver.

use kernels_gpu::abi::{BackwardArgs, FewArgs, ForwardArgs, ReduceArgs, VECTOR_BYTES};

use crate::plan::{self, BackwardPlan, Few, Limits};
use crate::{DType, Error, Problem, Result};

/// Where a forward pass's operands lie: addresses of device memory, 0 for what is absent. Shapes, dtypes
/// and strides are the [`Problem`]'s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardPointers {
    /// `[n_rows, n_cols]`.
    pub x: u64,
    /// `[n_rows, n_cols]`, with x's stride: added to x first.
    pub residual: u64,
    /// `[n_cols]`; absent: ones.
    pub weight: u64,
    /// `[n_cols]`; absent: zeros.
    pub bias: u64,
    /// `[n_rows, n_cols]`: written.
    pub y: u64,
    /// `[n_rows, n_cols]`, with y's stride: x + residual, written.
    pub sum: u64,
    /// `[n_rows]`, f32 (f64 for f64): written.
    pub mean: u64,
    /// `[n_rows]`, f32 (f64 for f64): written.
    pub rstd: u64,
}

/// Where a backward pass's operands lie, as in [`ForwardPointers`].
///
/// ```
/// use layernorm_host::{BackwardPointers, DType, Problem, plan};
///
/// let problem = Problem::new(4096, 1024, DType::BF16, DType::BF16, 1e-5)?;
/// // Of an H100, as cuDeviceGetAttribute tells them.
/// let limits = plan::Limits {
///     max_grid: i32::MAX as u32,
///     max_block: 1024,
///     sm_count: 132,
///     max_shared: 227 << 10,
///     compute_capability: (9, 0),
///     memory_rate: plan::memory_rate(2_619_000, 5120),
/// };
/// let pointers = BackwardPointers {
///     dy: 0x100_0000,
///     x: 0x200_0000,
///     weight: 0x300_0000,
///     mean: 0x400_0000,
///     rstd: 0x500_0000,
///     dx: 0x600_0000,
///     dweight: 0x700_0000,
///     dbias: 0x800_0000,
///     workspace: 0x900_0000,
///     workspace_bytes: plan::workspace_bytes(&problem, &limits),
///     ..BackwardPointers::default()
/// };
/// let launches = pointers.launches(&problem, &limits)?;
/// println!("{:?}, then {:?}", launches.plan.rows, launches.plan.reduce);
/// assert!(launches.reduce.is_some());
/// # Ok::<(), layernorm_host::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackwardPointers {
    /// `[n_rows, n_cols]`.
    pub dy: u64,
    /// `[n_rows, n_cols]`: what the forward pass normalised.
    pub x: u64,
    /// `[n_cols]`; absent: ones.
    pub weight: u64,
    /// `[n_rows]`, f32 (f64 for f64), from the forward pass.
    pub mean: u64,
    /// `[n_rows]`, f32 (f64 for f64), from the forward pass.
    pub rstd: u64,
    /// `[n_rows, n_cols]`, with dx's stride: added to dx.
    pub dsum: u64,
    /// `[n_rows, n_cols]`: written, and may be dy itself; absent: not computed.
    pub dx: u64,
    /// `[n_cols]`: written; absent: not computed.
    pub dweight: u64,
    /// `[n_cols]`: written; absent: not computed.
    pub dbias: u64,
    /// At least [`workspace_bytes`](plan::workspace_bytes), a multiple of 16; for dx alone
    /// [`row_sums_bytes`](plan::row_sums_bytes) will do, and for these operands
    /// [`workspace_needed`](Self::workspace_needed).
    pub workspace: u64,
    /// Bytes of the workspace.
    pub workspace_bytes: usize,
    /// dweight and dbias are added to, instead of written.
    pub accumulate: bool,
}

/// A backward pass's kernels with their parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackwardLaunches {
    /// Kernels, grids, blocks.
    pub plan: BackwardPlan,
    /// Parameters of the kernel over rows, and of the one for their sums, which runs before it.
    pub rows: BackwardArgs,
    /// Parameters of the kernel that sums the partials, which runs after it; `None` where neither dweight
    /// nor dbias is wanted.
    pub reduce: Option<ReduceArgs>,
    /// Parameters of the kernel that computes all gradients of a few rows; where it is `Some`, there is no other.
    pub few: Option<FewArgs>,
}

impl ForwardPointers {
    /// The kernel's parameters.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] where x or y is absent, or an address is no multiple of its element's size.
    pub fn args(&self, problem: &Problem) -> Result<ForwardArgs> {
        let (x, parameter) = (problem.dtype(), problem.parameter_dtype());
        check_addresses(&[
            ("x", self.x, x),
            ("residual", self.residual, x),
            ("weight", self.weight, parameter),
            ("bias", self.bias, parameter),
            ("y", self.y, x),
            ("sum", self.sum, x),
            ("mean", self.mean, x.accumulator()),
            ("rstd", self.rstd, x.accumulator()),
        ])?;
        if problem.n_rows() > 0 {
            check_present(&[("x", self.x), ("y", self.y)])?;
        }
        let strides = problem.strides();
        Ok(ForwardArgs {
            x: self.x,
            residual: self.residual,
            weight: self.weight,
            bias: self.bias,
            y: self.y,
            sum: self.sum,
            mean: self.mean,
            rstd: self.rstd,
            n_rows: problem.n_rows() as u64,
            x_stride: strides.x as u64,
            y_stride: strides.y as u64,
            n_cols: problem.n_cols_u32(),
            eps: problem.eps(),
            inv_n: inv_n(problem),
        })
    }
}

impl BackwardPointers {
    /// The kernels with their parameters.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] where an operand is absent that the wanted gradients need, or an address is no
    /// multiple of its element's size; [`Error::Workspace`]; [`Error::Limit`].
    pub fn launches(&self, problem: &Problem, limits: &Limits) -> Result<BackwardLaunches> {
        self.check(problem)?;
        let strides = problem.strides();
        let mut rows = BackwardArgs {
            dy: self.dy,
            x: self.x,
            // Only dx takes it: a kernel that does not see it does not read it.
            weight: if self.dx == 0 { 0 } else { self.weight },
            mean: self.mean,
            rstd: self.rstd,
            dsum: self.dsum,
            dx: self.dx,
            partial_dweight: 0,
            partial_dbias: 0,
            n_rows: problem.n_rows() as u64,
            dy_stride: strides.dy as u64,
            x_stride: strides.x as u64,
            dx_stride: strides.dx as u64,
            n_cols: problem.n_cols_u32(),
            inv_n: inv_n(problem),
            row_sums: 0,
        };
        let wants_partials = self.dweight != 0 || self.dbias != 0;
        let mut plan = plan::backward(problem, &rows, wants_partials, limits)?;
        if let Some(few) = plan.few {
            return Ok(BackwardLaunches {
                plan,
                rows,
                reduce: None,
                few: Some(self.few(problem, &rows, &few)),
            });
        }
        if self.dx == 0 {
            plan.sums = None;
        }
        let half = match wants_partials {
            true => {
                plan.n_partials as usize * problem.n_cols() * problem.dtype().accumulator().size()
            }
            false => 0,
        };
        let row_sums = match plan.sums {
            Some(_) => problem.n_rows().saturating_mul(2 * DType::F32.size()),
            None => 0,
        };
        if wants_partials || row_sums > 0 {
            self.check_workspace((2 * half).saturating_add(row_sums))?;
        }
        if row_sums > 0 {
            rows.row_sums = self.workspace.wrapping_add(2 * half as u64);
        }
        if !wants_partials {
            return Ok(BackwardLaunches {
                plan,
                rows,
                reduce: None,
                few: None,
            });
        }
        if self.dweight != 0 {
            rows.partial_dweight = self.workspace;
        }
        if self.dbias != 0 {
            rows.partial_dbias = self.workspace.wrapping_add(half as u64);
        }
        // Without rows there are no partials to point to, and 0 would mean that no gradient is wanted.
        // The kernel reads none of them then, so any address serves.
        let any = |partials, gradient| {
            if plan.n_partials > 0 {
                partials
            } else {
                gradient
            }
        };
        let reduce = ReduceArgs {
            partial_dweight: any(rows.partial_dweight, self.dweight),
            partial_dbias: any(rows.partial_dbias, self.dbias),
            dweight: self.dweight,
            dbias: self.dbias,
            n_partials: plan.n_partials,
            n_cols: problem.n_cols_u32(),
            accumulate: u32::from(self.accumulate),
        };
        Ok(BackwardLaunches {
            plan,
            rows,
            reduce: Some(reduce),
            few: None,
        })
    }

    /// Bytes of workspace that these very operands need, whatever workspace they name: often fewer than
    /// [`plan::workspace_bytes`], which is enough wherever operands lie, and none for a few rows.
    ///
    /// # Errors
    ///
    /// As [`launches`](Self::launches), but for the workspace.
    pub fn workspace_needed(&self, problem: &Problem, limits: &Limits) -> Result<usize> {
        let without = Self {
            workspace: 0,
            workspace_bytes: 0,
            ..*self
        };
        match without.launches(problem, limits) {
            Ok(_) => Ok(0),
            Err(Error::Workspace { needed, .. }) => Ok(needed),
            Err(error) => Err(error),
        }
    }

    /// The parameters of a few rows' only kernel.
    fn few(&self, problem: &Problem, rows: &BackwardArgs, few: &Few) -> FewArgs {
        FewArgs {
            dy: rows.dy,
            x: rows.x,
            weight: rows.weight,
            mean: rows.mean,
            rstd: rows.rstd,
            dsum: rows.dsum,
            dx: rows.dx,
            dweight: self.dweight,
            dbias: self.dbias,
            dy_stride: rows.dy_stride,
            x_stride: rows.x_stride,
            dx_stride: rows.dx_stride,
            // Few, as the plan says.
            n_rows: problem.n_rows() as u32,
            n_cols: rows.n_cols,
            inv_n: rows.inv_n,
            lanes: few.lanes,
            column_blocks: few.column_blocks,
            accumulate: u32::from(self.accumulate),
        }
    }

    fn check(&self, problem: &Problem) -> Result<()> {
        let (x, parameter) = (problem.dtype(), problem.parameter_dtype());
        check_addresses(&[
            ("dy", self.dy, x),
            ("x", self.x, x),
            ("weight", self.weight, parameter),
            ("mean", self.mean, x.accumulator()),
            ("rstd", self.rstd, x.accumulator()),
            ("dsum", self.dsum, x),
            ("dx", self.dx, x),
            ("dweight", self.dweight, parameter),
            ("dbias", self.dbias, parameter),
        ])?;
        if problem.n_rows() == 0 {
            return Ok(());
        }
        check_present(&[("dy", self.dy)])?;
        if self.dx != 0 || self.dweight != 0 {
            check_present(&[("x", self.x), ("mean", self.mean), ("rstd", self.rstd)])?;
        }
        Ok(())
    }

    fn check_workspace(&self, needed: usize) -> Result<()> {
        let got = if self.workspace == 0 {
            0
        } else {
            self.workspace_bytes
        };
        if got < needed {
            return Err(Error::Workspace { got, needed });
        }
        if !self.workspace.is_multiple_of(u64::from(VECTOR_BYTES)) {
            return Err(Error::Address {
                name: "workspace",
                got: self.workspace,
                allowed: "a multiple of 16",
            });
        }
        Ok(())
    }
}

fn check_addresses(addresses: &[(&'static str, u64, DType)]) -> Result<()> {
    for &(name, got, dtype) in addresses {
        if !got.is_multiple_of(dtype.size() as u64) {
            let allowed = match dtype {
                DType::F64 => "a multiple of 8",
                DType::F32 => "a multiple of 4",
                DType::F16 | DType::BF16 => "a multiple of 2",
            };
            return Err(Error::Address { name, got, allowed });
        }
    }
    Ok(())
}

fn check_present(addresses: &[(&'static str, u64)]) -> Result<()> {
    for &(name, got) in addresses {
        if got == 0 {
            let allowed = "an address";
            return Err(Error::Address { name, got, allowed });
        }
    }
    Ok(())
}

fn inv_n(problem: &Problem) -> f32 {
    (1.0 / problem.n_cols() as f64) as f32
}

#[cfg(test)]
mod tests;
