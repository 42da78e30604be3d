//! The kernels' entry points as values; their names follow the table in `kernels_gpu::abi`.

use std::fmt;

use kernels_gpu::abi::{
    BACKWARD_CLUSTERS_F32, BACKWARD_CLUSTERS_HALF, BACKWARD_RAGGED_TILES_F32,
    BACKWARD_RAGGED_TILES_HALF, BACKWARD_TILES_BF16, BACKWARD_TILES_F16, BACKWARD_TILES_F32,
    ClusterTile, FORWARD_CLUSTERS_F32, FORWARD_NARROW_TILES, FORWARD_RAGGED_TILES,
    FORWARD_SHARED_F32, FORWARD_SHARED_HALF, FORWARD_TILES_F32, FORWARD_TILES_HALF, PAIR_BLOCKS,
    RowTile, SharedTile,
};

use crate::DType;

/// A kernel. `Display` gives the name of its entry point in the PTX.
///
/// ```
/// use layernorm_host::{DType, Entry, Pass, Variant};
///
/// let entry = Entry::Rows {
///     pass: Pass::Forward,
///     x: DType::BF16,
///     weight: DType::F32,
///     variant: Variant::Any,
/// };
/// assert_eq!(entry.to_string(), "layernorm_forward_bf16_f32_any");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// A kernel over the rows of x.
    Rows {
        /// Forward or backward.
        pass: Pass,
        /// dtype of x.
        x: DType,
        /// dtype of weight and bias.
        weight: DType,
        /// How a row lies over threads.
        variant: Variant,
    },
    /// The second kernel of the backward pass, which sums the partials of dweight and dbias.
    Reduce {
        /// dtype of dweight and dbias.
        weight: DType,
    },
}

/// Which way the kernel goes.
///
/// ```
/// use layernorm_host::{DType, Pass};
///
/// // The longest row that a kernel holds in registers, in columns.
/// let tile = Pass::Forward.tiles(DType::F16).last().unwrap();
/// let columns = tile.max_vectors() * 16 / DType::F16.size() as u32;
/// assert!(columns >= 4096);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// y, mean and rstd from x.
    Forward,
    /// dx and the partials of dweight and dbias from dy.
    Backward,
}

