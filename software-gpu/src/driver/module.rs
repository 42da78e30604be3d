//! Modules: PTX text in, functions and variables out. The JIT's log goes where the client wants it.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::capture::refuse_unsafe;
use super::context::{self, current};
use super::error::{Code, Outcome};
use super::ffi::{bytes_of, lock, put, put_if_wanted, put_text, str_of};
use super::function::{self, Function};
use super::handles::{Handle, Registry, fresh};
use super::report;
use crate::Module;

/// A loaded module and whose it is.
struct Loaded {
    context: Handle,
    module: Module,
    /// The functions asked for so far: asking again gives the same handle.
    functions: Mutex<BTreeMap<String, Handle>>,
}

static MODULES: Registry<Loaded> = Registry::new();

/// The module, if its context is well.
fn well(handle: Handle) -> Outcome<Arc<Loaded>> {
    current()?;
    let module = MODULES.get(handle)?;
    context::lookup(module.context)?.well()?;
    Ok(module)
}

/// Ends the modules of a context and their functions.
pub(super) fn unload_of(context: Handle) {
    function::remove_where(|function| function.context == context);
    MODULES.remove_where(|module| module.context == context);
}

const ELF: &[u8] = b"\x7fELF";
const FATBIN: &[u8] = b"\x50\xed\x55\xba";

/// Loads an image into the current context. An error comes with the lines of the JIT's log.
fn load(image: &[u8]) -> Result<Handle, (Code, String)> {
    let plain = |code: Code| (code, String::new());
    let context = current().map_err(plain)?;
    refuse_unsafe().map_err(plain)?;
    if image.starts_with(ELF) || image.starts_with(FATBIN) {
        let text = "the image is machine code for a real GPU; this device runs PTX text alone";
        return Err((Code::NO_BINARY_FOR_GPU, text.to_owned()));
    }
    if image.iter().all(u8::is_ascii_whitespace) {
        let text = "the image is empty; this device runs PTX text";
        return Err((Code::INVALID_IMAGE, text.to_owned()));
    }
    let loaded = context.device().run(|gpu| Module::load(image, gpu));
    let module = loaded.map_err(|error| (Code::from(&error), error.to_string()))?;
    let handle = fresh();
    let loaded = Loaded {
        context: context.handle,
        module,
        functions: Mutex::default(),
    };
    MODULES.insert(handle, Arc::new(loaded));
    Ok(handle)
}

/// Loads an image for a client that has no buffer for the log, which goes to stderr then.
///
/// # Safety
/// `out` is null or writable.
unsafe fn load_and_say(out: *mut usize, image: &[u8]) -> Outcome {
    if out.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    let handle = load(image).map_err(|(code, log)| {
        if !log.is_empty() {
            report::say(&log);
            report::remember(log);
        }
        code
    })?;
    // SAFETY: not null, and so writable.
    unsafe { put(out, handle) }
}

pub(super) unsafe fn cuModuleLoad(out: *mut usize, path: *const u8) -> Outcome {
    // SAFETY: null or a C string, by the driver API's contract.
    let path = unsafe { str_of(path) }?;
    let image = std::fs::read(path).map_err(|error| {
        let text = format!("cannot read the module {path}: {error}");
        report::say(&text);
        report::remember(text);
        Code::FILE_NOT_FOUND
    })?;
    // SAFETY: passed on unchanged.
    unsafe { load_and_say(out, &image) }
}

pub(super) unsafe fn cuModuleLoadData(out: *mut usize, image: *const u8) -> Outcome {
    // SAFETY: PTX text ends in a zero byte, and binary images have one early. `out` as it came.
    unsafe { load_and_say(out, bytes_of(image)?) }
}

pub(super) unsafe fn cuModuleLoadFatBinary(out: *mut usize, image: *const u8) -> Outcome {
    // SAFETY: passed on unchanged.
    unsafe { cuModuleLoadData(out, image) }
}

/// A log buffer of the client.
#[derive(Clone, Copy)]
struct LogBuffer {
    start: *mut u8,
    size: usize,
    /// Where in the option values the bytes written are told.
    told_at: Option<usize>,
}

impl LogBuffer {
    const NONE: LogBuffer = LogBuffer {
        start: std::ptr::null_mut(),
        size: 0,
        told_at: None,
    };

