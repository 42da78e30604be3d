//! The backward pass over clusters of rows for which neither the columns' sums nor three rows at a time have room, as
//! `cluster_backward` has them.
//!
//! The sums of dweight are in shared memory (`kept`), beside fewer rows: each thread asks for a vector of a later row as soon
//! as it has the place free. Nothing is computed while a row's sums go around; with two rows there the next is on its
//! way meanwhile.

use cuda_std::{ext, thread};

use crate::backward::{Backward, gradient};
use crate::cluster::Exchange;
use crate::cluster_backward::{own_share, partials_of_share, sums_of_row};
use crate::kept::Kept;
use crate::partials::write_partials;
use crate::place::{Place, forgotten};
use crate::reduce::{sum, sum_over_row};
use crate::stage::{self, Ring};
use crate::vector::Packed;

/// Gradients of rows of up to `CLUSTER * LANES * VECS * E` columns, in blocks of `LANES` threads.
///
/// # Safety
/// As for `backward_cluster`; the launch adds an f32 for each column of a block to the dynamic shared memory.
#[inline(always)]
pub unsafe fn backward_wide<
    T,
    W,
    const E: usize,
    const LANES: u32,
    const VECS: usize,
    const STAGES: usize,
    const CLUSTER: u32,
>(
    p: Backward<T, W>,
) where
    T: Packed<E, Raw = [u32; 4]>,
    W: Packed<E>,
    f32: Packed<E>,
{
    const {
        assert!(
            STAGES < 3,
            "with as many, the host leaves no room for the sums"
        )
    };
    ext::cluster_dimensions::<CLUSTER>();
    let (first_column, own) = own_share::<T, W, E, CLUSTER>(p);
    let place = Place::<E, LANES>::in_cluster::<CLUSTER>();
    let mut exchange = Exchange::<CLUSTER>::prepare();
    // All have started, and are ready, before the first sums go around.
    ext::cluster_arrive();
    ext::cluster_wait();
    let words = Ring::<STAGES, VECS, LANES>::WORDS;
    let thread = thread::thread_idx_x();
    let x_ring = Ring::<STAGES, VECS, LANES>::new(0, thread);
    let dy_ring = Ring::<STAGES, VECS, LANES>::new(words, thread);
    let dweight = Kept::<LANES>::behind(2 * words / 4, thread);
    let ask = |place: Place<E, LANES>, row: u64, stage: u32, k: usize| {
        let x = own.x.wrapping_add((row * p.x_stride) as usize);
        let dy = own.dy.wrapping_add((row * p.dy_stride) as usize);
        let at = place.column(k) as usize;
        let valid = row < p.n_rows && place.column(k) < own.n_cols;
        // SAFETY: the row and the column exist, at the caller's strides; the slot's last vector is done.
        unsafe {
            x_ring.ask(stage, k, x.wrapping_add(at).cast(), valid && p.needs_x());
            dy_ring.ask(stage, k, dy.wrapping_add(at).cast(), valid);
        }
    };
    // Read where they are needed, twice a row: they stay in the nearest cache.
    let weight = |place: Place<E, LANES>, k: usize| {
        let at = own.weight.wrapping_add(place.column(k) as usize);
        let valid = place.column(k) < own.n_cols && !own.weight.is_null();
        // SAFETY: the column exists, and so does the weight.
        unsafe { W::load_shared(at, valid, W::ONES) }
    };
    let mut dbias = [[0.0; E]; VECS];
    for k in 0..VECS {
        // SAFETY: the launch has room for it.
        unsafe { dweight.put(k, [0.0; E]) };
    }
    for stage in 0..STAGES as u32 {
        for k in 0..VECS {
            ask(place, place.first + stage as u64 * place.step, stage, k);
        }
        stage::commit();
    }
    let (mut row, mut stage) = (place.first, 0);
    // SAFETY: masked out where there is no such row.
    let mut next_statistics = unsafe { p.statistics(row) };
    while row < p.n_rows {
        let statistics = next_statistics;
        let [mean, rstd] = statistics;
        // SAFETY: as above.
        next_statistics = unsafe { p.statistics(row + place.step) };
        stage::wait::<STAGES>();
        // SAFETY: waited for, and asked for again only behind the last read.
        let vectors = |k: usize| unsafe { [x_ring.read(stage, k), dy_ring.read(stage, k)] };
        // What follows from this is computed anew, here and below: the compiler would keep all of it from row to row, in
        // registers that are not there.
        let place = place.forgotten();
        let (mut g_sum, mut g_xhat_sum) = (0.0, 0.0);
        for k in 0..VECS {
            let before = g_xhat_sum;
            let [x, mut g] = vectors(k).map(T::unpack);
            let weight = W::unpack(weight(place, k));
            // SAFETY: put there before the first row.
            let mut of_weight = unsafe { dweight.get::<E>(k) };
            for i in 0..E {
                let xhat = (x[i] - mean) * rstd;
                of_weight[i] = ext::fma(g[i], xhat, of_weight[i]);
                dbias[k][i] += g[i];
                g[i] *= weight[i];
                g_xhat_sum = ext::fma(g[i], xhat, g_xhat_sum);
            }
            g_sum += sum(g);
            // SAFETY: as above.
            unsafe { dweight.put(k, of_weight) };
            // dy is zero where there is no column, but xhat, and so zero times it, may be anything.
            if place.column(k) >= own.n_cols {
                g_xhat_sum = before;
            }
            // Forces the sums now. They are needed for dx alone, behind a branch, to which the compiler would move them, and
            // keep all vectors until there.
            [g_sum, g_xhat_sum] =
                [g_sum, g_xhat_sum].map(|sum| f32::from_bits(forgotten(sum.to_bits())));
        }
        let mut over_row = [0.0; 2];
        if !p.dx.is_null() {
            // SAFETY: dx is null for all threads or for none. The barrier in here lies behind the reads of the exchange
            // but one before, and its slots alternate.
            unsafe {
                let [g, g_xhat] =
                    sum_over_row::<LANES, 2>([g_sum, g_xhat_sum], exchange.slot() % 2);
                exchange.send([g, g_xhat, 0.0, 0.0]);
                over_row = sums_of_row(exchange).map(|sum| sum * p.inv_n);
            }
            exchange = exchange.next();
        }
        let dx = own.dx.wrapping_add((row * p.dx_stride) as usize);
        let dsum = own.dsum.wrapping_add((row * p.dx_stride) as usize);
        for k in 0..VECS {
            let place = place.forgotten();
            let (at, valid) = (place.column(k) as usize, place.column(k) < own.n_cols);
            if !p.dx.is_null() {
                // SAFETY: the row exists, and the column if valid; dx's belongs to this lane alone.
                unsafe {
                    let incoming =
                        T::load(dsum.wrapping_add(at), valid && !p.dsum.is_null(), T::ZEROS);
                    let incoming = T::unpack(incoming);
                    let weight = weight(place, k);
                    let value =
                        gradient::<T, W, E>(vectors(k), statistics, weight, over_row, incoming);
                    T::store(dx.wrapping_add(at), T::pack(value), valid);
                }
            }
            ask(place, row + STAGES as u64 * place.step, stage, k);
        }
        stage::commit();
        row += place.step;
        stage = if stage + 1 == STAGES as u32 {
            0
        } else {
            stage + 1
        };
    }
    let mut of_weight = [[0.0; E]; VECS];
    for k in 0..VECS {
        // SAFETY: as above.
        of_weight[k] = unsafe { dweight.get(k) };
    }
    let partials =
        |partials| partials_of_share(partials, place.first as u32, p.n_cols, first_column);
    // SAFETY: all threads are here; this block's columns of the cluster's row of partials are its own.
    unsafe {
        write_partials::<E, LANES, VECS>(of_weight, partials(p.partial_dweight), own.n_cols);
        write_partials::<E, LANES, VECS>(dbias, partials(p.partial_dbias), own.n_cols);
    }
}
