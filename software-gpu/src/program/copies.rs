//! Decoding of `cp.async`: copies from global to shared memory that are done when they are waited for.

use super::decode::{Decoder, Form};
use super::names::Type;
use super::{AsyncCopy, Op};
use crate::ptx::Result;
use crate::ptx::ast::{Operand, Space};

impl<'a> Decoder<'a> {
    /// Decodes the instruction if it is of this group.
    pub(super) fn copies(&mut self, head: &str, form: &mut Form<'_, 'a>) -> Result<bool> {
        if head != "cp" {
            return Ok(false);
        }
        if !form.take("async") {
            return form.fail(format!("`{}` is not supported", form.opcode));
        }
        if form.take("commit_group") {
            let [] = form.operands()?;
            self.emit(form, Op::AsyncCommit);
        } else if form.take("wait_all") {
            let [] = form.operands()?;
            self.emit(form, Op::AsyncWait { keep: None });
        } else if form.take("wait_group") {
            let [Operand::Integer(keep)] = form.operands()? else {
                return form.fail("cp.async.wait_group needs a number");
            };
            let keep = Some(u32::try_from(*keep).unwrap_or(u32::MAX));
            self.emit(form, Op::AsyncWait { keep });
        } else {
            self.async_copy(form)?;
        }
        Ok(true)
    }

    fn async_copy(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let all_levels = form.take("ca");
        let cached = all_levels || form.take("cg");
        let shared = form.take("shared") || form.take("shared::cta");
        if !(cached && shared && form.take("global")) {
            return form.fail(format!("`{}` is not supported", form.opcode));
        }
        Self::cache_hints(form);
        let (to, from, bytes, rest) = match form.operands {
            [to, from, Operand::Integer(bytes), rest @ ..] => (to, from, *bytes, rest),
            _ => return form.fail("cp.async has two addresses and a number of bytes"),
        };
        if !(bytes == 16 || (all_levels && matches!(bytes, 4 | 8))) {
            return form.fail(format!(
                "cp.async of {bytes} bytes: .ca has 4, 8 and 16, .cg has 16"
            ));
        }
        let line = form.line;
        let (mut given, mut ignore) = (None, None);
        match rest {
            [] => {}
            [Operand::Not(_)] => ignore = Some(self.slots.signed_predicate(line, &rest[0])?),
            [Operand::Register(register)]
                if self.slots.width(*register) == crate::ptx::ast::Width::Pred =>
            {
                ignore = Some(self.slots.signed_predicate(line, &rest[0])?);
            }
            [count] => given = Some(self.slots.source(line, count, Type::U32)?.index),
            _ => return form.fail(format!("`{}` has another number of operands", form.opcode)),
        }
        let to = self.address(form, to, Space::Shared)?;
        let from = self.address(form, from, Space::Global)?;
        let number = self.program.copies.len() as u32;
        self.program.copies.push(AsyncCopy {
            number,
            to,
            from,
            bytes: bytes as u32,
            given,
            ignore,
        });
        self.emit(form, Op::AsyncCopy { copy: number });
        Ok(())
    }
}
