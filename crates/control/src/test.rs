//! Tests of buckets: one that is registered for a while under a name of its own, watched, and deleted.
//!
//! Everything here is seen from the replicated state and the node's output, so that any leader could go on; the one that was
//! asked does not survive its own end, and then the trial's time to live does the rest (`engine::steward`).

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use sheaf_consensus::{Changes, Lagged};
use sheaf_engine::{Change, Command, OnBucket, PutTrial, registration};
use sheaf_model::view::BucketState;
use sheaf_model::{
    BucketName, BucketSpec, Contact, NodeStatus, OnNodeLost, Phase, PutBucket, Span, Timestamp, Trial,
};
use sheaf_wire::bucket::{TestBucket, TestEnd, TestResult, TestStep};
use sheaf_wire::logs::{LogLine, LogStream, LogsOf};
use sheaf_wire::{Answers, ApiError, Caller};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::Control;
use crate::place::Member;
use crate::propose::refused;
use crate::watch::about;

/// Beyond all its times, until a trial is deleted that nobody watches any more.
const TIME_TO_LIVE: Span = Span::seconds(15);
/// It is looked at how far it is when something of it changes, and this often: what a node is not available for is known to the
/// leader alone, and no change.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Rows taken from memory at once.
const ROWS: usize = 1000;
/// How long its node may take to begin sending what was printed.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// How long it is waited for that nothing is left; the time a node may take is its module's grace, and lines are read meanwhile.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// Lines on their way to a caller; a slow one slows the reading, not the program.
const LINES: usize = 256;

type Lines = Pin<Box<dyn Stream<Item = Result<LogLine, ApiError>> + Send>>;

/// One test under way.
struct Test {
    control: Control,
    caller: Caller,
    ask: TestBucket,
    bucket: BucketName,
    /// Until then it is placed, and runs: the time that its trial lives does not hold more.
    start_by: Instant,
    steps: mpsc::Sender<Result<TestStep, ApiError>>,
    member: Member,
    changes: Changes,
    /// Lines of the program that were passed on; those of a second reading come after them.
    passed_on: u64,
    objects: u64,
}

/// Where a trial stands.
enum Stand {
    Waits(String),
    NotPlaced(String),
    Placed { node: String, contact: Contact, phase: Option<Phase>, message: String, over: bool },
    Lost { node: String },
    Gone,
}

impl Control {
    /// Registers the trial, and sends what becomes of it.
    pub(crate) async fn test_bucket(
        &self,
        caller: Caller,
        ask: TestBucket,
    ) -> Result<Answers<TestStep>, ApiError> {
        caller.may_change(&ask.spec.name)?;
        let (spec, bucket) = self.to_try(&ask)?;
        let longest = [ask.start_within, ask.max_time, TIME_TO_LIVE].iter().map(|span| span.0).sum::<u64>();
        let start_by = Instant::now() + ask.start_within.duration();
        let until = Timestamp(self.clock.wall().0.saturating_add(longest));
        let trial = Trial { until, max_objects: ask.max_objects, max_time: ask.max_time };
        let put = PutBucket { spec, suspended: None, base: None, latest: false };
        let member = self.member()?;
        let before = member.replica.state().revision;
        self.change(&caller, None, Command::PutTrial(PutTrial { put, trial })).await?;
        let (steps, said) = mpsc::channel(LINES);
        let (control, changes) = (self.clone(), member.replica.changes(before));
        let mut test =
            Test { control, caller, ask, bucket, start_by, steps, member, changes, passed_on: 0, objects: 0 };
        let run = stream::once(async move { test.run().await }).filter_map(|()| std::future::ready(None));
        let said = stream::unfold(said, |mut said| async move { Some((said.recv().await?, said)) });
        // Whoever reads the steps runs the test: when he goes away, the rest is left to its time to live.
        Ok(stream::select(said, run).boxed())
    }

    /// What is tried, under a name of its own and with its module's version fixed as apply would.
    fn to_try(&self, ask: &TestBucket) -> Result<(BucketSpec, BucketName), ApiError> {
        let put = PutBucket { spec: ask.spec.clone(), suspended: None, base: None, latest: ask.latest };
        let apply = sheaf_engine::Apply { modules: Vec::new(), buckets: vec![put] };
        self.check_schemas(&apply)?;
        let checked =
            self.see_rows(|sight| registration::check(sight.state, &apply))?.map_err(refused)?.pop();
        let spec = checked.ok_or_else(|| ApiError::Internal("a test without a bucket".to_owned()))?;
        let name = format!("{}.test-{:08x}", spec.name, self.clock.wall().0 & 0xffff_ffff);
        let name = BucketName::new(&name)
            .map_err(|error| ApiError::invalid("name", error.to_string(), "a shorter name"))?;
        let trial = BucketSpec {
            name: name.clone(),
            multi_node: false,
            poll_frequency: None,
            max_parallel: None,
            on_node_lost: OnNodeLost::Wait,
            ..spec
        };
        Ok((trial, name))
    }
}

