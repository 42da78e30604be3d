//! Both passes in f64: plain kernels for rows of any length and alignment, with every sum, the statistics and
//! the partials in f64.
//!
//! They are for checking gradients and for small models in double precision. A block takes a row at a time and
//! thread t has columns t, t + BLOCK, ..., one element of 8 bytes an access, so that a warp reads consecutive
//! elements. A forward row is read three times, a backward row twice, the later times from the caches where it
//! fits them.
//!
//! ```text
//! row r -> block r, r + grid, ...        columns: | t0 t1 ... t255 | t0 t1 ... t255 | ...
//! ```

use cuda_std::ext::{self, Shared};
use cuda_std::prelude::*;
use cuda_std::shared_words;
use cuda_std::warp::warp_shuffle_xor;

use crate::abi::{ANY_BLOCK, REDUCE_BLOCK, REDUCE_COLS};
use crate::access::{load_double, store_double};

/// Columns of a row that a thread asks for before it uses the first.
const CHUNK: usize = 4;

/// Reads an element; masked out, gives `otherwise`.
///
/// # Safety
/// If `valid`, `at` is readable and aligned.
#[inline(always)]
unsafe fn load(at: *const f64, valid: bool, otherwise: f64) -> f64 {
    // SAFETY: the caller's.
    let [bits] = unsafe { load_double(at.cast(), valid, [otherwise.to_bits()]) };
    f64::from_bits(bits)
}

/// Writes an element, unless masked out.
///
/// # Safety
/// If `valid`, `at` is writable and aligned, and no other thread touches it.
#[inline(always)]
unsafe fn store(at: *mut f64, value: f64, valid: bool) {
    // SAFETY: the caller's.
    unsafe { store_double(at.cast(), [value.to_bits()], valid) }
}

/// Sums each value over the block's `ANY_BLOCK` threads, in an order that never changes; all get the sums.
///
/// # Safety
/// All threads of the block call it.
#[inline(always)]
unsafe fn sum_over_block<const N: usize>(mut values: [f64; N]) -> [f64; N] {
    const WARPS: u32 = ANY_BLOCK / 32;
    const { assert!(N <= 2, "the shared array holds two sums a warp") };
    // Two words a value.
    let shared: Shared<u32> = shared_words![u32; 2 * 2 * WARPS as usize];
    let mut distance = 16;
    while distance > 0 {
        for n in 0..N {
            // SAFETY: the caller's: the warp is converged.
            let (other, _) = unsafe { warp_shuffle_xor(ext::FULL_MASK, values[n], distance, 32) };
            values[n] += other;
        }
        distance /= 2;
    }
    let thread = thread::thread_idx_x();
    // The last sums have been read by all.
    thread::sync_threads();
    if thread.is_multiple_of(32) {
        for n in 0..N {
            let (at, bits) = (2 * (n as u32 * WARPS + thread / 32), values[n].to_bits());
            // SAFETY: in the array; this warp's place, between the barriers.
            unsafe {
                shared.store(at, bits as u32);
                shared.store(at + 1, (bits >> 32) as u32);
            }
        }
    }
    thread::sync_threads();
    for n in 0..N {
        values[n] = 0.0;
        for warp in 0..WARPS {
            let at = 2 * (n as u32 * WARPS + warp);
            // SAFETY: written before the barrier.
            let [low, high] = unsafe { [shared.load(at), shared.load(at + 1)] };
            values[n] += f64::from_bits(u64::from(high) << 32 | u64::from(low));
        }
    }
    values
}

