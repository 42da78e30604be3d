//! Asynchronous copies: issued, put into groups, and done no sooner than they are waited for.
//!
//! On a device a copy lands some time between its issue and its wait. Here it lands at the wait, the
//! last moment that is right, so that a kernel which reads too early sees what was there before.

use super::access::Action;
use super::flight;
use super::room::Room;
use super::shadow::{How, Who};
use super::trace::Touch;
use super::trouble::{Outcome, Trouble};
use super::warp::{Warp, lanes};
use crate::fault::FaultKind;
use crate::program::{AsyncCopy, Class, Slot};

/// A copy under way.
struct Pending {
    lane: u8,
    bytes: u8,
    group: u32,
    to: u32,
    data: [u8; 16],
}

/// The copies under way of a warp's lanes.
#[derive(Default)]
pub(super) struct Copies {
    pending: Vec<Pending>,
    /// Groups that each lane has ended.
    committed: [u32; 32],
}

impl Copies {
    pub fn clear(&mut self) {
        self.pending.clear();
        self.committed = [0; 32];
    }

    /// Ends a group of the lanes of `mask`.
    pub fn commit(&mut self, mask: u32) {
        lanes(mask).for_each(|lane| self.committed[lane] += 1);
    }
}

fn address(warp: &Warp, (base, offset): (Slot, i64), lane: usize) -> u64 {
    let base = match base.class {
        Class::R64 => warp.d[base.index as usize].0[lane],
        _ => warp.r[base.index as usize].0[lane].into(),
    };
    base.wrapping_add_signed(offset)
}

/// Starts a copy of each lane. Both addresses are checked now, and the data is read.
pub(super) fn issue(
    room: &mut Room<'_>,
    warp: &mut Warp,
    copy: &AsyncCopy,
    mask: u32,
) -> Outcome<()> {
    let bytes = u64::from(copy.bytes);
    let ignored = copy.ignore.map_or(0, |(p, negate)| {
        warp.p[p as usize] ^ if negate { u32::MAX } else { 0 }
    });
    let (mut reading, mut all_from, mut all_to) = (0, [0; 32], [0; 32]);
    for lane in lanes(mask) {
        let to = address(warp, copy.to, lane);
        let from = address(warp, copy.from, lane);
        let given = match copy.given {
            _ if ignored >> lane & 1 == 1 => 0,
            Some(slot) => warp.r[slot as usize].0[lane].into(),
            None => bytes,
        };
        if given > bytes {
            let detail = format!("cp.async of {bytes} bytes is told to read {given}");
            return Err(Trouble::new(FaultKind::IllegalInstruction, lane, detail));
        }
        for (address, space) in [(to, "shared"), (from, "global")] {
            if !address.is_multiple_of(bytes) {
                let detail = format!(
                    "the {space} address of a copy of {bytes} bytes is no multiple of {bytes}"
                );
                return Err(Trouble::at(FaultKind::Misaligned, lane, address, detail));
            }
        }
        let size = room.shared.len() as u64;
        if to.checked_add(bytes).is_none_or(|end| end > size) {
            let detail = format!(
                "a copy of {bytes} bytes to {to:#x} of a block's {size} bytes of shared memory"
            );
            return Err(Trouble::at(FaultKind::OutOfBounds, lane, to, detail));
        }
        all_to[lane] = to;
        let mut data = [0; 16];
        if given > 0 {
            reading |= 1 << lane;
            all_from[lane] = from;
            let launch = room.launch;
            let Some(found) = launch.find(&mut room.last_allocation, from, given) else {
                return Err(launch.outside(lane, from, given));
            };
            let allocation = &launch.allocations[found];
            let start = from - allocation.info.base;
            if let Some(written) = &allocation.written
                && !written.all(start, given)
            {
                let detail = "neither the host nor a kernel wrote it since it was allocated";
                let mut trouble = Trouble::at(FaultKind::Uninitialised, lane, from, detail);
                trouble.allocation = Some(allocation.info);
                return Err(trouble);
            }
            if launch.checks.global_races {
                let thread = warp.index * 32 + lane as u32;
                let number = launch.program.accesses.len() as u32 + copy.number;
                room.trace.note(
                    number,
                    Touch::Read,
                    from,
                    given,
                    warp.pc,
                    thread,
                    warp.early,
                );
            }
            allocation
                .backing
                .read(from - allocation.info.base, &mut data[..given as usize]);
        }
        // Between issue and wait nobody else may touch the place, so both count as the write.
        if !room.shadow.is_off() {
            room.touch(How::Write, to, copy.bytes, warp.who(lane))?;
        }
        if room.launch.adversary.lands_early(warp.pc, warp.index) {
            room.shared[to as usize..(to + bytes) as usize]
                .copy_from_slice(&data[..bytes as usize]);
        }
        let group = warp.copies.committed[lane];
        warp.copies.pending.push(Pending {
            lane: lane as u8,
            bytes: bytes as u8,
            group,
            to: to as u32,
            data,
        });
    }
    if room.launch.checks.counters {
        room.tally.shared(Action::Store, mask, &all_to, copy.bytes);
        if reading != 0 {
            // An allocation starts at the start of a sector, so addresses do for offsets.
            let sectors = room
                .tally
                .scattered(Action::Load, reading, &all_from, bytes);
            warp.flight.copy(sectors);
        }
    }
    Ok(())
}

/// Threads exit: their copies that were never waited for may come as late as this, over what is there by now.
pub(super) fn exit(room: &mut Room<'_>, warp: &mut Warp, mask: u32) -> Outcome<()> {
    if room.shadow.is_off() {
        return Ok(());
    }
    for copy in std::mem::take(&mut warp.copies.pending) {
        let lane = usize::from(copy.lane);
        if mask >> lane & 1 == 1 {
            room.touch(
                How::Write,
                copy.to.into(),
                copy.bytes.into(),
                warp.who(lane),
            )?;
        } else {
            warp.copies.pending.push(copy);
        }
    }
    Ok(())
}

/// Lets the copies of all but the last `keep` groups land.
pub(super) fn wait(
    room: &mut Room<'_>,
    warp: &mut Warp,
    mask: u32,
    keep: Option<u32>,
) -> Outcome<()> {
    let first = warp.who(0);
    let Copies { pending, committed } = &mut warp.copies;
    let mut outcome = Ok(());
    let before = pending.len();
    pending.retain(|copy| {
        let lane = usize::from(copy.lane);
        let done = keep.is_none_or(|keep| copy.group < committed[lane].saturating_sub(keep));
        if mask >> lane & 1 == 0 || !done || outcome.is_err() {
            return true;
        }
        let (to, bytes) = (copy.to as usize, usize::from(copy.bytes));
        if !room.shadow.is_off() {
            let who = Who {
                thread: first.thread + lane as u32,
                ..first
            };
            outcome = room.touch(How::Write, to as u64, bytes as u32, who);
        }
        room.shared[to..to + bytes].copy_from_slice(&copy.data[..bytes]);
        false
    });
    let came = before - pending.len();
    flight::wait_for_copies(room, warp, came, before);
    outcome
}
