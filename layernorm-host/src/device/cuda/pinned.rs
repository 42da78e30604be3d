//! Page-locked host memory, and copies on the handle's stream.

use std::mem::ManuallyDrop;

use cust::memory::LockedBuffer;
use cust::sys;

use super::{Buffer, CudaDevice, context};
use crate::Result;

/// Page-locked bytes, all zero at first.
pub(crate) struct PinnedBytes {
    /// `None` for no bytes, which the driver does not lock.
    memory: Option<ManuallyDrop<LockedBuffer<u8>>>,
    device: CudaDevice,
}

impl CudaDevice {
    pub fn allocate_pinned(&self, bytes: usize) -> Result<PinnedBytes> {
        let context = &self.shared.context;
        let _current = context.enter()?;
        let memory = match bytes {
            0 => None,
            _ => Some(LockedBuffer::new(&0u8, bytes)),
        };
        let memory = memory.transpose();
        let memory = memory.map_err(|error| context.error("locking host memory", error))?;
        Ok(PinnedBytes {
            memory: memory.map(ManuallyDrop::new),
            device: self.clone(),
        })
    }
}

impl PinnedBytes {
    pub fn bytes(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| memory.as_slice())
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let memory = self.memory.as_mut();
        memory.map_or(&mut [], |memory| memory.as_mut_slice())
    }
}

impl Drop for PinnedBytes {
    fn drop(&mut self) {
        let (Some(memory), Ok(_current)) = (&mut self.memory, self.device.shared.context.enter())
        else {
            return;
        };
        // SAFETY: the memory is freed here alone, and nothing reaches it after drop; a copy that used
        // it has been waited for.
        unsafe { ManuallyDrop::drop(memory) }
    }
}

impl Buffer {
    /// Puts a copy to byte `start` on the buffer's own stream.
    ///
    /// # Safety
    ///
    /// `from` must stay as it is until the stream has done the copy; nothing else may touch the bytes.
    pub unsafe fn write_async(&mut self, start: usize, from: &PinnedBytes) -> Result<()> {
        let (context, stream) = (self.context(), self.stream());
        let (bytes, to) = (from.bytes(), self.address() + start as u64);
        if bytes.is_empty() {
            return Ok(());
        }
        let _current = context.enter()?;
        // SAFETY: the tensor that asks has as many bytes from `start` on; the rest is the caller's.
        let result =
            unsafe { sys::cuMemcpyHtoDAsync_v2(to, bytes.as_ptr().cast(), bytes.len(), stream) };
        context::check(result).map_err(|error| context.error("copying to the device", error))
    }

    /// Puts a copy from byte `start` on the buffer's own stream.
    ///
    /// # Safety
    ///
    /// Nothing may touch `into`, nor write to the buffer, until the stream has done the copy.
    pub unsafe fn read_async(&self, start: usize, into: &mut PinnedBytes) -> Result<()> {
        let (context, stream) = (self.context(), self.stream());
        let from = self.address() + start as u64;
        let bytes = into.bytes_mut();
        if bytes.is_empty() {
            return Ok(());
        }
        let _current = context.enter()?;
        // SAFETY: as in `write_async`.
        let result = unsafe {
            sys::cuMemcpyDtoHAsync_v2(bytes.as_mut_ptr().cast(), from, bytes.len(), stream)
        };
        context::check(result).map_err(|error| context.error("copying to the host", error))
    }
}
