//! Many threads at once, each with streams of its own, on one device: every result has the bits that one
//! thread alone gets, by the tensors' way and by the launcher's.

use std::ffi::c_void;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::{bf16, f16};
use layernorm_host::{
    DType, Device, FastLayerNorm, ForwardPointers, Launcher, LayerNorm, Problem, Tensor,
};

const THREADS: usize = 8;
const STREAMS: usize = 4;
const ROUNDS: usize = 3;

/// A pass of its own: shape, dtypes, values.
#[derive(Clone, Copy, Debug)]
struct Case {
    n_rows: usize,
    n_cols: usize,
    dtype: DType,
    parameter_dtype: DType,
    seed: usize,
}

/// Which case a thread has on a stream in a round: neighbours differ in kernel, length and values.
fn case(thread: usize, stream: usize, round: usize) -> Case {
    let seed = (round * THREADS + thread) * STREAMS + stream;
    let dtype = [DType::F32, DType::BF16, DType::F16, DType::F64][(thread + stream) % 4];
    Case {
        n_rows: 1 + seed % 13,
        n_cols: [33, 384, 1023, 64, 2048, 8192, 777][seed % 7],
        dtype,
        parameter_dtype: match dtype {
            DType::F16 | DType::BF16 if seed.is_multiple_of(3) => DType::F32,
            own => own,
        },
        seed,
    }
}

fn tensor(shape: &[usize], dtype: DType, seed: usize, device: &Device) -> Tensor {
    let n: usize = shape.iter().product();
    let wave = (0..n).map(|i| ((i * 37 + seed * 101) as f64 * 0.013).sin() + 0.25);
    match dtype {
        DType::F64 => Tensor::from_slice(&wave.collect::<Vec<_>>(), shape, device),
        DType::F32 => {
            Tensor::from_slice(&wave.map(|v| v as f32).collect::<Vec<_>>(), shape, device)
        }
        DType::F16 => {
            Tensor::from_slice(&wave.map(f16::from_f64).collect::<Vec<_>>(), shape, device)
        }
        DType::BF16 => {
            Tensor::from_slice(&wave.map(bf16::from_f64).collect::<Vec<_>>(), shape, device)
        }
    }
    .unwrap()
}

/// That one thread alone gets the right y is what the suite shows; here it is the ground that the bits are
/// compared on, so it is held to float64 once more.
fn check_y(case: &Case, y: &Tensor) {
    let cpu = Device::cpu();
    let values = |shape: &[usize], dtype, seed| {
        let tensor = tensor(shape, dtype, case.seed + seed, &cpu);
        tensor.to_f64_vec().unwrap()
    };
    let x = values(&[case.n_rows, case.n_cols], case.dtype, 0);
    let [weight, bias] = [2, 3].map(|seed| values(&[case.n_cols], case.parameter_dtype, seed));
    let near = match case.dtype {
        DType::F64 => 1e-12,
        DType::F32 => 2e-5,
        DType::F16 => 4e-3,
        DType::BF16 => 3e-2,
    };
    let n = case.n_cols as f64;
    let y = y.to_f64_vec().unwrap();
    for (x, y) in x.chunks(case.n_cols).zip(y.chunks(case.n_cols)) {
        let mean = x.iter().sum::<f64>() / n;
        let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let rstd = 1.0 / (var + 1e-5).sqrt();
        for (i, y) in y.iter().enumerate() {
            let expected = (x[i] - mean) * rstd * weight[i] + bias[i];
            assert!((y - expected).abs() <= near, "{case:?}: {y}, {expected}");
        }
    }
}

type Bits = [Vec<u8>; 4];

/// A pass that was put on its stream: y, dx, dweight and dbias are on their way.
struct Running([Tensor; 4]);

fn start(case: &Case, device: &Device) -> Running {
    let rows = [case.n_rows, case.n_cols];
    let x = tensor(&rows, case.dtype, case.seed, device);
    let dy = tensor(&rows, case.dtype, case.seed + 1, device);
    let parameter = |seed| {
        tensor(
            &[case.n_cols],
            case.parameter_dtype,
            case.seed + seed,
            device,
        )
    };
    let (weight, bias) = (parameter(2), parameter(3));
    let (y, saved) = FastLayerNorm::forward(&x, Some(&weight), Some(&bias), 1e-5).unwrap();
    let (dx, dweight, dbias) = FastLayerNorm::backward(saved, &dy).unwrap();
    Running([y, dx, dweight.unwrap(), dbias.unwrap()])
}

