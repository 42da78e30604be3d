//! Values that are hard to normalise, and rows that must not touch their neighbours.

use layernorm_host::{DType, Device};

use super::{Test, text};
use crate::check::{self, Results, Verdict};
use crate::data::{Case, Inputs, round};

pub const TESTS: &[(&str, Test)] = &[
    ("means_far_from_zero", far_means),
    ("a_column_far_from_the_mean", far_columns),
    ("constant_rows", constant_rows),
    ("one_hot_rows", one_hot_rows),
    ("rows_that_drift", drifting_rows),
    ("denormals", denormals),
    ("the_largest_that_squares_hold", large),
    ("the_largest_finite", largest),
    ("nan_stays_in_its_row", |device| stays(f64::NAN, device)),
    ("infinity_stays_in_its_row", |device| {
        stays(f64::INFINITY, device)
    }),
    ("minus_infinity_stays_in_its_row", |device| {
        stays(f64::NEG_INFINITY, device)
    }),
    ("the_largest_stays_in_its_row", |device| {
        stays(f64::MAX, device)
    }),
    ("nan_in_dy_stays_in_its_row", nan_in_dy),
    ("nan_stays_out_of_the_rows_after_it", nan_before_rows),
];

/// Columns for every kind of kernel, aligned and not: the last are the general kernel's.
const COLUMNS: [usize; 8] = [33, 384, 1000, 1023, 4096, 5003, 8200, 8201];

fn far_means(device: &Device) -> Verdict {
    for n_cols in COLUMNS {
        for dtype in [DType::F32, DType::F64] {
            for mean in [1e3, 1e4, -1e4, 1e6] {
                let case = Case {
                    mean,
                    ..Case::new(7, n_cols, dtype, dtype)
                };
                check::case(&case, device)?;
            }
        }
        for dtype in [DType::F16, DType::BF16] {
            let case = Case {
                mean: 1e3,
                ..Case::new(7, n_cols, dtype, DType::F32)
            };
            check::case(&case, device)?;
        }
    }
    Ok(())
}

/// A column far from all others, at the places that a kernel looks at to see about where the mean is. Its weight is
/// zero: y may be off by a share of the row's largest term, which would be that column's own.
fn far_columns(device: &Device) -> Verdict {
    for n_cols in COLUMNS {
        let places = [0, n_cols / 2, n_cols - 1];
        let case = Case {
            mean: 1e3,
            bias: false,
            ..Case::new(places.len(), n_cols, DType::F32, DType::F32)
        };
        let mut inputs = case.generate();
        for (r, c) in places.into_iter().enumerate() {
            inputs.x[r * n_cols + c] = 1e6;
            if let Some(weight) = &mut inputs.weight {
                weight[c] = 0.0;
            }
        }
        in_place_or_not(&case, &inputs, device)?;
    }
    Ok(())
}

/// Runs a case with dx over dy and without, and compares.
fn in_place_or_not(case: &Case, inputs: &Inputs, device: &Device) -> Verdict {
    for case in case.in_place_or_not() {
        check::run(&case, inputs, device)
            .map_err(text)
            .and_then(|results| check::compare(&case, inputs, &results))
            .map_err(|reason| format!("{case:?}: {reason}"))?;
    }
    Ok(())
}

/// Runs a case whose x is given by row and column.
fn with_x(case: &Case, x: impl Fn(usize, usize) -> f64, device: &Device) -> Verdict {
    let mut inputs = case.generate();
    for (i, value) in inputs.x.iter_mut().enumerate() {
        *value = round(x(i / case.n_cols, i % case.n_cols), case.dtype);
    }
    in_place_or_not(case, &inputs, device)
}

fn constant_rows(device: &Device) -> Verdict {
    // Whose sums are exact: of others the mean's rounding is divided by sqrt(eps), here as in PyTorch.
    let constants = [0.0, 1.0, -3.0, 100.0, 0.5, 1024.0, -7.0];
    for dtype in DType::ALL {
        for n_cols in COLUMNS {
            with_x(
                &Case::new(7, n_cols, dtype, dtype),
                |r, _| constants[r],
                device,
            )?;
        }
    }
    Ok(())
}

fn one_hot_rows(device: &Device) -> Verdict {
    for dtype in DType::ALL {
        for n_cols in COLUMNS {
            // The first column is a pivot of some kernels, the last the end of others.
            let places = [0, 1, n_cols / 2, n_cols - 2, n_cols - 1];
            let case = Case::new(5, n_cols, dtype, dtype);
            let hot = |r: usize, c: usize| if c == places[r] { 1.0 } else { 0.0 };
            with_x(&case, hot, device)?;
            // Far above eps.
            with_x(&case, |r, c| 1000.0 * hot(r, c), device)?;
        }
    }
    Ok(())
}

