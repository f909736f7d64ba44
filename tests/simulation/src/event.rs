//! What can happen, and to whom.

use std::sync::Arc;

use sheaf_engine::Proposal;
use sheaf_engine::gates::{CheckAnswer, Part};
use sheaf_engine::node::question::Key;
use sheaf_engine::node::{Done, Start};
use sheaf_engine::watched::Watcher;
use sheaf_model::session::{ToLeader, ToNode};
use sheaf_model::watch::WatchItem;
use sheaf_model::{Attempt, BootId, BucketName, Epoch, Moment, NodeId, Revision, Term};

use crate::clock::Time;
use crate::faults::Undo;
use crate::leaving::Departure;
use crate::machine::Status;
use crate::raft::Rpc;
use crate::work::{Brought, WorkWords};

/// Whoever events happen to. Each has a life that ends with a crash, and can be paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Process {
    Voter(usize),
    Agent(usize),
    /// On a machine, by its number there.
    Keeper(usize, u64),
    /// What goes on on a machine without any of ours: programs.
    Kernel(usize),
    Client(usize),
    /// Faults and checks.
    World,
}

/// Something that will happen.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) to: Process,
    /// Only in this life of the process.
    pub(crate) life: u64,
    /// Not before the clock of its machine shows this.
    pub(crate) due: Option<Moment>,
    /// It has waited while the process was paused.
    pub(crate) waited: bool,
    pub(crate) what: What,
}

impl Event {
    /// Whether what comes later never comes before it, also where the process was paused meanwhile.
    pub(crate) fn is_in_order(&self) -> bool {
        matches!(self.what, What::Words(..) | What::Agent(_) | What::Keeper(_))
    }
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Rpc(usize, Rpc),
    Voter(AtVoter),
    /// On a connection, by its number.
    Words(u64, Words),
    Asked(Ask),
    Agent(AtAgent),
    Keeper(AtKeeper),
    Kernel(AtKernel),
    Client(AtClient),
    World(AtWorld),
}

/// What goes over a connection.
#[derive(Clone, Debug)]
pub(crate) enum Words {
    ToLeader(ToLeader),
    ToNode(ToNode),
    WatchAsk(Watcher),
    Watched(Vec<WatchItem>),
    Work(WorkWords),
    /// The other end is gone.
    Closed,
}

/// A change asked for over the network.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) from: Process,
    /// Counts the tries, or is the key of the disk that joins; an answer carries it back.
    pub(crate) number: u64,
    pub(crate) proposal: Arc<Proposal>,
}

#[derive(Clone, Debug)]
pub(crate) enum AtVoter {
    Election,
    Beat(Term),
    Synced,
    /// The shell learns that this voter leads, or leads no more.
    Begin(Term),
    End(Term),
    Look(u64),
    /// What was decided is given up waiting for.
    DecidedLate(u64),
    Round,
    RoundLate(u64),
    Confirm(Term),
    EndSession(u64),
    /// A stage of the loop of jobs has waited for long enough.
    Dispatch(Term, u64),
    FlushWatches,
    /// A deposed leader's decision, forwarded (planted only).
    Forwarded(Arc<Proposal>),
}

#[derive(Clone, Debug)]
pub(crate) enum AtAgent {
    /// It has looked at its disk.
    Found,
    Join,
    /// The disk with this key is registered under this number.
    Joined(u64, NodeId),
    Wake,
    /// A late copy of what was said, on the same connection.
    Echo(u64, Box<Words>),
    Search,
    SearchLate(u64),
    AskSuspect(u64, usize),
    /// On this connection, at the pace with this number.
    Beat(u64, u64),
    OpenWatch,
    /// It has left, or has tried for long enough.
    Left {
        late: bool,
    },
    /// It ends as soon as nothing is being started, or at this time.
    Close(Departure, Time),
    /// Its config is another one.
    Config,
    /// A stand-in may stay no longer.
    StoodLongEnough,
    WatchLate(u64),
    Answered(Key, Part, Vec<CheckAnswer>),
    WritePlan(Box<Start>),
    StartLate(BucketName, u64),
    FirstWord(BucketName, u64),
    Busy(BucketName, u64),
    Said(u64, Box<Status>),
    KeeperGone(u64),
    /// What needs the bucket's lock: the work and how often it was tried.
    Work(BucketName, Done, u32),
    Swept(BucketName, Done),
    Sworn(BucketName, Done),
    /// The instance is ended without its keeper's help.
    EndAll(BucketName),
    Hung(BucketName, u64),
    AttemptEnds(Attempt),
    /// The loop of jobs looks at what was brought.
    TakeWork,
    Brought(Brought),
    /// Ends that were said under this number are not recorded.
    EndsLate(u64),
}

#[derive(Clone, Debug)]
pub(crate) enum AtKeeper {
    TakeLock(u64),
    Placed,
    Look,
    Executed,
    ProgramEnded(u64, i32),
    Tick,
    Deadline(Epoch, BootId, Moment),
    Stop,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AtKernel {
    /// A keeper's process is there.
    KeeperBegins(u64),
    Exec(u64),
    /// A program ends with this code; negative: by this signal.
    Ends(u64, i32),
}

#[derive(Clone, Debug)]
pub(crate) enum AtClient {
    Next,
    Again(u64),
    Answer(u64, sheaf_engine::Reply, Revision),
    Elsewhere(u64),
}

#[derive(Clone, Debug)]
pub(crate) enum AtWorld {
    Fault,
    Undo(Undo),
    Heal,
    /// A drain is to end.
    Undrain(NodeId),
    UndrainAll,
    /// Leases are to become longer or shorter once more.
    ChangeLease,
    /// Many machines are lost at once.
    Lose,
    /// Whether everything runs again; since then.
    Restored(Time),
    /// Whether what runs may do so where it does.
    Allowed,
    /// Messages are neither lost nor late any more.
    Calm,
    Judge,
}
