//! `sheaf node drain|undrain|forget NODE`

use std::time::Duration;

use clap::Args;
use sheaf_model::{Drain as How, Span, Timestamp};
use sheaf_wire::node::{DrainNode, Going, OnNode};
use sheaf_wire::{ApiError, Client, Done};
use tokio::time::{Instant, sleep};

use super::found;
use crate::command::apply::{OutcomeRow, warn};
use crate::exit::{Exit, Failure};
use crate::options::{Wait, Yes};
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed, Listing};
use crate::wait::or_interrupted;
use crate::{connect, text, when};

/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(200);

/// `sheaf node drain`
#[derive(Args, Debug)]
#[command(after_long_help = "\
The node gets no new work; what it runs moves, one bucket after the other, each once it can go elsewhere.

Examples:
  sheaf node drain import-01 --dry-run               # what would move where, and what cannot
  sheaf node drain import-01 --wait --timeout 10m
  sheaf node drain import-01 --deadline 5m           # what cannot move is stopped then")]
pub struct Drain {
    /// The node's name, its id or the unique beginning of one
    #[arg(value_name = "NODE")]
    node: String,
    /// Stop then what could not go elsewhere; without it that stays
    #[arg(long, value_parser = when::duration, value_name = "DURATION")]
    deadline: Option<Duration>,
    /// Let multi-node buckets go on running there
    #[arg(long)]
    keep_multi_node: bool,
    /// Only show what would move where
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
}

/// `sheaf node undrain`
#[derive(Args, Debug)]
pub struct Undrain {
    /// The node's name, its id or the unique beginning of one
    #[arg(value_name = "NODE")]
    node: String,
}

/// `sheaf node forget`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Only for a node that is lost and will not come back. You vouch that nothing it ran is alive. Should it come back after
all, it stops its work; to join again it needs an empty data directory.

Examples:
  sheaf node forget import-03")]
pub struct Forget {
    /// The node's name, its id or the unique beginning of one
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    yes: Yes,
}

impl Listed for Going {
    const COLUMNS: &'static [Column] = &[Column::new("BUCKET"), Column::new("GOES TO"), Column::new("WHY")];

    fn name(&self) -> String {
        self.bucket.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        let to = if self.to.is_empty() { "-" } else { &self.to };
        vec![self.bucket.clone(), to.to_owned(), self.why.clone()]
    }
}

impl Drain {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let request = connect::request();
        let deadline = self.deadline.map(|span| Span(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)));
        let drain = How { deadline, keep_multi_node: self.keep_multi_node };
        let validate_only = self.dry_run;
        let drained = found(client, &self.node, async |node| {
            client.drain_node(DrainNode { node, drain, validate_only, request: request.clone() }).await
        });
        let drained = drained.await?;
        warn(out, &drained.done.warnings);
        Listing::whole(out, format, &drained.going)?;
        if drained.going.is_empty() {
            out.say(&format!("nothing runs on {}", self.node));
        }
        if self.dry_run {
            return Ok(Exit::Done);
        }
        out.say(&format!(
            "node {} is being drained; `sheaf node undrain {}` ends that",
            self.node, self.node
        ));
        out.flush()?;
        if self.wait.wait {
            or_interrupted(emptied(client, out, &self.node, self.keep_multi_node, self.wait.timeout)).await?;
        }
        Ok(Exit::Done)
    }
}

/// Returns once nothing runs there that is to go; says each time that it has become less.
async fn emptied(
    client: &Client,
    out: &mut Terminal,
    node: &str,
    keep_multi_node: bool,
    timeout: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    let mut least = usize::MAX;
    let name = found(client, node, async |node| client.node(&node).await).await?.row.name;
    loop {
        let left = match client.node(&name).await {
            Ok(detail) => {
                let stays = |multi_node: bool| multi_node && keep_multi_node;
                let left = detail.affinity.iter().filter(|row| !stays(row.multi_node));
                let left: Vec<&str> = left.map(|row| row.bucket.as_str()).collect();
                if left.is_empty() {
                    return Ok(());
                }
                if left.len() < least {
                    least = left.len();
                    out.say(&format!("{} left: {}", text::count(least, "bucket"), some(&left)));
                }
                some(&left)
            }
            Err(error) if error.can_retry() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(Failure::TimedOut(format!(
                "the time to wait is over; the drain goes on. Left on {node}: {left}"
            )));
        }
        sleep(PAUSE).await;
    }
}

fn some(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

impl Undrain {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let ask = async |ask| client.undrain_node(ask).await;
        change(client, &self.node, "undrained", format, out, ask).await
    }
}

impl Forget {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let node = &self.node;
        if !self.yes.yes && !out.confirm(&format!("vouch that nothing {node} ran is alive, and forget it?")) {
            return Err(Failure::Refused("nothing was forgotten".to_owned()));
        }
        let ask = async |ask| client.forget_node(ask).await;
        change(client, node, "forgotten", format, out, ask).await
    }
}

/// A change that needs no more than the node's name; `done` is the word for its outcome.
async fn change(
    client: &Client,
    node: &str,
    done: &str,
    format: Format,
    out: &mut Terminal,
    ask: impl AsyncFn(OnNode) -> Result<Done, ApiError>,
) -> Result<Exit, Failure> {
    let request = connect::request();
    let changed =
        found(client, node, async |node| ask(OnNode { node, request: request.clone() }).await).await?;
    let outcome = if changed.unchanged { "unchanged" } else { done };
    Listing::whole(out, format, &[OutcomeRow::of("Node", node, outcome, changed.revision)])?;
    Ok(Exit::Done)
}
