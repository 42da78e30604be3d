//! `cargo run -p layernorm-tests --bin accuracy -- --write` writes docs/accuracy.md; `--check` says whether it is still
//! true. Inputs and PyTorch's numbers are those of `fixtures/torch_layernorm.safetensors`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use layernorm_host::{DType, Device};
use layernorm_tests::check::{self, Results};
use layernorm_tests::data::{Case, round};
use layernorm_tests::suite::torch::{Group, groups};

fn main() -> ExitCode {
    match run(std::env::args().nth(1).as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/accuracy.md")
}

fn run(mode: Option<&str>) -> Result<(), String> {
    let text = page()?;
    let named = |error: std::io::Error| format!("{}: {error}", path().display());
    match mode {
        None => print!("{text}"),
        Some("--write") => std::fs::write(path(), text).map_err(named)?,
        Some("--check") => same(&std::fs::read_to_string(path()).map_err(named)?, &text)?,
        Some(other) => return Err(format!("{other}: allowed are --write, --check, or nothing")),
    }
    Ok(())
}

/// A few of f64's roundings, of which an order of additions has all or none.
const ROUNDINGS: f64 = 4e-15;

/// The texts alike but for numbers, and each number at most twice the other: processors have vectors of different
/// widths, and add in different orders.
fn same(committed: &str, now: &str) -> Result<(), String> {
    let remedy = "cargo run -p layernorm-tests --bin accuracy -- --write";
    let lines = committed.lines().zip(now.lines());
    if committed.lines().count() != now.lines().count() {
        return Err(format!("docs/accuracy.md has other lines: {remedy}"));
    }
    for (committed, now) in lines {
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (old, new) = (words(committed), words(now));
        let alike = |(old, new): (&String, &String)| match (old.parse::<f64>(), new.parse::<f64>())
        {
            _ if old == new => true,
            (Ok(old), Ok(new)) => old <= 2.0 * new && new <= 2.0 * old || old.max(new) <= ROUNDINGS,
            _ => false,
        };
        if old.len() != new.len() || !old.iter().zip(&new).all(alike) {
            return Err(format!(
                "docs/accuracy.md says\n{committed}\nand now it is\n{now}\n{remedy}"
            ));
        }
    }
    Ok(())
}

const HEAD: &str = "# Accuracy

How far y and dx are from float64 as the mean of a row grows beside its standard deviation, which is 1: the largest and
the mean error of 1024 elements, 8 rows of 128. The reference is PyTorch's float64 result on the very same values. Beside
ours are PyTorch's float32 result (on the CPU; `tests/fixtures/README.md` says how it was made), rounded to the dtype, and
y by the one-pass formula in f32, var = E[x^2] - E[x]^2, which is why no kernel here has that.

For f16 and bf16 most of every error is the rounding of the result itself, which is the same for all.

Made by `cargo run -p layernorm-tests --bin accuracy -- --write`, on the software GPU (an H100) and on the CPU. CI holds
the page to it, within a factor of two, since processors' vectors differ in width.
";

fn page() -> Result<String, String> {
    let mut text = HEAD.to_owned();
    let groups = groups()?;
    let (software, cpu) = (
        Device::software(0).map_err(|error| error.to_string())?,
        Device::cpu(),
    );
    for (result, name) in [(0, "y"), (3, "dx")] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let _ = write!(text, "\n## {name}, {dtype}\n\n");
            let one_pass = name == "y";
            let last = if one_pass { " one pass |" } else { "" };
            let _ = writeln!(
                text,
                "| mean / std | software GPU | CPU | PyTorch f32 |{last}"
            );
            let _ = writeln!(
                text,
                "|---|---|---|---|{}",
                if one_pass { "---|" } else { "" }
            );
            let mut of_dtype: Vec<(u32, &Group)> = groups
                .iter()
                .filter(|group| group.case.dtype == dtype)
                .filter_map(|group| {
                    let (mean, _) = group.name.strip_prefix("mean_")?.split_once('.')?;
                    Some((mean.parse().ok()?, group))
                })
                .collect();
            of_dtype.sort_by_key(|(mean, _)| *mean);
            for (mean, group) in of_dtype {
                let want = &group.f64[result];
                let ours = |device: &Device| {
                    let results = check::run(&group.case, &group.inputs, device);
                    let results = results.map_err(|error| error.to_string())?;
                    let Results { y, dx, .. } = results;
                    let tensor = if one_pass { y } else { dx };
                    tensor.to_f64_vec().map_err(|error| error.to_string())
                };
                let torch: Vec<f64> = group.f32[result]
                    .iter()
                    .map(|value| round(*value, dtype))
                    .collect();
                let mut columns = vec![ours(&software)?, ours(&cpu)?, torch];
                if one_pass {
                    columns.push(by_one_pass(group));
                }
                let _ = write!(text, "| {mean} |");
                for column in &columns {
                    let _ = write!(text, " {} |", errors(column, want));
                }
                text.push('\n');
            }
        }
    }
    text.push_str(EVERY_RESULT);
    for (name, device) in [("software GPU", &software), ("CPU", &cpu)] {
        every_result(name, device, &mut text)?;
    }
    Ok(text)
}

const EVERY_RESULT: &str = "
## Every result

