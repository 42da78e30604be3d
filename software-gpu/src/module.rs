//! A loaded PTX module and its kernels.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::Gpu;

/// A PTX module, parsed, checked and decoded, with its variables placed in device memory.
pub struct Module {
    kernels: BTreeMap<String, Arc<Kernel>>,
    globals: BTreeMap<String, (u64, u64)>,
}

impl Module {
    /// Loads PTX text, with or without a terminating zero.
    ///
    /// # Errors
    /// What the driver's JIT would say: see [`LoadError`].
    pub fn load(ptx: &[u8], _gpu: &Gpu) -> Result<Module, LoadError> {
        let _ = ptx;
        Err(LoadError {
            class: LoadErrorClass::InvalidPtx,
            problems: vec![Problem {
                line: 1,
                reason: "no loader yet".into(),
            }],
        })
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
