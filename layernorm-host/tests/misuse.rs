//! The table of misuse in the library's documentation, row by row: here is the same table with the code that
//! does what each row says, and each of a row's errors comes, and no other. The two tables are compared.

use std::collections::BTreeSet;
use std::path::Path;

use half::f16;
use layernorm_host::file::{Safetensors, SafetensorsFile, SafetensorsWriter, npy};
use layernorm_host::{
    BackwardPointers, DType, Device, Error, FastLayerNorm, ForwardPointers, Launcher, LayerNorm,
    Needs, Problem, Result, Tensor, Timer, fast_layernorm, plan,
};

/// A row: the misuse in the documentation's words, and what does it.
struct Row(&'static str, Shown);

enum Shown {
    By(fn(&Device) -> Vec<Result<()>>),
    /// What cannot be done here, where another test shows it.
    Elsewhere(&'static [&'static str]),
}

use Shown::{By, Elsewhere};

fn zeros(shape: &[usize], device: &Device) -> Tensor {
    Tensor::zeros(DType::F32, shape, device).unwrap()
}

fn halves(shape: &[usize], device: &Device) -> Tensor {
    Tensor::zeros(DType::F16, shape, device).unwrap()
}

fn forward(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<()> {
    FastLayerNorm::forward(x, weight, bias, 1e-5).map(drop)
}

fn backward(x: &Tensor, dy: &Tensor) -> Result<()> {
    let (_, saved) = FastLayerNorm::forward(x, None, None, 1e-5)?;
    FastLayerNorm::backward(saved, dy).map(drop)
}

const ROWS: &[Row] = &[
    Row(
        "x's last dimensions are not the layer's",
        By(|device| {
            let layer = LayerNorm::new(&[4, 8], DType::F32, device).unwrap();
            let call = |shape: &[usize]| fast_layernorm(&layer, &zeros(shape, device)).map(drop);
            vec![call(&[2, 8]), call(&[8, 4]), call(&[8])]
        }),
    ),
    Row(
        "weight or bias, or a gradient of one, of another length than x's rows",
        By(|device| {
            let (x, other) = (zeros(&[2, 8], device), zeros(&[9], device));
            vec![
                forward(&x, Some(&other), None),
                forward(&x, None, Some(&other)),
            ]
        }),
    ),
    Row(
        "bias of another shape than weight; dy, dx, y or residual of another shape than x",
        By(|device| {
            let (x, other) = (zeros(&[2, 8], device), zeros(&[8, 2], device));
            let mut y = zeros(&[8, 2], device);
            vec![
                backward(&x, &other),
                FastLayerNorm::forward_into(&x, None, None, 1e-5, &mut y).map(drop),
                FastLayerNorm::forward_add(&x, &other, None, None, 1e-5).map(drop),
                LayerNorm::from_parameters(
                    &[8],
                    Some(zeros(&[8], device)),
                    Some(zeros(&[9], device)),
                    1e-5,
                )
                .map(drop),
            ]
        }),
    ),
    Row(
        "weight and bias of dtypes that differ, or neither x's nor f32; dy or an output of another dtype",
        By(|device| {
            let (x, x_half) = (zeros(&[2, 8], device), halves(&[2, 8], device));
            let (full, half) = (zeros(&[8], device), halves(&[8], device));
            let mut y = zeros(&[2, 8], device);
            vec![
                forward(&x, Some(&half), None),
                forward(&x_half, Some(&half), Some(&full)),
                backward(&x, &x_half),
                FastLayerNorm::forward_into(&x_half, None, None, 1e-5, &mut y).map(drop),
            ]
        }),
    ),
    Row(
        "a file's tensor of another dtype than f32, f16, bf16 and f64",
        By(|device| {
            let header = br#"{"x":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}"#;
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(header);
            bytes.extend_from_slice(&[0; 4]);
            let file = SafetensorsFile::from_bytes(bytes, Path::new("x")).unwrap();
            vec![file.tensor("x", device).map(drop)]
        }),
    ),
    Row(
        "x of rank 0, an empty normalized shape",
        By(|device| {
            vec![
                forward(&zeros(&[], device), None, None),
                LayerNorm::new(&[], DType::F32, device).map(drop),
            ]
        }),
    ),
    Row(
        "rows of no columns",
        By(|device| {
            vec![
                forward(&zeros(&[3, 0], device), None, None),
                LayerNorm::new(&[0], DType::F32, device).map(drop),
                Problem::new(1, 0, DType::F32, DType::F32, 0.0).map(drop),
            ]
        }),
    ),
    Row(
        "rows of 2^31 columns or more",
        By(|_| vec![Problem::new(1, 1 << 31, DType::F16, DType::F16, 0.0).map(drop)]),
    ),
    Row(
        "eps negative, infinite or NaN",
        By(|device| {
            let x = zeros(&[2, 8], device);
            [-1e-5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]
                .map(|eps| FastLayerNorm::forward(&x, None, None, eps).map(drop))
                .into()
        }),
    ),
    Row(
        "sizes above `isize::MAX` bytes",
        By(|device| {
            vec![
                Tensor::zeros(DType::F32, &[usize::MAX, 2], device).map(drop),
                Problem::new(usize::MAX, 1024, DType::F16, DType::F16, 0.0).map(drop),
            ]
        }),
    ),
    Row(
        "more memory than there is",
        By(|device| {
            [device, &Device::cpu()]
                .map(|device| Tensor::zeros(DType::F16, &[1 << 46], device).map(drop))
                .into()
        }),
    ),
    Row(
        "data of another length than its shape",
        By(|device| {
            vec![
                Tensor::from_slice(&[0.0f32; 5], &[2, 3], device).map(drop),
                Tensor::from_bytes(&[0; 13], DType::F32, &[3], device).map(drop),
                zeros(&[2, 3], device).copy_from_slice(&[0.0f32; 7]),
                zeros(&[2, 3], device).reshape(&[4]).map(drop),
            ]
        }),
    ),
    Row(
        "rows that overlap, a view past the end, gaps where none may be",
        By(|device| {
            let x = zeros(&[2, 8], device);
            vec![
                Tensor::empty_strided(DType::F32, &[2, 8], 7, device).map(drop),
                x.columns(4..9).map(drop),
                x.rows_in(0..3).map(drop),
                x.columns(0..4).unwrap().reshape(&[8]).map(drop),
            ]
        }),
    ),
    Row(
        "operands on two devices",
        By(|device| {
            let (x, there) = (zeros(&[2, 8], device), zeros(&[8], &Device::cpu()));
            vec![forward(&x, Some(&there), None)]
        }),
    ),
    Row(
        "a timer that was not started and stopped",
        By(|device| vec![Timer::new(device).unwrap().elapsed().map(drop)]),
    ),
    Row(
        "an output that another tensor can reach",
        By(|device| {
            let x = zeros(&[2, 8], device);
            let mut over = x.clone();
            let mut viewed = zeros(&[2, 8], device);
            let _view = viewed.columns(0..1).unwrap();
            vec![
                FastLayerNorm::forward_into(&x, None, None, 0.0, &mut over).map(drop),
                viewed.copy_from_slice(&[0.0f32; 16]),
            ]
        }),
    ),
    Row(
        "dweight of a layer without weight, dbias of one without bias",
        By(|device| {
            let x = zeros(&[2, 8], device);
            [(true, false), (false, true)]
                .map(|(dweight, dbias)| {
                    let (_, saved) = FastLayerNorm::forward(&x, None, None, 0.0)?;
                    let needs = Needs {
                        dx: true,
                        dweight,
                        dbias,
                    };
                    FastLayerNorm::backward_needs(saved, &x, needs).map(drop)
                })
                .into()
        }),
    ),
    Row(
        "a saved forward pass used twice",
        // The documentation of `Saved` has it, as what does not compile.
        Elsewhere(&[]),
    ),
    Row(
        "no driver, no GPU, a build without CUDA",
        By(|_| vec![Launcher::new(&Device::cpu()).map(drop)]),
    ),
    Row(
        "a device number past the last",
        By(|device| {
            let beyond = match device.kind() {
                "cuda" => Device::cuda(1_000_000),
                _ => Device::software(1_000_000),
            };
            vec![beyond.map(drop)]
        }),
    ),
    Row(
        "NVIDIA's driver and the software GPU in one process",
        By(|device| {
            let other = match device.kind() {
                "cuda" => Device::software(0),
                _ => Device::cuda(0),
            };
            vec![other.map(drop)]
        }),
    ),
    Row(
        "`LAYERNORM_CPU` with the name of instructions that the processor lacks",
        // It is read once a process: `instructions.rs` beside this file.
        Elsewhere(&["Instructions"]),
    ),
    Row(
        "a GPU older than sm_75",
        // No such device is here: `a_gpu_that_is_too_old_is_an_error` in device/cuda/module.rs.
        Elsewhere(&["NoImage"]),
    ),
    Row(
        "an address that is 0 or crooked; a workspace that is too small",
        By(|device| {
            let launcher = Launcher::new(device).unwrap();
            let problem = Problem::new(2, 8, DType::F32, DType::F32, 0.0).unwrap();
            let tensors = [(); 7].map(|()| zeros(&[64], device));
            let [x, dy, y, mean, rstd, dweight, workspace] =
                tensors.each_ref().map(|t| t.device_address().unwrap());
            let good = ForwardPointers {
                x,
                y,
                ..ForwardPointers::default()
            };
            let backward = BackwardPointers {
                dy,
                x,
                mean,
                rstd,
                // In place, which even a few rows need a workspace for.
                dx: dy,
                dweight,
                workspace,
                workspace_bytes: 4,
                ..BackwardPointers::default()
            };
            let stream = std::ptr::null_mut();
            let launch = |pointers: &ForwardPointers| {
                // SAFETY: an address that cannot be is refused before anything is launched.
                unsafe { launcher.launch_forward(stream, pointers, &problem) }
            };
            vec![
                launch(&ForwardPointers { x: 0, ..good }),
                launch(&ForwardPointers { y: y + 2, ..good }),
                // SAFETY: so is a workspace that is too small.
                unsafe { launcher.launch_backward(stream, &backward, &problem) },
            ]
        }),
    ),
    Row(
        "a file that is not there, cannot be written, is not safetensors, lacks a tensor",
        By(|device| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("layer");
            let missing = LayerNorm::load(&path, "", 1e-5, device).map(drop);
            std::fs::write(&path, "no safetensors").unwrap();
            let other = LayerNorm::load(&path, "", 1e-5, device).map(drop);
            let mut file = SafetensorsWriter::create(&path).unwrap();
            file.add("other", &zeros(&[8], device)).unwrap();
            file.finish().unwrap();
            vec![
                missing,
                other,
                LayerNorm::load(&path, "", 1e-5, device).map(drop),
                SafetensorsWriter::create(&folder.path().join("no/such")).map(drop),
            ]
        }),
    ),
    Row(
        "an eps in a file that is no number",
        By(|_| {
            let mut file = Safetensors::new();
            file.metadata("eps", "small");
            let path = Path::new("layer");
            let file = SafetensorsFile::from_bytes(file.into_bytes(path).unwrap(), path);
            vec![file.unwrap().eps().map(drop)]
        }),
    ),
    Row(
        "a kernel that the device's limits forbid",
        By(|device| {
            let limits = plan::Limits {
                max_block: 16,
                ..*Launcher::new(device).unwrap().limits()
            };
            let problem = Problem::new(1, 384, DType::F32, DType::F32, 0.0).unwrap();
            let pointers = ForwardPointers {
                x: 1 << 20,
                y: 1 << 30,
                ..ForwardPointers::default()
            };
            let args = pointers.args(&problem).unwrap();
            vec![plan::forward(&problem, &args, &limits).map(drop)]
        }),
    ),
    Row(
        "an array file that is not NumPy's, in Fortran order, of another dtype",
        By(|device| {
            let good = npy::to_bytes(&zeros(&[2, 2], device)).unwrap();
            let with = |from: &str, to: &str| {
                let at = good
                    .windows(from.len())
                    .position(|window| window == from.as_bytes());
                let mut bytes = good.clone();
                bytes[at.unwrap()..][..to.len()].copy_from_slice(to.as_bytes());
                npy::from_bytes(&bytes, Path::new("x.npy"), device).map(drop)
            };
            vec![
                with("NUMPY", "OTHER"),
                with("False", "True "),
                with("<f4", "<i4"),
            ]
        }),
    ),
];

