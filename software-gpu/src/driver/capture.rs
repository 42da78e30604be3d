//! Stream capture: work that is written down instead of done, for a graph.
//!
//! A capture begins in one stream. Others join it by waiting for an event that was recorded in it, and have
//! to be waited for in turn before it ends. What the driver API forbids meanwhile is an error here too,
//! by the mode that the capture was begun in and the mode of the calling thread, and most of these spoil
//! the capture: it then gives no graph, and `CUDA_ERROR_STREAM_CAPTURE_INVALIDATED` where it ends.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use super::context::{self, Context};
use super::error::{Code, Outcome};
use super::ffi::{lock, put, put_if_wanted};
use super::graph::{self, Work};
use super::handles::{Handle, fresh};
use super::overlap;
use super::stream::{self, LEGACY, PER_THREAD};

#[cfg(test)]
mod tests;

/// `CU_STREAM_CAPTURE_MODE_*`.
const GLOBAL: u32 = 0;
const RELAXED: u32 = 2;

/// `CU_STREAM_CAPTURE_STATUS_*`.
const NONE: u32 = 0;
const ACTIVE: u32 = 1;
const INVALIDATED: u32 = 2;

/// A stream that can be captured: the thread's own is another one in each thread and context.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Made(Handle),
    PerThread(Handle, ThreadId),
}

/// How much of each stream's captured work comes before.
type Clock = HashMap<Key, usize>;

/// A point in a capture, as an event holds it.
#[derive(Clone)]
pub(super) struct Point {
    capture: Handle,
    clock: Clock,
}

struct Capture {
    context: Handle,
    mode: u32,
    origin: Key,
    thread: ThreadId,
    invalid: bool,
    work: Vec<Work>,
    /// What the work of each stream of the capture comes after, its own work included.
    streams: HashMap<Key, Clock>,
}

impl Capture {
    /// Whether every stream's work comes before the origin's end.
    fn is_joined(&self) -> bool {
        let end = &self.streams[&self.origin];
        let done = |key: &Key| end.get(key).copied().unwrap_or(0);
        self.streams
            .iter()
            .all(|(key, clock)| clock.get(key).copied().unwrap_or(0) <= done(key))
    }

    /// Whether the legacy stream would have to wait for it.
    fn blocks_legacy(&self) -> bool {
        self.streams.keys().any(|key| match key {
            Key::Made(handle) => stream::is_blocking(*handle),
            Key::PerThread(..) => true,
        })
    }
}

static CAPTURES: Mutex<Option<HashMap<Handle, Capture>>> = Mutex::new(None);
/// How many there are: a call pays for captures only while there is one.
static COUNT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD_MODE: Cell<u32> = const { Cell::new(GLOBAL) };
}

/// Does something with all captures; nothing where there is none.
fn with<T>(none: T, body: impl FnOnce(&mut HashMap<Handle, Capture>) -> T) -> T {
    if COUNT.load(Ordering::SeqCst) == 0 {
        return none;
    }
    let mut captures = lock(&CAPTURES);
    match captures.as_mut() {
        Some(captures) => {
            let result = body(captures);
            COUNT.store(captures.len(), Ordering::SeqCst);
            result
        }
        None => none,
    }
}

/// The stream as captures know it; none for the legacy stream, which cannot be captured.
fn key(handle: Handle, context: &Context) -> Option<Key> {
    match handle {
        0 | LEGACY => None,
        PER_THREAD => Some(Key::PerThread(context.handle, thread::current().id())),
        made => Some(Key::Made(made)),
    }
}

fn of_stream(captures: &mut HashMap<Handle, Capture>, key: Key) -> Option<(Handle, &mut Capture)> {
    captures
        .iter_mut()
        .find(|(_, capture)| capture.streams.contains_key(&key))
        .map(|(id, capture)| (*id, capture))
}

/// The legacy stream waits for the context's blocking streams, which it must not while one is captured.
pub(super) fn check_legacy(context: &Context) -> Outcome {
    with(Ok(()), |captures| {
        let mut outcome = Ok(());
        for capture in captures.values_mut() {
            if capture.context == context.handle && capture.blocks_legacy() {
                capture.invalid = true;
                outcome = Err(Code::STREAM_CAPTURE_IMPLICIT);
            }
        }
        outcome
    })
}

/// What every use of a stream goes through first: whether it is being captured.
pub(super) fn check(handle: Handle, context: &Context) -> Outcome<bool> {
    let Some(key) = key(handle, context) else {
        return check_legacy(context).map(|()| false);
    };
    with(Ok(false), |captures| match of_stream(captures, key) {
        None => Ok(false),
        Some((_, capture)) if capture.invalid => Err(Code::STREAM_CAPTURE_INVALIDATED),
        Some(_) => Ok(true),
    })
}

