//! A launch: what all its blocks have in common, and their distribution over the host's cores.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use super::adversary::Adversary;
use super::block::Failure;
use super::cluster::Cluster;
use super::footprint::Footprint;
use super::host::Host;
use super::scalar::cvt_loaded;
use super::shadow::RANK_SHIFT;
use super::trace::{Span, Touch, find_race};
use super::trouble::{Outcome, Trouble};
use crate::checks::Checks;
use crate::counters::Counters;
use crate::fault::{Fault, FaultKind, Site};
use crate::gpu::{Gpu, LaunchConfig};
use crate::memory::Allocation;
use crate::module::Kernel;
use crate::program::{Program, Type};
use crate::ptx::ast::Special;

/// What all blocks of a launch have in common.
pub(super) struct Launch<'a> {
    pub gpu: &'a Gpu,
    pub kernel: &'a Kernel,
    pub program: &'a Program,
    pub checks: Checks,
    pub adversary: Adversary,
    /// Instructions of a block before it counts as hung.
    pub most_instructions: u64,
    pub host: Host,
    pub config: LaunchConfig,
    /// Blocks of a cluster along x, y and z; ones without clusters.
    pub cluster: [u32; 3],
    /// What the launch before touched, if that may still run.
    pub before: Option<&'a Footprint>,
    pub params: &'a [u8],
    /// Threads of a block.
    pub threads: u32,
    pub shared_bytes: u32,
    pub local_bytes: u32,
    /// The living allocations, in order of address.
    pub allocations: Vec<Arc<Allocation>>,
}

