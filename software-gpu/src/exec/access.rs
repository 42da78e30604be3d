//! Loads, stores and atomics of a warp: where each lane's address lies, whether it may be touched, and
//! the bytes.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::block::Room;
use super::scalar::{self, cvt_loaded, truncate};
use super::shadow::{How, Who};
use super::trace::touch_of;
use super::trouble::{Outcome, Trouble};
use super::warp::{Warp, lanes};
use crate::fault::FaultKind;
use crate::memory::Allocation;
use crate::program::{Access, Atomic, AtomicOp, Class, LOCAL_WINDOW, SHARED_WINDOW, Type, WINDOW};
use crate::ptx::ast::Space;

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Load,
    Store,
    Atomic,
}

/// The addresses of all lanes.
#[inline(always)]
fn addresses(warp: &Warp, access: &Access) -> [u64; 32] {
    let mut out = match access.base.class {
        Class::R64 => warp.d[access.base.index as usize].0,
        _ => warp.r[access.base.index as usize].0.map(u64::from),
    };
    for address in &mut out {
        *address = address.wrapping_add_signed(access.offset);
    }
    out
}

/// Executes a memory instruction for the lanes of `mask`.
#[inline(always)]
pub(super) fn execute(
    room: &mut Room<'_>,
    warp: &mut Warp,
    number: u32,
    action: Action,
    mask: u32,
) -> Outcome<()> {
    let program = room.launch.program;
    let access = &program.accesses[number as usize];
    room.access = number;
    let mut at = addresses(warp, access);
    let space = access.space;
    if space != Space::Generic {
        return group(room, warp, access, action, mask, &at, space);
    }
    let within = |address: u64, window: u64| address.wrapping_sub(window) < WINDOW;
    let mut parts = [0u32; 3];
    for lane in lanes(mask) {
        let part = if within(at[lane], SHARED_WINDOW) {
            at[lane] -= SHARED_WINDOW;
            1
        } else if within(at[lane], LOCAL_WINDOW) {
            at[lane] -= LOCAL_WINDOW;
            2
        } else {
            0
        };
        parts[part] |= 1 << lane;
    }
    for (mask, space) in parts
        .into_iter()
        .zip([Space::Global, Space::Shared, Space::Local])
    {
        if mask != 0 {
            group(room, warp, access, action, mask, &at, space)?;
        }
    }
    Ok(())
}

/// The lanes whose addresses are in one space.
#[inline(always)]
fn group(
    room: &mut Room<'_>,
    warp: &mut Warp,
    access: &Access,
    action: Action,
    mask: u32,
    at: &[u64; 32],
    space: Space,
) -> Outcome<()> {
    aligned(access, mask, at)?;
    match space {
        Space::Global | Space::Const => global(room, warp, access, action, mask, at),
        Space::Shared => shared(room, warp, access, action, mask, at),
        _ => local(warp, access, action, mask, at),
    }
}

#[inline(always)]
fn aligned(access: &Access, mask: u32, at: &[u64; 32]) -> Outcome<()> {
    let bytes = u64::from(access.bytes());
    let mut low = 0;
    for (lane, address) in at.iter().enumerate() {
        low |= if mask >> lane & 1 != 0 { *address } else { 0 };
    }
    if low & (bytes - 1) == 0 {
        return Ok(());
    }
    let lane = lanes(mask)
        .find(|lane| at[*lane] & (bytes - 1) != 0)
        .unwrap_or(0);
    let detail =
        format!("an access of {bytes} bytes needs an address that is a multiple of {bytes}");
    Err(Trouble::at(FaultKind::Misaligned, lane, at[lane], detail))
}

#[inline(always)]
fn global(
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
        watch(room, warp, access, action, now, &offsets, found)?;
        match action {
            Action::Load => load_global(allocation, warp, access, now, &offsets),
            Action::Store => store_global(allocation, warp, access, now, &offsets),
            Action::Atomic => atomic_global(allocation, warp, access, now, &offsets),
        }
    }
    Ok(())
}

