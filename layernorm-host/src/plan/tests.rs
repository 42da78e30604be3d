//! Every choice of a plan, for devices that are plain numbers.

use kernels_gpu::abi::{FAST_MEMORY, Memory, STATIC_SHARED_BYTES, VECTOR_BYTES, cluster_share};

use super::kernel::{
    COLUMNS_BLOCKS_PER_SM, clusters_at_a_time, has_fast_memory, takes_larger_clusters,
};
use super::*;
use crate::{Image, Variant};

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
        dx: 0x3000,
        x_stride: problem.strides().x as u64,
        dy_stride: problem.strides().dy as u64,
        dx_stride: problem.strides().dx as u64,
        ..Default::default()
    }
}

fn is_apart(launch: &Launch) -> bool {
    matches!(
        launch.entry.variant(),
        Some(Variant::Ragged { .. } | Variant::Narrow { .. })
    )
}

fn planned(problem: &Problem, args: &ForwardArgs) -> Launch {
    forward(problem, args, &H100).unwrap().unwrap()
}

#[test]
fn a_row_goes_to_the_first_tile_it_fits() {
    for (limits, fast) in [(H100, false), (H200, true)] {
        for (pass, dtype) in passes_and_dtypes() {
            let mut shorter = 0;
            for tile in pass.tiles(dtype).iter().filter(|tile| tile.is_for(fast)) {
                for vectors in [(shorter + 1).max(tile.fewest), tile.max_vectors()] {
                    let n_cols = vectors as usize * VECTOR_BYTES as usize / dtype.size();
                    let problem = problem(5, n_cols, dtype);
                    let kernel = RowsKernel::choose(pass, &problem, true, &limits);
                    let (lanes, vecs) = (tile.lanes, tile.vecs);
                    let chosen = kernel.entry.variant();
                    assert_eq!(chosen, Some(Variant::Rows { lanes, vecs }), "{n_cols}");
                }
                shorter = tile.max_vectors();
            }
        }
    }
}

/// One of which nothing is known counts as slow.
#[test]
fn a_memory_is_fast_by_what_each_multiprocessor_gets_of_it() {
    let with = |memory_rate, sm_count| Limits {
        memory_rate,
        sm_count,
        ..H100
    };
    assert!(!has_fast_memory(&H100) && has_fast_memory(&H200));
    assert!(!has_fast_memory(&A100));
    assert!(!has_fast_memory(&with(memory_rate(5_001_000, 256), 40)));
    assert!(!has_fast_memory(&with(0, 132)));
    let just = FAST_MEMORY * 132;
    assert!(has_fast_memory(&with(just, 132)) && !has_fast_memory(&with(just - 1, 132)));
}

#[test]
fn a_row_longer_than_the_tiles_goes_to_shared_memory_while_it_fits() {
    let chosen = |n_cols, dtype| {
        let problem = problem(5, n_cols, dtype);
        let kernel = RowsKernel::choose(Pass::Forward, &problem, true, &A100);
        assert!(kernel.shared_bytes + STATIC_SHARED_BYTES <= A100.max_shared);
        kernel.entry.variant().unwrap()
    };
    assert_eq!(chosen(24_576, DType::BF16), Variant::Shared { stages: 2 });
    assert_eq!(chosen(65_536, DType::BF16), Variant::Shared { stages: 1 });
    assert_eq!(chosen(32_776, DType::F32), Variant::Shared { stages: 1 });
    assert_eq!(chosen(131_072, DType::BF16), Variant::Any);
}

#[test]
fn with_clusters_a_row_longer_than_the_tiles_goes_to_the_first_that_it_fits() {
    for (pass, dtype) in passes_and_dtypes() {
        let longest = pass
            .tiles(dtype)
            .last()
            .map_or(0, |tile| tile.max_vectors());
        // Forward, a block's shared memory comes before.
        let mut shorter = match pass {
            Pass::Forward => (H100.max_shared - STATIC_SHARED_BYTES) / VECTOR_BYTES,
            Pass::Backward => longest,
        };
        assert!(shorter >= longest);
        for cluster in pass.cluster_tiles(dtype) {
            let fewest = (shorter + 1).max(cluster.tile.fewest);
            for vectors in [fewest, cluster.max_vectors()] {
                let n_cols = vectors as usize * VECTOR_BYTES as usize / dtype.size();
                let problem = problem(5, n_cols, dtype);
                let kernel = RowsKernel::choose(pass, &problem, true, &H100);
                assert_eq!(
                    kernel.entry.variant(),
                    Some(Variant::of_cluster(cluster)),
                    "{n_cols}"
                );
                assert!(kernel.shared_bytes + STATIC_SHARED_BYTES <= H100.max_shared);
                let launch = kernel.launch(&problem, u32::MAX, &H100).unwrap().unwrap();
                assert_eq!(launch.grid, 5 * cluster.blocks);
                let small = Limits {
                    max_shared: 99 << 10,
                    ..H100
                };
                let [without, small] =
                    [A100, small].map(|limits| RowsKernel::choose(pass, &problem, true, &limits));
                assert!(without.cluster == 1);
                assert!(
                    small.shared_bytes + STATIC_SHARED_BYTES <= 99 << 10,
                    "one whose rows are not staged there"
                );
                let share = cluster_share(vectors, cluster.blocks);
                assert!(share <= cluster.tile.max_vectors());
                assert!(
                    share * (cluster.blocks - 1) < vectors,
                    "each block has some"
                );
            }
            shorter = cluster.max_vectors();
        }
        let n_cols = (shorter as usize + 1) * VECTOR_BYTES as usize / dtype.size();
        let kernel = RowsKernel::choose(pass, &problem(5, n_cols, dtype), true, &H100);
        let in_shared_memory = pass.shared_tiles(dtype).iter().find(|tile| tile.blocks > 1);
        assert_eq!(
            kernel.cluster,
            in_shared_memory.map_or(1, |tile| tile.blocks)
        );
    }
}

