//! The tiles: how each variant lays a row over the threads of a block, and which of them there are. `long_tiles` has those of
//! longer rows.

use super::VECTOR_BYTES;

/// How a row lies over the threads of a block, in a `rows`, `ragged` or `narrow` variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowTile {
    /// Threads that share a row: a power of two up to 32, or whole warps.
    pub lanes: u32,
    /// Vectors that a thread holds: 16 bytes each, or one element each in a `narrow` variant.
    pub vecs: u32,
    /// Threads in a block; `block / lanes` rows are in work at a time. Of a variant with stages this is the most: a launch may
    /// have fewer [teams](Self::team).
    pub block: u32,
    /// Rows that a thread has in shared memory, on their way or in work. 0: rows go straight to registers,
    /// and the grid must have a place for every row.
    pub stages: u32,
    /// Blocks that a multiprocessor is meant to hold, which bounds their registers; 0: as the compiler
    /// likes. The grid of a kernel with stages is at most this many for each multiprocessor.
    pub blocks_per_sm: u32,
    /// The fewest vectors of a row that it is for: with more lanes idle, what comes after the tiles is faster.
    pub fewest: u32,
    /// The devices that it is for.
    pub memory: Memory,
    /// Rows for each multiprocessor from which on its blocks are pairs, on devices with clusters: two have one row of
    /// partials. [`NEVER`](RowTile::NEVER): there is no such kernel.
    pub pairs_from: u32,
}

/// Devices by what their memory gives each multiprocessor. The more that is, the more bytes a multiprocessor must have on
/// their way; the less, the more blocks at different points of their row are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// All devices.
    Any,
    /// Those below [`FAST_MEMORY`], as an H100.
    Slow,
    /// Those from [`FAST_MEMORY`] on, as an H200.
    Fast,
}

/// Bytes a second for each multiprocessor, by the memory's clock and bus, from which on a device's memory is [`Memory::Fast`]:
/// about halfway between an H100's 25.4e9 and an H200's 37.2e9, which the tiles were measured on.
pub const FAST_MEMORY: u64 = 31_000_000_000;

impl RowTile {
    /// For [`pairs_from`](RowTile::pairs_from).
    pub const NEVER: u32 = u32::MAX;

    /// Whether it is for a device, whose memory is fast or not.
    pub const fn is_for(&self, fast_memory: bool) -> bool {
        match self.memory {
            Memory::Any => true,
            Memory::Slow => !fast_memory,
            Memory::Fast => fast_memory,
        }
    }

    /// The longest row that fits, in vectors.
    pub const fn max_vectors(&self) -> u32 {
        self.lanes.saturating_mul(self.vecs)
    }

    /// Threads that take rows together: those of one row, or a warp.
    pub const fn team(&self) -> u32 {
        if self.lanes < 32 { 32 } else { self.lanes }
    }

    /// Teams of a block; 0 if it has not the threads for one.
    pub const fn teams(&self) -> u32 {
        self.block / self.team()
    }

    /// The same with so many teams in a block.
    pub const fn of_teams(self, teams: u32) -> Self {
        RowTile {
            block: teams.saturating_mul(self.team()),
            ..self
        }
    }

    /// Rows that a block has in work at a time; 0 without lanes.
    pub const fn rows_per_block(&self) -> u32 {
        match self.lanes {
            0 => 0,
            lanes => self.block / lanes,
        }
    }

    /// Dynamic shared memory of a block for each tensor that it stages (x; x and dy), in bytes.
    pub const fn ring_bytes(&self) -> u32 {
        self.stages
            .saturating_mul(self.vecs)
            .saturating_mul(self.block)
            .saturating_mul(VECTOR_BYTES)
    }

    /// Dynamic shared memory that a block of a pair has more, for vectors of so many columns, in bytes: what the other block
    /// has of one of the two sums of each column.
    pub const fn pair_bytes(&self, columns: u32) -> u32 {
        self.max_vectors().saturating_mul(columns).saturating_mul(4)
    }

    /// Dynamic shared memory of a forward `ragged` variant's block, in bytes: an image of each row.
    pub const fn ragged_forward_bytes(&self) -> u32 {
        self.ragged_images(1)
    }

    /// Dynamic shared memory of a backward `ragged` variant's block for vectors of so many columns, in bytes: images of
    /// x and dy for the rows on their way or in work, one more, through which the results go out, and the weights of
    /// each thread's columns as f32.
    pub const fn ragged_backward_bytes(&self, columns: u32) -> u32 {
        let images = self.stages.saturating_mul(2).saturating_add(1);
        let weights = columns
            .saturating_mul(4)
            .saturating_mul(self.vecs)
            .saturating_mul(self.block);
        self.ragged_images(images).saturating_add(weights)
    }

