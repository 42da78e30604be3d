//! Which of an instruction's registers a load from global memory may be under way to: what an instruction
//! may have to wait for.

use super::operands::{Tables, Use, visit};
use super::{Class, Op, Program, Slot};
use crate::ptx::ast::Space;

/// For each instruction, registers: a range of the second list.
#[derive(Debug, Default)]
pub(super) struct Waits {
    ranges: Vec<(u32, u32)>,
    registers: Vec<Touched>,
}

/// A register of an instruction, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touched {
    pub number: u32,
    pub written: bool,
}

impl Program {
    /// A register's number, 32-bit ones first. Predicates have none: no load writes them.
    pub fn number(&self, slot: Slot) -> usize {
        match slot.class {
            Class::R64 => usize::from(self.slots[Class::R32 as usize]) + usize::from(slot.index),
            _ => usize::from(slot.index),
        }
    }

    /// The registers that the instruction reads or writes and that some load from global memory writes.
    pub fn may_be_loading(&self, pc: u32) -> &[Touched] {
        let (start, end) = self.waits.ranges[pc as usize];
        &self.waits.registers[start as usize..end as usize]
    }
}

/// Finds them for the whole program, once its registers have their slots.
pub(super) fn find_waits(program: &mut Program) {
    let mut loaded = vec![false; program.slots.iter().map(|n| usize::from(*n)).sum()];
    for instruction in &program.code {
        let Op::Load { access } = instruction.op else {
            continue;
        };
        let access = &program.accesses[access as usize];
        if matches!(access.space, Space::Global | Space::Const | Space::Generic) {
            for slot in access.data.iter().flatten() {
                loaded[program.number(*slot)] = true;
            }
        }
    }
    let wide = u32::from(program.slots[Class::R32 as usize]);
    let mut waits = Waits::default();
    let mut tables = Tables {
        accesses: &mut program.accesses,
        copies: &mut program.copies,
        mbarriers: &mut program.mbarriers,
        parts: &mut program.parts,
    };
    for instruction in &mut program.code {
        let start = waits.registers.len();
        visit(instruction, &mut tables, &mut |class, index, what| {
            let number = match class {
                Class::Pred => return,
                Class::R32 => u32::from(*index),
                Class::R64 => wide + u32::from(*index),
            };
            let touched = Touched {
                number,
                written: what == Use::Write,
            };
            if loaded[number as usize] && !waits.registers[start..].contains(&touched) {
                waits.registers.push(touched);
            }
        });
        // An instruction reads before it writes.
        waits.registers[start..].sort_by_key(|touched| touched.written);
        waits
            .ranges
            .push((start as u32, waits.registers.len() as u32));
    }
    program.waits = waits;
}
