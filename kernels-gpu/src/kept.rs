//! Numbers that a thread keeps in shared memory, for kernels that have no registers to keep them in.

use cuda_std::ext::Shared;

use crate::team::Team;
use crate::vector::Packed;

/// An f32 for each of a thread's columns, in shared memory: read where it is needed, so that it takes no register
/// between.
#[derive(Clone, Copy)]
pub struct Kept<const LANES: u32> {
    /// This thread's first four.
    own: Shared<f32>,
}

impl<const LANES: u32> Kept<LANES> {
    /// Behind so many vectors of the dynamic shared memory, for thread `thread` of a team with rows of `LANES`.
    #[inline(always)]
    pub fn behind(vectors: u32, thread: u32) -> Self {
        let start = Shared::<f32>::dynamic().offset(vectors * 4);
        Self {
            own: start.offset(thread * 4),
        }
    }

    /// Four elements of a thread lie together, and beside those of the next thread.
    #[inline(always)]
    fn place<const E: usize>(k: usize, four: usize) -> u32 {
        (k * (E / 4) + four) as u32 * Team::<LANES, LANES>::SIZE * 4
    }

    /// Puts those of the thread's vector `k` there.
    ///
    /// # Safety
    /// The launch has room for it, of each thread.
    #[inline(always)]
    pub unsafe fn put<const E: usize>(self, k: usize, values: [f32; E]) {
        for four in 0..E / 4 {
            let values = [0, 1, 2, 3].map(|i| values[four * 4 + i]);
            // SAFETY: the caller's; this thread's own place.
            unsafe { self.own.store4(Self::place::<E>(k, four), values) };
        }
    }

    /// Those of the thread's vector `k`.
    ///
    /// # Safety
    /// This thread has put them there.
    #[inline(always)]
    pub unsafe fn get<const E: usize>(self, k: usize) -> [f32; E] {
        let mut values = [0.0; E];
        for four in 0..E / 4 {
            // SAFETY: the caller's.
            let four_values = unsafe { self.own.load4(Self::place::<E>(k, four)) };
            for i in 0..4 {
                values[four * 4 + i] = four_values[i];
            }
        }
        values
    }

    /// All of the thread's, as a row of f32 has them.
    ///
    /// # Safety
    /// As for [`get`](Self::get).
    #[inline(always)]
    pub unsafe fn all<const E: usize, const VECS: usize>(self) -> [<f32 as Packed<E>>::Raw; VECS]
    where
        f32: Packed<E>,
    {
        let mut all = [<f32 as Packed<E>>::ZEROS; VECS];
        for k in 0..VECS {
            // SAFETY: the caller's.
            all[k] = <f32 as Packed<E>>::pack(unsafe { self.get(k) });
        }
        all
    }
}
