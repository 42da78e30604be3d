//! Operands to slots: registers, and constants that are filled in when a block starts.

use std::collections::HashMap;

use super::names::{Class, Type};
use super::{Initial, Program, Slot};
use crate::ptx::ast::{Entry, Operand, Special, VarRef, Width};
use crate::ptx::{Result, error};

/// Where each variable is: an address of its own state space.
pub(crate) struct Placement {
    pub module: Vec<u64>,
    pub entry: Vec<u64>,
}

impl Placement {
    pub fn of(&self, variable: VarRef) -> u64 {
        match variable {
            VarRef::Module(id) => self.module[id],
            VarRef::Entry(id) => self.entry[id],
        }
    }
}

/// The slots of an entry.
pub(super) struct Slots<'a> {
    pub entry: &'a Entry<'a>,
    pub placement: &'a Placement,
    registers: Vec<Option<Slot>>,
    constants: HashMap<(Class, Initial), Slot>,
    next: [u16; 3],
}

impl<'a> Slots<'a> {
    pub fn new(entry: &'a Entry<'a>, placement: &'a Placement) -> Slots<'a> {
        Slots {
            entry,
            placement,
            registers: vec![None; entry.registers.len()],
            constants: HashMap::new(),
            next: [0; 3],
        }
    }

    /// A slot that nothing else has.
    pub fn fresh(&mut self, line: u32, class: Class) -> Result<Slot> {
        let next = &mut self.next[class as usize];
        let index = *next;
        // Their count must fit, too.
        let Some(count) = index.checked_add(1) else {
            return error(line, "a kernel can have 65535 registers of a width");
        };
        *next = count;
        Ok(Slot { class, index })
    }

    pub fn width(&self, register: u32) -> Width {
        self.entry.registers[register as usize]
    }

    /// The slot of a register, whatever its width.
    pub fn register(&mut self, line: u32, register: u32) -> Result<Slot> {
        if let Some(slot) = self.registers[register as usize] {
            return Ok(slot);
        }
        let class = match self.width(register) {
            Width::Pred => Class::Pred,
            Width::W16 | Width::W32 => Class::R32,
            Width::W64 => Class::R64,
        };
        let slot = self.fresh(line, class)?;
        self.registers[register as usize] = Some(slot);
        Ok(slot)
    }

    /// The slot of a register that must have the type's width.
    pub fn typed(&mut self, line: u32, register: u32, ty: Type) -> Result<Slot> {
        let (got, wanted) = (self.width(register), width_of(ty));
        if wanted != Some(got) {
            return error(line, format!("the register is {got:?}, the type {ty:?}"));
        }
        self.register(line, register)
    }

    pub fn initial(&mut self, line: u32, class: Class, initial: Initial) -> Result<Slot> {
        if let Some(slot) = self.constants.get(&(class, initial)) {
            return Ok(*slot);
        }
        let slot = self.fresh(line, class)?;
        self.constants.insert((class, initial), slot);
        Ok(slot)
    }

    pub fn constant(&mut self, line: u32, class: Class, value: u64) -> Result<Slot> {
        let value = if class == Class::R32 {
            value & 0xffff_ffff
        } else {
            value
        };
        self.initial(line, class, Initial::Constant(value))
    }

    /// A source operand of that type: a register of just its width, or a constant.
    pub fn source(&mut self, line: u32, operand: &Operand, ty: Type) -> Result<Slot> {
        let bits = ty.bits();
        match *operand {
            Operand::Register(register) => self.typed(line, register, ty),
            Operand::Integer(value) => {
                if ty.is_float()
                    && !matches!(ty, Type::F16x2 | Type::BF16x2 | Type::F16 | Type::BF16)
                {
                    return error(line, format!("a whole number where a {ty:?} is needed"));
                }
                if ty == Type::Pred {
                    return self.constant(
                        line,
                        Class::Pred,
                        if value != 0 { u32::MAX.into() } else { 0 },
                    );
                }
                let mask = if bits == 64 {
                    u64::MAX
                } else {
                    (1 << bits) - 1
                };
                self.constant(line, ty.class(), value & mask)
            }
            Operand::F32(value) if bits == 32 => self.constant(line, Class::R32, value.into()),
            Operand::F32(value) if ty == Type::F64 => {
                self.constant(line, Class::R64, f64::from(f32::from_bits(value)).to_bits())
            }
            Operand::F64(value) if bits == 64 => self.constant(line, Class::R64, value),
            Operand::F64(value) if ty == Type::F32 => self.constant(
                line,
                Class::R32,
                (f64::from_bits(value) as f32).to_bits().into(),
            ),
            Operand::Special(special) => {
                let wide = matches!(
                    special,
                    Special::Clock64 | Special::GlobalTimer | Special::GridId
                );
                if special.is_volatile() {
                    return error(line, "this special register can only be an operand of mov");
                }
                if ty.is_float() || bits != if wide { 64 } else { 32 } {
                    return error(
                        line,
                        format!("a special register of another width than {ty:?}"),
                    );
                }
                self.initial(line, ty.class(), Initial::Special(special))
            }
            Operand::Variable(variable, offset) if matches!(bits, 32 | 64) && !ty.is_float() => {
                let address = self.placement.of(variable).wrapping_add_signed(offset);
                if bits == 32 && address > u32::MAX.into() {
                    return error(line, "an address that does not fit in 32 bits");
                }
                self.constant(line, ty.class(), address)
            }
            _ => error(line, format!("{} where a {ty:?} is needed", kind(operand))),
        }
    }

    /// A destination: a register of just the type's width.
    pub fn target(&mut self, line: u32, operand: &Operand, ty: Type) -> Result<Slot> {
        match *operand {
            Operand::Register(register) => self.typed(line, register, ty),
            _ => error(
                line,
                format!("{} where a register to write is needed", kind(operand)),
            ),
        }
    }

    pub fn predicate(&mut self, line: u32, operand: &Operand) -> Result<u16> {
        Ok(self.source(line, operand, Type::Pred)?.index)
    }

    /// A predicate that may be negated.
    pub fn signed_predicate(&mut self, line: u32, operand: &Operand) -> Result<(u16, bool)> {
        match *operand {
            Operand::Not(register) => Ok((self.typed(line, register, Type::Pred)?.index, true)),
            _ => Ok((self.predicate(line, operand)?, false)),
        }
    }

    /// Hands the numbers over to the program.
    pub fn finish(self, program: &mut Program) {
        program.slots = self.next;
        program.initial = self
            .constants
            .into_iter()
            .map(|((_, initial), slot)| (slot, initial))
            .collect();
        program
            .initial
            .sort_by_key(|(slot, _)| (slot.class as u8, slot.index));
    }
}

fn width_of(ty: Type) -> Option<Width> {
    Some(match ty.bits() {
        0 => Width::Pred,
        16 => Width::W16,
        32 => Width::W32,
        64 => Width::W64,
        _ => return None,
    })
}

/// What an operand is, in words.
pub(super) fn kind(operand: &Operand) -> &'static str {
    match operand {
        Operand::Register(_) => "a register",
        Operand::Not(_) => "a negated predicate",
        Operand::Integer(_) => "a whole number",
        Operand::F32(_) | Operand::F64(_) => "a floating-point number",
        Operand::Special(_) => "a special register",
        Operand::Variable(..) => "a variable",
        Operand::Label(_) => "a name that is not declared, or a label,",
        Operand::Address(_) => "an address in brackets",
        Operand::Vector(_) => "a vector",
        Operand::Pair(..) => "a pair",
        Operand::Sink => "`_`",
    }
}
