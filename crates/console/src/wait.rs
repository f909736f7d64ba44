//! `--wait`: until the cluster is as asked.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sheaf_model::view::{AffinityRow, BucketState, BucketStatus};
use sheaf_model::{BucketName, Revision};
use sheaf_wire::node::Affinity;
use sheaf_wire::{ApiError, Client, DEFAULT_DEADLINE, PAGE_MAX, PageOf};
use tokio::time::{Instant, sleep};

use crate::exit::{Exit, Failure};
use crate::options::Wait;
use crate::output::Terminal;

/// Between two looks; short beside what a start takes.
const PAUSE: Duration = Duration::from_millis(100);
/// So often in a row a bucket must be found without a node: verdicts may be on their way from a node that just came.
const SURE: u32 = 3;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// It runs wherever it should; one that is switched off does not.
    Runs,
    /// Nothing of it runs.
    NothingRuns,
    /// Every node that ran it when that was asked for has purged it.
    Purged,
    /// There is no such bucket, and nothing of it runs any more.
    Gone,
}

/// What a look at a bucket says about the goal.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// It is so.
    There,
    /// Not yet.
    NotYet,
    /// Not as things stand: no node is available.
    Unplaced,
    /// It will not come by waiting.
    Failed,
}

fn look(goal: Goal, status: &BucketStatus, least: Revision) -> Look {
    if goal == Goal::Purged {
        // Asked for again since: that one counts.
        return match &status.purge {
            Some(purge) if purge.revision < least.0 || !purge.waiting.is_empty() => Look::NotYet,
            Some(purge) if !purge.failed.is_empty() => Look::Failed,
            Some(_) => Look::There,
            None => Look::NotYet,
        };
    }
    if status.revision < least.0 {
        return Look::NotYet;
    }
    let goal = if status.suspended { Goal::NothingRuns } else { goal };
    if goal == Goal::Runs && status.rollout.as_ref().is_some_and(|rollout| rollout.stopped.is_some()) {
        return Look::Failed;
    }
    match (goal, status.state) {
        (Goal::Runs, BucketState::Running) | (Goal::NothingRuns, BucketState::Suspended) => Look::There,
        (Goal::Runs, BucketState::Unplaced) => Look::Unplaced,
        (Goal::Runs, BucketState::Failed) => Look::Failed,
        _ => Look::NotYet,
    }
}

/// Waits for each of these buckets, if that is asked for, until the time is up. The revision is that of the change
/// waited for.
pub(crate) async fn until(
    client: &Client,
    out: &mut Terminal,
    wait: Wait,
    goal: Goal,
    buckets: &[(BucketName, Revision)],
) -> Result<(), Failure> {
    if !wait.wait {
        return Ok(());
    }
    let progress = if out.progress() { spinner() } else { ProgressBar::hidden() };
    let deadline = Instant::now() + wait.timeout;
    let all = async {
        for (index, (bucket, revision)) in buckets.iter().enumerate() {
            let place = format!("({} of {})", index + 1, buckets.len());
            one(&client.at_least(*revision), &progress, &place, deadline, goal, bucket, *revision).await?;
        }
        Ok(())
    };
    let ended = or_interrupted(all).await;
    progress.finish_and_clear();
    ended
}

/// How a command over several things ended that has waited for those it has done: as the first that failed. What failed in the
/// wait is said before.
pub(crate) fn ended(
    out: &mut Terminal,
    done: Result<(), Failure>,
    waited: Result<(), Failure>,
) -> Result<Exit, Failure> {
    match (done, waited) {
        (Err(failure), Err(later)) if !failure.is_closed_pipe() => {
            let (said, ended) = match later {
                Failure::Interrupted => (failure, later),
                later => (later, failure),
            };
            out.say(&said.message());
            Err(ended)
        }
        (_, Err(failure)) | (Err(failure), Ok(())) => Err(failure),
        (Ok(()), Ok(())) => Ok(Exit::Done),
    }
}

