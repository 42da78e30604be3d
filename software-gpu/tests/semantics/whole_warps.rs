//! What lanes do together, vectors in memory, and registers in parts.

use crate::bench::{Case, run};

/// A warp of cases: lane i has a = 100 + i and b = i.
fn warp() -> Vec<Case> {
    (0..32).map(|i| [100 + i, i, 0]).collect()
}

const TWO: [u32; 4] = [32, 32, 32, 0];

#[test]
fn shuffles_by_every_direction_and_width() {
    type From = fn(i64) -> i64;
    for (instruction, from) in [
        ("shfl.sync.bfly.b32 D, A, 5, 31, -1", (|i| i ^ 5) as From),
        ("shfl.sync.down.b32 D, A, 3, 31, -1", |i| {
            if i + 3 < 32 { i + 3 } else { i }
        }),
        ("shfl.sync.up.b32 D, A, 3, 0, -1", |i| {
            if i >= 3 { i - 3 } else { i }
        }),
        ("shfl.sync.idx.b32 D, A, 7, 31, -1", |_| 7),
        // Segments of 8: the mask of the upper 24 lanes' bits, and a clamp of 7.
        ("shfl.sync.down.b32 D, A, 3, 0x1807, -1", |i| {
            if i % 8 + 3 < 8 { i + 3 } else { i }
        }),
        ("shfl.sync.up.b32 D, A, 3, 0x1800, -1", |i| {
            if i % 8 >= 3 { i - 3 } else { i }
        }),
        ("shfl.sync.idx.b32 D, A, 9, 0x1807, -1", |i| i / 8 * 8 + 1),
        ("shfl.sync.bfly.b32 D, A, 16, 0x100f, -1", |i| {
            if i < 16 { i } else { i - 16 }
        }),
    ] {
        let got = run(instruction, TWO, &warp());
        let want: Vec<u64> = (0..32).map(|i| 100 + from(i) as u64).collect();
        assert_eq!(got, want, "{instruction}");
    }
}

/// What a lane takes from one that is not among those that are here is undefined, and so a NaN.
#[test]
fn shuffles_from_lanes_that_are_elsewhere() {
    // The lower half shuffles by itself; some of its lanes take from the upper half, or all do.
    let text = |shuffle: &str| {
        format!(
            "{{ .reg .pred q; mov.u32 D, 7; setp.ge.u32 q, B, 16; @q bra OUT; {shuffle} OUT: }}"
        )
    };
    for (shuffle, distance) in [
        ("shfl.sync.down.b32 D, A, 3, 31, 0xffff;", 3),
        ("shfl.sync.bfly.b32 D, A, 16, 31, 0xffff;", 16),
    ] {
        let got = run(&text(shuffle), TWO, &warp());
        let want: Vec<u64> = (0..16)
            .map(|lane| match lane + distance {
                here @ 0..16 => 100 + here,
                _ => 0xffff_ffff,
            })
            .collect();
        assert_eq!(got[..16], want, "{shuffle}");
        // The others took no part.
        assert_eq!(got[16..], [7; 16]);
    }
}

#[test]
fn votes_matches_and_reductions() {
    let third = |text: &str| {
        run(
            &format!("{{ .reg .pred q; .reg .b32 m; {text} }}"),
            TWO,
            &warp(),
        )
    };
    let mask = (0..32)
        .filter(|i| i % 3 == 0)
        .fold(0u64, |mask, i| mask | 1 << i);
    assert_eq!(
        third("rem.u32 m, B, 3; setp.eq.u32 q, m, 0; vote.sync.ballot.b32 D, q, -1;"),
        [mask; 32]
    );
    assert_eq!(
        third("setp.lt.u32 q, B, 32; vote.sync.all.pred q, q, -1; selp.b32 D, 1, 0, q;"),
        [1; 32]
    );
    assert_eq!(
        third("setp.eq.u32 q, B, 9; vote.sync.any.pred q, q, -1; selp.b32 D, 1, 0, q;"),
        [1; 32]
    );
    assert_eq!(
        third("setp.eq.u32 q, B, 9; vote.sync.uni.pred q, q, -1; selp.b32 D, 1, 0, q;"),
        [0; 32]
    );
    assert_eq!(
        third("redux.sync.add.u32 D, A, -1;"),
        [(0..32).map(|i| 100 + i).sum(); 32]
    );
    assert_eq!(third("redux.sync.min.s32 D, A, -1;"), [100; 32]);
    assert_eq!(
        third("redux.sync.xor.b32 D, B, -1;"),
        [(0..32).fold(0, |all, i| all ^ i); 32]
    );
    let same: Vec<u64> = (0..32u64)
        .map(|i| {
            (0..32)
                .filter(|j| j % 5 == i % 5)
                .fold(0, |mask, j| mask | 1 << j)
        })
        .collect();
    assert_eq!(third("rem.u32 m, B, 5; match.any.sync.b32 D, m, -1;"), same);
    assert_eq!(third("activemask.b32 D;"), [0xffff_ffff; 32]);
}

