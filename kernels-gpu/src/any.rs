//! Both passes for rows that no `rows` variant takes: any length, any alignment, one element an access.
//!
//! A block takes a row at a time; thread t has columns t, t + BLOCK, ... so that a warp reads consecutive
//! elements. Rows are read twice, once for the statistics and once for the result.

use cuda_std::ext::{self, Shared};
use cuda_std::{shared_words, thread};

use crate::abi::ANY_BLOCK;
use crate::backward::Backward;
use crate::forward::{Forward, rstd};
use crate::reduce::sum_over_row;
use crate::vector::{Packed, load_f32, store_f32};

/// Columns of a row that a thread has in registers at a time.
const CHUNK: usize = 8;

/// Count, mean and sum of squared deviations of some elements.
///
/// Merging such parts (Chan, Golub and LeVeque 1983) never subtracts large sums of squares, so the variance
/// of a row that is read once keeps its digits.
#[derive(Clone, Copy)]
struct Moments {
    count: f32,
    mean: f32,
    squares: f32,
}

impl Moments {
    const NONE: Moments = Moments {
        count: 0.0,
        mean: 0.0,
        squares: 0.0,
    };

    #[inline(always)]
    fn merge(self, other: Moments) -> Moments {
        let count = self.count + other.count;
        // Both empty: 0 / 0 would be NaN.
        let share = if other.count == 0.0 {
            0.0
        } else {
            ext::div_approx(other.count, count)
        };
        let delta = other.mean - self.mean;
        Moments {
            count,
            mean: ext::fma(delta, share, self.mean),
            squares: self.squares + ext::fma(delta * delta, self.count * share, other.squares),
        }
    }
}

