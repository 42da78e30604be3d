//! What host and device agree on: entry names, parameter order, tile constants. All that the host
//! may import from this crate.
//!
//! An entry point's name is `layernorm_<pass>_<x>_<weight>_<variant>`, for example
//! `layernorm_forward_bf16_f32_rows_64x4`:
//!
//! | part | values |
//! |---|---|
//! | pass | `forward`, `backward` |
//! | x, weight | `f32_f32`, `f16_f16`, `f16_f32`, `bf16_bf16`, `bf16_f32` (x first), `f64_f64` (`any` alone) |
//! | variant | `rows_<lanes>x<vecs>` (a row in registers, 16 bytes an access), `ragged_<lanes>x<vecs>` (the same for rows that start anywhere; forward for 16-bit x alone), `narrow_<lanes>x<vecs>` (one element an access; forward for f32 alone), `shared_<stages>` (a row in shared memory, forward alone), `shared_cluster_<blocks>` (a row in the shared memory of a cluster's blocks, forward alone; the image for sm_90 alone), `cluster_<blocks>x<lanes>x<vecs>` (a long row over the blocks of a cluster; the image for sm_90 alone), `sums` and `columns` (a long row in two kernels, backward alone; `sums_narrow`, `columns_narrow`: one element an access), `few` (a few rows in one launch, backward alone; `few_narrow`: one element an access), `paired_rows_<lanes>x<vecs>` and `paired_ragged_<lanes>x<vecs>` (as `rows` and `ragged`, and pairs of blocks write a row of partials together; backward alone, the image for sm_90 alone), `any` |
//!
//! The second kernel of the backward pass is `layernorm_reduce_<weight>`, with weight one of `f32`,
//! `f16`, `bf16`, `f64`.
//!
//! Where x is f64, so are mean, rstd and the partials, which are f32 for all others.

mod long_tiles;
mod tiles;

use core::ffi::c_void;

pub use long_tiles::*;
pub use tiles::*;

/// Bytes that one lane moves in one access. In a `rows` variant every row's start, and `n_cols` times the
/// element's size, must be a multiple of it.
pub const VECTOR_BYTES: u32 = 16;

/// Static shared memory that any kernel declares at most, in bytes: what is left of a block's is for its
/// dynamic shared memory.
pub const STATIC_SHARED_BYTES: u32 = 9 << 10;

/// Blocks that write one row of partials together, in the `paired` variants: a cluster.
pub const PAIR_BLOCKS: u32 = 2;

/// Threads in a block of the backward pass's `sums` kernels: a row each.
pub const SUMS_BLOCK: u32 = 256;

/// Threads in a block of the backward pass's `columns` kernels, which has a part of the columns: the grid's
/// first dimension goes over those parts, its second over the rows of partials.
pub const COLUMNS_BLOCK: u32 = 128;

/// Vectors that a thread of a `columns` kernel has: of 16 bytes, or of one element if narrow.
pub const fn columns_vecs(narrow: bool) -> u32 {
    if narrow { 4 } else { 1 }
}

/// Threads in a block of the `any` variants: one row at a time, strided over the block.
pub const ANY_BLOCK: u32 = 256;

/// Threads in a block of the `reduce` kernels, as [`REDUCE_COLS`] columns by rows of partials. The grid has
/// two rows: dweight, dbias.
pub const REDUCE_BLOCK: u32 = 1024;

/// Columns of dweight and dbias that a block of a `few` kernel takes at a time.
pub const FEW_COLS: u32 = 32;

/// Threads in a block of a `few` kernel at most, for x of so many bytes an element.
pub const fn few_block(size: u32) -> u32 {
    if size == 4 { 512 } else { 256 }
}

/// Vectors of 16 bytes that a lane of a `few` kernel has, for x of so many bytes an element: as many as in any tile.
pub const fn few_vecs(size: u32, narrow: bool) -> u32 {
    if size == 4 && narrow { 5 } else { 4 }
}

/// Columns of dweight and dbias that one block of a `reduce` kernel sums.
pub const REDUCE_COLS: u32 = 32;

/// Defines an argument struct whose fields are a kernel's parameters, in the kernel's order.
macro_rules! arguments {
    ($(#[$doc:meta])* $name:ident, $count:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $name {
            /// A pointer to each parameter, in order: what `cuLaunchKernel` takes as `kernelParams`.
            /// They point into `self`.
            pub fn pointers(&self) -> [*const c_void; $count] {
                [$((&raw const self.$field).cast(),)*]
            }
        }
    };
}

arguments! {
    /// Parameters of a `layernorm_forward_*` kernel. Addresses are of device memory, 0 where absent.
    ///
    /// `y[r, c] = (s[r, c] - mean[r]) * rstd[r] * weight[c] + bias[c]`, with s = x, or x + residual.
    ForwardArgs, 14 {
        /// `[n_rows, n_cols]`, x's dtype.
        x: u64,
        /// `[n_rows, n_cols]`, x's dtype and row stride; 0: nothing is added.
        residual: u64,
        /// `[n_cols]`, weight's dtype; 0: ones.
        weight: u64,
        /// `[n_cols]`, weight's dtype; 0: zeros.
        bias: u64,
        /// `[n_rows, n_cols]`, x's dtype: written.
        y: u64,
        /// `[n_rows, n_cols]`, x's dtype and y's row stride: x + residual, written; 0: not written.
        sum: u64,
        /// `[n_rows]`, f32: written; 0: not written.
        mean: u64,
        /// `[n_rows]`, f32: written; 0: not written.
        rstd: u64,
        /// Rows.
        n_rows: u64,
        /// Elements from one row of x (and residual) to the next.
        x_stride: u64,
        /// Elements from one row of y (and sum) to the next.
        y_stride: u64,
        /// Columns, at least 1.
        n_cols: u32,
        /// Added to the variance.
        eps: f32,
        /// 1 / n_cols, rounded to f32: the device has no fast exact division.
        inv_n: f32,
    }
}

