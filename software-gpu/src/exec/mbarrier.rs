//! Barriers in shared memory that count arrivals and bytes; `sends` has what is sent to them.
//!
//! A barrier is a word of 8 bytes that only its own instructions may touch; its state is kept here, beside the
//! memory.

mod sends;

use std::rc::Rc;

use self::sends::Send;
pub(super) use self::sends::{exit, send, turn};
use super::order::Known;
use super::room::Room;
use super::shadow::{How, Mark, Who};
use super::trouble::{Outcome, Trouble};
use super::warp::{Warp, lanes};
use crate::fault::FaultKind;
use crate::program::{BLOCK_SHIFT, MBarrierKind, MBarrierOp, SHARED_WINDOW, Slot, WINDOW};
use crate::ptx::ast::Space;

/// Bytes of a barrier.
const BYTES: u64 = 8;
/// The most arrivals of a phase, and the most bytes that it can wait for or be ahead of.
const MOST: u32 = (1 << 20) - 1;
/// Looks in vain, with nothing else at any barrier, after which a warp does not count as one that can go on.
const VAIN: u32 = 1000;

/// A barrier.
struct MBarrier {
    /// Its offset in its block's shared memory.
    at: u32,
    /// Its number among all that the cluster initialised.
    number: u32,
    count: u32,
    pending: u32,
    /// Bytes that the phase waits for, or less than none where they came first.
    bytes: i64,
    /// Phases that have ended.
    ended: u32,
    /// Who initialised it, after how many releases, and whether a fence made that seen.
    by: Mark,
    tick: u32,
    fenced: bool,
    /// What was released for it until now, and until the last phase ended.
    coming: Known,
    released: Rc<Known>,
    /// The last that another block did to it: its instruction, its thread, and the phase.
    last: Option<(u32, u32, u32)>,
}

/// The barriers of a cluster's blocks.
#[derive(Default)]
pub(super) struct MBarriers {
    of_block: Vec<Vec<MBarrier>>,
    sends: Vec<Send>,
    /// Barriers that were initialised.
    number: u32,
    turn: u64,
    /// What was done to any barrier.
    changes: u64,
    /// For each warp of the cluster that looked in vain: how often since that change, where, and for what.
    vain: Vec<Option<Vain>>,
}

#[derive(Clone, Copy)]
struct Vain {
    changes: u64,
    times: u32,
    pc: u32,
    lane: usize,
    rank: usize,
    at: u64,
}

impl MBarriers {
    pub fn new(blocks: usize) -> MBarriers {
        MBarriers {
            of_block: (0..blocks).map(|_| Vec::new()).collect(),
            ..MBarriers::default()
        }
    }

    /// A cluster starts.
    pub fn begin(&mut self) {
        self.of_block.iter_mut().for_each(Vec::clear);
        self.sends.clear();
        self.vain.clear();
        (self.number, self.turn, self.changes) = (0, 0, 0);
    }

    /// True where nothing was ever initialised.
    #[inline(always)]
    pub fn is_unused(&self) -> bool {
        self.number == 0
    }

    fn find(&mut self, rank: usize, at: u64) -> Option<&mut MBarrier> {
        let barriers = &mut self.of_block[rank];
        barriers.iter_mut().find(|b| u64::from(b.at) == at)
    }

    /// A barrier that has some of these bytes.
    pub fn meets(&self, rank: usize, at: u64, bytes: u64) -> Option<u64> {
        let barriers = self.of_block[rank].iter().map(|b| u64::from(b.at));
        barriers
            .into_iter()
            .find(|barrier| at < barrier + BYTES && *barrier < at + bytes)
    }

    /// A warp of the cluster finds that no warp of it can go on: the first that looked in vain.
    pub fn stuck(&self, warp: usize, waits: impl Fn(usize) -> bool, warps: usize) -> bool {
        let in_vain = |warp: usize| {
            let vain = self.vain.get(warp).copied().flatten();
            vain.is_some_and(|v| v.changes == self.changes && v.times >= VAIN)
        };
        self.sends.is_empty()
            && in_vain(warp)
            && (0..warps).all(|warp| waits(warp) || in_vain(warp))
    }

    /// What a warp waits for in vain.
    pub fn in_vain(&self, warp: usize) -> Option<(u32, Box<Trouble>)> {
        let vain = self.vain.get(warp).copied().flatten()?;
        let mut barriers = self.of_block[vain.rank].iter();
        let barrier = barriers.find(|b| u64::from(b.at) == vain.at)?;
        let detail = format!(
            "no warp of the cluster can go on: phase {} of the mbarrier at {:#x} waits for {} of {} arrivals and \
             {} bytes",
            barrier.ended, vain.at, barrier.pending, barrier.count, barrier.bytes
        );
        let kind = FaultKind::BarrierDivergence;
        Some((vain.pc, Trouble::at(kind, vain.lane, vain.at, detail)))
    }

