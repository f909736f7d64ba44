//! What the agent does about a change, as parts of the change's trace.
//!
//! ```text
//!  watch: a bucket ──────────► its verdict is said            sheaf.gates
//!  Start ── its keeper is there (sheaf.spawn) ──► it runs     sheaf.start
//! ```
//!
//! What a part belongs to comes from the leader, with an acknowledgement, and so up to a heartbeat after the change itself,
//! which comes by the watch. A part that ends before waits for it, for a while. All of it is kept for the last few buckets
//! alone, and where nobody keeps traces, nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use sheaf_engine::node::{Action, Done, Input, Seen};
use sheaf_model::session::ToLeader;
use sheaf_model::watch::WatchItem;
use sheaf_model::{BucketName, Phase, Revision, TraceContext, Traced, Verdict, remember};
use sheaf_wire::trace;

/// What happens later to a bucket has other causes.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// How long a part waits for what it belongs to.
const PATIENCE: Duration = Duration::from_secs(10);
/// Buckets, and parts that wait, at a time; beyond, the oldest go.
const MOST: usize = 256;

/// A part of a trace that has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Leaf {
    /// What it belongs to.
    parent: TraceContext,
    deed: Deed,
}

/// The same, wherever it belongs to.
#[derive(Clone, Debug, PartialEq)]
struct Deed {
    name: &'static str,
    bucket: BucketName,
    begun: SystemTime,
    ended: SystemTime,
    /// Until when its first part went.
    spawned: Option<SystemTime>,
    said: Vec<(&'static str, String)>,
    failure: Option<String>,
}

/// A start that is under way.
#[derive(Debug)]
struct Starting {
    begun: SystemTime,
    spawned: Option<SystemTime>,
    epoch: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// Everything is told anew: nothing of it is a change.
    loading: bool,
    /// Buckets that changed, and when that was seen.
    changed: BTreeMap<BucketName, (Revision, SystemTime)>,
    starts: BTreeMap<BucketName, Starting>,
    parents: BTreeMap<BucketName, (TraceContext, SystemTime)>,
    waiting: VecDeque<Deed>,
}

impl Trail {
    /// Something happens; what has ended with it.
    pub(crate) fn input(&mut self, input: &Input, now: SystemTime) -> Vec<Leaf> {
        match input {
            Input::Watch(items) => {
                items.iter().for_each(|item| self.watched(item, now));
                Vec::new()
            }
            Input::Acknowledged(ack) => self.learn(&ack.traces, now),
            Input::Done(bucket, Done::Started(seen)) => {
                if let Some(start) = self.starts.get_mut(bucket) {
                    start.spawned = Some(now);
                }
                self.seen(bucket, seen, now)
            }
            Input::Done(bucket, Done::Failed { reason, .. }) => {
                self.started(bucket, Some(reason.as_str()), now)
            }
            Input::Seen(bucket, Some(seen)) => self.seen(bucket, seen, now),
            Input::Seen(bucket, None) => {
                self.starts.remove(bucket);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Something is to be done; what has ended with it.
    pub(crate) fn action(&mut self, action: &Action, now: SystemTime) -> Vec<Leaf> {
        match action {
            Action::Start(start) => {
                let epoch = start.mode.epoch().map(|epoch| epoch.0);
                let starting = Starting { begun: now, spawned: None, epoch };
                remember(&mut self.starts, MOST, start.bucket.name.clone(), starting, |start| start.begun);
                Vec::new()
            }
            Action::Say(ToLeader::Verdicts(verdicts)) => {
                verdicts.iter().filter_map(|verdict| self.judged(verdict, now)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn watched(&mut self, item: &WatchItem, now: SystemTime) {
        match item {
            WatchItem::Reset => {
                self.loading = true;
                self.changed.clear();
            }
            WatchItem::Synced(_) => self.loading = false,
            WatchItem::Bucket(bucket) if !self.loading => {
                let (name, seen) = (bucket.spec.name.clone(), (bucket.revision, now));
                remember(&mut self.changed, MOST, name, seen, |(_, at)| *at);
            }
            WatchItem::BucketGone(bucket) => {
                self.changed.remove(bucket);
            }
            _ => {}
        }
    }

    /// What has waited for this.
    fn learn(&mut self, traces: &[Traced], now: SystemTime) -> Vec<Leaf> {
        for Traced { bucket, context } in traces {
            remember(&mut self.parents, MOST, bucket.clone(), (*context, now), |(_, at)| *at);
        }
        if traces.is_empty() {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().filter_map(|deed| self.place(deed, now)).collect()
    }

    /// A deed where it belongs; none: it waits, or nobody wants to know of it any more.
    fn place(&mut self, deed: Deed, now: SystemTime) -> Option<Leaf> {
        if since(deed.ended, now) >= PATIENCE {
            return None;
        }
        match self.parents.get(&deed.bucket) {
            Some((parent, at)) if since(*at, now) < KEPT_FOR => Some(Leaf { parent: *parent, deed }),
            _ => {
                self.waiting.push_back(deed);
                if self.waiting.len() > MOST {
                    self.waiting.pop_front();
                }
                None
            }
        }
    }

    fn judged(&mut self, verdict: &Verdict, now: SystemTime) -> Option<Leaf> {
        let (revision, begun) = *self.changed.get(&verdict.bucket)?;
        let refusal = verdict.refusal();
        // Not answered yet: the machine is being asked.
        if verdict.revision != revision || refusal.is_some_and(|(_, outcome)| outcome.pass.is_none()) {
            return None;
        }
        self.changed.remove(&verdict.bucket);
        let mut said = vec![("sheaf.eligible", verdict.eligible().to_string())];
        said.extend(refusal.map(|(gate, _)| ("sheaf.gate", gate.as_str().to_owned())));
        let (name, bucket) = ("sheaf.gates", verdict.bucket.clone());
        let deed = Deed { name, bucket, begun, ended: now, spawned: None, said, failure: None };
        self.place(deed, now)
    }

    fn seen(&mut self, bucket: &BucketName, seen: &Seen, now: SystemTime) -> Vec<Leaf> {
        match seen.phase {
            Phase::Running => self.started(bucket, None, now),
            Phase::Pending | Phase::Starting => Vec::new(),
            Phase::Stopping | Phase::Backoff | Phase::Failed | Phase::Stopped => {
                // What follows the first line is the program's output.
                let why = seen.message.lines().next().unwrap_or_default();
                self.started(bucket, Some(why), now)
            }
        }
    }

    fn started(&mut self, bucket: &BucketName, failure: Option<&str>, now: SystemTime) -> Vec<Leaf> {
        let Some(start) = self.starts.remove(bucket) else { return Vec::new() };
        let deed = Deed {
            name: "sheaf.start",
            bucket: bucket.clone(),
            begun: start.begun,
            ended: now,
            spawned: start.spawned,
            said: start.epoch.map(|epoch| ("sheaf.epoch", epoch.to_string())).into_iter().collect(),
            failure: failure.map(str::to_owned),
        };
        self.place(deed, now).into_iter().collect()
    }
}

/// 0 if the clock was set back.
fn since(at: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(at).unwrap_or_default()
}

impl Leaf {
    /// Tells it.
    pub(crate) fn tell(self) {
        let Self { parent, deed } = self;
        let mut span =
            trace::begin_at(deed.begun, deed.name, Some(parent)).with("sheaf.bucket", &deed.bucket);
        for (key, value) in deed.said {
            span.say(key, &value);
        }
        if let Some(why) = &deed.failure {
            span.failed(why);
        }
        if let Some(spawned) = deed.spawned {
            trace::begin_at(deed.begun, "sheaf.spawn", span.context()).end_at(spawned);
        }
        span.end_at(deed.ended);
    }
}

#[cfg(test)]
mod tests;
