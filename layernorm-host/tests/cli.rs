//! The `layernorm` tool as a user meets it: its output, its errors, and the files that it writes or does
//! not.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

/// What cargo says, or on a machine to which the tests were carried without it, the environment.
fn from_cargo(variable: &str, built_with: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| built_with.into(), PathBuf::from)
}

fn tool() -> PathBuf {
    from_cargo("CARGO_BIN_EXE_layernorm", env!("CARGO_BIN_EXE_layernorm"))
}

fn fixture() -> PathBuf {
    from_cargo("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/minilm_layernorm.safetensors")
}

fn layernorm(arguments: &[&str]) -> Output {
    Command::new(tool())
        .args(arguments)
        .output()
        .expect("the tool starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Expects exit code 1, nothing on stdout, and an error that names certain things.
fn refused(output: &Output, named: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stdout(output), "");
    assert!(stderr.starts_with("error: "), "{stderr}");
    for name in named {
        assert!(stderr.contains(name), "{stderr:?} does not name {name:?}");
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of this test is UTF-8")
}

/// Files of a folder, hidden ones included.
fn files(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(|entry| name(entry.unwrap())).collect()
}

/// A file with the given tensors and metadata.
fn file(folder: &TempDir, tensors: &[(&str, Dtype, &[usize])], eps: Option<&str>) -> PathBuf {
    let bytes = vec![0u8; 1 << 12];
    let views = tensors.iter().map(|(name, dtype, shape)| {
        let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let view = TensorView::new(*dtype, shape.to_vec(), &bytes[..len]).unwrap();
        (*name, view)
    });
    let metadata = eps.map(|eps| HashMap::from([("eps".to_owned(), eps.to_owned())]));
    let path = folder.path().join("in.safetensors");
    fs::write(&path, safetensors::serialize(views, metadata).unwrap()).unwrap();
    path
}

const GROUP: [(&str, Dtype, &[usize]); 3] = [
    ("a/x", Dtype::F32, &[2, 8]),
    ("a/weight", Dtype::F32, &[8]),
    ("a/bias", Dtype::F32, &[8]),
];

#[test]
fn a_file_in_float64_stays_in_float64() {
    let folder = TempDir::new().unwrap();
    let double: Vec<_> = GROUP
        .map(|(name, _, shape)| (name, Dtype::F64, shape))
        .into();
    let input = file(&folder, &double, None);
    let out = folder.path().join("out.safetensors");
    for device in ["cpu", "software"] {
        let output = layernorm(&["run", path(&input), "--out", path(&out), "--device", device]);
        assert!(stdout(&output).contains("a: x [2, 8] f64"), "{output:?}");
        let bytes = fs::read(&out).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for (name, expected) in [
            ("a/y", 0.0),
            ("a/mean", 0.0),
            ("a/rstd", 1e5f32.sqrt() as f64),
        ] {
            let tensor = tensors.tensor(name).unwrap();
            assert_eq!(tensor.dtype(), Dtype::F64, "{name}");
            let first = f64::from_le_bytes(tensor.data()[..8].try_into().unwrap());
            assert!(
                (first - expected).abs() <= 1e-5 * expected,
                "{name} is {first}"
            );
        }
    }
}

#[test]
fn real_activations_come_out_within_the_promised_error() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.safetensors");
    let output = layernorm(&["run", path(&fixture()), "--out", path(&out)]);
    let text = stdout(&output);
    assert!(output.status.success(), "{output:?}");
    assert!(text.starts_with("device "), "{text}");

    let mut compared = 0;
    for line in text.lines().filter(|line| line.contains("error:")) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        let error: f64 = words.nth(1).unwrap().parse().unwrap();
        let allowed = if name == "y" { 2e-6 } else { 5e-6 };
        assert!(error <= allowed, "{line}");
        compared += 1;
    }
    assert_eq!(compared, 8, "{text}");

    assert_eq!(files(&folder), ["out.safetensors"]);
    let bytes = fs::read(&out).unwrap();
    let written = SafeTensors::deserialize(&bytes).unwrap();
    for group in ["embeddings.LayerNorm", "encoder.layer.2.output.LayerNorm"] {
        let shape = |name: &str| {
            written
                .tensor(&format!("{group}/{name}"))
                .unwrap()
                .shape()
                .to_vec()
        };
        assert_eq!(shape("y"), [4, 20, 384]);
        assert_eq!(shape("dx"), [4, 20, 384]);
        assert_eq!(shape("mean"), [4, 20]);
        assert_eq!(shape("rstd"), [4, 20]);
        assert_eq!(shape("dweight"), [384]);
        assert_eq!(shape("dbias"), [384]);
    }
}

#[test]
fn without_dy_only_the_forward_pass_runs() {
    let folder = TempDir::new().unwrap();
    let input = file(&folder, &GROUP, None);
    let out = folder.path().join("out.safetensors");
    let output = layernorm(&["run", path(&input), "--out", path(&out)]);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout(&output).contains("eps 1e-5"), "{output:?}");
    let bytes = fs::read(&out).unwrap();
    let mut names: Vec<String> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .names()
        .iter()
        .map(|name| name.to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["a/mean", "a/rstd", "a/y"]);
}

#[test]
fn eps_comes_from_the_flag_then_the_metadata() {
    let folder = TempDir::new().unwrap();
    let input = file(&folder, &GROUP, Some("1e-3"));
    assert!(stdout(&layernorm(&["run", path(&input)])).contains("eps 1e-3"));
    let flag = layernorm(&["run", path(&input), "--eps", "0.5"]);
    assert!(stdout(&flag).contains("eps 5e-1"));
    refused(
        &layernorm(&["run", path(&input), "--eps", "-1"]),
        &["eps is -1"],
    );
    refused(
        &layernorm(&["run", path(&input), "--eps", "NaN"]),
        &["eps is NaN"],
    );
    let input = file(&folder, &GROUP, Some("small"));
    refused(
        &layernorm(&["run", path(&input)]),
        &["eps", "small", "a number"],
    );
}

