//! Clients that call while things go wrong, each any node, and write down what they asked and were answered.
//!
//! Registers are buckets, or objects of one (`objects`). Whoever reads an object is answered with the newest, and so these reads
//! have their place in the order of all calls. What is shown of a bucket may be older than what others have been answered:
//! it must only be at least as new as what its reader has seen, and something that the bucket has been.

mod objects;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_model::{BucketName, Document, Drain, NodeId, PutBucket, RequestId, Revision, Span, document};
use sheaf_simulation::random::Random;
use sheaf_wire::bucket::{ApplyBucket, MoveBucket, OnBucket};
use sheaf_wire::node::{DrainNode, OnNode};
use sheaf_wire::{ApiError, Applies, Client, Done, Options, OutcomeVerb};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::verdict::History;
use super::{HEALS_WITHIN, KEEPS_OBJECTS, NODES, World};
use crate::documents::{Trace, bucket};
use crate::linear::{Answer, Ask, Operation};
use crate::wait;

/// Callers of registers that are buckets.
const CALLERS: u64 = 4;
/// Callers of registers that are objects.
const OF_OBJECTS: u64 = 4;
/// Callers that do what operators do.
const OPERATORS: u64 = 3;
/// A call that takes longer has no answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// A change that is asked for again and again, by the same id, is given up after so long.
const PATIENCE: Duration = Duration::from_secs(15);
/// Values of one caller; no more calls than that.
const VALUES: u64 = 1_000_000;

/// A register's content at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) revision: u64,
    pub(super) value: u64,
}

/// What callers were answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// What was asked of each register, and answered, by its name.
    pub(super) histories: BTreeMap<String, Vec<Operation>>,
    /// The same of objects, by their keys.
    pub(super) objects: BTreeMap<String, Vec<Operation>>,
    /// What each register held first.
    pub(super) first: BTreeMap<String, Seen>,
    /// What each register was acknowledged to be at a revision, or was read as.
    pub(super) seen: Vec<(String, Seen)>,
    /// Changes of working buckets that were acknowledged, with their revisions.
    pub(super) acts: Vec<(String, u64)>,
    /// What no answer may be.
    pub(super) wrong: Vec<String>,
}

impl Answers {
    fn add(&mut self, other: Self) {
        for (name, operations) in other.histories {
            self.histories.entry(name).or_default().extend(operations);
        }
        for (key, operations) in other.objects {
            self.objects.entry(key).or_default().extend(operations);
        }
        self.seen.extend(other.seen);
        self.acts.extend(other.acts);
        self.wrong.extend(other.wrong);
    }

    /// Calls of registers that were answered, and that were not.
    pub(super) fn count(&self) -> (usize, usize) {
        let answered = |operation: &&Operation| operation.answer != Answer::None;
        let all = self.histories.values().chain(self.objects.values()).flatten();
        let count = all.clone().filter(answered).count();
        (count, all.count() - count)
    }

    /// Reads that have their place in the order of all calls.
    pub(super) fn reads(&self) -> usize {
        self.objects.values().flatten().filter(|operation| operation.ask == Ask::Read).count()
    }

    pub(super) fn acts(&self) -> usize {
        self.acts.len()
    }

    /// How often single-node buckets were bound.
    pub(super) fn bindings(&self, history: &History) -> usize {
        World::singles().map(|name| history.bound(&name).len()).sum()
    }
}

/// Callers at work.
pub(super) struct Calling {
    runtime: Runtime,
    clients: Arc<Vec<Client>>,
    callers: JoinSet<Answers>,
    stop: CancellationToken,
    begun: Instant,
    answers: Answers,
}

/// What every caller has.
#[derive(Clone)]
struct Caller {
    clients: Arc<Vec<Client>>,
    begun: Instant,
    random: Random,
    stop: CancellationToken,
    number: u64,
    asked: u64,
}

