//! Forming a cluster.

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{Form, Refusal, Reply};
use crate::state::Cluster;

impl Transaction<'_> {
    pub(super) fn form(&mut self, form: &Form) -> Result<Reply, Refusal> {
        if let Some(id) = &self.state.cluster.id {
            return Err(Refusal::Conflict(format!("this cluster is formed already: {id}")));
        }
        let defects = form.settings.lease.defects();
        if !defects.is_empty() {
            return Err(Refusal::Invalid(defects));
        }
        self.put(Change::Cluster(Cluster {
            id: Some(form.cluster.clone()),
            settings: form.settings,
            formed_at: self.proposal.at,
            ..Cluster::default()
        }));
        self.event(Line::new("cluster.formed", &form.cluster));
        Ok(Reply::Done(self.revision))
    }
}
