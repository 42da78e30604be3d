//! Where lanes that a branch parted meet again: its immediate post-dominator, the first instruction
//! that every way from it to the end goes through.
//!
//! Ways into a trap are left out, and so are branches straight to the end where there is another way:
//! lanes that take them are gone, and the others need not wait for the end to go on together. NVIDIA's
//! compiler, too, lets the lanes meet that are left.

use super::{Guard, NEVER, Op, Program};

/// Sets `meet` of every branch.
pub(super) fn find_meeting_points(program: &mut Program) {
    let graph = Graph::new(program);
    let meets = graph.post_dominators();
    for (pc, instruction) in program.code.iter_mut().enumerate() {
        let block = graph.block_of[pc] as usize;
        let place = meets[block].map_or(NEVER, |block| graph.starts[block]);
        match &mut instruction.op {
            Op::Branch { meet, .. } | Op::BranchTable { meet, .. } => *meet = place,
            _ => {}
        }
    }
}

/// Basic blocks and the ways between them.
pub(super) struct Graph {
    /// The first instruction of each block.
    pub starts: Vec<u32>,
    block_of: Vec<u32>,
    /// Where each block can go on, all ways.
    pub all_next: Vec<Vec<u32>>,
    /// The same without the ways that are left out.
    next: Vec<Vec<u32>>,
    /// Blocks that lead to the end by themselves.
    ends: Vec<bool>,
}

impl Graph {
    pub fn new(program: &Program) -> Graph {
        let code = &program.code;
        let mut leader = vec![false; code.len()];
        leader[0] = true;
        for (pc, instruction) in code.iter().enumerate() {
            let ends = match instruction.op {
                Op::Branch { target, .. } => {
                    leader[target as usize] = true;
                    true
                }
                Op::BranchTable { table, .. } => {
                    program.tables[table as usize]
                        .iter()
                        .for_each(|target| leader[*target as usize] = true);
                    true
                }
                Op::Exit | Op::Trap => true,
                _ => false,
            };
            if ends && pc + 1 < code.len() {
                leader[pc + 1] = true;
            }
        }
        let starts: Vec<u32> = (0..code.len() as u32)
            .filter(|pc| leader[*pc as usize])
            .collect();
        let mut block_of = vec![0; code.len()];
        for (block, start) in starts.iter().enumerate() {
            let end = starts
                .get(block + 1)
                .map_or(code.len(), |end| *end as usize);
            block_of[*start as usize..end].fill(block as u32);
        }
        let next: Vec<Vec<u32>> = (0..starts.len())
            .map(|block| {
                let end = starts
                    .get(block + 1)
                    .map_or(code.len(), |end| *end as usize);
                let last = &code[end - 1];
                let mut out = Vec::new();
                let falls = match last.op {
                    Op::Branch { target, .. } => {
                        out.push(block_of[target as usize]);
                        last.guard != Guard::Always
                    }
                    Op::BranchTable { table, .. } => {
                        out.extend(
                            program.tables[table as usize]
                                .iter()
                                .map(|pc| block_of[*pc as usize]),
                        );
                        last.guard != Guard::Always
                    }
                    Op::Exit | Op::Trap => last.guard != Guard::Always,
                    _ => true,
                };
                if falls && end < code.len() {
                    out.push(block_of[end]);
                }
                out.sort_unstable();
                out.dedup();
                out
            })
            .collect();
        let mut graph = Graph {
            ends: vec![false; starts.len()],
            starts,
            block_of,
            all_next: next.clone(),
            next,
        };
        graph.leave_ends_out(program);
        graph
    }

    /// Leaves traps and short ways to the end out.
    fn leave_ends_out(&mut self, program: &Program) {
        let count = self.starts.len();
        let mut bare = vec![false; count];
        for (block, bare) in bare.iter_mut().enumerate() {
            let start = self.starts[block] as usize;
            let end = self
                .starts
                .get(block + 1)
                .map_or(program.code.len(), |end| *end as usize);
            let last = &program.code[end - 1];
            self.ends[block] = self.next[block].is_empty() && !matches!(last.op, Op::Trap);
            *bare = self.ends[block] && end - start == 1;
        }
        let whole = self.next.clone();
        for next in &mut self.next {
            if next.iter().any(|to| !bare[*to as usize]) {
                next.retain(|to| !bare[*to as usize]);
            }
        }
        // A loop that is only left by a short way needs it, or nothing inside would have a way to the end.
        let reached = self.reach_the_end();
        for (block, all) in whole.into_iter().enumerate() {
            if !reached[block] {
                self.next[block] = all;
            }
        }
    }

    /// Blocks from which a way leads to the end.
    fn reach_the_end(&self) -> Vec<bool> {
        let mut previous = vec![Vec::new(); self.starts.len()];
        for (block, next) in self.next.iter().enumerate() {
            next.iter()
                .for_each(|to| previous[*to as usize].push(block));
        }
        let mut reached = self.ends.clone();
        let mut stack: Vec<usize> = (0..reached.len()).filter(|block| reached[*block]).collect();
        while let Some(block) = stack.pop() {
            for from in &previous[block] {
                if !reached[*from] {
                    reached[*from] = true;
                    stack.push(*from);
                }
            }
        }
        reached
    }

    /// Each block's immediate post-dominator; `None` where it is the end. The algorithm is that of
    /// Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm", on the reversed graph.
    fn post_dominators(&self) -> Vec<Option<usize>> {
        let count = self.starts.len();
        let end = count;
        let mut previous = vec![Vec::new(); count + 1];
        for (block, next) in self.next.iter().enumerate() {
            if self.ends[block] {
                previous[end].push(block);
            }
            next.iter()
                .for_each(|to| previous[*to as usize].push(block));
        }
        // Postorder of the reversed graph from the end, by hand: a kernel may be a very long chain.
        let mut order = Vec::new();
        let mut number = vec![usize::MAX; count + 1];
        let mut seen = vec![false; count + 1];
        let mut stack = vec![(end, 0)];
        seen[end] = true;
        while let Some((block, at)) = stack.pop() {
            if let Some(from) = previous[block].get(at) {
                stack.push((block, at + 1));
                if !seen[*from] {
                    seen[*from] = true;
                    stack.push((*from, 0));
                }
            } else {
                number[block] = order.len();
                order.push(block);
            }
        }
        let mut dominator = vec![usize::MAX; count + 1];
        dominator[end] = end;
        let mut changed = true;
        while changed {
            changed = false;
            for &block in order.iter().rev().skip(1) {
                let to_end = self.ends[block].then_some(end);
                let mut best = usize::MAX;
                for next in self.next[block]
                    .iter()
                    .map(|next| *next as usize)
                    .chain(to_end)
                {
                    if dominator[next] == usize::MAX {
                        continue;
                    }
                    best = if best == usize::MAX {
                        next
                    } else {
                        let (mut a, mut b) = (best, next);
                        while a != b {
                            while number[a] < number[b] {
                                a = dominator[a];
                            }
                            while number[b] < number[a] {
                                b = dominator[b];
                            }
                        }
                        a
                    };
                }
                if best != usize::MAX && dominator[block] != best {
                    dominator[block] = best;
                    changed = true;
                }
            }
        }
        // A block from which nothing leads to the end (an endless loop) meets nowhere.
        (0..count)
            .map(|block| Some(dominator[block]).filter(|place| *place < count))
            .collect()
    }
}
