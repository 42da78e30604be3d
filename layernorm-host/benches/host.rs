//! What the host spends: planning, reading PTX, one launch, and the CPU path.
//!
//!     cargo bench -p layernorm-host
//!
//! `launch` is the host's time for one small launch. On a CUDA device the kernel runs meanwhile; on the software
//! GPU its emulation is part of the call, so that only `plan` and `parameters` say something there.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use layernorm_host::plan::{self, Limits, memory_rate};
use layernorm_host::{
    BackwardPointers, DType, Device, FastLayerNorm, ForwardPointers, Image, Launcher, Problem,
    Result, Tensor,
};
use software_gpu::{Gpu, Model, Module, Settings};

/// An H100's.
const LIMITS: Limits = Limits {
    max_grid: i32::MAX as u32,
    max_block: 1024,
    sm_count: 132,
    max_shared: 232_448,
    compute_capability: (9, 0),
    memory_rate: memory_rate(2_619_000, 5120),
};

fn plans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    for n_cols in [1024, 1023, 65536] {
        let problem = Problem::new(32768, n_cols, DType::BF16, DType::F32, 1e-5);
        let problem = problem.expect("the problem is one");
        let pointers = ForwardPointers {
            x: 256,
            weight: 512,
            bias: 1024,
            y: 2048,
            mean: 4096,
            rstd: 8192,
            ..ForwardPointers::default()
        };
        group.bench_function(format!("forward, {n_cols} columns"), |bencher| {
            bencher.iter(|| {
                let args = black_box(&pointers)
                    .args(black_box(&problem))
                    .expect("they are addresses");
                plan::forward(&problem, &args, &LIMITS).expect("the launch is within the limits")
            });
        });
        let pointers = BackwardPointers {
            dy: 256,
            x: 512,
            weight: 1024,
            mean: 2048,
            rstd: 4096,
            dx: 8192,
            dweight: 16384,
            dbias: 32768,
            workspace: 65536,
            workspace_bytes: plan::workspace_bytes(&problem, &LIMITS),
            ..BackwardPointers::default()
        };
        group.bench_function(format!("backward, {n_cols} columns"), |bencher| {
            bencher.iter(|| {
                black_box(&pointers)
                    .launches(black_box(&problem), &LIMITS)
                    .expect("they fit")
            });
        });
    }
    group.finish();
}

fn ptx(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ptx");
    let gpu = Gpu::with_settings(Model::h100(), Settings::default());
    let name = "layernorm_forward_bf16_f32_any";
    let image = Image::with_kernel(name, LIMITS.compute_capability).expect("an image has it");
    let kernel = image.kernel(name).expect("this image does");
    group.throughput(Throughput::Bytes(kernel.len() as u64));
    group.bench_function("the software GPU loads one kernel", |bencher| {
        bencher.iter(|| {
            Module::load(black_box(kernel.as_bytes()), &gpu)
                .map(drop)
                .expect("it loads")
        });
    });
    group.bench_function("one kernel is cut out of an image", |bencher| {
        bencher.iter(|| image.kernel(black_box(name)));
    });
    group.sample_size(10);
    group.throughput(Throughput::Bytes(image.ptx.len() as u64));
    group.bench_function("the software GPU loads the whole image", |bencher| {
        bencher.iter(|| {
            Module::load(black_box(image.ptx.as_bytes()), &gpu)
                .map(drop)
                .expect("it loads")
        });
    });
    group.finish();
}

fn launch(criterion: &mut Criterion) {
    let device = match Device::auto().expect("a device opens") {
        device if device.kind() == "cpu" => Device::software(0).expect("the software GPU opens"),
        device => device,
    };
    let mut bench = || -> Result<()> {
        let launcher = Launcher::new(&device)?;
        let problem = Problem::new(1, 64, DType::F32, DType::F32, 1e-5)?;
        launcher.prepare(&problem)?;
        let tensor = || Tensor::ones(DType::F32, &[1, 64], &device);
        let (x, y) = (tensor()?, tensor()?);
        let pointers = ForwardPointers {
            x: x.device_address().unwrap_or_default(),
            y: y.device_address().unwrap_or_default(),
            ..ForwardPointers::default()
        };
        let stream = device.stream().unwrap_or(std::ptr::null_mut());
        let mut group = criterion.benchmark_group(format!("launch on {device}, {}", device.name()));
        group.bench_function("one row of 64 columns", |bencher| {
            bencher.iter(|| {
                // SAFETY: x and y are this device's, of the problem's shape, and outlive the group, after
                // which the stream is waited for.
                unsafe { launcher.launch_forward(stream, &pointers, &problem) }
                    .expect("it launches");
            });
        });
        group.finish();
        device.synchronize()
    };
    bench().expect("the device launches");
}

fn cpu(criterion: &mut Criterion) {
    let mut bench = || -> Result<()> {
        let device = Device::cpu();
        let mut group = criterion.benchmark_group("cpu");
        for dtype in [DType::F32, DType::BF16] {
            let shape = [256, 1024];
            let x = Tensor::ones(dtype, &shape, &device)?;
            let weight = Tensor::ones(dtype, &shape[1..], &device)?;
            let bytes = x.len() * dtype.size();
            group.throughput(Throughput::Bytes(2 * bytes as u64));
            group.bench_function(format!("forward 256 x 1024 {dtype}"), |bencher| {
                bencher.iter(|| FastLayerNorm::forward(black_box(&x), Some(&weight), None, 1e-5));
            });
            group.throughput(Throughput::Bytes(5 * bytes as u64));
            group.bench_function(
                format!("forward and backward 256 x 1024 {dtype}"),
                |bencher| {
                    bencher.iter(|| {
                        let (y, saved) =
                            FastLayerNorm::forward(black_box(&x), Some(&weight), None, 1e-5)?;
                        FastLayerNorm::backward(saved, &y)
                    });
                },
            );
        }
        group.finish();
        Ok(())
    };
    bench().expect("the CPU computes");
}

criterion_group!(benches, plans, ptx, launch, cpu);
criterion_main!(benches);
