//! Device memory, and copies between it and the host.

use std::mem::ManuallyDrop;

use cust::memory::{CopyDestination, DeviceBuffer, DevicePointer};
use cust::sys;

use super::CudaDevice;
use super::context::{self, Context};
use crate::{CudaCode, Error, Result};

/// `CUDA_ERROR_OUT_OF_MEMORY`.
const OUT_OF_MEMORY: u32 = 2;

/// Bytes of device memory. Work that still touches them is on the owning handle's stream.
pub(crate) struct Buffer {
    memory: ManuallyDrop<DeviceBuffer<u8>>,
    device: CudaDevice,
}

impl CudaDevice {
    /// Memory of unknown content, or NaN where the handle poisons its memory.
    pub fn allocate(&self, bytes: usize) -> Result<Buffer> {
        let context = &self.shared.context;
        let memory = {
            let _current = context.enter()?;
            allocate(bytes).map_err(|cause| match cause.code {
                OUT_OF_MEMORY => {
                    let (free, total) = cust::memory::mem_get_info().unwrap_or((0, 0));
                    Error::OutOfMemory {
                        device: self.name().to_owned(),
                        asked: bytes,
                        free,
                        total,
                    }
                }
                _ => context.error("allocating memory", cause),
            })?
        };
        let mut buffer = Buffer {
            memory: ManuallyDrop::new(memory),
            device: self.clone(),
        };
        if self.poison {
            buffer.fill(0xFF)?;
        }
        Ok(buffer)
    }
}

/// Memory of the current context. By the driver's own call, since cust knows the names of few errors.
fn allocate(bytes: usize) -> std::result::Result<DeviceBuffer<u8>, CudaCode> {
    let mut address = 0;
    if bytes > 0 {
        // SAFETY: the call writes one address to where it is told.
        context::check(unsafe { sys::cuMemAlloc_v2(&mut address, bytes) })?;
    }
    // SAFETY: so many bytes, just allocated, or none. u8 has no invalid values, and what is read was
    // written before: by a copy, or by a kernel that fills its outputs.
    Ok(unsafe { DeviceBuffer::from_raw_parts(DevicePointer::from_raw(address), bytes) })
}

impl Buffer {
    pub fn device(&self) -> &CudaDevice {
        &self.device
    }

    pub(super) fn context(&self) -> &Context {
        &self.device.shared.context
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.device.stream.as_inner()
    }

    /// The first byte's address; 0 for no bytes.
    pub fn address(&self) -> u64 {
        self.memory.as_device_ptr().as_raw()
    }

    pub fn read(&self, start: usize, into: &mut [u8]) -> Result<()> {
        if into.is_empty() {
            return Ok(());
        }
        let context = &self.device.shared.context;
        let _current = context.enter()?;
        self.memory
            .index(start..start + into.len())
            .copy_to(into)
            .map_err(|error| context.error("copying to the host", error))
    }

    pub fn write(&mut self, start: usize, from: &[u8]) -> Result<()> {
        if from.is_empty() {
            return Ok(());
        }
        let context = &self.device.shared.context;
        let _current = context.enter()?;
        self.memory
            .index(start..start + from.len())
            .copy_from(from)
            .map_err(|error| context.error("copying to the device", error))
    }

    /// Puts a copy of some of another buffer's bytes on this buffer's stream. Where the other belongs to
    /// another stream, waits for that before, and for the copy after.
    pub fn copy_from(
        &mut self,
        start: usize,
        from: &Buffer,
        from_start: usize,
        bytes: usize,
    ) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let own_stream = from.device.same_stream(&self.device);
        if !own_stream {
            from.device.synchronize()?;
        }
        let (to, source) = (
            self.address() + start as u64,
            from.address() + from_start as u64,
        );
        // SAFETY: the tensors that ask have as many bytes from there on; both buffers are this device's, and
        // their frees wait for the copy.
        unsafe { self.device.shared.copy(self.stream(), source, to, bytes)? };
        if own_stream {
            Ok(())
        } else {
            self.device.synchronize()
        }
    }

    pub fn fill(&mut self, byte: u8) -> Result<()> {
        if self.memory.is_empty() {
            return Ok(());
        }
        let context = &self.device.shared.context;
        let _current = context.enter()?;
        self.memory
            .set_8(byte)
            .map_err(|error| context.error("filling memory", error))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Ok(_current) = self.device.shared.context.enter() {
            // The driver's free waits for work that still uses the memory.
            // SAFETY: the memory is freed here alone, and nothing reaches it after drop.
            unsafe { ManuallyDrop::drop(&mut self.memory) }
        }
    }
}
