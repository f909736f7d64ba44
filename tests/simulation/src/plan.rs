//! What a run is made of.

use crate::clock::{SECOND, Time};

/// What follows from the seed alone.
pub(crate) const SEED: &str = "seed";

/// The size of a run and what goes wrong in it. The seed decides the rest.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How [`Plan::named`] gives it again.
    pub name: String,
    /// Machines, each with an agent.
    pub nodes: usize,
    /// The first so many machines vote.
    pub voters: usize,
    /// Buckets, registered and changed by clients.
    pub buckets: usize,
    /// One in so many of them is multi-node.
    pub multi_every: usize,
    /// Jobs, each submitted and played with by its owner.
    pub jobs: usize,
    /// For how long faults happen and clients change things, in microseconds.
    pub chaos: Time,
    /// How long after the last fault everything must be as it shall be, in microseconds.
    pub healing: Time,
    /// The mean time between two faults, in microseconds; 0: none.
    pub fault_every: Time,
    /// How often the leader is cut off beside that, in microseconds; 0: only by chance.
    pub cut_leader_every: Time,
    /// How often a leader and an agent are set against the others beside that (see `hunts`), in microseconds; 0: never.
    pub hunt_every: Time,
    /// Messages lost all the time, of 1000.
    pub loss: u64,
    /// Whether clients go on changing buckets after registering them.
    pub changes: bool,
    /// Whether every node is available for every bucket, and a bucket moves when its node is lost.
    pub anywhere: bool,
    /// Whether agents understand what they are told of buckets that are bound to other nodes; else they are of the version
    /// before that.
    pub told_elsewhere: bool,
    /// Whether a keeper is paused whenever its machine is cut off: then the agent alone ends what it keeps.
    pub keepers_hang: bool,
    /// Whether what nodes report is now and then not recorded: there is no room for it on the leader's disk.
    pub full_disks: bool,
    /// So many machines, none of which votes, lose power for good and all at once.
    pub lost_at_once: usize,
    /// Keep a line of every event worth reading.
    pub lines: bool,
    /// The bug planted, if any.
    #[cfg(feature = "planted")]
    pub planted: Option<Planted>,
}

