//! What the warps of a block work in: its shared memory, and what is recorded of them. Of a cluster, each block's, of
//! which one runs at a time.

use super::block::Failure;
use super::launch::Launch;
use super::mbarrier::{self, MBarriers};
use super::order::Order;
use super::shadow::{How, RANK_SHIFT, Shadow, Who};
use super::tally::Tally;
use super::trace::{Span, Trace};
use super::trouble::{Outcome, Trouble};
use super::warp::{ClusterClock, Warp};
use crate::fault::FaultKind;
use crate::ptx::ast::Special;

/// What the warps of a block share, and those of its cluster.
pub(super) struct Room<'a> {
    pub launch: &'a Launch<'a>,
    /// Of the block that runs.
    pub shared: Vec<u8>,
    pub shadow: Shadow,
    pub trace: Trace,
    pub tally: Tally,
    /// Barriers in shared memory, and what the warps know by them.
    pub mbarriers: MBarriers,
    pub order: Order,
    /// The access that is executed, by its number.
    pub access: u32,
    /// The allocation that was found last, by its number.
    pub last_allocation: usize,
    /// The rank of the block that runs.
    rank: usize,
    /// What the blocks have; the one that runs has it above.
    blocks: Vec<Absent>,
    /// When a block last passed a barrier, counted over all that the worker ran.
    epoch: u32,
}

/// What a block of the cluster has while another runs.
#[derive(Default)]
struct Absent {
    shared: Vec<u8>,
    shadow: Shadow,
    trace: Trace,
    exited: bool,
    /// The latest access by another block: its instruction, its thread, and the barriers of the cluster that
    /// the thread had arrived at.
    visit: Option<(u32, u32, u32)>,
}

