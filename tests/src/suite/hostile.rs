//! Values that nobody should pass, passed everywhere: the answer may be an error or a result, and never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use std::path::Path;

use layernorm_host::abi::{ClusterTile, Memory, RowTile, SharedTile};
use layernorm_host::file::{Safetensors, SafetensorsFile, SafetensorsWriter, WholeFile, npy};
use layernorm_host::{
    BackwardPointers, DType, Device, Entry, FastLayerNorm, ForwardPointers, GradientsInto, IMAGES,
    Image, LayerNorm, Needs, Pass, Pinned, Problem, Strides, Tensor, Timer, fast_layernorm, plan,
};

use super::{Test, text};
use crate::check::Verdict;

pub const TESTS: &[(&str, Test)] = &[
    ("shapes", shapes),
    ("operands", operands),
    ("problems_and_plans", problems),
    ("limits", limits),
    ("tiles", tiles),
    ("images", images),
    ("files", files),
    ("pinned_memory_and_timers", pinned_memory_and_timers),
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
        memory_rate: u64::from(value) << 32,
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

/// Tiles as no table has them.
fn tiles(_: &Device) -> Verdict {
    const NUMBERS: [u32; 4] = [0, 1, 33, u32::MAX];
    for lanes in NUMBERS {
        for vecs in NUMBERS {
            for block in NUMBERS {
                for stages in NUMBERS {
                    let tile = RowTile {
                        lanes,
                        vecs,
                        block,
                        stages,
                        blocks_per_sm: 0,
                        fewest: 0,
                        memory: Memory::Any,
                        pairs_from: stages,
                    };
                    calm(
                        || format!("{tile:?}"),
                        || {
                            let cluster = ClusterTile {
                                blocks: stages,
                                tile,
                                rounds: 0,
                            };
                            let shared = SharedTile {
                                blocks: lanes,
                                stages,
                                block,
                                at_a_time: 0,
                                rounds: 0,
                            };
                            let shared = NUMBERS.map(|vectors| shared.bytes(vectors));
                            let numbers = [tile.max_vectors(), tile.rows_per_block()];
                            let bytes = [
                                tile.ring_bytes(),
                                tile.ragged_forward_bytes(),
                                tile.ragged_backward_bytes(block),
                            ];
                            let of_cluster = [
                                cluster.max_vectors(),
                                cluster.forward_bytes(),
                                cluster.backward_bytes(block),
                            ];
                            (numbers, bytes, shared, of_cluster, tile.is_for(true))
                        },
                    )?;
                }
            }
        }
    }
    Ok(())
}

/// A device's numbers, each of them out of all sense while the others are an H100's.
fn limits(_: &Device) -> Verdict {
    const H100: plan::Limits = plan::Limits {
        max_grid: i32::MAX as u32,
        max_block: 1024,
        sm_count: 132,
        max_shared: 227 << 10,
        compute_capability: (9, 0),
        memory_rate: plan::memory_rate(2_619_000, 5120),
    };
    for value in [0, 1, 7, 1 << 16, u32::MAX - 1, u32::MAX] {
        for limits in [
            plan::Limits {
                max_grid: value,
                ..H100
            },
            plan::Limits {
                max_block: value,
                ..H100
            },
            plan::Limits {
                sm_count: value,
                ..H100
            },
            plan::Limits {
                max_shared: value,
                ..H100
            },
            plan::Limits {
                compute_capability: (value, value),
                ..H100
            },
            plan::Limits {
                memory_rate: u64::from(value) << 32 | u64::from(value),
                ..H100
            },
        ] {
            for dtype in DType::ALL {
                for n_cols in [1, 384, 4097, 16_384, 65_536, 1 << 20, i32::MAX as usize] {
                    for n_rows in [0, 1, 4096, 1 << 31] {
                        let named = || format!("a plan of {n_rows} x {n_cols}, {limits:?}");
                        calm(named, || {
                            let problem = Problem::new(n_rows, n_cols, dtype, dtype, 1e-5);
                            let Ok(problem) = problem else { return };
                            every_plan(&problem, &limits);
                        })?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn images(_: &Device) -> Verdict {
    let numbers = [0, 7, 9, u32::MAX / 10, u32::MAX];
    let entry = "layernorm_reduce_f32";
    for major in numbers {
        for minor in numbers {
            let capability = (major, minor);
            calm(
                || format!("an image for compute capability {capability:?}"),
                || {
                    let _ = Image::best(capability);
                    let _ = (
                        Image::with_kernel(entry, capability),
                        Image::with_kernel("", capability),
                    );
                    Entry::all().iter().all(|entry| entry.runs_on(capability))
                },
            )?;
        }
    }
    let texts = ["", "\n}\n", ".visible .entry ", "}\n.visible .entry k(é"];
    for ptx in texts
        .into_iter()
        .chain(IMAGES.iter().map(|image| image.ptx))
    {
        for name in ["", "k", "é", "(", entry] {
            let named = || format!("{name:?} of a text of {} bytes", ptx.len());
            calm(named, || Image { target: 75, ptx }.kernel(name))?;
        }
    }
    Ok(())
}

/// Paths that are none, and files cut anywhere.
fn files(device: &Device) -> Verdict {
    let tensor = Tensor::zeros(DType::F32, &[3, 5], device).map_err(text)?;
    for path in [
        "",
        "/",
        ".",
        "..",
        "no-such/",
        "no/such/../file",
        "\0",
        &"x".repeat(10_000),
        "/dev/null",
    ] {
        let path = Path::new(path);
        calm(
            || format!("the path {path:?}"),
            || {
                let _ = SafetensorsFile::read(path);
                let _ = LayerNorm::load(path, "\0", f32::NAN, device);
                // None of them is a place for a file: known before the work, not after it.
                let writers = (WholeFile::create(path), SafetensorsWriter::create(path));
                (writers.0.is_err(), writers.1.is_err())
            },
        )
        .and_then(|refused| match refused {
            (true, true) => Ok(()),
            _ => Err(format!("{path:?} can be written?")),
        })?;
    }
    let mut file = Safetensors::new();
    file.add("", &tensor).map_err(text)?;
    file.metadata("eps", "1e999");
    let bytes = file.into_bytes(Path::new("")).map_err(text)?;
    let array = npy::to_bytes(&tensor).map_err(text)?;
    for len in 0..=bytes.len().max(array.len()) {
        calm(
            || format!("a file of {len} bytes"),
            || {
                let cut = &array[..len.min(array.len())];
                let _ = npy::from_bytes(cut, Path::new(""), device);
                let cut = bytes[..len.min(bytes.len())].to_vec();
                let Ok(file) = SafetensorsFile::from_bytes(cut, Path::new("")) else {
                    return;
                };
                let _ = (file.eps(), file.names(), file.missing(""));
                let _ = (
                    file.float64(""),
                    file.tensor("", device),
                    file.optional("x", device),
                );
            },
        )?;
    }
    Ok(())
}

fn pinned_memory_and_timers(device: &Device) -> Verdict {
    let mut tensors = [&[0][..], &[3], &[2, 3]]
        .into_iter()
        .map(|shape| Tensor::zeros(DType::F32, shape, device).map_err(text))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    tensors.push(tensors[2].columns(0..2).map_err(text)?);
    for len in SIZES
        .into_iter()
        .chain([usize::MAX / 4, usize::MAX / 4 + 1])
    {
        let named = || format!("pinned memory of {len} elements");
        calm(named, || {
            for tensor in &mut tensors {
                let memory = Pinned::<f32>::new(len, device);
                if let Ok(memory) = memory {
                    let _ = tensor.start_write(memory).map(|copying| copying.wait());
                }
                if let Ok(memory) = Pinned::<f32>::new(len, device) {
                    let _ = tensor.start_read(memory).map(|copying| copying.wait());
                }
            }
            if let Ok(memory) = Pinned::<half::f16>::new(len, device) {
                let _ = tensors[1].start_read(memory);
            }
        })?;
    }
    let mut timer = Timer::new(device).map_err(text)?;
    let named = || "a timer that is stopped before it is started".to_owned();
    calm(named, || {
        let _ = (timer.elapsed(), timer.stop(), timer.elapsed());
        let _ = (
            timer.start(),
            timer.elapsed(),
            timer.start(),
            timer.elapsed(),
        );
    })
}

fn every_plan(problem: &Problem, limits: &plan::Limits) {
    let _ = plan::workspace_bytes(problem, limits);
    let _ = plan::row_sums_bytes(problem, limits);
    for pass in [Pass::Forward, Pass::Backward] {
        let _ = plan::entries(pass, problem, limits);
    }
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
            // Beside dy, in whatever order.
            dx: address ^ 16,
            dweight: address & !3,
            dbias: address & !3,
            workspace: address,
            workspace_bytes: usize::MAX,
            ..BackwardPointers::default()
        };
        let _ = backward.launches(problem, limits);
    }
}
