//! `cargo xtask profile`: the library's passes on the software GPU, and what each of their kernels did,
//! beside the least that the problem needs. docs/software-gpu.md says what the numbers mean.

mod measure;
mod minimum;
mod report;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use layernorm_host::DType;

/// Run the kernels on the software GPU and say what they do, beside what the problem needs.
#[derive(Parser)]
#[command(bin_name = "cargo xtask profile")]
struct Arguments {
    /// Rows of x
    #[arg(long)]
    n_rows: usize,
    /// Columns of x: the hidden size
    #[arg(long)]
    n_cols: usize,
    /// Type of x
    #[arg(long)]
    dtype: Element,
    /// Type of weight and bias [default: that of x]
    #[arg(long)]
    weight: Option<Parameters>,
    /// Which passes
    #[arg(long, default_value = "both")]
    pass: Passes,
    /// The device that the software GPU plays: h100, a100 or t4
    #[arg(long, default_value = "h100")]
    model: String,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Element {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Parameters {
    F32,
    F16,
    Bf16,
    /// Neither weight nor bias
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Passes {
    Forward,
    Backward,
    Both,
}

impl From<Element> for DType {
    fn from(element: Element) -> DType {
        match element {
            Element::F32 => DType::F32,
            Element::F16 => DType::F16,
            Element::Bf16 => DType::BF16,
        }
    }
}

impl Arguments {
    fn task(&self) -> measure::Task {
        let dtype = DType::from(self.dtype);
        let parameters = match self.weight {
            None => Some(dtype),
            Some(Parameters::F32) => Some(DType::F32),
            Some(Parameters::F16) => Some(DType::F16),
            Some(Parameters::Bf16) => Some(DType::BF16),
            Some(Parameters::None) => None,
        };
        measure::Task {
            n_rows: self.n_rows,
            n_cols: self.n_cols,
            dtype,
            parameters,
            forward: self.pass != Passes::Backward,
            backward: self.pass != Passes::Forward,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let report = measure::device(&arguments.model)
        .and_then(|device| measure::run(&arguments.task(), &device));
    let text = report.and_then(|report| match arguments.json {
        true => Ok(serde_json::to_string_pretty(&report)? + "\n"),
        false => Ok(report.to_string()),
    });
    match text {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
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
}
