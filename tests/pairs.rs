//! Backward kernels whose blocks are pairs: every tile that has one, on two multiprocessors and on four, beside the same rows
//! on one, which has no pairs.

use layernorm_host::abi::RowTile;
use layernorm_host::{BackwardPointers, DType, Pass, Variant};
use layernorm_tests::bench::Bench;
use layernorm_tests::data::Case;

const DTYPES: [(DType, DType); 5] = [
    (DType::F32, DType::F32),
    (DType::F16, DType::F16),
    (DType::F16, DType::F32),
    (DType::BF16, DType::BF16),
    (DType::BF16, DType::F32),
];

/// Each tile in pairs that devices with such a memory have, for rows that start anywhere or not.
fn each_tile(fast: bool, test: impl Fn(DType, DType, RowTile, Variant)) {
    for (dtype, parameter) in DTYPES {
        for ragged in [false, true] {
            let tiles = match ragged {
                true => Pass::Backward.ragged_tiles(dtype),
                false => Pass::Backward.tiles(dtype),
            };
            for tile in tiles {
                let (lanes, vecs) = (tile.lanes, tile.vecs);
                if tile.is_for(fast) && tile.pairs_from < RowTile::NEVER {
                    let variant = Variant::Paired {
                        ragged,
                        lanes,
                        vecs,
                    };
                    test(dtype, parameter, *tile, variant);
                }
            }
        }
    }
}

/// Rows of which every multiprocessor has more than the pairs ask for, and not all as many.
fn enough(tile: &RowTile, sm_count: u32) -> usize {
    (tile.pairs_from.max(2) * sm_count + 1) as usize
}

/// The longest that the tile takes, less one element if they start anywhere.
fn columns(tile: &RowTile, dtype: DType, variant: Variant) -> usize {
    let ragged = matches!(variant, Variant::Paired { ragged: true, .. });
    tile.max_vectors() as usize * 16 / dtype.size() - usize::from(ragged)
}

fn right_and_the_same_dx(model: &str, fast: bool) {
    each_tile(fast, |dtype, parameter, tile, variant| {
        let n_cols = columns(&tile, dtype, variant);
        for sm_count in [2, 4] {
            let case = Case::new(enough(&tile, sm_count), n_cols, dtype, parameter);
            let [paired, alone] = [sm_count, 1].map(|sm_count| {
                let bench = Bench::new(case, model, sm_count);
                let done = bench.run_backward();
                let is_pair = done[0].launch.entry.variant() == Some(variant);
                assert_eq!(is_pair, sm_count > 1, "{case:?}: {}", done[0].launch.entry);
                if is_pair && tile.blocks_per_sm == 1 {
                    // A row of partials for two multiprocessors: the grid is a pair for each.
                    assert_eq!(done[0].launch.grid, sm_count, "{case:?}");
                }
                bench.dx_is_right(&[]);
                bench.dweight_is_right();
                bench.dbias_is_right();
                let n = case.n_rows * n_cols;
                bench.direct.download(bench.backward.dx, n, dtype)
            });
            assert_eq!(paired, alone, "{case:?}: dx");
        }
    });
}

#[test]
fn every_tile_of_an_h100() {
    right_and_the_same_dx("h100", false);
}

#[test]
fn every_tile_of_an_h200() {
    right_and_the_same_dx("h200", true);
}

/// Each block of a pair sends one of the two, and writes the other.
#[test]
fn one_gradient_alone() {
    each_tile(false, |dtype, parameter, tile, variant| {
        let case = Case::new(
            enough(&tile, 2),
            columns(&tile, dtype, variant),
            dtype,
            parameter,
        );
        let mut bench = Bench::new(case, "h100", 2);
        let all = bench.backward;
        for pointers in [
            BackwardPointers { dbias: 0, ..all },
            BackwardPointers { dweight: 0, ..all },
            BackwardPointers {
                dbias: 0,
                dx: 0,
                ..all
            },
        ] {
            bench.backward = pointers;
            let done = bench.run_backward();
            assert_eq!(done[0].launch.entry.variant(), Some(variant), "{case:?}");
            if pointers.dweight != 0 {
                bench.dweight_is_right();
            }
            if pointers.dbias != 0 {
                bench.dbias_is_right();
            }
            if pointers.dx != 0 {
                bench.dx_is_right(&[]);
            }
        }
    });
}

/// The grid has a pair more than rows to fill it.
#[test]
fn a_block_without_rows_adds_nothing() {
    each_tile(false, |dtype, parameter, tile, variant| {
        if tile.pairs_from > 0 {
            return;
        }
        let in_place = Case {
            in_place: true,
            ..Case::new(1, columns(&tile, dtype, variant), dtype, parameter)
        };
        let bench = Bench::new(in_place, "h100", 4);
        let done = bench.run_backward();
        assert_eq!(
            done[0].launch.entry.variant(),
            Some(variant),
            "{in_place:?}"
        );
        bench.dx_is_right(&[]);
        bench.dweight_is_right();
        bench.dbias_is_right();
    });
}