impl Running {
    fn bits(&self) -> Bits {
        self.0.each_ref().map(|tensor| tensor.to_bytes().unwrap())
    }
}

fn software() -> Device {
    let device = Device::auto().unwrap();
    match device.kind() {
        "cpu" => Device::software(0).unwrap(),
        _ => device,
    }
}

/// The most threads that were at work at one time.
#[derive(Default)]
struct AtWork {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl AtWork {
    fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let done = work();
        self.now.fetch_sub(1, Ordering::SeqCst);
        done
    }
}

/// Runs all cases on all threads and streams; the most threads that were at work at one time.
fn storm(device: &Device) -> usize {
    // One thread, one stream, first.
    let alone: Vec<Bits> = (0..ROUNDS * THREADS * STREAMS)
        .map(|number| {
            let (round, rest) = (number / (THREADS * STREAMS), number % (THREADS * STREAMS));
            let case = case(rest / STREAMS, rest % STREAMS, round);
            let running = start(&case, device);
            check_y(&case, &running.0[0]);
            running.bits()
        })
        .collect();
    let (barrier, at_work) = (Barrier::new(THREADS), AtWork::default());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (alone, barrier, at_work) = (&alone, &barrier, &at_work);
            scope.spawn(move || {
                let streams: Vec<Device> = (0..STREAMS)
                    .map(|_| device.with_poisoned_memory().with_new_stream().unwrap())
                    .collect();
                for round in 0..ROUNDS {
                    barrier.wait();
                    at_work.during(|| {
                        let cases: Vec<Case> = (0..STREAMS)
                            .map(|stream| case(thread, stream, round))
                            .collect();
                        // All of a thread's streams have their work before any is waited for.
                        let running: Vec<Running> = cases
                            .iter()
                            .zip(&streams)
                            .map(|(case, stream)| start(case, stream))
                            .collect();
                        for (stream, running) in running.iter().enumerate().rev() {
                            let expected = &alone[(round * THREADS + thread) * STREAMS + stream];
                            assert!(running.bits() == *expected, "{:?}", cases[stream]);
                        }
                    });
                }
            });
        }
    });
    at_work.most.into_inner()
}

#[test]
fn threads_and_streams_at_once_have_the_bits_of_one() {
    let most = storm(&software());
    assert!(most > 1, "the threads ran one after the other");
}

#[test]
fn so_have_threads_on_the_cpu() {
    storm(&Device::cpu());
}

#[test]
fn one_launcher_and_one_layer_serve_all_threads() {
    let device = software();
    let launcher = Launcher::new(&device).unwrap();
    let layer = LayerNorm::new(&[384], DType::F32, &device).unwrap();
    let problem = Problem::new(5, 384, DType::F32, DType::F32, 1e-5).unwrap();
    let x = tensor(&[5, 384], DType::F32, 9, &device);
    let (expected, _) = layer.forward(&x).unwrap();
    let expected = expected.to_bytes().unwrap();
    device.synchronize().unwrap();
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let ys: Vec<(Device, Tensor)> = (0..STREAMS)
                    .map(|_| {
                        let device = device.with_poisoned_memory().with_new_stream().unwrap();
                        let y = Tensor::empty(DType::F32, &[5, 384], &device).unwrap();
                        device.synchronize().unwrap();
                        (device, y)
                    })
                    .collect();
                barrier.wait();
                for (device, y) in &ys {
                    let address = |tensor: &Tensor| tensor.device_address().unwrap();
                    let pointers = ForwardPointers {
                        x: address(&x),
                        weight: address(layer.weight().unwrap()),
                        bias: address(layer.bias().unwrap()),
                        y: address(y),
                        ..ForwardPointers::default()
                    };
                    let stream: *mut c_void = device.stream().unwrap();
                    // SAFETY: all memory is this device's, of the problem's shapes, and is read after
                    // its stream was waited for.
                    unsafe { launcher.launch_forward(stream, &pointers, &problem) }.unwrap();
                }
                for (device, y) in &ys {
                    device.synchronize().unwrap();
                    assert!(y.to_bytes().unwrap() == expected);
                }
            });
        }
    });
}
