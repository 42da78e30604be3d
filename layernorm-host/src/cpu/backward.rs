//! The backward pass on the host. x and dy of a few rows are read twice, the second time from the cache: for
//! the two means that dx needs, then for dx and the rows' share of dweight and dbias.
//!
//! A chunk of rows has partial sums of its own; they are added in the chunks' order.

use pulp::Simd;
use rayon::prelude::*;

use super::gradients::{Row, gradients, means, sums};
use super::lanes::Lane;
use super::{Value, parameter, row};
use crate::host;
use crate::pass::BackwardPass;
use crate::{DType, Error, Result, Tensor};

/// Rows that share one trip of dweight and dbias through the registers. More would fall on one another's places
/// in the nearest cache, where rows of 4 KiB all begin alike.
const GROUP: usize = 2;

/// Chunks that a large problem is cut into: enough for many threads, few enough that their partial sums are
/// small beside x.
const CHUNKS: usize = 128;

/// Elements up to which one thread does it all.
const SMALL: usize = 32 << 10;

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
    let inputs = &inputs;
    // One thread does a small problem faster than two can agree on it.
    if n_rows * n_cols <= SMALL {
        let mut scratch = Scratch::new(n_cols);
        for chunk in chunks {
            let scratch = &mut scratch;
            arch.dispatch(Rows {
                inputs,
                chunk,
                scratch,
            });
        }
    } else {
        let scratch = || Scratch::new(n_cols);
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
        // An f64 gradient is that of an f64 x, which is not here.
        got @ DType::F64 => Err(Error::DTypeMismatch {
            name: "the gradient",
            got,
            allowed: vec![DType::F32, DType::F16, DType::BF16],
        }),
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

/// A chunk's work, compiled once for each kind of processor, as in the forward pass.
struct Rows<'a, 'b, T> {
    inputs: &'a Inputs<'a, T>,
    chunk: Chunk<'b, T>,
    scratch: &'b mut Scratch<T>,
}

/// A thread's memory for a group of rows.
struct Scratch<T> {
    /// dy, where dx is written over it.
    dy: Vec<T>,
    wide_dy: Vec<f32>,
    wide_x: Vec<f32>,
    wide_dx: Vec<f32>,
}

impl<T: Lane> Scratch<T> {
    fn new(n_cols: usize) -> Self {
        let wide = || vec![0.0; GROUP * n_cols];
        Scratch {
            dy: vec![T::ZERO; GROUP * n_cols],
            wide_dy: wide(),
            wide_x: wide(),
            wide_dx: wide(),
        }
    }
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
        let full = chunk.n_rows / GROUP * GROUP;
        for first in (0..full).step_by(GROUP) {
            group::<S, T, GROUP>(simd, inputs, &mut chunk, scratch, first);
        }
        for first in full..chunk.n_rows {
            group::<S, T, 1>(simd, inputs, &mut chunk, scratch, first);
        }
    }
}

/// `N` rows of a chunk, from its row `first` on.
#[inline(always)]
fn group<S: Simd, T: Lane, const N: usize>(
    simd: S,
    inputs: &Inputs<'_, T>,
    chunk: &mut Chunk<'_, T>,
    scratch: &mut Scratch<T>,
    first: usize,
) {
    let n_cols = inputs.n_cols;
    if let (None, Some(dx)) = (inputs.dy, &chunk.dx) {
        for (i, copy) in scratch.dy.chunks_mut(n_cols).take(N).enumerate() {
            copy.copy_from_slice(row(dx, first + i, inputs.dx_stride, n_cols));
        }
    }
    let mut rows = [Row::NONE; N];
    let mut wide_dys = scratch.wide_dy.chunks_mut(n_cols);
    let mut wide_xs = scratch.wide_x.chunks_mut(n_cols);
    for (i, this) in rows.iter_mut().enumerate() {
        let (Some(wide_dy), Some(wide_x)) = (wide_dys.next(), wide_xs.next()) else {
            return;
        };
        let r = chunk.first_row + first + i;
        let dy = match inputs.dy {
            Some(dy) => row(dy, r, inputs.dy_stride, n_cols),
            None => row(&scratch.dy, i, n_cols, n_cols),
        };
        this.dy = T::widened(dy, wide_dy);
        this.x = T::widened(row(inputs.x, r, inputs.x_stride, n_cols), wide_x);
        (this.mean, this.rstd) = (inputs.mean[r], inputs.rstd[r]);
        if chunk.dx.is_some() {
            means(simd, this, inputs.weight);
        }
    }
    let Some(dx) = &mut chunk.dx else {
        sums(simd, &rows, chunk.dweight, chunk.dbias);
        return;
    };
    let mut targets: [&mut [f32]; N] = std::array::from_fn(|_| Default::default());
    let from = first * inputs.dx_stride;
    let places = dx[from..].chunks_mut(inputs.dx_stride);
    let wide_dxs = scratch.wide_dx.chunks_mut(n_cols);
    for ((target, place), wide) in targets.iter_mut().zip(places).zip(wide_dxs) {
        *target = T::target(&mut place[..n_cols], wide);
    }
    gradients(
        simd,
        &rows,
        inputs.weight,
        &mut targets,
        chunk.dweight,
        chunk.dbias,
    );
    let places = dx[from..].chunks_mut(inputs.dx_stride);
    for (i, (place, wide)) in places
        .zip(scratch.wide_dx.chunks(n_cols))
        .take(N)
        .enumerate()
    {
        let place = &mut place[..n_cols];
        match inputs.dsum {
            None => T::finish(place, wide),
            Some(dsum) => {
                let r = chunk.first_row + first + i;
                T::finish_added(place, wide, row(dsum, r, inputs.dx_stride, n_cols));
            }
        }
    }
}
