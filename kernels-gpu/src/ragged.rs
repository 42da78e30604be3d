//! Rows that start anywhere, moved 16 bytes an access all the same.
//!
//! Memory is read and written by aligned vectors of 16 bytes, a lane works on *chunks* of 16 bytes that start
//! at a row's first column, and shared memory stands between the two. So a lane has the columns that it has
//! in a `rows` variant, whatever the address, and the results are the same bits.
//!
//! ```text
//! address:    |  V0    |  V1    |  V2    |  V3    |      aligned vectors; the row starts `shift` bytes into V0
//! row:           | c0     | c1     | c2   |              chunk j is the end of V(j) and the start of V(j + 1)
//!             |--|         shift                         V1 and V2 are copied whole, of V0 and V3 only the row's part
//! ```
//!
//! Loading, the row's image in shared memory is a copy of its vectors. Storing, it is the chunks one after
//! the other, and vector i is the end of chunk i - 1 and the start of chunk i. The vectors at a row's two ends
//! may hold another row's elements, which another block may be writing: they are read and written by
//! elements, by lanes 0 to 7 of the row.

use cuda_std::ext::Shared;

use crate::abi::{LINE_VECTORS, image_lines, image_vectors};
use crate::access::{load_half_wide, load_word, store_half, store_word, store_x4};
use crate::place::forgotten;
use crate::stage;
use crate::team::Team;

/// Words of a vector.
const WORDS: u32 = 4;

/// Bytes of a vector.
const BYTES: u32 = 16;

/// Lanes of a row, its first, that move its ends: a word each of two vectors.
pub const ENDS_LANES: u32 = 2 * WORDS;

/// A word at one of a row's ends, as it was asked for: to put its parts together is to wait for them.
#[derive(Clone, Copy, Default)]
pub struct Ends {
    low: u32,
    /// The upper half of a word of two elements, else nothing.
    high: u32,
}

/// Where the columns of a row lie, at whatever address.
#[derive(Clone, Copy)]
pub struct Span {
    /// The vector that the first column is in.
    base: *mut u8,
    /// Bytes of that vector before the first column.
    shift: u32,
    /// Bytes from `base` to the end of the last column.
    end: u32,
}

impl Span {
    /// `n_cols` columns at `at`; none is a span too.
    #[inline(always)]
    pub fn new<T>(at: *const T, n_cols: u32) -> Self {
        let shift = at as usize as u32 % BYTES;
        Self {
            base: at.cast_mut().cast::<u8>().wrapping_sub(shift as usize),
            shift,
            end: shift + n_cols * size_of::<T>() as u32,
        }
    }

    /// `image` from where the row's first vector may lie in it: as far into a line as in memory.
    #[inline(always)]
    pub fn in_image<const LANES: u32>(self, image: Shared<u32>) -> Shared<u32> {
        if !image_lines(LANES) {
            return image;
        }
        image.offset(self.base as usize as u32 / BYTES % LINE_VECTORS * WORDS)
    }

    /// Vectors before the one in which the first byte after the row lies.
    #[inline(always)]
    fn vectors(self) -> u32 {
        self.end / BYTES
    }

    /// Vector `i` has columns of this row alone.
    #[inline(always)]
    fn is_whole(self, i: u32) -> bool {
        i < self.vectors() && (i > 0 || self.shift == 0)
    }

    /// Asks for the row's whole vectors, for lane `lane` of the `LANES` that share it.
    ///
    /// # Safety
    /// The row is readable; nothing still reads `image`, which has room for `image_vectors`.
    #[inline(always)]
    pub unsafe fn ask<const LANES: u32, const VECS: usize>(self, image: Shared<u32>, lane: u32) {
        let mut to = [image; VECS];
        let mut from = [(self.base.cast_const(), false); VECS];
        for k in 0..VECS {
            let i = lane + k as u32 * LANES;
            to[k] = image.offset(i * WORDS);
            from[k] = (
                self.base.cast_const().wrapping_add((i * BYTES) as usize),
                self.is_whole(i),
            );
        }
        // SAFETY: the caller's; these vectors are inside the row.
        unsafe { stage::ask_whole(to, from) };
    }

    /// The vector and the word of it, in words from `base`, that lane `lane` has of the row's ends, and
    /// whether it is to be taken from memory by its elements.
    #[inline(always)]
    fn end_word(self, lane: u32) -> (u32, bool) {
        let last = self.vectors();
        let is_head = lane < WORDS;
        let vector = if is_head { 0 } else { last };
        let is_partial = if is_head { !self.is_whole(0) } else { last > 0 };
        (
            vector * WORDS + lane % WORDS,
            is_partial && lane < ENDS_LANES,
        )
    }

