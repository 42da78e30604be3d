//! Launches that are captured into a CUDA graph: replays over other inputs have the bits of direct launches,
//! by every kind of stream that can be captured, and what a capture forbids is an error with its name.
//!
//! A capture of the driver's global mode is in the way of every other thread of its process, so these tests
//! take turns, in a process of their own.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cust::stream::{Stream, StreamFlags};
use cust::sys;
use half::{bf16, f16};
use layernorm_host::{
    BackwardPointers, DType, Device, Error, ForwardPointers, Launcher, Problem, Tensor,
};

/// `CU_STREAM_PER_THREAD`.
const PER_THREAD: *mut c_void = ptr::without_provenance_mut(2);

const N_ROWS: usize = 9;
/// In registers, ragged in registers, over all of a block, in shared memory or a cluster.
const N_COLS: [usize; 4] = [384, 1023, 8192, 20000];

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn device() -> Device {
    let device = Device::auto().unwrap();
    match device.kind() {
        "cpu" => Device::software(0).unwrap(),
        _ => device,
    }
}

fn ok(result: sys::CUresult) {
    assert_eq!(result, sys::CUresult::CUDA_SUCCESS);
}

/// The driver calls that work on a stream need the device's context, which the launcher does not.
struct Context(#[expect(dead_code, reason = "held, not read")] cust::context::Context);

impl Context {
    fn enter() -> Context {
        let device = cust::device::Device::get_device(0).unwrap();
        Context(cust::context::Context::new(device).unwrap())
    }
}

fn current_context() -> sys::CUcontext {
    let mut context = ptr::null_mut();
    // SAFETY: the call writes one value to where it is told.
    ok(unsafe { sys::cuCtxGetCurrent(&mut context) });
    context
}

/// A forward and a backward pass over memory that stays where it is.
struct Passes {
    device: Device,
    launcher: Launcher,
    problem: Problem,
    inputs: [Tensor; 4],
    outputs: [Tensor; 4],
    forward: ForwardPointers,
    backward: BackwardPointers,
    _between: [Tensor; 3],
}

impl Passes {
    fn new(dtype: DType, n_cols: usize) -> Passes {
        let device = device().with_poisoned_memory();
        let launcher = Launcher::new(&device).unwrap();
        let problem = Problem::new(N_ROWS, n_cols, dtype, DType::F32, 1e-5).unwrap();
        let empty = |dtype, shape: &[usize]| Tensor::empty(dtype, shape, &device).unwrap();
        let rows = || empty(dtype, &[N_ROWS, n_cols]);
        let columns = || empty(DType::F32, &[n_cols]);
        let inputs = [rows(), rows(), columns(), columns()];
        let outputs = [rows(), rows(), columns(), columns()];
        let workspace_bytes = launcher.workspace_bytes(&problem);
        let between = [
            empty(DType::F32, &[N_ROWS]),
            empty(DType::F32, &[N_ROWS]),
            empty(DType::F32, &[workspace_bytes / 4]),
        ];
        let address = |tensor: &Tensor| tensor.device_address().unwrap();
        let [x, dy, weight, bias] = inputs.each_ref().map(address);
        let [y, dx, dweight, dbias] = outputs.each_ref().map(address);
        let [mean, rstd, workspace] = between.each_ref().map(address);
        Passes {
            launcher,
            problem,
            forward: ForwardPointers {
                x,
                weight,
                bias,
                y,
                mean,
                rstd,
                ..ForwardPointers::default()
            },
            backward: BackwardPointers {
                dy,
                x,
                weight,
                mean,
                rstd,
                dx,
                dweight,
                dbias,
                workspace,
                workspace_bytes,
                ..BackwardPointers::default()
            },
            inputs,
            outputs,
            _between: between,
            device,
        }
    }

    /// Other inputs, and NaN where results will be.
    fn fill(&mut self, seed: f32) {
        for (tensor, step) in self.inputs.iter_mut().zip([0.7, 1.3, 0.3, 0.9]) {
            let wave: Vec<f32> = (0..tensor.len())
                .map(|i| (i as f32 * (step + seed)).sin() + seed)
                .collect();
            put(tensor, &wave);
        }
        for tensor in &mut self.outputs {
            let nan = vec![f32::NAN; tensor.len()];
            put(tensor, &nan);
        }
        self.device.synchronize().unwrap();
    }

    fn launch(&self, stream: *mut c_void) -> Result<(), Error> {
        // SAFETY: all memory is this device's, of the problem's shapes, and lives with `self`.
        unsafe {
            self.launcher
                .launch_forward(stream, &self.forward, &self.problem)?;
            self.launcher
                .launch_backward(stream, &self.backward, &self.problem)
        }
    }

    fn results(&self) -> [Vec<u8>; 4] {
        self.device.synchronize().unwrap();
        self.outputs
            .each_ref()
            .map(|tensor| tensor.to_bytes().unwrap())
    }

    /// Whether all results are such numbers.
    fn all(&self, what: fn(f32) -> bool) -> bool {
        self.device.synchronize().unwrap();
        let mut values = self.outputs.iter().flat_map(|t| t.to_f32_vec().unwrap());
        values.all(what)
    }
}

fn put(tensor: &mut Tensor, values: &[f32]) {
    let values = values.iter().copied();
    match tensor.dtype() {
        DType::F32 => tensor.copy_from_slice(&values.collect::<Vec<f32>>()),
        DType::F16 => tensor.copy_from_slice(&values.map(f16::from_f32).collect::<Vec<_>>()),
        DType::BF16 => tensor.copy_from_slice(&values.map(bf16::from_f32).collect::<Vec<_>>()),
        other => panic!("no test here has {other}"),
    }
    .unwrap();
}

const GLOBAL: sys::CUstreamCaptureMode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;

fn begin(stream: *mut c_void) {
    // SAFETY: the stream lives.
    ok(unsafe { sys::cuStreamBeginCapture_v2(stream.cast(), GLOBAL) });
}

fn end(stream: *mut c_void) -> Result<sys::CUgraph, sys::CUresult> {
    let mut graph = ptr::null_mut();
    // SAFETY: the stream lives, `graph` is writable.
    match unsafe { sys::cuStreamEndCapture(stream.cast(), &mut graph) } {
        sys::CUresult::CUDA_SUCCESS => Ok(graph),
        error => Err(error),
    }
}

/// A graph that can be launched.
struct Executable(sys::CUgraphExec);

impl Executable {
    fn of(graph: sys::CUgraph) -> Executable {
        let mut executable = ptr::null_mut();
        // SAFETY: the graph lives until it is destroyed here; what was made of it needs it no more.
        unsafe {
            ok(sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0));
            ok(sys::cuGraphDestroy(graph));
        }
        Executable(executable)
    }

    fn launch(&self, stream: *mut c_void) {
        // SAFETY: both live; so does the memory that the graph works on, with its `Passes`.
        unsafe {
            ok(sys::cuGraphLaunch(self.0, stream.cast()));
            ok(sys::cuStreamSynchronize(stream.cast()));
        }
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: made by `of`, and used no more.
        unsafe { sys::cuGraphExecDestroy(self.0) };
    }
}

