//! What instances ask, and the objects of buckets: `sheaf.v1.InstanceService`.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{StreamExt, stream};
use sheaf_consensus::{ChangeSet, Changes};
use sheaf_engine::{Change, Command, Entry, State};
use sheaf_model::{BucketName, Claim, NodeStatus, ObjectKey, Revision, Sealed};
use sheaf_wire::instance::{
    AddStatusLine, DeleteObject, DisableBucket, GetObject, GetSecret, GotObject, InstanceApi, ListObjects,
    ObjectChange, ObjectHead, ObjectStep, PeerNode, PutObject, QuarantineBucket, WatchObjects,
};
use sheaf_wire::{Answers, ApiError, Caller, Done, Page, async_trait};

use crate::Control;
use crate::bucket::no_bucket;
use crate::event::store_error;
use crate::filter::page;
use crate::place::Member;
use crate::propose::{refused, within};

/// Rows taken from memory at once.
const ROWS: usize = 1000;
/// The longest quarantine: whoever asks for more has miscounted.
const QUARANTINE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// What runs on a node is recorded soon after it was started; for so long what it asks meanwhile waits.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);

#[async_trait]
impl InstanceApi for Control {
    async fn get_object(&self, caller: Caller, ask: GetObject) -> Result<GotObject, ApiError> {
        self.newest(&caller).await?;
        let GetObject { bucket, key } = ask;
        let member = self.member()?;
        let none = |bucket: &BucketName, key: &ObjectKey| {
            ApiError::NotFound(format!("bucket {bucket} has no object {key}"))
        };
        let entry = entry(&member.replica.state(), &bucket, &key).ok_or_else(|| none(&bucket, &key))?;
        // What is read is at least what memory has, and the value of the version that is read with it.
        within(&caller, member.replica.stored(entry.version)).await.map_err(|()| {
            ApiError::DeadlineExceeded(format!("object {key} of bucket {bucket} is not in SQLite yet"))
        })?;
        let reader = member.reader;
        let read = tokio::task::spawn_blocking(move || (reader.object(&bucket, &key), bucket, key)).await;
        let (read, bucket, key) = read.map_err(|error| ApiError::Internal(error.to_string()))?;
        let (version, value) = read.map_err(store_error)?.ok_or_else(|| none(&bucket, &key))?;
        let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
        Ok(GotObject { head: ObjectHead { key, version, size, at: entry.at }, value })
    }

    async fn list_objects(&self, caller: Caller, ask: ListObjects) -> Result<Page<ObjectHead>, ApiError> {
        self.newest(&caller).await?;
        let member = self.member()?;
        let state = member.replica.state();
        let heads = heads(&state, &ask.bucket, &ask.prefix, &ask.page.token)?;
        Ok(page(&ask.page, heads, |head| head.key.to_string()))
    }

    async fn watch_objects(
        &self,
        caller: Caller,
        ask: WatchObjects,
    ) -> Result<Answers<ObjectStep>, ApiError> {
        self.newest(&caller).await?;
        let member = self.member()?;
        let (known, now) = {
            let state = member.replica.state();
            (state.buckets.contains_key(&ask.bucket), state.revision)
        };
        if !known {
            return Err(no_bucket(&ask.bucket));
        }
        let changes = member.replica.changes(ask.after.unwrap_or(now));
        let WatchObjects { bucket, prefix, after } = ask;
        let mut watch = ObjectWatch { member, bucket, prefix, changes, ready: VecDeque::new() };
        match after {
            None => watch.start_again(),
            // Whoever resumes learns at once up to where nothing has changed.
            Some(after) if after >= now => watch.say(now, ObjectChange::Synced),
            Some(_) => {}
        }
        let steps = stream::unfold(watch, |mut watch| async move {
            let step = watch.next().await;
            Some((Ok(step), watch))
        });
        Ok(steps.boxed())
    }