async fn one(
    client: &Client,
    progress: &ProgressBar,
    place: &str,
    deadline: Instant,
    goal: Goal,
    bucket: &BucketName,
    revision: Revision,
) -> Result<(), Failure> {
    let mut unplaced = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).clamp(PAUSE, DEFAULT_DEADLINE);
        let seen = match client.with_deadline(left).bucket(bucket).await {
            Ok(got) => {
                let status = got.status;
                match look(goal, &status, revision) {
                    Look::There => return Ok(()),
                    Look::Failed if goal == Goal::Purged => return Err(Failure::Refused(unpurged(&status))),
                    Look::Failed => return Err(Failure::Refused(said(&status))),
                    Look::Unplaced if unplaced + 1 >= SURE => {
                        let why = format!("`sheaf bucket explain {bucket}` says why");
                        return Err(Failure::Unplaceable(format!("{}; {why}", said(&status))));
                    }
                    Look::Unplaced => unplaced += 1,
                    Look::NotYet => unplaced = 0,
                }
                said(&status)
            }
            Err(ApiError::NotFound(_)) if goal == Goal::Gone => match places(client, bucket).await {
                Ok(rows) if rows.is_empty() => return Ok(()),
                Ok(rows) => ending(bucket, &rows),
                Err(error) if error.can_retry() => error.to_string(),
                Err(error) => return Err(error.into()),
            },
            Err(error) if error.can_retry() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(Failure::TimedOut(format!("the time to wait is over: {seen}")));
        }
        progress.set_message(format!("{place} {seen}"));
        sleep(PAUSE).await;
    }
}

/// Where something of a bucket runs, or may still run if it is deleted.
pub(crate) async fn places(client: &Client, bucket: &BucketName) -> Result<Vec<AffinityRow>, ApiError> {
    let page = PageOf { size: PAGE_MAX, token: String::new() };
    Ok(client.affinity(Affinity { node: None, bucket: Some(bucket.clone()), page }).await?.rows)
}

/// What is left of a bucket that is deleted, in a sentence.
fn ending(bucket: &BucketName, rows: &[AffinityRow]) -> String {
    const SHOWN: usize = 5;
    let row = |row: &AffinityRow| match row.why.as_str() {
        "" => format!("{} is {}", row.node, row.phase),
        why => format!("{} is {}: {why}", row.node, row.phase),
    };
    let shown: Vec<String> = rows.iter().take(SHOWN).map(row).collect();
    let more = match rows.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{bucket} is deleted and may still run on {}: {}{more}", rows.len(), shown.join("; "))
}

/// Waits until the gates of a node answer for what was registered at this revision, until the time is up.
pub(crate) async fn answered(
    client: &Client,
    out: &mut Terminal,
    wait: Wait,
    node: &str,
    revision: Revision,
) -> Result<(), Failure> {
    let progress = if out.progress() { spinner() } else { ProgressBar::hidden() };
    let deadline = Instant::now() + wait.timeout;
    let ended = or_interrupted(heard(&client.at_least(revision), &progress, deadline, node, revision)).await;
    progress.finish_and_clear();
    ended
}

async fn heard(
    client: &Client,
    progress: &ProgressBar,
    deadline: Instant,
    node: &str,
    revision: Revision,
) -> Result<(), Failure> {
    let mut has_seen = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).clamp(PAUSE, DEFAULT_DEADLINE);
        let said = match client.with_deadline(left).node(node).await {
            // What it answers follows at once; it is here by the second look.
            Ok(detail) if detail.facts.seen >= revision.0 && has_seen => return Ok(()),
            Ok(detail) => {
                has_seen = detail.facts.seen >= revision.0;
                let row = detail.row;
                format!("node {} is {} and has not answered since revision {revision}", row.name, row.status)
            }
            Err(error) if error.can_retry() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(Failure::TimedOut(format!("the time to wait is over: {said}")));
        }
        progress.set_message(said);
        sleep(PAUSE).await;
    }
}

/// Where a purge failed, and why.
fn unpurged(status: &BucketStatus) -> String {
    let failed = status.purge.iter().flat_map(|purge| &purge.failed);
    let each: Vec<String> = failed
        .map(|it| format!("{} could not be purged on {}: {}", status.name, it.node, it.message))
        .collect();
    each.join("\n")
}

