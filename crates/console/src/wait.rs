//! `--wait`: until the cluster is as asked.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sheaf_model::view::{AffinityRow, BucketState, BucketStatus, InstanceView};
use sheaf_model::{BucketName, Revision};
use sheaf_wire::node::Affinity;
use sheaf_wire::{ApiError, Client, DEFAULT_DEADLINE, PAGE_MAX, PageOf};
use tokio::time::{Instant, sleep, sleep_until};

use crate::exit::{Exit, Failure};
use crate::options::Wait;
use crate::output::Terminal;

/// Between two looks; short beside what a start takes.
const PAUSE: Duration = Duration::from_millis(100);
/// So often in a row a bucket must be found without a node: verdicts may be on their way from a node that just came.
const SURE: u32 = 3;
/// What runs counts once it was seen to for so long, each program in one life: what cannot run has mostly ended by then.
const LASTS: Duration = Duration::from_millis(300);

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
    /// It runs, and has not for long enough to count.
    Runs,
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

/// What the looks at a bucket have found so far.
#[derive(Debug, Default)]
struct Seen {
    /// So often in a row it had no node.
    unplaced: u32,
    /// Since when what it runs was seen to.
    running: Option<(Instant, Vec<InstanceView>)>,
}

impl Seen {
    /// Takes in the next look, which was at `now`.
    fn look(&mut self, goal: Goal, status: &BucketStatus, least: Revision, now: Instant) -> Look {
        let found = look(goal, status, least);
        self.unplaced = if found == Look::Unplaced { self.unplaced + 1 } else { 0 };
        let former = self.running.take();
        match found {
            Look::Unplaced if self.unplaced < SURE => Look::NotYet,
            Look::There if goal == Goal::Runs => {
                let lives = lives(status);
                // Of what has ended as wanted nothing can end any more.
                if lives.is_empty() {
                    return Look::There;
                }
                let since = former.filter(|former| former.1 == lives).map_or(now, |(since, _)| since);
                self.running = Some((since, lives));
                if now >= since + LASTS { Look::There } else { Look::Runs }
            }
            found => found,
        }
    }

    /// When what runs counts, if it still does then.
    fn counts(&self) -> Option<Instant> {
        self.running.as_ref().map(|(since, _)| *since + LASTS)
    }

    /// Whether it was seen to run for the first time, in these lives, after that.
    fn began_after(&self, moment: Instant) -> bool {
        self.running.as_ref().is_some_and(|(since, _)| *since > moment)
    }
}

