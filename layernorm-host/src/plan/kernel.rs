//! The kernel over rows: which one a row gets, and how much of it a device is given.

use kernels_gpu::abi::{
    ANY_BLOCK, COLUMNS_BLOCK, ClusterTile, FAST_MEMORY, PAIR_BLOCKS, PORTABLE_CLUSTER, RowTile,
    STATIC_SHARED_BYTES, SUMS_BLOCK, SharedTile, VECTOR_BYTES, columns_vecs,
};

use super::pairs::{Pairs, pairs};
use super::{Launch, Limits, MAX_WORKSPACE_BYTES, check};
use crate::{DType, Entry, Pass, Problem, Result, Variant};

/// Blocks of the backward pass's `any` kernel on a multiprocessor: enough to hide the latency of memory,
/// and a bound on the partials.
const ANY_BLOCKS_PER_SM: u32 = 4;

/// Longest row that the backward pass's `any` kernel takes. Above it two floats a row, which the kernels by
/// columns need, are next to nothing.
const MAX_ANY_BACKWARD_COLS: usize = 4096;

/// Blocks of a `columns` kernel on a multiprocessor: all in work at once, since those of a second round would
/// have it to themselves.
pub(super) const COLUMNS_BLOCKS_PER_SM: u32 = 3;

/// Blocks of a `sums` kernel on a multiprocessor.
const SUMS_BLOCKS_PER_SM: u32 = 8;

/// A kernel over rows, chosen by what a row is.
pub(super) struct RowsKernel {
    pub entry: Entry,
    pub block: u32,
    /// Rows that a block has in work at a time.
    pub rows_per_block: u32,
    /// Rows that it has at least, of as many: those of one team.
    pub rows_per_team: u32,
    /// Blocks that a multiprocessor is to hold, or rounds of clusters; `None`: there is a block for every row.
    pub blocks_per_sm: Option<u32>,
    pub shared_bytes: u32,
    /// Parts that a `columns` kernel divides the columns into; `None` for the others.
    pub column_parts: Option<u32>,
    /// Blocks of a cluster, which has a row or, of a pair, a row of partials; 1 without clusters.
    pub cluster: u32,
    /// The kernel whose blocks are pairs, for as many rows on the device.
    pub pairs: Option<Pairs>,
}

