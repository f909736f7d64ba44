//! Identities and positions: small numbers and strings that must never be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

number! {
    /// A node's number in the replicated log; given once, never reused. 0 is no node.
    NodeId
}
number! {
    /// Position in the replicated log, counted in commands: the n-th command ever applied has revision n.
    Revision
}
number! {
    /// Raft term: which election a leader's decision belongs to.
    Term
}
number! {
    /// Fencing token of a single-node binding: cluster epoch × 2^48 + revision of its Bind. Only grows.
    Epoch
}
number! {
    /// How often the cluster was re-founded by disaster recovery; starts at 0, at most 65,535.
    ClusterEpoch
}

impl ClusterEpoch {
    /// The highest there is: epochs are numbers below 2^63, of which 48 bits count revisions.
    pub const MAX: Self = Self((1 << 15) - 1);
}

impl Epoch {
    /// The epoch of a binding made by the command at `revision`.
    pub fn new(cluster: ClusterEpoch, revision: Revision) -> Self {
        Self((cluster.0 << 48) | (revision.0 & ((1 << 48) - 1)))
    }

    /// The revision of the command that made the binding.
    pub const fn revision(self) -> Revision {
        Revision(self.0 & ((1 << 48) - 1))
    }
}

text! {
    /// Random identity of a cluster, made when it forms.
    ClusterId
}

impl ClusterId {
    /// The identity of the cluster that goes on from this one's state after a disaster: `ROOT+N-RANDOM`, where `ROOT` is
    /// what the first one made up. `random` keeps apart what two operators found at the same time.
    #[must_use]
    pub fn founded_anew(&self, epoch: ClusterEpoch, random: &str) -> Self {
        Self(format!("{}+{epoch}-{random}", self.root()))
    }

    /// How often it was founded anew; 0: never.
    pub fn founding(&self) -> ClusterEpoch {
        let number = self.0.split_once('+').and_then(|(_, rest)| rest.split('-').next()?.parse().ok());
        ClusterEpoch(number.unwrap_or(0))
    }

    /// What follows the root of one that was founded anew: `N-RANDOM`, of letters, digits and dashes only; none: it never was.
    pub fn refounding(&self) -> Option<&str> {
        let (_, rest) = self.0.split_once('+')?;
        let plain = rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        (plain && !rest.is_empty()).then_some(rest)
    }

    /// Whether it goes on from a state of `other`: what belongs to that one belongs to this one now.
    pub fn succeeds(&self, other: &Self) -> bool {
        self.root() == other.root() && self.founding() > other.founding()
    }

    fn root(&self) -> &str {
        self.0.split_once('+').map_or(self.0.as_str(), |(root, _)| root)
    }
}

text! {
    /// Random identity of a node's data directory, made when the directory is new; what registers under a `NodeId`.
    NodeKey
}
text! {
    /// Identity of one boot of a machine, as the kernel names it; deadlines hold within one boot only.
    BootId
}
text! {
    /// Random identity of one life of an agent process.
    Incarnation
}
text! {
    /// Chosen by a client so that a repeated request is applied once.
    RequestId
}
text! {
    /// Who asked for a change: a person, a program or a part of Sheaf, e.g. `cli:alice@ops1`, `leader:3`, `node:7`.
    Actor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_founded_anew_succeeds_all_that_went_before_and_no_other() {
        let first = ClusterId("c0ffee".to_owned());
        let second = first.founded_anew(ClusterEpoch(1), "1a2b");
        let twin = first.founded_anew(ClusterEpoch(1), "3c4d");
        let third = second.founded_anew(ClusterEpoch(2), "5e6f");
        assert_eq!(third.0, "c0ffee+2-5e6f");
        assert_eq!((first.refounding(), third.refounding()), (None, Some("2-5e6f")));
        assert_eq!((first.founding(), third.founding()), (ClusterEpoch(0), ClusterEpoch(2)));
        assert!(second.succeeds(&first) && third.succeeds(&first) && third.succeeds(&twin));
        assert!(!second.succeeds(&twin) && !first.succeeds(&second) && !second.succeeds(&second));
        assert!(!second.succeeds(&ClusterId("tea".to_owned())));
    }

    #[test]
    fn an_epoch_grows_with_the_revision_and_beyond_any_revision_with_the_cluster_epoch() {
        let old = Epoch::new(ClusterEpoch(0), Revision((1 << 48) - 1));
        let new = Epoch::new(ClusterEpoch(1), Revision(1));
        assert!(Epoch::new(ClusterEpoch(0), Revision(7)) < Epoch::new(ClusterEpoch(0), Revision(8)));
        assert!(old < new);
    }
}
