//! The forward pass on the host. A row is read three times, the second and third from the nearest cache: for
//! its mean, for its variance about that mean, for y, while a row further on is asked for.

use pulp::Simd;
use rayon::prelude::*;

use super::lanes::Lane;
use super::tile::{self, TILE, Target, Tile};
use super::{Value, is_small, past_the_cache, row, rows_ahead, wide_parameter};
use crate::Result;
use crate::pass::ForwardPass;

/// Elements that make a chunk worth a thread's while.
const CHUNK_ELEMENTS: usize = 32 << 10;

/// What the rows of a chunk are written to.
struct Chunk<'a, T> {
    first_row: usize,
    n_rows: usize,
    y: &'a mut [T],
    sum: Option<&'a mut [T]>,
    /// mean and rstd, where they are wanted.
    statistics: Option<[&'a mut [f32]; 2]>,
}

/// What all chunks read.
struct Inputs<'a, T> {
    x: &'a [T],
    residual: Option<&'a [T]>,
    weight: &'a [Tile],
    bias: &'a [Tile],
    n_cols: usize,
    x_stride: usize,
    y_stride: usize,
    eps: f32,
    past_the_cache: bool,
    /// The row that is asked for is so many after the one in work.
    ahead: usize,
}

pub fn run<T: Value>(pass: &mut ForwardPass<'_>) -> Result<()> {
    let problem = pass.problem;
    let (n_rows, n_cols, strides) = (problem.n_rows(), problem.n_cols(), problem.strides());
    if n_rows == 0 {
        return Ok(());
    }
    let weight = wide_parameter::<T>(pass.weight, n_cols, 1.0)?;
    let bias = wide_parameter::<T>(pass.bias, n_cols, 0.0)?;
    let past_the_cache = past_the_cache(&problem, if pass.sum.is_some() { 4 } else { 2 });
    let inputs = Inputs {
        x: pass.x.host_slice::<T>(),
        residual: pass.residual.map(|residual| residual.host_slice()),
        weight: weight.get(),
        bias: bias.get(),
        n_cols,
        x_stride: strides.x,
        y_stride: strides.y,
        eps: problem.eps(),
        past_the_cache,
        ahead: rows_ahead(&problem, past_the_cache),
    };
    let rows = (CHUNK_ELEMENTS / n_cols).clamp(1, n_rows);
    let elements = rows * strides.y.max(1);
    let mut sums = match &mut pass.sum {
        Some(sum) => Some(sum.host_slice_mut::<T>()?.chunks_mut(elements)),
        None => None,
    };
    let mut statistics = match &mut pass.statistics {
        Some(statistics) => Some(statistics.host_chunks_mut(rows)?),
        None => None,
    };
    let chunks: Vec<Chunk<'_, T>> = pass
        .y
        .host_slice_mut()?
        .chunks_mut(elements)
        .zip((0..n_rows).step_by(rows))
        .map(|(y, first_row)| Chunk {
            first_row,
            n_rows: rows.min(n_rows - first_row),
            y,
            sum: sums.as_mut().and_then(Iterator::next),
            statistics: statistics.as_mut().and_then(Iterator::next),
        })
        .collect();
    let arch = super::arch();
    let inputs = &inputs;
    if is_small(&problem) {
        for chunk in chunks {
            arch.dispatch(Rows { inputs, chunk });
        }
    } else {
        chunks
            .into_par_iter()
            .for_each(|chunk| arch.dispatch(Rows { inputs, chunk }));
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
}

impl<T: Value> pulp::WithSimd for Rows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Rows { inputs, mut chunk } = self;
        let n_cols = inputs.n_cols;
        for i in 0..chunk.n_rows {
            let r = chunk.first_row + i;
            let mut x = row(inputs.x, r, inputs.x_stride, n_cols);
            let place = i * inputs.y_stride..i * inputs.y_stride + n_cols;
            if let (Some(residual), Some(sum)) = (inputs.residual, &mut chunk.sum) {
                let sum = &mut sum[place.clone()];
                add(x, row(residual, r, inputs.x_stride, n_cols), sum);
                x = sum;
            }
            let next = inputs
                .x
                .get((r + inputs.ahead) * inputs.x_stride..)
                .unwrap_or(&[]);
            let numbers = statistics(simd, x, inputs.eps);
            let y = Target::new(&mut chunk.y[place], inputs.past_the_cache);
            normalise(simd, x, &numbers, inputs.weight, inputs.bias, y, next);
            if let Some([mean, rstd]) = &mut chunk.statistics {
                mean[i] = numbers.mean + numbers.shift;
                rstd[i] = numbers.rstd;
            }
        }
        if inputs.past_the_cache {
            tile::finish_streaming();
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
struct Numbers {
    mean: f32,
    shift: f32,
    rstd: f32,
}

impl Numbers {
    /// The mean, what is to be added to a deviation from it times rstd, and rstd.
    #[inline(always)]
    fn splat<S: Simd>(&self, simd: S) -> [S::f32s; 3] {
        [
            simd.splat_f32s(self.mean),
            simd.splat_f32s(-self.shift * self.rstd),
            simd.splat_f32s(self.rstd),
        ]
    }
}

#[inline(always)]
fn statistics<S: Simd, T: Lane>(simd: S, x: &[T], eps: f32) -> Numbers {
    let n = x.len() as f64;
    let (full, tail) = x.as_chunks::<TILE>();
    let zero = [simd.splat_f32s(0.0); 4];

    let mut total = 0.0;
    for block in full.chunks(Tile::block::<S>()) {
        let mut sums = zero;
        for piece in block {
            for k in 0..Tile::pairs::<S>() {
                add_up(simd, T::load(simd, piece, k), k, &mut sums);
            }
        }
        total += sum_of(simd, &sums);
    }
    if !tail.is_empty() {
        let tile = Tile::of_tail::<T, T>(tail, 0.0);
        let mut sums = zero;
        for k in 0..Tile::pairs::<S>() {
            add_up(simd, tile.pair(simd, k), k, &mut sums);
        }
        total += sum_of(simd, &sums);
    }
    let mean = (total / n) as f32;

    let (mut first, mut square) = (0.0, 0.0);
    for block in full.chunks(Tile::block::<S>()) {
        let (mut firsts, mut squares) = (zero, zero);
        for piece in block {
            for k in 0..Tile::pairs::<S>() {
                let x = T::load(simd, piece, k);
                deviations(simd, x, k, mean, &mut firsts, &mut squares);
            }
        }
        first += sum_of(simd, &firsts);
        square += sum_of(simd, &squares);
    }
    if !tail.is_empty() {
        // Beyond the row nothing deviates.
        let tile = Tile::of_tail::<T, T>(tail, mean);
        let (mut firsts, mut squares) = (zero, zero);
        for k in 0..Tile::pairs::<S>() {
            let x = tile.pair(simd, k);
            deviations(simd, x, k, mean, &mut firsts, &mut squares);
        }
        first += sum_of(simd, &firsts);
        square += sum_of(simd, &squares);
    }
    // The deviations' own sum is what the mean's rounding left over.
    let (shift, square) = (first / n, square / n);
    // In f64, where a shift's square is not infinite: less it, an infinite sum of squares stays infinite.
    let var = square - shift * shift;
    // Rounding can take a constant row's variance just below zero; NaN must stay NaN.
    let var = if var < 0.0 { 0.0 } else { var as f32 };
    let rstd = 1.0 / (var + eps).sqrt();
    Numbers {
        mean,
        shift: shift as f32,
        rstd,
    }
}

/// Where vector `i` of pair `k` is added to, of four sums that grow side by side.
#[inline(always)]
pub fn sum_for(k: usize, i: usize) -> usize {
    (2 * k + i) % 4
}

#[inline(always)]
fn add_up<S: Simd>(simd: S, x: [S::f32s; 2], k: usize, sums: &mut [S::f32s; 4]) {
    for (i, x) in x.into_iter().enumerate() {
        let sum = &mut sums[sum_for(k, i)];
        *sum = simd.add_f32s(*sum, x);
    }
}

/// Adds up a pair's deviations from a mean, and their squares.
#[inline(always)]
fn deviations<S: Simd>(
    simd: S,
    x: [S::f32s; 2],
    k: usize,
    mean: f32,
    firsts: &mut [S::f32s; 4],
    squares: &mut [S::f32s; 4],
) {
    let mean = simd.splat_f32s(mean);
    for (i, x) in x.into_iter().enumerate() {
        let sum = sum_for(k, i);
        let deviation = simd.sub_f32s(x, mean);
        firsts[sum] = simd.add_f32s(firsts[sum], deviation);
        squares[sum] = simd.mul_add_e_f32s(deviation, deviation, squares[sum]);
    }
}

/// The sum of a block's sums. Blocks are added up in f64, so that a long row's rounding errors stay those of a block.
#[inline(always)]
pub fn sum_of<S: Simd>(simd: S, [a, b, c, d]: &[S::f32s; 4]) -> f64 {
    let sum = simd.add_f32s(simd.add_f32s(*a, *b), simd.add_f32s(*c, *d));
    f64::from(simd.reduce_sum_f32s(sum))
}

/// y = (x - mean) * rstd * weight + bias.
#[inline(always)]
fn normalise<S: Simd, T: Lane>(
    simd: S,
    x: &[T],
    numbers: &Numbers,
    weight: &[Tile],
    bias: &[Tile],
    mut y: Target<'_, T>,
    next: &[T],
) {
    let (full, tail) = x.as_chunks::<TILE>();
    let (next, _) = next.as_chunks::<TILE>();
    let parameters = weight.iter().zip(bias);
    let numbers = numbers.splat(simd);
    for (t, (piece, (weight, bias))) in full.iter().zip(parameters).enumerate() {
        tile::prefetch(next.get(t), false);
        for k in 0..Tile::pairs::<S>() {
            let x = T::load(simd, piece, k);
            let (weight, bias) = (weight.pair(simd, k), bias.pair(simd, k));
            y.put(simd, t, k, normalised(simd, x, &numbers, weight, bias));
        }
    }
    if let (false, Some(weight), Some(bias)) = (tail.is_empty(), weight.last(), bias.last()) {
        let mut tile = Tile::of_tail::<T, T>(tail, 0.0);
        for k in 0..Tile::pairs::<S>() {
            let (weight, bias) = (weight.pair(simd, k), bias.pair(simd, k));
            let y = normalised(simd, tile.pair(simd, k), &numbers, weight, bias);
            tile.set_pair(simd, k, y);
        }
        y.put_tail(&tile);
    }
}

#[inline(always)]
fn normalised<S: Simd>(
    simd: S,
    x: [S::f32s; 2],
    [mean, rest, rstd]: &[S::f32s; 3],
    weight: [S::f32s; 2],
    bias: [S::f32s; 2],
) -> [S::f32s; 2] {
    let mut y = x;
    for (i, y) in y.iter_mut().enumerate() {
        let xhat = simd.mul_add_e_f32s(simd.sub_f32s(*y, *mean), *rstd, *rest);
        *y = simd.mul_add_e_f32s(xhat, weight[i], bias[i]);
    }
    y
}
