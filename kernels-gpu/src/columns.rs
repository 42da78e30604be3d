//! The backward pass for rows that no `rows` variant takes: any length, any alignment, in two kernels.
//!
//! `backward_sums` takes a row a block and writes its two sums, of dy * weight and of dy * weight * xhat,
//! over n_cols. With these dx is a matter of each element alone, so `backward_columns` lies over columns
//! first: a block has `COLUMNS_BLOCK * VECS * E` of them, in every `grid_dim_y`-th row, and keeps its sums of
//! dweight and dbias in registers.
//!
//! ```text
//! columns:    | block (0, y) | block (1, y) | ...        row y, y + grid_y, ...
//! in a block: | v0 v1 v2 ...             |               lane t: vectors t, t + block, ...
//! ```
//!
//! x and dy are read twice, dx is written once.

use cuda_std::{ext, thread};

use crate::abi::{COLUMNS_BLOCK, SUMS_BLOCK};
use crate::backward::Backward;
use crate::reduce::{sum, sum_over_row};
use crate::vector::{Packed, load_f32_shared, store_f32};

/// Rows whose x and dy a lane asks for before it computes the first.
const ROWS_AT_A_TIME: usize = 4;

/// Vectors of a row that a lane asks for before it computes the first.
const VECTORS_AT_A_TIME: usize = 4;

/// Writes `[sum(dy * weight), sum(dy * weight * xhat)] / n_cols` of each row to `row_sums`.
///
/// # Safety
/// The arguments are as `abi::BackwardArgs` says, `row_sums` has `2 * n_rows` elements; every row starts at a
/// multiple of the access's size (`E` elements) and `n_cols` is a multiple of `E`; the launch's block is
/// `SUMS_BLOCK`.
#[inline(always)]
pub unsafe fn backward_sums<T, W, const E: usize>(p: Backward<T, W>)
where
    T: Packed<E>,
    W: Packed<E>,
{
    let thread = thread::thread_idx_x();
    let mut row = thread::block_idx_x() as u64;
    let mut slot = 0;
    while row < p.n_rows {
        // SAFETY: the row exists.
        let [mean, rstd] = unsafe { p.statistics(row) };
        let x = p.x.wrapping_add((row * p.x_stride) as usize);
        let dy = p.dy.wrapping_add((row * p.dy_stride) as usize);
        let (mut g_sum, mut g_xhat_sum) = (0.0, 0.0);
        let mut base = thread * E as u32;
        while base < p.n_cols {
            let column = |k: usize| base + (k as u32 * SUMS_BLOCK) * E as u32;
            let mut loaded = [(T::ZEROS, T::ZEROS, W::ONES); VECTORS_AT_A_TIME];
            for k in 0..VECTORS_AT_A_TIME {
                let (at, valid) = (column(k) as usize, column(k) < p.n_cols);
                // SAFETY: the row and the column exist if valid.
                loaded[k] = unsafe {
                    (
                        T::load(x.wrapping_add(at), valid, T::ZEROS),
                        T::load(dy.wrapping_add(at), valid, T::ZEROS),
                        W::load_shared(
                            p.weight.wrapping_add(at),
                            valid && !p.weight.is_null(),
                            W::ONES,
                        ),
                    )
                };
            }
            for k in 0..VECTORS_AT_A_TIME {
                // x, mean and dy are zero where there is no column, and so is all that is summed.
                let mean = if column(k) < p.n_cols { mean } else { 0.0 };
                let (x, dy, weight) = loaded[k];
                let (x, mut g, weight) = (T::unpack(x), T::unpack(dy), W::unpack(weight));
                for i in 0..E {
                    g[i] *= weight[i];
                    g_xhat_sum = ext::fma(g[i], (x[i] - mean) * rstd, g_xhat_sum);
                }
                g_sum += sum(g);
            }
            base += VECTORS_AT_A_TIME as u32 * SUMS_BLOCK * E as u32;
        }
        // SAFETY: the loop's condition is the same in the whole block.
        let [g_sum, g_xhat_sum] =
            unsafe { sum_over_row::<SUMS_BLOCK, 2>([g_sum, g_xhat_sum], slot) };
        if thread == 0 {
            let at = p.row_sums.wrapping_add(2 * row as usize);
            // SAFETY: the row exists, and only this thread writes its sums.
            unsafe {
                store_f32(at, g_sum * p.inv_n, true);
                store_f32(at.wrapping_add(1), g_xhat_sum * p.inv_n, true);
            }
        }
        slot ^= 1;
        row += thread::grid_dim_x() as u64;
    }
}

