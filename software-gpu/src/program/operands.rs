//! The slots that an instruction reads and writes: one list, for whatever needs to know or change them.

use super::{
    Access, AsyncCopy, BarrierKind, Class, Guard, Instruction, MBarrierKind, MBarrierOp, Op, Slot,
};

/// What happens to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
}

/// The tables beside the code that instructions refer to.
pub(super) struct Tables<'a> {
    pub accesses: &'a mut [Access],
    pub copies: &'a mut [AsyncCopy],
    pub mbarriers: &'a mut [MBarrierOp],
    pub parts: &'a mut [Vec<Option<Slot>>],
}

/// Calls `f` for each slot of the instruction, in no particular order.
pub(super) fn visit(
    instruction: &mut Instruction,
    tables: &mut Tables<'_>,
    f: &mut impl FnMut(Class, &mut u16, Use),
) {
    use Use::{Read, Write};
    macro_rules! all {
        ($($class:ident $what:ident: $($index:expr),*;)*) => {{ $($(f(Class::$class, $index, $what);)*)* }};
    }
    macro_rules! slots {
        ($($what:ident: $($slot:expr),*;)*) => {{ $($(f($slot.class, &mut $slot.index, $what);)*)* }};
    }
    match &mut instruction.guard {
        Guard::Always => {}
        Guard::If(p) | Guard::Unless(p) => f(Class::Pred, p, Read),
    }
    match &mut instruction.op {
        Op::MovP { d, a } | Op::NotP { d, a } => all! { Pred Read: a; Pred Write: d; },
        Op::Mov32 { d, a } => all! { R32 Read: a; R32 Write: d; },
        Op::Mov64 { d, a } => all! { R64 Read: a; R64 Write: d; },
        Op::Arith { d, a, b, c, .. } => slots! { Read: a, b, c; Write: d; },
        Op::Fast32 { d, a, b, c, .. } => all! { R32 Read: a, b, c; R32 Write: d; },
        Op::Fast64 { d, a, b, c, .. } => all! { R64 Read: a, b, c; R64 Write: d; },
        Op::Shl64 { d, a, b } | Op::Shr64 { d, a, b } => {
            all! { R64 Read: a; R32 Read: b; R64 Write: d; }
        }
        Op::MulWide { d, a, b, .. } => all! { R32 Read: a, b; R64 Write: d; },
        Op::Widen { d, a, .. } => all! { R32 Read: a; R64 Write: d; },
        Op::Narrow { d, a } => all! { R64 Read: a; R32 Write: d; },
        Op::Select { d, a, b, p } => {
            slots! { Read: a, b; Write: d; }
            all! { Pred Read: p; }
        }
        Op::Setp {
            a, b, d, q, logic, ..
        } => {
            slots! { Read: a, b; }
            all! { Pred Write: d; }
            if let Some(q) = q {
                all! { Pred Write: q; }
            }
            if let Some((_, c, _)) = logic {
                all! { Pred Read: c; }
            }
        }
        Op::LogicP { d, a, b, .. } => all! { Pred Read: a, b; Pred Write: d; },
        Op::Pack { d, parts, .. } => {
            tables.parts[*parts as usize]
                .iter_mut()
                .flatten()
                .for_each(|part| slots! { Read: part; });
            slots! { Write: d; }
        }
        Op::Unpack { a, parts, .. } => {
            slots! { Read: a; }
            tables.parts[*parts as usize]
                .iter_mut()
                .flatten()
                .for_each(|part| slots! { Write: part; });
        }
        Op::Load { access } => {
            let access = &mut tables.accesses[*access as usize];
            slots! { Read: access.base; }
            access
                .data
                .iter_mut()
                .flatten()
                .for_each(|slot| slots! { Write: slot; });
        }
        Op::Store { access } => {
            let access = &mut tables.accesses[*access as usize];
            slots! { Read: access.base; }
            access
                .data
                .iter_mut()
                .flatten()
                .for_each(|slot| slots! { Read: slot; });
        }
        Op::Atomic { access } => {
            let access = &mut tables.accesses[*access as usize];
            slots! { Read: access.base; }
            access
                .data
                .iter_mut()
                .flatten()
                .for_each(|slot| slots! { Read: slot; });
            if let Some(atomic) = &mut access.atomic {
                atomic
                    .swap
                    .iter_mut()
                    .for_each(|slot| slots! { Read: slot; });
                atomic
                    .old
                    .iter_mut()
                    .flatten()
                    .for_each(|slot| slots! { Write: slot; });
            }
        }
        Op::AsyncCopy { copy } => {
            let copy = &mut tables.copies[*copy as usize];
            slots! { Read: copy.to.0, copy.from.0; }
            copy.given
                .iter_mut()
                .for_each(|given| all! { R32 Read: given; });
            copy.ignore
                .iter_mut()
                .for_each(|(p, _)| all! { Pred Read: p; });
        }
        Op::MBarrier { op } | Op::Send { op } => {
            let MBarrierOp { at, kind, .. } = &mut tables.mbarriers[*op as usize];
            slots! { Read: at.0; }
            match kind {
                MBarrierKind::Init { count } => all! { R32 Read: count; },
                MBarrierKind::Invalidate => {}
                MBarrierKind::Arrive {
                    state,
                    count,
                    bytes,
                    ..
                } => {
                    count.iter_mut().for_each(|n| all! { R32 Read: n; });
                    bytes.iter_mut().for_each(|n| all! { R32 Read: n; });
                    state.iter_mut().for_each(|d| all! { R64 Write: d; });
                }
                MBarrierKind::Expect { bytes } => all! { R32 Read: bytes; },
                MBarrierKind::Wait { p, of, .. } => {
                    slots! { Read: of; }
                    all! { Pred Write: p; }
                }
                MBarrierKind::Send { barrier, data, .. } => {
                    slots! { Read: barrier.0; }
                    let data = data.iter_mut().flatten();
                    data.for_each(|slot| slots! { Read: slot; });
                }
            }
        }
        Op::MapShared { d, a, rank, .. } => {
            slots! { Read: a; Write: d; }
            all! { R32 Read: rank; }
        }
        Op::RankOfShared { d, a, .. } => {
            slots! { Read: a; }
            all! { R32 Write: d; }
        }
        Op::ReadSpecial { d, .. } => slots! { Write: d; },
        Op::Shuffle {
            d,
            p,
            a,
            b,
            c,
            mask,
            ..
        } => {
            all! { R32 Read: a, b, c, mask; R32 Write: d; }
            p.iter_mut().for_each(|p| all! { Pred Write: p; });
        }
        Op::Vote {
            mode, d, a, mask, ..
        } => {
            all! { Pred Read: a; R32 Read: mask; }
            let class = if *mode == super::VoteMode::Ballot {
                Class::R32
            } else {
                Class::Pred
            };
            f(class, d, Write);
        }
        Op::Match { d, p, a, mask, .. } => {
            slots! { Read: a; }
            all! { R32 Read: mask; R32 Write: d; }
            p.iter_mut().for_each(|p| all! { Pred Write: p; });
        }
        Op::Redux { d, a, mask, .. } => all! { R32 Read: a, mask; R32 Write: d; },
        Op::ActiveMask { d } => all! { R32 Write: d; },
        Op::Elect { d, p, mask } => {
            all! { R32 Read: mask; Pred Write: p; }
            d.iter_mut().for_each(|d| all! { R32 Write: d; });
        }
        Op::WarpBarrier { mask } => all! { R32 Read: mask; },
        Op::Barrier {
            id, count, kind, ..
        } => {
            all! { R32 Read: id; }
            count.iter_mut().for_each(|count| all! { R32 Read: count; });
            match kind {
                BarrierKind::Wait | BarrierKind::Arrive => {}
                BarrierKind::Count { d, p, .. } => all! { Pred Read: p; R32 Write: d; },
                BarrierKind::All { d, p, .. } | BarrierKind::Any { d, p, .. } => {
                    all! { Pred Read: p; Pred Write: d; }
                }
            }
        }
        Op::BranchTable { index, .. } => all! { R32 Read: index; },
        Op::Branch { .. }
        | Op::AsyncCommit
        | Op::AsyncWait { .. }
        | Op::ClusterArrive { .. }
        | Op::ClusterWait { .. }
        | Op::FenceMBarriers
        | Op::Fence
        | Op::Exit
        | Op::Trap
        | Op::GridWait
        | Op::Nop => {}
    }
}
