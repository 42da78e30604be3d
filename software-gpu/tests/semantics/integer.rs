//! Arithmetic on integers.

use crate::bench::{INTEGERS, check};

const W2: [u32; 4] = [32, 32, 32, 0];
const L2: [u32; 4] = [64, 64, 64, 0];
const H2: [u32; 4] = [16, 16, 16, 0];

#[test]
fn sums_and_products_wrap() {
    check("add.s32 D, A, B", W2, INTEGERS, |a, b, _| {
        (a as u32).wrapping_add(b as u32).into()
    });
    check("sub.u32 D, A, B", W2, INTEGERS, |a, b, _| {
        (a as u32).wrapping_sub(b as u32).into()
    });
    check("add.s64 D, A, B", L2, INTEGERS, |a, b, _| a.wrapping_add(b));
    check("sub.s64 D, A, B", L2, INTEGERS, |a, b, _| a.wrapping_sub(b));
    check("add.u16 D, A, B", H2, INTEGERS, |a, b, _| {
        (a as u16).wrapping_add(b as u16).into()
    });
    check("mul.lo.s32 D, A, B", W2, INTEGERS, |a, b, _| {
        (a as u32).wrapping_mul(b as u32).into()
    });
    check("mul.lo.u64 D, A, B", L2, INTEGERS, |a, b, _| {
        a.wrapping_mul(b)
    });
    check("mul.lo.s16 D, A, B", H2, INTEGERS, |a, b, _| {
        (a as u16).wrapping_mul(b as u16).into()
    });
    check(
        "mad.lo.s32 D, A, B, C",
        [32; 4],
        &INTEGERS[10..],
        |a, b, c| {
            (a as u32)
                .wrapping_mul(b as u32)
                .wrapping_add(c as u32)
                .into()
        },
    );
    check(
        "mad.lo.s64 D, A, B, C",
        [64; 4],
        &INTEGERS[10..],
        |a, b, c| a.wrapping_mul(b).wrapping_add(c),
    );
}

#[test]
fn high_and_wide_products() {
    let s = |x: u64| i64::from(x as i32);
    let u = |x: u64| u64::from(x as u32);
    check("mul.hi.s32 D, A, B", W2, INTEGERS, move |a, b, _| {
        u64::from(((s(a) * s(b)) >> 32) as u32)
    });
    check("mul.hi.u32 D, A, B", W2, INTEGERS, move |a, b, _| {
        (u(a) * u(b)) >> 32
    });
    check("mul.hi.s64 D, A, B", L2, INTEGERS, |a, b, _| {
        ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64
    });
    check("mul.hi.u64 D, A, B", L2, INTEGERS, |a, b, _| {
        ((u128::from(a) * u128::from(b)) >> 64) as u64
    });
    check(
        "mul.wide.s32 D, A, B",
        [64, 32, 32, 0],
        INTEGERS,
        move |a, b, _| (s(a) * s(b)) as u64,
    );
    check(
        "mul.wide.u32 D, A, B",
        [64, 32, 32, 0],
        INTEGERS,
        move |a, b, _| u(a) * u(b),
    );
    check(
        "mul.wide.s16 D, A, B",
        [32, 16, 16, 0],
        INTEGERS,
        |a, b, _| (i32::from(a as i16) * i32::from(b as i16)) as u32 as u64,
    );
    check(
        "mad.wide.u32 D, A, B, C",
        [64, 32, 32, 64],
        &INTEGERS[10..],
        move |a, b, c| (u(a) * u(b)).wrapping_add(c),
    );
    check(
        "mad.hi.u32 D, A, B, C",
        [32; 4],
        &INTEGERS[10..],
        move |a, b, c| u64::from((((u(a) * u(b)) >> 32) as u32).wrapping_add(c as u32)),
    );
}

#[test]
fn quotients_and_remainders() {
    // A division by zero is left open by PTX.
    let divisors: Vec<u64> = INTEGERS
        .iter()
        .copied()
        .filter(|x| *x as u16 != 0)
        .collect();
    check("div.s32 D, A, B", W2, &divisors, |a, b, _| {
        (a as i32).wrapping_div(b as i32) as u32 as u64
    });
    check("div.u32 D, A, B", W2, &divisors, |a, b, _| {
        (a as u32 / b as u32).into()
    });
    check("rem.s32 D, A, B", W2, &divisors, |a, b, _| {
        (a as i32).wrapping_rem(b as i32) as u32 as u64
    });
    check("rem.u32 D, A, B", W2, &divisors, |a, b, _| {
        (a as u32 % b as u32).into()
    });
    check("div.s64 D, A, B", L2, &divisors, |a, b, _| {
        (a as i64).wrapping_div(b as i64) as u64
    });
    check("rem.u64 D, A, B", L2, &divisors, |a, b, _| a % b);
    check("div.s16 D, A, B", H2, &divisors, |a, b, _| {
        (a as i16).wrapping_div(b as i16) as u16 as u64
    });
}

