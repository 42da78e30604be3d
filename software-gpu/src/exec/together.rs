//! What the lanes of a warp do together: shuffles, votes, matches, reductions, warp barriers; and addresses
//! in the cluster.

use super::lanes::write;
use super::room::Room;
use super::scalar;
use super::trouble::{Outcome, Trouble};
use super::warp::{Warp, lanes};
use crate::fault::FaultKind;
use crate::program::{BLOCK_SHIFT, Op, SHARED_WINDOW, ShuffleMode, Slot, VoteMode, WINDOW};

/// Executes the instruction for the lanes of `mask`.
#[inline(always)]
pub(super) fn execute(room: &mut Room<'_>, warp: &mut Warp, mask: u32, op: Op) -> Outcome<()> {
    match op {
        Op::Shuffle {
            mode,
            d,
            p,
            a,
            b,
            c,
            mask: members,
        } => {
            check(room, warp, mask, members)?;
            shuffle(warp, mask, mode, d, p, [a, b, c])
        }
        Op::Vote {
            mode,
            d,
            a,
            negate,
            mask: members,
        } => {
            let members = check(room, warp, mask, members)?;
            let votes = (warp.p[a as usize] ^ if negate { u32::MAX } else { 0 }) & members & mask;
            let of = |value: bool| if value { u32::MAX } else { 0 };
            let there = members & mask;
            match mode {
                VoteMode::Ballot => warp.spread(d, mask, votes),
                VoteMode::All => warp.set_predicate(d, mask, of(votes == there)),
                VoteMode::Any => warp.set_predicate(d, mask, of(votes != 0)),
                VoteMode::Uniform => warp.set_predicate(d, mask, of(votes == 0 || votes == there)),
            }
        }
        Op::Match {
            all,
            d,
            p,
            a,
            mask: members,
        } => {
            let members = check(room, warp, mask, members)? & mask;
            let values: [u64; 32] = std::array::from_fn(|lane| warp.read(a, lane));
            for lane in lanes(mask) {
                let value = values[lane];
                let same = lanes(members).filter(|other| values[*other] == value);
                let same = same.fold(0, |same, other| same | 1 << other);
                let agreed = same == members;
                warp.r[d as usize].0[lane] = if all && !agreed { 0 } else { same };
                if let Some(p) = p {
                    warp.set_predicate(p, 1 << lane, if agreed { u32::MAX } else { 0 });
                }
            }
        }
        Op::Redux {
            op,
            d,
            a,
            mask: members,
        } => {
            let members = check(room, warp, mask, members)? & mask;
            let values = warp.r[a as usize].0;
            let all = lanes(members).map(|lane| u64::from(values[lane]));
            let all = all.reduce(|x, y| scalar::arith(op, x, y, y)).unwrap_or(0);
            warp.spread(d, mask, all as u32);
        }
        Op::Elect {
            d,
            p,
            mask: members,
        } => {
            let members = check(room, warp, mask, members)?;
            let leader = (members & mask).trailing_zeros();
            warp.set_predicate(p, mask, 1 << leader);
            if let Some(d) = d {
                warp.spread(d, mask, leader);
            }
        }
        Op::MapShared {
            d,
            a,
            rank,
            generic,
        } => {
            for lane in lanes(mask) {
                let at = offset_in_block(room, warp, a, generic, lane)? & BLOCK_MASK;
                let rank = warp.r[rank as usize].0[lane];
                let blocks = room.launch.cluster_size();
                if rank >= blocks {
                    let detail = format!("mapa to block {rank} of a cluster of {blocks}");
                    return Err(Trouble::new(FaultKind::IllegalInstruction, lane, detail));
                }
                let mapped = at | u64::from(rank + 1) << BLOCK_SHIFT;
                warp.write(d, lane, if generic { SHARED_WINDOW } else { 0 } + mapped);
            }
        }
        Op::RankOfShared { d, a, generic } => {
            for lane in lanes(mask) {
                let owner = offset_in_block(room, warp, a, generic, lane)? >> BLOCK_SHIFT;
                let own = room.rank() as u32;
                warp.r[d as usize].0[lane] = (owner as u32).checked_sub(1).unwrap_or(own);
            }
        }
        Op::WarpBarrier { mask: members } => {
            check(room, warp, mask, members)?;
            warp.syncs += 1;
            room.order.warp_barrier(warp);
        }
        other => unreachable!("{other:?} is not for lanes together"),
    }
    Ok(())
}

const BLOCK_MASK: u64 = (1 << BLOCK_SHIFT) - 1;

/// An address as one of the cluster's shared memory.
fn offset_in_block(
    room: &Room<'_>,
    warp: &Warp,
    a: Slot,
    generic: bool,
    lane: usize,
) -> Outcome<u64> {
    let address = warp.read(a, lane);
    let at = address.wrapping_sub(if generic { SHARED_WINDOW } else { 0 });
    if at < WINDOW {
        return Ok(at);
    }
    let size = room.shared.len();
    let detail = format!("not an address of shared memory, of which a block has {size} bytes");
    Err(Trouble::at(FaultKind::OutOfBounds, lane, address, detail))
}

