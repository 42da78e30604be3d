//! An entry's instructions to a program: the dispatch on the opcode.
//!
//! Each instruction takes the modifiers that it knows out of its opcode; one that is left over is an
//! error, as is an operand of the wrong kind. Nothing is ignored that could change a result.

use super::fast::{Fast32, Fast64};
use super::names::{Arith, Class, Kind, Rounding, Type};
use super::opcodes::OPCODES;
use super::slots::{Placement, Slots};
use super::{Guard, Instruction, Op, Program};
use super::{cfg, live, waits};
use crate::ptx::ast::{self, Entry, Operand};
use crate::ptx::{Result, SyntaxError, error};

/// Decodes an entry. Errors are collected, an instruction each.
pub(crate) fn decode(
    entry: &Entry<'_>,
    placement: &Placement,
) -> std::result::Result<Program, Vec<SyntaxError>> {
    let mut decoder = Decoder {
        slots: Slots::new(entry, placement),
        program: Program::default(),
        starts: Vec::new(),
    };
    let mut errors = Vec::new();
    for instruction in &entry.code {
        let start = decoder.program.code.len() as u32;
        decoder.starts.push(start);
        if let Err(problem) = decoder.instruction(instruction) {
            errors.push(problem);
        }
    }
    decoder.starts.push(decoder.program.code.len() as u32);
    // Falling off the end is an exit.
    decoder.program.code.push(Instruction {
        op: Op::Exit,
        guard: Guard::Always,
    });
    let last = entry
        .code
        .last()
        .map_or(entry.line, |instruction| instruction.line);
    decoder.program.lines.push(last);
    if !errors.is_empty() {
        return Err(errors);
    }
    let Decoder {
        slots,
        mut program,
        starts,
    } = decoder;
    slots.finish(&mut program);
    // Branches name labels until here.
    let position = |label: u32| starts[entry.labels[label as usize] as usize];
    for instruction in &mut program.code {
        if let Op::Branch { target, .. } = &mut instruction.op {
            *target = position(*target);
        }
    }
    for target in program.tables.iter_mut().flatten() {
        *target = position(*target);
    }
    cfg::find_meeting_points(&mut program);
    program.registers = live::share_slots(&mut program);
    waits::find_waits(&mut program);
    Ok(program)
}

/// The state of decoding an entry.
pub(super) struct Decoder<'a> {
    pub slots: Slots<'a>,
    pub program: Program,
    /// The first instruction of the program for each of the text.
    starts: Vec<u32>,
}

impl<'a> Decoder<'a> {
    fn instruction(&mut self, text: &ast::Instruction<'a>) -> Result<()> {
        let mut parts = text.opcode.split('.');
        let head = parts.next().unwrap_or("");
        let guard = match text.guard {
            None => Guard::Always,
            Some((register, negated)) => {
                let slot = self.slots.typed(text.line, register, Type::Pred)?;
                if negated {
                    Guard::Unless(slot.index)
                } else {
                    Guard::If(slot.index)
                }
            }
        };
        let mut form = Form {
            line: text.line,
            opcode: text.opcode,
            parts: parts.collect(),
            operands: &text.operands,
            guard,
        };
        // The list is what is supported: an instruction that is not in it is none.
        let known = OPCODES.contains(&head)
            && (self.arithmetic(head, &mut form)?
                || self.mbarrier(head, &mut form)?
                || self.bits(head, &mut form)?
                || self.conversion(head, &mut form)?
                || self.memory(head, &mut form)?
                || self.copies(head, &mut form)?
                || self.cluster(head, &mut form)?
                || self.control(head, &mut form)?);
        if !known {
            return error(
                text.line,
                format!("instruction `{}` is not supported", text.opcode),
            );
        }
        if let Some(part) = form.parts.first() {
            return error(
                text.line,
                format!("`.{part}` of `{}` is not supported", text.opcode),
            );
        }
        Ok(())
    }

    pub fn emit(&mut self, form: &Form<'_, '_>, op: Op) {
        let op = faster(op);
        self.program.code.push(Instruction {
            op,
            guard: form.guard,
        });
        self.program.lines.push(form.line);
    }
}

