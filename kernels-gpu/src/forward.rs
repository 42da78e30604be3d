//! The forward pass with a row in registers: x is read once, y written once.
//!
//! `place` says how rows lie over threads. They go straight into registers, and blocks that wait for theirs leave
//! the multiprocessor to others.
//!
//! The variance is taken over what the registers hold, in a second pass. The mean's own rounding error is
//! summed along with it (`shift`) and taken off, so that a row whose mean is large beside its variance
//! keeps its digits.

use cuda_std::ext;

use crate::cluster::from_column;
use crate::near::Near;
use crate::place::Place;
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

impl<T, W> Forward<T, W> {
    /// The same from a column on, for a block that has part of the row.
    #[inline(always)]
    pub fn starting_at(self, column: u32) -> Self {
        Self {
            x: self.x.wrapping_add(column as usize),
            residual: from_column(self.residual.cast_mut(), column),
            weight: from_column(self.weight.cast_mut(), column),
            bias: from_column(self.bias.cast_mut(), column),
            y: self.y.wrapping_add(column as usize),
            sum: from_column(self.sum, column),
            ..self
        }
    }
}

/// Normalises rows of up to `LANES * VECS * E` columns in blocks of `BLOCK` threads.
///
/// # Safety
/// The arguments are as `abi::ForwardArgs` says; every row starts at a multiple of the access's size
/// (`E` elements); `n_cols` is a multiple of `E` and at most `LANES * VECS * E`; `BLOCK` is the launch's
/// block, and is `LANES` if that is above 32; the grid has a place for every row.
#[inline(always)]
pub unsafe fn forward_rows<
    T,
    W,
    const E: usize,
    const LANES: u32,
    const VECS: usize,
    const BLOCK: usize,
>(
    p: Forward<T, W>,
) where
    T: Packed<E>,
    W: Packed<E>,
{
    let place = Place::<E, LANES>::new::<BLOCK>();
    // A warp works on its rows together, so that all its lanes reach every shuffle. There is a block for
    // every row: a loop over rows would cost a fifth more registers.
    let first = place.first;
    if first < p.n_rows {
        let row = first + place.in_warp as u64;
        let row_is_there = row < p.n_rows;
        let x = p.x.wrapping_add((row * p.x_stride) as usize);
        let mut raw = [T::ZEROS; VECS];
        for k in 0..VECS {
            let column = place.column(k);
            // SAFETY: the row and the column exist, at the caller's strides.
            raw[k] = unsafe {
                T::load(
                    x.wrapping_add(column as usize),
                    row_is_there && column < p.n_cols,
                    T::ZEROS,
                )
            };
        }
        let near = match has_registers(VECS) {
            true => Near::at_first::<BLOCK>(),
            false => Some(Near::new::<BLOCK>()),
        };
        // SAFETY: the caller's; this row belongs to these lanes alone.
        unsafe { finish_row(p, place, row, raw, near) };
    }
}

/// All that comes after a row's x is in registers.
///
/// # Safety
/// As for `forward_rows`; all threads of the warp, or of the block if the row has it, are here.
#[inline(always)]
unsafe fn finish_row<T, W, const E: usize, const LANES: u32, const VECS: usize>(
    p: Forward<T, W>,
    place: Place<E, LANES>,
    row: u64,
    mut raw: [T::Raw; VECS],
    near: Option<Near>,
) where
    T: Packed<E>,
    W: Packed<E>,
{
    let row_is_there = row < p.n_rows;
    let is_there = |place: Place<E, LANES>, k: usize| row_is_there && place.column(k) < p.n_cols;
    let valid = |k: usize| is_there(place, k);
    // SAFETY: the column exists if valid, and so do weight and bias.
    let parameters = |at: usize, valid: bool| unsafe {
        [
            W::load_shared(
                p.weight.wrapping_add(at),
                valid && !p.weight.is_null(),
                W::ONES,
            ),
            W::load_shared(
                p.bias.wrapping_add(at),
                valid && !p.bias.is_null(),
                W::ZEROS,
            ),
        ]
    };
    // Brought near while the sums are added up, or asked for before: where that costs no blocks, as an f32 vector's registers
    // are half those of a 16-bit one, and few rows of up to 32 vectors are in work for want of threads, not of registers.
    let vectors = LANES * VECS as u32;
    let brings = Near::gains(vectors)
        && match E {
            1 => false,
            4 => VECS > 4 || LANES <= 32 && VECS > 2,
            _ => vectors > 8,
        };
    let early = !brings && (E <= 4 && E * VECS <= 16 || vectors <= 32);
    let mut weight_and_bias = [[W::ONES, W::ZEROS]; VECS];
    let mut ask_early = || {
        for k in 0..VECS {
            weight_and_bias[k] = parameters(place.column(k) as usize, valid(k));
        }
    };
    // Together with x; single elements only when x is there (measured: 401 us against 431 for 4099 columns of f32).
    if early && E > 1 {
        ask_early();
    }
    if brings && let Some(near) = near {
        let n_cols = if row_is_there { p.n_cols } else { 0 };
        // SAFETY: the caller's.
        unsafe { near.bring::<W, E, LANES, VECS>([p.weight, p.bias], place, n_cols) };
    }
    // SAFETY (here and below): `valid` says that the row and the column exist.
    if !p.residual.is_null() {
        raw = unsafe { add_residual(p, place, row, raw) };
    }
    let mut d = raw.map(T::unpack);
    if early && E == 1 {
        ask_early();
    }

    // Where more than four vectors hold the row, no registers are left for what is known of its columns: that is worked
    // out again.
    let again = || {
        if VECS > 4 && E > 1 {
            place.forgotten()
        } else {
            place
        }
    };
    let place = again();
    let valid = |k: usize| is_there(place, k);
    // Lanes without a column hold zeros, and must not count as -mean.
    let taken_off = |k: usize, _: &mut [f32; E], mean: f32| if valid(k) { mean } else { 0.0 };
    // SAFETY: the caller's.
    let [rstd, offset] = unsafe { centre(p, place, row, &mut d, taken_off) };

    if brings && !has_registers(VECS) {
        Near::wait();
    }
    let place = again();
    let valid = |k: usize| is_there(place, k);
    let y = p.y.wrapping_add((row * p.y_stride) as usize);
    for k in 0..VECS {
        let at = place.column(k) as usize;
        let [weight, bias] = if early {
            weight_and_bias[k]
        } else {
            parameters(at, valid(k))
        }
        .map(W::unpack);
        for i in 0..E {
            d[k][i] = ext::fma(ext::fma(d[k][i], rstd, offset), weight[i], bias[i]);
        }
        unsafe { T::store(y.wrapping_add(at), T::pack(d[k]), valid(k)) };
    }
    if brings && has_registers(VECS) && near.is_some() {
        Near::wait();
    }
}

