//! dweight and dbias over blocks: each block writes its sums as one row of partials, and a second kernel
//! adds the rows up in a fixed order.

use cuda_std::ext::{self, Shared};
use cuda_std::{shared_words, thread};

use crate::abi::{REDUCE_BLOCK, REDUCE_COLS};
use crate::reduce::{sum, sum_over_row};
use crate::vector::{Packed, load_f32, store_f32};

/// The block's (or cluster's) own row of partials, of rows of `n_cols`; null if there are none.
#[inline(always)]
pub fn row_of_partials(partials: *mut f32, row: u32, n_cols: u32) -> *mut f32 {
    if partials.is_null() {
        return partials;
    }
    partials.wrapping_add(row as usize * n_cols as usize)
}

/// Writes this block's row of partials, `[n_cols]` at `partials`, if that is not null.
///
/// Blocks with several rows in work first add up their lanes that hold the same columns: groups within a
/// warp by shuffles, then the warps through shared memory, first warp first. Where the row has the block
/// and `n_cols` is a multiple of `E` (`AT_ONCE`), each lane writes its own; else shared memory puts the
/// elements in order, so that consecutive lanes write consecutive elements.
///
/// # Safety
/// All threads of the block call it; the row is writable and no other block writes it.
#[inline(always)]
pub unsafe fn write_partials<
    const E: usize,
    const LANES: u32,
    const VECS: usize,
    const BLOCK: u32,
    const AT_ONCE: bool,
>(
    values: [[f32; E]; VECS],
    partials: *mut f32,
    n_cols: u32,
) where
    f32: Packed<E>,
{
    if partials.is_null() {
        return;
    }
    let thread = thread::thread_idx_x();
    let lane = thread % LANES;
    if LANES == BLOCK && AT_ONCE {
        for k in 0..VECS {
            let column = (lane + k as u32 * LANES) * E as u32;
            // SAFETY: the column exists if valid, and only this lane holds it.
            unsafe {
                f32::store(
                    partials.wrapping_add(column as usize),
                    f32::pack(values[k]),
                    column < n_cols,
                )
            };
        }
        return;
    }
    // One vector a lane at a time: `[warp][lane][E]`.
    let shared: Shared<f32> = shared_words![f32; 256 * 8];
    const {
        assert!(
            (LANES == BLOCK && AT_ONCE) || BLOCK as usize * E <= 256 * 8,
            "the shared array holds a vector of every thread"
        )
    };
    let width = LANES * E as u32;
    // Rows of the array: what there is to add up.
    let (rows, row) = if LANES == BLOCK {
        (1, 0)
    } else {
        (BLOCK / 32, thread / 32)
    };
    for k in 0..VECS {
        thread::sync_threads();
        for i in 0..E {
            let mut value = values[k][i];
            let mut distance = LANES;
            while distance < 32 {
                // SAFETY: the whole warp is here.
                value += unsafe { ext::shuffle_xor_f32(ext::FULL_MASK, value, distance) };
                distance *= 2;
            }
            if thread % 32 < LANES {
                // SAFETY: within the array, which has room for every thread's E values; the barrier above
                // lies between the last round's reads and this write.
                unsafe { shared.store(row * width + lane * E as u32 + i as u32, value) };
            }
        }
        thread::sync_threads();
        let mut c = thread;
        while c < width {
            let mut total = 0.0;
            let mut row = 0;
            while row < rows {
                // SAFETY: written before the barrier above.
                total += unsafe { shared.load(row * width + c) };
                row += 1;
            }
            let column = k as u32 * width + c;
            // SAFETY: the column exists if valid, and only this thread writes it.
            unsafe {
                store_f32(
                    partials.wrapping_add(column as usize),
                    total,
                    column < n_cols,
                )
            };
            c += BLOCK;
        }
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
    // Two blocks a multiprocessor are 264 partials on an H100, four 528: eight would take one round more for each.
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