impl<'a> Room<'a> {
    pub fn new(launch: &'a Launch<'a>) -> Room<'a> {
        let blocks = launch.cluster_size();
        let shadow = |owner| {
            let checks = [launch.checks.shared_races, launch.checks.initialised];
            Shadow::new(launch.program, launch.shared_bytes, checks, owner, blocks)
        };
        let memory = || vec![0xff; launch.shared_bytes as usize];
        let trace = || Trace::new(launch.program.accesses.len() + launch.program.copies.len());
        let mut all: Vec<Absent> = (0..blocks)
            .map(|rank| Absent {
                shared: memory(),
                shadow: shadow(rank),
                trace: trace(),
                exited: false,
                visit: None,
            })
            .collect();
        let Absent {
            shared,
            shadow,
            trace,
            ..
        } = std::mem::take(&mut all[0]);
        let ordered = launch.checks.shared_races && launch.program.orders_some();
        let order = if ordered {
            Order::new(blocks as usize, launch.threads.div_ceil(32) as usize)
        } else {
            Order::default()
        };
        Room {
            launch,
            shared,
            shadow,
            trace,
            tally: Tally::new(launch.program),
            mbarriers: MBarriers::new(blocks as usize),
            order,
            access: 0,
            last_allocation: 0,
            rank: 0,
            blocks: all,
            epoch: 0,
        }
    }

    /// The next cluster starts.
    pub fn begin(&mut self) {
        // Far more barriers than a cluster can pass lie above.
        if self.epoch > u32::MAX / 2 {
            for rank in 0..self.blocks.len() {
                self.enter(rank);
                self.shadow.forget();
            }
            self.epoch = 0;
        }
        self.epoch += 1;
        self.mbarriers.begin();
        self.order.begin();
        for block in &mut self.blocks {
            (block.exited, block.visit) = (false, None);
        }
    }

    /// Now.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// A barrier is passed.
    pub fn advance(&mut self) {
        self.epoch += 1;
    }

    /// The rank of the block that runs.
    #[inline(always)]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Makes that block the one that runs.
    #[inline(always)]
    pub fn enter(&mut self, rank: usize) {
        if rank != self.rank {
            self.exchange(self.rank);
            self.exchange(rank);
            self.rank = rank;
        }
    }

    fn exchange(&mut self, rank: usize) {
        let block = &mut self.blocks[rank];
        std::mem::swap(&mut self.shared, &mut block.shared);
        std::mem::swap(&mut self.shadow, &mut block.shadow);
        std::mem::swap(&mut self.trace, &mut block.trace);
    }

    /// Checks and notes an access of a thread to the shared memory of the block that runs.
    #[inline(always)]
    pub fn touch(&mut self, how: How, at: u64, bytes: u32, who: Who) -> Outcome<()> {
        if self.shadow.is_off() {
            return Ok(());
        }
        if !self.mbarriers.is_unused()
            && let Some(barrier) = self.mbarriers.meets(self.rank, at, bytes.into())
        {
            let detail = format!(
                "an access of {bytes} bytes at {at:#x} to the mbarrier at {barrier:#x}, which only its own \
                 instructions may touch"
            );
            let lane = who.thread as usize % 32;
            return Err(Trouble::at(FaultKind::MBarrier, lane, at, detail));
        }
        self.shadow.touch(how, at, bytes, who, &self.order)
    }

    /// A warp goes to another block's shared memory, which must be there until after a barrier of the cluster.
    pub fn visit(&mut self, warp: &Warp, rank: usize, lane: usize, address: u64) -> Outcome<()> {
        self.reach(warp, rank, lane, address)?;
        let block = &mut self.blocks[rank];
        let ClusterClock { arrived, .. } = warp.cluster;
        if block.visit.is_none_or(|(_, _, before)| arrived >= before) {
            block.visit = Some((warp.pc, warp.who(lane).thread, arrived));
        }
        Ok(())
    }

    /// A warp goes to another block's shared memory, which must be there now.
    pub fn reach(&self, warp: &Warp, rank: usize, lane: usize, address: u64) -> Outcome<()> {
        let blocks = self.blocks.len();
        let Some(block) = self.blocks.get(rank) else {
            let detail = format!("shared memory of block {rank} of a cluster of {blocks}");
            return Err(Trouble::at(FaultKind::OutOfBounds, lane, address, detail));
        };
        // By a barrier of the cluster, or by one in shared memory: without the race check it is not kept which.
        let started = warp.cluster.waited > 0
            || if self.order.is_on() {
                self.order.knows_start(warp.who(lane), rank)
            } else {
                !self.mbarriers.is_unused()
            };
        let why = if !started {
            "may not have started: no barrier of the cluster lies before the access"
        } else if block.exited {
            "has exited"
        } else {
            return Ok(());
        };
        let detail = format!("shared memory of block {rank} of the cluster, which {why}");
        Err(Trouble::at(FaultKind::AbsentBlock, lane, address, detail))
    }

    /// The block that runs has ended. An error if an access by another block could be later.
    pub fn exit(&mut self, warps: &[Warp]) -> Result<(), Box<Failure>> {
        let rank = self.rank;
        let block = &mut self.blocks[rank];
        block.exited = true;
        let seen = warps.iter().map(|warp| warp.cluster.seen).max();
        let visit = block.visit;
        mbarrier::exit(self, rank)?;
        match visit {
            Some((pc, thread, arrived)) if seen.unwrap_or(0) <= arrived => {
                let rank_of = thread >> RANK_SHIFT;
                let thread = thread & ((1 << RANK_SHIFT) - 1);
                let detail = format!(
                    "shared memory of block {rank} of the cluster, which may exit before: no barrier of the \
                     cluster lies between"
                );
                Err(Box::new(Failure {
                    rank: rank_of,
                    warp: thread / 32,
                    pc,
                    trouble: Trouble::new(FaultKind::AbsentBlock, thread as usize % 32, detail),
                }))
            }
            _ => Ok(()),
        }
    }

    /// What the blocks touched of global memory.
    pub fn traces(self) -> Vec<Span> {
        let mut spans = self.trace.spans;
        for mut block in self.blocks {
            spans.append(&mut block.trace.spans);
        }
        spans
    }

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
