//! Options that many commands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sheaf_model::TraceContext;

use crate::exit::Failure;
use crate::output::Format;
use crate::when;

/// Options of every command that talks to a cluster.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection and output")]
pub struct Options {
    /// Any node of the cluster [env: SHEAF_ADDRESS] [default: 127.0.0.1:7420]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// A profile of ~/.config/sheaf/config.toml
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// A file that holds the token to show, or - for stdin [env: SHEAF_TOKEN, SHEAF_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE|-")]
    pub token_file: Option<PathBuf>,
    /// A file that holds a certificate and its key, by which calls are signed in place of showing a token
    /// [env: SHEAF_CERTIFICATE_FILE]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "token_file")]
    pub certificate_file: Option<PathBuf>,
    /// How answers are printed
    #[arg(
        short = 'o',
        long = "output",
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "table|wide|json|yaml|name"
    )]
    pub output: Format,
    /// What the calls of the command are parts of; not from the command line.
    #[arg(skip)]
    pub trace: Option<TraceContext>,
}

/// Options of a change: whether to wait until it has come true.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// Wait until the cluster is as asked (exit 4 when --timeout ended, 5 when it cannot be placed now); a program counts as
    /// running once it has run for 0.3 s without being started again
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait
    #[arg(long, default_value = "60s", value_parser = when::duration, value_name = "DURATION", requires = "wait")]
    pub(crate) timeout: Duration,
}

impl Wait {
    /// Of a change that is as asked when it is answered: nothing is left to wait for. The option is there all the same, so that a
    /// script can give it to every change.
    pub(crate) const fn already_so(self) {}
}

/// Options of a list: which page of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Page {
    /// At most so many rows
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    /// Go on after this cursor, as the page before said
    #[arg(long, value_name = "CURSOR")]
    pub(crate) after: Option<String>,
    /// Every row there is, page by page
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
}

/// `-l key=value`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Labels {
    /// Only those with this label; all of them if given more than once
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = label, value_delimiter = ',')]
    pub(crate) labels: Vec<(String, String)>,
}

/// `--yes`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Yes {
    /// Do not ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

/// Reads `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a selector is KEY=VALUE, like team=web".to_owned()),
    }
}

/// `--if-revision` speaks of one thing; refuses it where there are several.
pub(crate) fn one_revision(revision: Option<u64>, things: usize) -> Result<(), Failure> {
    match revision {
        Some(_) if things != 1 => Err(Failure::usage(
            format!("--if-revision is given for {things} buckets"),
            "name one bucket, or write `revision:` in each document",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_has_a_key_and_a_value() {
        assert_eq!(label("team=web"), Ok(("team".to_owned(), "web".to_owned())));
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(label("a="), Ok(("a".to_owned(), String::new())));
        assert!(label("team").is_err() && label("=web").is_err() && label("").is_err());
    }

    #[test]
    fn if_revision_is_for_one() {
        assert!(one_revision(Some(7), 1).is_ok() && one_revision(None, 2).is_ok());
        assert_eq!(one_revision(Some(7), 2).expect_err("two").exit().code(), 2);
    }
}
