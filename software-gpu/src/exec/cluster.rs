//! A worker: one cluster after the other, the warps of its blocks in turn, and its barrier. A block of a
//! launch without clusters is a cluster of one.

use super::block::{Block, Failure};
use super::launch::Launch;
use super::mbarrier;
use super::room::Room;
use super::step::{Stop, run};
use super::trouble::Trouble;
use super::warp::State;
use crate::fault::FaultKind;

/// The memory of one cluster after the other.
pub(super) struct Cluster<'a> {
    pub room: Room<'a>,
    blocks: Vec<Block>,
    barrier: Barrier,
}

/// The barrier of a cluster.
#[derive(Clone, Copy, Default)]
struct Barrier {
    /// How often it has opened.
    opened: u32,
    /// A warp of this round arrived without release.
    relaxed: bool,
    /// The last opening ordered memory.
    ordered: bool,
    /// The last arrival: rank, warp, instruction.
    last: (u32, u32, u32),
}

impl<'a> Cluster<'a> {
    pub fn new(launch: &'a Launch<'a>) -> Cluster<'a> {
        Cluster {
            room: Room::new(launch),
            blocks: (0..launch.cluster_size())
                .map(|_| Block::new(launch))
                .collect(),
            barrier: Barrier::default(),
        }
    }

    /// Runs the cluster of that number to its end.
    pub fn run(&mut self, number: u64) -> Result<(), Failure> {
        let launch = self.room.launch;
        self.room.begin();
        self.barrier = Barrier::default();
        for (rank, block) in self.blocks.iter_mut().enumerate() {
            self.room.enter(rank);
            let of_rank = launch.member(number, rank as u32);
            block.start(&mut self.room, of_rank, rank as u32);
        }
        let per_block = self.blocks[0].warps.len();
        let warps = per_block * self.blocks.len();
        let most = launch
            .most_instructions
            .saturating_mul(self.blocks.len() as u64);
        let before = self.room.tally.now();
        let mut round = 0;
        loop {
            round += 1;
            let mut moved = false;
            for place in 0..warps {
                let (i, turn) = launch.adversary.warp(number, round, place, warps);
                let (rank, i) = (i / per_block, i % per_block);
                let warp = &self.blocks[rank].warps[i];
                if warp.state != State::Ready {
                    continue;
                }
                moved = true;
                let executed = self.room.tally.now() - before;
                if executed > most {
                    let what = if self.blocks.len() == 1 {
                        "block"
                    } else {
                        "cluster"
                    };
                    let detail = format!(
                        "its {what} executed {executed} instructions without coming to an end"
                    );
                    let lane = warp.mask.trailing_zeros() as usize;
                    let trouble = Trouble::new(FaultKind::Timeout, lane, detail);
                    return Err(failure(rank, i, warp.pc, trouble));
                }
                self.room.enter(rank);
                mbarrier::turn(&mut self.room).map_err(|failure| *failure)?;
                self.turn(rank, i, turn)?;
            }
            if let Some(failure) = self.in_vain() {
                return Err(failure);
            }
            if moved {
                continue;
            }
            return match self.stuck() {
                None => Ok(()),
                Some(failure) => Err(failure),
            };
        }
    }

    /// A warp runs until something happens.
    fn turn(&mut self, rank: usize, i: usize, turn: u32) -> Result<(), Failure> {
        let block = &mut self.blocks[rank];
        let warp = &mut block.warps[i];
        match run(&mut self.room, warp, turn) {
            Ok(Stop::Turn) => Ok(()),
            Ok(Stop::Done) => {
                warp.state = State::Done;
                block.ended(&mut self.room).map_err(|failure| *failure)?;
                self.open_if_full()
            }
            Ok(Stop::Barrier {
                id,
                count,
                kind,
                lanes,
            }) => {
                let at = warp.pc - 1;
                block
                    .arrive(&mut self.room, i, at, id, count, kind, lanes)
                    .map_err(|trouble| failure(rank, i, at, trouble))
            }
            Ok(Stop::ClusterArrive { release }) => self.arrive(rank, i, release),
            Ok(Stop::ClusterWait) => self.wait(rank, i),
            Err(trouble) => Err(failure(rank, i, warp.pc, trouble)),
        }
    }

    /// A warp arrives at the cluster's barrier.
    fn arrive(&mut self, rank: usize, i: usize, release: bool) -> Result<(), Failure> {
        self.room.tally.barriers += 1;
        let warp = &mut self.blocks[rank].warps[i];
        let at = warp.pc - 1;
        if warp.cluster.arrived > warp.cluster.waited {
            let detail = "it arrives again at the cluster's barrier without having waited";
            let lane = warp.mask.trailing_zeros() as usize;
            let trouble = Trouble::new(FaultKind::BarrierDivergence, lane, detail);
            return Err(failure(rank, i, at, trouble));
        }
        warp.cluster.arrived += 1;
        if release {
            self.room.order.cluster_arrive(warp);
        }
        self.barrier.relaxed |= !release;
        self.barrier.last = (rank as u32, i as u32, at);
        self.open_if_full()
    }

    /// A warp waits for the others at the cluster's barrier.
    fn wait(&mut self, rank: usize, i: usize) -> Result<(), Failure> {
        let opened = self.barrier;
        let warp = &mut self.blocks[rank].warps[i];
        let pc = warp.pc - 1;
        if warp.cluster.arrived == warp.cluster.waited {
            let detail = "it waits at the cluster's barrier without having arrived";
            let lane = warp.mask.trailing_zeros() as usize;
            let trouble = Trouble::new(FaultKind::BarrierDivergence, lane, detail);
            return Err(failure(rank, i, pc, trouble));
        }
        warp.state = State::WaitingForCluster { pc };
        if opened.opened == warp.cluster.arrived {
            self.pass(rank, i);
        }
        Ok(())
    }

    /// A warp that waits goes on.
    fn pass(&mut self, rank: usize, i: usize) {
        let warp = &mut self.blocks[rank].warps[i];
        warp.state = State::Ready;
        warp.cluster.waited = warp.cluster.arrived;
        if self.barrier.ordered {
            warp.cluster.seen = warp.cluster.waited;
            self.room.order.cluster_pass(warp);
        }
    }

    /// Opens the cluster's barrier if all have arrived.
    fn open_if_full(&mut self) -> Result<(), Failure> {
        let round = self.barrier.opened + 1;
        let here = |block: &Block| {
            let arrived = block.warps.iter().filter(|w| w.cluster.arrived == round);
            let ended = |w: &&super::warp::Warp| w.state == State::Done;
            let gone = block.warps.iter().filter(ended);
            let gone = gone.filter(|w| w.cluster.arrived != round);
            [arrived.count(), gone.count()]
        };
        let [mut arrived, mut gone, mut all] = [0; 3];
        for block in &self.blocks {
            let [a, g] = here(block);
            arrived += a;
            gone += g;
            all += block.warps.len();
        }
        // Those that have exited are not waited for.
        if arrived == 0 || arrived + gone < all {
            return Ok(());
        }
        if gone > 0 && self.room.launch.checks.barriers {
            let detail =
                format!("{gone} of {all} warps of the cluster exited without reaching its barrier");
            let (rank, i, pc) = self.barrier.last;
            let lane = self.blocks[rank as usize].warps[i as usize].mask;
            let lane = lane.trailing_zeros() as usize % 32;
            let trouble = Trouble::new(FaultKind::BarrierDivergence, lane, detail);
            return Err(failure(rank as usize, i as usize, pc, trouble));
        }
        self.barrier.opened = round;
        self.barrier.ordered = !self.barrier.relaxed;
        self.barrier.relaxed = false;
        self.room.order.cluster_open();
        for rank in 0..self.blocks.len() {
            for i in 0..self.blocks[rank].warps.len() {
                let state = self.blocks[rank].warps[i].state;
                if matches!(state, State::WaitingForCluster { .. }) {
                    self.pass(rank, i);
                }
            }
        }
        Ok(())
    }

    /// The first warp that looks at a barrier in shared memory again and again, where no other can go on either.
    fn in_vain(&self) -> Option<Failure> {
        let barriers = &self.room.mbarriers;
        if barriers.is_unused() {
            return None;
        }
        let per_block = self.blocks[0].warps.len();
        let warps = per_block * self.blocks.len();
        let waits =
            |n: usize| self.blocks[n / per_block].warps[n % per_block].state != State::Ready;
        let first = (0..warps).find(|n| !waits(*n))?;
        if !barriers.stuck(first, waits, warps) {
            return None;
        }
        let (pc, trouble) = barriers.in_vain(first)?;
        Some(failure(first / per_block, first % per_block, pc, trouble))
    }

    /// The first warp that waits in vain.
    fn stuck(&self) -> Option<Failure> {
        let ended = |block: &Block| {
            let ended = block.warps.iter().filter(|warp| warp.state == State::Done);
            ended.count()
        };
        let waiting = |(rank, block): (usize, &Block)| Some((rank, block.stuck()?));
        let (rank, (i, at)) = self.blocks.iter().enumerate().find_map(waiting)?;
        let (there, all): (usize, usize) = (
            self.blocks.iter().map(ended).sum(),
            self.blocks.iter().map(|block| block.warps.len()).sum(),
        );
        let detail = format!("{there} of {all} warps have ended, and no warp can go on");
        let lane = self.blocks[rank].warps[i].mask.trailing_zeros() as usize;
        let trouble = Trouble::new(FaultKind::BarrierDivergence, lane, detail);
        Some(failure(rank, i, at, trouble))
    }
}

fn failure(rank: usize, warp: usize, pc: u32, trouble: Box<Trouble>) -> Failure {
    Failure {
        rank: rank as u32,
        warp: warp as u32,
        pc,
        trouble,
    }
}
