//! `layernorm bench` as a user and a script meet it: the table, the files, what goes where.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Where cargo built the tool, or on a machine to which the tests were carried without it, where the
/// environment says that it lies.
fn tool() -> OsString {
    let built = env!("CARGO_BIN_EXE_layernorm");
    std::env::var_os("CARGO_BIN_EXE_layernorm").unwrap_or_else(|| built.into())
}

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(tool());
    command.arg("bench").args(arguments);
    if !arguments.contains(&"--time") {
        command.args(["--time", "0"]);
    }
    command.output().expect("the tool starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of this test is UTF-8")
}

/// A CSV text's header and rows.
fn rows(text: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader
        .headers()
        .unwrap()
        .iter()
        .map(str::to_owned)
        .collect();
    let fields = |row: csv::StringRecord| row.iter().map(str::to_owned).collect();
    let rows = reader.records().map(|row| fields(row.unwrap())).collect();
    (header, rows)
}

#[test]
fn every_figure_is_in_every_file() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let output = bench(&[
        "--device",
        "software",
        "--shapes",
        "5x96,2x3x40",
        "--dtype",
        "f32,bf16,f64",
        "--weight-dtype",
        "same,f32",
        "--json",
        path(&file("out.json")),
        "--csv",
        path(&file("out.csv")),
        "--csv-liger",
        path(&file("liger.csv")),
        "--plot",
        path(&file("out.svg")),
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        stderr(&output),
        "",
        "no progress where there is no terminal"
    );
    let table = stdout(&output);
    assert!(
        table.contains("say nothing about the speed of a GPU"),
        "{table}"
    );
    assert!(!table.contains('\x1b'), "{table}");

    // 2 shapes, by f32 and f64 with their own weight and bf16 with both, by a copy and three passes.
    let figures = 2 * 4 * 4;
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(file("out.json")).unwrap()).unwrap();
    assert_eq!(json["measures_the_device"], false);
    assert_eq!(json["eps"], 1e-5);
    let of_json = json["rows"].as_array().unwrap();
    assert_eq!(of_json.len(), figures);
    for row in of_json {
        let micros = ["p20_us", "p50_us", "p80_us"].map(|key| row[key].as_f64().unwrap());
        assert!(
            0.0 < micros[0] && micros[0] <= micros[1] && micros[1] <= micros[2],
            "{row}"
        );
        let (n_rows, n_cols) = (
            row["n_rows"].as_u64().unwrap(),
            row["n_cols"].as_u64().unwrap(),
        );
        assert!([(5, 96), (6, 40)].contains(&(n_rows, n_cols)), "{row}");
        let tensors = match row["pass"].as_str().unwrap() {
            "copy" | "forward" => 2,
            "backward" => 3,
            "both" => 5,
            other => panic!("{other}"),
        };
        let size = match row["dtype"].as_str().unwrap() {
            "f64" => 8,
            "f32" => 4,
            _ => 2,
        };
        let bytes = tensors * n_rows * n_cols * size;
        assert_eq!(row["bytes"], bytes, "{row}");
        let rate = bytes as f64 / micros[1] / 1e3;
        assert!(
            (row["gb_per_s"].as_f64().unwrap() / rate - 1.0).abs() < 1e-6,
            "{row}"
        );
        // A share of the copy's rate would look like a measurement.
        assert!(row["share_of_copy"].is_null(), "{row}");
        if row["pass"] != "copy" {
            let error = row["error"]["dx"].as_f64().unwrap();
            assert!(error > 0.0 && error < 4e-3, "{row}");
        }
    }

    let (header, of_csv) = rows(&fs::read_to_string(file("out.csv")).unwrap());
    assert_eq!(of_csv.len(), figures);
    assert_eq!(
        header[2..7],
        ["pass", "n_rows", "n_cols", "dtype", "weight_dtype"]
    );

    let (header, of_liger) = rows(&fs::read_to_string(file("liger.csv")).unwrap());
    assert_eq!(
        header.join(","),
        "kernel_name,kernel_provider,kernel_operation_mode,metric_name,metric_unit,x_name,x_label,x_value,\
         y_value_50,y_value_20,y_value_80,extra_benchmark_config_str,gpu_name,timestamp,liger_version"
    );
    assert_eq!(of_liger.len(), figures);
    for (liger, json) in of_liger.iter().zip(of_json) {
        let milliseconds: f64 = liger[8].parse().unwrap();
        assert!(
            (milliseconds * 1e3 - json["p50_us"].as_f64().unwrap()).abs() < 1e-2,
            "{liger:?}"
        );
        let config: serde_json::Value = serde_json::from_str(&liger[11]).unwrap();
        assert_eq!(config["n_rows"], json["n_rows"]);
        assert_eq!(config["dtype"], json["dtype"]);
    }

    let plot = fs::read_to_string(file("out.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.trim_end().ends_with("</svg>"));
    for word in ["forward", "copy", "GB/s", "no measure of a GPU"] {
        assert!(plot.contains(word), "the plot says {word}");
    }
}

#[test]
fn the_cpu_is_compared_with_its_own_copy() {
    let output = bench(&[
        "--device", "cpu", "--shapes", "64x512", "--dtype", "f16", "--csv", "-",
    ]);
    assert!(output.status.success(), "{output:?}");
    let (header, rows) = rows(&stdout(&output));
    let share = header
        .iter()
        .position(|name| name == "share_of_copy")
        .unwrap();
    let passes: Vec<&str> = rows.iter().map(|row| row[2].as_str()).collect();
    assert_eq!(passes, ["copy", "forward", "backward", "both"]);
    for row in &rows[1..] {
        assert!(row[share].parse::<f64>().unwrap() > 0.0, "{row:?}");
    }
    // The table is for people: where a script takes stdout, they have it on stderr.
    assert!(stderr(&output).contains("| rows x columns |"), "{output:?}");
}

#[test]
fn only_what_is_asked_for_is_timed() {
    let output = bench(&[
        "--device", "cpu", "--shapes", "3x8", "--dtype", "f32", "--pass", "backward", "--csv", "-",
    ]);
    let (_, rows) = rows(&stdout(&output));
    let passes: Vec<&str> = rows.iter().map(|row| row[2].as_str()).collect();
    assert_eq!(passes, ["copy", "backward"], "{output:?}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_runs() {
    for arguments in [
        vec!["--shapes", "64"],
        vec!["--shapes", "0x64"],
        vec!["--shapes", "64x64", "--preset", "smoke"],
        vec!["--dtype", "f8"],
        vec!["--time", "-1"],
        vec!["--pass", "copy"],
        vec!["--json", "-", "--csv", "-"],
    ] {
        let output = bench(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert_eq!(stdout(&output), "");
        assert!(stderr(&output).starts_with("error: "), "{output:?}");
    }
    let output = bench(&["--device", "software:1000", "--shapes", "2x8"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let folder = TempDir::new().unwrap();
    let absent = folder.path().join("absent/out.json");
    let output = bench(&[
        "--device",
        "cpu",
        "--shapes",
        "2x8",
        "--json",
        path(&absent),
    ]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("cannot write"), "{output:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