/// Errors that are nobody's misuse: a device or the build at fault.
const FAULTS: &[&str] = &["Cuda", "Jit", "NoKernel"];

fn device() -> Device {
    let device = Device::auto().unwrap();
    match device.kind() {
        "cpu" => Device::software(0).unwrap(),
        _ => device,
    }
}

/// The variants of `Error` that a text links to.
fn linked(text: &str) -> BTreeSet<String> {
    let links = text.split("[`Error::").skip(1);
    links
        .filter_map(|link| link.split('`').next())
        .map(str::to_owned)
        .collect()
}

/// The documentation's table: misuse and errors.
fn documented() -> Vec<(&'static str, BTreeSet<String>)> {
    let table = include_str!("../src/lib.rs")
        .split("//! | misuse | error |\n//! |---|---|\n")
        .nth(1)
        .unwrap();
    let rows = table.lines().take_while(|line| line.starts_with("//! | "));
    rows.map(|row| {
        let (misuse, errors) = row["//! | ".len()..].split_once(" | ").unwrap();
        (misuse, linked(errors))
    })
    .collect()
}

/// `Shape { name: ... }` is of the variant `Shape`.
fn variant(error: &Error) -> String {
    let shown = format!("{error:?}");
    shown.split([' ', '(', '{']).next().unwrap().to_owned()
}

