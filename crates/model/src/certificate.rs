//! Whom a certificate of the cluster names: DNS names under `sheaf.internal`, which no public authority signs.

use std::fmt;

use crate::{NodeId, TokenId};

/// The name that every node's certificate has, so that whoever dials an address need not know the node's number.
pub const AGENT_NAME: &str = "agent.sheaf.internal";
/// The name under which nodes that hold the same join secret find each other before they have a certificate.
pub const JOIN_NAME: &str = "join.sheaf.internal";

const NODE: &str = ".node.sheaf.internal";
const PERSON: &str = ".user.sheaf.internal";

/// Whose certificate it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A node of the cluster, by its number.
    Node(NodeId),
    /// Somebody who holds the join secret, and nothing else yet.
    Joining,
    /// A person or a program, by the id under which the cluster knows the certificate. It proves nothing about a connection:
    /// its key signs what a call shows.
    Person(TokenId),
}

impl Holder {
    /// Whom a DNS name of a certificate names; none: nobody in particular.
    pub fn of_name(name: &str) -> Option<Self> {
        if name == JOIN_NAME {
            return Some(Self::Joining);
        }
        if let Some(id) = name.strip_suffix(PERSON) {
            return TokenId::parse(id).filter(|known| known.to_string() == id).map(Self::Person);
        }
        let number = name.strip_suffix(NODE)?.strip_prefix('n')?;
        let plain = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
        number.parse().ok().filter(|_| plain).map(|number| Self::Node(NodeId(number)))
    }
}

/// The DNS name, as [`Holder::of_name`] reads it.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "n{node}{NODE}"),
            Self::Joining => f.write_str(JOIN_NAME),
            Self::Person(id) => write!(f, "{id}{PERSON}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_no_other_way() {
        let person = Holder::Person(TokenId([0xab; 6]));
        for holder in [Holder::Node(NodeId(1)), Holder::Node(NodeId(u64::MAX)), Holder::Joining, person] {
            assert_eq!(Holder::of_name(&holder.to_string()), Some(holder));
        }
        for other in [
            "",
            AGENT_NAME,
            "n0.node.sheaf.internal",
            "n01.node.sheaf.internal",
            "n+1.node.sheaf.internal",
            "n.node.sheaf.internal",
            "n1.node.sheaf.internal.",
            "x.n1.node.sheaf.internal",
            "1.node.sheaf.internal",
            "n18446744073709551616.node.sheaf.internal",
            "ABABABABABAB.user.sheaf.internal",
            "abababababab.node.sheaf.internal",
            "ababababab.user.sheaf.internal",
            "n1.user.sheaf.internal",
            "x.abababababab.user.sheaf.internal",
            "abababababab.user.sheaf.internal.",
        ] {
            assert_eq!(Holder::of_name(other), None, "{other}");
        }
    }
}
