//! Device memory: allocations with gaps between them, addresses that are never used twice, and the
//! host's way of reading and writing them.
//!
//! An address space of 47 bits is so much larger than any use of it that a freed address need never
//! come back: every use after free is found, not only the quick ones.

mod backing;
mod error;
mod written;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) use backing::Backing;
pub use error::MemoryError;
pub(crate) use written::Written;

/// Every device's addresses: where the host maps nothing of its own, so that one is not taken for the other.
pub(crate) const DEVICE_ADDRESSES: Range<u64> = 0x6000_0000_0000..0x7c00_0000_0000;
/// Where the first device's addresses start; the others' are below.
const FIRST_DEVICE: u64 = 0x7000_0000_0000;
/// Devices of a machine that have addresses of their own.
pub(crate) const MAX_DEVICES: u32 = 64;
/// Bytes between the end of an allocation and the start of the next, at least.
const GAP: u64 = 1 << 20;
/// Alignment that the driver promises. Allocations are aligned to no more, so that code which relies
/// on more is found.
const ALIGN: u64 = 256;
/// Freed allocations that are remembered.
const FREED_KEPT: usize = 4096;
/// What fresh memory holds: a NaN as f16, bf16, f32 and f64.
const FRESH: u8 = 0xff;

/// What is known of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocationInfo {
    /// Its first address.
    pub base: u64,
    /// Its bytes.
    pub size: u64,
    /// Its number in the order of allocation, from 1.
    pub serial: u64,
    /// True after it was freed.
    pub freed: bool,
}

impl AllocationInfo {
    /// Where `address` lies relative to it, in words.
    pub fn describe(&self, address: u64) -> String {
        let AllocationInfo {
            base,
            size,
            serial,
            freed,
        } = *self;
        let what = if freed {
            "freed allocation"
        } else {
            "allocation"
        };
        let whose = format!("{what} {serial} of {size} bytes at {base:#x}");
        match address.wrapping_sub(base) {
            inside if inside < size => format!("byte {inside} of {whose}"),
            past => format!("{} bytes past the end of {whose}", past - size),
        }
    }
}

/// A living allocation.
pub(crate) struct Allocation {
    pub info: AllocationInfo,
    /// Constant memory: kernels cannot write it.
    pub read_only: bool,
    pub backing: Backing,
    /// Which bytes were ever written, where that is checked.
    pub written: Option<Written>,
}

impl Allocation {
    /// The offset of `bytes` bytes at `address`, if they are inside.
    #[inline(always)]
    pub fn offset(&self, address: u64, bytes: u64) -> Option<u64> {
        let offset = address.wrapping_sub(self.info.base);
        (offset <= self.info.size && bytes <= self.info.size - offset).then_some(offset)
    }

    /// Notes that a range is written.
    #[inline(always)]
    pub fn mark(&self, offset: u64, bytes: u64) {
        if let Some(written) = &self.written {
            written.mark(offset, bytes);
        }
    }
}

/// The allocations of a device.
pub(crate) struct Memory {
    /// Bytes that the device says it has.
    total: u64,
    /// Bytes that are really to be taken from the host.
    limit: u64,
    /// Whether to know which bytes were written.
    track: bool,
    /// The end of its addresses.
    end: u64,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    living: BTreeMap<u64, Arc<Allocation>>,
    freed: VecDeque<AllocationInfo>,
    used: u64,
    serial: u64,
    next: u64,
}

impl Table {
    /// The allocation at or below `address`, living ones first where it is inside.
    fn nearest(&self, address: u64) -> Option<AllocationInfo> {
        let living = self
            .living
            .range(..=address)
            .next_back()
            .map(|(_, a)| a.info);
        let freed = self
            .freed
            .iter()
            .filter(|info| info.base <= address)
            .max_by_key(|info| info.base);
        living
            .into_iter()
            .chain(freed.copied())
            .max_by_key(|info| info.base)
    }

    fn find(&self, address: u64, bytes: u64) -> Result<(&Arc<Allocation>, u64), MemoryError> {
        self.living
            .range(..=address)
            .next_back()
            .and_then(|(_, a)| a.offset(address, bytes).map(|offset| (a, offset)))
            .ok_or_else(|| MemoryError::OutOfBounds {
                address,
                bytes,
                nearest: self.nearest(address),
            })
    }
}

/// The addresses of a device. The first has most: it is often the only one.
fn addresses_of(device: u32) -> Range<u64> {
    let Range { start, end } = DEVICE_ADDRESSES;
    match device.checked_sub(1) {
        None => FIRST_DEVICE..end,
        Some(other) => {
            let size = (FIRST_DEVICE - start) / u64::from(MAX_DEVICES);
            let first = start + u64::from(other % (MAX_DEVICES - 1)) * size;
            first..first + size
        }
    }
}

impl Memory {
    /// Memory that says it has `total` bytes and takes at most `limit` from the host, at the addresses of
    /// the device of that number.
    pub fn new(total: u64, limit: u64, track: bool, device: u32) -> Memory {
        let addresses = addresses_of(device);
        let table = Table {
            next: addresses.start,
            ..Table::default()
        };
        Memory {
            total,
            limit,
            track,
            end: addresses.end,
            table: RwLock::new(table),
        }
    }

