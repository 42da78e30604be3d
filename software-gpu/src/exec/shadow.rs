//! Who last touched each part of a block's shared memory, and when: the check for races and for reads
//! of what nothing wrote.
//!
//! Time is counted in barriers: those of the block for its threads, those of a warp for its lanes, those of
//! the cluster for everyone. Two threads' accesses with no barrier between are unordered, in one instruction
//! of a warp too.

use super::order::Order;
use super::trouble::{Outcome, Trouble};
use super::warp::ClusterClock;
use crate::fault::FaultKind;
use crate::program::Program;
use crate::ptx::ast::Space;

/// A thread's number as the shadow has it: its block's rank in the cluster above these bits.
pub(super) const RANK_SHIFT: u32 = 10;

/// An access as the shadow remembers it.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark {
    /// When the thread's block last passed a barrier; 0 for never.
    pub epoch: u32,
    /// The warp's barriers passed.
    pub syncs: u32,
    pub pc: u32,
    /// The cluster's barriers that the thread had arrived at.
    pub arrived: u32,
    pub thread: u16,
    /// An atomic, which other atomics may meet.
    atomic: bool,
    /// Reads only: other threads of this warp, or of other warps, read in the same epoch.
    same_warp: bool,
    other_warps: bool,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    write: Mark,
    read: Mark,
}

/// What more there is to a cell where `Order` is kept: how often the warps of its marks had released, and of a
/// write that was sent, its barrier's number plus one, and the phase that ends when it has come.
#[derive(Clone, Copy, Default)]
struct More {
    write: u32,
    read: u32,
    visit: u32,
    sent: u32,
    phase: u32,
}

/// The phase of what has not come.
const UNDER_WAY: u32 = u32::MAX;

/// The shadow of a block's shared memory.
#[derive(Default)]
pub(super) struct Shadow {
    cells: Vec<Cell>,
    /// Reads by other blocks of the cluster; none where a block is by itself.
    visits: Vec<Mark>,
    /// None in programs in which only all threads of a block meet.
    more: Vec<More>,
    /// Bytes of a cell: the smallest element that the program accesses.
    grain: u32,
    /// The rank of the block whose memory this is.
    owner: u32,
    /// The epoch in which the cluster started.
    first: u32,
    races: bool,
    initialised: bool,
    /// `more` is kept.
    ordered: bool,
}

/// Who makes an access.
#[derive(Clone, Copy, Default)]
pub(super) struct Who {
    /// The thread in its block, and from `RANK_SHIFT` on the block's rank.
    pub thread: u32,
    pub syncs: u32,
    pub pc: u32,
    /// When its block last passed a barrier.
    pub epoch: u32,
    pub cluster: ClusterClock,
}

/// How an access touches shared memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Read,
    Write,
    Atomic,
}

impl Shadow {
    /// The shadow of `bytes` bytes of block `owner`, in a cluster of `blocks`.
    pub fn new(
        program: &Program,
        bytes: u32,
        [races, initialised]: [bool; 2],
        owner: u32,
        blocks: u32,
    ) -> Shadow {
        let near = |space| matches!(space, Space::Shared | Space::Cluster | Space::Generic);
        let ordered = races && program.orders_some();
        let elements = program
            .accesses
            .iter()
            .filter(|access| near(access.space))
            .map(|access| access.ty.bytes());
        let grain = elements.min().unwrap_or(4).min(4);
        let cells = if races || initialised {
            bytes.div_ceil(grain)
        } else {
            0
        };
        Shadow {
            cells: vec![Cell::default(); cells as usize],
            visits: vec![Mark::default(); if blocks > 1 { cells as usize } else { 0 }],
            more: vec![More::default(); if ordered { cells as usize } else { 0 }],
            grain,
            owner,
            first: 0,
            races,
            initialised,
            ordered,
        }
    }

    /// True where there is nothing to check.
    #[inline(always)]
    pub fn is_off(&self) -> bool {
        self.cells.is_empty()
    }

    /// A cluster starts: what was before is nobody's.
    pub fn begin(&mut self, epoch: u32) {
        self.first = epoch;
    }

    /// Forgets everything: epochs start again.
    pub fn forget(&mut self) {
        self.cells.fill(Cell::default());
        self.visits.fill(Mark::default());
        self.more.fill(More::default());
    }

    /// Checks and notes an access of a thread.
    #[inline(always)]
    pub fn touch(&mut self, how: How, at: u64, bytes: u32, who: Who, order: &Order) -> Outcome<()> {
        let first = at as u32 / self.grain;
        let last = (at as u32 + bytes).div_ceil(self.grain);
        for cell in first..last {
            let problem = self.cell(how, cell as usize, who, order);
            if let Err(problem) = problem {
                return Err(self.trouble(problem, how, cell, who));
            }
        }
        Ok(())
    }

    fn more_of(&mut self, at: u64, bytes: u32) -> &mut [More] {
        let first = at as usize / self.grain as usize;
        let last = (at as usize + bytes as usize).div_ceil(self.grain as usize);
        self.more.get_mut(first..last).unwrap_or_default()
    }

    /// What a thread has written there is under way, and comes for that barrier.
    pub fn send(&mut self, at: u64, bytes: u32, barrier: u32) {
        for more in self.more_of(at, bytes) {
            (more.sent, more.phase) = (barrier + 1, UNDER_WAY);
        }
    }

    /// It has come, in that phase of the barrier.
    pub fn deliver(&mut self, at: u64, bytes: u32, barrier: u32, phase: u32) {
        for more in self.more_of(at, bytes) {
            if (more.sent, more.phase) == (barrier + 1, UNDER_WAY) {
                more.phase = phase;
            }
        }
    }

