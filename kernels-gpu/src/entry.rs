//! The entry points: the generic kernels under the names and with the parameters that `abi` gives them.

use cuda_std::prelude::*;
use half::{bf16, f16};

use crate::abi::{
    ANY_BLOCK, BACKWARD_RAGGED_TILES_F32, BACKWARD_RAGGED_TILES_HALF, BACKWARD_TILES_BF16,
    BACKWARD_TILES_F16, BACKWARD_TILES_F32, COLUMNS_BLOCK, FORWARD_NARROW_TILES,
    FORWARD_RAGGED_TILES, FORWARD_SHARED_F32, FORWARD_SHARED_HALF, FORWARD_TILES_F32,
    FORWARD_TILES_HALF, REDUCE_BLOCK, RowTile, SUMS_BLOCK, SharedTile, columns_vecs, few_block,
    few_vecs, find_shared, find_tile,
};
use crate::any::{backward_any, forward_any};
use crate::backward::{Backward, backward_rows};
use crate::columns::{backward_columns, backward_sums};
use crate::few::{Few, backward_few};
use crate::forward::{Forward, forward_rows};
use crate::partials::{Reduce, reduce_partials};
use crate::ragged_rows::{backward_ragged, forward_ragged};
use crate::shared_row::forward_shared;

/// A forward kernel: its name's parts, its block, the blocks a multiprocessor should hold, and the function
/// that does it.
macro_rules! forward {
    ($x:ident, $w:ident, $variant:expr, $block:expr, $blocks_per_sm:expr, $function:expr) => {
        const _: () = {
            #[unsafe(export_name = concat!("layernorm_forward_", stringify!($x), "_", stringify!($w), "_", $variant))]
            #[kernel]
            #[launch_bounds($block, $blocks_per_sm)]
            #[allow(clippy::too_many_arguments)]
            pub unsafe fn entry(
                x: *const $x,
                residual: *const $x,
                weight: *const $w,
                bias: *const $w,
                y: *mut $x,
                sum: *mut $x,
                mean: *mut f32,
                rstd: *mut f32,
                n_rows: u64,
                x_stride: u64,
                y_stride: u64,
                n_cols: u32,
                eps: f32,
                inv_n: f32,
            ) {
                // SAFETY: the host launches it as `abi::ForwardArgs` says, in blocks of this size.
                unsafe {
                    $function(Forward {
                        x,
                        residual,
                        weight,
                        bias,
                        y,
                        sum,
                        mean,
                        rstd,
                        n_rows,
                        x_stride,
                        y_stride,
                        n_cols,
                        eps,
                        inv_n,
                    })
                }
            }
        };
    };
}

/// A backward kernel, likewise.
macro_rules! backward {
    ($x:ident, $w:ident, $variant:expr, $block:expr, $blocks_per_sm:expr, $function:expr) => {
        const _: () = {
            #[unsafe(export_name = concat!("layernorm_backward_", stringify!($x), "_", stringify!($w), "_", $variant))]
            #[kernel]
            #[launch_bounds($block, $blocks_per_sm)]
            #[allow(clippy::too_many_arguments)]
            pub unsafe fn entry(
                dy: *const $x,
                x: *const $x,
                weight: *const $w,
                mean: *const f32,
                rstd: *const f32,
                dsum: *const $x,
                dx: *mut $x,
                partial_dweight: *mut f32,
                partial_dbias: *mut f32,
                n_rows: u64,
                dy_stride: u64,
                x_stride: u64,
                dx_stride: u64,
                n_cols: u32,
                inv_n: f32,
                row_sums: *mut f32,
            ) {
                // SAFETY: the host launches it as `abi::BackwardArgs` says, in blocks of this size.
                unsafe {
                    $function(Backward {
                        dy,
                        x,
                        weight,
                        mean,
                        rstd,
                        dsum,
                        dx,
                        partial_dweight,
                        partial_dbias,
                        n_rows,
                        dy_stride,
                        x_stride,
                        dx_stride,
                        n_cols,
                        inv_n,
                        row_sums,
                    })
                }
            }
        };
    };
}

/// The kernels of one pair of dtypes: `$e` elements of x fill 16 bytes. Block, stages and registers come from
/// `abi`'s tables, where each tile must be.
macro_rules! kernels {
    ($x:ident $w:ident $e:literal, backward $table:ident: $($backward:tt)*) => {
        forward!($x, $w, "any", ANY_BLOCK, 0, forward_any::<$x, $w>);
        backward_tiles!($x $w $e $table "rows_" backward_rows false: $($backward)*);
        backward!($x, $w, "sums", SUMS_BLOCK, 0, backward_sums::<$x, $w, $e>);
        backward!($x, $w, "sums_narrow", SUMS_BLOCK, 0, backward_sums::<$x, $w, 1>);
        backward!($x, $w, "columns", COLUMNS_BLOCK, 3, backward_columns::<$x, $w, $e, { columns_vecs(false) as usize }>);
        backward!($x, $w, "columns_narrow", COLUMNS_BLOCK, 0, backward_columns::<$x, $w, 1, { columns_vecs(true) as usize }>);
        backward!($x, $w, "any", ANY_BLOCK, 0, backward_any::<$x, $w>);
    };
}

