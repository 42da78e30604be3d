//! The backward pass on the host. x and dy of a few rows are read twice, the second time from the cache: for
//! the two means that dx needs, then for dx and the rows' share of dweight and dbias, while the next rows are
//! asked for.
//!
//! A chunk of rows has partial sums of its own; they are added in the chunks' order. The chunks themselves go
//! from the last to the first: the end of x is what the forward pass left in the cache.

use std::marker::PhantomData;

use pulp::Simd;
use rayon::prelude::*;

use super::gradients::{Row, gradients, means};
use super::lanes::Lane;
use super::tile::{self, LINE_BYTES, TILE, Target, Tile, Tiles};
use super::{Value, is_small, past_the_cache, row, rows_ahead, wide_parameter};
use crate::device::HostMemory;
use crate::pass::BackwardPass;
use crate::{DType, Result, Tensor};

/// Rows that share one trip of dweight and dbias through the registers, where a vector is a whole line of the cache.
/// More would fall on one another's places in the nearest cache, where rows of 4 KiB all begin alike.
///
/// Where a vector is half a line or less there is one: the lines of two rows of dx that begin alike, both half
/// written, would drive each other out on their way past the cache, which takes backward nearly twice as long.
const GROUP: usize = 2;

/// Chunks that a large problem is cut into: enough for many threads, few enough that their partial sums are
/// small beside x.
const CHUNKS: usize = 64;

/// Rows of a chunk at least, of which its partial sums are a small part.
const CHUNK_ROWS: usize = 16;

/// Pieces of columns that a thread adds up over all chunks.
const REDUCE_TILES: usize = 8;

/// What all chunks read.
struct Inputs<'a, T> {
    /// Absent where dx holds dy.
    dy: Option<&'a [T]>,
    x: &'a [T],
    weight: &'a [Tile],
    mean: &'a [f32],
    rstd: &'a [f32],
    dsum: Option<&'a [T]>,
    n_cols: usize,
    dy_stride: usize,
    x_stride: usize,
    dx_stride: usize,
    past_the_cache: bool,
    /// The rows that are asked for begin so many after the first in work, or after the last.
    ahead: usize,
}

/// What a chunk's rows are written to.
struct Chunk<'a, T> {
    first_row: usize,
    n_rows: usize,
    dx: Option<&'a mut [T]>,
    /// Room for dy of [`GROUP`] rows where dx is written over it, else empty.
    copies: &'a mut [T],
    dweight: &'a mut [Tile],
    dbias: &'a mut [Tile],
}

pub fn run<T: Value>(pass: &mut BackwardPass<'_>) -> Result<()> {
    let problem = pass.problem;
    let (n_rows, n_cols, strides) = (problem.n_rows(), problem.n_cols(), problem.strides());
    let weight = wide_parameter::<T>(pass.weight, n_cols, 1.0)?;
    let past_the_cache = past_the_cache(&problem, 3);
    let inputs = Inputs {
        dy: pass.dy.map(|dy| dy.host_slice::<T>()),
        x: pass.x.host_slice(),
        weight: weight.get(),
        mean: pass.mean.host_slice(),
        rstd: pass.rstd.host_slice(),
        dsum: pass.dsum.map(|dsum| dsum.host_slice()),
        n_cols,
        dy_stride: strides.dy,
        x_stride: strides.x,
        dx_stride: strides.dx,
        past_the_cache,
        ahead: rows_ahead(&problem, past_the_cache),
    };
    let n_tiles = n_cols.div_ceil(TILE);
    let rows = n_rows
        .div_ceil(CHUNKS)
        .next_multiple_of(GROUP)
        .max(CHUNK_ROWS);
    let n_chunks = n_rows.div_ceil(rows);
    let mut partials = Tiles::new(n_chunks * 2 * n_tiles)?;
    let mut copies = match inputs.dy.is_none() && pass.dx.is_some() {
        true => Some(HostMemory::aligned(T::DTYPE, n_chunks * GROUP * n_cols)?),
        false => None,
    };
    let mut copies = copies
        .as_mut()
        .map(|memory| memory.slice_mut::<T>().chunks_mut(GROUP * n_cols));
    let mut dxs = match &mut pass.dx {
        Some(dx) => Some(
            dx.host_slice_mut::<T>()?
                .chunks_mut(rows * strides.dx.max(1)),
        ),
        None => None,
    };
    let chunks: Vec<Chunk<'_, T>> = partials
        .get_mut()
        .chunks_mut(2 * n_tiles)
        .enumerate()
        .map(|(i, partials)| {
            let (dweight, dbias) = partials.split_at_mut(n_tiles);
            Chunk {
                first_row: i * rows,
                n_rows: rows.min(n_rows - i * rows),
                dx: dxs.as_mut().and_then(Iterator::next),
                copies: copies.as_mut().and_then(Iterator::next).unwrap_or_default(),
                dweight,
                dbias,
            }
        })
        .collect();
    let arch = super::arch();
    let inputs = &inputs;
    let small = is_small(&problem);
    if small {
        for chunk in chunks {
            arch.dispatch(Rows { inputs, chunk });
        }
    } else {
        let chunks = chunks.into_par_iter().rev();
        chunks.for_each(|chunk| arch.dispatch(Rows { inputs, chunk }));
    }
    let partials = Partials {
        tiles: partials.get(),
        n_tiles,
        accumulate: pass.accumulate,
        small,
    };
    let (dweight, dbias) = (&mut pass.dweight, &mut pass.dbias);
    if small {
        partials.write::<T>(dweight, 0)?;
        return partials.write::<T>(dbias, n_tiles);
    }
    let (dweight, dbias) = rayon::join(
        || partials.write::<T>(dweight, 0),
        || partials.write::<T>(dbias, n_tiles),
    );
    dweight.and(dbias)
}

