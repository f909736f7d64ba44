//! Artifacts: pushed to the leader, copied to the voters, then agreed on; and kept by every voter ever after.
//!
//! ```text
//!  caller ──pieces──► leader's cache ──hold──► voters' caches, each fetching from the leader
//!                          └── a majority has it on disk ──► PutArtifact ──► the log
//! ```
//!
//! The log never carries a blob, only that it belongs to a version; so it is proposed last. Should the leader change before,
//! the caller begins again, at what the new leader has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use sheaf_artifact::{CacheError, FetchError};
use sheaf_consensus::Replica;
use sheaf_engine::artifact::{check, sources};
use sheaf_engine::{Command, Refusal};
use sheaf_model::view::{ArtifactOnNode, ArtifactStatus, Holds};
use sheaf_model::{Artifact, ClusterId, Contact, Digest, NodeId};
use sheaf_wire::artifact::{ArtifactApi, FetchArtifact, HoldArtifact, LookForArtifact};
use sheaf_wire::module::{FinishPush, PushPiece, PushState};
use sheaf_wire::peer::PeerClient;
use sheaf_wire::{Answers, ApiError, Caller, Done, async_trait};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::Control;
use crate::place::contact;

/// How long copying to the voters may take whose caller does not say.
const COPY_WITHIN: Duration = Duration::from_secs(60);
/// How long a node may take to say what it has.
const LOOK_WITHIN: Duration = Duration::from_secs(1);
/// Nodes asked at a time.
const LOOK_AT_ONCE: usize = 64;
/// A voter looks at what it should have at least so often, whatever it missed.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// And at most so often, however fast the state changes.
const PAUSE: Duration = Duration::from_secs(1);

impl Control {
    /// What the registered state says of a push: whether it is done already.
    fn pushed(&self, artifact: &Artifact) -> Result<bool, ApiError> {
        let known = self.see_rows(|sight| check(sight.state, artifact).map(|known| known.is_some()))?;
        known.map_err(refused)
    }

    pub(crate) async fn begin(&self, artifact: &Artifact) -> Result<PushState, ApiError> {
        let registered = self.pushed(artifact)?;
        let received = self.cache.received(&artifact.digest, artifact.size);
        self.cache.has_room(&artifact.digest, artifact.size).map_err(not_kept)?;
        // Registered and not here: whoever still has the files can bring them back.
        Ok(PushState { received, registered: registered && received == artifact.size })
    }

    pub(crate) async fn piece(&self, ask: PushPiece) -> Result<PushState, ApiError> {
        let PushPiece { artifact, offset, data } = ask;
        let registered = self.pushed(&artifact)?;
        let received =
            self.cache.receive(artifact.digest, artifact.size, offset, data).await.map_err(not_kept)?;
        Ok(PushState { received, registered: registered && received == artifact.size })
    }

    pub(crate) async fn finish(&self, caller: &Caller, ask: FinishPush) -> Result<Done, ApiError> {
        let FinishPush { artifact, request } = ask;
        self.pushed(&artifact)?;
        if !self.cache.has(&artifact.digest) {
            let here = self.cache.received(&artifact.digest, artifact.size);
            return Err(ApiError::Precondition(format!(
                "only {here} of {} bytes of the artifact are here; push it again, it goes on from there",
                artifact.size
            )));
        }
        self.cache.inspect(&artifact).await.map_err(not_kept)?;
        let deadline = caller.deadline.unwrap_or_else(|| Instant::now() + COPY_WITHIN);
        self.copy_to_voters(&artifact, deadline).await?;
        self.change(caller, request, Command::PutArtifact(artifact)).await
    }

    /// Returns once every voter that can be reached has it, and at least a majority.
    async fn copy_to_voters(&self, artifact: &Artifact, deadline: Instant) -> Result<(), ApiError> {
        let member = self.member()?;
        let cluster = self.cluster_id()?;
        let me = self.place.registration.borrow().as_ref().map(|registration| registration.node);
        let own = Contact { address: self.place.identity.address.clone(), node: me };
        let voters: Vec<_> =
            member.replica.metrics().members.into_iter().filter(|member| member.voter).collect();
        let others = voters.iter().filter(|voter| Some(voter.peer.node) != me);
        // A little is left for the log.
        let within = deadline.saturating_duration_since(Instant::now()).mul_f32(0.9);
        let copying = others.map(|voter| {
            let (cluster, own, contact) = (&cluster, &own, contact(voter.peer.clone()));
            async move {
                let client = PeerClient::new(&contact, &self.place.trust.transport)?;
                client.hold_artifact(cluster, artifact, own, within).await.map_err(|error| {
                    ApiError::unavailable(format!("{}: {error}", self.node_name(voter.peer.node)))
                })
            }
        });
        let copied = futures::future::join_all(copying).await;
        let failures: Vec<String> =
            copied.iter().filter_map(|copied| copied.as_ref().err()).map(ToString::to_string).collect();
        let have = voters.len().saturating_sub(failures.len());
        if have * 2 > voters.len() {
            for failure in &failures {
                tracing::warn!(artifact = %artifact.digest, failure, "a voter has no copy yet; it fetches one later");
            }
            return Ok(());
        }
        Err(ApiError::unavailable(format!(
            "only {have} of {} voters have a copy of the artifact: {}",
            voters.len(),
            failures.join("; ")
        )))
    }

