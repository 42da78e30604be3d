//! The backward pass on the host. x and dy of a few rows are read twice, the second time from the cache: for
//! the two means that dx needs, then for dx and the rows' share of dweight and dbias.
//!
//! A chunk of rows has partial sums of its own; they are added in the chunks' order.

use rayon::prelude::*;

use super::forward::BLOCK;
use super::lanes::{LANES, Lane, Vector};
use super::{Value, parameter, row};
use crate::host;
use crate::pass::BackwardPass;
use crate::{DType, Result, Tensor};

/// Rows that share one trip of dweight and dbias through the registers.
const GROUP: usize = 4;

/// Chunks that a large problem is cut into: enough for many threads, few enough that their partial sums are
/// small beside x.
const CHUNKS: usize = 128;

/// Columns that a thread adds up over all chunks.
const REDUCE_COLS: usize = 1024;

/// What all chunks read.
struct Inputs<'a, T> {
    /// Absent where dx holds dy.
    dy: Option<&'a [T]>,
    x: &'a [T],
    weight: &'a [f32],
    mean: &'a [f32],
    rstd: &'a [f32],
    dsum: Option<&'a [T]>,
    n_cols: usize,
    dy_stride: usize,
    x_stride: usize,
    dx_stride: usize,
}

/// What a chunk's rows are written to.
struct Chunk<'a, T> {
    first_row: usize,
    n_rows: usize,
    dx: Option<&'a mut [T]>,
    dweight: &'a mut [f32],
    dbias: &'a mut [f32],
}

pub fn run<T: Value>(pass: &mut BackwardPass<'_>) -> Result<()> {
    let problem = pass.problem;
    let (n_rows, n_cols, strides) = (problem.n_rows(), problem.n_cols(), problem.strides());
    let inputs = Inputs {
        dy: pass.dy.map(|dy| dy.host_slice::<T>()),
        x: pass.x.host_slice(),
        weight: &parameter(pass.weight, n_cols, 1.0)?,
        mean: pass.mean.host_slice(),
        rstd: pass.rstd.host_slice(),
        dsum: pass.dsum.map(|dsum| dsum.host_slice()),
        n_cols,
        dy_stride: strides.dy,
        x_stride: strides.x,
        dx_stride: strides.dx,
    };
    let rows = n_rows.div_ceil(CHUNKS).next_multiple_of(GROUP).max(GROUP);
    let n_chunks = n_rows.div_ceil(rows);
    let mut partials: Vec<f32> = host::zeros(n_chunks * 2 * n_cols)?;
    let mut dxs = match &mut pass.dx {
        Some(dx) => Some(
            dx.host_slice_mut::<T>()?
                .chunks_mut(rows * strides.dx.max(1)),
        ),
        None => None,
    };
    let chunks: Vec<Chunk<'_, T>> = partials
        .chunks_mut(2 * n_cols)
        .enumerate()
        .map(|(i, partials)| {
            let (dweight, dbias) = partials.split_at_mut(n_cols);
            Chunk {
                first_row: i * rows,
                n_rows: rows.min(n_rows - i * rows),
                dx: dxs.as_mut().and_then(Iterator::next),
                dweight,
                dbias,
            }
        })
        .collect();
    let arch = pulp::Arch::new();
    let work = |chunk: Chunk<'_, T>| {
        arch.dispatch(Rows {
            inputs: &inputs,
            chunk,
        })
    };
    if n_rows * n_cols <= 32 << 10 {
        chunks.into_iter().for_each(work);
    } else {
        chunks.into_par_iter().for_each(work);
    }
    for (gradient, offset) in [(&mut pass.dweight, 0), (&mut pass.dbias, n_cols)] {
        if let Some(gradient) = gradient {
            write(gradient, &partials, offset, n_cols, pass.accumulate)?;
        }
    }
    Ok(())
}

/// Adds the chunks' partial sums and writes them in the gradient's dtype.
fn write(
    gradient: &mut Tensor,
    partials: &[f32],
    offset: usize,
    n_cols: usize,
    accumulate: bool,
) -> Result<()> {
    match gradient.dtype() {
        DType::F32 => reduce::<f32>(gradient, partials, offset, n_cols, accumulate),
        DType::F16 => reduce::<half::f16>(gradient, partials, offset, n_cols, accumulate),
        DType::BF16 => reduce::<half::bf16>(gradient, partials, offset, n_cols, accumulate),
    }
}

