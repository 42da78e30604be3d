//! A block: its warps in turn, its shared memory, its barriers.

use super::launch::Launch;
use super::shadow::Shadow;
use super::step::{Stop, run};
use super::tally::Tally;
use super::trace::Trace;
use super::trouble::{Outcome, Trouble};
use super::warp::{State, Warp, lanes};
use crate::fault::FaultKind;
use crate::program::{BarrierKind, Class, Initial};
use crate::ptx::ast::Special;

/// What the warps of a block share.
pub(super) struct Room<'a> {
    pub launch: &'a Launch<'a>,
    pub shared: Vec<u8>,
    pub shadow: Shadow,
    pub trace: Trace,
    pub tally: Tally,
    /// The access that is executed, by its number.
    pub access: u32,
    /// The allocation that was found last, by its number.
    pub last_allocation: usize,
}

impl Room<'_> {
    /// A special register that changes: time is counted in instructions.
    pub fn clock(&self, special: Special) -> u64 {
        let now = self.tally.now();
        if special == Special::ClockHi {
            now >> 32
        } else {
            now
        }
    }
}

/// One of the 16 barriers of a block.
#[derive(Clone, Copy, Default)]
struct Barrier {
    /// Threads that wait or have arrived.
    arrived: u32,
    /// Threads with the predicate true.
    votes: u32,
    /// How many threads open it, if not all.
    count: Option<u32>,
}

/// A worker: the memory of one block after the other.
pub(super) struct Block<'a> {
    pub room: Room<'a>,
    warps: Vec<Warp>,
    barriers: [Barrier; 16],
}

/// A fault and the warp that has it: its number, the instruction, and the trouble.
pub(super) type Failure = (u32, u32, Box<Trouble>);