impl RowsKernel {
    pub fn choose(pass: Pass, problem: &Problem, aligned: bool, limits: &Limits) -> Self {
        if problem.dtype() == DType::F64 {
            return Self::any(pass, problem);
        }
        let size = problem.dtype().size() as u64;
        let row_bytes = problem.n_cols() as u64 * size;
        let room = u64::from(limits.max_shared.saturating_sub(STATIC_SHARED_BYTES));
        let rings = match pass {
            Pass::Forward => 1,
            Pass::Backward => 2,
        };
        let fast = has_fast_memory(limits);
        let rows = problem.n_rows() as u64;
        let fitting = |tile: &RowTile, vectors: u64, bytes: &dyn Fn(&RowTile) -> u32| {
            let tile = within(room, tile, bytes)?;
            let tile = busy(rows, limits, tile);
            (vectors <= u64::from(tile.max_vectors())).then_some(tile)
        };
        let ring = |tile: &RowTile| rings * tile.ring_bytes();
        let tiled = |tile: &RowTile, variant: Variant, shared_bytes: u32| RowsKernel {
            entry: entry(pass, problem, variant),
            block: tile.block,
            rows_per_block: tile.rows_per_block(),
            rows_per_team: tile.of_teams(1).rows_per_block(),
            blocks_per_sm: (tile.stages > 0).then_some(tile.blocks_per_sm),
            shared_bytes,
            column_parts: None,
            cluster: 1,
            pairs: pairs(problem, limits, tile, variant, shared_bytes),
        };
        if aligned && is_aligned(&[row_bytes]) {
            let vectors = row_bytes / u64::from(VECTOR_BYTES);
            let shared = pass.shared_tiles(problem.dtype());
            // At most 2^32 columns of 4 bytes: there are no more vectors than a u32 counts.
            let mut shared = shared
                .iter()
                .filter(|tile| tile.bytes(vectors as u32) <= room);
            let in_a_block = shared.clone().find(|tile| tile.blocks == 1);
            let tiles = pass.tiles(problem.dtype());
            let is_long_enough =
                |tile: &&RowTile| vectors >= u64::from(tile.fewest) || in_a_block.is_none();
            let mut tiles = tiles
                .iter()
                .filter(|tile| tile.is_for(fast))
                .filter(is_long_enough);
            if let Some(tile) = tiles.find_map(|tile| fitting(tile, vectors, &ring)) {
                let (lanes, vecs) = (tile.lanes, tile.vecs);
                return tiled(&tile, Variant::Rows { lanes, vecs }, ring(&tile));
            }
            let has_clusters = limits.compute_capability >= (9, 0);
            let clusters = pass.cluster_tiles(problem.dtype()).iter();
            let cluster = clusters.filter(|_| has_clusters).find(|cluster| {
                (u64::from(cluster.tile.fewest)..=u64::from(cluster.max_vectors()))
                    .contains(&vectors)
                    && u64::from(cluster_bytes(pass, problem, cluster)) <= room
                    && (cluster.blocks <= PORTABLE_CLUSTER || takes_larger_clusters(limits))
            });
            // What one block holds before what takes several.
            if let Some(tile) = in_a_block {
                return Self::in_shared_memory(problem, tile, vectors as u32);
            }
            if let Some(cluster) = cluster {
                return Self::in_clusters(pass, problem, cluster);
            }
            if let Some(tile) = shared.find(|_| has_clusters) {
                return Self::in_shared_memory(problem, tile, vectors as u32);
            }
        } else {
            let vectors = row_bytes.div_ceil(u64::from(VECTOR_BYTES));
            let bytes = |tile: &RowTile| match pass {
                Pass::Forward => tile.ragged_forward_bytes(),
                Pass::Backward => tile.ragged_backward_bytes(VECTOR_BYTES / size as u32),
            };
            let tiles = pass.ragged_tiles(problem.dtype());
            let mut tiles = tiles.iter().filter(|tile| tile.is_for(fast));
            if let Some(tile) = tiles.find_map(|tile| fitting(tile, vectors, &bytes)) {
                let (lanes, vecs) = (tile.lanes, tile.vecs);
                return tiled(&tile, Variant::Ragged { lanes, vecs }, bytes(&tile));
            }
            let columns = problem.n_cols() as u64;
            let tiles = pass.narrow_tiles(problem.dtype());
            let mut tiles = tiles.iter();
            if let Some(tile) = tiles.find_map(|tile| fitting(tile, columns, &ring)) {
                let (lanes, vecs) = (tile.lanes, tile.vecs);
                return tiled(&tile, Variant::Narrow { lanes, vecs }, ring(&tile));
            }
        }
        if pass == Pass::Backward && problem.n_cols() > MAX_ANY_BACKWARD_COLS {
            let narrow = !(aligned && is_aligned(&[row_bytes]));
            return Self::columns(problem, narrow);
        }
        Self::any(pass, problem)
    }

    /// The forward kernel with rows of so many vectors in shared memory, of a block or a cluster.
    fn in_shared_memory(problem: &Problem, tile: &SharedTile, vectors: u32) -> Self {
        RowsKernel {
            entry: entry(Pass::Forward, problem, Variant::of_shared(tile)),
            block: tile.block,
            rows_per_block: 1,
            rows_per_team: 1,
            blocks_per_sm: (tile.rounds > 0).then_some(tile.rounds),
            shared_bytes: tile.bytes(vectors) as u32,
            column_parts: None,
            cluster: tile.blocks,
            pairs: None,
        }
    }

    /// A kernel whose rows are the clusters', in registers.
    fn in_clusters(pass: Pass, problem: &Problem, cluster: &ClusterTile) -> Self {
        RowsKernel {
            entry: entry(pass, problem, Variant::of_cluster(cluster)),
            block: cluster.tile.block,
            rows_per_block: 1,
            rows_per_team: 1,
            blocks_per_sm: Some(cluster.rounds),
            shared_bytes: cluster_bytes(pass, problem, cluster),
            column_parts: None,
            cluster: cluster.blocks,
            pairs: None,
        }
    }

    /// The kernel that takes any row, and any number of them.
    pub fn any(pass: Pass, problem: &Problem) -> Self {
        RowsKernel {
            entry: entry(pass, problem, Variant::Any),
            block: ANY_BLOCK,
            rows_per_block: 1,
            rows_per_team: 1,
            blocks_per_sm: match pass {
                Pass::Forward => None,
                Pass::Backward => Some(ANY_BLOCKS_PER_SM),
            },
            shared_bytes: 0,
            column_parts: None,
            cluster: 1,
            pairs: None,
        }
    }