impl Plan {
    /// A small cluster with all faults; its exact size follows from the seed. In one seed of eight leaders are hunted, and
    /// there is less of everything else.
    pub fn of_seed(seed: u64) -> Self {
        let is_hunt = seed % 8 == 5;
        let voters = if seed % 5 == 4 { 5 } else { 3 };
        let others = usize::try_from(seed / 5 % 4).unwrap_or(0);
        let nodes = voters + if is_hunt { others.max(2) } else { others };
        Self {
            name: SEED.to_owned(),
            nodes,
            voters,
            buckets: 5,
            multi_every: 5,
            jobs: if seed.is_multiple_of(2) { 2 } else { 0 },
            chaos: 40 * SECOND,
            healing: 45 * SECOND,
            fault_every: if is_hunt { 3 * SECOND } else { 900 * 1000 },
            cut_leader_every: 0,
            hunt_every: if is_hunt { 9 * SECOND } else { 0 },
            loss: [0, 0, 10, 50][usize::try_from(seed / 20 % 4).unwrap_or(0)],
            changes: true,
            anywhere: false,
            told_elsewhere: seed % 16 != 7,
            keepers_hang: false,
            full_disks: seed % 8 == 6,
            lost_at_once: 0,
            lines: false,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }

    /// A large cluster for one virtual minute, in which `loss` of 1000 messages are lost and leaders are cut off.
    pub fn large(nodes: usize, buckets: usize, loss: u64) -> Self {
        Self {
            name: format!("large:{nodes}:{buckets}:{loss}"),
            nodes,
            voters: 5.min(nodes),
            buckets,
            multi_every: 100,
            jobs: 0,
            chaos: 15 * SECOND,
            healing: 45 * SECOND,
            fault_every: 3 * SECOND,
            cut_leader_every: 4 * SECOND,
            hunt_every: 0,
            loss,
            changes: false,
            anywhere: false,
            told_elsewhere: true,
            keepers_hang: false,
            full_disks: false,
            lost_at_once: 0,
            lines: false,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }

    /// A large cluster with single-node buckets only, which loses one in ten of its nodes at once and nothing else.
    /// [`Counts::restored`](crate::Counts::restored) says how long it took until everything ran again.
    pub fn losing(nodes: usize, buckets: usize) -> Self {
        Self {
            name: format!("losing:{nodes}:{buckets}"),
            multi_every: usize::MAX,
            chaos: 12 * SECOND,
            healing: 15 * SECOND,
            fault_every: 0,
            cut_leader_every: 0,
            anywhere: true,
            lost_at_once: nodes / 10,
            ..Self::large(nodes, buckets, 0)
        }
    }

    /// One by its name, for a seed; none: no plan is called so.
    pub fn named(name: &str, seed: u64) -> Option<Self> {
        if name == SEED {
            return Some(Self::of_seed(seed));
        }
        let (kind, sizes) = name.split_once(':')?;
        let sizes: Vec<usize> = sizes.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
        match (kind, sizes.as_slice()) {
            ("large", [nodes, buckets, loss]) => Some(Self::large(*nodes, *buckets, *loss as u64)),
            ("losing", [nodes, buckets]) => Some(Self::losing(*nodes, *buckets)),
            _ => None,
        }
    }

    /// So many events are more than any run of this size needs.
    pub(crate) fn most_steps(&self) -> u64 {
        400_000 + 100_000 * (self.nodes + self.buckets) as u64
    }

    /// Whether this bug is planted; never without the feature.
    #[cfg(feature = "planted")]
    pub(crate) fn has(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    /// Whether this bug is planted; never without the feature.
    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "the same signature as with the feature")]
    pub(crate) const fn has(&self, _bug: Planted) -> bool {
        false
    }
}

/// A bug that the checks must find. Each is planted in the shells around the engine, never in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The node counts a lease from the receipt of the acknowledgement, not from the heartbeat's sending.
    LeaseFromReceipt,
    /// The leader acknowledges without asking a majority.
    NoQuorumRound,
    /// A new leader believes it has led for an hour.
    NoWaitAfterElection,
    /// A report about an older epoch counts for the present one, and so does an acknowledgement.
    EpochNotChecked,
    /// The keeper ignores its deadline.
    KeeperDoesNotKill,
    /// The binding of a suspended bucket is freed at once.
    ReleaseOnSuspend,
    /// Any acknowledgement prolongs everything that the node's watch shows as bound to it.
    NodeWideLease,
    /// What a deposed leader had decided is proposed by its successor as its own.
    ForwardedDecision,
    /// The keeper looks at its clock when its plan is written, and not again before the program runs.
    LateExec,
    /// What is given up is not written down.
    GaveUpInMemory,
    /// The leader acknowledges also what it has decided to free.
    FenceUndone,
    /// The leader acknowledges for as long as a majority was in touch with it, counted from when it received their answers.
    ContactFromReceipt,
    /// The same, counted from when it sent what they answered; but the lease is for a whole ttl.
    FreshContact,
    /// The same, and the lease ends when that time is over: by the leader's clock, which may have stood still.
    ContactByClock,
    /// The agent leaves it to the keeper to end what outlives its lease.
    OneEnforcer,
    /// What a node lacks is sent as it was when that was looked up: its end may have been recorded since.
    OrderAfterEnd,
    /// What a node lacks is sent to whatever life of its agent has a session by then.
    OrderToNextLife,
    /// An agent goes on at the pace at which its session began.
    OldHeartbeat,
    /// A new leader asks a majority, and then places and acknowledges by what it has applied, before an entry of its own term
    /// is.
    NoOwnEntry,
    /// What may not run on a node any more stays there.
    NotReleased,
    /// A node judges by the rules of a bucket that it knew before.
    OldRules,
    /// What is said to be recorded is taken for all that was reported up to then.
    RecordedUpTo,
    /// A node says nothing of what has come to its end.
    EndUntold,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::LeaseFromReceipt,
        Self::NoQuorumRound,
        Self::NoWaitAfterElection,
        Self::EpochNotChecked,
        Self::KeeperDoesNotKill,
        Self::ReleaseOnSuspend,
        Self::NodeWideLease,
        Self::ForwardedDecision,
        Self::LateExec,
        Self::GaveUpInMemory,
        Self::FenceUndone,
        Self::ContactFromReceipt,
        Self::FreshContact,
        Self::ContactByClock,
        Self::OneEnforcer,
        Self::OrderAfterEnd,
        Self::OrderToNextLife,
        Self::OldHeartbeat,
        Self::NoOwnEntry,
        Self::NotReleased,
        Self::OldRules,
        Self::RecordedUpTo,
        Self::EndUntold,
    ];
}
