//! A warp's run: instruction after instruction, until a barrier, its end, or the end of its turn.

use super::access::{Action, execute};
use super::copies;
use super::flight;
use super::lanes::{
    arith, compare_lanes, fast32, fast64, narrow, one32, one64, select, shift64, widen,
};
use super::mbarrier;
use super::room::Room;
use super::together;
use super::trouble::{Outcome, Trouble};
use super::warp::{Warp, lanes};
use crate::fault::FaultKind;
use crate::program::{BarrierKind, Class, Guard, Op, Slot};

/// Why a run ended.
pub(super) enum Stop {
    Barrier {
        id: u32,
        count: Option<u32>,
        kind: BarrierKind,
        lanes: u32,
    },
    ClusterArrive {
        release: bool,
    },
    ClusterWait,
    Done,
    /// Its turn is over.
    Turn,
}

/// Runs a warp.
#[inline(always)]
fn run_here(room: &mut Room<'_>, warp: &mut Warp, turn: u32) -> Outcome<Stop> {
    let program = room.launch.program;
    for _ in 0..turn {
        if warp.pc == warp.meet && !warp.resume() {
            return Ok(Stop::Done);
        }
        let instruction = &program.code[warp.pc as usize];
        let mask = warp.mask
            & match instruction.guard {
                Guard::Always => u32::MAX,
                Guard::If(p) => warp.p[p as usize],
                Guard::Unless(p) => !warp.p[p as usize],
            };
        room.tally.step(warp.pc, mask);
        if warp.flight.is_loading() {
            flight::before(room, warp);
        }
        match instruction.op {
            Op::Branch { target, meet } => {
                room.tally.divergent += u64::from(mask != 0 && mask != warp.mask);
                let swap = room.launch.adversary.other_side_first(warp.pc, warp.index);
                warp.branch(mask, target, meet, swap);
                continue;
            }
            Op::BranchTable { index, table, meet } => {
                table_branch(warp, mask, index, &program.tables[table as usize], meet)?;
                continue;
            }
            Op::Exit => {
                if mask != 0 {
                    let pc = warp.pc;
                    let rest = warp.mask & !mask;
                    copies::exit(room, warp, mask)?;
                    if !warp.exit(mask) {
                        return Ok(Stop::Done);
                    }
                    // Lanes that did not exit go on behind; those resumed have a place of their own.
                    if rest == 0 {
                        continue;
                    }
                    warp.pc = pc;
                }
            }
            _ if mask == 0 => {}
            Op::Trap => {
                let lane = mask.trailing_zeros() as usize;
                return Err(Trouble::new(
                    FaultKind::IllegalInstruction,
                    lane,
                    "the kernel executed `trap`",
                ));
            }
            Op::Barrier {
                id,
                count,
                aligned,
                kind,
            } => {
                let strict = room.launch.checks.barriers && count.is_none();
                if let Some(stop) = barrier(warp, mask, id, count, aligned, kind, strict)? {
                    warp.pc += 1;
                    return Ok(stop);
                }
            }
            Op::ClusterArrive { release, aligned } => {
                let strict = room.launch.checks.barriers;
                whole_warp(warp, mask, aligned, strict)?;
                warp.pc += 1;
                return Ok(Stop::ClusterArrive { release });
            }
            Op::ClusterWait { aligned } => {
                let strict = room.launch.checks.barriers;
                whole_warp(warp, mask, aligned, strict)?;
                warp.pc += 1;
                return Ok(Stop::ClusterWait);
            }
            Op::MBarrier { op } => {
                if !mbarrier::execute(room, warp, &program.mbarriers[op as usize], mask)? {
                    warp.pc += 1;
                    return Ok(Stop::Turn);
                }
            }
            Op::Send { op } => mbarrier::send(room, warp, &program.mbarriers[op as usize], mask)?,
            Op::FenceMBarriers => mbarrier::fence(room, warp, mask),
            Op::Load { access } => execute(room, warp, access, Action::Load, mask)?,
            Op::Store { access } => execute(room, warp, access, Action::Store, mask)?,
            Op::Atomic { access } => execute(room, warp, access, Action::Atomic, mask)?,
            Op::AsyncCopy { copy } => {
                copies::issue(room, warp, &program.copies[copy as usize], mask)?
            }
            Op::AsyncCommit => warp.copies.commit(mask),
            Op::AsyncWait { keep } => copies::wait(room, warp, mask, keep)?,
            Op::Arith { op, d, a, b, c } => {
                arith(warp, mask, op, d, a, b, c, &room.launch.adversary);
            }
            Op::Setp {
                compare,
                ty,
                ftz,
                a,
                b,
                d,
                q,
                logic,
            } => {
                let holds = compare_lanes(warp, compare, ty, ftz, a, b);
                let (mut first, mut second) = (holds, !holds);
                if let Some((logic, c, negate)) = logic {
                    let c = warp.p[c as usize] ^ if negate { u32::MAX } else { 0 };
                    (first, second) = (logic.of(first, c), logic.of(second, c));
                }
                warp.set_predicate(d, mask, first);
                if let Some(q) = q {
                    warp.set_predicate(q, mask, second);
                }
            }
            Op::Select { d, a, b, p } => select(warp, mask, d, a, b, p),
            Op::MovP { d, a } => warp.set_predicate(d, mask, warp.p[a as usize]),
            Op::Mov32 { d, a } => one32(warp, mask, d, a, |a| a),
            Op::Mov64 { d, a } => one64(warp, mask, d, a, |a| a),
            Op::Fast32 { op, d, a, b, c } => fast32(warp, mask, op, d, a, b, c),
            Op::Fast64 { op, d, a, b, c } => fast64(warp, mask, op, d, a, b, c),
            Op::Shl64 { d, a, b } => {
                shift64(warp, mask, d, a, b, |a, b| if b > 63 { 0 } else { a << b })
            }
            Op::Shr64 { d, a, b } => {
                shift64(warp, mask, d, a, b, |a, b| if b > 63 { 0 } else { a >> b })
            }
            Op::MulWide {
                signed: false,
                d,
                a,
                b,
            } => {
                widen(warp, mask, d, a, b, |a, b| u64::from(a) * u64::from(b));
            }
            Op::MulWide {
                signed: true,
                d,
                a,
                b,
            } => {
                widen(warp, mask, d, a, b, |a, b| {
                    (i64::from(a as i32) * i64::from(b as i32)) as u64
                });
            }
            Op::Widen {
                signed: false,
                d,
                a,
            } => widen(warp, mask, d, a, a, |a, _| a.into()),
            Op::Widen { signed: true, d, a } => widen(warp, mask, d, a, a, |a, _| a as i32 as u64),
            Op::Narrow { d, a } => narrow(warp, mask, d, a),
            Op::LogicP { logic, d, a, b } => {
                let value = logic.of(warp.p[a as usize], warp.p[b as usize]);
                warp.set_predicate(d, mask, value);
            }
            Op::NotP { d, a } => warp.set_predicate(d, mask, !warp.p[a as usize]),
            Op::Pack { d, parts, bits } => {
                pack(warp, mask, d, &program.parts[parts as usize], bits)
            }
            Op::Unpack { a, parts, bits } => {
                unpack(warp, mask, a, &program.parts[parts as usize], bits)
            }
            Op::ReadSpecial { special, d } => {
                let value = room.clock(special);
                for lane in lanes(mask) {
                    warp.write(d, lane, value);
                }
            }
            Op::ActiveMask { d } => warp.spread(d, mask, mask),
            Op::GridWait => warp.early = false,
            Op::Fence | Op::Nop => {}
            op => together::execute(room, warp, mask, op)?,
        }
        warp.pc += 1;
    }
    Ok(Stop::Turn)
}

