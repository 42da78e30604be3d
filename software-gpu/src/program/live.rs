//! Which registers are needed at a time: how many a thread has, and slots shared by registers that are
//! never needed together.
//!
//! Compiled PTX names a new register for almost every value. Sharing slots brings a warp's registers
//! from far more than the processor's nearest cache holds to about what a device would give the thread.
//! Lanes that took different ways cannot disturb each other: each writes its own lane of a slot only.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::cfg::Graph;
use super::operands::{Tables, Use, visit};
use super::{Class, Guard, Program};

/// Bits of live sets beyond which a program is left as it is: no compiled kernel comes near it, and the
/// time and memory for loading any text stay bounded.
const MOST_BITS: usize = 1 << 27;

/// Shares slots. The result is how many 32-bit registers are needed at a time.
pub(super) fn share_slots(program: &mut Program) -> u32 {
    let graph = Graph::new(program);
    let numbers = Numbers::new(program);
    if numbers.count * graph.starts.len() > MOST_BITS {
        return u32::MAX;
    }
    let uses = uses(program, &numbers);
    let live = live_ranges(program, &graph, &numbers, &uses);
    rename(program, &numbers, &live.ranges);
    live.most
}

/// Slots that are registers, in one numbering: those of each class behind the other.
struct Numbers {
    start: [usize; 3],
    count: usize,
    /// True for constants, which keep a slot of their own.
    fixed: Vec<bool>,
    class: Vec<Class>,
}

impl Numbers {
    fn new(program: &Program) -> Numbers {
        let sizes = program.slots.map(usize::from);
        let start = [0, sizes[0], sizes[0] + sizes[1]];
        let count = sizes.iter().sum();
        let mut fixed = vec![false; count];
        for (slot, _) in &program.initial {
            fixed[start[slot.class as usize] + slot.index as usize] = true;
        }
        let class = [Class::Pred, Class::R32, Class::R64];
        let class = class
            .into_iter()
            .zip(sizes)
            .flat_map(|(class, size)| vec![class; size])
            .collect();
        Numbers {
            start,
            count,
            fixed,
            class,
        }
    }

    fn of(&self, class: Class, index: u16) -> usize {
        self.start[class as usize] + index as usize
    }
}

/// What each instruction reads, and what it writes; a write that does not happen for all lanes leaves
/// the old value alive.
struct Uses {
    reads: Vec<Vec<usize>>,
    writes: Vec<Vec<usize>>,
    whole: Vec<bool>,
}

fn uses(program: &mut Program, numbers: &Numbers) -> Uses {
    let count = program.code.len();
    let mut out = Uses {
        reads: vec![Vec::new(); count],
        writes: vec![Vec::new(); count],
        whole: vec![true; count],
    };
    let mut tables = Tables {
        accesses: &mut program.accesses,
        copies: &mut program.copies,
        mbarriers: &mut program.mbarriers,
        parts: &mut program.parts,
    };
    for (pc, instruction) in program.code.iter_mut().enumerate() {
        out.whole[pc] = instruction.guard == Guard::Always;
        visit(instruction, &mut tables, &mut |class, index, what| {
            let number = numbers.of(class, *index);
            match what {
                _ if numbers.fixed[number] => {}
                Use::Read => out.reads[pc].push(number),
                Use::Write => out.writes[pc].push(number),
            }
        });
    }
    out
}

struct Live {
    /// First and last instruction at which each register is needed.
    ranges: Vec<Option<(u32, u32)>>,
    most: u32,
}

/// A set of register numbers.
#[derive(Clone, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn add(&mut self, i: usize) -> bool {
        let (word, bit) = (&mut self.0[i / 64], 1 << (i % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn remove(&mut self, i: usize) -> bool {
        let (word, bit) = (&mut self.0[i / 64], 1 << (i % 64));
        let had = *word & bit != 0;
        *word &= !bit;
        had
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            (0..64)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| word * 64 + bit)
        })
    }
}

