//! How many blocks of a kernel a multiprocessor holds at a time, by the rules of NVIDIA's programming guide for
//! compute capability 9.0.

/// What a block takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub threads: u32,
    /// Registers a thread, as ptxas says.
    pub registers: u32,
    /// Static and dynamic shared memory, in bytes.
    pub shared: u32,
}

/// 32-bit registers of a multiprocessor.
const REGISTERS: u32 = 64 << 10;
/// A warp's registers are given out in units of this many.
const REGISTER_UNIT: u32 = 256;
/// The four parts of a multiprocessor, each with its own registers.
const PARTS: u32 = 4;
/// Bytes of shared memory of a multiprocessor.
const SHARED: u32 = 228 << 10;
/// Bytes of it that the system keeps for each block.
const SHARED_RESERVED: u32 = 1 << 10;
/// Shared memory is given out in units of this many bytes.
const SHARED_UNIT: u32 = 128;
const WARPS: u32 = 64;
const BLOCKS: u32 = 32;

/// Blocks that an H100's multiprocessor holds; 0 where it cannot hold one.
pub fn resident_blocks(block: Block) -> u32 {
    let warps = block.threads.div_ceil(32);
    let of_warp = (block.registers * 32).next_multiple_of(REGISTER_UNIT);
    // Warps go to the parts in turn, and each part has its share of the registers.
    let by_registers = REGISTERS / PARTS / of_warp * PARTS / warps;
    let shared = (block.shared + SHARED_RESERVED).next_multiple_of(SHARED_UNIT);
    (WARPS / warps)
        .min(BLOCKS)
        .min(by_registers)
        .min(SHARED / shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(threads: u32, registers: u32, shared: u32) -> u32 {
        resident_blocks(Block {
            threads,
            registers,
            shared,
        })
    }

    /// As NVIDIA's occupancy calculator gives them for 9.0.
    #[test]
    fn each_limit_in_turn() {
        assert_eq!(blocks(256, 32, 0), 8, "64 warps");
        assert_eq!(blocks(32, 32, 0), 32, "32 blocks");
        assert_eq!(blocks(256, 64, 0), 4, "64 registers: 32 warps");
        assert_eq!(
            blocks(256, 65, 0),
            3,
            "65 take 72: 28 warps, 24 of them whole blocks"
        );
        assert_eq!(blocks(512, 128, 0), 1);
        assert_eq!(blocks(128, 255, 0), 2, "255 take 256: 8 warps");
        assert_eq!(blocks(1024, 65, 0), 0);
        assert_eq!(blocks(32, 16, 99 << 10), 2);
        assert_eq!(
            blocks(32, 16, 227 << 10),
            1,
            "a block's largest, with what is kept of it"
        );
        assert_eq!(blocks(32, 16, (227 << 10) + 1), 0);
    }
}
