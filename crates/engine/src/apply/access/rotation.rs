//! One authority takes the place of another; see [`crate::rotation`].

use std::sync::Arc;

use sheaf_model::{AuthorityRecord, AuthorityStage, Digest, Timestamp};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{BeginRotation, IssueBy, Refusal, Reply, RetireAuthority};
use crate::rotation::signed_by;

impl Transaction<'_> {
    pub(super) fn begin_rotation(&mut self, begin: &BeginRotation) -> Result<Reply, Refusal> {
        let BeginRotation { fingerprint, certificate, bridge, lifetime } = begin;
        let access = &self.state.access;
        if let Some(known) = access.authority(fingerprint) {
            return Ok(Reply::Unchanged(known.revision));
        }
        let Some(issuing) = access.issuing() else {
            return Err(Refusal::Precondition(
                "this cluster has no authority that could be replaced: nothing is secured in it".to_owned(),
            ));
        };
        let from = issuing.fingerprint;
        if access.authorities.len() > 1 {
            return Err(Refusal::Precondition(
                "the authority is being replaced already, and that is not over: sheaf cluster ca status shows what it waits \
                 for"
                .to_owned(),
            ));
        }
        self.authority_fits(certificate.len().max(bridge.len()))?;
        self.put(Change::Authority(Arc::new(AuthorityRecord {
            fingerprint: *fingerprint,
            certificate: certificate.clone(),
            revision: self.revision,
            added_at: self.proposal.at,
            stage: AuthorityStage::Next { lifetime: *lifetime },
            bridge: Some(bridge.clone()),
        })));
        let why = format!("it issues in place of {} once every node believes it", from.short());
        self.event(Line::new("authority.added", fingerprint).because(why));
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn issue_by(&mut self, issue: &IssueBy) -> Result<Reply, Refusal> {
        self.in_term(issue.term)?;
        let access = &self.state.access;
        let next = access.successor().filter(|next| next.fingerprint == issue.fingerprint).cloned();
        let (Some(next), Some(former)) = (next, access.issuing().cloned()) else {
            let short = issue.fingerprint.short();
            return Err(Refusal::Stale(format!("authority {short} is not to issue next")));
        };
        let AuthorityStage::Next { lifetime } = next.stage else {
            return Err(Refusal::Stale(format!(
                "authority {} is not to issue next",
                next.fingerprint.short()
            )));
        };
        let until = Timestamp(self.proposal.at.0.saturating_add(lifetime.0));
        let line = Line::new("authority.issues", next.fingerprint);
        let line = line.went(former.fingerprint, next.fingerprint);
        let why = "every node believes it; nodes get certificates of it, and those of the former one are good until";
        self.put_stage(&former, AuthorityStage::Former { until });
        self.put_stage(&next, AuthorityStage::Issues);
        self.event(line.because(format!("{why} {until}")));
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn retire_authority(&mut self, retire: &RetireAuthority) -> Result<Reply, Refusal> {
        self.in_term(retire.term)?;
        let RetireAuthority { fingerprint, until, .. } = retire;
        let known = self.state.access.authority(fingerprint);
        if known.is_none_or(|known| known.stage != (AuthorityStage::Former { until: *until })) {
            return Err(Refusal::Stale(format!("authority {} is not over then", fingerprint.short())));
        }
        self.dropped(*fingerprint, "another one issues, and nothing needs it any more");
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn drop_authority(&mut self, fingerprint: &Digest) -> Result<Reply, Refusal> {
        let access = &self.state.access;
        let short = fingerprint.short();
        let Some(known) = access.authority(fingerprint) else {
            return Err(Refusal::NotFound("authority".to_owned(), fingerprint.to_string()));
        };
        if access.issuing().is_some_and(|issuing| issuing.fingerprint == *fingerprint) {
            return Err(Refusal::Precondition(format!(
                "authority {short} issues the certificates of this cluster; add another one first"
            )));
        }
        let signed = signed_by(access, fingerprint, self.proposal.at);
        if !signed.is_empty() {
            return Err(Refusal::Precondition(format!(
                "authority {short} has signed certificates of people or programs that are good still ({}): make others for them, \
                 then sheaf cluster token revoke {}",
                signed.join(", "),
                signed.join(" ")
            )));
        }
        let why = match known.stage {
            AuthorityStage::Next { .. } => "it never issued",
            AuthorityStage::Issues | AuthorityStage::Former { .. } => "another one issues",
        };
        self.dropped(*fingerprint, why);
        Ok(Reply::Done(self.revision))
    }

    fn dropped(&mut self, fingerprint: Digest, why: &'static str) {
        self.put(Change::AuthorityGone(fingerprint));
        self.event(Line::new("authority.dropped", fingerprint).because(why));
        let access = &self.state.access;
        let alone = access.issuing().filter(|it| access.authorities.len() == 1 && it.bridge.is_some());
        if let Some(alone) = alone.cloned() {
            // It came from the one that is gone.
            self.put(Change::Authority(Arc::new(AuthorityRecord { bridge: None, ..(*alone).clone() })));
        }
    }

    fn put_stage(&mut self, known: &AuthorityRecord, stage: AuthorityStage) {
        self.put(Change::Authority(Arc::new(AuthorityRecord { stage, ..known.clone() })));
    }
}