arguments! {
    /// Parameters of a `layernorm_backward_*` kernel. Addresses are of device memory, 0 where absent.
    ///
    /// Block b of the grid writes row b of the partials, the sums of dy * xhat and of dy over its rows; in a `paired` variant
    /// blocks 2 b and 2 b + 1 do.
    BackwardArgs, 16 {
        /// `[n_rows, n_cols]`, x's dtype.
        dy: u64,
        /// `[n_rows, n_cols]`, x's dtype: what the forward pass normalised.
        x: u64,
        /// `[n_cols]`, weight's dtype; 0: ones.
        weight: u64,
        /// `[n_rows]`, f32, from the forward pass.
        mean: u64,
        /// `[n_rows]`, f32, from the forward pass.
        rstd: u64,
        /// `[n_rows, n_cols]`, x's dtype and dx's row stride: a gradient added to dx; 0: none.
        dsum: u64,
        /// `[n_rows, n_cols]`, x's dtype: written; may be dy itself; 0: not computed.
        dx: u64,
        /// `[grid, n_cols]`, f32: written; 0: not computed.
        partial_dweight: u64,
        /// `[grid, n_cols]`, f32: written; 0: not computed.
        partial_dbias: u64,
        /// Rows.
        n_rows: u64,
        /// Elements from one row of dy to the next.
        dy_stride: u64,
        /// Elements from one row of x to the next.
        x_stride: u64,
        /// Elements from one row of dx (and dsum) to the next.
        dx_stride: u64,
        /// Columns, at least 1.
        n_cols: u32,
        /// 1 / n_cols, rounded to f32.
        inv_n: f32,
        /// `[n_rows, 2]`, f32: what a `sums` kernel writes and a `columns` kernel reads; others ignore it.
        row_sums: u64,
    }
}

arguments! {
    /// Parameters of a `few` kernel: all gradients in one launch. Addresses are of device memory, 0 where absent.
    ///
    /// The grid's last `column_blocks` blocks write dweight and dbias, those before them dx: a row for every `lanes` threads,
    /// of which a block has a power of two, or is one row. A block is whole warps, [`few_block`] threads at most; a row is
    /// `lanes` times [`few_vecs`] vectors of 16 bytes at most, or its end is not written; there are fewer than 2^31 rows.
    FewArgs, 18 {
        /// `[n_rows, n_cols]`, x's dtype.
        dy: u64,
        /// `[n_rows, n_cols]`, x's dtype: what the forward pass normalised.
        x: u64,
        /// `[n_cols]`, weight's dtype; 0: ones.
        weight: u64,
        /// `[n_rows]`, f32, from the forward pass.
        mean: u64,
        /// `[n_rows]`, f32, from the forward pass.
        rstd: u64,
        /// `[n_rows, n_cols]`, x's dtype and dx's row stride: a gradient added to dx; 0: none.
        dsum: u64,
        /// `[n_rows, n_cols]`, x's dtype: written by the blocks for rows; not dy, unless there are none for columns.
        dx: u64,
        /// `[n_cols]`, weight's dtype: written by the blocks for columns; 0: not computed.
        dweight: u64,
        /// `[n_cols]`, weight's dtype: likewise.
        dbias: u64,
        /// Elements from one row of dy to the next.
        dy_stride: u64,
        /// Elements from one row of x to the next.
        x_stride: u64,
        /// Elements from one row of dx (and dsum) to the next.
        dx_stride: u64,
        /// Rows.
        n_rows: u32,
        /// Columns, at least 1.
        n_cols: u32,
        /// 1 / n_cols, rounded to f32.
        inv_n: f32,
        /// Threads that share a row, as in a `rows` or `ragged` kernel: a power of two up to 32, or a multiple of 32.
        lanes: u32,
        /// Blocks for columns; 0: neither dweight nor dbias is computed.
        column_blocks: u32,
        /// 1: dweight and dbias are added to what is there; 0: they replace it.
        accumulate: u32,
    }
}

arguments! {
    /// Parameters of a `layernorm_reduce_*` kernel: column sums of the partials, in a fixed order.
    ReduceArgs, 7 {
        /// `[n_partials, n_cols]`, f32; 0: dweight is not written.
        partial_dweight: u64,
        /// `[n_partials, n_cols]`, f32; 0: dbias is not written.
        partial_dbias: u64,
        /// `[n_cols]`, weight's dtype: written.
        dweight: u64,
        /// `[n_cols]`, weight's dtype: written.
        dbias: u64,
        /// Rows of the partials; 0 gives zero gradients.
        n_partials: u32,
        /// Columns.
        n_cols: u32,
        /// 1: the sums are added to what dweight and dbias hold; 0: they replace it.
        accumulate: u32,
    }
}
