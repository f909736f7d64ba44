//! Whom the cluster believes, and how far a change of that is.

use std::sync::Arc;

use sheaf_model::view::{AuthorityRow, AuthorityStatus, AuthorityWait};
use sheaf_model::{AuthorityRecord, AuthorityStage, NodeId, Timestamp};

use super::Sight;
use crate::rotation::{Lack, lacking, signed_by};

impl Sight<'_> {
    /// `cluster ca status` at `wall`; `pem` writes a certificate in DER for people.
    pub fn authority_status(&self, wall: Timestamp, pem: impl Fn(&[u8]) -> String) -> AuthorityStatus {
        let access = &self.state.access;
        let row = |authority: &Arc<AuthorityRecord>| {
            let (stage, until) = match authority.stage {
                AuthorityStage::Issues => ("issues", None),
                AuthorityStage::Next { .. } => ("next", None),
                AuthorityStage::Former { until } => ("former", Some(until.to_string())),
            };
            AuthorityRow {
                fingerprint: authority.fingerprint.to_string(),
                stage: stage.to_owned(),
                added_at: authority.added_at.to_string(),
                until,
                certificate: pem(authority.certificate.as_bytes()),
            }
        };
        let mut authorities: Vec<AuthorityRow> = access.authorities.iter().rev().map(row).collect();
        authorities.sort_by_key(|row| row.stage != "issues");
        let lacks = self.sessions.map(|sessions| lacking(self.state, sessions)).unwrap_or_default();
        let wait = |(node, lack): &(NodeId, Lack)| AuthorityWait {
            node: self.state.node_name(*node),
            why: lack.to_string(),
        };
        let (stage, message) = self.authority_stage(lacks.is_empty());
        let signed = access.former().map(|former| signed_by(access, &former.fingerprint, wall));
        AuthorityStatus {
            stage: stage.to_owned(),
            message,
            authorities,
            waits_for: lacks.iter().map(wait).collect(),
            certificates: signed.unwrap_or_default(),
        }
    }

    /// The word for it, and what it means now.
    fn authority_stage(&self, all_have: bool) -> (&'static str, String) {
        let access = &self.state.access;
        let short = |authority: &Arc<AuthorityRecord>| authority.fingerprint.short();
        let Some(issuing) = access.issuing() else {
            return ("none", "nothing is secured in this cluster".to_owned());
        };
        let of_leader =
            if self.sessions.is_none() { "; only a leader knows which nodes lack that" } else { "" };
        if let Some(next) = access.successor() {
            let next = short(next);
            return (
                "spreading",
                format!(
                    "{next} issues once every node that is there believes it and the members have its key{of_leader}"
                ),
            );
        }
        let Some(former) = access.former() else {
            return ("settled", format!("{} issues, and no other is believed", short(issuing)));
        };
        let (issuing, old) = (short(issuing), short(former));
        if !all_have || self.sessions.is_none() {
            return (
                "renewing",
                format!(
                    "{issuing} issues, and nodes get certificates of it; {old} is believed still{of_leader}"
                ),
            );
        }
        let until = match former.stage {
            AuthorityStage::Former { until } => format!("after {until}, "),
            AuthorityStage::Issues | AuthorityStage::Next { .. } => String::new(),
        };
        (
            "renewed",
            format!(
                "every node that is there has a certificate of {issuing}; {old} is dropped by itself {until}once nothing needs \
                 it, or now with `sheaf cluster ca rotate --finish`: nodes that were away until then join anew"
            ),
        )
    }
}
