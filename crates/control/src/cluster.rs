//! The cluster as a whole: documents in one transaction, and how it stands.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};
use sheaf_engine::{Command, Reply, SettingsCommand, registration};
use sheaf_model::view::{
    Asker, AuthorityStatus, BucketCounts, ClusterStatus, MemberRow, SnapshotHead, TokenRow,
};
use sheaf_model::{Call, ModuleRef, ModuleSpec, Role, Setting};
use sheaf_wire::cluster::{
    AllSettings, Apply, ChangeSettings, ClusterApi, CreateCertificate, CreateToken, CreatedCertificate,
    CreatedToken, ListTokens, RevokeToken, RotateAuthority, SnapshotPart,
};
use sheaf_wire::debug::{AskDebug, DebugPart};
use sheaf_wire::{
    Admitted, Answers, ApiError, Applied, Caller, Done, Outcome, OutcomeVerb, Page, async_trait,
};

use crate::Control;
use crate::event::stored;
use crate::propose::{newest, refused};
use crate::service::AT_ONCE;
use crate::transfer::TRANSFER_WITHIN;
use crate::{election, secret, warnings};

/// So many members that do not answer are named at most.
const SEEN_MAX: usize = 5;

#[async_trait]
impl ClusterApi for Control {
    async fn apply(&self, caller: Caller, ask: Apply) -> Result<Applied, ApiError> {
        self.apply_documents(&caller, ask).await
    }

    async fn status(&self, caller: Caller) -> Result<ClusterStatus, ApiError> {
        // Whatever is known here, even if that is little, is what somebody asks for who waits for a cluster.
        self.read_what_it_wrote(&caller).await?;
        Ok(ClusterStatus { asker: asker(&caller), ..self.cluster_status().await })
    }

    async fn members(&self, _caller: Caller) -> Result<Vec<MemberRow>, ApiError> {
        self.member()?;
        Ok(self.member_rows())
    }

    async fn settings(&self, caller: Caller, ask: ChangeSettings) -> Result<AllSettings, ApiError> {
        let (mut changes, mut defects) = (Vec::new(), Vec::new());
        for (key, value) in &ask.changes {
            match Setting::parse(key, value) {
                Ok(setting) => changes.push(setting),
                Err(defect) => defects.push(defect),
            }
        }
        if !defects.is_empty() {
            let mut wanted = self.changeable();
            changes.iter().for_each(|setting| wanted.put(setting));
            defects.extend(wanted.defects());
            return Err(ApiError::Invalid(defects));
        }
        let done = if changes.is_empty() {
            None
        } else {
            self.known_to_all(&changes)?;
            // Whether they fit to the others is seen when they are applied: somebody may be changing those.
            let change = Command::Settings(SettingsCommand::Change(changes));
            let changed = self.change(&caller, ask.request, change).await?;
            let longest = election::longest(&self.member()?.replica);
            let warning = self.settings().lease.election_warning(longest);
            Some(Done { warnings: changed.warnings.into_iter().chain(warning).collect(), ..changed })
        };
        let named = self.changeable().named().into_iter().map(|(key, value)| (key.to_owned(), value));
        Ok(AllSettings { done, settings: named.collect() })
    }

    async fn transfer(&self, _: Caller, to: Option<String>) -> Result<String, ApiError> {
        self.transfer_to(to.as_deref(), TRANSFER_WITHIN).await
    }

