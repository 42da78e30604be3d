//! `layernorm verify`: Unsloth's own test of a LayerNorm, on any device, against float64.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressStyle};
use layernorm_host::verify::{Report, Test, UNSLOTH_DISTANCE};
use layernorm_host::{DType, Device, Result};
use serde_json::{Value, json};

use super::DeviceName;

/// Run Unsloth's own test of its LayerNorm: random activations, forward and backward, against float64.
///
/// Each result is shown as its largest error's share of what is allowed to that element: 1.00 would just
/// pass. dx's Euclidean distance over the whole tensor is what Unsloth's own test looks at; it allows 0.1.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    /// All 36 tests of Unsloth's suite: dim 512, 1024, 2048; f16, bf16; seqlen 3341, 2048, 349; two seeds.
    #[arg(long, conflicts_with_all = ["dim", "eps", "dtype", "bsz", "random_state", "seqlen"])]
    suite: bool,
    /// Columns, the hidden size.
    #[arg(long, default_value_t = Test::default().dim, value_parser = columns)]
    dim: usize,
    /// Added to the variance.
    #[arg(long, default_value_t = Test::default().eps, allow_negative_numbers = true)]
    eps: f32,
    /// f32, f16, bf16 or f64.
    #[arg(long, default_value = Test::default().dtype.name(), value_parser = dtype)]
    dtype: DType,
    /// x's first dimension.
    #[arg(long, default_value_t = Test::default().bsz)]
    bsz: usize,
    /// The seed of the random values.
    #[arg(long, default_value_t = Test::default().random_state)]
    random_state: u64,
    /// x's second dimension.
    #[arg(long, default_value_t = Test::default().seqlen)]
    seqlen: usize,
    /// auto (the GPU if there is one, else software), cuda, software, cpu; cuda:1 is the second GPU.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  layernorm verify                                  one test, as Unsloth's file runs it by default
  layernorm verify --suite --device cuda
  layernorm verify --device cpu --dim 4099 --dtype f32 --bsz 4 --seqlen 100 --json
Exit code 3: a test did not pass.";

fn dtype(text: &str) -> std::result::Result<DType, String> {
    let known = DType::ALL.into_iter().find(|dtype| dtype.name() == text);
    known.ok_or_else(|| {
        let names: Vec<_> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
        format!("allowed: {}", names.join(", "))
    })
}

fn columns(text: &str) -> std::result::Result<usize, String> {
    let columns = text.parse().ok().filter(|columns| *columns > 0);
    columns.ok_or_else(|| "allowed: a number of columns, at least 1".to_owned())
}

impl Verify {
    /// Gives what is to be printed, and the exit code: 3 where a test did not pass.
    pub fn run(self) -> Result<(String, ExitCode)> {
        let device = self.device.open()?;
        let tests = if self.suite {
            Test::suite()
        } else {
            vec![Test {
                dim: self.dim,
                eps: self.eps,
                dtype: self.dtype,
                bsz: self.bsz,
                random_state: self.random_state,
                seqlen: self.seqlen,
            }]
        };
        let start = Instant::now();
        // On stderr, and on a terminal alone.
        let progress = ProgressBar::new(tests.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} {elapsed} {msg}") {
            progress.set_style(style);
        }
        progress.enable_steady_tick(Duration::from_millis(200));
        let mut reports = Vec::new();
        for test in &tests {
            progress.set_message(describe(test));
            reports.push(test.run(&device)?);
            progress.inc(1);
        }
        progress.finish_and_clear();
        let passed = reports.iter().filter(|report| report.passed()).count();
        let text = if self.json {
            to_json(&device, &reports, start.elapsed())
        } else {
            to_table(&device, &reports, start.elapsed())
        };
        let code = if passed == reports.len() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(super::WRONG)
        };
        Ok((text, code))
    }
}

fn describe(test: &Test) -> String {
    format!(
        "[{}, {}, {}] {}, seed {}",
        test.bsz, test.seqlen, test.dim, test.dtype, test.random_state
    )
}

fn to_table(device: &Device, reports: &[Report], took: Duration) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let results = reports.first().map_or(&[][..], |report| &report.errors);
    let mut header = vec!["x".to_owned()];
    header.extend(results.iter().map(|error| error.tensor.to_owned()));
    header.extend(["dx distance".to_owned(), String::new()]);
    let columns = header.len();
    table.set_header(header);
    for report in reports {
        let mut row = vec![describe(&report.test)];
        let errors = report.errors.iter();
        row.extend(errors.map(|error| format!("{:.2}", error.of_bound)));
        row.push(format!("{:.1e}", report.dx_distance));
        row.push(if report.passed() { "passed" } else { "FAILED" }.to_owned());
        table.add_row(row);
    }
    for column in 1..columns - 1 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    let _ = writeln!(text, "device {device}: {}", device.name());
    let _ = writeln!(text, "{table}");
    let count = |which: fn(&Report) -> bool| reports.iter().filter(|report| which(report)).count();
    let _ = writeln!(
        text,
        "An error is the largest share of what its element is allowed: 1.00 would just pass.\n\
         {} of {} passed, {} with a dx distance within Unsloth's {UNSLOTH_DISTANCE}, in {:.1} s",
        count(Report::passed),
        reports.len(),
        count(Report::within_unsloths),
        took.as_secs_f64()
    );
    text
}

fn to_json(device: &Device, reports: &[Report], took: Duration) -> String {
    let report = |report: &Report| {
        let errors = report.errors.iter().map(|error| {
            let numbers = json!({ "largest": error.largest, "of_bound": error.of_bound });
            (error.tensor.to_owned(), numbers)
        });
        json!({
            "dim": report.test.dim,
            "eps": report.test.eps,
            "dtype": report.test.dtype.name(),
            "bsz": report.test.bsz,
            "random_state": report.test.random_state,
            "seqlen": report.test.seqlen,
            "errors": Value::Object(errors.collect()),
            "dx_distance": report.dx_distance,
            "within_unsloths": report.within_unsloths(),
            "device_seconds": report.device_time.as_secs_f64(),
            "passed": report.passed(),
        })
    };
    let all = json!({
        "device": device.to_string(),
        "device_name": device.name(),
        "image": device.image_target(),
        "seconds": took.as_secs_f64(),
        "passed": reports.iter().all(Report::passed),
        "unsloths_distance": UNSLOTH_DISTANCE,
        "tests": reports.iter().map(report).collect::<Vec<_>>(),
    });
    format!("{all:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dtypes_have_names() {
        assert_eq!(dtype("bf16"), Ok(DType::BF16));
        assert!(dtype("fp16").unwrap_err().contains("f16"));
    }

    #[test]
    fn the_table_says_which_test_failed() {
        let test = Test {
            dim: 64,
            bsz: 1,
            seqlen: 3,
            ..Test::default()
        };
        let mut reports = [test, test].map(|test| test.run(&Device::cpu()).unwrap());
        reports[1].errors[0].of_bound = f64::NAN;
        let text = to_table(&Device::cpu(), &reports, Duration::from_secs(1));
        assert!(text.contains("1 of 2 passed"), "{text}");
        assert_eq!(text.matches("FAILED").count(), 1, "{text}");
        let json: Value =
            serde_json::from_str(&to_json(&Device::cpu(), &reports, Duration::ZERO)).unwrap();
        assert_eq!(json["passed"], false);
        assert_eq!(json["tests"][0]["passed"], true);
        assert!(json["tests"][1]["errors"]["y"]["of_bound"].is_null());
    }
}
