//! `sheaf cluster ca …`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use sheaf_model::Timestamp;
use sheaf_model::view::{AuthorityRow, AuthorityStatus, AuthorityWait};
use sheaf_wire::Client;
use sheaf_wire::cluster::{RotateAuthority, RotationStep};
use tokio::time::{Instant, sleep};

use crate::command::apply::warn;
use crate::connect::{self, connect};
use crate::exit::{Exit, Failure};
use crate::options::{Options, Wait, Yes};
use crate::output::{Format, Terminal};
use crate::table::{self, Column, Listed, Listing};
use crate::wait::or_interrupted;
use crate::{text, when};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Nodes named of those that are waited for.
const NAMED: usize = 5;
/// Digits of a fingerprint that a table shows.
const SHORT: usize = 12;

/// `sheaf cluster ca …`
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
The cluster's authority (CA) signs the certificates by which its nodes know each other; tokens pin it. Its key is a file on voters \
alone. When it may be known to others, or once in a while, another one takes its place, and nobody notices.")]
pub enum Ca {
    /// Show whom the cluster believes, and how far a change of that is
    Status,
    /// Print the certificates of whom the cluster believes, in PEM: what believes them believes the nodes' dashboards by https
    ///
    /// They are no secret. But whoever has the key of one, which stands on every voter, can be any site on the internet to a
    /// browser that believes it: for browsers that people use for other things, give the nodes a certificate of an authority that
    /// these believe anyway (certificate_file of http in the configuration).
    Export,
    /// Have another authority take the place of the one that signs certificates
    Rotate(Rotate),
}

/// `sheaf cluster ca rotate`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Goes on by itself, whoever leads and whoever is away: every node that is there learns to believe the new authority beside the \
former one; then the new one signs, and every node gets a certificate of it; then the former one can be dropped. That happens by \
itself once the last certificate that it signed for a node is over, so that nodes that are away can come back until then; or at once \
with --finish. Tokens that pin the former authority are good until it is dropped; profiles learn the new one when they are used \
before.

Examples:
  sheaf cluster ca rotate --wait --timeout 5m
  sheaf cluster ca status
  sheaf cluster ca rotate --finish
  sheaf cluster ca rotate --abandon       # the next one has not signed anything yet, and shall not")]
pub struct Rotate {
    /// Drop the former authority now: what it signed is worth nothing from then on
    #[arg(long, conflicts_with = "abandon")]
    finish: bool,
    /// Drop the next authority, which has not signed anything yet
    #[arg(long)]
    abandon: bool,
    #[command(flatten)]
    yes: Yes,
    #[command(flatten)]
    wait: Wait,
}

impl Ca {
    pub(crate) async fn run(self, options: &Options, out: &mut Terminal) -> Result<Exit, Failure> {
        match self {
            Self::Status => {
                let status = connect(options, out).await?.authority_status().await?;
                print(out, options.output, &status)?;
                Ok(Exit::Done)
            }
            Self::Export => {
                let status = connect(options, out).await?.authority_status().await?;
                export(out, &status)?;
                Ok(Exit::Done)
            }
            Self::Rotate(rotate) => rotate.run(&connect(options, out).await?, options.output, out).await,
        }
    }
}

/// What became of a step of a rotation.
#[derive(Serialize)]
struct Rotated {
    /// begun, finished, abandoned or unchanged.
    outcome: &'static str,
    revision: u64,
}

impl Rotate {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let question = "drop the former authority? Nodes that are away join anew, and tokens that pin it are worth nothing.";
        if self.finish && !self.yes.yes && !out.confirm(question) {
            return Err(Failure::Refused("nothing was dropped".to_owned()));
        }
        let (step, outcome, said, reached) = match (self.finish, self.abandon) {
            (true, _) => {
                (RotationStep::Finish, "finished", "the former authority is dropped", &["settled"][..])
            }
            (_, true) => {
                (RotationStep::Abandon, "abandoned", "the next authority is dropped", &["settled"][..])
            }
            (false, false) => (
                RotationStep::Begin,
                "begun",
                "another authority takes the place of the present one; `sheaf cluster ca status` shows how far that is",
                &["renewed", "settled"][..],
            ),
        };
        let done = client.rotate_authority(RotateAuthority { step, request: connect::request() }).await?;
        warn(out, &done.warnings);
        let rotated = Rotated {
            outcome: if done.unchanged { "unchanged" } else { outcome },
            revision: done.revision.0,
        };
        match format {
            Format::Json => out.json(&table::json(&rotated))?,
            Format::Yaml => out.yaml(&table::json(&rotated))?,
            Format::Name | Format::Table | Format::Wide => {}
        }
        out.say(if done.unchanged { "under way already" } else { said });
        if self.wait.wait {
            let client = client.at_least(done.revision);
            or_interrupted(until(&client, out, self.wait.timeout, reached)).await?;
        }
        Ok(Exit::Done)
    }
}

/// Returns once it has come so far; says each time that it waits for something else.
async fn until(
    client: &Client,
    out: &mut Terminal,
    timeout: Duration,
    reached: &[&str],
) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    let mut told = String::new();
    loop {
        let seen = match client.authority_status().await {
            Ok(status) if reached.contains(&status.stage.as_str()) => {
                out.say(&status.message);
                return Ok(());
            }
            Ok(status) => waits_for(&status),
            Err(error) if error.can_retry() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(Failure::TimedOut(format!("the time to wait is over; it goes on. {seen}")));
        }
        if seen != told {
            out.say(&seen);
            told = seen;
        }
        sleep(PAUSE).await;
    }
}

