//! Rows that lie apart, rows that start anywhere, and the memory around them.

use layernorm_host::{DType, Device, FastLayerNorm, GradientsInto, Tensor};

use super::{Test, text};
use crate::check::{self, Results, Verdict};
use crate::data::{Case, tensor};

pub const TESTS: &[(&str, Test)] = &[
    ("strided_inputs", strided_inputs),
    ("strided_outputs_leave_the_gaps", strided_outputs),
    ("rows_that_start_anywhere", offsets),
];

/// Embeds the rows in wider ones, `left` columns in, and views them there.
fn embedded(
    values: &[f64],
    case: &Case,
    left: usize,
    stride: usize,
    device: &Device,
) -> Result<Tensor, String> {
    let mut wide = vec![f64::NAN; case.n_rows * stride];
    for (row, values) in wide.chunks_mut(stride).zip(values.chunks(case.n_cols)) {
        row[left..left + case.n_cols].copy_from_slice(values);
    }
    tensor(&wide, &[case.n_rows, stride], case.dtype, device)
        .and_then(|wide| wide.columns(left..left + case.n_cols))
        .map_err(text)
}

fn strided_inputs(device: &Device) -> Verdict {
    for dtype in DType::ALL {
        for (n_cols, stride) in [(33, 50), (384, 400), (384, 385), (1000, 1024)] {
            let case = Case::new(7, n_cols, dtype, dtype);
            run_embedded(&case, 0, stride, device)
                .map_err(|reason| format!("{case:?}, stride {stride}: {reason}"))?;
        }
    }
    Ok(())
}

fn offsets(device: &Device) -> Verdict {
    for dtype in DType::ALL {
        for left in [1, 2, 3, 8, 16] {
            let case = Case::new(5, 384, dtype, dtype);
            run_embedded(&case, left, 416, device)
                .map_err(|reason| format!("{case:?}, {left} columns in: {reason}"))?;
        }
    }
    Ok(())
}

fn run_embedded(case: &Case, left: usize, stride: usize, device: &Device) -> Verdict {
    let device = &device.with_poisoned_memory();
    let inputs = case.generate();
    let x = embedded(&inputs.x, case, left, stride, device)?;
    let dy = embedded(&inputs.dy, case, left, stride, device)?;
    let [weight, bias] = parameters(case, device)?;
    let forward = FastLayerNorm::forward(&x, Some(&weight), Some(&bias), case.eps);
    let (y, saved) = forward.map_err(text)?;
    let (mean, rstd) = (saved.mean().clone(), saved.rstd().clone());
    let (dx, dweight, dbias) = FastLayerNorm::backward(saved, &dy).map_err(text)?;
    let results = Results {
        y,
        mean,
        rstd,
        dx,
        dweight,
        dbias,
    };
    check::compare(case, &inputs, &results)
}

/// Outputs in wider rows: the results are right, and every gap still holds what it held.
fn strided_outputs(device: &Device) -> Verdict {
    for (n_cols, stride) in [(33, 40), (384, 400), (384, 387)] {
        let case = Case::new(7, n_cols, DType::F32, DType::F32);
        let inputs = case.generate();
        let [weight, bias] = parameters(&case, device)?;
        let rows = |values: &[f64]| tensor(values, &case.shape(), case.dtype, device).map_err(text);
        let (x, dy) = (rows(&inputs.x)?, rows(&inputs.dy)?);
        let output = || {
            let wide = Tensor::empty_strided(case.dtype, &case.shape(), stride, device);
            let mut wide = wide.map_err(text)?;
            wide.fill_bytes(0xFF).map_err(text)?;
            Ok::<_, String>(wide)
        };
        let (mut y, mut dx) = (output()?, output()?);
        let eps = case.eps;
        let saved = FastLayerNorm::forward_into(&x, Some(&weight), Some(&bias), eps, &mut y);
        let saved = saved.map_err(text)?;
        let into = GradientsInto {
            dx: Some(&mut dx),
            ..GradientsInto::default()
        };
        FastLayerNorm::backward_into(saved, &dy, into).map_err(text)?;
        let apart = check::run(&case, &inputs, device).map_err(text)?;
        let want = [
            apart.y.to_vec::<f32>().map_err(text)?,
            apart.dx.to_vec::<f32>().map_err(text)?,
        ];
        for (name, got, want) in [("y", y, &want[0]), ("dx", dx, &want[1])] {
            // A stride that is no multiple of 16 bytes takes another kernel, so the values may differ
            // in the last bits; what they are is compared with the oracle elsewhere.
            let close = |a: &f32, b: &f32| (a - b).abs() <= 1e-4 * (1.0 + b.abs());
            let values = got.to_vec::<f32>().map_err(text)?;
            if values.len() != want.len() || !values.iter().zip(want).all(|(a, b)| close(a, b)) {
                return Err(format!("{name} with stride {stride} differs"));
            }
            let memory = got
                .with_gaps()
                .map_err(text)?
                .to_vec::<f32>()
                .map_err(text)?;
            for (i, value) in memory.iter().enumerate() {
                if i % stride >= n_cols && value.to_bits() != u32::MAX {
                    return Err(format!("{name}: the gap at {i} was written: {value}"));
                }
            }
        }
    }
    Ok(())
}

fn parameters(case: &Case, device: &Device) -> Result<[Tensor; 2], String> {
    let inputs = case.generate();
    let parameter = |values: &Option<Vec<f64>>| {
        let values = values.as_ref().ok_or("a parameter is absent")?;
        tensor(values, &[case.n_cols], case.parameter_dtype, device).map_err(text)
    };
    Ok([parameter(&inputs.weight)?, parameter(&inputs.bias)?])
}