    /// The backward pass's kernel that goes by columns.
    fn columns(problem: &Problem, narrow: bool) -> Self {
        let vector = match narrow {
            true => 1,
            false => VECTOR_BYTES / problem.dtype().size() as u32,
        };
        let part = COLUMNS_BLOCK * columns_vecs(narrow) * vector;
        RowsKernel {
            entry: entry(Pass::Backward, problem, Variant::Columns { narrow }),
            block: COLUMNS_BLOCK,
            rows_per_block: 1,
            rows_per_team: 1,
            blocks_per_sm: Some(COLUMNS_BLOCKS_PER_SM),
            shared_bytes: 0,
            column_parts: Some(problem.n_cols_u32().div_ceil(part)),
            cluster: 1,
            pairs: None,
        }
    }

    /// The kernel in pairs of blocks, where there is one for so many rows. A pair has the rows of its two blocks.
    pub fn in_pairs(self) -> Self {
        match self.pairs {
            Some(pairs) => RowsKernel {
                entry: pairs.entry,
                rows_per_block: self.rows_per_block * PAIR_BLOCKS,
                shared_bytes: self.shared_bytes + pairs.shared_bytes,
                cluster: PAIR_BLOCKS,
                pairs: None,
                ..self
            },
            None => self,
        }
    }

    /// The kernel that a `columns` kernel needs before it for dx.
    pub fn sums_entry(&self, problem: &Problem) -> Option<Entry> {
        match self.entry.variant() {
            Some(Variant::Columns { narrow }) => {
                Some(entry(Pass::Backward, problem, Variant::Sums { narrow }))
            }
            _ => None,
        }
    }

    pub fn sums(&self, problem: &Problem, limits: &Limits) -> Result<Option<Launch>> {
        let entry = self.sums_entry(problem).filter(|_| problem.n_rows() > 0);
        let rows = u32::try_from(problem.n_rows()).unwrap_or(u32::MAX);
        entry
            .map(|entry| {
                let launch = Launch {
                    entry,
                    grid: rows.min(limits.sm_count.saturating_mul(SUMS_BLOCKS_PER_SM).max(1)),
                    grid_y: 1,
                    block: SUMS_BLOCK,
                    shared_bytes: 0,
                    overlaps: false,
                };
                check(launch, limits)
            })
            .transpose()
    }

    /// Blocks that give every row a place of its own.
    pub fn blocks(&self, problem: &Problem) -> u64 {
        (problem.n_rows() as u64).div_ceil(u64::from(self.rows_per_block))
    }

    /// The most rows of partials for so many rows or fewer, so that a caller's workspace for many rows is enough for fewer.
    pub fn partials_of_rows(&self, problem: &Problem, limits: &Limits) -> u32 {
        let turns = (problem.n_rows() as u64).div_ceil(u64::from(self.rows_per_team));
        turns.min(u64::from(self.max_partials(problem, limits))) as u32
    }

    /// Blocks that the kernel is to be launched with at most; of a `cluster` kernel, clusters.
    pub fn max_resident(&self, limits: &Limits) -> u32 {
        if self.cluster > 1 {
            let at_a_time = clusters_at_a_time(limits.sm_count, self.cluster);
            let clusters = self
                .blocks_per_sm
                .map_or(u32::MAX, |rounds| at_a_time.saturating_mul(rounds));
            return clusters.min(limits.max_grid / self.cluster).max(1);
        }
        self.blocks_per_sm.map_or(limits.max_grid, |blocks| {
            limits
                .sm_count
                .saturating_mul(blocks)
                .min(limits.max_grid)
                .max(1)
        })
    }

    /// Blocks of the backward pass that the device can keep resident and the workspace has room for.
    pub fn max_partials(&self, problem: &Problem, limits: &Limits) -> u32 {
        let room = MAX_WORKSPACE_BYTES / partial_row_bytes(problem);
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let places = self.max_resident(limits) / self.column_parts.unwrap_or(1);
        // A grid's second dimension, which a `columns` kernel has them in, ends at 65535.
        places.min(room).clamp(1, 65_535)
    }

