//! The forward pass over clusters, as `cluster` says.

use cuda_std::ext::{self, Shared};
use cuda_std::thread;

use crate::cluster::{Exchange, share};
use crate::forward::{Forward, add_residual, rstd};
use crate::place::Place;
use crate::reduce::{sum, sum_over_row};
use crate::stage::{self, Ring};
use crate::vector::{Packed, store_f32};

/// How many columns the blocks of a cluster have, and one over that: all but the last have as many.
#[derive(Clone, Copy)]
pub struct Shares<const CLUSTER: u32> {
    most: f32,
    rest: f32,
    inv_most: f32,
    inv_rest: f32,
}

/// A row's statistics, of its blocks'.
pub struct Merged {
    /// Block 0's mean.
    pub first_mean: f32,
    /// The row's mean, from block 0's.
    pub offset: f32,
    /// The mean square of the deviations.
    pub mean_square: f32,
}

impl<const CLUSTER: u32> Shares<CLUSTER> {
    #[inline(always)]
    pub fn new<const E: usize>(n_cols: u32) -> Self {
        let (_, most) = share::<E, CLUSTER>(0, n_cols);
        let (_, rest) = share::<E, CLUSTER>(CLUSTER - 1, n_cols);
        let [most, rest] = [most as f32, rest as f32];
        // Approximate is enough: they make a mean to start from, and scale what rounding left over.
        let [inv_most, inv_rest] = [ext::div_approx(1.0, most), ext::div_approx(1.0, rest)];
        Self {
            most,
            rest,
            inv_most,
            inv_rest,
        }
    }

    #[inline(always)]
    fn columns_of(self, b: u32) -> f32 {
        if b == CLUSTER - 1 {
            self.rest
        } else {
            self.most
        }
    }

    #[inline(always)]
    pub fn inv_columns_of(self, b: u32) -> f32 {
        if b == CLUSTER - 1 {
            self.inv_rest
        } else {
            self.inv_most
        }
    }

    /// Merges what the blocks have sent: mean, sum of the deviations from it, sum of their squares.
    ///
    /// # Safety
    /// `all` has been received.
    #[inline(always)]
    pub unsafe fn merge(self, all: Shared<f32>, inv_n: f32) -> Merged {
        // Read again where they are needed, not kept: every register holds the row.
        // SAFETY: the caller's.
        let of_block = |b: u32| unsafe { all.load4(b * 4) };
        let [first_mean, ..] = of_block(0);
        let delta = |b: u32, [mean, left_over, ..]: [f32; 4]| {
            ext::fma(left_over, self.inv_columns_of(b), mean - first_mean)
        };
        let mut offset = 0.0;
        for b in 0..CLUSTER {
            offset = ext::fma(self.columns_of(b), delta(b, of_block(b)), offset);
        }
        let offset = offset * inv_n;
        let mut squares = 0.0;
        for b in 0..CLUSTER {
            let sums = of_block(b);
            let apart = delta(b, sums) - offset;
            let [_, left_over, about_start, _] = sums;
            let about_its_mean =
                ext::fma(-left_over * self.inv_columns_of(b), left_over, about_start);
            squares += ext::fma(self.columns_of(b) * apart, apart, about_its_mean);
        }
        Merged {
            first_mean,
            offset,
            mean_square: squares * inv_n,
        }
    }
}

/// Normalises rows of up to `CLUSTER * LANES * VECS * E` columns, in blocks of `LANES` threads.
///
/// Each block takes its share's mean and the sum of squares about it, and one exchange merges them: with d the
/// deviations from the block's mean m, of n columns,
///
/// ```text
/// delta_b  = (m_b - m_0) + sum(d) / n_b              the share's true mean, from block 0's
/// offset   = sum over b of n_b * delta_b / N          the row's mean, from block 0's
/// variance = sum over b of (sum(d * d) - sum(d)^2 / n_b + n_b * (delta_b - offset)^2) / N
/// ```
///
/// Clusters stay for further rows, the next ones on their way.
///
/// # Safety
/// As for `cluster_backward::backward_cluster`, with `abi::ForwardArgs`; every block has a column; and `Ring::WORDS`
/// words of dynamic shared memory.
#[inline(always)]
pub unsafe fn forward_cluster<
    T,
    W,
    const E: usize,
    const LANES: u32,
    const VECS: usize,
    const STAGES: usize,
    const CLUSTER: u32,
