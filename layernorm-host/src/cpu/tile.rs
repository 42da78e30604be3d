//! A row in pieces of 64 elements, which are whole cache lines in every dtype and whole vectors on every
//! processor. What is left of a row at its end is computed as a whole piece, too, whose other elements count
//! for nothing.

use pulp::Simd;

use super::lanes::Lane;
use crate::{Error, Result};

/// Elements of a piece.
pub const TILE: usize = 64;

/// Pieces whose sums are kept apart: a lane adds up 64 values or fewer, then come these sums, so that a long
/// row's rounding errors stay small.
pub const BLOCK: usize = 16;

/// Lines of the cache are this long, or half.
const LINE_BYTES: usize = 64;

/// A piece as f32, where no vector of it lies across two lines of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Tile(pub [f32; TILE]);

impl Tile {
    pub const ZERO: Tile = Tile([0.0; TILE]);

    /// The piece at the end of a row, which is shorter than others, as a whole one.
    #[inline(always)]
    pub fn of_tail<T: Lane>(tail: &[T], beyond: f32) -> Tile {
        let mut tile = Tile([beyond; TILE]);
        for (wide, value) in tile.0.iter_mut().zip(tail) {
            *wide = value.widen();
        }
        tile
    }

    /// The other way.
    #[inline(always)]
    pub fn put_tail<T: Lane>(&self, tail: &mut [T]) {
        for (value, wide) in tail.iter_mut().zip(&self.0) {
            *value = T::narrow(*wide);
        }
    }

    /// Adds the piece at the end of a row.
    #[inline(always)]
    pub fn add_tail<T: Lane>(&mut self, tail: &[T]) {
        for (wide, value) in self.0.iter_mut().zip(tail) {
            *wide += value.widen();
        }
    }
}

/// Zeros for a row of so many columns, or for several.
pub fn zeros(n_tiles: usize) -> Result<Vec<Tile>> {
    let mut tiles = Vec::new();
    let reserved = tiles.try_reserve_exact(n_tiles);
    reserved.map_err(|_| Error::OutOfHostMemory {
        asked: n_tiles.saturating_mul(size_of::<Tile>()),
    })?;
    tiles.resize(n_tiles, Tile::ZERO);
    Ok(tiles)
}

/// Where a row is written to: through the cache, or past it. What is not read again before the cache has
/// forgotten it is better written past it, for then its lines need not be read first.
pub struct Target<'a, T> {
    full: &'a mut [[T; TILE]],
    tail: &'a mut [T],
    past_the_cache: bool,
}

impl<'a, T: Lane> Target<'a, T> {
    #[inline(always)]
    pub fn new(row: &'a mut [T], past_the_cache: bool) -> Self {
        let aligned = row.as_ptr().addr().is_multiple_of(LINE_BYTES);
        let (full, tail) = row.as_chunks_mut();
        Target {
            full,
            tail,
            past_the_cache: past_the_cache && aligned,
        }
    }

    /// Writes a whole piece.
    #[inline(always)]
    pub fn put<S: Simd>(&mut self, simd: S, t: usize, from: &Tile) {
        let to = &mut self.full[t];
        if self.past_the_cache {
            let mut narrow = Narrow([T::ZERO; TILE]);
            T::put(simd, from, &mut narrow.0);
            stream(simd, &narrow, to);
        } else {
            T::put(simd, from, to);
        }
    }

    /// Writes the piece at the row's end.
    #[inline(always)]
    pub fn put_tail(&mut self, from: &Tile) {
        from.put_tail(self.tail);
    }
}

/// A piece in its own type, where it can be read in lines.
#[repr(C, align(64))]
struct Narrow<T>([T; TILE]);

/// Writes a piece past the cache, where the processor can. `to` lies at a multiple of [`LINE_BYTES`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn stream<S: Simd, T: Lane>(_simd: S, from: &Narrow<T>, to: &mut [T; TILE]) {
    use core::arch::x86_64::{__m256, __m512};
    use std::any::TypeId;

    use pulp::x86::{V3, V4};

    let bytes = size_of_val(to);
    let (from_line, to_line) = (from.0.as_ptr().cast::<f32>(), to.as_mut_ptr().cast::<f32>());
    if TypeId::of::<S>() == TypeId::of::<V4>() {
        // SAFETY: a V4 was given, and is made only where the processor has AVX-512.
        let avx512f = unsafe { V4::new_unchecked() }.avx512f;
        for line in (0..bytes / 4).step_by(16) {
            // SAFETY: both pieces have `bytes` bytes, a multiple of 64, and lie at a multiple of 64: `from` by
            // its type, `to` because `Target` streams to no other.
            unsafe {
                let value = from_line.add(line).cast::<__m512>().read();
                avx512f._mm512_stream_ps(to_line.add(line), value);
            }
        }
    } else if TypeId::of::<S>() == TypeId::of::<V3>() {
        // SAFETY: a V3 was given, and is made only where the processor has AVX2.
        let avx = unsafe { V3::new_unchecked() }.avx;
        for half_line in (0..bytes / 4).step_by(8) {
            // SAFETY: as above, in halves of lines.
            unsafe {
                let value = from_line.add(half_line).cast::<__m256>().read();
                avx._mm256_stream_ps(to_line.add(half_line), value);
            }
        }
    } else {
        *to = from.0;
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn stream<S: Simd, T: Lane>(_simd: S, from: &Narrow<T>, to: &mut [T; TILE]) {
    *to = from.0;
}

/// Makes what was written past the cache visible to other threads in the order of the program. Whoever wrote a
/// [`Target`] calls it before another thread may read.
#[inline(always)]
pub fn finish_streaming() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has SSE.
    unsafe {
        core::arch::x86_64::_mm_sfence();
    }
}

/// Asks for a piece of a row that is read soon, past whose pages the processor does not look by itself.
#[inline(always)]
pub fn prefetch<T>(tile: Option<&[T; TILE]>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(tile) = tile {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in 0..size_of_val(tile) / LINE_BYTES {
            // SAFETY: every x86-64 processor has SSE, and a prefetch has no effect that a program can see.
            unsafe {
                let address = tile.as_ptr().cast::<i8>().add(line * LINE_BYTES);
                _mm_prefetch::<_MM_HINT_T0>(address);
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = tile;
}
