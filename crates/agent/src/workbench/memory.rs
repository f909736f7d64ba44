//! A cluster of one bucket, in memory: what its process may ask of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures::StreamExt as _;
use futures::stream;
use sheaf_model::{
    OBJECT_VALUE_MAX, OBJECTS_BYTES_MAX, OBJECTS_MAX, ObjectKey, SecretName, SecretValue, Timestamp,
};
use sheaf_module::host::{ClusterApi, Line, Put, Steps, serve_cluster};
use sheaf_module::{
    Node, Object, ObjectChange, ObjectHead, ObjectPage, ObjectStep, Refused, STATUS_MAX, Secret, Why,
};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

use super::Seen;
use crate::context::own_key;
use crate::keeper::{Opened, Plan};
use crate::secrets::text;

/// Most objects of a page.
const PAGE_MAX: u32 = 1000;

/// What the bucket keeps, over all of its processes.
#[derive(Debug)]
pub(super) struct Memory {
    node: Node,
    seen: mpsc::Sender<Seen>,
    /// What the module names for the bucket.
    named: BTreeSet<SecretName>,
    secrets: BTreeMap<SecretName, SecretValue>,
    /// Held for moments, across no await.
    kept: Mutex<Kept>,
    /// The newest revision; watchers wait for it.
    revision: watch::Sender<u64>,
    /// Why the module wants its bucket stopped.
    ended: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
struct Kept {
    objects: BTreeMap<String, Stored>,
    /// When those that are gone went.
    gone: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Stored {
    object: Object,
    /// Of the call that wrote it.
    token: u64,
}

impl Kept {
    fn bytes(&self) -> u64 {
        self.objects.iter().map(|(key, it)| (key.len() + it.object.value.len()) as u64).sum()
    }
}

impl Memory {
    pub(super) fn new(node: Node, seen: mpsc::Sender<Seen>) -> Self {
        let (revision, ended) = (watch::Sender::new(1), watch::Sender::new(None));
        let (named, secrets) = (BTreeSet::new(), BTreeMap::new());
        Self { node, seen, named, secrets, kept: Mutex::default(), revision, ended }
    }

    /// The same with secrets, and which of them the module names for the bucket.
    pub(super) fn with_secrets(
        self,
        named: BTreeSet<SecretName>,
        secrets: BTreeMap<SecretName, SecretValue>,
    ) -> Self {
        Self { named, secrets, ..self }
    }

    fn secret(&self, name: &SecretName) -> Result<&SecretValue, Refused> {
        if !self.named.contains(name) {
            let text =
                format!("the module does not name secret {name}; list it under secrets in its document");
            return Err(Refused::new(Why::Invalid, text));
        }
        let none = || format!("there is no secret {name}; give it with --secret {name}=FILE");
        self.secrets.get(name).ok_or_else(|| Refused::new(Why::NotFound, none()))
    }

    /// All that a plan leaves open.
    pub(super) fn open(&self, plan: &Plan) -> Result<Opened, Refused> {
        let mut opened = Opened::default();
        for name in plan.secrets() {
            opened.put(name.clone(), text(name, self.secret(name)?)?);
        }
        Ok(opened)
    }

    /// Why the module had its bucket stopped, as soon as it has.
    pub(super) async fn stopped(&self) -> String {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await, // nobody is left who could ask for it
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, put: Put) -> Result<u64, Refused> {
        let mut kept = self.kept();
        let Put { key, value, expected, token } = put;
        let found = kept.objects.get(&key).map_or((0, 0, 0), |it| {
            (it.object.version, it.token, (key.len() + it.object.value.len()) as u64)
        });
        let (at, written_by, size) = found;
        if token != 0 && written_by == token {
            return Ok(at); // the same call, made again
        }
        expect(&key, expected, at)?;
        if value.len() > OBJECT_VALUE_MAX {
            let text =
                format!("object {key} would have {} bytes; at most {OBJECT_VALUE_MAX} are kept", value.len());
            return Err(Refused::new(Why::Exhausted, text));
        }
        let more = (key.len() + value.len()) as u64;
        if kept.bytes() - size + more > OBJECTS_BYTES_MAX || (at == 0 && kept.objects.len() >= OBJECTS_MAX) {
            let text =
                format!("a bucket keeps at most {OBJECTS_MAX} objects of {OBJECTS_BYTES_MAX} bytes in all");
            return Err(Refused::new(Why::Exhausted, text));
        }
        let version = self.next();
        kept.gone.remove(&key);
        kept.objects.insert(key, Stored { object: Object { version, value }, token });
        drop(kept);
        self.revision.send_replace(version);
        Ok(version)
    }

    fn delete(&self, key: String, expected: Option<u64>) -> Result<u64, Refused> {
        let mut kept = self.kept();
        let Some(at) = kept.objects.get(&key).map(|it| it.object.version) else {
            return Ok(*self.revision.borrow());
        };
        expect(&key, expected, at)?;
        let revision = self.next();
        kept.objects.remove(&key);
        kept.gone.insert(key, revision);
        drop(kept);
        self.revision.send_replace(revision);
        Ok(revision)
    }

