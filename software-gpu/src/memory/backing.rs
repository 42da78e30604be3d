//! The host memory behind an allocation: the one place where device memory is touched through raw
//! pointers.
//!
//! Blocks of a launch run on several host threads and may touch the same bytes, rightly or as the very
//! race that is to be found. So every access is a relaxed atomic of the element's size: on the host's
//! processor a plain move, and no undefined behaviour whatever the kernel does.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Alignment of the host memory, which is that of the device address modulo 256.
const ALIGN: usize = 4096;

/// Host memory of a fixed size, shared between threads.
pub(crate) struct Backing {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is owned by this value, freed once in `drop`, and every access to it while it is
// shared is atomic.
unsafe impl Send for Backing {}
// SAFETY: as above.
unsafe impl Sync for Backing {}

impl Backing {
    /// Memory of `bytes` bytes holding `pattern` over and over, or `None` where the host has none left.
    pub fn new(bytes: u64, pattern: u8) -> Option<Backing> {
        let layout = Self::layout(bytes, ALIGN)?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        // SAFETY: `start` points to as many bytes that nothing else knows yet.
        unsafe { start.as_ptr().write_bytes(pattern, layout.size()) };
        Some(Backing { start, layout })
    }

    /// Memory of `bytes` zeros, for which the host's system gives pages as they are touched.
    pub fn sparse(bytes: u64) -> Option<Backing> {
        // An alignment beyond this is made by hand, every zero written: accesses need no more than 8.
        let layout = Self::layout(bytes, 16)?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Backing { start, layout })
    }

    /// Rounded up so that an 8-byte chunk at the end is inside.
    fn layout(bytes: u64, align: usize) -> Option<Layout> {
        let size = usize::try_from(bytes.max(1)).ok()?;
        Layout::from_size_align(size.checked_next_multiple_of(16)?, align).ok()
    }

    /// A pointer to `size` bytes at `offset`.
    #[inline(always)]
    fn at(&self, offset: u64, size: u64) -> *mut u8 {
        let end = offset.checked_add(size);
        assert!(
            end.is_some_and(|end| end <= self.layout.size() as u64) && offset.is_multiple_of(size),
            "access of {size} bytes at {offset} in a backing of {}",
            self.layout.size()
        );
        // SAFETY: just checked to be inside the allocation.
        unsafe { self.start.as_ptr().add(offset as usize) }
    }

    /// `count` words of 4 bytes from `offset` on, as atomics.
    #[inline(always)]
    pub fn words(&self, offset: u64, count: usize) -> &[AtomicU32] {
        let end = (4 * count as u64).checked_add(offset);
        assert!(
            end.is_some_and(|end| end <= self.layout.size() as u64) && offset.is_multiple_of(4),
            "{count} words at {offset} in a backing of {}",
            self.layout.size()
        );
        // SAFETY: just checked to be inside the allocation, whose start is aligned to more than 4; it lives
        // as long as `self`, and is only ever touched as atomics.
        unsafe {
            let first = self.start.as_ptr().add(offset as usize);
            std::slice::from_raw_parts(first.cast(), count)
        }
    }

    /// The byte at `offset`, as an atomic.
    #[inline(always)]
    pub fn u8(&self, offset: u64) -> &AtomicU8 {
        // SAFETY: `at` gives a pointer inside memory that lives as long as `self` and is only accessed
        // by atomics.
        unsafe { AtomicU8::from_ptr(self.at(offset, 1)) }
    }

    /// The 2 bytes at `offset`, a multiple of 2, as an atomic.
    #[inline(always)]
    pub fn u16(&self, offset: u64) -> &AtomicU16 {
        // SAFETY: as in `u8`; `at` checked that the offset is a multiple of the size, and the start is
        // aligned to more.
        unsafe { AtomicU16::from_ptr(self.at(offset, 2).cast()) }
    }

    /// The 4 bytes at `offset`, a multiple of 4, as an atomic.
    #[inline(always)]
    pub fn u32(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: as in `u16`.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4).cast()) }
    }

    /// The 8 bytes at `offset`, a multiple of 8, as an atomic.
    #[inline(always)]
    pub fn u64(&self, offset: u64) -> &AtomicU64 {
        // SAFETY: as in `u16`.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8).cast()) }
    }

    /// Copies from `offset` on into `out`.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        let head = head_bytes(offset, out.len());
        let (head, rest) = out.split_at_mut(head);
        let mut at = offset;
        for byte in head {
            *byte = self.u8(at).load(Relaxed);
            at += 1;
        }
        let (chunks, tail) = rest.as_chunks_mut::<8>();
        for chunk in chunks {
            *chunk = self.u64(at).load(Relaxed).to_le_bytes();
            at += 8;
        }
        for byte in tail {
            *byte = self.u8(at).load(Relaxed);
            at += 1;
        }
    }

    /// Copies `data` to `offset` and on.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let head = head_bytes(offset, data.len());
        let (head, rest) = data.split_at(head);
        let mut at = offset;
        for byte in head {
            self.u8(at).store(*byte, Relaxed);
            at += 1;
        }
        let (chunks, tail) = rest.as_chunks::<8>();
        for chunk in chunks {
            self.u64(at).store(u64::from_le_bytes(*chunk), Relaxed);
            at += 8;
        }
        for byte in tail {
            self.u8(at).store(*byte, Relaxed);
            at += 1;
        }
    }
}

/// Bytes before the next multiple of 8.
fn head_bytes(offset: u64, length: usize) -> usize {
    ((8 - offset % 8) % 8).min(length as u64) as usize
}

impl Drop for Backing {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and this is the only drop.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