impl Test {
    async fn run(&mut self) {
        let end = match self.place().await {
            Ok((node, contact)) => self.watch(node, contact).await,
            Err(end) => end,
        };
        let end = self.clear_away(end).await;
        self.say(TestStep::Ended(end)).await;
    }

    async fn say(&self, step: TestStep) {
        // Nobody hears it any more: then nobody polls this either.
        let _ = self.steps.send(Ok(step)).await;
    }

    fn end(&self, result: TestResult, message: impl Into<String>) -> TestEnd {
        TestEnd { result, message: message.into(), objects: self.objects }
    }

    /// Until a node has it: its name, and where it is.
    async fn place(&mut self) -> Result<(String, Contact), TestEnd> {
        let give_up = self.start_by;
        loop {
            let why = match self.stand() {
                Stand::Placed { node, contact, .. } => {
                    self.say(TestStep::Started { bucket: self.bucket.clone(), node: node.clone() }).await;
                    return Ok((node, contact));
                }
                Stand::NotPlaced(why) => return Err(self.end(TestResult::NotPlaced, why)),
                Stand::Gone => return Err(self.end(TestResult::Failed, "it was deleted")),
                Stand::Lost { node } => return Err(self.lost(&node)),
                Stand::Waits(why) => why,
            };
            if Instant::now() >= give_up {
                let text = format!("no node was chosen within {}: {why}", self.ask.start_within);
                return Err(self.end(TestResult::NotPlaced, text));
            }
            self.changed(give_up).await;
        }
    }

    /// Until something of it changes, or it is to be looked at all the same, at the latest then.
    async fn changed(&mut self, until: Instant) {
        let until = until.min(Instant::now() + LOOK_AGAIN);
        let (changes, bucket) = (&mut self.changes, &self.bucket);
        let meant = async {
            loop {
                let sets = changes.next(ROWS).await?;
                if sets.iter().flat_map(|set| set.changes.iter()).any(|change| is_of(bucket, change)) {
                    return Ok::<(), Lagged>(());
                }
            }
        };
        // Dropping it loses nothing: what was taken was not meant.
        if let Ok(Err(_)) = timeout_at(until, meant).await {
            // Too slow for what is kept in memory; it is looked at next whatever it was.
            let now = self.member.replica.state().revision;
            self.changes = self.member.replica.changes(now);
        }
    }

    fn lost(&self, node: &str) -> TestEnd {
        self.end(TestResult::Failed, format!("node {node}, where it ran, was lost"))
    }

    /// Until it is over, passing on what it prints.
    async fn watch(&mut self, node: String, contact: Contact) -> TestEnd {
        let start_by = self.start_by;
        let mut runs_until: Option<Instant> = None;
        let mut lines: Option<Lines> = None;
        loop {
            let (phase, message, over) = match self.stand() {
                Stand::Placed { phase, message, over, .. } => (phase, message, over),
                Stand::Lost { node } => return self.lost(&node),
                Stand::Gone => return self.end(TestResult::Failed, "it was deleted"),
                // Between two bindings, which a trial never has: its node has refused it since.
                Stand::Waits(why) | Stand::NotPlaced(why) => (None, why, true),
            };
            if over {
                return self.over(&contact, phase, message).await;
            }
            let now = Instant::now();
            if phase == Some(Phase::Running) && runs_until.is_none() {
                runs_until = Some(now + self.ask.max_time.duration());
            }
            if lines.is_none() && phase.is_some() {
                lines = self.printed(&contact, true).await.ok();
            }
            match runs_until {
                Some(until) if now >= until => {
                    return self.end(TestResult::Passed, format!("it ran for {}", self.ask.max_time));
                }
                None if now >= start_by => {
                    let mut text = format!("it had not started within {} on {node}", self.ask.start_within);
                    if !message.is_empty() {
                        text = format!("{text}: {message}");
                    }
                    return self.end(TestResult::Failed, text);
                }
                _ => {}
            }
            let until = runs_until.unwrap_or(start_by);
            if self.read_until_changed(&mut lines, until).await {
                return self.enough();
            }
        }
    }

    fn enough(&self) -> TestEnd {
        let many = if self.objects == 1 { "object" } else { "objects" };
        self.end(TestResult::Passed, format!("{} {many}, as many as were asked for", self.objects))
    }

