//! `sheaf man [--dir DIRECTORY]`

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::exit::{Exit, Failure};
use crate::output::Terminal;

/// `sheaf man`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  sheaf man | man -l -
  sheaf man --dir /usr/local/share/man/man1")]
pub struct Man {
    /// Write the page of every command into this directory, e.g. sheaf-bucket-list.1
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self, root: clap::Command, out: &mut Terminal) -> Result<Exit, Failure> {
        match &self.dir {
            None => {
                let mut page = Vec::new();
                let rendered = clap_mangen::Man::new(root).render(&mut page);
                rendered.map_err(|source| Failure::Write { what: "the manual page".to_owned(), source })?;
                out.write(&String::from_utf8_lossy(&page))?;
            }
            Some(directory) => {
                let written = write_all(root, directory);
                let what = || format!("manual pages into {}", directory.display());
                let pages = written.map_err(|source| Failure::Write { what: what(), source })?;
                out.say(&format!("wrote {pages} pages into {}", directory.display()));
            }
        }
        Ok(Exit::Done)
    }
}

/// Writes the pages of all commands that are not hidden; how many there are.
fn write_all(root: clap::Command, directory: &Path) -> io::Result<usize> {
    std::fs::create_dir_all(directory)?;
    let mut root = root.disable_help_subcommand(true);
    root.build();
    write_pages(&root, directory)
}

fn write_pages(command: &clap::Command, directory: &Path) -> io::Result<usize> {
    clap_mangen::Man::new(command.clone()).generate_to(directory)?;
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    below.map(|below| write_pages(below, directory)).sum::<io::Result<usize>>().map(|pages| pages + 1)
}
