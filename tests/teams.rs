//! Backward kernels with all counts of teams in a block that their tiles have: every tile, on one multiprocessor, with a last
//! turn that not all teams have rows for; and the same rows as few, whose kernel has every tile's lanes.

use layernorm_host::{DType, Pass, Variant};
use layernorm_tests::bench::Bench;
use layernorm_tests::data::Case;

const DTYPES: [(DType, DType); 3] = [
    (DType::F32, DType::F32),
    (DType::F16, DType::F16),
    (DType::BF16, DType::F32),
];

/// Runs each tile of a device's tables for rows that start anywhere, or not, with one team, two, all but one, and all.
fn every_tile(model: &str, fast: bool, anywhere: bool) {
    let mut several = 0;
    for (dtype, parameter) in DTYPES {
        let tiles = match anywhere {
            true => Pass::Backward.ragged_tiles(dtype),
            false => Pass::Backward.tiles(dtype),
        };
        for tile in tiles.iter().filter(|tile| tile.is_for(fast)) {
            let (lanes, vecs) = (tile.lanes, tile.vecs);
            let variant = match anywhere {
                true => Variant::Ragged { lanes, vecs },
                false => Variant::Rows { lanes, vecs },
            };
            let most = tile.teams();
            let mut counts = vec![1, 2, most.saturating_sub(1), most];
            counts.retain(|teams| (1..=most).contains(teams));
            counts.sort_unstable();
            counts.dedup();
            for teams in counts {
                let n_cols = tile.max_vectors() as usize * 16 / dtype.size();
                let n_cols = n_cols - usize::from(anywhere);
                let of_team = tile.of_teams(1).rows_per_block() as usize;
                // One row for the last team, and with all of them one more for the first.
                let n_rows = match teams as usize {
                    teams if teams == most as usize => teams * of_team + 1,
                    teams => (teams - 1) * of_team + 1,
                };
                let [dx, by_one_team, few] = [
                    (1, true, Some(teams)),
                    (1 << 10, true, Some(1)),
                    (1 << 10, false, None),
                ]
                .map(|(sm_count, in_place, teams)| {
                    let case = Case {
                        in_place,
                        ..Case::new(n_rows, n_cols, dtype, parameter)
                    };
                    let bench = Bench::new(case, model, sm_count);
                    let done = bench.run_backward();
                    let rows = &done[0].launch;
                    let narrow = anywhere;
                    let variant = match teams {
                        None => Variant::Few { narrow },
                        // One multiprocessor has no pairs.
                        Some(_) if sm_count > 1 && tile.pairs_from == 0 => Variant::Paired {
                            ragged: anywhere,
                            lanes,
                            vecs,
                        },
                        Some(_) => variant,
                    };
                    assert_eq!(rows.entry.variant(), Some(variant), "{case:?}");
                    if tile.blocks_per_sm == 1
                        && let Some(teams) = teams
                    {
                        assert_eq!(rows.block, teams * tile.team(), "{case:?}");
                    }
                    bench.dx_is_right(&[]);
                    bench.dweight_is_right();
                    bench.dbias_is_right();
                    bench
                        .direct
                        .download(bench.backward.dx, n_rows * n_cols, dtype)
                });
                assert_eq!(dx, by_one_team, "{n_rows} x {n_cols} {dtype}: by teams");
                assert_eq!(dx, few, "{n_rows} x {n_cols} {dtype}: as a few rows");
                several += u32::from(teams > 1);
            }
        }
    }
    assert!(several >= 20, "{several}");
}

#[test]
fn every_tile_for_aligned_rows() {
    every_tile("h100", false, false);
}

#[test]
fn every_tile_for_rows_anywhere() {
    every_tile("h100", false, true);
}

#[test]
fn every_tile_of_a_device_with_fast_memory() {
    every_tile("h200", true, false);
    every_tile("h200", true, true);
}

/// What an earlier row has left in the shared memory, in other places of its lines, is no part of a row: rows of the fewest
/// columns of their tile, several to a team one after the other.
#[test]
fn rows_that_end_before_their_tile() {
    for (dtype, parameter) in DTYPES {
        let tiles = Pass::Backward.ragged_tiles(dtype);
        let mut before = 0;
        for tile in tiles.iter().filter(|tile| tile.is_for(false)) {
            let n_cols = before as usize * 16 / dtype.size() + 3;
            before = tile.max_vectors();
            let n_rows = (tile.rows_per_block() * 5 + 1) as usize;
            let bench = Bench::new(Case::new(n_rows, n_cols, dtype, parameter), "h100", 1);
            let done = bench.run_backward();
            let (lanes, vecs) = (tile.lanes, tile.vecs);
            let variant = Some(Variant::Ragged { lanes, vecs });
            assert_eq!(done[0].launch.entry.variant(), variant, "{n_cols} {dtype}");
            bench.dx_is_right(&[]);
            bench.dweight_is_right();
            bench.dbias_is_right();
        }
    }
}