    const fn ragged_images(&self, images: u32) -> u32 {
        images
            .saturating_mul(self.rows_per_block())
            .saturating_mul(image_vectors(self.lanes, self.vecs))
            .saturating_mul(VECTOR_BYTES)
    }
}

/// Vectors of a line of a cache, and of all banks of shared memory.
pub const LINE_VECTORS: u32 = 128 / VECTOR_BYTES;

/// Vectors of the image of a row of up to `lanes * vecs` vectors, in whole lines: one more where the row starts inside a
/// vector, one of zeros after its end, and before it as many as [`image_lines`] says it may begin behind.
pub const fn image_vectors(lanes: u32, vecs: u32) -> u32 {
    let before = if image_lines(lanes) {
        LINE_VECTORS - 1
    } else {
        0
    };
    let vectors = lanes.saturating_mul(vecs).saturating_add(2 + before);
    vectors.saturating_add(LINE_VECTORS - 1) / LINE_VECTORS * LINE_VECTORS
}

/// Whether a row of so many lanes lies in its image's lines as in memory's, so that a line of a copy is one line there, not
/// parts of two. Of less than a warp a row was no faster by it.
pub const fn image_lines(lanes: u32) -> bool {
    lanes >= 32
}

pub(super) const fn tile(
    lanes: u32,
    vecs: u32,
    block: u32,
    stages: u32,
    blocks_per_sm: u32,
) -> RowTile {
    RowTile {
        lanes,
        vecs,
        block,
        stages,
        blocks_per_sm,
        fewest: 0,
        memory: Memory::Any,
        pairs_from: RowTile::NEVER,
    }
}

/// The same, for rows of at least so many vectors.
pub(super) const fn from(fewest: u32, tile: RowTile) -> RowTile {
    RowTile { fewest, ..tile }
}

/// The same, for devices with such a memory.
const fn on(memory: Memory, tile: RowTile) -> RowTile {
    RowTile { memory, ..tile }
}

/// The same, in pairs from so many rows for each multiprocessor on.
const fn pairs(from: u32, tile: RowTile) -> RowTile {
    RowTile {
        pairs_from: from,
        ..tile
    }
}

/// Rows for each multiprocessor from which on short rows go in pairs: for an H100 4092, where the partials of 16-bit rows
/// would be 8.6 % of the bytes of x, dy and dx. The pairs cost 0.2 us at 64 columns, and from some 1024 on win.
const MANY: u32 = 31;

/// The forward pass's `rows` variants for f16 and bf16, shortest row first. Measured on an H100 and an H200;
/// docs/performance.md has the figures. Three vectors are for hidden sizes of three times a power of two.
pub const FORWARD_TILES_HALF: &[RowTile] = &[
    // Several rows a warp, so that short rows keep all its lanes busy.
    tile(8, 1, 128, 0, 0),
    tile(8, 2, 128, 0, 0),
    tile(8, 4, 128, 0, 0),
    tile(16, 3, 128, 0, 0),
    on(Memory::Fast, tile(16, 4, 128, 0, 0)),
    // From here a row has the block: what is the same in all threads then costs no registers.
    on(Memory::Slow, tile(64, 1, 64, 0, 0)),
    tile(32, 3, 32, 0, 0),
    on(Memory::Slow, tile(128, 1, 128, 0, 0)),
    on(Memory::Fast, tile(64, 2, 64, 0, 0)),
    tile(64, 3, 64, 0, 0),
    on(Memory::Slow, tile(128, 2, 128, 0, 0)),
    on(Memory::Fast, tile(64, 4, 64, 0, 0)),
    tile(128, 3, 128, 0, 0),
    tile(256, 2, 256, 0, 0),
    tile(128, 5, 128, 0, 0),
    tile(256, 3, 256, 0, 0),
    tile(256, 4, 256, 0, 0),
    tile(512, 3, 512, 0, 0),
    tile(512, 4, 512, 0, 2),
    // Rows of 30721 to 32768 columns: as many threads as a multiprocessor has registers for, which are idle together.
    from(15 * 256 + 1, tile(1024, 4, 1024, 0, 1)),
];

