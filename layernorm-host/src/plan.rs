//! Which kernel, how many blocks, how much workspace: pure functions of a [`Problem`], the addresses and
//! the device's limits, so that every choice can be tested where there is no GPU.
//!
//! | row | kernel |
//! |---|---|
//! | every address, row start and row length a multiple of 16 bytes, and the row fits a tile | `rows`: the first tile of `kernels_gpu::abi` that it fits |
//! | as above, forward, longer than any tile, and the row fits shared memory twice, or once | `shared_2`, `shared_1` |
//! | not so aligned, forward, and the row fits a narrow tile | `narrow`: the first that it fits |
//! | any other | `any` |
//!
//! The choice never looks at `n_rows`: a row's y and dx are the same bits whatever comes with it. (It has
//! to above 2^31 blocks, which only rows of a few columns can reach.)

use kernels_gpu::abi::{
    ANY_BLOCK, BackwardArgs, ForwardArgs, REDUCE_BLOCK, REDUCE_COLS, RowTile, SHARED_BLOCK,
    STATIC_SHARED_BYTES, VECTOR_BYTES,
};

use crate::{DType, Entry, Error, Pass, Problem, Result, Variant};

/// The partials of dweight and dbias together stay below this many bytes, unless one row of them is
/// longer already.
pub const MAX_WORKSPACE_BYTES: usize = 64 << 20;

/// Blocks of the backward pass's `any` kernel on a multiprocessor: enough to hide the latency of memory,
/// and a bound on the partials.
const ANY_BLOCKS_PER_SM: u32 = 4;

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
}

/// One kernel launch. Blocks have one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The kernel.
    pub entry: Entry,
    /// Blocks in the grid's first dimension.
    pub grid: u32,
    /// Blocks in its second: 2 for the sum over the partials (dweight, dbias), else 1.
    pub grid_y: u32,
    /// Threads in a block.
    pub block: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
}

/// The launches of a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackwardPlan {
    /// dx and the partials; `None` without rows.
    pub rows: Option<Launch>,
    /// The sum over the partials, which also writes the zero gradients of no rows.
    pub reduce: Launch,
    /// Rows of each of the two arrays of partials: the grid of `rows`.
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
    if kernel.blocks_per_sm.is_none() && kernel.blocks(problem) > u64::from(limits.max_grid) {
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
    Ok(BackwardPlan {
        n_partials: rows.map_or(0, |launch| launch.grid),
        rows,
        reduce: check(reduce, limits)?,
    })
}

/// Bytes of workspace that a backward pass needs on a device with these limits, wherever its operands
/// lie: two arrays `[n_partials, n_cols]` of f32, for dweight and for dbias.
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
    n_partials as usize * partial_row_bytes(problem)
}

/// The kernels that a pass over the problem can need: with operands at multiples of 16 bytes, with others,
/// and for the backward pass the sum over the partials.
pub fn entries(pass: Pass, problem: &Problem, limits: &Limits) -> Vec<Entry> {
    let rows =
        [true, false].map(|aligned| RowsKernel::choose(pass, problem, aligned, limits).entry);
    let reduce = Entry::Reduce {
        weight: problem.parameter_dtype(),
    };
    let reduce = (pass == Pass::Backward).then_some(reduce);
    rows.into_iter().chain(reduce).collect()
}

/// A kernel over rows, chosen by what a row is.
struct RowsKernel {
    entry: Entry,
    block: u32,
    rows_per_block: u32,
    /// Blocks that a multiprocessor is to hold; `None`: there is a block for every row.
    blocks_per_sm: Option<u32>,
    shared_bytes: u32,
}

impl RowsKernel {
    fn choose(pass: Pass, problem: &Problem, aligned: bool, limits: &Limits) -> Self {
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
        };
        if aligned && is_aligned(&[row_bytes]) {
            let vectors = row_bytes / u64::from(VECTOR_BYTES);
            let tiles = pass.tiles(problem.dtype());
            if let Some(tile) = tiles.iter().find(|tile| fits(tile, vectors)) {
                let (lanes, vecs) = (tile.lanes, tile.vecs);
                return tiled(tile, Variant::Rows { lanes, vecs });
            }
            let stages = [2, 1].into_iter().find(|stages| stages * row_bytes <= room);
            if let (Pass::Forward, Some(stages)) = (pass, stages) {
                let variant = Variant::Shared {
                    stages: stages as u32,
                };
                return RowsKernel {
                    entry: entry(pass, problem, variant),
                    block: SHARED_BLOCK,
                    rows_per_block: 1,
                    blocks_per_sm: Some(1),
                    shared_bytes: (stages * row_bytes) as u32,
                };
            }
        } else {
            let columns = problem.n_cols() as u64;
            let tiles = pass.narrow_tiles();
            if let Some(tile) = tiles.iter().find(|tile| fits(tile, columns)) {
                let (lanes, vecs) = (tile.lanes, tile.vecs);
                return tiled(tile, Variant::Narrow { lanes, vecs });
            }
        }
        Self::any(pass, problem)
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
        }
    }

    /// Blocks that give every row a place of its own.
    fn blocks(&self, problem: &Problem) -> u64 {
        (problem.n_rows() as u64).div_ceil(u64::from(self.rows_per_block))
    }

    /// Blocks that the kernel is to be launched with at most.
    fn max_resident(&self, limits: &Limits) -> u32 {
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
        self.max_resident(limits).min(room).max(1)
    }

    /// A grid of at most `cap` blocks; blocks go on to further rows by themselves.
    fn launch(&self, problem: &Problem, cap: u32, limits: &Limits) -> Result<Option<Launch>> {
        if problem.n_rows() == 0 {
            return Ok(None);
        }
        let blocks = u32::try_from(self.blocks(problem)).unwrap_or(u32::MAX);
        let launch = Launch {
            entry: self.entry,
            grid: blocks.min(cap),
            grid_y: 1,
            block: self.block,
            shared_bytes: self.shared_bytes,
        };
        check(launch, limits).map(Some)
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
    2 * problem.n_cols() * DType::F32.size()
}

