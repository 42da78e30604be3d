//! Blocks in pairs: which rows have them, and what a block then needs more.

use kernels_gpu::abi::{PAIR_BLOCKS, RowTile, STATIC_SHARED_BYTES, VECTOR_BYTES};

use super::Limits;
use super::kernel::entry;
use crate::{Entry, Pass, Problem, Variant};

/// What is different in pairs.
pub(super) struct Pairs {
    pub entry: Entry,
    /// More than without.
    pub shared_bytes: u32,
}

/// The tile's kernel in pairs, which beside `shared_bytes` have room for what the other block has.
pub(super) fn pairs(
    problem: &Problem,
    limits: &Limits,
    tile: &RowTile,
    variant: Variant,
    shared_bytes: u32,
) -> Option<Pairs> {
    let columns = VECTOR_BYTES / problem.dtype().size() as u32;
    let more = tile.pair_bytes(columns);
    let room = limits.max_shared.saturating_sub(STATIC_SHARED_BYTES);
    let from = u64::from(tile.pairs_from) * u64::from(limits.sm_count);
    let are_there = tile.pairs_from < RowTile::NEVER
        && limits.compute_capability >= (9, 0)
        && limits.sm_count >= PAIR_BLOCKS
        && problem.n_rows() as u64 >= from
        && shared_bytes.saturating_add(more) <= room;
    are_there.then(|| Pairs {
        entry: entry(
            Pass::Backward,
            problem,
            Variant::Paired {
                ragged: matches!(variant, Variant::Ragged { .. }),
                lanes: tile.lanes,
                vecs: tile.vecs,
            },
        ),
        shared_bytes: more,
    })
}