/// Where a bucket stands, in a sentence.
fn said(status: &BucketStatus) -> String {
    let message = if status.message.is_empty() { status.state.about() } else { &status.message };
    format!(
        "{} is {}, runs on {} of {}: {message}",
        status.name,
        status.state.as_str(),
        status.running,
        status.desired,
    )
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} waiting {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Looks again and again until nothing is left; `look` says what is, and `late` words that where the time is up.
pub(crate) async fn until_none(
    (timeout, pause): (Duration, Duration),
    late: impl Fn(&str) -> String,
    mut look: impl AsyncFnMut() -> Result<Option<String>, ApiError>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    let looks = async {
        loop {
            let left = match look().await {
                Ok(None) => return Ok(()),
                Ok(Some(left)) => left,
                Err(error) if error.can_retry() => error.to_string(),
                Err(error) => return Err(error.into()),
            };
            if Instant::now() >= deadline {
                return Err(Failure::TimedOut(late(&left)));
            }
            sleep(pause).await;
        }
    };
    or_interrupted(looks).await
}

/// The work, or its end by Ctrl-C. For what may take long: elsewhere the signal's own way is good enough.
pub(crate) async fn or_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        // Only reads are under way; what is dropped with them changes nothing.
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        // The signal is for this wait alone.
        ended = work => ended,
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::view::{PurgeFailure, PurgeView};

    use super::*;
    use crate::command::bucket::example;
    use crate::output::recorded;

    #[test]
    fn a_look_tells_what_is_so_from_what_cannot_be() {
        let at = |state, suspended| BucketStatus { state, suspended, ..example::status() };
        let least = Revision(at(BucketState::Running, false).revision);
        let runs = |state| look(Goal::Runs, &at(state, false), least);
        assert_eq!(runs(BucketState::Running), Look::There);
        assert_eq!(runs(BucketState::Partial), Look::NotYet);
        assert_eq!(runs(BucketState::Placing), Look::NotYet);
        assert_eq!(runs(BucketState::Unplaced), Look::Unplaced);
        assert_eq!(runs(BucketState::Failed), Look::Failed);
        let off = |goal, state| look(goal, &at(state, true), least);
        assert_eq!(off(Goal::NothingRuns, BucketState::Stopping), Look::NotYet);
        assert_eq!(off(Goal::NothingRuns, BucketState::Suspended), Look::There);
        assert_eq!(off(Goal::Runs, BucketState::Suspended), Look::There, "applied while switched off");
        let later = Revision(least.0 + 1);
        assert_eq!(look(Goal::Runs, &at(BucketState::Running, false), later), Look::NotYet);
        let purge = |revision, waiting: &[&str], failed: &[(&str, &str)]| {
            let waiting = waiting.iter().map(ToString::to_string).collect();
            let failure =
                |(node, why): &(&str, &str)| PurgeFailure { node: (*node).into(), message: (*why).into() };
            let failed = failed.iter().map(failure).collect();
            let purge = Some(PurgeView { revision, waiting, failed });
            look(Goal::Purged, &BucketStatus { purge, ..example::status() }, Revision(9))
        };
        assert_eq!(purge(8, &[], &[]), Look::NotYet, "an earlier one");
        assert_eq!(purge(9, &["n1"], &[("n2", "in use")]), Look::NotYet);
        assert_eq!(purge(9, &[], &[("n2", "in use")]), Look::Failed);
        assert_eq!(purge(9, &[], &[]), Look::There);
        assert_eq!(look(Goal::Gone, &at(BucketState::Suspended, false), least), Look::NotYet);
    }

    #[test]
    fn what_failed_first_is_how_it_ends_and_all_is_said() {
        let failed = |text: &str| Err(Failure::NotFound(text.to_owned()));
        let late = || Err(Failure::TimedOut("late".to_owned()));
        let gone = || {
            let source = std::io::ErrorKind::BrokenPipe.into();
            Err(Failure::Write { what: "the answer".to_owned(), source })
        };
        for (done, waited, exit, said) in [
            (Ok(()), Ok(()), 0, ""),
            (failed("none"), Ok(()), 3, ""),
            (Ok(()), late(), 4, ""),
            (failed("none"), late(), 3, "error: late\n"),
            (failed("none"), Err(Failure::Interrupted), 130, "error: none\n"),
            (gone(), late(), 4, ""),
        ] {
            let (mut out, recording) = recorded::terminal("");
            let ended = ended(&mut out, done, waited).unwrap_or_else(|failure| failure.exit());
            assert_eq!((ended.code(), recording.talk().as_str()), (exit, said));
        }
    }

    #[test]
    fn a_sentence_says_where_it_stands() {
        let status = BucketStatus { state: BucketState::Partial, running: 1, ..example::status() };
        assert_eq!(
            said(&status),
            "/logs/web is partial, runs on 1 of 2: runs on some of the nodes it should"
        );
    }
}
