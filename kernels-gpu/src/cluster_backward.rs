//! The backward pass over clusters, as `cluster` says.
//!
//! A row's dx needs sums of the whole cluster. While they go around, a block adds up the next row; so it takes each
//! row twice from its ring:
//!
//! ```text
//! row r:        add up and send                                   receive, write dx
//! row r + 1:                     wait for x and dy, add up and send                  receive, write dx
//! ```

use cuda_std::{ext, thread};

use crate::backward::{Backward, Columns, add_up, gradient};
use crate::cluster::{Exchange, from_column, share};
use crate::partials::{row_of_partials, write_partials};
use crate::place::Place;
use crate::reduce::sum_over_row;
use crate::stage::{self, Ring};
use crate::vector::Packed;

/// Gradients of rows of up to `CLUSTER * LANES * VECS * E` columns, in blocks of `LANES` threads.
///
/// # Safety
/// The arguments are as `abi::BackwardArgs` says; every row starts at a multiple of 16 bytes and `n_cols` is a
/// multiple of `E`, at most what fits; the launch's block is `LANES`, its clusters are of `CLUSTER` blocks along
/// x, it adds twice `Ring::WORDS` words of dynamic shared memory, and the partials have a row a cluster.
#[inline(always)]
pub unsafe fn backward_cluster<
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
    const { assert!(STAGES >= 3, "a row for dx, one to add up, one on its way") };
    ext::cluster_dimensions::<CLUSTER>();
    let (first_column, own) = own_share::<T, W, E, CLUSTER>(p);
    let count = own.n_cols;
    let place = Place::<E, LANES>::in_cluster::<CLUSTER>();
    let mut exchange = Exchange::<CLUSTER>::prepare();
    // All have started, and are ready, before the first sums go around.
    ext::cluster_arrive();
    ext::cluster_wait();
    let thread = thread::thread_idx_x();
    let x_ring = Ring::<STAGES, VECS, LANES>::new(0, thread);
    let dy_ring = Ring::<STAGES, VECS, LANES>::new(Ring::<STAGES, VECS, LANES>::WORDS, thread);
    let ask = |row: u64, stage: u32| {
        let x = own.x.wrapping_add((row * p.x_stride) as usize);
        let dy = own.dy.wrapping_add((row * p.dy_stride) as usize);
        for k in 0..VECS {
            let at = place.column(k) as usize;
            let valid = row < p.n_rows && place.column(k) < count;
            // SAFETY: the row and the column exist, at the caller's strides; the slot's last row is done.
            unsafe {
                x_ring.ask(stage, k, x.wrapping_add(at).cast(), valid && p.needs_x());
                dy_ring.ask(stage, k, dy.wrapping_add(at).cast(), valid);
            }
        }
        stage::commit();
    };
    // SAFETY: waited for where it is called, and not asked for again before.
    let vectors = |stage: u32, k: usize| unsafe { [x_ring.read(stage, k), dy_ring.read(stage, k)] };
    let counts = |k: usize| place.column(k) < count;
    // SAFETY: the caller's; the share fits the tile.
    let mut columns = unsafe { Columns::new(own, place) };

    // dx of a row whose sums have been sent; adds nothing to the columns' sums.
    let finish = |row: u64,
                  stage: u32,
                  statistics: [f32; 2],
                  sent: Exchange<CLUSTER>,
                  weight: &[W::Raw; VECS]| {
        // SAFETY: sent one exchange ago.
        let over_row = unsafe { sums_of_row(sent) }.map(|sum| sum * p.inv_n);
        let dx = own.dx.wrapping_add((row * p.dx_stride) as usize);
        let dsum = own.dsum.wrapping_add((row * p.dx_stride) as usize);
        for k in 0..VECS {
            let (at, valid) = (place.column(k) as usize, place.column(k) < count);
            // SAFETY: the row exists, and the column if valid; dx's belongs to this lane alone.
            unsafe {
                let incoming = T::load(dsum.wrapping_add(at), valid && !p.dsum.is_null(), T::ZEROS);
                let incoming = T::unpack(incoming);
                let value = gradient::<T, W, E>(
                    vectors(stage, k),
                    statistics,
                    weight[k],
                    over_row,
                    incoming,
                );
                T::store(dx.wrapping_add(at), T::pack(value), valid);
            }
        }
    };

    let last = STAGES as u32 - 1;
    for stage in 0..last {
        ask(place.first + stage as u64 * place.step, stage);
    }
    let (mut row, mut stage) = (place.first, 0);
    // SAFETY: masked out where there is no such row.
    let mut statistics = unsafe { p.statistics(row) };
    // Of the row before, whose dx is not written yet.
    let (mut sent, mut statistics_before) = (exchange, statistics);
    while row < p.n_rows {
        stage::wait_of_fewer::<STAGES>();
        let sums = add_up::<T, W, E, VECS>(|k| vectors(stage, k), statistics, &mut columns, counts);
        let before = if stage == 0 { last } else { stage - 1 };
        if !p.dx.is_null() {
            // SAFETY: dx is null for all threads or for none. The barrier in here lies behind the reads of the exchange
            // but one before, and its slots alternate.
            unsafe {
                let [g, g_xhat] = sum_over_row::<LANES, 2>(sums, exchange.slot() % 2);
                exchange.send([g, g_xhat, 0.0, 0.0]);
            }
            if row != place.first {
                finish(
                    row - place.step,
                    before,
                    statistics_before,
                    sent,
                    &columns.weight,
                );
            }
            (sent, statistics_before) = (exchange, statistics);
            exchange = exchange.next();
        }
        // Into the slot that the row before has left.
        ask(row + last as u64 * place.step, before);
        row += place.step;
        // SAFETY: masked out where there is no such row.
        statistics = unsafe { p.statistics(row) };
        stage = if stage == last { 0 } else { stage + 1 };
    }
    if !p.dx.is_null() && row != place.first {
        let before = if stage == 0 { last } else { stage - 1 };
        finish(
            row - place.step,
            before,
            statistics_before,
            sent,
            &columns.weight,
        );
    }
    let partials =
        |partials| partials_of_share(partials, place.first as u32, p.n_cols, first_column);
    // SAFETY: all threads are here; this block's columns of the cluster's row of partials are its own.
    unsafe {
        write_partials::<E, LANES, VECS>(columns.dweight, partials(p.partial_dweight), count);
        write_partials::<E, LANES, VECS>(columns.dbias, partials(p.partial_dbias), count);
    }
}