fn table_branch(warp: &mut Warp, mask: u32, index: u16, targets: &[u32], meet: u32) -> Outcome<()> {
    if mask == 0 {
        warp.pc += 1;
        return Ok(());
    }
    let index = warp.r[index as usize].0;
    // The ways that are taken, each with its lanes.
    let mut ways: Vec<(u32, u32)> = Vec::new();
    if mask != warp.mask {
        ways.push((warp.pc + 1, warp.mask & !mask));
    }
    for lane in lanes(mask) {
        let Some(target) = targets.get(index[lane] as usize) else {
            let detail = format!(
                "brx.idx with index {} of {} labels",
                index[lane],
                targets.len()
            );
            return Err(Trouble::new(FaultKind::IllegalInstruction, lane, detail));
        };
        match ways.iter_mut().find(|(to, _)| to == target) {
            Some((_, mask)) => *mask |= 1 << lane,
            None => ways.push((*target, 1 << lane)),
        }
    }
    if let [(target, _)] = ways[..] {
        warp.pc = target;
        return Ok(());
    }
    warp.part(meet);
    for (target, mask) in &ways[1..] {
        warp.wait(*target, *mask, meet);
    }
    (warp.pc, warp.mask) = ways[0];
    warp.meet = meet;
    Ok(())
}