#[test]
fn a_row_longer_than_all_else_goes_to_the_shared_memory_of_a_cluster() {
    let room = (H100.max_shared - STATIC_SHARED_BYTES) / VECTOR_BYTES;
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let columns = |vectors: u32| vectors as usize * VECTOR_BYTES as usize / dtype.size();
        for tile in Pass::Forward.shared_tiles(dtype) {
            let longest = tile.blocks * (room / tile.stages);
            let wide = problem(3, columns(longest), dtype);
            let kernel = RowsKernel::choose(Pass::Forward, &wide, true, &H100);
            assert_eq!(kernel.entry.variant(), Some(Variant::of_shared(tile)));
            assert_eq!(kernel.cluster, tile.blocks);
            assert!(kernel.shared_bytes + STATIC_SHARED_BYTES <= H100.max_shared);
            let without = RowsKernel::choose(Pass::Forward, &wide, true, &A100);
            assert_eq!(without.cluster, 1);
        }
        let last = Pass::Forward.shared_tiles(dtype).last().unwrap();
        let longer = problem(3, columns(last.blocks * room + 1), dtype);
        let kernel = RowsKernel::choose(Pass::Forward, &longer, true, &H100);
        assert_eq!(kernel.entry.variant(), Some(Variant::Any));
    }
}

/// Where its shared memory is small, rows too short for a tile's liking have no better one.
#[test]
fn a_tile_for_rows_that_fill_it_takes_shorter_ones_where_shared_memory_does_not() {
    let t4 = Limits {
        max_shared: 64 << 10,
        compute_capability: (7, 5),
        ..H100
    };
    let row = problem(3, 29_000, DType::BF16);
    let variant = |limits| {
        let kernel = RowsKernel::choose(Pass::Forward, &row, true, limits);
        kernel.entry.variant().unwrap()
    };
    assert_eq!(variant(&H100), Variant::Shared { stages: 2 });
    assert!(matches!(variant(&t4), Variant::Rows { lanes: 1024, .. }));
}

