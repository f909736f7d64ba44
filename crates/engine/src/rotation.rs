//! How one authority takes the place of another, and what that waits for.
//!
//! ```text
//!  BeginRotation: the next one is believed ── every node that is alive believes it, every member among them has its key
//!    ──► IssueBy: it issues ── every node that is alive has a certificate of it; what the former one signed is over
//!    ──► RetireAuthority, or an operator drops it before: the former one is believed no more
//! ```
//!
//! Nodes that are away are not waited for. What they show is good until the former authority is dropped.

use std::fmt;

use sheaf_model::{AuthorityRecord, AuthorityStage, Digest, NodeId, Timestamp, Trusting};

use crate::access::Access;
use crate::sessions::Sessions;
use crate::state::State;

/// What the next step waits for on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It has not told this leader whom it believes.
    Word,
    /// It does not believe the next authority.
    Belief,
    /// It is a member, and has not got the next authority's key.
    Key,
    /// Its certificate is not by the authority that issues.
    Certificate,
}

/// For people.
impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Word => {
                "has not said whom it believes: its session is new, its agent restarts, or it runs an earlier version"
            }
            Self::Belief => "does not believe the next authority yet",
            Self::Key => "has not got the key of the next authority yet",
            Self::Certificate => "has no certificate of the new authority yet",
        })
    }
}

/// Nodes that are alive and that the next step waits for, by number. Empty: for none, or nothing is under way.
pub fn lacking(state: &State, sessions: &Sessions) -> Vec<(NodeId, Lack)> {
    let access = &state.access;
    let (next, former) = (access.successor(), access.former());
    let lack = |said: Trusting| match (next, former, access.issuing()) {
        _ if said == Trusting::default() => Some(Lack::Word),
        (Some(next), ..) if !said.believes.contains(&next.fingerprint.leading()) => Some(Lack::Belief),
        (Some(next), ..) if said.member && !said.keys.contains(&next.fingerprint.leading()) => {
            Some(Lack::Key)
        }
        (None, Some(_), Some(issuing)) if said.issuer != issuing.fingerprint.leading() => {
            Some(Lack::Certificate)
        }
        _ => None,
    };
    if next.is_none() && former.is_none() {
        return Vec::new();
    }
    let alive = state.nodes.values().filter(|node| node.status.is_alive());
    alive.filter_map(|node| Some((node.id, lack(sessions.load(node.id).trust)?))).collect()
}

/// The authority that may issue from now on: nobody lacks anything for that, and somebody has its key.
pub fn may_issue<'a>(state: &'a State, sessions: &Sessions) -> Option<&'a AuthorityRecord> {
    let next = state.access.successor()?;
    let leading = next.fingerprint.leading();
    let kept = state.nodes.values().any(|node| {
        let said = sessions.load(node.id).trust;
        node.status.is_alive() && said.member && said.keys.contains(&leading)
    });
    (kept && lacking(state, sessions).is_empty()).then_some(&**next)
}

/// The former authority that may be dropped at `now`, and until when its certificates were good; until then nodes that are
/// away can come back with them.
pub fn may_retire(state: &State, sessions: &Sessions, now: Timestamp) -> Option<(Digest, Timestamp)> {
    let former = state.access.former()?;
    let AuthorityStage::Former { until } = former.stage else { return None };
    let over = now >= until && signed_by(&state.access, &former.fingerprint, now).is_empty();
    (over && lacking(state, sessions).is_empty()).then_some((former.fingerprint, until))
}

/// Names of certificates of people and programs that this authority has signed and that are good at `now`.
pub fn signed_by(access: &Access, authority: &Digest, now: Timestamp) -> Vec<String> {
    let good = access.tokens.values().filter(|token| token.expires_at.is_none_or(|at| at > now));
    let signed = good.filter(|token| token.of.authority() == Some(*authority));
    let mut names: Vec<String> = signed.map(|token| token.name.to_string()).collect();
    names.sort();
    names
}
