//! The native path: both passes on the host's cores, vectorised for what the processor has, parallel over
//! rows. It takes a checked pass and knows nothing of plans or devices.
//!
//! Rows are cut into chunks by the problem's size alone, and partial sums are added in a fixed order: the same
//! input gives the same bits on any number of threads.

mod arch;
mod backward;
mod double;
mod forward;
mod gradients;
#[cfg(test)]
mod kinds;
mod lanes;
mod tile;

use std::any::TypeId;
use std::marker::PhantomData;

use half::{bf16, f16};
use pulp::Simd;

use self::arch::arch;
use self::lanes::Lane;
use self::tile::{TILE, Tile, Tiles};
use crate::dtype::sealed::Sealed;
use crate::pass::{BackwardPass, ForwardPass};
use crate::{DType, Element, Error, Problem, Result, Tensor};

/// Elements up to which one thread does a problem faster than two can agree on it.
const SMALL: usize = 64 << 10;

/// Runs a forward pass over host tensors.
pub fn forward(pass: &mut ForwardPass<'_>) -> Result<()> {
    arch::check()?;
    on_threads(pass.problem, || forward_here(pass))
}

/// Runs a backward pass over host tensors.
pub fn backward(pass: &mut BackwardPass<'_>) -> Result<()> {
    arch::check()?;
    on_threads(pass.problem, || backward_here(pass))
}

/// Runs a small problem on this thread, and a large one on rayon's, which is gone to once: waking it takes as long
/// as a thousand rows.
fn on_threads(problem: Problem, run: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    if is_small(&problem) {
        run()
    } else {
        rayon::scope(|_| run())
    }
}

fn is_small(problem: &Problem) -> bool {
    problem.n_rows() * problem.n_cols() <= SMALL
}

fn forward_here(pass: &mut ForwardPass<'_>) -> Result<()> {
    match pass.problem.dtype() {
        DType::F32 => forward::run::<f32>(pass),
        DType::F16 => forward::run::<f16>(pass),
        DType::BF16 => forward::run::<bf16>(pass),
        DType::F64 => double::forward(pass),
    }
}

fn backward_here(pass: &mut BackwardPass<'_>) -> Result<()> {
    match pass.problem.dtype() {
        DType::F32 => backward::run::<f32>(pass),
        DType::F16 => backward::run::<f16>(pass),
        DType::BF16 => backward::run::<bf16>(pass),
        DType::F64 => double::backward(pass),
    }
}

/// A type that the kernels take.
trait Value: Element + Lane + Sealed {}

impl<T: Element + Lane + Sealed> Value for T {}

/// Row r of a tensor's elements.
fn row<T>(elements: &[T], r: usize, stride: usize, n_cols: usize) -> &[T] {
    &elements[r * stride..][..n_cols]
}

/// weight or bias as f32 in the order of `X`, so that the kernels know one kind; `absent` in every place where there
/// is none.
fn wide_parameter<X: Lane>(tensor: Option<&Tensor>, n_cols: usize, absent: f32) -> Result<Tiles> {
    let mut tiles = Tiles::new(n_cols.div_ceil(TILE))?;
    let to = tiles.get_mut();
    match tensor {
        None => to.fill(Tile([absent; TILE])),
        Some(tensor) => match tensor.dtype() {
            DType::F32 => widen::<X, f32>(tensor.host_slice(), to),
            DType::F16 => widen::<X, f16>(tensor.host_slice(), to),
            DType::BF16 => widen::<X, bf16>(tensor.host_slice(), to),
            got @ DType::F64 => return Err(not_here(got)),
        },
    }
    Ok(tiles)
}

/// A parameter or its gradient is f64 only where x is, which has a path of its own.
fn not_here(got: DType) -> Error {
    Error::DTypeMismatch {
        name: "a parameter",
        got,
        allowed: vec![DType::F32, DType::F16, DType::BF16],
    }
}

fn widen<X: Lane, T: Lane>(values: &[T], tiles: &mut [Tile]) {
    arch().dispatch(Widen {
        order: PhantomData::<X>,
        values,
        tiles,
    });
}

/// The pieces of a parameter as f32, in the order of `X`.
struct Widen<'a, X, T> {
    order: PhantomData<X>,
    values: &'a [T],
    tiles: &'a mut [Tile],
}

impl<X: Lane, T: Lane> pulp::WithSimd for Widen<'_, X, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (full, tail) = self.values.as_chunks::<TILE>();
        for (tile, piece) in self.tiles.iter_mut().zip(full) {
            if TypeId::of::<X>() == TypeId::of::<T>() {
                for k in 0..Tile::pairs::<S>() {
                    tile.set_pair(simd, k, T::load(simd, piece, k));
                }
            } else {
                *tile = Tile::of_tail::<X, T>(piece, 0.0);
            }
        }
        if let (false, Some(tile)) = (tail.is_empty(), self.tiles.last_mut()) {
            *tile = Tile::of_tail::<X, T>(tail, 0.0);
        }
    }
}

/// Bytes that a pass goes through, from which on its output is written past the cache.
const LARGE: usize = 24 << 20;

/// Whether a pass over so many tensors of x's size goes through so much that nobody will find all of it in the cache.
fn past_the_cache(problem: &Problem, n_tensors: usize) -> bool {
    let elements = problem.n_rows() * problem.n_cols();
    elements.saturating_mul(n_tensors * problem.dtype().size()) >= LARGE
}

/// Bytes of rows that are worked on while one comes from memory.
const AHEAD: usize = 12 << 10;

/// How many rows on a row is asked for: where they are short it would not come in the time of one.
fn rows_ahead(problem: &Problem, past_the_cache: bool) -> usize {
    let row = problem.n_cols() * problem.dtype().size();
    match past_the_cache {
        true => AHEAD.div_ceil(row),
        false => 1,
    }
}
