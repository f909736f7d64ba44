//! What plugins ask of the cluster: their keepers bring it here, and it goes on to this node's own port.
//!
//! ```text
//!  module ──► keeper ──sockets/agent──► who is it? ──► own port ──► any member, or the leader
//!             adds its bucket           the keeper's process is the one in the bucket's status.json
//! ```
//!
//! What a module sends names no bucket, node or epoch: these are its keeper's, and the keeper is known by its process.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt as _;
use sheaf_model::{BucketName, Claim, Epoch, NodeId, NodeName, ObjectKey, Revision, SecretName, Timestamp};
use sheaf_module::host::{ClusterApi, Line, Put, Steps, serve_cluster};
use sheaf_module::{Object, ObjectChange, ObjectHead, ObjectPage, ObjectStep, Refused, Secret, Why};
use sheaf_wire::instance::{
    AddStatusLine, DeleteObject, DisableBucket, GetObject, ListObjects, PutObject, QuarantineBucket,
    WatchObjects,
};
use sheaf_wire::{ApiError, Client, Done, PageOf, instance};
use tokio::net::UnixListener;

use crate::keeper::layout::{self, make_dir};
use crate::keeper::{Plugin, proc};
use crate::keepers::Keepers;
use crate::secrets::Secrets;

/// For so long a keeper is what it was seen to be. A process's number comes again much later than that.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// Keepers remembered; those of a node are far fewer.
const KNOWN_MAX: usize = 4096;
/// Lines of status that a bucket may add …
const LINES: usize = 10;
/// … in this time.
const LINES_WITHIN: Duration = Duration::from_secs(60);

/// Answers the keepers of one node.
pub(crate) struct Context {
    place: Place,
    secrets: Secrets,
    /// By keeper's process. Held for moments, across no await.
    known: Mutex<BTreeMap<u32, (Speaker, Instant)>>,
    /// When each bucket added its last lines. Held likewise.
    lines: Mutex<BTreeMap<BucketName, VecDeque<Instant>>>,
}

/// This node, and the way from it into the cluster.
#[derive(Clone)]
struct Place {
    keepers: Keepers,
    node: NodeId,
    name: NodeName,
    client: Client,
}

/// An instance that may speak for its bucket, as far as this node knows.
#[derive(Clone, Debug)]
pub(crate) struct Speaker {
    bucket: BucketName,
    claim: Claim,
    client: Client,
}

impl Context {
    /// `client` is of this node's own port; nothing is asked there before somebody asks here.
    pub(crate) fn new(
        keepers: Keepers,
        node: NodeId,
        name: NodeName,
        client: Client,
        secrets: Secrets,
    ) -> Self {
        let place = Place { keepers, node, name, client };
        Self { place, secrets, known: Mutex::default(), lines: Mutex::default() }
    }

    /// Serves until it is dropped. A node that cannot goes on without: its plugins are then told that nobody answers.
    pub(crate) async fn serve(self, data_dir: &Path) {
        let socket = layout::agent_socket(data_dir);
        let served = match listen(&socket) {
            Ok(listener) => serve_cluster(listener, self).await.map_err(io::Error::other),
            Err(error) => Err(error),
        };
        if let Err(error) = served {
            tracing::error!(%error, socket = %socket.display(), "plugins cannot ask anything of the cluster");
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u32, (Speaker, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place among the bucket's lines of the last minute.
    fn may_add(&self, bucket: &BucketName) -> Result<(), Refused> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        lines.retain(|_, said| {
            while said.front().is_some_and(|at| now.duration_since(*at) >= LINES_WITHIN) {
                said.pop_front();
            }
            !said.is_empty()
        });
        let said = lines.entry(bucket.clone()).or_default();
        if said.len() >= LINES {
            let oldest = said.front().map_or(Duration::ZERO, |at| now.duration_since(*at));
            let wait = LINES_WITHIN.saturating_sub(oldest).as_secs() + 1;
            return Err(Refused::new(
                Why::Exhausted,
                format!("bucket {bucket} has added {LINES} lines within a minute; there is room in {wait} s"),
            ));
        }
        said.push_back(now);
        Ok(())
    }

    /// One that was not added gives its place back.
    fn not_added(&self, bucket: &BucketName) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = lines.get_mut(bucket) {
            said.pop_back();
        }
    }

    /// Where this node notes a bucket's checkpoint, on however many nodes it runs: that may change as it runs.
    fn checkpoint_key(&self) -> ObjectKey {
        ObjectKey::checkpoint(Some(&self.place.name))
    }
}

impl Place {
    /// What the bucket's files say of the process that keeps it. Blocks.
    fn identify(&self, bucket: &BucketName, keeper: u32) -> Option<Speaker> {
        let (plan, status) = self.keepers.last(bucket);
        let status = status.filter(|status| status.keeper.pid == keeper && proc::is_alive(status.keeper));
        let (plan, _) = plan.zip(status)?;
        let Some(Plugin::Instance(instance)) = plan.plugin else { return None };
        let actor = format!("module:{} on {}", instance.bucket.module, self.name);
        let client = self.client.acting_as(&actor).ok()?;
        // As it is now: the status says what the keeper began with, and the bucket may have become multi-node since.
        let claim = Claim { node: self.node, epoch: plan.lease.epoch() };
        Some(Speaker { bucket: bucket.clone(), claim, client })
    }
}

impl Speaker {
    /// Reads what is at least as new as all that was answered to this process, and to those of its bucket before it, that it
    /// is written.
    fn reader(&self, seen: u64) -> Client {
        match self.knows(seen) {
            Some(revision) => self.client.at_least(revision),
            None => self.client.clone(),
        }
    }

