//! Which bytes of an allocation something has written: a bit a byte.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A bit for each byte, shared between threads.
pub(crate) struct Written {
    words: Vec<AtomicU64>,
}

/// The words that a range touches: number, and the bits in it.
#[inline(always)]
fn words(offset: u64, bytes: u64) -> impl Iterator<Item = (usize, u64)> {
    let end = offset + bytes;
    (offset / 64..end.div_ceil(64)).map(move |word| {
        let first = offset.max(word * 64) - word * 64;
        let last = end.min(word * 64 + 64) - word * 64;
        let mask = if last - first == 64 {
            u64::MAX
        } else {
            ((1 << (last - first)) - 1) << first
        };
        (word as usize, mask)
    })
}

impl Written {
    /// Nothing written of so many bytes.
    pub fn new(bytes: u64) -> Written {
        Written {
            words: (0..bytes.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Notes that a range is written.
    #[inline(always)]
    pub fn mark(&self, offset: u64, bytes: u64) {
        for (word, mask) in words(offset, bytes) {
            let word = &self.words[word];
            // Most writes are to bytes written before, and reading is cheap.
            if mask == u64::MAX {
                word.store(mask, Relaxed);
            } else if word.load(Relaxed) & mask != mask {
                word.fetch_or(mask, Relaxed);
            }
        }
    }

    /// True if all of a range is written.
    #[inline(always)]
    pub fn all(&self, offset: u64, bytes: u64) -> bool {
        words(offset, bytes).all(|(word, mask)| self.words[word].load(Relaxed) & mask == mask)
    }

    /// The first byte of a range that is not written.
    pub fn first_gap(&self, offset: u64, bytes: u64) -> Option<u64> {
        (offset..offset + bytes)
            .find(|at| self.words[(at / 64) as usize].load(Relaxed) >> (at % 64) & 1 == 0)
    }

    /// Makes a range what a range of `from` is.
    pub fn copy(&self, offset: u64, from: &Written, from_offset: u64, bytes: u64) {
        if from.all(from_offset, bytes) {
            return self.mark(offset, bytes);
        }
        // Out first, since the ranges may overlap.
        let bits: Vec<bool> = (0..bytes)
            .map(|i| {
                let at = from_offset + i;
                from.words[(at / 64) as usize].load(Relaxed) >> (at % 64) & 1 == 1
            })
            .collect();
        for (at, written) in (offset..).zip(bits) {
            let (word, bit) = (&self.words[(at / 64) as usize], 1 << (at % 64));
            if written {
                word.fetch_or(bit, Relaxed);
            } else {
                word.fetch_and(!bit, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_marked_to_the_byte() {
        for (offset, bytes) in [(0, 1), (0, 64), (63, 2), (10, 100), (64, 128), (127, 66)] {
            let written = Written::new(256);
            written.mark(offset, bytes);
            for at in 0..256 {
                assert_eq!(
                    written.all(at, 1),
                    (offset..offset + bytes).contains(&at),
                    "{offset}+{bytes} at {at}"
                );
            }
            assert!(written.all(offset, bytes) && !written.all(offset, bytes + 1));
            assert_eq!(written.first_gap(offset, bytes + 1), Some(offset + bytes));
        }
    }
}