fn reduce<T: Value>(
    gradient: &mut Tensor,
    partials: &[f32],
    offset: usize,
    n_cols: usize,
    accumulate: bool,
) -> Result<()> {
    let columns = gradient.host_slice_mut::<T>()?.par_chunks_mut(REDUCE_COLS);
    columns.enumerate().for_each(|(block, columns)| {
        let mut sums = [0.0f32; REDUCE_COLS];
        let sums = &mut sums[..columns.len()];
        for chunk in partials.chunks(2 * n_cols) {
            let partial = &chunk[offset + block * REDUCE_COLS..][..columns.len()];
            for (sum, partial) in sums.iter_mut().zip(partial) {
                *sum += partial;
            }
        }
        for (column, sum) in columns.iter_mut().zip(sums) {
            let before = if accumulate { column.widen() } else { 0.0 };
            *column = T::narrow(before + *sum);
        }
    });
    Ok(())
}

/// A chunk's work, compiled once for each kind of processor.
struct Rows<'a, 'b, T> {
    inputs: &'a Inputs<'a, T>,
    chunk: Chunk<'b, T>,
}

impl<T: Value> pulp::WithSimd for Rows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Rows { inputs, mut chunk } = self;
        let n_cols = inputs.n_cols;
        // dy of a group, where dx is written over it.
        let mut copy = match inputs.dy {
            Some(_) => Vec::new(),
            None => vec![T::ZERO; GROUP * n_cols],
        };
        for first in (0..chunk.n_rows).step_by(GROUP) {
            let rows = GROUP.min(chunk.n_rows - first);
            if let (None, Some(dx)) = (inputs.dy, &chunk.dx) {
                for i in 0..rows {
                    let dy = row(dx, first + i, inputs.dx_stride, n_cols);
                    copy[i * n_cols..][..n_cols].copy_from_slice(dy);
                }
            }
            let from = chunk.first_row + first;
            let dy = |i: usize| match inputs.dy {
                Some(dy) => row(dy, from + i, inputs.dy_stride, n_cols),
                None => row(&copy, i, n_cols, n_cols),
            };
            // A group that is not full takes its rows one by one.
            if rows == GROUP {
                group::<T, GROUP>(inputs, &mut chunk, first, std::array::from_fn(dy));
            } else {
                for i in 0..rows {
                    group::<T, 1>(inputs, &mut chunk, first + i, [dy(i)]);
                }
            }
        }
    }
}

/// One row's operands and numbers.
struct Row<'a, T> {
    dy: &'a [T],
    x: &'a [T],
    dsum: Option<&'a [T]>,
    mean: Vector,
    rstd: Vector,
    mean_dxhat: Vector,
    mean_dxhat_xhat: Vector,
}

/// `N` rows of a chunk, from its row `first` on.
#[inline(always)]
fn group<T: Lane, const N: usize>(
    inputs: &Inputs<'_, T>,
    chunk: &mut Chunk<'_, T>,
    first: usize,
    dy: [&[T]; N],
) {
    let n_cols = inputs.n_cols;
    let rows: [Row<'_, T>; N] = std::array::from_fn(|i| {
        let r = chunk.first_row + first + i;
        let x = row(inputs.x, r, inputs.x_stride, n_cols);
        let dsum = inputs
            .dsum
            .map(|dsum| row(dsum, r, inputs.dx_stride, n_cols));
        let (mean, rstd) = (inputs.mean[r], inputs.rstd[r]);
        let [mean_dxhat, mean_dxhat_xhat] = match chunk.dx {
            Some(_) => means(dy[i], x, inputs.weight, mean, rstd),
            None => [0.0; 2],
        };
        Row {
            dy: dy[i],
            x,
            dsum,
            mean: Vector::splat(mean),
            rstd: Vector::splat(rstd),
            mean_dxhat: Vector::splat(mean_dxhat),
            mean_dxhat_xhat: Vector::splat(mean_dxhat_xhat),
        }
    });
    let mut dx: [Option<&mut [T]>; N] = [const { None }; N];
    if let Some(all) = &mut chunk.dx {
        let from = first * inputs.dx_stride;
        let places = all[from..].chunks_mut(inputs.dx_stride.max(1));
        for (dx, place) in dx.iter_mut().zip(places) {
            *dx = Some(&mut place[..n_cols]);
        }
    }
    let (weight, dweight, dbias) = (inputs.weight, &mut *chunk.dweight, &mut *chunk.dbias);
    let full = n_cols / LANES * LANES;
    for at in (0..full).step_by(LANES) {
        columns::<T, N, true>(&rows, &mut dx, weight, dweight, dbias, at);
    }
    if full < n_cols {
        columns::<T, N, false>(&rows, &mut dx, weight, dweight, dbias, full);
    }
}

