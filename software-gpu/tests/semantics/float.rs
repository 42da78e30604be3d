//! Arithmetic on f32, f64 and the 16-bit floats.

use half::{bf16, f16};

use crate::bench::{F32, F64, check, d, f, f32_bits};

const W2: [u32; 4] = [32, 32, 32, 0];
const W3: [u32; 4] = [32, 32, 32, 32];

fn flush(x: f32) -> f32 {
    if x.is_subnormal() {
        0f32.copysign(x)
    } else {
        x
    }
}

#[test]
fn f32_arithmetic_is_rounded_once() {
    check("add.f32 D, A, B", W2, F32, |a, b, _| f32_bits(f(a) + f(b)));
    check("sub.rn.f32 D, A, B", W2, F32, |a, b, _| {
        f32_bits(f(a) - f(b))
    });
    check("mul.rn.f32 D, A, B", W2, F32, |a, b, _| {
        f32_bits(f(a) * f(b))
    });
    check("div.rn.f32 D, A, B", W2, F32, |a, b, _| {
        f32_bits(f(a) / f(b))
    });
    check("fma.rn.f32 D, A, B, C", W3, F32, |a, b, c| {
        f32_bits(f(a).mul_add(f(b), f(c)))
    });
    check("mad.rn.f32 D, A, B, C", W3, &F32[..12], |a, b, c| {
        f32_bits(f(a).mul_add(f(b), f(c)))
    });
    check("sqrt.rn.f32 D, A", [32, 32, 0, 0], F32, |a, _, _| {
        f32_bits(f(a).sqrt())
    });
    check("rcp.rn.f32 D, A", [32, 32, 0, 0], F32, |a, _, _| {
        f32_bits(1.0 / f(a))
    });
}

#[test]
fn ftz_flushes_operands_and_results() {
    check("add.ftz.f32 D, A, B", W2, F32, |a, b, _| {
        f32_bits(flush(flush(f(a)) + flush(f(b))))
    });
    check("mul.rn.ftz.f32 D, A, B", W2, F32, |a, b, _| {
        f32_bits(flush(flush(f(a)) * flush(f(b))))
    });
    check("fma.rn.ftz.f32 D, A, B, C", W3, &F32[..12], |a, b, c| {
        f32_bits(flush(flush(f(a)).mul_add(flush(f(b)), flush(f(c)))))
    });
}

#[test]
fn sat_clamps_to_one_and_makes_nan_zero() {
    let clamp = |x: f32| if x > 0.0 { x.min(1.0) } else { 0.0 };
    check("add.sat.f32 D, A, B", W2, F32, |a, b, _| {
        clamp(f(a) + f(b)).to_bits().into()
    });
    check("fma.rn.sat.f32 D, A, B, C", W3, &F32[..12], |a, b, c| {
        clamp(f(a).mul_add(f(b), f(c))).to_bits().into()
    });
}

/// The directed roundings enclose the exact result, and meet where it is exact.
#[test]
fn directed_roundings_enclose() {
    use crate::bench::{combinations, run};
    let values: Vec<u64> = F32.iter().copied().filter(|x| f(*x).is_finite()).collect();
    for (name, operands) in [
        ("add", 2),
        ("sub", 2),
        ("mul", 2),
        ("div", 2),
        ("fma", 3),
        ("sqrt", 1),
        ("rcp", 1),
    ] {
        let cases = combinations(operands, &values);
        let list = &"A, B, C"[..3 * operands as usize - 2];
        let bits = [
            32,
            32,
            if operands > 1 { 32 } else { 0 },
            if operands > 2 { 32 } else { 0 },
        ];
        let by = |mode: &str| run(&format!("{name}.{mode}.f32 D, {list}"), bits, &cases);
        let (near, down, up, zero) = (by("rn"), by("rm"), by("rp"), by("rz"));
        for i in 0..cases.len() {
            let [near, down, up, zero] = [near[i], down[i], up[i], zero[i]].map(f);
            if near.is_nan() {
                assert!(
                    down.is_nan() && up.is_nan() && zero.is_nan(),
                    "{name} of {:x?}",
                    cases[i]
                );
                continue;
            }
            let context = format!(
                "{name} of {:x?}: {down:e} {near:e} {up:e}, {zero:e} to zero",
                cases[i]
            );
            assert!(down <= near && near <= up, "{context}");
            assert!(up == down || up == down.next_up(), "{context}");
            assert_eq!(
                zero,
                if down >= 0.0 && !down.is_sign_negative() {
                    down
                } else {
                    up
                },
                "{context}"
            );
            // The exact value, in f64 where that holds it, lies between.
            let [x, y, _] = cases[i].map(|bits| f64::from(f(bits)));
            if name == "mul" {
                assert!(
                    f64::from(down) <= x * y && x * y <= f64::from(up),
                    "{context}"
                );
                assert_eq!(
                    up == down,
                    f64::from(near) == x * y || !near.is_finite() && up == down,
                    "{context}"
                );
            }
        }
    }
}

