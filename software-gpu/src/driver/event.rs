//! Events: real time stamps, taken when the work before them is done, which is at once.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::capture::{self, Point};
use super::context;
use super::error::{Code, Outcome};
use super::ffi::{lock, put};
use super::handles::{Handle, Registry, fresh};
use super::overlap;
use super::stream;

const DISABLE_TIMING: u32 = 2;
const ALL_FLAGS: u32 = 7;

/// An event and when it was last recorded.
struct Event {
    context: Handle,
    flags: u32,
    recorded: Mutex<Option<Instant>>,
    /// Where in a capture it was last recorded, if it was there.
    captured: Mutex<Option<Point>>,
}

static EVENTS: Registry<Event> = Registry::new();

pub(super) fn destroy_of(context: Handle) {
    EVENTS.remove_where(|event| event.context == context);
}

/// Where in a capture the event was last recorded; none for one that has a time, or nothing.
pub(super) fn captured_at(handle: Handle) -> Outcome<Option<Point>> {
    Ok(lock(&EVENTS.get(handle)?.captured).clone())
}

/// The event, if its context is well.
fn well(handle: Handle) -> Outcome<Arc<Event>> {
    context::current()?;
    let event = EVENTS.get(handle)?;
    context::lookup(event.context)?.well()?;
    if lock(&event.captured).is_some() {
        return Err(Code::CAPTURED_EVENT);
    }
    Ok(event)
}

pub(super) unsafe fn cuEventCreate(out: *mut usize, flags: u32) -> Outcome {
    let context = context::current()?;
    if out.is_null() || flags & !ALL_FLAGS != 0 {
        return Err(Code::INVALID_VALUE);
    }
    let event = Event {
        context: context.handle,
        flags,
        recorded: Mutex::default(),
        captured: Mutex::default(),
    };
    let handle = fresh();
    EVENTS.insert(handle, Arc::new(event));
    // SAFETY: not null, and so writable by the driver API's contract.
    unsafe { put(out, handle) }
}

pub(super) fn cuEventRecord(handle: usize, on: usize) -> Outcome {
    let context = stream::context_of(on)?;
    let event = EVENTS.get(handle)?;
    if event.context != context.handle {
        return Err(Code::INVALID_HANDLE);
    }
    let point = capture::point(on, &context)?;
    if point.is_none() {
        *lock(&event.recorded) = Some(Instant::now());
    }
    *lock(&event.captured) = point;
    Ok(())
}

pub(super) fn cuEventRecordWithFlags(handle: usize, on: usize, flags: u32) -> Outcome {
    match flags {
        0 => cuEventRecord(handle, on),
        // A time of its own at each launch of the graph.
        stream::EXTERNAL => {
            let event = EVENTS.get(handle)?;
            if event.context != stream::context_of(on)?.handle {
                return Err(Code::INVALID_HANDLE);
            }
            capture::submit(on, move || {
                *lock(&event.recorded) = Some(Instant::now());
                *lock(&event.captured) = None;
                Ok(())
            })
        }
        _ => Err(Code::INVALID_VALUE),
    }
}

/// An event that was never recorded counts as done, as the driver API has it.
pub(super) fn cuEventQuery(handle: usize) -> Outcome {
    well(handle)?;
    capture::refuse_unsafe()
}

pub(super) fn cuEventSynchronize(handle: usize) -> Outcome {
    well(handle)?;
    capture::refuse_unsafe()?;
    if let Ok(context) = context::current() {
        overlap::forget_all(&context);
    }
    Ok(())
}

pub(super) fn cuEventDestroy_v2(handle: usize) -> Outcome {
    context::current()?;
    EVENTS.remove(handle).map(drop)
}

pub(super) unsafe fn cuEventElapsedTime(out: *mut f32, start: usize, end: usize) -> Outcome {
    let (start, end) = (well(start)?, well(end)?);
    let timed = |event: &Event| event.flags & DISABLE_TIMING == 0;
    if start.context != end.context || !timed(&start) || !timed(&end) {
        return Err(Code::INVALID_HANDLE);
    }
    let from = lock(&start.recorded).ok_or(Code::INVALID_HANDLE)?;
    let to = lock(&end.recorded).ok_or(Code::INVALID_HANDLE)?;
    let seconds = match to.checked_duration_since(from) {
        Some(later) => later.as_secs_f64(),
        None => -from.duration_since(to).as_secs_f64(),
    };
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, (seconds * 1e3) as f32) }
}

pub(super) unsafe fn cuEventElapsedTime_v2(out: *mut f32, start: usize, end: usize) -> Outcome {
    // SAFETY: passed on unchanged.
    unsafe { cuEventElapsedTime(out, start, end) }
}
