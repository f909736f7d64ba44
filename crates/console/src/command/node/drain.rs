//! `sheaf node drain|undrain|forget NODE`

mod moves;

use std::time::Duration;

use clap::Args;
use sheaf_model::view::{AffinityRow, NodeDetail};
use sheaf_model::{BucketName, Drain as How, Span, Timestamp};
use sheaf_wire::node::{DrainNode, Going, OnNode};
use sheaf_wire::{ApiError, Client, Done};
use tokio::time::{Instant, sleep};

use moves::Moves;

use super::{found, numbered};
use crate::command::apply::{OutcomeRow, warn};
use crate::exit::{Exit, Failure};
use crate::options::{Wait, Yes};
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed, Listing};
use crate::wait::{or_interrupted, places, until_none};
use crate::{connect, text, when};

/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(200);
/// So long what has left the node may take to run elsewhere until it is told as it is: the drain itself is over.
const ARRIVES_WITHIN: Duration = Duration::from_secs(2);
/// Between two questions where what is left could go: each looks at all nodes.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// `sheaf node drain`
#[derive(Args, Debug)]
#[command(after_long_help = "\
The node gets no new work; what it runs moves, one bucket after the other, each once it can go elsewhere. Subtasks of jobs that
have not begun there are run elsewhere; those that have end there, or at the deadline are stopped and run elsewhere, which counts
as no attempt. With --wait each bucket is told as it runs elsewhere, and why one cannot.

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
        let node = self.node.as_str();
        out.say(&format!("node {node} is being drained; `sheaf node undrain {node}` ends that"));
        if !self.wait.wait {
            out.say(&format!(
                "`sheaf events --follow --where kind=bucket` tells each move, `sheaf node status {node}` what is left; --wait \
                 does both"
            ));
        }
        out.flush()?;
        if self.wait.wait {
            or_interrupted(emptied(client, out, (node, drain), &drained.going, self.wait.timeout)).await?;
        }
        Ok(Exit::Done)
    }
}

/// Returns once nothing runs there that is to go; says what goes where, and what cannot.
async fn emptied(
    client: &Client,
    out: &mut Terminal,
    (node, drain): (&str, How),
    going: &[Going],
    timeout: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    let row = found(client, node, async |node| client.node(&node).await).await?.row;
    let mut emptying = Emptying {
        client,
        drain,
        moves: Moves::new(&row.name, going, Instant::now()),
        node: numbered(row.id),
        said: usize::MAX,
        asked_at: Instant::now(),
        empty_since: None,
    };
    loop {
        let late = Instant::now() >= deadline;
        let left = match emptying.look(out, late).await {
            Ok(None) => return Ok(()),
            Ok(Some(left)) => left,
            Err(error) if error.can_retry() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if late {
            return Err(Failure::TimedOut(format!(
                "the time to wait is over; the drain goes on. On {node}: {left}"
            )));
        }
        sleep(PAUSE).await;
    }
}

/// A drain that is waited for.
struct Emptying<'a> {
    client: &'a Client,
    /// The very node: another may have its name by then, or that for its number.
    node: String,
    drain: How,
    moves: Moves,
    /// How many subtasks were said last to be left.
    said: usize,
    /// When it was asked where what is left could go.
    asked_at: Instant,
    /// Since when nothing is left there.
    empty_since: Option<Instant>,
}

impl Emptying<'_> {
    /// Says what is new; `late`: this is the last look. What is left; none: nothing.
    async fn look(&mut self, out: &mut Terminal, late: bool) -> Result<Option<String>, ApiError> {
        let detail = self.client.node(&self.node).await?;
        let stays = |row: &AffinityRow| row.multi_node && self.drain.keep_multi_node;
        let rows: Vec<&AffinityRow> = detail.affinity.iter().filter(|row| !stays(row)).collect();
        let left = Left { buckets: rows.len(), subtasks: detail.subtasks as usize };
        let is_empty = left == (Left { buckets: 0, subtasks: 0 });
        let now = Instant::now();
        self.moves.looked(&rows, now);
        self.empty_since = is_empty.then(|| self.empty_since.unwrap_or(now));
        let over = self.empty_since.is_some_and(|since| late || since.elapsed() >= ARRIVES_WITHIN);
        for bucket in self.moves.gone() {
            let rows = match BucketName::new(&bucket) {
                Ok(bucket) => places(self.client, &bucket).await?,
                Err(_) => Vec::new(), // of a later version
            };
            if let Some(said) = self.moves.arrived(&bucket, &rows, over, Instant::now()) {
                out.say(&said);
            }
        }
        if is_empty {
            let gone = self.moves.gone();
            return Ok((!gone.is_empty()).then(|| format!("nothing; {} runs nowhere yet", some(&gone))));
        }
        self.ask(out).await;
        let text = left.said(&self.moves.left());
        if left.is_news(self.said) {
            self.said = left.subtasks;
            out.say(&text);
        }
        Ok(Some(text))
    }

    /// Says now and then why something cannot go, if that is new. It helps who waits, and is no reason to end that.
    async fn ask(&mut self, out: &mut Terminal) {
        if self.asked_at.elapsed() < ASK_EVERY || !self.moves.waits() {
            return;
        }
        self.asked_at = Instant::now();
        let (node, drain) = (self.node.clone(), self.drain);
        let ask = DrainNode { node, drain, validate_only: true, request: None };
        if let Ok(drained) = self.client.drain_node(ask).await {
            for said in self.moves.asked(&drained.going) {
                out.say(&said);
            }
        }
    }
}

/// How much of a node that is drained is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    buckets: usize,
    subtasks: usize,
}

impl Left {
    /// Whether that is worth saying after so many subtasks were said: of buckets each move is told, and subtasks may end one
    /// after the other for a long time.
    const fn is_news(self, said: usize) -> bool {
        self.subtasks < said && self.subtasks <= said / 2
    }

    /// With those buckets.
    fn said(self, buckets: &[String]) -> String {
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

fn some<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).map(T::as_ref).collect::<Vec<_>>().join(", ");
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
        ended(&client.at_least(changed.revision), id, node, wait.timeout, left).await?;
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
    let name = numbered(id);
    let late = |left: &str| format!("the time to wait is over. Node {node}: {left}");
    let look = async || match client.node(&name).await {
        Ok(detail) => Ok(left(&detail)),
        Err(ApiError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    };
    until_none((timeout, PAUSE), late, look).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_now_and_then() {
        let left = |buckets, subtasks| Left { buckets, subtasks };
        let named = ["/a", "/b"].map(str::to_owned);
        assert_eq!(left(0, 1).said(&[]), "1 subtask left");
        assert_eq!(left(2, 0).said(&named), "2 buckets left: /a, /b");
        assert_eq!(left(1, 20).said(&named[..1]), "1 bucket and 20 subtasks left: /a");
        let all = usize::MAX;
        assert!(left(0, 20).is_news(all) && left(2, 0).is_news(all));
        assert!(!left(1, 20).is_news(20), "that one has left is told with where it runs");
        assert!(!left(2, 19).is_news(20) && left(2, 10).is_news(20));
        assert!(left(2, 0).is_news(1) && !left(2, 0).is_news(0));
    }
}
