//! Values that nobody should pass, passed everywhere: the answer may be an error or a result, and never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use layernorm_host::{
    BackwardPointers, DType, Device, FastLayerNorm, ForwardPointers, GradientsInto, LayerNorm,
    Needs, Problem, Strides, Tensor, fast_layernorm, plan,
};

use super::{Test, text};
use crate::check::Verdict;

pub const TESTS: &[(&str, Test)] = &[
    ("shapes", shapes),
    ("operands", operands),
    ("problems_and_plans", problems),
];

const SIZES: [usize; 8] = [
    0,
    1,
    3,
    8,
    1 << 46,
    isize::MAX as usize,
    usize::MAX / 2 + 1,
    usize::MAX,
];

const EPS: [f32; 7] = [
    0.0,
    -0.0,
    f32::MIN_POSITIVE,
    f32::MAX,
    f32::INFINITY,
    f32::NAN,
    -1.0,
];

/// Runs a call for its panics alone.
fn calm<T>(
    what: impl FnOnce() -> String,
    call: impl FnOnce() -> T,
) -> std::result::Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| format!("{} panics", what()))
}

fn shapes(device: &Device) -> Verdict {
    // Reading what was never written is a fault on the software GPU.
    let device = &device.with_poisoned_memory();
    let mut shapes = vec![vec![]];
    for a in SIZES {
        shapes.push(vec![a]);
        for b in SIZES {
            shapes.push(vec![a, b]);
            shapes.extend(SIZES.map(|c| vec![a, b, c]));
        }
    }
    for shape in &shapes {
        for stride in SIZES {
            let named = || format!("empty_strided of {shape:?}, stride {stride}");
            let tensor = calm(named, || {
                Tensor::empty_strided(DType::F16, shape, stride, device)
            })?;
            // What can be made can be used.
            let Ok(tensor) = tensor else { continue };
            let named = || format!("a use of {tensor:?}");
            calm(named, || {
                let _ = (tensor.to_f32_vec(), tensor.copy(), tensor.with_gaps());
                for start in SIZES {
                    for end in SIZES {
                        for view in [tensor.columns(start..end), tensor.rows_in(start..end)] {
                            let Ok(view) = view else { continue };
                            let _ = (view.to_f32_vec(), view.copy(), view.with_gaps());
                            let _ = FastLayerNorm::forward(&view, None, None, 0.0);
                        }
                    }
                    let _ = tensor.reshape(&[start]);
                    let _ = tensor.reshape(&[start, 2]);
                }
            })?;
        }
        let named = || format!("a layer of {shape:?}");
        calm(named, || {
            let _ = LayerNorm::new(shape, DType::BF16, device).map(|layer| layer.to_string());
            let _ = LayerNorm::from_parameters(shape, None, None, 0.0);
            let _ = Tensor::from_slice(&[1.0f32; 3], shape, device);
            let _ = Tensor::from_vec(vec![1.0f32; 3], shape, device);
            let _ = Tensor::from_bytes(&[0; 7], DType::F32, shape, device);
        })?;
    }
    Ok(())
}

/// Every tensor in every place of every call.
fn operands(device: &Device) -> Verdict {
    let other = match device.kind() {
        "cpu" => Device::software(0).map_err(text)?,
        _ => Device::cpu(),
    };
    let mut tensors = Vec::new();
    for (dtype, shape, device) in [
        (DType::F32, &[][..], device),
        (DType::F32, &[0], device),
        (DType::F32, &[8], device),
        (DType::F16, &[8], device),
        (DType::F32, &[2, 8], device),
        (DType::F16, &[2, 8], device),
        (DType::F32, &[2, 0], device),
        (DType::F32, &[0, 8], device),
        (DType::F32, &[8], &other),
        (DType::F32, &[2, 8], &other),
    ] {
        tensors.push(Tensor::zeros(dtype, shape, device).map_err(text)?);
    }
    tensors.push(tensors[4].columns(2..5).map_err(text)?);
    for x in &tensors {
        for other in &tensors {
            for eps in EPS {
                calm(
                    || format!("a pass over {x:?} and {other:?} with eps {eps}"),
                    || every_call(x, other, eps),
                )?;
            }
        }
    }
    Ok(())
}

