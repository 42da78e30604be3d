//! Which global bytes each block touched, and whether two blocks of a launch touched the same.
//!
//! Blocks write down ranges as they run; after the launch the ranges of all are sorted and swept once.
//! So the answer does not depend on which blocks happened to run at the same time. What is not known is
//! order by other means: two blocks that agree through a flag still count as unordered.

use rayon::prelude::*;

use crate::program::Access;

/// How a range was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    Read,
    /// By a load through the read-only cache.
    Constant,
    Write,
    /// By atomics, and by the accesses that are meant to meet them.
    Atomic,
}

impl Touch {
    /// True for reads, through whatever cache.
    pub fn is_read(self) -> bool {
        matches!(self, Touch::Read | Touch::Constant)
    }

    /// True if the two may not be by different blocks.
    fn clashes(self, other: Touch) -> bool {
        !(self.is_read() && other.is_read() || (self, other) == (Touch::Atomic, Touch::Atomic))
    }

    /// True if not even one block may do both: what is read through the read-only cache must not be
    /// written by the launch at all.
    fn clashes_with_own(self, other: Touch) -> bool {
        self.clashes(other) && (self == Touch::Constant || other == Touch::Constant)
    }
}

/// A range that a block touched by one instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub start: u64,
    pub end: u64,
    pub block: u64,
    pub pc: u32,
    /// The thread that touched the first byte.
    pub thread: u32,
    pub touch: Touch,
    /// While the launch before may still have run.
    pub early: bool,
}

/// The ranges of the blocks that a worker ran.
#[derive(Default)]
pub(super) struct Trace {
    pub spans: Vec<Span>,
    /// The last span of each access in this block.
    last: Vec<u32>,
    block: u64,
}

impl Trace {
    pub fn new(accesses: usize) -> Trace {
        Trace {
            spans: Vec::new(),
            last: vec![u32::MAX; accesses],
            block: 0,
        }
    }

    /// What follows is by this block.
    pub fn begin(&mut self, block: u64) {
        self.block = block;
        self.last.fill(u32::MAX);
    }

    /// Notes a range.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "they are what a span has")]
    pub fn note(
        &mut self,
        access: u32,
        touch: Touch,
        start: u64,
        bytes: u64,
        pc: u32,
        thread: u32,
        early: bool,
    ) {
        let end = start + bytes;
        if let Some(span) = self.spans.get_mut(self.last[access as usize] as usize)
            && span.early == early
        {
            if start >= span.start && end <= span.end {
                return;
            }
            if start == span.end {
                span.end = end;
                return;
            }
        }
        self.last[access as usize] = self.spans.len() as u32;
        self.spans.push(Span {
            start,
            end,
            block: self.block,
            pc,
            thread,
            touch,
            early,
        });
    }
}

/// How an access touches memory.
pub(super) fn touch_of(access: &Access, reads: bool) -> Touch {
    match (access.strong, reads) {
        (true, _) => Touch::Atomic,
        (false, true) if access.read_only => Touch::Constant,
        (false, true) => Touch::Read,
        (false, false) => Touch::Write,
    }
}

/// The spans of a kind that reach furthest, of two different blocks.
#[derive(Clone, Copy, Default)]
struct Reach {
    first: Option<Span>,
    second: Option<Span>,
}

impl Reach {
    fn add(&mut self, span: Span) {
        match self.first {
            Some(first) if first.block == span.block => {
                if span.end > first.end {
                    self.first = Some(span);
                }
            }
            Some(first) if span.end > first.end => {
                self.second = Some(first);
                self.first = Some(span);
            }
            Some(_) => {
                if self.second.is_none_or(|second| span.end > second.end) {
                    self.second = Some(span);
                }
            }
            None => self.first = Some(span),
        }
    }

    /// A span that reaches past `start`, of a block other than `but` if there is one.
    fn past(&self, start: u64, but: Option<u64>) -> Option<Span> {
        let spans = [self.first, self.second].into_iter().flatten();
        spans
            .into_iter()
            .find(|span| Some(span.block) != but && span.end > start)
    }
}