    async fn save_snapshot(&self, _: Caller) -> Result<Answers<SnapshotPart>, ApiError> {
        let member = self.member()?;
        // A copy that lacks what was acknowledged must not look like one.
        let now = member.replica.read_index().await.map_err(|error| {
            ApiError::unavailable(format!("what the cluster has agreed on is not known here now: {error}"))
        })?;
        stored(&member.replica, now).await;
        let copy = member.replica.copy().await.map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull => ApiError::Exhausted(error.to_string()),
            _ => ApiError::Internal(format!("copy the database: {error}")),
        })?;
        if copy.state.revision < now {
            return Err(ApiError::unavailable(format!(
                "the database of this node is at revision {}, not yet at {now}: its disk is slow or full",
                copy.state.revision
            )));
        }
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let state = &copy.state;
        let head = SnapshotHead {
            cluster: state.cluster.id.as_ref().map(ToString::to_string).unwrap_or_default(),
            cluster_epoch: state.cluster.epoch.0,
            revision: state.revision.0,
            nodes: count(state.nodes.len()),
            modules: count(state.modules.values().map(BTreeMap::len).sum()),
            buckets: count(state.buckets.len()),
            node: self.place.identity.name.to_string(),
            version: sheaf_model::version().to_owned(),
            taken_at: self.clock.wall().to_string(),
            bytes: copy.bytes,
        };
        let data = copy.chunks.map(|chunk| {
            let chunk = chunk.map_err(|error| ApiError::Internal(format!("read the copy: {error}")))?;
            Ok(SnapshotPart::Data(chunk))
        });
        Ok(stream::once(async move { Ok(SnapshotPart::Head(head)) }).chain(data).boxed())
    }

    async fn debug(&self, _: Caller, ask: AskDebug) -> Result<Answers<DebugPart>, ApiError> {
        self.gather_debug(&ask)
    }

    async fn create_token(&self, caller: Caller, ask: CreateToken) -> Result<CreatedToken, ApiError> {
        self.make_token(&caller, ask).await
    }

    async fn create_certificate(
        &self,
        caller: Caller,
        ask: CreateCertificate,
    ) -> Result<CreatedCertificate, ApiError> {
        self.make_certificate(&caller, ask).await
    }

    async fn list_tokens(&self, caller: Caller, ask: ListTokens) -> Result<Page<TokenRow>, ApiError> {
        self.page_of_tokens(&caller, ask).await
    }

    async fn revoke_token(&self, caller: Caller, ask: RevokeToken) -> Result<Done, ApiError> {
        self.forget_token(&caller, ask).await
    }

    async fn rotate_authority(&self, caller: Caller, ask: RotateAuthority) -> Result<Done, ApiError> {
        self.rotate(&caller, ask).await
    }

    async fn authority_status(&self, caller: Caller) -> Result<AuthorityStatus, ApiError> {
        self.status_of_authorities(&caller).await
    }
}

impl Control {
    /// Refuses settings that the release before does not know while a node is left that may be of it: it would end when it
    /// comes to them in the log, and so would every other one at once.
    fn known_to_all(&self, changes: &[Setting]) -> Result<(), ApiError> {
        if !changes.iter().any(Setting::is_new) {
            return Ok(());
        }
        let ours = sheaf_model::version();
        self.see_rows(|sight| {
            let others = sight.state.nodes.values();
            let others = others.filter(|node| node.status.is_alive() && node.facts.version != ours);
            let others: Vec<String> =
                others.map(|node| format!("{} ({})", node.facts.name, node.facts.version)).collect();
            if others.is_empty() {
                return Ok(());
            }
            let named: Vec<&str> = others.iter().map(String::as_str).collect();
            Err(ApiError::Precondition(format!(
                "this setting is new in {ours}, and there are nodes of another version, which might not know it: {}; \
                 upgrade them first",
                warnings::some(&named)
            )))
        })?
    }

    /// Whether a bucket with this reference is, or would be, of a module that can be polled.
    fn can_be_polled(&self, applied: &[ModuleSpec], module: &ModuleRef) -> bool {
        let Ok(member) = self.member() else { return false };
        let state = member.replica.state();
        secret::module_of(module, applied, &state).is_some_and(|known| known.takes(Call::PeriodicPoll))
    }

    /// Applies documents, all or none; or only says what would be wrong.
    pub(crate) async fn apply_documents(&self, caller: &Caller, ask: Apply) -> Result<Applied, ApiError> {
        if !ask.modules.is_empty() {
            caller.may(Role::Admin)?;
        }
        ask.buckets.iter().try_for_each(|put| caller.may_change(&put.spec.name))?;
        let command = sheaf_engine::Apply { modules: ask.modules, buckets: ask.buckets };
        let warnings = self.warnings_of(&command);
        self.check_schemas(&command)?;
        if ask.validate_only {
            let outcomes = self.outcomes_of(&command)?;
            if !ask.in_parts {
                self.fits(caller, Command::Apply(command))?;
            }
            return Ok(Applied { revision: newest(&outcomes), outcomes, warnings });
        }
        match self.propose(caller, ask.request, Command::Apply(command)).await? {
            Reply::Applied(outcomes) => {
                let outcomes: Vec<Outcome> = outcomes.into_iter().map(outcome).collect();
                Ok(Applied { revision: newest(&outcomes), outcomes, warnings })
            }
            Reply::Refused(refusal) => Err(refused(refusal)),
            other => Err(ApiError::Internal(format!("an answer that fits no documents: {other:?}"))),
        }
    }

