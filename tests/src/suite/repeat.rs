//! The same input gives the same bits: again, with other rows, on other streams, from other threads.

use layernorm_host::{DType, Device};

use super::{Test, text};
use crate::check::{self, Results, Verdict};
use crate::data::{Case, Inputs, dtypes};

pub const TESTS: &[(&str, Test)] = &[
    ("same_bits_again", same_bits),
    ("a_row_alone_gives_the_same_bits", rows_alone),
    ("threads_and_streams", threads),
];

fn same_bits(device: &Device) -> Verdict {
    for (dtype, parameter_dtype) in dtypes() {
        for n_cols in [33, 384, 4096, 16_400] {
            let case = Case::new(37, n_cols, dtype, parameter_dtype);
            let inputs = case.generate();
            let bits = |results: &Results| {
                let gradients = [results.dweight.as_ref(), results.dbias.as_ref()];
                let tensors = [&results.y, &results.mean, &results.rstd, &results.dx];
                let tensors = tensors.into_iter().chain(gradients.into_iter().flatten());
                tensors
                    .map(|tensor| tensor.to_bytes())
                    .collect::<Result<Vec<_>, _>>()
            };
            let first = check::run(&case, &inputs, device).and_then(|first| bits(&first));
            let second = check::run(&case, &inputs, device).and_then(|second| bits(&second));
            if first.map_err(text)? != second.map_err(text)? {
                return Err(format!("{case:?}: a second run gives other bits"));
            }
        }
    }
    Ok(())
}

/// Batch invariance: y, mean, rstd and dx of a row do not depend on what comes with it.
fn rows_alone(device: &Device) -> Verdict {
    for (dtype, parameter_dtype) in dtypes() {
        for n_cols in [33, 384, 4096, 16_400] {
            // Over dy, which one row's is not: it may have another kernel.
            let case = Case {
                in_place: true,
                ..Case::new(37, n_cols, dtype, parameter_dtype)
            };
            let inputs = case.generate();
            let together = check::run(&case, &inputs, device).map_err(text)?;
            let tensors = |results: &Results| {
                [&results.y, &results.mean, &results.rstd, &results.dx]
                    .map(|tensor| tensor.to_f32_vec())
            };
            let [y, mean, rstd, dx] = tensors(&together);
            let together = [y, mean, rstd, dx].map(|values| values.map_err(text));
            for row in [0, 17, 36] {
                let alone = Case {
                    n_rows: 1,
                    in_place: false,
                    ..case
                };
                let of_row = |values: &[f64]| values[row * n_cols..][..n_cols].to_vec();
                let inputs = Inputs {
                    x: of_row(&inputs.x),
                    dy: of_row(&inputs.dy),
                    ..inputs.clone()
                };
                let alone = check::run(&alone, &inputs, device).map_err(text)?;
                for (alone, all) in tensors(&alone).into_iter().zip(&together) {
                    let (alone, all) = (alone.map_err(text)?, all.as_ref()?);
                    let width = alone.len();
                    let bits =
                        |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    if bits(&alone) != bits(&all[row * width..][..width]) {
                        return Err(format!("{case:?}: row {row} alone gives other bits"));
                    }
                }
            }
        }
    }
    Ok(())
}

/// 8 threads with 4 streams each, shapes mixed: every result is as it is alone.
fn threads(device: &Device) -> Verdict {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                scope.spawn(move || {
                    for stream in 0..4 {
                        let device = device.with_new_stream().map_err(text)?;
                        for (i, n_cols) in [8, 33, 384, 1000].into_iter().enumerate() {
                            let dtype = DType::ALL[(worker + stream + i) % 3];
                            let n_rows = 1 + (worker * 4 + stream) * 2;
                            check::case(&Case::new(n_rows, n_cols, dtype, DType::F32), &device)?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            let verdict: Verdict = worker.join().map_err(|_| "a thread panicked".to_owned())?;
            verdict
        })
    })
}
