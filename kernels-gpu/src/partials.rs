//! dweight and dbias over blocks: each block writes its sums as one row of partials, and a second kernel
//! adds the rows up in a fixed order.

use cuda_std::ext::{self, Shared};
use cuda_std::{shared_words, thread};

use crate::abi::{REDUCE_BLOCK, REDUCE_COLS};
use crate::reduce::{sum, sum_over_row};
use crate::team::Team;
use crate::vector::{Packed, load_f32, store_f32};

/// The block's (or cluster's) own row of partials, of rows of `n_cols`; null if there are none.
#[inline(always)]
pub fn row_of_partials(partials: *mut f32, row: u32, n_cols: u32) -> *mut f32 {
    if partials.is_null() {
        return partials;
    }
    partials.wrapping_add(row as usize * n_cols as usize)
}

/// Writes the block's row of partials, `[n_cols]` at `partials`, if that is not null: each lane its own.
///
/// # Safety
/// The block has `LANES` threads, which share its rows; the row is writable and no other block writes it; `n_cols` is a
/// multiple of `E`.
#[inline(always)]
pub unsafe fn write_partials<const E: usize, const LANES: u32, const VECS: usize>(
    values: [[f32; E]; VECS],
    partials: *mut f32,
    n_cols: u32,
) where
    f32: Packed<E>,
{
    if partials.is_null() {
        return;
    }
    for k in 0..VECS {
        let column = (thread::thread_idx_x() + k as u32 * LANES) * E as u32;
        // SAFETY: the column exists if valid, and only this lane holds it.
        unsafe {
            f32::store(
                partials.wrapping_add(column as usize),
                f32::pack(values[k]),
                column < n_cols,
            )
        };
    }
}

/// Adds up what the block's teams have, first team first, and writes the block's row of each array of partials that is not
/// null: from what [`sums_of_teams`] gives consecutive threads write consecutive columns, four at a time if `n_cols` is
/// a multiple of `E` (`AT_ONCE`).
///
/// # Safety
/// As for `sums_of_teams`; the rows are writable and no other block writes them.
#[inline(always)]
pub unsafe fn join_partials<
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
) where
    f32: Packed<4>,
{
    let write = |a: usize, column: u32, total: [f32; 4]| {
        let to = partials[a].wrapping_add(column as usize);
        let valid = column < n_cols && !partials[a].is_null();
        // SAFETY: the columns exist if valid, and only this thread writes them.
        unsafe {
            match AT_ONCE {
                true => <f32 as Packed<4>>::store(to, <f32 as Packed<4>>::pack(total), valid),
                false => store_f32(to, total[0], valid),
            }
        }
    };
    // Computed anew: the compiler would keep what follows from it over all rows, in registers that are not there.
    let team = if AT_ONCE { team } else { team.forgotten() };
    // SAFETY: the caller's.
    unsafe { sums_of_teams::<E, LANES, VECS, BLOCK, AT_ONCE>(team, values, 0, write) }
}

/// Adds up what the block's teams have, first team first, and gives each thread some columns' sums, those of the array `first`
/// before the other's: the array, the first column, and the sums of four from there if `AT_ONCE`, else of one.
///
/// Rows of a warp are added up by shuffles, then each team's sums go to the dynamic shared memory, in the columns' order:
/// `[array][team][column]`. From there consecutive threads take consecutive columns.
///
/// # Safety
/// All threads of the block call it, and have no more copies on their way; the dynamic shared memory has room for two numbers
/// for each column of each team, and nothing in it is still needed.
#[inline(always)]
pub unsafe fn sums_of_teams<
    const E: usize,
    const LANES: u32,
    const VECS: usize,
    const BLOCK: u32,
    const AT_ONCE: bool,