    /// What is registered as asked, and is unlikely to be meant.
    pub(crate) fn warnings_of(&self, apply: &sheaf_engine::Apply) -> Vec<String> {
        let sheaf_engine::Apply { modules, buckets } = apply;
        let can_be_polled = |module: &ModuleRef| self.can_be_polled(modules, module);
        let mut warnings = warnings::without_effect(buckets, can_be_polled);
        let said = self.see_rows(|sight| warnings::unenforced(modules, buckets, sight.state));
        warnings.extend(said.unwrap_or_default());
        let said = self.see_rows(|sight| secret::missing(modules, buckets, sight.state));
        warnings.extend(said.unwrap_or_default());
        let said = self.see_rows(|sight| {
            let of_buckets = sheaf_engine::registration::modules_of(sight.state, apply);
            warnings::unpushed(of_buckets.into_iter().flatten(), sight.state)
        });
        warnings.extend(said.unwrap_or_default());
        warnings
    }

    /// What applying these documents now would do: applied to a copy of the rows they touch.
    pub(crate) fn outcomes_of(&self, apply: &sheaf_engine::Apply) -> Result<Vec<Outcome>, ApiError> {
        let member = self.member()?;
        let state = member.replica.state();
        let specs = registration::check(&state, apply).map_err(refused)?;
        let modules = apply.modules.iter().map(|spec| {
            let known = state.modules.get(&spec.name).and_then(|versions| versions.get(&spec.version));
            Outcome {
                document: format!("Module {}@{}", spec.name, spec.version),
                verb: if known.is_some() { OutcomeVerb::Unchanged } else { OutcomeVerb::Created },
                revision: known.map(|known| known.revision).unwrap_or_default(),
            }
        });
        let buckets = apply.buckets.iter().zip(&specs).map(|(put, spec)| {
            let known = state.buckets.get(&spec.name);
            let same = known.is_some_and(|known| {
                *known.newest().spec == *spec
                    && put.suspended.is_none_or(|suspended| suspended == known.suspended)
            });
            Outcome {
                document: format!("Bucket {}", spec.name),
                verb: match (known, same) {
                    (None, _) => OutcomeVerb::Created,
                    (Some(_), true) => OutcomeVerb::Unchanged,
                    (Some(_), false) => OutcomeVerb::Updated,
                },
                revision: known.map(|known| known.revision).unwrap_or_default(),
            }
        });
        Ok(modules.chain(buckets).collect())
    }

