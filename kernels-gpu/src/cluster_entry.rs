//! The entry points over clusters, under the names that `abi` gives them: what the image for sm_90 alone has.

use cuda_std::prelude::*;
use half::{bf16, f16};

use crate::abi::{
    BACKWARD_CLUSTERS_F32, BACKWARD_CLUSTERS_HALF, FORWARD_CLUSTERS_F32, FORWARD_CLUSTERS_HALF,
    RowTile, find_cluster,
};
use crate::backward::Backward;
use crate::cluster_backward::backward_cluster;
use crate::cluster_forward::forward_cluster;
use crate::forward::Forward;

/// The kernels over clusters of a pair of dtypes: each `blocks lanes vecs` of the tables.
macro_rules! cluster_kernels {
    ($x:ident $w:ident $e:literal, forward $forward:ident: $($fb:literal $fl:literal $fv:literal),*; backward $table:ident: $($bb:literal $bl:literal $bv:literal),*) => {
        $(const _: () = {
            const TILE: RowTile = find_cluster($forward, $fb, $fl, $fv).tile;
            forward!(
                $x,
                $w,
                concat!("cluster_", stringify!($fb), "x", stringify!($fl), "x", stringify!($fv)),
                TILE.block,
                TILE.blocks_per_sm,
                forward_cluster::<$x, $w, $e, $fl, $fv, { TILE.stages as usize }, $fb>
            );
        };)*
        $(const _: () = {
            const TILE: RowTile = find_cluster($table, $bb, $bl, $bv).tile;
            backward!(
                $x,
                $w,
                concat!("cluster_", stringify!($bb), "x", stringify!($bl), "x", stringify!($bv)),
                TILE.block,
                TILE.blocks_per_sm,
                backward_cluster::<$x, $w, $e, $bl, $bv, { TILE.stages as usize }, $bb>
            );
        };)*
    };
}

cluster_kernels!(f32 f32 4, forward FORWARD_CLUSTERS_F32: 4 512 8, 8 512 8; backward BACKWARD_CLUSTERS_F32: 2 512 4, 4 512 4, 8 512 4);
cluster_kernels!(f16 f16 8, forward FORWARD_CLUSTERS_HALF: 4 512 4, 8 512 4; backward BACKWARD_CLUSTERS_HALF: 2 256 4, 4 256 4, 8 256 4);
cluster_kernels!(f16 f32 8, forward FORWARD_CLUSTERS_HALF: 4 512 4, 8 512 4; backward BACKWARD_CLUSTERS_HALF: 2 256 4, 4 256 4, 8 256 4);
cluster_kernels!(bf16 bf16 8, forward FORWARD_CLUSTERS_HALF: 4 512 4, 8 512 4; backward BACKWARD_CLUSTERS_HALF: 2 256 4, 4 256 4, 8 256 4);
cluster_kernels!(bf16 f32 8, forward FORWARD_CLUSTERS_HALF: 4 512 4, 8 512 4; backward BACKWARD_CLUSTERS_HALF: 2 256 4, 4 256 4, 8 256 4);