/// The first byte that two blocks touched, one writing, if there is one; `written` is what any wrote, [`merged`].
pub(super) fn find_race(mut spans: Vec<Span>, written: &[(u64, u64)]) -> Option<(Span, Span, u64)> {
    // What nothing wrote cannot be raced for: most reads go here.
    spans.retain(|span| !span.touch.is_read() || first_in(written, span.start, span.end).is_some());
    spans.par_sort_unstable_by_key(|span| (span.start, span.end, span.block, span.pc));
    let mut reaches = [Touch::Read, Touch::Constant, Touch::Write, Touch::Atomic]
        .map(|touch| (touch, Reach::default()));
    for span in spans {
        for (touch, reach) in &reaches {
            let but = (!span.touch.clashes_with_own(*touch)).then_some(span.block);
            if span.touch.clashes(*touch)
                && let Some(other) = reach.past(span.start, but)
            {
                return Some((other, span, span.start));
            }
        }
        for (touch, reach) in &mut reaches {
            if *touch == span.touch {
                reach.add(span);
            }
        }
    }
    None
}

/// The union of the ranges that `of` picks: in order, and apart.
pub(super) fn merged(spans: &[Span], of: impl Fn(Touch) -> bool) -> Vec<(u64, u64)> {
    let picked = spans.iter().filter(|span| of(span.touch));
    union(picked.map(|span| (span.start, span.end)).collect())
}

/// The union of ranges: in order, and apart.
pub(super) fn union(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.par_sort_unstable();
    ranges.dedup_by(|next, last| {
        let joins = next.0 <= last.1;
        if joins {
            last.1 = last.1.max(next.1);
        }
        joins
    });
    ranges
}

/// The first byte from `start` to `end` that is in one of the ranges, which are in order, and apart.
pub(super) fn first_in(ranges: &[(u64, u64)], start: u64, end: u64) -> Option<u64> {
    let from = ranges.partition_point(|range| range.1 <= start);
    let range = ranges.get(from).filter(|range| range.0 < end)?;
    Some(range.0.max(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(block: u64, start: u64, end: u64, touch: Touch) -> Span {
        Span {
            start,
            end,
            block,
            pc: 0,
            thread: 0,
            touch,
            early: false,
        }
    }

    fn race(spans: Vec<Span>) -> Option<(Span, Span, u64)> {
        let written = merged(&spans, |touch| !touch.is_read());
        find_race(spans, &written)
    }

    #[test]
    fn a_race_is_two_blocks_one_writing() {
        use Touch::{Atomic, Read, Write};
        for (a, b, races) in [
            (Read, Read, false),
            (Read, Write, true),
            (Write, Write, true),
            (Atomic, Atomic, false),
            (Atomic, Read, true),
            (Write, Atomic, true),
        ] {
            let both = |second, start| vec![span(1, 0, 10, a), span(second, start, 20, b)];
            assert_eq!(race(both(2, 9)).is_some(), races, "{a:?} {b:?}");
            assert!(race(both(1, 9)).is_none(), "one block");
            assert!(race(both(2, 10)).is_none(), "side by side");
        }
    }

    #[test]
    fn a_long_span_of_ones_own_hides_no_race() {
        use Touch::{Read, Write};
        let spans = vec![
            span(1, 0, 100, Read),
            span(2, 0, 30, Read),
            span(1, 20, 22, Write),
        ];
        let (a, b, at) = race(spans).unwrap();
        assert_eq!((a.block, b.block, at), (2, 1, 20));
    }

    #[test]
    fn ranges_are_merged_in_order() {
        let spans = [
            span(1, 0, 10, Touch::Read),
            span(2, 5, 20, Touch::Read),
            span(3, 30, 31, Touch::Write),
            span(3, 40, 50, Touch::Read),
            span(4, 2, 3, Touch::Read),
        ];
        let read = merged(&spans, |touch| touch == Touch::Read);
        assert_eq!(read, [(0, 20), (40, 50)]);
    }
}