    /// The next revision; whoever has the lock makes it known when it has let go.
    fn next(&self) -> u64 {
        *self.revision.borrow() + 1
    }

    /// What changed after a revision.
    fn steps(&self, prefix: &str, after: u64) -> (u64, Vec<ObjectStep>) {
        let kept = self.kept();
        let now = *self.revision.borrow();
        let visible = |key: &str| key.starts_with(prefix) && !key.starts_with('.');
        let put = kept.objects.iter().filter(|(key, it)| visible(key) && it.object.version > after);
        let put = put.map(|(key, it)| ObjectStep {
            revision: it.object.version,
            change: ObjectChange::Put(head(key, &it.object)),
        });
        let gone = kept.gone.iter().filter(|(key, revision)| visible(key) && **revision > after);
        let gone = gone.map(|(key, revision)| ObjectStep {
            revision: *revision,
            change: ObjectChange::Gone(key.clone()),
        });
        let mut steps: Vec<ObjectStep> = put.chain(gone).collect();
        steps.sort_by_key(|step| step.revision);
        (now, steps)
    }

    async fn did(&self, what: String) {
        // Nobody looks on any more.
        let _ = self.seen.send(Seen::Did(what)).await;
    }
}

fn expect(key: &str, expected: Option<u64>, at: u64) -> Result<(), Refused> {
    match expected {
        Some(expected) if expected != at => {
            Err(Refused::new(Why::Conflict, format!("object {key} is at version {at}, not {expected}")))
        }
        _ => Ok(()),
    }
}

fn head(key: &str, object: &Object) -> ObjectHead {
    let size = u32::try_from(object.value.len()).unwrap_or(u32::MAX);
    ObjectHead { key: key.to_owned(), version: object.version, size }
}

fn checkpoint() -> String {
    ObjectKey::checkpoint(None).to_string()
}

fn line(what: &str, text: &str) -> Result<(), Refused> {
    if text.trim().is_empty() || text.len() > STATUS_MAX {
        let text = format!("{what} has {} bytes; it needs some, and at most {STATUS_MAX}", text.len());
        return Err(Refused::new(Why::Invalid, text));
    }
    Ok(())
}

/// The memory, served.
pub(super) struct Served(pub(super) Arc<Memory>);

impl Served {
    /// Until it is dropped.
    pub(super) async fn serve(self, listener: UnixListener) {
        let memory = self.0.clone();
        if let Err(error) = serve_cluster(listener, self).await {
            memory.did(format!("the cluster in memory ended: {error}")).await;
        }
    }
}

impl ClusterApi for Served {
    type Speaker = ();

    async fn speaker(&self, _bucket: &str, _keeper: u32) -> Result<(), Refused> {
        Ok(()) // there is one bucket
    }

    async fn get_object(&self, (): (), _seen: u64, key: String) -> Result<Option<Object>, Refused> {
        let key = own_key(&key)?;
        Ok(self.0.kept().objects.get(key.as_str()).map(|it| it.object.clone()))
    }

    async fn put_object(&self, (): (), put: Put) -> Result<u64, Refused> {
        own_key(&put.key)?;
        self.0.put(put)
    }

    async fn delete_object(&self, (): (), key: String, expected: Option<u64>) -> Result<u64, Refused> {
        own_key(&key)?;
        self.0.delete(key, expected)
    }

    async fn list_objects(
        &self,
        (): (),
        _seen: u64,
        prefix: String,
        size: u32,
        token: String,
    ) -> Result<ObjectPage, Refused> {
        let kept = self.0.kept();
        let all = kept.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && !key.starts_with('.'));
        let mut rest = all.filter(|(key, _)| key.as_str() > token.as_str() || token.is_empty());
        let size = if size == 0 { PAGE_MAX } else { size.min(PAGE_MAX) } as usize;
        let objects: Vec<ObjectHead> =
            rest.by_ref().take(size).map(|(key, it)| head(key, &it.object)).collect();
        let more = rest.next().is_some();
        let next = objects.last().filter(|_| more).map(|it| it.key.clone()).unwrap_or_default();
        Ok(ObjectPage { objects, next })
    }

    async fn watch_objects(
        &self,
        (): (),
        _seen: u64,
        prefix: String,
        after: Option<u64>,
    ) -> Result<Steps, Refused> {
        let memory = self.0.clone();
        let changed = memory.revision.subscribe();
        let begin = (memory, changed, prefix, after, true);
        let steps = stream::unfold(begin, |(memory, mut changed, prefix, after, first)| async move {
            if !first {
                changed.changed().await.ok()?;
            }
            changed.borrow_and_update();
            let (now, mut steps) = memory.steps(&prefix, after.unwrap_or(0));
            if after.is_none() {
                steps.retain(|step| !matches!(step.change, ObjectChange::Gone(_)));
                steps.insert(0, ObjectStep { revision: 0, change: ObjectChange::Reset });
            }
            steps.push(ObjectStep { revision: now, change: ObjectChange::Synced });
            let steps = stream::iter(steps.into_iter().map(Ok));
            Some((steps, (memory, changed, prefix, Some(now), false)))
        });
        Ok(steps.flatten().boxed())
    }

