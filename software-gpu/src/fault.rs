//! What went wrong in a launch: everything a person needs to find it, and the CUDA error that the
//! driver gives for it.

use std::fmt;

use crate::memory::AllocationInfo;

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// An access outside every allocation, or outside shared, local or parameter memory.
    OutOfBounds,
    /// An access to memory that was freed.
    UseAfterFree,
    /// An access whose address is not a multiple of its size.
    Misaligned,
    /// A write to memory that is read only.
    ReadOnly,
    /// A read of memory that nothing wrote.
    Uninitialised,
    /// Two threads of a block touched one shared address, one writing, with no barrier between.
    SharedRace,
    /// Two blocks touched one global address, one writing, not both by atomics.
    GlobalRace,
    /// A barrier that some threads of the block did not reach.
    BarrierDivergence,
    /// A barrier in shared memory that is used as none can be: not initialised, or told of more than it takes.
    MBarrier,
    /// An access to shared memory of a block of the cluster that may not have started or may have exited.
    AbsentBlock,
    /// A shuffle, vote or warp barrier whose mask names a lane that is not there.
    AbsentLane,
    /// A kernel parameter buffer shorter than the kernel's list.
    ParameterBuffer,
    /// Grid, block or shared memory outside what the device can ever launch.
    InvalidLaunch,
    /// More threads, registers or shared memory than the kernel or the device has for this launch.
    OutOfResources,
    /// A cluster of more blocks than are allowed, or of another size than the kernel's.
    ClusterSize,
    /// The kernel executed `trap`, or an instruction that cannot be executed.
    IllegalInstruction,
    /// The kernel executed more instructions than the launch allows.
    Timeout,
}

impl FaultKind {
    /// The number of the `CUresult` that the driver gives for it.
    pub fn cuda_error(&self) -> u32 {
        match self {
            FaultKind::ParameterBuffer | FaultKind::InvalidLaunch => 1,
            FaultKind::OutOfBounds | FaultKind::UseAfterFree | FaultKind::ReadOnly => 700,
            FaultKind::OutOfResources => 701,
            FaultKind::Timeout => 702,
            FaultKind::IllegalInstruction => 715,
            FaultKind::Misaligned => 716,
            FaultKind::ClusterSize => 912,
            FaultKind::Uninitialised
            | FaultKind::SharedRace
            | FaultKind::GlobalRace
            | FaultKind::BarrierDivergence
            | FaultKind::MBarrier
            | FaultKind::AbsentBlock
            | FaultKind::AbsentLane => 719,
        }
    }

    /// True where the real driver's context is lost by it: every later call fails the same way.
    pub fn is_sticky(&self) -> bool {
        !matches!(
            self,
            FaultKind::ParameterBuffer
                | FaultKind::InvalidLaunch
                | FaultKind::OutOfResources
                | FaultKind::ClusterSize
        )
    }

    fn title(&self) -> &'static str {
        match self {
            FaultKind::OutOfBounds => "access out of bounds",
            FaultKind::UseAfterFree => "access to freed memory",
            FaultKind::Misaligned => "misaligned access",
            FaultKind::ReadOnly => "write to read-only memory",
            FaultKind::Uninitialised => "read of memory that nothing wrote",
            FaultKind::SharedRace => "race in shared memory",
            FaultKind::GlobalRace => "race between blocks in global memory",
            FaultKind::BarrierDivergence => "barrier not reached by all threads",
            FaultKind::MBarrier => "misuse of an mbarrier",
            FaultKind::AbsentBlock => "access to shared memory of a block that may not be there",
            FaultKind::ClusterSize => "cluster of a size that cannot be",
            FaultKind::AbsentLane => "member mask does not match the lanes that are there",
            FaultKind::ParameterBuffer => "kernel parameters are too short",
            FaultKind::InvalidLaunch => "launch outside the device's limits",
            FaultKind::OutOfResources => "launch needs more than the device has",
            FaultKind::IllegalInstruction => "illegal instruction",
            FaultKind::Timeout => "kernel ran for too long",
        }
    }
}

/// A place in a launch: who executed which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Line of the PTX, from 1; 0 for a fault of the launch itself.
    pub line: u32,
    /// That line's text, trimmed.
    pub text: String,
    /// The block's index.
    pub block: [u32; 3],
    /// The thread's index in its block.
    pub thread: [u32; 3],
}

/// A launch that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What went wrong.
    pub kind: FaultKind,
    /// The kernel's name.
    pub kernel: String,
    /// Where, and by whom.
    pub site: Site,
    /// The other side of a race.
    pub other: Option<Site>,
    /// The address accessed, in its own state space's numbering.
    pub address: Option<u64>,
    /// The allocation that the address belongs to, or the one nearest below it.
    pub allocation: Option<AllocationInfo>,
    /// What, got, allowed, in words.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in kernel `{}`", self.kind.title(), self.kernel)?;
        if self.site.line != 0 {
            write!(f, ", PTX {}", self.site)?;
        }
        if !self.detail.is_empty() {
            write!(f, "\n  {}", self.detail)?;
        }
        if let Some(address) = self.address {
            write!(f, "\n  address {address:#x}")?;
            if let Some(allocation) = &self.allocation {
                write!(f, ": {}", allocation.describe(address))?;
            }
        }
        if let Some(other) = &self.other {
            write!(f, "\n  the other side: {other}")?;
        }
        write!(f, "\n  CUDA error {}", self.kind.cuda_error())
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([bx, by, bz], [tx, ty, tz]) = (self.block, self.thread);
        write!(
            f,
            "line {}: `{}`, block ({bx}, {by}, {bz}), thread ({tx}, {ty}, {tz})",
            self.line, self.text
        )
    }
}

impl std::error::Error for Fault {}