    async fn put_object(&self, caller: Caller, ask: PutObject) -> Result<Done, ApiError> {
        self.recorded(&caller, &ask.bucket, ask.claim).await?;
        let PutObject { bucket, key, value, base, claim, token } = ask;
        let put = sheaf_engine::PutObject { bucket, key, value, base, claim, token };
        self.change(&caller, None, Command::PutObject(put)).await
    }

    async fn delete_object(&self, caller: Caller, ask: DeleteObject) -> Result<Done, ApiError> {
        self.recorded(&caller, &ask.bucket, ask.claim).await?;
        let DeleteObject { bucket, key, base, claim } = ask;
        let delete = sheaf_engine::DeleteObject { bucket, key, base, claim };
        self.change(&caller, None, Command::DeleteObject(delete)).await
    }

    async fn add_status_line(&self, caller: Caller, ask: AddStatusLine) -> Result<Done, ApiError> {
        self.recorded(&caller, &ask.bucket, ask.claim).await?;
        let AddStatusLine { bucket, claim, kind, text, request } = ask;
        let add = sheaf_engine::AddStatusLine { bucket, claim, kind, text };
        self.change(&caller, request, Command::AddStatusLine(add)).await
    }

    async fn disable(&self, caller: Caller, ask: DisableBucket) -> Result<Done, ApiError> {
        self.recorded(&caller, &ask.bucket, ask.claim).await?;
        let DisableBucket { bucket, claim, reason } = ask;
        self.change(&caller, None, Command::Disable(sheaf_engine::Disable { bucket, claim, reason })).await
    }

    async fn quarantine(&self, caller: Caller, ask: QuarantineBucket) -> Result<Done, ApiError> {
        let QuarantineBucket { bucket, claim, until, reason } = ask;
        let now = self.clock.wall();
        let ahead = now.until(until);
        if ahead.is_zero() || ahead > QUARANTINE_MAX {
            let remedy = format!("a time after {now}, at most 366 days ahead");
            return Err(ApiError::invalid("until", until.to_string(), remedy));
        }
        self.recorded(&caller, &bucket, claim).await?;
        let quarantine = sheaf_engine::Quarantine { bucket, claim, until, reason };
        self.change(&caller, None, Command::Quarantine(quarantine)).await
    }

    async fn peers(&self, caller: Caller, ask: BucketName) -> Result<Vec<PeerNode>, ApiError> {
        self.caught_up(&caller).await?;
        let peers = self.see(|sight| {
            let bucket = sight.state.buckets.get(&ask)?;
            let nodes = sight.affinity_of(bucket).into_iter().filter_map(|node| sight.state.nodes.get(&node));
            let mut peers: Vec<PeerNode> = nodes
                .map(|node| PeerNode {
                    name: node.facts.name.to_string(),
                    hostname: node.facts.hostname.clone(),
                    labels: node.labels().iter().map(ToString::to_string).collect(),
                })
                .collect();
            peers.sort_by(|a, b| a.name.cmp(&b.name));
            Some(peers)
        })?;
        peers.ok_or_else(|| no_bucket(&ask))
    }

    async fn secret(&self, caller: Caller, ask: GetSecret) -> Result<Sealed, ApiError> {
        caller.speaks_for(ask.claim.node)?;
        self.caught_up(&caller).await?;
        let found = self.see(|sight| sight.state.secret_for(&ask.bucket, ask.claim, &ask.name))?;
        found.map(|secret| secret.sealed.clone()).map_err(refused)
    }
}

impl Control {
    /// Refuses what another node claims. Waits until it is recorded that a multi-node bucket runs where it says it does: a
    /// module may ask something in the moment it is started. As long as that is not recorded nothing of it is over, and it is
    /// to ask again. Whether it may is decided when it is applied.
    async fn recorded(&self, caller: &Caller, bucket: &BucketName, claim: Claim) -> Result<(), ApiError> {
        caller.speaks_for(claim.node)?;
        let member = self.member()?;
        let mut revision = member.replica.revision();
        let recorded = async {
            loop {
                revision.mark_unchanged();
                let waits = is_awaited(&member.replica.state(), bucket, claim);
                if !waits || revision.changed().await.is_err() {
                    return;
                }
            }
        };
        let bounded = tokio::time::timeout(RECORDED_WITHIN, recorded);
        if let Ok(Ok(())) = within(caller, bounded).await {
            return Ok(());
        }
        let node = member.replica.state().node_name(claim.node);
        Err(ApiError::unavailable(format!("it is not recorded yet that bucket {bucket} runs on node {node}")))
    }
}

