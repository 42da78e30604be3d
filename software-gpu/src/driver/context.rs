//! Contexts: what a thread works in, what its memory and modules belong to, and what is lost with a
//! fault.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::error::{Code, Outcome};
use super::ffi::{lock, put, put_if_wanted};
use super::handles::{Handle, Registry, fresh};
use super::platform::{self, Device};
use super::settings::Settings;
use super::{capture, event, graph, module, overlap, report, stream};

/// A context, primary or created.
pub(super) struct Context {
    pub handle: Handle,
    ordinal: i32,
    is_primary: bool,
    alive: AtomicBool,
    flags: AtomicU32,
    /// The fault that this context was lost by, and its words.
    lost: Mutex<Option<(Code, String)>>,
    pub settings: Mutex<Settings>,
    /// Device memory that goes with the context.
    allocations: Mutex<BTreeSet<u64>>,
}

/// The bits that `cuCtxCreate` takes.
const FLAGS_MASK: u32 = 0xff;

impl Context {
    fn new(ordinal: i32, flags: u32, is_primary: bool) -> Arc<Context> {
        Arc::new(Context {
            handle: fresh(),
            ordinal,
            is_primary,
            alive: AtomicBool::new(!is_primary),
            flags: AtomicU32::new(flags),
            lost: Mutex::default(),
            settings: Mutex::default(),
            allocations: Mutex::default(),
        })
    }

    /// A device's primary context, asleep until it is retained.
    pub fn primary(ordinal: i32) -> Arc<Context> {
        let context = Context::new(ordinal, 0, true);
        CONTEXTS.insert(context.handle, context.clone());
        context
    }

    pub fn device(&self) -> &'static Device {
        platform::device(self.ordinal).expect("a context is made for a device that exists")
    }

    /// Loses the context: every later call in it gives this code.
    pub fn lose(&self, code: Code, words: &str) {
        *lock(&self.lost) = Some((code, words.to_owned()));
    }

    /// The context, if it can still be worked in.
    pub fn well(self: Arc<Context>) -> Outcome<Arc<Context>> {
        let lost = lock(&self.lost).clone();
        match lost {
            None => Ok(self),
            Some((code, words)) => {
                report::remember(words);
                Err(code)
            }
        }
    }

    pub fn owns(&self, address: u64) {
        lock(&self.allocations).insert(address);
    }

    /// Ends everything that lives in the context, and forgets its fault.
    fn clear(&self) {
        capture::forget(self.handle);
        graph::destroy_of(self.handle);
        event::destroy_of(self.handle);
        stream::destroy_of(self.handle);
        module::unload_of(self.handle);
        let allocations = std::mem::take(&mut *lock(&self.allocations));
        let gpu = &self.device().gpu;
        for address in allocations {
            // One that was freed already, by whatever context, is no longer there: fine.
            let _ = gpu.free(address);
        }
        *lock(&self.lost) = None;
    }
}

static CONTEXTS: Registry<Context> = Registry::new();

