//! The node: what an agent must do next. All its decisions are here; the agent only carries them out.
//!
//! ```text
//!  watch ───────────── what shall be ──────┐                     ┌─► Ask: the machine about gate 3
//!  Answered ────────── what is possible ───┤                     ├─► Start, Stop, BecomeMulti, GiveUp, Confirm,
//!  Seen, Done ──────── what is ────────────┼─► step ─► actions ──┤   Remove: one at a time per bucket, each
//!  Acknowledged ────── until when ─────────┤                     │   answered by Done
//!  session, config, time ──────────────────┘                     ├─► Kill, MoveDeadline: at once
//!                                                                └─► Say: to the leader; HeartbeatNow
//! ```
//!
//! Read `known` (what the watch says), [`artifact`] (what must be here before), [`question`] (when gate 3 is asked),
//! `desire` (what follows for one bucket), then [`crate::reconcile`] (how it differs from what is) and `settle` (what is
//! done about it). `told` is what keepers say of what is, `report` what the leader hears of it, `leaving` what an agent waits
//! for that is about to stop.
//!
//! A bucket is looked at when anything that concerns it changes, and then all of it, from the beginning: nothing is
//! remembered of why it was looked at. A multi-node bucket needs no leader. A single-node bucket is started only under
//! a lease for exactly its epoch; a binding seen in the watch only makes the node send a heartbeat at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_model::session::{Acknowledged, ToLeader};
use sheaf_model::watch::WatchItem;
use sheaf_model::{
    BootId, BucketName, BucketSpec, Call, Digest, Epoch, Exit, Holding, ModuleRef, ModuleSpec, Moment,
    NodeId, Phase, Revision, Settings, Span, Timestamp, Trial, Verdict,
};

use crate::gates::{CheckAnswer, Here, Part};
use crate::keep::Fence;
use crate::lease::Leases;
use crate::reconcile::{Mode, Observed, Origin, Step};

pub mod artifact;
mod desire;
mod judge;
mod known;
mod leaving;
mod purge;
pub mod question;
mod report;
mod rules;
mod settle;
mod step;
#[cfg(test)]
mod tests;
mod told;

use artifact::{Holdings, Wanted};
use judge::Judging;
use known::Known;
use leaving::{Company, Release};
use question::{Key, Question, Questions};
use report::Reports;

pub use report::pieces;
pub use step::step;
pub use told::{Birth, Told};

/// How often what the leader has not confirmed is said again.
const SAY_AGAIN: Span = Span::seconds(1);

/// Who this node is, for one life of its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its number.
    pub node: NodeId,
    /// This boot of the machine.
    pub boot: BootId,
}

/// An instance as its keeper, or what its keeper left on disk, tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// By which right, from what, and how far in its life.
    pub observed: Observed,
    /// Where it is, for people.
    pub phase: Phase,
    /// The program's process id, while it runs.
    pub pid: Option<u32>,
    /// When the program last started.
    pub started_at: Option<Timestamp>,
    /// How often it was started again since this origin.
    pub restarts: u32,
    /// How the program last ended.
    pub exit: Option<Exit>,
    /// Why it is in this phase.
    pub message: String,
    /// Single-node: the keeper's deadline, of this boot.
    pub deadline: Option<Moment>,
    /// The last purge that was done here.
    pub purged: Option<Purged>,
}

/// A purge that was done, or came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Which.
    pub revision: Revision,
    /// Why it failed, for people; empty: it did not.
    pub failure: String,
}

/// What is on disk of a bucket when the agent starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The bucket.
    pub bucket: BucketName,
    /// Its instance, dead or alive; none: there is only a fence.
    pub seen: Option<Seen>,
    /// What of its name was given up.
    pub fence: Fence,
}

/// What happens to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// The agent has started and looked at its disk. Comes first, once.
    Found(Vec<Found>),
    /// The node's config, at start and when it was read again. `here.labels` are those of the file alone.
    Config(Here),
    /// A piece of the watch; may be cut anywhere.
    Watch(Vec<WatchItem>),
    /// The machine's answer to a question, one for each check asked, in that order.
    Answered(Key, Part, Vec<CheckAnswer>),
    /// An instance changed; none: nothing of it is there any more.
    Seen(BucketName, Option<Box<Seen>>),
    /// An action of this bucket is done.
    Done(BucketName, Done),
    /// The leader acknowledged a heartbeat.
    Acknowledged(Acknowledged),
    /// The leader has these phases in the log.
    Recorded(u64),
    /// The leader asks what this node would say of a bucket that is not registered, or not like this.
    Judge {
        /// Goes back with the verdict.
        question: u64,
        /// The bucket.
        spec: Arc<BucketSpec>,
        /// Its module.
        module: Arc<ModuleSpec>,
        /// It stands for a job: the module's artifact is to be here.
        fetch: bool,
    },
    /// A session with a leader stands.
    SessionOpened {
        /// For so long no single-node work may be started.
        start_in: Span,
    },
    /// It broke.
    SessionLost,
    /// The agent is about to stop: this node's work is to go elsewhere. Never undone.
    Leave(Leaving),
    /// The cluster says that this node was forgotten: nothing of it may run any more, whatever was known before. Never
    /// undone.
    Left,
    /// What the cache has of an artifact that this node wants.
    Holds(Digest, Holding),
    /// Nothing but time passed.
    Tick,
}

