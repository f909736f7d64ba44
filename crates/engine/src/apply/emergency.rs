//! What an instance says of its bucket: a line for the owner, or that it must not go on.

use sheaf_model::{STATUS_KIND_MAX, STATUS_LINE_MAX, Timestamp};

use super::{Line, Transaction};
use crate::command::{AddStatusLine, Disable, EndQuarantine, Quarantine, Refusal, Reply};
use crate::state::Emergency;

impl Transaction<'_> {
    pub(super) fn add_status_line(&mut self, add: &AddStatusLine) -> Result<Reply, Refusal> {
        self.claimed(&add.bucket, add.claim)?;
        if add.text.len() > STATUS_LINE_MAX || add.kind.len() > STATUS_KIND_MAX {
            return Err(Refusal::Exhausted(format!(
                "a status line has at most {STATUS_LINE_MAX} bytes, its kind {STATUS_KIND_MAX}"
            )));
        }
        let line = Line::new("bucket.line", &add.bucket).node(add.claim.node);
        self.event(line.went("", &add.kind).because(&add.text));
        Ok(Reply::Done(self.revision))
    }

    /// Suspends the bucket, in its module's words.
    pub(super) fn disable(&mut self, disable: &Disable) -> Result<Reply, Refusal> {
        let bucket = self.claimed(&disable.bucket, disable.claim)?;
        if bucket.suspended {
            return Ok(Reply::Unchanged(bucket.revision));
        }
        let reason = disable.reason.clone();
        self.switch_off(&disable.bucket, Some(Emergency::Disabled { reason }), Some(disable.claim.node));
        Ok(Reply::Done(self.revision))
    }

    /// Of two quarantines the one that lasts longer counts; a bucket that is suspended needs none.
    pub(super) fn quarantine(&mut self, ask: &Quarantine) -> Result<Reply, Refusal> {
        let bucket = self.claimed(&ask.bucket, ask.claim)?;
        if bucket.suspended || bucket.quarantined_until().is_some_and(|until| until >= ask.until) {
            return Ok(Reply::Unchanged(bucket.revision));
        }
        let (until, reason) = (ask.until, ask.reason.clone());
        self.switch_off(&ask.bucket, Some(Emergency::Quarantined { until, reason }), Some(ask.claim.node));
        Ok(Reply::Done(self.revision))
    }

    /// The leader's decision that it has lasted long enough.
    pub(super) fn end_quarantine(&mut self, end: &EndQuarantine) -> Result<Reply, Refusal> {
        self.in_term(end.term)?;
        let name = &end.bucket;
        let stale = |why: String| Err(Refusal::Stale(format!("bucket {name} {why}")));
        let Some(bucket) = self.state.buckets.get(name) else { return stale("is gone".to_owned()) };
        match bucket.quarantined_until() {
            Some(until) if until == end.until => {}
            Some(until) => return stale(format!("is quarantined until {until}")),
            None => return stale("is not quarantined".to_owned()),
        }
        self.switch_on(name, "its quarantine is over");
        Ok(Reply::Done(self.revision))
    }
}

impl crate::Bucket {
    /// Switched off: by an operator, or by its module for good or for a time. Nothing of it is to run.
    pub fn is_off(&self) -> bool {
        self.suspended || self.quarantined_until().is_some()
    }

    /// Until when its module had it stopped.
    pub fn quarantined_until(&self) -> Option<Timestamp> {
        match &self.emergency {
            Some(Emergency::Quarantined { until, .. }) => Some(*until),
            Some(Emergency::Disabled { .. }) | None => None,
        }
    }

    /// `active`, `suspended` or `quarantined`.
    pub(crate) fn switch_word(&self) -> &'static str {
        match (self.suspended, self.quarantined_until()) {
            (true, _) => "suspended",
            (false, Some(_)) => "quarantined",
            (false, None) => "active",
        }
    }
}

#[cfg(test)]
mod tests;
