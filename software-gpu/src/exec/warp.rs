//! A warp: the registers of 32 lanes, which of them are active, and where the others wait.

use super::copies::Copies;
use super::flight::Flight;
use super::shadow::{RANK_SHIFT, Who};
use crate::program::{Class, NEVER, Program, Slot};

/// A 32-bit register of every lane.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Lanes32(pub [u32; 32]);

/// A 64-bit register of every lane.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Lanes64(pub [u64; 32]);

/// Lanes that wait for their turn, and the place where it ends.
#[derive(Clone, Copy, Debug)]
struct Frame {
    pc: u32,
    mask: u32,
    meet: u32,
}

/// Why a warp does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// At a barrier; the instruction that it waits at.
    Waiting {
        barrier: u32,
        pc: u32,
    },
    /// At the wait of the cluster's barrier.
    WaitingForCluster {
        pc: u32,
    },
    Done,
}

/// How far a warp is with the cluster's barriers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClusterClock {
    /// Barriers that it has arrived at, and waited for.
    pub arrived: u32,
    pub waited: u32,
    /// Of those waited for, the last that ordered memory: what others did before arriving at it is seen.
    pub seen: u32,
}

/// A warp's state.
pub(super) struct Warp {
    pub p: Vec<u32>,
    pub r: Vec<Lanes32>,
    pub d: Vec<Lanes64>,
    pub pc: u32,
    /// Lanes that execute.
    pub mask: u32,
    /// Lanes that the warp has.
    pub all: u32,
    /// Lanes that have not exited.
    pub alive: u32,
    /// Where the executing lanes stop and wait for others.
    pub meet: u32,
    stack: Vec<Frame>,
    /// Its number in the block, and its block's in the cluster.
    pub index: u32,
    pub rank: u32,
    pub state: State,
    /// It has not waited for the launch before its own, which may still run.
    pub early: bool,
    /// Local memory, a thread after the other.
    pub local: Vec<u8>,
    /// For the race check: warp barriers passed, when its block last passed a barrier, and the cluster's.
    pub syncs: u32,
    pub epoch: u32,
    pub cluster: ClusterClock,
    pub copies: Copies,
    pub flight: Flight,
}

impl Warp {
    /// A warp with registers for the program.
    pub fn new(program: &Program, local_bytes: u32) -> Warp {
        let [p, r, d] = program.slots;
        Warp {
            p: vec![0; p.into()],
            r: vec![Lanes32([0xffff_ffff; 32]); r.into()],
            d: vec![Lanes64([u64::MAX; 32]); d.into()],
            pc: 0,
            mask: 0,
            all: 0,
            alive: 0,
            meet: NEVER,
            stack: Vec::new(),
            index: 0,
            rank: 0,
            state: State::Done,
            early: false,
            local: vec![0xff; local_bytes as usize * 32],
            syncs: 0,
            epoch: 0,
            cluster: ClusterClock::default(),
            copies: Copies::default(),
            flight: Flight::new(program),
        }
    }

    /// Puts the warp at the start, with these lanes.
    pub fn start(&mut self, rank: u32, index: u32, lanes: u32, epoch: u32, early: bool) {
        self.rank = rank;
        self.index = index;
        self.pc = 0;
        self.mask = lanes;
        self.all = lanes;
        self.alive = lanes;
        self.meet = NEVER;
        self.stack.clear();
        self.state = State::Ready;
        self.early = early;
        self.syncs = 0;
        self.epoch = epoch;
        self.cluster = ClusterClock::default();
        self.copies.clear();
        self.flight.clear();
        self.local.fill(0xff);
    }

    /// Parts the lanes: `taken` go to `target`, the others to `pc + 1`; all meet again at `meet`. Those
    /// that branch go first, or the others if `swap`.
    pub fn branch(&mut self, taken: u32, target: u32, meet: u32, swap: bool) {
        let rest = self.mask & !taken;
        let next = self.pc + 1;
        if rest == 0 {
            self.pc = target;
        } else if taken == 0 {
            self.pc = next;
        } else {
            self.part(meet);
            let ways = [(next, rest), (target, taken)];
            let [(later, waiting), (pc, mask)] = if swap { [ways[1], ways[0]] } else { ways };
            self.wait(later, waiting, meet);
            (self.pc, self.mask, self.meet) = (pc, mask, meet);
        }
    }

    /// Remembers that the active lanes go on together at `meet`.
    pub fn part(&mut self, meet: u32) {
        // Where they would at once wait for others, those who wait there already know them.
        if meet != NEVER && meet != self.meet {
            self.stack.push(Frame {
                pc: meet,
                mask: self.mask,
                meet: self.meet,
            });
        }
    }

    /// Lets lanes wait for their turn from `pc` to `meet`.
    pub fn wait(&mut self, pc: u32, mask: u32, meet: u32) {
        if pc != meet {
            self.stack.push(Frame { pc, mask, meet });
        }
    }

    /// Goes on with the lanes that waited last. False when there are none left.
    pub fn resume(&mut self) -> bool {
        while let Some(frame) = self.stack.pop() {
            let mask = frame.mask & self.alive;
            if mask != 0 {
                (self.pc, self.mask, self.meet) = (frame.pc, mask, frame.meet);
                return true;
            }
        }
        false
    }

    /// Ends lanes. False when none is left that could go on.
    pub fn exit(&mut self, lanes: u32) -> bool {
        self.alive &= !lanes;
        self.mask &= !lanes;
        if self.mask != 0 { true } else { self.resume() }
    }

    /// The lane as the race check sees it.
    #[inline(always)]
    pub fn who(&self, lane: usize) -> Who {
        Who {
            thread: self.rank << RANK_SHIFT | (self.index * 32 + lane as u32),
            syncs: self.syncs,
            pc: self.pc,
            epoch: self.epoch,
            cluster: self.cluster,
        }
    }

    #[inline(always)]
    pub fn read(&self, slot: Slot, lane: usize) -> u64 {
        match slot.class {
            Class::R32 => self.r[slot.index as usize].0[lane].into(),
            Class::R64 => self.d[slot.index as usize].0[lane],
            Class::Pred => u64::from(self.p[slot.index as usize] >> lane & 1),
        }
    }

    #[inline(always)]
    pub fn write(&mut self, slot: Slot, lane: usize, value: u64) {
        match slot.class {
            Class::R32 => self.r[slot.index as usize].0[lane] = value as u32,
            Class::R64 => self.d[slot.index as usize].0[lane] = value,
            Class::Pred => {
                let word = &mut self.p[slot.index as usize];
                *word = (*word & !(1 << lane)) | ((value as u32 & 1) << lane);
            }
        }
    }

    /// Sets a predicate for some lanes.
    #[inline(always)]
    pub fn set_predicate(&mut self, p: u16, mask: u32, value: u32) {
        let word = &mut self.p[p as usize];
        *word = (*word & !mask) | (value & mask);
    }

    /// Sets a register to one value for some lanes.
    #[inline(always)]
    pub fn spread(&mut self, d: u16, mask: u32, value: u32) {
        let out = &mut self.r[d as usize].0;
        for (lane, out) in out.iter_mut().enumerate() {
            *out = if mask >> lane & 1 != 0 { value } else { *out };
        }
    }
}

/// The lanes of a mask, in order.
#[inline(always)]
pub(super) fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let lane = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            lane
        })
    })
}
