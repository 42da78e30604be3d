//! What must hold of every input: random shapes, dtypes and values, made smaller by proptest where one fails.
//!
//! `PROPTEST_CASES` says how many of each. The values are the same in every run, so that a failure can be had again.

use layernorm_host::{DType, Device};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestCaseResult, TestRng, TestRunner};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::Test;
use crate::check::{self, Results, Verdict};
use crate::data::{Case, Inputs, dtypes};
use crate::tolerance;

pub const TESTS: &[(&str, Test)] = &[
    ("the_oracle_is_met", oracle),
    ("a_shift_of_x_changes_nothing", shift),
    ("a_scale_of_x_changes_nothing_without_eps", scale),
    ("permuted_rows_give_permuted_results", permutation),
    ("some_of_the_rows_give_the_same_bits", fewer_rows),
    ("backward_is_the_transpose_of_forward", transpose),
    ("dx_sums_to_zero", dx_sums),
    ("again_gives_the_same_bits", again),
];

/// A case, and a seed for its values: more columns than rows, as in use.
fn cases() -> impl Strategy<Value = (Case, u64)> {
    let n_cols = prop_oneof![
        1usize..=64,
        65usize..=600,
        Just(1024),
        Just(1025),
        4097usize..=4200
    ];
    let pairs = prop::sample::select(dtypes());
    let eps = prop::sample::select(vec![1e-12f32, 1e-5, 1e-3]);
    (
        0usize..=40,
        n_cols,
        pairs,
        eps,
        any::<[bool; 3]>(),
        any::<u64>(),
    )
        .prop_map(
            |(n_rows, n_cols, (dtype, parameter_dtype), eps, [weight, bias, in_place], seed)| {
                let case = Case {
                    weight,
                    bias,
                    in_place,
                    eps,
                    ..Case::new(n_rows, n_cols, dtype, parameter_dtype)
                };
                (case, seed)
            },
        )
}

/// Tries a property on many cases.
fn hold<S: Strategy>(strategy: S, property: impl Fn(S::Value) -> TestCaseResult) -> Verdict {
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::with_cases(Config::default().cases.min(cases_wanted()))
    };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    runner
        .run(&strategy, property)
        .map_err(|error| error.to_string())
}

/// proptest's own number, 256, is for cheaper properties.
fn cases_wanted() -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => u32::MAX,
        None => 24,
    }
}

fn run(case: &Case, inputs: &Inputs, device: &Device) -> Result<Results, TestCaseError> {
    check::run(case, inputs, device).map_err(fail)
}

