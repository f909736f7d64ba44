//! Who may do what, as the cluster has agreed on it: tokens by id, and the authorities that are believed.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_model::{AuthorityRecord, AuthorityStage, Digest, ObjectValue, TokenId, TokenRecord};

use crate::change::Change;

/// Tokens and authorities. Changed by [`crate::State::put`] alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// Tokens by id, also those that have expired lately.
    pub tokens: BTreeMap<TokenId, Arc<TokenRecord>>,
    /// Authorities, in the order in which they were added.
    pub authorities: Vec<Arc<AuthorityRecord>>,
}

impl Access {
    /// The token of that name.
    pub fn named(&self, name: &str) -> Option<&Arc<TokenRecord>> {
        self.tokens.values().find(|token| token.name.as_str() == name)
    }

    /// The authority that issues certificates; none: the cluster has none.
    pub fn issuing(&self) -> Option<&Arc<AuthorityRecord>> {
        self.authorities.iter().rfind(|authority| authority.stage == AuthorityStage::Issues)
    }

    /// The authority that is to issue next; none: no change is under way that has not come so far.
    pub fn successor(&self) -> Option<&Arc<AuthorityRecord>> {
        self.authorities.iter().rfind(|authority| matches!(authority.stage, AuthorityStage::Next { .. }))
    }

    /// An authority that issued until another took its place, and is believed still.
    pub fn former(&self) -> Option<&Arc<AuthorityRecord>> {
        self.authorities.iter().find(|authority| matches!(authority.stage, AuthorityStage::Former { .. }))
    }

    /// The authority with that fingerprint.
    pub fn authority(&self, fingerprint: &Digest) -> Option<&Arc<AuthorityRecord>> {
        self.authorities.iter().find(|authority| authority.fingerprint == *fingerprint)
    }

    /// Certificates in DER of whom the cluster believes, that of the one that issues first; and those that lead from one of them to
    /// another.
    pub fn certificates(&self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let issuing = self.issuing();
        let others = self.authorities.iter().rev();
        let others = others.filter(|other| issuing.is_none_or(|it| it.fingerprint != other.fingerprint));
        let all: Vec<_> = issuing.into_iter().chain(others).collect();
        let bytes = |value: &ObjectValue| value.as_bytes().to_vec();
        let authorities = all.iter().map(|it| bytes(&it.certificate)).collect();
        let bridges = all.iter().filter_map(|it| it.bridge.as_ref()).map(bytes).collect();
        (authorities, bridges)
    }

    /// Puts one changed row in place; other changes are none of its own.
    pub(crate) fn put(&mut self, change: &Change) {
        match change {
            Change::Token(token) => {
                self.tokens.insert(token.id, token.clone());
            }
            Change::TokenGone(id) => {
                self.tokens.remove(id);
            }
            Change::Authority(authority) => {
                self.authorities.retain(|known| known.fingerprint != authority.fingerprint);
                self.authorities.push(authority.clone());
                self.authorities.sort_by_key(|known| (known.revision, known.fingerprint));
            }
            Change::AuthorityGone(fingerprint) => {
                self.authorities.retain(|known| known.fingerprint != *fingerprint);
            }
            _ => {}
        }
    }

    /// Every row, as changes.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Change> + '_ {
        let tokens = self.tokens.values().cloned().map(Change::Token);
        tokens.chain(self.authorities.iter().cloned().map(Change::Authority))
    }
}
