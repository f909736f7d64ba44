//! Forming a cluster, and what holds for all its nodes.

use sheaf_model::{Changeable, ChangeableV1, Setting, Term};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{Form, Refusal, Reply, SettingsCommand, SettleLease};
use crate::state::Cluster;

impl Transaction<'_> {
    pub(super) fn form(&mut self, form: &Form) -> Result<Reply, Refusal> {
        if let Some(id) = &self.state.cluster.id {
            return Err(Refusal::Conflict(format!("this cluster is formed already: {id}")));
        }
        // Who forms it has looked at the rest: a log goes on meaning what it meant.
        let defects = form.settings.contradictions();
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

    pub(super) fn run_of_settings(&mut self, command: &SettingsCommand) -> Result<Reply, Refusal> {
        match command {
            SettingsCommand::Change(changes) => self.set(changes),
            SettingsCommand::Settle(settle) => self.settle_lease(*settle),
        }
    }

    fn set(&mut self, changes: &[Setting]) -> Result<Reply, Refusal> {
        let mut wanted = self.state.cluster.changeable();
        changes.iter().for_each(|setting| wanted.put(setting));
        let defects = wanted.defects();
        if !defects.is_empty() {
            return Err(Refusal::Invalid(defects));
        }
        Ok(self.replace_settings(&wanted))
    }

    /// Says nothing of jobs and history.
    pub(super) fn change_settings_v1(&mut self, wanted: &ChangeableV1) -> Result<Reply, Refusal> {
        let ChangeableV1 { settings, repair } = wanted.clone();
        let Cluster { jobs, history, .. } = self.state.cluster;
        let wanted = Changeable { settings, repair, jobs, history };
        let defects = wanted.contradictions();
        if !defects.is_empty() {
            return Err(Refusal::Invalid(defects));
        }
        Ok(self.replace_settings(&wanted))
    }

    /// Leaders go on waiting for the longest lease that may have been given, until [`Self::settle_lease`].
    fn replace_settings(&mut self, wanted: &Changeable) -> Reply {
        let mut cluster = self.state.cluster.clone();
        let before = cluster.changeable();
        if before == *wanted {
            return Reply::Unchanged(self.revision);
        }
        let was = before.settings;
        if was.lease != wanted.settings.lease {
            let longest = cluster.former.filter(|former| former.lease.wait() > was.lease.wait());
            cluster.former = Some(longest.unwrap_or(was));
            cluster.lease_changed = self.revision;
        }
        cluster.settings = wanted.settings;
        cluster.repair = wanted.repair.clone();
        cluster.jobs = wanted.jobs;
        cluster.history = wanted.history;
        self.put(Change::Cluster(cluster));
        let subject = self.state.cluster.id.as_ref().map(ToString::to_string).unwrap_or_default();
        let changed = changed(&before, wanted);
        self.event(Line::new("cluster.settings", subject).because(changed));
        Reply::Done(self.revision)
    }

    fn settle_lease(&mut self, settle: SettleLease) -> Result<Reply, Refusal> {
        self.in_term(settle.term)?;
        let changed = self.state.cluster.lease_changed;
        if changed != settle.changed {
            return Err(Refusal::Stale(format!(
                "it was decided about the lease as changed at revision {}, which was changed again at {changed}",
                settle.changed
            )));
        }
        Ok(self.forget_former())
    }

    pub(super) fn drop_former(&mut self, term: Term) -> Result<Reply, Refusal> {
        self.in_term(term)?;
        Ok(self.forget_former())
    }

    fn forget_former(&mut self) -> Reply {
        if self.state.cluster.former.is_none() {
            return Reply::Unchanged(self.revision);
        }
        self.put(Change::Cluster(Cluster { former: None, ..self.state.cluster.clone() }));
        Reply::Done(self.revision)
    }
}

/// What differs, as `key before -> after`.
fn changed(before: &Changeable, after: &Changeable) -> String {
    let pairs = before.named().into_iter().zip(after.named());
    let changed = pairs.filter(|((_, before), (_, after))| before != after);
    let words: Vec<String> =
        changed.map(|((key, before), (_, after))| format!("{key} {before} -> {after}")).collect();
    words.join(", ")
}
