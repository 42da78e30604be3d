//! The forward pass on the host. A row is read three times, the second and third from the nearest cache: for
//! its mean, for its variance about that mean, for y.

use rayon::prelude::*;

use super::lanes::{LANES, Lane, Vector};
use super::{Value, parameter, row};
use crate::Result;
use crate::pass::ForwardPass;

/// Columns whose sums are kept apart: a lane adds up 16 values, then blocks, so that a long row's rounding
/// errors stay small.
pub const BLOCK: usize = 1024;

/// Elements that make a chunk worth a thread's while.
const CHUNK_ELEMENTS: usize = 32 << 10;

/// What the rows of a chunk are written to.
struct Chunk<'a, T> {
    first_row: usize,
    y: &'a mut [T],
    sum: Option<&'a mut [T]>,
    mean: &'a mut [f32],
    rstd: &'a mut [f32],
}

/// What all chunks read.
struct Inputs<'a, T> {
    x: &'a [T],
    residual: Option<&'a [T]>,
    weight: &'a [f32],
    bias: &'a [f32],
    n_cols: usize,
    x_stride: usize,
    y_stride: usize,
    eps: f32,
}

pub fn run<T: Value>(pass: &mut ForwardPass<'_>) -> Result<()> {
    let problem = pass.problem;
    let (n_rows, n_cols, strides) = (problem.n_rows(), problem.n_cols(), problem.strides());
    if n_rows == 0 {
        return Ok(());
    }
    let inputs = Inputs {
        x: pass.x.host_slice::<T>(),
        residual: pass.residual.map(|residual| residual.host_slice()),
        weight: &parameter(pass.weight, n_cols, 1.0)?,
        bias: &parameter(pass.bias, n_cols, 0.0)?,
        n_cols,
        x_stride: strides.x,
        y_stride: strides.y,
        eps: problem.eps(),
    };
    let rows = (CHUNK_ELEMENTS / n_cols).max(1);
    let elements = rows * strides.y.max(1);
    let mut sums = match &mut pass.sum {
        Some(sum) => Some(sum.host_slice_mut::<T>()?.chunks_mut(elements)),
        None => None,
    };
    let chunks: Vec<Chunk<'_, T>> = pass
        .y
        .host_slice_mut()?
        .chunks_mut(elements)
        .zip(pass.mean.host_slice_mut()?.chunks_mut(rows))
        .zip(pass.rstd.host_slice_mut()?.chunks_mut(rows))
        .enumerate()
        .map(|(i, ((y, mean), rstd))| Chunk {
            first_row: i * rows,
            y,
            sum: sums.as_mut().and_then(Iterator::next),
            mean,
            rstd,
        })
        .collect();
    let arch = pulp::Arch::new();
    let work = |chunk: Chunk<'_, T>| {
        arch.dispatch(Rows {
            inputs: &inputs,
            chunk,
        })
    };
    if chunks.len() == 1 {
        chunks.into_iter().for_each(work);
    } else {
        chunks.into_par_iter().for_each(work);
    }
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
        for i in 0..chunk.mean.len() {
            let r = chunk.first_row + i;
            let mut x = row(inputs.x, r, inputs.x_stride, n_cols);
            let place = i * inputs.y_stride..i * inputs.y_stride + n_cols;
            if let (Some(residual), Some(sum)) = (inputs.residual, &mut chunk.sum) {
                let sum = &mut sum[place.clone()];
                add(x, row(residual, r, inputs.x_stride, n_cols), sum);
                x = sum;
            }
            let (mean, shift, rstd) = statistics(x, inputs.eps);
            normalise(
                x,
                mean,
                shift,
                rstd,
                inputs.weight,
                inputs.bias,
                &mut chunk.y[place],
            );
            chunk.mean[i] = mean + shift;
            chunk.rstd[i] = rstd;
        }
    }
}

/// sum = x + residual, rounded.
#[inline(always)]
fn add<T: Lane>(x: &[T], residual: &[T], sum: &mut [T]) {
    for ((sum, x), residual) in sum.iter_mut().zip(x).zip(residual) {
        *sum = T::narrow(x.widen() + residual.widen());
    }
}