impl<'a> Block<'a> {
    pub fn new(launch: &'a Launch<'a>) -> Block<'a> {
        let warps = launch.threads.div_ceil(32);
        let warps = (0..warps)
            .map(|_| Warp::new(launch.program, launch.local_bytes))
            .collect();
        let mut block = Block {
            room: Room {
                launch,
                shared: vec![0xff; launch.shared_bytes as usize],
                shadow: Shadow::new(
                    launch.program,
                    launch.shared_bytes,
                    launch.checks.shared_races,
                    launch.checks.initialised,
                ),
                trace: Trace::new(launch.program.accesses.len() + launch.program.copies.len()),
                tally: Tally::new(launch.program),
                access: 0,
                last_allocation: 0,
            },
            warps,
            barriers: [Barrier::default(); 16],
        };
        for (index, warp) in block.warps.iter_mut().enumerate() {
            launch.fill(warp, index as u32);
        }
        block
    }

    /// Runs the block of that number to its end.
    pub fn run(&mut self, number: u64) -> Result<(), Failure> {
        let launch = self.room.launch;
        self.room.shared.fill(0xff);
        self.room.shadow.begin();
        self.room.trace.begin(number);
        self.barriers = [Barrier::default(); 16];
        let index = launch.block_index(number);
        for (i, warp) in self.warps.iter_mut().enumerate() {
            let threads = (launch.threads - i as u32 * 32).min(32);
            let all = if threads == 32 {
                u32::MAX
            } else {
                (1 << threads) - 1
            };
            warp.start(i as u32, all);
            for (slot, initial) in &launch.program.initial {
                if let (Initial::Special(Special::Ctaid(axis)), Class::R32) = (initial, slot.class)
                {
                    warp.r[slot.index as usize].0 = [index[*axis as usize]; 32];
                }
            }
        }
        let before = self.room.tally.now();
        let mut round = 0;
        loop {
            round += 1;
            let mut moved = false;
            for place in 0..self.warps.len() {
                let (i, turn) = launch
                    .adversary
                    .warp(number, round, place, self.warps.len());
                if self.warps[i].state != State::Ready {
                    continue;
                }
                moved = true;
                if self.room.tally.now() - before > launch.most_instructions {
                    let warp = &self.warps[i];
                    let detail = format!(
                        "its block executed {} instructions without coming to an end",
                        self.room.tally.now() - before
                    );
                    let lane = warp.mask.trailing_zeros() as usize;
                    return Err((
                        i as u32,
                        warp.pc,
                        Trouble::new(FaultKind::Timeout, lane, detail),
                    ));
                }
                let pc = |warp: &Warp| warp.pc;
                let warp = &mut self.warps[i];
                match run(&mut self.room, warp, turn) {
                    Ok(Stop::Turn) => {}
                    Ok(Stop::Done) => {
                        warp.state = State::Done;
                        self.open_if_full().map_err(|failure| *failure)?;
                    }
                    Ok(Stop::Barrier {
                        id,
                        count,
                        kind,
                        lanes,
                    }) => {
                        let at = pc(warp) - 1;
                        self.arrive(i, at, id, count, kind, lanes)
                            .map_err(|trouble| (i as u32, at, trouble))?;
                    }
                    Err(trouble) => return Err((i as u32, pc(warp), trouble)),
                }
            }
            if moved {
                continue;
            }
            let Some((i, at)) = self.stuck() else {
                return Ok(());
            };
            let there = self
                .warps
                .iter()
                .filter(|warp| warp.state == State::Done)
                .count();
            let detail = format!(
                "{there} of {} warps have ended, and no warp can go on",
                self.warps.len()
            );
            let lane = self.warps[i].mask.trailing_zeros() as usize;
            return Err((
                i as u32,
                at,
                Trouble::new(FaultKind::BarrierDivergence, lane, detail),
            ));
        }
    }

    /// The first warp that waits, and the instruction that it waits at.
    fn stuck(&self) -> Option<(usize, u32)> {
        self.warps
            .iter()
            .enumerate()
            .find_map(|(i, warp)| match warp.state {
                State::Waiting { pc, .. } => Some((i, pc)),
                _ => None,
            })
    }

    /// A warp comes to a barrier.
    fn arrive(
        &mut self,
        i: usize,
        pc: u32,
        id: u32,
        count: Option<u32>,
        kind: BarrierKind,
        mask: u32,
    ) -> Outcome<()> {
        self.room.tally.barriers += 1;
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
        barrier.count = count;
        // Barriers count whole warps.
        barrier.arrived += 32;
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
        self.open_if_full().map_err(|failure| failure.2)
    }

    /// Opens every barrier that all are at.
    fn open_if_full(&mut self) -> Result<(), Box<Failure>> {
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
            if count.is_none() && ended > 0 && self.room.launch.checks.barriers {
                let Some((i, pc)) = self.stuck() else {
                    continue;
                };
                let detail = format!(
                    "{ended} of {all} warps of the block exited without reaching barrier {id}"
                );
                let lane = self.warps[i].mask.trailing_zeros() as usize;
                let trouble = Trouble::new(FaultKind::BarrierDivergence, lane, detail);
                return Err(Box::new((i as u32, pc, trouble)));
            }
            self.barriers[id as usize] = Barrier::default();
            self.release(id, votes);
        }
        Ok(())
    }

    /// Lets the warps at a barrier go on.
    fn release(&mut self, id: u32, votes: u32) {
        let launch = self.room.launch;
        self.room.shadow.barrier();
        for warp in &mut self.warps {
            let State::Waiting { barrier, pc } = warp.state else {
                continue;
            };
            if barrier != id {
                continue;
            }
            warp.state = State::Ready;
            let crate::program::Op::Barrier { kind, .. } = launch.program.code[pc as usize].op
            else {
                continue;
            };
            let truth = |value: bool| if value { u32::MAX } else { 0 };
            match kind {
                BarrierKind::Count { d, .. } => warp.spread(d, warp.mask, votes),
                BarrierKind::All { d, .. } => {
                    warp.set_predicate(d, warp.mask, truth(votes == launch.threads))
                }
                BarrierKind::Any { d, .. } => warp.set_predicate(d, warp.mask, truth(votes > 0)),
                BarrierKind::Wait | BarrierKind::Arrive => {}
            }
        }
    }
}

impl Launch<'_> {
    /// Fills a warp's constants. They stay from block to block, but for the block's index.
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
