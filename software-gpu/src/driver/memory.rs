//! Device memory: taking, giving back, filling and asking about it.

use super::capture::{self, submit};
use super::context::{self, current};
use super::error::{Code, Outcome};
use super::ffi::{put, put_if_wanted};
use super::host;
use super::platform::{self, Device};
use super::stream::to_work_in;

/// Rows of a pitched allocation start at multiples of this.
const PITCH_ALIGN: usize = 512;

/// The device that an address was allocated on, the current one first.
pub(super) fn device_of(address: u64) -> Option<&'static Device> {
    let current = context::current_if_lost().ok().map(|c| c.device());
    let all = platform::devices().ok()?.iter();
    current
        .into_iter()
        .chain(all)
        .find(|device| device.gpu.allocation(address).is_some())
}

pub(super) unsafe fn cuMemAlloc_v2(out: *mut u64, bytes: usize) -> Outcome {
    current()?;
    capture::refuse_unsafe()?;
    // SAFETY: passed on unchanged.
    unsafe { allocate(out, bytes) }
}

/// # Safety
/// `out` is null or writable.
unsafe fn allocate(out: *mut u64, bytes: usize) -> Outcome {
    let context = current()?;
    if out.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    let address = context.device().gpu.alloc(bytes as u64)?;
    context.owns(address);
    // SAFETY: not null, and so writable by the driver API's contract.
    unsafe { put(out, address) }
}

pub(super) unsafe fn cuMemAllocAsync(out: *mut u64, bytes: usize, stream: usize) -> Outcome {
    let context = to_work_in(stream)?;
    capture::refuse_captured(stream, &context)?;
    // SAFETY: passed on unchanged.
    unsafe { allocate(out, bytes) }
}

pub(super) unsafe fn cuMemAllocFromPoolAsync(
    out: *mut u64,
    bytes: usize,
    pool: usize,
    stream: usize,
) -> Outcome {
    let context = to_work_in(stream)?;
    if pool != context.device().pool {
        return Err(Code::INVALID_HANDLE);
    }
    // SAFETY: passed on unchanged.
    unsafe { cuMemAllocAsync(out, bytes, stream) }
}

pub(super) unsafe fn cuMemAllocPitch_v2(
    out: *mut u64,
    pitch: *mut usize,
    width: usize,
    height: usize,
    element_bytes: u32,
) -> Outcome {
    if pitch.is_null() || !matches!(element_bytes, 4 | 8 | 16) {
        return Err(Code::INVALID_VALUE);
    }
    let row = width
        .checked_next_multiple_of(PITCH_ALIGN)
        .ok_or(Code::INVALID_VALUE)?;
    let bytes = row.checked_mul(height).ok_or(Code::OUT_OF_MEMORY)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe {
        cuMemAlloc_v2(out, bytes)?;
        put(pitch, row)
    }
}

pub(super) fn cuMemFree_v2(address: u64) -> Outcome {
    current()?;
    capture::refuse_unsafe()?;
    release(address)
}

fn release(address: u64) -> Outcome {
    let context = current()?;
    if address == 0 {
        return Ok(());
    }
    // Where nobody has it, the current device says what the address is instead.
    let device = device_of(address).unwrap_or(context.device());
    device.run(|gpu| gpu.free(address))?;
    Ok(())
}

pub(super) fn cuMemFreeAsync(address: u64, stream: usize) -> Outcome {
    let context = to_work_in(stream)?;
    capture::refuse_captured(stream, &context)?;
    if address == 0 {
        return Err(Code::INVALID_VALUE);
    }
    release(address)
}

pub(super) unsafe fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Outcome {
    let (now_free, all) = current()?.device().gpu.memory_info();
    // SAFETY: null or writable, by the driver API's contract.
    unsafe {
        put_if_wanted(free, now_free as usize);
        put_if_wanted(total, all as usize);
    }
    Ok(())
}

pub(super) unsafe fn cuMemGetAddressRange_v2(
    base: *mut u64,
    size: *mut usize,
    address: u64,
) -> Outcome {
    current()?;
    let device = device_of(address).ok_or(Code::NOT_FOUND)?;
    let (start, bytes) = device.gpu.allocation(address).ok_or(Code::NOT_FOUND)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe {
        put_if_wanted(base, start);
        put_if_wanted(size, bytes as usize);
    }
    Ok(())
}

/// Fills `height` rows of `width` patterns, each row `pitch` bytes after the one before.
fn fill(address: u64, pattern: &[u8], (pitch, width, height): (usize, usize, usize)) -> Outcome {
    let context = current()?;
    if width == 0 || height == 0 {
        return Ok(());
    }
    let row_bytes = width.checked_mul(pattern.len());
    let row_bytes = row_bytes.ok_or(Code::INVALID_VALUE)?;
    if height > 1 && (pitch < row_bytes || !pitch.is_multiple_of(pattern.len())) {
        return Err(Code::INVALID_VALUE);
    }
    let device = device_of(address).unwrap_or(context.device());
    device.run(|gpu| {
        for row in 0..height as u64 {
            let offset = row.checked_mul(pitch as u64);
            let start = offset.and_then(|offset| address.checked_add(offset));
            gpu.fill(start.ok_or(Code::INVALID_VALUE)?, pattern, width as u64)?;
        }
        Ok(())
    })
}

