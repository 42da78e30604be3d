//! Results against the oracle: every dtype, ragged and tiny shapes, every kernel, hard values.

use layernorm_host::{DType, Device, Pass};

use super::Test;
use crate::check::{self, Verdict};
use crate::data::{Case, dtypes};

pub const TESTS: &[(&str, Test)] = &[
    ("no_rows", |device| rows(0, device)),
    ("one_row", |device| rows(1, device)),
    ("two_rows", |device| rows(2, device)),
    ("ragged_rows", |device| rows(37, device)),
    ("every_tile_and_one_vector_more", every_tile),
    (
        "every_tile_for_rows_anywhere_and_one_column_more",
        every_tile_for_rows_anywhere,
    ),
    ("rows_longer_than_any_tile", long_rows),
    ("long_rows_otherwise", long_rows_otherwise),
    ("more_rows_than_the_grid_has_places", many_rows),
    ("without_weight_or_bias", without_parameters),
    ("large_mean", large_mean),
    ("f64_is_f64_throughout", double),
    ("eps_zero_and_large", other_eps),
    (
        "constant_rows_whose_mean_over_std_overflows",
        huge_constant_rows,
    ),
];

/// Columns around a vector's, a warp's and a block's width, and real hidden sizes.
const COLUMNS: [usize; 8] = [1, 2, 31, 33, 384, 1000, 1023, 4096];

fn rows(n_rows: usize, device: &Device) -> Verdict {
    for (dtype, parameter_dtype) in dtypes() {
        for n_cols in COLUMNS {
            check::case(&Case::new(n_rows, n_cols, dtype, parameter_dtype), device)?;
        }
    }
    Ok(())
}

fn every_tile(device: &Device) -> Verdict {
    for (dtype, parameter_dtype) in dtypes() {
        let per_vector = 16 / dtype.size();
        for pass in [Pass::Forward, Pass::Backward] {
            for tile in pass.tiles(dtype) {
                let fits = tile.max_vectors() as usize * per_vector;
                for n_cols in [fits, fits + per_vector] {
                    check::case(&Case::new(3, n_cols, dtype, parameter_dtype), device)?;
                }
            }
        }
    }
    Ok(())
}

fn every_tile_for_rows_anywhere(device: &Device) -> Verdict {
    for (dtype, parameter_dtype) in dtypes() {
        let per_vector = 16 / dtype.size();
        for pass in [Pass::Forward, Pass::Backward] {
            let ragged = pass.ragged_tiles(dtype).iter();
            let ragged = ragged.map(|tile| tile.max_vectors() as usize * per_vector);
            let narrow = pass.narrow_tiles(dtype).iter();
            for longest in ragged.chain(narrow.map(|tile| tile.max_vectors() as usize)) {
                // Odd, so that no row but the first starts at a multiple of 16 bytes.
                for n_cols in [longest - 1, longest + 1] {
                    check::case(&Case::new(3, n_cols, dtype, parameter_dtype), device)?;
                }
            }
        }
    }
    Ok(())
}

/// Over clusters, or forward in shared memory and backward by columns; aligned and not, with rows left over in a
/// block's turn.
fn long_rows(device: &Device) -> Verdict {
    for (dtype, parameter_dtype) in dtypes() {
        for (n_rows, n_cols) in [
            (67, 8200),
            (3, 16_392),
            (2, 65_536),
            (2, 230_400),
            (67, 4097),
            (3, 9001),
        ] {
            check::case(&Case::new(n_rows, n_cols, dtype, parameter_dtype), device)?;
        }
    }
    // Every size of cluster full, and more rows than there are clusters.
    for dtype in [DType::F32, DType::BF16] {
        let shapes = [
            (5, 16_384),
            (137, 16_400),
            (70, 32_768),
            (2, 40_008),
            (2, 131_072),
            // More than two for some of seven clusters of 16 blocks.
            (17, 262_144),
        ];
        for (n_rows, n_cols) in shapes {
            check::case(&Case::new(n_rows, n_cols, dtype, DType::F32), device)?;
        }
    }
    // In the shared memory of clusters that go on to a further row: an H100 has 66 of two blocks.
    let case = Case::new(70, 111_624, DType::BF16, DType::BF16);
    check::case(&case, device)
}