/// How much of a node's work is to end before its agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leaving {
    /// What is bound to this node, so that it is handed over and not missed.
    SingleNode,
    /// Multi-node instances as well: their keepers cannot outlive the agent here.
    Everything,
}

/// How an action of one bucket ended. Each of [`Action::Start`] to [`Action::Remove`] has exactly one.
#[derive(Clone, Debug)]
pub enum Done {
    /// The instance's keeper is there, or has refused: this is what there is now.
    Started(Box<Seen>),
    /// It was told of a change, and that it is started from now.
    Updated(Box<Seen>),
    /// It was told to stop; that it ended is [`Input::Seen`].
    Told,
    /// The instance goes on as multi-node.
    BecameMulti(Box<Seen>),
    /// The epoch is durably given up, with nothing of it alive.
    GaveUp(Epoch),
    /// Durably, with nothing of it alive: no multi-node start from a state up to this.
    Confirmed(Revision),
    /// Its directory is removed.
    Removed,
    /// It failed.
    Failed {
        /// Why.
        reason: String,
        /// Whether trying again may help.
        again: bool,
    },
}

/// What an instance is to be started from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The bucket.
    pub bucket: Arc<BucketSpec>,
    /// Its module at the version it is fixed to.
    pub module: Arc<ModuleSpec>,
    /// By which right.
    pub mode: Mode,
    /// From which state of the bucket.
    pub origin: Origin,
    /// Single-node: until when, as acknowledged so far.
    pub until: Option<Moment>,
    /// What the node is, for templates.
    pub here: Arc<Here>,
    /// It is a trial.
    pub trial: Option<Trial>,
    /// Where the module's artifact is, if its version has one.
    pub artifact: Option<String>,
}

/// What the agent is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask the machine; answered by [`Input::Answered`].
    Ask(Question),
    /// Gate 3 of this module is not asked any more: its process, if there is one, has nothing to wait for.
    Retire(ModuleRef),
    /// Have these artifacts, and no others than these must stay; answered by [`Input::Holds`] for each that is needed, as
    /// often as it changes.
    WantArtifacts(Wanted),
    /// Start an instance; its former one is dead.
    Start(Box<Start>),
    /// Stop the instance gracefully, and why; its program is told the call before, if it can be.
    Stop(BucketName, &'static str, Option<Call>),
    /// Let the instance that runs go on with this; its module is the same.
    Update(Box<Start>),
    /// Let the instance that was started under this epoch go on as multi-node from this state, without a lease.
    ///
    /// The epoch is not given up by this: it is only sworn with nothing alive. Its binding ends by the leader's fence,
    /// for which the instance counts no longer, since all nodes may run the bucket; and before anything single-node of
    /// the name is bound again, this node must confirm that the instance is gone (the residue of that ending).
    BecomeMulti(BucketName, Revision, Epoch),
    /// Write down that this epoch is given up.
    GiveUp(BucketName, Epoch),
    /// Write down that nothing multi-node is left up to this revision.
    Confirm(BucketName, Revision),
    /// Remove the instance's directory. If it ended without having been told this, and can be, it is told before.
    Remove(BucketName, Call),
    /// Tell the instance to throw away what it has collected, as asked at this revision; that it did is [`Seen::purged`].
    Purge(BucketName, Revision),
    /// The lease of this epoch is over: end everything of it at once.
    Kill(BucketName, Epoch),
    /// The lease of this epoch was prolonged: tell its keeper.
    MoveDeadline(BucketName, Epoch, Moment),
    /// Send a heartbeat without waiting for the next one.
    HeartbeatNow,
    /// Tell the leader. Said again by itself when a session opens.
    Say(ToLeader),
    /// For the agent's own log: what is being done about a bucket, on one line.
    Note(BucketName, String),
}

