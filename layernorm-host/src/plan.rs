//! Which kernel, how many blocks, how much workspace: pure functions of a [`Problem`], the addresses and
//! the device's limits, so that every choice can be tested where there is no GPU.
//!
//! | row | kernel |
//! |---|---|
//! | every address, row start and row length a multiple of 16 bytes, and the row fits a tile | `rows`: the first of [`Pass::tiles`] that it fits and that is for the device's [memory](kernels_gpu::abi::Memory) |
//! | as above, no tile, forward, and the row fits a block's shared memory | `shared`: the first of [`Pass::shared_tiles`] that it fits |
//! | as above, longer, on a device from sm_90 on, and the row fits a cluster | `cluster`: the first of [`Pass::cluster_tiles`] that it fits and is long enough for, its registers or, backward, with the sums of dweight in shared memory; of 16 blocks only where the compute capability is 9.0 and there are more than 112 multiprocessors |
//! | as above, forward, and the row fits a cluster's shared memory | `shared_cluster`: the first of [`Pass::shared_tiles`] that it fits |
//! | not so aligned, and the row fits a ragged tile (backward, or of f16 or bf16) | `ragged`: the first that it fits and that is for the device's memory |
//! | not so aligned, forward, f32, and the row fits a narrow tile | `narrow`: the first that it fits |
//! | none of these, backward, and longer than 4096 columns | `sums`, then `columns`; not so aligned: `sums_narrow`, `columns_narrow` |
//! | any other, and every row in f64 | `any` |
//!
//! A row's y and dx are the same bits whatever comes with it, so this choice never looks at `n_rows`. (It has
//! to above 2^31 blocks, which only rows of a few columns can reach.) The number of teams in a backward block does look at it,
//! and at the shared memory: no more of them than the rows keep busy, and than there is room for. And backward no more rows of
//! `rows` or `ragged` than there are multiprocessors have one launch of a `few` kernel ([`Few`]), whose dx is the same bits,
//! unless dx lies over dy and dweight or dbias is wanted. On devices with clusters the blocks of a `rows` or `ragged` kernel are
//! pairs, of a `paired` kernel, where the tile has one for so many rows ([`RowTile::pairs_from`](kernels_gpu::abi::RowTile::pairs_from))
//! and dweight or dbias is wanted: half as many partials, and dx the same bits.

mod few;
mod kernel;
mod pairs;

use kernels_gpu::abi::{BackwardArgs, ForwardArgs, REDUCE_BLOCK, REDUCE_COLS};

pub use self::few::Few;
use self::few::{few, few_entry};
use self::kernel::{RowsKernel, is_aligned, partial_row_bytes};
use crate::{DType, Entry, Error, Pass, Problem, Result};

/// The partials of dweight and dbias together stay below this many bytes, unless one row of them is
/// longer already.
pub const MAX_WORKSPACE_BYTES: usize = 64 << 20;

/// What a device allows, as plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Blocks in a grid's first dimension.
    pub max_grid: u32,
    /// Threads in a block.
    pub max_block: u32,
    /// Multiprocessors.
    pub sm_count: u32,
    /// Shared memory that a block may ask for, in bytes.
    pub max_shared: u32,
    /// Major and minor compute capability: from (9, 0) on a device has clusters.
    pub compute_capability: (u32, u32),
    /// Bytes a second of the memory, as [`memory_rate`] has them; 0 where that is not known. Kernels that win where the
    /// memory gives each multiprocessor as much as an H200's lose where it gives as little as an H100's.
    pub memory_rate: u64,
}

/// Bytes a second that a memory can give, from its clock in kHz and the width of its bus in bits, as
/// `CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE` and `CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH` tell them: at each clock two
/// transfers, as all of today's have.
///
/// ```
/// // An H100's 3.35 TB/s.
/// assert_eq!(layernorm_host::plan::memory_rate(2_619_000, 5120) / 1_000_000_000, 3352);
/// ```
pub const fn memory_rate(clock_khz: u32, bus_bits: u32) -> u64 {
    (clock_khz as u64)
        .saturating_mul(1000 * 2)
        .saturating_mul((bus_bits / 8) as u64)
}

