//! One instruction on many operands.

use software_gpu::{Gpu, LaunchConfig, Model, Module, Settings};

/// Operands, of which the low bits count.
pub type Case = [u64; 3];

/// A register's width, as PTX names it.
fn width(bits: u32) -> (&'static str, &'static str) {
    match bits {
        1 => (".pred", "p"),
        16 => (".b16", "h"),
        32 => (".b32", "w"),
        64 => (".b64", "l"),
        other => panic!("no register has {other} bits"),
    }
}

/// Runs `instruction`, with `D`, `A`, `B`, `C` for its registers of so many bits (0 for one that it does
/// not have), for each case.
pub fn run(instruction: &str, bits: [u32; 4], cases: &[Case]) -> Vec<u64> {
    run_with(instruction, bits, cases, None)
}

/// As [`run`], with results that are this number before.
pub fn run_over(instruction: &str, bits: [u32; 4], cases: &[Case], before: u64) -> Vec<u64> {
    run_with(instruction, bits, cases, Some(before))
}

fn run_with(instruction: &str, bits: [u32; 4], cases: &[Case], before: Option<u64>) -> Vec<u64> {
    let mut body = String::new();
    let names = ["D", "A", "B", "C"];
    let mut text = instruction.to_string();
    for (i, bits) in bits.into_iter().enumerate().filter(|(_, bits)| *bits != 0) {
        let (ty, prefix) = width(bits);
        body += &format!("\t.reg {ty} %{prefix}{};\n", names[i]);
        // Operands stand alone: `A` is not part of a word.
        text = text
            .split_inclusive(|c: char| !c.is_ascii_alphanumeric())
            .map(|word| match word.strip_prefix(names[i]) {
                Some(rest)
                    if rest.len() <= 1
                        && !rest.starts_with(|c: char| c.is_ascii_alphanumeric()) =>
                {
                    format!("%{prefix}{}{rest}", names[i])
                }
                _ => word.to_string(),
            })
            .collect();
    }
    let mut loads = String::new();
    for (i, bits) in bits
        .into_iter()
        .enumerate()
        .skip(1)
        .filter(|(_, bits)| *bits != 0)
    {
        let (_, prefix) = width(bits);
        let register = format!("%{prefix}{}", names[i]);
        let offset = 8 * (i - 1);
        loads += &format!("\tld.global.u64 %v, [%at+{offset}];\n");
        loads += &match bits {
            1 => format!("\tsetp.ne.u64 {register}, %v, 0;\n"),
            64 => format!("\tmov.b64 {register}, %v;\n"),
            bits => format!("\tcvt.u{bits}.u64 {register}, %v;\n"),
        };
    }
    let (_, prefix) = width(bits[0]);
    let store = match bits[0] {
        1 => "\tselp.b64 %v, 1, 0, %pD;\n".to_string(),
        64 => "\tmov.b64 %v, %lD;\n".to_string(),
        bits => format!("\tcvt.u64.u{bits} %v, %{prefix}D;\n"),
    };
    let end = if text.ends_with('}') { "" } else { ";" };
    let ptx = format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n\
         .visible .entry k(.param .u64 cases, .param .u64 out, .param .u32 count)\n{{\n{body}\
         \t.reg .pred %over;\n\t.reg .b32 %i, %n;\n\t.reg .b64 %at, %to, %by, %v;\n\
         \tmov.u32 %i, %tid.x;\n\tmov.u32 %n, %ctaid.x;\n\tmad.lo.u32 %i, %n, 128, %i;\n\
         \tld.param.u32 %n, [count];\n\tsetp.ge.u32 %over, %i, %n;\n\t@%over ret;\n\
         \tld.param.u64 %at, [cases];\n\tmul.wide.u32 %by, %i, 24;\n\tadd.s64 %at, %at, %by;\n\
         {loads}\t{text}{end}\n{store}\
         \tld.param.u64 %to, [out];\n\tmul.wide.u32 %by, %i, 8;\n\tadd.s64 %to, %to, %by;\n\
         \tst.global.u64 [%to], %v;\n\tret;\n}}\n"
    );
    let gpu = Gpu::with_settings(Model::h100(), Settings::default());
    let module = match Module::load(ptx.as_bytes(), &gpu) {
        Ok(module) => module,
        Err(error) => panic!("{error}\n{ptx}"),
    };
    let data: Vec<u8> = cases
        .iter()
        .flatten()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let (from, to) = (
        gpu.alloc(data.len() as u64).unwrap(),
        gpu.alloc(8 * cases.len() as u64).unwrap(),
    );
    gpu.write(from, &data).unwrap();
    if let Some(before) = before {
        gpu.write(to, &before.to_le_bytes().repeat(cases.len()))
            .unwrap();
    }
    let mut params = Vec::new();
    params.extend_from_slice(&from.to_le_bytes());
    params.extend_from_slice(&to.to_le_bytes());
    params.extend_from_slice(&(cases.len() as u32).to_le_bytes());
    let config = LaunchConfig {
        grid: [cases.len().div_ceil(128) as u32, 1, 1],
        block: [128, 1, 1],
        dynamic_shared: 0,
    };
    if let Err(fault) = gpu.launch(&module.kernel("k").unwrap(), &config, &params) {
        panic!("{instruction}: {fault}");
    }
    let mut out = vec![0; 8 * cases.len()];
    gpu.read(to, &mut out).unwrap();
    out.as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes))
        .collect()
}