/// The checks and counts of an access of lanes to one allocation.
#[inline(always)]
fn watch(
    room: &mut Room<'_>,
    warp: &Warp,
    access: &Access,
    action: Action,
    mask: u32,
    offsets: &[u64; 32],
    found: usize,
) -> Outcome<()> {
    let launch = room.launch;
    let checks = launch.checks;
    if !(checks.initialised || checks.global_races || checks.counters) {
        return Ok(());
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
        room.tally.sectors(action, (start % 32 + all).div_ceil(32));
        return range(room, warp, access, action, allocation, first, start, all);
    }
    room.tally.scattered(action, mask, offsets, bytes);
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
    Ok(())
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
        room.trace
            .note(room.access, touch, address, bytes, warp.pc, thread);
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

#[inline(always)]
fn load_global(
    allocation: &Allocation,
    warp: &mut Warp,
    access: &Access,
    mask: u32,
    offsets: &[u64; 32],
) {
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

/// The new value of an atomic.
fn updated(atomic: &Atomic, ty: Type, old: u64, value: u64, swap: u64) -> u64 {
    match atomic.op {
        AtomicOp::Arith(op) => scalar::arith(op, old, value, value),
        AtomicOp::Exchange => value,
        AtomicOp::CompareSwap => {
            if truncate(ty, old) == truncate(ty, value) {
                swap
            } else {
                old
            }
        }
        AtomicOp::Increment => {
            if old >= value {
                0
            } else {
                old + 1
            }
        }
        AtomicOp::Decrement => {
            if old == 0 || old > value {
                value
            } else {
                old - 1
            }
        }
    }
}

/// Applies an atomic for each lane and element: `exchange` makes the update at an offset.
fn atomics(
    warp: &mut Warp,
    access: &Access,
    mask: u32,
    offsets: &[u64; 32],
    mut exchange: impl FnMut(u64, &dyn Fn(u64) -> u64) -> u64,
) {
    let Some(atomic) = &access.atomic else { return };
    let size = u64::from(access.ty.bytes());
    for lane in lanes(mask) {
        for (k, slot) in access.data.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let value = warp.read(*slot, lane);
            let swap = atomic.swap.map_or(0, |slot| warp.read(slot, lane));
            let old = exchange(offsets[lane] + k as u64 * size, &|old| {
                updated(atomic, access.ty, old, value, swap)
            });
            if let Some(Some(to)) = atomic.old.get(k) {
                warp.write(*to, lane, old);
            }
        }
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

/// Bytes of a value at `at`.
#[inline(always)]
fn get(memory: &[u8], at: usize, size: usize) -> u64 {
    match size {
        1 => memory[at].into(),
        2 => u16::from_le_bytes([memory[at], memory[at + 1]]).into(),
        4 => {
            u32::from_le_bytes(*memory[at..].first_chunk().expect("inside, as was checked")).into()
        }
        _ => u64::from_le_bytes(*memory[at..].first_chunk().expect("inside, as was checked")),
    }
}

#[inline(always)]
fn put(memory: &mut [u8], at: usize, size: usize, value: u64) {
    memory[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

/// Plain memory of a block or a thread: `offsets` are inside it.
#[inline(always)]
fn plain(
    warp: &mut Warp,
    access: &Access,
    action: Action,
    mask: u32,
    offsets: &[u64; 32],
    memory: &mut [u8],
) {
    let size = access.ty.bytes() as usize;
    match action {
        Action::Load => {
            for (k, slot) in access.data.iter().enumerate() {
                let Some(slot) = slot else { continue };
                for lane in lanes(mask) {
                    let value = get(memory, offsets[lane] as usize + k * size, size);
                    warp.write(*slot, lane, cvt_loaded(access.ty, access.bits, value));
                }
            }
        }
        Action::Store => {
            for (k, slot) in access.data.iter().enumerate() {
                let Some(slot) = slot else { continue };
                for lane in lanes(mask) {
                    put(
                        memory,
                        offsets[lane] as usize + k * size,
                        size,
                        warp.read(*slot, lane),
                    );
                }
            }
        }
        Action::Atomic => atomics(warp, access, mask, offsets, |at, change| {
            let old = get(memory, at as usize, size);
            put(memory, at as usize, size, change(old));
            old
        }),
    }
}

#[inline(always)]
fn shared(
    room: &mut Room<'_>,
    warp: &mut Warp,
    access: &Access,
    action: Action,
    mask: u32,
    at: &[u64; 32],
) -> Outcome<()> {
    let bytes = u64::from(access.bytes());
    let size = room.shared.len() as u64;
    for lane in lanes(mask) {
        if at[lane].checked_add(bytes).is_none_or(|end| end > size) {
            let detail = format!(
                "{bytes} bytes at {:#x} of a block's {size} bytes of shared memory",
                at[lane]
            );
            return Err(Trouble::at(FaultKind::OutOfBounds, lane, at[lane], detail));
        }
    }
    if !room.shadow.is_off() {
        let how = match action {
            Action::Load => How::Read,
            Action::Store => How::Write,
            Action::Atomic => How::Atomic,
        };
        for lane in lanes(mask) {
            let who = Who {
                thread: warp.index * 32 + lane as u32,
                syncs: warp.syncs,
                pc: warp.pc,
            };
            room.shadow.touch(how, at[lane], access.bytes(), who)?;
        }
    }
    if room.launch.checks.counters {
        room.tally.shared(action, mask, at, access.bytes());
    }
    plain(warp, access, action, mask, at, &mut room.shared);
    Ok(())
}

fn local(
    warp: &mut Warp,
    access: &Access,
    action: Action,
    mask: u32,
    at: &[u64; 32],
) -> Outcome<()> {
    let bytes = u64::from(access.bytes());
    let size = (warp.local.len() / 32) as u64;
    let mut offsets = *at;
    for lane in lanes(mask) {
        if at[lane].checked_add(bytes).is_none_or(|end| end > size) {
            let detail = format!(
                "{bytes} bytes at {:#x} of a thread's {size} bytes of local memory",
                at[lane]
            );
            return Err(Trouble::at(FaultKind::OutOfBounds, lane, at[lane], detail));
        }
        offsets[lane] += lane as u64 * size;
    }
    let mut memory = std::mem::take(&mut warp.local);
    plain(warp, access, action, mask, &offsets, &mut memory);
    warp.local = memory;
    Ok(())
}
