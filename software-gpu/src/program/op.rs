//! What an instruction does, on slots.

use super::Slot;
use super::fast::{Fast32, Fast64};
use super::names::{Arith, Compare, Logic, Type};
use crate::ptx::ast::Special;

/// What an instruction does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Copies a slot to one of the same class.
    MovP {
        d: u16,
        a: u16,
    },
    Mov32 {
        d: u16,
        a: u16,
    },
    Mov64 {
        d: u16,
        a: u16,
    },
    /// d = op(a, b, c); operands that the operation lacks repeat another.
    Arith {
        op: Arith,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    /// The same where the operation has a vector path, its operands all in one file.
    Fast32 {
        op: Fast32,
        d: u16,
        a: u16,
        b: u16,
        c: u16,
    },
    Fast64 {
        op: Fast64,
        d: u16,
        a: u16,
        b: u16,
        c: u16,
    },
    /// d = a << b, a >> b, of 64 bits.
    Shl64 {
        d: u16,
        a: u16,
        b: u16,
    },
    Shr64 {
        d: u16,
        a: u16,
        b: u16,
    },
    /// d = a * b, of 32 bits to 64.
    MulWide {
        signed: bool,
        d: u16,
        a: u16,
        b: u16,
    },
    /// d = a, extended to 64 bits.
    Widen {
        signed: bool,
        d: u16,
        a: u16,
    },
    /// d = the low half of a.
    Narrow {
        d: u16,
        a: u16,
    },
    /// d = p ? a : b
    Select {
        d: Slot,
        a: Slot,
        b: Slot,
        p: u16,
    },
    /// d = (a compare b) logic p, and q = !(a compare b) logic p.
    Setp {
        compare: Compare,
        ty: Type,
        ftz: bool,
        a: Slot,
        b: Slot,
        d: u16,
        q: Option<u16>,
        logic: Option<(Logic, u16, bool)>,
    },
    /// d = a logic b on predicates.
    LogicP {
        logic: Logic,
        d: u16,
        a: u16,
        b: u16,
    },
    NotP {
        d: u16,
        a: u16,
    },
    /// A register from its parts, low first, and the reverse. The parts are in `parts`.
    Pack {
        d: Slot,
        parts: u32,
        bits: u8,
    },
    Unpack {
        a: Slot,
        parts: u32,
        bits: u8,
    },
    Load {
        access: u32,
    },
    Store {
        access: u32,
    },
    Atomic {
        access: u32,
    },
    AsyncCopy {
        copy: u32,
    },
    /// Ends a group of asynchronous copies.
    AsyncCommit,
    /// Waits until at most so many groups are under way; for all copies without a number.
    AsyncWait {
        keep: Option<u32>,
    },
    /// A special register that changes.
    ReadSpecial {
        special: Special,
        d: Slot,
    },
    Shuffle {
        mode: ShuffleMode,
        d: u16,
        p: Option<u16>,
        a: u16,
        b: u16,
        c: u16,
        mask: u16,
    },
    Vote {
        mode: VoteMode,
        d: u16,
        a: u16,
        negate: bool,
        mask: u16,
    },
    Match {
        all: bool,
        d: u16,
        p: Option<u16>,
        a: Slot,
        mask: u16,
    },
    Redux {
        op: Arith,
        d: u16,
        a: u16,
        mask: u16,
    },
    ActiveMask {
        d: u16,
    },
    Elect {
        d: Option<u16>,
        p: u16,
        mask: u16,
    },
    WarpBarrier {
        mask: u16,
    },
    /// A barrier of the block; `count` threads, or all.
    Barrier {
        id: u16,
        count: Option<u16>,
        aligned: bool,
        kind: BarrierKind,
    },
    /// The barrier of the cluster, in its two halves.
    ClusterArrive {
        /// Without it the barrier orders no memory.
        release: bool,
        aligned: bool,
    },
    ClusterWait {
        aligned: bool,
    },
    /// d = where the address `a` of shared memory is in block `rank` of the cluster.
    MapShared {
        d: Slot,
        a: Slot,
        rank: u16,
        generic: bool,
    },
    /// d = the rank of the block whose shared memory the address `a` is in.
    RankOfShared {
        d: u16,
        a: Slot,
        generic: bool,
    },
    /// An instruction on a barrier in shared memory, by its number.
    MBarrier {
        op: u32,
    },
    /// A store that a barrier in shared memory is told of.
    Send {
        op: u32,
    },
    /// The cluster sees barriers that this thread has initialised, after a barrier that releases nothing else.
    FenceMBarriers,
    /// Orders memory; nothing to do here, where every access is done in order.
    Fence,
    Branch {
        target: u32,
        meet: u32,
    },
    BranchTable {
        index: u16,
        table: u32,
        meet: u32,
    },
    Exit,
    Trap,
    /// Waits for the launch before, where this one may begin before that has ended.
    GridWait,
    Nop,
}

/// What a barrier does besides waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarrierKind {
    Wait,
    Arrive,
    /// d = how many threads have p.
    Count {
        d: u16,
        p: u16,
        negate: bool,
    },
    /// d = p of all, or of any.
    All {
        d: u16,
        p: u16,
        negate: bool,
    },
    Any {
        d: u16,
        p: u16,
        negate: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShuffleMode {
    Up,
    Down,
    Xor,
    Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteMode {
    All,
    Any,
    Uniform,
    Ballot,
}
