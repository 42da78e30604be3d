//! Where a pass on the CPU finds no memory it says so: an allocator that fails when it is told to stands in for a
//! full machine. An allocation that cannot fail would end the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use layernorm_host::{DType, Device, Error, FastLayerNorm, Result, Tensor};

/// Bytes of an allocation that is counted: two rows in the smallest dtype, and more than an error takes.
const LARGE: usize = 8 << 10;

/// Large allocations that succeed before one fails, on all threads.
static LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);

struct Failing;

impl Failing {
    fn has_memory_for(layout: Layout) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        layout.size() < LARGE
            || LEFT
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_ok()
    }
}

// SAFETY: it is the system's allocator, or null, which stands for no memory.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !Self::has_memory_for(layout) {
            return ptr::null_mut();
        }
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's; the memory came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

#[test]
fn backward_in_place_without_memory_is_an_error() -> Result<()> {
    let device = Device::cpu();
    // No buffer is large enough to be kept for the next call.
    let shape = [2, 2048];
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        let x = Tensor::ones(dtype, &shape, &device)?;
        let weight = Tensor::ones(dtype, &shape[1..], &device)?;
        let mut successes = 0;
        loop {
            let (_y, saved) = FastLayerNorm::forward(&x, Some(&weight), Some(&weight), 1e-5)?;
            let dy = Tensor::ones(dtype, &shape, &device)?;
            LEFT.store(successes, Ordering::Relaxed);
            let result = FastLayerNorm::backward_in_place(saved, dy);
            LEFT.store(usize::MAX, Ordering::Relaxed);
            match result {
                Ok(_) => break,
                Err(Error::OutOfHostMemory { .. }) => successes += 1,
                Err(other) => panic!("{dtype}, {successes} allocations: {other}"),
            }
        }
        // At least weight, the partial sums, and the copies of dy.
        assert!(successes >= 3, "{dtype}: {successes} allocations");
    }
    Ok(())
}