/// Every combination of the values for the operands that there are.
pub fn combinations(operands: u32, values: &[u64]) -> Vec<Case> {
    let n = values.len();
    (0..n.pow(operands))
        .map(|i| std::array::from_fn(|place| values[i / n.pow(place as u32) % n]))
        .collect()
}

/// Runs the instruction over all combinations and compares bit for bit.
pub fn check(
    instruction: &str,
    bits: [u32; 4],
    values: &[u64],
    expected: impl Fn(u64, u64, u64) -> u64,
) {
    let operands = bits[1..].iter().filter(|bits| **bits != 0).count() as u32;
    let cases = combinations(operands, values);
    // All at once, so most warps are full; and a few alone, so one is not.
    for cases in [
        &cases[..],
        &cases[cases.len() / 2..][..1],
        &cases[..cases.len().min(37)],
    ] {
        for (case, got) in cases.iter().zip(run(instruction, bits, cases)) {
            let [a, b, c] = *case;
            let want = expected(a, b, c);
            assert_eq!(
                got, want,
                "{instruction} of {a:#x}, {b:#x}, {c:#x}: {got:#x} instead of {want:#x}"
            );
        }
    }
}

/// Values of f32: zeros, ones, denormals, the ends of the range, infinities, NaNs, halves.
pub const F32: &[u64] = &[
    0x0000_0000,
    0x8000_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x0000_0001,
    0x807f_ffff,
    0x0080_0000,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc1_2345,
    0x3f00_0000,
    0x4020_0000,
    0xc0e0_0000,
    0x3eaa_aaab,
    0x4b00_0001,
    0x5f00_0000,
    0x4f80_0000,
    0x3380_0000,
];

/// The same for f64.
pub const F64: &[u64] = &[
    0,
    1 << 63,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    1,
    0x000f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0x3fd5_5555_5555_5555,
    0x4340_0000_0000_0001,
    0x41df_ffff_ffc0_0000,
    0xc1e0_0000_0020_0000,
];

/// Integers, of which an operand's low bits count.
pub const INTEGERS: &[u64] = &[
    0,
    1,
    2,
    3,
    7,
    31,
    32,
    33,
    63,
    64,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x1234_5678,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x0123_4567_89ab_cdef,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// The f32 result as the device gives it: all NaNs are one.
pub fn f32_bits(x: f32) -> u64 {
    if x.is_nan() {
        0x7fff_ffff
    } else {
        x.to_bits().into()
    }
}

pub fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

pub fn d(bits: u64) -> f64 {
    f64::from_bits(bits)
}
