//! What capturing does and forbids. The captures are those of their threads: a global one would be in the
//! way of all other tests of the process.

use std::ptr::null_mut;

use crate::driver::entry::*;
use crate::driver::error::Code;
use crate::driver::tests::{TestContext, alloc, read};

const OK: u32 = 0;
const THREAD_LOCAL: u32 = 1;

fn stream() -> usize {
    let mut stream = 0;
    // SAFETY: `stream` is writable.
    assert_eq!(unsafe { cuStreamCreate(&mut stream, 0) }, OK);
    stream
}

fn event() -> usize {
    let mut event = 0;
    // SAFETY: `event` is writable.
    assert_eq!(unsafe { cuEventCreate(&mut event, 0) }, OK);
    event
}

fn begin(stream: usize) {
    // SAFETY: no pointer is passed.
    assert_eq!(unsafe { cuStreamBeginCapture_v2(stream, THREAD_LOCAL) }, OK);
}

/// Ends a capture: what the driver says, and the graph.
fn end(stream: usize) -> (u32, usize) {
    let mut graph = usize::MAX;
    // SAFETY: `graph` is writable.
    let code = unsafe { cuStreamEndCapture(stream, &mut graph) };
    (code, graph)
}

/// A capture that was spoiled: it ends with nothing, and the stream is free again.
fn end_spoiled(stream: usize) {
    assert_eq!(end(stream), (Code::STREAM_CAPTURE_INVALIDATED.0, 0));
    // SAFETY: no pointer is passed.
    assert_eq!(unsafe { cuStreamSynchronize(stream) }, OK);
}

fn executable(stream: usize) -> usize {
    let (code, graph) = end(stream);
    assert_eq!(code, OK);
    let mut executable = 0;
    // SAFETY: `executable` is writable.
    unsafe {
        assert_eq!(cuGraphInstantiateWithFlags(&mut executable, graph, 0), OK);
        assert_eq!(cuGraphDestroy(graph), OK);
        assert_eq!(cuGraphDestroy(graph), Code::INVALID_HANDLE.0);
    }
    executable
}

#[test]
fn captured_work_is_done_at_each_launch_and_not_before() {
    let _context = TestContext::new();
    let (a, b, stream) = (alloc(4), alloc(4), stream());
    let mut host = [0_u8; 4];
    // SAFETY: the addresses have 4 bytes each, and `host` outlives the launches.
    unsafe {
        assert_eq!(cuMemsetD8_v2(a, 1, 4), OK);
        assert_eq!(cuMemsetD8_v2(b, 2, 4), OK);
        begin(stream);
        assert_eq!(cuMemcpyDtoDAsync_v2(b, a, 4, stream), OK);
        assert_eq!(cuMemsetD8Async(b, 9, 1, stream), OK);
        assert_eq!(cuMemcpyDtoHAsync_v2(host.as_mut_ptr(), b, 4, stream), OK);
        let executable = executable(stream);
        assert_eq!((read(b, 4), host), (vec![2; 4], [0; 4]));
        assert_eq!(cuGraphLaunch(executable, stream), OK);
        assert_eq!(host, [9, 1, 1, 1]);
        assert_eq!(cuMemsetD8_v2(a, 5, 4), OK);
        assert_eq!(cuGraphLaunch(executable, stream), OK);
        assert_eq!(host, [9, 5, 5, 5]);
        assert_eq!(cuGraphExecDestroy(executable), OK);
        assert_eq!(cuGraphLaunch(executable, stream), Code::INVALID_HANDLE.0);
    }
}

#[test]
fn a_graph_can_be_part_of_another() {
    let _context = TestContext::new();
    let (a, stream) = (alloc(2), stream());
    // SAFETY: the address has 2 bytes.
    unsafe {
        assert_eq!(cuMemsetD8_v2(a, 0, 2), OK);
        begin(stream);
        assert_eq!(cuMemsetD8Async(a, 1, 1, stream), OK);
        let inner = executable(stream);
        begin(stream);
        assert_eq!(cuGraphLaunch(inner, stream), OK);
        assert_eq!(cuMemsetD8Async(a + 1, 2, 1, stream), OK);
        let outer = executable(stream);
        assert_eq!(read(a, 2), [0, 0]);
        assert_eq!(cuGraphLaunch(outer, 0), OK);
        assert_eq!(read(a, 2), [1, 2]);
    }
}

