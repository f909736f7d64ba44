//! The keeper's decisions: when the program of one instance is started, killed, restarted and reported.
//!
//! A keeper holds its bucket's lock for life, feeds what happens into [`Keep::step`] and carries out, in order, the
//! actions it gets. The check at exec is [`may_exec`].
//!
//! ```text
//!            ┌──────────────────────────── backoff over ─────────────────────────────┐
//!            ▼                                                                       │
//!  Begin ─► Clearing ──Emptied──► Placing ──Spawned──► Checking ──Looked──► Executing │
//!            ▲  (all of it         (second stage in     (rule 8)    (go)       │     │
//!            │   is killed)         its group, timer                        Executed │
//!            │                      armed)                                     ▼     │
//!            │                                             (a plugin only: Opening)  │
//!            │                                                                 ▼     │
//!            ├──────── Ended, deadline, grace over ── Stopping ◄─ (Parting) ◄─ Running
//!            │                                                         (asked)       │
//!            └─ Emptied ─► Waiting (backoff) ─► (with secrets: Renewing) ────────────┘
//!                      └─► Over (finished, stopped, gave up, lease ended, refused)
//! ```
//!
//! A program may be told of its life ([`Telling`]), by one [`Call`] at a time: a plugin by answering it, and it runs once the
//! calls of its opening succeeded; any other by a command that its keeper runs, the first before it is placed (Clearing ─►
//! Sighting, the check at exec ─► Preparing ─► Clearing ─► Placing). It is told that it stops before the signal comes.
//!
//! What ended before it could be told why is told so afterwards, once ([`Keep::only`]): by its command for that; a plugin is
//! started for it, and told nothing else (… ─► Opening ─► Parting ─► Stopping ─► Over).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sheaf_model::{BootId, Call, Epoch, Exit, Moment, Phase, Restart, Revision, Signal, Span, Stop};

use crate::restart::{self, Next};

mod calls;
mod life;
#[cfg(test)]
mod scenario;
mod telling;

pub use telling::Telling;

/// By what right an instance runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lease {
    /// Multi-node: decided by the node alone, from the state at this revision.
    Multi {
        /// Nothing starts if an ending of the bucket at this revision or later was confirmed.
        from: Revision,
    },
    /// Single-node: bound under an epoch, acknowledged up to a deadline.
    Single {
        /// Which binding.
        epoch: Epoch,
        /// The boot in which the deadline holds.
        boot: BootId,
        /// The deadline. At this moment everything is killed.
        until: Moment,
    },
}

impl Lease {
    /// The epoch, if it is single-node work.
    pub fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::Single { epoch, .. } => Some(*epoch),
            Self::Multi { .. } => None,
        }
    }

    /// The deadline, if it is single-node work.
    pub fn until(&self) -> Option<Moment> {
        match self {
            Self::Single { until, .. } => Some(*until),
            Self::Multi { .. } => None,
        }
    }
}

/// What of a bucket's name this node has given up for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// No epoch up to this one is started again.
    pub gave_up: Epoch,
    /// Nothing multi-node is started again from a state up to this revision.
    pub gave_up_multi: Revision,
}

/// What a keeper sees right before the program would be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Nothing of an earlier start is alive.
    pub empty: bool,
    /// What was given up.
    pub fence: Fence,
    /// This boot.
    pub boot: BootId,
}

/// Why the check at exec says no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NoExec {
    /// The previous group is not empty.
    #[error("something of an earlier start is still alive")]
    NotEmpty,
    /// The epoch is over.
    #[error("epoch {epoch} was given up (all up to {gave_up})")]
    GaveUp {
        /// The epoch of the lease.
        epoch: Epoch,
        /// What the node gave up.
        gave_up: Epoch,
    },
    /// The state it would be started from is too old.
    #[error("the bucket ended at revision {gave_up}; this start comes from revision {from}")]
    Ended {
        /// What the start comes from.
        from: Revision,
        /// What the node confirmed.
        gave_up: Revision,
    },
    /// The deadline belongs to another boot.
    #[error("its lease is from before the machine was restarted")]
    OtherBoot,
    /// The deadline has passed.
    #[error("its lease has ended")]
    LeaseEnded,
}

/// The check at exec, in its order. The timer is armed and the child is in its group before.
pub fn may_exec(lease: &Lease, sight: &Sight, now: Moment) -> Result<(), NoExec> {
    if !sight.empty {
        return Err(NoExec::NotEmpty);
    }
    match lease {
        Lease::Multi { from } if *from <= sight.fence.gave_up_multi => {
            Err(NoExec::Ended { from: *from, gave_up: sight.fence.gave_up_multi })
        }
        Lease::Multi { .. } => Ok(()),
        Lease::Single { epoch, .. } if *epoch <= sight.fence.gave_up => {
            Err(NoExec::GaveUp { epoch: *epoch, gave_up: sight.fence.gave_up })
        }
        Lease::Single { boot, .. } if *boot != sight.boot => Err(NoExec::OtherBoot),
        Lease::Single { until, .. } if now >= *until => Err(NoExec::LeaseEnded),
        Lease::Single { .. } => Ok(()),
    }
}

/// Why a keeper is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The program ended well and its policy does not start it again.
    Finished,
    /// It was asked to stop.
    Stopped,
    /// It failed and is not started again.
    GaveUp,
    /// It was killed at, or not started after, the end of its lease.
    LeaseEnded,
    /// The check at exec said no.
    Refused,
    /// The keeper itself was killed, and what it kept with it. Never said by a keeper.
    KeeperLost,
}

