//! Decoding of control flow, barriers, and what lanes of a warp do together.

use super::decode::{Decoder, Form};
use super::names::{Arith, Class, Kind, Type};
use super::{BarrierKind, NEVER, Op, ShuffleMode, VoteMode};
use crate::ptx::Result;
use crate::ptx::ast::Operand;

impl<'a> Decoder<'a> {
    /// Decodes the instruction if it is of this group.
    pub(super) fn control(&mut self, head: &str, form: &mut Form<'_, 'a>) -> Result<bool> {
        match head {
            "bra" => {
                form.take("uni");
                let [Operand::Label(target)] = form.operands()? else {
                    return form.fail("bra needs a label");
                };
                self.emit(
                    form,
                    Op::Branch {
                        target: *target,
                        meet: NEVER,
                    },
                );
            }
            "brx" => self.branch_table(form)?,
            "ret" | "exit" => {
                form.take("uni");
                self.emit(form, Op::Exit);
            }
            "trap" => self.emit(form, Op::Trap),
            "bar" | "barrier" => self.barrier(head, form)?,
            "shfl" => self.shuffle(form)?,
            "vote" => self.vote(form)?,
            "match" => self.matching(form)?,
            "redux" => self.redux(form)?,
            "activemask" => {
                form.take("b32");
                let [d] = form.operands()?;
                let d = self.slots.target(form.line, d, Type::B32)?.index;
                self.emit(form, Op::ActiveMask { d });
            }
            "elect" => self.elect(form)?,
            "griddepcontrol" => {
                let op = form.take_some(|name| match name {
                    "wait" => Some(Op::GridWait),
                    // When the launch behind this one begins is not said: it always may.
                    "launch_dependents" => Some(Op::Nop),
                    _ => None,
                });
                let Some(op) = op else {
                    return form.fail("griddepcontrol is .wait or .launch_dependents");
                };
                let [] = form.operands()?;
                self.emit(form, op);
            }
            "nanosleep" => {
                form.take("u32");
                self.emit(form, Op::Nop);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn branch_table(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        form.take("idx");
        form.take("uni");
        let [index, Operand::Label(list)] = form.operands()? else {
            return form.fail("brx.idx needs an index and a list of labels");
        };
        let index = self.slots.source(form.line, index, Type::U32)?.index;
        let Some((_, targets)) = self
            .slots
            .entry
            .tables
            .iter()
            .find(|(label, _)| label == list)
        else {
            return form.fail("brx.idx names a label that is no .branchtargets");
        };
        self.program.tables.push(targets.clone());
        let table = self.program.tables.len() as u32 - 1;
        self.emit(
            form,
            Op::BranchTable {
                index,
                table,
                meet: NEVER,
            },
        );
        Ok(())
    }

    fn barrier(&mut self, head: &str, form: &mut Form<'_, 'a>) -> Result<()> {
        let line = form.line;
        if form.take("warp") {
            if !form.take("sync") {
                return form.fail("bar.warp needs .sync");
            }
            let [mask] = form.operands()?;
            let mask = self.slots.source(line, mask, Type::B32)?.index;
            self.emit(form, Op::WarpBarrier { mask });
            return Ok(());
        }
        form.take("cta");
        // `bar` is `barrier.cta` with `.aligned`.
        let aligned = form.take("aligned") || head == "bar";
        let (kind, rest) = if form.take("red") {
            let ty = form.ty()?;
            let name = form.take_some(|name| {
                ["popc", "and", "or"]
                    .into_iter()
                    .find(|known| *known == name)
            });
            let [d, rest @ .., p] = form.operands else {
                return form.fail("barrier.red has at least three operands");
            };
            let (p, negate) = self.slots.signed_predicate(line, p)?;
            let kind = match (name, ty) {
                (Some("popc"), Type::U32) => BarrierKind::Count {
                    d: self.slots.target(line, d, ty)?.index,
                    p,
                    negate,
                },
                (Some("and"), Type::Pred) => BarrierKind::All {
                    d: self.slots.target(line, d, ty)?.index,
                    p,
                    negate,
                },
                (Some("or"), Type::Pred) => BarrierKind::Any {
                    d: self.slots.target(line, d, ty)?.index,
                    p,
                    negate,
                },
                _ => return form.fail(format!("`{}` is not supported", form.opcode)),
            };
            (kind, rest)
        } else if form.take("arrive") {
            (BarrierKind::Arrive, form.operands)
        } else if form.take("sync") {
            (BarrierKind::Wait, form.operands)
        } else {
            return form.fail(format!("`{}` is not supported", form.opcode));
        };
        let (id, count) = match (rest, kind) {
            ([_], BarrierKind::Arrive) => {
                return form.fail("barrier.arrive needs a number of threads");
            }
            ([id], _) => (id, None),
            ([id, count], _) => (id, Some(self.slots.source(line, count, Type::U32)?.index)),
            _ => return form.fail(format!("`{}` has another number of operands", form.opcode)),
        };
        let id = self.slots.source(line, id, Type::U32)?.index;
        self.emit(
            form,
            Op::Barrier {
                id,
                count,
                aligned,
                kind,
            },
        );
        Ok(())
    }

    fn shuffle(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(ty == Type::B32, ty)?;
        if !form.take("sync") {
            return form.fail("shfl without .sync is gone since sm_70");
        }
        let mode = form.take_some(|name| {
            Some(match name {
                "up" => ShuffleMode::Up,
                "down" => ShuffleMode::Down,
                "bfly" => ShuffleMode::Xor,
                "idx" => ShuffleMode::Index,
                _ => return None,
            })
        });
        let Some(mode) = mode else {
            return form.fail(format!("`{}` names no direction", form.opcode));
        };
        let [to, a, b, c, mask] = form.operands()?;
        let line = form.line;
        let a = self.slots.source(line, a, ty)?.index;
        let b = self.slots.source(line, b, ty)?.index;
        let c = self.slots.source(line, c, ty)?.index;
        let mask = self.slots.source(line, mask, ty)?.index;
        let (d, p) = match to {
            Operand::Pair(d, p) => (
                d.as_ref(),
                Some(self.slots.target(line, p, Type::Pred)?.index),
            ),
            d => (d, None),
        };
        let d = self.slots.target(line, d, ty)?.index;
        self.emit(
            form,
            Op::Shuffle {
                mode,
                d,
                p,
                a,
                b,
                c,
                mask,
            },
        );
        Ok(())
    }

    fn vote(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        if !form.take("sync") {
            return form.fail("vote without .sync is gone since sm_70");
        }
        let mode = form.take_some(|name| {
            Some(match name {
                "all" => VoteMode::All,
                "any" => VoteMode::Any,
                "uni" => VoteMode::Uniform,
                "ballot" => VoteMode::Ballot,
                _ => return None,
            })
        });
        let Some(mode) = mode else {
            return form.fail(format!("`{}` names no vote", form.opcode));
        };
        form.typed(
            ty == if mode == VoteMode::Ballot {
                Type::B32
            } else {
                Type::Pred
            },
            ty,
        )?;
        let [d, a, mask] = form.operands()?;
        let line = form.line;
        let (a, negate) = self.slots.signed_predicate(line, a)?;
        let mask = self.slots.source(line, mask, Type::B32)?.index;
        let d = self.slots.target(line, d, ty)?.index;
        self.emit(
            form,
            Op::Vote {
                mode,
                d,
                a,
                negate,
                mask,
            },
        );
        Ok(())
    }

    fn matching(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(matches!(ty, Type::B32 | Type::B64), ty)?;
        let all = form.take("all");
        if !(all || form.take("any")) || !form.take("sync") {
            return form.fail(format!("`{}` is not supported", form.opcode));
        }
        let [to, a, mask] = form.operands()?;
        let line = form.line;
        let a = self.slots.source(line, a, ty)?;
        let mask = self.slots.source(line, mask, Type::B32)?.index;
        let (d, p) = match to {
            Operand::Pair(d, p) if all => (
                d.as_ref(),
                Some(self.slots.target(line, p, Type::Pred)?.index),
            ),
            d => (d, None),
        };
        let d = self.slots.target(line, d, Type::B32)?.index;
        self.emit(form, Op::Match { all, d, p, a, mask });
        Ok(())
    }

    fn redux(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        if !form.take("sync") {
            return form.fail("redux needs .sync");
        }
        let whole = matches!(ty, Type::U32 | Type::S32);
        let kind = form.take_some(|name| {
            Some(match name {
                "add" if whole => Kind::Add,
                "min" if whole => Kind::Min,
                "max" if whole => Kind::Max,
                "and" if ty == Type::B32 => Kind::And,
                "or" if ty == Type::B32 => Kind::Or,
                "xor" if ty == Type::B32 => Kind::Xor,
                _ => return None,
            })
        });
        let Some(kind) = kind else {
            return form.fail(format!("`{}` is not supported", form.opcode));
        };
        let [d, a, mask] = form.operands()?;
        let a = self.slots.source(form.line, a, ty)?.index;
        let mask = self.slots.source(form.line, mask, Type::B32)?.index;
        let d = self.slots.target(form.line, d, ty)?.index;
        self.emit(
            form,
            Op::Redux {
                op: Arith::plain(kind, ty),
                d,
                a,
                mask,
            },
        );
        Ok(())
    }

    fn elect(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        if !form.take("sync") {
            return form.fail("elect needs .sync");
        }
        let [Operand::Pair(d, p), mask] = form.operands()? else {
            return form.fail("elect needs a pair and a mask");
        };
        let line = form.line;
        let mask = self.slots.source(line, mask, Type::B32)?.index;
        let d = match d.as_ref() {
            Operand::Sink => None,
            d => Some(self.slots.target(line, d, Type::B32)?),
        };
        let d = d
            .filter(|slot| slot.class == Class::R32)
            .map(|slot| slot.index);
        let p = self.slots.target(line, p, Type::Pred)?.index;
        self.emit(form, Op::Elect { d, p, mask });
        Ok(())
    }
}
