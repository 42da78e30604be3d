//! Decoding of arithmetic that only floating-point numbers have.

use super::decode::{Decoder, Form};
use super::names::{Arith, Kind, Rounding, Type};
use crate::ptx::Result;

const HALVES: &[Type] = &[Type::F16, Type::F16x2, Type::BF16, Type::BF16x2];

impl<'a> Decoder<'a> {
    /// The modifiers that f32, f64 and the 16-bit floats share.
    pub(super) fn float(
        &mut self,
        form: &mut Form<'_, 'a>,
        kind: Kind,
        ty: Type,
        needs_rounding: bool,
    ) -> Result<Arith> {
        let mut op = Arith::plain(kind, ty);
        let rounding = form.rounding();
        if needs_rounding && rounding.is_none() {
            return form.fail(format!("`{}` needs a rounding", form.opcode));
        }
        op.rounding = rounding.unwrap_or(Rounding::Nearest);
        if op.rounding != Rounding::Nearest && ty != Type::F32 {
            return form.fail(format!(
                "`{}`: that rounding is only supported for F32",
                form.opcode
            ));
        }
        if ty != Type::F64 && !matches!(ty, Type::BF16 | Type::BF16x2) {
            op.ftz = form.take("ftz");
            op.sat = form.take("sat");
        }
        Ok(op)
    }

    pub(super) fn fma(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(ty.is_float(), ty)?;
        let mut op = self.float(form, Kind::Fma, ty, true)?;
        op.relu = HALVES.contains(&ty) && form.take("relu");
        self.finish(form, op, ty, &[ty; 3])
    }

    pub(super) fn root(&mut self, head: &str, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(matches!(ty, Type::F32 | Type::F64), ty)?;
        let approx = form.take("approx");
        let exact = match head {
            "sqrt" => Kind::Sqrt,
            "rcp" => Kind::Rcp,
            _ => Kind::Rsqrt,
        };
        let op = match (head, approx, ty) {
            ("rsqrt", true, Type::F32) => Arith {
                ftz: form.take("ftz"),
                ..Arith::plain(Kind::Rsqrt, ty)
            },
            ("rsqrt", true, Type::F64) if !form.take("ftz") => Arith::plain(Kind::Rsqrt, ty),
            ("sqrt", true, Type::F32) => Arith {
                ftz: form.take("ftz"),
                ..Arith::plain(Kind::SqrtApprox, ty)
            },
            ("rcp", true, Type::F32) => Arith {
                ftz: form.take("ftz"),
                ..Arith::plain(Kind::RcpApprox, ty)
            },
            ("sqrt" | "rcp", false, _) => {
                let op = self.float(form, exact, ty, true)?;
                if op.sat {
                    return form.fail(format!("`{}` has no .sat", form.opcode));
                }
                op
            }
            _ => return form.fail(format!("`{}` is not supported", form.opcode)),
        };
        self.finish(form, op, ty, &[ty])
    }

    pub(super) fn transcendental(&mut self, head: &str, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(ty == Type::F32, ty)?;
        let kind = match head {
            "ex2" => Kind::Ex2,
            "lg2" => Kind::Lg2,
            "sin" => Kind::Sin,
            "cos" => Kind::Cos,
            _ => Kind::Tanh,
        };
        if !form.take("approx") {
            return form.fail(format!("`{}` needs .approx", form.opcode));
        }
        let mut op = Arith::plain(kind, ty);
        op.ftz = kind != Kind::Tanh && form.take("ftz");
        self.finish(form, op, ty, &[ty])
    }
}