/// The programs that run, each with what is another's once it was started again.
fn lives(status: &BucketStatus) -> Vec<InstanceView> {
    let running = status.instances.iter().filter(|instance| instance.phase == "running");
    running.map(|it| InstanceView { message: String::new(), revision: 0, ..it.clone() }).collect()
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
    let each = buckets.iter().enumerate().map(|(index, (bucket, revision))| Waiting {
        client: client.at_least(*revision),
        place: format!("({} of {})", index + 1, buckets.len()),
        goal,
        bucket,
        revision: *revision,
        seen: Seen::default(),
    });
    let mut each: Vec<Waiting<'_>> = each.collect();
    let all = async {
        for waiting in &mut each {
            waiting.once(&progress, deadline).await?;
        }
        // Here, so that many take no longer to count than one.
        for waiting in &mut each {
            waiting.surely(&progress, deadline).await?;
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

/// A bucket that is waited for.
struct Waiting<'a> {
    client: Client,
    /// Among the others, for people.
    place: String,
    goal: Goal,
    bucket: &'a BucketName,
    revision: Revision,
    seen: Seen,
}

impl Waiting<'_> {
    /// Until it is as asked, if only for a moment.
    async fn once(&mut self, progress: &ProgressBar, deadline: Instant) -> Result<(), Failure> {
        loop {
            let seen = match self.look(deadline).await? {
                (Look::There | Look::Runs, _) => return Ok(()),
                (_, seen) => seen,
            };
            self.pause(progress, deadline, &seen).await?;
        }
    }

    /// Until what was seen to run has done so for long enough. What ran in time is waited for past the deadline.
    async fn surely(&mut self, progress: &ProgressBar, deadline: Instant) -> Result<(), Failure> {
        while let Some(counts) = self.seen.counts() {
            sleep_until(counts).await;
            match self.look(deadline).await? {
                (Look::There, _) => return Ok(()),
                (Look::Runs, seen) if self.seen.began_after(deadline) => {
                    return Err(late(&format!("{seen}, but not for long: it was started again")));
                }
                (Look::Runs, seen) => progress.set_message(format!("{} {seen}", self.place)),
                (_, seen) => {
                    self.pause(progress, deadline, &seen).await?;
                    self.once(progress, deadline).await?;
                }
            }
        }
        Ok(())
    }

    /// Looks once; what was seen is in words, too. An error, once waiting makes no sense.
    async fn look(&mut self, deadline: Instant) -> Result<(Look, String), Failure> {
        let (goal, bucket) = (self.goal, self.bucket);
        let left = deadline.saturating_duration_since(Instant::now()).clamp(PAUSE, DEFAULT_DEADLINE);
        match self.client.with_deadline(left).bucket(bucket).await {
            Ok(got) => {
                let status = got.status;
                let seen = said(&status);
                match self.seen.look(goal, &status, self.revision, Instant::now()) {
                    Look::Failed if goal == Goal::Purged => Err(Failure::Refused(unpurged(&status))),
                    Look::Failed => Err(Failure::Refused(seen)),
                    Look::Unplaced => {
                        let why = format!("`sheaf bucket explain {bucket}` says why");
                        Err(Failure::Unplaceable(format!("{seen}; {why}")))
                    }
                    found => Ok((found, seen)),
                }
            }
            Err(ApiError::NotFound(_)) if goal == Goal::Gone => match places(&self.client, bucket).await {
                Ok(rows) if rows.is_empty() => Ok((Look::There, String::new())),
                Ok(rows) => Ok((Look::NotYet, ending(bucket, &rows))),
                Err(error) if error.can_retry() => Ok((Look::NotYet, error.to_string())),
                Err(error) => Err(error.into()),
            },
            Err(error) if error.can_retry() => Ok((Look::NotYet, error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Before the next look, if there is time for one.
    async fn pause(&self, progress: &ProgressBar, deadline: Instant, seen: &str) -> Result<(), Failure> {
        if Instant::now() >= deadline {
            return Err(late(seen));
        }
        progress.set_message(format!("{} {seen}", self.place));
        sleep(PAUSE).await;
        Ok(())
    }
}

fn late(seen: &str) -> Failure {
    Failure::TimedOut(format!("the time to wait is over: {seen}"))
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
            return Err(late(&said));
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

    /// What each of these looks says, so many milliseconds after the first, or from when on what runs counts; found is the
    /// process, if any runs.
    fn looks(found: &[(u64, Option<u32>)]) -> Vec<Result<u128, Look>> {
        let (began, mut seen) = (Instant::now(), Seen::default());
        let each = found.iter().map(|(at, pid)| {
            let mut status = example::status();
            status.state = if pid.is_some() { BucketState::Running } else { BucketState::Starting };
            for instance in &mut status.instances {
                instance.pid = *pid;
                instance.phase = if pid.is_some() { "running" } else { "backoff" }.to_owned();
            }
            match seen.look(Goal::Runs, &status, Revision(0), began + Duration::from_millis(*at)) {
                Look::Runs => Ok((seen.counts().expect("it runs") - began).as_millis()),
                other => Err(other),
            }
        });
        each.collect()
    }

    #[test]
    fn what_runs_counts_once_it_has_for_a_while_in_one_life() {
        const THERE: Result<u128, Look> = Err(Look::There);
        const NOT_YET: Result<u128, Look> = Err(Look::NotYet);
        let runs = looks(&[(0, None), (100, Some(7)), (200, Some(7)), (400, Some(7))]);
        assert_eq!(runs, [NOT_YET, Ok(400), Ok(400), THERE]);
        let crashes = looks(&[(0, Some(1)), (300, None), (400, Some(2)), (700, Some(3)), (1000, None)]);
        assert_eq!(crashes, [Ok(300), NOT_YET, Ok(700), Ok(1000), NOT_YET]);
        let mends = looks(&[(0, Some(1)), (300, Some(2)), (600, Some(2))]);
        assert_eq!(mends, [Ok(300), Ok(600), THERE]);

        let mut ended = example::status();
        ended.instances.iter_mut().for_each(|instance| instance.phase = "stopped".to_owned());
        let now = Instant::now();
        let look = |goal, status: &BucketStatus| Seen::default().look(goal, status, Revision(0), now);
        assert_eq!(look(Goal::Runs, &ended), Look::There, "nothing of it can end any more");
        let off = BucketStatus { state: BucketState::Suspended, suspended: true, ..example::status() };
        assert_eq!(look(Goal::NothingRuns, &off), Look::There);
    }

    #[test]
    fn a_bucket_without_a_node_is_looked_at_again() {
        let unplaced = BucketStatus { state: BucketState::Unplaced, ..example::status() };
        let placing = BucketStatus { state: BucketState::Placing, ..example::status() };
        let mut seen = Seen::default();
        let series = [&unplaced, &unplaced, &placing, &unplaced, &unplaced, &unplaced];
        let gives_up =
            series.map(|status| seen.look(Goal::Runs, status, Revision(0), Instant::now()) == Look::Unplaced);
        assert_eq!(gives_up, [false, false, false, false, false, true]);
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
