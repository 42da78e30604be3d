//! The backward pass with a row in registers: x and dy are read once, dx written once.
//!
//! Rows lie over threads as in the forward pass. A block takes rows b, b + grid, ... and keeps its sums of
//! dweight and dbias in registers, a column always in the same lane; the next row's x and dy are asked for
//! before this row's are used. At its end the block writes one row of partials, which `reduce_partials`
//! sums in a fixed order. No atomics: the same input gives the same bits.

use cuda_std::ext::{self, Shared};
use cuda_std::{shared_words, thread};

use crate::abi::{REDUCE_BLOCK, REDUCE_COLS};
use crate::reduce::{sum, sum_over_row};
use crate::vector::{Packed, load_f32, load_f32_shared, store_f32};

/// A backward kernel's parameters, typed. `abi::BackwardArgs` says what each is.
#[derive(Clone, Copy)]
pub struct Backward<T, W> {
    pub dy: *const T,
    pub x: *const T,
    pub weight: *const W,
    pub mean: *const f32,
    pub rstd: *const f32,
    pub dsum: *const T,
    pub dx: *mut T,
    pub partial_dweight: *mut f32,
    pub partial_dbias: *mut f32,
    pub n_rows: u64,
    pub dy_stride: u64,
    pub x_stride: u64,
    pub dx_stride: u64,
    pub n_cols: u32,
    pub inv_n: f32,
}

impl<T, W> Backward<T, W> {
    /// x and the statistics are not read when only dbias is asked for.
    #[inline(always)]
    pub fn needs_x(&self) -> bool {
        !self.dx.is_null() || !self.partial_dweight.is_null()
    }
}

/// What a row's lanes load of it.
#[derive(Clone, Copy)]
struct Row<R, const VECS: usize> {
    x: [R; VECS],
    dy: [R; VECS],
    mean: f32,
    rstd: f32,
}

/// Gradients of rows of up to `LANES * VECS * E` columns, in blocks of `BLOCK` threads.
///
/// # Safety
/// The arguments are as `abi::BackwardArgs` says; every row starts at a multiple of the access's size
/// (`E` elements); `n_cols` is a multiple of `E` and at most `LANES * VECS * E`; `BLOCK` is the launch's
/// block, and is `LANES` if that is above 32.
#[inline(always)]
pub unsafe fn backward_rows<
    T,
    W,
    const E: usize,
    const LANES: u32,
    const VECS: usize,
    const BLOCK: u32,