    /// The state from which on nothing that it must see is missing. None: only the leader can say.
    ///
    /// Nobody else writes what a single-node bucket reads, and a write of this process came after all that the ones before it
    /// were answered. As long as it has made none, how far the last one under the same epoch came is known to nobody here; and
    /// of a multi-node bucket, how far the others are.
    fn knows(&self, seen: u64) -> Option<Revision> {
        (self.claim.epoch.is_some() && seen > 0).then_some(Revision(seen))
    }

    async fn get(&self, seen: u64, key: ObjectKey) -> Result<Option<Object>, Refused> {
        let ask = GetObject { bucket: self.bucket.clone(), key };
        match self.reader(seen).get_object(ask).await {
            Ok(got) => {
                let version = got.head.version.0;
                Ok(Some(Object { version, value: got.value.as_bytes().to_vec() }))
            }
            Err(ApiError::NotFound(_)) => Ok(None),
            Err(error) => Err(refused(&error)),
        }
    }

    /// The checkpoint of a single-node bucket that is bound under `epoch`: the one that was noted last, here or elsewhere. From
    /// elsewhere it is noted here as well: the bucket may become multi-node before this node has anything new to note.
    async fn take_over(&self, seen: u64, own: &ObjectKey, epoch: Epoch) -> Result<Option<Object>, Refused> {
        let noted = self.noted(seen).await?;
        let Some(head) = counts(&noted, own, epoch) else { return Ok(None) };
        let found = self.get(seen.max(head.version.0), head.key.clone()).await?;
        if let Some(object) = found.as_ref().filter(|_| head.key != *own) {
            let former = noted.iter().find(|head| head.key == *own).map_or(0, |head| head.version.0);
            let (key, value) = (own.to_string(), object.value.clone());
            let put = Put { key, value, expected: Some(former), token: 0 };
            match self.put(own.clone(), put).await {
                Err(refused) if refused.why == Why::Unavailable => return Err(refused),
                // The process has noted something itself meanwhile, or may not or cannot note anything any more.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(found)
    }

    /// Every checkpoint of the bucket, whoever has noted it.
    async fn noted(&self, seen: u64) -> Result<Vec<instance::ObjectHead>, Refused> {
        let (mut heads, mut token) = (Vec::new(), String::new());
        loop {
            let prefix = ObjectKey::checkpoint(None).to_string();
            let ask = ListObjects { bucket: self.bucket.clone(), prefix, page: PageOf { size: 0, token } };
            let page = self.reader(seen).list_objects(ask).await.map_err(|error| refused(&error))?;
            heads.extend(page.rows);
            if page.next.is_empty() {
                return Ok(heads);
            }
            token = page.next;
        }
    }

    async fn put(&self, key: ObjectKey, put: Put) -> Result<u64, Refused> {
        let done = self.client.put_object(PutObject {
            bucket: self.bucket.clone(),
            key,
            value: put.value.as_slice().into(),
            base: put.expected.map(Revision),
            claim: self.claim,
            token: put.token,
        });
        done.await.map(|done| done.revision.0).map_err(|error| refused(&error))
    }
}

/// Which of a bucket's checkpoints counts where it is bound under `epoch`: the last one of those that this node has noted, and
/// all that were noted before that binding was made. What another node has noted since, it did because the bucket is multi-node
/// by now, which is not known here yet.
fn counts<'a>(
    noted: &'a [instance::ObjectHead],
    own: &ObjectKey,
    epoch: Epoch,
) -> Option<&'a instance::ObjectHead> {
    // Where agents of earlier versions note that of a single-node bucket.
    let shared = ObjectKey::checkpoint(None);
    let is_its_own = |head: &&instance::ObjectHead| {
        head.key == *own || head.key == shared || head.version < epoch.revision()
    };
    noted.iter().filter(is_its_own).max_by_key(|head| head.version)
}

/// Only one agent at a time has the data directory, so a socket that is there is a dead one's.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = socket.parent() {
        make_dir(dir).map_err(io::Error::other)?;
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(socket)
}

