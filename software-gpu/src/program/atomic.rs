//! Decoding of atomics: `atom` and `red`.

use super::decode::{Decoder, Form};
use super::names::{Arith, Kind, Type};
use super::{Access, Atomic, AtomicOp, Op};
use crate::ptx::Result;
use crate::ptx::ast::Space;

impl<'a> Decoder<'a> {
    pub(super) fn atomic(&mut self, form: &mut Form<'_, 'a>, returns: bool) -> Result<()> {
        let ty = form.ty()?;
        let space = Self::space(form);
        if !matches!(
            space,
            Space::Generic | Space::Global | Space::Shared | Space::Cluster
        ) {
            return form.fail(format!("`{}`: no atomics in that space", form.opcode));
        }
        Self::order(form);
        Self::cache_hints(form);
        let count = Self::vector(form);
        let noftz = form.take("noftz");
        let name = form.take_some(|name| {
            [
                "and", "or", "xor", "cas", "exch", "add", "inc", "dec", "min", "max",
            ]
            .into_iter()
            .find(|known| *known == name)
        });
        let plain = |kind| AtomicOp::Arith(Arith::plain(kind, ty));
        let (u32_, bits) = (ty == Type::U32, matches!(ty, Type::B32 | Type::B64));
        let whole = matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::S64);
        let half = matches!(ty, Type::F16 | Type::BF16 | Type::F16x2 | Type::BF16x2);
        let (op, fits) = match name {
            Some("and") => (plain(Kind::And), bits),
            Some("or") => (plain(Kind::Or), bits),
            Some("xor") => (plain(Kind::Xor), bits),
            Some("cas") => (AtomicOp::CompareSwap, returns && (bits || ty == Type::B16)),
            Some("exch") => (AtomicOp::Exchange, returns && bits),
            Some("add") => (
                plain(Kind::Add),
                (whole && ty != Type::S64)
                    || matches!(ty, Type::F32 | Type::F64)
                    || (half && noftz),
            ),
            Some("inc") => (AtomicOp::Increment, u32_),
            Some("dec") => (AtomicOp::Decrement, u32_),
            Some("min") => (
                plain(Kind::Min),
                whole || (half && noftz && count.is_some()),
            ),
            Some("max") => (
                plain(Kind::Max),
                whole || (half && noftz && count.is_some()),
            ),
            _ => return form.fail(format!("`{}` names no operation", form.opcode)),
        };
        form.typed(fits && (count.is_none() || ty.is_float()), ty)?;
        let (old, operands) = match (returns, form.operands) {
            (true, [old, rest @ ..]) => (Some(old), rest),
            (_, rest) => (None, rest),
        };
        let (address, value, swap) = match (op, operands) {
            (AtomicOp::CompareSwap, [address, compare, swap]) => (address, compare, Some(swap)),
            (AtomicOp::CompareSwap, _) => return form.fail("cas has four operands"),
            (_, [address, value]) => (address, value, None),
            _ => return form.fail(format!("`{}` has another number of operands", form.opcode)),
        };
        let (base, offset) = self.address(form, address, space)?;
        let (data, bits) = self.data(form, value, count, ty, false)?;
        let swap = match swap {
            Some(swap) => Some(self.slots.source(form.line, swap, ty)?),
            None => None,
        };
        let old = match old {
            Some(old) => self.data(form, old, count, ty, true)?.0,
            None => Vec::new(),
        };
        let atomic = Some(Atomic { op, old, swap });
        let access = Access {
            space,
            base,
            offset,
            ty,
            data,
            bits,
            atomic,
            strong: true,
            read_only: false,
        };
        self.check_size(form, &access)?;
        let access = self.access(access);
        self.emit(form, Op::Atomic { access });
        Ok(())
    }
}