#[test]
fn bad_files_are_named_and_nothing_is_written() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.safetensors");
    let run = |input: &Path| layernorm(&["run", path(input), "--out", path(&out)]);

    let absent = folder.path().join("absent.safetensors");
    refused(&run(&absent), &["absent.safetensors", "cannot read"]);
    let text = folder.path().join("text");
    fs::write(&text, "these are not tensors, whatever the name says").unwrap();
    refused(&run(&text), &["text", "not a safetensors file"]);
    fs::remove_file(&text).unwrap();

    let f32 = Dtype::F32;
    refused(
        &run(&file(&folder, &[], None)),
        &["<group>/x", "no tensors"],
    );
    refused(
        &run(&file(&folder, &GROUP[..2], None)),
        &["a/bias", "a/weight, a/x"],
    );
    let short: [(&str, Dtype, &[usize]); 3] = [GROUP[0], ("a/weight", f32, &[7]), GROUP[2]];
    refused(
        &run(&file(&folder, &short, None)),
        &["weight has 7 elements, x has 8 columns"],
    );
    let whole: [(&str, Dtype, &[usize]); 3] = [("a/x", Dtype::I64, &[2, 8]), GROUP[1], GROUP[2]];
    refused(
        &run(&file(&folder, &whole, None)),
        &["a/x is I64", "f32, f16, bf16, f64"],
    );
    let scalar: [(&str, Dtype, &[usize]); 3] = [("a/x", f32, &[]), GROUP[1], GROUP[2]];
    refused(&run(&file(&folder, &scalar, None)), &["rank 0"]);
    let mut with_dy = GROUP.to_vec();
    with_dy.push(("a/dy", f32, &[8, 2]));
    refused(
        &run(&file(&folder, &with_dy, None)),
        &["dy has shape [8, 2]"],
    );

    assert_eq!(files(&folder), ["in.safetensors"]);
}

#[test]
fn an_output_that_cannot_be_written_leaves_nothing_and_what_was_there() {
    let folder = TempDir::new().unwrap();
    let input = file(&folder, &GROUP, None);
    let nowhere = folder.path().join("absent/out.safetensors");
    let output = layernorm(&["run", path(&input), "--out", path(&nowhere)]);
    refused(&output, &["absent", "cannot write"]);
    let output = layernorm(&["run", path(&input), "--out", path(folder.path())]);
    refused(&output, &["cannot write", "directory"]);

    // A run that fails leaves the file of the one before.
    let out = folder.path().join("out.safetensors");
    fs::write(&out, "what was there").unwrap();
    let output = layernorm(&["run", path(&input), "--out", path(&out), "--eps", "-1"]);
    refused(&output, &["eps"]);
    assert_eq!(fs::read(&out).unwrap(), b"what was there");
    let mut left = files(&folder);
    left.sort();
    assert_eq!(left, ["in.safetensors", "out.safetensors"]);
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    let mut command = Command::new(tool());
    let fixture = fixture();
    command.args(["run", path(&fixture), "--device", "cuda"]);
    // With the software GPU forced, CUDA cannot be had, whatever the machine.
    let output = command
        .env("LAYERNORM_DRIVER", "software")
        .output()
        .unwrap();
    refused(&output, &["cuda", "software"]);
    let output = layernorm(&["run", path(&fixture), "--device", "software:1000"]);
    refused(&output, &["software device 1000 does not exist"]);
    let output = layernorm(&["run", path(&fixture), "--device", "tpu"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn devices_lists_the_software_gpu() {
    let output = layernorm(&["devices"]);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout(&output).contains("software"), "{output:?}");
}

#[test]
fn verify_shows_every_error_and_passes() {
    let small = ["--dim", "256", "--bsz", "2", "--seqlen", "33"];
    for device in ["software", "cpu"] {
        for dtype in ["f32", "f16", "bf16", "f64"] {
            let arguments = ["verify", "--device", device, "--dtype", dtype];
            let output = layernorm(&[&arguments[..], &small].concat());
            let text = stdout(&output);
            assert!(output.status.success(), "{output:?}");
            assert!(output.stderr.is_empty(), "a progress bar: {output:?}");
            for shown in ["dx distance", "dweight", "[2, 33, 256]", "1 of 1 passed"] {
                assert!(text.contains(shown), "{text}");
            }
        }
    }
}

#[test]
fn verify_writes_json() {
    let small = ["--dim", "33", "--bsz", "1", "--seqlen", "7", "--json"];
    let output = layernorm(&[&["verify", "--device", "cpu"][..], &small].concat());
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["passed"], true);
    assert_eq!(json["tests"][0]["dim"], 33);
    let share = json["tests"][0]["errors"]["dx"]["of_bound"].as_f64();
    assert!(share.is_some_and(|share| 0.0 < share && share <= 1.0));
}

#[test]
fn verify_refuses_what_it_cannot_run() {
    refused(
        &layernorm(&["verify", "--device", "cpu", "--eps", "-1"]),
        &["eps", "-1"],
    );
    for misused in [
        &["--dtype", "f8"][..],
        &["--dim", "0"],
        &["--suite", "--dim", "64"],
        &["--device", "gpu"],
    ] {
        let output = layernorm(&[&["verify"], misused].concat());
        assert_eq!(output.status.code(), Some(2), "{misused:?}: {output:?}");
    }
}