/// Parts of a row have means of their own, which count by their columns: where a block or a lane has a part, and the last
/// has less than the others. The longest are for forward's clusters.
fn drifting_rows(device: &Device) -> Verdict {
    let longest = [
        (DType::F32, 60_004),
        (DType::F32, 100_004),
        (DType::F32, 140_004),
        (DType::BF16, 120_008),
        (DType::BF16, 240_008),
    ];
    let all = COLUMNS.map(|n_cols| (DType::F32, n_cols));
    for (dtype, n_cols) in all.into_iter().chain(longest) {
        let case = Case::new(2, n_cols, dtype, dtype);
        let drift = |r: usize, c: usize| {
            let along = c as f64 / n_cols as f64;
            4.0 * along + ((r * 13 + c) as f64 * 0.7).sin()
        };
        with_x(&case, drift, device)?;
    }
    Ok(())
}

fn denormals(device: &Device) -> Verdict {
    for (dtype, unit) in [
        (DType::F32, 2f64.powi(-149)),
        (DType::F16, 2f64.powi(-24)),
        (DType::BF16, 2f64.powi(-133)),
    ] {
        for n_cols in COLUMNS {
            let case = Case::new(4, n_cols, dtype, DType::F32);
            with_x(&case, |r, c| unit * ((r * 31 + c * 7) % 100) as f64, device)?;
        }
    }
    Ok(())
}

/// Up to where the sum of squares is still an f32.
fn large(device: &Device) -> Verdict {
    for (dtype, scale) in [(DType::F32, 1e17), (DType::BF16, 1e17), (DType::F16, 1e4)] {
        for n_cols in COLUMNS {
            let case = Case::new(4, n_cols, dtype, DType::F32);
            let wave = |r: usize, c: usize| scale * ((r * 13 + c) as f64 * 0.7).sin();
            with_x(&case, wave, device)?;
        }
    }
    // f16's largest, whose squares f32 holds easily.
    for n_cols in COLUMNS {
        let case = Case::new(4, n_cols, DType::F16, DType::F16);
        with_x(
            &case,
            |r, c| {
                if (r + c) % 2 == 0 {
                    65_504.0
                } else {
                    -65_504.0
                }
            },
            device,
        )?;
    }
    Ok(())
}

/// y and dx that f16 does not hold are infinite, as a conversion makes them.
fn largest(device: &Device) -> Verdict {
    for n_cols in [33, 384, 1000, 5003, 8200] {
        let case = Case {
            bias: false,
            ..Case::new(3, n_cols, DType::F16, DType::F32)
        };
        let mut inputs = case.generate();
        inputs.weight = Some(vec![60_000.0; n_cols]);
        for (i, x) in inputs.x.iter_mut().enumerate() {
            *x = if i % n_cols == i / n_cols { 1.0 } else { 0.0 };
        }
        let want = check::expected(&case, &inputs);
        if !want.y.iter().any(|y| *y > 65_520.0) {
            return Err("nothing overflows".to_owned());
        }
        for case in case.in_place_or_not() {
            let results = check::run(&case, &inputs, device).map_err(text)?;
            check::compare_with(&case, &want, &results)
                .map_err(|reason| format!("{case:?}: {reason}"))?;
        }
    }
    Ok(())
}

/// The results by row: y, mean, rstd, dx.
fn by_row(results: &Results) -> Result<[Vec<f64>; 4], String> {
    let tensors = [&results.y, &results.mean, &results.rstd, &results.dx];
    let [y, mean, rstd, dx] = tensors.map(|tensor| tensor.to_f64_vec().map_err(text));
    Ok([y?, mean?, rstd?, dx?])
}

/// Rows that are `spoilt` may differ, no other may, by not a bit.
fn others_are_same(
    case: &Case,
    clean: &Results,
    got: &Results,
    spoilt: impl Fn(usize) -> bool,
) -> Result<[Vec<f64>; 4], String> {
    let (clean, got) = (by_row(clean)?, by_row(got)?);
    let names = ["y", "mean", "rstd", "dx"];
    for ((name, clean), got) in names.into_iter().zip(&clean).zip(&got) {
        let width = clean.len() / case.n_rows;
        for (i, (clean, got)) in clean.iter().zip(got).enumerate() {
            if !spoilt(i / width) && clean.to_bits() != got.to_bits() {
                return Err(format!(
                    "{case:?}: {name}[{i}] is {got}, and {clean} without the other row's value"
                ));
            }
        }
    }
    Ok(got)
}

