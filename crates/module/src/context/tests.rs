//! The SDK, a keeper's server and an agent's, over real sockets; only the cluster is made up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use super::*;
use crate::host::{ClusterApi, ContextServer, Line, Put, Steps, serve_cluster};
use crate::{Bucket, Object, ObjectChange, ObjectHead, ObjectPage, ObjectStep};

/// What a cluster would keep of one bucket.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    revision: u64,
    objects: BTreeMap<String, Object>,
    /// Bucket, keeper and newest revision of those who asked.
    asked: Vec<(String, u32, u64)>,
    said: Vec<String>,
    /// Calls that are answered as if nobody were there.
    away: u32,
}

impl Kept {
    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }
}

impl ClusterApi for Kept {
    type Speaker = (String, u32);

    async fn speaker(&self, bucket: &str, keeper: u32) -> Result<(String, u32), Refused> {
        let mut content = self.content();
        if content.away > 0 {
            content.away -= 1;
            return Err(Refused::new(Why::Unavailable, "no leader"));
        }
        Ok((bucket.to_owned(), keeper))
    }

    async fn get_object(&self, by: (String, u32), seen: u64, key: String) -> Result<Option<Object>, Refused> {
        let mut content = self.content();
        content.asked.push((by.0, by.1, seen));
        Ok(content.objects.get(&key).cloned())
    }

    async fn put_object(&self, _: (String, u32), put: Put) -> Result<u64, Refused> {
        let mut content = self.content();
        let at = content.objects.get(&put.key).map_or(0, |object| object.version);
        if put.expected.is_some_and(|expected| expected != at) {
            return Err(Refused::new(Why::Conflict, format!("it is at {at}")));
        }
        assert_ne!(put.token, 0);
        content.revision += 1;
        let version = content.revision;
        content.objects.insert(put.key, Object { version, value: put.value });
        Ok(version)
    }

    async fn delete_object(&self, _: (String, u32), key: String, _: Option<u64>) -> Result<u64, Refused> {
        let mut content = self.content();
        content.objects.remove(&key);
        content.revision += 1;
        Ok(content.revision)
    }

    async fn list_objects(
        &self,
        _: (String, u32),
        _: u64,
        prefix: String,
        _: u32,
        token: String,
    ) -> Result<ObjectPage, Refused> {
        let content = self.content();
        let after = content.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > token);
        let heads = after.map(|(key, object)| ObjectHead {
            key: key.clone(),
            version: object.version,
            size: object.value.len() as u32,
        });
        let mut objects: Vec<_> = heads.take(3).collect();
        let next = if objects.len() > 2 { objects[1].key.clone() } else { String::new() };
        objects.truncate(2);
        Ok(ObjectPage { objects, next })
    }

    async fn watch_objects(
        &self,
        _: (String, u32),
        _: u64,
        _: String,
        after: Option<u64>,
    ) -> Result<Steps, Refused> {
        let steps = match after {
            None => vec![(1, ObjectChange::Reset), (7, ObjectChange::Synced)],
            Some(after) => {
                vec![(after + 1, ObjectChange::Gone("k".to_owned())), (after + 1, ObjectChange::Synced)]
            }
        };
        let steps: Vec<_> =
            steps.into_iter().map(|(revision, change)| Ok(ObjectStep { revision, change })).collect();
        // And then it breaks.
        let broken = Err(Refused::new(Why::Unavailable, "the node stops"));
        Ok(Box::pin(tokio_stream::iter(steps.into_iter().chain([broken])).map(|step| step)))
    }

    async fn checkpoint(&self, _: (String, u32), _: u64) -> Result<Vec<u8>, Refused> {
        Ok(self.content().objects.get(".").map(|object| object.value.clone()).unwrap_or_default())
    }

    async fn set_checkpoint(&self, _: (String, u32), value: Vec<u8>) -> Result<u64, Refused> {
        self.content().objects.insert(".".to_owned(), Object { version: 1, value });
        Ok(1)
    }

    async fn add_status_line(&self, _: (String, u32), line: Line) -> Result<u64, Refused> {
        self.content().said.push(format!("{}: {}", line.kind, line.text));
        Ok(1)
    }

    async fn emergency_disable(&self, _: (String, u32), reason: String) -> Result<u64, Refused> {
        self.content().said.push(reason);
        Ok(1)
    }

    async fn emergency_quarantine(
        &self,
        _: (String, u32),
        until: SystemTime,
        reason: String,
    ) -> Result<u64, Refused> {
        let until = until.duration_since(UNIX_EPOCH).unwrap().as_millis();
        self.content().said.push(format!("{until}: {reason}"));
        Ok(1)
    }

    async fn peers(&self, by: (String, u32), _: u64) -> Result<Vec<Node>, Refused> {
        Ok(vec![Node { name: by.0, hostname: "h".to_owned(), labels: vec!["a".to_owned()] }])
    }

    async fn secret(&self, _: (String, u32), name: String) -> Result<Secret, Refused> {
        match name.as_str() {
            "token" => Ok(Secret::new("hunter2")),
            other => Err(Refused::new(Why::NotFound, format!("there is no secret {other}"))),
        }
    }
}

