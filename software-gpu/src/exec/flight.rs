//! What a warp has asked global memory for and not used yet: the bytes in flight that hide its latency.
//!
//! Here a load is done at once. On a device it is under way until an instruction needs one of its
//! registers, and by then those that were asked for before it have come too. So the bytes under way at
//! that instruction are what the device's memory has to work on for this warp: with too few of them it
//! is idle, whatever else the kernel does well.

use super::room::Room;
use super::warp::Warp;
use crate::program::{Access, Program};

/// Bytes of a sector, in which memory is asked.
pub(super) const SECTOR: u64 = 32;

/// The loads and asynchronous copies of a warp that are under way.
#[derive(Default)]
pub(super) struct Flight {
    /// For each register, the number of the load that last wrote it, from 1.
    loads: Vec<u64>,
    /// The loads under way, oldest first, with their bytes.
    under_way: Vec<(u64, u64)>,
    /// The number of the load before the next.
    last: u64,
    /// Loads up to this number have come.
    landed: u64,
    /// Bytes of the loads under way.
    bytes: u64,
    /// Bytes of the asynchronous copies under way.
    copied: u64,
    used_any: bool,
}

impl Flight {
    pub fn new(program: &Program) -> Flight {
        let [_, r, d] = program.slots.map(usize::from);
        Flight {
            loads: vec![0; r + d],
            ..Flight::default()
        }
    }

    /// Nothing is under way.
    pub fn clear(&mut self) {
        self.under_way.clear();
        self.landed = self.last;
        self.bytes = 0;
        self.copied = 0;
        self.used_any = false;
    }

    /// True while a load is under way, so that an instruction may have to wait.
    #[inline(always)]
    pub fn is_loading(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// A load of so many sectors to the registers of an access.
    pub fn load(&mut self, program: &Program, access: &Access, sectors: u64) {
        self.last += 1;
        for slot in access.data.iter().flatten() {
            self.loads[program.number(*slot)] = self.last;
        }
        self.under_way.push((self.last, sectors * SECTOR));
        self.bytes += sectors * SECTOR;
    }

    /// An asynchronous copy of so many sectors.
    pub fn copy(&mut self, sectors: u64) {
        self.copied += sectors * SECTOR;
    }
}

/// The warp is at an instruction, which may need what is under way.
#[inline(never)]
pub(super) fn before(room: &mut Room<'_>, warp: &mut Warp) {
    let flight = &mut warp.flight;
    let mut newest = 0;
    for touched in room.launch.program.may_be_loading(warp.pc) {
        let load = &mut flight.loads[touched.number as usize];
        if touched.written {
            // A device would have given the value another register than one under way: no wait.
            *load = 0;
        } else {
            newest = newest.max(*load);
        }
    }
    if newest <= flight.landed {
        return;
    }
    room.tally
        .wait(flight.bytes + flight.copied, !flight.used_any);
    flight.used_any = true;
    flight.landed = newest;
    let come = flight
        .under_way
        .partition_point(|(load, _)| *load <= newest);
    let bytes = flight.under_way.drain(..come).map(|(_, bytes)| bytes);
    flight.bytes -= bytes.sum::<u64>();
}

/// The warp waits for asynchronous copies, of which this share comes: copies that came, and all.
pub(super) fn wait_for_copies(room: &mut Room<'_>, warp: &mut Warp, came: usize, all: usize) {
    let flight = &mut warp.flight;
    if came == 0 || flight.copied == 0 {
        return;
    }
    room.tally
        .wait(flight.bytes + flight.copied, !flight.used_any);
    flight.used_any = true;
    flight.copied -= flight.copied * came as u64 / all as u64;
}
