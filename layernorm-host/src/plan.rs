//! Which kernel, how many blocks, how much workspace: pure functions of a [`Problem`], the addresses and
//! the device's limits, so that every choice can be tested where there is no GPU.
//!
//! | row | kernel |
//! |---|---|
//! | every address, row start and row length a multiple of 16 bytes, and the row fits a tile | `rows`: the first tile of `kernels_gpu::abi` that it fits |
//! | as above, longer than any tile, forward, and the row fits a block's shared memory twice | `shared_2` |
//! | as above, once, in f32 | `shared_1` |
//! | as above, longer, on a device from sm_90 on, and the row fits a cluster | `cluster`: the first that it fits |
//! | as above without clusters, forward, and f16 or bf16 that fit shared memory once | `shared_1` |
//! | not so aligned, and the row fits a ragged tile (backward, or of f16 or bf16) | `ragged`: the first that it fits |
//! | not so aligned, forward, f32, and the row fits a narrow tile | `narrow`: the first that it fits |
//! | none of these, backward, and longer than 4096 columns | `sums`, then `columns`; not so aligned: `sums_narrow`, `columns_narrow` |
//! | any other, and every row in f64 | `any` |
//!
//! The choice never looks at `n_rows`: a row's y and dx are the same bits whatever comes with it. (It has
//! to above 2^31 blocks, which only rows of a few columns can reach.)

use kernels_gpu::abi::{
    ANY_BLOCK, BackwardArgs, COLUMNS_BLOCK, ClusterTile, ForwardArgs, REDUCE_BLOCK, REDUCE_COLS,
    RowTile, SHARED_BLOCK, STATIC_SHARED_BYTES, SUMS_BLOCK, VECTOR_BYTES, columns_vecs,
};

use crate::{DType, Entry, Error, Pass, Problem, Result, Variant};

/// The partials of dweight and dbias together stay below this many bytes, unless one row of them is
/// longer already.
pub const MAX_WORKSPACE_BYTES: usize = 64 << 20;

/// Blocks of the backward pass's `any` kernel on a multiprocessor: enough to hide the latency of memory,
/// and a bound on the partials.
const ANY_BLOCKS_PER_SM: u32 = 4;

/// Longest row that the backward pass's `any` kernel takes. Above it two floats a row, which the kernels by
/// columns need, are next to nothing.
const MAX_ANY_BACKWARD_COLS: usize = 4096;

/// Blocks of a `columns` kernel on a multiprocessor: all in work at once, since those of a second round would
/// have it to themselves.
const COLUMNS_BLOCKS_PER_SM: u32 = 3;

/// Blocks of a `sums` kernel on a multiprocessor.
const SUMS_BLOCKS_PER_SM: u32 = 8;

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
}

/// The launches of a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackwardPlan {
    /// The sums of each row that `rows` needs for dx, where it is a `columns` kernel.
    pub sums: Option<Launch>,
    /// dx and the partials; `None` without rows.
    pub rows: Option<Launch>,
    /// The sum over the partials, which also writes the zero gradients of no rows.
    pub reduce: Launch,
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

/// Plans the backward pass.
///
/// # Errors
///
/// [`Error::Limit`] where the device cannot take the kernel's block.
pub fn backward(problem: &Problem, args: &BackwardArgs, limits: &Limits) -> Result<BackwardPlan> {
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
    let rows = kernel.launch(problem, kernel.max_partials(problem, limits), limits)?;
    let reduce = Launch {
        entry: Entry::Reduce {
            weight: problem.parameter_dtype(),
        },
        grid: problem.n_cols_u32().div_ceil(REDUCE_COLS),
        grid_y: 2,
        block: REDUCE_BLOCK,
        shared_bytes: 0,
    };
    let n_partials = rows.map_or(0, |launch| match kernel.column_parts {
        Some(_) => launch.grid_y,
        None => launch.grid / kernel.cluster,
    });
    Ok(BackwardPlan {
        sums: kernel.sums(problem, limits)?,
        n_partials,
        rows,
        reduce: check(reduce, limits)?,
    })
}

