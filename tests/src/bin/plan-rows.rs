//! One small shape for each kernel that the plan can choose.
//!
//! ```text
//! plan-rows list                      the shapes, and the kernels that are new with each
//! plan-rows run [--part I/N] [--elements N] [--out FILE]
//!                                     both passes of each shape, held against float64; FILE gets the results
//! plan-rows compare A B               two such files of two devices, bit for bit
//! plan-rows once N_ROWS N_COLS DTYPE  one forward and one backward pass, for a profiler
//! plan-rows planted                   a launch that writes past its memory: succeeds if the device says so
//! ```
//!
//! The device is the GPU if there is one, else the software GPU; `LAYERNORM_DRIVER` forces either.

use std::path::Path;
use std::process::ExitCode;

use layernorm_host::file::SafetensorsWriter;
use layernorm_host::{DType, Device, FastLayerNorm, ForwardPointers, Launcher, Problem, Tensor};
use layernorm_tests::bits;
use layernorm_tests::plan_rows::{plan_rows, run};
use rayon::prelude::*;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["list", options @ ..] => Options::parse(options).and_then(|options| list(&options)),
        ["run", options @ ..] => Options::parse(options).and_then(|options| run_all(&options)),
        ["compare", a, b] => compare(Path::new(a), Path::new(b)),
        ["once", n_rows, n_cols, dtype] => once(n_rows, n_cols, dtype),
        ["planted"] => planted(),
        _ => Err("usage: plan-rows list | run [--part I/N] [--elements N] [--out FILE] | compare A B | once N_ROWS N_COLS DTYPE | planted".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    elements: usize,
    part: usize,
    parts: usize,
    out: Option<String>,
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self, Failure> {
        let mut options = Options {
            elements: 20_000,
            part: 0,
            parts: 1,
            out: None,
        };
        for pair in arguments.chunks(2) {
            match *pair {
                ["--elements", n] => options.elements = n.parse()?,
                ["--out", path] => options.out = Some(path.to_owned()),
                ["--part", part] => {
                    let (part, parts) = part.split_once('/').ok_or("--part: as in 0/4")?;
                    (options.part, options.parts) = (part.parse()?, parts.parse()?);
                    if options.part >= options.parts {
                        return Err(format!("--part {part}/{parts}: counted from 0").into());
                    }
                }
                _ => return Err(format!("not understood: {}", pair.join(" ")).into()),
            }
        }
        Ok(options)
    }
}

fn open() -> Result<(Device, Launcher), Failure> {
    let device = match Device::auto()? {
        device if device.kind() == "cpu" => Device::software(0)?,
        device => device,
    };
    let launcher = Launcher::new(&device)?;
    Ok((device, launcher))
}

fn list(options: &Options) -> Result<bool, Failure> {
    let (_, launcher) = open()?;
    let (rows, left) = plan_rows(options.elements, launcher.limits())?;
    for row in &rows {
        let entries: Vec<String> = row.entries.iter().map(ToString::to_string).collect();
        println!("{}: {}", row.name(), entries.join(", "));
    }
    for entry in left {
        println!("no shape launches {entry}");
    }
    Ok(true)
}

