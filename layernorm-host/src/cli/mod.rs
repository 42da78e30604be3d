//! The tool's commands, one file each, and what they share: which device, how a run ends.

mod bench;
mod devices;
mod output;
mod run;
mod verify;

use std::io::Write;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Parser, Subcommand};
use layernorm_host::{Device, Result};

/// Fused LayerNorm, forward and backward, on CUDA GPUs or on a GPU in software.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the input, the output or the device is at fault; 2 the command line is not understood;
3 a result is not what it should be. The reason is on stderr, or in verify's table.";

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Devices(devices::Devices),
    Verify(verify::Verify),
    Bench(bench::Bench),
}

impl Arguments {
    /// Runs the command: its output goes to stdout as a whole, an error to stderr.
    pub fn run(self) -> ExitCode {
        let done = |text| (text, ExitCode::SUCCESS);
        let output = match self.command {
            Command::Run(command) => command.run().map(done).map_err(Failure::from),
            Command::Devices(command) => command.run().map(done).map_err(Failure::from),
            Command::Bench(command) => command.run().map(done),
            Command::Verify(command) => command.run().map_err(Failure::from),
        };
        match output {
            Ok((text, code)) => match std::io::stdout().lock().write_all(text.as_bytes()) {
                Ok(()) => code,
                // Whoever read the output has enough of it.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => code,
                Err(error) => Failure::device(format!("stdout: {error}")).report(),
            },
            Err(failure) => failure.report(),
        }
    }
}

/// The exit code where a result is not what it should be.
const WRONG: u8 = 3;

/// Why a command did not do what it was asked to, and the exit code for it.
struct Failure {
    code: u8,
    reason: String,
}

impl Failure {
    /// The input, the output or the device is at fault.
    fn device(reason: impl Into<String>) -> Self {
        Failure {
            code: 1,
            reason: reason.into(),
        }
    }

    /// The command line asks for what cannot be.
    fn usage(reason: impl Into<String>) -> Self {
        Failure {
            code: 2,
            reason: reason.into(),
        }
    }

    /// A result is not what it should be.
    fn wrong(reason: impl Into<String>) -> Self {
        Failure {
            code: WRONG,
            reason: reason.into(),
        }
    }

    fn report(self) -> ExitCode {
        note(&format!("error: {}\n", self.reason));
        ExitCode::from(self.code)
    }
}

impl From<layernorm_host::Error> for Failure {
    fn from(error: layernorm_host::Error) -> Self {
        Failure::device(error.to_string())
    }
}

/// To stderr. There is nowhere left to report a failure to report.
fn note(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
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

    fn from_str(text: &str) -> std::result::Result<Self, String> {
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