/// The member mask, if it fits the lanes that are here.
#[inline(always)]
fn check(room: &Room<'_>, warp: &Warp, mask: u32, members: u16) -> Outcome<u32> {
    let masks = &warp.r[members as usize].0;
    let members = masks[mask.trailing_zeros() as usize];
    if members == mask && lanes(mask).all(|lane| masks[lane] == members) {
        return Ok(members);
    }
    mismatch(room, mask, masks, warp.alive)
}

/// Says what is wrong with a mask that is not just the lanes that are here, or that it is good enough.
#[cold]
fn mismatch(room: &Room<'_>, mask: u32, masks: &[u32; 32], alive: u32) -> Outcome<u32> {
    let first = masks[mask.trailing_zeros() as usize];
    for lane in lanes(mask) {
        let members = masks[lane];
        let detail = if members != first {
            format!("lanes name different masks: {first:#010x} and {members:#010x}")
        } else if members >> lane & 1 == 0 {
            format!("lane {lane} executes it and is not in its own mask {members:#010x}")
        } else if members & !mask == 0 || !room.launch.checks.lanes {
            continue;
        } else {
            let absent = (members & !mask).trailing_zeros();
            let why = if alive >> absent & 1 == 1 {
                "is elsewhere"
            } else {
                "has exited or never was"
            };
            format!(
                "mask {members:#010x} names lane {absent}, which {why}: only {mask:#010x} are here"
            )
        };
        return Err(Trouble::new(FaultKind::AbsentLane, lane, detail));
    }
    Ok(first)
}

/// Each lane's value of the lane at that distance; a known one is a vector instruction or two.
#[inline(always)]
fn butterfly<const DISTANCE: usize>(a: &[u32; 32]) -> [u32; 32] {
    std::array::from_fn(|lane| a[lane ^ DISTANCE])
}

/// What a lane gets of one that is not here, which PTX leaves undefined: a NaN in every format.
const UNDEFINED: u32 = u32::MAX;

#[inline(always)]
fn shuffle(
    warp: &mut Warp,
    mask: u32,
    mode: ShuffleMode,
    d: u16,
    p: Option<u16>,
    [a, b, c]: [u16; 3],
) {
    let uniform = |slot: u16| {
        let values = &warp.r[slot as usize].0;
        let differs = values
            .iter()
            .fold(0, |all, value| all | (value ^ values[0]));
        (differs == 0).then_some(values[0])
    };
    // A butterfly over the whole warp, as reductions have them: no lane is outside.
    if mask == u32::MAX
        && mode == ShuffleMode::Xor
        && let (Some(distance), Some(0x1f)) = (uniform(b), uniform(c).map(|c| c & 0x1f1f))
    {
        let a = &warp.r[a as usize].0;
        let out = match distance & 31 {
            1 => butterfly::<1>(a),
            2 => butterfly::<2>(a),
            4 => butterfly::<4>(a),
            8 => butterfly::<8>(a),
            16 => butterfly::<16>(a),
            other => std::array::from_fn(|lane| a[lane ^ other as usize]),
        };
        warp.r[d as usize].0 = out;
        if let Some(p) = p {
            warp.set_predicate(p, mask, u32::MAX);
        }
        return;
    }
    let (a, b, c) = (
        warp.r[a as usize].0,
        warp.r[b as usize].0,
        warp.r[c as usize].0,
    );
    let mut valid = 0;
    let mut out = [0; 32];
    for lane in 0..32u32 {
        let (b, c) = (b[lane as usize] & 31, c[lane as usize]);
        // The lanes of a segment differ in the bits outside its mask; the clamp is within it.
        let (clamp, segment) = (c & 31, c >> 8 & 31);
        let last = (lane & segment) | (clamp & !segment);
        let first = lane & segment;
        let (from, inside) = match mode {
            ShuffleMode::Up => (lane.wrapping_sub(b), lane as i32 - b as i32 >= last as i32),
            ShuffleMode::Down => (lane + b, lane + b <= last),
            ShuffleMode::Xor => (lane ^ b, lane ^ b <= last),
            ShuffleMode::Index => {
                let from = first | (b & !segment);
                (from, from <= last)
            }
        };
        let from = if inside { from & 31 } else { lane };
        valid |= u32::from(inside) << lane;
        out[lane as usize] = if mask >> from & 1 != 0 {
            a[from as usize]
        } else {
            UNDEFINED
        };
    }
    write(&mut warp.r[d as usize].0, mask, |lane| out[lane]);
    if let Some(p) = p {
        warp.set_predicate(p, mask, valid);
    }
}