/// A keeper of bucket /a, a process in its care, and where its agent would be.
struct Scene {
    context: Context,
    socket: PathBuf,
    agent: PathBuf,
    tasks: JoinSet<()>,
    _dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (socket, agent) = (dir.path().join("c"), dir.path().join("agent"));
        let bucket = Bucket { name: "/a".to_owned(), ..Bucket::default() };
        let instance = Instance { bucket, ..Instance::default() };
        let (server, _) = ContextServer::new(instance.clone(), agent.clone());
        let listener = UnixListener::bind(&socket).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(server.serve(listener).await) });
        let context = Context::new(instance, Some(socket.clone()));
        Self { context, socket, agent, tasks, _dir: dir }
    }

    fn with_agent(kept: &Kept) -> Self {
        let mut scene = Self::new();
        let listener = UnixListener::bind(&scene.agent).unwrap();
        let kept = kept.clone();
        scene.tasks.spawn(async move { drop(serve_cluster(listener, kept).await) });
        scene
    }
}

#[tokio::test]
async fn objects_are_written_compared_read_listed_and_deleted() {
    let kept = Kept::default();
    let scene = Scene::with_agent(&kept);
    let context = &scene.context;
    assert_eq!(context.get("k").await.unwrap(), None);
    assert_eq!(context.put("k", "one").await.unwrap(), 1);
    assert_eq!(context.compare_and_set("k", 1, "two").await.unwrap(), 2);
    let conflict = context.compare_and_set("k", 1, "three").await.unwrap_err();
    assert_eq!(
        (conflict.why(), conflict.to_string()),
        (Some(Why::Conflict), "PutObject: it is at 2".to_owned())
    );
    let found = context.get("k").await.unwrap();
    assert_eq!(found, Some(Object { version: 2, value: b"two".to_vec() }));
    let seen: Vec<u64> = kept.content().asked.iter().map(|(.., seen)| *seen).collect();
    assert_eq!(seen, [0, 2], "what is read is to be as new as what was written");
    for key in ["l/1", "l/2", "l/3"] {
        context.put(key, "x").await.unwrap();
    }
    let keys: Vec<_> = context.list("l/").await.unwrap().into_iter().map(|head| head.key).collect();
    assert_eq!(keys, ["l/1", "l/2", "l/3"], "over two pages");
    context.delete("k").await.unwrap();
    assert_eq!(context.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn the_other_calls_arrive_as_they_were_made() {
    let kept = Kept::default();
    let scene = Scene::with_agent(&kept);
    let context = &scene.context;
    assert_eq!(context.checkpoint().await.unwrap(), None);
    context.set_checkpoint(b"7".as_slice()).await.unwrap();
    assert_eq!(context.checkpoint().await.unwrap(), Some(b"7".to_vec()));
    context.add_status_line("progress", "half").await.unwrap();
    context.emergency_disable("no licence").await.unwrap();
    context.emergency_quarantine(UNIX_EPOCH + Duration::from_millis(1234), "a pause").await.unwrap();
    assert_eq!(kept.content().said, ["progress: half", "no licence", "1234: a pause"]);
    let secret = context.secret("token").await.unwrap();
    assert_eq!((secret.text(), format!("{secret:?}").as_str()), (Some("hunter2"), "Secret(…)"));
    let error = context.secret("other").await.unwrap_err();
    assert_eq!(
        (error.why(), error.to_string().as_str()),
        (Some(Why::NotFound), "GetSecret: there is no secret other")
    );
    let [peer] = context.peers().await.unwrap().try_into().unwrap();
    assert_eq!((peer.name.as_str(), peer.labels), ("/a", vec!["a".to_owned()]));
}

#[tokio::test]
async fn a_process_speaks_for_its_keepers_bucket_whatever_it_says() {
    let kept = Kept::default();
    let scene = Scene::with_agent(&kept);
    let mut client = ClusterServiceClient::new(keeper_channel(&scene.socket).await.unwrap());
    let mut request = tonic::Request::new(crate::proto::GetObjectRequest { key: "k".to_owned() });
    request.metadata_mut().insert("sheaf-bucket", "/other".parse().unwrap());
    request.metadata_mut().insert("sheaf-revision", "99".parse().unwrap());
    client.get_object(request).await.unwrap_err();
    assert_eq!(kept.content().asked, [("/a".to_owned(), std::process::id(), 0)]);
}

#[tokio::test]
async fn an_agent_that_is_away_is_waited_for_and_then_said() {
    let mut scene = Scene::new();
    let error = scene.context.within(Duration::from_millis(50)).put("k", "v").await.unwrap_err();
    assert_eq!(error.why(), Some(Why::Unavailable));
    assert!(error.to_string().starts_with("PutObject: the node's agent does not answer"), "{error}");
    let context = scene.context.clone();
    let waiting = tokio::spawn(async move { context.put("k", "v").await });
    let kept = Kept::default();
    kept.content().away = 2;
    let (listener, served) = (UnixListener::bind(&scene.agent).unwrap(), kept.clone());
    scene.tasks.spawn(async move { drop(serve_cluster(listener, served).await) });
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
    assert_eq!(kept.content().away, 0, "nor were answers taken that told to ask again");
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_after_what_was_synced() {
    let scene = Scene::with_agent(&Kept::default());
    let mut watch = scene.context.watch("");
    let mut steps = Vec::new();
    for _ in 0..6 {
        let ObjectStep { revision, change } = watch.next().await.unwrap();
        steps.push((revision, change));
    }
    let gone = || ObjectChange::Gone("k".to_owned());
    let expected = [
        (1, ObjectChange::Reset),
        (7, ObjectChange::Synced),
        (8, gone()),
        (8, ObjectChange::Synced),
        (9, gone()),
        (9, ObjectChange::Synced),
    ];
    assert_eq!(steps, expected);
}

/// A keeper that was stopped: the kernel still takes connections for it.
#[tokio::test]
async fn a_keeper_that_never_answers_is_given_up() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("context");
    let _silent = UnixListener::bind(&socket).unwrap();
    let context = Context::new(Instance::default(), Some(socket)).within(Duration::from_millis(100));
    let error = context.set_status("fine").await.unwrap_err();
    assert_eq!(error.why(), Some(Why::Unavailable), "{error}");
    let error = context.get("k").await.unwrap_err();
    assert_eq!(error.why(), Some(Why::Unavailable), "{error}");
    let error = context.watch("").next().await.unwrap_err();
    assert_eq!(error.why(), Some(Why::Unavailable), "{error}");
}