#[test]
fn streams_join_by_events_and_must_come_back() {
    let _context = TestContext::new();
    let (a, first, second) = (alloc(2), stream(), stream());
    let (fork, join) = (event(), event());
    let (mut status, mut id, mut other_id) = (9, 0, 0);
    // SAFETY: the address has 2 bytes, the results are writable.
    unsafe {
        begin(first);
        assert_eq!(cuEventRecord(fork, first), OK);
        assert_eq!(cuStreamWaitEvent(second, fork, 0), OK);
        assert_eq!(cuStreamGetCaptureInfo(first, &mut status, &mut id), OK);
        assert_eq!(
            cuStreamGetCaptureInfo(second, &mut status, &mut other_id),
            OK
        );
        assert!(status == 1 && id == other_id && id != 0);
        assert_eq!(cuMemsetD8Async(a, 3, 1, second), OK);
        assert_eq!(cuMemsetD8Async(a + 1, 4, 1, first), OK);
        assert_eq!(cuEventRecord(join, second), OK);
        assert_eq!(cuStreamWaitEvent(first, join, 0), OK);
        let executable = executable(first);
        assert_eq!(cuStreamIsCapturing(second, &mut status), OK);
        assert_eq!(status, 0);
        assert_eq!(cuGraphLaunch(executable, second), OK);
        assert_eq!(read(a, 2), [3, 4]);

        begin(first);
        assert_eq!(cuEventRecord(fork, first), OK);
        assert_eq!(cuStreamWaitEvent(second, fork, 0), OK);
        let (code, _) = end(second);
        assert_eq!(code, Code::STREAM_CAPTURE_UNMATCHED.0);
        end_spoiled(first);

        begin(first);
        assert_eq!(cuEventRecord(fork, first), OK);
        assert_eq!(cuStreamWaitEvent(second, fork, 0), OK);
        assert_eq!(cuMemsetD8Async(a, 3, 1, second), OK);
        assert_eq!(end(first), (Code::STREAM_CAPTURE_UNJOINED.0, 0));
    }
}

#[test]
fn dependencies_out_of_a_capture_are_refused() {
    let _context = TestContext::new();
    let (first, second, outside, inside) = (stream(), stream(), event(), event());
    // SAFETY: no pointers are passed.
    unsafe {
        assert_eq!(cuEventRecord(outside, second), OK);
        begin(first);
        let isolated = cuStreamWaitEvent(first, outside, 0);
        assert_eq!(isolated, Code::STREAM_CAPTURE_ISOLATION.0);
        let again = cuEventRecord(outside, first);
        assert_eq!(again, Code::STREAM_CAPTURE_INVALIDATED.0);
        end_spoiled(first);

        begin(first);
        assert_eq!(cuEventRecord(inside, first), OK);
        for query in [cuEventQuery, cuEventSynchronize] {
            assert_eq!(query(inside), Code::CAPTURED_EVENT.0);
        }
        assert_eq!(end(first).0, OK);
        // Of a capture that has ended, too.
        let late = cuStreamWaitEvent(second, inside, 0);
        assert_eq!(late, Code::CAPTURED_EVENT.0);
        assert_eq!(cuEventRecord(inside, first), OK);
        assert_eq!(cuEventQuery(inside), OK);

        begin(first);
        begin(second);
        assert_eq!(cuEventRecord(inside, first), OK);
        let merged = cuStreamWaitEvent(second, inside, 0);
        assert_eq!(merged, Code::STREAM_CAPTURE_MERGE.0);
        end_spoiled(first);
        end_spoiled(second);
    }
}

type Call<'a> = (&'static str, Box<dyn FnMut() -> u32 + 'a>);

#[test]
fn what_would_wait_or_allocate_spoils_the_capture() {
    let _context = TestContext::new();
    let (stream, event, address) = (stream(), event(), alloc(8));
    let (mut pointer, mut host) = (0, null_mut());
    let mut byte = 0_u8;
    // SAFETY: the results are writable and have the bytes that are copied.
    let mut calls: Vec<Call> = unsafe {
        vec![
            ("sync", Box::new(|| cuStreamSynchronize(stream))),
            ("query", Box::new(|| cuStreamQuery(stream))),
            ("destroy", Box::new(|| cuStreamDestroy_v2(stream))),
            ("context", Box::new(|| cuCtxSynchronize())),
            ("event", Box::new(|| cuEventQuery(event))),
            (
                "alloc",
                Box::new(move || cuMemAlloc_v2(&raw mut pointer, 8)),
            ),
            (
                "pool",
                Box::new(move || cuMemAllocAsync(&raw mut pointer, 8, stream)),
            ),
            ("free", Box::new(|| cuMemFree_v2(address))),
            (
                "host",
                Box::new(move || cuMemAllocHost_v2(&raw mut host, 8)),
            ),
        ]
    };
    for (name, call) in &mut calls {
        begin(stream);
        assert_eq!(call(), Code::STREAM_CAPTURE_UNSUPPORTED.0, "{name}");
        end_spoiled(stream);
    }
    // The legacy stream would have to wait for the captured one.
    // SAFETY: as above.
    let mut legacy: Vec<Call> = unsafe {
        vec![
            ("fill", Box::new(|| cuMemsetD8_v2(address, 1, 1))),
            ("fill on it", Box::new(|| cuMemsetD8Async(address, 1, 1, 0))),
            (
                "copy",
                Box::new(move || cuMemcpyDtoH_v2(&raw mut byte, address, 1)),
            ),
            ("sync", Box::new(|| cuStreamSynchronize(0))),
            ("record", Box::new(|| cuEventRecord(event, 1))),
        ]
    };
    for (name, call) in &mut legacy {
        begin(stream);
        assert_eq!(call(), Code::STREAM_CAPTURE_IMPLICIT.0, "{name}");
        end_spoiled(stream);
    }
    // SAFETY: no pointers but results, which are writable.
    unsafe {
        let refused = cuStreamBeginCapture_v2(0, THREAD_LOCAL);
        assert_eq!(refused, Code::STREAM_CAPTURE_UNSUPPORTED.0);
        assert_eq!(end(stream).0, Code::ILLEGAL_STATE.0);
        begin(stream);
        let twice = cuStreamBeginCapture_v2(stream, THREAD_LOCAL);
        assert_eq!(twice, Code::ILLEGAL_STATE.0);
        assert_eq!(end(stream).0, OK);
    }
}