fn stays(value: f64, device: &Device) -> Verdict {
    const SPOILT: usize = 5;
    for dtype in DType::ALL {
        let cases = COLUMNS.map(|n_cols| Case::new(11, n_cols, dtype, dtype));
        for case in cases.iter().flat_map(Case::in_place_or_not) {
            let n_cols = case.n_cols;
            let inputs = case.generate();
            let clean = check::run(&case, &inputs, device).map_err(text)?;
            for column in [0, n_cols / 2, n_cols - 1] {
                let mut spoilt = inputs.clone();
                // The largest of the dtype, where it is not NaN or infinite.
                let finite = match dtype {
                    DType::F16 => 65_504.0,
                    DType::BF16 => f64::from(half::bf16::MAX),
                    DType::F32 => f64::from(f32::MAX),
                    DType::F64 => f64::MAX,
                };
                spoilt.x[SPOILT * n_cols + column] = if value == f64::MAX { finite } else { value };
                let got = check::run(&case, &spoilt, device).map_err(text)?;
                let [y, mean, rstd, dx] =
                    others_are_same(&case, &clean, &got, |row| row == SPOILT)?;
                let dbias = [&clean.dbias, &got.dbias]
                    .map(|dbias| dbias.as_ref().map(|dbias| dbias.to_bytes()));
                let [Some(Ok(before)), Some(Ok(after))] = dbias else {
                    return Err(format!("{case:?}: no dbias"));
                };
                if before != after {
                    return Err(format!("{case:?}: dbias depends on x"));
                }
                if value.is_finite() {
                    continue;
                }
                let of_row = |values: &[f64]| {
                    let width = values.len() / case.n_rows;
                    values[SPOILT * width..][..width].to_vec()
                };
                let dweight = got.dweight.as_ref().ok_or("dweight is absent")?;
                let dweight = dweight.to_f64_vec().map_err(text)?;
                let all_nan = |values: &[f64]| values.iter().all(|value| value.is_nan());
                if !all_nan(&of_row(&y))
                    || !all_nan(&of_row(&dx))
                    || !all_nan(&of_row(&rstd))
                    || !all_nan(&dweight)
                {
                    return Err(format!("{case:?}: {value} in column {column} is lost"));
                }
                if of_row(&mean)[0].is_finite() {
                    return Err(format!(
                        "{case:?}: the mean of {value} and others is {}",
                        of_row(&mean)[0]
                    ));
                }
            }
        }
    }
    Ok(())
}

/// So many rows that every block has several, one after the other in the same place, each at another alignment.
fn nan_before_rows(device: &Device) -> Verdict {
    for (dtype, n_rows, n_cols) in [
        (DType::F32, 5000, 257),
        (DType::BF16, 5000, 389),
        (DType::F16, 900, 4099),
    ] {
        let case = Case::new(n_rows, n_cols, dtype, dtype);
        let inputs = case.generate();
        let mut spoilt = inputs.clone();
        for r in 0..n_rows {
            let last = r * n_cols + n_cols - 1;
            match r % 3 {
                0 => spoilt.x[last] = f64::NAN,
                1 => spoilt.dy[last] = f64::NAN,
                _ => {}
            }
        }
        let clean = check::run(&case, &inputs, device).map_err(text)?;
        let got = check::run(&case, &spoilt, device).map_err(text)?;
        others_are_same(&case, &clean, &got, |row| row % 3 < 2)?;
    }
    Ok(())
}

fn nan_in_dy(device: &Device) -> Verdict {
    const SPOILT: usize = 3;
    for dtype in DType::ALL {
        let cases = COLUMNS.map(|n_cols| Case::new(7, n_cols, dtype, dtype));
        for case in cases.iter().flat_map(Case::in_place_or_not) {
            let n_cols = case.n_cols;
            let inputs = case.generate();
            let clean = check::run(&case, &inputs, device).map_err(text)?;
            let column = n_cols / 3;
            let mut spoilt: Inputs = inputs.clone();
            spoilt.dy[SPOILT * n_cols + column] = f64::NAN;
            let got = check::run(&case, &spoilt, device).map_err(text)?;
            let [_, _, _, dx] = others_are_same(&case, &clean, &got, |row| row == SPOILT)?;
            if !dx[SPOILT * n_cols..][..n_cols].iter().all(|dx| dx.is_nan()) {
                return Err(format!("{case:?}: a NaN in dy is lost"));
            }
            // Of the gradients of weight and bias, its column alone.
            let pairs = [(&clean.dweight, &got.dweight), (&clean.dbias, &got.dbias)];
            for (clean, got) in pairs {
                let (Some(clean), Some(got)) = (clean, got) else {
                    return Err(format!("{case:?}: a gradient is absent"));
                };
                let (clean, got) = (
                    clean.to_f64_vec().map_err(text)?,
                    got.to_f64_vec().map_err(text)?,
                );
                for (c, (clean, got)) in clean.iter().zip(&got).enumerate() {
                    let right = match c == column {
                        true => got.is_nan(),
                        false => got.to_bits() == clean.to_bits(),
                    };
                    if !right {
                        return Err(format!(
                            "{case:?}: column {c} of a gradient is {got}, not {clean}"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}