    /// All buckets, counted by state, some at a time: heartbeats, changes and other calls come between.
    async fn bucket_counts(&self) -> Result<BucketCounts, ApiError> {
        let (mut counts, mut after) = (BucketCounts::default(), None);
        loop {
            after = self.see(|sight| sight.count_buckets(after.as_ref(), AT_ONCE, &mut counts))?;
            if after.is_none() {
                return Ok(counts);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn cluster_status(&self) -> ClusterStatus {
        let waiting = self.place.waiting_for.borrow().clone();
        let Some(member) = self.place.member() else {
            let cluster = self.place.cluster();
            let message = match &cluster {
                _ if !waiting.is_empty() => waiting,
                Some(_) => self.reaches_nobody(),
                None => "this node is no member of a cluster yet".to_owned(),
            };
            return ClusterStatus {
                cluster: cluster.map(|cluster| cluster.to_string()).unwrap_or_default(),
                message,
                secured: self.secured,
                ..ClusterStatus::default()
            };
        };
        let leader = self.place.leader(&member);
        let metrics = member.replica.metrics();
        let members = self.member_rows();
        let shortage = self.shortage(&member.replica);
        // One that takes no changes is none that another could be lost beside.
        let takes = |node| shortage.as_ref().is_none_or(|shortage| !shortage.is_of(node));
        let seen = self.see_rows(|sight| {
            let id = sight.state.cluster.id.as_ref().map(ToString::to_string).unwrap_or_default();
            let nodes = metrics.voters().map(|member| member.peer.node);
            let ready = nodes.filter(|node| sight.state.is_alive(*node) && takes(*node)).count();
            (sight.node_counts(), sight.job_counts(), id, sight.state.revision.0, ready)
        });
        let (Ok((counts, jobs, cluster, revision, ready)), Ok(buckets)) = (seen, self.bucket_counts().await)
        else {
            return ClusterStatus::default();
        };
        let voters = metrics.voters().count();
        let quorum = voters / 2 + 1;
        let message = match leader {
            None if waiting.is_empty() => {
                format!("no leader: {quorum} of {voters} voters must see each other")
            }
            None => waiting,
            Some(_) => shortage.map(|shortage| shortage.to_string()).unwrap_or_default(),
        };
        ClusterStatus {
            leader: leader.map(|leader| self.node_name(leader)),
            term: metrics.term.0,
            commit: metrics.committed.unwrap_or_default(),
            members,
            nodes: counts,
            buckets,
            jobs,
            fault_tolerance: u32::try_from(ready.saturating_sub(quorum)).unwrap_or(u32::MAX),
            cluster,
            revision,
            message,
            secured: self.secured,
            asker: None,
        }
    }

    /// What a node without a replica says where it knows of no leader.
    fn reaches_nobody(&self) -> String {
        let known = self.place.known_members();
        let at: Vec<&str> = known.iter().take(SEEN_MAX).map(|contact| contact.address.as_str()).collect();
        let at = at.join(", ");
        format!(
            "no leader: this node holds no replica, and no member that it reaches knows of one; they may be at {at}"
        )
    }

    fn member_rows(&self) -> Vec<MemberRow> {
        let Some(member) = self.place.member() else { return Vec::new() };
        let metrics = member.replica.metrics();
        let leader = self.place.leader(&member);
        let state = member.replica.state();
        let row = |known: &sheaf_consensus::MemberMetrics| {
            let node = known.peer.node;
            let role = match (leader == Some(node), known.voter) {
                (true, _) => "leader",
                (false, true) => "follower",
                (false, false) => "learner",
            };
            MemberRow {
                name: state.node_name(node),
                id: node.0,
                voter: known.voter,
                role: role.to_owned(),
                match_lag: known.match_lag,
                address: known.peer.address.clone(),
            }
        };
        metrics.members.iter().map(row).collect()
    }
}

/// Who asks, as far as a token proves it.
fn asker(caller: &Caller) -> Option<Asker> {
    let Admitted::User { name, rights } = &caller.admitted else { return None };
    let prefix = rights.prefix.as_ref().map_or("", |prefix| prefix.as_str());
    Some(Asker { name: name.to_string(), role: rights.role.to_string(), prefix: prefix.to_owned() })
}

pub(crate) fn outcome(outcome: sheaf_engine::Outcome) -> Outcome {
    let verb = match outcome.verb {
        sheaf_engine::OutcomeVerb::Created => OutcomeVerb::Created,
        sheaf_engine::OutcomeVerb::Updated => OutcomeVerb::Updated,
        sheaf_engine::OutcomeVerb::Unchanged => OutcomeVerb::Unchanged,
    };
    Outcome { document: outcome.document, verb, revision: outcome.revision }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sheaf_engine::Register;
    use sheaf_model::{Actor, NodeKey};

    use super::*;
    use crate::propose::tests::{One, Still, facts};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_setting_that_older_members_do_not_know_waits_until_there_are_none() {
        let one = One::formed().await;
        let control = one.control(Arc::new(Still));
        let registers = async |version: &str| {
            let facts = sheaf_model::Facts { version: version.to_owned(), ..facts("b") };
            let register = Command::Register(Register { key: NodeKey::from("b"), facts });
            control.propose_as(Actor::from("test"), None, register, None).await.expect("registered");
        };
        let set = async |key: &str, value: &str| {
            let changes = vec![(key.to_owned(), value.to_owned())];
            let ask = ChangeSettings { changes, request: None };
            ClusterApi::settings(&control, Caller::local("test"), ask).await
        };
        registers("0.0.9").await;
        for (key, value) in [("history.age", "60d"), ("history.events", "20000000")] {
            match set(key, value).await {
                Err(ApiError::Precondition(why)) => {
                    assert!(why.contains("b (0.0.9)") && why.contains("upgrade"), "{why}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(set("offer_window", "2s").await.is_ok(), "every member knows this one");
        registers(sheaf_model::version()).await;
        assert!(set("history.age", "60d").await.is_ok());
    }
}
