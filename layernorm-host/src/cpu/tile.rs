//! A row in pieces of 64 elements, which are whole cache lines in every dtype and whole vectors on every
//! processor. What is left of a row at its end is computed as a whole piece, too, whose other elements count
//! for nothing.

use bytemuck::{Pod, Zeroable};
use pulp::Simd;

use super::lanes::Lane;
use crate::device::HostMemory;
use crate::{DType, Result};

/// Elements of a piece.
pub const TILE: usize = 64;

/// Lines of the cache are this long, or half.
pub const LINE_BYTES: usize = 64;

/// A piece as f32, where no vector of it lies across two lines of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Tile(pub [f32; TILE]);

// SAFETY: 64 floats, of which all bytes zero are zeros.
unsafe impl Zeroable for Tile {}
// SAFETY: 64 floats without a gap: 256 bytes at a multiple of 64. Any bits are a float.
unsafe impl Pod for Tile {}

impl Tile {
    pub const ZERO: Tile = Tile([0.0; TILE]);

    /// Pairs of vectors in a piece.
    #[inline(always)]
    pub const fn pairs<S: Simd>() -> usize {
        TILE / S::F32_LANES / 2
    }

    /// Pieces that are added up in f32: a lane adds up 16 values, whatever the processor's vectors.
    #[inline(always)]
    pub const fn block<S: Simd>() -> usize {
        16 * 4 * S::F32_LANES / TILE
    }

    /// Pair `k`: a vector of the first half and its fellow in the second.
    #[inline(always)]
    pub fn pair<S: Simd>(&self, _simd: S, k: usize) -> [S::f32s; 2] {
        let vectors = S::as_simd_f32s(&self.0).0;
        [vectors[k], vectors[k + Self::pairs::<S>()]]
    }

    #[inline(always)]
    pub fn set_pair<S: Simd>(&mut self, _simd: S, k: usize, pair: [S::f32s; 2]) {
        let vectors = S::as_mut_simd_f32s(&mut self.0).0;
        [vectors[k], vectors[k + Self::pairs::<S>()]] = pair;
    }

    /// The piece at the end of a row, which is shorter than others, as a whole one, in the order that `X` wants.
    #[inline(always)]
    pub fn of_tail<X: Lane, T: Lane>(tail: &[T], beyond: f32) -> Tile {
        let mut tile = Tile([beyond; TILE]);
        for (i, value) in tail.iter().take(TILE).enumerate() {
            tile.0[X::place(i)] = value.widen();
        }
        tile
    }

    /// The other way.
    #[inline(always)]
    pub fn put_tail<X: Lane, T: Lane>(&self, tail: &mut [T]) {
        for (i, value) in tail.iter_mut().take(TILE).enumerate() {
            *value = T::narrow(self.0[X::place(i)]);
        }
    }

    /// Adds the piece at the end of a row.
    #[inline(always)]
    pub fn add_tail<X: Lane, T: Lane>(&mut self, tail: &[T]) {
        for (i, value) in tail.iter().take(TILE).enumerate() {
            self.0[X::place(i)] += value.widen();
        }
    }
}

/// Pieces of any content, in memory that is kept for the next pass.
pub struct Tiles {
    memory: HostMemory,
}

impl Tiles {
    pub fn new(n_tiles: usize) -> Result<Self> {
        let memory = HostMemory::aligned(DType::F32, n_tiles.saturating_mul(TILE))?;
        Ok(Tiles { memory })
    }

    pub fn get(&self) -> &[Tile] {
        bytemuck::cast_slice(self.memory.slice::<f32>())
    }

    pub fn get_mut(&mut self) -> &mut [Tile] {
        bytemuck::cast_slice_mut(self.memory.slice_mut::<f32>())
    }
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

    /// Writes pair `k` of the whole piece `t`.
    #[inline(always)]
    pub fn put<S: Simd>(&mut self, simd: S, t: usize, k: usize, pair: [S::f32s; 2]) {
        T::store(simd, pair, &mut self.full[t], k, self.past_the_cache);
    }

    /// Writes the piece at the row's end.
    #[inline(always)]
    pub fn put_tail(&mut self, from: &Tile) {
        from.put_tail::<T, T>(self.tail);
    }
}

/// Writes vector `k` of a piece, past the cache where that is asked for and the processor can. The piece then lies
/// at a multiple of [`LINE_BYTES`].
#[inline(always)]
pub fn write<S: Simd, T: Pod>(
    simd: S,
    vector: S::u32s,
    piece: &mut [T; TILE],
    k: usize,
    past_the_cache: bool,
) {
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(piece);
    let to = &mut bytes[k * size_of::<S::u32s>()..][..size_of::<S::u32s>()];
    if past_the_cache {
        stream(simd, vector, to);
    } else {
        to.copy_from_slice(bytemuck::bytes_of(&vector));
    }
}

/// Writes a vector past the cache, where the processor can. `to` lies at a multiple of the vector's size.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn stream<S: Simd>(_simd: S, vector: S::u32s, to: &mut [u8]) {
    use core::arch::x86_64::{__m256, __m512};
    use std::any::TypeId;

    use pulp::x86::{V3, V4};

    let (from, to_vector) = (&raw const vector, to.as_mut_ptr().cast::<f32>());
    if TypeId::of::<S>() == TypeId::of::<V4>() {
        // SAFETY: a V4 was given, and is made only where the processor has AVX-512; its vectors have 64 bytes, and
        // `to` as many, at a multiple of 64.
        unsafe {
            let value = from.cast::<__m512>().read_unaligned();
            V4::new_unchecked()
                .avx512f
                ._mm512_stream_ps(to_vector, value);
        }
    } else if TypeId::of::<S>() == TypeId::of::<V3>() {
        // SAFETY: a V3 was given, and is made only where the processor has AVX2; its vectors have 32 bytes, and
        // `to` as many, at a multiple of 32.
        unsafe {
            let value = from.cast::<__m256>().read_unaligned();
            V3::new_unchecked().avx._mm256_stream_ps(to_vector, value);
        }
    } else {
        to.copy_from_slice(bytemuck::bytes_of(&vector));
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn stream<S: Simd>(_simd: S, vector: S::u32s, to: &mut [u8]) {
    to.copy_from_slice(bytemuck::bytes_of(&vector));
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

/// Asks for a piece of a row that is read soon, past whose pages the processor does not look by itself. What is not
/// read again after its row is asked for `once`: it then leaves the caches to what is.
#[inline(always)]
pub fn prefetch<T>(tile: Option<&[T; TILE]>, once: bool) {
    #[cfg(target_arch = "x86_64")]
    if let Some(tile) = tile {
        use core::arch::x86_64::{_MM_HINT_NTA, _MM_HINT_T0, _mm_prefetch};
        for line in 0..size_of_val(tile) / LINE_BYTES {
            // SAFETY: every x86-64 processor has SSE, and a prefetch has no effect that a program can see.
            unsafe {
                let address = tile.as_ptr().cast::<i8>().add(line * LINE_BYTES);
                if once {
                    _mm_prefetch::<_MM_HINT_NTA>(address);
                } else {
                    _mm_prefetch::<_MM_HINT_T0>(address);
                }
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (tile, once);
}
