//! Both passes in f64 on the host: plain loops that the compiler vectorises, rows in parallel. It is for
//! checking and for small models, so it has no instructions of its own.

use rayon::prelude::*;

use super::row;
use crate::pass::{BackwardPass, ForwardPass};
use crate::{Result, Tensor, host};

/// Elements that make a chunk worth a thread's while.
const CHUNK_ELEMENTS: usize = 32 << 10;

/// Chunks that a backward pass is cut into: by the number of rows alone, so that the same input gives the same
/// bits on any number of threads.
const CHUNKS: usize = 64;

/// Sums that grow side by side, and are added up at the end of a block.
const LANES: usize = 8;

/// Values between two such ends, so that a long row's rounding errors stay small.
const BLOCK: usize = 1024;

/// The sum of `of(i)` over 0..n, in an order that depends on n alone.
#[inline(always)]
fn sum(n: usize, of: impl Fn(usize) -> f64) -> f64 {
    let mut total = 0.0;
    for start in (0..n).step_by(BLOCK) {
        let end = n.min(start + BLOCK);
        let mut lanes = [0.0; LANES];
        let whole = start + (end - start) / LANES * LANES;
        for first in (start..whole).step_by(LANES) {
            for (lane, sum) in lanes.iter_mut().enumerate() {
                *sum += of(first + lane);
            }
        }
        let rest: f64 = (whole..end).map(&of).sum();
        total += lanes.iter().sum::<f64>() + rest;
    }
    total
}

/// weight or bias, or `absent` in every place where there is none.
fn parameter(tensor: Option<&Tensor>, n_cols: usize, absent: f64) -> Result<Vec<f64>> {
    let mut values: Vec<f64> = host::zeros(n_cols)?;
    match tensor {
        Some(tensor) => values.copy_from_slice(tensor.host_slice()),
        None => values.fill(absent),
    }
    Ok(values)
}

pub fn forward(pass: &mut ForwardPass<'_>) -> Result<()> {
    let problem = pass.problem;
    let (n_rows, n_cols, strides) = (problem.n_rows(), problem.n_cols(), problem.strides());
    if n_rows == 0 {
        return Ok(());
    }
    let x: &[f64] = pass.x.host_slice();
    let residual = pass.residual.map(|residual| residual.host_slice::<f64>());
    let weight = parameter(pass.weight, n_cols, 1.0)?;
    let bias = parameter(pass.bias, n_cols, 0.0)?;
    let eps = f64::from(problem.eps());
    let rows = (CHUNK_ELEMENTS / n_cols).clamp(1, n_rows);
    let elements = rows * strides.y;
    let mut sums = match &mut pass.sum {
        Some(sum) => Some(sum.host_slice_mut::<f64>()?.chunks_mut(elements)),
        None => None,
    };
    let mut statistics = match &mut pass.statistics {
        Some(statistics) => Some(statistics.host_chunks_mut::<f64>(rows)?),
        None => None,
    };
    let chunks: Vec<_> = pass
        .y
        .host_slice_mut::<f64>()?
        .chunks_mut(elements)
        .map(|y| {
            let sums = sums.as_mut().and_then(Iterator::next);
            (y, sums, statistics.as_mut().and_then(Iterator::next))
        })
        .collect();
    chunks
        .into_par_iter()
        .enumerate()
        .for_each(|(i, (y, mut sums, mut statistics))| {
            for (r, y) in y
                .chunks_mut(strides.y)
                .take(n_rows.saturating_sub(i * rows))
                .enumerate()
            {
                let mut x = row(x, i * rows + r, strides.x, n_cols);
                if let (Some(residual), Some(sums)) = (residual, &mut sums) {
                    let residual = row(residual, i * rows + r, strides.x, n_cols);
                    let sum = &mut sums[r * strides.y..][..n_cols];
                    for ((sum, x), residual) in sum.iter_mut().zip(x).zip(residual) {
                        *sum = x + residual;
                    }
                    x = sum;
                }
                let n = n_cols as f64;
                let rounded = sum(n_cols, |c| x[c]) / n;
                // The deviations' own sum is what the mean's rounding left over.
                let shift = sum(n_cols, |c| x[c] - rounded) / n;
                let square = sum(n_cols, |c| (x[c] - rounded) * (x[c] - rounded)) / n;
                let var = square - shift * shift;
                // Rounding can take a constant row's variance just below zero; NaN must stay NaN.
                let var = if var < 0.0 { 0.0 } else { var };
                let inverse = 1.0 / (var + eps).sqrt();
                if let Some([mean, rstd]) = &mut statistics {
                    mean[r] = rounded + shift;
                    rstd[r] = inverse;
                }
                for (c, y) in y[..n_cols].iter_mut().enumerate() {
                    *y = (x[c] - rounded - shift) * inverse * weight[c] + bias[c];
                }
            }
        });
    Ok(())
}