#[test]
fn min_and_max_know_signed_zeros_and_leave_nan_out() {
    let pick = |a: u64, b: u64, less: bool| -> u64 {
        let (x, y) = (f(a), f(b));
        match (x.is_nan(), y.is_nan()) {
            (true, true) => 0x7fff_ffff,
            (true, false) => b,
            (false, true) => a,
            _ => {
                // Minus zero is less than zero.
                let key = |x: f32| (x, !x.is_sign_negative());
                if (key(x) < key(y)) == less { a } else { b }
            }
        }
    };
    check("min.f32 D, A, B", W2, F32, |a, b, _| pick(a, b, true));
    check("max.f32 D, A, B", W2, F32, |a, b, _| {
        if a == b && !f(a).is_nan() {
            a
        } else {
            pick(a, b, false)
        }
    });
    check("min.NaN.f32 D, A, B", W2, F32, |a, b, _| {
        if f(a).is_nan() || f(b).is_nan() {
            0x7fff_ffff
        } else {
            pick(a, b, true)
        }
    });
}

#[test]
fn signs_are_changed_in_the_bits() {
    let one = [32, 32, 0, 0];
    let nan = |a: u64, bits: u64| if f(a).is_nan() { 0x7fff_ffff } else { bits };
    check("abs.f32 D, A", one, F32, move |a, _, _| {
        nan(a, a & 0x7fff_ffff)
    });
    check("neg.f32 D, A", one, F32, move |a, _, _| {
        nan(a, a ^ 0x8000_0000)
    });
    check("copysign.f32 D, A, B", W2, F32, |a, b, _| {
        (a & 0x8000_0000) | (b & 0x7fff_ffff)
    });
    check("abs.f64 D, A", [64, 64, 0, 0], F64, |a, _, _| {
        a & (u64::MAX >> 1)
    });
    check("neg.f64 D, A", [64, 64, 0, 0], F64, |a, _, _| {
        if d(a).is_nan() { a } else { a ^ (1 << 63) }
    });
}

#[test]
fn f64_arithmetic_is_rounded_once() {
    let two = [64, 64, 64, 0];
    // NaNs are compared as NaNs: their payload is the operand's.
    let same = |name: &str, op: fn(f64, f64) -> f64| {
        use crate::bench::{combinations, run};
        let cases = combinations(2, F64);
        for ([a, b, _], got) in cases
            .iter()
            .zip(run(&format!("{name} D, A, B"), two, &cases))
        {
            let want = op(d(*a), d(*b));
            assert!(
                got == want.to_bits() || d(got).is_nan() && want.is_nan(),
                "{name} {a:#x} {b:#x}: {got:#x}"
            );
        }
    };
    same("add.rn.f64", |a, b| a + b);
    same("sub.rn.f64", |a, b| a - b);
    same("mul.rn.f64", |a, b| a * b);
    same("div.rn.f64", |a, b| a / b);
    let finite: Vec<u64> = F64
        .iter()
        .copied()
        .filter(|x| !d(*x).is_nan() && !d(*x).is_infinite())
        .collect();
    check("fma.rn.f64 D, A, B, C", [64; 4], &finite, |a, b, c| {
        d(a).mul_add(d(b), d(c)).to_bits()
    });
    let positive: Vec<u64> = finite.iter().copied().filter(|x| *x >> 63 == 0).collect();
    check("sqrt.rn.f64 D, A", [64, 64, 0, 0], &positive, |a, _, _| {
        d(a).sqrt().to_bits()
    });
}