/// Normalises rows of any length, in blocks of `ANY_BLOCK` threads.
///
/// # Safety
/// The arguments are as `abi::ForwardArgs` says; the launch's block is `ANY_BLOCK`.
#[inline(always)]
pub unsafe fn forward_any<T: Packed<1>, W: Packed<1>>(p: Forward<T, W>) {
    let thread = thread::thread_idx_x();
    let mut row = thread::block_idx_x() as u64;
    let mut slot = 0;
    while row < p.n_rows {
        let x = p.x.wrapping_add((row * p.x_stride) as usize);
        let residual = p.residual.wrapping_add((row * p.x_stride) as usize);
        let has_residual = !p.residual.is_null();
        // x, or what `sum` stores: x + residual rounded to x's dtype.
        // SAFETY: the column exists if valid; x and residual are not written by this launch.
        let load = |column: u32, valid: bool| unsafe {
            let raw = T::load(x.wrapping_add(column as usize), valid, T::ZEROS);
            let other = T::load(
                residual.wrapping_add(column as usize),
                valid && has_residual,
                T::ZEROS,
            );
            if has_residual {
                T::pack([T::unpack(raw)[0] + T::unpack(other)[0]])
            } else {
                raw
            }
        };

        // Moments are of x less an element of the row: of a row whose mean is large beside its variance, that leaves
        // the digits that matter. The middle one of three, since any one may be far from the others.
        let [a, b, c] = [0, p.n_cols / 2, p.n_cols - 1].map(|column| {
            let [value] = T::unpack(load(column, true));
            value
        });
        let pivot = a.min(b).max(a.max(b).min(c));
        let (mut moments, mut row_total) = (Moments::NONE, 0.0);
        let mut base = thread;
        while base < p.n_cols {
            let column = |i: usize| base + i as u32 * ANY_BLOCK;
            let mut raw = [T::ZEROS; CHUNK];
            for i in 0..CHUNK {
                raw[i] = load(column(i), column(i) < p.n_cols);
            }
            let (mut count, mut total) = (0.0, 0.0);
            let mut values = [0.0; CHUNK];
            for i in 0..CHUNK {
                let valid = column(i) < p.n_cols;
                let sum = p
                    .sum
                    .wrapping_add((row * p.y_stride) as usize + column(i) as usize);
                // SAFETY: the column exists if valid, and only this thread writes it.
                unsafe { T::store(sum, raw[i], valid && !p.sum.is_null()) };
                values[i] = if valid {
                    T::unpack(raw[i])[0] - pivot
                } else {
                    0.0
                };
                total += values[i];
                count += if valid { 1.0 } else { 0.0 };
            }
            row_total += total;
            let mean = ext::div_approx(total, count);
            let mut squares = 0.0;
            for i in 0..CHUNK {
                let d = values[i] - if column(i) < p.n_cols { mean } else { 0.0 };
                squares = ext::fma(d, d, squares);
            }
            moments = moments.merge(Moments {
                count,
                mean,
                squares,
            });
            base += CHUNK as u32 * ANY_BLOCK;
        }
        // SAFETY: the loop's condition is the same in the whole block.
        let (moments, [row_total]) = unsafe {
            (
                merge_over_block(moments),
                sum_over_row::<ANY_BLOCK, 1>([row_total], slot),
            )
        };
        slot ^= 1;
        // The mean by its sum, which rounds less often than the merges do.
        let mean = row_total * p.inv_n;
        let rstd = rstd(moments.squares * p.inv_n, 0.0, p.eps);
        if thread == 0 {
            let (mean_at, rstd_at) = (
                p.mean.wrapping_add(row as usize),
                p.rstd.wrapping_add(row as usize),
            );
            // SAFETY: the row exists, and only this thread writes its statistics.
            unsafe {
                store_f32(mean_at, pivot + mean, !p.mean.is_null());
                store_f32(rstd_at, rstd, !p.rstd.is_null());
            }
        }
        let mut column = thread;
        while column < p.n_cols {
            let at = column as usize;
            // SAFETY: the column exists, and only this thread writes it.
            unsafe {
                let [x] = T::unpack(load(column, true));
                let weight =
                    W::load_shared(p.weight.wrapping_add(at), !p.weight.is_null(), W::ONES);
                let bias = W::load_shared(p.bias.wrapping_add(at), !p.bias.is_null(), W::ZEROS);
                let y = ext::fma(
                    ((x - pivot) - mean) * rstd,
                    W::unpack(weight)[0],
                    W::unpack(bias)[0],
                );
                T::store(
                    p.y.wrapping_add((row * p.y_stride) as usize + at),
                    T::pack([y]),
                    true,
                );
            }
            column += ANY_BLOCK;
        }
        row += thread::grid_dim_x() as u64;
    }
}

/// Merges the moments of a block's threads, in an order that never changes; all threads get the result.
///
/// # Safety
/// All threads of the block call it, and the block has `ANY_BLOCK` threads.
#[inline(always)]
unsafe fn merge_over_block(mut moments: Moments) -> Moments {
    const WARPS: u32 = ANY_BLOCK / 32;
    let shared: Shared<f32> = shared_words![f32; 3 * WARPS as usize];
    let mut distance = 1;
    while distance < 32 {
        // Lane 0 ends with the merge in lane order; what the others hold is not used.
        // SAFETY: the caller's: the warp is converged.
        moments = moments.merge(unsafe {
            Moments {
                count: ext::shuffle_down_f32(ext::FULL_MASK, moments.count, distance),
                mean: ext::shuffle_down_f32(ext::FULL_MASK, moments.mean, distance),
                squares: ext::shuffle_down_f32(ext::FULL_MASK, moments.squares, distance),
            }
        });
        distance *= 2;
    }
    let thread = thread::thread_idx_x();
    // The last row's values have been read by all.
    thread::sync_threads();
    if thread.is_multiple_of(32) {
        let at = thread / 32 * 3;
        // SAFETY: three places a warp, between the barriers.
        unsafe {
            shared.store(at, moments.count);
            shared.store(at + 1, moments.mean);
            shared.store(at + 2, moments.squares);
        }
    }
    thread::sync_threads();
    let mut merged = Moments::NONE;
    for warp in 0..WARPS {
        // SAFETY: written before the barrier.
        merged = merged.merge(unsafe {
            Moments {
                count: shared.load(warp * 3),
                mean: shared.load(warp * 3 + 1),
                squares: shared.load(warp * 3 + 2),
            }
        });
    }
    merged
}

