//! Who may make which call.
//!
//! ```text
//!  connection ── Certificate ──┐                             ┌── Open: nothing is secured
//!  authorization: Bearer … ────┼─► Presented ──► Guard ──────┼── Nobody, Joining, Node, User
//!  sheaf-node, of a carried call ┘     path ──► Need ────────┘        │
//!                                                                     ▼
//!                                              Caller::admitted ──► may, may_change, speaks_for
//! ```
//!
//! Asked where a call is answered and nowhere before: who only carries it on may have no replica to ask. Read `need`
//! (which call needs what), then `door` (what stands in a request).

pub(crate) mod door;
mod need;

use std::fmt;
use std::net::IpAddr;

use futures::future::BoxFuture;
use sheaf_model::{BucketName, NodeId, Rights, Role, TokenName};

pub use need::{Need, need};

use crate::ApiError;
use crate::bearer::Bearer;

/// Whose certificate the other end of a connection has, put into a request's extensions by the transport, which has
/// verified it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// A node's.
    Node(NodeId),
    /// A node's that has no number yet, before there is a cluster.
    Bootstrap,
}

/// What a call shows of who makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presented {
    /// Of the connection that it came on.
    pub certificate: Option<Certificate>,
    /// The node whose call it is, as the one that carried it here says; of a call that was not carried, that of the
    /// certificate. None: no node's.
    pub on_behalf: Option<NodeId>,
    /// Decides if there is one, whatever else is shown.
    pub token: Option<Bearer>,
    /// Where the call came from, before any node carried it, or asked it for a browser.
    pub remote: Option<IpAddr>,
}

/// Who makes a call, as far as that is proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admitted {
    /// Whoever: nothing is secured.
    #[default]
    Open,
    /// Nobody known. What is done on behalf is asked for elsewhere, with what was shown here.
    Nobody,
    /// A node that wants to join.
    Joining {
        /// It may become a voter.
        may_vote: bool,
        /// What it joins with, for history: a token's name.
        by: String,
    },
    /// A node.
    Node(NodeId),
    /// A person or a program.
    User {
        /// Of the token.
        name: TokenName,
        /// What it may do.
        rights: Rights,
    },
}

/// Decides who is let in. Implemented where the state is.
pub trait Guard: Send + Sync + 'static {
    /// Who it is, if what is shown is enough; of a node, if it is to the cluster what is needed.
    ///
    /// # Errors
    /// `Unauthenticated`: nothing, or nothing valid, is shown. `Forbidden`: it is known who it is, and that this is not for
    /// it. `Busy`: too many failed lately from there.
    fn admit(&self, presented: Presented, need: Need) -> BoxFuture<'_, Result<Admitted, ApiError>>;

    /// Whether the node is a member, which others' calls are carried by; as far as is known here.
    fn is_member(&self, node: NodeId) -> bool;

    /// Done when what let somebody in is worth nothing any more: what streams to it ends then.
    fn until_gone(&self, admitted: &Admitted) -> BoxFuture<'static, ()>;
}

impl Admitted {
    /// Whether a call that needs this is for it. [`Need::Bucket`] is asked again by [`Self::may_change`]; what a node is to
    /// the cluster is known to the guard alone.
    ///
    /// # Errors
    /// Who it is, what is needed, and how to get it; or that nobody knows who it is.
    pub fn meets(&self, need: Need) -> Result<(), ApiError> {
        let met = match (self, need) {
            (Self::Open, _) | (_, Need::Nothing) => true,
            (Self::Nobody, _) => return Err(nobody()),
            // Who forms or joins a cluster meets others by their addresses.
            (Self::Joining { .. } | Self::Node(_), Need::Join) => true,
            (Self::Node(_), Need::Told | Need::Registered | Need::Member | Need::Viewer) => true,
            (Self::User { rights, .. }, Need::Viewer | Need::Carried) => rights.role >= Role::Viewer,
            (Self::User { rights, .. }, Need::Bucket) => rights.role >= Role::Operator,
            (Self::User { rights, .. }, Need::Operator) => rights.is_at_least(Role::Operator),
            (Self::User { rights, .. }, Need::Admin) => rights.is_at_least(Role::Admin),
            _ => false,
        };
        if met { Ok(()) } else { Err(self.forbidden(need)) }
    }

    /// Whether it may do all that the role may.
    ///
    /// # Errors
    /// As [`Self::meets`].
    pub fn may(&self, role: Role) -> Result<(), ApiError> {
        self.meets(match role {
            Role::Viewer => Need::Viewer,
            Role::Operator => Need::Operator,
            Role::Admin => Need::Admin,
        })
    }