The largest error of every result against the suite's float64 formula, of random rows with mean 0.5: 37 rows of 33, 384,
1000, 1023 and 4096 columns, 7 of 8200 and 3 of 16392. An error is a share of the largest term that the result is made
of, in its row or column, since that is what roundings are relative to; the second column is what the suite allows an f32
result. Backward's may be further off by what the mean's own rounding does to them, a 16-bit one by one unit in the last
place, and what is allowed for f64 is 2^-29 of f32's. Each reason is in `tests/src/tolerance.rs`.
";

/// Kernels for short, long and very long rows, aligned and not.
const SHAPES: [(usize, usize); 7] = [
    (37, 33),
    (37, 384),
    (37, 1000),
    (37, 1023),
    (37, 4096),
    (7, 8200),
    (3, 16_392),
];

/// The results, and what an error of each is measured against and may be in f32.
const RESULTS: [(&str, &str); 6] = [
    ("y", "2e-6 of the row's largest term"),
    ("mean", "5e-7 of the row's largest x"),
    ("rstd", "2e-6 of itself"),
    ("dx", "4e-6 of the row's largest term"),
    ("dweight", "2e-6 sqrt(n_rows) of the column's largest term"),
    ("dbias", "2e-6 sqrt(n_rows) of the column's largest term"),
];

fn every_result(name: &str, device: &Device, text: &mut String) -> Result<(), String> {
    let dtypes = [DType::F32, DType::F16, DType::BF16, DType::F64];
    let worst = dtypes.map(|dtype| worst(dtype, device));
    let _ = writeln!(
        text,
        "\n| {name} | allowed in f32 | f32 | f16 | bf16 | f64 |\n|---|---|---|---|---|---|"
    );
    for (at, (result, allowed)) in RESULTS.into_iter().enumerate() {
        let _ = write!(text, "| {result} | {allowed} |");
        for of_dtype in &worst {
            let _ = write!(text, " {:.1e} |", of_dtype.as_ref()?[at]);
        }
        text.push('\n');
    }
    Ok(())
}

/// The largest error of each of the results, as a share of their terms.
fn worst(dtype: DType, device: &Device) -> Result<[f64; 6], String> {
    let mut worst = [0.0f64; 6];
    for (n_rows, n_cols) in SHAPES {
        let case = Case::new(n_rows, n_cols, dtype, dtype);
        let inputs = case.generate();
        let want = check::expected(&case, &inputs);
        let got = check::run(&case, &inputs, device).map_err(|error| error.to_string())?;
        let (Some(dweight), Some(dbias)) = (&got.dweight, &got.dbias) else {
            return Err(format!("{case:?}: a gradient is absent"));
        };
        let root = (n_rows as f64).sqrt();
        let of_row = |terms: &[f64]| (0..n_rows * n_cols).map(|i| terms[i / n_cols]).collect();
        let of_column = |terms: &[f64]| terms.iter().map(|term| root * term).collect();
        let results: [(_, _, Vec<f64>); 6] = [
            (&got.y, &want.y, of_row(&want.y_terms)),
            (&got.mean, &want.mean, want.mean_terms.clone()),
            (&got.rstd, &want.rstd, want.rstd.clone()),
            (&got.dx, &want.dx, of_row(&want.dx_terms)),
            (dweight, &want.dweight, of_column(&want.dweight_terms)),
            (dbias, &want.dbias, of_column(&want.dbias_terms)),
        ];
        for (worst, (got, want, terms)) in worst.iter_mut().zip(results) {
            let got = got.to_f64_vec().map_err(|error| error.to_string())?;
            for ((got, want), terms) in got.iter().zip(want).zip(terms) {
                let share = (got - want).abs() / terms;
                // `max` drops a NaN.
                if share.is_nan() || share > *worst {
                    *worst = share;
                }
            }
        }
    }
    Ok(worst)
}

/// The largest and the mean error.
fn errors(got: &[f64], want: &[f64]) -> String {
    let errors = got.iter().zip(want).map(|(got, want)| (got - want).abs());
    // `max` drops a NaN.
    let largest = errors.clone().fold(0.0f64, |most, error| {
        if error.is_nan() || error > most {
            error
        } else {
            most
        }
    });
    let mean = errors.sum::<f64>() / got.len() as f64;
    format!("{largest:.1e} / {mean:.1e}")
}

/// y with the variance as the difference of two f32 means.
fn by_one_pass(group: &Group) -> Vec<f64> {
    let n = group.case.n_cols;
    let mut y = Vec::new();
    for x in group.inputs.x.chunks(n) {
        let (mut sum, mut squares) = (0.0f32, 0.0f32);
        for &x in x {
            sum += x as f32;
            squares += x as f32 * x as f32;
        }
        let mean = sum / n as f32;
        let rstd = 1.0 / (squares / n as f32 - mean * mean + group.case.eps).sqrt();
        for (c, &x) in x.iter().enumerate() {
            let of = |values: &Option<Vec<f64>>, absent: f32| {
                values.as_ref().map_or(absent, |values| values[c] as f32)
            };
            let value = (x as f32 - mean) * rstd * of(&group.inputs.weight, 1.0)
                + of(&group.inputs.bias, 0.0);
            y.push(round(f64::from(value), group.case.dtype));
        }
    }
    y
}
