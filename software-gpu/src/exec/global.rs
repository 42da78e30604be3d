//! Accesses to global memory: which allocation the lanes are in, whether they may touch it, what that
//! costs, and the bytes.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::access::{Action, atomics};
use super::flight::SECTOR;
use super::room::Room;
use super::scalar::cvt_loaded;
use super::trace::touch_of;
use super::trouble::{Outcome, Trouble};
use super::warp::{Warp, lanes};
use crate::fault::FaultKind;
use crate::memory::Allocation;
use crate::program::{Access, Class, Slot};

/// Executes a memory instruction for lanes whose addresses are global.
#[inline(always)]
pub(super) fn global(
    room: &mut Room<'_>,
    warp: &mut Warp,
    access: &Access,
    action: Action,
    mask: u32,
    at: &[u64; 32],
) -> Outcome<()> {
    let bytes = u64::from(access.bytes());
    let launch = room.launch;
    let mut rest = mask;
    while rest != 0 {
        let lane = rest.trailing_zeros() as usize;
        let Some(found) = launch.find(&mut room.last_allocation, at[lane], bytes) else {
            return Err(launch.outside(lane, at[lane], bytes));
        };
        let allocation = &launch.allocations[found];
        // All lanes of an access are in one allocation but for odd cases.
        let (base, last) = (allocation.info.base, allocation.info.size - bytes);
        let mut inside = 0;
        let mut offsets = [0; 32];
        for lane in 0..32 {
            offsets[lane] = at[lane].wrapping_sub(base);
            inside |= u32::from(offsets[lane] <= last) << lane;
        }
        let now = rest & inside;
        rest &= !now;
        if action != Action::Load {
            launch.writable(allocation, lane, at[lane])?;
        }
        let sectors = watch(room, warp, access, action, now, &offsets, found)?;
        if action == Action::Load && launch.checks.counters {
            warp.flight.load(launch.program, access, sectors);
        }
        match action {
            Action::Load => load_global(allocation, warp, access, now, &offsets),
            Action::Store => store_global(allocation, warp, access, now, &offsets),
            Action::Atomic => atomic_global(allocation, warp, access, now, &offsets),
        }
    }
    Ok(())
}

/// The checks and counts of an access of lanes to one allocation. The sectors that it touches, if anything
/// is checked or counted.
#[inline(always)]
fn watch(
    room: &mut Room<'_>,
    warp: &Warp,
    access: &Access,
    action: Action,
    mask: u32,
    offsets: &[u64; 32],
    found: usize,
) -> Outcome<u64> {
    let launch = room.launch;
    let checks = launch.checks;
    if !(checks.initialised || checks.global_races || checks.counters) {
        return Ok(0);
    }
    let allocation = &launch.allocations[found];
    let bytes = u64::from(access.bytes());
    // Lanes that touch one range after the other, as they should.
    let first = mask.trailing_zeros() as usize;
    let start = offsets[first];
    let mut in_order = true;
    for (lane, offset) in offsets.iter().enumerate() {
        let expected =
            start.wrapping_add((lane as u64).wrapping_sub(first as u64).wrapping_mul(bytes));
        in_order &= (*offset == expected) | (mask >> lane & 1 == 0);
    }
    // A run of lanes without a hole.
    let run = mask >> first;
    if in_order && run & run.wrapping_add(1) == 0 {
        let all = bytes * u64::from(mask.count_ones());
        let sectors = (start % SECTOR + all).div_ceil(SECTOR);
        room.tally.sectors(action, sectors);
        range(room, warp, access, action, allocation, first, start, all)?;
        return Ok(sectors);
    }
    let sectors = room.tally.scattered(action, mask, offsets, bytes);
    for lane in lanes(mask) {
        range(
            room,
            warp,
            access,
            action,
            allocation,
            lane,
            offsets[lane],
            bytes,
        )?;
    }
    Ok(sectors)
}

/// The checks of a range of an allocation, whose first byte is that lane's.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "they are all of one access")]
fn range(
    room: &mut Room<'_>,
    warp: &Warp,
    access: &Access,
    action: Action,
    allocation: &Allocation,
    lane: usize,
    start: u64,
    bytes: u64,
) -> Outcome<()> {
    let checks = room.launch.checks;
    if let Some(written) = &allocation.written {
        if action != Action::Store && checks.initialised && !written.all(start, bytes) {
            return Err(unwritten(access, allocation, lane, start, bytes));
        }
        if action != Action::Load {
            written.mark(start, bytes);
        }
    }
    if checks.global_races {
        let touch = touch_of(access, action == Action::Load);
        let thread = warp.index * 32 + lane as u32;
        let address = allocation.info.base + start;
        room.trace.note(
            room.access,
            touch,
            address,
            bytes,
            warp.pc,
            thread,
            warp.early,
        );
    }
    Ok(())
}

