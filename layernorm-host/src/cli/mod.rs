//! The tool's commands, one file each, and what they share: which device, how a run ends.

mod bench;
mod completions;
mod devices;
mod hint;
mod output;
mod run;
mod source;
mod verify;

use std::io::Write;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Parser, Subcommand};
use layernorm_host::Device;

/// Fused LayerNorm, forward and backward, on CUDA GPUs, on the CPU, or on a GPU in software.
#[derive(Parser)]
#[command(version, after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  layernorm devices
  layernorm run tests/fixtures/minilm_layernorm.safetensors
  layernorm verify --device cpu
  layernorm bench --shapes 4096x1024 --plot bench.svg
  layernorm COMMAND --help

Exit codes: 0 done; 1 the input, the output or the device is at fault; 2 the command line asks for what cannot be;
3 a result is not what it should be. The reason is on stderr, or in verify's table.

Environment: LAYERNORM_DRIVER=nvidia|software forces a driver; NO_COLOR=1 switches colours off, which are on a
terminal alone.";

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Devices(devices::Devices),
    Verify(verify::Verify),
    Bench(bench::Bench),
    Completions(completions::Completions),
}

/// The library's errors, unless another is named.
type Result<T, E = layernorm_host::Error> = std::result::Result<T, E>;

/// What a command has for stdout, and its exit code.
struct Printed {
    bytes: Vec<u8>,
    code: ExitCode,
}

impl Printed {
    fn text(text: String) -> Self {
        Self::bytes(text.into_bytes())
    }

    fn bytes(bytes: Vec<u8>) -> Self {
        let code = ExitCode::SUCCESS;
        Printed { bytes, code }
    }
}

impl Arguments {
    /// Runs the command: its output goes to stdout as a whole, an error to stderr.
    pub fn run(self) -> ExitCode {
        let output = match self.command {
            Command::Run(command) => command.run(),
            Command::Devices(command) => command.run().map(Printed::text).map_err(Failure::from),
            Command::Bench(command) => command.run().map(Printed::text),
            Command::Completions(command) => Ok(Printed::bytes(command.run())),
            Command::Verify(command) => match command.run() {
                Ok((text, code)) => Ok(Printed {
                    code,
                    ..Printed::text(text)
                }),
                Err(error) => Err(Failure::from(error)),
            },
        };
        match output {
            Ok(Printed { bytes, code }) => {
                let mut stdout = std::io::stdout().lock();
                match stdout.write_all(&bytes).and_then(|()| stdout.flush()) {
                    Ok(()) => code,
                    // Whoever read the output has enough of it.
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => code,
                    Err(error) => Failure::device(format!("stdout: {error}")).report(),
                }
            }
            Err(failure) => failure.report(),
        }
    }
}

/// The exit code where a result is not what it should be.
const WRONG: u8 = 3;

/// Why a command did not do what it was asked to, what to do about it, and the exit code for it.
struct Failure {
    code: u8,
    reason: String,
    hint: Option<&'static str>,
}

impl Failure {
    fn new(code: u8, reason: impl Into<String>) -> Self {
        Failure {
            code,
            reason: reason.into(),
            hint: None,
        }
    }

    /// The input, the output or the device is at fault.
    fn device(reason: impl Into<String>) -> Self {
        Self::new(1, reason)
    }

    /// The command line asks for what cannot be.
    fn usage(reason: impl Into<String>) -> Self {
        Self::new(2, reason)
    }

    /// A result is not what it should be.
    fn wrong(reason: impl Into<String>) -> Self {
        Self::new(WRONG, reason)
    }

    fn report(self) -> ExitCode {
        note(&format!("\x1b[1;31merror:\x1b[0m {}\n", self.reason));
        if let Some(hint) = self.hint {
            note(&format!("\x1b[1;36mhint:\x1b[0m {hint}\n"));
        }
        ExitCode::from(self.code)
    }
}

impl From<layernorm_host::Error> for Failure {
    fn from(error: layernorm_host::Error) -> Self {
        Failure {
            hint: hint::hint(&error),
            ..Failure::device(error.to_string())
        }
    }
}

/// To stderr, with colours where that is a terminal and NO_COLOR does not forbid them. There is nowhere left to
/// report a failure to report.
fn note(text: &str) {
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}
/// A device as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeviceName {
    Auto,
    Cpu,
    Cuda(usize),
    Software(usize),
}

impl DeviceName {
    fn open(self) -> Result<Device> {
        match self {
            // The tool is to run the kernels: without a GPU, on the one in software.
            DeviceName::Auto => match Device::auto()? {
                device if device.kind() == "cpu" => Device::software(0),
                device => Ok(device),
            },
            DeviceName::Cpu => Ok(Device::cpu()),
            DeviceName::Cuda(ordinal) => Device::cuda(ordinal),
            DeviceName::Software(ordinal) => Device::software(ordinal),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, ordinal) = match text.split_once(':') {
            Some((kind, ordinal)) => (kind, ordinal.parse().ok()),
            None => (text, Some(0)),
        };
        match (kind, ordinal) {
            ("auto", _) if text == "auto" => Ok(DeviceName::Auto),
            ("cpu", _) if text == "cpu" => Ok(DeviceName::Cpu),
            ("cuda", Some(ordinal)) => Ok(DeviceName::Cuda(ordinal)),
            ("software", Some(ordinal)) => Ok(DeviceName::Software(ordinal)),
            _ => {
                Err("allowed: auto, cuda, software, cpu, or one by number as in cuda:1".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn devices_have_names() {
        assert_eq!("auto".parse(), Ok(DeviceName::Auto));
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
        assert_eq!("software:2".parse(), Ok(DeviceName::Software(2)));
        for text in ["", "auto:1", "cuda:", "cuda:x", "gpu", "CUDA"] {
            assert!(text.parse::<DeviceName>().is_err(), "{text}");
        }
    }
}
