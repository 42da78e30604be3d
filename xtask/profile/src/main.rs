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
    /// Type of x: f32, f16, bf16 or f64
    #[arg(long, value_parser = dtype)]
    dtype: DType,
    /// Type of weight and bias, or `none` for neither [default: that of x]
    #[arg(long, value_parser = parameters)]
    weight: Option<Parameters>,
    /// Which passes
    #[arg(long, default_value = "both")]
    pass: Passes,
    /// The device that the software GPU plays: h100, h200, a100 or t4
    #[arg(long, default_value = "h100")]
    model: String,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// The type of weight and bias, if there are any.
#[derive(Clone, Copy)]
struct Parameters(Option<DType>);

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Passes {
    Forward,
    Backward,
    Both,
}

fn dtype(name: &str) -> Result<DType, String> {
    let all = DType::ALL.into_iter();
    all.clone()
        .find(|dtype| dtype.name() == name)
        .ok_or_else(|| {
            format!(
                "allowed are {}",
                all.map(DType::name).collect::<Vec<_>>().join(", ")
            )
        })
}

fn parameters(name: &str) -> Result<Parameters, String> {
    match name {
        "none" => Ok(Parameters(None)),
        name => dtype(name).map(|dtype| Parameters(Some(dtype))),
    }
}

impl Arguments {
    fn task(&self) -> measure::Task {
        measure::Task {
            n_rows: self.n_rows,
            n_cols: self.n_cols,
            dtype: self.dtype,
            parameters: self
                .weight
                .map_or(Some(self.dtype), |Parameters(dtype)| dtype),
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
