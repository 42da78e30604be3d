//! `cargo xtask`: what has to be done to this repository, in Rust, so that it needs no other tool.

mod build_ptx;
mod docs;
mod doctor;
mod images;
mod manifest;
mod mutate;
mod profile;
mod ptxas;
mod release;
mod results;
mod sass;
mod sources;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    about = "What has to be done to this repository"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the kernels to PTX, into layernorm-host/ptx, with the manifest
    BuildPtx(build_ptx::Arguments),
    /// Assemble every image with ptxas: registers per kernel, and no spills or local memory
    Ptxas,
    /// Count the machine code of every kernel into docs/sass
    Sass(sass::Arguments),
    /// Run the kernels on the software GPU and say what they do, beside what the problem needs
    Profile(profile::Arguments),
    /// Check every page's links and blocks, or print the commands that they have for CI
    Docs(docs::Arguments),
    /// Check licences, the oldest compiler, and what crates for a registry carry
    Release,
    /// Make the tables of docs/performance.md and README.md from docs/results
    Results(results::Arguments),
    /// Plant faults in copies of the sources, and show that the suite sees each
    Mutate(mutate::Arguments),
    /// Say what of this machine is ready, and what to run where it is not
    Doctor,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::BuildPtx(arguments) => build_ptx::run(&arguments),
        Command::Ptxas => ptxas::run(),
        Command::Sass(arguments) => sass::run(&arguments),
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Docs(arguments) => docs::run(&arguments),
        Command::Release => release::run(),
        Command::Results(arguments) => results::run(&arguments),
        Command::Mutate(arguments) => mutate::run(&arguments),
        Command::Doctor => doctor::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