#[test]
fn clusters_have_a_row_of_partials_each_and_few_of_them() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for n_cols in [8200, 16_384, 32_768, 65_536, 131_072, 262_144] {
            let problem = problem(4096, n_cols, dtype);
            let plan = backward(&problem, &backward_args(&problem), &H100).unwrap();
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

/// Of a device's part, of a small one and of one of another kind it is not known.
#[test]
fn only_a_whole_device_of_the_kind_that_was_measured_gets_clusters_of_16() {
    let cluster = |limits: &Limits| {
        for n_cols in [65_544, 131_072, 229_376, 262_144] {
            let row = problem(3, n_cols, DType::BF16);
            let kernel = RowsKernel::choose(Pass::Backward, &row, true, limits);
            assert_eq!(kernel.cluster == 16, takes_larger_clusters(limits));
        }
        RowsKernel::choose(
            Pass::Backward,
            &problem(3, 131_072, DType::BF16),
            true,
            limits,
        )
        .cluster
    };
    let with = |sm_count, compute_capability| Limits {
        sm_count,
        compute_capability,
        ..H100
    };
    assert_eq!(
        [132, 114].map(|count| cluster(&with(count, (9, 0)))),
        [16; 2]
    );
    assert_eq!(
        [112, 60, 16].map(|count| cluster(&with(count, (9, 0)))),
        [1; 3]
    );
    assert_eq!(
        [(10, 0), (12, 0)].map(|kind| cluster(&with(148, kind))),
        [1; 2]
    );
}

#[test]
fn a_row_that_starts_anywhere_goes_to_the_first_tile_for_such_rows_that_it_fits() {
    for (pass, dtype) in passes_and_dtypes() {
        let per_vector = VECTOR_BYTES as usize / dtype.size();
        let ragged = pass.ragged_tiles(dtype).iter().map(|tile| {
            let (lanes, vecs) = (tile.lanes, tile.vecs);
            let longest = tile.max_vectors() as usize * per_vector;
            (longest, Variant::Ragged { lanes, vecs })
        });
        let narrow = pass.narrow_tiles(dtype).iter().map(|tile| {
            let (lanes, vecs) = (tile.lanes, tile.vecs);
            (tile.max_vectors() as usize, Variant::Narrow { lanes, vecs })
        });
        let mut shorter = 0;
        for (longest, wanted) in ragged.chain(narrow) {
            assert!(
                longest % 16 == 0,
                "an odd row's length is not that of an aligned one"
            );
            for (n_cols, aligned) in [(shorter + 1, true), (longest - 1, true), (longest, false)] {
                let kernel = RowsKernel::choose(pass, &problem(5, n_cols, dtype), aligned, &H100);
                assert_eq!(kernel.entry.variant(), Some(wanted), "{n_cols}");
            }
            shorter = longest;
        }
        let kernel = RowsKernel::choose(pass, &problem(5, shorter + 1, dtype), true, &H100);
        let wanted = match (pass, dtype) {
            (_, DType::F64) | (Pass::Forward, _) => Variant::Any,
            (Pass::Backward, _) => Variant::Columns { narrow: true },
        };
        assert_eq!(kernel.entry.variant(), Some(wanted), "{dtype}");
    }
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
                // The plan asks for these of `rows` tiles alone.
                let for_all = tile.memory == Memory::Any && tile.fewest == 0;
                assert!(for_all || std::ptr::eq(tiles, pass.tiles(dtype)));
                assert!(match tile.lanes {
                    ..=32 => tile.lanes.is_power_of_two() && tile.block % tile.lanes == 0,
                    _ => tile.lanes == tile.block && tile.lanes % 32 == 0,
                });
                assert!(tile.stages == 0 || tile.blocks_per_sm > 0);
                // 8 lanes move the elements at a ragged row's ends.
                assert!(tile.lanes >= 8);
            }
        }
    }
}

#[test]
fn a_device_with_little_shared_memory_gets_kernels_that_fit_it() {
    let t4 = Limits {
        max_shared: 64 << 10,
        ..H100
    };
    for (pass, dtype) in passes_and_dtypes() {
        for n_cols in [64, 512, 4095, 4096, 8191, 8192, 65_536] {
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
fn whatever_is_not_a_multiple_of_16_bytes_has_kernels_of_its_own() {
    let aligned = problem(5, 384, DType::F16);
    let args = forward_args(&aligned);
    assert!(!is_apart(&planned(&aligned, &args)));
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
        assert!(is_apart(&planned(&aligned, &args)), "{args:?}");
    }
    let ragged = problem(5, 1023, DType::F32);
    assert!(is_apart(&planned(&ragged, &forward_args(&ragged))));
}

#[test]
fn the_kernel_does_not_depend_on_the_number_of_rows() {
    for n_cols in [1, 31, 384, 1000, 4096, 16_384, 65_536, 100_000] {
        let few = problem(1, n_cols, DType::BF16);
        let many = problem(1_000_000, n_cols, DType::BF16);
        assert_eq!(
            planned(&few, &forward_args(&few)).entry,
            planned(&many, &forward_args(&many)).entry
        );
        let [few, many] = [few, many].map(|problem| {
            let plan = backward(&problem, &backward_args(&problem), &H100).unwrap();
            plan.rows.unwrap().entry
        });
        assert_eq!(few, many);
    }
}

#[test]
fn no_rows_launch_no_rows_kernel() {
    let empty = problem(0, 384, DType::F32);
    assert_eq!(forward(&empty, &forward_args(&empty), &H100).unwrap(), None);
    let plan = backward(&empty, &backward_args(&empty), &H100).unwrap();
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
                for args in [aligned, BackwardArgs { dy: 2, ..aligned }] {
                    let plan = backward(&problem, &args, &H100).unwrap();
                    assert!(plan.n_partials >= 1 && plan.n_partials as usize <= n_rows);
                    assert!(plan.n_partials as usize * one_row <= bytes);
                }
            }
        }
    }
}

#[test]
fn long_rows_go_by_columns_backward_in_one_round_of_blocks() {
    for (n_cols, narrow) in [(16_384, false), (65_536, false), (9_001, true)] {
        let problem = problem(4096, n_cols, DType::BF16);
        let plan = backward(&problem, &backward_args(&problem), &A100).unwrap();
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
                let plan = backward(&problem, &backward_args(&problem), &limits).unwrap();
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