/// As [`check`], for what cannot be captured: it spoils the capture.
pub(super) fn refuse_captured(handle: Handle, context: &Context) -> Outcome {
    let Some(key) = key(handle, context) else {
        return check_legacy(context);
    };
    with(Ok(()), |captures| match of_stream(captures, key) {
        None => Ok(()),
        Some((_, capture)) => {
            capture.invalid = true;
            Err(Code::STREAM_CAPTURE_UNSUPPORTED)
        }
    })
}

/// Calls that may wait for the device or change what captured work stands on, as allocations do, are
/// refused by the modes: those of the thread's own captures and, for all the process, global ones.
pub(super) fn refuse_unsafe() -> Outcome {
    let mode = THREAD_MODE.get();
    if mode == RELAXED {
        return Ok(());
    }
    let here = thread::current().id();
    with(Ok(()), |captures| {
        let mut outcome = Ok(());
        for capture in captures.values_mut() {
            let own = capture.thread == here && capture.mode != RELAXED;
            if own || (mode == GLOBAL && capture.mode == GLOBAL) {
                capture.invalid = true;
                outcome = Err(Code::STREAM_CAPTURE_UNSUPPORTED);
            }
        }
        outcome
    })
}

/// Waiting for a whole context waits for its captured streams, whatever the mode.
pub(super) fn refuse_in(context: &Context) -> Outcome {
    with(Ok(()), |captures| {
        let mut outcome = Ok(());
        for capture in captures.values_mut() {
            if capture.context == context.handle {
                capture.invalid = true;
                outcome = Err(Code::STREAM_CAPTURE_UNSUPPORTED);
            }
        }
        outcome
    })
}

/// Does the work on a stream of the current context, or writes it down where the stream is captured. No launch behind
/// it may begin before it has ended.
pub(super) fn submit(
    handle: Handle,
    work: impl Fn() -> Outcome + Send + Sync + 'static,
) -> Outcome {
    let context = stream::to_work_in(handle)?;
    submit_launch(handle, move || {
        overlap::forget(&context, handle);
        work()
    })
}

/// The same for work that says itself what may run beside it.
pub(super) fn submit_launch(
    handle: Handle,
    work: impl Fn() -> Outcome + Send + Sync + 'static,
) -> Outcome {
    let context = stream::to_work_in(handle)?;
    if !check(handle, &context)? {
        return work();
    }
    let key = key(handle, &context).ok_or(Code::INVALID_HANDLE)?;
    let owner = context.handle;
    let work: Work = Arc::new(move || context::within(owner, &work));
    with(Err(Code::STREAM_CAPTURE_INVALIDATED), |captures| {
        let (_, capture) = of_stream(captures, key).ok_or(Code::STREAM_CAPTURE_INVALIDATED)?;
        capture.work.push(work);
        if let Some(clock) = capture.streams.get_mut(&key) {
            *clock.entry(key).or_default() += 1;
        }
        Ok(())
    })
}

/// Where a captured stream is; none for a stream that is not captured.
pub(super) fn point(handle: Handle, context: &Context) -> Outcome<Option<Point>> {
    if !check(handle, context)? {
        return Ok(None);
    }
    let key = key(handle, context).ok_or(Code::INVALID_HANDLE)?;
    Ok(with(None, |captures| {
        let (id, capture) = of_stream(captures, key)?;
        let clock = capture.streams.get(&key)?.clone();
        Some(Point { capture: id, clock })
    }))
}

/// A stream waits for an event: `at` is where that was recorded, if in a capture.
pub(super) fn wait(handle: Handle, context: &Context, at: Option<Point>) -> Outcome {
    let captured = check(handle, context)?;
    let Some(key) = key(handle, context) else {
        return match at {
            Some(_) => Err(Code::STREAM_CAPTURE_IMPLICIT),
            None => Ok(()),
        };
    };
    let Some(at) = at else {
        return match captured {
            // The graph would stand on work that it does not have.
            true => spoil(key, Code::STREAM_CAPTURE_ISOLATION),
            false => Ok(()),
        };
    };
    with(Err(Code::CAPTURED_EVENT), |captures| {
        let own = of_stream(captures, key).map(|(id, _)| id);
        if own.is_some_and(|own| own != at.capture) {
            for id in own.iter().chain([&at.capture]) {
                if let Some(capture) = captures.get_mut(id) {
                    capture.invalid = true;
                }
            }
            return Err(Code::STREAM_CAPTURE_MERGE);
        }
        let capture = captures.get_mut(&at.capture).ok_or(Code::CAPTURED_EVENT)?;
        if capture.invalid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED);
        }
        let clock = capture.streams.entry(key).or_default();
        for (stream, count) in at.clock {
            let known = clock.entry(stream).or_default();
            *known = count.max(*known);
        }
        Ok(())
    })
}