thread_local! {
    /// The thread's contexts, the current one last; 0 where none was set.
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// The context of that handle, if it is alive.
pub(super) fn lookup(handle: Handle) -> Outcome<Arc<Context>> {
    platform::devices()?;
    let context = CONTEXTS.get(handle).map_err(|_| Code::INVALID_CONTEXT)?;
    if !context.alive.load(Ordering::SeqCst) {
        return Err(Code::CONTEXT_IS_DESTROYED);
    }
    Ok(context)
}

/// The thread's context, lost or not.
fn current_handle() -> Handle {
    STACK.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

/// The thread's context, whatever became of it.
pub(super) fn current_if_lost() -> Outcome<Arc<Context>> {
    platform::devices()?;
    match current_handle() {
        0 => Err(Code::INVALID_CONTEXT),
        // It was alive when it was set.
        handle => lookup(handle).map_err(|_| Code::CONTEXT_IS_DESTROYED),
    }
}

/// The thread's context, to work in.
pub(super) fn current() -> Outcome<Arc<Context>> {
    current_if_lost()?.well()
}

/// Does something with that context as the thread's.
pub(super) fn within(handle: Handle, body: impl FnOnce() -> Outcome) -> Outcome {
    /// Takes it away again, also from under a panic.
    struct Pushed;
    impl Drop for Pushed {
        fn drop(&mut self) {
            STACK.with_borrow_mut(Vec::pop);
        }
    }
    lookup(handle)?;
    STACK.with_borrow_mut(|stack| stack.push(handle));
    let _pushed = Pushed;
    body()
}

pub(super) unsafe fn cuDevicePrimaryCtxRetain(pctx: *mut usize, dev: i32) -> Outcome {
    let device = platform::device(dev)?;
    if pctx.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    let mut primary_use = lock(&device.primary_use);
    primary_use.retained += 1;
    device.primary.alive.store(true, Ordering::SeqCst);
    // SAFETY: not null, and so writable by the driver API's contract.
    unsafe { put(pctx, device.primary.handle) }
}

pub(super) fn cuDevicePrimaryCtxRelease_v2(dev: i32) -> Outcome {
    let device = platform::device(dev)?;
    let mut primary_use = lock(&device.primary_use);
    match primary_use.retained {
        0 => return Err(Code::INVALID_CONTEXT),
        1 => {
            device.primary.alive.store(false, Ordering::SeqCst);
            device.primary.clear();
        }
        _ => {}
    }
    primary_use.retained -= 1;
    Ok(())
}

pub(super) fn cuDevicePrimaryCtxReset_v2(dev: i32) -> Outcome {
    let device = platform::device(dev)?;
    let _use = lock(&device.primary_use);
    device.primary.clear();
    Ok(())
}

pub(super) fn cuDevicePrimaryCtxSetFlags_v2(dev: i32, flags: u32) -> Outcome {
    let device = platform::device(dev)?;
    set_flags(&device.primary, flags)
}

pub(super) unsafe fn cuDevicePrimaryCtxGetState(
    dev: i32,
    flags: *mut u32,
    active: *mut i32,
) -> Outcome {
    let device = platform::device(dev)?;
    let alive = device.primary.alive.load(Ordering::SeqCst);
    // SAFETY: null or writable, by the driver API's contract.
    unsafe {
        put_if_wanted(flags, device.primary.flags.load(Ordering::SeqCst));
        put_if_wanted(active, i32::from(alive));
    }
    Ok(())
}

pub(super) unsafe fn cuCtxCreate_v2(pctx: *mut usize, flags: u32, dev: i32) -> Outcome {
    platform::device(dev)?;
    if pctx.is_null() || flags & !FLAGS_MASK != 0 {
        return Err(Code::INVALID_VALUE);
    }
    let context = Context::new(dev, flags, false);
    let handle = context.handle;
    CONTEXTS.insert(handle, context);
    STACK.with_borrow_mut(|stack| stack.push(handle));
    // SAFETY: not null, and so writable by the driver API's contract.
    unsafe { put(pctx, handle) }
}

pub(super) unsafe fn cuCtxCreate_v3(
    pctx: *mut usize,
    params: *mut u8,
    num_params: i32,
    flags: u32,
    dev: i32,
) -> Outcome {
    if !params.is_null() || num_params != 0 {
        return Err(Code::NOT_SUPPORTED);
    }
    // SAFETY: passed on unchanged.
    unsafe { cuCtxCreate_v2(pctx, flags, dev) }
}

pub(super) unsafe fn cuCtxCreate_v4(
    pctx: *mut usize,
    params: *mut u8,
    flags: u32,
    dev: i32,
) -> Outcome {
    // SAFETY: passed on unchanged.
    unsafe { cuCtxCreate_v3(pctx, params, 0, flags, dev) }
}

pub(super) fn cuCtxDestroy_v2(ctx: usize) -> Outcome {
    let context = lookup(ctx)?;
    if context.is_primary {
        return Err(Code::INVALID_CONTEXT);
    }
    context.alive.store(false, Ordering::SeqCst);
    context.clear();
    let _ = CONTEXTS.remove(ctx);
    STACK.with_borrow_mut(|stack| {
        if stack.last() == Some(&ctx) {
            stack.pop();
        }
    });
    Ok(())
}

pub(super) fn cuCtxPushCurrent_v2(ctx: usize) -> Outcome {
    lookup(ctx)?;
    STACK.with_borrow_mut(|stack| stack.push(ctx));
    Ok(())
}

pub(super) unsafe fn cuCtxPopCurrent_v2(pctx: *mut usize) -> Outcome {
    platform::devices()?;
    let popped = STACK
        .with_borrow_mut(Vec::pop)
        .filter(|handle| *handle != 0);
    let popped = popped.ok_or(Code::INVALID_CONTEXT)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put_if_wanted(pctx, popped) };
    Ok(())
}

pub(super) fn cuCtxSetCurrent(ctx: usize) -> Outcome {
    platform::devices()?;
    if ctx != 0 {
        lookup(ctx)?;
    }
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        if ctx != 0 {
            stack.push(ctx);
        }
    });
    Ok(())
}

pub(super) unsafe fn cuCtxGetCurrent(pctx: *mut usize) -> Outcome {
    platform::devices()?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(pctx, current_handle()) }
}

pub(super) unsafe fn cuCtxGetDevice(device: *mut i32) -> Outcome {
    let context = current_if_lost()?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(device, context.ordinal) }
}

pub(super) unsafe fn cuCtxGetFlags(flags: *mut u32) -> Outcome {
    let context = current_if_lost()?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(flags, context.flags.load(Ordering::SeqCst)) }
}

pub(super) fn cuCtxSetFlags(flags: u32) -> Outcome {
    set_flags(&*current()?, flags)
}

fn set_flags(context: &Context, flags: u32) -> Outcome {
    if flags & !FLAGS_MASK != 0 {
        return Err(Code::INVALID_VALUE);
    }
    context.flags.store(flags, Ordering::SeqCst);
    Ok(())
}

pub(super) unsafe fn cuCtxGetId(ctx: usize, id: *mut u64) -> Outcome {
    let context = match ctx {
        0 => current_if_lost()?,
        _ => lookup(ctx)?,
    };
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(id, context.handle as u64) }
}

/// Work is done when its call returns, so there is nothing to wait for but a fault to report.
pub(super) fn cuCtxSynchronize() -> Outcome {
    let context = current()?;
    capture::refuse_in(&context)?;
    overlap::forget_all(&context);
    Ok(())
}

pub(super) unsafe fn cuCtxGetApiVersion(ctx: usize, version: *mut u32) -> Outcome {
    match ctx {
        0 => current_if_lost()?,
        _ => lookup(ctx)?,
    };
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(version, 3020) }
}

pub(super) unsafe fn cuCtxGetStreamPriorityRange(least: *mut i32, greatest: *mut i32) -> Outcome {
    current()?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe {
        put_if_wanted(least, stream::LEAST_PRIORITY);
        put_if_wanted(greatest, stream::GREATEST_PRIORITY);
    }
    Ok(())
}

pub(super) fn cuCtxResetPersistingL2Cache() -> Outcome {
    current().map(drop)
}
