//! `cargo xtask profile`: the package of that name, which needs the library and so the built PTX. It is a
//! program of its own so that this one can be built where there is none yet.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::images;

#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// What the profiler is told; `--help` says what it knows
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(&cargo)
        .args(["run", "--quiet", "--release", "--package"])
        .args(["layernorm-profile", "--"])
        .args(&arguments.rest)
        .current_dir(images::root())
        .status()
        .with_context(|| format!("cannot run {}", cargo.display()))?;
    if !status.success() {
        bail!("the profiler ended with {status}");
    }
    Ok(())
}
