//! Straight-line programs that nobody wrote, against an evaluation of one thread's registers written apart:
//! what single instructions do, `semantics` tests; here it is registers that share a slot, guards, results
//! that are operands again, and warps that are not full.

use proptest::prelude::*;
use software_gpu::{Gpu, LaunchConfig, Model, Module, Settings};

/// 32-bit registers, 64-bit registers and predicates of a program.
const WORDS: usize = 6;
const WIDE: usize = 3;
const PREDICATES: usize = 3;

/// What a thread has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thread {
    r: [u32; WORDS],
    d: [u64; WIDE],
    p: [bool; PREDICATES],
}

/// An instruction: which, on which registers, under which guard.
#[derive(Clone, Debug)]
struct Step {
    what: usize,
    /// Indices into whichever file the operand is of, taken modulo its size.
    d: usize,
    a: usize,
    b: usize,
    c: usize,
    guard: Option<(usize, bool)>,
}

/// A result of the instruction for operands of a file.
#[derive(Clone, Copy)]
enum What {
    Word(&'static str, fn(u32, u32, u32) -> u32),
    Wide(&'static str, fn(u64, u64, u64) -> u64),
    /// From words to a wide register.
    Widen(&'static str, fn(u32, u32) -> u64),
    /// From a wide register to a word.
    Narrow(&'static str, fn(u64) -> u32),
    Compare(&'static str, fn(u32, u32) -> bool),
    CompareWide(&'static str, fn(u64, u64) -> bool),
    /// d = p ? a : b
    Select,
    /// d = d shifted by a word.
    ShiftWide(&'static str, fn(u64, u32) -> u64),
}

fn float(x: f32) -> u32 {
    if x.is_nan() { 0x7fff_ffff } else { x.to_bits() }
}

fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

fn minimum(a: u32, b: u32) -> u32 {
    match (f(a).is_nan(), f(b).is_nan()) {
        (true, true) => 0x7fff_ffff,
        (true, false) => b,
        (false, true) => a,
        // -0 is less than 0.
        _ if f(a) == f(b) => a | b,
        _ => {
            if f(a) < f(b) {
                a
            } else {
                b
            }
        }
    }
}

use What::*;

/// `D`, `A`, `B`, `C` stand for the registers.
const INSTRUCTIONS: &[What] = &[
    Word("add.s32 D, A, B", |a, b, _| a.wrapping_add(b)),
    Word("sub.s32 D, A, B", |a, b, _| a.wrapping_sub(b)),
    Word("mul.lo.s32 D, A, B", |a, b, _| a.wrapping_mul(b)),
    Word("mul.hi.u32 D, A, B", |a, b, _| {
        ((u64::from(a) * u64::from(b)) >> 32) as u32
    }),
    Word("mul.hi.s32 D, A, B", |a, b, _| {
        ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32
    }),
    Word("mad.lo.u32 D, A, B, C", |a, b, c| {
        a.wrapping_mul(b).wrapping_add(c)
    }),
    Word("min.s32 D, A, B", |a, b, _| (a as i32).min(b as i32) as u32),
    Word("max.u32 D, A, B", |a, b, _| a.max(b)),
    Word("and.b32 D, A, B", |a, b, _| a & b),
    Word("or.b32 D, A, B", |a, b, _| a | b),
    Word("xor.b32 D, A, B", |a, b, _| a ^ b),
    Word("not.b32 D, A", |a, _, _| !a),
    Word("shl.b32 D, A, B", |a, b, _| a.checked_shl(b).unwrap_or(0)),
    Word("shr.u32 D, A, B", |a, b, _| a.checked_shr(b).unwrap_or(0)),
    Word("shr.s32 D, A, B", |a, b, _| (a as i32 >> b.min(31)) as u32),
    Word("popc.b32 D, A", |a, _, _| a.count_ones()),
    Word("clz.b32 D, A", |a, _, _| a.leading_zeros()),
    Word("brev.b32 D, A", |a, _, _| a.reverse_bits()),
    Word("lop3.b32 D, A, B, C, 0x96", |a, b, c| a ^ b ^ c),
    Word("mov.b32 D, A", |a, _, _| a),
    Word("mov.b32 D, 0x3f800000", |_, _, _| 0x3f80_0000),
    Word("add.s32 D, A, -7", |a, _, _| a.wrapping_sub(7)),
    Word("add.rn.f32 D, A, B", |a, b, _| float(f(a) + f(b))),
    Word("sub.rn.f32 D, A, B", |a, b, _| float(f(a) - f(b))),
    Word("mul.rn.f32 D, A, B", |a, b, _| float(f(a) * f(b))),
    Word("fma.rn.f32 D, A, B, C", |a, b, c| {
        float(f(a).mul_add(f(b), f(c)))
    }),
    Word("min.f32 D, A, B", |a, b, _| minimum(a, b)),
    Word("div.rn.f32 D, A, B", |a, b, _| float(f(a) / f(b))),
    Word("sqrt.rn.f32 D, A", |a, _, _| float(f(a).sqrt())),
    Word("cvt.rn.f32.s32 D, A", |a, _, _| (a as i32 as f32).to_bits()),
    Word("cvt.rzi.s32.f32 D, A", |a, _, _| f(a) as i32 as u32),
    Word("cvt.rni.u32.f32 D, A", |a, _, _| {
        f(a).round_ties_even() as u32
    }),
    Wide("add.s64 D, A, B", |a, b, _| a.wrapping_add(b)),
    Wide("sub.u64 D, A, B", |a, b, _| a.wrapping_sub(b)),
    Wide("mul.lo.u64 D, A, B", |a, b, _| a.wrapping_mul(b)),
    Wide("mad.lo.s64 D, A, B, C", |a, b, c| {
        a.wrapping_mul(b).wrapping_add(c)
    }),
    Wide("xor.b64 D, A, B", |a, b, _| a ^ b),
    Wide("max.s64 D, A, B", |a, b, _| (a as i64).max(b as i64) as u64),
    Widen("mul.wide.u32 D, A, B", |a, b| u64::from(a) * u64::from(b)),
    Widen("mul.wide.s32 D, A, B", |a, b| {
        (i64::from(a as i32) * i64::from(b as i32)) as u64
    }),
    Widen("cvt.u64.u32 D, A", |a, _| a.into()),
    Widen("cvt.s64.s32 D, A", |a, _| a as i32 as u64),
    Widen("mov.b64 D, {A, B}", |a, b| {
        u64::from(b) << 32 | u64::from(a)
    }),
    Narrow("cvt.u32.u64 D, A", |a| a as u32),
    Narrow("popc.b64 D, A", u64::count_ones),
    Narrow("clz.b64 D, A", u64::leading_zeros),
    Compare("setp.lt.s32 D, A, B", |a, b| (a as i32) < b as i32),
    Compare("setp.ge.u32 D, A, B", |a, b| a >= b),
    Compare("setp.eq.f32 D, A, B", |a, b| f(a) == f(b)),
    Compare("setp.ltu.f32 D, A, B", |a, b| {
        f(a) < f(b) || f(a).is_nan() || f(b).is_nan()
    }),
    CompareWide("setp.ne.s64 D, A, B", |a, b| a != b),
    CompareWide("setp.gt.u64 D, A, B", |a, b| a > b),
    Select,
    ShiftWide("shl.b64 D, A, B", |a, b| a.checked_shl(b).unwrap_or(0)),
    ShiftWide("shr.s64 D, A, B", |a, b| (a as i64 >> b.min(63)) as u64),
];

impl Step {
    fn word(index: usize) -> (String, usize) {
        (format!("%r{}", index % WORDS), index % WORDS)
    }

    fn wide(index: usize) -> (String, usize) {
        (format!("%d{}", index % WIDE), index % WIDE)
    }

    fn predicate(index: usize) -> (String, usize) {
        (format!("%p{}", index % PREDICATES), index % PREDICATES)
    }

    fn text(&self) -> String {
        type File = fn(usize) -> (String, usize);
        let (w, l, p): (File, File, File) = (Step::word, Step::wide, Step::predicate);
        let (text, [d, a, b]): (&str, [File; 3]) = match INSTRUCTIONS[self.what] {
            Word(text, _) => (text, [w, w, w]),
            Wide(text, _) => (text, [l, l, l]),
            Widen(text, _) => (text, [l, w, w]),
            Narrow(text, _) => (text, [w, l, l]),
            Compare(text, _) => (text, [p, w, w]),
            CompareWide(text, _) => (text, [p, l, l]),
            Select => ("selp.b32 D, A, B, C", [w, w, w]),
            ShiftWide(text, _) => (text, [l, l, w]),
        };
        let c = match INSTRUCTIONS[self.what] {
            Select => p,
            Wide(..) => l,
            _ => w,
        };
        let mut out = match self.guard {
            None => String::new(),
            Some((index, true)) => format!("@!{} ", p(index).0),
            Some((index, false)) => format!("@{} ", p(index).0),
        };
        for letter in text.chars() {
            out += &match letter {
                'D' => d(self.d).0,
                'A' => a(self.a).0,
                'B' => b(self.b).0,
                'C' => c(self.c).0,
                other => other.to_string(),
            };
        }
        out + ";"
    }

    fn apply(&self, thread: &mut Thread) {
        if let Some((index, negated)) = self.guard
            && thread.p[index % PREDICATES] == negated
        {
            return;
        }
        let (w, l) = (|i: usize| i % WORDS, |i: usize| i % WIDE);
        let (d, a, b, c) = (self.d, self.a, self.b, self.c);
        let Thread { r, d: wide, p } = thread;
        match INSTRUCTIONS[self.what] {
            Word(_, of) => r[w(d)] = of(r[w(a)], r[w(b)], r[w(c)]),
            Wide(_, of) => wide[l(d)] = of(wide[l(a)], wide[l(b)], wide[l(c)]),
            Widen(_, of) => wide[l(d)] = of(r[w(a)], r[w(b)]),
            Narrow(_, of) => r[w(d)] = of(wide[l(a)]),
            Compare(_, of) => p[d % PREDICATES] = of(r[w(a)], r[w(b)]),
            CompareWide(_, of) => p[d % PREDICATES] = of(wide[l(a)], wide[l(b)]),
            Select => r[w(d)] = if p[c % PREDICATES] { r[w(a)] } else { r[w(b)] },
            ShiftWide(_, of) => wide[l(d)] = of(wide[l(a)], r[w(b)]),
        }
    }
}

/// 8 bytes for each register: the words, the wide ones, then the predicates.
const SLOTS: usize = WORDS + WIDE + PREDICATES;

fn kernel(steps: &[Step]) -> String {
    let mut text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 data)\n{{\n\
         .reg .b32 %r<{WORDS}>, %t;\n.reg .b64 %d<{WIDE}>, %at, %v;\n.reg .pred %p<{PREDICATES}>;\n\
         ld.param.u64 %at, [data];\nmov.u32 %t, %tid.x;\nmul.wide.u32 %v, %t, {};\nadd.s64 %at, %at, %v;\n",
        8 * SLOTS
    );
    for i in 0..WORDS {
        text += &format!("ld.global.u32 %r{i}, [%at+{}];\n", 8 * i);
    }
    for i in 0..WIDE {
        text += &format!("ld.global.u64 %d{i}, [%at+{}];\n", 8 * (WORDS + i));
    }
    for i in 0..PREDICATES {
        let at = 8 * (WORDS + WIDE + i);
        text += &format!("ld.global.u32 %t, [%at+{at}];\nsetp.ne.u32 %p{i}, %t, 0;\n");
    }
    for step in steps {
        text += &step.text();
        text += "\n";
    }
    for i in 0..WORDS {
        text += &format!(
            "cvt.u64.u32 %v, %r{i};\nst.global.u64 [%at+{}], %v;\n",
            8 * i
        );
    }
    for i in 0..WIDE {
        text += &format!("st.global.u64 [%at+{}], %d{i};\n", 8 * (WORDS + i));
    }
    for i in 0..PREDICATES {
        let at = 8 * (WORDS + WIDE + i);
        text += &format!("selp.b64 %v, 1, 0, %p{i};\nst.global.u64 [%at+{at}], %v;\n");
    }
    text + "ret;\n}\n"
}

/// What the device makes of the threads.
fn run(text: &str, threads: &[Thread]) -> Vec<Thread> {
    let gpu = Gpu::with_settings(Model::h100(), Settings::default());
    let module =
        Module::load(text.as_bytes(), &gpu).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let words = |thread: &Thread| {
        let r = thread.r.iter().map(|word| u64::from(*word));
        let p = thread.p.iter().map(|p| u64::from(*p));
        r.chain(thread.d).chain(p).collect::<Vec<u64>>()
    };
    let data: Vec<u8> = threads
        .iter()
        .flat_map(words)
        .flat_map(u64::to_le_bytes)
        .collect();
    let at = gpu.alloc(data.len() as u64).unwrap();
    gpu.write(at, &data).unwrap();
    let config = LaunchConfig {
        grid: [1; 3],
        block: [threads.len() as u32, 1, 1],
        dynamic_shared: 0,
    };
    if let Err(fault) = gpu.launch(&module.kernel("k").unwrap(), &config, &at.to_le_bytes()) {
        panic!("{fault}\n{text}");
    }
    let mut out = vec![0; data.len()];
    gpu.read(at, &mut out).unwrap();
    let words: Vec<u64> = out
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .collect();
    words
        .chunks(SLOTS)
        .map(|words| Thread {
            r: std::array::from_fn(|i| words[i] as u32),
            d: std::array::from_fn(|i| words[WORDS + i]),
            p: std::array::from_fn(|i| words[WORDS + WIDE + i] != 0),
        })
        .collect()
}

/// Numbers of which many are special, as words and as floats.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0..64u32,
        any::<i8>().prop_map(|x| f32::from(x).to_bits()),
        prop::sample::select(
            &[
                0,
                1,
                31,
                32,
                0x7fff_ffff,
                0x8000_0000,
                0xffff_ffff,
                0x3f80_0000,
                0x7f80_0000,
                0xff80_0000,
                0x7fc0_0000,
                0x7f7f_ffff,
                0x0080_0000,
                0x007f_ffff,
                0x4f00_0000,
                0xcf00_0000,
            ][..]
        ),
    ]
}

fn thread() -> impl Strategy<Value = Thread> {
    let wide = prop_oneof![any::<u64>(), word().prop_map(|word| word as i32 as u64)];
    (
        prop::array::uniform6(word()),
        prop::array::uniform3(wide),
        prop::array::uniform3(any::<bool>()),
    )
        .prop_map(|(r, d, p)| Thread { r, d, p })
}

fn step() -> impl Strategy<Value = Step> {
    let guard = prop::option::weighted(0.3, (0..PREDICATES, any::<bool>()));
    (
        0..INSTRUCTIONS.len(),
        0..6usize,
        0..6usize,
        0..6usize,
        0..6usize,
        guard,
    )
        .prop_map(|(what, d, a, b, c, guard)| Step {
            what,
            d,
            a,
            b,
            c,
            guard,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_program_is_what_a_thread_makes_of_it(
        steps in prop::collection::vec(step(), 1..50),
        threads in prop::collection::vec(thread(), 1..70),
    ) {
        let text = kernel(&steps);
        let got = run(&text, &threads);
        for (number, (thread, got)) in threads.iter().zip(&got).enumerate() {
            let mut expected = thread.clone();
            steps.iter().for_each(|step| step.apply(&mut expected));
            prop_assert_eq!(got, &expected, "thread {} of {}\n{}", number, threads.len(), text);
        }
    }
}

/// Each instruction is in some program: none is listed that the device never ran.
#[test]
fn every_instruction_alone() {
    let thread = Thread {
        r: [1, 2, 3, 0x4000_0000, 0x4040_0000, 40],
        d: [1, u64::MAX, 1 << 40],
        p: [true, false, true],
    };
    for what in 0..INSTRUCTIONS.len() {
        let step = Step {
            what,
            d: 2,
            a: 0,
            b: 1,
            c: 2,
            guard: None,
        };
        let mut expected = thread.clone();
        step.apply(&mut expected);
        let got = run(
            &kernel(std::slice::from_ref(&step)),
            std::slice::from_ref(&thread),
        );
        assert_eq!(got[0], expected, "{}", step.text());
    }
}