impl Pass {
    /// The pass's `rows` variants for x of this dtype, shortest row first.
    pub fn tiles(self, x: DType) -> &'static [RowTile] {
        match (self, x) {
            (_, DType::F64) => &[],
            (Pass::Forward, DType::F32) => FORWARD_TILES_F32,
            (Pass::Forward, _) => FORWARD_TILES_HALF,
            (Pass::Backward, DType::F32) => BACKWARD_TILES_F32,
            (Pass::Backward, DType::F16) => BACKWARD_TILES_F16,
            (Pass::Backward, DType::BF16) => BACKWARD_TILES_BF16,
        }
    }

    /// The pass's `cluster` variants for x of this dtype, shortest row first.
    pub fn cluster_tiles(self, x: DType) -> &'static [ClusterTile] {
        match (self, x) {
            (_, DType::F64) => &[],
            (Pass::Forward, DType::F32) => FORWARD_CLUSTERS_F32,
            (Pass::Forward, _) => &[],
            (Pass::Backward, DType::F32) => BACKWARD_CLUSTERS_F32,
            (Pass::Backward, _) => BACKWARD_CLUSTERS_HALF,
        }
    }

    /// The pass's `ragged` variants for x of this dtype, shortest row first.
    pub fn ragged_tiles(self, x: DType) -> &'static [RowTile] {
        match (self, x) {
            (_, DType::F64) | (Pass::Forward, DType::F32) => &[],
            (Pass::Forward, _) => FORWARD_RAGGED_TILES,
            (Pass::Backward, DType::F32) => BACKWARD_RAGGED_TILES_F32,
            (Pass::Backward, _) => BACKWARD_RAGGED_TILES_HALF,
        }
    }

    /// The pass's `narrow` variants for x of this dtype, shortest row first.
    pub fn narrow_tiles(self, x: DType) -> &'static [RowTile] {
        match (self, x) {
            (Pass::Forward, DType::F32) => FORWARD_NARROW_TILES,
            _ => &[],
        }
    }

    /// The pass's `shared` and `shared_cluster` variants for x of this dtype, shortest row first.
    pub fn shared_tiles(self, x: DType) -> &'static [SharedTile] {
        match (self, x) {
            (Pass::Backward, _) | (_, DType::F64) => &[],
            (Pass::Forward, DType::F32) => FORWARD_SHARED_F32,
            (Pass::Forward, _) => FORWARD_SHARED_HALF,
        }
    }

    /// Every variant of the pass's kernels for x of this dtype.
    fn variants(self, x: DType) -> Vec<Variant> {
        if x == DType::F64 {
            return vec![Variant::Any];
        }
        let rows = self.tiles(x).iter().map(|tile| Variant::Rows {
            lanes: tile.lanes,
            vecs: tile.vecs,
        });
        let ragged = self.ragged_tiles(x).iter().map(|tile| Variant::Ragged {
            lanes: tile.lanes,
            vecs: tile.vecs,
        });
        let narrow = self.narrow_tiles(x).iter().map(|tile| Variant::Narrow {
            lanes: tile.lanes,
            vecs: tile.vecs,
        });
        let clusters = self.cluster_tiles(x).iter().map(Variant::of_cluster);
        let shared = self.shared_tiles(x).iter().map(Variant::of_shared);
        let in_registers = rows.chain(ragged).chain(narrow).chain(clusters);
        let mut variants: Vec<Variant> = in_registers.chain(shared).collect();
        if self == Pass::Backward {
            for (tiles, ragged) in [(self.tiles(x), false), (self.ragged_tiles(x), true)] {
                let paired = tiles.iter().filter(|tile| tile.pairs_from < RowTile::NEVER);
                variants.extend(paired.map(|tile| Variant::Paired {
                    ragged,
                    lanes: tile.lanes,
                    vecs: tile.vecs,
                }));
            }
            for narrow in [false, true] {
                variants.extend([Variant::Sums { narrow }, Variant::Columns { narrow }]);
                variants.push(Variant::Few { narrow });
            }
        }
        variants.push(Variant::Any);
        variants
    }
}

/// How a row lies over the threads of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// In registers, `vecs` vectors of 16 bytes in each of `lanes` threads.
    Rows {
        /// Threads that share a row.
        lanes: u32,
        /// Vectors a thread holds.
        vecs: u32,
    },
    /// In registers in the same way, for rows that start anywhere; forward for 16-bit x alone.
    Ragged {
        /// Threads that share a row.
        lanes: u32,
        /// Vectors a thread holds.
        vecs: u32,
    },
    /// In registers, `vecs` single elements in each of `lanes` threads; the forward pass for f32 alone.
    Narrow {
        /// Threads that share a row.
        lanes: u32,
        /// Elements a thread holds.
        vecs: u32,
    },
    /// In registers of the blocks of a cluster, `vecs` vectors of 16 bytes in each of `lanes` threads of each of
    /// `blocks` blocks. For devices from sm_90 on.
    Cluster {
        /// Blocks of a cluster.
        blocks: u32,
        /// Threads of a block.
        lanes: u32,
        /// Vectors a thread holds.
        vecs: u32,
    },
    /// In a block's shared memory, with room for `stages` rows; the forward pass alone.
    Shared {
        /// 2: the next row is on its way while one is computed. 1: it is not.
        stages: u32,
    },
    /// In the shared memory of a cluster's blocks; the forward pass alone. For devices from sm_90 on.
    SharedCluster {
        /// Blocks of a cluster.
        blocks: u32,
    },
    /// Sums of each row that `Columns` needs; the backward pass alone.
    Sums {
        /// One element an access, instead of 16 bytes.
        narrow: bool,
    },
    /// Part of the columns of many rows; the backward pass alone.
    Columns {
        /// One element an access, instead of 16 bytes.
        narrow: bool,
    },
    /// All gradients of a few rows in one launch; the backward pass alone.
    Few {
        /// One element an access, instead of 16 bytes.
        narrow: bool,
    },
    /// `Rows`, or if `ragged` `Ragged`, whose blocks are pairs that write a row of partials together; the backward pass
    /// alone. For devices from sm_90 on.
    Paired {
        /// Rows start anywhere.
        ragged: bool,
        /// Threads that share a row.
        lanes: u32,
        /// Vectors a thread holds.
        vecs: u32,
    },
    /// Any row, element by element.
    Any,
}