>(
    team: Team<LANES, BLOCK>,
    values: [[[f32; E]; VECS]; 2],
    first: usize,
    take: impl Fn(usize, u32, [f32; 4]),
) {
    const TEAMS_AT_A_TIME: u32 = 4;
    let width = LANES * VECS as u32 * E as u32;
    let teams = Team::<LANES, BLOCK>::count();
    let array = |a: usize| Shared::<f32>::dynamic().offset(a as u32 * teams * width);
    let lane = team.thread;
    thread::sync_threads();
    for a in 0..2 {
        let own = array(a).offset(team.index * width);
        for k in 0..VECS {
            let mut sums = values[a][k];
            let mut distance = LANES;
            while distance < 32 {
                for i in 0..E {
                    // SAFETY: the whole warp is here.
                    sums[i] += unsafe { ext::shuffle_xor_f32(ext::FULL_MASK, sums[i], distance) };
                }
                distance *= 2;
            }
            if lane < LANES {
                for four in 0..E / 4 {
                    let at = (lane + k as u32 * LANES) * E as u32 + four as u32 * 4;
                    // SAFETY: the caller's; behind a barrier, and only this lane holds these columns of the team.
                    unsafe { own.store4(at, [0, 1, 2, 3].map(|i| sums[four * 4 + i])) };
                }
            }
        }
    }
    thread::sync_threads();
    // Both arrays at a time, so that those of short rows have twice the threads.
    let at_a_time = if AT_ONCE { 4 } else { 1 };
    let chunks = width / at_a_time;
    let mut chunk = thread::thread_idx_x();
    while chunk < 2 * chunks {
        let second = (chunk >= chunks) as usize;
        let a = first ^ second;
        let column = (chunk - second as u32 * chunks) * at_a_time;
        let own = array(a).offset(column);
        let mut total = [0.0; 4];
        let mut team = 0;
        while team < teams {
            // Asked for together: one by one, sixteen teams would wait for sixteen times as long.
            let mut of_teams = [[0.0; 4]; TEAMS_AT_A_TIME as usize];
            for i in 0..TEAMS_AT_A_TIME {
                let at = (team + i) * width;
                if team + i < teams {
                    // SAFETY: written before the barrier above.
                    of_teams[i as usize] = unsafe {
                        match AT_ONCE {
                            true => own.load4(at),
                            false => [own.load(at), 0.0, 0.0, 0.0],
                        }
                    };
                }
            }
            for more in of_teams {
                for i in 0..4 {
                    total[i] += more[i];
                }
            }
            team += TEAMS_AT_A_TIME;
        }
        take(a, column, total);
        chunk += thread::block_dim_x();
    }
}

/// A reduce kernel's parameters, typed. `abi::ReduceArgs` says what each is.
#[derive(Clone, Copy)]
pub struct Reduce<W> {
    pub partial_dweight: *const f32,
    pub partial_dbias: *const f32,
    pub dweight: *mut W,
    pub dbias: *mut W,
    pub n_partials: u32,
    pub n_cols: u32,
    pub accumulate: u32,
}

/// Sums the partials over their rows: dweight in the grid's first row of blocks, dbias in its second.
///
/// A block has `REDUCE_COLS` columns, one a lane, and its warps take partials w, w + warps, ..., several
/// on their way at a time. Then each warp adds up what the warps have of one column.
///
/// ```text
/// partials:   | col 0 .. 31 |     shared:  [warp][column]      warp c sums column c over the warps
/// row w    -> warp w, lane c
/// ```
///
/// In the image for sm_90 it may be launched before the kernel that writes the partials has ended, and waits for that
/// itself.
///
/// # Safety
/// The arguments are as `abi::ReduceArgs` says, the block has `REDUCE_BLOCK` threads, and the grid two rows.
#[inline(always)]
pub unsafe fn reduce_partials<W: Packed<1>>(p: Reduce<W>) {
    const WARPS: u32 = REDUCE_BLOCK / 32;
    // A row of partials for each of an H100's 132 multiprocessors takes five, for two blocks of each nine.
    const AT_A_TIME: usize = 9;
    #[cfg(cuda_arch = "90")]
    ext::wait_for_dependencies();
    const {
        assert!(
            REDUCE_COLS == 32 && WARPS == 32,
            "a warp for each column, and a lane for each warp"
        )
    };
    let (partials, gradient) = if thread::block_idx_y() == 0 {
        (p.partial_dweight, p.dweight)
    } else {
        (p.partial_dbias, p.dbias)
    };
    if partials.is_null() {
        return;
    }
    let (warp, lane) = (thread::thread_idx_x() / 32, thread::thread_idx_x() % 32);
    let first_column = thread::block_idx_x() * REDUCE_COLS;
    let column = first_column + lane;
    let mut total = 0.0;
    let mut row = warp;
    while row < p.n_partials {
        let mut values = [0.0; AT_A_TIME];
        for i in 0..AT_A_TIME {
            let row = row + i as u32 * WARPS;
            let at = partials.wrapping_add(row as usize * p.n_cols as usize + column as usize);
            // SAFETY: the row and the column exist if valid.
            values[i] = unsafe { load_f32(at, row < p.n_partials && column < p.n_cols) };
        }
        let [first @ .., last] = values;
        total += sum::<8>(first) + last;
        row += AT_A_TIME as u32 * WARPS;
    }
    // One column more than there are, so that a warp's reads down a column meet no bank twice.
    const WIDTH: u32 = REDUCE_COLS + 1;
    let shared: Shared<f32> = shared_words![f32; (WARPS * WIDTH) as usize];
    // SAFETY: one place a thread; the barrier lies between the writes and the reads.
    let value = unsafe {
        shared.store(warp * WIDTH + lane, total);
        thread::sync_threads();
        shared.load(lane * WIDTH + warp)
    };
    // SAFETY: the warp is converged.
    let [total] = unsafe { sum_over_row::<32, 1>([value], 0) };
    let column = first_column + warp;
    let valid = lane == 0 && column < p.n_cols;
    let at = gradient.wrapping_add(column as usize);
    // SAFETY: the column exists if valid, and only this thread touches it.
    unsafe {
        let [before] = W::unpack(W::load(at, valid && p.accumulate != 0, W::ZEROS));
        W::store(at, W::pack([before + total]), valid);
    }
}
