//! Every choice of a plan, for devices that are plain numbers: which kernel in `choice`, and here the rest.

use kernels_gpu::abi::{FAST_MEMORY, Memory, STATIC_SHARED_BYTES, VECTOR_BYTES, cluster_share};

use super::kernel::{
    COLUMNS_BLOCKS_PER_SM, clusters_at_a_time, has_fast_memory, takes_larger_clusters,
};
use super::*;
use crate::{Image, Variant};

mod choice;
mod few;
mod pairs;

const H100: Limits = Limits {
    max_grid: i32::MAX as u32,
    max_block: 1024,
    sm_count: 132,
    max_shared: 227 << 10,
    compute_capability: (9, 0),
    memory_rate: memory_rate(2_619_000, 5120),
};

/// An H100 with a faster memory.
const H200: Limits = Limits {
    memory_rate: memory_rate(3_201_000, 6144),
    ..H100
};

/// Without clusters.
const A100: Limits = Limits {
    sm_count: 108,
    max_shared: 163 << 10,
    compute_capability: (8, 0),
    memory_rate: memory_rate(1_593_000, 5120),
    ..H100
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
        // In place, so that a few rows have the kernels of many.
        dx: 0x2000,
        x_stride: problem.strides().x as u64,
        dy_stride: problem.strides().dy as u64,
        dx_stride: problem.strides().dx as u64,
        ..Default::default()
    }
}

fn planned(problem: &Problem, args: &ForwardArgs) -> Launch {
    forward(problem, args, &H100).unwrap().unwrap()
}

#[test]
fn clusters_have_a_row_of_partials_each_and_few_of_them() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for n_cols in [8200, 16_384, 32_768, 65_536, 131_072, 262_144] {
            let problem = problem(4096, n_cols, dtype);
            let plan = backward(&problem, &backward_args(&problem), true, &H100).unwrap();
            let rows = plan.rows.unwrap();
            let Some(Variant::Cluster { blocks, .. }) = rows.entry.variant() else {
                panic!("{dtype} {n_cols}: {:?}", rows.entry);
            };
            assert_eq!((plan.sums, rows.grid), (None, plan.n_partials * blocks));
            // Written and read again: at most 5 % of x, dy and dx.
            let partials = 2 * plan.n_partials as usize * partial_row_bytes(&problem);
            let least = 3 * 4096 * n_cols * dtype.size();
            assert!(partials * 20 <= least, "{dtype} {n_cols}");
        }
    }
    // Below what the last is for.
    let shorter = problem(4096, 229_368, DType::BF16);
    let kernel = RowsKernel::choose(Pass::Backward, &shorter, true, &H100);
    let by_columns = Variant::Columns { narrow: false };
    assert_eq!(kernel.entry.variant(), Some(by_columns));
    assert_eq!(clusters_at_a_time(132, 2), 66);
    assert_eq!(clusters_at_a_time(132, 4), 30);
    assert_eq!(clusters_at_a_time(132, 8), 15);
    assert_eq!(clusters_at_a_time(132, 16), 7);
}

/// Dynamic shared memory is by blocks: all that the table says a multiprocessor holds must fit it.
#[test]
fn ragged_tiles_fit_as_often_as_the_table_says() {
    const PER_SM: u32 = 228 << 10;
    for (pass, dtype) in passes_and_dtypes() {
        for tile in pass.ragged_tiles(dtype) {
            let dynamic = match pass {
                Pass::Forward => tile.ragged_forward_bytes(),
                Pass::Backward => tile.ragged_backward_bytes(VECTOR_BYTES / dtype.size() as u32),
            };
            // A block takes 1 KiB for the system, too.
            let bytes = dynamic + STATIC_SHARED_BYTES + 1024;
            assert!(bytes * tile.blocks_per_sm.max(1) <= PER_SM, "{tile:?}");
        }
    }
}