/// Everything a node knows and has under way.
#[derive(Clone, Debug)]
pub struct NodeState {
    identity: Identity,
    config: Here,
    here: Arc<Here>,
    known: Known,
    /// Everything anew, as far as it has come.
    loading: Option<Known>,
    /// Changes of a group that has not ended.
    group: Vec<WatchItem>,
    /// The watch has said everything once: nothing is decided before.
    synced: bool,
    leases: Leases,
    questions: Questions,
    places: BTreeMap<BucketName, Place>,
    reports: Reports,
    judging: Judging,
    holdings: Holdings,
    /// Buckets to look at before this step ends.
    dirty: BTreeSet<BucketName>,
    retries: BTreeSet<(Moment, BucketName)>,
    /// Buckets of which something here is from a later state than is known, and from which: to be looked at then.
    awaited: BTreeSet<(Revision, BucketName)>,
    /// Until then a former life of this node's agent may run single-node work that this one does not know of.
    start_from: Moment,
    say_again: Option<Moment>,
    leaving: Option<Leaving>,
    release: Release,
    /// It belongs to the cluster no more.
    left: bool,
    company: Company,
    /// Something changed after which a plugin may have nothing to be asked any more, or other artifacts be needed.
    retire: bool,
}

/// What a node has of one bucket.
#[derive(Clone, Debug, Default)]
struct Place {
    /// There are very many places, and few instances.
    seen: Option<Box<Seen>>,
    fence: Fence,
    /// An action is under way whose `Done` has not come: there is never a second one.
    busy: Option<Step>,
    /// The directory shall go once nothing wants it: the bucket left this node for good.
    decommissioned: bool,
    /// The same, for as long as the bucket is bound to another node and this one may not have it before: it may come back.
    elsewhere: bool,
    /// Steps that failed in a row, and until when the next one waits.
    failures: u32,
    retry_at: Option<Moment>,
    verdict: Option<Arc<Verdict>>,
    /// The instance that is alive was told of this purge.
    purging: Option<Revision>,
    /// This purge was asked for, and nothing was there, nor about to be, that could have been told.
    unpurged: Option<Revision>,
}

impl Place {
    /// Whether nothing of the bucket failed here, and gate 3 does not refuse it.
    fn is_well(&self) -> bool {
        let passes = |verdict: &Arc<Verdict>| verdict.gates[2].pass == Some(true);
        self.retry_at.is_none() && self.failures == 0 && self.verdict.as_ref().is_some_and(passes)
    }
}

impl NodeState {
    /// A node that knows nothing yet.
    pub fn new(identity: Identity, config: Here) -> Self {
        let leases = Leases::new(identity.boot.clone());
        Self {
            identity,
            here: Arc::new(config.clone()),
            config,
            known: Known::default(),
            loading: None,
            group: Vec::new(),
            synced: false,
            leases,
            questions: Questions::default(),
            places: BTreeMap::new(),
            reports: Reports::default(),
            judging: Judging::default(),
            holdings: Holdings::default(),
            dirty: BTreeSet::new(),
            retries: BTreeSet::new(),
            awaited: BTreeSet::new(),
            start_from: Moment(0),
            say_again: None,
            leaving: None,
            release: Release::Unsaid,
            left: false,
            company: Company::AloneSince(Moment(0)),
            retire: false,
        }
    }

    /// The cluster's settings, as far as the node has seen.
    pub fn settings(&self) -> &Settings {
        &self.known.settings
    }

    /// The newest replicated state that the node has seen whole.
    pub fn seen(&self) -> Revision {
        self.known.revision
    }

    /// What the node is, as gates and templates see it.
    pub fn here(&self) -> &Arc<Here> {
        &self.here
    }

    /// The newest verdict on every bucket.
    pub fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.places.values().filter_map(|place| place.verdict.as_deref())
    }

    /// Every instance, dead or alive.
    pub fn instances(&self) -> impl Iterator<Item = (&BucketName, &Seen)> {
        self.places.iter().filter_map(|(bucket, place)| Some((bucket, place.seen.as_deref()?)))
    }

    /// The buckets of which something is here, or may be before the next watch has said everything: of these it is to say also
    /// where they are bound, if to another node.
    pub fn occupied(&self) -> BTreeSet<BucketName> {
        let here = self.places.iter().filter(|(_, place)| place.seen.is_some() || place.busy.is_some());
        here.map(|(bucket, _)| bucket).chain(self.known.bindings.keys()).cloned().collect()
    }

    /// When [`step`] must be called next, if nothing happens before.
    pub fn next_wake(&self) -> Option<Moment> {
        let retry = self.retries.first().map(|(at, _)| *at);
        let alone = self.forgotten_at().filter(|_| self.leaving.is_some());
        let (leases, questions, reports) = (self.leases.next(), self.questions.next(), self.reports.next());
        let times = [leases, questions, reports, self.say_again, retry, alone];
        times.into_iter().flatten().min()
    }
}
