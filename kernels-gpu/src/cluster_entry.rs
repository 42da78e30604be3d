//! The entry points over clusters and of pairs, under the names that `abi` gives them: what the image for sm_90 alone has.

use cuda_std::prelude::*;
use half::{bf16, f16};

use crate::abi::{
    BACKWARD_CLUSTERS_F32, BACKWARD_CLUSTERS_HALF, BACKWARD_RAGGED_TILES_F32,
    BACKWARD_RAGGED_TILES_HALF, BACKWARD_TILES_BF16, BACKWARD_TILES_F16, FORWARD_CLUSTERS_F32,
    FORWARD_SHARED_F32, FORWARD_SHARED_HALF, RowTile, SharedTile, find_cluster, find_shared,
    find_tile,
};
use crate::backward::{Backward, backward_rows};
use crate::cluster_backward::backward_cluster;
use crate::cluster_forward::forward_cluster;
use crate::cluster_wide::backward_wide;
use crate::forward::Forward;
use crate::ragged_rows::backward_ragged;
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

/// The backward kernels whose blocks are pairs, of a pair of 16-bit x and its weights.
macro_rules! pairs_half {
    ($x:ident $w:ident $table:ident: $($rows:tt)*) => {
        backward_tiles!($x $w 8 $table "paired_rows_" backward_rows true: $($rows)*);
        backward_tiles!($x $w 8 BACKWARD_RAGGED_TILES_HALF "paired_ragged_" backward_ragged true: 8 1, 8 3, 16 2, 32 2, 32 3, 32 4, 64 3, 64 4, 192 2, 128 3, 128 4, 192 3, 256 3, 256 4);
    };
}

pairs_half!(f16 f16 BACKWARD_TILES_F16: 8 1, 8 2, 8 4, 16 3, 16 4, 32 3, 64 2, 96 2, 128 2, 192 2, 128 3, 128 4, 256 3, 256 4);
pairs_half!(f16 f32 BACKWARD_TILES_F16: 8 1, 8 2, 8 4, 16 3, 16 4, 32 3, 64 2, 96 2, 128 2, 192 2, 128 3, 128 4, 256 3, 256 4);
pairs_half!(bf16 bf16 BACKWARD_TILES_BF16: 8 1, 8 2, 8 4, 16 3, 16 4, 32 3, 64 2, 32 4, 96 2, 128 2, 192 2, 128 3, 128 4, 256 3, 256 4);
pairs_half!(bf16 f32 BACKWARD_TILES_BF16: 8 1, 8 2, 8 4, 16 3, 16 4, 32 3, 64 2, 32 4, 96 2, 128 2, 192 2, 128 3, 128 4, 256 3, 256 4);
backward_tiles!(f32 f32 4 BACKWARD_RAGGED_TILES_F32 "paired_ragged_" backward_ragged true: 256 2);