#[test]
fn tiles_are_sorted_and_sound() {
    for (pass, dtype) in passes_and_dtypes() {
        for tiles in [
            pass.tiles(dtype),
            pass.ragged_tiles(dtype),
            pass.narrow_tiles(dtype),
        ] {
            for fast in [false, true] {
                let longest = tiles.iter().filter(|tile| tile.is_for(fast));
                let longest = longest.map(|tile| tile.max_vectors());
                assert!(longest.is_sorted_by(|a, b| a < b));
            }
            // The device code finds its tile by these two.
            let names: Vec<_> = tiles.iter().map(|tile| (tile.lanes, tile.vecs)).collect();
            assert!((1..names.len()).all(|i| !names[..i].contains(&names[i])));
            for tile in tiles {
                // The plan asks for these of some tiles alone.
                let rows = std::ptr::eq(tiles, pass.tiles(dtype));
                let narrow = std::ptr::eq(tiles, pass.narrow_tiles(dtype));
                assert!(tile.fewest == 0 || rows);
                assert!(tile.memory == Memory::Any || !narrow || tiles.is_empty());
                assert!(match tile.lanes {
                    ..=32 => tile.lanes.is_power_of_two() && tile.block % tile.lanes == 0,
                    _ => tile.lanes % 32 == 0,
                });
                // Whole teams; only the backward kernels know several of more than a warp, each with a barrier.
                assert_eq!(
                    tile.of_teams(tile.teams()).block,
                    tile.block.max(32),
                    "{tile:?}"
                );
                assert!(
                    tile.lanes <= 32 || tile.teams() == 1 || (tile.stages > 0 && tile.teams() < 16)
                );
                assert!(tile.stages == 0 || tile.blocks_per_sm > 0);
                // 8 lanes move the elements at a ragged row's ends.
                assert!(tile.lanes >= 8);
            }
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
fn no_rows_launch_no_rows_kernel() {
    let empty = problem(0, 384, DType::F32);
    assert_eq!(forward(&empty, &forward_args(&empty), &H100).unwrap(), None);
    let plan = backward(&empty, &backward_args(&empty), true, &H100).unwrap();
    assert_eq!((plan.rows, plan.n_partials), (None, 0));
    assert_eq!(plan.reduce.grid, 384u32.div_ceil(REDUCE_COLS));
    assert_eq!(workspace_bytes(&empty, &H100), 0);
}

#[test]
fn the_grid_stays_within_the_device() {
    let wide = problem(1 << 37, 1, DType::F16);
    assert_eq!(planned(&wide, &forward_args(&wide)).grid, H100.max_grid);
    let small = Limits {
        max_block: 16,
        ..H100
    };
    let row = problem(1, 384, DType::F32);
    assert!(matches!(
        forward(&row, &forward_args(&row), &small),
        Err(Error::Limit { max: 16, .. })
    ));
    assert!(matches!(
        backward(&row, &backward_args(&row), true, &small),
        Err(Error::Limit { max: 16, .. })
    ));
}

#[test]
fn partials_fit_the_workspace() {
    for dtype in DType::ALL {
        for n_rows in [1, 2, 37, 100_000] {
            for n_cols in [1, 31, 384, 1000, 4096, 65_536, 20_000_000] {
                let problem = problem(n_rows, n_cols, dtype);
                let bytes = workspace_bytes(&problem, &H100);
                let partials = bytes - row_sums_bytes(&problem, &H100);
                let one_row = partial_row_bytes(&problem);
                assert!(partials <= MAX_WORKSPACE_BYTES.max(one_row), "{n_cols}");
                let aligned = backward_args(&problem);
                for args in [
                    aligned,
                    BackwardArgs {
                        dy: 2,
                        dx: 2,
                        ..aligned
                    },
                ] {
                    let plan = backward(&problem, &args, true, &H100).unwrap();
                    assert!(plan.n_partials >= 1 && plan.n_partials as usize <= n_rows);
                    assert!(plan.n_partials as usize * one_row <= bytes);
                }
            }
        }
    }
}

/// A caller that has allocated for its largest batch has enough for any.
#[test]
fn more_rows_need_no_smaller_workspace() {
    for max_shared in [64 << 10, 99 << 10, H100.max_shared] {
        let limits = Limits { max_shared, ..H100 };
        for dtype in DType::ALL {
            for n_cols in [
                1, 64, 129, 1000, 1024, 1536, 2047, 3071, 3072, 4096, 8192, 100_000,
            ] {
                let mut before = 0;
                for n_rows in (0..1600).chain([4096, 7168, 70_161]) {
                    let problem = problem(n_rows, n_cols, dtype);
                    let bytes = workspace_bytes(&problem, &limits);
                    assert!(bytes >= before, "{n_rows} rows of {n_cols}, {dtype}");
                    before = bytes;
                    let args = backward_args(&problem);
                    for args in [
                        args,
                        BackwardArgs {
                            dy: 2,
                            dx: 2,
                            ..args
                        },
                    ] {
                        let plan = backward(&problem, &args, true, &limits).unwrap();
                        let written = plan.n_partials as usize * partial_row_bytes(&problem);
                        assert!(written + row_sums_bytes(&problem, &limits) <= bytes);
                    }
                }
            }
        }
    }
}

#[test]
fn long_rows_go_by_columns_backward_in_one_round_of_blocks() {
    for (n_cols, narrow) in [(16_384, false), (65_536, false), (9_001, true)] {
        let problem = problem(4096, n_cols, DType::BF16);
        let plan = backward(&problem, &backward_args(&problem), true, &A100).unwrap();
        let (sums, columns) = (plan.sums.unwrap(), plan.rows.unwrap());
        assert_eq!(sums.entry.variant(), Some(Variant::Sums { narrow }));
        assert_eq!(columns.entry.variant(), Some(Variant::Columns { narrow }));
        assert_eq!(plan.n_partials, columns.grid_y);
        assert!(columns.grid * columns.grid_y <= A100.sm_count * COLUMNS_BLOCKS_PER_SM);
        assert_eq!(row_sums_bytes(&problem, &A100), 4096 * 8);
    }
    let short = problem(4096, 4096, DType::BF16);
    assert_eq!(row_sums_bytes(&short, &A100), 0);
}

#[test]
fn only_a_kernel_that_waits_by_itself_may_overlap() {
    for limits in [H100, A100] {
        for dtype in DType::ALL {
            for n_rows in [0, 1, 4096] {
                let problem = problem(n_rows, 1024, dtype);
                let plan = backward(&problem, &backward_args(&problem), true, &limits).unwrap();
                let launches = [plan.sums, plan.rows, Some(plan.reduce)];
                for launch in launches.into_iter().flatten() {
                    let entry = launch.entry.to_string();
                    let image = Image::with_kernel(&entry, limits.compute_capability).unwrap();
                    let waits = image
                        .kernel(&entry)
                        .unwrap()
                        .contains("griddepcontrol.wait");
                    // Without rows there is no launch of this pass before it.
                    assert_eq!(
                        launch.overlaps,
                        waits && n_rows > 0,
                        "{entry}, {n_rows} rows"
                    );
                }
            }
        }
    }
}