#[test]
fn the_table_of_the_documentation_is_the_one_tested() {
    let documented = documented();
    let documented: Vec<&str> = documented.iter().map(|(misuse, _)| *misuse).collect();
    let tested: Vec<&str> = ROWS.iter().map(|Row(misuse, _)| *misuse).collect();
    assert_eq!(documented, tested);
}

#[test]
fn every_row_gives_its_errors_and_no_other() {
    let device = device();
    for ((misuse, allowed), Row(_, shown)) in documented().iter().zip(ROWS) {
        let found: BTreeSet<String> = match shown {
            By(calls) => calls(&device)
                .into_iter()
                .map(|result| {
                    let error = result.expect_err(misuse);
                    assert!(error.to_string().len() > 20, "{misuse}: {error}");
                    variant(&error)
                })
                .collect(),
            Elsewhere(errors) => errors.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(&found, allowed, "{misuse}");
    }
}

#[test]
fn every_error_is_in_the_table_or_nobodys_misuse() {
    let source = include_str!("../src/error.rs");
    let variants = source.split("pub enum Error {").nth(1).unwrap();
    let variants = variants.split("\n}\n").next().unwrap();
    let defined: BTreeSet<String> = variants
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.strip_suffix(" {"))
        .filter(|name| name.chars().all(char::is_alphanumeric))
        .map(str::to_owned)
        .collect();
    let mut listed: BTreeSet<String> = documented()
        .into_iter()
        .flat_map(|(_, errors)| errors)
        .collect();
    assert!(FAULTS.iter().all(|fault| !listed.contains(*fault)));
    listed.extend(FAULTS.iter().map(|fault| (*fault).to_owned()));
    assert_eq!(defined, listed);
}

#[test]
fn a_refused_call_writes_nothing() {
    let device = device();
    let mut y = Tensor::zeros(DType::F32, &[2, 8], &device).unwrap();
    y.fill_bytes(0xFF).unwrap();
    for x in [zeros(&[3, 8], &device), halves(&[2, 8], &device)] {
        FastLayerNorm::forward_into(&x, None, None, 1e-5, &mut y).unwrap_err();
    }
    let short = Tensor::from_slice(&[f16::ONE; 4], &[4], &device).unwrap();
    let x = zeros(&[2, 8], &device);
    FastLayerNorm::forward_into(&x, Some(&short), None, 1e-5, &mut y).unwrap_err();
    assert!(y.to_bytes().unwrap().iter().all(|byte| *byte == 0xFF));
}
