//! Conversions: bit for bit those of `half` and of the host.

use half::{bf16, f16};

use crate::bench::{F32, F64, INTEGERS, check, combinations, d, f, f32_bits, run};

const ONE: [u32; 4] = [32, 32, 0, 0];

/// Values around every step of a 16-bit float: itself, half a step on, and both sides of that.
fn around(widen: impl Fn(u16) -> f32, half_step: u32) -> Vec<u64> {
    let mut out = Vec::new();
    for bits in (0..=u16::MAX)
        .step_by(61)
        .chain(0x7bf0..=0x7c05)
        .chain(0..40)
        .chain(0x7f70..=0x7f85)
    {
        let base = widen(bits).to_bits();
        for offset in [0, 1, half_step - 1, half_step, half_step + 1] {
            out.push(u64::from(base.wrapping_add(offset)));
        }
    }
    out
}

#[test]
fn to_f16_and_bf16_is_nearest_even() {
    let nan = |bits: u16, x: f32| if x.is_nan() { 0x7fff } else { u64::from(bits) };
    let values = around(|bits| f16::from_bits(bits).to_f32(), 1 << 12);
    check(
        "cvt.rn.f16.f32 D, A",
        [16, 32, 0, 0],
        &values,
        move |a, _, _| nan(f16::from_f32(f(a)).to_bits(), f(a)),
    );
    let values = around(|bits| bf16::from_bits(bits).to_f32(), 1 << 15);
    check(
        "cvt.rn.bf16.f32 D, A",
        [16, 32, 0, 0],
        &values,
        move |a, _, _| nan(bf16::from_f32(f(a)).to_bits(), f(a)),
    );
    // The first operand goes to the upper half.
    check(
        "cvt.rn.bf16x2.f32 D, A, B",
        [32, 32, 32, 0],
        F32,
        move |a, b, _| {
            nan(bf16::from_f32(f(a)).to_bits(), f(a)) << 16
                | nan(bf16::from_f32(f(b)).to_bits(), f(b))
        },
    );
    check(
        "cvt.rn.f16x2.f32 D, A, B",
        [32, 32, 32, 0],
        F32,
        move |a, b, _| {
            nan(f16::from_f32(f(a)).to_bits(), f(a)) << 16
                | nan(f16::from_f32(f(b)).to_bits(), f(b))
        },
    );
}

#[test]
fn from_f16_and_bf16_is_exact() {
    let all: Vec<u64> = (0..=u64::from(u16::MAX)).collect();
    check("cvt.f32.f16 D, A", [32, 16, 0, 0], &all, |a, _, _| {
        f32_bits(f16::from_bits(a as u16).to_f32())
    });
    // A NaN keeps its bits: an H200 does so.
    check("cvt.f32.bf16 D, A", [32, 16, 0, 0], &all, |a, _, _| a << 16);
    check(
        "cvt.f64.f16 D, A",
        [64, 16, 0, 0],
        &all[..0x7c00],
        |a, _, _| f16::from_bits(a as u16).to_f64().to_bits(),
    );
}

#[test]
fn towards_zero_is_never_further_out() {
    let values = around(|bits| f16::from_bits(bits).to_f32(), 1 << 12);
    let cases: Vec<_> = values
        .iter()
        .copied()
        .filter(|x| f(*x).is_finite())
        .map(|x| [x, 0, 0])
        .collect();
    for ([x, ..], got) in cases
        .iter()
        .zip(run("cvt.rz.f16.f32 D, A", [16, 32, 0, 0], &cases))
    {
        let (x, got) = (f(*x), f16::from_bits(got as u16));
        let next = f16::from_bits(got.to_bits() + 1);
        assert!(
            got.to_f32().abs() <= x.abs() && (next.to_f32().abs() > x.abs() || next.is_nan()),
            "{x:e} {got}"
        );
        assert_eq!(got.is_sign_negative(), x.is_sign_negative());
    }
}

#[test]
fn floats_to_integers_saturate_and_nan_is_zero() {
    check("cvt.rzi.s32.f32 D, A", ONE, F32, |a, _, _| {
        u64::from(f(a) as i32 as u32)
    });
    check("cvt.rzi.u32.f32 D, A", ONE, F32, |a, _, _| {
        u64::from(f(a) as u32)
    });
    check("cvt.rni.s32.f32 D, A", ONE, F32, |a, _, _| {
        u64::from(f(a).round_ties_even() as i32 as u32)
    });
    check("cvt.rmi.s32.f32 D, A", ONE, F32, |a, _, _| {
        u64::from(f(a).floor() as i32 as u32)
    });
    check("cvt.rpi.s32.f32 D, A", ONE, F32, |a, _, _| {
        u64::from(f(a).ceil() as i32 as u32)
    });
    // With 64 bits on either side NaN is the top bit alone.
    let wide = |x: f64, value: u64| if x.is_nan() { 1 << 63 } else { value };
    check(
        "cvt.rzi.s64.f32 D, A",
        [64, 32, 0, 0],
        F32,
        move |a, _, _| wide(f(a).into(), f(a) as i64 as u64),
    );
    check(
        "cvt.rzi.u64.f64 D, A",
        [64, 64, 0, 0],
        F64,
        move |a, _, _| wide(d(a), d(a) as u64),
    );
    check("cvt.rzi.s32.f64 D, A", [32, 64, 0, 0], F64, |a, _, _| {
        if d(a).is_nan() {
            1 << 31
        } else {
            u64::from(d(a) as i32 as u32)
        }
    });
    check("cvt.rzi.f32.f32 D, A", ONE, F32, |a, _, _| {
        f32_bits(f(a).trunc())
    });
}

