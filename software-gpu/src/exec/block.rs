//! A block: its warps and its barriers.

use super::launch::Launch;
use super::room::Room;
use super::trouble::{Outcome, Trouble};
use super::warp::{State, Warp, lanes};
use crate::fault::FaultKind;
use crate::program::{BarrierKind, Class, Initial, Op};

/// One of the 16 barriers of a block.
#[derive(Clone, Copy, Default)]
struct Barrier {
    /// Threads that wait or have arrived.
    arrived: u32,
    /// Threads with the predicate true.
    votes: u32,
    /// How many threads open it, if not all.
    count: Option<u32>,
    /// The warps that wait or have arrived, a bit each.
    warps: u32,
    /// Those that opened it last, if not all did, and when.
    before: (u32, u32),
}

/// The warps of a block.
pub(super) struct Block {
    pub warps: Vec<Warp>,
    barriers: [Barrier; 16],
}

/// A fault and the warp that has it: the block's rank in the cluster, its number, the instruction, and the
/// trouble.
pub(super) struct Failure {
    pub rank: u32,
    pub warp: u32,
    pub pc: u32,
    pub trouble: Box<Trouble>,
}

impl Block {
    pub fn new(launch: &Launch<'_>) -> Block {
        let warps = launch.threads.div_ceil(32);
        let mut warps: Vec<Warp> = (0..warps)
            .map(|_| Warp::new(launch.program, launch.local_bytes))
            .collect();
        for (index, warp) in warps.iter_mut().enumerate() {
            launch.fill(warp, index as u32);
        }
        Block {
            warps,
            barriers: [Barrier::default(); 16],
        }
    }

    /// Puts the block of that number at its start: the one of that rank in its cluster, which runs.
    pub fn start(&mut self, room: &mut Room<'_>, number: u64, rank: u32) {
        let launch = room.launch;
        let epoch = room.epoch();
        room.shared.fill(0xff);
        room.shadow.begin(epoch);
        room.trace.begin(number);
        self.barriers = [Barrier::default(); 16];
        for (i, warp) in self.warps.iter_mut().enumerate() {
            let threads = (launch.threads - i as u32 * 32).min(32);
            let all = if threads == 32 {
                u32::MAX
            } else {
                (1 << threads) - 1
            };
            warp.start(rank, i as u32, all, epoch, launch.before.is_some());
            for (slot, initial) in &launch.program.initial {
                if let (Initial::Special(special), Class::R32) = (initial, slot.class)
                    && special.is_of_block()
                {
                    let value = launch.of_block(*special, number, rank);
                    warp.r[slot.index as usize].0 = [value; 32];
                }
            }
        }
    }

    /// A warp has ended.
    pub fn ended(&mut self, room: &mut Room<'_>) -> Result<(), Box<Failure>> {
        self.open_if_full(room)?;
        if self.warps.iter().all(|warp| warp.state == State::Done) {
            room.exit(&self.warps)?;
        }
        Ok(())
    }

    /// The first warp that waits, and the instruction that it waits at.
    pub fn stuck(&self) -> Option<(usize, u32)> {
        self.warps
            .iter()
            .enumerate()
            .find_map(|(i, warp)| match warp.state {
                State::Waiting { pc, .. } | State::WaitingForCluster { pc } => Some((i, pc)),
                _ => None,
            })
    }

