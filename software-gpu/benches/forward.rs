//! Lane-instructions a second on the forward kernel that ships: `cargo bench -p software-gpu`.
//!
//! bf16, 4096 rows of 1024 columns, by default; `cargo bench -p software-gpu -- ROWS COLS` for others.
//! Printed per core: the number of cores that the launch used divides it. Each mode runs a few times and
//! the fastest counts. The rate for a second of a core's own time is what it would be if nobody else had
//! the cores.

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use software_gpu::{Checks, Gpu, LaunchConfig, Model, Module};

fn main() {
    let mut sizes = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.parse::<u64>().ok());
    let (n_rows, n_cols) = (sizes.next().unwrap_or(4096), sizes.next().unwrap_or(1024));
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../layernorm-host/ptx/layernorm_sm_80.ptx"
    );
    let text = std::fs::read(path).expect("the built PTX is in the repository");
    for (name, checks) in [
        ("off", Checks::OFF),
        ("memory", Checks::MEMORY),
        ("all", Checks::ALL),
    ] {
        let gpu = Gpu::with_checks(Model::h100(), checks);
        let start = Instant::now();
        let module = Module::load(&text, &gpu).expect("the shipped PTX loads");
        let load = start.elapsed();
        let kernel = module
            .kernel("layernorm_forward_bf16_bf16_rows_32x4")
            .expect("the kernel is in the image");
        let value =
            |i: u64| half::bf16::from_f32(((i * 37 % 101) as f32 - 50.0) * 0.05).to_le_bytes();
        let upload = |count: u64| {
            let data: Vec<u8> = (0..count).flat_map(value).collect();
            let at = gpu.alloc(data.len() as u64).unwrap();
            gpu.write(at, &data).unwrap();
            at
        };
        let (x, weight, bias) = (upload(n_rows * n_cols), upload(n_cols), upload(n_cols));
        let y = gpu.alloc(2 * n_rows * n_cols).unwrap();
        let (mean, rstd) = (
            gpu.alloc(4 * n_rows).unwrap(),
            gpu.alloc(4 * n_rows).unwrap(),
        );
        let mut params = Vec::new();
        for word in [x, 0, weight, bias, y, 0, mean, rstd, n_rows, n_cols, n_cols] {
            params.extend_from_slice(&word.to_le_bytes());
        }
        params.extend_from_slice(&(n_cols as u32).to_le_bytes());
        params.extend_from_slice(&1e-5f32.to_le_bytes());
        params.extend_from_slice(&(1.0 / n_cols as f32).to_le_bytes());
        assert_eq!(
            params.len(),
            kernel.param_bytes() as usize,
            "the kernel's parameters are others now"
        );
        // The variant's own block: a warp takes a row at a time.
        let block = kernel.max_threads();
        let grid = n_rows.div_ceil(u64::from(block / 32)).min(132 * 64) as u32;
        let config = LaunchConfig {
            grid: [grid, 1, 1],
            block: [block, 1, 1],
            dynamic_shared: 0,
        };
        let mut best = Duration::MAX;
        let mut best_cpu = Duration::MAX;
        let mut counters = None;
        for _ in 0..5 {
            let start = Instant::now();
            let cpu = ProcessTime::now();
            match gpu.launch(&kernel, &config, &params) {
                Ok(now) => counters = Some(now),
                Err(fault) => panic!("{fault}"),
            }
            best_cpu = best_cpu.min(cpu.elapsed());
            best = best.min(start.elapsed());
        }
        let lanes = counters.map_or(0, |counters| counters.lane_instructions);
        let cores = rayon::current_num_threads();
        let rate = lanes as f64 / best.as_secs_f64() / cores as f64;
        let cpu_rate = lanes as f64 / best_cpu.as_secs_f64();
        println!(
            "checks {name}: {n_rows} x {n_cols} bf16 in {:.1} ms, {lanes} lane-instructions, \
             {rate:.3e} a second a core on {cores} cores, {cpu_rate:.3e} a second of a core's own time (loading the image took {:.0} ms)",
            best.as_secs_f64() * 1e3,
            load.as_secs_f64() * 1e3,
        );
    }
}