impl Calling {
    /// Makes the registers, and lets callers loose on them and on what works.
    pub(super) fn begin(world: &World, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads can be started");
        let within = runtime.enter();
        let options = || Options { deadline: DEADLINE, ..Options::default() };
        let client = |agent: &crate::Agent| {
            Client::lazy(&agent.address(), options()).expect("an agent's address is one")
        };
        let clients: Arc<Vec<Client>> = Arc::new(world.cluster.agents().iter().map(client).collect());
        let mut answers = Answers::default();
        for name in World::registers() {
            let ask = ApplyBucket { put: register(&name, 0, None), request: None, validate_only: false };
            let applied = runtime.block_on(clients[0].apply_bucket(ask));
            let revision = applied.unwrap_or_else(|error| panic!("{name}: {error}")).revision.0;
            answers.first.insert(name, Seen { revision, value: 0 });
        }
        let nodes = world.cluster.agents().iter().map(|agent| world.cluster.node_id(&agent.name()));
        let nodes: Vec<NodeId> = nodes.collect();
        let objects = runtime.block_on(objects::make(&clients[0], nodes[0]));
        let (stop, begun) = (CancellationToken::new(), Instant::now());
        let caller = |number: u64| Caller {
            clients: Arc::clone(&clients),
            begun,
            random: Random::new(seed ^ number),
            stop: stop.clone(),
            number,
            asked: 0,
        };
        let mut callers = JoinSet::new();
        for number in 1..=CALLERS {
            callers.spawn(caller(number).change_registers(answers.first.clone()));
        }
        for number in CALLERS + 1..=CALLERS + OPERATORS {
            callers.spawn(caller(number).operate(puts(&world.documents())));
        }
        for number in CALLERS + OPERATORS + 1..=CALLERS + OPERATORS + OF_OBJECTS {
            callers.spawn(caller(number).change_objects(objects.clone(), nodes.clone()));
        }
        drop(within);
        Self { runtime, clients, callers, stop, begun, answers }
    }

    /// Ends when each has its last answer, and whatever was agreed on is read once more.
    pub(super) fn end(mut self) -> Answers {
        self.stop.cancel();
        let all = self.runtime.block_on(self.callers.join_all());
        all.into_iter().for_each(|answers| self.answers.add(answers));
        for key in objects::keys() {
            let called = elapsed(self.begun);
            let value = wait::wait_for(&format!("object {key} is read"), HEALS_WITHIN, || {
                let read = self.runtime.block_on(objects::read(&self.clients[0], &key));
                read.map(|seen| seen.value).map_err(|error| error.to_string())
            });
            let (ask, answer, returned) = (Ask::Read, Answer::Value(value), elapsed(self.begun));
            let last = Operation { ask, answer, called, returned };
            self.answers.objects.entry(key).or_default().push(last);
        }
        self.answers
    }
}

/// A bucket that is nothing but its owner.
fn register(name: &str, value: u64, base: Option<u64>) -> PutBucket {
    let more = format!("suspended: true\nowner: v{value}");
    let mut puts = puts(&bucket(name, "beating", &Trace::new("nowhere".into()), &more));
    let (_, put) = puts.pop_first().expect("the document is a bucket's");
    PutBucket { base: base.map(Revision), ..put }
}

/// The buckets of documents.
fn puts(text: &str) -> BTreeMap<String, PutBucket> {
    let parsed = document::parse("", text.as_bytes());
    assert_eq!(parsed.defects, [], "{text}");
    let put = |document| match document {
        Document::Bucket(put) => Some((put.spec.name.to_string(), *put)),
        _ => None,
    };
    parsed.documents.into_iter().filter_map(put).collect()
}