    fn look_in_vain(&mut self, warp: &Warp, per_block: usize, lane: usize, rank: usize, at: u64) {
        let number = warp.rank as usize * per_block + warp.index as usize;
        if self.vain.len() <= number {
            self.vain.resize(number + 1, None);
        }
        let before = self.vain[number].filter(|v| v.changes == self.changes);
        self.vain[number] = Some(Vain {
            changes: self.changes,
            times: before.map_or(1, |v| v.times.saturating_add(1)),
            pc: warp.pc,
            lane,
            rank,
            at,
        });
    }
}

impl MBarrier {
    /// More bytes to wait for, or fewer.
    fn add(&mut self, bytes: i64) -> Result<(), String> {
        self.bytes += bytes;
        if self.bytes.unsigned_abs() <= MOST.into() {
            return Ok(());
        }
        Err(format!(
            "its phase waits for {} bytes: at most {MOST} more or less than none",
            self.bytes
        ))
    }

    fn arrive(&mut self, count: u32) -> Result<(), String> {
        if count == 0 || count > self.pending {
            return Err(format!(
                "{count} arrivals more than its phase takes: {} of {} are left",
                self.pending, self.count
            ));
        }
        self.pending -= count;
        Ok(())
    }

    fn end_if_full(&mut self) {
        if self.pending == 0 && self.bytes == 0 {
            self.ended += 1;
            self.pending = self.count;
            self.coming.ended(self.number, self.ended);
            self.released = Rc::new(self.coming.clone());
        }
    }
}

/// The addresses of all lanes.
fn addresses(warp: &Warp, (base, offset): (Slot, i64), mask: u32) -> [u64; 32] {
    let mut out = [0; 32];
    for lane in lanes(mask) {
        out[lane] = warp.read(base, lane).wrapping_add_signed(offset);
    }
    out
}

/// The block whose shared memory the address is in, and where it is there.
fn place(
    room: &Room<'_>,
    warp: &Warp,
    lane: usize,
    address: u64,
    space: Space,
    bytes: u64,
) -> Outcome<(usize, u64)> {
    let mut at = address;
    if !at.is_multiple_of(bytes) {
        let detail = format!("{bytes} bytes need an address that is a multiple of {bytes}");
        return Err(Trouble::at(FaultKind::Misaligned, lane, address, detail));
    }
    if space == Space::Generic {
        at = address.wrapping_sub(SHARED_WINDOW);
        if at >= WINDOW {
            let detail = "a generic address that is not in shared memory";
            return Err(Trouble::at(FaultKind::OutOfBounds, lane, address, detail));
        }
    }
    let mut rank = room.rank();
    if space != Space::Shared && at >> BLOCK_SHIFT != 0 {
        rank = (at >> BLOCK_SHIFT) as usize - 1;
        at &= (1 << BLOCK_SHIFT) - 1;
    }
    if rank != room.rank() {
        room.reach(warp, rank, lane, address)?;
    }
    let size = room.shared.len() as u64;
    if at.checked_add(bytes).is_none_or(|end| end > size) {
        let detail = format!("{bytes} bytes at {at:#x} of a block's {size} bytes of shared memory");
        return Err(Trouble::at(FaultKind::OutOfBounds, lane, address, detail));
    }
    Ok((rank, at))
}

fn misuse(lane: usize, at: u64, why: impl Into<String>) -> Box<Trouble> {
    Trouble::at(FaultKind::MBarrier, lane, at, why)
}

/// An error unless there is a barrier that the thread may use: initialised before, for it to see.
fn usable(room: &mut Room<'_>, who: Who, (rank, at): (usize, u64)) -> Outcome<()> {
    let lane = who.thread as usize % 32;
    let races = room.launch.checks.shared_races;
    let Some(barrier) = room.mbarriers.find(rank, at) else {
        let why = format!("no mbarrier has been initialised at {at:#x} of shared memory");
        return Err(misuse(lane, at, why));
    };
    let (by, tick) = (barrier.by, barrier.tick);
    let fenced = barrier.fenced && who.cluster.waited > by.arrived;
    if !races || fenced || !by.clashes(0, who) || room.order.knows(who, &by, tick) {
        return Ok(());
    }
    let detail = format!(
        "use of the mbarrier at {at:#x}, with no barrier after another thread's initialisation"
    );
    let mut trouble = Trouble::at(FaultKind::SharedRace, lane, at, detail);
    trouble.other = Some((by.pc, by.thread.into()));
    Err(trouble)
}

