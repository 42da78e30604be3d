//! Occupancy: how many blocks of a kernel fit on a multiprocessor, from the model's limits.

use super::error::{Code, Outcome};
use super::ffi::put;
use super::function::{self, model_of};
use crate::{Kernel, Model};

const WARP: u32 = 32;
/// A warp's registers and a block's shared memory are given out in these units.
const REGISTER_UNIT: u32 = 256;
const SHARED_UNIT: u32 = 128;

/// What a block of a kernel takes.
struct Block {
    threads: u32,
    registers: u32,
    shared: u32,
}

impl Block {
    fn new(kernel: &Kernel, model: &Model, threads: u32, dynamic: u32) -> Block {
        let warps = threads.div_ceil(WARP);
        let registers_of_warp = (kernel.registers() * WARP).next_multiple_of(REGISTER_UNIT);
        let shared = kernel.static_shared_bytes().saturating_add(dynamic);
        let shared = shared.saturating_add(model.reserved_shared_per_block);
        Block {
            threads: warps * WARP,
            registers: registers_of_warp.saturating_mul(warps),
            shared: shared
                .checked_next_multiple_of(SHARED_UNIT)
                .unwrap_or(u32::MAX),
        }
    }

    /// Blocks that fit on a multiprocessor.
    fn resident(&self, model: &Model) -> u32 {
        let by_registers = model.registers_per_sm.checked_div(self.registers);
        let by_shared = model.shared_per_sm.checked_div(self.shared);
        model
            .max_blocks_per_sm
            .min(model.max_threads_per_sm / self.threads)
            .min(by_registers.unwrap_or(u32::MAX))
            .min(by_shared.unwrap_or(u32::MAX))
    }
}

/// Blocks of `threads` threads and `dynamic` bytes of shared memory that fit on a multiprocessor; none
/// where the block cannot be launched.
fn resident(kernel: &Kernel, model: &Model, threads: u32, dynamic: u32) -> u32 {
    let allowed = kernel.max_threads().min(model.max_threads_per_block);
    if threads > allowed || dynamic > kernel.max_dynamic_shared(model) {
        return 0;
    }
    Block::new(kernel, model, threads, dynamic).resident(model)
}

pub(super) unsafe fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    out: *mut i32,
    handle: usize,
    block_size: i32,
    dynamic: usize,
) -> Outcome {
    let function = function::well(handle)?;
    let model = model_of(&function)?;
    let threads = u32::try_from(block_size).map_err(|_| Code::INVALID_VALUE)?;
    if threads == 0 {
        return Err(Code::INVALID_VALUE);
    }
    let dynamic = u32::try_from(dynamic).unwrap_or(u32::MAX);
    let blocks = resident(&function.kernel, model, threads, dynamic);
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, blocks as i32) }
}

pub(super) unsafe fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    out: *mut i32,
    handle: usize,
    block_size: i32,
    dynamic: usize,
    flags: u32,
) -> Outcome {
    if flags > 1 {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: passed on unchanged.
    unsafe { cuOccupancyMaxActiveBlocksPerMultiprocessor(out, handle, block_size, dynamic) }
}

pub(super) unsafe fn cuOccupancyMaxPotentialBlockSize(
    min_grid: *mut i32,
    block_size: *mut i32,
    handle: usize,
    dynamic_of: *const u8,
    dynamic: usize,
    limit: i32,
) -> Outcome {
    let function = function::well(handle)?;
    let model = model_of(&function)?;
    // SAFETY: by the driver API's contract a `CUoccupancyB2DSize`, or null.
    let dynamic_of: Option<unsafe extern "C" fn(i32) -> usize> =
        unsafe { std::mem::transmute(dynamic_of) };
    let allowed = function
        .kernel
        .max_threads()
        .min(model.max_threads_per_block);
    let most = match limit {
        0 => allowed,
        _ => u32::try_from(limit)
            .map_err(|_| Code::INVALID_VALUE)?
            .min(allowed),
    };
    // The largest block of those that keep the most threads resident.
    let mut best = (0, 0, 0);
    let sizes = (1..=most / WARP).rev().map(|warps| warps * WARP);
    for threads in sizes.chain((most < WARP).then_some(most)) {
        let bytes = match dynamic_of {
            // SAFETY: the caller's function takes any block size.
            Some(dynamic_of) => unsafe { dynamic_of(threads as i32) },
            None => dynamic,
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let blocks = resident(&function.kernel, model, threads, bytes);
        if blocks * threads > best.0 {
            best = (blocks * threads, threads, blocks);
        }
    }
    let (_, threads, blocks) = best;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe {
        put(min_grid, (blocks * model.sm_count) as i32)?;
        put(block_size, threads as i32)
    }
}

pub(super) unsafe fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    min_grid: *mut i32,
    block_size: *mut i32,
    handle: usize,
    dynamic_of: *const u8,
    dynamic: usize,
    limit: i32,
    flags: u32,
) -> Outcome {
    if flags > 1 {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: passed on unchanged.
    unsafe {
        cuOccupancyMaxPotentialBlockSize(min_grid, block_size, handle, dynamic_of, dynamic, limit)
    }
}

pub(super) unsafe fn cuOccupancyAvailableDynamicSMemPerBlock(
    out: *mut usize,
    handle: usize,
    blocks: i32,
    block_size: i32,
) -> Outcome {
    let function = function::well(handle)?;
    let model = model_of(&function)?;
    let blocks = u32::try_from(blocks).map_err(|_| Code::INVALID_VALUE)?;
    if blocks == 0 || block_size <= 0 {
        return Err(Code::INVALID_VALUE);
    }
    let share = model.shared_per_sm / blocks / SHARED_UNIT * SHARED_UNIT;
    let of_block = share.saturating_sub(model.reserved_shared_per_block);
    let of_block = of_block.min(model.max_shared_per_block_optin);
    let free = of_block.saturating_sub(function.kernel.static_shared_bytes());
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, free as usize) }
}
