//! What a job's worker may ask: the secrets that its module's document lists, as they were when it was last given something.
//!
//! Everything else of `sheaf.module.v1.ClusterService` is about a bucket, which a worker has not, and is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use sheaf_model::{Facts, NodeName, Sealed, SecretName};
use sheaf_module::host::{ClusterApi, Line, Put, Steps, serve_cluster};
use sheaf_module::{Node, Object, ObjectPage, Refused, Secret, Why};
use sheaf_seal::Key;
use tokio::net::UnixListener;
use tokio_util::task::AbortOnDropHandle;

use super::{Job, Place};
use crate::keeper::layout;
use crate::secrets;

type Told = Arc<Mutex<BTreeMap<SecretName, Sealed>>>;

/// Answers one worker.
pub(super) struct Confidant {
    listener: UnixListener,
    answers: Answers,
}

/// One that does, until this is dropped.
#[derive(Debug)]
pub(super) struct Confided {
    told: Told,
    _task: AbortOnDropHandle<()>,
}

struct Answers {
    /// Whom it answers, e.g. `ndvi@2`.
    module: String,
    listed: BTreeSet<SecretName>,
    told: Told,
    key: Option<Arc<Key>>,
    node: NodeName,
}

/// Where a worker that serves its module at `socket` is answered.
pub(super) fn socket(socket: &Path) -> PathBuf {
    socket.with_file_name("c")
}

impl Confidant {
    /// For a worker of this job that will serve at `socket`, whose directory is there; none: its module lists no secrets. The
    /// error is for people.
    pub(super) fn of(job: &Job, place: &Place, facts: &Facts, socket: &Path) -> Result<Option<Self>, String> {
        if job.module.secrets.is_empty() {
            return Ok(None);
        }
        let socket = self::socket(socket);
        let length = socket.as_os_str().len();
        if length > layout::SOCKET_PATH_MAX {
            return Err(layout::too_long(&socket));
        }
        let listener = listen(&socket).map_err(|error| format!("{}: {error}", socket.display()))?;
        let listed = job.module.secrets.iter();
        let answers = Answers {
            module: job.spec.module.to_string(),
            listed: listed.filter_map(|name| SecretName::new(name.literal()?).ok()).collect(),
            told: Arc::new(Mutex::new(job.secrets.clone())),
            key: place.key.clone(),
            node: facts.name.clone(),
        };
        Ok(Some(Self { listener, answers }))
    }

    /// Begins to answer.
    pub(super) fn serve(self) -> Confided {
        let Self { listener, answers } = self;
        let told = answers.told.clone();
        let task = tokio::spawn(async move {
            let module = answers.module.clone();
            if let Err(error) = serve_cluster(listener, answers).await {
                tracing::warn!(%error, module, "its workers are told no secrets any more");
            }
        });
        Confided { told, _task: AbortOnDropHandle::new(task) }
    }
}

impl Confided {
    /// The secrets as they are now.
    pub(super) fn update(&self, secrets: &BTreeMap<SecretName, Sealed>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != *secrets {
            told.clone_from(secrets);
        }
    }
}

/// A socket that is there is a former life's: no ticket is given twice in one.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(socket)
}

impl Answers {
    fn open(&self, name: &str) -> Result<Secret, Refused> {
        let Self { module, .. } = self;
        let invalid = |text: String| Refused::new(Why::Invalid, text);
        let name =
            SecretName::new(name).map_err(|error| invalid(format!("{}: {}", error.problem, error.remedy)))?;
        if !self.listed.contains(&name) {
            return Err(invalid(format!(
                "module {module} does not name secret {name}; list it under secrets in its document"
            )));
        }
        let sealed = self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        let Some(sealed) = sealed else {
            let text = format!("secret {name} is not set yet: sheaf secret set {name}");
            return Err(Refused::new(Why::NotFound, text));
        };
        let value = secrets::open(self.key.as_deref(), &self.node, &name, &sealed)?;
        Ok(Secret::new(value.reveal().to_vec()))
    }
}

fn no_bucket<T>() -> Result<T, Refused> {
    let text = "a worker works for a job and has no bucket: it may ask for secrets alone";
    Err(Refused::new(Why::Fenced, text))
}

/// Whoever can enter the socket's directory is the worker.
impl ClusterApi for Answers {
    type Speaker = ();

    async fn speaker(&self, _bucket: &str, _process: u32) -> Result<(), Refused> {
        Ok(())
    }

    async fn get_object(&self, (): (), _seen: u64, _key: String) -> Result<Option<Object>, Refused> {
        no_bucket()
    }

    async fn put_object(&self, (): (), _put: Put) -> Result<u64, Refused> {
        no_bucket()
    }

    async fn delete_object(&self, (): (), _key: String, _expected: Option<u64>) -> Result<u64, Refused> {
        no_bucket()
    }

    async fn list_objects(
        &self,
        (): (),
        _seen: u64,
        _prefix: String,
        _size: u32,
        _token: String,
    ) -> Result<ObjectPage, Refused> {
        no_bucket()
    }

    async fn watch_objects(
        &self,
        (): (),
        _seen: u64,
        _prefix: String,
        _after: Option<u64>,
    ) -> Result<Steps, Refused> {
        no_bucket()
    }

    async fn checkpoint(&self, (): (), _seen: u64) -> Result<Vec<u8>, Refused> {
        no_bucket()
    }

    async fn set_checkpoint(&self, (): (), _checkpoint: Vec<u8>) -> Result<u64, Refused> {
        no_bucket()
    }

    async fn add_status_line(&self, (): (), _line: Line) -> Result<u64, Refused> {
        no_bucket()
    }

    async fn emergency_disable(&self, (): (), _reason: String) -> Result<u64, Refused> {
        no_bucket()
    }

    async fn emergency_quarantine(
        &self,
        (): (),
        _until: SystemTime,
        _reason: String,
    ) -> Result<u64, Refused> {
        no_bucket()
    }

    async fn peers(&self, (): (), _seen: u64) -> Result<Vec<Node>, Refused> {
        no_bucket()
    }

    async fn secret(&self, (): (), name: String) -> Result<Secret, Refused> {
        self.open(&name)
    }
}