    /// Whether it may change that bucket.
    ///
    /// # Errors
    /// As [`Self::meets`].
    pub fn may_change(&self, bucket: &BucketName) -> Result<(), ApiError> {
        self.meets(Need::Bucket)?;
        match self {
            Self::User { rights, .. } if !rights.may_change(bucket) => Err(ApiError::Forbidden(format!(
                "{self} may not change bucket {bucket}, which is not under its prefix; an admin makes tokens for others: \
                 sheaf cluster token create"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether what `node` says may come from it.
    ///
    /// # Errors
    /// Who it is instead.
    pub fn speaks_for(&self, node: NodeId) -> Result<(), ApiError> {
        match self {
            Self::Open => Ok(()),
            Self::Node(own) if *own == node => Ok(()),
            Self::Nobody => Err(nobody()),
            other => Err(ApiError::Forbidden(format!("{other} does not speak for node {node}"))),
        }
    }

    fn forbidden(&self, need: Need) -> ApiError {
        let token = "an admin makes tokens: sheaf cluster token create";
        ApiError::Forbidden(match need {
            Need::Nothing | Need::Join => format!("{self} is no node, and only nodes do this"),
            Need::Told | Need::Registered | Need::Member => {
                format!("{self} may not do this: only a node does, for itself")
            }
            Need::Viewer | Need::Carried => {
                format!("{self} may not do this: it needs the role viewer; {token}")
            }
            Need::Bucket | Need::Operator => {
                format!("{self} may not do this: it needs the role operator; {token}")
            }
            Need::Admin => format!("{self} may not do this: it needs the role admin; {token}"),
        })
    }
}

/// As errors call it.
impl fmt::Display for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open | Self::Nobody => f.write_str("whoever asks"),
            Self::Joining { by, .. } => write!(f, "a node that joins with {by}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::User { name, rights } => write!(f, "{name} ({rights})"),
        }
    }
}

/// What was shown held when the call began, and does no more.
pub(crate) fn gone() -> ApiError {
    ApiError::Unauthenticated("the token was revoked, or has expired".to_owned())
}

/// Nothing is shown, and something is needed.
pub fn nobody() -> ApiError {
    ApiError::Unauthenticated("this cluster asks for a token: sheaf login, or SHEAF_TOKEN".to_owned())
}

#[cfg(test)]
mod tests {
    use sheaf_model::Prefix;

    use super::*;

    fn user(role: Role, prefix: Option<&str>) -> Admitted {
        let prefix = prefix.map(|prefix| Prefix::new(prefix).unwrap());
        Admitted::User { name: TokenName::new("alice").unwrap(), rights: Rights::new(role, prefix).unwrap() }
    }

    #[test]
    fn each_role_meets_what_it_should_and_nothing_else() {
        use Need::{Admin, Bucket, Carried, Join, Member, Nothing, Operator, Registered, Told, Viewer};
        let all = [Nothing, Join, Told, Registered, Member, Viewer, Carried, Bucket, Operator, Admin];
        let joining = Admitted::Joining { may_vote: true, by: "rack-7".to_owned() };
        let cases: [(Admitted, &[Need]); 8] = [
            (Admitted::Open, &all),
            (Admitted::Nobody, &[Nothing]),
            (joining, &[Nothing, Join]),
            (Admitted::Node(NodeId(3)), &[Nothing, Join, Told, Registered, Member, Viewer]),
            (user(Role::Viewer, None), &[Nothing, Viewer, Carried]),
            (user(Role::Operator, Some("/team-a/")), &[Nothing, Viewer, Carried, Bucket]),
            (user(Role::Operator, None), &[Nothing, Viewer, Carried, Bucket, Operator]),
            (user(Role::Admin, None), &[Nothing, Viewer, Carried, Bucket, Operator, Admin]),
        ];
        for (admitted, met) in cases {
            for need in all {
                assert_eq!(admitted.meets(need).is_ok(), met.contains(&need), "{admitted:?} {need:?}");
            }
        }
    }

    #[test]
    fn a_refusal_says_who_what_and_how() {
        let error = user(Role::Viewer, None).meets(Need::Operator).unwrap_err();
        assert_eq!(
            error,
            ApiError::Forbidden(
                "alice (viewer) may not do this: it needs the role operator; an admin makes tokens: sheaf cluster token create"
                    .to_owned()
            )
        );
        let team = user(Role::Operator, Some("/team-a/"));
        let error = team.may_change(&BucketName::new("/team-b/x").unwrap()).unwrap_err().to_string();
        assert!(
            error.starts_with("alice (operator on /team-a/) may not change bucket /team-b/x, "),
            "{error}"
        );
        assert!(team.may_change(&BucketName::new("/team-a/x").unwrap()).is_ok());
        let error = Admitted::Node(NodeId(3)).speaks_for(NodeId(4)).unwrap_err();
        assert_eq!(error, ApiError::Forbidden("node 3 does not speak for node 4".to_owned()));
        assert!(Admitted::Node(NodeId(3)).speaks_for(NodeId(3)).is_ok());
        assert!(user(Role::Admin, None).speaks_for(NodeId(3)).is_err(), "not even an admin");
        assert!(Admitted::Node(NodeId(3)).may_change(&BucketName::new("/a").unwrap()).is_err());
        assert!(matches!(Admitted::Nobody.may(Role::Viewer), Err(ApiError::Unauthenticated(_))));
    }
}