#[test]
fn integers_to_floats_are_rounded_once() {
    check("cvt.rn.f32.s32 D, A", ONE, INTEGERS, |a, _, _| {
        f32_bits(a as i32 as f32)
    });
    check("cvt.rn.f32.u32 D, A", ONE, INTEGERS, |a, _, _| {
        f32_bits(a as u32 as f32)
    });
    check(
        "cvt.rn.f32.u64 D, A",
        [32, 64, 0, 0],
        INTEGERS,
        |a, _, _| f32_bits(a as f32),
    );
    check(
        "cvt.rn.f32.s64 D, A",
        [32, 64, 0, 0],
        INTEGERS,
        |a, _, _| f32_bits(a as i64 as f32),
    );
    check(
        "cvt.rn.f64.u64 D, A",
        [64, 64, 0, 0],
        INTEGERS,
        |a, _, _| (a as f64).to_bits(),
    );
    check(
        "cvt.rn.f64.s32 D, A",
        [64, 32, 0, 0],
        INTEGERS,
        |a, _, _| f64::from(a as i32).to_bits(),
    );
    check(
        "cvt.rn.f16.u16 D, A",
        [16, 16, 0, 0],
        INTEGERS,
        |a, _, _| f16::from_f32(f32::from(a as u16)).to_bits().into(),
    );
    let cases = combinations(1, INTEGERS);
    let (down, up) = (
        run("cvt.rm.f32.s64 D, A", [32, 64, 0, 0], &cases),
        run("cvt.rp.f32.s64 D, A", [32, 64, 0, 0], &cases),
    );
    for (i, [x, ..]) in cases.iter().enumerate() {
        let (x, down, up) = (i128::from(*x as i64), f(down[i]), f(up[i]));
        assert!(
            down as i128 <= x && x <= up as i128 && (up == down || up == down.next_up()),
            "{x} {down} {up}"
        );
    }
}

#[test]
fn integers_are_cut_and_extended() {
    check("cvt.u64.u32 D, A", [64, 32, 0, 0], INTEGERS, |a, _, _| {
        u64::from(a as u32)
    });
    check("cvt.s64.s32 D, A", [64, 32, 0, 0], INTEGERS, |a, _, _| {
        a as i32 as u64
    });
    check("cvt.u32.u64 D, A", [32, 64, 0, 0], INTEGERS, |a, _, _| {
        u64::from(a as u32)
    });
    check("cvt.s32.s8 D, A", ONE, INTEGERS, |a, _, _| {
        a as i8 as u32 as u64
    });
    check("cvt.u32.u16 D, A", [32, 16, 0, 0], INTEGERS, |a, _, _| {
        a & 0xffff
    });
    check("cvt.s16.s8 D, A", [16, 16, 0, 0], INTEGERS, |a, _, _| {
        a as i8 as u16 as u64
    });
    check("cvt.sat.s8.s32 D, A", ONE, INTEGERS, |a, _, _| {
        (a as i32).clamp(-128, 127) as u32 as u64
    });
    check(
        "cvt.sat.u16.s32 D, A",
        [16, 32, 0, 0],
        INTEGERS,
        |a, _, _| (a as i32).clamp(0, 65535) as u64,
    );
}

#[test]
fn f64_and_f32() {
    check("cvt.rn.f32.f64 D, A", [32, 64, 0, 0], F64, |a, _, _| {
        (d(a) as f32).to_bits().into()
    });
    let numbers: Vec<u64> = F32.iter().copied().filter(|x| !f(*x).is_nan()).collect();
    check("cvt.f64.f32 D, A", [64, 32, 0, 0], &numbers, |a, _, _| {
        f64::from(f(a)).to_bits()
    });
    check("cvt.sat.f32.f32 D, A", ONE, F32, |a, _, _| {
        u64::from((if f(a) > 0.0 { f(a).min(1.0) } else { 0.0 }).to_bits())
    });
    check("cvt.ftz.f32.f32 D, A", ONE, F32, |a, _, _| {
        f32_bits(if f(a).is_subnormal() {
            0f32.copysign(f(a))
        } else {
            f(a)
        })
    });
}
