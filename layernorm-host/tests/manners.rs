//! How the tool behaves: help, completions, hints, colours, exit codes, arrays, stdin and stdout.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use layernorm_host::file::{SafetensorsFile, npy};
use layernorm_host::{DType, Device, FastLayerNorm, Tensor};
use tempfile::TempDir;

/// Where cargo built the tool, or on a machine to which the tests were carried without it, where the
/// environment says that it lies.
fn tool() -> OsString {
    let built = env!("CARGO_BIN_EXE_layernorm");
    std::env::var_os("CARGO_BIN_EXE_layernorm").unwrap_or_else(|| built.into())
}

fn layernorm(arguments: &[&str]) -> Output {
    given(arguments, &[])
}

/// Runs the tool with something on stdin.
fn given(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut command = Command::new(tool());
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the tool starts");
    // It may refuse its arguments before it reads.
    let _ = child
        .stdin
        .take()
        .expect("stdin is a pipe")
        .write_all(stdin);
    child.wait_with_output().expect("the tool ends")
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

/// The names of the commands, as the help lists them.
fn commands() -> Vec<String> {
    let help = stdout(&layernorm(&["--help"]));
    let listed = help
        .split("Commands:\n")
        .nth(1)
        .expect("the help lists them");
    let lines = listed.lines().take_while(|line| line.starts_with("  "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_help_with_examples() {
    let commands = commands();
    for expected in ["run", "devices", "verify", "bench", "completions"] {
        assert!(
            commands.iter().any(|command| command == expected),
            "{commands:?}"
        );
    }
    for command in &commands {
        let output = layernorm(&[command, "--help"]);
        let help = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(help.contains("Examples:\n  "), "{command}: {help}");
        assert!(
            help.contains(&format!("layernorm {command}")),
            "{command}: {help}"
        );
    }
    let help = stdout(&layernorm(&["--help"]));
    for word in ["Examples:", "Exit codes:", "NO_COLOR", "LAYERNORM_DRIVER"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn completions_name_the_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = layernorm(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = stdout(&output);
        for word in commands()
            .iter()
            .map(String::as_str)
            .chain(["csv-liger", "weight-dtype"])
        {
            assert!(script.contains(word), "{shell} has no {word}");
        }
    }
    assert_eq!(layernorm(&["completions", "cmd"]).status.code(), Some(2));
}

#[test]
fn exit_codes_are_the_documented_ones() {
    assert_eq!(layernorm(&["devices"]).status.code(), Some(0));
    assert_eq!(layernorm(&["--version"]).status.code(), Some(0));
    assert_eq!(layernorm(&["run", "no such file"]).status.code(), Some(1));
    assert_eq!(
        layernorm(&["run", "x.npy", "--device", "software:99"])
            .status
            .code(),
        Some(1)
    );
    for misused in [
        &["fly"][..],
        &[],
        &["run"],
        &["bench", "--shapes", "5"],
        &["verify", "--dtype", "f8"],
    ] {
        let output = layernorm(misused);
        assert_eq!(output.status.code(), Some(2), "{misused:?}");
        assert_eq!(stdout(&output), "", "{misused:?}");
    }
}

#[test]
fn errors_come_with_a_hint_and_colours_only_where_wanted() {
    let run = |settings: &[(&str, &str)]| {
        let mut command = Command::new(tool());
        command.args(["bench", "--shapes", "2x8", "--device", "software:99"]);
        for name in ["NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"] {
            command.env_remove(name);
        }
        command
            .envs(settings.iter().copied())
            .output()
            .expect("the tool starts")
    };
    let plain = run(&[]);
    assert_eq!(plain.status.code(), Some(1));
    let text = stderr(&plain);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].starts_with("error: software device 99 does not exist"),
        "{text}"
    );
    assert!(lines[1].starts_with("hint: `layernorm devices`"), "{text}");
    // A pipe is no terminal, but colours can be asked for, and refused.
    assert!(stderr(&run(&[("CLICOLOR_FORCE", "1")])).contains("\x1b[1;31merror:"));
    assert!(!stderr(&run(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")])).contains('\x1b'));
}

/// x of 3 rows of 8 columns, as a file's bytes, and as a tensor.
fn x(dtype: DType) -> (Vec<u8>, Tensor) {
    let values: Vec<f32> = (0..24).map(|i| ((i * 7) % 13) as f32).collect();
    let x = Tensor::from_slice(&values, &[3, 8], &Device::cpu()).unwrap();
    let x = match dtype {
        DType::F32 => x,
        _ => {
            let values: Vec<half::f16> = values
                .iter()
                .map(|value| half::f16::from_f32(*value))
                .collect();
            Tensor::from_slice(&values, &[3, 8], &Device::cpu()).unwrap()
        }
    };
    (npy::to_bytes(&x).unwrap(), x)
}

#[test]
fn an_array_is_normalised_from_file_to_file() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let cpu = Device::cpu();
    for dtype in [DType::F32, DType::F16] {
        let (bytes, x) = x(dtype);
        let weight: Vec<f32> = (0..8).map(|i| 1.0 + i as f32).collect();
        let weight = Tensor::from_slice(&weight, &[8], &cpu).unwrap();
        fs::write(file("x.npy"), bytes).unwrap();
        fs::write(file("w.npy"), npy::to_bytes(&weight).unwrap()).unwrap();
        let (input, weights, out) = (file("x.npy"), file("w.npy"), file("y.npy"));
        let (input, weights, out) = (path(&input), path(&weights), path(&out));
        let arguments = [
            "run", input, "--weight", weights, "--out", out, "--device", "cpu",
        ];
        let output = layernorm(&arguments);
        assert!(output.status.success(), "{output:?}");
        assert!(stdout(&output).contains("x.npy: x [3, 8] f"), "{output:?}");
        assert!(
            stdout(&output).contains("weight [8] f32, eps 1e-5"),
            "{output:?}"
        );
        let written =
            npy::from_bytes(&fs::read(file("y.npy")).unwrap(), "y.npy".as_ref(), &cpu).unwrap();
        let (y, _) = FastLayerNorm::forward(&x, Some(&weight), None, 1e-5).unwrap();
        assert_eq!((written.shape(), written.dtype()), (y.shape(), dtype));
        assert_eq!(written.to_f64_vec().unwrap(), y.to_f64_vec().unwrap());
    }
    // Backward, into safetensors without a group's name.
    let dy = Tensor::ones(DType::F16, &[3, 8], &cpu).unwrap();
    fs::write(file("dy.npy"), npy::to_bytes(&dy).unwrap()).unwrap();
    let (input, dy, out) = (file("x.npy"), file("dy.npy"), file("out.safetensors"));
    let output = layernorm(&["run", path(&input), "--dy", path(&dy), "--out", path(&out)]);
    assert!(output.status.success(), "{output:?}");
    let written = SafetensorsFile::read(&out).unwrap();
    assert_eq!(written.names(), ["dx", "mean", "rstd", "y"]);
    assert_eq!(written.eps().unwrap(), Some(1e-5));
}

#[test]
fn stdin_and_stdout_are_dashes() {
    let cpu = Device::cpu();
    let (bytes, x) = x(DType::F32);
    let (y, _) = FastLayerNorm::forward(&x, None, None, 1e-5).unwrap();
    let y = y.to_vec::<f32>().unwrap();
    let output = given(&["run", "-", "--out", "-", "--device", "cpu"], &bytes);
    assert!(output.status.success(), "{output:?}");
    let written = npy::from_bytes(&output.stdout, "stdout".as_ref(), &cpu).unwrap();
    assert_eq!(written.to_vec::<f32>().unwrap(), y);
    assert!(
        stderr(&output).contains("stdin: x [3, 8] f32"),
        "{output:?}"
    );

    let fixture = fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/minilm_layernorm.safetensors"
    ));
    let output = given(
        &["run", "-", "--out", "-", "--device", "cpu"],
        &fixture.unwrap(),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let written = SafetensorsFile::from_bytes(output.stdout.clone(), "stdout".as_ref()).unwrap();
    assert!(
        written
            .names()
            .iter()
            .any(|name| name == "embeddings.LayerNorm/dx")
    );
    assert_eq!(
        stderr(&output).matches("error:").count(),
        8,
        "the comparison goes to stderr"
    );
}

#[test]
fn arrays_that_cannot_be_are_refused_and_nothing_is_written() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (bytes, _) = x(DType::F32);
    let (x, y, cut) = (file("x.npy"), file("y.npy"), file("cut.npy"));
    fs::write(&x, &bytes).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    let refused = |arguments: &[&str], code: i32, named: &str| {
        let output =
            layernorm(&[&["run"], arguments, &["--out", path(&y), "--device", "cpu"]].concat());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(stderr(&output).contains(named), "{named}: {output:?}");
        assert_eq!(stdout(&output), "");
        assert!(!y.exists(), "{arguments:?}");
    };
    refused(&[path(&cut)], 1, "95 bytes of data are not [3, 8] of f32");
    let short = Tensor::ones(DType::F32, &[5], &Device::cpu()).unwrap();
    fs::write(file("short.npy"), npy::to_bytes(&short).unwrap()).unwrap();
    let short = file("short.npy");
    refused(
        &[path(&x), "--weight", path(&short)],
        1,
        "weight has 5 elements, x has 8 columns",
    );
    refused(&[path(&x), "--weight", "absent.npy"], 1, "absent.npy");
    refused(&[path(&x), "--weight", "-"], 2, "stdin");
    refused(&[path(&x), "--dy", path(&x)], 2, "safetensors holds all");
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/minilm_layernorm.safetensors"
    );
    refused(&[fixture], 2, "safetensors holds all");
    refused(&[fixture, "--weight", path(&x)], 2, "its groups");
}