#[test]
fn comparisons_by_every_ordering() {
    let p = [1, 32, 32, 0];
    let nan = |a: u64, b: u64| f(a).is_nan() || f(b).is_nan();
    check("setp.eq.f32 D, A, B", p, F32, |a, b, _| {
        (f(a) == f(b)).into()
    });
    check("setp.ne.f32 D, A, B", p, F32, move |a, b, _| {
        (f(a) != f(b) && !nan(a, b)).into()
    });
    check("setp.lt.f32 D, A, B", p, F32, |a, b, _| {
        (f(a) < f(b)).into()
    });
    check("setp.le.f32 D, A, B", p, F32, |a, b, _| {
        (f(a) <= f(b)).into()
    });
    check("setp.gt.f32 D, A, B", p, F32, |a, b, _| {
        (f(a) > f(b)).into()
    });
    check("setp.ge.f32 D, A, B", p, F32, |a, b, _| {
        (f(a) >= f(b)).into()
    });
    check("setp.equ.f32 D, A, B", p, F32, move |a, b, _| {
        (f(a) == f(b) || nan(a, b)).into()
    });
    check("setp.neu.f32 D, A, B", p, F32, |a, b, _| {
        (f(a) != f(b)).into()
    });
    check("setp.ltu.f32 D, A, B", p, F32, move |a, b, _| {
        (f(a) < f(b) || nan(a, b)).into()
    });
    check("setp.leu.f32 D, A, B", p, F32, move |a, b, _| {
        (f(a) <= f(b) || nan(a, b)).into()
    });
    check("setp.gtu.f32 D, A, B", p, F32, move |a, b, _| {
        (f(a) > f(b) || nan(a, b)).into()
    });
    check("setp.geu.f32 D, A, B", p, F32, move |a, b, _| {
        (f(a) >= f(b) || nan(a, b)).into()
    });
    check("setp.num.f32 D, A, B", p, F32, move |a, b, _| {
        (!nan(a, b)).into()
    });
    check("setp.nan.f32 D, A, B", p, F32, move |a, b, _| {
        nan(a, b).into()
    });
    check("setp.lt.f64 D, A, B", [1, 64, 64, 0], F64, |a, b, _| {
        (d(a) < d(b)).into()
    });
    check("testp.subnormal.f32 D, A", [1, 32, 0, 0], F32, |a, _, _| {
        f(a).is_subnormal().into()
    });
    check("testp.normal.f32 D, A", [1, 32, 0, 0], F32, |a, _, _| {
        (f(a).is_normal() || f(a) == 0.0).into()
    });
    check("testp.infinite.f64 D, A", [1, 64, 0, 0], F64, |a, _, _| {
        d(a).is_infinite().into()
    });
}

/// Approximations without a seed are the nearest value; the documented errors are larger.
#[test]
fn approximations_are_near() {
    use crate::bench::run;
    let values: Vec<u64> = (0..2000u32)
        .map(|i| (1e-3 + i as f32 * 0.037).to_bits().into())
        .collect();
    let cases: Vec<_> = values.iter().map(|x| [*x, 0, 0]).collect();
    type Exact = fn(f64) -> f64;
    for (name, bound, exact) in [
        ("rsqrt.approx.f32", -22.9f64, (|x| 1.0 / x.sqrt()) as Exact),
        ("sqrt.approx.f32", -23.0, f64::sqrt),
        ("rcp.approx.ftz.f32", -23.0, |x| 1.0 / x),
        ("ex2.approx.f32", -22.0, f64::exp2),
        ("tanh.approx.f32", -11.0, f64::tanh),
    ] {
        for ([x, ..], got) in cases
            .iter()
            .zip(run(&format!("{name} D, A"), [32, 32, 0, 0], &cases))
        {
            let want = exact(f(*x).into());
            assert!(
                (f64::from(f(got)) - want).abs() <= want.abs() * bound.exp2() || want > 3e38,
                "{name} {x:#x}"
            );
        }
    }
    let infinite = run(
        "rsqrt.approx.f32 D, A",
        [32, 32, 0, 0],
        &[[0, 0, 0], [0xbf80_0000, 0, 0]],
    );
    assert_eq!(infinite, [0x7f80_0000, 0x7fff_ffff]);
}

#[test]
fn sixteen_bit_arithmetic_is_rounded_once() {
    let halves: Vec<u64> = (0..=u16::MAX)
        .step_by(1499)
        .chain([0x8000, 0x7c00, 0x7e00, 1, 0x7bff])
        .map(u64::from)
        .collect();
    let two = [16, 16, 16, 0];
    let h = |x: u64| f16::from_bits(x as u16);
    let g = |x: u64| bf16::from_bits(x as u16);
    // f32 holds sums and products of these exactly enough: its 24 bits are more than 2 * 11 + 1.
    let f16_bits = |x: f32| {
        if x.is_nan() {
            0x7fff
        } else {
            u64::from(f16::from_f32(x).to_bits())
        }
    };
    check("add.rn.f16 D, A, B", two, &halves, move |a, b, _| {
        f16_bits(h(a).to_f32() + h(b).to_f32())
    });
    check("mul.rn.f16 D, A, B", two, &halves, move |a, b, _| {
        f16_bits(h(a).to_f32() * h(b).to_f32())
    });
    let bf16_bits = |x: f32| {
        if x.is_nan() {
            0x7fff
        } else {
            u64::from(bf16::from_f32(x).to_bits())
        }
    };
    check("mul.rn.bf16 D, A, B", two, &halves, move |a, b, _| {
        bf16_bits(g(a).to_f32() * g(b).to_f32())
    });
    check(
        "add.rn.f16x2 D, A, B",
        W2,
        &[0x3c00_4000, 0x0001_fbff, 0x7c00_3555],
        move |a, b, _| {
            let part = |a: u64, b: u64| f16_bits(h(a).to_f32() + h(b).to_f32());
            part(a, b) | part(a >> 16, b >> 16) << 16
        },
    );
    check("neg.f16 D, A", [16, 16, 0, 0], &halves, move |a, _, _| {
        if h(a).is_nan() { 0x7fff } else { a ^ 0x8000 }
    });
}
