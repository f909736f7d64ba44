//! `sheaf top`: a cluster on the whole screen, as it is now.
//!
//! ```text
//!              bytes ──key──► press ─┐                        ┌─► sheet ──► view ──► buffer ──tty──► terminal
//!                                    ▼                        │
//!                                  State ────────────────────►┤
//!                                    ▲                        │
//!  node ◄──link── fetch ──piece──► fold                       └─► wanted ──► shell starts and ends fetches
//! ```
//!
//! What is wanted is a function of what is on the screen, so nothing is asked that nobody sees; `shell` compares it with
//! what is being asked, each time anew. Everything in the middle is pure: `state` and `screen` (where somebody is, and
//! what keys do), `ask` (what is known), `sheet` (what a page says), `view` (where that stands), `clean` (what others
//! wrote, made harmless). Around it: `key`, `tty`, `fetch`, `link`, `shell`.

mod ask;
mod clean;
mod fetch;
mod key;
mod link;
mod screen;
mod sheet;
mod shell;
mod state;
mod tty;
mod view;

use std::io::{self, IsTerminal as _};

use clap::Args;
use sheaf_wire::Client;

use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::Options;
use crate::output::{Format, Terminal};
use crate::profile::{self, Environment};
use link::Link;

/// `sheaf top`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Shows what needs attention first, then buckets, nodes, jobs and events, live, on any terminal of 80x24 or more. Enter opens \
what is chosen: the gates of a bucket and its logs, what runs on a node since when and why, what failed of a job down to \
the output of an attempt. / filters, s sorts, ? says the rest, q quits. It changes nothing.

A node that does not answer any more is replaced by another voter. NO_COLOR is honoured.

Examples:
  sheaf top
  sheaf top --address import-01:7420")]
pub struct Top {}

/// Where the same is printed.
const ELSEWHERE: &str = "`sheaf cluster status`, `sheaf bucket list`, `sheaf node list`, `sheaf job list` and `sheaf events \
                         --follow` print the same, with -o json for programs";

impl Top {
    pub(crate) async fn run(self, options: &Options, out: &mut Terminal) -> Result<Exit, Failure> {
        let term = std::env::var("TERM").unwrap_or_default();
        suits(io::stdin().is_terminal() && io::stdout().is_terminal(), &term, options.output)?;
        let profile = profile::meant(options, &Environment::of_process(), out)?;
        let (address, how) = connect::how(profile)?;
        // Nobody there, or nobody who knows us: said before the screen changes.
        Client::connect(&address, how.clone()).await?.cluster_status().await?;
        out.flush()?;
        shell::run(Link::new(&address, how), out.colour()).await
    }
}

/// Whether there is a screen to draw on, and somebody in front of it.
fn suits(is_terminal: bool, term: &str, format: Format) -> Result<(), Failure> {
    if !is_terminal {
        return Err(Failure::usage("sheaf top needs a terminal on stdin and stdout", ELSEWHERE));
    }
    if term == "dumb" {
        return Err(Failure::usage(
            "sheaf top needs a terminal that can move its cursor, TERM is dumb",
            ELSEWHERE,
        ));
    }
    if format != Format::Table {
        return Err(Failure::usage("sheaf top has no output formats", ELSEWHERE));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_screen_it_says_what_to_use() {
        for failure in [
            suits(false, "xterm", Format::Table),
            suits(true, "dumb", Format::Table),
            suits(true, "xterm", Format::Json),
        ] {
            let failure = failure.expect_err("no screen");
            assert_eq!(failure.exit().code(), 2);
            assert!(failure.to_string().contains("`sheaf cluster status`"), "{failure}");
        }
        suits(true, "xterm", Format::Table).expect("a screen");
    }
}