/// The vector path of an operation, where it has one.
fn faster(op: Op) -> Op {
    let Op::Arith {
        op: arith,
        d,
        a,
        b,
        c,
    } = op
    else {
        return op;
    };
    let (classes, [d, a, b, c]) = (
        [d, a, b, c].map(|slot| slot.class),
        [d, a, b, c].map(|slot| slot.index),
    );
    let plain = arith == Arith::plain(arith.kind, arith.ty);
    match (arith.kind, arith.ty, classes) {
        (_, _, [Class::R32, Class::R32, Class::R32, Class::R32]) => match Fast32::of(arith) {
            Some(fast) => Op::Fast32 {
                op: fast,
                d,
                a,
                b,
                c,
            },
            None => op,
        },
        (_, _, [Class::R64, Class::R64, Class::R64, Class::R64]) => match Fast64::of(arith) {
            Some(fast) => Op::Fast64 {
                op: fast,
                d,
                a,
                b,
                c,
            },
            None => op,
        },
        (Kind::Shl, Type::B64, _) => Op::Shl64 { d, a, b },
        (Kind::Shr, Type::U64 | Type::B64, _) => Op::Shr64 { d, a, b },
        (Kind::MulWide, Type::U32 | Type::S32, _) => Op::MulWide {
            signed: arith.ty == Type::S32,
            d,
            a,
            b,
        },
        (
            Kind::Cvt {
                from: Type::U32,
                to: Type::U64 | Type::S64,
                ..
            },
            _,
            _,
        ) if plain => Op::Widen {
            signed: false,
            d,
            a,
        },
        (
            Kind::Cvt {
                from: Type::S32,
                to: Type::U64 | Type::S64,
                ..
            },
            _,
            _,
        ) if plain => Op::Widen { signed: true, d, a },
        (
            Kind::Cvt {
                from: Type::U64 | Type::S64,
                to: Type::U32 | Type::S32,
                bits: 32,
                ..
            },
            _,
            _,
        ) if plain => Op::Narrow { d, a },
        _ => op,
    }
}

/// An instruction's opcode in parts, those not yet understood, and its operands.
pub(super) struct Form<'o, 'a> {
    pub line: u32,
    pub opcode: &'a str,
    pub parts: Vec<&'a str>,
    pub operands: &'o [Operand],
    pub guard: Guard,
}

impl<'a> Form<'_, 'a> {
    /// Takes a modifier out, if it is there.
    pub fn take(&mut self, name: &str) -> bool {
        match self.parts.iter().position(|part| *part == name) {
            Some(at) => {
                self.parts.remove(at);
                true
            }
            None => false,
        }
    }

    /// Takes the first modifier that `known` knows out.
    pub fn take_some<T>(&mut self, known: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (at, value) = self
            .parts
            .iter()
            .enumerate()
            .find_map(|(at, part)| Some((at, known(part)?)))?;
        self.parts.remove(at);
        Some(value)
    }

    /// Takes the last type out.
    pub fn ty(&mut self) -> Result<Type> {
        match self.parts.pop().map(Type::by_name) {
            Some(Some(ty)) => Ok(ty),
            _ => self.fail(format!(
                "`{}` does not end in a type that is supported",
                self.opcode
            )),
        }
    }

    /// Takes a rounding out.
    pub fn rounding(&mut self) -> Option<Rounding> {
        self.take_some(|name| {
            Some(match name {
                "rn" => Rounding::Nearest,
                "rz" => Rounding::Zero,
                "rm" => Rounding::Down,
                "rp" => Rounding::Up,
                _ => return None,
            })
        })
    }

    pub fn fail<T>(&self, reason: impl Into<String>) -> Result<T> {
        error(self.line, reason)
    }

    /// The operands, which must be `N`.
    pub fn operands<const N: usize>(&self) -> Result<&[Operand; N]> {
        self.operands.try_into().or_else(|_| {
            self.fail(format!(
                "`{}` has {N} operands, got {}",
                self.opcode,
                self.operands.len()
            ))
        })
    }

    /// An error unless the condition holds: the type is not one that the instruction has.
    pub fn typed(&self, holds: bool, ty: Type) -> Result<()> {
        if holds {
            Ok(())
        } else {
            self.fail(format!("`{}`: type {ty:?} is not supported", self.opcode))
        }
    }
}
