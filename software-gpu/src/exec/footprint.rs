//! What a launch touched of global memory, kept for a launch that may begin before it has ended.
//!
//! By programmatic stream serialisation a kernel may start while the launch before it on its stream still runs. What it
//! does before its `griddepcontrol.wait` is then unordered with all of that launch.

use super::trace::{Span, Touch, first_in, merged, union};

/// The ranges of global memory that a launch read, and those that it wrote: in order, and apart.
#[derive(Debug, Default)]
pub(crate) struct Footprint {
    read: Vec<(u64, u64)>,
    written: Vec<(u64, u64)>,
}

impl Footprint {
    pub(super) fn of(spans: &[Span]) -> Footprint {
        Footprint {
            read: merged(spans, |touch| touch != Touch::Write),
            written: merged(spans, |touch| !touch.is_read()),
        }
    }

    /// The ranges that the launch wrote.
    pub(super) fn written(&self) -> &[(u64, u64)] {
        &self.written
    }

    /// What another launch touched counts as well.
    pub(super) fn add(&mut self, other: &Footprint) {
        for (own, other) in [
            (&mut self.read, &other.read),
            (&mut self.written, &other.written),
        ] {
            own.extend(other);
            *own = union(std::mem::take(own));
        }
    }

    /// Bytes read, and bytes written, each once.
    pub(super) fn bytes(&self) -> [u64; 2] {
        [&self.read, &self.written]
            .map(|ranges| ranges.iter().map(|(start, end)| end - start).sum())
    }

    /// The first of the spans, by address, that may not be unordered with the launch; where; and whether that wrote
    /// there, or read.
    pub(super) fn meets(&self, spans: &[Span]) -> Option<(Span, u64, bool)> {
        let meeting = spans.iter().filter(|span| span.early).filter_map(|span| {
            let wrote = first_in(&self.written, span.start, span.end);
            let read = first_in(&self.read, span.start, span.end).filter(|_| !span.touch.is_read());
            let at = wrote.or(read)?;
            Some((*span, at, wrote.is_some()))
        });
        meeting.min_by_key(|(span, at, _)| (*at, span.block, span.thread, span.pc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, end: u64, touch: Touch, early: bool) -> Span {
        Span {
            start,
            end,
            block: 0,
            pc: 0,
            thread: 0,
            touch,
            early,
        }
    }

    #[test]
    fn what_was_touched_early_meets_what_was_written_before() {
        let before = Footprint::of(&[
            span(0, 10, Touch::Read, false),
            span(20, 30, Touch::Write, false),
            span(25, 40, Touch::Write, false),
        ]);
        assert_eq!(before.bytes(), [10, 20]);
        let meets = |start, end, touch, early| {
            let met = before.meets(&[span(start, end, touch, early)]);
            met.map(|(_, at, wrote)| (at, wrote))
        };
        assert_eq!(meets(35, 50, Touch::Read, true), Some((35, true)));
        assert_eq!(meets(0, 21, Touch::Read, true), Some((20, true)));
        assert_eq!(meets(35, 50, Touch::Read, false), None, "it has waited");
        assert_eq!(meets(10, 20, Touch::Write, true), None, "side by side");
        assert_eq!(meets(40, 50, Touch::Atomic, true), None, "side by side");
        assert_eq!(meets(0, 10, Touch::Constant, true), None, "both read");
        assert_eq!(meets(5, 6, Touch::Write, true), Some((5, false)));
        let mut both = Footprint::of(&[span(8, 20, Touch::Write, false)]);
        both.add(&before);
        assert_eq!(both.bytes(), [10, 32]);
    }
}
