//! A tensor's memory: a part of a host buffer, or a device's.

use std::ops::Range;

use rayon::prelude::*;

use super::cuda;
use crate::host::HostBuffer;
use crate::{DType, Element, Result};

/// A tensor's memory.
pub(crate) enum Storage {
    Host(HostMemory),
    Cuda(cuda::Buffer),
}

/// Bytes of a host copy that are one core's work: some ten microseconds.
const COPY_BYTES: usize = 256 << 10;

/// The part of a host buffer that a tensor has. The buffer is recycled when this is dropped; `None` only then.
pub(crate) struct HostMemory {
    buffer: Option<HostBuffer>,
    /// In elements.
    part: Range<usize>,
    element_bytes: usize,
}

impl HostMemory {
    /// A caller's vector, all of it.
    pub(crate) fn of_vec<T: Element>(data: Vec<T>) -> Self {
        HostMemory {
            part: 0..data.len(),
            element_bytes: size_of::<T>(),
            buffer: Some(T::wrap(data)),
        }
    }

    /// Memory of any content that begins with a line of the cache.
    pub(crate) fn aligned(dtype: DType, len: usize) -> Result<Self> {
        let (buffer, start) = HostBuffer::aligned(dtype, len)?;
        Ok(HostMemory {
            part: start..start + len,
            element_bytes: dtype.size(),
            buffer: Some(buffer),
        })
    }

    pub(crate) fn slice<T: Element>(&self) -> &[T] {
        let whole = self.buffer.as_ref().and_then(T::slice);
        whole.map_or(&[], |whole| &whole[self.part.clone()])
    }

    pub(crate) fn slice_mut<T: Element>(&mut self) -> &mut [T] {
        let whole = self.buffer.as_mut().and_then(T::slice_mut);
        whole.map_or(&mut [], |whole| &mut whole[self.part.clone()])
    }

    pub(crate) fn bytes_of(&self, start: usize, len: usize) -> &[u8] {
        &self.bytes()[start..][..len]
    }

    pub(crate) fn write(&mut self, start: usize, from: &[u8]) {
        self.bytes_mut()[start..][..from.len()].copy_from_slice(from);
    }

    /// Copies on as many cores as have enough to do.
    fn copy_from(&mut self, start: usize, from: &[u8]) {
        let to = &mut self.bytes_mut()[start..][..from.len()];
        let (to, from) = (to.par_chunks_mut(COPY_BYTES), from.par_chunks(COPY_BYTES));
        to.zip(from).for_each(|(to, from)| to.copy_from_slice(from));
    }

    fn part_bytes(&self) -> Range<usize> {
        self.part.start * self.element_bytes..self.part.end * self.element_bytes
    }

    fn bytes(&self) -> &[u8] {
        let whole = self.buffer.as_ref().map(HostBuffer::bytes);
        whole.map_or(&[], |whole| &whole[self.part_bytes()])
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let part = self.part_bytes();
        let whole = self.buffer.as_mut().map(HostBuffer::bytes_mut);
        whole.map_or(&mut [], |whole| &mut whole[part])
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        // A caller's vector has no room to begin with a line of the cache, so it would fit no other tensor.
        if let Some(buffer) = self.buffer.take()
            && buffer.len() > self.part.len()
        {
            buffer.recycle();
        }
    }
}

impl Storage {
    /// Copies to host memory from byte `start` on, waiting for the work that writes it.
    pub(crate) fn read(&self, start: usize, into: &mut [u8]) -> Result<()> {
        match self {
            Storage::Host(memory) => {
                into.copy_from_slice(&memory.bytes()[start..][..into.len()]);
                Ok(())
            }
            Storage::Cuda(buffer) => buffer.read(start, into),
        }
    }

    /// Copies from host memory to byte `start` on.
    pub(crate) fn write(&mut self, start: usize, from: &[u8]) -> Result<()> {
        match self {
            Storage::Host(memory) => {
                memory.write(start, from);
                Ok(())
            }
            Storage::Cuda(buffer) => buffer.write(start, from),
        }
    }

    /// Copies bytes of other memory of the same device, behind the work that writes them.
    pub(crate) fn copy_from(
        &mut self,
        start: usize,
        from: &Storage,
        from_start: usize,
        bytes: usize,
    ) -> Result<()> {
        match (self, from) {
            (Storage::Host(memory), Storage::Host(from)) => {
                memory.copy_from(start, from.bytes_of(from_start, bytes));
                Ok(())
            }
            (Storage::Cuda(buffer), Storage::Cuda(from)) => {
                buffer.copy_from(start, from, from_start, bytes)
            }
            // The caller has compared the devices.
            (Storage::Cuda(buffer), Storage::Host(from)) => {
                buffer.write(start, from.bytes_of(from_start, bytes))
            }
            (Storage::Host(memory), Storage::Cuda(from)) => {
                from.read(from_start, &mut memory.bytes_mut()[start..][..bytes])
            }
        }
    }

    /// Sets every byte.
    pub(crate) fn fill(&mut self, byte: u8) -> Result<()> {
        match self {
            Storage::Host(memory) => {
                memory.bytes_mut().fill(byte);
                Ok(())
            }
            Storage::Cuda(buffer) => buffer.fill(byte),
        }
    }
}
