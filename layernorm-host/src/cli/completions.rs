//! `layernorm completions`: what a shell needs to complete the tool's command lines.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print the completions for a shell.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  source <(layernorm completions bash)
  layernorm completions zsh > ~/.zfunc/_layernorm
  layernorm completions fish > ~/.config/fish/completions/layernorm.fish";

impl Completions {
    pub fn run(self) -> Vec<u8> {
        let mut script = Vec::new();
        let mut command = super::Arguments::command();
        clap_complete::generate(self.shell, &mut command, "layernorm", &mut script);
        script
    }
}