/// The forward pass: `abi::ForwardArgs`, with mean and rstd in f64 and a mean that does not use `inv_n`.
///
/// # Safety
/// The arguments are as `abi::ForwardArgs` says; the launch's block is `ANY_BLOCK`.
#[unsafe(export_name = "layernorm_forward_f64_f64_any")]
#[kernel]
#[launch_bounds(ANY_BLOCK)]
#[allow(clippy::too_many_arguments)]
pub unsafe fn forward_double(
    x: *const f64,
    residual: *const f64,
    weight: *const f64,
    bias: *const f64,
    y: *mut f64,
    sum: *mut f64,
    mean: *mut f64,
    rstd: *mut f64,
    n_rows: u64,
    x_stride: u64,
    y_stride: u64,
    n_cols: u32,
    eps: f32,
    _inv_n: f32,
) {
    let thread = thread::thread_idx_x();
    let inv_n = 1.0 / f64::from(n_cols);
    let has_residual = !residual.is_null();
    let (has_sum, has_weight, has_bias) = (!sum.is_null(), !weight.is_null(), !bias.is_null());
    let mut row = u64::from(thread::block_idx_x());
    while row < n_rows {
        let (x, residual) = (
            x.wrapping_add((row * x_stride) as usize),
            residual.wrapping_add((row * x_stride) as usize),
        );
        let (y, sum) = (
            y.wrapping_add((row * y_stride) as usize),
            sum.wrapping_add((row * y_stride) as usize),
        );
        // Columns base, base + BLOCK, ...: x, or x + residual; zeros where there is no column.
        let columns = |base: u32| {
            let mut values = [0.0; CHUNK];
            for i in 0..CHUNK {
                let column = base + i as u32 * ANY_BLOCK;
                let (at, valid) = (column as usize, column < n_cols);
                // SAFETY: the row exists, and the column if valid.
                values[i] = unsafe {
                    let own = load(x.wrapping_add(at), valid, 0.0);
                    // Minus zero changes nothing that it is added to, not even the sign of a zero.
                    own + load(residual.wrapping_add(at), valid && has_residual, -0.0)
                };
            }
            values
        };
        let step = CHUNK as u32 * ANY_BLOCK;

        let mut total = 0.0;
        let mut base = thread;
        while base < n_cols {
            let values = columns(base);
            for i in 0..CHUNK {
                let column = base + i as u32 * ANY_BLOCK;
                total += values[i];
                // SAFETY: the column exists if valid, and only this thread writes it.
                unsafe {
                    store(
                        sum.wrapping_add(column as usize),
                        values[i],
                        column < n_cols && has_sum,
                    )
                };
            }
            base += step;
        }
        // SAFETY: the loop's condition is the same in the whole block.
        let [total] = unsafe { sum_over_block([total]) };
        let row_mean = total * inv_n;

        // The deviations' own sum is what rounding the mean left over.
        let (mut left_over, mut squares) = (0.0, 0.0);
        let mut base = thread;
        while base < n_cols {
            let values = columns(base);
            for i in 0..CHUNK {
                let valid = base + i as u32 * ANY_BLOCK < n_cols;
                let d = if valid { values[i] - row_mean } else { 0.0 };
                left_over += d;
                squares = GpuFloat::mul_add(d, d, squares);
            }
            base += step;
        }
        // SAFETY: as above.
        let [left_over, squares] = unsafe { sum_over_block([left_over, squares]) };
        let shift = left_over * inv_n;
        let var = GpuFloat::mul_add(-shift, shift, squares * inv_n);
        // Rounding can take a constant row's variance just below zero; NaN must stay NaN.
        let var = if var < 0.0 { 0.0 } else { var };
        let row_rstd = 1.0 / GpuFloat::sqrt(var + f64::from(eps));
        if thread == 0 {
            // SAFETY: the row exists, and only this thread writes its statistics.
            unsafe {
                store(
                    mean.wrapping_add(row as usize),
                    row_mean + shift,
                    !mean.is_null(),
                );
                store(rstd.wrapping_add(row as usize), row_rstd, !rstd.is_null());
            }
        }

        let mut base = thread;
        while base < n_cols {
            let values = columns(base);
            for i in 0..CHUNK {
                let column = base + i as u32 * ANY_BLOCK;
                let (at, valid) = (column as usize, column < n_cols);
                // SAFETY: the column exists if valid, and only this thread writes it.
                unsafe {
                    let weight = load(weight.wrapping_add(at), valid && has_weight, 1.0);
                    let bias = load(bias.wrapping_add(at), valid && has_bias, 0.0);
                    let xhat = ((values[i] - row_mean) - shift) * row_rstd;
                    let value = GpuFloat::mul_add(xhat, weight, bias);
                    store(y.wrapping_add(at), value, valid);
                }
            }
            base += step;
        }
        row += u64::from(thread::grid_dim_x());
    }
}

