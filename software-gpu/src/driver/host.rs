//! Page-locked host memory: plain memory here, whose start and size are remembered.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::sync::Mutex;

use super::capture::refuse_unsafe;
use super::context::current;
use super::error::{Code, Outcome};
use super::ffi::{lock, put};

const PAGE: usize = 4096;
/// The bits of `CU_MEMHOSTALLOC_*` and of `CU_MEMHOSTREGISTER_*`.
const ALLOC_FLAGS: u32 = 7;
const REGISTER_FLAGS: u32 = 15;

/// A range of host memory that the driver knows.
struct Range {
    bytes: usize,
    flags: u32,
    /// Allocated here, and not only registered.
    ours: bool,
}

/// By their first addresses.
static RANGES: Mutex<BTreeMap<usize, Range>> = Mutex::new(BTreeMap::new());

/// Start and size of the range that an address is in.
pub(super) fn range_of(address: u64) -> Option<(u64, u64)> {
    let ranges = lock(&RANGES);
    let (start, range) = ranges.range(..=address as usize).next_back()?;
    let inside = address as usize - start < range.bytes;
    inside.then_some((*start as u64, range.bytes as u64))
}

pub(super) unsafe fn cuMemHostAlloc(out: *mut *mut u8, bytes: usize, flags: u32) -> Outcome {
    current()?;
    refuse_unsafe()?;
    if out.is_null() || bytes == 0 || flags & !ALLOC_FLAGS != 0 {
        return Err(Code::INVALID_VALUE);
    }
    let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| Code::OUT_OF_MEMORY)?;
    // SAFETY: the layout has a size: bytes is not 0.
    let start = unsafe { alloc_zeroed(layout) };
    if start.is_null() {
        return Err(Code::OUT_OF_MEMORY);
    }
    let range = Range {
        bytes,
        flags,
        ours: true,
    };
    lock(&RANGES).insert(start.expose_provenance(), range);
    // SAFETY: not null, and so writable by the driver API's contract.
    unsafe { put(out, start) }
}

pub(super) unsafe fn cuMemAllocHost_v2(out: *mut *mut u8, bytes: usize) -> Outcome {
    // SAFETY: passed on unchanged.
    unsafe { cuMemHostAlloc(out, bytes, 0) }
}

pub(super) unsafe fn cuMemFreeHost(start: *mut u8) -> Outcome {
    current()?;
    refuse_unsafe()?;
    let mut ranges = lock(&RANGES);
    let range = ranges.get(&start.addr()).filter(|range| range.ours);
    let bytes = range.ok_or(Code::INVALID_VALUE)?.bytes;
    let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| Code::INVALID_VALUE)?;
    ranges.remove(&start.addr());
    // SAFETY: `cuMemHostAlloc` allocated it with this layout, and it was in the table until now.
    unsafe { dealloc(start, layout) };
    Ok(())
}

pub(super) unsafe fn cuMemHostGetFlags(out: *mut u32, start: *mut u8) -> Outcome {
    current()?;
    let ranges = lock(&RANGES);
    let range = ranges.get(&start.addr()).ok_or(Code::INVALID_VALUE)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, range.flags) }
}

pub(super) fn cuMemHostRegister_v2(start: *mut u8, bytes: usize, flags: u32) -> Outcome {
    current()?;
    refuse_unsafe()?;
    if start.is_null() || bytes == 0 || flags & !REGISTER_FLAGS != 0 {
        return Err(Code::INVALID_VALUE);
    }
    let end = start.addr().checked_add(bytes).ok_or(Code::INVALID_VALUE)?;
    let mut ranges = lock(&RANGES);
    let below = ranges.range(..end).next_back();
    if below.is_some_and(|(other, range)| other + range.bytes > start.addr()) {
        return Err(Code::HOST_MEMORY_ALREADY_REGISTERED);
    }
    let range = Range {
        bytes,
        flags,
        ours: false,
    };
    ranges.insert(start.expose_provenance(), range);
    Ok(())
}

pub(super) fn cuMemHostUnregister(start: *mut u8) -> Outcome {
    current()?;
    refuse_unsafe()?;
    let mut ranges = lock(&RANGES);
    if ranges.get(&start.addr()).is_none_or(|range| range.ours) {
        return Err(Code::HOST_MEMORY_NOT_REGISTERED);
    }
    ranges.remove(&start.addr());
    Ok(())
}
