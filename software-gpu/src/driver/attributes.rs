//! `cuDeviceGetAttribute`: what a model says, as the numbers that clients ask for.

use super::device::bus;
use super::error::{Code, Outcome};
use super::ffi::put;
use super::platform::{Device, device};

pub(super) unsafe fn cuDeviceGetAttribute(out: *mut i32, attribute: u32, dev: i32) -> Outcome {
    let value = value(device(dev)?, attribute).ok_or(Code::INVALID_VALUE)?;
    // SAFETY: null or writable, by the driver API's contract.
    unsafe { put(out, value) }
}

/// The attribute by its `CU_DEVICE_ATTRIBUTE_*` number.
fn value(device: &Device, attribute: u32) -> Option<i32> {
    let m = device.gpu.model();
    let value = match attribute {
        1 => m.max_threads_per_block,
        2..=4 => m.max_block[attribute as usize - 2],
        5..=7 => m.max_grid[attribute as usize - 5],
        8 => m.max_shared_per_block,
        9 => m.constant_bytes,
        10 => 32,          // warp size
        11 => 0x7fff_ffff, // largest pitch
        12 => m.registers_per_block,
        13 => m.clock_khz,
        14 => 512, // texture alignment
        16 => m.sm_count,
        31 => 1, // several kernels at a time: several streams are taken
        33 => bus(device.ordinal) as u32,
        35 => 0,
        36 => m.memory_clock_khz,
        37 => m.memory_bus_bits,
        38 => m.l2_bytes,
        39 => m.max_threads_per_sm,
        41 => 1,  // one address space for host and devices
        51 => 32, // texture pitch alignment
        75 => m.compute_capability.0,
        76 => m.compute_capability.1,
        78..=80 => 1, // stream priorities, L1 for global and for local memory
        81 => m.shared_per_sm,
        82 => m.registers_per_sm,
        87 => 32, // single to double precision
        97 => m.max_shared_per_block_optin,
        99 => 1, // host memory can be registered
        106 => m.max_blocks_per_sm,
        111 => m.reserved_shared_per_block,
        115 => 1, // memory pools: the default one
        // Graphics, textures, mapped and managed memory, stream memory operations, cooperative launches
        // and what came after: known, and not had.
        15..=119 => 0,
        120 => (m.compute_capability.0 >= 9).into(), // clusters
        121..=160 => 0,
        _ => return None,
    };
    Some(i32::try_from(value).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::platform;
    use super::*;

    #[test]
    fn the_limits_are_the_models() {
        platform::init().unwrap();
        let device = device(0).unwrap();
        let model = device.gpu.model().clone();
        assert_eq!(value(device, 10), Some(32));
        assert_eq!(value(device, 5), Some(model.max_grid[0] as i32));
        assert_eq!(value(device, 7), Some(model.max_grid[2] as i32));
        assert_eq!(value(device, 16), Some(model.sm_count as i32));
        assert_eq!(
            value(device, 97),
            Some(model.max_shared_per_block_optin as i32)
        );
        assert_eq!(value(device, 83), Some(0), "managed memory");
    }

    #[test]
    fn a_number_that_is_no_attribute_has_no_value() {
        platform::init().unwrap();
        let device = device(0).unwrap();
        assert_eq!(value(device, 0), None);
        assert_eq!(value(device, u32::MAX), None);
    }
}
