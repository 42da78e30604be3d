//! The tiles of rows that no block has in registers: in shared memory, or over the blocks of a cluster.

use super::VECTOR_BYTES;
use super::tiles::{RowTile, from, tile};

/// A `shared` or `shared_cluster` variant of the forward pass: a row in the shared memory of a block, or of a
/// cluster's blocks, each with a share as [`cluster_share`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedTile {
    /// Blocks that share a row: 1, or a cluster's, up to 8 as every device from sm_90 on takes.
    pub blocks: u32,
    /// Rows that a block has room for: with 2, one is on its way while one is computed.
    pub stages: u32,
    /// Threads in a block.
    pub block: u32,
    /// Vectors that a thread reads at a time.
    pub at_a_time: u32,
    /// Blocks (or clusters) that the grid has for each that the device holds at a time; 0: one for every row.
    pub rounds: u32,
}

impl SharedTile {
    /// Dynamic shared memory of a block for rows of so many vectors, in bytes.
    pub const fn bytes(&self, vectors: u32) -> u64 {
        let share = match self.blocks {
            0 | 1 => vectors,
            blocks => cluster_share(vectors, blocks),
        };
        (share as u64)
            .saturating_mul(self.stages as u64)
            .saturating_mul(VECTOR_BYTES as u64)
    }
}

const fn shared(blocks: u32, stages: u32, block: u32, at_a_time: u32, rounds: u32) -> SharedTile {
    SharedTile {
        blocks,
        stages,
        block,
        at_a_time,
        rounds,
    }
}

/// The forward pass's `shared` variants for f16 and bf16, shortest row first: for rows that no `rows` variant takes.
pub const FORWARD_SHARED_HALF: &[SharedTile] = &[
    shared(1, 2, 512, 4, 1),
    shared(1, 1, 1024, 2, 0),
    shared(2, 1, 1024, 2, 1),
    shared(4, 1, 1024, 2, 4),
];

/// The forward pass's `shared` variants for f32, likewise; those over a cluster for rows that no `cluster` variant
/// takes either.
pub const FORWARD_SHARED_F32: &[SharedTile] = &[shared(1, 1, 512, 1, 0), shared(8, 1, 1024, 2, 0)];

/// The `shared` variant of a table that has these blocks and stages.
pub const fn find_shared(tiles: &[SharedTile], blocks: u32, stages: u32) -> SharedTile {
    let mut i = 0;
    while i < tiles.len() {
        if tiles[i].blocks == blocks && tiles[i].stages == stages {
            return tiles[i];
        }
        i += 1;
    }
    panic!("no such tile in the table")
}

/// Blocks of a cluster that every device from sm_90 on takes. A kernel with larger clusters must be allowed them, by its
/// function's attribute for clusters of a size that is not portable, and needs a device that has the multiprocessors
/// in one group.
pub const PORTABLE_CLUSTER: u32 = 8;

/// How a row lies over the blocks of a cluster, in a `cluster` variant: each block has a share of it, as
/// [`cluster_share`] says, in its tile. Devices from sm_90 on alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterTile {
    /// Blocks of a cluster: up to [`PORTABLE_CLUSTER`], as every such device takes, or 16.
    pub blocks: u32,
    /// A block's; its row is the block's.
    pub tile: RowTile,
    /// Clusters that the grid has for each that the device is sure to hold at a time.
    pub rounds: u32,
}

impl ClusterTile {
    /// The longest row that fits, in vectors.
    pub const fn max_vectors(&self) -> u32 {
        self.blocks.saturating_mul(self.tile.max_vectors())
    }

    /// Dynamic shared memory of a forward variant's block, in bytes.
    pub const fn forward_bytes(&self) -> u32 {
        self.tile.ring_bytes()
    }

    /// Dynamic shared memory of a backward variant's block for vectors of so many columns, in bytes: x and dy, and where
    /// there is room for fewer than three rows of them, the sums of dweight.
    pub const fn backward_bytes(&self, columns: u32) -> u32 {
        let rows = self.tile.ring_bytes().saturating_mul(2);
        if self.tile.stages >= 3 {
            return rows;
        }
        let sums = self.tile.max_vectors().saturating_mul(columns);
        rows.saturating_add(sums.saturating_mul(4))
    }
}

/// Vectors of a row that each block of a cluster has; the last may have fewer. Shares start at multiples of 128
/// bytes.
pub const fn cluster_share(vectors: u32, blocks: u32) -> u32 {
    vectors.div_ceil(blocks).next_multiple_of(8)
}

const fn cluster(blocks: u32, tile: RowTile, rounds: u32) -> ClusterTile {
    ClusterTile {
        blocks,
        tile,
        rounds,
    }
}

/// The forward pass's `cluster` variants for f32: for rows that neither a `rows` variant nor a block's shared
/// memory takes. The more a block has between two exchanges, the better. Rows of f16 and bf16 are faster in shared
/// memory ([`FORWARD_SHARED_HALF`]).
pub const FORWARD_CLUSTERS_F32: &[ClusterTile] = &[
    cluster(4, tile(512, 8, 512, 3, 1), 4),
    cluster(8, tile(512, 8, 512, 3, 1), 4),
];

/// The backward pass's `cluster` variants for f32, shortest row first: for rows that no `rows` variant takes. With fewer than
/// three stages the sums of dweight are in shared memory.
///
/// Two blocks fit the two multiprocessors of any pair. How many larger clusters fit is not the same on every chip:
/// with more rounds of them, one round more costs less. Of 16 blocks seven clusters fit the chips that they are for, and
/// further rounds only cost.
pub const BACKWARD_CLUSTERS_F32: &[ClusterTile] = &[
    cluster(2, tile(512, 4, 512, 3, 1), 1),
    cluster(4, tile(512, 4, 512, 3, 1), 2),
    cluster(8, tile(512, 4, 512, 3, 1), 4),
    cluster(16, tile(512, 4, 512, 3, 1), 1),
    cluster(16, tile(512, 8, 512, 1, 1), 1),
];

/// The backward pass's `cluster` variants for f16 and bf16, shortest row first. Below the last one's rows two kernels are
/// faster on an H200.
pub const BACKWARD_CLUSTERS_HALF: &[ClusterTile] = &[
    cluster(2, tile(256, 4, 256, 4, 1), 1),
    cluster(4, tile(256, 4, 256, 4, 1), 2),
    cluster(8, tile(256, 4, 256, 4, 1), 4),
    cluster(16, tile(256, 4, 256, 4, 1), 1),
    cluster(16, from(28 << 10, tile(512, 4, 512, 2, 1)), 1),
];

/// The cluster tile of a table that has these blocks, lanes and vectors.
pub const fn find_cluster(
    tiles: &[ClusterTile],
    blocks: u32,
    lanes: u32,
    vecs: u32,
) -> ClusterTile {
    let mut i = 0;
    while i < tiles.len() {
        let ClusterTile {
            blocks: b, tile: t, ..
        } = tiles[i];
        if b == blocks && t.lanes == lanes && t.vecs == vecs {
            return tiles[i];
        }
        i += 1;
    }
    panic!("no such tile in the table")
}
