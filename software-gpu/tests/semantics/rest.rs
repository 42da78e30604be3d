//! The instructions that compiled kernels seldom have, and that the list of those supported has no name
//! without a test.

use software_gpu::OPCODES;

use crate::bench::{Case, F32, INTEGERS, check, f, run, run_over};

/// The largest error that PTX documents, absolute, over arguments that it documents it for.
fn within(instruction: &str, arguments: &[f32], exact: impl Fn(f64) -> f64, bound: f64) {
    let cases: Vec<Case> = arguments
        .iter()
        .map(|x| [x.to_bits().into(), 0, 0])
        .collect();
    for (x, got) in arguments
        .iter()
        .zip(run(instruction, [32, 32, 0, 0], &cases))
    {
        let (got, exact) = (f64::from(f(got)), exact(f64::from(*x)));
        assert!(
            (got - exact).abs() <= bound,
            "{instruction} of {x}: {got}, not {exact}"
        );
    }
}

#[test]
fn logarithm_sine_and_cosine_are_near_enough() {
    let angles: Vec<f32> = (-628..=628).map(|i| i as f32 / 100.0).collect();
    within("sin.approx.f32 D, A", &angles, f64::sin, 2f64.powf(-20.5));
    within("cos.approx.f32 D, A", &angles, f64::cos, 2f64.powf(-20.5));
    let numbers: Vec<f32> = (1..400).map(|i| i as f32 / 200.0 + 0.5).collect();
    within("lg2.approx.f32 D, A", &numbers, f64::log2, 2f64.powi(-22));
    let special = |instruction: &str, x: f32| {
        f(run(instruction, [32, 32, 0, 0], &[[x.to_bits().into(), 0, 0]])[0])
    };
    for instruction in ["sin.approx.f32 D, A", "cos.approx.f32 D, A"] {
        for x in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert!(special(instruction, x).is_nan(), "{instruction} of {x}");
        }
    }
    assert_eq!(
        special("sin.approx.f32 D, A", -0.0).to_bits(),
        (-0.0f32).to_bits()
    );
    assert_eq!(special("cos.approx.f32 D, A", -0.0), 1.0);
    for (x, log) in [
        (0.0, f32::NEG_INFINITY),
        (-0.0, f32::NEG_INFINITY),
        (f32::INFINITY, f32::INFINITY),
    ] {
        assert_eq!(special("lg2.approx.f32 D, A", x), log);
    }
    assert!(special("lg2.approx.f32 D, A", -1.0).is_nan());
}

#[test]
fn fields_are_extended_and_masked() {
    for (name, wraps) in [("clamp", false), ("wrap", true)] {
        for (ty, signed) in [("u32", false), ("s32", true)] {
            check(
                &format!("szext.{name}.{ty} D, A, B"),
                [32, 32, 32, 0],
                INTEGERS,
                |a, b, _| {
                    let (a, b) = (a as u32, b as u32);
                    let width = if wraps { b & 31 } else { b };
                    match width {
                        0 => 0,
                        32.. => a.into(),
                        width if signed => {
                            ((a << (32 - width)) as i32 >> (32 - width)) as u32 as u64
                        }
                        width => u64::from(a) & ((1 << width) - 1),
                    }
                },
            );
        }
        check(
            &format!("bmsk.{name}.b32 D, A, B"),
            [32, 32, 32, 0],
            INTEGERS,
            |a, b, _| {
                let (a, b) = (a as u32, b as u32);
                let (start, width) = if wraps {
                    (a & 31, b & 31)
                } else {
                    (a.min(32), b.min(32))
                };
                let ones = (1u64 << width) - 1;
                ones << start & 0xffff_ffff
            },
        );
    }
}

#[test]
fn the_nth_set_bit_is_found_in_both_directions() {
    for offset in [-33i32, -32, -2, -1, 0, 1, 2, 3, 32, 33] {
        let instruction = format!("fns.b32 D, A, B, {offset}");
        let cases: Vec<Case> = INTEGERS
            .iter()
            .flat_map(|mask| [0, 1, 7, 30, 31].map(|base| [*mask, base, 0]))
            .collect();
        for (case, got) in cases.iter().zip(run(&instruction, [32, 32, 32, 0], &cases)) {
            let (mask, base) = (case[0] as u32, case[1] as i32);
            let is_set = |bit: &i32| mask >> bit & 1 == 1;
            let want = match offset {
                0 => Some(base).filter(is_set),
                1.. => (base..32).filter(is_set).nth(offset as usize - 1),
                _ => (0..=base)
                    .rev()
                    .filter(is_set)
                    .nth(offset.unsigned_abs() as usize - 1),
            };
            let want = want.map_or(0xffff_ffff, |bit| bit as u64);
            assert_eq!(got, want, "{instruction} of {mask:#x} from {base}");
        }
    }
}

