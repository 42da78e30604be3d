//! The backward pass of a few rows in one launch: when, and of how many blocks.

use kernels_gpu::abi::{BackwardArgs, FEW_COLS, few_block};

use super::kernel::{RowsKernel, entry};
use super::{Launch, Limits, check};
use crate::{Entry, Pass, Problem, Variant};

/// Threads of a block, if no row needs more, and twice as many for more rows than half the multiprocessors: those of a block
/// for columns share its rows.
const THREADS: u32 = 128;

/// A backward pass's only launch, of a `few` kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Few {
    /// The kernel.
    pub launch: Launch,
    /// Threads that share a row.
    pub lanes: u32,
    /// Blocks for columns, the grid's last.
    pub column_blocks: u32,
}

/// The kernel for a few rows of those that `kernel` takes, no more than there are multiprocessors, and the threads that share
/// a row; `None` where the rows are more, or have no `rows` or `ragged` tile.
pub(super) fn few_entry(
    kernel: &RowsKernel,
    problem: &Problem,
    limits: &Limits,
) -> Option<(Entry, u32)> {
    if problem.n_rows() == 0 || problem.n_rows() > limits.sm_count as usize {
        return None;
    }
    let (lanes, narrow) = match kernel.entry.variant()? {
        Variant::Rows { lanes, .. } => (lanes, false),
        Variant::Ragged { lanes, .. } => (lanes, true),
        _ => return None,
    };
    Some((
        entry(Pass::Backward, problem, Variant::Few { narrow }),
        lanes,
    ))
}

/// The launch for as many rows; `None` also where nothing is wanted, and where dx takes dy's place, which blocks for columns
/// would read while others write it.
pub(super) fn few(
    kernel: &RowsKernel,
    problem: &Problem,
    args: &BackwardArgs,
    needs_parameters: bool,
    limits: &Limits,
) -> Option<Few> {
    let needs_dx = args.dx != 0;
    let in_place = needs_dx && args.dx == args.dy;
    if (in_place && needs_parameters) || !(needs_dx || needs_parameters) {
        return None;
    }
    let (entry, lanes) = few_entry(kernel, problem, limits)?;
    // No more than there are multiprocessors.
    let n_rows = problem.n_rows() as u32;
    let threads = match n_rows > limits.sm_count / 2 {
        true => 2 * THREADS,
        false => THREADS,
    };
    let block = match lanes.is_power_of_two() {
        true => threads.max(lanes),
        false => lanes,
    };
    let of_rows = match needs_dx {
        true => n_rows.div_ceil(block / lanes),
        false => 0,
    };
    // Blocks in work at a time, by a rule of thumb: a multiprocessor has the registers for about as many threads as a block
    // may have.
    let most = few_block(problem.dtype().size() as u32);
    let places = limits.sm_count.saturating_mul((most / block).max(1));
    let slices = problem.n_cols_u32().div_ceil(FEW_COLS);
    let column_blocks = match needs_parameters {
        true => places
            .saturating_sub(of_rows)
            .max(places / 2)
            .clamp(1, slices),
        false => 0,
    };
    let launch = Launch {
        entry,
        grid: of_rows.saturating_add(column_blocks),
        grid_y: 1,
        block,
        shared_bytes: 0,
        overlaps: false,
    };
    Some(Few {
        // A device that takes no such block may take a smaller one of another kernel.
        launch: check(launch, limits).ok()?,
        lanes,
        column_blocks,
    })
}