/// Whether it may yet be recorded that a multi-node bucket runs where it says. Not on a node that was forgotten: it is told to
/// end what it runs.
fn is_awaited(state: &State, bucket: &BucketName, claim: Claim) -> bool {
    let is_multi = state.buckets.get(bucket).is_some_and(|bucket| bucket.current.spec.multi_node);
    let is_known = || state.nodes.get(&claim.node).is_some_and(|node| node.status != NodeStatus::Left);
    is_multi && !state.runs(bucket, claim.node) && is_known()
}

fn entry(state: &State, bucket: &BucketName, key: &ObjectKey) -> Option<Entry> {
    state.objects.get(bucket)?.get(key).copied()
}

fn head(key: &ObjectKey, entry: &Entry) -> ObjectHead {
    ObjectHead { key: key.clone(), version: entry.version, size: entry.size, at: entry.at }
}

/// The objects of a bucket that is there, by key.
fn heads<'a>(
    state: &'a State,
    bucket: &BucketName,
    prefix: &'a str,
    after: &'a str,
) -> Result<impl Iterator<Item = ObjectHead> + use<'a>, ApiError> {
    if !state.buckets.contains_key(bucket) {
        return Err(no_bucket(bucket));
    }
    let objects = state.objects.get(bucket).into_iter();
    Ok(objects.flat_map(move |objects| objects.list(prefix, after)).map(|(key, entry)| head(key, entry)))
}

/// A watch of the objects of one bucket.
struct ObjectWatch {
    member: Member,
    bucket: BucketName,
    prefix: String,
    changes: Changes,
    ready: VecDeque<ObjectStep>,
}

impl ObjectWatch {
    fn say(&mut self, revision: Revision, change: ObjectChange) {
        self.ready.push_back(ObjectStep { revision, change });
    }

    fn start_again(&mut self) {
        let (revision, heads) = {
            let state = self.member.replica.state();
            let heads = heads(&state, &self.bucket, &self.prefix, "").map(Iterator::collect);
            // A bucket that is gone has none, and may come again.
            (state.revision, heads.unwrap_or_else(|_| Vec::new()))
        };
        self.changes = self.member.replica.changes(revision);
        self.say(revision, ObjectChange::Reset);
        for head in heads {
            self.say(revision, ObjectChange::Put(head));
        }
        self.say(revision, ObjectChange::Synced);
    }

    async fn next(&mut self) -> ObjectStep {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return step;
            }
            match self.changes.next(ROWS).await {
                Ok(sets) => self.changed(&sets),
                // Too slow for what is kept in memory: from the start again.
                Err(_) => self.start_again(),
            }
        }
    }

    fn changed(&mut self, sets: &[ChangeSet]) {
        let mut newest = None;
        for set in sets {
            for change in set.changes.iter() {
                if let Some(change) = self.meant(change) {
                    self.say(set.revision, change);
                    newest = Some(set.revision);
                }
            }
        }
        if let Some(newest) = newest {
            self.say(newest, ObjectChange::Synced);
        }
    }

    fn meant(&self, change: &Change) -> Option<ObjectChange> {
        match change {
            Change::Object(object) if object.bucket == self.bucket => {
                let meant = object.key.as_str().starts_with(&self.prefix);
                meant.then(|| ObjectChange::Put(head(&object.key, &object.entry)))
            }
            Change::ObjectGone(bucket, key) if *bucket == self.bucket => {
                key.as_str().starts_with(&self.prefix).then(|| ObjectChange::Gone(key.clone()))
            }
            Change::ObjectsGone(bucket) if *bucket == self.bucket => Some(ObjectChange::Reset),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