impl<'a> Launch<'a> {
    pub fn new(
        gpu: &'a Gpu,
        kernel: &'a Kernel,
        config: &LaunchConfig,
        cluster: [u32; 3],
        before: Option<&'a Footprint>,
        params: &'a [u8],
    ) -> Launch<'a> {
        Launch {
            gpu,
            kernel,
            program: &kernel.program,
            checks: gpu.settings().checks,
            adversary: Adversary::new(gpu.settings().seed, clusters(config, cluster))
                .with_exact(gpu.settings().exact),
            most_instructions: gpu.settings().block_instructions,
            host: Host::detect(),
            config: *config,
            cluster,
            before,
            params,
            threads: config.block.iter().product(),
            shared_bytes: kernel.dynamic_start + config.dynamic_shared,
            local_bytes: kernel.local_bytes,
            allocations: gpu.memory().snapshot(),
        }
    }

    /// Blocks of a cluster.
    pub fn cluster_size(&self) -> u32 {
        self.cluster.iter().product()
    }

    /// Runs all blocks.
    pub fn run(&self) -> Result<(Counters, Footprint), Box<Fault>> {
        let blocks = clusters(&self.config, self.cluster);
        let workers = (rayon::current_num_threads() as u64).min(blocks);
        let next = AtomicU64::new(0);
        // The fault of the earliest block: which one it is depends on the seed alone, not on the host.
        let failed = Mutex::new(None::<(u64, Box<Fault>)>);
        let stop = AtomicU64::new(u64::MAX);
        let (mut counters, spans) = (0..workers)
            .into_par_iter()
            .map(|_| {
                // Of its memory there are many pages: none for a worker that finds nothing left to do.
                let mut cluster = None;
                loop {
                    let turn = next.fetch_add(1, Relaxed);
                    if turn >= blocks || turn > stop.load(Relaxed) {
                        break;
                    }
                    let cluster = cluster.get_or_insert_with(|| Cluster::new(self));
                    let number = self.adversary.block(turn);
                    if let Err(failure) = cluster.run(number) {
                        let fault = self.fault(number, failure);
                        stop.fetch_min(turn, Relaxed);
                        let mut failed = failed
                            .lock()
                            .unwrap_or_else(|poisoned| poisoned.into_inner());
                        if failed.as_ref().is_none_or(|(first, _)| turn < *first) {
                            *failed = Some((turn, fault));
                        }
                        break;
                    }
                }
                let done = cluster.map(|cluster: Cluster<'_>| {
                    let counters = cluster.room.tally.finish(self.program);
                    (counters, cluster.room.traces())
                });
                done.unwrap_or_default()
            })
            .reduce(
                || (Counters::default(), Vec::new()),
                |(mut all, mut spans), (part, mut more)| {
                    all += &part;
                    spans.append(&mut more);
                    (all, spans)
                },
            );
        if let Some((_, fault)) = failed
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
        {
            return Err(fault);
        }
        let mut footprint = Footprint::of(&spans);
        if self.checks.global_races {
            let [read, written] = footprint.bytes();
            counters.unique_bytes_read = Some(read);
            counters.unique_bytes_written = Some(written);
            if let Some(early) = self.before.and_then(|before| before.meets(&spans)) {
                return Err(self.too_early(early));
            }
            if let Some((first, second, address)) = find_race(spans, footprint.written()) {
                return Err(self.race(first, second, address));
            }
        }
        if let Some(before) = self.before {
            // A launch behind this one may begin while this one still waits.
            footprint.add(before);
        }
        Ok((counters, footprint))
    }

    /// The fault of an access that did not wait for the launch before.
    fn too_early(&self, (span, address, wrote): (Span, u64, bool)) -> Box<Fault> {
        let how = if wrote { "wrote" } else { "read" };
        Box::new(Fault {
            kind: FaultKind::GlobalRace,
            kernel: self.kernel.name.clone(),
            site: self.site(span.block, span.thread, span.pc),
            other: None,
            address: Some(address),
            allocation: self.gpu.memory().nearest(address),
            detail: format!(
                "the launch before {how} it and may still run: no `griddepcontrol.wait` lies before the access"
            ),
        })
    }

    /// The fault of two blocks that touched one address.
    fn race(&self, first: Span, second: Span, address: u64) -> Box<Fault> {
        let word = |touch| match touch {
            Touch::Read => "read",
            Touch::Constant => "read (as constant)",
            Touch::Write => "wrote",
            Touch::Atomic => "made an atomic access to",
        };
        let detail = format!(
            "block {} {} it and block {} {} it, unordered",
            second.block,
            word(second.touch),
            first.block,
            word(first.touch)
        );
        Box::new(Fault {
            kind: FaultKind::GlobalRace,
            kernel: self.kernel.name.clone(),
            site: self.site(second.block, second.thread, second.pc),
            other: Some(self.site(first.block, first.thread, first.pc)),
            address: Some(address),
            allocation: self.gpu.memory().nearest(address),
            detail,
        })
    }

    /// The index of the block of that number: x runs fastest.
    pub fn block_index(&self, number: u64) -> [u32; 3] {
        let [x, y, _] = self.config.grid.map(u64::from);
        [
            (number % x) as u32,
            (number / x % y) as u32,
            (number / x / y) as u32,
        ]
    }

    /// The number of the block of that rank in a cluster.
    pub fn member(&self, cluster: u64, rank: u32) -> u64 {
        let [gx, gy, _] = self.config.grid.map(u64::from);
        let [cx, cy, cz] = self.cluster.map(u64::from);
        let (across, down) = (gx / cx, gy / cy);
        let (x, y, z) = (
            cluster % across * cx + u64::from(rank) % cx,
            cluster / across % down * cy + u64::from(rank) / cx % cy,
            cluster / across / down * cz + u64::from(rank) / cx / cy,
        );
        x + gx * (y + gy * z)
    }

    /// A special register that tells of a block: its number, and its rank in the cluster.
    pub fn of_block(&self, special: Special, number: u64, rank: u32) -> u32 {
        let index = self.block_index(number);
        match special {
            Special::Ctaid(axis) => index[axis as usize],
            Special::ClusterId(axis) => index[axis as usize] / self.cluster[axis as usize],
            Special::ClusterCtaid(axis) => index[axis as usize] % self.cluster[axis as usize],
            _ => rank,
        }
    }

    /// The index of a thread of a block.
    fn thread_index(&self, number: u32) -> [u32; 3] {
        let [x, y, _] = self.config.block;
        [number % x, number / x % y, number / x / y]
    }

    /// A special register that stays the same.
    pub fn special(&self, special: Special, warp: u32, lane: u32) -> u64 {
        let warps = self.threads.div_ceil(32);
        let value = match special {
            Special::Tid(axis) => self.thread_index(warp * 32 + lane)[axis as usize],
            Special::Ntid(axis) => self.config.block[axis as usize],
            Special::Nctaid(axis) => self.config.grid[axis as usize],
            // Filled in for each block.
            Special::Ctaid(_)
            | Special::ClusterId(_)
            | Special::ClusterCtaid(_)
            | Special::ClusterCtaRank => 0,
            Special::NClusterId(axis) => {
                self.config.grid[axis as usize] / self.cluster[axis as usize]
            }
            Special::ClusterNctaid(axis) => self.cluster[axis as usize],
            Special::ClusterNctaRank => self.cluster_size(),
            Special::LaneId => lane,
            Special::WarpId => warp,
            Special::NWarpId => warps,
            Special::SmId => 0,
            Special::NSmId => self.gpu.model().sm_count,
            Special::GridId => 1,
            Special::LaneMaskEq => 1 << lane,
            Special::LaneMaskLt => (1 << lane) - 1,
            Special::LaneMaskLe => (1u64 << (lane + 1)).wrapping_sub(1) as u32,
            Special::LaneMaskGt => !((1u64 << (lane + 1)).wrapping_sub(1) as u32),
            Special::LaneMaskGe => !((1 << lane) - 1),
            Special::DynamicSharedSize => self.config.dynamic_shared,
            Special::TotalSharedSize => self.shared_bytes,
            // Read by an instruction of their own.
            Special::Clock | Special::ClockHi | Special::Clock64 | Special::GlobalTimer => 0,
        };
        value.into()
    }

    /// A value of the parameter buffer.
    pub fn parameter(&self, offset: u32, ty: Type, bits: u8) -> u64 {
        let mut bytes = [0; 8];
        let size = ty.bytes() as usize;
        bytes[..size].copy_from_slice(&self.params[offset as usize..offset as usize + size]);
        cvt_loaded(ty, bits, u64::from_le_bytes(bytes))
    }

    /// The number of the allocation that holds `bytes` bytes at `address`.
    #[inline(always)]
    pub fn find(&self, last: &mut usize, address: u64, bytes: u64) -> Option<usize> {
        if let Some(allocation) = self.allocations.get(*last)
            && allocation.offset(address, bytes).is_some()
        {
            return Some(*last);
        }
        let after = self
            .allocations
            .partition_point(|allocation| allocation.info.base <= address);
        let found = after.checked_sub(1)?;
        self.allocations[found].offset(address, bytes)?;
        *last = found;
        Some(found)
    }

    /// The fault of an access outside every allocation.
    #[cold]
    pub fn outside(&self, lane: usize, address: u64, bytes: u64) -> Box<Trouble> {
        let nearest = self.gpu.memory().nearest(address);
        let freed =
            nearest.is_some_and(|info| info.freed && address.wrapping_sub(info.base) < info.size);
        let kind = if freed {
            FaultKind::UseAfterFree
        } else {
            FaultKind::OutOfBounds
        };
        let what = if address < 4096 {
            ": a null pointer"
        } else {
            ""
        };
        let mut trouble = Trouble::at(
            kind,
            lane,
            address,
            format!("an access of {bytes} bytes{what}"),
        );
        trouble.allocation = nearest;
        trouble
    }

    /// An error if the allocation must not be written.
    #[inline(always)]
    pub fn writable(&self, allocation: &Allocation, lane: usize, address: u64) -> Outcome<()> {
        if !allocation.read_only {
            return Ok(());
        }
        let mut trouble = Trouble::at(
            FaultKind::ReadOnly,
            lane,
            address,
            "a write to constant memory",
        );
        trouble.allocation = Some(allocation.info);
        Err(trouble)
    }

    fn site(&self, block: u64, thread: u32, pc: u32) -> Site {
        let line = self.program.lines[pc as usize];
        Site {
            line,
            text: self.kernel.line(line),
            block: self.block_index(block),
            thread: self.thread_index(thread),
        }
    }

    /// The fault, with its place.
    fn fault(&self, cluster: u64, failure: Failure) -> Box<Fault> {
        let Failure {
            rank,
            warp,
            pc,
            trouble,
        } = failure;
        let Trouble {
            kind,
            lane,
            address,
            allocation,
            detail,
            other,
        } = *trouble;
        let site = |rank, thread, pc| self.site(self.member(cluster, rank), thread, pc);
        let in_block = |thread: u32| thread & ((1 << RANK_SHIFT) - 1);
        Box::new(Fault {
            kind,
            kernel: self.kernel.name.clone(),
            site: site(rank, warp * 32 + lane, pc),
            other: other.map(|(pc, thread)| site(thread >> RANK_SHIFT, in_block(thread), pc)),
            address,
            allocation,
            detail,
        })
    }
}

/// Clusters of a launch.
fn clusters(config: &LaunchConfig, cluster: [u32; 3]) -> u64 {
    let across = config.grid.iter().zip(cluster);
    across
        .map(|(grid, cluster)| u64::from(grid / cluster))
        .product()
}