/// The features of the short rows' kernels, in those of long rows: no parameters, and a large mean, which each
/// block of a cluster has a part of.
fn long_rows_otherwise(device: &Device) -> Verdict {
    for n_cols in [8200, 16_400, 33_000] {
        for mean in [1e3, -1e4] {
            let case = Case {
                mean,
                ..Case::new(3, n_cols, DType::F32, DType::F32)
            };
            check::case(&case, device)?;
        }
        for (weight, bias) in [(true, false), (false, true), (false, false)] {
            let case = Case {
                weight,
                bias,
                ..Case::new(3, n_cols, DType::F16, DType::F32)
            };
            check::case(&case, device)?;
        }
    }
    Ok(())
}

fn many_rows(device: &Device) -> Verdict {
    for (n_rows, n_cols) in [(20_011, 8), (5_003, 5), (3_001, 264)] {
        check::case(&Case::new(n_rows, n_cols, DType::F32, DType::F32), device)?;
        check::case(&Case::new(n_rows, n_cols, DType::BF16, DType::F32), device)?;
    }
    // Rows that start anywhere: the general kernel's, where there is little shared memory.
    check::case(&Case::new(163, 2051, DType::F32, DType::F32), device)
}

fn without_parameters(device: &Device) -> Verdict {
    for (dtype, parameter_dtype) in dtypes() {
        for n_cols in [33, 384] {
            for (weight, bias) in [(true, false), (false, true), (false, false)] {
                let case = Case {
                    weight,
                    bias,
                    ..Case::new(5, n_cols, dtype, parameter_dtype)
                };
                check::case(&case, device)?;
            }
        }
    }
    Ok(())
}

/// A one-pass variance, E[x^2] - E[x]^2, loses every digit here.
fn large_mean(device: &Device) -> Verdict {
    for n_cols in [33, 384, 1000, 1023, 4096, 5003, 8200, 8201] {
        for mean in [1e3, -1e3, 1e4] {
            let case = Case {
                mean,
                ..Case::new(7, n_cols, DType::F32, DType::F32)
            };
            check::case(&case, device)?;
        }
    }
    Ok(())
}

/// Statistics, sums or partials in f32 anywhere would cost half of the digits: here those that are left after a
/// mean of 1e7, of rows long enough for every loop and of more rows than the grid has places.
fn double(device: &Device) -> Verdict {
    for (n_rows, n_cols) in [(7, 1), (7, 33), (7, 1025), (3, 65_536), (1_201, 130)] {
        for mean in [0.0, 1e7] {
            let case = Case {
                mean,
                eps: 1e-12,
                ..Case::new(n_rows, n_cols, DType::F64, DType::F64)
            };
            check::case(&case, device)?;
        }
    }
    Ok(())
}

fn other_eps(device: &Device) -> Verdict {
    for eps in [0.0, 1e-12, 1e-5, 1.0, 1e6] {
        for n_cols in [33, 384] {
            let case = Case {
                eps,
                ..Case::new(5, n_cols, DType::F32, DType::F32)
            };
            check::case(&case, device)?;
        }
    }
    Ok(())
}

/// A lane without a column must not take part as a zero that is far from the mean: 2^100 of 1e-15 is infinite, and
/// zero times that is not zero.
///
/// The mean must be exact, since squares of what its rounding left over would overflow by themselves. It is, in
/// whatever order a row is added up: every x is 2^100, beside which the noise is nothing, so a sum of k of them has
/// k's few digits; and n_cols is a power of two, so 1 / n_cols is exact, too.
fn huge_constant_rows(device: &Device) -> Verdict {
    for n_cols in [1, 2, 4, 8, 16] {
        let case = Case {
            mean: 2f64.powi(100),
            eps: 1e-30,
            ..Case::new(3, n_cols, DType::F32, DType::F32)
        };
        check::case(&case, device)?;
    }
    Ok(())
}