/// A row's mean, what rounding it left over, and 1 / sqrt(var + eps).
#[inline(always)]
fn statistics<T: Lane>(x: &[T], eps: f32) -> (f32, f32, f32) {
    let n = x.len() as f32;
    let mut sum = Vector::ZERO;
    for block in x.chunks(BLOCK) {
        sum += sum_of(block);
    }
    let mean = sum.sum() / n;

    let (mut first, mut square) = (Vector::ZERO, Vector::ZERO);
    for block in x.chunks(BLOCK) {
        let [firsts, squares] = deviations_of(block, mean);
        first += firsts;
        square += squares;
    }
    // The deviations' own sum is what the mean's rounding left over.
    let shift = first.sum() / n;
    let square = square.sum() / n;
    let var = (square - shift * shift).max(0.0);
    // `max` drops a NaN, which must stay one.
    let var = if square.is_nan() { square } else { var };
    (mean, shift, 1.0 / (var + eps).sqrt())
}

/// Lane sums of a block.
#[inline(always)]
fn sum_of<T: Lane>(x: &[T]) -> Vector {
    let (vectors, tail) = x.as_chunks::<LANES>();
    let (quads, rest) = vectors.as_chunks::<4>();
    let mut sums = [Vector::ZERO; 4];
    for quad in quads {
        for (sum, vector) in sums.iter_mut().zip(quad) {
            *sum += Vector::load(vector);
        }
    }
    for (sum, vector) in sums.iter_mut().zip(rest) {
        *sum += Vector::load(vector);
    }
    sums[3] += Vector::load_part(tail);
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// Lane sums of a block's deviations from a mean, and of their squares.
#[inline(always)]
fn deviations_of<T: Lane>(x: &[T], mean: f32) -> [Vector; 2] {
    let (vectors, tail) = x.as_chunks::<LANES>();
    let (quads, rest) = vectors.as_chunks::<4>();
    let about = Vector::splat(mean);
    let (mut firsts, mut squares) = ([Vector::ZERO; 4], [Vector::ZERO; 4]);
    let mut take = |k: usize, deviation: Vector| {
        firsts[k] += deviation;
        squares[k] += deviation * deviation;
    };
    for quad in quads {
        for (k, vector) in quad.iter().enumerate() {
            take(k, Vector::load(vector) - about);
        }
    }
    for (k, vector) in rest.iter().enumerate() {
        take(k, Vector::load(vector) - about);
    }
    // The lanes past the row's end count nothing.
    let mut deviation = Vector::load_part(tail) - about;
    deviation.0[tail.len()..].fill(0.0);
    take(3, deviation);
    [firsts, squares].map(|of| (of[0] + of[1]) + (of[2] + of[3]))
}

/// y = (x - mean) * rstd * weight + bias.
#[inline(always)]
fn normalise<T: Lane>(
    x: &[T],
    mean: f32,
    shift: f32,
    rstd: f32,
    weight: &[f32],
    bias: &[f32],
    y: &mut [T],
) {
    let (mean, shift, rstd) = (
        Vector::splat(mean),
        Vector::splat(shift),
        Vector::splat(rstd),
    );
    let of = |x: Vector, weight: Vector, bias: Vector| (x - mean - shift) * rstd * weight + bias;
    let (xs, x_tail) = x.as_chunks::<LANES>();
    let (weights, weight_tail) = weight.as_chunks::<LANES>();
    let (biases, bias_tail) = bias.as_chunks::<LANES>();
    let (ys, y_tail) = y.as_chunks_mut::<LANES>();
    for (((x, weight), bias), y) in xs.iter().zip(weights).zip(biases).zip(ys) {
        of(Vector::load(x), Vector::load(weight), Vector::load(bias)).store(y);
    }
    let tail = of(
        Vector::load_part(x_tail),
        Vector::load_part(weight_tail),
        Vector::load_part(bias_tail),
    );
    tail.store_part(y_tail);
}
