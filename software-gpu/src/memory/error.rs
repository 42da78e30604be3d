//! What can be wrong with a call on device memory.

use thiserror::Error;

use super::AllocationInfo;

/// A call on device memory that cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// No room.
    #[error("out of memory: {bytes} bytes asked for, {free} of {total} free")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes free.
        free: u64,
        /// Bytes of the device.
        total: u64,
    },
    /// An allocation of no bytes.
    #[error("an allocation of 0 bytes")]
    Empty,
    /// Not inside an allocation.
    #[error("{bytes} bytes at {address:#x} are not inside an allocation{}", near(.nearest, *.address))]
    OutOfBounds {
        /// The first address.
        address: u64,
        /// Bytes from there.
        bytes: u64,
        /// The allocation at or below the address, living or freed.
        nearest: Option<AllocationInfo>,
    },
    /// A free of an address that is not an allocation's start.
    #[error("{address:#x} is not the start of an allocation{}", near(.nearest, *.address))]
    BadFree {
        /// The address.
        address: u64,
        /// The allocation at or below the address, living or freed.
        nearest: Option<AllocationInfo>,
    },
    /// A pattern of a size that no fill has, or an address that is not a multiple of it.
    #[error(
        "a fill's pattern has 1, 2 or 4 bytes and starts at a multiple of that: got {bytes} bytes at {address:#x}"
    )]
    BadFill {
        /// The first address.
        address: u64,
        /// Bytes of the pattern.
        bytes: usize,
    },
}

impl MemoryError {
    /// The number of the `CUresult` that the driver gives for it.
    pub fn cuda_error(&self) -> u32 {
        match self {
            MemoryError::OutOfMemory { .. } => 2,
            _ => 1,
        }
    }
}

fn near(nearest: &Option<AllocationInfo>, address: u64) -> String {
    nearest.map_or(String::new(), |info| {
        format!(": {}", info.describe(address))
    })
}