impl Variant {
    /// The variant of a tile.
    pub(crate) fn of_cluster(cluster: &ClusterTile) -> Variant {
        Variant::Cluster {
            blocks: cluster.blocks,
            lanes: cluster.tile.lanes,
            vecs: cluster.tile.vecs,
        }
    }

    /// The variant of a tile.
    pub(crate) fn of_shared(tile: &SharedTile) -> Variant {
        match (tile.blocks, tile.stages) {
            (1, stages) => Variant::Shared { stages },
            (blocks, _) => Variant::SharedCluster { blocks },
        }
    }

    /// Blocks of a cluster of the launch, which share a row, or a row of partials; 1 where a block has each.
    pub fn cluster_blocks(self) -> u32 {
        match self {
            Variant::Paired { .. } => PAIR_BLOCKS,
            Variant::Cluster { blocks, .. } | Variant::SharedCluster { blocks } => blocks,
            _ => 1,
        }
    }
}

impl Entry {
    /// Every entry point that the images hold; those of [`Variant::Cluster`], [`Variant::SharedCluster`] and
    /// [`Variant::Paired`] are in the one for sm_90 alone.
    pub fn all() -> Vec<Entry> {
        let mut entries = Vec::new();
        for pass in [Pass::Forward, Pass::Backward] {
            for x in DType::ALL {
                for weight in x.parameter_dtypes() {
                    entries.extend(pass.variants(x).into_iter().map(|variant| Entry::Rows {
                        pass,
                        x,
                        weight,
                        variant,
                    }));
                }
            }
        }
        entries.extend(DType::ALL.map(|weight| Entry::Reduce { weight }));
        entries
    }

    /// Whether devices of this compute capability run it.
    pub fn runs_on(&self, (major, _): (u32, u32)) -> bool {
        major >= 9
            || self
                .variant()
                .is_none_or(|variant| variant.cluster_blocks() == 1)
    }

    /// How a row lies over threads; `None` for the sum over the partials.
    pub fn variant(&self) -> Option<Variant> {
        match self {
            Entry::Rows { variant, .. } => Some(*variant),
            Entry::Reduce { .. } => None,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Rows {
                pass,
                x,
                weight,
                variant,
            } => {
                let pass = match pass {
                    Pass::Forward => "forward",
                    Pass::Backward => "backward",
                };
                write!(f, "layernorm_{pass}_{x}_{weight}_{variant}")
            }
            Entry::Reduce { weight } => write!(f, "layernorm_reduce_{weight}"),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Variant::Rows { lanes, vecs } => write!(f, "rows_{lanes}x{vecs}"),
            Variant::Ragged { lanes, vecs } => write!(f, "ragged_{lanes}x{vecs}"),
            Variant::Narrow { lanes, vecs } => write!(f, "narrow_{lanes}x{vecs}"),
            Variant::Cluster {
                blocks,
                lanes,
                vecs,
            } => write!(f, "cluster_{blocks}x{lanes}x{vecs}"),
            Variant::Shared { stages } => write!(f, "shared_{stages}"),
            Variant::SharedCluster { blocks } => write!(f, "shared_cluster_{blocks}"),
            Variant::Sums { narrow: false } => f.write_str("sums"),
            Variant::Sums { narrow: true } => f.write_str("sums_narrow"),
            Variant::Columns { narrow: false } => f.write_str("columns"),
            Variant::Columns { narrow: true } => f.write_str("columns_narrow"),
            Variant::Few { narrow: false } => f.write_str("few"),
            Variant::Few { narrow: true } => f.write_str("few_narrow"),
            Variant::Paired {
                ragged,
                lanes,
                vecs,
            } => {
                let rows = if *ragged { "ragged" } else { "rows" };
                write!(f, "paired_{rows}_{lanes}x{vecs}")
            }
            Variant::Any => f.write_str("any"),
        }
    }
}
