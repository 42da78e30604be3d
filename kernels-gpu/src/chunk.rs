//! weight and bias of a row's chunks, whose last may be cut short, at whatever address.

use crate::abi::VECTOR_BYTES;
use crate::vector::Packed;

/// Which of a chunk's elements there are, for code that reads them one by one.
#[derive(Clone, Copy)]
pub struct Chunk {
    /// Its first column.
    pub column: u32,
    pub n_cols: u32,
}

impl Chunk {
    /// The row ends before the chunk does.
    #[inline(always)]
    pub fn is_cut<const E: usize>(self) -> bool {
        self.column + E as u32 > self.n_cols
    }

    /// Puts `filler` where there is no column.
    #[inline(always)]
    pub fn fill<const E: usize>(self, values: &mut [f32; E], filler: f32) {
        if self.is_cut::<E>() {
            for i in 0..E {
                if self.column + i as u32 >= self.n_cols {
                    values[i] = filler;
                }
            }
        }
    }

    /// weight's or bias's elements for the chunk, `otherwise` where there is no column or where it is null: one of
    /// `Packed`'s constants, and the same of a single element. In one access where the chunk is whole, unless
    /// `one_by_one`, which it must be if it is not at a multiple of 16 bytes.
    ///
    /// # Safety
    /// If not null, it has `n_cols` elements that nothing writes during the launch.
    #[inline(always)]
    pub unsafe fn parameter<W, const E: usize>(
        self,
        from: *const W,
        otherwise: (<W as Packed<E>>::Raw, <W as Packed<1>>::Raw),
        one_by_one: bool,
    ) -> <W as Packed<E>>::Raw
    where
        W: Packed<E> + Packed<1>,
    {
        let one_by_one = one_by_one || self.is_cut::<E>();
        let at = self.column as usize;
        let at_once = !one_by_one && !from.is_null();
        // SAFETY: the caller's; the columns exist and are aligned.
        let whole =
            unsafe { <W as Packed<E>>::load_shared(from.wrapping_add(at), at_once, otherwise.0) };
        if !one_by_one || self.column >= self.n_cols {
            return whole;
        }
        let mut raw = [otherwise.1; E];
        for i in 0..E {
            let there = !from.is_null() && self.column + (i as u32) < self.n_cols;
            let from = from.wrapping_add(at + i);
            // SAFETY: the caller's; the column exists if it is there.
            raw[i] = unsafe { <W as Packed<1>>::load_shared(from, there, otherwise.1) };
        }
        <W as Packed<E>>::pack(raw.map(|raw| <W as Packed<1>>::unpack(raw)[0]))
    }
}

/// What stands for weight where there is none.
#[inline(always)]
pub fn ones<W: Packed<E> + Packed<1>, const E: usize>()
-> (<W as Packed<E>>::Raw, <W as Packed<1>>::Raw) {
    (<W as Packed<E>>::ONES, <W as Packed<1>>::ONES)
}

/// What stands for bias where there is none.
#[inline(always)]
pub fn zeros<W: Packed<E> + Packed<1>, const E: usize>()
-> (<W as Packed<E>>::Raw, <W as Packed<1>>::Raw) {
    (<W as Packed<E>>::ZEROS, <W as Packed<1>>::ZEROS)
}

/// Not a multiple of 16 bytes.
#[inline(always)]
pub fn is_apart<T>(at: *const T) -> bool {
    !(at as usize).is_multiple_of(VECTOR_BYTES as usize)
}