fn pack(warp: &mut Warp, mask: u32, d: Slot, parts: &[Option<Slot>], bits: u8) {
    for lane in lanes(mask) {
        let part = |(i, slot): (usize, &Option<Slot>)| {
            slot.map_or(0, |slot| {
                warp.read(slot, lane) << (i as u32 * u32::from(bits))
            })
        };
        let value = parts
            .iter()
            .enumerate()
            .map(part)
            .fold(0, |all, part| all | part);
        warp.write(d, lane, value);
    }
}

fn unpack(warp: &mut Warp, mask: u32, a: Slot, parts: &[Option<Slot>], bits: u8) {
    let keep = (1u64 << bits) - 1;
    for lane in lanes(mask) {
        let value = warp.read(a, lane);
        for (i, slot) in parts.iter().enumerate() {
            if let Some(slot) = slot {
                debug_assert_eq!(slot.class, Class::R32);
                warp.write(*slot, lane, value >> (i as u32 * u32::from(bits)) & keep);
            }
        }
    }
}

/// An error unless all lanes of the warp are at the barrier.
fn whole_warp(warp: &Warp, mask: u32, aligned: bool, strict: bool) -> Outcome<()> {
    let lane = mask.trailing_zeros() as usize;
    if strict && mask == warp.alive && mask != warp.all {
        let gone = (warp.all & !mask).trailing_zeros();
        let detail = format!(
            "lane {gone} of the warp has exited without reaching it: only {mask:#010x} are left"
        );
        return Err(Trouble::new(FaultKind::BarrierDivergence, lane, detail));
    }
    if mask != warp.alive {
        let absent = (warp.alive & !mask).trailing_zeros();
        let word = if aligned {
            "an aligned barrier"
        } else {
            "a barrier"
        };
        let detail = format!(
            "{word} is executed by lanes {mask:#010x} of a warp whose lanes are {:#010x}: lane {absent} is elsewhere",
            warp.alive
        );
        return Err(Trouble::new(FaultKind::BarrierDivergence, lane, detail));
    }
    Ok(())
}

/// The barrier's operands, and whether the lanes may be at it.
fn barrier(
    warp: &Warp,
    mask: u32,
    id: u16,
    count: Option<u16>,
    aligned: bool,
    kind: BarrierKind,
    strict: bool,
) -> Outcome<Option<Stop>> {
    let lane = mask.trailing_zeros() as usize;
    whole_warp(warp, mask, aligned, strict)?;
    let id = uniform(warp, mask, id, "a barrier's number")?;
    if id >= 16 {
        return Err(Trouble::new(
            FaultKind::IllegalInstruction,
            lane,
            format!("barrier {id}: there are 16"),
        ));
    }
    let count = match count {
        None => None,
        Some(count) => {
            let count = uniform(warp, mask, count, "a barrier's number of threads")?;
            if count == 0 || count % 32 != 0 {
                let detail =
                    format!("a barrier's number of threads is a multiple of 32, got {count}");
                return Err(Trouble::new(FaultKind::IllegalInstruction, lane, detail));
            }
            Some(count)
        }
    };
    Ok(Some(Stop::Barrier {
        id,
        count,
        kind,
        lanes: mask,
    }))
}

/// A register's value that must be the same for all lanes.
fn uniform(warp: &Warp, mask: u32, slot: u16, what: &str) -> Outcome<u32> {
    let values = &warp.r[slot as usize].0;
    let first = values[mask.trailing_zeros() as usize];
    match lanes(mask).find(|lane| values[*lane] != first) {
        None => Ok(first),
        Some(lane) => {
            let detail = format!("{what} differs between lanes: {first} and {}", values[lane]);
            Err(Trouble::new(FaultKind::BarrierDivergence, lane, detail))
        }
    }
}

/// Runs a warp, with the widest vectors that the host has.
pub(super) fn run(room: &mut Room<'_>, warp: &mut Warp, turn: u32) -> Outcome<Stop> {
    #[cfg(target_arch = "x86_64")]
    {
        if room.launch.host.avx512 {
            // SAFETY: the launch found these features on this processor.
            return unsafe { run_avx512(room, warp, turn) };
        }
        if room.launch.host.avx2 {
            // SAFETY: as above.
            return unsafe { run_avx2(room, warp, turn) };
        }
    }
    run_here(room, warp, turn)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(
    enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"
)]
fn run_avx512(room: &mut Room<'_>, warp: &mut Warp, turn: u32) -> Outcome<Stop> {
    run_here(room, warp, turn)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn run_avx2(room: &mut Room<'_>, warp: &mut Warp, turn: u32) -> Outcome<Stop> {
    run_here(room, warp, turn)
}