>(
    p: Backward<T, W>,
) where
    T: Packed<E>,
    W: Packed<E>,
    f32: Packed<E>,
{
    let thread = thread::thread_idx_x();
    let lane = thread % LANES;
    let rows_per_warp = if LANES < 32 { 32 / LANES } else { 1 };
    let rows_per_block = BLOCK / LANES;
    let in_warp = if LANES < 32 { thread % 32 / LANES } else { 0 };
    let warp_first = if LANES <= 32 {
        thread / 32 * rows_per_warp
    } else {
        0
    };
    let step = thread::grid_dim_x() as u64 * rows_per_block as u64;
    let column = |k: usize| (lane + k as u32 * LANES) * E as u32;
    let has_column = |k: usize| column(k) < p.n_cols;
    let needs_x = p.needs_x();

    let mut weight = [W::ZEROS; VECS];
    for k in 0..VECS {
        let at = p.weight.wrapping_add(column(k) as usize);
        // SAFETY: the column exists, and so does the weight.
        weight[k] = unsafe { W::load_shared(at, has_column(k) && !p.weight.is_null(), W::ONES) };
    }

    // SAFETY (of the loads): a row that is there has these columns, at the caller's strides.
    let load = |row: u64| {
        let there = row < p.n_rows;
        let mut loaded = Row {
            x: [T::ZEROS; VECS],
            dy: [T::ZEROS; VECS],
            mean: 0.0,
            rstd: 0.0,
        };
        let x = p.x.wrapping_add((row * p.x_stride) as usize);
        let dy = p.dy.wrapping_add((row * p.dy_stride) as usize);
        for k in 0..VECS {
            let (at, valid) = (column(k) as usize, there && has_column(k));
            loaded.x[k] = unsafe { T::load(x.wrapping_add(at), valid && needs_x, T::ZEROS) };
            loaded.dy[k] = unsafe { T::load(dy.wrapping_add(at), valid, T::ZEROS) };
        }
        let (mean, rstd) = (
            p.mean.wrapping_add(row as usize),
            p.rstd.wrapping_add(row as usize),
        );
        loaded.mean = unsafe { load_f32_shared(mean, there && needs_x) };
        loaded.rstd = unsafe { load_f32_shared(rstd, there && needs_x) };
        loaded
    };

    let mut dweight = [[0.0; E]; VECS];
    let mut dbias = [[0.0; E]; VECS];
    let mut first = thread::block_idx_x() as u64 * rows_per_block as u64 + warp_first as u64;
    let mut next = load(first + in_warp as u64);
    let mut slot = 0;
    while first < p.n_rows {
        let row = first + in_warp as u64;
        let this = next;
        next = load(row + step);

        // From here on `xhat` and `g` = dy * weight; lanes without a column hold g = 0.
        let (mut xhat, mut g) = (this.x.map(T::unpack), this.dy.map(T::unpack));
        let (mut g_sum, mut g_xhat_sum) = (0.0, 0.0);
        for k in 0..VECS {
            let weight = W::unpack(weight[k]);
            for i in 0..E {
                let dy = g[k][i];
                // Zero where there is no row or column, since dy is.
                xhat[k][i] = (xhat[k][i] - this.mean) * this.rstd;
                dweight[k][i] = ext::fma(dy, xhat[k][i], dweight[k][i]);
                dbias[k][i] += dy;
                g[k][i] = dy * weight[i];
                g_xhat_sum = ext::fma(g[k][i], xhat[k][i], g_xhat_sum);
            }
            g_sum += sum(g[k]);
        }
        if !p.dx.is_null() {
            // SAFETY: the conditions around are the same in all threads that share the sum.
            let [g_sum, g_xhat_sum] =
                unsafe { sum_over_row::<LANES, 2>([g_sum, g_xhat_sum], slot) };
            let (c1, c2) = (g_sum * p.inv_n, g_xhat_sum * p.inv_n);
            let dx = p.dx.wrapping_add((row * p.dx_stride) as usize);
            let dsum = p.dsum.wrapping_add((row * p.dx_stride) as usize);
            for k in 0..VECS {
                let (at, valid) = (column(k) as usize, row < p.n_rows && has_column(k));
                // SAFETY: the row and the column exist; this row belongs to these lanes alone.
                let incoming =
                    unsafe { T::load(dsum.wrapping_add(at), valid && !p.dsum.is_null(), T::ZEROS) };
                let incoming = T::unpack(incoming);
                for i in 0..E {
                    g[k][i] = ext::fma(
                        this.rstd,
                        ext::fma(-xhat[k][i], c2, g[k][i] - c1),
                        incoming[i],
                    );
                }
                unsafe { T::store(dx.wrapping_add(at), T::pack(g[k]), valid) };
            }
        }
        first += step;
        slot ^= 1;
    }

    // SAFETY: all threads are here, and the partials' row of this block is its own.
    unsafe {
        write_partials::<E, LANES, VECS, BLOCK>(dweight, p.partial_dweight, p.n_cols);
        write_partials::<E, LANES, VECS, BLOCK>(dbias, p.partial_dbias, p.n_cols);
    }
}