fn live_ranges(program: &Program, graph: &Graph, numbers: &Numbers, uses: &Uses) -> Live {
    let blocks = graph.starts.len();
    let none = Set(vec![0; numbers.count.div_ceil(64)]);
    let range = |block: usize| {
        let end = graph
            .starts
            .get(block + 1)
            .map_or(program.code.len(), |end| *end as usize);
        graph.starts[block] as usize..end
    };
    // What a block needs from before it: read before written in it, or needed behind and not written.
    let mut entry = vec![none.clone(); blocks];
    let mut previous = vec![Vec::new(); blocks];
    for block in 0..blocks {
        graph.all_next[block]
            .iter()
            .for_each(|next| previous[*next as usize].push(block));
    }
    let leaving = |entry: &[Set], block: usize| {
        let mut set = none.clone();
        for next in &graph.all_next[block] {
            set.0
                .iter_mut()
                .zip(&entry[*next as usize].0)
                .for_each(|(a, b)| *a |= b);
        }
        set
    };
    let mut work: Vec<usize> = (0..blocks).collect();
    let mut waiting = vec![true; blocks];
    while let Some(block) = work.pop() {
        waiting[block] = false;
        let mut set = leaving(&entry, block);
        for pc in range(block).rev() {
            if uses.whole[pc] {
                uses.writes[pc].iter().for_each(|i| {
                    set.remove(*i);
                });
            }
            uses.reads[pc].iter().for_each(|i| {
                set.add(*i);
            });
        }
        if set != entry[block] {
            entry[block] = set;
            for from in &previous[block] {
                if !waiting[*from] {
                    waiting[*from] = true;
                    work.push(*from);
                }
            }
        }
    }
    let mut ranges: Vec<Option<(u32, u32)>> = vec![None; numbers.count];
    let mut extend = |i: usize, pc: usize| {
        let pc = pc as u32;
        let range = ranges[i].get_or_insert((pc, pc));
        *range = (range.0.min(pc), range.1.max(pc));
    };
    let weight = |i: usize| match numbers.class[i] {
        Class::Pred => 0,
        Class::R32 => 1,
        Class::R64 => 2,
    };
    let mut most = 0u32;
    for block in 0..blocks {
        let places = range(block);
        let mut set = leaving(&entry, block);
        set.iter().for_each(|i| extend(i, places.end - 1));
        entry[block].iter().for_each(|i| extend(i, places.start));
        let mut now: u32 = set.iter().map(weight).sum();
        for pc in places.rev() {
            most = most.max(now);
            for i in &uses.writes[pc] {
                extend(*i, pc);
                if uses.whole[pc] && set.remove(*i) {
                    now -= weight(*i);
                }
            }
            for i in &uses.reads[pc] {
                extend(*i, pc);
                if set.add(*i) {
                    now += weight(*i);
                }
            }
        }
        most = most.max(now);
    }
    Live { ranges, most }
}

/// Gives registers whose ranges do not meet the same slot.
fn rename(program: &mut Program, numbers: &Numbers, ranges: &[Option<(u32, u32)>]) {
    let mut order: Vec<usize> = (0..numbers.count)
        .filter(|i| ranges[*i].is_some())
        .collect();
    order.sort_by_key(|i| (ranges[*i], *i));
    let mut slot = vec![u16::MAX; numbers.count];
    let mut used = [0u16; 3];
    let mut free: [BTreeSet<u16>; 3] = Default::default();
    let mut busy: BinaryHeap<Reverse<(u32, u8, u16)>> = BinaryHeap::new();
    let mut next = |class: Class| {
        let next = &mut used[class as usize];
        *next += 1;
        *next - 1
    };
    // Constants first: they stay.
    for (place, _) in &mut program.initial {
        let number = numbers.of(place.class, place.index);
        slot[number] = next(place.class);
        place.index = slot[number];
    }
    for i in order {
        let Some((first, last)) = ranges[i] else {
            continue;
        };
        while let Some(Reverse((end, class, index))) = busy.peek().copied() {
            if end >= first {
                break;
            }
            busy.pop();
            free[usize::from(class)].insert(index);
        }
        let class = numbers.class[i];
        slot[i] = free[class as usize]
            .pop_first()
            .unwrap_or_else(|| next(class));
        busy.push(Reverse((last, class as u8, slot[i])));
    }
    let mut tables = Tables {
        accesses: &mut program.accesses,
        copies: &mut program.copies,
        mbarriers: &mut program.mbarriers,
        parts: &mut program.parts,
    };
    for instruction in &mut program.code {
        visit(instruction, &mut tables, &mut |class, index, _| {
            *index = slot[numbers.of(class, *index)]
        });
    }
    program.slots = used;
}
