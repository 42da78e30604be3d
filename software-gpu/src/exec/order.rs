//! What each warp of a cluster knows to lie before it, by barriers in shared memory and by those of the block for some of its
//! threads: the part of the race check that `shadow` asks where the block's and the cluster's barriers for all leave
//! two accesses unordered.
//!
//! An arrival, and a store that tells a barrier, release what their thread did, and all that it knows; a wait
//! that finds the phase ended takes over what was released for it. Of a block's accesses those before its last
//! `bar.sync` count together, of a warp's those before its last `bar.warp.sync`, of a thread's own all.
//!
//! Nothing of it is kept for programs without such barriers.

use std::rc::Rc;

use super::shadow::{Mark, RANK_SHIFT, Who};
use super::warp::{Warp, lanes};

/// Barriers of a block.
const BARRIERS: usize = 16;

/// A thread's release: what it did before is known.
#[derive(Clone, Copy, Debug)]
struct Release {
    thread: u32,
    epoch: u32,
    syncs: u32,
    /// The warp's releases, this one among them.
    tick: u32,
}

/// A state of knowledge.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Barriers of the cluster: what was done before arriving at them.
    seen: u32,
    /// For each block, the epoch before which all is known.
    blocks: Vec<u32>,
    /// For each barrier in shared memory, its ended phases: what was sent for them has come.
    phases: Vec<u32>,
    /// By thread; those that the blocks' epochs cover are dropped.
    releases: Vec<Release>,
}

impl Known {
    fn nothing(blocks: usize) -> Known {
        Known {
            blocks: vec![0; blocks],
            ..Known::default()
        }
    }

    /// A phase of a barrier has ended.
    pub fn ended(&mut self, barrier: u32, phase: u32) {
        let barrier = barrier as usize;
        if self.phases.len() <= barrier {
            self.phases.resize(barrier + 1, 0);
        }
        self.phases[barrier] = self.phases[barrier].max(phase);
    }

    fn has_ended(&self, barrier: u32, phase: u32) -> bool {
        let ended = self.phases.get(barrier as usize);
        ended.is_some_and(|ended| *ended >= phase)
    }

    /// Takes over what another knows.
    pub fn join(&mut self, other: &Known) {
        self.seen = self.seen.max(other.seen);
        for (mine, more) in self.blocks.iter_mut().zip(&other.blocks) {
            *mine = (*mine).max(*more);
        }
        for (barrier, phase) in other.phases.iter().enumerate() {
            self.ended(barrier as u32, *phase);
        }
        if other.releases.is_empty() {
            return self.prune();
        }
        let mine = std::mem::take(&mut self.releases);
        let (mut mine, mut more) = (&mine[..], &other.releases[..]);
        while let (Some(a), Some(b)) = (mine.first(), more.first()) {
            if a.thread <= b.thread {
                let newer = a.thread == b.thread && b.tick > a.tick;
                self.releases.push(if newer { *b } else { *a });
                mine = &mine[1..];
                if a.thread == b.thread {
                    more = &more[1..];
                }
            } else {
                self.releases.push(*b);
                more = &more[1..];
            }
        }
        self.releases.extend_from_slice(mine);
        self.releases.extend_from_slice(more);
        self.prune();
    }

    fn prune(&mut self) {
        let blocks = &self.blocks;
        self.releases
            .retain(|r| r.epoch >= blocks[(r.thread >> RANK_SHIFT) as usize]);
    }

    /// True if the access, by a warp that had released so often, lies before.
    fn has(&self, mark: &Mark, tick: u32) -> bool {
        let thread = u32::from(mark.thread);
        if mark.arrived < self.seen || mark.epoch < self.blocks[(thread >> RANK_SHIFT) as usize] {
            return true;
        }
        self.releases.iter().any(|r| {
            (r.thread == thread && tick < r.tick)
                || (r.thread / 32 == thread / 32 && mark.epoch <= r.epoch && mark.syncs < r.syncs)
        })
    }
}

/// What a warp knows.
#[derive(Clone, Debug, Default)]
struct OfWarp {
    known: Rc<Known>,
    /// What some lanes know besides, until they meet the others at a barrier.
    some: Vec<(u32, Rc<Known>)>,
    /// How often it has released.
    tick: u32,
    /// It has learned something since the last barrier of its block.
    learned: bool,
}

