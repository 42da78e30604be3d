//! The entry points over clusters, under the names that `abi` gives them: what the image for sm_90 alone has.

use cuda_std::prelude::*;
use half::{bf16, f16};

use crate::abi::{
    BACKWARD_CLUSTERS_F32, BACKWARD_CLUSTERS_HALF, FORWARD_CLUSTERS_F32, FORWARD_SHARED_F32,
    FORWARD_SHARED_HALF, RowTile, SharedTile, find_cluster, find_shared,
};
use crate::backward::Backward;
use crate::cluster_backward::backward_cluster;
use crate::cluster_forward::forward_cluster;
use crate::cluster_wide::backward_wide;
use crate::forward::Forward;
use crate::shared_row::forward_shared;

/// The forward kernels over clusters of a pair of dtypes whose rows are in registers: each `blocks lanes vecs` of the
/// table.
macro_rules! forward_clusters {
    ($x:ident $w:ident $e:literal $table:ident: $($blocks:literal $lanes:literal $vecs:literal),*) => {$(
        const _: () = {
            const TILE: RowTile = find_cluster($table, $blocks, $lanes, $vecs).tile;
            forward!(
                $x,
                $w,
                concat!("cluster_", stringify!($blocks), "x", stringify!($lanes), "x", stringify!($vecs)),
                TILE.block,
                TILE.blocks_per_sm,
                forward_cluster::<$x, $w, $e, $lanes, $vecs, { TILE.stages as usize }, $blocks>
            );
        };
    )*};
}

/// Those whose rows are in shared memory: each count of `blocks` of the table.
macro_rules! forward_shared_clusters {
    ($x:ident $w:ident $e:literal $table:ident: $($blocks:literal),*) => {$(
        const _: () = {
            const TILE: SharedTile = find_shared($table, $blocks, 1);
            forward!(
                $x,
                $w,
                concat!("shared_cluster_", stringify!($blocks)),
                TILE.block,
                1,
                forward_shared::<$x, $w, $e, 1, { TILE.block }, { TILE.at_a_time as usize }, $blocks>
            );
        };
    )*};
}

/// The backward kernels, likewise, by one of the two functions.
macro_rules! backward_clusters {
    ($x:ident $w:ident $e:literal $table:ident $function:ident: $($blocks:literal $lanes:literal $vecs:literal),*) => {$(
        const _: () = {
            const TILE: RowTile = find_cluster($table, $blocks, $lanes, $vecs).tile;
            backward!(
                $x,
                $w,
                concat!("cluster_", stringify!($blocks), "x", stringify!($lanes), "x", stringify!($vecs)),
                TILE.block,
                TILE.blocks_per_sm,
                $function::<$x, $w, $e, $lanes, $vecs, { TILE.stages as usize }, $blocks>
            );
        };
    )*};
}

/// All of a pair of 16-bit x and its weights.
macro_rules! kernels_half {
    ($($x:ident $w:ident),*) => {$(
        forward_shared_clusters!($x $w 8 FORWARD_SHARED_HALF: 2, 4);
        backward_clusters!($x $w 8 BACKWARD_CLUSTERS_HALF backward_cluster: 2 256 4, 4 256 4, 8 256 4, 16 256 4);
        backward_clusters!($x $w 8 BACKWARD_CLUSTERS_HALF backward_wide: 16 512 4);
    )*};
}

forward_clusters!(f32 f32 4 FORWARD_CLUSTERS_F32: 4 512 8, 8 512 8);
forward_shared_clusters!(f32 f32 4 FORWARD_SHARED_F32: 8);
backward_clusters!(f32 f32 4 BACKWARD_CLUSTERS_F32 backward_cluster: 2 512 4, 4 512 4, 8 512 4, 16 512 4);
backward_clusters!(f32 f32 4 BACKWARD_CLUSTERS_F32 backward_wide: 16 512 8);
kernels_half!(f16 f16, f16 f32, bf16 bf16, bf16 f32);
