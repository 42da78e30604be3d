//! The typed tree of a PTX module.

/// A whole module.
#[derive(Debug, Default)]
pub(crate) struct Module<'a> {
    pub version: (u32, u32),
    pub version_line: u32,
    /// `sm_90` is 90.
    pub target: u32,
    /// `a` or `f` after the number: the target runs on that very architecture (or family) alone.
    pub target_suffix: Option<char>,
    pub target_line: u32,
    pub variables: Vec<Variable<'a>>,
    pub entries: Vec<Entry<'a>>,
}

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    Generic,
    Global,
    Const,
    /// A block's own.
    Shared,
    /// That of any block of the cluster.
    Cluster,
    Local,
    Param,
}

/// A variable in memory.
#[derive(Debug)]
pub(crate) struct Variable<'a> {
    pub line: u32,
    pub name: &'a str,
    pub space: Space,
    pub align: u32,
    /// Bytes; 0 for an `extern` array without a size.
    pub size: u64,
    pub is_extern: bool,
    /// The bytes that it starts with; shorter than `size` where the rest is zero, empty for none.
    pub init: Vec<u8>,
    /// Addresses of other variables in the initialiser: where, of what, plus what.
    pub relocations: Vec<Relocation>,
}

/// An initialiser's reference to a variable of the module.
#[derive(Debug)]
pub(crate) struct Relocation {
    pub at: u64,
    pub variable: usize,
    pub addend: i64,
    /// `generic(name)` rather than `name`: the two differ in spaces other than global alone.
    pub line: u32,
}

/// A kernel parameter.
#[derive(Debug)]
pub(crate) struct ParamDecl<'a> {
    pub name: &'a str,
    pub offset: u32,
    pub size: u32,
    pub align: u32,
}

/// How wide a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Width {
    Pred,
    W16,
    W32,
    W64,
}

/// A register of an entry, numbered by its first use.
pub(crate) type RegId = u32;

/// A label of an entry.
pub(crate) type LabelId = u32;

/// A kernel.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub name: &'a str,
    pub line: u32,
    pub params: Vec<ParamDecl<'a>>,
    pub max_ntid: Option<[u32; 3]>,
    pub req_ntid: Option<[u32; 3]>,
    /// `.reqnctapercluster`
    pub req_cluster: Option<[u32; 3]>,
    /// `.explicitcluster`: a launch must say the cluster's size, or the kernel itself does.
    pub explicit_cluster: bool,
    /// `.maxclusterrank`
    pub max_cluster: Option<u32>,
    /// The width of each register.
    pub registers: Vec<Width>,
    /// Variables of shared and local memory declared in the body.
    pub variables: Vec<Variable<'a>>,
    pub code: Vec<Instruction<'a>>,
    /// The instruction that each label stands before; `code.len()` at the end.
    pub labels: Vec<u32>,
    /// `.branchtargets` lists, by their own label.
    pub tables: Vec<(LabelId, Vec<LabelId>)>,
}

/// An instruction.
#[derive(Debug)]
pub(crate) struct Instruction<'a> {
    pub line: u32,
    /// The predicate that it runs under; true where it is negated.
    pub guard: Option<(RegId, bool)>,
    /// The opcode with all its modifiers.
    pub opcode: &'a str,
    pub operands: Vec<Operand>,
}

/// A variable, of the module or of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarRef {
    Module(usize),
    Entry(usize),
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Register(RegId),
    /// `!p`
    Not(RegId),
    Integer(u64),
    F32(u32),
    F64(u64),
    Special(Special),
    /// A variable's address, plus bytes.
    Variable(VarRef, i64),
    Label(LabelId),
    Address(Address),
    Vector(Vec<Operand>),
    /// `a|b`
    Pair(Box<Operand>, Box<Operand>),
    /// `_`
    Sink,
}

/// An operand in brackets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Address {
    pub base: Base,
    pub offset: i64,
}

/// What an address starts from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Base {
    Register(RegId),
    Variable(VarRef),
    /// A parameter of the entry, by its number.
    Param(usize),
    Zero,
}

/// A special register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    /// The cluster's index in the grid, and the number of clusters.
    ClusterId(u8),
    NClusterId(u8),
    /// The block's index in its cluster, and the cluster's size.
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterCtaRank,
    ClusterNctaRank,
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    Clock,
    ClockHi,
    Clock64,
    GlobalTimer,
    DynamicSharedSize,
    TotalSharedSize,
}

impl Special {
    /// The special register of that name, with its `%`.
    pub fn by_name(name: &str) -> Option<Special> {
        let axis = |suffix: &str| match suffix {
            ".x" => Some(0),
            ".y" => Some(1),
            ".z" => Some(2),
            _ => None,
        };
        let of = |prefix: &str| name.strip_prefix(prefix).and_then(axis);
        if let Some(axis) = of("%tid") {
            return Some(Special::Tid(axis));
        }
        if let Some(axis) = of("%ntid") {
            return Some(Special::Ntid(axis));
        }
        if let Some(axis) = of("%ctaid") {
            return Some(Special::Ctaid(axis));
        }
        if let Some(axis) = of("%nctaid") {
            return Some(Special::Nctaid(axis));
        }
        if let Some(axis) = of("%clusterid") {
            return Some(Special::ClusterId(axis));
        }
        if let Some(axis) = of("%nclusterid") {
            return Some(Special::NClusterId(axis));
        }
        if let Some(axis) = of("%cluster_ctaid") {
            return Some(Special::ClusterCtaid(axis));
        }
        if let Some(axis) = of("%cluster_nctaid") {
            return Some(Special::ClusterNctaid(axis));
        }
        Some(match name {
            "%cluster_ctarank" => Special::ClusterCtaRank,
            "%cluster_nctarank" => Special::ClusterNctaRank,
            "%laneid" => Special::LaneId,
            "%warpid" => Special::WarpId,
            "%nwarpid" => Special::NWarpId,
            "%smid" => Special::SmId,
            "%nsmid" => Special::NSmId,
            "%gridid" => Special::GridId,
            "%lanemask_eq" => Special::LaneMaskEq,
            "%lanemask_le" => Special::LaneMaskLe,
            "%lanemask_lt" => Special::LaneMaskLt,
            "%lanemask_ge" => Special::LaneMaskGe,
            "%lanemask_gt" => Special::LaneMaskGt,
            "%clock" => Special::Clock,
            "%clock_hi" => Special::ClockHi,
            "%clock64" => Special::Clock64,
            "%globaltimer" => Special::GlobalTimer,
            "%dynamic_smem_size" => Special::DynamicSharedSize,
            "%total_smem_size" => Special::TotalSharedSize,
            _ => return None,
        })
    }

    /// True where the register tells of the cluster, which older devices do not have.
    pub fn is_of_cluster(self) -> bool {
        matches!(
            self,
            Special::ClusterId(_)
                | Special::NClusterId(_)
                | Special::ClusterCtaid(_)
                | Special::ClusterNctaid(_)
                | Special::ClusterCtaRank
                | Special::ClusterNctaRank
        )
    }

    /// True where the value differs between the blocks of a launch.
    pub fn is_of_block(self) -> bool {
        matches!(
            self,
            Special::Ctaid(_)
                | Special::ClusterId(_)
                | Special::ClusterCtaid(_)
                | Special::ClusterCtaRank
        )
    }

    /// True where the value changes while the kernel runs.
    pub fn is_volatile(self) -> bool {
        matches!(
            self,
            Special::Clock | Special::ClockHi | Special::Clock64 | Special::GlobalTimer
        )
    }
}
