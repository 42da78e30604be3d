//! The forward pass with a row in shared memory, for rows too long for registers: x is read once, y written once.
//!
//! A block has a row, or on sm_90 a cluster of blocks, each with a share of its columns as `cluster` says; thread t has
//! vectors t, t + block, ... of it. Each thread copies its own vectors in and reads only those, so nothing but the sums
//! needs a barrier. With two stages the next row is on its way while this one is computed; with one, rows may be twice
//! as long.

use cuda_std::ext::{self, Shared};
use cuda_std::thread;

use crate::cluster::{Exchange, share};
use crate::cluster_forward::Shares;
use crate::forward::{Forward, rstd};
use crate::reduce::{sum, sum_over_row};
use crate::stage;
use crate::vector::{Packed, store_f32};

/// What a thread has of a row: every `BLOCK`th of its block's vectors, `AT_A_TIME` of them read at once.
#[derive(Clone, Copy)]
struct Vectors<const E: usize, const BLOCK: u32, const AT_A_TIME: usize> {
    /// All of the block.
    count: u32,
}

impl<const E: usize, const BLOCK: u32, const AT_A_TIME: usize> Vectors<E, BLOCK, AT_A_TIME> {
    /// Calls `each` with the numbers of the thread's vectors, several at a time, as far as there are that many.
    #[inline(always)]
    fn for_each(self, mut each: impl FnMut([u32; AT_A_TIME])) {
        let mut first = thread::thread_idx_x();
        while first < self.count {
            let mut vectors = [first; AT_A_TIME];
            for i in 0..AT_A_TIME {
                vectors[i] += i as u32 * BLOCK;
            }
            each(vectors);
            first += BLOCK * AT_A_TIME as u32;
        }
    }

    /// Vectors of a row in shared memory, zeros for those that there are not.
    #[inline(always)]
    fn read<T: Packed<E, Raw = [u32; 4]>>(
        self,
        row: Shared<u32>,
        vectors: [u32; AT_A_TIME],
    ) -> [[f32; E]; AT_A_TIME] {
        let mut raw = [T::ZEROS; AT_A_TIME];
        for i in 0..AT_A_TIME {
            if vectors[i] < self.count {
                // SAFETY: this thread's own vector, waited for.
                raw[i] = unsafe { row.load4(vectors[i] * 4) };
            }
        }
        raw.map(T::unpack)
    }
}

/// Normalises rows of any length whose share of a block fits its dynamic shared memory `STAGES` times.
///
/// # Safety
/// The arguments are as `abi::ForwardArgs` says; every row starts at a multiple of 16 bytes and `n_cols` is
/// a multiple of `E`; the launch's block is `BLOCK`, it adds `STAGES` shares of shared memory, and its clusters are of
/// `CLUSTER` blocks, each of which has a column.
#[inline(always)]
pub unsafe fn forward_shared<
    T,
    W,
    const E: usize,
    const STAGES: usize,
    const BLOCK: u32,
    const AT_A_TIME: usize,
    const CLUSTER: u32,