/// Writes this block's row of partials: `[n_cols]` at row `block_idx_x` of `partials`, if that is not null.
///
/// Blocks with several rows in work first add up their lanes that hold the same columns: groups within a
/// warp by shuffles, then the warps through shared memory, first warp first.
///
/// # Safety
/// All threads of the block call it; the row is writable and no other block writes it.
#[inline(always)]
unsafe fn write_partials<const E: usize, const LANES: u32, const VECS: usize, const BLOCK: u32>(
    values: [[f32; E]; VECS],
    partials: *mut f32,
    n_cols: u32,
) where
    f32: Packed<E>,
{
    if partials.is_null() {
        return;
    }
    let partials = partials.wrapping_add(thread::block_idx_x() as usize * n_cols as usize);
    let thread = thread::thread_idx_x();
    let lane = thread % LANES;
    if LANES > 32 {
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
    let shared: Shared<f32> = shared_words![f32; 128 / 32 * 32 * 8];
    const {
        assert!(
            LANES > 32 || (BLOCK <= 128 && E <= 8),
            "the shared array holds 128 threads' vectors"
        )
    };
    let width = LANES * E as u32;
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
                unsafe { shared.store(thread / 32 * width + lane * E as u32 + i as u32, value) };
            }
        }
        thread::sync_threads();
        let mut c = thread;
        while c < width {
            let mut total = 0.0;
            let mut warp = 0;
            while warp < BLOCK / 32 {
                // SAFETY: written before the barrier above.
                total += unsafe { shared.load(warp * width + c) };
                warp += 1;
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

/// Sums the partials over their rows.
///
/// A block has `REDUCE_COLS` columns, a warp's lanes side by side, and its warps take partials w, w + warps,
/// ...; then the first warp adds up the warps' sums, first warp first.
///
/// # Safety
/// The arguments are as `abi::ReduceArgs` says, and the block has `REDUCE_BLOCK` threads.
#[inline(always)]
pub unsafe fn reduce_partials<W: Packed<1>>(p: Reduce<W>) {
    // SAFETY: the caller's; all threads of the block are here.
    unsafe {
        column_sums(p.partial_dweight, p.dweight, p);
        column_sums(p.partial_dbias, p.dbias, p);
    }
}

/// One of the two gradients; nothing if its partials are null.
///
/// # Safety
/// As for `reduce_partials`.
#[inline(always)]
unsafe fn column_sums<W: Packed<1>>(partials: *const f32, gradient: *mut W, p: Reduce<W>) {
    const WARPS: u32 = REDUCE_BLOCK / REDUCE_COLS;
    if partials.is_null() {
        return;
    }
    let shared: Shared<f32> = shared_words![f32; REDUCE_BLOCK as usize];
    let (warp, lane) = (
        thread::thread_idx_x() / REDUCE_COLS,
        thread::thread_idx_x() % REDUCE_COLS,
    );
    let column = thread::block_idx_x() * REDUCE_COLS + lane;
    let valid = column < p.n_cols;
    let mut total = 0.0;
    let mut row = warp;
    while row < p.n_partials {
        let at = partials.wrapping_add(row as usize * p.n_cols as usize + column as usize);
        // SAFETY: the row exists by the loop's condition, the column if valid.
        total += unsafe { load_f32(at, valid) };
        row += WARPS;
    }
    thread::sync_threads();
    // SAFETY: one place a thread; the barrier above lies behind the other gradient's reads.
    unsafe { shared.store(thread::thread_idx_x(), total) };
    thread::sync_threads();
    if warp == 0 {
        let mut total = 0.0;
        for warp in 0..WARPS {
            // SAFETY: written before the barrier above.
            total += unsafe { shared.load(warp * REDUCE_COLS + lane) };
        }
        let at = gradient.wrapping_add(column as usize);
        // SAFETY: the column exists if valid, and only this thread touches it.
        unsafe {
            let [before] = W::unpack(W::load(at, valid && p.accumulate != 0, W::ZEROS));
            W::store(at, W::pack([before + total]), valid);
        }
    }
}
