//! What stands in for `cuda` in a build without it: a device that cannot be, so that the rest of the library
//! reads the same.

use std::time::Duration;

use crate::pass::{BackwardPass, ForwardPass};
use crate::{Error, Result};

/// There is none.
#[derive(Clone)]
pub(crate) enum CudaDevice {}

/// There is none.
pub(crate) enum Buffer {}

/// There is none.
pub(crate) enum PinnedBytes {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Event {}

/// Which driver a caller asks for.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    Any,
    Nvidia,
    Software,
}

pub(crate) fn is_available() -> bool {
    false
}

impl CudaDevice {
    pub fn open(wanted: Wanted, _ordinal: usize) -> Result<Self> {
        Err(Error::NoDevice {
            wanted: match wanted {
                Wanted::Any => "CUDA or software",
                Wanted::Nvidia => "cuda",
                Wanted::Software => "software",
            },
            reason: "this build of layernorm-host is without its feature `cuda`".to_owned(),
        })
    }

    pub fn all() -> Result<Vec<Self>> {
        Ok(Vec::new())
    }

    pub fn with_new_stream(&self) -> Result<Self> {
        match *self {}
    }

    pub fn poison_memory(&mut self) {
        match *self {}
    }

    pub fn synchronize(&self) -> Result<()> {
        match *self {}
    }

    pub fn load_kernels(&self) -> Result<()> {
        match *self {}
    }

    pub fn image_target(&self) -> u32 {
        match *self {}
    }

    pub fn name(&self) -> &str {
        match *self {}
    }

    pub fn kind(&self) -> &'static str {
        match *self {}
    }

    pub fn ordinal(&self) -> usize {
        match *self {}
    }

    pub fn compute_capability(&self) -> (u32, u32) {
        match *self {}
    }

    pub fn memory(&self) -> Result<(usize, usize)> {
        match *self {}
    }

    pub fn l2_cache_bytes(&self) -> usize {
        match *self {}
    }

    pub fn raw_stream(&self) -> *mut std::ffi::c_void {
        match *self {}
    }

    pub fn event(&self) -> Result<Event> {
        match *self {}
    }

    pub fn allocate(&self, _bytes: usize) -> Result<Buffer> {
        match *self {}
    }

    pub fn allocate_pinned(&self, _bytes: usize) -> Result<PinnedBytes> {
        match *self {}
    }

    pub fn forward(&self, _pass: &mut ForwardPass<'_>) -> Result<()> {
        match *self {}
    }

    pub fn backward(&self, _pass: &mut BackwardPass<'_>) -> Result<()> {
        match *self {}
    }
}

impl Event {
    pub fn record(&mut self) -> Result<()> {
        match *self {}
    }

    pub fn since(&self, _start: &Event) -> Result<Option<Duration>> {
        match *self {}
    }
}

impl Buffer {
    pub fn copy_from(
        &mut self,
        _start: usize,
        _from: &Buffer,
        _from_start: usize,
        _bytes: usize,
    ) -> Result<()> {
        match *self {}
    }

    pub fn address(&self) -> u64 {
        match *self {}
    }

    pub fn read(&self, _start: usize, _into: &mut [u8]) -> Result<()> {
        match *self {}
    }

    pub fn write(&mut self, _start: usize, _from: &[u8]) -> Result<()> {
        match *self {}
    }

    pub fn fill(&mut self, _byte: u8) -> Result<()> {
        match *self {}
    }
}

impl Buffer {
    /// # Safety
    ///
    /// There is nothing to call it on.
    pub unsafe fn write_async(&mut self, _start: usize, _from: &PinnedBytes) -> Result<()> {
        match *self {}
    }

    /// # Safety
    ///
    /// There is nothing to call it on.
    pub unsafe fn read_async(&self, _start: usize, _into: &mut PinnedBytes) -> Result<()> {
        match *self {}
    }
}

impl PinnedBytes {
    pub fn bytes(&self) -> &[u8] {
        match *self {}
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match *self {}
    }
}