/// The forward pass's `rows` variants for f32, likewise.
pub const FORWARD_TILES_F32: &[RowTile] = &[
    tile(8, 1, 128, 0, 0),
    tile(8, 2, 128, 0, 0),
    tile(16, 2, 128, 0, 0),
    tile(16, 4, 256, 0, 0),
    tile(32, 3, 256, 0, 0),
    tile(128, 1, 128, 0, 0),
    tile(128, 2, 128, 0, 0),
    on(Memory::Fast, tile(128, 3, 128, 0, 0)),
    tile(256, 2, 256, 0, 0),
    tile(256, 3, 256, 0, 0),
    on(Memory::Slow, tile(512, 2, 512, 0, 0)),
    on(Memory::Fast, tile(256, 4, 256, 0, 0)),
    tile(256, 5, 256, 0, 0),
    on(Memory::Slow, tile(512, 3, 512, 0, 0)),
    on(Memory::Fast, tile(256, 6, 256, 0, 0)),
    tile(512, 4, 512, 0, 0),
    tile(512, 6, 512, 0, 0),
    on(Memory::Slow, tile(1024, 4, 1024, 0, 1)),
    on(Memory::Fast, tile(512, 8, 512, 0, 2)),
    tile(1024, 6, 1024, 0, 1),
    tile(1024, 8, 1024, 0, 1),
];

/// The forward pass's `narrow` variants for f32, shortest row first: 8 to 32 elements a lane, from 33 columns on. Realigned
/// in shared memory such rows were no faster at 1023 columns, and slower at 4099.
pub const FORWARD_NARROW_TILES: &[RowTile] = &[
    tile(8, 4, 128, 0, 0),
    tile(32, 8, 128, 0, 0),
    tile(32, 16, 64, 0, 0),
    tile(128, 8, 128, 0, 0),
    tile(128, 12, 128, 0, 0),
    tile(128, 16, 128, 0, 0),
    tile(256, 12, 256, 0, 0),
    tile(256, 16, 256, 0, 0),
    tile(256, 20, 256, 0, 0),
    tile(512, 12, 512, 0, 0),
    tile(512, 16, 512, 0, 0),
    tile(512, 20, 512, 0, 0),
    tile(512, 24, 512, 0, 0),
    tile(512, 32, 512, 0, 0),
];

/// The forward pass's `ragged` variants for f16 and bf16, shortest row first: three and four vectors a lane, which share what
/// a row costs each lane.
pub const FORWARD_RAGGED_TILES: &[RowTile] = &[
    tile(8, 1, 128, 0, 0),
    tile(8, 2, 128, 0, 0),
    tile(8, 4, 128, 0, 0),
    tile(16, 4, 128, 0, 0),
    tile(32, 3, 64, 0, 0),
    tile(32, 4, 64, 0, 0),
    tile(64, 3, 64, 0, 0),
    tile(64, 4, 64, 0, 0),
    tile(128, 3, 128, 0, 0),
    tile(128, 4, 128, 0, 0),
    tile(128, 5, 128, 0, 0),
    tile(256, 3, 256, 0, 0),
    tile(256, 4, 256, 0, 0),
    tile(512, 3, 512, 0, 0),
    tile(512, 4, 512, 0, 0),
];

/// The backward pass's `rows` variants for f32, shortest row first. A multiprocessor has one block, of as many teams as it has
/// registers for: they add up their sums of dweight and dbias in shared memory, so that there is one row of partials for
/// each multiprocessor.
pub const BACKWARD_TILES_F32: &[RowTile] = &[
    tile(8, 1, 512, 2, 1),
    tile(8, 2, 512, 2, 1),
    tile(8, 4, 384, 2, 1),
    tile(16, 4, 384, 2, 1),
    tile(32, 4, 384, 2, 1),
    tile(128, 2, 512, 3, 1),
    tile(256, 2, 512, 2, 1),
    tile(512, 2, 512, 3, 1),
    tile(512, 4, 512, 2, 1),
];