    /// It has ended by itself: what it printed last is read before anything else.
    async fn over(&mut self, contact: &Contact, phase: Option<Phase>, message: String) -> TestEnd {
        if let Ok(rest) = self.printed(contact, false).await {
            let known = self.passed_on;
            let mut seen = 0;
            let mut rest = rest.filter(move |line| {
                let again = line.as_ref().is_ok_and(|line| line.stream != LogStream::Sheaf) && seen < known;
                seen += u64::from(again);
                std::future::ready(!again)
            });
            while let Ok(Some(Ok(line))) = timeout(BEGIN_WITHIN, rest.next()).await {
                if self.pass_on(line).await {
                    return self.enough();
                }
            }
        }
        match phase {
            Some(Phase::Stopped) if message.is_empty() => {
                self.end(TestResult::Passed, "it has ended by itself")
            }
            Some(Phase::Stopped) => self.end(TestResult::Passed, message),
            _ => self.end(TestResult::Failed, message),
        }
    }

    async fn printed(&self, contact: &Contact, follow: bool) -> Result<Lines, ApiError> {
        let of = LogsOf { bucket: self.bucket.clone(), follow, since: None, tail: None, previous: false };
        self.control.readers.logs(contact, of, BEGIN_WITHIN).await
    }

    /// Passes on what comes until it is to be looked at again; true: there are as many objects as were asked for.
    async fn read_until_changed(&mut self, lines: &mut Option<Lines>, until: Instant) -> bool {
        while let Some(reading) = lines {
            let line = tokio::select! {
                // Dropped, it loses nothing: a line stays in its stream.
                line = reading.next() => line,
                // Dropped, it loses nothing: see there.
                () = self.changed(until) => return false,
            };
            match line {
                Some(Ok(line)) => {
                    if self.pass_on(line).await {
                        return true;
                    }
                }
                // It is read anew when it is over; until then its phases are seen.
                None | Some(Err(_)) => *lines = Some(stream::pending().boxed()),
            }
        }
        self.changed(until).await;
        false
    }

    async fn pass_on(&mut self, line: LogLine) -> bool {
        let stream = line.stream;
        self.say(TestStep::Line(line)).await;
        self.passed_on += u64::from(stream != LogStream::Sheaf);
        self.objects += u64::from(stream == LogStream::Stdout);
        self.objects >= self.ask.max_objects
    }

    /// Deletes it, and waits until nothing of it can be alive.
    async fn clear_away(&mut self, end: TestEnd) -> TestEnd {
        let on = OnBucket { bucket: self.bucket.clone(), base: None };
        let deleted = self.control.change(&self.caller, None, Command::DeleteBucket(on)).await;
        if let Err(error) = deleted
            && !matches!(error, ApiError::NotFound(_))
        {
            let message =
                format!("{}; it could not be removed, which is left to the leader: {error}", end.message);
            return TestEnd { message, ..end };
        }
        let give_up = Instant::now() + GONE_WITHIN;
        while self.is_bound() {
            if Instant::now() >= give_up {
                let seconds = GONE_WITHIN.as_secs();
                let message =
                    format!("{}; it was still being stopped {seconds} s after its end", end.message);
                return TestEnd { message, ..end };
            }
            self.changed(give_up).await;
        }
        end
    }

    fn is_bound(&self) -> bool {
        self.control.see(|sight| sight.state.bindings.contains_key(&self.bucket)).unwrap_or(false)
    }

    fn stand(&self) -> Stand {
        let stand = self.control.see(|sight| {
            let state = sight.state;
            let Some(bucket) = state.buckets.get(&self.bucket) else { return Stand::Gone };
            let bound = state.bindings.get(&self.bucket).map(|binding| binding.node);
            let gave_up = bucket.gave_up.iter().next();
            let Some(id) = bound.or(gave_up.map(|(node, _)| *node)) else {
                let status = sight.bucket_status(bucket);
                return match status.state {
                    BucketState::Unplaced => Stand::NotPlaced(status.message),
                    _ => Stand::Waits(status.message),
                };
            };
            let Some(node) = state.nodes.get(&id) else { return Stand::Gone };
            let name = node.facts.name.to_string();
            if matches!(node.status, NodeStatus::Lost | NodeStatus::Left) {
                return Stand::Lost { node: name };
            }
            let instance = state.instances.get(&self.bucket).and_then(|nodes| nodes.get(&id));
            let message = match (gave_up, instance) {
                (Some((_, why)), _) => why.clone(),
                (None, instance) => instance.map(|it| it.message.clone()).unwrap_or_default(),
            };
            let phase = if gave_up.is_some() { Some(Phase::Failed) } else { instance.map(|it| it.phase) };
            let over = matches!(phase, Some(Phase::Failed | Phase::Stopped));
            Stand::Placed { node: name, contact: node.contact(), phase, message, over }
        });
        stand.unwrap_or_else(|error| Stand::Waits(error.to_string()))
    }
}

/// Whether a change may say something of how far a trial is: one of its bucket, or of a node, which may be lost.
fn is_of(bucket: &BucketName, change: &Change) -> bool {
    matches!(change, Change::Node(_)) || about(change) == Some(bucket)
}
