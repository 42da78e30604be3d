//! Host memory of a tensor: a vector of its own element type, so that a caller's `Vec` moves in and
//! out without a copy.
//!
//! Large buffers that are dropped are kept for the next tensor of the same length: fresh pages from the
//! system cost more than a LayerNorm over them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::Zeroable;
use half::{bf16, f16};

use crate::{DType, Error, Result, pages};

#[derive(Debug)]
pub enum HostBuffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    F64(Vec<f64>),
}

/// Bytes of a buffer from which on it is kept. Allocators get larger ones from the system anew each time, glibc's
/// from 128 KiB on.
const MIN_KEPT: usize = 64 << 10;

/// Bytes that are kept at most; the oldest go first.
const MAX_KEPT: usize = 1 << 30;

/// Buffers that are kept at most, so that they are quickly looked through.
const MAX_KEPT_BUFFERS: usize = 64;

/// Bytes of a line of the cache.
const LINE_BYTES: usize = 64;

static KEPT: Mutex<Kept> = Mutex::new(Kept {
    buffers: VecDeque::new(),
    bytes: 0,
});

/// Buffers without a tensor, the oldest first.
struct Kept {
    buffers: VecDeque<HostBuffer>,
    bytes: usize,
}

impl Kept {
    fn put(&mut self, buffer: HostBuffer) {
        self.bytes += buffer.bytes().len();
        self.buffers.push_back(buffer);
        while self.bytes > MAX_KEPT || self.buffers.len() > MAX_KEPT_BUFFERS {
            let Some(oldest) = self.buffers.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes().len();
        }
    }

    fn take(&mut self, dtype: DType, len: usize) -> Option<HostBuffer> {
        let fits = |buffer: &HostBuffer| buffer.dtype() == dtype && buffer.len() == len;
        let buffer = self.buffers.remove(self.buffers.iter().rposition(fits)?)?;
        self.bytes -= buffer.bytes().len();
        Some(buffer)
    }
}

fn kept() -> MutexGuard<'static, Kept> {
    // A panic elsewhere leaves both fields as they were.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A vector of zeros, or an error where there is no memory for it.
pub fn zeros<T: Zeroable>(len: usize) -> Result<Vec<T>> {
    let mut fresh = bytemuck::try_zeroed_vec(len).map_err(|()| Error::OutOfHostMemory {
        asked: len.saturating_mul(size_of::<T>()),
    })?;
    pages::advise(&mut fresh);
    Ok(fresh)
}

/// The values in a vector, or an error where there is no memory for it.
pub fn collected<T>(values: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>> {
    let (mut all, len) = (Vec::new(), values.len());
    all.try_reserve_exact(len)
        .map_err(|_| Error::OutOfHostMemory {
            asked: len.saturating_mul(size_of::<T>()),
        })?;
    all.extend(values);
    Ok(all)
}

/// What the address of so many bytes is to be a multiple of.
fn alignment(bytes: usize) -> usize {
    if pages::are_huge(bytes) {
        pages::HUGE_PAGE
    } else {
        LINE_BYTES
    }
}

impl HostBuffer {
    /// `len` elements, all bytes zero.
    pub fn zeros(dtype: DType, len: usize) -> Result<Self> {
        Ok(match dtype {
            DType::F32 => HostBuffer::F32(zeros(len)?),
            DType::F16 => HostBuffer::F16(zeros(len)?),
            DType::BF16 => HostBuffer::BF16(zeros(len)?),
            DType::F64 => HostBuffer::F64(zeros(len)?),
        })
    }

    /// `len` elements of any content, at the start of a cache line, and where they begin in the buffer: vectors
    /// that lie across two lines take twice the time. Much memory begins with a huge page, where there are any.
    pub fn aligned(dtype: DType, len: usize) -> Result<(Self, usize)> {
        let asked = len.saturating_mul(dtype.size());
        let alignment = alignment(asked);
        let padded = len.saturating_add(alignment / dtype.size());
        let buffer = Self::any(dtype, padded);
        let buffer = buffer.map_err(|_| Error::OutOfHostMemory { asked })?;
        let bytes = buffer.bytes().as_ptr().align_offset(alignment);
        // Which the padding covers; an address that no such start can be reached from is used as it is.
        let start = (bytes / dtype.size()).min(padded - len);
        Ok((buffer, start))
    }

    /// `len` elements of any content.
    fn any(dtype: DType, len: usize) -> Result<Self> {
        if len.saturating_mul(dtype.size()) >= MIN_KEPT
            && let Some(buffer) = kept().take(dtype, len)
        {
            return Ok(buffer);
        }
        Self::zeros(dtype, len)
    }

    /// Drops the buffer, or keeps it for the next tensor.
    pub fn recycle(self) {
        if (MIN_KEPT..=MAX_KEPT).contains(&self.bytes().len()) {
            kept().put(self);
        }
    }

    /// Gives all kept memory back to the system.
    pub fn forget_kept() {
        let mut kept = kept();
        kept.buffers.clear();
        kept.bytes = 0;
    }

    fn dtype(&self) -> DType {
        match self {
            HostBuffer::F32(_) => DType::F32,
            HostBuffer::F16(_) => DType::F16,
            HostBuffer::BF16(_) => DType::BF16,
            HostBuffer::F64(_) => DType::F64,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            HostBuffer::F32(data) => data.len(),
            HostBuffer::F16(data) => data.len(),
            HostBuffer::BF16(data) => data.len(),
            HostBuffer::F64(data) => data.len(),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            HostBuffer::F32(data) => bytemuck::cast_slice(data),
            HostBuffer::F16(data) => bytemuck::cast_slice(data),
            HostBuffer::BF16(data) => bytemuck::cast_slice(data),
            HostBuffer::F64(data) => bytemuck::cast_slice(data),
        }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            HostBuffer::F32(data) => bytemuck::cast_slice_mut(data),
            HostBuffer::F16(data) => bytemuck::cast_slice_mut(data),
            HostBuffer::BF16(data) => bytemuck::cast_slice_mut(data),
            HostBuffer::F64(data) => bytemuck::cast_slice_mut(data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_where_its_length_wants_it() {
        for dtype in [DType::BF16, DType::F32, DType::F64] {
            for bytes in [64, 1 << 20, 4 << 20, (4 << 20) + 64] {
                let len = bytes / dtype.size();
                let (buffer, start) = HostBuffer::aligned(dtype, len).unwrap();
                let first = &buffer.bytes()[start * dtype.size()..][..bytes];
                let rest = first.as_ptr().addr() % alignment(bytes);
                assert_eq!(rest, 0, "{dtype} {bytes}");
            }
        }
    }
}