    /// Writes the log, cut to fit, and gives the bytes that it takes: as the real driver counts, the
    /// text without its zero, or the whole buffer where it is cut.
    ///
    /// # Safety
    /// The buffer has the size that the client said.
    unsafe fn write(&self, log: &str) -> usize {
        // SAFETY: the caller's promise.
        match unsafe { put_text(self.start, self.size, log) } {
            Ok(()) => log.len().min(self.size),
            Err(_) => 0,
        }
    }
}

pub(super) unsafe fn cuModuleLoadDataEx(
    out: *mut usize,
    image: *const u8,
    n_options: u32,
    options: *mut u32,
    values: *mut *mut u8,
) -> Outcome {
    let n_options = n_options as usize;
    if out.is_null() || (n_options > 0 && (options.is_null() || values.is_null())) {
        return Err(Code::INVALID_VALUE);
    }
    let (mut info, mut error) = (LogBuffer::NONE, LogBuffer::NONE);
    let mut wall_time = None;
    for index in 0..n_options {
        // SAFETY: both lists have `n_options` entries, by the driver API's contract.
        let (option, value) = unsafe { (*options.add(index), *values.add(index)) };
        // A size is in the pointer itself; its upper half is not always set.
        let size = value.addr() & 0xffff_ffff;
        match option {
            2 => wall_time = Some(index),
            3 => info.start = value,
            4 => (info.size, info.told_at) = (size, Some(index)),
            5 => error.start = value,
            6 => (error.size, error.told_at) = (size, Some(index)),
            // Tuning, target and debugging: nothing that this JIT does another way.
            0 | 1 | 7..=40 => {}
            _ => return Err(Code::INVALID_VALUE),
        }
    }
    let started = Instant::now();
    // SAFETY: as for `cuModuleLoadData`.
    let loaded = load(unsafe { bytes_of(image) }?);
    let log = loaded.as_ref().err().map_or("", |(_, log)| log.as_str());
    // SAFETY: the client's buffers have the sizes that it said, and its value list is writable.
    unsafe {
        for (buffer, text) in [(info, ""), (error, log)] {
            let written = buffer.write(text);
            if let Some(index) = buffer.told_at {
                *values.add(index) = std::ptr::without_provenance_mut(written);
            }
        }
        if let Some(index) = wall_time {
            let milliseconds = started.elapsed().as_secs_f32() * 1e3;
            let bits = milliseconds.to_bits() as usize;
            *values.add(index) = std::ptr::without_provenance_mut(bits);
        }
    }
    let handle = loaded.map_err(|(code, log)| {
        if !log.is_empty() {
            if error.start.is_null() {
                report::say(&log);
            }
            report::remember(log);
        }
        code
    })?;
    // SAFETY: not null, and so writable by the driver API's contract.
    unsafe { put(out, handle) }
}

pub(super) fn cuModuleUnload(handle: usize) -> Outcome {
    well(handle)?;
    refuse_unsafe()?;
    function::remove_where(|function| function.module == handle);
    MODULES.remove(handle).map(drop)
}

pub(super) unsafe fn cuModuleGetFunction(
    out: *mut usize,
    handle: usize,
    name: *const u8,
) -> Outcome {
    let loaded = well(handle)?;
    // SAFETY: null or a C string, by the driver API's contract.
    let name = unsafe { str_of(name) }?;
    if out.is_null() || name.is_empty() {
        return Err(Code::INVALID_VALUE);
    }
    let kernel = loaded.module.kernel(name).ok_or(Code::NOT_FOUND)?;
    let mut functions = lock(&loaded.functions);
    let function = match functions.get(name) {
        Some(function) => *function,
        None => {
            let c_name = CString::new(name).map_err(|_| Code::INVALID_VALUE)?;
            let function = Function::new(loaded.context, handle, kernel, c_name);
            let function = function::insert(function);
            functions.insert(name.to_owned(), function);
            function
        }
    };
    // SAFETY: not null, and so writable by the driver API's contract.
    unsafe { put(out, function) }
}

pub(super) unsafe fn cuModuleGetGlobal_v2(
    out: *mut u64,
    bytes: *mut usize,
    handle: usize,
    name: *const u8,
) -> Outcome {
    let loaded = well(handle)?;
    // SAFETY: null or a C string, by the driver API's contract.
    let name = unsafe { str_of(name) }?;
    let (address, size) = loaded.module.global(name).ok_or(Code::NOT_FOUND)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe {
        put_if_wanted(out, address);
        put_if_wanted(bytes, size as usize);
    }
    Ok(())
}

pub(super) unsafe fn cuModuleGetFunctionCount(out: *mut u32, handle: usize) -> Outcome {
    let count = well(handle)?.module.kernels().count();
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, count as u32) }
}