/// Bytes of workspace that a backward pass needs on a device with these limits, wherever its operands
/// lie: two arrays `[n_partials, n_cols]` of f32 (f64 for f64), for dweight and for dbias, and
/// [`row_sums_bytes`].
pub fn workspace_bytes(problem: &Problem, limits: &Limits) -> usize {
    let n_partials = [true, false]
        .map(|aligned| {
            let kernel = RowsKernel::choose(Pass::Backward, problem, aligned, limits);
            let blocks = kernel.blocks(problem);
            blocks.min(u64::from(kernel.max_partials(problem, limits)))
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
/// and for the backward pass the sum over the partials.
pub fn entries(pass: Pass, problem: &Problem, limits: &Limits) -> Vec<Entry> {
    let mut entries = Vec::new();
    for aligned in [true, false] {
        let kernel = RowsKernel::choose(pass, problem, aligned, limits);
        entries.extend(kernel.sums_entry(problem));
        entries.push(kernel.entry);
    }
    if pass == Pass::Backward {
        entries.push(Entry::Reduce {
            weight: problem.parameter_dtype(),
        });
    }
    entries
}

/// A kernel over rows, chosen by what a row is.
struct RowsKernel {
    entry: Entry,
    block: u32,
    rows_per_block: u32,
    /// Blocks that a multiprocessor is to hold, or rounds of clusters; `None`: there is a block for every row.
    blocks_per_sm: Option<u32>,
    shared_bytes: u32,
    /// Parts that a `columns` kernel divides the columns into; `None` for the others.
    column_parts: Option<u32>,
    /// Blocks of a cluster, which has a row; 1 without clusters.
    cluster: u32,
}

impl RowsKernel {
    fn choose(pass: Pass, problem: &Problem, aligned: bool, limits: &Limits) -> Self {
        if problem.dtype() == DType::F64 {
            return Self::any(pass, problem);
        }
        let size = problem.dtype().size() as u64;
        let row_bytes = problem.n_cols() as u64 * size;
        let room = u64::from(limits.max_shared.saturating_sub(STATIC_SHARED_BYTES));
        let rings = match pass {
            Pass::Forward => 1,
            Pass::Backward => 2,
        };
        let fits = |tile: &&RowTile, vectors: u64| {
            vectors <= u64::from(tile.max_vectors()) && u64::from(rings * tile.ring_bytes()) <= room
        };
        let tiled = |tile: &RowTile, variant: Variant| RowsKernel {
            entry: entry(pass, problem, variant),
            block: tile.block,
            rows_per_block: tile.rows_per_block(),
            blocks_per_sm: (tile.stages > 0).then_some(tile.blocks_per_sm),
            shared_bytes: rings * tile.ring_bytes(),
            column_parts: None,
            cluster: 1,
        };
        if aligned && is_aligned(&[row_bytes]) {
            let vectors = row_bytes / u64::from(VECTOR_BYTES);
            let tiles = pass.tiles(problem.dtype());
            if let Some(tile) = tiles.iter().find(|tile| fits(tile, vectors)) {
                let (lanes, vecs) = (tile.lanes, tile.vecs);
                return tiled(tile, Variant::Rows { lanes, vecs });
            }
            let stages = [2, 1].into_iter().find(|stages| stages * row_bytes <= room);
            let shared = |stages: u64| RowsKernel {
                entry: entry(
                    pass,
                    problem,
                    Variant::Shared {
                        stages: stages as u32,
                    },
                ),
                block: SHARED_BLOCK,
                rows_per_block: 1,
                blocks_per_sm: Some(1),
                shared_bytes: (stages * row_bytes) as u32,
                column_parts: None,
                cluster: 1,
            };
            let cluster = pass.cluster_tiles(problem.dtype()).iter().find(|cluster| {
                vectors <= u64::from(cluster.max_vectors())
                    && u64::from(rings * cluster.tile.ring_bytes()) <= room
            });
            let cluster = cluster.filter(|_| limits.compute_capability >= (9, 0));
            // One row and no other on its way: f32 has so few columns a byte that this is faster than a cluster.
            let alone = problem.dtype() == DType::F32;
            match (pass, stages, cluster) {
                (Pass::Forward, Some(2), _) => return shared(2),
                (Pass::Forward, Some(1), _) if alone => return shared(1),
                (_, _, Some(cluster)) => return Self::in_clusters(pass, problem, cluster),
                (Pass::Forward, Some(stages), None) => return shared(stages),
                _ => {}
            }
        } else {
            let vectors = row_bytes.div_ceil(u64::from(VECTOR_BYTES));
            let tiles = pass.ragged_tiles(problem.dtype());
            if let Some(tile) = tiles.iter().find(|tile| {
                vectors <= u64::from(tile.max_vectors())
                    && u64::from(tile.ragged_bytes(rings)) <= room
            }) {
                let (lanes, vecs) = (tile.lanes, tile.vecs);
                return RowsKernel {
                    shared_bytes: tile.ragged_bytes(rings),
                    ..tiled(tile, Variant::Ragged { lanes, vecs })
                };
            }
            let columns = problem.n_cols() as u64;
            let tiles = pass.narrow_tiles(problem.dtype());
            if let Some(tile) = tiles.iter().find(|tile| fits(tile, columns)) {
                let (lanes, vecs) = (tile.lanes, tile.vecs);
                return tiled(tile, Variant::Narrow { lanes, vecs });
            }
        }
        if pass == Pass::Backward && problem.n_cols() > MAX_ANY_BACKWARD_COLS {
            let narrow = !(aligned && is_aligned(&[row_bytes]));
            return Self::columns(problem, narrow);
        }
        Self::any(pass, problem)
    }

    /// A kernel whose rows are the clusters'.
    fn in_clusters(pass: Pass, problem: &Problem, cluster: &ClusterTile) -> Self {
        let rings = match pass {
            Pass::Forward => 1,
            Pass::Backward => 2,
        };
        RowsKernel {
            entry: entry(pass, problem, Variant::of_cluster(cluster)),
            block: cluster.tile.block,
            rows_per_block: 1,
            blocks_per_sm: (cluster.rounds > 0).then_some(cluster.rounds),
            shared_bytes: rings * cluster.tile.ring_bytes(),
            column_parts: None,
            cluster: cluster.blocks,
        }
    }

    /// The kernel that takes any row, and any number of them.
    fn any(pass: Pass, problem: &Problem) -> Self {
        RowsKernel {
            entry: entry(pass, problem, Variant::Any),
            block: ANY_BLOCK,
            rows_per_block: 1,
            blocks_per_sm: match pass {
                Pass::Forward => None,
                Pass::Backward => Some(ANY_BLOCKS_PER_SM),
            },
            shared_bytes: 0,
            column_parts: None,
            cluster: 1,
        }
    }

    /// The backward pass's kernel that goes by columns.
    fn columns(problem: &Problem, narrow: bool) -> Self {
        let vector = match narrow {
            true => 1,
            false => VECTOR_BYTES / problem.dtype().size() as u32,
        };
        let part = COLUMNS_BLOCK * columns_vecs(narrow) * vector;
        RowsKernel {
            entry: entry(Pass::Backward, problem, Variant::Columns { narrow }),
            block: COLUMNS_BLOCK,
            rows_per_block: 1,
            blocks_per_sm: Some(COLUMNS_BLOCKS_PER_SM),
            shared_bytes: 0,
            column_parts: Some(problem.n_cols_u32().div_ceil(part)),
            cluster: 1,
        }
    }

    /// The kernel that a `columns` kernel needs before it for dx.
    fn sums_entry(&self, problem: &Problem) -> Option<Entry> {
        match self.entry.variant() {
            Some(Variant::Columns { narrow }) => {
                Some(entry(Pass::Backward, problem, Variant::Sums { narrow }))
            }
            _ => None,
        }
    }

    fn sums(&self, problem: &Problem, limits: &Limits) -> Result<Option<Launch>> {
        let entry = self.sums_entry(problem).filter(|_| problem.n_rows() > 0);
        let rows = u32::try_from(problem.n_rows()).unwrap_or(u32::MAX);
        entry
            .map(|entry| {
                let launch = Launch {
                    entry,
                    grid: rows.min(limits.sm_count.saturating_mul(SUMS_BLOCKS_PER_SM).max(1)),
                    grid_y: 1,
                    block: SUMS_BLOCK,
                    shared_bytes: 0,
                };
                check(launch, limits)
            })
            .transpose()
    }

    /// Blocks that give every row a place of its own.
    fn blocks(&self, problem: &Problem) -> u64 {
        (problem.n_rows() as u64).div_ceil(u64::from(self.rows_per_block))
    }

    /// Blocks that the kernel is to be launched with at most; of a `cluster` kernel, clusters.
    fn max_resident(&self, limits: &Limits) -> u32 {
        if self.cluster > 1 {
            let at_a_time = clusters_at_a_time(limits.sm_count, self.cluster);
            let clusters = self
                .blocks_per_sm
                .map_or(u32::MAX, |rounds| at_a_time.saturating_mul(rounds));
            return clusters.min(limits.max_grid / self.cluster).max(1);
        }
        self.blocks_per_sm.map_or(limits.max_grid, |blocks| {
            limits
                .sm_count
                .saturating_mul(blocks)
                .min(limits.max_grid)
                .max(1)
        })
    }

    /// Blocks of the backward pass that the device can keep resident and the workspace has room for.
    fn max_partials(&self, problem: &Problem, limits: &Limits) -> u32 {
        let room = MAX_WORKSPACE_BYTES / partial_row_bytes(problem);
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let places = self.max_resident(limits) / self.column_parts.unwrap_or(1);
        // A grid's second dimension, which a `columns` kernel has them in, ends at 65535.
        places.min(room).clamp(1, 65_535)
    }

    /// A grid of at most `cap` blocks; blocks go on to further rows by themselves.
    fn launch(&self, problem: &Problem, cap: u32, limits: &Limits) -> Result<Option<Launch>> {
        if problem.n_rows() == 0 {
            return Ok(None);
        }
        let blocks = u32::try_from(self.blocks(problem)).unwrap_or(u32::MAX);
        let blocks = blocks.min(cap);
        let (grid, grid_y) = match self.column_parts {
            Some(parts) => (parts, blocks),
            None => (blocks.saturating_mul(self.cluster), 1),
        };
        let launch = Launch {
            entry: self.entry,
            grid,
            grid_y,
            block: self.block,
            shared_bytes: self.shared_bytes,
        };
        check(launch, limits).map(Some)
    }
}

/// Clusters that a device can be expected to hold at a time, one block to a multiprocessor.
///
/// A cluster's blocks are on one group of multiprocessors. Those come in pairs, so any pair takes a cluster of two.
/// The groups are of different sizes, not the same on every chip: of an H100's 132 multiprocessors larger clusters
/// reach 120 (`cuOccupancyMaxActiveClusters` says 30 clusters of four, 15 of eight). Too few leave multiprocessors
/// idle in the last round, too many cost a round more.
pub fn clusters_at_a_time(sm_count: u32, blocks: u32) -> u32 {
    match blocks {
        ..=2 => sm_count / blocks,
        _ => sm_count / 11 * 10 / blocks,
    }
}

fn entry(pass: Pass, problem: &Problem, variant: Variant) -> Entry {
    Entry::Rows {
        pass,
        x: problem.dtype(),
        weight: problem.parameter_dtype(),
        variant,
    }
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

fn is_aligned(values: &[u64]) -> bool {
    values
        .iter()
        .all(|value| value.is_multiple_of(u64::from(VECTOR_BYTES)))
}

/// Bytes of one row of both arrays of partials.
fn partial_row_bytes(problem: &Problem) -> usize {
    2 * problem.n_cols() * problem.dtype().accumulator().size()
}

#[cfg(test)]
mod tests;