/// The kernels whose tiles are for f32 alone.
macro_rules! kernels_f32 {
    ($x:ident $w:ident $e:literal) => {
        forward_tiles!($x $w $e FORWARD_TILES_F32 "rows_" forward_rows: 8 1, 8 2, 16 2, 16 4, 32 3, 128 1, 128 2, 128 3, 256 2, 256 3, 256 4, 256 5, 256 6, 512 2, 512 3, 512 4, 512 6, 512 8, 1024 4, 1024 6, 1024 8);
        forward_shared!($x $w $e FORWARD_SHARED_F32: 1);
        forward_tiles!($x $w 1 FORWARD_NARROW_TILES "narrow_" forward_rows: 8 4, 32 8, 32 16, 128 8, 128 12, 128 16, 256 12, 256 16, 256 20, 512 12, 512 16, 512 20, 512 24, 512 32);
        backward_tiles!($x $w $e BACKWARD_RAGGED_TILES_F32 "ragged_" backward_ragged false: 8 2, 16 3, 16 4, 32 4, 128 2, 128 3, 256 2, 256 3, 512 2, 256 5, 512 3, 512 4);
    };
}

/// The kernels whose tiles are for f16 and bf16.
macro_rules! kernels_half {
    ($x:ident $w:ident $e:literal) => {
        forward_tiles!($x $w $e FORWARD_TILES_HALF "rows_" forward_rows: 8 1, 8 2, 8 4, 16 3, 16 4, 32 3, 64 1, 64 2, 64 3, 64 4, 128 1, 128 2, 128 3, 128 5, 256 2, 256 3, 256 4, 512 3, 512 4, 1024 4);
        forward_shared!($x $w $e FORWARD_SHARED_HALF: 2, 1);
        forward_tiles!($x $w $e FORWARD_RAGGED_TILES "ragged_" forward_ragged: 8 1, 8 2, 8 4, 16 4, 32 3, 32 4, 64 3, 64 4, 128 3, 128 4, 128 5, 256 3, 256 4, 512 3, 512 4);
        backward_tiles!($x $w $e BACKWARD_RAGGED_TILES_HALF "ragged_" backward_ragged false: 8 1, 8 3, 16 2, 32 2, 32 3, 32 4, 64 3, 64 4, 192 2, 128 3, 128 4, 192 3, 256 3, 256 4);
    };
}

/// A forward kernel for each `lanes vecs` of a table.
macro_rules! forward_tiles {
    ($x:ident $w:ident $e:literal $table:ident $prefix:literal $function:ident: $($lanes:literal $vecs:literal),*) => {$(
        const _: () = {
            const TILE: RowTile = find_tile($table, $lanes, $vecs);
            forward!(
                $x,
                $w,
                concat!($prefix, stringify!($lanes), "x", stringify!($vecs)),
                TILE.block,
                TILE.blocks_per_sm,
                $function::<$x, $w, $e, $lanes, $vecs, { TILE.block as usize }>
            );
        };
    )*};
}

/// A forward kernel with a block's row in shared memory, for each count of `stages` of a table.
macro_rules! forward_shared {
    ($x:ident $w:ident $e:literal $table:ident: $($stages:literal),*) => {$(
        const _: () = {
            const TILE: SharedTile = find_shared($table, 1, $stages);
            forward!(
                $x,
                $w,
                concat!("shared_", stringify!($stages)),
                TILE.block,
                1,
                forward_shared::<$x, $w, $e, $stages, { TILE.block }, { TILE.at_a_time as usize }, 1>
            );
        };
    )*};
}

/// A backward kernel for each `lanes vecs` of a table.
macro_rules! backward_tiles {
    ($x:ident $w:ident $e:literal $table:ident $prefix:literal $function:ident $paired:literal: $($lanes:literal $vecs:literal),*) => {$(
        const _: () = {
            const TILE: RowTile = find_tile($table, $lanes, $vecs);
            const { assert!(!$paired || ($lanes * $vecs * $e) % 64 == 0, "a pair's warps have whole turns") };
            backward!(
                $x,
                $w,
                concat!($prefix, stringify!($lanes), "x", stringify!($vecs)),
                TILE.block,
                TILE.blocks_per_sm,
                $function::<$x, $w, $e, $lanes, $vecs, { TILE.block }, { TILE.stages as usize }, $paired>
            );
        };
    )*};
}