/// The backward pass: `abi::BackwardArgs`, with mean, rstd and the partials in f64.
///
/// dweight and dbias grow in this block's row of partials, each column in its own thread.
///
/// # Safety
/// The arguments are as `abi::BackwardArgs` says; the launch's block is `ANY_BLOCK`.
#[unsafe(export_name = "layernorm_backward_f64_f64_any")]
#[kernel]
#[launch_bounds(ANY_BLOCK)]
#[allow(clippy::too_many_arguments)]
pub unsafe fn backward_double(
    dy: *const f64,
    x: *const f64,
    weight: *const f64,
    mean: *const f64,
    rstd: *const f64,
    dsum: *const f64,
    dx: *mut f64,
    partial_dweight: *mut f64,
    partial_dbias: *mut f64,
    n_rows: u64,
    dy_stride: u64,
    x_stride: u64,
    dx_stride: u64,
    n_cols: u32,
    _inv_n: f32,
    _row_sums: *mut f64,
) {
    let thread = thread::thread_idx_x();
    let inv_n = 1.0 / f64::from(n_cols);
    let (has_weight, has_dsum, needs_dx) = (!weight.is_null(), !dsum.is_null(), !dx.is_null());
    let (needs_dweight, needs_dbias) = (!partial_dweight.is_null(), !partial_dbias.is_null());
    let needs_x = needs_dx || needs_dweight;
    let partials = thread::block_idx_x() as usize * n_cols as usize;
    let step = CHUNK as u32 * ANY_BLOCK;
    let mut is_first = true;
    let mut row = u64::from(thread::block_idx_x());
    while row < n_rows {
        let x = x.wrapping_add((row * x_stride) as usize);
        let dy = dy.wrapping_add((row * dy_stride) as usize);
        let dx = dx.wrapping_add((row * dx_stride) as usize);
        let dsum = dsum.wrapping_add((row * dx_stride) as usize);
        // SAFETY: the row exists, and its statistics are there where x is needed.
        let (mean, rstd) = unsafe {
            (
                load(mean.wrapping_add(row as usize), needs_x, 0.0),
                load(rstd.wrapping_add(row as usize), needs_x, 0.0),
            )
        };
        // dy, xhat and dy * weight of columns base, base + BLOCK, ...: zeros where there is no column.
        let columns = |base: u32| {
            let mut loaded = [(0.0, 0.0, 0.0); CHUNK];
            for i in 0..CHUNK {
                let column = base + i as u32 * ANY_BLOCK;
                let (at, valid) = (column as usize, column < n_cols);
                // SAFETY: the row exists, and the column if valid.
                loaded[i] = unsafe {
                    (
                        load(dy.wrapping_add(at), valid, 0.0),
                        // The mean, so that xhat is zero where there is no column.
                        load(x.wrapping_add(at), valid && needs_x, mean),
                        load(weight.wrapping_add(at), valid && has_weight, 1.0),
                    )
                };
            }
            let mut values = [(0.0, 0.0, 0.0); CHUNK];
            for i in 0..CHUNK {
                let (dy, x, weight) = loaded[i];
                values[i] = (dy, (x - mean) * rstd, dy * weight);
            }
            values
        };

        let (mut g_sum, mut g_xhat_sum) = (0.0, 0.0);
        let mut base = thread;
        while base < n_cols {
            let values = columns(base);
            for i in 0..CHUNK {
                let column = base + i as u32 * ANY_BLOCK;
                let (dy, xhat, g) = values[i];
                let valid = column < n_cols;
                // An infinite rstd times nothing is NaN, so not for columns that are not there.
                g_sum += if valid { g } else { 0.0 };
                g_xhat_sum = if valid {
                    GpuFloat::mul_add(g, xhat, g_xhat_sum)
                } else {
                    g_xhat_sum
                };
                let at = partials + column as usize;
                // SAFETY: only this thread touches this column of the block's own row of partials.
                unsafe {
                    add_to(
                        partial_dweight,
                        at,
                        dy * xhat,
                        valid && needs_dweight,
                        is_first,
                    );
                    add_to(partial_dbias, at, dy, valid && needs_dbias, is_first);
                }
            }
            base += step;
        }
        if needs_dx {
            // SAFETY: the conditions around are the same in the whole block.
            let [g_sum, g_xhat_sum] = unsafe { sum_over_block([g_sum, g_xhat_sum]) };
            let (c1, c2) = (g_sum * inv_n, g_xhat_sum * inv_n);
            let mut base = thread;
            while base < n_cols {
                let values = columns(base);
                for i in 0..CHUNK {
                    let column = base + i as u32 * ANY_BLOCK;
                    let (at, valid) = (column as usize, column < n_cols);
                    let (_, xhat, g) = values[i];
                    // SAFETY: the column exists if valid; only this thread reads dy and writes dx there.
                    unsafe {
                        let incoming = load(dsum.wrapping_add(at), valid && has_dsum, 0.0);
                        let inner = GpuFloat::mul_add(-xhat, c2, g - c1);
                        let value = GpuFloat::mul_add(rstd, inner, incoming);
                        store(dx.wrapping_add(at), value, valid);
                    }
                }
                base += step;
            }
        }
        is_first = false;
        row += u64::from(thread::grid_dim_x());
    }
}