>(
    p: Forward<T, W>,
) where
    T: Packed<E, Raw = [u32; 4]>,
    W: Packed<E>,
{
    let mut rank = 0;
    let (mut own, mut count) = (p, p.n_cols);
    if CLUSTER > 1 {
        ext::cluster_dimensions::<CLUSTER>();
        rank = ext::cluster_rank();
        let (first_column, columns) = share::<E, CLUSTER>(rank, p.n_cols);
        count = columns;
        own = p.starting_at(first_column);
    }
    let thread = thread::thread_idx_x();
    let vectors = Vectors::<E, BLOCK, AT_A_TIME> {
        count: count / E as u32,
    };
    let slot = |stage: u32| Shared::<u32>::dynamic().offset(stage * vectors.count * 4);
    let ask_several = |row: u64, stage: u32, several: [u32; AT_A_TIME]| {
        let x = own.x.wrapping_add((row * p.x_stride) as usize);
        for v in several {
            if v < vectors.count {
                let at = x.wrapping_add(v as usize * E).cast();
                // SAFETY: the row and the column exist; this thread is done with what the slot held.
                unsafe { stage::ask(slot(stage).offset(v * 4), at, true) };
            }
        }
    };
    let ask = |row: u64, stage: u32| {
        if row < p.n_rows {
            vectors.for_each(|several| ask_several(row, stage, several));
        }
        stage::commit();
    };

    let step = (thread::grid_dim_x() / CLUSTER) as u64;
    let mut row = (thread::block_idx_x() / CLUSTER) as u64;
    let mut stage = 0;
    let mut exchange = None;
    if CLUSTER > 1 {
        exchange = Some(Exchange::<CLUSTER>::prepare());
        ext::cluster_arrive();
    }
    ask(row, 0);
    let shares = Shares::<CLUSTER>::new::<E>(p.n_cols);
    if CLUSTER > 1 {
        // All have started, and are ready, before the first sums go around.
        ext::cluster_wait();
    }
    while row < p.n_rows {
        if STAGES == 2 {
            ask(row + step, stage ^ 1);
        }
        stage::wait::<STAGES>();
        let x = slot(stage);
        if !p.residual.is_null() {
            // SAFETY: as for the forward kernel's arguments.
            unsafe { add_residual(own, row, x, vectors) };
        }

        let mut totals = [0.0; AT_A_TIME];
        vectors.for_each(|several| {
            let x = vectors.read::<T>(x, several);
            for i in 0..AT_A_TIME {
                totals[i] += sum(x[i]);
            }
        });
        // SAFETY: the loop's condition is the same in the whole block.
        let [total] = unsafe { sum_over_row::<BLOCK, 1>([sum(totals)], 0) };
        let mean = match CLUSTER {
            1 => total * p.inv_n,
            _ => total * shares.inv_columns_of(rank),
        };

        let (mut shifts, mut squares) = ([0.0; AT_A_TIME], [0.0; AT_A_TIME]);
        vectors.for_each(|several| {
            let x = vectors.read::<T>(x, several);
            for i in 0..AT_A_TIME {
                // What is not there is zero, and must not count as -mean.
                let mean = if several[i] < vectors.count {
                    mean
                } else {
                    0.0
                };
                let d = x[i].map(|x| x - mean);
                shifts[i] += sum(d);
                for j in 0..E {
                    squares[i] = ext::fma(d[j], d[j], squares[i]);
                }
            }
        });
        // SAFETY: as above.
        let [shift, squares] = unsafe { sum_over_row::<BLOCK, 2>([sum(shifts), sum(squares)], 1) };
        // The row's mean, the same from the one that was taken off, and the variance's square root's inverse.
        let (row_mean, shift, rstd) = match exchange {
            None => {
                let shift = shift * p.inv_n;
                (mean + shift, shift, rstd(squares * p.inv_n, shift, p.eps))
            }
            Some(current) => {
                // SAFETY: as above; the whole cluster has this row.
                let merged = unsafe {
                    current.send([mean, shift, squares, 0.0]);
                    shares.merge(current.receive(), p.inv_n)
                };
                exchange = Some(current.next());
                let rstd = rstd(merged.mean_square, 0.0, p.eps);
                (
                    merged.first_mean + merged.offset,
                    (merged.first_mean - mean) + merged.offset,
                    rstd,
                )
            }
        };
        if thread == 0 && rank == 0 {
            // SAFETY: the row exists, and only this thread writes its statistics.
            unsafe {
                let at = row as usize;
                store_f32(p.mean.wrapping_add(at), row_mean, !p.mean.is_null());
                store_f32(p.rstd.wrapping_add(at), rstd, !p.rstd.is_null());
            }
        }

        let y = own.y.wrapping_add((row * p.y_stride) as usize);
        let offset = -shift * rstd;
        vectors.for_each(|several| {
            let is_there = several.map(|v| v < vectors.count);
            let mut parameters = [[W::ONES, W::ZEROS]; AT_A_TIME];
            for i in 0..AT_A_TIME {
                let at = several[i] as usize * E;
                let [weight, bias] = [own.weight, own.bias].map(|array| array.wrapping_add(at));
                let [with_weight, with_bias] =
                    [own.weight, own.bias].map(|array| is_there[i] && !array.is_null());
                // SAFETY: the column exists if valid.
                parameters[i] = unsafe {
                    [
                        W::load_shared(weight, with_weight, W::ONES),
                        W::load_shared(bias, with_bias, W::ZEROS),
                    ]
                };
            }
            let mut d = vectors.read::<T>(x, several);
            // At once, as their place becomes free: the other blocks of a cluster wait for this one's next sums.
            if CLUSTER > 1 && row + step < p.n_rows {
                ask_several(row + step, 0, several);
            }
            for i in 0..AT_A_TIME {
                let [weight, bias] = parameters[i].map(W::unpack);
                for j in 0..E {
                    let xhat = ext::fma(d[i][j] - mean, rstd, offset);
                    d[i][j] = ext::fma(xhat, weight[j], bias[j]);
                }
                let at = y.wrapping_add(several[i] as usize * E);
                // SAFETY: the column exists, and only this thread writes it.
                unsafe { T::store(at, T::pack(d[i]), is_there[i]) };
            }
        });
        if STAGES == 2 {
            stage ^= 1;
        } else if CLUSTER > 1 {
            stage::commit();
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
unsafe fn add_residual<T, W, const E: usize, const BLOCK: u32, const AT_A_TIME: usize>(
    p: Forward<T, W>,
    row: u64,
    x: Shared<u32>,
    vectors: Vectors<E, BLOCK, AT_A_TIME>,
) where
    T: Packed<E, Raw = [u32; 4]>,
{
    let residual = p.residual.wrapping_add((row * p.x_stride) as usize);
    let sum = p.sum.wrapping_add((row * p.y_stride) as usize);
    vectors.for_each(|several| {
        for v in several {
            let (at, is_there) = (v as usize * E, v < vectors.count);
            if !is_there {
                continue;
            }
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
        }
    });
}
