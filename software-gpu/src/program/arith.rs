//! Decoding of arithmetic: which operations exist for which types, with which modifiers.

use super::Op;
use super::decode::{Decoder, Form};
use super::names::{Arith, Kind, Logic, Permute, Type};
use crate::ptx::Result;
use crate::ptx::ast::Operand;

const INTEGERS: &[Type] = &[
    Type::U16,
    Type::S16,
    Type::U32,
    Type::S32,
    Type::U64,
    Type::S64,
];
const BITS: &[Type] = &[Type::B16, Type::B32, Type::B64];
const WORDS: &[Type] = &[Type::B32, Type::B64];

impl<'a> Decoder<'a> {
    /// Decodes the instruction if it is of this group.
    pub(super) fn arithmetic(&mut self, head: &str, form: &mut Form<'_, 'a>) -> Result<bool> {
        match head {
            "add" | "sub" => self.add(form, if head == "add" { Kind::Add } else { Kind::Sub })?,
            "mul" => self.mul(form)?,
            "mad" => self.mad(form)?,
            "fma" => self.fma(form)?,
            "div" => self.div(form)?,
            "rem" => self.plain(form, Kind::Rem, INTEGERS, 2)?,
            "min" | "max" => {
                self.min_max(form, if head == "min" { Kind::Min } else { Kind::Max })?
            }
            "abs" | "neg" => {
                self.abs_neg(form, if head == "abs" { Kind::Abs } else { Kind::Neg })?
            }
            "sad" => self.plain(form, Kind::Sad, INTEGERS, 3)?,
            "copysign" => self.plain(form, Kind::Copysign, &[Type::F32, Type::F64], 2)?,
            "sqrt" | "rsqrt" | "rcp" => self.root(head, form)?,
            "ex2" | "lg2" | "sin" | "cos" | "tanh" => self.transcendental(head, form)?,
            "and" => self.logic(form, Kind::And, Logic::And)?,
            "or" => self.logic(form, Kind::Or, Logic::Or)?,
            "xor" => self.logic(form, Kind::Xor, Logic::Xor)?,
            "not" => self.not(form)?,
            "cnot" => self.plain(form, Kind::Cnot, BITS, 1)?,
            "shl" => self.shift(form, Kind::Shl, BITS)?,
            "shr" => self.shift(
                form,
                Kind::Shr,
                &[
                    Type::B16,
                    Type::B32,
                    Type::B64,
                    Type::U16,
                    Type::U32,
                    Type::U64,
                    Type::S16,
                    Type::S32,
                    Type::S64,
                ],
            )?,
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
            "dp4a" | "dp2a" => self.dot(head, form)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// d and its sources, all of the given types.
    pub(super) fn finish(
        &mut self,
        form: &Form<'_, '_>,
        op: Arith,
        to: Type,
        from: &[Type],
    ) -> Result<()> {
        let [target, sources @ ..] = form.operands else {
            return form.fail(format!("`{}` without operands", form.opcode));
        };
        if sources.len() != from.len() {
            let (want, got) = (from.len() + 1, form.operands.len());
            return form.fail(format!("`{}` has {want} operands, got {got}", form.opcode));
        }
        let mut slots = [None; 3];
        for (i, (operand, ty)) in sources.iter().zip(from).enumerate() {
            slots[i] = Some(self.slots.source(form.line, operand, *ty)?);
        }
        let d = self.slots.target(form.line, target, to)?;
        let a = slots[0].unwrap_or(d);
        let b = slots[1].unwrap_or(a);
        let c = slots[2].unwrap_or(b);
        self.emit(form, Op::Arith { op, d, a, b, c });
        Ok(())
    }

    /// An operation without modifiers, all of one type.
    fn plain(
        &mut self,
        form: &mut Form<'_, 'a>,
        kind: Kind,
        types: &[Type],
        sources: usize,
    ) -> Result<()> {
        let ty = form.ty()?;
        form.typed(types.contains(&ty), ty)?;
        self.finish(form, Arith::plain(kind, ty), ty, &[ty; 3][..sources])
    }

    fn add(&mut self, form: &mut Form<'_, 'a>, kind: Kind) -> Result<()> {
        let ty = form.ty()?;
        let op = if ty.is_float() {
            self.float(form, kind, ty, false)?
        } else {
            form.typed(INTEGERS.contains(&ty), ty)?;
            let mut op = Arith::plain(kind, ty);
            op.sat = ty == Type::S32 && form.take("sat");
            op
        };
        self.finish(form, op, ty, &[ty; 2])
    }

    fn half_of_product(&mut self, form: &mut Form<'_, 'a>, mad: bool) -> Result<Kind> {
        let kind = form.take_some(|name| {
            Some(match (name, mad) {
                ("lo", false) => Kind::MulLo,
                ("hi", false) => Kind::MulHi,
                ("wide", false) => Kind::MulWide,
                ("lo", true) => Kind::MadLo,
                ("hi", true) => Kind::MadHi,
                ("wide", true) => Kind::MadWide,
                _ => return None,
            })
        });
        match kind {
            Some(kind) => Ok(kind),
            None => form.fail(format!("`{}` needs .lo, .hi or .wide", form.opcode)),
        }
    }

    fn mul(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        if ty.is_float() {
            let op = self.float(form, Kind::Mul, ty, false)?;
            return self.finish(form, op, ty, &[ty; 2]);
        }
        form.typed(INTEGERS.contains(&ty), ty)?;
        let kind = self.half_of_product(form, false)?;
        let to = if kind == Kind::MulWide {
            self.doubled(form, ty)?
        } else {
            ty
        };
        self.finish(form, Arith::plain(kind, ty), to, &[ty; 2])
    }

    fn mad(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        if ty.is_float() {
            form.typed(matches!(ty, Type::F32 | Type::F64), ty)?;
            let op = self.float(form, Kind::Fma, ty, true)?;
            return self.finish(form, op, ty, &[ty; 3]);
        }
        form.typed(INTEGERS.contains(&ty), ty)?;
        let kind = self.half_of_product(form, true)?;
        let to = if kind == Kind::MadWide {
            self.doubled(form, ty)?
        } else {
            ty
        };
        self.finish(form, Arith::plain(kind, ty), to, &[ty, ty, to])
    }

    fn doubled(&mut self, form: &Form<'_, 'a>, ty: Type) -> Result<Type> {
        Ok(match ty {
            Type::U16 => Type::U32,
            Type::S16 => Type::S32,
            Type::U32 => Type::U64,
            Type::S32 => Type::S64,
            _ => return form.fail(format!("`{}` has no wider type", form.opcode)),
        })
    }

    fn div(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        if !ty.is_float() {
            form.typed(INTEGERS.contains(&ty), ty)?;
            return self.finish(form, Arith::plain(Kind::Div, ty), ty, &[ty; 2]);
        }
        form.typed(matches!(ty, Type::F32 | Type::F64), ty)?;
        let op = if ty == Type::F32 && (form.take("approx") || form.take("full")) {
            let mut op = Arith::plain(Kind::DivApprox, ty);
            op.ftz = form.take("ftz");
            op
        } else {
            self.float(form, Kind::Div, ty, true)?
        };
        self.finish(form, op, ty, &[ty; 2])
    }

    fn min_max(&mut self, form: &mut Form<'_, 'a>, kind: Kind) -> Result<()> {
        let ty = form.ty()?;
        let mut op = Arith::plain(kind, ty);
        if ty.is_float() {
            op.ftz = !matches!(ty, Type::F64 | Type::BF16 | Type::BF16x2) && form.take("ftz");
            op.nan = ty != Type::F64 && form.take("NaN");
        } else {
            form.typed(INTEGERS.contains(&ty), ty)?;
        }
        self.finish(form, op, ty, &[ty; 2])
    }

    fn abs_neg(&mut self, form: &mut Form<'_, 'a>, kind: Kind) -> Result<()> {
        let ty = form.ty()?;
        let mut op = Arith::plain(kind, ty);
        if ty.is_float() {
            op.ftz = !matches!(ty, Type::F64 | Type::BF16 | Type::BF16x2) && form.take("ftz");
        } else {
            form.typed(INTEGERS.contains(&ty) && ty.is_signed(), ty)?;
        }
        self.finish(form, op, ty, &[ty])
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

    fn dot(&mut self, head: &str, form: &mut Form<'_, 'a>) -> Result<()> {
        let b = form.ty()?;
        let a = form.ty()?;
        for ty in [a, b] {
            form.typed(matches!(ty, Type::U32 | Type::S32), ty)?;
        }
        let kind = match head {
            "dp4a" => Kind::Dp4a(a.is_signed(), b.is_signed()),
            _ => {
                let high = form.take("hi");
                if !high && !form.take("lo") {
                    return form.fail("dp2a needs .lo or .hi");
                }
                Kind::Dp2a(a.is_signed(), b.is_signed(), high)
            }
        };
        let to = if a.is_signed() || b.is_signed() {
            Type::S32
        } else {
            Type::U32
        };
        self.finish(form, Arith::plain(kind, to), to, &[a, b, to])
    }
}