/// The backward pass's `rows` variants for f16, shortest row first: as for bf16, but for a tile that its conversions would
/// make spill. On a device with fast memory rows of 2049 to 3072 columns are faster in two blocks.
pub const BACKWARD_TILES_F16: &[RowTile] = &[
    pairs(MANY, tile(8, 1, 512, 2, 1)),
    pairs(MANY, tile(8, 2, 384, 2, 1)),
    pairs(MANY, tile(8, 4, 256, 2, 1)),
    pairs(MANY, tile(16, 3, 256, 3, 1)),
    pairs(MANY, tile(16, 4, 256, 2, 1)),
    pairs(MANY, tile(32, 3, 256, 3, 1)),
    pairs(MANY, tile(64, 2, 384, 3, 1)),
    pairs(MANY, tile(96, 2, 384, 3, 1)),
    pairs(MANY, tile(128, 2, 384, 3, 1)),
    on(Memory::Slow, pairs(MANY, tile(192, 2, 384, 3, 1))),
    on(Memory::Fast, pairs(MANY, tile(128, 3, 128, 3, 2))),
    pairs(MANY, tile(128, 4, 256, 2, 1)),
    pairs(0, tile(256, 3, 256, 3, 1)),
    pairs(0, tile(256, 4, 256, 2, 1)),
];

/// The backward pass's `rows` variants for bf16, shortest row first.
///
/// A vector has twice the columns of an f32 vector, so twice the registers for dweight and dbias.
pub const BACKWARD_TILES_BF16: &[RowTile] = &[
    pairs(MANY, tile(8, 1, 512, 2, 1)),
    pairs(MANY, tile(8, 2, 384, 2, 1)),
    pairs(MANY, tile(8, 4, 256, 2, 1)),
    pairs(MANY, tile(16, 3, 256, 3, 1)),
    pairs(MANY, tile(16, 4, 256, 2, 1)),
    pairs(MANY, tile(32, 3, 256, 3, 1)),
    on(Memory::Slow, pairs(MANY, tile(64, 2, 384, 3, 1))),
    on(Memory::Fast, pairs(MANY, tile(32, 4, 256, 2, 1))),
    pairs(MANY, tile(96, 2, 384, 3, 1)),
    pairs(MANY, tile(128, 2, 384, 3, 1)),
    on(Memory::Slow, pairs(MANY, tile(192, 2, 384, 3, 1))),
    on(Memory::Fast, pairs(MANY, tile(128, 3, 128, 3, 2))),
    pairs(MANY, tile(128, 4, 256, 2, 1)),
    pairs(0, tile(256, 3, 256, 3, 1)),
    pairs(0, tile(256, 4, 256, 2, 1)),
];

/// The backward pass's `ragged` variants for f32, shortest row first, likewise but for one that lost by it.
pub const BACKWARD_RAGGED_TILES_F32: &[RowTile] = &[
    tile(8, 2, 512, 2, 1),
    tile(16, 3, 384, 2, 1),
    tile(16, 4, 256, 2, 1),
    tile(32, 4, 384, 2, 1),
    tile(128, 2, 512, 3, 1),
    tile(128, 3, 384, 2, 1),
    pairs(0, tile(256, 2, 256, 2, 2)),
    tile(256, 3, 256, 2, 1),
    tile(512, 2, 512, 3, 1),
    tile(256, 5, 256, 3, 1),
    tile(512, 3, 512, 2, 1),
    tile(512, 4, 512, 2, 1),
];

/// The backward pass's `ragged` variants for f16 and bf16, shortest row first. 192 lanes are for 4097 to 4608 columns, whose
/// rows would leave a third of 256 idle.
pub const BACKWARD_RAGGED_TILES_HALF: &[RowTile] = &[
    pairs(0, tile(8, 1, 512, 2, 1)),
    pairs(0, tile(8, 3, 256, 3, 1)),
    pairs(0, tile(16, 2, 384, 2, 1)),
    pairs(0, tile(32, 2, 384, 2, 1)),
    pairs(0, tile(32, 3, 256, 2, 1)),
    pairs(0, tile(32, 4, 256, 2, 1)),
    pairs(0, tile(64, 3, 256, 3, 1)),
    pairs(0, tile(64, 4, 256, 2, 1)),
    on(Memory::Slow, pairs(0, tile(192, 2, 384, 2, 1))),
    on(Memory::Fast, pairs(0, tile(128, 3, 128, 2, 3))),
    pairs(0, tile(128, 4, 256, 2, 1)),
    pairs(0, tile(192, 3, 384, 2, 1)),
    pairs(0, tile(256, 3, 256, 3, 1)),
    pairs(0, tile(256, 4, 256, 2, 1)),
];

/// The tile of a table that has these lanes and vectors; the device code looks up its own in this way.
pub const fn find_tile(tiles: &[RowTile], lanes: u32, vecs: u32) -> RowTile {
    let mut i = 0;
    while i < tiles.len() {
        if tiles[i].lanes == lanes && tiles[i].vecs == vecs {
            return tiles[i];
        }
        i += 1;
    }
    panic!("no such tile in the table")
}