/// mean(dxhat) and mean(dxhat * xhat) of a row.
#[inline(always)]
fn means<T: Lane>(dy: &[T], x: &[T], weight: &[f32], mean: f32, rstd: f32) -> [f32; 2] {
    let n = x.len() as f32;
    let (mut first, mut product) = (Vector::ZERO, Vector::ZERO);
    let blocks = dy.chunks(BLOCK).zip(x.chunks(BLOCK));
    for ((dy, x), weight) in blocks.zip(weight.chunks(BLOCK)) {
        let [firsts, products] = means_of(dy, x, weight, mean, rstd);
        first += firsts;
        product += products;
    }
    [first.sum() / n, product.sum() / n]
}

/// Lane sums of a block's dxhat and dxhat * xhat.
#[inline(always)]
fn means_of<T: Lane>(dy: &[T], x: &[T], weight: &[f32], mean: f32, rstd: f32) -> [Vector; 2] {
    let (about, scale) = (Vector::splat(mean), Vector::splat(rstd));
    let (mut firsts, mut products) = ([Vector::ZERO; 2], [Vector::ZERO; 2]);
    let mut take = |k: usize, dy: Vector, x: Vector, weight: Vector| {
        let dxhat = dy * weight;
        firsts[k] += dxhat;
        products[k] += dxhat * ((x - about) * scale);
    };
    let (dys, dy_tail) = dy.as_chunks::<LANES>();
    let (xs, x_tail) = x.as_chunks::<LANES>();
    let (weights, weight_tail) = weight.as_chunks::<LANES>();
    for (i, ((dy, x), weight)) in dys.iter().zip(xs).zip(weights).enumerate() {
        take(
            i % 2,
            Vector::load(dy),
            Vector::load(x),
            Vector::load(weight),
        );
    }
    if !x_tail.is_empty() {
        let (mut x, dy) = (Vector::load_part(x_tail), Vector::load_part(dy_tail));
        // The lanes past the row's end count nothing, unless rstd is infinite: then all is NaN anyway.
        x.0[x_tail.len()..].fill(mean);
        take(0, dy, x, Vector::load_part(weight_tail));
    }
    [firsts, products].map(|of| of[0] + of[1])
}

/// dx, dweight and dbias of a vector of columns of all rows; the last vector may not be full.
#[inline(always)]
fn columns<T: Lane, const N: usize, const FULL: bool>(
    rows: &[Row<'_, T>; N],
    dx: &mut [Option<&mut [T]>; N],
    weight: &[f32],
    dweight: &mut [f32],
    dbias: &mut [f32],
    at: usize,
) {
    let weight = load::<f32, FULL>(weight, at);
    let mut dweights = load::<f32, FULL>(dweight, at);
    let mut dbiases = load::<f32, FULL>(dbias, at);
    for (row, dx) in rows.iter().zip(dx) {
        let dy = load::<T, FULL>(row.dy, at);
        let xhat = (load::<T, FULL>(row.x, at) - row.mean) * row.rstd;
        dweights += dy * xhat;
        dbiases += dy;
        if let Some(dx) = dx {
            let own = dy * weight;
            let mut value = (own - row.mean_dxhat - xhat * row.mean_dxhat_xhat) * row.rstd;
            if let Some(dsum) = row.dsum {
                value += load::<T, FULL>(dsum, at);
            }
            store::<T, FULL>(value, dx, at);
        }
    }
    store::<f32, FULL>(dweights, dweight, at);
    store::<f32, FULL>(dbiases, dbias, at);
}

#[inline(always)]
fn load<T: Lane, const FULL: bool>(from: &[T], at: usize) -> Vector {
    match from[at..].first_chunk() {
        Some(from) if FULL => Vector::load(from),
        _ => Vector::load_part(&from[at..]),
    }
}

#[inline(always)]
fn store<T: Lane, const FULL: bool>(value: Vector, to: &mut [T], at: usize) {
    match to[at..].first_chunk_mut() {
        Some(to) if FULL => value.store(to),
        _ => value.store_part(&mut to[at..]),
    }
}
