//! The forward pass with a row in shared memory, for rows too long for registers: x is read once, y
//! written once.
//!
//! A block of `SHARED_BLOCK` threads has a row; thread t has vectors t, t + block, ... Each thread copies
//! its own vectors in and reads only those, so nothing but the sums needs a barrier. With two stages the
//! next row is on its way while this one is computed; with one, rows may be twice as long.

use cuda_std::ext::{self, Shared};
use cuda_std::thread;

use crate::abi::SHARED_BLOCK;
use crate::forward::{Forward, rstd};
use crate::reduce::{sum, sum_over_row};
use crate::stage;
use crate::vector::{Packed, store_f32};

/// Normalises rows of any length that `STAGES` times fits the launch's dynamic shared memory.
///
/// # Safety
/// The arguments are as `abi::ForwardArgs` says; every row starts at a multiple of 16 bytes and `n_cols` is
/// a multiple of `E`; the launch's block is `SHARED_BLOCK`, and it adds `STAGES` rows of shared memory.
#[inline(always)]
pub unsafe fn forward_shared<T, W, const E: usize, const STAGES: usize>(p: Forward<T, W>)
where
    T: Packed<E, Raw = [u32; 4]>,
    W: Packed<E>,
{
    let thread = thread::thread_idx_x();
    let vectors = p.n_cols / E as u32;
    let slot = |stage: u32| Shared::<u32>::dynamic().offset(stage * vectors * 4);
    let ask = |row: u64, stage: u32| {
        if row < p.n_rows {
            let x = p.x.wrapping_add((row * p.x_stride) as usize);
            let mut v = thread;
            while v < vectors {
                // SAFETY: the row and the column exist; this thread is done with what the slot held.
                unsafe {
                    stage::ask(
                        slot(stage).offset(v * 4),
                        x.wrapping_add(v as usize * E).cast(),
                        true,
                    )
                };
                v += SHARED_BLOCK;
            }
        }
        stage::commit();
    };

    let step = thread::grid_dim_x() as u64;
    let mut row = thread::block_idx_x() as u64;
    let mut stage = 0;
    ask(row, 0);
    while row < p.n_rows {
        if STAGES == 2 {
            ask(row + step, stage ^ 1);
        }
        stage::wait::<STAGES>();
        let x = slot(stage);
        // SAFETY (of the reads): this thread's own vectors, waited for.
        let read = |v: u32| T::unpack(unsafe { x.load4(v * 4) });
        if !p.residual.is_null() {
            // SAFETY: as for the forward kernel's arguments.
            unsafe { add_residual(p, row, x, vectors) };
        }

        let mut total = 0.0;
        let mut v = thread;
        while v < vectors {
            total += sum(read(v));
            v += SHARED_BLOCK;
        }
        // SAFETY: the loop's condition is the same in the whole block.
        let [total] = unsafe { sum_over_row::<SHARED_BLOCK, 1>([total], 0) };
        let mean = total * p.inv_n;

        let (mut shift, mut squares) = (0.0, 0.0);
        v = thread;
        while v < vectors {
            let d = read(v).map(|x| x - mean);
            shift += sum(d);
            for i in 0..E {
                squares = ext::fma(d[i], d[i], squares);
            }
            v += SHARED_BLOCK;
        }
        // SAFETY: as above.
        let [shift, squares] = unsafe { sum_over_row::<SHARED_BLOCK, 2>([shift, squares], 1) };
        let shift = shift * p.inv_n;
        let rstd = rstd(squares * p.inv_n, shift, p.eps);
        if thread == 0 {
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

        let y = p.y.wrapping_add((row * p.y_stride) as usize);
        let offset = -shift * rstd;
        v = thread;
        while v < vectors {
            let at = v as usize * E;
            // SAFETY: the column exists, and only this thread writes it.
            unsafe {
                let weight =
                    W::load_shared(p.weight.wrapping_add(at), !p.weight.is_null(), W::ONES);
                let bias = W::load_shared(p.bias.wrapping_add(at), !p.bias.is_null(), W::ZEROS);
                let (mut d, weight, bias) = (read(v), W::unpack(weight), W::unpack(bias));
                for i in 0..E {
                    d[i] = ext::fma(ext::fma(d[i] - mean, rstd, offset), weight[i], bias[i]);
                }
                T::store(y.wrapping_add(at), T::pack(d), true);
            }
            v += SHARED_BLOCK;
        }
        if STAGES == 2 {
            stage ^= 1;
        } else {
            ask(row + step, 0);
        }
        row += step;
    }
}

/// Adds the residual to this thread's vectors, there and in `sum`, rounded to x's dtype.
///
/// # Safety
/// As for `forward_shared`; `x` holds the row.
#[inline(always)]
unsafe fn add_residual<T, W, const E: usize>(
    p: Forward<T, W>,
    row: u64,
    x: Shared<u32>,
    vectors: u32,
) where
    T: Packed<E, Raw = [u32; 4]>,
{
    let residual = p.residual.wrapping_add((row * p.x_stride) as usize);
    let sum = p.sum.wrapping_add((row * p.y_stride) as usize);
    let mut v = thread::thread_idx_x();
    while v < vectors {
        let at = v as usize * E;
        // SAFETY: the row and the column exist; this thread's own vector.
        unsafe {
            let mut s = T::unpack(x.load4(v * 4));
            let other = T::unpack(T::load(residual.wrapping_add(at), true, T::ZEROS));
            for i in 0..E {
                s[i] += other[i];
            }
            let s = T::pack(s);
            x.store4(v * 4, s);
            T::store(sum.wrapping_add(at), s, !p.sum.is_null());
        }
        v += SHARED_BLOCK;
    }
}
