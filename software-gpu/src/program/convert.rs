//! Decoding of moves, conversions, comparisons and selections.

use super::decode::{Decoder, Form};
use super::names::{Arith, Class, Compare, Kind, Logic, Rounding, Type};
use super::{Op, Slot};
use crate::ptx::Result;
use crate::ptx::ast::{Operand, Width};

impl<'a> Decoder<'a> {
    /// Decodes the instruction if it is of this group.
    pub(super) fn conversion(&mut self, head: &str, form: &mut Form<'_, 'a>) -> Result<bool> {
        match head {
            "mov" => self.mov(form)?,
            "cvt" => self.cvt(form)?,
            "setp" => self.setp(form)?,
            "set" => self.set(form)?,
            "selp" => self.selp(form)?,
            "slct" => self.slct(form)?,
            "testp" => self.testp(form)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn mov(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        let line = form.line;
        let [to, from] = form.operands()?;
        match (to, from) {
            (Operand::Vector(parts), _) => {
                let a = self.slots.source(line, from, ty)?;
                let (parts, bits) = self.parts(form, parts, ty, true)?;
                self.emit(form, Op::Unpack { a, parts, bits });
            }
            (_, Operand::Vector(parts)) => {
                let (parts, bits) = self.parts(form, parts, ty, false)?;
                let d = self.slots.target(line, to, ty)?;
                self.emit(form, Op::Pack { d, parts, bits });
            }
            (_, Operand::Special(special)) if special.is_volatile() => {
                let d = self.slots.target(line, to, ty)?;
                self.emit(
                    form,
                    Op::ReadSpecial {
                        special: *special,
                        d,
                    },
                );
            }
            _ => {
                form.typed(ty.bits() != 8, ty)?;
                let a = self.slots.source(line, from, ty)?;
                let d = self.slots.target(line, to, ty)?;
                self.copy(form, d, a);
            }
        }
        Ok(())
    }

    /// Copies between slots of a class.
    pub(super) fn copy(&mut self, form: &Form<'_, '_>, d: Slot, a: Slot) {
        let (d, a, class) = (d.index, a.index, d.class);
        self.emit(
            form,
            match class {
                Class::Pred => Op::MovP { d, a },
                Class::R32 => Op::Mov32 { d, a },
                Class::R64 => Op::Mov64 { d, a },
            },
        );
    }

    fn parts(
        &mut self,
        form: &Form<'_, '_>,
        parts: &[Operand],
        ty: Type,
        write: bool,
    ) -> Result<(u32, u8)> {
        form.typed(ty.is_bits() || ty.bits() >= 32, ty)?;
        let bits = ty.bits() / parts.len() as u32;
        let part = match (bits, ty.bits() % parts.len() as u32) {
            (16, 0) => Type::B16,
            (32, 0) => Type::B32,
            _ => {
                return form.fail(format!(
                    "{} parts of a {ty:?} are not supported",
                    parts.len()
                ));
            }
        };
        let mut list = Vec::new();
        for operand in parts {
            list.push(match (operand, write) {
                (Operand::Sink, true) => None,
                (_, true) => Some(self.slots.target(form.line, operand, part)?),
                (_, false) => Some(self.slots.source(form.line, operand, part)?),
            });
        }
        self.program.parts.push(list);
        Ok((self.program.parts.len() as u32 - 1, bits as u8))
    }

    fn cvt(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let from = form.ty()?;
        let to = form.ty()?;
        let mut op = Arith::plain(
            Kind::Cvt {
                to,
                from,
                integer: false,
                bits: 0,
            },
            to,
        );
        op.ftz = form.take("ftz");
        op.sat = form.take("sat");
        op.relu = form.take("relu");
        if op.relu && !matches!(to, Type::F16 | Type::BF16 | Type::F16x2 | Type::BF16x2) {
            return form.fail("`.relu` is for conversions to 16-bit floats");
        }
        if let Type::F16x2 | Type::BF16x2 = to {
            form.typed(from == Type::F32, from)?;
            op.rounding = match form.rounding() {
                Some(rounding @ (Rounding::Nearest | Rounding::Zero)) => rounding,
                _ => return form.fail("a conversion to a pair needs .rn or .rz"),
            };
            op.kind = Kind::CvtPair(to);
            let [d, a, b] = form.operands()?;
            let (a, b) = (
                self.slots.source(form.line, a, from)?,
                self.slots.source(form.line, b, from)?,
            );
            let d = self.slots.target(form.line, d, to)?;
            self.emit(form, Op::Arith { op, d, a, b, c: b });
            return Ok(());
        }
        for ty in [to, from] {
            let known =
                ty.is_integer() || matches!(ty, Type::F16 | Type::BF16 | Type::F32 | Type::F64);
            form.typed(known, ty)?;
        }
        let whole = form.take_some(|name| {
            Some(match name {
                "rni" => Rounding::Nearest,
                "rzi" => Rounding::Zero,
                "rmi" => Rounding::Down,
                "rpi" => Rounding::Up,
                _ => return None,
            })
        });
        let rounding = form.rounding();
        let narrows = match (from, to) {
            (from, to) if from.is_float() && to.is_float() => {
                to.bits() < from.bits() || (to.bits() == from.bits() && to != from)
            }
            (from, to) => from.is_integer() && to.is_float(),
        };
        match (whole, rounding) {
            (Some(_), Some(_)) => return form.fail("two roundings"),
            // Whole numbers: to an integer, or from a float type to itself.
            (Some(whole), None) if from.is_float() && (to.is_integer() || to == from) => {
                op.rounding = whole;
                op.kind = Kind::Cvt {
                    to,
                    from,
                    integer: true,
                    bits: 0,
                };
            }
            (None, Some(rounding)) if narrows => op.rounding = rounding,
            (None, None) if !(narrows || from.is_float() && to.is_integer()) => {}
            _ => {
                return form.fail(format!(
                    "`{}`: a rounding is missing or has no place",
                    form.opcode
                ));
            }
        }
        if to == Type::BF16 && !matches!(from, Type::F32) {
            return form.fail(format!(
                "a conversion from {from:?} to BF16 is not supported"
            ));
        }
        let [d, a] = form.operands()?;
        let a = self.wide_source(form, a, from)?;
        if let (Kind::Cvt { bits, .. }, Operand::Register(register)) = (&mut op.kind, d) {
            *bits = register_bits(self.slots.width(*register)) as u8;
        }
        let d = self.wide_target(form, d, to)?;
        self.emit(
            form,
            Op::Arith {
                op,
                d,
                a,
                b: a,
                c: a,
            },
        );
        Ok(())
    }

    /// A source that may be wider than its type: the low bits count.
    fn wide_source(&mut self, form: &Form<'_, '_>, operand: &Operand, ty: Type) -> Result<Slot> {
        if let Operand::Register(register) = *operand {
            self.check_width(form, register, ty)?;
            return self.slots.register(form.line, register);
        }
        let ty = if ty.bits() == 8 { Type::B16 } else { ty };
        self.slots.source(form.line, operand, ty)
    }

    /// A destination that may be wider than its type: the value is extended by the type's sign.
    fn wide_target(&mut self, form: &Form<'_, '_>, operand: &Operand, ty: Type) -> Result<Slot> {
        match *operand {
            Operand::Register(register) => {
                self.check_width(form, register, ty)?;
                self.slots.register(form.line, register)
            }
            _ => self.slots.target(form.line, operand, ty),
        }
    }

    /// An error unless a value of the type fits in the register.
    pub(super) fn check_width(&self, form: &Form<'_, '_>, register: u32, ty: Type) -> Result<()> {
        let width = self.slots.width(register);
        let bits = register_bits(width);
        let fits = if ty.is_float() {
            bits == ty.bits()
        } else {
            bits >= ty.bits().max(16)
        };
        if fits {
            Ok(())
        } else {
            form.fail(format!("the register is {width:?}, the type {ty:?}"))
        }
    }

    fn compare(&mut self, form: &mut Form<'_, 'a>, ty: Type) -> Result<Compare> {
        let known = ty.is_bits()
            || ty.is_integer()
            || matches!(ty, Type::F16 | Type::BF16 | Type::F32 | Type::F64);
        form.typed(known && ty.bits() != 8, ty)?;
        match form.take_some(|name| Compare::by_name(name, ty)) {
            Some(compare) => Ok(compare),
            None => form.fail(format!("`{}` has no comparison for {ty:?}", form.opcode)),
        }
    }

    fn setp(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        let compare = self.compare(form, ty)?;
        let ftz = form.take("ftz");
        let connective = form.take_some(Logic::by_name);
        let line = form.line;
        let (targets, a, b, logic) = match (form.operands, connective) {
            ([targets, a, b], None) => (targets, a, b, None),
            ([targets, a, b, c], Some(logic)) => {
                let (c, negate) = self.slots.signed_predicate(line, c)?;
                (targets, a, b, Some((logic, c, negate)))
            }
            _ => return form.fail(format!("`{}` has another number of operands", form.opcode)),
        };
        let (a, b) = (
            self.slots.source(line, a, ty)?,
            self.slots.source(line, b, ty)?,
        );
        let (d, q) = match targets {
            Operand::Pair(d, q) => (
                self.slots.target(line, d, Type::Pred)?,
                Some(self.slots.target(line, q, Type::Pred)?.index),
            ),
            d => (self.slots.target(line, d, Type::Pred)?, None),
        };
        self.emit(
            form,
            Op::Setp {
                compare,
                ty,
                ftz,
                a,
                b,
                d: d.index,
                q,
                logic,
            },
        );
        Ok(())
    }

    fn set(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let from = form.ty()?;
        let to = form.ty()?;
        form.typed(matches!(to, Type::U32 | Type::S32 | Type::F32), to)?;
        let compare = self.compare(form, from)?;
        let mut op = Arith::plain(Kind::Set(compare, from), to);
        op.ftz = form.take("ftz");
        let [d, a, b] = form.operands()?;
        let (a, b) = (
            self.slots.source(form.line, a, from)?,
            self.slots.source(form.line, b, from)?,
        );
        let d = self.slots.target(form.line, d, to)?;
        self.emit(form, Op::Arith { op, d, a, b, c: b });
        Ok(())
    }

    fn selp(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(ty.bits() >= 16, ty)?;
        let [d, a, b, p] = form.operands()?;
        let (a, b) = (
            self.slots.source(form.line, a, ty)?,
            self.slots.source(form.line, b, ty)?,
        );
        let (p, negate) = self.slots.signed_predicate(form.line, p)?;
        let d = self.slots.target(form.line, d, ty)?;
        let (a, b) = if negate { (b, a) } else { (a, b) };
        self.emit(form, Op::Select { d, a, b, p });
        Ok(())
    }

    fn slct(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let by = form.ty()?;
        let ty = form.ty()?;
        form.typed(matches!(by, Type::S32 | Type::F32), by)?;
        form.typed(ty.bits() >= 16, ty)?;
        let mut op = Arith::plain(Kind::Slct(by), ty);
        op.ftz = form.take("ftz");
        let [d, a, b, c] = form.operands()?;
        let line = form.line;
        let (a, b) = (
            self.slots.source(line, a, ty)?,
            self.slots.source(line, b, ty)?,
        );
        let c = self.slots.source(line, c, by)?;
        let d = self.slots.target(line, d, ty)?;
        self.emit(form, Op::Arith { op, d, a, b, c });
        Ok(())
    }

    fn testp(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        use super::names::Test;
        let ty = form.ty()?;
        form.typed(matches!(ty, Type::F32 | Type::F64), ty)?;
        let test = form.take_some(|name| {
            Some(match name {
                "finite" => Test::Finite,
                "infinite" => Test::Infinite,
                "number" => Test::Number,
                "notanumber" => Test::NotANumber,
                "normal" => Test::Normal,
                "subnormal" => Test::Subnormal,
                _ => return None,
            })
        });
        let Some(test) = test else {
            return form.fail(format!("`{}` names no test", form.opcode));
        };
        let [d, a] = form.operands()?;
        let a = self.slots.source(form.line, a, ty)?;
        let d = self.slots.target(form.line, d, Type::Pred)?;
        // The test gives 1 or 0 in a register, which is then compared.
        let value = self.slots.fresh(form.line, Class::R32)?;
        let zero = self.slots.constant(form.line, Class::R32, 0)?;
        self.emit(
            form,
            Op::Arith {
                op: Arith::plain(Kind::Testp(test), ty),
                d: value,
                a,
                b: a,
                c: a,
            },
        );
        let (compare, ty) = (Compare::Ne, Type::B32);
        let test = Op::Setp {
            compare,
            ty,
            ftz: false,
            a: value,
            b: zero,
            d: d.index,
            q: None,
            logic: None,
        };
        self.emit(form, test);
        Ok(())
    }
}

/// Bits of a register.
pub(super) fn register_bits(width: Width) -> u32 {
    match width {
        Width::Pred => 0,
        Width::W16 => 16,
        Width::W32 => 32,
        Width::W64 => 64,
    }
}
