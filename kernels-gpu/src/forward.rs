//! The forward pass with a row in registers: x is read once, y written once.
//!
//! `LANES` threads share a row; lane t holds vectors t, t + LANES, ... of `E` elements, so that the lanes
//! of a warp read consecutive 16 bytes. With 32 lanes and 2 vectors a lane:
//!
//! ```text
//! row r:  | v0 v1 v2 ... v31 | v32 v33 ... v63 |      warp w of block b: r = b * warps + w
//! lane:     0  1  2  ... 31     0   1  ... 31
//! ```
//!
//! The variance is taken over what the registers hold, in a second pass. The mean's own rounding error is
//! summed along with it (`shift`) and taken off, so that a row whose mean is large beside its variance
//! keeps its digits.

use cuda_std::{ext, thread};

use crate::reduce::{sum, sum_over_row};
use crate::vector::{Packed, store_f32};

/// A forward kernel's parameters, typed. `abi::ForwardArgs` says what each is.
#[derive(Clone, Copy)]
pub struct Forward<T, W> {
    pub x: *const T,
    pub residual: *const T,
    pub weight: *const W,
    pub bias: *const W,
    pub y: *mut T,
    pub sum: *mut T,
    pub mean: *mut f32,
    pub rstd: *mut f32,
    pub n_rows: u64,
    pub x_stride: u64,
    pub y_stride: u64,
    pub n_cols: u32,
    pub eps: f32,
    pub inv_n: f32,
}

/// Normalises rows of up to `LANES * VECS * E` columns in blocks of `BLOCK` threads.
///
/// # Safety
/// The arguments are as `abi::ForwardArgs` says; every row starts at a multiple of the access's size
/// (`E` elements); `n_cols` is a multiple of `E` and at most `LANES * VECS * E`; `BLOCK` is the launch's
/// block, and is `LANES` if that is above 32.
#[inline(always)]
pub unsafe fn forward_rows<
    T,
    W,
    const E: usize,
    const LANES: u32,
    const VECS: usize,
    const BLOCK: u32,
>(
    p: Forward<T, W>,
) where
    T: Packed<E>,
    W: Packed<E>,
{
    let thread = thread::thread_idx_x();
    let lane = thread % LANES;
    // A warp works on its rows together, so that all its lanes reach every shuffle.
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

    let mut first = thread::block_idx_x() as u64 * rows_per_block as u64 + warp_first as u64;
    while first < p.n_rows {
        let row = first + in_warp as u64;
        let row_is_there = row < p.n_rows;
        let valid = |k: usize| row_is_there && column(k) < p.n_cols;

        let mut raw = [T::ZEROS; VECS];
        // SAFETY (here and below): `valid` says that the row and the column exist, the strides are the
        // caller's, and this row belongs to these lanes alone.
        let x = unsafe { p.x.add((row * p.x_stride) as usize) };
        for k in 0..VECS {
            raw[k] = unsafe { T::load(x.add(column(k) as usize), valid(k), T::ZEROS) };
        }
        if !p.residual.is_null() {
            let residual = unsafe { p.residual.add((row * p.x_stride) as usize) };
            let sum = p.sum.wrapping_add((row * p.y_stride) as usize);
            let mut other = [T::ZEROS; VECS];
            for k in 0..VECS {
                other[k] = unsafe { T::load(residual.add(column(k) as usize), valid(k), T::ZEROS) };
            }
            for k in 0..VECS {
                let (mut a, b) = (T::unpack(raw[k]), T::unpack(other[k]));
                for i in 0..E {
                    a[i] += b[i];
                }
                // Rounded as it is stored: what the backward pass reads is what was normalised.
                raw[k] = T::pack(a);
                unsafe {
                    T::store(
                        sum.wrapping_add(column(k) as usize),
                        raw[k],
                        valid(k) && !p.sum.is_null(),
                    )
                };
            }
        }

        let mut d = raw.map(T::unpack);
        let mut total = 0.0;
        for k in 0..VECS {
            total += sum(d[k]);
        }
        // SAFETY: the loop's condition is the same in all threads that share the sum.
        let [total] = unsafe { sum_over_row::<LANES, 1>([total], 0) };
        let mean = total * p.inv_n;

        let (mut shift, mut squares) = (0.0, 0.0);
        for k in 0..VECS {
            // Lanes without a column hold zeros, and must not count as -mean.
            let mean = if valid(k) { mean } else { 0.0 };
            d[k] = d[k].map(|x| x - mean);
            shift += sum(d[k]);
            for i in 0..E {
                squares = ext::fma(d[k][i], d[k][i], squares);
            }
        }
        // SAFETY: as above.
        let [shift, squares] = unsafe { sum_over_row::<LANES, 2>([shift, squares], 1) };
        let shift = shift * p.inv_n;
        let rstd = rstd(squares * p.inv_n, shift, p.eps);

        if lane == 0 && row_is_there {
            unsafe {
                store_f32(
                    p.mean.wrapping_add(row as usize),
                    mean + shift,
                    !p.mean.is_null(),
                );
                store_f32(p.rstd.wrapping_add(row as usize), rstd, !p.rstd.is_null());
            }
        }

        let y = unsafe { p.y.add((row * p.y_stride) as usize) };
        let offset = -shift * rstd;
        for k in 0..VECS {
            let at = column(k) as usize;
            let weight = unsafe {
                W::load_shared(
                    p.weight.wrapping_add(at),
                    valid(k) && !p.weight.is_null(),
                    W::ONES,
                )
            };
            let bias = unsafe {
                W::load_shared(
                    p.bias.wrapping_add(at),
                    valid(k) && !p.bias.is_null(),
                    W::ZEROS,
                )
            };
            let (weight, bias) = (W::unpack(weight), W::unpack(bias));
            for i in 0..E {
                d[k][i] = ext::fma(ext::fma(d[k][i], rstd, offset), weight[i], bias[i]);
            }
            unsafe { T::store(y.add(at), T::pack(d[k]), valid(k)) };
        }
        first += step;
    }
}

/// 1 / sqrt(var + eps), from the mean square of the deviations and the mean deviation.
#[inline(always)]
pub fn rstd(mean_square: f32, shift: f32, eps: f32) -> f32 {
    let var = ext::fma(-shift, shift, mean_square);
    // Rounding can take a constant row's variance just below zero; NaN must stay NaN.
    let var = if var < 0.0 { 0.0 } else { var };
    ext::rsqrt_approx(var + eps)
}