fn waits_for(status: &AuthorityStatus) -> String {
    let nodes = status.waits_for.iter().take(NAMED);
    let nodes: Vec<String> = nodes.map(|wait| format!("{} {}", wait.node, wait.why)).collect();
    let more = status.waits_for.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    if nodes.is_empty() { status.message.clone() } else { format!("{}{more}", nodes.join("; ")) }
}

impl Listed for AuthorityRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("AUTHORITY"),
        Column::new("STAGE"),
        Column::new("ADDED").number(),
        Column::new("NEEDED"),
        Column::new("FINGERPRINT").wide(),
    ];

    fn name(&self) -> String {
        self.fingerprint.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let short = self.fingerprint.get(..SHORT).unwrap_or(&self.fingerprint);
        let needed = self.until.as_ref().map_or_else(|| "-".to_owned(), |at| when::left(now, at));
        vec![
            short.to_owned(),
            self.stage.clone(),
            when::age_of(now, Some(&self.added_at)),
            needed,
            self.fingerprint.clone(),
        ]
    }
}

impl Listed for AuthorityWait {
    const COLUMNS: &'static [Column] = &[Column::new("NODE"), Column::new("WHY")];

    fn name(&self) -> String {
        self.node.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        vec![self.node.clone(), self.why.clone()]
    }
}

fn export(out: &mut Terminal, status: &AuthorityStatus) -> Result<(), Failure> {
    status.authorities.iter().try_for_each(|authority| out.line(authority.certificate.trim_end()))
}

fn print(out: &mut Terminal, format: Format, status: &AuthorityStatus) -> Result<(), Failure> {
    match format {
        Format::Json => return out.json(&table::json(status)),
        Format::Yaml => return out.yaml(&table::json(status)),
        Format::Name => return status.authorities.iter().try_for_each(|it| out.line(&it.fingerprint)),
        Format::Table | Format::Wide => {}
    }
    out.line(&text::paragraph(&format!("{}: {}", status.stage, status.message), 0, out.width()))?;
    if !status.certificates.is_empty() {
        let names = status.certificates.join(", ");
        let text = format!("certificates of people and programs by the former one: {names}");
        out.line(&text::paragraph(&text, 0, out.width()))?;
    }
    if !status.authorities.is_empty() {
        out.line("")?;
        Listing::whole(out, format, &status.authorities)?;
    }
    if !status.waits_for.is_empty() {
        out.line("")?;
        Listing::whole(out, format, &status.waits_for)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::recorded;

    fn status() -> AuthorityStatus {
        let row = |byte: &str, stage: &str| AuthorityRow {
            fingerprint: byte.repeat(32),
            stage: stage.to_owned(),
            added_at: "2026-01-10T12:00:00.000Z".to_owned(),
            until: None,
            certificate: "PEM".to_owned(),
        };
        let wait = |node: usize| AuthorityWait {
            node: format!("n{node}"),
            why: "has no certificate of the new authority yet".to_owned(),
        };
        AuthorityStatus {
            stage: "renewing".to_owned(),
            message: "efefefefefef issues".to_owned(),
            authorities: vec![row("ef", "issues"), row("ab", "former")],
            waits_for: (1..=7).map(wait).collect(),
            certificates: vec!["ci".to_owned(), "vera".to_owned()],
        }
    }

    fn printed(format: Format) -> String {
        let (mut out, recording) = recorded::terminal("");
        print(&mut out, format, &status()).expect("it prints");
        recording.data()
    }

    #[test]
    fn it_says_how_it_stands_and_whom_it_waits_for() {
        let table = printed(Format::Table);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "renewing: efefefefefef issues");
        assert_eq!(lines[1], "certificates of people and programs by the former one: ci, vera");
        assert!(lines[3].starts_with("AUTHORITY") && !lines[3].contains("FINGERPRINT"), "{table}");
        assert!(lines[4].starts_with("efefefefefef  issues"), "{table}");
        assert!(
            table.contains("n7") && table.contains("has no certificate of the new authority yet"),
            "{table}"
        );
        assert!(printed(Format::Wide).contains(&"ab".repeat(32)));
        assert_eq!(printed(Format::Name).lines().count(), 2);
        let json: serde_json::Value = serde_json::from_str(&printed(Format::Json)).expect("JSON");
        assert_eq!((&json["stage"], &json["waits_for"][6]["node"]), (&"renewing".into(), &"n7".into()));
    }

    #[test]
    fn certificates_are_printed_one_below_the_other() {
        let (mut out, recording) = recorded::terminal("");
        export(&mut out, &status()).expect("it prints");
        assert_eq!(recording.data(), "PEM\nPEM\n");
    }

    #[test]
    fn a_wait_names_a_few() {
        let said = waits_for(&status());
        assert!(said.starts_with("n1 has no certificate") && said.ends_with("; and 2 more"), "{said}");
        let nobody = AuthorityStatus { waits_for: Vec::new(), ..status() };
        assert_eq!(waits_for(&nobody), "efefefefefef issues");
    }
}