    pub(crate) fn cluster_id(&self) -> Result<ClusterId, ApiError> {
        let registration = self.place.registration.borrow();
        let registration = registration.as_ref();
        let cluster = registration.map(|registration| registration.cluster.clone());
        cluster.ok_or_else(|| ApiError::Precondition("this node belongs to no cluster".to_owned()))
    }

    fn of_this_cluster(&self, cluster: &ClusterId) -> Result<(), ApiError> {
        let ours = self.cluster_id()?;
        if ours == *cluster {
            return Ok(());
        }
        Err(ApiError::Precondition(format!("this is a node of cluster {ours}, not of {cluster}")))
    }

    /// Where a version's artifact is, asked of all nodes; none: it has none.
    pub(crate) async fn artifact_status(
        &self,
        module: &sheaf_model::ModuleRef,
    ) -> Result<Option<ArtifactStatus>, ApiError> {
        let voters: BTreeSet<NodeId> = self.voting()?.into_iter().collect();
        let found = self.see_rows(|sight| {
            let pushed = sight.state.artifacts.get(module)?.clone();
            let alive = sight.state.nodes.values().filter(|node| node.status.is_alive());
            let nodes = alive.map(|node| (node.contact(), node.facts.name.to_string()));
            Some((pushed, nodes.collect::<Vec<_>>()))
        })?;
        let Some((pushed, nodes)) = found else { return Ok(None) };
        let artifact: &Artifact = &pushed.artifact;
        let contacts = nodes.iter().map(|(contact, _)| contact.clone()).collect();
        let found = self.look_everywhere(artifact.digest, artifact.size, contacts).await?;
        let on = |(contact, node): (Contact, String)| {
            let voter = contact.node.is_some_and(|id| voters.contains(&id));
            let percent = *found.get(&contact)?;
            let state = match (voter, percent) {
                (false, 0) => return None,
                (true, 0) => Holds::Missing,
                (_, 1..100) => Holds::Fetching,
                (true, _) => Holds::Held,
                (false, _) => Holds::Cached,
            };
            Some(ArtifactOnNode { node, voter, percent, state })
        };
        let mut nodes: Vec<ArtifactOnNode> = nodes.into_iter().filter_map(on).collect();
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(Some(ArtifactStatus {
            digest: artifact.digest.to_string(),
            size: artifact.size,
            file: artifact.shape.file().to_owned(),
            revision: pushed.revision.0,
            nodes,
        }))
    }

    /// How many hundredths these nodes have; without those that do not answer.
    async fn look_everywhere(
        &self,
        digest: Digest,
        size: u64,
        contacts: Vec<Contact>,
    ) -> Result<BTreeMap<Contact, u32>, ApiError> {
        let cluster = &self.cluster_id()?;
        let asking = contacts.into_iter().map(|contact| async move {
            let client = PeerClient::new(&contact, &self.place.trust.transport).ok()?;
            let percent = client.look_for_artifact(cluster, digest, size, LOOK_WITHIN).await.ok()?;
            Some((contact, percent))
        });
        let asking: Vec<_> = asking.collect();
        let found = stream::iter(asking).buffer_unordered(LOOK_AT_ONCE).filter_map(std::future::ready);
        Ok(found.collect().await)
    }

    fn voting(&self) -> Result<Vec<NodeId>, ApiError> {
        let members = self.member()?.replica.metrics().members;
        Ok(members.into_iter().filter(|member| member.voter).map(|member| member.peer.node).collect())
    }

    /// Keeps a copy of every registered artifact while this node votes. Runs until told to stop.
    pub(crate) async fn run_voter_copies(&self, replica: Replica, stop: CancellationToken) {
        let mut revision = replica.revision();
        loop {
            revision.mark_unchanged();
            let looking = self.keep_voter_copies(&replica);
            tokio::select! {
                () = stop.cancelled() => return,
                // What was fetched of a blob is on disk, and gone on with.
                () = looking => {}
            }
            let next = async {
                tokio::time::sleep(PAUSE).await;
                // A copy may be lost without a change.
                drop(timeout(LOOK_EVERY, revision.changed()).await);
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = next => {} // dropping it loses nothing: everything is looked at again
            }
        }
    }

