//! The devices that can be played: the limits and the capability a launch is held against.
//!
//! The numbers are those that `cuDeviceGetAttribute` and `deviceQuery` give for the real card.

/// What a device says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The name that `cuDeviceGetName` gives.
    pub name: String,
    /// Compute capability, major and minor: (9, 0) runs `.target sm_90` and below.
    pub compute_capability: (u32, u32),
    /// The newest PTX version that it loads, major and minor.
    pub ptx_version_max: (u32, u32),
    /// Streaming multiprocessors.
    pub sm_count: u32,
    /// Threads in a block.
    pub max_threads_per_block: u32,
    /// Threads in a block along x, y and z.
    pub max_block: [u32; 3],
    /// Blocks in a grid along x, y and z.
    pub max_grid: [u32; 3],
    /// Threads resident on a multiprocessor.
    pub max_threads_per_sm: u32,
    /// Blocks resident on a multiprocessor.
    pub max_blocks_per_sm: u32,
    /// Bytes of shared memory that a block gets without asking.
    pub max_shared_per_block: u32,
    /// Bytes of shared memory that a block gets when the kernel opts in.
    pub max_shared_per_block_optin: u32,
    /// Bytes of shared memory of a multiprocessor.
    pub shared_per_sm: u32,
    /// Bytes of shared memory that the system keeps of each block.
    pub reserved_shared_per_block: u32,
    /// 32-bit registers that a block can have.
    pub registers_per_block: u32,
    /// 32-bit registers of a multiprocessor.
    pub registers_per_sm: u32,
    /// Bytes of device memory.
    pub memory_bytes: u64,
    /// Bytes of the level-2 cache.
    pub l2_bytes: u32,
    /// Bytes of constant memory.
    pub constant_bytes: u32,
    /// Clock of the multiprocessors in kHz.
    pub clock_khz: u32,
    /// Clock of the memory in kHz.
    pub memory_clock_khz: u32,
    /// Width of the memory bus in bits.
    pub memory_bus_bits: u32,
}

impl Model {
    /// The model by its short name: `h100`, `h200`, `a100` or `t4`, in any case.
    pub fn by_name(name: &str) -> Option<Model> {
        match name.to_ascii_lowercase().as_str() {
            "h100" => Some(Model::h100()),
            "h200" => Some(Model::h200()),
            "a100" => Some(Model::a100()),
            "t4" => Some(Model::t4()),
            _ => None,
        }
    }

    /// The short names that [`Model::by_name`] knows.
    pub const NAMES: [&str; 4] = ["h100", "h200", "a100", "t4"];

    /// NVIDIA H100 SXM5 80 GB: sm_90.
    pub fn h100() -> Model {
        Model {
            name: "Software GPU (H100)".into(),
            compute_capability: (9, 0),
            ptx_version_max: (8, 8),
            sm_count: 132,
            max_threads_per_block: 1024,
            max_block: [1024, 1024, 64],
            max_grid: [0x7fff_ffff, 65535, 65535],
            max_threads_per_sm: 2048,
            max_blocks_per_sm: 32,
            max_shared_per_block: 48 << 10,
            max_shared_per_block_optin: 227 << 10,
            shared_per_sm: 228 << 10,
            reserved_shared_per_block: 1 << 10,
            registers_per_block: 65536,
            registers_per_sm: 65536,
            memory_bytes: 80 << 30,
            l2_bytes: 50 << 20,
            constant_bytes: 64 << 10,
            clock_khz: 1_980_000,
            memory_clock_khz: 2_619_000,
            memory_bus_bits: 5120,
        }
    }

    /// NVIDIA H200 SXM5 141 GB: an H100 with a faster memory.
    pub fn h200() -> Model {
        Model {
            name: "Software GPU (H200)".into(),
            memory_bytes: 141 << 30,
            memory_clock_khz: 3_201_000,
            memory_bus_bits: 6144,
            ..Model::h100()
        }
    }

    /// NVIDIA A100 SXM4 80 GB: sm_80.
    pub fn a100() -> Model {
        Model {
            name: "Software GPU (A100)".into(),
            compute_capability: (8, 0),
            sm_count: 108,
            max_shared_per_block_optin: 163 << 10,
            shared_per_sm: 164 << 10,
            l2_bytes: 40 << 20,
            clock_khz: 1_410_000,
            memory_clock_khz: 1_593_000,
            ..Model::h100()
        }
    }

    /// NVIDIA T4: sm_75, the oldest that the project's images are built for.
    pub fn t4() -> Model {
        Model {
            name: "Software GPU (T4)".into(),
            compute_capability: (7, 5),
            sm_count: 40,
            max_threads_per_sm: 1024,
            max_blocks_per_sm: 16,
            max_shared_per_block_optin: 64 << 10,
            shared_per_sm: 64 << 10,
            reserved_shared_per_block: 0,
            memory_bytes: 15 << 30,
            l2_bytes: 4 << 20,
            clock_khz: 1_590_000,
            memory_clock_khz: 5_001_000,
            memory_bus_bits: 256,
            ..Model::h100()
        }
    }
}

impl Default for Model {
    fn default() -> Model {
        Model::h100()
    }
}