/// Executes an instruction on barriers. False if the warp waits: it gives its turn away.
pub(super) fn execute(
    room: &mut Room<'_>,
    warp: &mut Warp,
    op: &MBarrierOp,
    mask: u32,
) -> Outcome<bool> {
    let all = addresses(warp, op.at, mask);
    let mut goes_on = true;
    let released = match op.kind {
        MBarrierKind::Arrive { release: true, .. } => room.order.release(warp, mask),
        _ => Vec::new(),
    };
    for (nth, lane) in lanes(mask).enumerate() {
        let who = warp.who(lane);
        let home = room.rank();
        let (rank, at) = place(room, warp, lane, all[lane], op.space, BYTES)?;
        if let MBarrierKind::Init { count } = op.kind {
            let count = warp.r[count as usize].0[lane];
            init(room, who, (rank, at), count)?;
            continue;
        }
        usable(room, who, (rank, at))?;
        let MBarriers { of_block, .. } = &mut room.mbarriers;
        let found = of_block[rank].iter().position(|b| u64::from(b.at) == at);
        let index = found.expect("as was checked");
        let barrier = &mut of_block[rank][index];
        let number = |slot: u16| warp.r[slot as usize].0[lane];
        match op.kind {
            MBarrierKind::Init { .. } | MBarrierKind::Send { .. } => {}
            MBarrierKind::Invalidate => {
                of_block[rank].swap_remove(index);
                room.touch(How::Write, at, BYTES as u32, who)?;
            }
            MBarrierKind::Arrive {
                state,
                count,
                bytes,
                ..
            } => {
                let phase = barrier.ended;
                if rank != home {
                    barrier.last = Some((who.pc, who.thread, phase + 1));
                }
                let outcome = barrier
                    .add(bytes.map_or(0, number).into())
                    .and_then(|()| barrier.arrive(count.map_or(1, number)));
                outcome.map_err(|why| misuse(lane, at, why))?;
                if let Some(released) = released.get(nth) {
                    barrier.coming.join(released);
                }
                barrier.end_if_full();
                room.mbarriers.changes += 1;
                if let Some(state) = state {
                    warp.d[state as usize].0[lane] = phase.into();
                }
            }
            MBarrierKind::Expect { bytes } => {
                let outcome = barrier.add(number(bytes).into());
                outcome.map_err(|why| misuse(lane, at, why))?;
                barrier.end_if_full();
                room.mbarriers.changes += 1;
            }
            MBarrierKind::Wait { p, of, acquire } => {
                let of_wanted = warp.read(of, lane);
                let ended = match of.class {
                    crate::program::Class::R64 => of_wanted != barrier.ended.into(),
                    _ => of_wanted & 1 != u64::from(barrier.ended & 1),
                };
                let released = barrier.released.clone();
                let word = &mut warp.p[p as usize];
                *word = (*word & !(1 << lane)) | (u32::from(ended) << lane);
                if !ended {
                    goes_on = false;
                    let per_block = room.launch.threads.div_ceil(32) as usize;
                    room.mbarriers.look_in_vain(warp, per_block, lane, rank, at);
                } else if acquire {
                    // Lanes at one barrier learn together.
                    let value = |other: usize| (all[other], warp.read(of, other));
                    let same = |other: &usize| value(*other) == value(lane);
                    if lanes(mask).find(same) == Some(lane) {
                        let together = lanes(mask).filter(same).fold(0, |m, l| m | 1 << l);
                        room.order.acquire(warp, together, &released);
                    }
                }
            }
        }
    }
    Ok(goes_on)
}

fn init(room: &mut Room<'_>, who: Who, (rank, at): (usize, u64), count: u32) -> Outcome<()> {
    let lane = who.thread as usize % 32;
    if rank != room.rank() {
        let why = "a block initialises its own barriers alone";
        return Err(misuse(lane, at, why));
    }
    if count == 0 || count > MOST {
        let why = format!("an mbarrier of {count} arrivals: from 1 to {MOST} are allowed");
        return Err(misuse(lane, at, why));
    }
    if let Some(other) = room.mbarriers.meets(rank, at, BYTES) {
        let why = format!("there is an mbarrier at {other:#x}, which has not been invalidated");
        return Err(misuse(lane, at, why));
    }
    room.touch(How::Write, at, BYTES as u32, who)?;
    let tick = if room.order.is_on() {
        room.order.tick(who)
    } else {
        0
    };
    let nothing = room.order.nothing();
    let barriers = &mut room.mbarriers;
    barriers.of_block[rank].push(MBarrier {
        at: at as u32,
        number: barriers.number,
        count,
        pending: count,
        bytes: 0,
        ended: 0,
        by: who.mark(),
        tick,
        fenced: false,
        released: Rc::new(nothing.clone()),
        coming: nothing,
        last: None,
    });
    barriers.number += 1;
    barriers.changes += 1;
    Ok(())
}

/// What the lanes have initialised is seen after a barrier of the cluster, whatever that releases.
pub(super) fn fence(room: &mut Room<'_>, warp: &Warp, mask: u32) {
    let rank = room.rank();
    for barrier in &mut room.mbarriers.of_block[rank] {
        let by = u32::from(barrier.by.thread);
        barrier.fenced |= lanes(mask).any(|lane| warp.who(lane).thread == by);
    }
}