    async fn keep_voter_copies(&self, replica: &Replica) {
        let members = replica.metrics().members;
        let Some(me) = self.place.registration.borrow().as_ref().map(|registration| registration.node) else {
            return;
        };
        let Ok(cluster) = self.cluster_id() else { return };
        let votes = members.iter().any(|member| member.voter && member.peer.node == me);
        let registered: Vec<Arc<Artifact>> = if votes {
            replica.state().artifacts.values().map(|pushed| pushed.artifact.clone()).collect()
        } else {
            Vec::new()
        };
        let digests: BTreeSet<Digest> = registered.iter().map(|artifact| artifact.digest).collect();
        self.cache.keep_as_voter(digests).await;
        let lacking: Vec<_> = registered.into_iter().filter(|it| !self.cache.has(&it.digest)).collect();
        if lacking.is_empty() {
            return;
        }
        let others = members.into_iter().filter(|member| member.peer.node != me);
        let others: Vec<Contact> = others.map(|member| contact(member.peer)).collect();
        // What no member has, a node may that runs it.
        let nodes: Vec<Contact> = replica
            .state()
            .nodes
            .values()
            .filter(|node| node.status.is_alive() && node.id != me)
            .map(|node| node.contact())
            .filter(|contact| !others.contains(contact))
            .collect();
        for artifact in lacking {
            let mut from = sources(me, &artifact.digest, others.clone());
            from.extend(sources(me, &artifact.digest, nodes.clone()));
            match self.cache.fetch(&cluster, &artifact, &from, |_| {}).await {
                Ok(()) => {
                    tracing::info!(module = %artifact.module, "this voter has a copy of its artifact now");
                }
                Err(error) => {
                    tracing::warn!(module = %artifact.module, %error, "this voter lacks its artifact");
                }
            }
        }
    }
}

#[async_trait]
impl ArtifactApi for Control {
    async fn fetch(&self, _: Caller, ask: FetchArtifact) -> Result<Answers<Bytes>, ApiError> {
        self.of_this_cluster(&ask.cluster)?;
        let pieces = self.cache.read(ask.digest, ask.offset).await.map_err(not_kept)?;
        let failed = |error: std::io::Error| ApiError::Internal(format!("read the artifact: {error}"));
        Ok(pieces.map(move |piece| piece.map_err(failed)).boxed())
    }

    async fn hold(&self, _: Caller, ask: HoldArtifact) -> Result<(), ApiError> {
        self.of_this_cluster(&ask.cluster)?;
        let HoldArtifact { cluster, artifact, from } = ask;
        self.cache.fetch(&cluster, &artifact, &[from], |_| {}).await.map_err(|error| match error {
            FetchError::Cache(error) => not_kept(error),
            error => ApiError::unavailable(error.to_string()),
        })
    }

    async fn holders(&self, _: Caller, ask: LookForArtifact) -> Result<Vec<Contact>, ApiError> {
        self.of_this_cluster(&ask.cluster)?;
        let contacts = self.see_rows(|sight| {
            let alive = sight.state.nodes.values().filter(|node| node.status.is_alive());
            alive.map(|node| node.contact()).collect()
        })?;
        let found = self.look_everywhere(ask.digest, ask.size, contacts).await?;
        Ok(found.into_iter().filter(|(_, percent)| *percent == 100).map(|(contact, _)| contact).collect())
    }

    async fn look(&self, _: Caller, ask: LookForArtifact) -> Result<u32, ApiError> {
        self.of_this_cluster(&ask.cluster)?;
        let received = self.cache.received(&ask.digest, ask.size);
        if self.cache.has(&ask.digest) {
            return Ok(100);
        }
        // What is left of an earlier try comes no further: nobody should wait for it.
        if !self.cache.is_needed(&ask.digest) {
            return Ok(0);
        }
        Ok(u32::try_from(received * 100 / ask.size.max(1)).unwrap_or(0).min(99))
    }
}

fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Conflict(text) => ApiError::Conflict(text),
        refusal @ Refusal::NotFound(..) => ApiError::NotFound(refusal.to_string()),
        refusal => ApiError::Precondition(refusal.to_string()),
    }
}

fn not_kept(error: CacheError) -> ApiError {
    match error {
        CacheError::Absent(_) => ApiError::NotFound(error.to_string()),
        CacheError::Digest { .. } => ApiError::invalid(
            "data",
            error.to_string(),
            "the files as they were when the push began; push again",
        ),
        CacheError::Unpack(error) => ApiError::invalid(
            "artifact",
            error.to_string(),
            "regular files, directories and links that stay within; push the file or directory as it is: sheaf module push",
        ),
        CacheError::Excess(_) => ApiError::invalid("data", error.to_string(), "the size as it was announced"),
        error if error.is_full() => ApiError::Exhausted(error.to_string()),
        error => ApiError::Internal(error.to_string()),
    }
}