#[test]
fn two_products_of_halves_and_bytes_are_added() {
    let half = |a: u64, i: u32, signed: bool| {
        let half = (a >> (16 * i)) as u16;
        if signed {
            i64::from(half as i16)
        } else {
            half.into()
        }
    };
    let byte = |b: u64, i: u32, signed: bool| {
        let byte = (b >> (8 * i)) as u8;
        if signed {
            i64::from(byte as i8)
        } else {
            byte.into()
        }
    };
    for (a_type, a_signed) in [("u32", false), ("s32", true)] {
        for (b_type, b_signed) in [("u32", false), ("s32", true)] {
            for (mode, first) in [("lo", 0), ("hi", 2)] {
                check(
                    &format!("dp2a.{mode}.{a_type}.{b_type} D, A, B, C"),
                    [32; 4],
                    &INTEGERS[8..],
                    |a, b, c| {
                        let product = |i| half(a, i, a_signed) * byte(b, first + i, b_signed);
                        (c as u32)
                            .wrapping_add((product(0) + product(1)) as u32)
                            .into()
                    },
                );
            }
        }
    }
}

#[test]
fn a_uniform_load_loads() {
    // The bench keeps the address of the operands in `%at`.
    check(
        "ldu.global.u32 D, [%at]",
        [32, 32, 0, 0],
        INTEGERS,
        |a, _, _| a & 0xffff_ffff,
    );
}

#[test]
fn hints_and_fences_change_nothing() {
    for text in [
        "{ prefetch.global.L2 [A]; mov.b64 D, A; }",
        "{ prefetchu.L1 [A]; mov.b64 D, A; }",
        "{ applypriority.global.L2::evict_normal [A], 128; mov.b64 D, A; }",
        "{ membar.gl; mov.b64 D, A; }",
        "{ fence.acq_rel.gpu; mov.b64 D, A; }",
        "{ fence.sc.sys; nanosleep.u32 20; mov.b64 D, A; }",
    ] {
        check(text, [64, 64, 0, 0], INTEGERS, |a, _, _| a);
    }
}

#[test]
fn lanes_that_exit_write_nothing() {
    let text = "{ .reg .pred %z; setp.eq.u32 %z, A, 0; @%z exit; mov.b32 D, A; }";
    let cases: Vec<Case> = (0..40).map(|i| [i % 3, 0, 0]).collect();
    for (case, got) in cases.iter().zip(run_over(text, [32, 32, 0, 0], &cases, 7)) {
        assert_eq!(got, if case[0] == 0 { 7 } else { case[0] });
    }
}

#[test]
fn one_lane_is_elected() {
    let text = "{ .reg .pred %e; .reg .b32 %m, %l; activemask.b32 %m; elect.sync %l|%e, %m; selp.b32 D, 1, 0, %e; \
                mad.lo.u32 D, %l, 2, D; }";
    let cases = vec![[0; 3]; 37];
    for (i, got) in run(text, [32, 0, 0, 0], &cases).into_iter().enumerate() {
        assert_eq!(
            got,
            u64::from(i % 32 == 0),
            "lane {i}: the lowest lane leads"
        );
    }
}

#[test]
fn the_test_values_hold_what_they_should() {
    // Without these the tests above would say less than they seem to.
    assert!(F32.iter().any(|x| f(*x).is_nan()) && F32.iter().any(|x| f(*x).is_subnormal()));
}

/// The list of opcodes is the device's own: what is not in it does not load. Here each must be in a test.
#[test]
fn every_opcode_is_in_a_test() {
    let sources = [
        include_str!("bits.rs"),
        include_str!("convert.rs"),
        include_str!("float.rs"),
        include_str!("integer.rs"),
        include_str!("rest.rs"),
        include_str!("whole_warps.rs"),
        include_str!("bench.rs"),
        include_str!("../clusters.rs"),
        include_str!("../../src/driver/overlap.rs"),
        include_str!("../compiled.rs"),
        include_str!("../ptx/compiled.ptx"),
        include_str!("../checks/trap.ptx"),
        include_str!("../checks/cluster_rank.ptx"),
        include_str!("../checks/cluster_race.ptx"),
        include_str!("../checks/mbarrier_stuck.ptx"),
        include_str!("../checks/cluster_own_window.ptx"),
        include_str!("../checks/async_copy_not_waited_for.ptx"),
        include_str!("../checks/barrier_in_a_branch.ptx"),
    ];
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '%';
    let used: std::collections::BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.split(|c| !is_word(c)))
        .filter_map(|word| word.split_once('.').map(|(head, _)| head))
        .collect();
    // Three stand alone.
    let alone = |opcode: &str| {
        let ways = ["\t", " "].map(|before| format!("{before}{opcode};"));
        sources
            .iter()
            .any(|text| ways.iter().any(|way| text.contains(way)))
    };
    let missing: Vec<_> = OPCODES
        .iter()
        .filter(|opcode| !used.contains(*opcode) && !alone(opcode))
        .collect();
    assert!(missing.is_empty(), "no test has {missing:?}");
    assert!(OPCODES.is_sorted(), "in order, so that a reader finds one");
}