/// The first of this block's columns of a row, and the arguments from there on, for its columns alone.
#[inline(always)]
pub fn own_share<T, W, const E: usize, const CLUSTER: u32>(
    p: Backward<T, W>,
) -> (u32, Backward<T, W>) {
    let (first_column, count) = share::<E, CLUSTER>(ext::cluster_rank(), p.n_cols);
    let own = Backward {
        dy: p.dy.wrapping_add(first_column as usize),
        x: p.x.wrapping_add(first_column as usize),
        weight: from_column(p.weight.cast_mut(), first_column),
        dsum: from_column(p.dsum.cast_mut(), first_column),
        dx: from_column(p.dx, first_column),
        n_cols: count,
        ..p
    };
    (first_column, own)
}

/// A row's two sums, of all blocks, in their order.
///
/// # Safety
/// As for `Exchange::receive`.
#[inline(always)]
pub unsafe fn sums_of_row<const CLUSTER: u32>(sent: Exchange<CLUSTER>) -> [f32; 2] {
    // SAFETY: the caller's.
    let all = unsafe { sent.receive() };
    let mut sums = [0.0; 2];
    for rank in 0..CLUSTER {
        // SAFETY: received.
        let [g, g_xhat, ..] = unsafe { all.load4(rank * 4) };
        sums = [sums[0] + g, sums[1] + g_xhat];
    }
    sums
}

/// This block's columns of the cluster's row of partials; null if there are none.
#[inline(always)]
pub fn partials_of_share(
    partials: *mut f32,
    cluster: u32,
    n_cols: u32,
    first_column: u32,
) -> *mut f32 {
    from_column(row_of_partials(partials, cluster, n_cols), first_column)
}