/// Whether there are registers for a branch about `Near`, and to wait after weight and bias have been read and not before,
/// when some of them wait for others.
const fn has_registers(vecs: usize) -> bool {
    vecs < 4
}

/// A row's vectors with the residual's added, rounded as they are stored in `sum`: what the backward pass reads
/// is what was normalised.
///
/// # Safety
/// As for `forward_rows`; the residual is there.
#[inline(always)]
pub unsafe fn add_residual<T, W, const E: usize, const LANES: u32, const VECS: usize>(
    p: Forward<T, W>,
    place: Place<E, LANES>,
    row: u64,
    mut raw: [T::Raw; VECS],
) -> [T::Raw; VECS]
where
    T: Packed<E>,
{
    let valid = |k: usize| row < p.n_rows && place.column(k) < p.n_cols;
    let residual = p.residual.wrapping_add((row * p.x_stride) as usize);
    let sum = p.sum.wrapping_add((row * p.y_stride) as usize);
    // Up to four on their way: there are no registers for two rows where one has more.
    let mut first = 0;
    while first < VECS {
        let end = if first + 4 < VECS { first + 4 } else { VECS };
        let mut other = [T::ZEROS; 4];
        for k in first..end {
            let at = residual.wrapping_add(place.column(k) as usize);
            // SAFETY: the row and the column exist if valid.
            other[k - first] = unsafe { T::load(at, valid(k), T::ZEROS) };
        }
        for k in first..end {
            let (mut a, b) = (T::unpack(raw[k]), T::unpack(other[k - first]));
            for i in 0..E {
                a[i] += b[i];
            }
            raw[k] = T::pack(a);
            let at = sum.wrapping_add(place.column(k) as usize);
            // SAFETY: as above; the column belongs to this lane alone.
            unsafe { T::store(at, raw[k], valid(k) && !p.sum.is_null()) };
        }
        first = end;
    }
    raw
}

/// Takes the mean off a row's columns, writes its statistics, and gives `[rstd, offset]`: xhat is
/// `d * rstd + offset`. `taken_off` says what is taken off vector k, which it may change before.
///
/// # Safety
/// As for `forward_rows`; all threads of the warp, or of the block if the row has it, are here.
#[inline(always)]
pub unsafe fn centre<T, W, const E: usize, const LANES: u32, const VECS: usize>(
    p: Forward<T, W>,
    place: Place<E, LANES>,
    row: u64,
    d: &mut [[f32; E]; VECS],
    taken_off: impl Fn(usize, &mut [f32; E], f32) -> f32,
) -> [f32; 2] {
    let mut total = 0.0;
    for k in 0..VECS {
        total += sum(d[k]);
    }
    // SAFETY: the caller's.
    let [total] = unsafe { sum_over_row::<LANES, 1>([total], 0) };
    let mean = total * p.inv_n;

    let (mut shift, mut squares) = (0.0, 0.0);
    for k in 0..VECS {
        let mean = taken_off(k, &mut d[k], mean);
        d[k] = d[k].map(|x| x - mean);
        shift += sum(d[k]);
        for i in 0..E {
            squares = ext::fma(d[k][i], d[k][i], squares);
        }
    }
    // SAFETY: the caller's.
    let [shift, squares] = unsafe { sum_over_row::<LANES, 2>([shift, squares], 1) };
    let shift = shift * p.inv_n;
    let rstd = rstd(squares * p.inv_n, shift, p.eps);

    if place.lane == 0 && row < p.n_rows {
        // SAFETY: the row exists, and only this thread writes its statistics.
        unsafe {
            store_f32(
                p.mean.wrapping_add(row as usize),
                mean + shift,
                !p.mean.is_null(),
            );
            store_f32(p.rstd.wrapping_add(row as usize), rstd, !p.rstd.is_null());
        }
    }
    [rstd, -shift * rstd]
}

/// 1 / sqrt(var + eps), from the mean square of the deviations and the mean deviation.
#[inline(always)]
pub fn rstd(mean_square: f32, shift: f32, eps: f32) -> f32 {
    let var = ext::fma(-shift, shift, mean_square);
    // Rounding can take a constant row's variance just below zero; NaN must stay NaN.
    let var = if var < 0.0 { 0.0 } else { var };
    ext::rsqrt_approx(var + eps)
}