/// dx from `row_sums`, and the partials of dweight and dbias: row `block_idx_y` of them, for this block's
/// columns.
///
/// # Safety
/// As for `backward_sums`, whose results are in `row_sums` if dx is not null; the launch's block is
/// `COLUMNS_BLOCK`, the grid has `ceil(n_cols / (COLUMNS_BLOCK * VECS * E))` by as many as there are partials.
#[inline(always)]
pub unsafe fn backward_columns<T, W, const E: usize, const VECS: usize>(p: Backward<T, W>)
where
    T: Packed<E>,
    W: Packed<E>,
    f32: Packed<E>,
{
    let first_column = thread::block_idx_x() * COLUMNS_BLOCK * (VECS * E) as u32;
    let column =
        |k: usize| first_column + (thread::thread_idx_x() + k as u32 * COLUMNS_BLOCK) * E as u32;
    let needs_dx = !p.dx.is_null();
    let mut weight = [W::ONES; VECS];
    for k in 0..VECS {
        let at = p.weight.wrapping_add(column(k) as usize);
        // SAFETY: the column exists, and so does the weight.
        weight[k] =
            unsafe { W::load_shared(at, column(k) < p.n_cols && !p.weight.is_null(), W::ONES) };
    }
    let mut dweight = [[0.0; E]; VECS];
    let mut dbias = [[0.0; E]; VECS];
    let step = thread::grid_dim_y() as u64;
    let mut first = thread::block_idx_y() as u64;
    while first < p.n_rows {
        let row = |r: usize| first + r as u64 * step;
        let mut x = [[T::ZEROS; VECS]; ROWS_AT_A_TIME];
        let mut dy = [[T::ZEROS; VECS]; ROWS_AT_A_TIME];
        let mut of_row = [[0.0; 4]; ROWS_AT_A_TIME];
        for r in 0..ROWS_AT_A_TIME {
            let there = row(r) < p.n_rows;
            let x_row = p.x.wrapping_add((row(r) * p.x_stride) as usize);
            let dy_row = p.dy.wrapping_add((row(r) * p.dy_stride) as usize);
            for k in 0..VECS {
                let (at, valid) = (column(k) as usize, there && column(k) < p.n_cols);
                // SAFETY: the row and the column exist if valid.
                unsafe {
                    x[r][k] = T::load(x_row.wrapping_add(at), valid && p.needs_x(), T::ZEROS);
                    dy[r][k] = T::load(dy_row.wrapping_add(at), valid, T::ZEROS);
                }
            }
            let sums = p.row_sums.wrapping_add(2 * row(r) as usize);
            // SAFETY: the row exists if valid; another kernel wrote its sums.
            unsafe {
                let [mean, rstd] = p.statistics(row(r));
                let c1 = load_f32_shared(sums, there && needs_dx);
                let c2 = load_f32_shared(sums.wrapping_add(1), there && needs_dx);
                of_row[r] = [mean, rstd, c1, c2];
            }
        }
        for r in 0..ROWS_AT_A_TIME {
            let [mean, rstd, c1, c2] = of_row[r];
            let dx = p.dx.wrapping_add((row(r) * p.dx_stride) as usize);
            let dsum = p.dsum.wrapping_add((row(r) * p.dx_stride) as usize);
            for k in 0..VECS {
                let (at, valid) = (
                    column(k) as usize,
                    row(r) < p.n_rows && column(k) < p.n_cols,
                );
                // SAFETY: the row and the column exist if valid.
                let incoming = unsafe {
                    T::load(
                        dsum.wrapping_add(at),
                        valid && needs_dx && !p.dsum.is_null(),
                        T::ZEROS,
                    )
                };
                let (x, dy, weight) = (
                    T::unpack(x[r][k]),
                    T::unpack(dy[r][k]),
                    W::unpack(weight[k]),
                );
                let mut value = T::unpack(incoming);
                for i in 0..E {
                    // Times dy, so nothing where there is no row or column.
                    let xhat = (x[i] - mean) * rstd;
                    dweight[k][i] = ext::fma(dy[i], xhat, dweight[k][i]);
                    dbias[k][i] += dy[i];
                    value[i] = ext::fma(
                        rstd,
                        ext::fma(-xhat, c2, ext::fma(dy[i], weight[i], -c1)),
                        value[i],
                    );
                }
                // SAFETY: the row and the column exist, and belong to this lane alone.
                unsafe { T::store(dx.wrapping_add(at), T::pack(value), valid && needs_dx) };
            }
        }
        first += ROWS_AT_A_TIME as u64 * step;
    }
    let partials = thread::block_idx_y() as usize * p.n_cols as usize;
    for k in 0..VECS {
        let (at, valid) = (partials + column(k) as usize, column(k) < p.n_cols);
        let (to_dweight, to_dbias) = (
            p.partial_dweight.wrapping_add(at),
            p.partial_dbias.wrapping_add(at),
        );
        // SAFETY: the column exists if valid, and no other lane has it in this row of partials.
        unsafe {
            f32::store(
                to_dweight,
                f32::pack(dweight[k]),
                valid && !p.partial_dweight.is_null(),
            );
            f32::store(
                to_dbias,
                f32::pack(dbias[k]),
                valid && !p.partial_dbias.is_null(),
            );
        }
    }
}