/// The revision that a change of the bucket made; 0: none. What was so already may be older than what another process wrote.
fn made(done: &Done) -> u64 {
    if done.unchanged { 0 } else { done.revision.0 }
}

pub(crate) fn refused(error: &ApiError) -> Refused {
    let why = match error {
        ApiError::NotFound(_) => Why::NotFound,
        ApiError::Conflict(_) => Why::Conflict,
        ApiError::Invalid(_) => Why::Invalid,
        ApiError::Precondition(_) => Why::Fenced,
        ApiError::Exhausted(_) => Why::Exhausted,
        ApiError::Unavailable { .. }
        | ApiError::DeadlineExceeded(_)
        | ApiError::Busy(_)
        | ApiError::Unreachable { .. } => Why::Unavailable,
        ApiError::Unimplemented(_)
        | ApiError::Internal(_)
        | ApiError::Unauthenticated(_)
        | ApiError::Forbidden(_) => Why::Other,
    };
    Refused::new(why, error.to_string())
}

/// A key of the module's own.
pub(crate) fn own_key(text: &str) -> Result<ObjectKey, Refused> {
    let key = ObjectKey::new(text)
        .map_err(|error| Refused::new(Why::Invalid, format!("{}: {}", error.problem, error.remedy)))?;
    if key.is_reserved() {
        let text = format!("key {key} begins with a dot: those are Sheaf's own");
        return Err(Refused::new(Why::Invalid, text));
    }
    Ok(key)
}

fn head(head: &instance::ObjectHead) -> ObjectHead {
    ObjectHead { key: head.key.to_string(), version: head.version.0, size: head.size }
}

/// None: about what is Sheaf's own.
fn step(step: instance::ObjectStep) -> Option<ObjectStep> {
    let change = match step.change {
        instance::ObjectChange::Reset => ObjectChange::Reset,
        instance::ObjectChange::Put(it) if it.key.is_reserved() => return None,
        instance::ObjectChange::Put(it) => ObjectChange::Put(head(&it)),
        instance::ObjectChange::Gone(key) if key.is_reserved() => return None,
        instance::ObjectChange::Gone(key) => ObjectChange::Gone(key.to_string()),
        instance::ObjectChange::Synced => ObjectChange::Synced,
    };
    Some(ObjectStep { revision: step.revision.0, change })
}

impl ClusterApi for Context {
    type Speaker = Speaker;

