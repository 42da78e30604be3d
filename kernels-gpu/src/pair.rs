//! Pairs: two blocks of a cluster add up what they have of dweight and dbias, and write one row of partials. For sm_90 and
//! later.
//!
//! Each multiprocessor has its own sums, so that of 16-bit rows a few thousand have partials of 8 % and more of their bytes; a
//! pair's two multiprocessors halve them. Until the end the blocks need nothing of each other. Then the first sends what it
//! has of dbias into the second's shared memory and gets dweight's from there, and each writes what it has all of.
//!
//! ```text
//! block 0:   dweight  + <--- dweight   block 1
//!            dbias    ---> + dbias
//! ```

use cuda_std::ext::{self, MBarrier, Shared};
use cuda_std::{shared_words, thread, warp};

use crate::abi::PAIR_BLOCKS;
use crate::partials::sums_of_teams;
use crate::team::Team;
use crate::vector::{Packed, store_f32};

/// Where a block waits for the other's sums.
#[inline(always)]
fn arrival() -> MBarrier {
    MBarrier::at(shared_words![u32; 2])
}

/// Makes the block ready to receive sums of `width` columns, at the start of the kernel. The launch's clusters are pairs.
#[inline(always)]
pub fn prepare(width: u32) {
    ext::cluster_dimensions::<PAIR_BLOCKS>();
    if thread::thread_idx_x() == 0 {
        // SAFETY: this thread alone, and the words are the barrier's; its only phase takes this arrival.
        unsafe {
            arrival().init(1);
            ext::mbarrier_fence();
            arrival().arrive_and_expect(width * size_of::<f32>() as u32);
        }
    }
    // What the other must see of it, the fence has let it see.
    ext::cluster_arrive_relaxed();
}

/// What `partials::join_partials` does, for both blocks of a pair: each writes one of the two arrays.
///
/// # Safety
/// As for `join_partials`, of both blocks of the cluster, which have called [`prepare`] with `LANES * VECS * E`, a multiple of
/// 64, and whose partials are of the same row; `received` is shared memory for as many numbers, in which nothing else is.
#[inline(always)]
pub unsafe fn join_pair<
    const E: usize,
    const LANES: u32,
    const VECS: usize,
    const BLOCK: u32,
    const AT_ONCE: bool,
>(
    team: Team<LANES, BLOCK>,
    values: [[[f32; E]; VECS]; 2],
    partials: [*mut f32; 2],
    n_cols: u32,
    received: Shared<f32>,
) where
    f32: Packed<4> + Packed<E>,
{
    let rank = ext::cluster_rank();
    let there = received.of_block(rank ^ 1);
    let barrier = arrival().of_block(rank ^ 1);
    let [own, other] = match rank == 0 {
        true => partials,
        false => [partials[1], partials[0]],
    };
    // By now the other has long been prepared.
    ext::cluster_wait();
    if Team::<LANES, BLOCK>::count() == 1 && LANES >= 32 && AT_ONCE {
        let of = |a: bool, k: usize, i: usize| match a {
            true => values[1][k][i],
            false => values[0][k][i],
        };
        let column = |k: usize| (thread::thread_idx_x() + k as u32 * LANES) * E as u32;
        if !other.is_null() {
            for k in 0..VECS {
                for four in 0..E / 4 {
                    let sums = [0, 1, 2, 3].map(|i| of(rank == 0, k, four * 4 + i));
                    // SAFETY: the caller's; the other waits for all of it, and only this thread sends these columns.
                    unsafe { there.send4(column(k) + four as u32 * 4, sums, barrier) };
                }
            }
        }
        if own.is_null() {
            return;
        }
        // SAFETY: the barrier has but one phase.
        unsafe { arrival().wait(0) };
        for k in 0..VECS {
            let mut total = [0.0; E];
            for four in 0..E / 4 {
                // SAFETY: waited for.
                let more = unsafe { received.load4(column(k) + four as u32 * 4) };
                for i in 0..4 {
                    total[four * 4 + i] = of(rank != 0, k, four * 4 + i) + more[i];
                }
            }
            let to = own.wrapping_add(column(k) as usize);
            // SAFETY: the columns exist if valid, and only this thread writes them.
            unsafe {
                <f32 as Packed<E>>::store(to, <f32 as Packed<E>>::pack(total), column(k) < n_cols)
            };
        }
        return;
    }
    // As in `join_partials`.
    let team = if AT_ONCE { team } else { team.forgotten() };
    let take = |array: usize, column: u32, mut total: [f32; 4]| {
        let is_own = array == rank as usize;
        if !is_own && !other.is_null() {
            // SAFETY: as above.
            unsafe { there.send4(column, total, barrier) };
        }
        // All that the warp sends is on its way before it waits.
        // SAFETY: the whole warp is here: it has the same number of turns.
        unsafe { warp::sync_warp(ext::FULL_MASK) };
        if is_own && !own.is_null() {
            // SAFETY: as above.
            let more = unsafe {
                arrival().wait(0);
                received.load4(column)
            };
            for i in 0..4 {
                total[i] += more[i];
            }
            let to = own.wrapping_add(column as usize);
            // SAFETY: the columns exist if valid, and only this thread writes them.
            unsafe {
                if AT_ONCE {
                    <f32 as Packed<4>>::store(to, <f32 as Packed<4>>::pack(total), column < n_cols);
                } else {
                    for i in 0..4 {
                        let valid = column + (i as u32) < n_cols;
                        store_f32(to.wrapping_add(i), total[i], valid);
                    }
                }
            }
        }
    };
    // The other's first: see `take`.
    let first = (rank ^ 1) as usize;
    // SAFETY: the caller's.
    unsafe { sums_of_teams::<E, LANES, VECS, BLOCK, true>(team, values, first, take) }
}