/// Writes `value` to a partial, or adds it to what an earlier row left there.
///
/// # Safety
/// If `valid`, element `at` is this thread's alone, and was written unless `is_first`.
#[inline(always)]
unsafe fn add_to(partials: *mut f64, at: usize, value: f64, valid: bool, is_first: bool) {
    let at = partials.wrapping_add(at);
    // SAFETY: the caller's.
    unsafe {
        let before = load(at, valid && !is_first, 0.0);
        store(at, before + value, valid);
    }
}

/// The second kernel of the backward pass: `abi::ReduceArgs`, with partials in f64.
///
/// The map is that of `partials::reduce_partials`: a lane has a column, a warp every `WARPS`-th row of
/// partials. Then the first warp adds up what all have of its columns, first warp first.
///
/// # Safety
/// The arguments are as `abi::ReduceArgs` says, the block has `REDUCE_BLOCK` threads, and the grid two rows.
#[unsafe(export_name = "layernorm_reduce_f64")]
#[kernel]
#[launch_bounds(REDUCE_BLOCK)]
pub unsafe fn reduce_double(
    partial_dweight: *const f64,
    partial_dbias: *const f64,
    dweight: *mut f64,
    dbias: *mut f64,
    n_partials: u32,
    n_cols: u32,
    accumulate: u32,
) {
    const WARPS: u32 = REDUCE_BLOCK / 32;
    const { assert!(REDUCE_COLS == 32, "a column a lane") };
    let (partials, gradient) = if thread::block_idx_y() == 0 {
        (partial_dweight, dweight)
    } else {
        (partial_dbias, dbias)
    };
    if partials.is_null() {
        return;
    }
    let (warp, lane) = (thread::thread_idx_x() / 32, thread::thread_idx_x() % 32);
    let column = thread::block_idx_x() * REDUCE_COLS + lane;
    let mut total = 0.0;
    let mut row = warp;
    while row < n_partials {
        let at = row as usize * n_cols as usize + column as usize;
        // SAFETY: the row exists, and the column if valid.
        total += unsafe { load(partials.wrapping_add(at), column < n_cols, 0.0) };
        row += WARPS;
    }
    // `[word][warp][column]`
    const HALF: u32 = WARPS * REDUCE_COLS;
    let shared: Shared<u32> = shared_words![u32; 2 * HALF as usize];
    let at = warp * REDUCE_COLS + lane;
    // SAFETY: one place a thread, before the barrier.
    unsafe {
        shared.store(at, total.to_bits() as u32);
        shared.store(HALF + at, (total.to_bits() >> 32) as u32);
    }
    thread::sync_threads();
    if warp != 0 {
        return;
    }
    let valid = column < n_cols;
    let at = gradient.wrapping_add(column as usize);
    // SAFETY: the column exists if valid, and only this thread touches it; every place was written before the
    // barrier.
    unsafe {
        let mut sum = load(at, valid && accumulate != 0, 0.0);
        let mut total = 0.0;
        for other in 0..WARPS {
            let place = other * REDUCE_COLS + lane;
            let [low, high] = [shared.load(place), shared.load(HALF + place)];
            total += f64::from_bits(u64::from(high) << 32 | u64::from(low));
        }
        sum += total;
        store(at, sum, valid);
    }
}