#[test]
fn a_relaxed_thread_may_allocate_and_load() {
    let _context = TestContext::new();
    let stream = stream();
    let mut mode = 2;
    // SAFETY: the results are writable.
    unsafe {
        begin(stream);
        assert_eq!(cuThreadExchangeStreamCaptureMode(&mut mode), OK);
        assert_eq!(mode, 0, "the mode before");
        alloc(8);
        assert_eq!(cuThreadExchangeStreamCaptureMode(&mut mode), OK);
        assert_eq!(mode, 2);
        assert_eq!(end(stream).0, OK);
        mode = 3;
        let unknown = cuThreadExchangeStreamCaptureMode(&mut mode);
        assert_eq!(unknown, Code::INVALID_VALUE.0);
    }
}

#[test]
fn a_thread_captures_its_own_stream_alone() {
    const PER_THREAD: usize = 2;
    let context = TestContext::new();
    let a = alloc(2);
    begin(PER_THREAD);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: the address has 2 bytes.
            unsafe {
                assert_eq!(cuCtxSetCurrent(context.handle()), OK);
                assert_eq!(cuMemsetD8Async(a, 7, 1, PER_THREAD), OK);
            }
        });
    });
    // SAFETY: the address has 2 bytes.
    unsafe {
        assert_eq!(cuMemsetD8Async(a + 1, 8, 1, PER_THREAD), OK);
        let executable = executable(PER_THREAD);
        assert_eq!(read(a, 1), [7], "the other thread's was not captured");
        assert_eq!(cuGraphLaunch(executable, PER_THREAD), OK);
        assert_eq!(read(a, 2), [7, 8]);
    }
}

#[test]
fn another_thread_cannot_end_a_capture() {
    let context = TestContext::new();
    let stream = stream();
    begin(stream);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: no pointer is passed.
            assert_eq!(unsafe { cuCtxSetCurrent(context.handle()) }, OK);
            assert_eq!(end(stream), (Code::STREAM_CAPTURE_WRONG_THREAD.0, 0));
        });
    });
    assert_eq!(end(stream).0, OK);
}

#[test]
fn a_kernel_takes_its_parameters_when_it_is_captured() {
    const TEXT: &str = ".version 7.0\n.target sm_75\n.address_size 64\n\
        .visible .entry put(.param .u64 where, .param .u32 what)\n{\n\
        .reg .b64 %rd<2>;\n.reg .b32 %r<2>;\n\
        ld.param.u64 %rd1, [where];\nld.param.u32 %r1, [what];\n\
        st.global.u32 [%rd1], %r1;\nret;\n}\n\0";
    let _context = TestContext::new();
    let (mut module, mut put, mut address, stream) = (0, 0, alloc(4), stream());
    let place = address;
    let mut what = 17_u32;
    let mut parameters = [(&raw mut address).cast::<u8>(), (&raw mut what).cast()];
    // SAFETY: the texts end in a zero; the parameters are the kernel's.
    unsafe {
        assert_eq!(cuModuleLoadData(&mut module, TEXT.as_ptr()), OK);
        let name = c"put".as_ptr().cast();
        assert_eq!(cuModuleGetFunction(&mut put, module, name), OK);
        assert_eq!(cuMemsetD8_v2(place, 0, 4), OK);
        begin(stream);
        let launched = cuLaunchKernel(
            put,
            1,
            1,
            1,
            1,
            1,
            1,
            0,
            stream,
            parameters.as_mut_ptr(),
            null_mut(),
        );
        assert_eq!(launched, OK);
        parameters[1].cast::<u32>().write(99);
        parameters[0].cast::<u64>().write(0);
        let executable = executable(stream);
        assert_eq!(read(place, 4), [0; 4]);
        assert_eq!(cuGraphLaunch(executable, stream), OK);
        assert_eq!(read(place, 4), 17_u32.to_le_bytes());
        assert_eq!(cuModuleUnload(module), OK);
        assert_eq!(cuGraphLaunch(executable, stream), Code::INVALID_HANDLE.0);
    }
}