#[cfg(test)]
mod tests {
    use super::*;

    const H200: Limits = Limits {
        max_grid: i32::MAX as u32,
        max_block: 1024,
        sm_count: 132,
        max_shared: 227 << 10,
    };

    fn problem(n_rows: usize, n_cols: usize, dtype: DType) -> Problem {
        Problem::new(n_rows, n_cols, dtype, dtype, 1e-5).unwrap()
    }

    fn forward_args(problem: &Problem) -> ForwardArgs {
        ForwardArgs {
            x: 0x1000,
            y: 0x2000,
            x_stride: problem.strides().x as u64,
            y_stride: problem.strides().y as u64,
            ..Default::default()
        }
    }

    fn backward_args(problem: &Problem) -> BackwardArgs {
        BackwardArgs {
            x: 0x1000,
            dy: 0x2000,
            dx: 0x3000,
            x_stride: problem.strides().x as u64,
            dy_stride: problem.strides().dy as u64,
            dx_stride: problem.strides().dx as u64,
            ..Default::default()
        }
    }

    fn is_narrow(launch: &Launch) -> bool {
        matches!(launch.entry.variant(), Some(Variant::Narrow { .. }))
    }

    fn planned(problem: &Problem, args: &ForwardArgs) -> Launch {
        forward(problem, args, &H200).unwrap().unwrap()
    }

    #[test]
    fn a_row_goes_to_the_first_tile_it_fits() {
        for (pass, dtype) in passes_and_dtypes() {
            let mut shorter = 0;
            for tile in pass.tiles(dtype) {
                for vectors in [shorter + 1, tile.max_vectors()] {
                    let n_cols = vectors as usize * VECTOR_BYTES as usize / dtype.size();
                    let kernel = RowsKernel::choose(pass, &problem(5, n_cols, dtype), true, &H200);
                    let (lanes, vecs) = (tile.lanes, tile.vecs);
                    let chosen = kernel.entry.variant();
                    assert_eq!(chosen, Some(Variant::Rows { lanes, vecs }), "{n_cols}");
                }
                shorter = tile.max_vectors();
            }
        }
    }

    #[test]
    fn a_row_longer_than_the_tiles_goes_to_shared_memory_while_it_fits() {
        let chosen = |n_cols, dtype| {
            let problem = problem(5, n_cols, dtype);
            let kernel = RowsKernel::choose(Pass::Forward, &problem, true, &H200);
            assert!(kernel.shared_bytes + STATIC_SHARED_BYTES <= H200.max_shared);
            kernel.entry.variant().unwrap()
        };
        assert_eq!(chosen(32_768, DType::BF16), Variant::Shared { stages: 2 });
        assert_eq!(chosen(65_536, DType::BF16), Variant::Shared { stages: 1 });
        assert_eq!(chosen(32_768, DType::F32), Variant::Shared { stages: 1 });
        assert_eq!(chosen(131_072, DType::BF16), Variant::Any);
    }

    #[test]
    fn a_ragged_row_goes_to_a_narrow_tile_or_to_any() {
        let chosen = |pass, n_cols| {
            RowsKernel::choose(pass, &problem(5, n_cols, DType::F16), true, &H200)
                .entry
                .variant()
                .unwrap()
        };
        for n_cols in [1, 7, 129, 1023, 4095] {
            let variant = chosen(Pass::Forward, n_cols);
            assert!(matches!(variant, Variant::Narrow { .. }), "{n_cols}");
        }
        assert_eq!(chosen(Pass::Forward, 4099), Variant::Any);
        assert_eq!(chosen(Pass::Backward, 7), Variant::Any);
    }