#[cold]
fn unwritten(
    access: &Access,
    allocation: &Allocation,
    lane: usize,
    start: u64,
    bytes: u64,
) -> Box<Trouble> {
    let gap = allocation
        .written
        .as_ref()
        .and_then(|written| written.first_gap(start, bytes));
    let gap = gap.unwrap_or(start);
    let lane = lane + ((gap - start) / u64::from(access.bytes())) as usize;
    let detail = "neither the host nor a kernel wrote it since it was allocated";
    let address = allocation.info.base + gap;
    let mut trouble = Trouble::at(FaultKind::Uninitialised, lane, address, detail);
    trouble.allocation = Some(allocation.info);
    trouble
}

/// The words of an access by all lanes, one lane's behind the other's, each to or from a 32-bit register:
/// what nearly every access of a compiled kernel is.
#[inline(always)]
fn row_of_words<'a>(
    allocation: &'a Allocation,
    access: &Access,
    mask: u32,
    offsets: &[u64; 32],
) -> Option<&'a [AtomicU32]> {
    if mask != u32::MAX || access.ty.bytes() != 4 {
        return None;
    }
    let is_word = |slot: &Option<Slot>| slot.is_some_and(|slot| slot.class == Class::R32);
    if !access.data.iter().all(is_word) {
        return None;
    }
    let bytes = u64::from(access.bytes());
    let mut in_order = true;
    for (lane, offset) in offsets.iter().enumerate() {
        in_order &= *offset == offsets[0].wrapping_add(lane as u64 * bytes);
    }
    in_order.then(|| allocation.backing.words(offsets[0], 32 * access.data.len()))
}

#[inline(always)]
fn load_global(
    allocation: &Allocation,
    warp: &mut Warp,
    access: &Access,
    mask: u32,
    offsets: &[u64; 32],
) {
    if let Some(words) = row_of_words(allocation, access, mask, offsets) {
        let count = access.data.len();
        for (k, slot) in access.data.iter().flatten().enumerate() {
            let out = &mut warp.r[slot.index as usize].0;
            for (out, words) in out.iter_mut().zip(words.chunks_exact(count)) {
                *out = words[k].load(Relaxed);
            }
        }
        return;
    }
    let size = u64::from(access.ty.bytes());
    let memory = &allocation.backing;
    let mut step = 0;
    for slot in &access.data {
        if let Some(slot) = slot {
            match (size, slot.class) {
                (4, Class::R32) => {
                    let out = &mut warp.r[slot.index as usize].0;
                    for lane in lanes(mask) {
                        out[lane] = memory.u32(offsets[lane] + step).load(Relaxed);
                    }
                }
                (8, Class::R64) => {
                    let out = &mut warp.d[slot.index as usize].0;
                    for lane in lanes(mask) {
                        out[lane] = memory.u64(offsets[lane] + step).load(Relaxed);
                    }
                }
                _ => {
                    for lane in lanes(mask) {
                        let at = offsets[lane] + step;
                        let value = match size {
                            1 => memory.u8(at).load(Relaxed).into(),
                            2 => memory.u16(at).load(Relaxed).into(),
                            4 => memory.u32(at).load(Relaxed).into(),
                            _ => memory.u64(at).load(Relaxed),
                        };
                        warp.write(*slot, lane, cvt_loaded(access.ty, access.bits, value));
                    }
                }
            }
        }
        step += size;
    }
}

#[inline(always)]
fn store_global(
    allocation: &Allocation,
    warp: &Warp,
    access: &Access,
    mask: u32,
    offsets: &[u64; 32],
) {
    if let Some(words) = row_of_words(allocation, access, mask, offsets) {
        let count = access.data.len();
        for (k, slot) in access.data.iter().flatten().enumerate() {
            let values = &warp.r[slot.index as usize].0;
            for (value, words) in values.iter().zip(words.chunks_exact(count)) {
                words[k].store(*value, Relaxed);
            }
        }
        return;
    }
    let size = u64::from(access.ty.bytes());
    let memory = &allocation.backing;
    let mut step = 0;
    for slot in access.data.iter().flatten() {
        for lane in lanes(mask) {
            let (value, at) = (warp.read(*slot, lane), offsets[lane] + step);
            match size {
                1 => memory.u8(at).store(value as u8, Relaxed),
                2 => memory.u16(at).store(value as u16, Relaxed),
                4 => memory.u32(at).store(value as u32, Relaxed),
                _ => memory.u64(at).store(value, Relaxed),
            }
        }
        step += size;
    }
}

fn atomic_global(
    allocation: &Allocation,
    warp: &mut Warp,
    access: &Access,
    mask: u32,
    offsets: &[u64; 32],
) {
    let memory = &allocation.backing;
    let size = access.ty.bytes();
    atomics(warp, access, mask, offsets, |at, change| {
        macro_rules! update {
            ($cell:expr, $type:ty) => {{
                let cell = $cell;
                let mut old = cell.load(Relaxed);
                loop {
                    match cell.compare_exchange_weak(
                        old,
                        change(old.into()) as $type,
                        AcqRel,
                        Acquire,
                    ) {
                        Ok(old) => return old.into(),
                        Err(now) => old = now,
                    }
                }
            }};
        }
        match size {
            2 => update!(memory.u16(at), u16),
            4 => update!(memory.u32(at), u32),
            _ => update!(memory.u64(at), u64),
        }
    });
}