fn elapsed(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// What an owner stands for.
pub(super) fn value(owner: Option<&str>) -> Option<u64> {
    owner?.strip_prefix('v')?.parse().ok()
}

impl Caller {
    fn client(&mut self) -> Client {
        self.clients[self.random.index(NODES)].clone()
    }

    fn now(&self) -> u64 {
        elapsed(self.begun)
    }

    /// Until the next call, or the end; whether there is a next one.
    async fn goes_on(&mut self, low: u64, high: u64) -> bool {
        let pause = Duration::from_millis(self.random.between(low, high));
        tokio::time::timeout(pause, self.stop.cancelled()).await.is_err()
    }

    async fn change_registers(mut self, mut known: BTreeMap<String, Seen>) -> Answers {
        let names: Vec<String> = known.keys().cloned().collect();
        let mut answers = Answers::default();
        while self.goes_on(20, 120).await {
            let name = names[self.random.index(names.len())].clone();
            let seen = known[&name];
            self.asked += 1;
            let new = self.number * VALUES + self.asked;
            let kind = self.random.below(10);
            if kind < 2 {
                if let Some(read) = self.read(&name, seen, &mut answers).await {
                    known.insert(name, read);
                }
                continue;
            }
            let (ask, base) = match kind {
                2..=5 => (Ask::Write(new), None),
                _ => (Ask::Swap { old: seen.value, new }, Some(seen.revision)),
            };
            let called = self.now();
            let done = self.put(register(&name, new, base), &mut answers).await;
            let answer = match &done {
                Ok(_) => Answer::Done,
                Err(ApiError::Conflict(_)) => Answer::Refused,
                // It surely has not happened, and so tells nothing.
                Err(error) if surely_not(error) => continue,
                Err(_) => Answer::None,
            };
            let operation = Operation { ask, answer, called, returned: self.now() };
            answers.histories.entry(name.clone()).or_default().push(operation);
            match done {
                Ok(revision) => {
                    let seen = Seen { revision, value: new };
                    answers.seen.push((name.clone(), seen));
                    known.insert(name, seen);
                }
                Err(_) => {
                    if let Some(read) = self.read(&name, seen, &mut answers).await {
                        known.insert(name, read);
                    }
                }
            }
        }
        answers
    }

    /// Asks for a change once, or with the same id until it is answered; its revision.
    async fn put(&mut self, put: PutBucket, answers: &mut Answers) -> Result<u64, ApiError> {
        let request = RequestId(format!("nemesis-{}-{}", self.number, self.asked));
        let begun = Instant::now();
        let again = self.random.chance(500);
        let mut perhaps = false;
        loop {
            let client = self.client();
            let ask = ApplyBucket { put: put.clone(), request: Some(request.clone()), validate_only: false };
            let error = match client.apply_bucket(ask).await {
                Ok(applied) => return Ok(applied.revision.0),
                Err(error) => error,
            };
            if !passes(&error) {
                if !matches!(error, ApiError::Conflict(_)) {
                    answers.wrong.push(format!("{}: {error:?}", put.spec.name));
                }
                return Err(error);
            }
            perhaps |= !surely_not(&error);
            if !again || begun.elapsed() > PATIENCE || !self.goes_on(20, 100).await {
                // A former try may still come true.
                return Err(if perhaps { ApiError::DeadlineExceeded(error.to_string()) } else { error });
            }
        }
    }

    /// What a bucket is, from a state at least as new as what this caller has seen of it.
    async fn read(&mut self, name: &str, seen: Seen, answers: &mut Answers) -> Option<Seen> {
        let client = self.client().at_least(Revision(seen.revision));
        let got = client.bucket(&BucketName::new(name).expect("a register's name is one")).await.ok()?;
        let read = Seen { revision: got.status.revision, value: value(got.spec.owner.as_deref())? };
        if read.revision < seen.revision {
            answers.wrong.push(format!("{name} was read as {read:?} by one who had seen {seen:?}"));
        }
        answers.seen.push((name.to_owned(), read));
        Some(read)
    }

    /// What operators do, all day.
    async fn operate(mut self, puts: BTreeMap<String, PutBucket>) -> Answers {
        let mut answers = Answers::default();
        let mut away = Away::default();
        let all = puts.keys().filter(|name| *name != KEEPS_OBJECTS);
        let (multis, singles): (Vec<_>, Vec<_>) = all.partition(|name| puts[*name].spec.multi_node);
        while self.goes_on(100, 500).await {
            let many = self.random.chance(200);
            let among = if many { &multis } else { &singles };
            let name = among[self.random.index(among.len())].clone();
            let bucket = puts[&name].spec.name.clone();
            let client = self.client();
            let on = OnBucket { bucket: bucket.clone(), base: None, request: None };
            let (subject, done) = match self.random.below(12) {
                0..=2 => (name, client.suspend_bucket(on).await),
                3..=6 => (name, client.resume_bucket(on).await),
                7 => (name, client.restart_bucket(on).await),
                8 | 9 => {
                    let ask = MoveBucket { bucket, to: None, base: None, request: None };
                    (name, client.move_bucket(ask).await)
                }
                10 if !many && away.deleted.is_none() => {
                    away.deleted = Some(name.clone());
                    (name, client.delete_bucket(on).await)
                }
                10 => self.bring_back(&mut away, &puts).await,
                _ => self.drain(&mut away).await,
            };
            note(subject, done, &mut answers);
        }
        answers
    }

    /// Registers a bucket that was deleted.
    async fn bring_back(
        &mut self,
        away: &mut Away,
        puts: &BTreeMap<String, PutBucket>,
    ) -> (String, Result<Done, ApiError>) {
        let Some(name) = away.deleted.take() else { return (String::new(), Ok(unchanged())) };
        let ask = ApplyBucket { put: puts[&name].clone(), request: None, validate_only: false };
        let applied = self.client().apply_bucket(ask).await.map(|applied| {
            let unchanged = applied.outcomes.iter().all(|outcome| outcome.verb == OutcomeVerb::Unchanged);
            Done { revision: applied.revision, unchanged, warnings: applied.warnings }
        });
        (name, applied)
    }

    /// Drains a node, or has the drained one take work again.
    async fn drain(&mut self, away: &mut Away) -> (String, Result<Done, ApiError>) {
        let client = self.client();
        if let Some(node) = away.drained.take() {
            let ask = OnNode { node: node.clone(), request: None };
            return (node, client.undrain_node(ask).await);
        }
        let node = format!("n{}", 1 + self.random.index(NODES));
        away.drained = Some(node.clone());
        let drain = Drain { deadline: Some(Span::seconds(3)), keep_multi_node: false };
        let ask = DrainNode { node: node.clone(), drain, validate_only: false, request: None };
        (node, client.drain_node(ask).await.map(|drained| drained.done))
    }
}

/// What an operator has taken away and must bring back.
#[derive(Default)]
struct Away {
    deleted: Option<String>,
    drained: Option<String>,
}

fn unchanged() -> Done {
    Done { unchanged: true, ..Done::default() }
}

/// Whether the same call may succeed later: a disk that was filled is emptied here, too.
fn passes(error: &ApiError) -> bool {
    error.can_retry() || matches!(error, ApiError::Exhausted(_))
}

/// Whether a change was not made, and will not be.
fn surely_not(error: &ApiError) -> bool {
    matches!(error, ApiError::Unavailable { applied: Applies::No, .. } | ApiError::Unreachable { .. })
}

/// Remembers a change that was acknowledged.
fn note(name: String, done: Result<Done, ApiError>, answers: &mut Answers) {
    match done {
        Ok(done) if !done.unchanged => answers.acts.push((name, done.revision.0)),
        // Refused as things stand, or not answered: both are right while things go wrong.
        Ok(_) => {}
        Err(error) if passes(&error) => {}
        Err(ApiError::NotFound(_) | ApiError::Precondition(_) | ApiError::Conflict(_)) => {}
        Err(error) => answers.wrong.push(format!("{name}: {error:?}")),
    }
}
