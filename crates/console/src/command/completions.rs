//! `sheaf completions SHELL`

use clap::Args;
use clap_complete::Shell;

use crate::exit::{Exit, Failure};
use crate::output::Terminal;

/// `sheaf completions`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  sheaf completions bash > /etc/bash_completion.d/sheaf
  sheaf completions zsh > ~/.zfunc/_sheaf
  sheaf completions fish > ~/.config/fish/completions/sheaf.fish")]
pub struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, mut root: clap::Command, out: &mut Terminal) -> Result<Exit, Failure> {
        let name = root.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut root, name, &mut script);
        out.write(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Done)
    }
}
