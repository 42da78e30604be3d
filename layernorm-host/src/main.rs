//! The `layernorm` tool: reads the command line and sets the exit code. The commands are in `cli`.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Arguments::parse().run()
}