fn fail(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// Bits of y, mean, rstd and dx, by row.
fn rows_of(results: &Results, n_rows: usize) -> Result<Vec<Vec<u64>>, TestCaseError> {
    let mut rows = vec![Vec::new(); n_rows];
    for tensor in [&results.y, &results.mean, &results.rstd, &results.dx] {
        let values = tensor.to_f64_vec().map_err(fail)?;
        let width = values.len() / n_rows.max(1);
        for (row, values) in rows.iter_mut().zip(values.chunks(width.max(1))) {
            row.extend(values.iter().map(|value| value.to_bits()));
        }
    }
    Ok(rows)
}

fn oracle(device: &Device) -> Verdict {
    hold(cases(), |(case, seed)| {
        let inputs = case.generate_from(seed);
        let results = run(&case, &inputs, device)?;
        check::compare(&case, &inputs, &results).map_err(fail)
    })
}

/// x + c, where neither is rounded: y, rstd and the gradients stay what they are, mean moves by c.
fn shift(device: &Device) -> Verdict {
    let strategy = (
        cases(),
        prop::sample::select(vec![-512.0, -3.0, 0.25, 64.0, 1000.0]),
    );
    hold(strategy, |((case, seed), by)| {
        let case = Case {
            dtype: DType::F32,
            parameter_dtype: DType::F32,
            ..case
        };
        let mut inputs = case.generate_from(seed);
        // Sixteenths below 8, which stay exact in every sum here.
        inputs
            .x
            .iter_mut()
            .for_each(|x| *x = (*x * 16.0).round() / 16.0);
        let want = check::expected(&case, &inputs);
        inputs.x.iter_mut().for_each(|x| *x += by);
        let results = run(&case, &inputs, device)?;
        let n = case.n_cols;
        check::within("y", &results.y, &want.y, |i, y| {
            tolerance::y(case.dtype, y, want.y_terms[i / n])
        })
        .map_err(fail)?;
        check::within("rstd", &results.rstd, &want.rstd, |_, rstd| {
            tolerance::rstd(case.dtype, rstd)
        })
        .map_err(fail)?;
        let moved = check::expected(&case, &inputs);
        check::within("dx", &results.dx, &want.dx, |i, dx| {
            tolerance::dx(
                case.dtype,
                dx,
                want.dx_terms[i / n],
                moved.dx_of_mean[i / n],
            )
        })
        .map_err(fail)
    })
}

/// x * 2^k without eps: y stays what it is, rstd and dx go down by 2^k.
fn scale(device: &Device) -> Verdict {
    hold((cases(), -20i32..20), |((case, seed), power)| {
        // One column has no variance.
        let n_cols = case.n_cols.max(2);
        let case = Case {
            dtype: DType::F32,
            parameter_dtype: DType::F32,
            eps: 0.0,
            n_cols,
            ..case
        };
        let mut inputs = case.generate_from(seed);
        let want = check::expected(&case, &inputs);
        let by = 2f64.powi(power);
        inputs.x.iter_mut().for_each(|x| *x *= by);
        let results = run(&case, &inputs, device)?;
        let n = case.n_cols;
        check::within("y", &results.y, &want.y, |i, y| {
            tolerance::y(case.dtype, y, want.y_terms[i / n])
        })
        .map_err(fail)?;
        let rstd: Vec<f64> = want.rstd.iter().map(|rstd| rstd / by).collect();
        check::within("rstd", &results.rstd, &rstd, |_, rstd| {
            tolerance::rstd(case.dtype, rstd)
        })
        .map_err(fail)?;
        let dx: Vec<f64> = want.dx.iter().map(|dx| dx / by).collect();
        check::within("dx", &results.dx, &dx, |i, dx| {
            tolerance::dx(
                case.dtype,
                dx,
                want.dx_terms[i / n] / by,
                want.dx_of_mean[i / n] / by,
            )
        })
        .map_err(fail)
    })
}

fn permutation(device: &Device) -> Verdict {
    hold(cases(), |(case, seed)| {
        let inputs = case.generate_from(seed);
        let mut order: Vec<usize> = (0..case.n_rows).collect();
        let mut rng = StdRng::seed_from_u64(seed);
        for i in (1..order.len()).rev() {
            order.swap(i, rng.random_range(0..=i));
        }
        let permuted = |values: &[f64]| -> Vec<f64> {
            let row = |&r: &usize| &values[r * case.n_cols..][..case.n_cols];
            order.iter().flat_map(row).copied().collect()
        };
        let other = Inputs {
            x: permuted(&inputs.x),
            dy: permuted(&inputs.dy),
            ..inputs.clone()
        };
        let want = rows_of(&run(&case, &inputs, device)?, case.n_rows)?;
        let got = rows_of(&run(&case, &other, device)?, case.n_rows)?;
        for (got, &from) in got.iter().zip(&order) {
            prop_assert!(
                *got == want[from],
                "row {from} gives other bits in another place"
            );
        }
        Ok(())
    })
}

/// Batch invariance: any run of rows alone gives what it gives among the others.
fn fewer_rows(device: &Device) -> Verdict {
    hold(
        (cases(), any::<[prop::sample::Index; 2]>()),
        |((case, seed), ends)| {
            let inputs = case.generate_from(seed);
            let mut ends = ends.map(|end| end.index(case.n_rows + 1));
            ends.sort_unstable();
            let [first, last] = ends;
            let part = Case {
                n_rows: last - first,
                ..case
            };
            let of = |values: &[f64]| values[first * case.n_cols..last * case.n_cols].to_vec();
            let other = Inputs {
                x: of(&inputs.x),
                dy: of(&inputs.dy),
                ..inputs.clone()
            };
            let all = rows_of(&run(&case, &inputs, device)?, case.n_rows)?;
            let some = rows_of(&run(&part, &other, device)?, part.n_rows)?;
            prop_assert!(
                all[first..last] == some[..],
                "rows {first} to {last} alone give other bits"
            );
            Ok(())
        },
    )
}

/// <dy, J v> = <transposed J dy, v>, where J v is a central difference of the device's own forward pass in f64.
fn transpose(device: &Device) -> Verdict {
    hold(cases(), |(case, seed)| {
        let case = Case {
            n_rows: case.n_rows.min(5),
            dtype: DType::F64,
            parameter_dtype: DType::F64,
            eps: case.eps.max(1e-5),
            ..case
        };
        let inputs = case.generate_from(seed);
        // A direction in x, weight and bias together: other random values.
        let v = case.generate_from(!seed);
        let step = 1e-6;
        let moved = |values: &[f64], along: &[f64], by: f64| -> Vec<f64> {
            values
                .iter()
                .zip(along)
                .map(|(value, v)| value + by * v)
                .collect()
        };
        let forward = |by: f64| {
            let parameter = |values: &Option<Vec<f64>>, along: &Option<Vec<f64>>| {
                Some(moved(values.as_ref()?, along.as_ref()?, by))
            };
            let there = Inputs {
                x: moved(&inputs.x, &v.x, by),
                weight: parameter(&inputs.weight, &v.weight),
                bias: parameter(&inputs.bias, &v.bias),
                dy: inputs.dy.clone(),
            };
            run(&case, &there, device)?.y.to_f64_vec().map_err(fail)
        };
        let (up, down) = (forward(step)?, forward(-step)?);
        let mut size = 0.0;
        let mut dot = |a: &[f64], b: &[f64]| -> f64 {
            let products = a.iter().zip(b).map(|(a, b)| a * b);
            size += products.clone().map(f64::abs).sum::<f64>();
            products.sum()
        };
        let linear: Vec<f64> = up
            .iter()
            .zip(&down)
            .map(|(up, down)| (up - down) / (2.0 * step))
            .collect();
        let ahead = dot(&inputs.dy, &linear);
        let results = run(&case, &inputs, device)?;
        let mut back = dot(&results.dx.to_f64_vec().map_err(fail)?, &v.x);
        for (gradient, v) in [(&results.dweight, &v.weight), (&results.dbias, &v.bias)] {
            if let (Some(gradient), Some(v)) = (gradient, v) {
                back += dot(&gradient.to_f64_vec().map_err(fail)?, v);
            }
        }
        // The difference's own error: the third derivative times step^2, and roundings over step. Rows whose variance
        // is small bend more.
        let rstd = results.rstd.to_f64_vec().map_err(fail)?;
        let bend = rstd
            .iter()
            .fold(1.0f64, |most, rstd| most.max(*rstd))
            .powi(3);
        let allowed = 1e-8 * (1.0 + size) * bend;
        prop_assert!(
            (ahead - back).abs() <= allowed,
            "{ahead:e} and {back:e}, allowed {allowed:e}"
        );
        Ok(())
    })
}

/// y does not change when all of a row's x move together, so dx has no part along that; without eps neither along
/// xhat.
fn dx_sums(device: &Device) -> Verdict {
    hold(cases(), |(case, seed)| {
        let case = Case {
            weight: false,
            bias: false,
            ..case
        };
        let inputs = case.generate_from(seed);
        let want = check::expected(&case, &inputs);
        let dx = run(&case, &inputs, device)?.dx.to_f64_vec().map_err(fail)?;
        for (r, dx) in dx.chunks(case.n_cols).enumerate() {
            let sum: f64 = dx.iter().sum();
            let bound =
                |dx: &f64| tolerance::dx(case.dtype, *dx, want.dx_terms[r], want.dx_of_mean[r]);
            let allowed: f64 = dx.iter().map(bound).sum();
            prop_assert!(
                sum.abs() <= allowed,
                "row {r}: dx sums to {sum:e}, allowed {allowed:e}"
            );
        }
        Ok(())
    })
}

fn again(device: &Device) -> Verdict {
    hold(cases(), |(case, seed)| {
        let inputs = case.generate_from(seed);
        let bytes = || -> Result<Vec<Vec<u8>>, TestCaseError> {
            let results = run(&case, &inputs, device)?;
            let gradients = [results.dweight, results.dbias].into_iter().flatten();
            let tensors = [results.y, results.mean, results.rstd, results.dx]
                .into_iter()
                .chain(gradients);
            tensors
                .map(|tensor| tensor.to_bytes().map_err(fail))
                .collect()
        };
        prop_assert!(bytes()? == bytes()?, "a second run gives other bits");
        Ok(())
    })
}
