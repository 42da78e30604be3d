//! What a launch did, counted: the profiler's raw numbers.

use std::ops::AddAssign;

/// Kinds of instruction, by what executes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionClass {
    /// Arithmetic on floating-point numbers.
    Float,
    /// Approximations: rsqrt, rcp, ex2, ...
    Special,
    /// Arithmetic on integers and bits.
    Integer,
    /// Between types.
    Conversion,
    /// Comparisons and selections.
    Predicate,
    /// Copies between registers.
    Move,
    /// Loads, stores, atomics, asynchronous copies.
    Memory,
    /// Shuffles, votes and the like.
    Warp,
    /// Barriers, fences, waits.
    Barrier,
    /// Branches and exits.
    Control,
}

impl InstructionClass {
    /// Every class, in the order of [`Counters::by_class`].
    pub const ALL: [InstructionClass; 10] = [
        InstructionClass::Float,
        InstructionClass::Special,
        InstructionClass::Integer,
        InstructionClass::Conversion,
        InstructionClass::Predicate,
        InstructionClass::Move,
        InstructionClass::Memory,
        InstructionClass::Warp,
        InstructionClass::Barrier,
        InstructionClass::Control,
    ];

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            InstructionClass::Float => "float",
            InstructionClass::Special => "special",
            InstructionClass::Integer => "integer",
            InstructionClass::Conversion => "conversion",
            InstructionClass::Predicate => "predicate",
            InstructionClass::Move => "move",
            InstructionClass::Memory => "memory",
            InstructionClass::Warp => "warp",
            InstructionClass::Barrier => "barrier",
            InstructionClass::Control => "control",
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts over a whole launch. A request is one instruction of one warp; a sector is 32 bytes.
        ///
        /// Requests, sectors, bank conflicts and bytes in flight are only counted where
        /// [`Checks::counters`](crate::Checks::counters) is on.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// Instructions times lanes that took part, for each [`InstructionClass`].
            pub by_class: [u64; InstructionClass::ALL.len()],
            /// Bytes of global memory that were read at least once; `None` where it was not traced
            /// ([`Checks::global_races`](crate::Checks::global_races)).
            pub unique_bytes_read: Option<u64>,
            /// Bytes of global memory that were written at least once; `None` where it was not traced.
            pub unique_bytes_written: Option<u64>,
            /// The most bytes that a warp had under way when it had to wait for some of them.
            pub most_bytes_in_flight: u64,
        }

        impl AddAssign<&Counters> for Counters {
            fn add_assign(&mut self, other: &Counters) {
                $(self.$name += other.$name;)*
                for (sum, more) in self.by_class.iter_mut().zip(other.by_class) {
                    *sum += more;
                }
                self.most_bytes_in_flight = self.most_bytes_in_flight.max(other.most_bytes_in_flight);
                for (sum, more) in [
                    (&mut self.unique_bytes_read, other.unique_bytes_read),
                    (&mut self.unique_bytes_written, other.unique_bytes_written),
                ] {
                    if let Some(more) = more {
                        *sum = Some(sum.unwrap_or(0) + more);
                    }
                }
            }
        }
    };
}

counters! {
    /// Instructions that a warp executed.
    warp_instructions,
    /// Instructions times lanes that took part.
    lane_instructions,
    /// Loads from global memory.
    global_load_requests,
    /// Sectors that they touched, each request by itself.
    global_load_sectors,
    /// Stores to global memory.
    global_store_requests,
    /// Sectors that they touched.
    global_store_sectors,
    /// Atomics on global memory.
    global_atomic_requests,
    /// Sectors that they touched.
    global_atomic_sectors,
    /// Accesses to shared memory.
    shared_requests,
    /// Rounds that those needed because lanes met in a bank, beyond the least: a warp's accesses of 8 bytes take
    /// two rounds at the least and of 16 bytes four, which are none.
    shared_bank_conflicts,
    /// Branches whose lanes parted.
    divergent_branches,
    /// Warps that came to a barrier of the block.
    barriers,
    /// Warps that used something that they had loaded from global memory.
    loading_warps,
    /// Bytes, as whole sectors, that those had asked for before the first such use, of all together.
    bytes_in_flight_before_first_use,
    /// Instructions that needed what a load was still to bring, and waits for asynchronous copies: a
    /// load counts as under way until the first instruction that needs it, or one asked for later.
    load_waits,
    /// Bytes, as whole sectors, that the warp had under way at each of those, of all together.
    bytes_in_flight_at_waits,
}
