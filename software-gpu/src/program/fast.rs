//! The operations that have a vector path of their own: those that compiled kernels are made of.
//!
//! Each is an ordinary [`Arith`] without modifiers and computes what that says; the executor only knows
//! it when it is compiled. One list, given to a macro, makes the names here and the paths there.

use super::names::{Arith, Kind, Type};

/// Calls a macro with every fast operation: name, number of operands, kind, type.
macro_rules! for_each_fast32 {
    ($callback:ident) => {
        $callback! {
            AddF32, 2, Kind::Add, Type::F32;
            SubF32, 2, Kind::Sub, Type::F32;
            MulF32, 2, Kind::Mul, Type::F32;
            FmaF32, 3, Kind::Fma, Type::F32;
            DivF32, 2, Kind::Div, Type::F32;
            MinF32, 2, Kind::Min, Type::F32;
            MaxF32, 2, Kind::Max, Type::F32;
            AbsF32, 1, Kind::Abs, Type::F32;
            NegF32, 1, Kind::Neg, Type::F32;
            SqrtF32, 1, Kind::Sqrt, Type::F32;
            AddU32, 2, Kind::Add, Type::U32;
            SubU32, 2, Kind::Sub, Type::U32;
            MulLoU32, 2, Kind::MulLo, Type::U32;
            MadLoU32, 3, Kind::MadLo, Type::U32;
            MulHiU32, 2, Kind::MulHi, Type::U32;
            MinU32, 2, Kind::Min, Type::U32;
            MaxU32, 2, Kind::Max, Type::U32;
            MinS32, 2, Kind::Min, Type::S32;
            MaxS32, 2, Kind::Max, Type::S32;
            AndB32, 2, Kind::And, Type::B32;
            OrB32, 2, Kind::Or, Type::B32;
            XorB32, 2, Kind::Xor, Type::B32;
            NotB32, 1, Kind::Not, Type::B32;
            ShlB32, 2, Kind::Shl, Type::B32;
            ShrU32, 2, Kind::Shr, Type::U32;
            ShrS32, 2, Kind::Shr, Type::S32;
            NegS32, 1, Kind::Neg, Type::S32;
            PrmtB32, 3, Kind::Prmt(Permute::Index), Type::B32;
            BfeU32, 3, Kind::Bfe, Type::U32;
            PackF16, 2, Kind::CvtPair(Type::F16x2), Type::F16x2;
            PackBF16, 2, Kind::CvtPair(Type::BF16x2), Type::BF16x2;
            F16ToF32, 1, Kind::Cvt { to: Type::F32, from: Type::F16, integer: false, bits: 32 }, Type::F32;
            F32ToF16, 1, Kind::Cvt { to: Type::F16, from: Type::F32, integer: false, bits: 16 }, Type::F16;
            F32ToBF16, 1, Kind::Cvt { to: Type::BF16, from: Type::F32, integer: false, bits: 16 }, Type::BF16;
            U32ToF32, 1, Kind::Cvt { to: Type::F32, from: Type::U32, integer: false, bits: 32 }, Type::F32;
            S32ToF32, 1, Kind::Cvt { to: Type::F32, from: Type::S32, integer: false, bits: 32 }, Type::F32;
        }
    };
}

/// As `for_each_fast32`, for operations on 64-bit registers alone.
macro_rules! for_each_fast64 {
    ($callback:ident) => {
        $callback! {
            AddU64, 2, Kind::Add, Type::U64;
            SubU64, 2, Kind::Sub, Type::U64;
            MulLoU64, 2, Kind::MulLo, Type::U64;
            MadLoU64, 3, Kind::MadLo, Type::U64;
            AndB64, 2, Kind::And, Type::B64;
            OrB64, 2, Kind::Or, Type::B64;
            XorB64, 2, Kind::Xor, Type::B64;
            MinU64, 2, Kind::Min, Type::U64;
            MaxU64, 2, Kind::Max, Type::U64;
            AddF64, 2, Kind::Add, Type::F64;
            SubF64, 2, Kind::Sub, Type::F64;
            MulF64, 2, Kind::Mul, Type::F64;
            FmaF64, 3, Kind::Fma, Type::F64;
            DivF64, 2, Kind::Div, Type::F64;
        }
    };
}

pub(crate) use {for_each_fast32, for_each_fast64};

macro_rules! declare {
    ($(#[$doc:meta])* $name:ident: $($variant:ident, $count:literal, $kind:expr, $type:expr;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),* }

        impl $name {
            /// Every one, with what it means.
            pub const ALL: &[($name, Arith)] = &[$(($name::$variant, Arith::plain($kind, $type))),*];

            /// What it means.
            pub fn arith(self) -> Arith {
                Self::ALL[self as usize].1
            }

            /// The fast form of an operation, if there is one.
            pub fn of(op: Arith) -> Option<$name> {
                let op = canonical(op);
                Self::ALL.iter().find(|(_, known)| *known == op).map(|(fast, _)| *fast)
            }
        }
    };
}

use super::names::Permute;

macro_rules! declare32 {
    ($($list:tt)*) => { declare! { /** On 32-bit registers. */ Fast32: $($list)* } };
}
for_each_fast32!(declare32);

macro_rules! declare64 {
    ($($list:tt)*) => { declare! { /** On 64-bit registers. */ Fast64: $($list)* } };
}
for_each_fast64!(declare64);

/// Operations on the same bits under one name: addition does not know signs.
fn canonical(mut op: Arith) -> Arith {
    let signless = matches!(
        op.kind,
        Kind::Add | Kind::Sub | Kind::MulLo | Kind::MadLo | Kind::Shr
    ) && !op.sat;
    op.ty = match (op.ty, op.kind) {
        (Type::S32, Kind::Shr) | (Type::S64, Kind::Shr) => op.ty,
        (Type::B32 | Type::S32, _) if signless => Type::U32,
        (Type::B64 | Type::S64, _) if signless => Type::U64,
        (ty, _) => ty,
    };
    op
}
