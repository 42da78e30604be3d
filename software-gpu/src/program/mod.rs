//! A kernel as a compact program: what the executor runs.
//!
//! Decoding does once all that can be done once. Registers become slots of three files, by width:
//! predicates (a bit a lane), 32-bit (16-bit values live there, the upper half zero) and 64-bit.
//! Immediates, special registers and parameters become slots that are filled when a block starts, so
//! that an instruction has nothing but slots for operands. Branches know where their lanes meet again.

mod arith;
mod atomic;
mod bits;
mod cfg;
mod cluster;
mod control;
mod convert;
mod copies;
mod decode;
mod fast;
mod float;
mod live;
mod mbarrier;
mod memory;
mod names;
mod op;
mod opcodes;
mod operands;
mod slots;
mod waits;

use crate::ptx::ast::{Space, Special};

pub(crate) use decode::decode;
pub(crate) use fast::{Fast32, Fast64, for_each_fast32, for_each_fast64};
pub(crate) use memory::{BLOCK_SHIFT, LOCAL_WINDOW, SHARED_WINDOW, WINDOW};
pub(crate) use names::{Arith, Class, Compare, Kind, Permute, Rounding, Test, Type};
pub(crate) use op::{BarrierKind, Op, ShuffleMode, VoteMode};
pub use opcodes::OPCODES;
pub(crate) use slots::Placement;

/// Where a branch has no place to meet again before the end.
pub(crate) const NEVER: u32 = u32::MAX;

/// A decoded kernel.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub code: Vec<Instruction>,
    /// Line of the PTX of each instruction.
    pub lines: Vec<u32>,
    /// Memory instructions' operands.
    pub accesses: Vec<Access>,
    /// Asynchronous copies' operands.
    pub copies: Vec<AsyncCopy>,
    /// Operands of what has to do with barriers in shared memory.
    pub mbarriers: Vec<MBarrierOp>,
    /// `brx.idx`'s targets.
    pub tables: Vec<Vec<u32>>,
    /// The parts of registers that are packed and unpacked, low first.
    pub parts: Vec<Vec<Option<Slot>>>,
    /// Slots of the predicate, the 32-bit and the 64-bit file.
    pub slots: [u16; 3],
    /// 32-bit registers needed at a time.
    pub registers: u32,
    /// What slots hold when a block starts.
    pub initial: Vec<(Slot, Initial)>,
    /// For each instruction, the registers of it that loads from global memory write.
    waits: waits::Waits,
}

impl Program {
    /// Some threads of a block can meet without the others: at barriers in shared memory, or at those of the block that
    /// a number of threads opens.
    pub fn orders_some(&self) -> bool {
        let counts = |op: &Op| matches!(op, Op::Barrier { count: Some(_), .. });
        !self.mbarriers.is_empty() || self.code.iter().any(|instruction| counts(&instruction.op))
    }
}

/// A register slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub class: Class,
    pub index: u16,
}

/// What a slot holds when a block starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Initial {
    Constant(u64),
    Special(Special),
    /// Bytes of the parameter buffer, as that type, extended to a register of `bits`.
    Param {
        offset: u32,
        ty: Type,
        bits: u8,
    },
}

/// An instruction with the predicate that it runs under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    pub op: Op,
    pub guard: Guard,
}

/// The predicate that an instruction runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    Always,
    If(u16),
    Unless(u16),
}

/// An asynchronous copy's operands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsyncCopy {
    /// Its own number among the program's.
    pub number: u32,
    /// The base and offset of the address in shared memory.
    pub to: (Slot, i64),
    /// The base and offset of the address in global memory.
    pub from: (Slot, i64),
    /// Bytes written.
    pub bytes: u32,
    /// How many of them are read; the others are zeros.
    pub given: Option<u16>,
    /// A predicate, maybe negated, under which nothing is read and all are zeros.
    pub ignore: Option<(u16, bool)>,
}

/// An instruction on a barrier in shared memory, or one that sends to one.
#[derive(Clone, Debug)]
pub(crate) struct MBarrierOp {
    pub space: Space,
    /// The base and offset of the barrier's address; of a `Send`, of the place that the data goes to.
    pub at: (Slot, i64),
    pub kind: MBarrierKind,
}

/// What happens to the barrier. Counts and bytes are 32-bit slots.
#[derive(Clone, Debug)]
pub(crate) enum MBarrierKind {
    Init {
        count: u16,
    },
    Invalidate,
    /// Lets the phase wait for so many bytes more, and arrives `count` times, or once.
    Arrive {
        state: Option<u16>,
        count: Option<u16>,
        bytes: Option<u16>,
        release: bool,
    },
    Expect {
        bytes: u16,
    },
    /// p = the phase has ended: the one of that state in a 64-bit slot, or of that parity in a 32-bit one.
    Wait {
        p: u16,
        of: Slot,
        acquire: bool,
    },
    /// Stores data some time later, then tells the barrier how many bytes have come.
    Send {
        barrier: (Slot, i64),
        ty: Type,
        data: Vec<Option<Slot>>,
    },
}

/// A memory instruction's operands.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub space: Space,
    /// The slot of the address's base.
    pub base: Slot,
    pub offset: i64,
    /// The type of an element.
    pub ty: Type,
    /// The registers, an element each: where a load goes, what a store or atomic takes. `None` for `_`.
    pub data: Vec<Option<Slot>>,
    /// Bits of each of those registers: a load extends to them.
    pub bits: u8,
    /// An atomic's operation.
    pub atomic: Option<Atomic>,
    /// True for accesses that may meet others' without a race: volatile, relaxed, acquire, release.
    pub strong: bool,
    /// True for `ld.global.nc`: what it reads must not be written by the launch.
    pub read_only: bool,
}

impl Access {
    /// Bytes that a lane touches.
    pub fn bytes(&self) -> u32 {
        self.ty.bytes() * self.data.len() as u32
    }
}

/// An atomic's operation, and where the old value goes.
#[derive(Clone, Debug)]
pub(crate) struct Atomic {
    pub op: AtomicOp,
    /// One register per element; empty for `red`.
    pub old: Vec<Option<Slot>>,
    /// The new value of a compare-and-swap, whose `data` is what is compared with.
    pub swap: Option<Slot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtomicOp {
    Arith(Arith),
    Exchange,
    CompareSwap,
    /// old >= b ? 0 : old + 1
    Increment,
    /// old == 0 or old > b ? b : old - 1
    Decrement,
}