>(
    p: Forward<T, W>,
) where
    T: Packed<E, Raw = [u32; 4]>,
    W: Packed<E>,
{
    ext::cluster_dimensions::<CLUSTER>();
    let rank = ext::cluster_rank();
    let (first_column, count) = share::<E, CLUSTER>(rank, p.n_cols);
    let own = Forward {
        n_cols: count,
        ..p.starting_at(first_column)
    };
    let place = Place::<E, LANES>::in_cluster::<CLUSTER>();
    let ring = Ring::<STAGES, VECS, LANES>::new(0, thread::thread_idx_x());
    let ask = |row: u64, stage: u32| {
        let x = own.x.wrapping_add((row * p.x_stride) as usize);
        for k in 0..VECS {
            let column = place.column(k);
            let valid = row < p.n_rows && column < count;
            // SAFETY: the row and the column exist, at the caller's strides; the slot's last row is done.
            unsafe { ring.ask(stage, k, x.wrapping_add(column as usize).cast(), valid) };
        }
        stage::commit();
    };
    let mut exchange = Exchange::<CLUSTER>::prepare();
    ext::cluster_arrive();
    let last = STAGES as u32 - 1;
    for stage in 0..last {
        ask(place.first + stage as u64 * place.step, stage);
    }
    let shares = Shares::<CLUSTER>::new::<E>(p.n_cols);
    // All have started, and are ready, before the first sums go around.
    ext::cluster_wait();
    let (mut row, mut stage) = (place.first, 0);
    while row < p.n_rows {
        // The slot before this row's is the one that the row before has left.
        ask(
            row + last as u64 * place.step,
            if stage == 0 { last } else { stage - 1 },
        );
        stage::wait::<STAGES>();
        let mut raw = [T::ZEROS; VECS];
        for k in 0..VECS {
            // SAFETY: waited for.
            raw[k] = unsafe { ring.read(stage, k) };
        }
        stage = if stage == last { 0 } else { stage + 1 };
        if !p.residual.is_null() {
            // SAFETY: the caller's; these columns of the row belong to this lane alone.
            raw = unsafe { add_residual(own, place, row, raw) };
        }
        let mut d = raw.map(T::unpack);
        let mut total = 0.0;
        for k in 0..VECS {
            total += sum(d[k]);
        }
        // SAFETY: the whole block is here, as in all that follows.
        let [total] = unsafe { sum_over_row::<LANES, 1>([total], 0) };
        let own_mean = total * shares.inv_columns_of(rank);
        let (mut left_over, mut squares) = (0.0, 0.0);
        for k in 0..VECS {
            // Lanes without a column hold zeros, and must not count as -mean.
            let mean = if place.column(k) < count {
                own_mean
            } else {
                0.0
            };
            d[k] = d[k].map(|x| x - mean);
            left_over += sum(d[k]);
            for i in 0..E {
                squares = ext::fma(d[k][i], d[k][i], squares);
            }
        }
        // SAFETY: as above; the whole cluster has this row.
        let all = unsafe {
            let [left_over, squares] = sum_over_row::<LANES, 2>([left_over, squares], 1);
            exchange.send([own_mean, left_over, squares, 0.0]);
            exchange.receive()
        };
        exchange = exchange.next();
        // SAFETY: received.
        let Merged {
            first_mean,
            offset,
            mean_square,
        } = unsafe { shares.merge(all, p.inv_n) };
        let rstd = rstd(mean_square, 0.0, p.eps);
        if rank == 0 && place.lane == 0 {
            // SAFETY: the row exists, and only this thread of the cluster writes its statistics.
            unsafe {
                let at = row as usize;
                store_f32(
                    p.mean.wrapping_add(at),
                    first_mean + offset,
                    !p.mean.is_null(),
                );
                store_f32(p.rstd.wrapping_add(at), rstd, !p.rstd.is_null());
            }
        }
        let y = own.y.wrapping_add((row * p.y_stride) as usize);
        // From this block's mean to the row's.
        let offset = -((first_mean - own_mean) + offset) * rstd;
        for k in 0..VECS {
            let at = place.column(k) as usize;
            let valid = place.column(k) < count;
            // SAFETY: the column exists if valid, and so do weight and bias.
            let [weight, bias] = unsafe {
                [
                    W::load_shared(
                        own.weight.wrapping_add(at),
                        valid && !own.weight.is_null(),
                        W::ONES,
                    ),
                    W::load_shared(
                        own.bias.wrapping_add(at),
                        valid && !own.bias.is_null(),
                        W::ZEROS,
                    ),
                ]
            }
            .map(W::unpack);
            for i in 0..E {
                d[k][i] = ext::fma(ext::fma(d[k][i], rstd, offset), weight[i], bias[i]);
            }
            // SAFETY: the row and the column exist, and belong to this lane alone.
            unsafe { T::store(y.wrapping_add(at), T::pack(d[k]), valid) };
        }
        row += place.step;
    }
}
