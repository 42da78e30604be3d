//! Counting while a launch runs: cheap sums here, made into `Counters` at the end.

use super::access::Action;
use super::warp::lanes;
use crate::counters::{Counters, InstructionClass};
use crate::program::{Kind, Op, Program};

/// What a worker has counted.
pub(super) struct Tally {
    /// For each instruction: how often a warp executed it, and how many lanes took part.
    steps: Vec<[u64; 2]>,
    steps_in_all: u64,
    pub divergent: u64,
    pub barriers: u64,
    /// Requests and sectors of loads, stores and atomics.
    global: [[u64; 2]; 3],
    shared_requests: u64,
    bank_conflicts: u64,
    /// First uses of what a warp loaded, and the bytes under way at them.
    first_uses: [u64; 2],
    /// The same for every wait.
    waits: [u64; 2],
    most_in_flight: u64,
}

impl Tally {
    pub fn new(program: &Program) -> Tally {
        Tally {
            steps: vec![[0; 2]; program.code.len()],
            steps_in_all: 0,
            divergent: 0,
            barriers: 0,
            global: [[0; 2]; 3],
            shared_requests: 0,
            bank_conflicts: 0,
            first_uses: [0; 2],
            waits: [0; 2],
            most_in_flight: 0,
        }
    }

    /// An instruction was executed for these lanes.
    #[inline(always)]
    pub fn step(&mut self, pc: u32, mask: u32) {
        let [warps, lanes] = &mut self.steps[pc as usize];
        *warps += 1;
        *lanes += u64::from(mask.count_ones());
        self.steps_in_all += 1;
    }

    /// Instructions so far, of all warps that the worker ran.
    pub fn now(&self) -> u64 {
        self.steps_in_all
    }

    /// A request of one range.
    #[inline(always)]
    pub fn sectors(&mut self, action: Action, sectors: u64) {
        let [requests, sum] = &mut self.global[action as usize];
        *requests += 1;
        *sum += sectors;
    }

    /// A warp had to wait for some of the bytes that it had under way.
    pub fn wait(&mut self, bytes: u64, is_first: bool) {
        let count = |[times, sum]: &mut [u64; 2]| {
            *times += 1;
            *sum += bytes;
        };
        count(&mut self.waits);
        if is_first {
            count(&mut self.first_uses);
        }
        self.most_in_flight = self.most_in_flight.max(bytes);
    }

    /// A request of a range a lane: how many sectors of 32 bytes differ.
    pub fn scattered(&mut self, action: Action, mask: u32, offsets: &[u64; 32], bytes: u64) -> u64 {
        let mut sectors = [u64::MAX; 64];
        let mut count = 0;
        for lane in lanes(mask) {
            let (first, last) = (offsets[lane] / 32, (offsets[lane] + bytes - 1) / 32);
            for sector in first..=last.min(first + 1) {
                if !sectors[..count].ends_with(&[sector]) {
                    sectors[count] = sector;
                    count += 1;
                }
            }
        }
        let sectors = &mut sectors[..count];
        sectors.sort_unstable();
        let unique = sectors.chunk_by(|a, b| a == b).count();
        self.sectors(action, unique as u64);
        unique as u64
    }

    /// A request to shared memory, which has 32 banks of 4 bytes. Lanes that read one word share it.
    /// 8 bytes a lane are served in two parts of the warp, 16 bytes in four.
    pub fn shared(&mut self, _action: Action, mask: u32, at: &[u64; 32], bytes: u32) {
        self.shared_requests += 1;
        let words = u64::from(bytes.div_ceil(4));
        let part = 32 / words as u32;
        for phase in 0..words as u32 {
            let lanes_here = if part == 32 {
                u32::MAX
            } else {
                ((1 << part) - 1) << (phase * part)
            };
            let mut touched = [u64::MAX; 32];
            let mut count = 0;
            for lane in lanes(mask & lanes_here) {
                for word in 0..words {
                    let word = at[lane] / 4 + word;
                    if !touched[..count].ends_with(&[word]) {
                        touched[count] = word;
                        count += 1;
                    }
                }
            }
            let touched = &mut touched[..count];
            // In order and within one round of the banks: no two meet.
            if touched.windows(2).all(|pair| pair[0] < pair[1])
                && touched
                    .first()
                    .zip(touched.last())
                    .is_none_or(|(first, last)| last - first < 32)
            {
                continue;
            }
            touched.sort_unstable();
            let mut banks = [0u64; 32];
            for run in touched.chunk_by(|a, b| a == b) {
                banks[(run[0] % 32) as usize] += 1;
            }
            self.bank_conflicts += banks.iter().max().map_or(0, |most| most - 1);
        }
    }