/// Captures both passes on a stream and replays them, over inputs that the capture did not see.
fn replay(passes: &mut Passes, stream: *mut c_void) {
    passes.fill(0.0);
    begin(stream);
    let before = current_context();
    passes.launch(stream).unwrap();
    assert_eq!(current_context(), before);
    let graph = Executable::of(end(stream).unwrap());
    assert!(passes.all(f32::is_nan), "a capture does nothing");
    for seed in [0.25, 3.0] {
        passes.fill(seed);
        passes.launch(ptr::null_mut()).unwrap();
        let direct = passes.results();
        passes.fill(seed);
        graph.launch(stream);
        assert!(passes.results() == direct, "{:?}, {seed}", passes.problem);
        assert!(passes.all(f32::is_finite));
    }
}

#[test]
fn a_replay_has_the_bits_of_direct_launches() {
    let _turn = turn();
    for dtype in [DType::F32, DType::BF16] {
        for n_cols in N_COLS {
            let mut passes = Passes::new(dtype, n_cols);
            passes.launcher.prepare(&passes.problem).unwrap();
            let _context = Context::enter();
            let flags = [StreamFlags::DEFAULT, StreamFlags::NON_BLOCKING];
            for flags in flags {
                let stream = Stream::new(flags, None).unwrap();
                replay(&mut passes, stream.as_inner().cast());
            }
            replay(&mut passes, PER_THREAD);
        }
    }
}

