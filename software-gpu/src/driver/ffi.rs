//! The seam to C: no panic crosses it, no null pointer is followed.

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::{Code, Outcome};
use super::report;

/// Runs an entry point's body and turns its outcome into a `CUresult`.
pub(super) fn guard(name: &'static str, body: impl FnOnce() -> Outcome) -> u32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(Code(code))) => code,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            let text = format!("{name} failed inside the software GPU: {text}");
            report::say(&text);
            report::remember(text);
            Code::UNKNOWN.0
        }
    }
}

/// The mutex's content, also after a panic of another holder: every change made under this module's
/// locks is one insertion, removal or assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a result where the caller wants it.
///
/// # Safety
/// `out` is null or writable.
pub(super) unsafe fn put<T>(out: *mut T, value: T) -> Outcome {
    if out.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: not null, and so writable; C callers do not always align what they pass as `void *`.
    unsafe { out.write_unaligned(value) };
    Ok(())
}

/// Writes a result that the caller may not want.
///
/// # Safety
/// `out` is null or writable.
pub(super) unsafe fn put_if_wanted<T>(out: *mut T, value: T) {
    // SAFETY: the caller's promise is `put`'s.
    let _ = unsafe { put(out, value) };
}

/// The bytes of a C string without its zero.
///
/// # Safety
/// `text` is null or ends in a zero byte and lives for `'a`.
pub(super) unsafe fn bytes_of<'a>(text: *const u8) -> Outcome<&'a [u8]> {
    if text.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: not null, and so ends in a zero byte.
    Ok(unsafe { CStr::from_ptr(text.cast::<c_char>()) }.to_bytes())
}

/// A C string that must be UTF-8.
///
/// # Safety
/// As for [`bytes_of`].
pub(super) unsafe fn str_of<'a>(text: *const u8) -> Outcome<&'a str> {
    // SAFETY: the caller's promise.
    std::str::from_utf8(unsafe { bytes_of(text) }?).map_err(|_| Code::INVALID_VALUE)
}

/// Writes text and its zero into a buffer, cut to fit, as `cuDeviceGetName` does.
///
/// # Safety
/// `out` is null or has `len` writable bytes.
pub(super) unsafe fn put_text(out: *mut u8, len: usize, text: &str) -> Outcome {
    if out.is_null() || len == 0 {
        return Err(Code::INVALID_VALUE);
    }
    let kept = text.len().min(len - 1);
    // SAFETY: kept + 1 <= len bytes are writable, and the text is not in the caller's buffer.
    unsafe {
        out.copy_from_nonoverlapping(text.as_ptr(), kept);
        out.add(kept).write(0);
    }
    Ok(())
}

/// Bytes at a host address; none where there are none to read.
///
/// # Safety
/// `from` has `len` readable bytes that nothing writes during `'a`, if `len` is not 0.
pub(super) unsafe fn bytes<'a>(from: *const u8, len: usize) -> Outcome<&'a [u8]> {
    match len {
        0 => Ok(&[]),
        _ if from.is_null() || isize::try_from(len).is_err() => Err(Code::INVALID_VALUE),
        // SAFETY: not null and not too long; the rest is the caller's promise.
        _ => Ok(unsafe { std::slice::from_raw_parts(from, len) }),
    }
}

/// Bytes at a host address, to write.
///
/// # Safety
/// `to` has `len` writable bytes that nothing else touches during `'a`, if `len` is not 0.
pub(super) unsafe fn bytes_mut<'a>(to: *mut u8, len: usize) -> Outcome<&'a mut [u8]> {
    match len {
        0 => Ok(&mut []),
        _ if to.is_null() || isize::try_from(len).is_err() => Err(Code::INVALID_VALUE),
        // SAFETY: not null and not too long; the rest is the caller's promise.
        _ => Ok(unsafe { std::slice::from_raw_parts_mut(to, len) }),
    }
}