    async fn checkpoint(&self, (): (), _seen: u64) -> Result<Vec<u8>, Refused> {
        let kept = self.0.kept();
        Ok(kept.objects.get(&checkpoint()).map(|it| it.object.value.clone()).unwrap_or_default())
    }

    async fn set_checkpoint(&self, (): (), value: Vec<u8>) -> Result<u64, Refused> {
        self.0.put(Put { key: checkpoint(), value, expected: None, token: 0 })
    }

    async fn add_status_line(&self, (): (), it: Line) -> Result<u64, Refused> {
        line("the line's kind", &it.kind)?;
        line("the line", &it.text)?;
        let _ = self.0.seen.send(Seen::Line(it.kind, it.text)).await; // nobody looks on any more
        Ok(*self.0.revision.borrow())
    }

    async fn emergency_disable(&self, (): (), reason: String) -> Result<u64, Refused> {
        line("the reason", &reason)?;
        self.0.ended.send_replace(Some(format!("suspended, as the module asks: {reason}")));
        Ok(*self.0.revision.borrow())
    }

    async fn emergency_quarantine(&self, (): (), until: SystemTime, reason: String) -> Result<u64, Refused> {
        line("the reason", &reason)?;
        let until = Timestamp::from_system(until);
        self.0.ended.send_replace(Some(format!("in quarantine until {until}, as the module asks: {reason}")));
        Ok(*self.0.revision.borrow())
    }

    async fn peers(&self, (): (), _seen: u64) -> Result<Vec<Node>, Refused> {
        Ok(vec![self.0.node.clone()])
    }

    async fn secret(&self, (): (), name: String) -> Result<Secret, Refused> {
        let name = SecretName::new(&name)
            .map_err(|error| Refused::new(Why::Invalid, format!("{}: {}", error.problem, error.remedy)))?;
        self.0.secret(&name).map(|value| Secret::new(value.reveal()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> Served {
        let (seen, _) = mpsc::channel(8);
        Served(Arc::new(Memory::new(Node::default(), seen)))
    }

    fn put(key: &str, expected: Option<u64>, token: u64) -> Put {
        Put { key: key.to_owned(), value: b"v".to_vec(), expected, token }
    }

    #[tokio::test]
    async fn an_object_is_written_at_the_version_expected_and_once_for_a_token() {
        let served = served();
        let first = served.put_object((), put("a", Some(0), 7)).await.expect("there is none");
        let again = served.put_object((), put("a", Some(0), 7)).await.expect("the same call");
        assert_eq!(first, again);
        let refused = served.put_object((), put("a", Some(0), 8)).await.expect_err("there is one");
        assert_eq!((refused.why, &*refused.text), (Why::Conflict, "object a is at version 2, not 0"));
        let second = served.put_object((), put("a", Some(first), 8)).await.expect("at that version");
        assert!(second > first);
        assert_eq!(served.put_object((), put(".a", None, 0)).await.expect_err("reserved").why, Why::Invalid);
        let large = Put { value: vec![0; OBJECT_VALUE_MAX + 1], ..put("b", None, 0) };
        assert_eq!(served.put_object((), large).await.expect_err("too large").why, Why::Exhausted);
        served.delete_object((), "a".to_owned(), Some(second)).await.expect("at that version");
        assert_eq!(served.get_object((), 0, "a".to_owned()).await, Ok(None));
    }

    #[tokio::test]
    async fn a_watch_begins_with_everything_and_goes_on() {
        let served = served();
        served.put_object((), put("a", None, 0)).await.expect("written");
        served.set_checkpoint((), b"mine".to_vec()).await.expect("written");
        let mut steps = served.watch_objects((), 0, String::new(), None).await.expect("a watch");
        let mut next = async || steps.next().await.expect("a step").expect("no refusal").change;
        assert_eq!(next().await, ObjectChange::Reset);
        assert!(matches!(next().await, ObjectChange::Put(head) if head.key == "a"));
        assert_eq!(next().await, ObjectChange::Synced, "the checkpoint is no object of the module's");
        served.delete_object((), "a".to_owned(), None).await.expect("deleted");
        assert_eq!(next().await, ObjectChange::Gone("a".to_owned()));
        assert_eq!(next().await, ObjectChange::Synced);
        assert_eq!(served.checkpoint((), 0).await, Ok(b"mine".to_vec()));
    }

    #[tokio::test]
    async fn pages_go_on_where_the_last_one_ended() {
        let served = served();
        for key in ["a", "b", "c"] {
            served.put_object((), put(key, None, 0)).await.expect("written");
        }
        let page = |token: String| served.list_objects((), 0, String::new(), 2, token);
        let first = page(String::new()).await.expect("a page");
        assert_eq!((first.objects.len(), &*first.next), (2, "b"));
        let last = page(first.next).await.expect("a page");
        assert_eq!((&*last.objects[0].key, &*last.next), ("c", ""));
    }
}