#[cfg(not(cuda_arch = "90"))]
kernels!(f32 f32 4, backward BACKWARD_TILES_F32: 8 1, 8 2, 8 4, 16 4, 32 4, 128 2, 256 2, 512 2, 512 4);
#[cfg(not(cuda_arch = "90"))]
kernels!(f16 f16 8, backward BACKWARD_TILES_F16: 8 1, 8 2, 8 4, 16 3, 16 4, 32 3, 64 2, 96 2, 128 2, 192 2, 128 3, 128 4, 256 3, 256 4);
#[cfg(not(cuda_arch = "90"))]
kernels!(f16 f32 8, backward BACKWARD_TILES_F16: 8 1, 8 2, 8 4, 16 3, 16 4, 32 3, 64 2, 96 2, 128 2, 192 2, 128 3, 128 4, 256 3, 256 4);
#[cfg(not(cuda_arch = "90"))]
kernels!(bf16 bf16 8, backward BACKWARD_TILES_BF16: 8 1, 8 2, 8 4, 16 3, 16 4, 32 3, 64 2, 32 4, 96 2, 128 2, 192 2, 128 3, 128 4, 256 3, 256 4);
#[cfg(not(cuda_arch = "90"))]
kernels!(bf16 f32 8, backward BACKWARD_TILES_BF16: 8 1, 8 2, 8 4, 16 3, 16 4, 32 3, 64 2, 32 4, 96 2, 128 2, 192 2, 128 3, 128 4, 256 3, 256 4);

#[cfg(not(cuda_arch = "90"))]
kernels_f32!(f32 f32 4);
#[cfg(not(cuda_arch = "90"))]
kernels_half!(f16 f16 8);
#[cfg(not(cuda_arch = "90"))]
kernels_half!(f16 f32 8);
#[cfg(not(cuda_arch = "90"))]
kernels_half!(bf16 bf16 8);
#[cfg(not(cuda_arch = "90"))]
kernels_half!(bf16 f32 8);

/// The backward pass of a few rows.
macro_rules! few {
    ($($x:ident $w:ident $e:literal),*) => {$(
        few!(@one $x $w $e "few" false);
        few!(@one $x $w $e "few_narrow" true);
    )*};
    (@one $x:ident $w:ident $e:literal $variant:literal $narrow:literal) => {
        const _: () = {
            const SIZE: u32 = 16 / $e;
            const BLOCK: u32 = few_block(SIZE);
            #[unsafe(export_name = concat!("layernorm_backward_", stringify!($x), "_", stringify!($w), "_", $variant))]
            #[kernel]
            #[launch_bounds(BLOCK, 1)]
            #[allow(clippy::too_many_arguments)]
            pub unsafe fn entry(
                dy: *const $x,
                x: *const $x,
                weight: *const $w,
                mean: *const f32,
                rstd: *const f32,
                dsum: *const $x,
                dx: *mut $x,
                dweight: *mut $w,
                dbias: *mut $w,
                dy_stride: u64,
                x_stride: u64,
                dx_stride: u64,
                n_rows: u32,
                n_cols: u32,
                inv_n: f32,
                lanes: u32,
                column_blocks: u32,
                accumulate: u32,
            ) {
                // SAFETY: the host launches it as `abi::FewArgs` says, in blocks of this size at most.
                unsafe {
                    backward_few::<
                        $x,
                        $w,
                        $e,
                        { few_vecs(SIZE, $narrow) as usize },
                        { BLOCK as usize },
                        $narrow,
                    >(Few {
                        dy,
                        x,
                        weight,
                        mean,
                        rstd,
                        dsum,
                        dx,
                        dweight,
                        dbias,
                        dy_stride,
                        x_stride,
                        dx_stride,
                        n_rows,
                        n_cols,
                        inv_n,
                        lanes,
                        column_blocks,
                        accumulate,
                    })
                }
            }
        };
    };
}

#[cfg(not(cuda_arch = "90"))]
few!(f32 f32 4, f16 f16 8, f16 f32 8, bf16 bf16 8, bf16 f32 8);

/// The second kernel of the backward pass, for a dtype of dweight and dbias.
macro_rules! reduce {
    ($($w:ident)*) => {$(
        const _: () = {
            #[unsafe(export_name = concat!("layernorm_reduce_", stringify!($w)))]
            #[kernel]
            #[launch_bounds(REDUCE_BLOCK)]
            pub unsafe fn entry(
                partial_dweight: *const f32,
                partial_dbias: *const f32,
                dweight: *mut $w,
                dbias: *mut $w,
                n_partials: u32,
                n_cols: u32,
                accumulate: u32,
            ) {
                // SAFETY: the host launches it as `abi::ReduceArgs` says, in blocks of this size.
                unsafe {
                    reduce_partials(Reduce {
                        partial_dweight,
                        partial_dbias,
                        dweight,
                        dbias,
                        n_partials,
                        n_cols,
                        accumulate,
                    })
                }
            }
        };
    )*};
}

reduce!(f32 f16 bf16);