fn spoil(key: Key, code: Code) -> Outcome {
    with((), |captures| {
        if let Some((_, capture)) = of_stream(captures, key) {
            capture.invalid = true;
        }
    });
    Err(code)
}

/// Forgets the captures of a context that ends.
pub(super) fn forget(context: Handle) {
    with((), |captures| {
        captures.retain(|_, capture| capture.context != context);
    });
}

pub(super) fn cuStreamBeginCapture_v2(handle: usize, mode: u32) -> Outcome {
    let context = stream::context_of(handle)?;
    if mode > RELAXED {
        return Err(Code::INVALID_VALUE);
    }
    let origin = key(handle, &context).ok_or(Code::STREAM_CAPTURE_UNSUPPORTED)?;
    let mut captures = lock(&CAPTURES);
    let captures = captures.get_or_insert_default();
    if of_stream(captures, origin).is_some() {
        return Err(Code::ILLEGAL_STATE);
    }
    let capture = Capture {
        context: context.handle,
        mode,
        origin,
        thread: thread::current().id(),
        invalid: false,
        work: Vec::new(),
        streams: HashMap::from([(origin, Clock::new())]),
    };
    captures.insert(fresh(), capture);
    COUNT.store(captures.len(), Ordering::SeqCst);
    Ok(())
}

pub(super) unsafe fn cuStreamEndCapture(handle: usize, out: *mut usize) -> Outcome {
    let context = stream::context_of(handle)?;
    if out.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    let key = key(handle, &context).ok_or(Code::STREAM_CAPTURE_UNSUPPORTED)?;
    let ended = with(Err(Code::ILLEGAL_STATE), |captures| {
        let (id, capture) = of_stream(captures, key).ok_or(Code::ILLEGAL_STATE)?;
        if capture.origin != key {
            capture.invalid = true;
            return Err(Code::STREAM_CAPTURE_UNMATCHED);
        }
        if capture.mode != RELAXED && capture.thread != thread::current().id() {
            return Err(Code::STREAM_CAPTURE_WRONG_THREAD);
        }
        captures.remove(&id).ok_or(Code::ILLEGAL_STATE)
    });
    let outcome = ended.and_then(|capture| match &capture {
        _ if capture.invalid => Err(Code::STREAM_CAPTURE_INVALIDATED),
        _ if !capture.is_joined() => Err(Code::STREAM_CAPTURE_UNJOINED),
        _ => Ok(graph::insert(context.handle, capture.work)),
    });
    // SAFETY: not null, and so writable by the driver API's contract.
    unsafe { put(out, outcome.unwrap_or(0)) }?;
    outcome.map(drop)
}

/// Status and number of the capture that a stream is in.
fn status_of(handle: Handle) -> Outcome<(u32, u64)> {
    let context = stream::context_of(handle)?;
    let Some(key) = key(handle, &context) else {
        return check_legacy(&context).map(|()| (NONE, 0));
    };
    Ok(with((NONE, 0), |captures| match of_stream(captures, key) {
        None => (NONE, 0),
        Some((id, capture)) if capture.invalid => (INVALIDATED, id as u64),
        Some((id, _)) => (ACTIVE, id as u64),
    }))
}

pub(super) unsafe fn cuStreamIsCapturing(handle: usize, status: *mut u32) -> Outcome {
    let (now, _) = status_of(handle)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(status, now) }
}

pub(super) unsafe fn cuStreamGetCaptureInfo(
    handle: usize,
    status: *mut u32,
    id: *mut u64,
) -> Outcome {
    let (now, number) = status_of(handle)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe {
        put_if_wanted(id, number);
        put(status, now)
    }
}

pub(super) unsafe fn cuThreadExchangeStreamCaptureMode(mode: *mut u32) -> Outcome {
    if mode.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: not null, and so readable by the driver API's contract.
    let wanted = unsafe { mode.read_unaligned() };
    if wanted > RELAXED {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: not null, and so writable by the driver API's contract.
    unsafe { put(mode, THREAD_MODE.replace(wanted)) }
}
