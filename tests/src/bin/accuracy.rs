//! `cargo run -p layernorm-tests --bin accuracy -- --write` writes docs/accuracy.md; `--check` says whether it is still
//! true. Inputs and PyTorch's numbers are those of `fixtures/torch_layernorm.safetensors`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use layernorm_host::{DType, Device};
use layernorm_tests::check::{self, Results};
use layernorm_tests::data::round;
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
            (Ok(old), Ok(new)) => old <= 2.0 * new && new <= 2.0 * old,
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
    Ok(text)
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