    #[inline(always)]
    fn cell(&mut self, how: How, cell: usize, who: Who, order: &Order) -> Result<(), Problem> {
        let (epoch, first) = (who.epoch, self.first);
        let (races, initialised) = (self.races, self.initialised);
        let visitor = who.thread >> RANK_SHIFT != self.owner;
        let Cell { write, read } = &mut self.cells[cell];
        let atomic = how == How::Atomic;
        let mut more = self.more.get_mut(cell);
        let at = more.as_deref().copied().unwrap_or_default();
        if at.sent != 0 && write.epoch >= first {
            if !order.knows_end(who, at.sent - 1, at.phase) {
                return Err(Problem::Sent(*write));
            }
        } else if races
            && write.clashes(first, who)
            && !(atomic && write.atomic)
            && !order.knows(who, write, at.write)
        {
            return Err(Problem::Race(*write));
        }
        if how != How::Write && initialised && write.epoch < first {
            return Err(Problem::Unwritten);
        }
        let mark = Mark {
            atomic,
            ..who.mark()
        };
        if let Some(more) = &mut more {
            let tick = order.tick(who);
            match how {
                How::Read if visitor => more.visit = tick,
                How::Read => more.read = tick,
                How::Write | How::Atomic => (more.write, more.sent) = (tick, 0),
            }
        }
        if how == How::Read {
            let read = if visitor {
                &mut self.visits[cell]
            } else {
                read
            };
            let mut mark = mark;
            let tick = if visitor { at.visit } else { at.read };
            // With no barrier of all between, but one of some: those that it orders are not held against what follows.
            let known = self.ordered && read.epoch == epoch && order.knows(who, read, tick);
            if known {
                mark.arrived = mark.arrived.max(read.arrived);
                *read = mark;
                return Ok(());
            }
            if read.epoch == epoch && u32::from(read.thread) != who.thread {
                let same = u32::from(read.thread) / 32 == who.thread / 32;
                mark.other_warps = read.other_warps || !same;
                mark.same_warp = same && (read.syncs == who.syncs || read.same_warp);
            } else if read.epoch == epoch {
                (mark.same_warp, mark.other_warps) = (read.same_warp, read.other_warps);
            } else if visitor && read.epoch >= first {
                // Of another block, maybe, whose barriers are not this one's.
                mark.other_warps = true;
            }
            if read.epoch >= first {
                mark.arrived = mark.arrived.max(read.arrived);
            }
            *read = mark;
            return Ok(());
        }
        if races {
            let met = |read: &Mark, tick: u32| {
                let ordered = who.cluster.seen > read.arrived;
                let many = read.epoch == epoch
                    && (read.other_warps || (read.same_warp && read.syncs == who.syncs));
                (read.clashes(first, who) || (many && !ordered)) && !order.knows(who, read, tick)
            };
            if met(read, at.read) {
                return Err(Problem::Race(*read));
            }
            if let Some(visit) = self.visits.get(cell)
                && visit.epoch >= first
            {
                let ordered = who.cluster.seen > visit.arrived;
                if met(visit, at.visit)
                    || (visit.other_warps && !ordered && !order.knows(who, visit, at.visit))
                {
                    return Err(Problem::Race(*visit));
                }
            }
        }
        *write = mark;
        Ok(())
    }

    #[cold]
    fn trouble(&self, problem: Problem, how: How, cell: u32, who: Who) -> Box<Trouble> {
        let at = u64::from(cell * self.grain);
        let lane = who.thread as usize % 32;
        let here = match how {
            How::Read => "a read",
            How::Write => "a write",
            How::Atomic => "an atomic",
        };
        match problem {
            Problem::Unwritten => {
                let detail = format!(
                    "{here} of shared memory at {at:#x}, which no thread of the block wrote"
                );
                Trouble::at(FaultKind::Uninitialised, lane, at, detail)
            }
            Problem::Sent(mark) => {
                let detail = format!(
                    "{here} at {at:#x} of shared memory, to which `st.async` has sent, without having waited for \
                     its mbarrier"
                );
                let mut trouble = Trouble::at(FaultKind::SharedRace, lane, at, detail);
                trouble.other = Some((mark.pc, mark.thread.into()));
                trouble
            }
            Problem::Race(mark) => {
                let detail = format!(
                    "{here} at {at:#x} of shared memory, with no barrier after another thread's access"
                );
                let mut trouble = Trouble::at(FaultKind::SharedRace, lane, at, detail);
                trouble.other = Some((mark.pc, mark.thread.into()));
                trouble
            }
        }
    }
}

impl Who {
    /// The block's rank in the cluster, and the thread's number in it.
    pub fn rank(self) -> u32 {
        self.thread >> RANK_SHIFT
    }

    pub fn in_block(self) -> u32 {
        self.thread & ((1 << RANK_SHIFT) - 1)
    }

    /// The access as the shadow remembers it.
    #[inline(always)]
    pub fn mark(self) -> Mark {
        Mark {
            epoch: self.epoch,
            syncs: self.syncs,
            pc: self.pc,
            arrived: self.cluster.arrived,
            thread: self.thread as u16,
            ..Mark::default()
        }
    }
}

enum Problem {
    Race(Mark),
    Sent(Mark),
    Unwritten,
}

impl Mark {
    /// True if the access is another thread's of this cluster, with no barrier since.
    #[inline(always)]
    pub fn clashes(&self, first: u32, who: Who) -> bool {
        let thread = u32::from(self.thread);
        if thread >> RANK_SHIFT != who.thread >> RANK_SHIFT {
            return self.epoch >= first && who.cluster.seen <= self.arrived;
        }
        let same_warp = thread / 32 == who.thread / 32;
        self.epoch == who.epoch
            && thread != who.thread
            && !(same_warp && self.syncs < who.syncs)
            && who.cluster.seen <= self.arrived
    }
}