macro_rules! fills {
    ($($flat:ident $flat_async:ident $rows:ident $rows_async:ident $pattern:ty;)*) => { $(
        pub(super) fn $flat(address: u64, value: $pattern, n: usize) -> Outcome {
            capture::check_legacy(&*current()?)?;
            fill(address, &value.to_le_bytes(), (0, n, 1))
        }

        pub(super) fn $flat_async(a: u64, value: $pattern, n: usize, stream: usize) -> Outcome {
            submit(stream, move || fill(a, &value.to_le_bytes(), (0, n, 1)))
        }

        pub(super) fn $rows(a: u64, pitch: usize, value: $pattern, w: usize, h: usize) -> Outcome {
            capture::check_legacy(&*current()?)?;
            fill(a, &value.to_le_bytes(), (pitch, w, h))
        }

        pub(super) fn $rows_async(
            address: u64,
            pitch: usize,
            value: $pattern,
            width: usize,
            height: usize,
            stream: usize,
        ) -> Outcome {
            let rows = (pitch, width, height);
            submit(stream, move || fill(address, &value.to_le_bytes(), rows))
        }
    )* };
}

fills! {
    cuMemsetD8_v2 cuMemsetD8Async cuMemsetD2D8_v2 cuMemsetD2D8Async u8;
    cuMemsetD16_v2 cuMemsetD16Async cuMemsetD2D16_v2 cuMemsetD2D16Async u16;
    cuMemsetD32_v2 cuMemsetD32Async cuMemsetD2D32_v2 cuMemsetD2D32Async u32;
}

/// What a pointer attribute is written as.
enum Value {
    U32(u32),
    I32(i32),
    U64(u64),
    Bool(bool),
}

/// The attribute by its `CU_POINTER_ATTRIBUTE_*` number: an error where there is no such attribute,
/// none where the pointer is not the driver's.
fn pointer_attribute(attribute: u32, address: u64) -> Outcome<Option<Value>> {
    if attribute == 0 || attribute > 20 {
        return Err(Code::INVALID_VALUE);
    }
    let device = device_of(address);
    let range = match device {
        Some(device) => device.gpu.allocation(address),
        None => host::range_of(address),
    };
    let Some((base, bytes)) = range else {
        return Ok(None);
    };
    let ordinal = device.map_or(0, |device| device.ordinal);
    Ok(Some(match attribute {
        1 => Value::U64(platform::device(ordinal)?.primary.handle as u64),
        2 => Value::U32(if device.is_some() { 2 } else { 1 }),
        // Each side has its own memory: an address of one is no address of the other.
        3 if device.is_some() => Value::U64(address),
        4 if device.is_none() => Value::U64(address),
        3 | 4 => return Ok(None),
        6 | 13 => Value::Bool(true),
        7 | 11 => Value::U64(base),
        8 | 10 | 15 => Value::Bool(false),
        9 => Value::I32(ordinal),
        12 => Value::U64(bytes),
        14 => Value::U64(0),
        16 => Value::U32(3),
        17 => Value::U64(0),
        _ => return Err(Code::NOT_SUPPORTED),
    }))
}

/// # Safety
/// `out` is null or writable for the attribute's type.
unsafe fn put_value(out: *mut u8, value: Value) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe {
        match value {
            Value::U32(value) => put(out.cast(), value),
            Value::I32(value) => put(out.cast(), value),
            Value::U64(value) => put(out.cast(), value),
            Value::Bool(value) => put(out.cast(), value),
        }
    }
}

pub(super) unsafe fn cuPointerGetAttribute(out: *mut u8, attribute: u32, address: u64) -> Outcome {
    current()?;
    let value = pointer_attribute(attribute, address)?.ok_or(Code::INVALID_VALUE)?;
    // SAFETY: null or writable for the attribute's type, by the driver API's contract.
    unsafe { put_value(out, value) }
}

pub(super) unsafe fn cuPointerGetAttributes(
    count: u32,
    attributes: *mut u32,
    outs: *mut *mut u8,
    address: u64,
) -> Outcome {
    current()?;
    if attributes.is_null() || outs.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    for index in 0..count as usize {
        // SAFETY: both lists have `count` entries, by the driver API's contract.
        let (attribute, out) = unsafe { (*attributes.add(index), *outs.add(index)) };
        // What is not the driver's pointer gets a zero here: null, no type. An ordinal of none is -2.
        let value = pointer_attribute(attribute, address)?.unwrap_or(match attribute {
            1 | 3 | 4 | 7 | 11 | 12 | 14 | 17 => Value::U64(0),
            6 | 8 | 10 | 13 | 15 => Value::Bool(false),
            9 => Value::I32(-2),
            _ => Value::U32(0),
        });
        // SAFETY: null or writable for the attribute's type, by the driver API's contract.
        unsafe { put_value(out, value) }?;
    }
    Ok(())
}