    /// This lane's word of the vectors at the row's ends. Where it has no column: zero, or if `FILLED` one of the
    /// row's, if that has any.
    ///
    /// # Safety
    /// The row is readable.
    #[inline(always)]
    pub unsafe fn load_ends<T, const FILLED: bool>(self, lane: u32) -> Ends {
        let (word, is_mine) = self.end_word(lane);
        let byte = word * WORDS;
        let size = size_of::<T>() as u32;
        let at = |byte: u32| {
            let byte = match FILLED {
                true => byte.max(self.shift).min(self.end.wrapping_sub(size)),
                false => byte,
            };
            self.base.cast_const().wrapping_add(byte as usize)
        };
        let holds = |byte: u32| match FILLED {
            true => lane < ENDS_LANES && self.shift < self.end,
            false => is_mine && byte >= self.shift && byte < self.end,
        };
        let mut ends = Ends::default();
        // SAFETY: an element at a byte from `shift` to `end` is the row's.
        unsafe {
            if size == 4 {
                [ends.low] = load_word(at(byte).cast(), holds(byte), [0]);
            } else {
                ends.low = load_half_wide(at(byte).cast(), holds(byte));
                ends.high = load_half_wide(at(byte + 2).cast(), holds(byte + 2));
            }
        }
        ends
    }

    /// Puts that word into the row's image, and after the row zeros, or if `FILLED` words of its last vector.
    ///
    /// # Safety
    /// Nothing still reads `image`, which has room for `image_vectors`.
    #[inline(always)]
    pub unsafe fn put_ends<const FILLED: bool>(self, image: Shared<u32>, lane: u32, ends: Ends) {
        if lane < ENDS_LANES {
            let (at, is_mine) = self.end_word(lane);
            // Or the compiler would put them together, and wait for them, where they are asked for.
            let word = forgotten(ends.low) | forgotten(ends.high) << 16;
            // SAFETY: the vector that the row ends in is at most the last but one of the image; each word
            // is one lane's.
            unsafe {
                if is_mine {
                    image.store(at, word);
                }
                if lane >= WORDS {
                    let after = (self.vectors() + 1) * WORDS + lane % WORDS;
                    image.store(after, if FILLED { word } else { 0 });
                }
            }
        }
    }

    /// Puts zeros after the vector that `put_ends` puts after the row, as far as a row of the same length can have reached
    /// that lay further into a line.
    ///
    /// # Safety
    /// As for `put_ends`.
    #[inline(always)]
    pub unsafe fn clear_after<const LANES: u32>(self, image: Shared<u32>, lane: u32) {
        if image_lines(LANES) && lane < LINE_VECTORS - 1 {
            let after = self.vectors() + 2 + lane;
            // SAFETY: the row that lies furthest into a line has as many vectors after it; one lane's.
            unsafe { image.store4(after * WORDS, [0; 4]) };
        }
    }

    /// All of a row into its image, waited for.
    ///
    /// # Safety
    /// As for `ask`; all threads that share the row call it together.
    #[inline(always)]
    pub unsafe fn fetch<T, const LANES: u32, const VECS: usize, const BLOCK: u32>(
        self,
        team: Team<LANES, BLOCK>,
        image: Shared<u32>,
        lane: u32,
    ) {
        // SAFETY: the caller's.
        unsafe {
            self.ask::<LANES, VECS>(image, lane);
            stage::commit();
            self.put_ends::<false>(image, lane, self.load_ends::<T, false>(lane));
            stage::wait::<1>();
            team.sync();
        }
    }

    /// This lane's chunks of the row's image: zeros after the last column.
    ///
    /// # Safety
    /// All of the row is in the image, with zeros after it, and a barrier lies between.
    #[inline(always)]
    pub unsafe fn read<T, const LANES: u32, const VECS: usize>(
        self,
        image: Shared<u32>,
        lane: u32,
    ) -> [[u32; 4]; VECS] {
        let zeros = self.vectors() + 1;
        let mut chunks = [[0; 4]; VECS];
        for k in 0..VECS {
            let j = lane + k as u32 * LANES;
            // SAFETY: the caller's; no vector after the zeros, which are the image's last.
            let vector = |i: u32| unsafe { image.load4(i.min(zeros) * WORDS) };
            chunks[k] = shifted::<T>(vector(j), vector(j + 1), self.shift);
        }
        chunks
    }

    /// The same of a row that shares its image with others of the same length: what is there after the last column.
    ///
    /// # Safety
    /// As for `read`; the image has been cleared before its first row.
    #[inline(always)]
    pub unsafe fn read_filled<T, const LANES: u32, const VECS: usize>(
        self,
        image: Shared<u32>,
        lane: u32,
    ) -> [[u32; 4]; VECS] {
        // At constant offsets from the lane's first.
        let own = image.offset(lane * WORDS);
        let mut chunks = [[0; 4]; VECS];
        for k in 0..VECS {
            // SAFETY: the caller's; the image has two vectors more than there are chunks.
            let vector = |i: u32| unsafe { own.load4((k as u32 * LANES + i) * WORDS) };
            chunks[k] = shifted::<T>(vector(0), vector(1), self.shift);
        }
        chunks
    }