#[test]
fn ends_and_signs() {
    check("min.s32 D, A, B", W2, INTEGERS, |a, b, _| {
        (a as i32).min(b as i32) as u32 as u64
    });
    check("max.u32 D, A, B", W2, INTEGERS, |a, b, _| {
        (a as u32).max(b as u32).into()
    });
    check("max.s64 D, A, B", L2, INTEGERS, |a, b, _| {
        (a as i64).max(b as i64) as u64
    });
    check("min.u64 D, A, B", L2, INTEGERS, |a, b, _| a.min(b));
    check("min.s16 D, A, B", H2, INTEGERS, |a, b, _| {
        (a as i16).min(b as i16) as u16 as u64
    });
    check("abs.s32 D, A", [32, 32, 0, 0], INTEGERS, |a, _, _| {
        (a as i32).wrapping_abs() as u32 as u64
    });
    check("neg.s64 D, A", [64, 64, 0, 0], INTEGERS, |a, _, _| {
        a.wrapping_neg()
    });
    check("sad.u32 D, A, B, C", [32; 4], &INTEGERS[10..], |a, b, c| {
        (a as u32).abs_diff(b as u32).wrapping_add(c as u32).into()
    });
    check("add.sat.s32 D, A, B", W2, INTEGERS, |a, b, _| {
        (a as i32).saturating_add(b as i32) as u32 as u64
    });
    check("sub.sat.s32 D, A, B", W2, INTEGERS, |a, b, _| {
        (a as i32).saturating_sub(b as i32) as u32 as u64
    });
}

#[test]
fn comparisons_with_and_without_sign() {
    let p = [1, 32, 32, 0];
    check("setp.lt.s32 D, A, B", p, INTEGERS, |a, b, _| {
        ((a as i32) < b as i32).into()
    });
    check("setp.lo.u32 D, A, B", p, INTEGERS, |a, b, _| {
        ((a as u32) < b as u32).into()
    });
    check("setp.hs.u32 D, A, B", p, INTEGERS, |a, b, _| {
        (a as u32 >= b as u32).into()
    });
    check("setp.ne.b32 D, A, B", p, INTEGERS, |a, b, _| {
        (a as u32 != b as u32).into()
    });
    check(
        "setp.gt.s64 D, A, B",
        [1, 64, 64, 0],
        INTEGERS,
        |a, b, _| (a as i64 > b as i64).into(),
    );
    check(
        "setp.le.u64 D, A, B",
        [1, 64, 64, 0],
        INTEGERS,
        |a, b, _| (a <= b).into(),
    );
    check(
        "setp.lt.s16 D, A, B",
        [1, 16, 16, 0],
        INTEGERS,
        |a, b, _| ((a as i16) < b as i16).into(),
    );
    check(
        "setp.eq.and.s32 D, A, B, C",
        [1, 32, 32, 1],
        &[0, 1, 5],
        |a, b, c| (a == b && c != 0).into(),
    );
    check(
        "setp.eq.xor.s32 D, A, B, !C",
        [1, 32, 32, 1],
        &[0, 1, 5],
        |a, b, c| ((a == b) ^ (c == 0)).into(),
    );
    check(
        "selp.b32 D, A, B, C",
        [32, 32, 32, 1],
        &INTEGERS[..16],
        |a, b, c| if c != 0 { a } else { b },
    );
    check(
        "selp.b64 D, A, B, !C",
        [64, 64, 64, 1],
        &INTEGERS[..16],
        |a, b, c| if c == 0 { a } else { b },
    );
    check(
        "slct.s32.s32 D, A, B, C",
        [32; 4],
        &INTEGERS[10..20],
        |a, b, c| u64::from(if c as i32 >= 0 { a } else { b } as u32),
    );
    check("set.lt.u32.s32 D, A, B", W2, INTEGERS, |a, b, _| {
        if (a as i32) < b as i32 {
            0xffff_ffff
        } else {
            0
        }
    });
}