/// One kernel launch. Blocks have one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The kernel.
    pub entry: Entry,
    /// Blocks in the grid's first dimension.
    pub grid: u32,
    /// Blocks in its second: 2 for the sum over the partials (dweight, dbias), rows of partials for a
    /// `columns` kernel, else 1.
    pub grid_y: u32,
    /// Threads in a block.
    pub block: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// The kernel waits by itself for the launch before it, so it may be launched to begin before that has ended
    /// (`CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`); or as any other.
    pub overlaps: bool,
}

/// The launches of a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackwardPlan {
    /// The sums of each row that `rows` needs for dx, where it is a `columns` kernel.
    pub sums: Option<Launch>,
    /// dx and the partials; `None` without rows, and where `few` has all.
    pub rows: Option<Launch>,
    /// The sum over the partials, which also writes the zero gradients of no rows. Not to be launched where `few` is.
    pub reduce: Launch,
    /// The only launch of a few rows; if there is one, the others are not made.
    pub few: Option<Few>,
    /// Rows of each of the two arrays of partials: the grid of `rows`, or for a `columns` kernel its second
    /// dimension, or for a `cluster` kernel its clusters.
    pub n_partials: u32,
}

/// Plans the forward pass; `None` when there are no rows, so nothing to launch.
///
/// # Errors
///
/// [`Error::Limit`] where the device cannot take the kernel's block.
pub fn forward(problem: &Problem, args: &ForwardArgs, limits: &Limits) -> Result<Option<Launch>> {
    let addresses = [
        args.x,
        args.residual,
        args.weight,
        args.bias,
        args.y,
        args.sum,
    ];
    let size = problem.dtype().size() as u64;
    let strides = [args.x_stride, args.y_stride].map(|stride| stride.wrapping_mul(size));
    let aligned = is_aligned(&addresses) && is_aligned(&strides);
    let mut kernel = RowsKernel::choose(Pass::Forward, problem, aligned, limits);
    let places = u64::from(limits.max_grid / kernel.cluster);
    if kernel.blocks_per_sm.is_none() && kernel.blocks(problem) > places {
        // More than 2^31 blocks: the one case in which the number of rows decides.
        kernel = RowsKernel::any(Pass::Forward, problem);
    }
    kernel.launch(problem, kernel.max_resident(limits), limits)
}

/// Plans the backward pass; `needs_parameters`: dweight or dbias is wanted.
///
/// # Errors
///
/// [`Error::Limit`] where the device cannot take the kernel's block.
pub fn backward(
    problem: &Problem,
    args: &BackwardArgs,
    needs_parameters: bool,
    limits: &Limits,
) -> Result<BackwardPlan> {
    let addresses = [
        args.dy,
        args.x,
        args.weight,
        args.dsum,
        args.dx,
        args.partial_dweight,
        args.partial_dbias,
    ];
    let size = problem.dtype().size() as u64;
    let strides = [args.dy_stride, args.x_stride, args.dx_stride];
    let strides = strides.map(|stride| stride.wrapping_mul(size));
    let aligned = is_aligned(&addresses) && is_aligned(&strides);
    let kernel = RowsKernel::choose(Pass::Backward, problem, aligned, limits);
    let few = few(&kernel, problem, args, needs_parameters, limits);
    // Without partials a pair has nothing to share.
    let kernel = match needs_parameters {
        true => kernel.in_pairs(),
        false => kernel,
    };
    let rows = match few {
        Some(_) => None,
        None => kernel.launch(problem, kernel.max_partials(problem, limits), limits)?,
    };
    let reduce = Launch {
        entry: Entry::Reduce {
            weight: problem.parameter_dtype(),
        },
        grid: problem.n_cols_u32().div_ceil(REDUCE_COLS),
        grid_y: 2,
        block: REDUCE_BLOCK,
        shared_bytes: 0,
        overlaps: rows.is_some()
            && limits.compute_capability >= (9, 0)
            && problem.dtype() != DType::F64,
    };
    let n_partials = rows.map_or(0, |launch| match kernel.column_parts {
        Some(_) => launch.grid_y,
        None => launch.grid / kernel.cluster,
    });
    Ok(BackwardPlan {
        sums: rows.map_or(Ok(None), |_| kernel.sums(problem, limits))?,
        n_partials,
        rows,
        reduce: check(reduce, limits)?,
        few,
    })
}