#[test]
fn lanes_that_part_meet_again() {
    // A loop whose trip count is the lane's number, inside a branch that half of the lanes take.
    let text = "{ .reg .pred q, r; .reg .b32 n, m; mov.u32 n, B; mov.u32 D, 0; and.b32 m, B, 1; \
                setp.eq.u32 q, m, 0; @q bra OUT; \
                AGAIN: setp.eq.u32 r, n, 0; @r bra OUT; add.u32 D, D, n; sub.u32 n, n, 1; bra AGAIN; \
                OUT: activemask.b32 m; add.u32 D, D, m; }";
    let got = run(text, TWO, &warp());
    let want: Vec<u64> = (0..32u64)
        .map(|i| {
            let sum = if i % 2 == 1 { i * (i + 1) / 2 } else { 0 };
            (sum + 0xffff_ffff) & 0xffff_ffff
        })
        .collect();
    assert_eq!(got, want);
}

#[test]
fn registers_in_parts() {
    let text = "{ .reg .b16 lo, hi; mov.b32 {lo, hi}, A; mov.b32 D, {hi, lo}; }";
    assert_eq!(
        run(text, [32, 32, 0, 0], &[[0x1234_5678, 0, 0]]),
        [0x5678_1234]
    );
    let text = "{ .reg .b32 lo, hi; mov.b64 {lo, hi}, A; mov.b64 D, {hi, lo}; }";
    assert_eq!(
        run(text, [64, 64, 0, 0], &[[0x1234_5678_9abc_def0, 0, 0]]),
        [0x9abc_def0_1234_5678]
    );
    let text = "{ .reg .b16 hi; mov.b32 {_, hi}, A; cvt.u32.u16 D, hi; }";
    assert_eq!(run(text, [32, 32, 0, 0], &[[0x1234_5678, 0, 0]]), [0x1234]);
}

#[test]
fn vectors_of_memory_keep_their_order() {
    let text = "{ .local .align 16 .b8 place[16]; .reg .b32 w<4>; .reg .b16 h<4>; \
                st.local.v4.b32 [place], {A, B, A, B}; ld.local.v2.b32 {w0, w1}, [place+8]; \
                st.local.v2.b16 [place], {h0, h1}; ld.local.v4.u8 {w0, w1, w2, w3}, [place+4]; \
                shl.b32 w3, w3, 24; or.b32 D, w3, w0; }";
    // Registers that nothing set are stored and not read again.
    let got = run(text, TWO, &[[0x0403_0201, 0x8877_6655, 0]]);
    assert_eq!(got, [0x8800_0055]);
    let signed =
        "{ .local .align 4 .b8 place[4]; st.local.b32 [place], A; ld.local.s8 D, [place+1]; }";
    assert_eq!(
        run(signed, [32, 32, 0, 0], &[[0x8000, 0, 0], [0x7f00, 0, 0]]),
        [0xffff_ff80, 0x7f]
    );
}

#[test]
fn atomics_on_shared_memory() {
    let on = |instruction: &str, start: u64| {
        let text = format!(
            "{{ .shared .align 8 .b8 word[8]; .reg .pred q; setp.eq.u32 q, B, 0; @q st.shared.u32 [word], {start}; \
             bar.warp.sync -1; {instruction} bar.warp.sync -1; ld.shared.u32 D, [word]; }}"
        );
        let got = run(&text, TWO, &warp());
        assert!(got.iter().all(|value| *value == got[0]), "{instruction}");
        got[0]
    };
    assert_eq!(on("red.shared.add.u32 [word], B;", 5), 5 + 31 * 32 / 2);
    assert_eq!(on("red.shared.max.s32 [word], A;", 0), 131);
    assert_eq!(on("red.shared.or.b32 [word], B;", 64), 95);
    assert_eq!(on("red.shared.inc.u32 [word], 9;", 0), 2);
    assert_eq!(on("red.shared.dec.u32 [word], 9;", 3), 1);
    let sum = f32::from_bits(on(
        "{ .reg .f32 x; cvt.rn.f32.u32 x, B; red.shared.add.f32 [word], x; }",
        0,
    ) as u32);
    assert_eq!(sum, 496.0);
    assert_eq!(
        on(
            "{ .reg .b32 old; atom.shared.cas.b32 old, [word], B, A; }",
            17
        ),
        117
    );
}