fn run_all(options: &Options) -> Result<bool, Failure> {
    let (device, launcher) = open()?;
    println!("device {device}");
    let mut file = match &options.out {
        Some(path) => Some(SafetensorsWriter::create(Path::new(path))?),
        None => None,
    };
    let (rows, _) = plan_rows(options.elements, launcher.limits())?;
    let rows: Vec<_> = rows
        .iter()
        .skip(options.part)
        .step_by(options.parts)
        .collect();
    // The oracle and the inputs take the host far longer than the kernels take a GPU.
    let results: Vec<_> = rows
        .par_iter()
        .map(|row| run(&row.case, &device, &launcher))
        .collect();
    let (mut good, mut bad) = (0, 0);
    for (row, results) in rows.iter().zip(results) {
        let name = row.name();
        let results = match results {
            Ok(results) => results,
            Err(reason) => {
                println!("WRONG {name}: {reason}");
                bad += 1;
                continue;
            }
        };
        good += 1;
        let Some(file) = &mut file else { continue };
        for (result, tensor) in [
            ("y", Some(&results.y)),
            ("mean", Some(&results.mean)),
            ("rstd", Some(&results.rstd)),
            ("dx", Some(&results.dx)),
            ("dweight", results.dweight.as_ref()),
            ("dbias", results.dbias.as_ref()),
        ] {
            if let Some(tensor) = tensor {
                file.add(format!("{name}/{result}"), tensor)?;
            }
        }
    }
    if let Some(mut file) = file {
        let parts = rows.iter().filter(|row| row.mean_of_parts);
        let parts: Vec<String> = parts.map(|row| row.name()).collect();
        file.metadata("device", device.name());
        file.metadata(bits::MEANS_OF_PARTS, parts.join(" "));
        file.finish()?;
    }
    println!("{good} shapes within their tolerances of float64, {bad} not");
    Ok(bad == 0 && good > 0)
}

fn compare(a: &Path, b: &Path) -> Result<bool, Failure> {
    let report = bits::compare(a, b)?;
    let [a, b] = &report.devices;
    println!("{} shapes, {a} and {b}", report.shapes);
    for (name, distance) in &report.by_name {
        println!("{name:8} {distance}");
    }
    let y = report.y_of_same_statistics;
    println!("y where mean and rstd are the same bits: {y}");
    for wrong in &report.wrong {
        println!("WRONG {wrong}");
    }
    println!("{} differences that must not be", report.wrong.len());
    Ok(report.wrong.is_empty() && report.shapes > 0)
}

fn once(n_rows: &str, n_cols: &str, dtype: &str) -> Result<bool, Failure> {
    let dtype = DType::ALL
        .into_iter()
        .find(|known| known.to_string() == dtype)
        .ok_or_else(|| format!("no dtype {dtype}"))?;
    let (n_rows, n_cols): (usize, usize) = (n_rows.parse()?, n_cols.parse()?);
    let (device, _) = open()?;
    // Every byte 0x3c is a number near 0.01 in f32 and bf16, and 1.06 in f16.
    let mut x = Tensor::empty(dtype, &[n_rows, n_cols], &device)?;
    x.fill_bytes(0x3c)?;
    let dy = x.copy()?;
    let parameter = Tensor::ones(dtype, &[n_cols], &device)?;
    let (_y, saved) = FastLayerNorm::forward(&x, Some(&parameter), Some(&parameter), 1e-5)?;
    FastLayerNorm::backward(saved, &dy)?;
    device.synchronize()?;
    println!("{device}: {n_rows} x {n_cols} {dtype}, forward and backward");
    Ok(true)
}

/// Whoever trusts a checker that finds nothing should see it find something.
fn planted() -> Result<bool, Failure> {
    let (device, launcher) = open()?;
    let x = Tensor::ones(DType::F32, &[64, 64], &device)?;
    let problem = Problem::new(64, 64, DType::F32, DType::F32, 1e-5)?;
    let pointers = ForwardPointers {
        x: x.device_address().unwrap_or(0),
        y: 1 << 45,
        ..ForwardPointers::default()
    };
    // SAFETY: none of y's rows is memory of the device, which is what is to be found; the process does
    // nothing with the device afterwards.
    let launched = unsafe { launcher.launch_forward(std::ptr::null_mut(), &pointers, &problem) };
    match launched.and_then(|()| device.synchronize()) {
        Ok(()) => Err("a write to no memory went unnoticed".into()),
        Err(error) => {
            println!("found, as it must be: {error}");
            // The context is lost, and freeing x in it would be an error of its own.
            std::mem::forget(x);
            Ok(true)
        }
    }
}
