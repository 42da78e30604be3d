//! What the kernels in the [images](crate::IMAGES) want from whoever launches them: parameters, and the numbers that
//! grids and blocks are made of.
//!
//! An entry point's name is `layernorm_<pass>_<x>_<weight>_<variant>`, as [`Entry`](crate::Entry) shows it; what a
//! variant is says [`Variant`](crate::Variant). [`plan`](crate::plan) makes grid, block and shared memory of a problem
//! and a device's numbers, and the `args` and `launches` of [`ForwardPointers`](crate::ForwardPointers) and
//! [`BackwardPointers`](crate::BackwardPointers) the parameters:
//!
//! ```
//! use layernorm_host::{DType, ForwardPointers, Image, Problem, plan};
//!
//! let problem = Problem::new(37, 384, DType::F32, DType::F32, 1e-5)?;
//! let pointers = ForwardPointers { x: 0x10000, y: 0x20000, ..ForwardPointers::default() };
//! let args = pointers.args(&problem)?;
//! // Of an H100, as cuDeviceGetAttribute tells them.
//! let limits = plan::Limits {
//!     max_grid: i32::MAX as u32,
//!     max_block: 1024,
//!     sm_count: 132,
//!     max_shared: 227 << 10,
//!     compute_capability: (9, 0),
//!     memory_rate: plan::memory_rate(2_619_000, 5120),
//! };
//! let launch = plan::forward(&problem, &args, &limits)?.expect("there are rows");
//! let entry = launch.entry.to_string();
//! let image = Image::with_kernel(&entry, limits.compute_capability).expect("every entry is in an image");
//! let module = image.kernel(&entry).expect("it is in this one");
//! // cuModuleLoadData of `module`, then cuLaunchKernel with `launch`'s numbers and these:
//! let parameters: [*const std::ffi::c_void; 14] = args.pointers();
//! # assert!(module.contains(&entry) && parameters.iter().all(|pointer| !pointer.is_null()));
//! # Ok::<(), layernorm_host::Error>(())
//! ```

pub use kernels_gpu::abi::{
    ANY_BLOCK, BackwardArgs, COLUMNS_BLOCK, ClusterTile, FAST_MEMORY, FEW_COLS, FewArgs,
    ForwardArgs, Memory, PORTABLE_CLUSTER, REDUCE_BLOCK, REDUCE_COLS, ReduceArgs, RowTile,
    STATIC_SHARED_BYTES, SUMS_BLOCK, SharedTile, VECTOR_BYTES, few_block, few_vecs,
};
