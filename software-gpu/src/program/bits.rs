//! Decoding of what works on bits: logic, shifts, counts, fields, permutations.

use super::Op;
use super::arith::INTEGERS;
use super::decode::{Decoder, Form};
use super::names::{Arith, Kind, Logic, Permute, Type};
use crate::ptx::Result;
use crate::ptx::ast::Operand;

const BITS: &[Type] = &[Type::B16, Type::B32, Type::B64];
const WORDS: &[Type] = &[Type::B32, Type::B64];
const WIDTHS: &[Type] = &[
    Type::B16,
    Type::B32,
    Type::B64,
    Type::U16,
    Type::U32,
    Type::U64,
    Type::S16,
    Type::S32,
    Type::S64,
];

impl<'a> Decoder<'a> {
    /// Decodes the instruction if it is of this group.
    pub(super) fn bits(&mut self, head: &str, form: &mut Form<'_, 'a>) -> Result<bool> {
        match head {
            "and" => self.logic(form, Kind::And, Logic::And)?,
            "or" => self.logic(form, Kind::Or, Logic::Or)?,
            "xor" => self.logic(form, Kind::Xor, Logic::Xor)?,
            "not" => self.not(form)?,
            "cnot" => self.plain(form, Kind::Cnot, BITS, 1)?,
            "shl" => self.shift(form, Kind::Shl, BITS)?,
            "shr" => self.shift(form, Kind::Shr, WIDTHS)?,
            "shf" => self.funnel(form)?,
            "popc" => self.count_bits(form, Kind::Popc, WORDS)?,
            "clz" => self.count_bits(form, Kind::Clz, WORDS)?,
            "brev" => self.plain(form, Kind::Brev, WORDS, 1)?,
            "bfind" => {
                let shift = form.take("shiftamt");
                self.count_bits(form, Kind::Bfind(shift), &INTEGERS[2..])?;
            }
            "bfe" => self.field(form, Kind::Bfe, &INTEGERS[2..], 1)?,
            "bfi" => self.field(form, Kind::Bfi, WORDS, 2)?,
            "szext" | "bmsk" => {
                let clamp = form.take("clamp");
                if !clamp && !form.take("wrap") {
                    return form.fail(format!("`{}` needs .clamp or .wrap", form.opcode));
                }
                let (kind, types) = match head {
                    "szext" => (Kind::Szext(clamp), &[Type::U32, Type::S32][..]),
                    _ => (Kind::Bmsk(clamp), &[Type::B32][..]),
                };
                self.plain(form, kind, types, 2)?;
            }
            "fns" => self.fns(form)?,
            "prmt" => self.prmt(form)?,
            "lop3" => self.lop3(form)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn logic(&mut self, form: &mut Form<'_, 'a>, kind: Kind, logic: Logic) -> Result<()> {
        let ty = form.ty()?;
        if ty == Type::Pred {
            let [d, a, b] = form.operands()?;
            let (a, b) = (
                self.slots.predicate(form.line, a)?,
                self.slots.predicate(form.line, b)?,
            );
            let d = self.slots.target(form.line, d, ty)?.index;
            self.emit(form, Op::LogicP { logic, d, a, b });
            return Ok(());
        }
        form.typed(BITS.contains(&ty), ty)?;
        self.finish(form, Arith::plain(kind, ty), ty, &[ty; 2])
    }

    fn not(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        if ty == Type::Pred {
            let [d, a] = form.operands()?;
            let a = self.slots.predicate(form.line, a)?;
            let d = self.slots.target(form.line, d, ty)?.index;
            self.emit(form, Op::NotP { d, a });
            return Ok(());
        }
        form.typed(BITS.contains(&ty), ty)?;
        self.finish(form, Arith::plain(Kind::Not, ty), ty, &[ty])
    }

    /// Shifts: the amount has 32 bits whatever the type.
    fn shift(&mut self, form: &mut Form<'_, 'a>, kind: Kind, types: &[Type]) -> Result<()> {
        let ty = form.ty()?;
        form.typed(types.contains(&ty), ty)?;
        self.finish(form, Arith::plain(kind, ty), ty, &[ty, Type::U32])
    }

    fn funnel(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(ty == Type::B32, ty)?;
        let left = form.take("l");
        if !left && !form.take("r") {
            return form.fail("shf needs .l or .r");
        }
        let clamp = form.take("clamp");
        if !clamp && !form.take("wrap") {
            return form.fail("shf needs .clamp or .wrap");
        }
        let kind = if left {
            Kind::ShfL(clamp)
        } else {
            Kind::ShfR(clamp)
        };
        self.finish(form, Arith::plain(kind, ty), ty, &[ty, ty, Type::U32])
    }

    /// Operations whose result has 32 bits whatever the type.
    fn count_bits(&mut self, form: &mut Form<'_, 'a>, kind: Kind, types: &[Type]) -> Result<()> {
        let ty = form.ty()?;
        form.typed(types.contains(&ty), ty)?;
        self.finish(form, Arith::plain(kind, ty), Type::U32, &[ty])
    }

    /// Bit fields: position and length of 32 bits behind the values.
    fn field(
        &mut self,
        form: &mut Form<'_, 'a>,
        kind: Kind,
        types: &[Type],
        values: usize,
    ) -> Result<()> {
        let ty = form.ty()?;
        form.typed(types.contains(&ty), ty)?;
        let op = Arith::plain(kind, ty);
        if values == 1 {
            return self.finish(form, op, ty, &[ty, Type::U32, Type::U32]);
        }
        // bfi has four sources. Position and length, taken modulo 256, share one register.
        let [d, a, b, position, length] = form.operands()?;
        let line = form.line;
        let (a, b) = (
            self.slots.source(line, a, ty)?,
            self.slots.source(line, b, ty)?,
        );
        let d = self.slots.target(line, d, ty)?;
        let c = match (position, length) {
            (Operand::Integer(position), Operand::Integer(length)) => {
                let both = (position & 0xff) | (length & 0xff) << 8;
                self.slots.constant(line, Type::U32.class(), both)?
            }
            _ => {
                let position = self.slots.source(line, position, Type::U32)?;
                let length = self.slots.source(line, length, Type::U32)?;
                // Bytes 0 of both, into bytes 0 and 1.
                let select = self.slots.constant(line, Type::U32.class(), 0x4440)?;
                let c = self.slots.fresh(line, Type::U32.class())?;
                let op = Arith::plain(Kind::Prmt(Permute::Index), Type::B32);
                self.emit(
                    form,
                    Op::Arith {
                        op,
                        d: c,
                        a: position,
                        b: length,
                        c: select,
                    },
                );
                c
            }
        };
        self.emit(form, Op::Arith { op, d, a, b, c });
        Ok(())
    }

    fn fns(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(ty == Type::B32, ty)?;
        self.finish(
            form,
            Arith::plain(Kind::Fns, ty),
            ty,
            &[Type::B32, Type::B32, Type::S32],
        )
    }

    fn prmt(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let mode = form.take_some(|name| {
            Some(match name {
                "f4e" => Permute::F4e,
                "b4e" => Permute::B4e,
                "rc8" => Permute::Rc8,
                "ecl" => Permute::Ecl,
                "ecr" => Permute::Ecr,
                "rc16" => Permute::Rc16,
                _ => return None,
            })
        });
        self.plain(
            form,
            Kind::Prmt(mode.unwrap_or(Permute::Index)),
            &[Type::B32],
            3,
        )
    }

    fn lop3(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(ty == Type::B32, ty)?;
        let [d, a, b, c, table] = form.operands()?;
        let Operand::Integer(table @ 0..=255) = *table else {
            return form.fail("lop3's table is a number from 0 to 255");
        };
        let line = form.line;
        let (a, b) = (
            self.slots.source(line, a, ty)?,
            self.slots.source(line, b, ty)?,
        );
        let c = self.slots.source(line, c, ty)?;
        let d = self.slots.target(line, d, ty)?;
        self.emit(
            form,
            Op::Arith {
                op: Arith::plain(Kind::Lop3(table as u8), ty),
                d,
                a,
                b,
                c,
            },
        );
        Ok(())
    }
}