/// Bytes of workspace that a backward pass needs on a device with these limits, wherever its operands
/// lie: two arrays `[n_partials, n_cols]` of f32 (f64 for f64), for dweight and for dbias, and
/// [`row_sums_bytes`]. Enough for fewer rows, too.
///
/// ```
/// use layernorm_host::{DType, Problem, plan};
///
/// let limits = plan::Limits {
///     max_grid: i32::MAX as u32,
///     max_block: 1024,
///     sm_count: 132,
///     max_shared: 227 << 10,
///     compute_capability: (9, 0),
///     memory_rate: plan::memory_rate(2_619_000, 5120),
/// };
/// let problem = Problem::new(32768, 4096, DType::BF16, DType::BF16, 1e-5)?;
/// assert!(plan::workspace_bytes(&problem, &limits) <= plan::MAX_WORKSPACE_BYTES);
/// # Ok::<(), layernorm_host::Error>(())
/// ```
pub fn workspace_bytes(problem: &Problem, limits: &Limits) -> usize {
    let n_partials = [true, false]
        .map(|aligned| {
            RowsKernel::choose(Pass::Backward, problem, aligned, limits)
                .partials_of_rows(problem, limits)
        })
        .into_iter()
        .max()
        .unwrap_or(0);
    n_partials as usize * partial_row_bytes(problem) + row_sums_bytes(problem, limits)
}

/// Bytes of workspace that a backward pass for dx alone needs: `[n_rows, 2]` of f32 where its rows go by
/// columns, else none.
pub fn row_sums_bytes(problem: &Problem, limits: &Limits) -> usize {
    let by_columns = [true, false].iter().any(|aligned| {
        let kernel = RowsKernel::choose(Pass::Backward, problem, *aligned, limits);
        kernel.column_parts.is_some()
    });
    if by_columns {
        problem.n_rows().saturating_mul(2 * DType::F32.size())
    } else {
        0
    }
}

/// The kernels that a pass over the problem can need: with operands at multiples of 16 bytes, with others,
/// and for the backward pass the sum over the partials and, where the rows are few, what takes its place.
pub fn entries(pass: Pass, problem: &Problem, limits: &Limits) -> Vec<Entry> {
    let mut entries = Vec::new();
    for aligned in [true, false] {
        let kernel = RowsKernel::choose(pass, problem, aligned, limits);
        entries.extend(kernel.sums_entry(problem));
        if pass == Pass::Backward {
            entries.extend(few_entry(&kernel, problem, limits).map(|(entry, _)| entry));
        }
        entries.push(kernel.entry);
        entries.extend(kernel.pairs.as_ref().map(|pairs| pairs.entry));
    }
    if pass == Pass::Backward {
        entries.push(Entry::Reduce {
            weight: problem.parameter_dtype(),
        });
    }
    entries
}

fn check(launch: Launch, limits: &Limits) -> Result<Launch> {
    for (name, got, max) in [
        ("threads in a block", launch.block, limits.max_block),
        ("blocks in a grid", launch.grid, limits.max_grid),
    ] {
        if got > max {
            return Err(Error::Limit {
                name,
                got: got as usize,
                max: max as usize,
            });
        }
    }
    Ok(launch)
}

#[cfg(test)]
mod tests;