    #[test]
    fn tiles_are_sorted_and_sound() {
        for (pass, dtype) in passes_and_dtypes() {
            for tiles in [pass.tiles(dtype), pass.narrow_tiles()] {
                assert!(tiles.is_sorted_by(|a, b| a.max_vectors() < b.max_vectors()));
                for tile in tiles {
                    assert!(tile.lanes.is_power_of_two() && tile.block % tile.lanes == 0);
                    assert!(tile.lanes <= 32 || tile.lanes == tile.block);
                    assert!(tile.stages == 0 || tile.blocks_per_sm > 0);
                }
            }
        }
    }

    #[test]
    fn a_device_with_little_shared_memory_gets_kernels_that_fit_it() {
        let t4 = Limits {
            max_shared: 64 << 10,
            ..H200
        };
        for (pass, dtype) in passes_and_dtypes() {
            for n_cols in [64, 512, 4096, 8192, 65_536] {
                let kernel = RowsKernel::choose(pass, &problem(5, n_cols, dtype), true, &t4);
                assert!(kernel.shared_bytes + STATIC_SHARED_BYTES <= t4.max_shared);
            }
        }
    }

    fn passes_and_dtypes() -> impl Iterator<Item = (Pass, DType)> {
        let passes = [Pass::Forward, Pass::Backward];
        passes
            .into_iter()
            .flat_map(|pass| DType::ALL.map(|dtype| (pass, dtype)))
    }

    #[test]
    fn whatever_is_not_a_multiple_of_16_bytes_goes_element_by_element() {
        let aligned = problem(5, 384, DType::F16);
        let args = forward_args(&aligned);
        assert!(!is_narrow(&planned(&aligned, &args)));
        for args in [
            ForwardArgs { x: 0x1002, ..args },
            ForwardArgs { y: 0x2008, ..args },
            ForwardArgs { weight: 4, ..args },
            ForwardArgs { bias: 4, ..args },
            ForwardArgs {
                residual: 4,
                ..args
            },
            ForwardArgs { sum: 4, ..args },
            ForwardArgs {
                x_stride: 388,
                ..args
            },
            ForwardArgs {
                y_stride: 385,
                ..args
            },
        ] {
            assert!(is_narrow(&planned(&aligned, &args)), "{args:?}");
        }
        let ragged = problem(5, 1023, DType::F32);
        assert!(is_narrow(&planned(&ragged, &forward_args(&ragged))));
    }

    #[test]
    fn the_kernel_does_not_depend_on_the_number_of_rows() {
        for n_cols in [1, 31, 384, 1000, 4096, 100_000] {
            let few = problem(1, n_cols, DType::BF16);
            let many = problem(1_000_000, n_cols, DType::BF16);
            assert_eq!(
                planned(&few, &forward_args(&few)).entry,
                planned(&many, &forward_args(&many)).entry
            );
            let [few, many] = [few, many].map(|problem| {
                let plan = backward(&problem, &backward_args(&problem), &H200).unwrap();
                plan.rows.unwrap().entry
            });
            assert_eq!(few, many);
        }
    }

    #[test]
    fn no_rows_launch_no_rows_kernel() {
        let empty = problem(0, 384, DType::F32);
        assert_eq!(forward(&empty, &forward_args(&empty), &H200).unwrap(), None);
        let plan = backward(&empty, &backward_args(&empty), &H200).unwrap();
        assert_eq!((plan.rows, plan.n_partials), (None, 0));
        assert_eq!(plan.reduce.grid, 384u32.div_ceil(REDUCE_COLS));
        assert_eq!(workspace_bytes(&empty, &H200), 0);
    }

    #[test]
    fn the_grid_stays_within_the_device() {
        let wide = problem(1 << 37, 1, DType::F16);
        assert_eq!(planned(&wide, &forward_args(&wide)).grid, H200.max_grid);
        let small = Limits {
            max_block: 16,
            ..H200
        };
        let row = problem(1, 384, DType::F32);
        assert!(matches!(
            forward(&row, &forward_args(&row), &small),
            Err(Error::Limit { max: 16, .. })
        ));
    }

    #[test]
    fn partials_fit_the_workspace() {
        for dtype in DType::ALL {
            for n_rows in [1, 2, 37, 100_000] {
                for n_cols in [1, 31, 384, 1000, 4096, 65_536, 20_000_000] {
                    let problem = problem(n_rows, n_cols, dtype);
                    let bytes = workspace_bytes(&problem, &H200);
                    assert!(bytes <= MAX_WORKSPACE_BYTES.max(n_cols * 8), "{n_cols}");
                    let aligned = backward_args(&problem);
                    for args in [aligned, BackwardArgs { dy: 2, ..aligned }] {
                        let plan = backward(&problem, &args, &H200).unwrap();
                        assert!(plan.n_partials >= 1 && plan.n_partials as usize <= n_rows);
                        assert!(plan.n_partials as usize * n_cols * 8 <= bytes);
                    }
                }
            }
        }
    }
}