#[test]
fn kernels_may_be_loaded_while_a_stream_is_captured() {
    let _turn = turn();
    // A dtype and a length that no other test here has: nothing has loaded its kernels.
    let mut passes = Passes::new(DType::F16, 96);
    let _context = Context::enter();
    let stream = Stream::new(StreamFlags::DEFAULT, None).unwrap();
    replay(&mut passes, stream.as_inner().cast());
}

#[test]
fn streams_that_fork_and_join_are_one_graph() {
    let _turn = turn();
    let mut both = [Passes::new(DType::F32, 384), Passes::new(DType::BF16, 1023)];
    let _context = Context::enter();
    let streams = [(); 2].map(|()| Stream::new(StreamFlags::NON_BLOCKING, None).unwrap());
    let [first, second] = streams.each_ref().map(Stream::as_inner);
    let events = [(); 2].map(|()| {
        let mut event = ptr::null_mut();
        // SAFETY: `event` is writable.
        ok(unsafe { sys::cuEventCreate(&mut event, 2) });
        event
    });
    for passes in &mut both {
        passes.launcher.prepare(&passes.problem).unwrap();
        passes.fill(0.5);
        passes.launch(ptr::null_mut()).unwrap();
    }
    let direct = both.each_ref().map(Passes::results);
    for passes in &mut both {
        passes.fill(0.5);
    }
    begin(first.cast());
    // SAFETY: streams and events live.
    unsafe {
        ok(sys::cuEventRecord(events[0], first));
        ok(sys::cuStreamWaitEvent(second, events[0], 0));
    }
    both[0].launch(first.cast()).unwrap();
    both[1].launch(second.cast()).unwrap();
    // SAFETY: as above.
    unsafe {
        ok(sys::cuEventRecord(events[1], second));
        ok(sys::cuStreamWaitEvent(first, events[1], 0));
    }
    let graph = Executable::of(end(first.cast()).unwrap());
    graph.launch(first.cast());
    assert!(both.each_ref().map(Passes::results) == direct);
    for event in events {
        // SAFETY: made above, and used no more.
        ok(unsafe { sys::cuEventDestroy_v2(event) });
    }
}

#[test]
fn what_a_capture_forbids_is_an_error_by_its_name() {
    let _turn = turn();
    let passes = Passes::new(DType::F32, 384);
    passes.launcher.prepare(&passes.problem).unwrap();
    let _context = Context::enter();
    let stream = Stream::new(StreamFlags::DEFAULT, None).unwrap();
    let handle = stream.as_inner().cast();
    let code = |result: Result<(), Error>| match result.unwrap_err() {
        Error::Cuda { cause, .. } => cause.code,
        other => panic!("{other}"),
    };
    // The legacy stream cannot be captured, and nothing can be put on it meanwhile.
    // SAFETY: null names the legacy stream.
    let legacy = unsafe { sys::cuStreamBeginCapture_v2(ptr::null_mut(), GLOBAL) };
    assert_eq!(legacy, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    begin(handle);
    assert_eq!(code(passes.launch(ptr::null_mut())), 906);
    assert_eq!(code(passes.launch(handle)), 901);
    assert_eq!(
        end(handle),
        Err(sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
    );
    // Memory cannot be taken, by any thread: the mode is global.
    begin(handle);
    let taken = std::thread::scope(|scope| {
        let take = || Tensor::empty(DType::F32, &[16], &passes.device).map(drop);
        scope.spawn(take).join().unwrap()
    });
    assert_eq!(code(taken), 900);
    assert_eq!(
        end(handle),
        Err(sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
    );
    // Afterwards all is as it was.
    Tensor::empty(DType::F32, &[16], &passes.device).unwrap();
    passes.launch(handle).unwrap();
}
