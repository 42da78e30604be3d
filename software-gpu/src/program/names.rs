//! The words of arithmetic: types, operations, rounding, comparisons.

/// Which register file a slot is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    Pred,
    R32,
    R64,
}

/// An instruction's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    Pred,
    B8,
    U8,
    S8,
    B16,
    U16,
    S16,
    B32,
    U32,
    S32,
    B64,
    U64,
    S64,
    F16,
    BF16,
    F16x2,
    BF16x2,
    F32,
    F64,
}

impl Type {
    /// The type of that name, without its point.
    pub fn by_name(name: &str) -> Option<Type> {
        Some(match name {
            "pred" => Type::Pred,
            "b8" => Type::B8,
            "u8" => Type::U8,
            "s8" => Type::S8,
            "b16" => Type::B16,
            "u16" => Type::U16,
            "s16" => Type::S16,
            "b32" => Type::B32,
            "u32" => Type::U32,
            "s32" => Type::S32,
            "b64" => Type::B64,
            "u64" => Type::U64,
            "s64" => Type::S64,
            "f16" => Type::F16,
            "bf16" => Type::BF16,
            "f16x2" => Type::F16x2,
            "bf16x2" => Type::BF16x2,
            "f32" => Type::F32,
            "f64" => Type::F64,
            _ => return None,
        })
    }

    /// Bytes in memory.
    pub const fn bytes(self) -> u32 {
        match self {
            Type::Pred => 0,
            Type::B8 | Type::U8 | Type::S8 => 1,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::BF16 => 2,
            Type::B32 | Type::U32 | Type::S32 | Type::F16x2 | Type::BF16x2 | Type::F32 => 4,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 8,
        }
    }

    /// Bits of a value.
    pub const fn bits(self) -> u32 {
        self.bytes() * 8
    }

    pub const fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    pub const fn is_float(self) -> bool {
        matches!(
            self,
            Type::F16 | Type::BF16 | Type::F16x2 | Type::BF16x2 | Type::F32 | Type::F64
        )
    }

    pub const fn is_integer(self) -> bool {
        matches!(
            self,
            Type::U8
                | Type::S8
                | Type::U16
                | Type::S16
                | Type::U32
                | Type::S32
                | Type::U64
                | Type::S64
        )
    }

    pub const fn is_bits(self) -> bool {
        matches!(self, Type::B8 | Type::B16 | Type::B32 | Type::B64)
    }

    /// The register file that a value of this type is in.
    pub const fn class(self) -> Class {
        match self.bytes() {
            0 => Class::Pred,
            8 => Class::R64,
            _ => Class::R32,
        }
    }
}

/// How a result that is not exact is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

/// What is computed. Operands are a, b, c in the order of PTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Add,
    Sub,
    MulLo,
    MulHi,
    MulWide,
    MadLo,
    MadHi,
    MadWide,
    Div,
    Rem,
    Min,
    Max,
    Abs,
    Neg,
    Sad,
    And,
    Or,
    Xor,
    Not,
    Cnot,
    Shl,
    Shr,
    /// Funnel shifts; true where the amount is clamped to 32 rather than taken modulo 32.
    ShfL(bool),
    ShfR(bool),
    Popc,
    Clz,
    Brev,
    /// True for the shift amount instead of the position.
    Bfind(bool),
    Fns,
    Bfe,
    Bfi,
    Szext(bool),
    Bmsk(bool),
    Prmt(Permute),
    Lop3(u8),
    Dp4a(bool, bool),
    Dp2a(bool, bool, bool),
    Copysign,
    Fma,
    /// Multiply of f32 is `Mul`, of integers `MulLo`.
    Mul,
    Sqrt,
    Rsqrt,
    Rcp,
    /// Division within the documented error: `.full` or `.approx`.
    DivApprox,
    SqrtApprox,
    RcpApprox,
    Ex2,
    Lg2,
    Sin,
    Cos,
    Tanh,
    Slct(Type),
    /// To this type from that; `integer` rounds to a whole number; `bits` are the register's, to which
    /// an integer is extended.
    Cvt {
        to: Type,
        from: Type,
        integer: bool,
        bits: u8,
    },
    /// Two values of f32 to a pair.
    CvtPair(Type),
    /// 1 or all ones where the comparison holds.
    Set(Compare, Type),
    Testp(Test),
}

impl Kind {
    /// True where PTX allows an error beyond rounding.
    pub const fn is_approximate(self) -> bool {
        matches!(
            self,
            Kind::Rsqrt
                | Kind::DivApprox
                | Kind::SqrtApprox
                | Kind::RcpApprox
                | Kind::Ex2
                | Kind::Lg2
                | Kind::Sin
                | Kind::Cos
                | Kind::Tanh
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Permute {
    Index,
    F4e,
    B4e,
    Rc8,
    Ecl,
    Ecr,
    Rc16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    Finite,
    Infinite,
    Number,
    NotANumber,
    Normal,
    Subnormal,
}

/// An operation with its type and modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Arith {
    pub kind: Kind,
    pub ty: Type,
    pub rounding: Rounding,
    /// Denormals of f32 are zeros.
    pub ftz: bool,
    /// Clamped to the type's range, or to [0, 1] for floats.
    pub sat: bool,
    /// min and max: a NaN makes a NaN.
    pub nan: bool,
    /// fma, cvt: negative results are zero.
    pub relu: bool,
}

impl Arith {
    /// The operation without modifiers.
    pub const fn plain(kind: Kind, ty: Type) -> Arith {
        Arith {
            kind,
            ty,
            rounding: Rounding::Nearest,
            ftz: false,
            sat: false,
            nan: false,
            relu: false,
        }
    }
}

/// A comparison. The `U` forms also hold where an operand is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    EqU,
    NeU,
    LtU,
    LeU,
    GtU,
    GeU,
    Num,
    Nan,
}

impl Compare {
    /// The comparison of that name for that type: `lo`, `ls`, `hi`, `hs` are unsigned names, `ltu` a
    /// float's.
    pub fn by_name(name: &str, ty: Type) -> Option<Compare> {
        let float = ty.is_float();
        Some(match name {
            "eq" => Compare::Eq,
            "ne" => Compare::Ne,
            _ if ty.is_bits() || ty == Type::Pred => return None,
            "lt" => Compare::Lt,
            "le" => Compare::Le,
            "gt" => Compare::Gt,
            "ge" => Compare::Ge,
            "lo" if !float && !ty.is_signed() => Compare::Lt,
            "ls" if !float && !ty.is_signed() => Compare::Le,
            "hi" if !float && !ty.is_signed() => Compare::Gt,
            "hs" if !float && !ty.is_signed() => Compare::Ge,
            "equ" if float => Compare::EqU,
            "neu" if float => Compare::NeU,
            "ltu" if float => Compare::LtU,
            "leu" if float => Compare::LeU,
            "gtu" if float => Compare::GtU,
            "geu" if float => Compare::GeU,
            "num" if float => Compare::Num,
            "nan" if float => Compare::Nan,
            _ => return None,
        })
    }
}

/// A connective of predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Logic {
    And,
    Or,
    Xor,
}

impl Logic {
    pub fn by_name(name: &str) -> Option<Logic> {
        Some(match name {
            "and" => Logic::And,
            "or" => Logic::Or,
            "xor" => Logic::Xor,
            _ => return None,
        })
    }

    #[inline(always)]
    pub fn of(self, a: u32, b: u32) -> u32 {
        match self {
            Logic::And => a & b,
            Logic::Or => a | b,
            Logic::Xor => a ^ b,
        }
    }
}
