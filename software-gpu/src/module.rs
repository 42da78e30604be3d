//! A loaded PTX module and its kernels.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use crate::Gpu;
use crate::memory::Memory;
use crate::model::Model;
use crate::program::Program;

/// A PTX module, parsed, checked and decoded, with its variables placed in device memory.
pub struct Module {
    pub(crate) kernels: BTreeMap<String, Arc<Kernel>>,
    pub(crate) globals: BTreeMap<String, (u64, u64)>,
    pub(crate) memory: Arc<Memory>,
}

impl Drop for Module {
    fn drop(&mut self) {
        for (address, _) in self.globals.values() {
            // A caller that freed a module's variable gets its error there, not here.
            let _ = self.memory.free(*address);
        }
    }
}

impl Module {
    /// Loads PTX text, with or without a terminating zero.
    ///
    /// # Errors
    /// What the driver's JIT would say: see [`LoadError`].
    pub fn load(ptx: &[u8], gpu: &Gpu) -> Result<Module, LoadError> {
        crate::load::load(ptx, gpu)
    }

    /// The kernel of that name.
    pub fn kernel(&self, name: &str) -> Option<Arc<Kernel>> {
        self.kernels.get(name).cloned()
    }

    /// All kernels in order of name.
    pub fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        self.kernels.values()
    }

    /// Address and bytes of a module-scope variable in global or constant memory.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.globals.get(name).copied()
    }
}

/// A kernel parameter's place in the parameter buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Bytes from the start of the buffer.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// An entry point, ready to launch.
pub struct Kernel {
    pub(crate) name: String,
    pub(crate) params: Vec<Param>,
    pub(crate) static_shared_bytes: u32,
    pub(crate) local_bytes: u32,
    pub(crate) max_threads: u32,
    pub(crate) registers: u32,
    /// `.reqntid`
    pub(crate) required_block: Option<[u32; 3]>,
    /// `.reqnctapercluster`, `.explicitcluster`, `.maxclusterrank`
    pub(crate) required_cluster: Option<[u32; 3]>,
    pub(crate) explicit_cluster: bool,
    pub(crate) max_cluster: Option<u32>,
    /// Clusters of more than 8 blocks, which the caller asked to be allowed.
    pub(crate) non_portable_cluster: AtomicBool,
    /// Where dynamic shared memory starts: behind the static.
    pub(crate) dynamic_start: u32,
    /// Dynamic shared bytes that the caller asked to be allowed.
    pub(crate) dynamic_allowed: AtomicU32,
    pub(crate) program: Program,
    pub(crate) text: Arc<str>,
}

impl Kernel {
    /// The entry's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameters in order.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Bytes of the whole parameter buffer.
    pub fn param_bytes(&self) -> u32 {
        self.params.last().map_or(0, |p| p.offset + p.size)
    }

    /// Bytes of shared memory that the kernel declares.
    pub fn static_shared_bytes(&self) -> u32 {
        self.static_shared_bytes
    }

    /// Bytes of local memory of a thread.
    pub fn local_bytes(&self) -> u32 {
        self.local_bytes
    }

    /// The most threads that a block can have, from `.maxntid`, `.reqntid` and the device.
    pub fn max_threads(&self) -> u32 {
        self.max_threads
    }

    /// Allows launches with so many bytes of dynamic shared memory, past the 48 KiB that every kernel
    /// has: `cuFuncSetAttribute` with `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`. What the device
    /// has is the limit in the end.
    pub fn allow_dynamic_shared(&self, bytes: u32) {
        self.dynamic_allowed.store(bytes, Relaxed);
    }

    /// Blocks along x, y and z of the clusters that the kernel asks for, if it does.
    pub fn required_cluster(&self) -> Option<[u32; 3]> {
        self.required_cluster
    }

    /// Allows clusters of up to 16 blocks, past the 8 that every device with clusters has:
    /// `cuFuncSetAttribute` with `CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED`.
    pub fn allow_non_portable_cluster(&self, allow: bool) {
        self.non_portable_cluster.store(allow, Relaxed);
    }

    /// Whether clusters of up to 16 blocks are allowed.
    pub fn allows_non_portable_cluster(&self) -> bool {
        self.non_portable_cluster.load(Relaxed)
    }

    /// Bytes of dynamic shared memory that a launch on the model may ask for.
    pub fn max_dynamic_shared(&self, model: &Model) -> u32 {
        self.max_shared(model).saturating_sub(self.dynamic_start)
    }

    /// Bytes of shared memory, static and dynamic, that a block may have.
    pub(crate) fn max_shared(&self, model: &Model) -> u32 {
        let asked = self
            .dynamic_start
            .saturating_add(self.dynamic_allowed.load(Relaxed));
        asked.clamp(model.max_shared_per_block, model.max_shared_per_block_optin)
    }

    /// A line of the PTX, trimmed.
    pub(crate) fn line(&self, line: u32) -> String {
        self.text
            .lines()
            .nth((line as usize).saturating_sub(1))
            .unwrap_or("")
            .trim()
            .to_string()
    }

    /// 32-bit registers of a thread: the most that live at a time, an estimate of what ptxas gives.
    pub fn registers(&self) -> u32 {
        self.registers
    }
}

/// Why a module does not load: the lines of the JIT's log, and the class of error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// What the driver returns.
    pub class: LoadErrorClass,
    /// What is wrong, in order of line.
    pub problems: Vec<Problem>,
}

/// The driver's error for a module that does not load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadErrorClass {
    /// Not PTX, or PTX with an error in it.
    InvalidPtx,
    /// PTX of a version newer than the device's driver knows.
    UnsupportedVersion,
    /// PTX for a target that the device is not.
    NoKernelImage,
    /// The variables do not fit in the device's memory.
    OutOfMemory,
}

/// One line of the JIT's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line of the PTX, from 1.
    pub line: u32,
    /// What is wrong there.
    pub reason: String,
}

impl LoadError {
    /// The number of the `CUresult` that the driver gives for it.
    pub fn cuda_error(&self) -> u32 {
        match self.class {
            LoadErrorClass::OutOfMemory => 2,
            LoadErrorClass::NoKernelImage => 209,
            LoadErrorClass::InvalidPtx => 218,
            LoadErrorClass::UnsupportedVersion => 222,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}line {}: {}", problem.line, problem.reason)?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}
