//! Streams. Work is done when its call returns, so a stream is never behind: what is left to get right
//! is whose it is, what it is called and in which context its calls fail.

use std::sync::Arc;

use super::capture;
use super::context::{self, Context};
use super::error::{Code, Outcome};
use super::ffi::put;
use super::handles::{Handle, Registry, fresh};
use super::overlap;

/// Priorities as an H100 has them: a smaller number goes first.
pub(super) const LEAST_PRIORITY: i32 = 0;
pub(super) const GREATEST_PRIORITY: i32 = -5;

/// The streams that every context has, and 0 for the first of them.
pub(super) const LEGACY: Handle = 1;
pub(super) const PER_THREAD: Handle = 2;

/// A stream that was created.
pub(super) struct Stream {
    context: Handle,
    flags: u32,
    priority: i32,
}

/// `CU_EVENT_WAIT_EXTERNAL` and `CU_EVENT_RECORD_EXTERNAL`.
pub(super) const EXTERNAL: u32 = 1;

/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: u32 = 1;

static STREAMS: Registry<Stream> = Registry::new();

/// True for the streams that every context has: the default, the legacy and the thread's own.
fn is_built_in(handle: Handle) -> bool {
    handle <= PER_THREAD
}

/// Whether the legacy stream and this one wait for each other.
pub(super) fn is_blocking(handle: Handle) -> bool {
    STREAMS
        .get(handle)
        .is_ok_and(|stream| stream.flags & NON_BLOCKING == 0)
}

/// The context that a stream's work goes to, if that is well.
pub(super) fn context_of(handle: Handle) -> Outcome<Arc<Context>> {
    if is_built_in(handle) {
        return context::current();
    }
    let owner = STREAMS.get(handle)?.context;
    context::lookup(owner)?.well()
}

/// The current context, to do work in on that stream, which must be its own.
pub(super) fn to_work_in(handle: Handle) -> Outcome<Arc<Context>> {
    let current = context::current()?;
    if !is_built_in(handle) && STREAMS.get(handle)?.context != current.handle {
        return Err(Code::INVALID_HANDLE);
    }
    Ok(current)
}

pub(super) fn destroy_of(context: Handle) {
    STREAMS.remove_where(|stream| stream.context == context);
}

pub(super) unsafe fn cuStreamCreate(out: *mut usize, flags: u32) -> Outcome {
    // SAFETY: passed on unchanged.
    unsafe { cuStreamCreateWithPriority(out, flags, LEAST_PRIORITY) }
}

pub(super) unsafe fn cuStreamCreateWithPriority(
    out: *mut usize,
    flags: u32,
    priority: i32,
) -> Outcome {
    let context = context::current()?;
    if out.is_null() || flags > 1 {
        return Err(Code::INVALID_VALUE);
    }
    let stream = Stream {
        context: context.handle,
        flags,
        priority: priority.clamp(GREATEST_PRIORITY, LEAST_PRIORITY),
    };
    let handle = fresh();
    STREAMS.insert(handle, Arc::new(stream));
    // SAFETY: not null, and so writable by the driver API's contract.
    unsafe { put(out, handle) }
}

pub(super) fn cuStreamDestroy_v2(handle: usize) -> Outcome {
    let context = context::current()?;
    if !is_built_in(handle) {
        capture::refuse_captured(handle, &context)?;
    }
    STREAMS.remove(handle).map(drop)
}

pub(super) unsafe fn cuStreamGetPriority(handle: usize, priority: *mut i32) -> Outcome {
    context_of(handle)?;
    let value = match is_built_in(handle) {
        true => LEAST_PRIORITY,
        false => STREAMS.get(handle)?.priority,
    };
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(priority, value) }
}

pub(super) unsafe fn cuStreamGetFlags(handle: usize, flags: *mut u32) -> Outcome {
    context_of(handle)?;
    let value = match is_built_in(handle) {
        true => 0,
        false => STREAMS.get(handle)?.flags,
    };
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(flags, value) }
}

pub(super) unsafe fn cuStreamGetId(handle: usize, id: *mut u64) -> Outcome {
    let context = context_of(handle)?;
    // A default stream's number must differ from context to context.
    let value = match is_built_in(handle) {
        true => context.handle + handle,
        false => handle,
    };
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(id, value as u64) }
}

pub(super) unsafe fn cuStreamGetCtx(handle: usize, out: *mut usize) -> Outcome {
    let context = context_of(handle)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, context.handle) }
}

/// The event's work is done, as all work is: what is left is which capture the stream is then in.
pub(super) fn cuStreamWaitEvent(handle: usize, event: usize, flags: u32) -> Outcome {
    let context = context_of(handle)?;
    let at = super::event::captured_at(event)?;
    match flags {
        0 => capture::wait(handle, &context, at),
        // An event from outside the graph, at each launch.
        EXTERNAL => capture::submit(handle, || Ok(())),
        _ => Err(Code::INVALID_VALUE),
    }
}

pub(super) fn cuStreamQuery(handle: usize) -> Outcome {
    capture::refuse_captured(handle, &*context_of(handle)?)
}

pub(super) fn cuStreamSynchronize(handle: usize) -> Outcome {
    let context = context_of(handle)?;
    capture::refuse_captured(handle, &context)?;
    overlap::forget_all(&context);
    Ok(())
}

/// Runs the function at once, on the caller's thread: the work before it is done.
pub(super) unsafe fn cuLaunchHostFunc(
    handle: usize,
    callback: *const u8,
    user_data: *mut u8,
) -> Outcome {
    if callback.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: by the driver API's contract it is a `CUhostFn`, and not null.
    let callback: unsafe extern "C" fn(*mut u8) = unsafe { std::mem::transmute(callback) };
    let user_data = user_data.expose_provenance();
    capture::submit(handle, move || {
        // SAFETY: the caller passes data that goes with the function, for as often as it is called.
        unsafe { callback(std::ptr::with_exposed_provenance_mut(user_data)) };
        Ok(())
    })
}

pub(super) unsafe fn cuStreamAddCallback(
    handle: usize,
    callback: *const u8,
    user_data: *mut u8,
    flags: u32,
) -> Outcome {
    let context = to_work_in(handle)?;
    capture::refuse_captured(handle, &context)?;
    if callback.is_null() || flags != 0 {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: by the driver API's contract it is a `CUstreamCallback`, and not null.
    let callback: unsafe extern "C" fn(usize, u32, *mut u8) =
        unsafe { std::mem::transmute(callback) };
    // SAFETY: the caller passes data that goes with the function.
    unsafe { callback(handle, 0, user_data) };
    Ok(())
}
