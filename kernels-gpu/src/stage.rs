//! Rows on their way: a ring of shared memory that `cp.async` fills while earlier rows are computed.
//!
//! A thread asks for the very vectors that it will read itself, so no barrier stands between; the bytes in
//! flight need no registers.

use cuda_std::ext::Shared;

#[cfg(not(all(target_arch = "nvptx64", cuda_arch = "80")))]
use crate::access::load_x4;
use crate::team::Team;

/// This thread's part of a ring of `STAGES` slots, `VECS` vectors of 16 bytes for each thread of a team with rows of
/// `LANES`.
#[derive(Clone, Copy)]
pub struct Ring<const STAGES: usize, const VECS: usize, const LANES: u32> {
    /// Of this thread's first vector, in words.
    words: Shared<u32>,
}

impl<const STAGES: usize, const VECS: usize, const LANES: u32> Ring<STAGES, VECS, LANES> {
    /// From one vector of a thread to the next, in words.
    const STRIDE: u32 = Team::<LANES, LANES>::SIZE * 4;

    /// Words of dynamic shared memory that a team's ring takes.
    pub const WORDS: u32 = STAGES as u32 * VECS as u32 * Self::STRIDE;

    /// The ring at `offset` words of the dynamic shared memory, for thread `thread` of the team.
    #[inline(always)]
    pub fn new(offset: u32, thread: u32) -> Self {
        Self {
            words: Shared::<u32>::dynamic().offset(offset + thread * 4),
        }
    }

    #[inline(always)]
    fn place(self, stage: u32, k: usize) -> Shared<u32> {
        self.words
            .offset((stage * VECS as u32 + k as u32) * Self::STRIDE)
    }

    /// Asks for vector `k` of a slot; zeros if masked out.
    ///
    /// # Safety
    /// As for [`ask`]; this thread has read what the slot held.
    #[inline(always)]
    pub unsafe fn ask(self, stage: u32, k: usize, at: *const u8, valid: bool) {
        // SAFETY: the caller's; the slot is inside the ring.
        unsafe { ask(self.place(stage, k), at, valid) }
    }

    /// Vector `k` of a slot.
    ///
    /// # Safety
    /// The slot's row has been waited for.
    #[inline(always)]
    pub unsafe fn read(self, stage: u32, k: usize) -> [u32; 4] {
        // SAFETY: inside the ring, and written by this thread's own copy.
        unsafe { self.place(stage, k).load4(0) }
    }
}

/// Starts the copy of 16 bytes from global memory into shared memory; of zeros if masked out.
///
/// # Safety
/// If `valid`, 16 bytes at `at` are readable and aligned; `to` has room for them, is this thread's own, and
/// nothing still reads it.
#[inline(always)]
pub unsafe fn ask(to: Shared<u32>, at: *const u8, valid: bool) {
    #[cfg(all(target_arch = "nvptx64", cuda_arch = "80"))]
    // SAFETY: the caller's.
    unsafe {
        core::arch::asm!(
            "{{ .reg .u64 from; cvta.to.global.u64 from, {at};",
            "cp.async.cg.shared.global [{to}], [from], 16, {bytes}; }}",
            to = in(reg32) to.address(),
            at = in(reg64) at,
            bytes = in(reg32) if valid { 16 } else { 0 },
            options(nostack, preserves_flags),
        );
    }
    // Before sm_80 there is no such copy: the thread waits for the vector here.
    #[cfg(not(all(target_arch = "nvptx64", cuda_arch = "80")))]
    // SAFETY: the caller's.
    unsafe {
        to.store4(0, load_x4(at.cast(), valid, [0; 4]));
    }
}

/// Starts the copies of several vectors of 16 bytes; what is masked out is left as it is.
///
/// # Safety
/// As for [`ask`], for each.
#[inline(always)]
pub unsafe fn ask_whole<const VECS: usize>(
    to: [Shared<u32>; VECS],
    from: [(*const u8, bool); VECS],
) {
    #[cfg(all(target_arch = "nvptx64", cuda_arch = "80"))]
    for k in 0..VECS {
        let (at, valid) = from[k];
        // SAFETY: the caller's.
        unsafe {
            core::arch::asm!(
                "{{ .reg .pred p; .reg .u64 from; setp.ne.u32 p, {valid}, 0;",
                "cvta.to.global.u64 from, {at};",
                "@p cp.async.cg.shared.global [{to}], [from], 16; }}",
                to = in(reg32) to[k].address(),
                at = in(reg64) at,
                valid = in(reg32) valid as u32,
                options(nostack, preserves_flags),
            );
        }
    }
    #[cfg(not(all(target_arch = "nvptx64", cuda_arch = "80")))]
    {
        // All under way before the first is waited for.
        // SAFETY: the caller's.
        let vectors = from.map(|(at, valid)| unsafe { load_x4(at.cast(), valid, [0; 4]) });
        for k in 0..VECS {
            if from[k].1 {
                // SAFETY: the caller's.
                unsafe { to[k].store4(0, vectors[k]) };
            }
        }
    }
}

/// Ends the asking for one row.
#[inline(always)]
pub fn commit() {
    #[cfg(all(target_arch = "nvptx64", cuda_arch = "80"))]
    // SAFETY: no conditions.
    unsafe {
        core::arch::asm!("cp.async.commit_group;", options(nostack, preserves_flags));
    }
}

/// Of `STAGES` rows that this thread has asked for and not yet waited for, waits for the oldest.
#[inline(always)]
pub fn wait<const STAGES: usize>() {
    #[cfg(all(target_arch = "nvptx64", cuda_arch = "80"))]
    // SAFETY: no conditions.
    unsafe {
        core::arch::asm!("cp.async.wait_group {n};", n = const STAGES.saturating_sub(1), options(nostack, preserves_flags));
    }
}

/// The same of `STAGES - 1` rows, while the slot before theirs is still read.
#[inline(always)]
pub fn wait_of_fewer<const STAGES: usize>() {
    #[cfg(all(target_arch = "nvptx64", cuda_arch = "80"))]
    // SAFETY: no conditions.
    unsafe {
        core::arch::asm!("cp.async.wait_group {n};", n = const STAGES.saturating_sub(2), options(nostack, preserves_flags));
    }
}