    // A panic while the lock is held leaves a table that is whole: every change to it is one insertion
    // or removal.
    fn shared(&self) -> RwLockReadGuard<'_, Table> {
        self.table
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Table> {
        self.table
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn alloc(&self, bytes: u64) -> Result<u64, MemoryError> {
        self.place(bytes, false)
    }

    /// As [`alloc`](Memory::alloc), for a variable that kernels may not be allowed to write.
    pub fn place(&self, bytes: u64, read_only: bool) -> Result<u64, MemoryError> {
        self.place_on(bytes, read_only, |bytes| Backing::new(bytes, FRESH))
    }

    /// As [`alloc`](Memory::alloc), of zeros, for which the host gives memory where they are touched.
    pub fn alloc_sparse(&self, bytes: u64) -> Result<u64, MemoryError> {
        self.place_on(bytes, false, Backing::sparse)
    }

    fn place_on(
        &self,
        bytes: u64,
        read_only: bool,
        backing: impl FnOnce(u64) -> Option<Backing>,
    ) -> Result<u64, MemoryError> {
        if bytes == 0 {
            return Err(MemoryError::Empty);
        }
        let free = self.info().0;
        let none = MemoryError::OutOfMemory {
            bytes,
            free,
            total: self.total,
        };
        if bytes > free || bytes > self.limit.saturating_sub(self.shared().used) {
            return Err(none);
        }
        // Filled before the lock is taken: it can take a while.
        let Some(backing) = backing(bytes) else {
            return Err(none);
        };
        let written = self.track.then(|| Written::new(bytes));
        let mut table = self.exclusive();
        // An odd multiple of the alignment, so that an address is aligned to no more.
        let base = table.next | ALIGN;
        let next = (base + bytes + GAP).next_multiple_of(2 * ALIGN);
        if next > self.end {
            return Err(none);
        }
        table.next = next;
        table.used += bytes;
        table.serial += 1;
        let info = AllocationInfo {
            base,
            size: bytes,
            serial: table.serial,
            freed: false,
        };
        table.living.insert(
            base,
            Arc::new(Allocation {
                info,
                read_only,
                backing,
                written,
            }),
        );
        Ok(base)
    }

    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut table = self.exclusive();
        let Some(allocation) = table.living.remove(&address) else {
            return Err(MemoryError::BadFree {
                address,
                nearest: table.nearest(address),
            });
        };
        table.used -= allocation.info.size;
        if table.freed.len() == FREED_KEPT {
            table.freed.pop_front();
        }
        table.freed.push_back(AllocationInfo {
            freed: true,
            ..allocation.info
        });
        Ok(())
    }

    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        if out.is_empty() {
            return Ok(());
        }
        let table = self.shared();
        let (allocation, offset) = table.find(address, out.len() as u64)?;
        allocation.backing.read(offset, out);
        Ok(())
    }

    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), MemoryError> {
        if data.is_empty() {
            return Ok(());
        }
        let table = self.shared();
        let (allocation, offset) = table.find(address, data.len() as u64)?;
        allocation.backing.write(offset, data);
        allocation.mark(offset, data.len() as u64);
        Ok(())
    }

    pub fn fill(&self, address: u64, pattern: &[u8], count: u64) -> Result<(), MemoryError> {
        let size = pattern.len() as u64;
        if !matches!(size, 1 | 2 | 4) || !address.is_multiple_of(size) {
            return Err(MemoryError::BadFill {
                address,
                bytes: pattern.len(),
            });
        }
        if count == 0 {
            return Ok(());
        }
        let table = self.shared();
        let bytes = count.saturating_mul(size);
        let (allocation, offset) = table.find(address, bytes)?;
        let chunk = pattern.repeat(4096 / pattern.len());
        let mut done = 0;
        while done < bytes {
            let now = (bytes - done).min(chunk.len() as u64);
            allocation
                .backing
                .write(offset + done, &chunk[..now as usize]);
            done += now;
        }
        allocation.mark(offset, bytes);
        Ok(())
    }

    pub fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<(), MemoryError> {
        if bytes == 0 {
            return Ok(());
        }
        let table = self.shared();
        let (source, source_offset) = table.find(from, bytes)?;
        let (target, target_offset) = table.find(to, bytes)?;
        let mut buffer = vec![0; bytes.min(1 << 20) as usize];
        let mut done = 0;
        while done < bytes {
            let now = (bytes - done).min(buffer.len() as u64) as usize;
            source
                .backing
                .read(source_offset + done, &mut buffer[..now]);
            target.backing.write(target_offset + done, &buffer[..now]);
            done += now as u64;
        }
        if let (Some(to), Some(from)) = (&target.written, &source.written) {
            to.copy(target_offset, from, source_offset, bytes);
        }
        Ok(())
    }

    pub fn allocation(&self, address: u64) -> Option<AllocationInfo> {
        self.shared()
            .find(address, 1)
            .ok()
            .map(|(allocation, _)| allocation.info)
    }

    pub fn nearest(&self, address: u64) -> Option<AllocationInfo> {
        self.shared().nearest(address)
    }

    /// Bytes free and in all.
    pub fn info(&self) -> (u64, u64) {
        (self.total.saturating_sub(self.shared().used), self.total)
    }

    /// The living allocations in order of address. They stay alive while the list does.
    pub fn snapshot(&self) -> Vec<Arc<Allocation>> {
        self.shared().living.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests;