    /// A grid of at most `cap` blocks; blocks go on to further rows by themselves.
    pub fn launch(&self, problem: &Problem, cap: u32, limits: &Limits) -> Result<Option<Launch>> {
        if problem.n_rows() == 0 {
            return Ok(None);
        }
        let blocks = u32::try_from(self.blocks(problem)).unwrap_or(u32::MAX);
        let blocks = blocks.min(cap);
        let (grid, grid_y) = match self.column_parts {
            Some(parts) => (parts, blocks),
            None => (blocks.saturating_mul(self.cluster), 1),
        };
        let launch = Launch {
            entry: self.entry,
            grid,
            grid_y,
            block: self.block,
            shared_bytes: self.shared_bytes,
            overlaps: false,
        };
        check(launch, limits).map(Some)
    }
}

/// The tile with as many teams as the shared memory has room for, `bytes` of it for a block; `None` if it has for none, or
/// not for the block of a tile without stages.
fn within(room: u64, tile: &RowTile, bytes: &dyn Fn(&RowTile) -> u32) -> Option<RowTile> {
    if tile.stages == 0 {
        return (u64::from(bytes(tile)) <= room).then_some(*tile);
    }
    let teams = room / u64::from(bytes(&tile.of_teams(1))).max(1);
    let teams = teams.min(u64::from(tile.teams())) as u32;
    (teams > 0).then(|| tile.of_teams(teams))
}

/// The tile with no more teams in a block than so many rows keep busy, if every multiprocessor has a block of them.
fn busy(rows: u64, limits: &Limits, tile: RowTile) -> RowTile {
    if tile.stages == 0 {
        return tile;
    }
    let turns = rows.div_ceil(u64::from(tile.of_teams(1).rows_per_block()).max(1));
    let teams = turns.div_ceil(u64::from(limits.sm_count.max(1)));
    tile.of_teams(teams.clamp(1, u64::from(tile.teams())) as u32)
}

/// Clusters that a device can be expected to hold at a time, one block to a multiprocessor.
///
/// A cluster's blocks are on one group of multiprocessors. Those come in pairs, so any pair takes a cluster of two.
/// The groups are of different sizes, not the same on every chip: of an H100's 132 multiprocessors larger clusters
/// reach 120 (`cuOccupancyMaxActiveClusters` says 30 clusters of four, 15 of eight). Too few leave multiprocessors
/// idle in the last round, too many cost a round more.
pub(super) fn clusters_at_a_time(sm_count: u32, blocks: u32) -> u32 {
    match blocks {
        ..=2 => sm_count / blocks,
        _ => sm_count / 11 * 10 / blocks,
    }
}

/// Dynamic shared memory of a block of a cluster, in bytes.
fn cluster_bytes(pass: Pass, problem: &Problem, cluster: &ClusterTile) -> u32 {
    match pass {
        Pass::Forward => cluster.forward_bytes(),
        Pass::Backward => cluster.backward_bytes(VECTOR_BYTES / problem.dtype().size() as u32),
    }
}

/// The memory gives each multiprocessor much, by [`FAST_MEMORY`].
pub(super) fn has_fast_memory(limits: &Limits) -> bool {
    limits.memory_rate >= FAST_MEMORY.saturating_mul(u64::from(limits.sm_count.max(1)))
}

/// Clusters of 16 blocks run on the device, which for others than those of compute capability 9.0 is not known.
///
/// Such a cluster needs a group of 16 multiprocessors. There are at most 8 groups, and multiprocessors come in pairs: with
/// more than 8 times 14 of them one group has 16. A part of a device, as its user may have divided it, has fewer.
pub(super) fn takes_larger_clusters(limits: &Limits) -> bool {
    limits.compute_capability == (9, 0) && limits.sm_count > 8 * 14
}

pub(super) fn entry(pass: Pass, problem: &Problem, variant: Variant) -> Entry {
    Entry::Rows {
        pass,
        x: problem.dtype(),
        weight: problem.parameter_dtype(),
        variant,
    }
}

pub(super) fn is_aligned(values: &[u64]) -> bool {
    values
        .iter()
        .all(|value| value.is_multiple_of(u64::from(VECTOR_BYTES)))
}

/// Bytes of one row of both arrays of partials.
pub(super) fn partial_row_bytes(problem: &Problem) -> usize {
    2 * problem.n_cols() * problem.dtype().accumulator().size()
}
