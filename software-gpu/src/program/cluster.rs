//! Decoding of what blocks of a cluster do together: its barrier, and addresses in each other's shared
//! memory.

use super::Op;
use super::decode::{Decoder, Form};
use super::names::Type;
use crate::ptx::Result;
use crate::ptx::ast::Operand;

impl<'a> Decoder<'a> {
    /// Decodes the instruction if it is of this group.
    pub(super) fn cluster(&mut self, head: &str, form: &mut Form<'_, 'a>) -> Result<bool> {
        match head {
            "barrier" if form.parts.first() == Some(&"cluster") => self.cluster_barrier(form)?,
            "mapa" => self.map_shared(form)?,
            "getctarank" => self.rank_of_shared(form)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn cluster_barrier(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        form.take("cluster");
        let aligned = form.take("aligned");
        let [] = form.operands()?;
        if form.take("arrive") {
            let release = form.take("release") || !form.take("relaxed");
            self.emit(form, Op::ClusterArrive { release, aligned });
        } else if form.take("wait") {
            form.take("acquire");
            self.emit(form, Op::ClusterWait { aligned });
        } else {
            return form.fail(format!("`{}` is not supported", form.opcode));
        }
        Ok(())
    }

    fn map_shared(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(matches!(ty, Type::U32 | Type::U64), ty)?;
        let generic = !form.take("shared::cluster");
        if generic && ty == Type::U32 {
            return form.fail("a generic address has 64 bits");
        }
        let [d, a, rank] = form.operands()?;
        // A variable stands for its address in shared memory.
        if generic && !matches!(a, Operand::Register(_)) {
            return form.fail("mapa of a generic address needs it in a register");
        }
        let a = self.slots.source(form.line, a, ty)?;
        let rank = self.slots.source(form.line, rank, Type::U32)?.index;
        let d = self.slots.target(form.line, d, ty)?;
        let op = Op::MapShared {
            d,
            a,
            rank,
            generic,
        };
        self.emit(form, op);
        Ok(())
    }

    fn rank_of_shared(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(matches!(ty, Type::U32 | Type::U64), ty)?;
        let generic = !form.take("shared::cluster");
        let [d, a] = form.operands()?;
        let a = self.slots.source(form.line, a, ty)?;
        let d = self.slots.target(form.line, d, Type::U32)?.index;
        self.emit(form, Op::RankOfShared { d, a, generic });
        Ok(())
    }
}