/// The chunks' partial sums of dweight and dbias, in the order of x's type.
struct Partials<'a> {
    tiles: &'a [Tile],
    n_tiles: usize,
    accumulate: bool,
    /// One thread does it all.
    small: bool,
}

impl Partials<'_> {
    /// Adds up the sums that begin at a piece of every chunk, and writes them in the gradient's dtype.
    fn write<X: Lane>(&self, gradient: &mut Option<&mut Tensor>, offset: usize) -> Result<()> {
        let Some(gradient) = gradient else {
            return Ok(());
        };
        match gradient.dtype() {
            DType::F32 => self.reduce::<X, f32>(gradient.host_slice_mut()?, offset),
            DType::F16 => self.reduce::<X, half::f16>(gradient.host_slice_mut()?, offset),
            DType::BF16 => self.reduce::<X, half::bf16>(gradient.host_slice_mut()?, offset),
            got @ DType::F64 => return Err(super::not_here(got)),
        }
        Ok(())
    }

    fn reduce<X: Lane, T: Value>(&self, columns: &mut [T], offset: usize) {
        let block = |(i, columns): (usize, &mut [T])| {
            super::arch().dispatch(Sums {
                order: PhantomData::<X>,
                partials: self,
                first: offset + i * REDUCE_TILES,
                columns,
            });
        };
        const COLUMNS: usize = REDUCE_TILES * TILE;
        if self.small {
            columns.chunks_mut(COLUMNS).enumerate().for_each(block);
        } else {
            columns.par_chunks_mut(COLUMNS).enumerate().for_each(block);
        }
    }
}

/// Some columns' sums over all chunks.
struct Sums<'a, 'b, X, T> {
    order: PhantomData<X>,
    partials: &'a Partials<'a>,
    first: usize,
    columns: &'b mut [T],
}

impl<X: Lane, T: Value> pulp::WithSimd for Sums<'_, '_, X, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let mut sums = [Tile::ZERO; REDUCE_TILES];
        let sums = &mut sums[..self.columns.len().div_ceil(TILE)];
        for chunk in self.partials.tiles.chunks(2 * self.partials.n_tiles) {
            for (sum, partial) in sums.iter_mut().zip(&chunk[self.first..]) {
                for (sum, partial) in sum.0.iter_mut().zip(&partial.0) {
                    *sum += partial;
                }
            }
        }
        for (columns, sum) in self.columns.chunks_mut(TILE).zip(sums) {
            if self.partials.accumulate {
                sum.add_tail::<X, T>(columns);
            }
            sum.put_tail::<X, T>(columns);
        }
    }
}

/// A chunk's work, compiled once for each kind of processor, as in the forward pass.
struct Rows<'a, 'b, T> {
    inputs: &'a Inputs<'a, T>,
    chunk: Chunk<'b, T>,
}

impl<T: Value> pulp::WithSimd for Rows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Rows { inputs, mut chunk } = self;
        chunk.dweight.fill(Tile::ZERO);
        chunk.dbias.fill(Tile::ZERO);
        let grouped = size_of::<S::f32s>() >= LINE_BYTES;
        let full = match grouped {
            true => chunk.n_rows / GROUP * GROUP,
            false => 0,
        };
        for first in (0..full).step_by(GROUP) {
            group::<S, T, GROUP>(simd, inputs, &mut chunk, first);
        }
        for first in full..chunk.n_rows {
            group::<S, T, 1>(simd, inputs, &mut chunk, first);
        }
        if inputs.past_the_cache {
            tile::finish_streaming();
        }
    }
}

/// `N` rows of a chunk, from its row `first` on.
#[inline(always)]
fn group<S: Simd, T: Lane, const N: usize>(
    simd: S,
    inputs: &Inputs<'_, T>,
    chunk: &mut Chunk<'_, T>,
    first: usize,
) {
    let n_cols = inputs.n_cols;
    if let (None, Some(dx)) = (inputs.dy, &chunk.dx) {
        for (i, copy) in chunk.copies.chunks_mut(n_cols).take(N).enumerate() {
            copy.copy_from_slice(row(dx, first + i, inputs.dx_stride, n_cols));
        }
    }
    let mut rows = [Row::NONE; N];
    for (i, this) in rows.iter_mut().enumerate() {
        let r = chunk.first_row + first + i;
        this.dy = match inputs.dy {
            Some(dy) => row(dy, r, inputs.dy_stride, n_cols),
            None => row(chunk.copies, i, n_cols, n_cols),
        };
        this.x = row(inputs.x, r, inputs.x_stride, n_cols);
        this.dsum = inputs
            .dsum
            .map(|dsum| row(dsum, r, inputs.dx_stride, n_cols));
        (this.mean, this.rstd) = (inputs.mean[r], inputs.rstd[r]);
        if chunk.dx.is_some() {
            means(simd, this, inputs.weight);
        }
    }
    let mut targets = match &mut chunk.dx {
        None => None,
        Some(dx) => {
            let mut places = dx[first * inputs.dx_stride..].chunks_mut(inputs.dx_stride);
            Some(std::array::from_fn(|_| {
                let place = places.next().unwrap_or_default();
                let end = place.len().min(n_cols);
                Target::new(&mut place[..end], inputs.past_the_cache)
            }))
        }
    };
    let after = chunk.first_row + first + N.max(inputs.ahead);
    let dy = inputs.dy.and_then(|dy| dy.get(after * inputs.dy_stride..));
    let x = inputs.x.get(after * inputs.x_stride..);
    let next = [dy, x].map(Option::unwrap_or_default);
    let sums = [&mut *chunk.dweight, &mut *chunk.dbias];
    gradients(simd, &rows, inputs.weight, &mut targets, sums, next);
}