/// What happens to a keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The lock is held and the plan is read.
    Begin,
    /// Nothing that was started is alive any more.
    Emptied,
    /// The second stage waits, in a group of its own.
    Spawned,
    /// The second stage could not be started, or not become the program; why.
    NotExecuted(String),
    /// What was to be seen right before the exec.
    Looked(Sight),
    /// The program has taken the second stage's place.
    Executed,
    /// The started process ended.
    Ended(Exit),
    /// The agent, or a signal, asks for an orderly end.
    StopAsked,
    /// A heartbeat was acknowledged.
    DeadlineMoved {
        /// For this epoch.
        epoch: Epoch,
        /// In this boot.
        boot: BootId,
        /// To this moment.
        until: Moment,
    },
    /// The agent asks for an orderly end, and the program is to be told this before.
    PartAsked(Call),
    /// The bucket changed, and its program may go on with the new document.
    UpdateAsked,
    /// What the machine says of why the program is about to be seen as ended.
    Noted(String),
    /// What the bucket has collected is to be thrown away.
    PurgeAsked,
    /// The call under way was answered; the error is for people.
    Called(Result<(), String>),
    /// No answer came in time.
    NotAnswered,
    /// The program does not know how to go on with a changed bucket.
    NotTaken,
    /// The program says how it is, in a line for people; empty: nothing to say.
    Said(String),
    /// The secrets of the next start are there, or cannot be had anew.
    Renewed,
    /// Time passed.
    Tick,
}

/// What a keeper does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL to everything that was started, until nothing is left; then `Emptied`.
    KillAll,
    /// Set the deadline's timer; at its moment `Tick`.
    Arm(Moment),
    /// Start the second stage in a group of its own; then `Spawned` or `NotExecuted`.
    Spawn,
    /// Look at what the check needs; then `Looked`.
    Look,
    /// Let the second stage become the program; then `Executed`, `NotExecuted` or `Ended`.
    Go,
    /// Make this call; then `Called`, or `NotAnswered` once it has taken so long.
    Call(Call, Span),
    /// End the call under way: nobody waits for its answer any more.
    HangUp,
    /// Write down and say how the purge that was asked for went; the error is for people.
    Purged(Result<(), String>),
    /// Send this to the program's group and everything else that it started.
    Signal(Signal),
    /// Ask for the secrets of the next start as they are now; then `Renewed`.
    Renew,
    /// `Tick` at this moment; replaces the former one.
    Wake(Moment),
    /// Write down and say where the instance is.
    Report(Report),
    /// End the keeper.
    Exit,
}

/// Where an instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its phase.
    pub phase: Phase,
    /// Why, for people; without the last output.
    pub message: String,
    /// How often it was started again.
    pub restarts: u32,
    /// How the program last ended.
    pub exit: Option<Exit>,
    /// Set on the last report.
    pub end: Option<End>,
}

/// How long a start waits for its secrets as they are now, when its keeper has some: a program that ran must not stay away
/// because nobody can be asked.
const RENEWED_WITHIN: Span = Span::seconds(5);

/// The state of one keeper.
#[derive(Clone, Debug)]
pub struct Keep {
    lease: Lease,
    stop: Stop,
    restart: Restart,
    /// Restarts since the bucket last changed.
    restarts: u32,
    /// Their moments, as far as they count.
    recent: Vec<Moment>,
    exit: Option<Exit>,
    /// Why the last start came to nothing; said in place of its exit.
    trouble: Option<String>,
    /// How the program is told of its life.
    telling: Telling,
    /// Nothing is to be run, but this call made.
    farewell: Option<Call>,
    /// What it is started with has secrets in it.
    renews: bool,
    /// The bucket changed since the program was placed.
    changed: bool,
    /// A purge was asked for while no program was there.
    purge: bool,
    /// It has shown what it was to show: its end is a good one.
    tested: bool,
    /// Still to be made, in this order.
    queue: VecDeque<Call>,
    /// Under way, and when it is given up.
    calling: Option<(Call, Moment)>,
    /// What the program said of itself since it runs.
    said: String,
    /// What was shown last is why a poll failed.
    poll_failed: bool,
    /// It is polled so often, while it runs.
    poll_every: Option<Span>,
    /// The next time.
    poll_at: Option<Moment>,
    /// The last time, or when it first ran: so long before that moment, which is of this boot.
    polled: Option<(Moment, Span)>,
    /// Its end is to be followed by a new start.
    again: bool,
    life: Life,
}

/// Where a keeper is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Life {
    New,
    /// Everything is being killed; what follows when nothing is left.
    Clearing(Then),
    /// The check at exec, for the commands before a start.
    Sighting,
    /// Commands are run before the program is placed.
    Preparing,
    Placing,
    Checking,
    Executing,
    /// A plugin's program is there, and is told of its bucket.
    Opening,
    Running,
    /// The program is told that it stops; killed at this moment.
    Parting(Moment),
    /// Asked to end; killed at this moment.
    Stopping(Moment),
    /// Started again at this moment.
    Waiting(Moment),
    /// About to be started again: its secrets are asked for, and not waited for longer than until this moment.
    Renewing(Moment),
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Then {
    Start,
    /// What had to be told before it was told.
    Place,
    /// Only this call is made.
    Farewell(Call),
    /// The program ended by itself like this.
    Judge(Exit),
    Over(End, String),
}
