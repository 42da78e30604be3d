//! Bits: logic, shifts, fields, permutations, counts.

use crate::bench::{INTEGERS, check};

const W2: [u32; 4] = [32, 32, 32, 0];
const W3: [u32; 4] = [32; 4];

#[test]
fn logic_on_every_width() {
    check("and.b32 D, A, B", W2, INTEGERS, |a, b, _| {
        u64::from((a & b) as u32)
    });
    check("or.b64 D, A, B", [64, 64, 64, 0], INTEGERS, |a, b, _| a | b);
    check("xor.b16 D, A, B", [16, 16, 16, 0], INTEGERS, |a, b, _| {
        (a ^ b) & 0xffff
    });
    check("not.b32 D, A", [32, 32, 0, 0], INTEGERS, |a, _, _| {
        u64::from(!a as u32)
    });
    check("not.b16 D, A", [16, 16, 0, 0], INTEGERS, |a, _, _| {
        !a & 0xffff
    });
    check("cnot.b32 D, A", [32, 32, 0, 0], INTEGERS, |a, _, _| {
        u64::from(a as u32 == 0)
    });
    check("and.pred D, A, B", [1, 1, 1, 0], &[0, 1], |a, b, _| a & b);
    check("xor.pred D, A, B", [1, 1, 1, 0], &[0, 1], |a, b, _| a ^ b);
    check("not.pred D, A", [1, 1, 0, 0], &[0, 1], |a, _, _| a ^ 1);
    check(
        "lop3.b32 D, A, B, C, 0xe8",
        W3,
        &INTEGERS[14..],
        |a, b, c| u64::from(((a & b) | (a & c) | (b & c)) as u32),
    );
    check(
        "lop3.b32 D, A, B, C, 0x96",
        W3,
        &INTEGERS[14..],
        |a, b, c| u64::from((a ^ b ^ c) as u32),
    );
}

#[test]
fn shifts_past_the_width_leave_nothing_but_the_sign() {
    let by = |b: u64| b as u32;
    check("shl.b32 D, A, B", W2, INTEGERS, move |a, b, _| {
        (a as u32).checked_shl(by(b)).unwrap_or(0).into()
    });
    check("shr.u32 D, A, B", W2, INTEGERS, move |a, b, _| {
        (a as u32).checked_shr(by(b)).unwrap_or(0).into()
    });
    check("shr.s32 D, A, B", W2, INTEGERS, move |a, b, _| {
        (a as i32 >> by(b).min(31)) as u32 as u64
    });
    check(
        "shl.b64 D, A, B",
        [64, 64, 32, 0],
        INTEGERS,
        move |a, b, _| a.checked_shl(by(b)).unwrap_or(0),
    );
    check(
        "shr.u64 D, A, B",
        [64, 64, 32, 0],
        INTEGERS,
        move |a, b, _| a.checked_shr(by(b)).unwrap_or(0),
    );
    check(
        "shr.s64 D, A, B",
        [64, 64, 32, 0],
        INTEGERS,
        move |a, b, _| (a as i64 >> by(b).min(63)) as u64,
    );
    check(
        "shl.b16 D, A, B",
        [16, 16, 32, 0],
        INTEGERS,
        move |a, b, _| (a as u16).checked_shl(by(b)).unwrap_or(0).into(),
    );
    check(
        "shr.s16 D, A, B",
        [16, 16, 32, 0],
        INTEGERS,
        move |a, b, _| (a as i16 >> by(b).min(15)) as u16 as u64,
    );
}

#[test]
fn funnel_shifts() {
    let both = |a: u64, b: u64| u64::from(b as u32) << 32 | u64::from(a as u32);
    check(
        "shf.l.wrap.b32 D, A, B, C",
        W3,
        &INTEGERS[..20],
        move |a, b, c| u64::from(((both(a, b) << (c & 31)) >> 32) as u32),
    );
    check(
        "shf.r.wrap.b32 D, A, B, C",
        W3,
        &INTEGERS[..20],
        move |a, b, c| u64::from((both(a, b) >> (c & 31)) as u32),
    );
    check(
        "shf.l.clamp.b32 D, A, B, C",
        W3,
        &INTEGERS[..20],
        move |a, b, c| u64::from(((both(a, b) << (c as u32).min(32)) >> 32) as u32),
    );
    check(
        "shf.r.clamp.b32 D, A, B, C",
        W3,
        &INTEGERS[..20],
        move |a, b, c| u64::from((both(a, b) >> (c as u32).min(32)) as u32),
    );
}