    /// Writes the row: `chunks[k]` is chunk `lane + k * LANES`.
    ///
    /// # Safety
    /// The row is writable and no other lanes write it; all threads that share it call this together;
    /// nothing still reads `exchange`, which has room for `LANES * VECS` vectors.
    #[inline(always)]
    pub unsafe fn write<T, const LANES: u32, const VECS: usize, const BLOCK: u32>(
        self,
        team: Team<LANES, BLOCK>,
        exchange: Shared<u32>,
        lane: u32,
        chunks: [[u32; 4]; VECS],
    ) {
        for k in 0..VECS {
            // SAFETY: this lane's own place.
            unsafe { exchange.store4((lane + k as u32 * LANES) * WORDS, chunks[k]) };
        }
        // SAFETY: the caller's.
        unsafe { team.sync() };
        let back = u32::from(self.shift > 0);
        for k in 0..VECS {
            let i = lane + k as u32 * LANES;
            let at = self.base.wrapping_add((i * BYTES) as usize);
            // SAFETY: written before the barrier; the vector is inside the row.
            unsafe {
                let before = exchange.load4(i.saturating_sub(back) * WORDS);
                let shift = BYTES.wrapping_sub(self.shift) % BYTES;
                let vector = shifted::<T>(before, chunks[k], shift);
                store_x4(at.cast(), vector, self.is_whole(i));
            }
        }
        let size = size_of::<T>() as u32;
        if lane < BYTES / size {
            let last = self.vectors() * BYTES;
            let (head, tail) = (self.shift + lane * size, last + lane * size);
            // SAFETY: bytes from `shift` to `end` are the row's, and their elements in the exchange.
            unsafe {
                if !self.is_whole(0) {
                    self.write_element::<T>(exchange, head, head < self.end.min(BYTES));
                }
                // A row that ends in its first vector is all head.
                self.write_element::<T>(exchange, tail, last > 0 && tail < self.end);
            }
        }
    }

    /// Writes the element at `byte` from `base`, from its chunk in the exchange.
    ///
    /// # Safety
    /// If `valid`, it is in the row; its chunk is in the exchange.
    #[inline(always)]
    unsafe fn write_element<T>(self, exchange: Shared<u32>, byte: u32, valid: bool) {
        let at = self.base.wrapping_add(byte as usize);
        if valid {
            let byte = byte - self.shift;
            // SAFETY: the caller's.
            unsafe {
                let word = exchange.load(byte / WORDS);
                if size_of::<T>() == 4 {
                    store_word(at.cast(), [word], true);
                } else {
                    store_half(at.cast(), [(word >> (byte % WORDS * 8)) as u16], true);
                }
            }
        }
    }
}

/// Puts zeros into all of an image.
///
/// # Safety
/// The lanes that share the row call it together; nothing is in the image that is still read.
#[inline(always)]
pub unsafe fn clear<const LANES: u32, const VECS: usize>(image: Shared<u32>, lane: u32) {
    let mut i = lane;
    while i < image_vectors(LANES, VECS as u32) {
        // SAFETY: in the image; one lane's.
        unsafe { image.store4(i * WORDS, [0; 4]) };
        i += LANES;
    }
}

/// Bytes `shift` (below 16, a multiple of T's size) to `shift + 15` of two vectors.
///
/// By selection: a branch on the shift takes fewer instructions, and was slower, since rows take it by turns.
#[inline(always)]
fn shifted<T>(first: [u32; 4], second: [u32; 4], shift: u32) -> [u32; 4] {
    let ([a, b, c, d], [e, f, g, h]) = (first, second);
    let pick = |there: bool, far: u32, near: u32| if there { far } else { near };
    let two = shift & 8 != 0;
    let [a, b, c, d, e, f] = [
        pick(two, c, a),
        pick(two, d, b),
        pick(two, e, c),
        pick(two, f, d),
        pick(two, g, e),
        pick(two, h, f),
    ];
    let one = shift & 4 != 0;
    let words = [
        pick(one, b, a),
        pick(one, c, b),
        pick(one, d, c),
        pick(one, e, d),
        pick(one, f, e),
    ];
    funnels::<T>(words, shift % WORDS * 8)
}

/// Four words from five, from bit `bits` of the first on: 0, or 16 where elements are that small.
#[inline(always)]
fn funnels<T>([a, b, c, d, e]: [u32; 5], bits: u32) -> [u32; 4] {
    if size_of::<T>() == 4 {
        return [a, b, c, d];
    }
    [
        funnel(a, b, bits),
        funnel(b, c, bits),
        funnel(c, d, bits),
        funnel(d, e, bits),
    ]
}

/// The lower word of two, shifted right by `bits`, below 32.
#[inline(always)]
fn funnel(low: u32, high: u32, bits: u32) -> u32 {
    #[cfg(target_arch = "nvptx64")]
    {
        let word;
        // SAFETY: register arithmetic.
        unsafe {
            core::arch::asm!(
                "shf.r.wrap.b32 {word}, {low}, {high}, {bits};",
                word = out(reg32) word, low = in(reg32) low, high = in(reg32) high, bits = in(reg32) bits,
                options(nostack, preserves_flags, pure, nomem),
            );
        }
        word
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        ((u64::from(high) << 32 | u64::from(low)) >> bits) as u32
    }
}
