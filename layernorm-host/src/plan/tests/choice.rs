//! Which kernel a row gets.

use super::*;

fn is_apart(launch: &Launch) -> bool {
    matches!(
        launch.entry.variant(),
        Some(Variant::Ragged { .. } | Variant::Narrow { .. })
    )
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
        let tiles = pass.ragged_tiles(dtype).iter();
        let ragged = tiles.filter(|tile| tile.is_for(false)).map(|tile| {
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

/// No more than its rows keep busy, and than its shared memory has room for.
#[test]
fn a_block_has_teams_for_its_rows() {
    let launch = |n_rows: usize, max_shared: u32| {
        let problem = problem(n_rows, 1024, DType::BF16);
        let limits = Limits { max_shared, ..H100 };
        let kernel = RowsKernel::choose(Pass::Backward, &problem, true, &limits);
        let places = kernel.max_partials(&problem, &limits);
        kernel.launch(&problem, places, &limits).unwrap().unwrap()
    };
    let team = *Pass::Backward
        .tiles(DType::BF16)
        .iter()
        .find(|tile| (tile.lanes, tile.vecs) == (64, 2))
        .unwrap();
    let shared = 2 * team.of_teams(1).ring_bytes();
    let all = H100.max_shared;
    for (n_rows, max_shared, grid, teams) in [
        (1, all, 1, 1),
        (132, all, 132, 1),
        // Two rows a block, one in the last.
        (133, all, 67, 2),
        (5 * 132, all, 132, 5),
        (5 * 132 + 1, all, 111, 6),
        (70_161, all, 132, 6),
        (70_161, 3 * shared + STATIC_SHARED_BYTES, 132, 3),
        (70_161, 4 * shared + STATIC_SHARED_BYTES - 1, 132, 3),
        (70_161, shared + STATIC_SHARED_BYTES, 132, 1),
    ] {
        let launch = launch(n_rows, max_shared);
        let wanted = Variant::Rows { lanes: 64, vecs: 2 };
        assert_eq!(
            launch.entry.variant(),
            Some(wanted),
            "{n_rows}, {max_shared}"
        );
        assert_eq!(
            (launch.grid, launch.block),
            (grid, teams * 64),
            "{n_rows}, {max_shared}"
        );
        assert_eq!(launch.shared_bytes, teams * shared);
    }
    // Without room for one it is not its tile.
    assert_ne!(launch(1, shared + STATIC_SHARED_BYTES - 1).block, 64);
}

#[test]
fn a_device_with_little_shared_memory_gets_kernels_that_fit_it() {
    let t4 = Limits {
        max_shared: 64 << 10,
        ..H100
    };
    for (pass, dtype) in passes_and_dtypes() {
        for n_cols in [64, 512, 4095, 4096, 8191, 8192, 65_536] {
            for n_rows in [5, 4096] {
                let problem = problem(n_rows, n_cols, dtype);
                let kernel = RowsKernel::choose(pass, &problem, true, &t4);
                assert!(kernel.shared_bytes + STATIC_SHARED_BYTES <= t4.max_shared);
            }
        }
    }
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
            // In place: beside dy, a few rows have a kernel of their own (`few`), whose dx is the same bits.
            let plan = backward(&problem, &backward_args(&problem), true, &H100).unwrap();
            plan.rows.unwrap().entry.variant().map(unpaired)
        });
        // But for pairs, whose rows lie over threads as without (`tests/pairs.rs` has the bits).
        assert_eq!(few, many);
    }
}

/// How rows lie over threads, whether the blocks are pairs or not.
fn unpaired(variant: Variant) -> Variant {
    match variant {
        Variant::Paired {
            ragged: false,
            lanes,
            vecs,
        } => Variant::Rows { lanes, vecs },
        Variant::Paired {
            ragged: true,
            lanes,
            vecs,
        } => Variant::Ragged { lanes, vecs },
        other => other,
    }
}