#[test]
fn counts_and_positions() {
    let (one, wide) = ([32, 32, 0, 0], [32, 64, 0, 0]);
    check("popc.b32 D, A", one, INTEGERS, |a, _, _| {
        (a as u32).count_ones().into()
    });
    check("popc.b64 D, A", wide, INTEGERS, |a, _, _| {
        a.count_ones().into()
    });
    check("clz.b32 D, A", one, INTEGERS, |a, _, _| {
        (a as u32).leading_zeros().into()
    });
    check("clz.b64 D, A", wide, INTEGERS, |a, _, _| {
        a.leading_zeros().into()
    });
    check("brev.b32 D, A", one, INTEGERS, |a, _, _| {
        (a as u32).reverse_bits().into()
    });
    check("brev.b64 D, A", [64, 64, 0, 0], INTEGERS, |a, _, _| {
        a.reverse_bits()
    });
    let last = |x: u32| 31u32.checked_sub(x.leading_zeros()).unwrap_or(u32::MAX);
    check("bfind.u32 D, A", one, INTEGERS, move |a, _, _| {
        last(a as u32).into()
    });
    check("bfind.s32 D, A", one, INTEGERS, move |a, _, _| {
        last(if (a as i32) < 0 { !a as u32 } else { a as u32 }).into()
    });
    check("bfind.shiftamt.u32 D, A", one, INTEGERS, move |a, _, _| {
        if a as u32 == 0 {
            0xffff_ffff
        } else {
            (31 - last(a as u32)).into()
        }
    });
}

/// The definition of PTX's manual, a bit at a time.
fn extract(signed: bool, width: u32, a: u64, position: u64, length: u64) -> u64 {
    let (position, length) = ((position & 0xff) as u32, (length & 0xff) as u32);
    let bit = |i: u32| a >> i & 1;
    let sign = if !signed || length == 0 {
        0
    } else {
        bit((position + length - 1).min(width - 1))
    };
    (0..width).fold(0, |out, i| {
        let value = if i < length && position + i < width {
            bit(position + i)
        } else {
            sign
        };
        out | value << i
    })
}

#[test]
fn bit_fields() {
    let values = [
        0,
        1,
        4,
        31,
        32,
        33,
        0xff,
        0x100,
        0x8765_4321,
        0xffff_ffff,
        0xfedc_ba98_7654_3210,
    ];
    check("bfe.u32 D, A, B, C", W3, &values, |a, b, c| {
        extract(false, 32, a & 0xffff_ffff, b, c)
    });
    check("bfe.s32 D, A, B, C", W3, &values, |a, b, c| {
        extract(true, 32, a & 0xffff_ffff, b, c)
    });
    // A device and the manual disagree about positions past 255 in 64-bit fields.
    let values = values.map(|value| if value == 0x100 { 0xfe } else { value });
    check(
        "bfe.s64 D, A, B, C",
        [64, 64, 32, 32],
        &values,
        |a, b, c| extract(true, 64, a, b, c),
    );
    for (position, length) in [(0u32, 0u32), (0, 32), (4, 8), (28, 8), (31, 1), (40, 4)] {
        check(
            &format!("bfi.b32 D, A, B, {position}, {length}"),
            W2,
            &values,
            move |a, b, _| {
                (0..32).fold(0, |out, i| {
                    let inside = i >= position && i < position + length;
                    out | (if inside { a >> (i - position) } else { b >> i } & 1) << i
                })
            },
        );
    }
}

#[test]
fn permutations_of_bytes() {
    let selectors = [
        0x3210, 0x0123, 0x7654, 0x5410, 0x7632, 0x8888, 0xfedc, 0x1_2345,
    ];
    for selector in selectors {
        check(
            &format!("prmt.b32 D, A, B, {selector}"),
            W2,
            &INTEGERS[10..],
            move |a, b, _| {
                let bytes = u64::from(b as u32) << 32 | u64::from(a as u32);
                (0..4).fold(0, |out, i| {
                    let pick = selector >> (4 * i) & 15;
                    let byte = bytes >> (8 * (pick & 7)) & 0xff;
                    let byte = match (pick & 8 != 0, byte & 0x80 != 0) {
                        (true, true) => 0xff,
                        (true, false) => 0,
                        _ => byte,
                    };
                    out | byte << (8 * i)
                })
            },
        );
    }
}

#[test]
fn dot_products() {
    check(
        "dp4a.s32.s32 D, A, B, C",
        W3,
        &INTEGERS[10..20],
        |a, b, c| {
            let sum = (0..4).fold(c as i32, |sum, i| {
                sum.wrapping_add(i32::from((a >> (8 * i)) as i8) * i32::from((b >> (8 * i)) as i8))
            });
            sum as u32 as u64
        },
    );
}
