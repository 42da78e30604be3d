//! The entry points: the generic kernels under the names and with the parameters that `abi` gives them.

use cuda_std::prelude::*;
use half::{bf16, f16};

use crate::any::{backward_any, forward_any};
use crate::backward::{Backward, Reduce, backward_rows, reduce_partials};
use crate::forward::{Forward, forward_rows};

/// A forward kernel: its name's parts, its block, and the function that does it.
macro_rules! forward {
    ($x:ident, $w:ident, $variant:literal, $block:expr, $function:expr) => {
        const _: () = {
            #[unsafe(export_name = concat!("layernorm_forward_", stringify!($x), "_", stringify!($w), "_", $variant))]
            #[kernel]
            #[launch_bounds($block)]
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
    ($x:ident, $w:ident, $variant:literal, $block:expr, $function:expr) => {
        const _: () = {
            #[unsafe(export_name = concat!("layernorm_backward_", stringify!($x), "_", stringify!($w), "_", $variant))]
            #[kernel]
            #[launch_bounds($block)]
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
                    })
                }
            }
        };
    };
}

/// The kernels of one pair of dtypes. `$e` elements of x fill 16 bytes. The tiles are `abi`'s tables.
macro_rules! kernels {
    ($($x:ident $w:ident $e:literal,)*) => {$(
        forward!($x, $w, "rows_32x1", 128, forward_rows::<$x, $w, $e, 32, 1, 128>);
        forward!($x, $w, "rows_32x4", 128, forward_rows::<$x, $w, $e, 32, 4, 128>);
        forward!($x, $w, "rows_256x2", 256, forward_rows::<$x, $w, $e, 256, 2, 256>);
        forward!($x, $w, "rows_512x4", 512, forward_rows::<$x, $w, $e, 512, 4, 512>);
        forward!($x, $w, "any", 256, forward_any::<$x, $w>);
        backward!($x, $w, "rows_32x1", 128, backward_rows::<$x, $w, $e, 32, 1, 128>);
        backward!($x, $w, "rows_128x1", 128, backward_rows::<$x, $w, $e, 128, 1, 128>);
        backward!($x, $w, "rows_512x1", 512, backward_rows::<$x, $w, $e, 512, 1, 512>);
        backward!($x, $w, "any", 256, backward_any::<$x, $w>);
    )*};
}

kernels! {
    f32 f32 4,
    f16 f16 8,
    f16 f32 8,
    bf16 bf16 8,
    bf16 f32 8,
}

/// The second kernel of the backward pass, for a dtype of dweight and dbias.
macro_rules! reduce {
    ($($w:ident)*) => {$(
        const _: () = {
            #[unsafe(export_name = concat!("layernorm_reduce_", stringify!($w)))]
            #[kernel]
            #[launch_bounds(256)]
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
