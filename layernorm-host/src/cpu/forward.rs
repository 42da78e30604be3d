//! The forward pass on the host. A row is read three times, the second and third from the nearest cache: for
//! its mean, for its variance about that mean, for y.

use pulp::Simd;
use rayon::prelude::*;

use super::lanes::Lane;
use super::{Value, parameter, row};
use crate::Result;
use crate::pass::ForwardPass;

/// Columns whose sums are kept apart: a lane adds up a few values, then come the blocks' sums, so that a long
/// row's rounding errors stay small.
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
    let inputs = &inputs;
    // One thread does a small problem faster than two can agree on it.
    if chunks.len() == 1 {
        let mut scratch = vec![0.0; 2 * n_cols];
        for chunk in chunks {
            let scratch = &mut scratch[..];
            arch.dispatch(Rows {
                inputs,
                chunk,
                scratch,
            });
        }
    } else {
        let scratch = || vec![0.0; 2 * n_cols];
        chunks
            .into_par_iter()
            .for_each_init(scratch, |scratch, chunk| {
                arch.dispatch(Rows {
                    inputs,
                    chunk,
                    scratch,
                });
            });
    }
    Ok(())
}

/// A chunk's work, compiled once for each kind of processor.
///
/// All that it calls is always inlined, and there are no closures: other functions would be compiled for the
/// oldest processor.
struct Rows<'a, 'b, T> {
    inputs: &'a Inputs<'a, T>,
    chunk: Chunk<'b, T>,
    scratch: &'b mut [f32],
}

impl<T: Value> pulp::WithSimd for Rows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Rows {
            inputs,
            mut chunk,
            scratch,
        } = self;
        let n_cols = inputs.n_cols;
        let (wide_x, wide_y) = scratch.split_at_mut(scratch.len() / 2);
        for i in 0..chunk.mean.len() {
            let r = chunk.first_row + i;
            let mut x = row(inputs.x, r, inputs.x_stride, n_cols);
            let place = i * inputs.y_stride..i * inputs.y_stride + n_cols;
            if let (Some(residual), Some(sum)) = (inputs.residual, &mut chunk.sum) {
                let sum = &mut sum[place.clone()];
                add(x, row(residual, r, inputs.x_stride, n_cols), sum);
                x = sum;
            }
            let x = T::widened(x, wide_x);
            let (mean, shift, rstd) = statistics(simd, x, inputs.eps);
            let y = &mut chunk.y[place];
            let target = T::target(y, wide_y);
            normalise(
                simd,
                x,
                [mean, shift, rstd],
                inputs.weight,
                inputs.bias,
                target,
            );
            T::finish(y, wide_y);
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
fn statistics<S: Simd>(simd: S, x: &[f32], eps: f32) -> (f32, f32, f32) {
    let n = x.len() as f32;
    let mut sum = 0.0;
    for block in x.chunks(BLOCK) {
        sum += sum_of(simd, block);
    }
    let mean = sum / n;

    let (mut first, mut square) = (0.0, 0.0);
    for block in x.chunks(BLOCK) {
        let [firsts, squares] = deviations_of(simd, block, mean);
        first += firsts;
        square += squares;
    }
    // The deviations' own sum is what the mean's rounding left over.
    let (shift, square) = (first / n, square / n);
    let var = (square - shift * shift).max(0.0);
    // `max` drops a NaN, which must stay one.
    let var = if square.is_nan() { square } else { var };
    (mean, shift, 1.0 / (var + eps).sqrt())
}

#[inline(always)]
fn sum_of<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let (vectors, tail) = S::as_simd_f32s(x);
    let (quads, rest) = vectors.as_chunks::<4>();
    let [mut a, mut b, mut c, mut d] = [simd.splat_f32s(0.0); 4];
    for quad in quads {
        a = simd.add_f32s(a, quad[0]);
        b = simd.add_f32s(b, quad[1]);
        c = simd.add_f32s(c, quad[2]);
        d = simd.add_f32s(d, quad[3]);
    }
    for vector in rest {
        a = simd.add_f32s(a, *vector);
    }
    b = simd.add_f32s(b, simd.partial_load_f32s(tail));
    let sum = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
    simd.reduce_sum_f32s(sum)
}

/// The sums of a block's deviations from a mean, and of their squares.
#[inline(always)]
fn deviations_of<S: Simd>(simd: S, x: &[f32], mean: f32) -> [f32; 2] {
    let (vectors, tail) = S::as_simd_f32s(x);
    let (quads, rest) = vectors.as_chunks::<4>();
    let about = simd.splat_f32s(mean);
    let mut firsts = [simd.splat_f32s(0.0); 4];
    let mut squares = [simd.splat_f32s(0.0); 4];
    for quad in quads {
        for k in 0..4 {
            let deviation = simd.sub_f32s(quad[k], about);
            firsts[k] = simd.add_f32s(firsts[k], deviation);
            squares[k] = simd.mul_add_e_f32s(deviation, deviation, squares[k]);
        }
    }
    for vector in rest {
        let deviation = simd.sub_f32s(*vector, about);
        firsts[0] = simd.add_f32s(firsts[0], deviation);
        squares[0] = simd.mul_add_e_f32s(deviation, deviation, squares[0]);
    }
    let [first, square] = [firsts, squares];
    let first = simd.add_f32s(
        simd.add_f32s(first[0], first[1]),
        simd.add_f32s(first[2], first[3]),
    );
    let square = simd.add_f32s(
        simd.add_f32s(square[0], square[1]),
        simd.add_f32s(square[2], square[3]),
    );
    let (mut first, mut square) = (simd.reduce_sum_f32s(first), simd.reduce_sum_f32s(square));
    for x in tail {
        let deviation = x - mean;
        first += deviation;
        square += deviation * deviation;
    }
    [first, square]
}

/// y = (x - mean) * rstd * weight + bias.
#[inline(always)]
fn normalise<S: Simd>(
    simd: S,
    x: &[f32],
    [mean, shift, rstd]: [f32; 3],
    weight: &[f32],
    bias: &[f32],
    y: &mut [f32],
) {
    let (xs, x_tail) = S::as_simd_f32s(x);
    let (weights, weight_tail) = S::as_simd_f32s(weight);
    let (biases, bias_tail) = S::as_simd_f32s(bias);
    let (ys, y_tail) = S::as_mut_simd_f32s(y);
    let [mean, shift, rstd] = [
        simd.splat_f32s(mean),
        simd.splat_f32s(shift),
        simd.splat_f32s(rstd),
    ];
    for (((x, weight), bias), y) in xs.iter().zip(weights).zip(biases).zip(ys) {
        let xhat = simd.mul_f32s(simd.sub_f32s(simd.sub_f32s(*x, mean), shift), rstd);
        *y = simd.mul_add_e_f32s(xhat, *weight, *bias);
    }
    if !x_tail.is_empty() {
        let x = simd.partial_load_f32s(x_tail);
        let xhat = simd.mul_f32s(simd.sub_f32s(simd.sub_f32s(x, mean), shift), rstd);
        let (weight, bias) = (
            simd.partial_load_f32s(weight_tail),
            simd.partial_load_f32s(bias_tail),
        );
        simd.partial_store_f32s(y_tail, simd.mul_add_e_f32s(xhat, weight, bias));
    }
}
