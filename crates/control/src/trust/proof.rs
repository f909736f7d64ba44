//! What a data directory that asks for a number has proven, before its token is looked at.
//!
//! ```text
//!                     its own certificate   join secret       neither
//!  known, Joining     its number            its number        its number, by a token
//!  known, alive       its number            refused           refused
//!  known, lost        its number            its number        refused
//!  not known          — (*)                 a new number      a new number, by a token
//! ```
//!
//! A join secret counts as long as the token that it is has not been revoked; then it is as if nothing were shown.
//!
//! (*) A certificate of a node that this state has never heard of: it came from before the cluster was founded anew. That of
//! a node that is known, or was forgotten, speaks for no other data directory: or whoever has taken it would stay for ever.

use sheaf_model::{Holder, Node, NodeStatus};

/// What is to be done with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is welcome; whether it may vote.
    Welcome {
        /// See [`sheaf_engine::Admit`].
        may_vote: bool,
    },
    /// A join token decides.
    ByToken {
        /// Whether it may vote if the token says so.
        may_vote: bool,
    },
    /// It is not, and why.
    Refused(String),
}

/// Judges who shows `holder`, whose data directory is that of `known`. `unheard_of`: it says that it belongs to this
/// cluster, and the state knows no node with its certificate's number.
pub(super) fn judge(known: Option<&Node>, holder: Option<Holder>, unheard_of: bool) -> Judged {
    let Some(known) = known else {
        return match holder {
            Some(Holder::Joining) => Judged::Welcome { may_vote: true },
            Some(Holder::Node(_)) if unheard_of => Judged::Welcome { may_vote: false },
            _ => Judged::ByToken { may_vote: true },
        };
    };
    let (name, alive) = (&known.facts.name, known.status.is_alive());
    match holder {
        Some(Holder::Node(shown)) if shown == known.id => Judged::Welcome { may_vote: known.may_vote },
        Some(Holder::Joining) if known.status == NodeStatus::Joining || !alive => {
            Judged::Welcome { may_vote: true }
        }
        // What it may become was decided when it was let in first.
        _ if known.status == NodeStatus::Joining => Judged::ByToken { may_vote: known.may_vote },
        _ if alive => Judged::Refused(format!(
            "this data directory is that of node {name}, which is alive; only its own certificate speaks for it"
        )),
        _ => Judged::Refused(format!(
            "this data directory is that of node {name}, and only its own certificate speaks for it; if that has expired, \
             forget the node (sheaf node forget {name}), empty its data directory ([storage] dir) and let it join as a new one"
        )),
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{NodeId, NodeKey, Revision, Timestamp};

    use super::*;
    use crate::propose::tests::facts;

    fn node(status: NodeStatus, may_vote: bool) -> Node {
        Node {
            id: NodeId(3),
            key: NodeKey::from("c"),
            facts: facts("n3"),
            given_labels: Vec::new(),
            status,
            since: Timestamp::default(),
            reason: String::new(),
            registered: Revision(1),
            revision: Revision(1),
            drain: None,
            may_vote,
        }
    }

    fn is_refused(judged: &Judged) -> bool {
        matches!(judged, Judged::Refused(why) if why.contains("node n3") && why.contains("only its own certificate"))
    }

    #[test]
    fn a_known_data_directory_is_spoken_for_by_its_own_certificate() {
        use NodeStatus::{Draining, Joining, Lost, Ready, Restarting};
        for may_vote in [false, true] {
            for status in [Joining, Ready, Restarting, Draining, Lost] {
                let known = node(status, may_vote);
                let own = judge(Some(&known), Some(Holder::Node(NodeId(3))), false);
                assert_eq!(own, Judged::Welcome { may_vote }, "{status:?}");
                for other in [None, Some(Holder::Node(NodeId(4)))] {
                    for unheard_of in [false, true] {
                        let judged = judge(Some(&known), other, unheard_of);
                        match status {
                            Joining => assert_eq!(judged, Judged::ByToken { may_vote }),
                            _ => assert!(is_refused(&judged), "{status:?} {other:?}: {judged:?}"),
                        }
                    }
                }
                let secret = judge(Some(&known), Some(Holder::Joining), false);
                match status {
                    Joining | Lost => assert_eq!(secret, Judged::Welcome { may_vote: true }),
                    _ => assert!(is_refused(&secret), "{status:?}: {secret:?}"),
                }
            }
        }
    }

    #[test]
    fn a_new_data_directory_needs_a_token_whatever_certificate_of_a_known_node_it_shows() {
        let by_token = Judged::ByToken { may_vote: true };
        assert_eq!(judge(None, None, true), by_token);
        assert_eq!(judge(None, Some(Holder::Node(NodeId(3))), false), by_token);
        let from_before = judge(None, Some(Holder::Node(NodeId(3))), true);
        assert_eq!(from_before, Judged::Welcome { may_vote: false });
        assert_eq!(judge(None, Some(Holder::Joining), false), Judged::Welcome { may_vote: true });
    }
}