    async fn speaker(&self, bucket: &str, keeper: u32) -> Result<Speaker, Refused> {
        if bucket.is_empty() {
            return Err(Refused::new(Why::Fenced, "only a bucket's keeper is answered here"));
        }
        let nobody =
            || Refused::new(Why::Fenced, format!("process {keeper} does not keep bucket {bucket} here"));
        let name = BucketName::new(bucket).map_err(|_| nobody())?;
        let known = self.known().get(&keeper).cloned();
        if let Some((speaker, at)) = known
            && at.elapsed() < KNOWN_FOR
            && speaker.bucket == name
        {
            return Ok(speaker);
        }
        let place = self.place.clone();
        let found = tokio::task::spawn_blocking(move || place.identify(&name, keeper)).await;
        let speaker = found.ok().flatten().ok_or_else(nobody)?;
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.retain(|_, (_, at)| at.elapsed() < KNOWN_FOR);
        }
        known.insert(keeper, (speaker.clone(), Instant::now()));
        Ok(speaker)
    }

    async fn get_object(&self, by: Speaker, seen: u64, key: String) -> Result<Option<Object>, Refused> {
        by.get(seen, own_key(&key)?).await
    }

    async fn put_object(&self, by: Speaker, put: Put) -> Result<u64, Refused> {
        by.put(own_key(&put.key)?, put).await
    }

    async fn delete_object(&self, by: Speaker, key: String, expected: Option<u64>) -> Result<u64, Refused> {
        let (bucket, key, base) = (by.bucket, own_key(&key)?, expected.map(Revision));
        let done = by.client.delete_object(DeleteObject { bucket, key, base, claim: by.claim }).await;
        done.map(|done| done.revision.0).map_err(|error| refused(&error))
    }

    async fn list_objects(
        &self,
        by: Speaker,
        seen: u64,
        prefix: String,
        size: u32,
        token: String,
    ) -> Result<ObjectPage, Refused> {
        let page = PageOf { size, token };
        let ask = ListObjects { bucket: by.bucket.clone(), prefix, page };
        let page = by.reader(seen).list_objects(ask).await.map_err(|error| refused(&error))?;
        let own = page.rows.into_iter().filter(|row| !row.key.is_reserved());
        Ok(ObjectPage { objects: own.map(|it| head(&it)).collect(), next: page.next })
    }

    async fn watch_objects(
        &self,
        by: Speaker,
        seen: u64,
        prefix: String,
        after: Option<u64>,
    ) -> Result<Steps, Refused> {
        let ask = WatchObjects { bucket: by.bucket.clone(), prefix, after: after.map(Revision) };
        let steps = by.reader(seen).watch_objects(ask).await.map_err(|error| refused(&error))?;
        let steps = steps.filter_map(|answer| {
            std::future::ready(match answer {
                Ok(it) => step(it).map(Ok),
                Err(error) => Some(Err(refused(&error))),
            })
        });
        Ok(steps.boxed())
    }

    async fn checkpoint(&self, by: Speaker, seen: u64) -> Result<Vec<u8>, Refused> {
        let own = self.checkpoint_key();
        let found = match by.claim.epoch {
            Some(epoch) => by.take_over(seen, &own, epoch).await?,
            None => by.get(seen, own).await?,
        };
        Ok(found.map(|object| object.value).unwrap_or_default())
    }

    async fn set_checkpoint(&self, by: Speaker, checkpoint: Vec<u8>) -> Result<u64, Refused> {
        let key = self.checkpoint_key();
        let put = Put { key: key.to_string(), value: checkpoint, expected: None, token: 0 };
        by.put(key, put).await
    }

    async fn add_status_line(&self, by: Speaker, line: Line) -> Result<u64, Refused> {
        self.may_add(&by.bucket)?;
        let request =
            (line.token != 0).then(|| format!("line-{:x}-{:x}", by.claim.node.0, line.token).as_str().into());
        let Line { kind, text, .. } = line;
        let bucket = by.bucket.clone();
        let ask = AddStatusLine { bucket: by.bucket, claim: by.claim, kind, text, request };
        let done = by.client.add_status_line(ask).await;
        if done.is_err() {
            self.not_added(&bucket);
        }
        done.map(|done| done.revision.0).map_err(|error| refused(&error))
    }

    async fn emergency_disable(&self, by: Speaker, reason: String) -> Result<u64, Refused> {
        let ask = DisableBucket { bucket: by.bucket, claim: by.claim, reason };
        by.client.disable_bucket(ask).await.map(|done| made(&done)).map_err(|error| refused(&error))
    }

    async fn emergency_quarantine(
        &self,
        by: Speaker,
        until: SystemTime,
        reason: String,
    ) -> Result<u64, Refused> {
        let until = Timestamp::from_system(until);
        let ask = QuarantineBucket { bucket: by.bucket, claim: by.claim, until, reason };
        by.client.quarantine_bucket(ask).await.map(|done| made(&done)).map_err(|error| refused(&error))
    }

    async fn peers(&self, by: Speaker, seen: u64) -> Result<Vec<sheaf_module::Node>, Refused> {
        let client = match by.claim.epoch {
            Some(epoch) => by.client.at_least(epoch.revision().max(Revision(seen))),
            None => by.client.clone(),
        };
        let peers = client.peers_of(&by.bucket).await.map_err(|error| refused(&error))?;
        let node = |peer: instance::PeerNode| sheaf_module::Node {
            name: peer.name,
            hostname: peer.hostname,
            labels: peer.labels,
        };
        Ok(peers.into_iter().map(node).collect())
    }

    async fn secret(&self, by: Speaker, name: String) -> Result<Secret, Refused> {
        let name = SecretName::new(&name)
            .map_err(|error| Refused::new(Why::Invalid, format!("{}: {}", error.problem, error.remedy)))?;
        let value = self.secrets.get(&by.bucket, by.claim, &name).await?;
        Ok(Secret::new(value.reveal()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keepers::KeeperOptions;

    fn context(dir: &Path) -> Context {
        let options = KeeperOptions { data_dir: dir.to_owned(), binary: "/nowhere".into() };
        let keepers = Keepers::open(options).expect("a data directory");
        let name = NodeName::new("n1").expect("a name");
        let own = "127.0.0.1:1";
        let client = Client::lazy(own, sheaf_wire::Options::default()).expect("an address");
        let secrets = Secrets::new(NodeId(1), name.clone(), client.clone(), None);
        Context::new(keepers, NodeId(1), name, client, secrets)
    }

    #[tokio::test]
    async fn ten_lines_are_taken_and_what_was_not_added_does_not_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let context = context(dir.path());
        let [a, b] = ["/a", "/b"].map(|name| BucketName::new(name).expect("a name"));
        for _ in 0..LINES {
            context.may_add(&a).expect("there is room");
        }
        let refused = context.may_add(&a).expect_err("no room");
        assert_eq!(refused.why, Why::Exhausted);
        assert!(refused.text.contains("there is room in"), "{refused}");
        context.may_add(&b).expect("each bucket has its own");
        context.not_added(&a);
        context.may_add(&a).expect("one place was given back");
    }

    #[tokio::test]
    async fn a_process_that_keeps_nothing_is_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let context = context(dir.path());
        for bucket in ["/a", "no path"] {
            let refused = context.speaker(bucket, std::process::id()).await.expect_err("nobody");
            assert_eq!(refused.why, Why::Fenced, "{refused}");
        }
    }

    #[tokio::test]
    async fn only_who_wrote_itself_in_a_single_node_bucket_reads_from_any_member() {
        let speaker = |epoch: Option<u64>| Speaker {
            bucket: BucketName::new("/a").expect("a name"),
            claim: Claim { node: NodeId(1), epoch: epoch.map(Epoch) },
            client: Client::lazy("127.0.0.1:1", sheaf_wire::Options::default()).expect("an address"),
        };
        // A new process under the same epoch: the one before it may have written later than the binding.
        assert_eq!(speaker(Some(50)).knows(0), None);
        assert_eq!(speaker(Some(50)).knows(100), Some(Revision(100)));
        // Others write as well.
        assert_eq!((speaker(None).knows(0), speaker(None).knows(100)), (None, None));
        // What a bucket was already does not count as written.
        let done = |unchanged| Done { revision: Revision(70), unchanged, ..Done::default() };
        assert_eq!((made(&done(false)), made(&done(true))), (70, 0));
    }

    #[test]
    fn the_checkpoint_that_counts_is_the_last_of_this_node_or_from_before_the_binding() {
        let own = ObjectKey::checkpoint(Some(&NodeName::new("n1").expect("a name")));
        let head = |key: &str, version: u64| instance::ObjectHead {
            key: ObjectKey::new(key).expect("a key"),
            version: Revision(version),
            size: 1,
            at: Timestamp(0),
        };
        let of = |noted: &[(&str, u64)]| {
            let noted: Vec<_> = noted.iter().map(|(key, version)| head(key, *version)).collect();
            counts(&noted, &own, Epoch(50)).map(|head| head.version.0)
        };
        let (n1, n2, n3) = (".checkpoint/n1", ".checkpoint/n2", ".checkpoint/n3");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(n1, 10), (n2, 40), (n3, 30)]), Some(40), "it was bound to n2 before, or ran on all");
        assert_eq!(of(&[(n1, 60), (n2, 40)]), Some(60), "by this process, or one before it here");
        assert_eq!(of(&[(n1, 60), (n2, 70)]), Some(60), "it has become multi-node");
        assert_eq!(of(&[(n2, 70)]), None);
        assert_eq!(of(&[(".checkpoint", 60), (n1, 10)]), Some(60), "by an agent of an earlier version");
    }

    #[test]
    fn what_is_sheafs_own_is_neither_written_nor_told() {
        assert_eq!(own_key(".checkpoint").expect_err("reserved").why, Why::Invalid);
        assert!(own_key("a b").expect_err("no key").text.contains("visible ASCII"));
        assert_eq!(own_key("a.b").expect("a key").as_str(), "a.b");
        let gone = |key: &ObjectKey| instance::ObjectStep {
            revision: Revision(7),
            change: instance::ObjectChange::Gone(key.clone()),
        };
        assert_eq!(step(gone(&ObjectKey::checkpoint(None))), None);
        assert!(step(gone(&own_key("k").expect("a key"))).is_some());
    }
}
