//! Times the CPU path: `cpu_speed N_ROWS N_COLS f32|bf16|f16 REPEATS`, and prints milliseconds, the median of
//! the repeats: forward, forward and backward, and a copy of x. Outputs are allocated in each call.
//!
//! `benches/cpu.py` runs it in turn with PyTorch.

use std::time::Instant;

use half::{bf16, f16};
use layernorm_host::{Device, Element, FastLayerNorm, Result, Tensor};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [n_rows, n_cols, dtype, repeats] = arguments.as_slice() else {
        return Err("usage: cpu_speed N_ROWS N_COLS f32|bf16|f16 REPEATS".into());
    };
    let (n_rows, n_cols, repeats) = (n_rows.parse()?, n_cols.parse()?, repeats.parse()?);
    let times = match dtype.as_str() {
        "f32" => measure(n_rows, n_cols, repeats, |value| value)?,
        "bf16" => measure(n_rows, n_cols, repeats, bf16::from_f32)?,
        "f16" => measure(n_rows, n_cols, repeats, f16::from_f32)?,
        other => return Err(format!("dtype {other}: allowed are f32, bf16, f16").into()),
    };
    println!("{:.4} {:.4} {:.4}", times[0], times[1], times[2]);
    Ok(())
}

fn measure<T: Element>(
    n_rows: usize,
    n_cols: usize,
    repeats: usize,
    convert: fn(f32) -> T,
) -> Result<[f64; 3]> {
    let device = Device::cpu();
    let wave = |n: usize, step: f32| (0..n).map(move |i| convert((i as f32 * step).sin()));
    let rows = |step| {
        let values: Vec<T> = wave(n_rows * n_cols, step).collect();
        Tensor::from_slice(&values, &[n_rows, n_cols], &device)
    };
    let (x, dy) = (rows(0.7)?, rows(1.3)?);
    let weight = Tensor::ones(T::DTYPE, &[n_cols], &device)?;
    let bias = Tensor::zeros(T::DTYPE, &[n_cols], &device)?;

    let forward = median(repeats, || {
        FastLayerNorm::forward(&x, Some(&weight), Some(&bias), 1e-5).map(|_| ())
    })?;
    let both = median(repeats, || {
        let (_y, saved) = FastLayerNorm::forward(&x, Some(&weight), Some(&bias), 1e-5)?;
        FastLayerNorm::backward(saved, &dy).map(|_| ())
    })?;
    let copy = median(repeats, || x.copy().map(|_| ()))?;
    Ok([forward, both, copy])
}

/// The median time of a call, in milliseconds, after three calls that are not counted.
fn median(repeats: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..3 {
        call()?;
    }
    let mut times = Vec::with_capacity(repeats);
    for _ in 0..repeats.max(1) {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
