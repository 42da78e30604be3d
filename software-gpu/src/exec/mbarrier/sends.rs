//! `st.async`: data on its way into the shared memory of a block of the cluster, and to the barrier that it counts at.
//!
//! It comes some turns later, by the adversary's choice, and until then the place holds what was there before.

use std::rc::Rc;

use super::{BYTES, addresses, misuse, place, usable};
use crate::exec::access::Action;
use crate::exec::block::Failure;
use crate::exec::order::Known;
use crate::exec::room::Room;
use crate::exec::shadow::{How, Who};
use crate::exec::trouble::{Outcome, Trouble};
use crate::exec::warp::{Warp, lanes};
use crate::fault::FaultKind;
use crate::program::{MBarrierKind, MBarrierOp};

/// What is under way.
pub(super) struct Send {
    rank: usize,
    at: u64,
    data: [u8; 16],
    bytes: u32,
    barrier: u32,
    by: Who,
    released: Option<Rc<Known>>,
    /// The turn at whose start it comes.
    due: u64,
}

/// Sends data, lane by lane.
pub(in crate::exec) fn send(
    room: &mut Room<'_>,
    warp: &mut Warp,
    op: &MBarrierOp,
    mask: u32,
) -> Outcome<()> {
    let MBarrierKind::Send { barrier, ty, data } = &op.kind else {
        return Ok(());
    };
    let bytes = ty.bytes() * data.len() as u32;
    let all = addresses(warp, op.at, mask);
    let barriers = addresses(warp, *barrier, mask);
    let released = room.order.release(warp, mask);
    let (mut offsets, mut ranks) = ([0; 32], [0; 32]);
    let home = room.rank();
    for (nth, lane) in lanes(mask).enumerate() {
        let who = warp.who(lane);
        let (rank, at) = place(room, warp, lane, all[lane], op.space, bytes.into())?;
        let (of, to) = place(room, warp, lane, barriers[lane], op.space, BYTES)?;
        if of != rank {
            let why = format!("the mbarrier is block {of}'s, the data goes to block {rank}");
            return Err(misuse(lane, to, why));
        }
        usable(room, who, (rank, to))?;
        (offsets[lane], ranks[lane]) = (at, rank);
        let turn = room.mbarriers.turn;
        let delay = room.launch.adversary.delay(turn, who.thread);
        let barrier = room
            .mbarriers
            .find(rank, to)
            .expect("as was checked")
            .number;
        let mut sent = [0; 16];
        let size = ty.bytes() as usize;
        for (slot, to) in data.iter().zip(sent.chunks_mut(size)) {
            let value = slot.map_or(0, |slot| warp.read(slot, lane));
            to.copy_from_slice(&value.to_le_bytes()[..size]);
        }
        room.enter(rank);
        let outcome = room.touch(How::Write, at, bytes, who);
        room.shadow.send(at, bytes, barrier);
        room.enter(home);
        outcome?;
        room.mbarriers.changes += 1;
        room.mbarriers.sends.push(Send {
            rank,
            at,
            data: sent,
            bytes,
            barrier,
            by: who,
            released: released.get(nth).cloned(),
            due: turn + delay,
        });
    }
    if room.launch.checks.counters {
        // A request for each block, as of stores.
        let mut rest = mask;
        while rest != 0 {
            let first = ranks[rest.trailing_zeros() as usize];
            let now = lanes(rest).filter(|lane| ranks[*lane] == first);
            let now = now.fold(0, |now, lane| now | 1 << lane);
            room.tally.shared(Action::Store, now, &offsets, bytes);
            rest &= !now;
        }
    }
    Ok(())
}

/// A turn begins: what is due comes.
#[inline(always)]
pub(in crate::exec) fn turn(room: &mut Room<'_>) -> Result<(), Box<Failure>> {
    if room.mbarriers.is_unused() {
        return Ok(());
    }
    room.mbarriers.turn += 1;
    let now = room.mbarriers.turn;
    while let Some(next) = room.mbarriers.sends.iter().position(|s| s.due <= now) {
        let send = room.mbarriers.sends.remove(next);
        let (by, at) = (send.by, send.at);
        deliver(room, send).map_err(|why| failure(by, FaultKind::MBarrier, Some(at), why))?;
    }
    Ok(())
}

fn deliver(room: &mut Room<'_>, send: Send) -> Result<(), String> {
    let Send {
        rank,
        at,
        data,
        bytes,
        ..
    } = send;
    let barriers = &mut room.mbarriers.of_block[rank];
    let Some(barrier) = barriers.iter_mut().find(|b| b.number == send.barrier) else {
        return Err("what was sent came after its mbarrier was invalidated".into());
    };
    barrier.add(-i64::from(bytes))?;
    if let Some(released) = send.released {
        barrier.coming.join(&released);
    }
    let phase = barrier.ended + 1;
    barrier.last = Some((send.by.pc, send.by.thread, phase));
    barrier.end_if_full();
    room.mbarriers.changes += 1;
    let home = room.rank();
    room.enter(rank);
    room.shared[at as usize..][..bytes as usize].copy_from_slice(&data[..bytes as usize]);
    room.shadow.deliver(at, bytes, send.barrier, phase);
    room.enter(home);
    Ok(())
}

/// A block has ended. An error if something could still come.
pub(in crate::exec) fn exit(room: &Room<'_>, rank: usize) -> Result<(), Box<Failure>> {
    let detail = |how: &str| {
        format!(
            "shared memory of block {rank} of the cluster, which {how} before this has come: none of its threads \
             has waited for it"
        )
    };
    if let Some(send) = room.mbarriers.sends.iter().find(|s| s.rank == rank) {
        let detail = detail("exits");
        return Err(failure(
            send.by,
            FaultKind::AbsentBlock,
            Some(send.at),
            detail,
        ));
    }
    if !room.order.is_on() {
        return Ok(());
    }
    for barrier in &room.mbarriers.of_block[rank] {
        let Some((pc, thread, phase)) = barrier.last else {
            continue;
        };
        if !room.order.block_knows_end(rank, barrier.number, phase) {
            let who = Who {
                thread,
                pc,
                ..Who::default()
            };
            let detail = detail("may exit");
            return Err(failure(who, FaultKind::AbsentBlock, None, detail));
        }
    }
    Ok(())
}

fn failure(by: Who, kind: FaultKind, at: Option<u64>, why: String) -> Box<Failure> {
    let in_block = by.in_block();
    let mut trouble = Trouble::new(kind, in_block as usize % 32, why);
    trouble.address = at;
    Box::new(Failure {
        rank: by.rank(),
        warp: in_block / 32,
        pc: by.pc,
        trouble,
    })
}
