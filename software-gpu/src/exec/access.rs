//! Loads, stores and atomics of a warp: where each lane's address lies, whether it may be touched, and
//! the bytes.

use super::global::global;
use super::room::Room;
use super::scalar::{self, cvt_loaded, truncate};
use super::shadow::How;
use super::trouble::{Outcome, Trouble};
use super::warp::{Warp, lanes};
use crate::fault::FaultKind;
use crate::program::{
    Access, Atomic, AtomicOp, BLOCK_SHIFT, Class, LOCAL_WINDOW, SHARED_WINDOW, Type, WINDOW,
};
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
        .zip([Space::Global, Space::Cluster, Space::Local])
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
        Space::Cluster => of_cluster(room, warp, access, action, mask, at),
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
pub(super) fn atomics(
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
            room.touch(how, at[lane], access.bytes(), warp.who(lane))?;
        }
    }
    if room.launch.checks.counters {
        room.tally.shared(action, mask, at, access.bytes());
    }
    plain(warp, access, action, mask, at, &mut room.shared);
    Ok(())
}

/// Shared memory of any block of the cluster: the lanes that are in one block's at a time.
#[inline(always)]
fn of_cluster(
    room: &mut Room<'_>,
    warp: &mut Warp,
    access: &Access,
    action: Action,
    mask: u32,
    at: &[u64; 32],
) -> Outcome<()> {
    let mut rest = mask;
    while rest != 0 {
        let first = rest.trailing_zeros() as usize;
        let owner = at[first] >> BLOCK_SHIFT;
        let now = lanes(rest)
            .filter(|lane| at[*lane] >> BLOCK_SHIFT == owner)
            .fold(0, |now, lane| now | 1 << lane);
        rest &= !now;
        let offsets = at.map(|address| address & ((1 << BLOCK_SHIFT) - 1));
        let home = room.rank();
        if owner == 0 || owner == home as u64 + 1 {
            shared(room, warp, access, action, now, &offsets)?;
            continue;
        }
        let rank = owner as usize - 1;
        room.visit(warp, rank, first, at[first])?;
        room.enter(rank);
        let outcome = shared(room, warp, access, action, now, &offsets);
        room.enter(home);
        outcome?;
    }
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
