//! Decoding of arithmetic: which operations exist for which types, with which modifiers.

use super::Op;
use super::decode::{Decoder, Form};
use super::names::{Arith, Kind, Type};
use crate::ptx::Result;

pub(super) const INTEGERS: &[Type] = &[
    Type::U16,
    Type::S16,
    Type::U32,
    Type::S32,
    Type::U64,
    Type::S64,
];

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
    pub(super) fn plain(
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