fn every_call(x: &Tensor, other: &Tensor, eps: f32) {
    for (weight, bias) in [
        (None, None),
        (Some(other), None),
        (None, Some(other)),
        (Some(other), Some(other)),
    ] {
        let _ = FastLayerNorm::forward(x, weight, bias, eps);
        let _ = FastLayerNorm::forward_add(x, other, weight, bias, eps);
        let _ = FastLayerNorm::forward_into(x, weight, bias, eps, &mut other.clone());
    }
    let saved = || FastLayerNorm::forward(x, None, None, eps).ok();
    let needs = Needs {
        dx: false,
        dweight: true,
        dbias: true,
    };
    let Some(first) = saved() else { return };
    let _ = FastLayerNorm::backward(first.1, other);
    let Some(second) = saved() else { return };
    let _ = FastLayerNorm::backward_needs(second.1, other, needs);
    let Some(third) = saved() else { return };
    let _ = FastLayerNorm::backward_in_place(third.1, other.clone());
    let Some(fourth) = saved() else { return };
    let _ = FastLayerNorm::backward_add(fourth.1, x, other);
    let Some(fifth) = saved() else { return };
    let mut into = [other.clone(), other.clone(), other.clone()];
    let [dx, dweight, dbias] = &mut into;
    let into = GradientsInto {
        dx: Some(dx),
        dweight: Some(dweight),
        dbias: Some(dbias),
        accumulate: true,
    };
    let _ = FastLayerNorm::backward_into(fifth.1, x, into);
    let (shape, other) = (other.shape(), Some(other.clone()));
    if let Ok(layer) = LayerNorm::from_parameters(shape, other.clone(), other, eps) {
        let _ = fast_layernorm(&layer, x);
    }
}

/// The part that knows no device, with the numbers that a caller of the raw launches can pass.
fn problems(_: &Device) -> Verdict {
    let limits = [0, 1, u32::MAX].map(|value| plan::Limits {
        max_grid: value,
        max_block: value,
        sm_count: value,
        max_shared: value,
        compute_capability: (value, value),
    });
    for n_rows in SIZES {
        for n_cols in [0, 1, 8, 4096, i32::MAX as usize, 1 << 31, usize::MAX] {
            for (eps, stride) in EPS.into_iter().zip(SIZES) {
                let named =
                    || format!("a problem of {n_rows} x {n_cols}, eps {eps}, stride {stride}");
                calm(named, || {
                    let problem = Problem::new(n_rows, n_cols, DType::F16, DType::F32, eps.abs());
                    let Ok(problem) = problem else { return };
                    let strides = Strides {
                        x: stride,
                        y: stride,
                        dy: stride,
                        dx: stride,
                    };
                    let strided = problem.with_strides(strides).unwrap_or(problem);
                    for limits in &limits {
                        every_plan(&strided, limits);
                    }
                })?;
            }
        }
    }
    Ok(())
}

fn every_plan(problem: &Problem, limits: &plan::Limits) {
    let _ = plan::workspace_bytes(problem, limits);
    for address in [0, 1, 16, u64::MAX - 15, u64::MAX] {
        let forward = ForwardPointers {
            x: address,
            y: address,
            ..ForwardPointers::default()
        };
        if let Ok(args) = forward.args(problem) {
            let _ = plan::forward(problem, &args, limits);
        }
        let backward = BackwardPointers {
            dy: address,
            x: address,
            mean: address & !3,
            rstd: address & !3,
            dweight: address & !3,
            dbias: address & !3,
            workspace: address,
            workspace_bytes: usize::MAX,
            ..BackwardPointers::default()
        };
        let _ = backward.launches(problem, limits);
    }
}