impl OfWarp {
    fn of_lane(&self, lane: u32) -> impl Iterator<Item = &Known> {
        let more = self.some.iter().filter(move |(m, _)| m >> lane & 1 == 1);
        std::iter::once(&*self.known).chain(more.map(|(_, known)| &**known))
    }

    /// All lanes know what some did.
    fn meet(&mut self) {
        if !self.some.is_empty() {
            let known = Rc::make_mut(&mut self.known);
            for (_, more) in self.some.drain(..) {
                known.join(&more);
            }
        }
    }
}

/// What the warps of a cluster know.
#[derive(Default)]
pub(super) struct Order {
    warps: Vec<OfWarp>,
    per_block: usize,
    blocks: usize,
    /// What was released at the cluster's barrier, in this round and in the last.
    arriving: Known,
    opened: Rc<Known>,
    /// What was released at each of the blocks' barriers, of 16 a block, that some of its threads open.
    meeting: Vec<Known>,
}

impl Order {
    /// For clusters of so many blocks of so many warps.
    pub fn new(blocks: usize, per_block: usize) -> Order {
        Order {
            warps: vec![OfWarp::default(); blocks * per_block],
            per_block,
            blocks,
            ..Order::default()
        }
    }

    /// True where there is something to keep.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        !self.warps.is_empty()
    }

    /// What one knows who knows nothing.
    pub fn nothing(&self) -> Known {
        Known::nothing(self.blocks)
    }

    /// A cluster starts.
    pub fn begin(&mut self) {
        if self.is_on() {
            let nothing = Rc::new(Known::nothing(self.blocks));
            self.warps.fill(OfWarp {
                known: nothing.clone(),
                ..OfWarp::default()
            });
            self.arriving = Known::nothing(self.blocks);
            self.opened = nothing;
            self.meeting.clear();
            let barriers = self.blocks * BARRIERS;
            self.meeting
                .resize_with(barriers, || Known::nothing(self.blocks));
        }
    }

    /// The number of a thread's warp.
    fn warp(&self, thread: u32) -> usize {
        let in_block = (thread & ((1 << RANK_SHIFT) - 1)) / 32;
        (thread >> RANK_SHIFT) as usize * self.per_block + in_block as usize
    }

    /// How often the thread's warp has released.
    pub fn tick(&self, who: Who) -> u32 {
        self.warps.get(self.warp(who.thread)).map_or(0, |w| w.tick)
    }

    /// True if the access lies before what the thread does now.
    #[cold]
    pub fn knows(&self, who: Who, mark: &Mark, tick: u32) -> bool {
        let warp = self.warps.get(self.warp(who.thread));
        warp.is_some_and(|w| {
            w.of_lane(who.thread % 32)
                .any(|known| known.has(mark, tick))
        })
    }

    /// True if the thread knows that the phase has ended.
    pub fn knows_end(&self, who: Who, barrier: u32, phase: u32) -> bool {
        let warp = &self.warps[self.warp(who.thread)];
        warp.of_lane(who.thread % 32)
            .any(|known| known.has_ended(barrier, phase))
    }

    /// True if the thread knows that the block has started.
    pub fn knows_start(&self, who: Who, rank: usize) -> bool {
        let warp = self.warps.get(self.warp(who.thread));
        warp.is_some_and(|w| w.of_lane(who.thread % 32).any(|k| k.blocks[rank] > 0))
    }

    /// True if some thread of the block knows that the phase has ended.
    pub fn block_knows_end(&self, rank: usize, barrier: u32, phase: u32) -> bool {
        let warps = &self.warps[rank * self.per_block..(rank + 1) * self.per_block];
        warps.iter().any(|warp| {
            let all = std::iter::once(&warp.known).chain(warp.some.iter().map(|(_, known)| known));
            all.into_iter().any(|known| known.has_ended(barrier, phase))
        })
    }

    /// Lanes release what they know and did: what a barrier is to take over, lane by lane.
    pub fn release(&mut self, warp: &Warp, mask: u32) -> Vec<Rc<Known>> {
        if !self.is_on() {
            return Vec::new();
        }
        let number = self.warp(warp.who(0).thread);
        let of_warp = &mut self.warps[number];
        of_warp.tick += 1;
        let of_lane = |lane: usize| {
            let who = warp.who(lane);
            let mut out = (*of_warp.known).clone();
            for more in of_warp.of_lane(lane as u32).skip(1) {
                out.join(more);
            }
            out.seen = out.seen.max(who.cluster.seen);
            let block = &mut out.blocks[warp.rank as usize];
            *block = (*block).max(who.epoch);
            let mut own = Known::nothing(self.blocks);
            own.releases.push(Release {
                thread: who.thread,
                epoch: who.epoch,
                syncs: who.syncs,
                tick: of_warp.tick,
            });
            out.join(&own);
            Rc::new(out)
        };
        lanes(mask).map(of_lane).collect()
    }

    /// Lanes learn what was released.
    pub fn acquire(&mut self, warp: &Warp, mask: u32, released: &Rc<Known>) {
        if !self.is_on() {
            return;
        }
        let number = self.warp(warp.who(0).thread);
        let of_warp = &mut self.warps[number];
        of_warp.learned = true;
        if mask == warp.alive {
            Rc::make_mut(&mut of_warp.known).join(released);
        } else if let Some((_, known)) = of_warp.some.iter_mut().find(|(m, _)| *m == mask) {
            Rc::make_mut(known).join(released);
        } else {
            of_warp.some.push((mask, released.clone()));
        }
    }

    /// The lanes of a warp have met.
    pub fn warp_barrier(&mut self, warp: &Warp) {
        let number = self.warp(warp.who(0).thread);
        if let Some(of_warp) = self.warps.get_mut(number) {
            of_warp.meet();
        }
    }

    /// A warp comes to a barrier of its block that some of the threads open.
    pub fn meet(&mut self, warp: &Warp, barrier: u32) {
        if !self.is_on() {
            return;
        }
        let number = self.warp(warp.who(0).thread);
        let of_warp = &mut self.warps[number];
        of_warp.meet();
        of_warp.tick += 1;
        let mut own = Known::nothing(self.blocks);
        own.releases = lanes(warp.alive)
            .map(|lane| {
                let who = warp.who(lane);
                Release {
                    thread: who.thread,
                    epoch: who.epoch,
                    syncs: who.syncs,
                    tick: of_warp.tick,
                }
            })
            .collect();
        let who = warp.who(0);
        own.seen = who.cluster.seen;
        own.blocks[warp.rank as usize] = who.epoch;
        own.join(&of_warp.known);
        self.meeting[warp.rank as usize * BARRIERS + barrier as usize].join(&own);
    }

    /// Such a barrier has opened: what was released at it.
    pub fn met(&mut self, rank: usize, barrier: u32) -> Rc<Known> {
        let nothing = Known::nothing(self.blocks);
        let place = self.meeting.get_mut(rank * BARRIERS + barrier as usize);
        Rc::new(place.map_or_else(Known::default, |known| std::mem::replace(known, nothing)))
    }

    /// A barrier of the block has opened.
    pub fn block_barrier(&mut self, rank: usize) {
        if !self.is_on() {
            return;
        }
        let warps = &mut self.warps[rank * self.per_block..(rank + 1) * self.per_block];
        if !warps.iter().any(|warp| warp.learned) {
            return;
        }
        let mut all = Known::nothing(self.blocks);
        for warp in warps.iter_mut() {
            warp.meet();
            all.join(&warp.known);
        }
        let all = Rc::new(all);
        for warp in warps {
            (warp.known, warp.learned) = (all.clone(), false);
        }
    }

    /// A warp arrives at the cluster's barrier.
    pub fn cluster_arrive(&mut self, warp: &Warp) {
        let number = self.warp(warp.who(0).thread);
        if let Some(of_warp) = self.warps.get_mut(number) {
            of_warp.meet();
            self.arriving.join(&of_warp.known);
        }
    }

    /// The cluster's barrier opens.
    pub fn cluster_open(&mut self) {
        if self.is_on() {
            self.opened = Rc::new(self.arriving.clone());
        }
    }

    /// A warp has waited for the cluster's barrier.
    pub fn cluster_pass(&mut self, warp: &Warp) {
        if self.is_on() {
            let opened = self.opened.clone();
            self.acquire(warp, warp.alive, &opened);
        }
    }
}