    /// The sums, as counters.
    pub fn finish(&self, program: &Program) -> Counters {
        let mut out = Counters {
            divergent_branches: self.divergent,
            barriers: self.barriers,
            global_load_requests: self.global[0][0],
            global_load_sectors: self.global[0][1],
            global_store_requests: self.global[1][0],
            global_store_sectors: self.global[1][1],
            global_atomic_requests: self.global[2][0],
            global_atomic_sectors: self.global[2][1],
            shared_requests: self.shared_requests,
            shared_bank_conflicts: self.bank_conflicts,
            loading_warps: self.first_uses[0],
            bytes_in_flight_before_first_use: self.first_uses[1],
            load_waits: self.waits[0],
            bytes_in_flight_at_waits: self.waits[1],
            most_bytes_in_flight: self.most_in_flight,
            ..Counters::default()
        };
        for (instruction, [warps, lanes]) in program.code.iter().zip(&self.steps) {
            out.warp_instructions += warps;
            out.lane_instructions += lanes;
            out.by_class[class_of(instruction.op) as usize] += lanes;
        }
        out
    }
}

fn class_of(op: Op) -> InstructionClass {
    let of_arith = |kind: Kind, float: bool| match kind {
        Kind::Cvt { .. } | Kind::CvtPair(_) => InstructionClass::Conversion,
        kind if kind.is_approximate() => InstructionClass::Special,
        _ if float => InstructionClass::Float,
        _ => InstructionClass::Integer,
    };
    match op {
        Op::Arith { op, .. } => of_arith(op.kind, op.ty.is_float()),
        Op::Fast32 { op, .. } => of_arith(op.arith().kind, op.arith().ty.is_float()),
        Op::Fast64 { op, .. } => of_arith(op.arith().kind, op.arith().ty.is_float()),
        Op::Shl64 { .. } | Op::Shr64 { .. } | Op::MulWide { .. } => InstructionClass::Integer,
        Op::Widen { .. } | Op::Narrow { .. } => InstructionClass::Conversion,
        Op::Setp { .. }
        | Op::Select { .. }
        | Op::LogicP { .. }
        | Op::NotP { .. }
        | Op::MovP { .. } => InstructionClass::Predicate,
        Op::Mov32 { .. }
        | Op::Mov64 { .. }
        | Op::MapShared { .. }
        | Op::RankOfShared { .. }
        | Op::Pack { .. }
        | Op::Unpack { .. }
        | Op::ReadSpecial { .. } => InstructionClass::Move,
        Op::Load { .. }
        | Op::Store { .. }
        | Op::Atomic { .. }
        | Op::AsyncCopy { .. }
        | Op::Send { .. } => InstructionClass::Memory,
        Op::Shuffle { .. }
        | Op::Vote { .. }
        | Op::Match { .. }
        | Op::Redux { .. }
        | Op::ActiveMask { .. }
        | Op::Elect { .. } => InstructionClass::Warp,
        Op::WarpBarrier { .. }
        | Op::Barrier { .. }
        | Op::ClusterArrive { .. }
        | Op::ClusterWait { .. }
        | Op::MBarrier { .. }
        | Op::FenceMBarriers
        | Op::Fence
        | Op::AsyncCommit
        | Op::AsyncWait { .. } => InstructionClass::Barrier,
        Op::Branch { .. }
        | Op::BranchTable { .. }
        | Op::Exit
        | Op::Trap
        | Op::GridWait
        | Op::Nop => InstructionClass::Control,
    }
}
