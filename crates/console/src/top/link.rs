//! The node that is asked, and the others that could be.

use std::time::Duration;

use sheaf_model::view::ClusterStatus;
use sheaf_wire::{ApiError, Client, Options};

/// How long an answer may take: a node that hangs must be noticed before somebody wonders.
const PATIENCE: Duration = Duration::from_secs(4);
/// So often in a row a node may not answer how the cluster stands before another is asked.
const MISSES: u32 = 2;

/// Any node answers every call, so one that does not is replaced by a voter that is known.
#[derive(Debug)]
pub(super) struct Link {
    options: Options,
    /// The one that was named first; the others as the cluster tells of them.
    addresses: Vec<String>,
    at: usize,
    misses: u32,
    /// Answers of earlier ones count for nothing.
    pub(super) number: u32,
}

impl Link {
    pub(super) fn new(address: &str, options: Options) -> Self {
        let options = Options { deadline: PATIENCE, connect_timeout: PATIENCE, ..options };
        Self { options, addresses: vec![address.to_owned()], at: 0, misses: 0, number: 0 }
    }

    /// Where the node is that is asked.
    pub(super) fn address(&self) -> &str {
        &self.addresses[self.at]
    }

    /// Connects when it is first used.
    pub(super) fn client(&self) -> Result<Client, ApiError> {
        Client::lazy(self.address(), self.options.clone())
    }

    /// The cluster said how it stands: the node is well, and others are known.
    pub(super) fn answered(&mut self, status: &ClusterStatus) {
        self.misses = 0;
        let asked = self.address().to_owned();
        self.addresses.truncate(1);
        for member in status.members.iter().filter(|member| member.voter && !member.address.is_empty()) {
            if !self.addresses.contains(&member.address) {
                self.addresses.push(member.address.clone());
            }
        }
        self.at = self.addresses.iter().position(|address| *address == asked).unwrap_or_else(|| {
            self.addresses.push(asked);
            self.addresses.len() - 1
        });
    }

    /// It did not; whether another is asked from now on.
    pub(super) fn missed(&mut self, error: &ApiError) -> bool {
        self.misses += 1;
        if !error.can_retry() || self.misses < MISSES || self.addresses.len() < 2 {
            return false;
        }
        self.misses = 0;
        self.at = (self.at + 1) % self.addresses.len();
        self.number += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(addresses: &[&str]) -> ClusterStatus {
        let member = |address: &&str| {
            serde_json::from_value(serde_json::json!({
                "name": "n", "id": 1, "voter": true, "role": "voter", "match_lag": 0, "address": address
            }))
            .expect("a member")
        };
        ClusterStatus { members: addresses.iter().map(member).collect(), ..ClusterStatus::default() }
    }

    #[test]
    fn a_node_that_does_not_answer_twice_is_replaced_in_turn() {
        let mut link = Link::new("given:1", Options::default());
        let gone = ApiError::unavailable("gone");
        assert!(!link.missed(&gone) && !link.missed(&gone), "no other is known");
        link.answered(&status(&["a:1", "given:1", "b:1"]));
        assert!(!link.missed(&gone) && link.missed(&gone));
        assert_eq!((link.address(), link.number), ("a:1", 1));
        link.answered(&status(&["b:1"]));
        assert_eq!(link.address(), "a:1", "it answers, so it is asked, whoever votes");
        assert!(!link.missed(&gone) && link.missed(&gone));
        assert_eq!(link.address(), "given:1");
        assert!(!link.missed(&ApiError::Forbidden("no".to_owned())), "another would say the same");
    }
}
