//! `sheaf node drain|undrain|forget NODE`

use std::time::Duration;

use clap::Args;
use sheaf_model::view::NodeDetail;
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
The node gets no new work; what it runs moves, one bucket after the other, each once it can go elsewhere. Subtasks of jobs that
have not begun there are run elsewhere; those that have end there, or at the deadline are stopped and run elsewhere, which counts
as no attempt.

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
#[command(after_long_help = "\
With --wait until it is no longer draining.

Examples:
  sheaf node undrain import-01 --wait")]
pub struct Undrain {
    /// The node's name, its id or the unique beginning of one
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    wait: Wait,
}

/// `sheaf node forget`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Only for a node that is lost and will not come back. You vouch that nothing it ran is alive. Should it come back after
all, it stops its work; to join again it needs an empty data directory. With --wait until nothing is bound to it any more.

Examples:
  sheaf node forget import-03")]
pub struct Forget {
    /// The node's name, its id or the unique beginning of one
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    yes: Yes,
    #[command(flatten)]
    wait: Wait,
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
        match (drained.going.is_empty(), drained.subtasks as usize) {
            (true, 0) => out.say(&format!("nothing runs on {}", self.node)),
            (false, 0) => {}
            (_, subtasks) => {
                let until = if self.deadline.is_some() { ", or until the deadline" } else { "" };
                out.say(&format!(
                    "{} of jobs there: what has begun runs until it ends{until}, the rest goes elsewhere",
                    text::count(subtasks, "subtask")
                ));
            }
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
    let mut said = Left { buckets: usize::MAX, subtasks: usize::MAX };
    let name = found(client, node, async |node| client.node(&node).await).await?.row.name;
    loop {
        let left = match client.node(&name).await {
            Ok(detail) => {
                let stays = |multi_node: bool| multi_node && keep_multi_node;
                let left = detail.affinity.iter().filter(|row| !stays(row.multi_node));
                let buckets: Vec<&str> = left.map(|row| row.bucket.as_str()).collect();
                let left = Left { buckets: buckets.len(), subtasks: detail.subtasks as usize };
                if left == (Left { buckets: 0, subtasks: 0 }) {
                    return Ok(());
                }
                let text = left.said(&buckets);
                if left.is_news(said) {
                    said = left;
                    out.say(&text);
                }
                text
            }
            Err(error) if error.can_retry() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(Failure::TimedOut(format!(
                "the time to wait is over; the drain goes on. On {node}: {left}"
            )));
        }
        sleep(PAUSE).await;
    }
}

/// How much of a node that is drained is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    buckets: usize,
    subtasks: usize,
}

impl Left {
    /// Whether that is worth saying after this was said: subtasks may end one after the other for a long time.
    fn is_news(self, said: Self) -> bool {
        let fewer = self.subtasks < said.subtasks && self.subtasks <= said.subtasks / 2;
        self.buckets < said.buckets || fewer
    }

    /// With the names of those buckets.
    fn said(self, buckets: &[&str]) -> String {
        let subtasks = text::count(self.subtasks, "subtask");
        match (self.buckets, self.subtasks) {
            (0, _) => format!("{subtasks} left"),
            (count, 0) => format!("{} left: {}", text::count(count, "bucket"), some(buckets)),
            (count, _) => {
                format!("{} and {subtasks} left: {}", text::count(count, "bucket"), some(buckets))
            }
        }
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
        let drains = |detail: &NodeDetail| (detail.row.status == "draining").then(|| "it drains".to_owned());
        change(client, (self.node.as_str(), "undrained"), self.wait, format, out, (ask, drains)).await
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
        let bound = |detail: &NodeDetail| {
            let left = text::count(detail.affinity.len(), "bucket");
            (!detail.affinity.is_empty()).then(|| format!("{left} bound to it"))
        };
        change(client, (node.as_str(), "forgotten"), self.wait, format, out, (ask, bound)).await
    }
}

/// A change that needs no more than the node's name; `done` is the word for its outcome. It is waited for until nothing is left
/// of what is to end.
async fn change(
    client: &Client,
    (node, done): (&str, &str),
    wait: Wait,
    format: Format,
    out: &mut Terminal,
    (ask, left): (impl AsyncFn(OnNode) -> Result<Done, ApiError>, impl Fn(&NodeDetail) -> Option<String>),
) -> Result<Exit, Failure> {
    let request = connect::request();
    // By its number: when it is forgotten, another may have its name.
    let id = match wait.wait {
        true => Some(found(client, node, async |node| client.node(&node).await).await?.row.id),
        false => None,
    };
    let changed =
        found(client, node, async |node| ask(OnNode { node, request: request.clone() }).await).await?;
    let outcome = if changed.unchanged { "unchanged" } else { done };
    Listing::whole(out, format, &[OutcomeRow::of("Node", node, outcome, changed.revision)])?;
    out.flush()?;
    if let Some(id) = id {
        or_interrupted(ended(&client.at_least(changed.revision), id, node, wait.timeout, left)).await?;
    }
    Ok(Exit::Done)
}

/// Returns once nothing is left at the node, or it is gone altogether.
async fn ended(
    client: &Client,
    id: u64,
    node: &str,
    timeout: Duration,
    left: impl Fn(&NodeDetail) -> Option<String>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    let name = id.to_string();
    loop {
        let seen = match client.node(&name).await {
            Ok(detail) => match left(&detail) {
                Some(left) => left,
                None => return Ok(()),
            },
            Err(ApiError::NotFound(_)) => return Ok(()),
            Err(error) if error.can_retry() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(Failure::TimedOut(format!("the time to wait is over. Node {node}: {seen}")));
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_now_and_then() {
        let left = |buckets, subtasks| Left { buckets, subtasks };
        assert_eq!(left(0, 1).said(&[]), "1 subtask left");
        assert_eq!(left(2, 0).said(&["/a", "/b"]), "2 buckets left: /a, /b");
        assert_eq!(left(1, 20).said(&["/a"]), "1 bucket and 20 subtasks left: /a");
        let all = left(usize::MAX, usize::MAX);
        assert!(left(0, 20).is_news(all) && left(2, 0).is_news(all));
        assert!(left(1, 0).is_news(left(2, 0)) && left(1, 20).is_news(left(2, 20)));
        assert!(!left(2, 19).is_news(left(2, 20)) && left(2, 10).is_news(left(2, 20)));
        assert!(left(2, 0).is_news(left(2, 1)) && !left(2, 0).is_news(left(2, 0)));
    }
}
