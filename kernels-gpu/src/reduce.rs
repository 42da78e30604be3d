//! Sums over the threads that share a row, in an order that never changes.

use cuda_std::ext::{self, Shared};
use cuda_std::{shared_words, thread};

use crate::team::Team;

/// Warps that a block can have.
const MAX_WARPS: u32 = 32;

/// Sums each of `values` over the `LANES` threads that share a row, and gives all of them the sums.
///
/// Up to 32 lanes it is a butterfly inside the warp, whose additions every lane does in the same order
/// up to commutation, so all get the same bits. Above that the row has the whole block: each warp puts
/// its sums into shared memory, and every warp adds those up by another butterfly.
///
/// One barrier is enough because callers alternate `slot` 0 and 1: whoever writes a slot again has passed
/// the other slot's barrier, which all threads reach only after they have read this one.
///
/// # Safety
/// All threads of the warp call it together; above 32 lanes, all threads of the block, in blocks of
/// `LANES` threads, and with `slot` alternating between 0 and 1.
#[inline(always)]
pub unsafe fn sum_over_row<const LANES: u32, const N: usize>(
    values: [f32; N],
    slot: u32,
) -> [f32; N] {
    // SAFETY: the caller's.
    unsafe { sum_in_team(Team::<LANES, LANES>::new(), values, slot) }
}

/// The same where a block of up to `BLOCK` threads has several rows of more than 32 lanes: each team has its warps' part of
/// the slots.
///
/// # Safety
/// As for [`sum_over_row`], of the threads of a team and not of the block.
#[inline(always)]
pub unsafe fn sum_in_team<const LANES: u32, const BLOCK: u32, const N: usize>(
    team: Team<LANES, BLOCK>,
    mut values: [f32; N],
    slot: u32,
) -> [f32; N] {
    let mut distance = if LANES < 32 { LANES / 2 } else { 16 };
    while distance > 0 {
        for n in 0..N {
            // SAFETY: the caller's: the warp is converged.
            values[n] += unsafe { ext::shuffle_xor_f32(ext::FULL_MASK, values[n], distance) };
        }
        distance /= 2;
    }
    if LANES <= 32 {
        return values;
    }
    let warps = LANES / 32;
    let slot: Shared<f32> =
        shared_words![f32; 2 * 2 * MAX_WARPS as usize].offset(slot * 2 * MAX_WARPS);
    // The team's part of it.
    let slot = slot.offset(team.index * warps);
    let thread = team.thread;
    if thread.is_multiple_of(32) {
        for n in 0..N {
            // SAFETY: N <= 2 and a block has at most 32 warps, so the index is in the slot; only this
            // warp's first lane writes it, and nobody reads it before the barrier.
            unsafe { slot.store(n as u32 * MAX_WARPS + thread / 32, values[n]) };
        }
    }
    // SAFETY: the caller's.
    unsafe { team.sync() };
    if warps <= 8 && warps.is_power_of_two() {
        // Few enough to add up one after the other, in fours: faster than a second butterfly (measured, 92 % of the
        // copy rate against 77 % at 4 warps).
        for n in 0..N {
            let sums = slot.offset(n as u32 * MAX_WARPS);
            if warps == 2 {
                // SAFETY: as below.
                values[n] = unsafe { sums.load(0) + sums.load(1) };
                continue;
            }
            values[n] = 0.0;
            let mut warp = 0;
            while warp < warps {
                // SAFETY: in the slot, as above; the barrier is behind us, and the next write to this slot
                // lies behind the other slot's barrier.
                let [a, b, c, d] = unsafe { sums.load4(warp) };
                values[n] += (a + b) + (c + d);
                warp += 4;
            }
        }
        return values;
    }
    // Lane i of every warp takes warp i's sum: adding them up would need a register for each.
    for n in 0..N {
        let warp = thread % 32 % warps.next_power_of_two();
        // SAFETY: as above.
        values[n] = match warp < warps {
            true => unsafe { slot.load(n as u32 * MAX_WARPS + warp) },
            false => 0.0,
        };
    }
    let mut distance = warps.next_power_of_two() / 2;
    while distance > 0 {
        for n in 0..N {
            // SAFETY: the caller's: the warp is converged.
            values[n] += unsafe { ext::shuffle_xor_f32(ext::FULL_MASK, values[n], distance) };
        }
        distance /= 2;
    }
    values
}

/// [`sum_over_row`] where the launch says how many lanes share a row, and a block has any number of rows: the same bits.
///
/// # Safety
/// All threads of the block call it together, once; `lane` is this thread's in its row; `lanes` is a power of two up to 32,
/// or a multiple of 32.
#[inline(always)]
pub unsafe fn sum_over_some<const N: usize>(
    lanes: u32,
    lane: u32,
    mut values: [f32; N],
) -> [f32; N] {
    let butterfly = |mut values: [f32; N], lanes: u32| {
        let mut distance = lanes / 2;
        while distance > 0 {
            for n in 0..N {
                // SAFETY: the caller's: the warp is converged.
                values[n] += unsafe { ext::shuffle_xor_f32(ext::FULL_MASK, values[n], distance) };
            }
            distance /= 2;
        }
        values
    };
    values = butterfly(values, lanes.min(32));
    if lanes <= 32 {
        return values;
    }
    let warps = lanes / 32;
    let sums: Shared<f32> = shared_words![f32; 2 * MAX_WARPS as usize];
    let of_warp = (thread::thread_idx_x() - lane) / 32;
    if lane.is_multiple_of(32) {
        for n in 0..N {
            // SAFETY: N <= 2 and a block has at most 32 warps; only this warp's first lane writes it.
            unsafe { sums.store(n as u32 * MAX_WARPS + of_warp + lane / 32, values[n]) };
        }
    }
    thread::sync_threads();
    let one_by_one = warps <= 8 && warps.is_power_of_two();
    for n in 0..N {
        let sums = sums.offset(n as u32 * MAX_WARPS + of_warp);
        // SAFETY: written before the barrier.
        let of = |warp: u32| match warp < warps {
            true => unsafe { sums.load(warp) },
            false => 0.0,
        };
        values[n] = match (one_by_one, warps) {
            (true, 2) => of(0) + of(1),
            // Of four warps, the second four are zeros.
            (true, _) => ((of(0) + of(1)) + (of(2) + of(3))) + ((of(4) + of(5)) + (of(6) + of(7))),
            (false, _) => of(lane & (warps.next_power_of_two() - 1)),
        };
    }
    match one_by_one {
        true => values,
        false => butterfly(values, warps.next_power_of_two()),
    }
}

/// The sum of an array, in pairs: less rounding, and a shorter chain, than one by one.
#[inline(always)]
pub fn sum<const E: usize>(mut values: [f32; E]) -> f32 {
    const { assert!(E.is_power_of_two(), "every half has a partner") };
    let mut width = E / 2;
    while width > 0 {
        let mut i = 0;
        while i < width {
            values[i] += values[i + width];
            i += 1;
        }
        width /= 2;
    }
    values[0]
}
