//! Launches over a caller's memory, on a caller's streams: the results are those of the tensors' way, and the
//! caller's current context stays.

use std::ffi::c_void;
use std::ptr;

use cust::stream::{Stream, StreamFlags};
use cust::sys;
use layernorm_host::{
    BackwardPointers, DType, Device, Error, FastLayerNorm, ForwardPointers, Launcher, Problem,
    Tensor,
};

/// `CU_STREAM_PER_THREAD`.
const PER_THREAD: *mut c_void = ptr::without_provenance_mut(2);

const N_ROWS: usize = 37;

struct Operands {
    device: Device,
    problem: Problem,
    x: Tensor,
    dy: Tensor,
    weight: Tensor,
    bias: Tensor,
}

impl Operands {
    fn new(n_cols: usize) -> Self {
        let device = Device::auto().unwrap();
        let device = match device.kind() {
            "cpu" => Device::software(0).unwrap(),
            _ => device,
        };
        let wave =
            |n: usize, step: f32| -> Vec<f32> { (0..n).map(|i| (i as f32 * step).sin()).collect() };
        let rows = |step| {
            let values = wave(N_ROWS * n_cols, step);
            Tensor::from_slice(&values, &[N_ROWS, n_cols], &device).unwrap()
        };
        let columns = |step| Tensor::from_slice(&wave(n_cols, step), &[n_cols], &device).unwrap();
        Operands {
            problem: Problem::new(N_ROWS, n_cols, DType::F32, DType::F32, 1e-5).unwrap(),
            x: rows(0.7),
            dy: rows(1.3),
            weight: columns(0.3),
            bias: columns(0.9),
            device,
        }
    }

    /// Outputs that hold NaN.
    fn output(&self, shape: &[usize]) -> Tensor {
        let device = self.device.with_poisoned_memory();
        Tensor::empty(DType::F32, shape, &device).unwrap()
    }

    /// The tensors' way: y, dx, dweight, dbias.
    fn expected(&self) -> [Vec<f32>; 4] {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        let (y, saved) = FastLayerNorm::forward(&self.x, weight, bias, 1e-5).unwrap();
        let (dx, dweight, dbias) = FastLayerNorm::backward(saved, &self.dy).unwrap();
        [y, dx, dweight.unwrap(), dbias.unwrap()].map(|tensor| tensor.to_vec().unwrap())
    }

    /// The launcher's way, on a stream.
    fn launched(&self, stream: *mut c_void, wait: impl Fn()) -> [Vec<f32>; 4] {
        let launcher = Launcher::new(&self.device).unwrap();
        launcher.prepare(&self.problem).unwrap();
        let n_cols = self.problem.n_cols();
        let rows = || self.output(&[N_ROWS, n_cols]);
        let (y, dx, mean, rstd) = (
            rows(),
            rows(),
            self.output(&[N_ROWS]),
            self.output(&[N_ROWS]),
        );
        let (dweight, dbias) = (self.output(&[n_cols]), self.output(&[n_cols]));
        let workspace_bytes = launcher.workspace_bytes(&self.problem);
        let workspace = self.output(&[workspace_bytes / 4]);
        let address = |tensor: &Tensor| tensor.device_address().unwrap();
        let forward = ForwardPointers {
            x: address(&self.x),
            weight: address(&self.weight),
            bias: address(&self.bias),
            y: address(&y),
            mean: address(&mean),
            rstd: address(&rstd),
            ..ForwardPointers::default()
        };
        let backward = BackwardPointers {
            dy: address(&self.dy),
            x: address(&self.x),
            weight: address(&self.weight),
            mean: address(&mean),
            rstd: address(&rstd),
            dx: address(&dx),
            dweight: address(&dweight),
            dbias: address(&dbias),
            workspace: address(&workspace),
            workspace_bytes,
            ..BackwardPointers::default()
        };
        self.device.synchronize().unwrap();
        // SAFETY: all tensors are this device's, of the problem's shapes, and live until `wait` is done.
        unsafe {
            launcher
                .launch_forward(stream, &forward, &self.problem)
                .unwrap();
            launcher
                .launch_backward(stream, &backward, &self.problem)
                .unwrap();
        }
        wait();
        [y, dx, dweight, dbias].map(|tensor| tensor.to_vec().unwrap())
    }
}

fn current_context() -> sys::CUcontext {
    let mut context = ptr::null_mut();
    // SAFETY: the call writes one value to where it is told.
    let result = unsafe { sys::cuCtxGetCurrent(&mut context) };
    assert_eq!(result, sys::CUresult::CUDA_SUCCESS);
    context
}

#[test]
fn every_kind_of_stream_gives_what_tensors_give() {
    for n_cols in [33, 384] {
        let operands = Operands::new(n_cols);
        let expected = operands.expected();
        assert_eq!(operands.launched(ptr::null_mut(), || ()), expected);

        let context = cust::device::Device::get_device(0)
            .and_then(cust::context::Context::new)
            .unwrap();
        let synchronize = |stream| {
            // SAFETY: the stream is the calling thread's, or was made just now.
            let result = unsafe { sys::cuStreamSynchronize(stream) };
            assert_eq!(result, sys::CUresult::CUDA_SUCCESS);
        };
        let wait = || synchronize(PER_THREAD.cast());
        assert_eq!(operands.launched(PER_THREAD, wait), expected);
        let stream = Stream::new(StreamFlags::DEFAULT, None).unwrap();
        let handle = stream.as_inner();
        assert_eq!(
            operands.launched(handle.cast(), || synchronize(handle)),
            expected
        );
        drop((stream, context));
    }
}

#[test]
fn the_callers_context_stays() {
    let operands = Operands::new(384);
    // None.
    // SAFETY: null is the handle of no context.
    unsafe { sys::cuCtxSetCurrent(ptr::null_mut()) };
    operands.launched(ptr::null_mut(), || ());
    assert!(current_context().is_null());
    // One of the caller's own, which is not the device's primary context.
    let device = cust::device::Device::get_device(0).unwrap();
    let flags = cust::context::legacy::ContextFlags::SCHED_AUTO;
    let own = cust::context::legacy::Context::create_and_push(flags, device).unwrap();
    let before = current_context();
    operands.launched(ptr::null_mut(), || ());
    assert_eq!(current_context(), before);
    drop(own);
}

#[test]
fn addresses_that_cannot_be_are_errors() {
    let operands = Operands::new(384);
    let launcher = Launcher::new(&operands.device).unwrap();
    let x = operands.x.device_address().unwrap();
    let y = operands.output(&[N_ROWS, 384]);
    let good = ForwardPointers {
        x,
        y: y.device_address().unwrap(),
        ..ForwardPointers::default()
    };
    for (bad, name) in [
        (ForwardPointers { x: 0, ..good }, "x is at 0x0"),
        (ForwardPointers { x: x + 2, ..good }, "a multiple of 4"),
    ] {
        // SAFETY: an address that cannot be is refused before anything is launched.
        let launched = unsafe { launcher.launch_forward(ptr::null_mut(), &bad, &operands.problem) };
        let error = launched.unwrap_err();
        assert!(matches!(error, Error::Address { .. }));
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(
        y.to_vec::<f32>()
            .unwrap()
            .iter()
            .all(|value| value.is_nan())
    );
    assert!(matches!(
        Launcher::new(&Device::cpu()),
        Err(Error::NoDevice { .. })
    ));
}