/// Gradients of rows of any length, in blocks of `ANY_BLOCK` threads.
///
/// dweight and dbias grow in this block's row of partials, each column in its own thread.
///
/// # Safety
/// The arguments are as `abi::BackwardArgs` says; the launch's block is `ANY_BLOCK`.
#[inline(always)]
pub unsafe fn backward_any<T: Packed<1>, W: Packed<1>>(p: Backward<T, W>) {
    let thread = thread::thread_idx_x();
    let partials = thread::block_idx_x() as usize * p.n_cols as usize;
    let mut row = thread::block_idx_x() as u64;
    let mut is_first = true;
    let mut slot = 0;
    while row < p.n_rows {
        let x = p.x.wrapping_add((row * p.x_stride) as usize);
        let dy = p.dy.wrapping_add((row * p.dy_stride) as usize);
        let dx = p.dx.wrapping_add((row * p.dx_stride) as usize);
        let dsum = p.dsum.wrapping_add((row * p.dx_stride) as usize);
        // SAFETY: the row exists.
        let [mean, rstd] = unsafe { p.statistics(row) };
        // dy, xhat and dy * weight of a column.
        // SAFETY: the column exists where this is called.
        let load = |column: u32| unsafe {
            let at = column as usize;
            let [dy] = T::unpack(T::load(dy.wrapping_add(at), true, T::ZEROS));
            let [x] = T::unpack(T::load(x.wrapping_add(at), p.needs_x(), T::ZEROS));
            let weight = W::load_shared(p.weight.wrapping_add(at), !p.weight.is_null(), W::ONES);
            (dy, (x - mean) * rstd, dy * W::unpack(weight)[0])
        };

        let (mut g_sum, mut g_xhat_sum) = (0.0, 0.0);
        let mut column = thread;
        while column < p.n_cols {
            let (dy, xhat, g) = load(column);
            g_sum += g;
            g_xhat_sum = ext::fma(g, xhat, g_xhat_sum);
            let at = partials + column as usize;
            // SAFETY: only this thread touches this column of the block's own row of partials.
            unsafe {
                add_to(p.partial_dweight, at, dy * xhat, is_first);
                add_to(p.partial_dbias, at, dy, is_first);
            }
            column += ANY_BLOCK;
        }
        if !p.dx.is_null() {
            // SAFETY: the conditions around are the same in the whole block.
            let [g_sum, g_xhat_sum] =
                unsafe { sum_over_row::<ANY_BLOCK, 2>([g_sum, g_xhat_sum], slot) };
            let (c1, c2) = (g_sum * p.inv_n, g_xhat_sum * p.inv_n);
            let mut column = thread;
            while column < p.n_cols {
                let (_, xhat, g) = load(column);
                let at = column as usize;
                // SAFETY: the column exists; only this thread reads dy and writes dx there.
                unsafe {
                    let incoming = T::load(dsum.wrapping_add(at), !p.dsum.is_null(), T::ZEROS);
                    let value = ext::fma(rstd, ext::fma(-xhat, c2, g - c1), T::unpack(incoming)[0]);
                    T::store(dx.wrapping_add(at), T::pack([value]), true);
                }
                column += ANY_BLOCK;
            }
        }
        is_first = false;
        slot ^= 1;
        row += thread::grid_dim_x() as u64;
    }
}

/// Writes `value` to a partial, or adds it to what an earlier row left there.
///
/// # Safety
/// If `partials` is not null, element `at` is this thread's alone, and was written unless `is_first`.
#[inline(always)]
unsafe fn add_to(partials: *mut f32, at: usize, value: f32, is_first: bool) {
    let there = !partials.is_null();
    let at = partials.wrapping_add(at);
    // SAFETY: the caller's.
    unsafe {
        let before = load_f32(at, there && !is_first);
        store_f32(at, before + value, there);
    }
}