    /// A warp comes to a barrier.
    #[expect(
        clippy::too_many_arguments,
        reason = "a barrier's operands, and who is at it"
    )]
    pub fn arrive(
        &mut self,
        room: &mut Room<'_>,
        i: usize,
        pc: u32,
        id: u32,
        count: Option<u32>,
        kind: BarrierKind,
        mask: u32,
    ) -> Outcome<()> {
        room.tally.barriers += 1;
        let warp = &mut self.warps[i];
        let barrier = &mut self.barriers[id as usize];
        if barrier.arrived > 0 && barrier.count != count {
            let lane = mask.trailing_zeros() as usize;
            let word = |count: Option<u32>| {
                count.map_or("all threads".into(), |count| format!("{count} threads"))
            };
            let detail = format!(
                "barrier {id} waits for {}, this warp for {}",
                word(barrier.count),
                word(count)
            );
            return Err(Trouble::new(FaultKind::BarrierDivergence, lane, detail));
        }
        let (before, epoch) = barrier.before;
        let is_other = before != 0 && epoch == room.epoch() && before >> i & 1 == 0;
        if is_other && room.launch.checks.barriers {
            let lane = mask.trailing_zeros() as usize;
            let detail = format!(
                "barrier {id} was last opened by other warps, and nothing keeps this one from meeting them"
            );
            return Err(Trouble::new(FaultKind::BarrierDivergence, lane, detail));
        }
        barrier.count = count;
        // Barriers count whole warps.
        barrier.arrived += 32;
        barrier.warps |= 1 << i;
        if count.is_some() {
            room.order.meet(warp, id);
        }
        if let BarrierKind::Count { p, negate, .. }
        | BarrierKind::All { p, negate, .. }
        | BarrierKind::Any { p, negate, .. } = kind
        {
            let value = warp.p[p as usize] ^ if negate { u32::MAX } else { 0 };
            barrier.votes += (value & mask).count_ones();
        }
        if kind != BarrierKind::Arrive {
            warp.state = State::Waiting { barrier: id, pc };
        }
        self.open_if_full(room).map_err(|failure| failure.trouble)
    }

    /// Opens every barrier that all are at.
    fn open_if_full(&mut self, room: &mut Room<'_>) -> Result<(), Box<Failure>> {
        let ended = self
            .warps
            .iter()
            .filter(|warp| warp.state == State::Done)
            .count() as u32;
        let all = self.warps.len() as u32;
        for id in 0..16 {
            let Barrier {
                arrived,
                votes,
                count,
                warps,
                ..
            } = self.barriers[id as usize];
            if arrived == 0 {
                continue;
            }
            // Threads that have exited are not waited for.
            let open = match count {
                Some(count) => arrived >= count,
                None => arrived >= (all - ended) * 32,
            };
            if !open {
                continue;
            }
            if count.is_none() && ended > 0 && room.launch.checks.barriers {
                let Some((i, pc)) = self.stuck() else {
                    continue;
                };
                let detail = format!(
                    "{ended} of {all} warps of the block exited without reaching barrier {id}"
                );
                let lane = self.warps[i].mask.trailing_zeros() as usize;
                let trouble = Trouble::new(FaultKind::BarrierDivergence, lane, detail);
                return Err(Box::new(Failure {
                    rank: room.rank() as u32,
                    warp: i as u32,
                    pc,
                    trouble,
                }));
            }
            self.barriers[id as usize] = Barrier::default();
            match count {
                Some(count) if count < room.launch.threads || !self.all_wait(id, warps) => {
                    self.barriers[id as usize].before = (warps, room.epoch());
                    self.release_some(room, id, votes, count);
                }
                _ => self.release(room, id, votes),
            }
        }
        Ok(())
    }

    /// All these warps wait at the barrier: none has arrived and gone on.
    fn all_wait(&self, id: u32, warps: u32) -> bool {
        let waits =
            |warp: &Warp| matches!(warp.state, State::Waiting { barrier, .. } if barrier == id);
        let waiting = self.warps.iter().filter(|warp| waits(warp)).count();
        waiting == warps.count_ones() as usize
    }

    /// Lets the warps at a barrier of all threads go on.
    fn release(&mut self, room: &mut Room<'_>, id: u32, votes: u32) {
        room.advance();
        room.order.met(room.rank(), id);
        room.order.block_barrier(room.rank());
        // What one of them has seen of other blocks, all have now.
        let seen = self.warps.iter().map(|warp| warp.cluster.seen).max();
        let seen = seen.unwrap_or(0);
        let early = self.warps.iter().all(|warp| warp.early);
        for warp in &mut self.warps {
            warp.epoch = room.epoch();
            warp.cluster.seen = seen;
            warp.early = early;
            warp.pass(room.launch, id, votes, room.launch.threads);
        }
    }

    /// Lets the warps at a barrier of some threads go on: what lies before it for them does not for the others.
    fn release_some(&mut self, room: &mut Room<'_>, id: u32, votes: u32, count: u32) {
        let met = room.order.met(room.rank(), id);
        let waits = |warp: &&mut Warp| matches!(warp.state, State::Waiting { barrier, .. } if barrier == id);
        let (mut seen, mut early) = (0, true);
        for warp in self.warps.iter_mut().filter(waits) {
            seen = seen.max(warp.cluster.seen);
            early &= warp.early;
        }
        for warp in self.warps.iter_mut().filter(waits) {
            room.order.acquire(warp, warp.alive, &met);
            (warp.cluster.seen, warp.early) = (seen, early);
            warp.pass(room.launch, id, votes, count);
        }
    }
}

impl Warp {
    /// Goes on behind a barrier, if it waits there.
    fn pass(&mut self, launch: &Launch<'_>, id: u32, votes: u32, threads: u32) {
        let State::Waiting { barrier, pc } = self.state else {
            return;
        };
        if barrier != id {
            return;
        }
        self.state = State::Ready;
        let Op::Barrier { kind, .. } = launch.program.code[pc as usize].op else {
            return;
        };
        let truth = |value: bool| if value { u32::MAX } else { 0 };
        match kind {
            BarrierKind::Count { d, .. } => self.spread(d, self.mask, votes),
            BarrierKind::All { d, .. } => self.set_predicate(d, self.mask, truth(votes == threads)),
            BarrierKind::Any { d, .. } => self.set_predicate(d, self.mask, truth(votes > 0)),
            BarrierKind::Wait | BarrierKind::Arrive => {}
        }
    }
}

impl Launch<'_> {
    /// Fills a warp's constants. They stay from block to block, but for what tells of the block.
    fn fill(&self, warp: &mut Warp, index: u32) {
        for (slot, initial) in &self.program.initial {
            for lane in lanes(u32::MAX) {
                let value = match *initial {
                    Initial::Constant(value) => value,
                    Initial::Special(special) => self.special(special, index, lane as u32),
                    Initial::Param { offset, ty, bits } => self.parameter(offset, ty, bits),
                };
                warp.write(*slot, lane, value);
            }
        }
    }
}