/// A chunk of rows, and its own sums of dweight and dbias.
struct Chunk<'a> {
    first_row: usize,
    n_rows: usize,
    dx: Option<&'a mut [f64]>,
    /// Room for dy of a row where dx is written over it, else empty.
    copy: &'a mut [f64],
    dweight: &'a mut [f64],
    dbias: &'a mut [f64],
}

pub fn backward(pass: &mut BackwardPass<'_>) -> Result<()> {
    let problem = pass.problem;
    let (n_rows, n_cols, strides) = (problem.n_rows(), problem.n_cols(), problem.strides());
    let n = n_cols as f64;
    let x: &[f64] = pass.x.host_slice();
    let (mean, rstd): (&[f64], &[f64]) = (pass.mean.host_slice(), pass.rstd.host_slice());
    // Absent where dx holds dy.
    let dy = pass.dy.map(|dy| dy.host_slice::<f64>());
    let dsum = pass.dsum.map(|dsum| dsum.host_slice::<f64>());
    let weight = parameter(pass.weight, n_cols, 1.0)?;
    let rows = n_rows.div_ceil(CHUNKS).max(1);
    let n_chunks = n_rows.div_ceil(rows);
    let mut partials: Vec<f64> = host::zeros(n_chunks * 2 * n_cols)?;
    let mut copies: Vec<f64> = match dy.is_none() && pass.dx.is_some() {
        true => host::zeros(n_chunks * n_cols)?,
        false => Vec::new(),
    };
    let mut copies = copies.chunks_mut(n_cols);
    let mut dxs = match &mut pass.dx {
        Some(dx) => Some(
            dx.host_slice_mut::<f64>()?
                .chunks_mut(rows * strides.dx.max(1)),
        ),
        None => None,
    };
    let chunks: Vec<Chunk<'_>> = partials
        .chunks_mut(2 * n_cols)
        .enumerate()
        .map(|(i, partials)| {
            let (dweight, dbias) = partials.split_at_mut(n_cols);
            Chunk {
                first_row: i * rows,
                n_rows: rows.min(n_rows - i * rows),
                dx: dxs.as_mut().and_then(Iterator::next),
                copy: copies.next().unwrap_or_default(),
                dweight,
                dbias,
            }
        })
        .collect();
    chunks.into_par_iter().for_each(|mut chunk| {
        for i in 0..chunk.n_rows {
            let r = chunk.first_row + i;
            let dy = match (dy, &chunk.dx) {
                (Some(dy), _) => row(dy, r, strides.dy, n_cols),
                (None, Some(dx)) => {
                    chunk.copy.copy_from_slice(row(dx, i, strides.dx, n_cols));
                    &*chunk.copy
                }
                (None, None) => return,
            };
            let x = row(x, r, strides.x, n_cols);
            let (mean, rstd) = (mean[r], rstd[r]);
            let xhat = |c: usize| (x[c] - mean) * rstd;
            let sums = chunk.dweight.iter_mut().zip(chunk.dbias.iter_mut());
            for (c, ((dweight, dbias), dy)) in sums.zip(dy).enumerate() {
                *dweight += dy * xhat(c);
                *dbias += dy;
            }
            let Some(dx) = &mut chunk.dx else { continue };
            let g = |c: usize| dy[c] * weight[c];
            let c1 = sum(n_cols, g) / n;
            let c2 = sum(n_cols, |c| g(c) * xhat(c)) / n;
            let dx = &mut dx[i * strides.dx..][..n_cols];
            for (c, dx) in dx.iter_mut().enumerate() {
                *dx = rstd * (g(c) - c1 - xhat(c) * c2);
            }
            if let Some(dsum) = dsum {
                for (dx, dsum) in dx.iter_mut().zip(row(dsum, r, strides.dx, n_cols)) {
                    *dx += dsum;
                }
            }
        }
    });
    for (gradient, offset) in [(&mut pass.dweight, 0), (&mut pass.dbias, n_cols)] {
        let Some(gradient) = gradient else { continue };
        for (c, value) in gradient.host_slice_mut::<f64>()?.iter_mut().enumerate() {
            let before = if pass.accumulate { *value } else { 0.0 };
            let sums = partials
                .chunks(2 * n_cols)
                .map(|partial| partial[offset + c]);
            *value = before + sums.sum::<f64>();
        }
    }
    Ok(())
}
