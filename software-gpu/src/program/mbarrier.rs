//! Decoding of barriers in shared memory that count arrivals and bytes, `mbarrier`, and of the stores that tell
//! them, `st.async`.

use super::decode::{Decoder, Form};
use super::names::{Class, Type};
use super::{MBarrierKind, MBarrierOp, Op};
use crate::ptx::Result;
use crate::ptx::ast::{Operand, Space};

impl<'a> Decoder<'a> {
    /// Decodes the instruction if it is of this group.
    pub(super) fn mbarrier(&mut self, head: &str, form: &mut Form<'_, 'a>) -> Result<bool> {
        match head {
            "mbarrier" => self.barrier_object(form)?,
            "st" if form.parts.first() == Some(&"async") => self.send(form)?,
            "fence" if form.parts.first() == Some(&"mbarrier_init") => {
                form.take("mbarrier_init");
                if !(form.take("release") && form.take("cluster")) {
                    return form.fail("fence.mbarrier_init needs .release.cluster");
                }
                let [] = form.operands()?;
                self.emit(form, Op::FenceMBarriers);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn barrier_object(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(ty == Type::B64, ty)?;
        let what = form.take_some(|name| {
            ["init", "inval", "arrive", "test_wait", "try_wait"]
                .into_iter()
                .find(|known| *known == name)
        });
        let expect = form.take("expect_tx");
        let space = Self::space(form);
        let remote = space == Space::Cluster && matches!(what, Some("arrive") | None);
        if !matches!(space, Space::Shared | Space::Generic) && !remote {
            return form.fail(format!("`{}`: not in that space", form.opcode));
        }
        let line = form.line;
        let operands = form.operands;
        let (address, kind) = match (what, expect, operands) {
            (Some("init"), false, [address, count]) => {
                let count = self.slots.source(line, count, Type::U32)?.index;
                (address, MBarrierKind::Init { count })
            }
            (Some("inval"), false, [address]) => (address, MBarrierKind::Invalidate),
            (Some("arrive"), _, [state, address, rest @ ..]) if rest.len() <= 1 => {
                let release = ordered(form, "release");
                let state = match state {
                    Operand::Sink => None,
                    _ if remote => return form.fail("an arrival elsewhere has no state: `_`"),
                    state => Some(self.slots.target(line, state, Type::B64)?.index),
                };
                let number = match rest.first() {
                    Some(number) => Some(self.slots.source(line, number, Type::U32)?.index),
                    None if expect => return form.fail("arrive.expect_tx needs a number of bytes"),
                    None => None,
                };
                let (count, bytes) = if expect {
                    (None, number)
                } else {
                    (number, None)
                };
                let kind = MBarrierKind::Arrive {
                    state,
                    count,
                    bytes,
                    release,
                };
                (address, kind)
            }
            (None, true, [address, bytes]) => {
                form.take("relaxed");
                form.take("cta");
                form.take("cluster");
                let bytes = self.slots.source(line, bytes, Type::U32)?.index;
                (address, MBarrierKind::Expect { bytes })
            }
            (Some("test_wait" | "try_wait"), false, [p, address, of, hint @ ..])
                if hint.len() <= usize::from(what == Some("try_wait")) =>
            {
                let acquire = ordered(form, "acquire");
                // How long it may wait: here it never does.
                if let [hint] = hint {
                    self.slots.source(line, hint, Type::U32)?;
                }
                let ty = if form.take("parity") {
                    Type::U32
                } else {
                    Type::B64
                };
                let of = self.slots.source(line, of, ty)?;
                let p = self.slots.target(line, p, Type::Pred)?.index;
                (address, MBarrierKind::Wait { p, of, acquire })
            }
            _ => {
                return form.fail(format!(
                    "`{}` with these operands is not supported",
                    form.opcode
                ));
            }
        };
        let at = self.address(form, address, space)?;
        let op = self.program.mbarriers.len() as u32;
        self.program.mbarriers.push(MBarrierOp { space, at, kind });
        self.emit(form, Op::MBarrier { op });
        Ok(())
    }

    fn send(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        let sent = ty.bits() >= 32 && ty.class() != Class::Pred;
        form.typed(sent && !matches!(ty, Type::F16x2 | Type::BF16x2), ty)?;
        form.take("async");
        form.take("weak");
        form.take("mbarrier::complete_tx::bytes");
        let space = Self::space(form);
        if !matches!(space, Space::Cluster | Space::Generic) {
            return form.fail(format!("`{}`: not in that space", form.opcode));
        }
        let count = Self::vector(form);
        let [to, from, barrier] = form.operands()?;
        let at = self.address(form, to, space)?;
        let barrier = self.address(form, barrier, space)?;
        let (data, _) = self.data(form, from, count, ty, false)?;
        let bytes = ty.bytes() * data.len() as u32;
        if bytes > 16 {
            return form.fail(format!("an access of {bytes} bytes a lane"));
        }
        let op = self.program.mbarriers.len() as u32;
        let kind = MBarrierKind::Send { barrier, ty, data };
        self.program.mbarriers.push(MBarrierOp { space, at, kind });
        self.emit(form, Op::Send { op });
        Ok(())
    }
}

/// Takes order and scope out. False where it is relaxed; else it is `what`.
fn ordered(form: &mut Form<'_, '_>, what: &str) -> bool {
    let relaxed = !form.take(what) && form.take("relaxed");
    form.take("cta");
    form.take("cluster");
    !relaxed
}
