//! A module tried on its developer's machine: its program is started, asked and ended as a node would, without any cluster.
//!
//! ```text
//!  Workbench ── starts ──► a keeper ──► the module's program
//!     │  └─ Hello, OnInit, OnNewSource … ────────►│
//!     └── context, and a cluster in memory ◄──────┘
//! ```
//!
//! The keepers are those that are asked gate 3 elsewhere: they tell their program nothing, and end it with us, however we end.
//! Read [`Workbench`], then `process` (one start of the program), `memory` (the cluster), and the ways to use it: `run` for buckets,
//! `work` for jobs, and `conformance`.

mod conformance;
mod memory;
mod process;
mod run;
mod work;

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sheaf_engine::gates::Here;
use sheaf_model::{BucketSpec, JobName, Json, ModuleSpec, NodeName, Revision, SecretName, SecretValue, Span};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::memory::{Memory, Served};
use crate::executor::plan;
use crate::keeper::layout;
use crate::keepers::{KeeperError, KeeperOptions, Keepers};

/// What is seen of a module that is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A line of its standard output.
    Output(String),
    /// A line of its standard error.
    Errors(String),
    /// What it says of itself now.
    Status(String),
    /// A line for the bucket's history, and its kind.
    Line(String, String),
    /// A call was made, or it asked for something.
    Did(String),
    /// A check: its name, and what was found, or why it failed.
    Checked(&'static str, Result<String, String>),
}

/// What a worker is tried with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriedJob {
    /// Its name.
    pub name: JobName,
    /// What its subtasks are about.
    pub items: Vec<Json>,
    /// How long a subtask may take.
    pub timeout: Option<Span>,
}

/// Why a module could not be tried, or what it did wrong.
#[derive(Debug, thiserror::Error)]
pub enum WorkbenchError {
    /// There is no place for it.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its keeper cannot be started.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The module did wrong; in words for people.
    #[error("{0}")]
    Module(String),
}

/// A place of its own for one module and one bucket. Removed when it is dropped.
#[derive(Debug)]
pub struct Workbench {
    module: ModuleSpec,
    bucket: BucketSpec,
    /// Of a worker: the job.
    job: Option<TriedJob>,
    binary: PathBuf,
    here: Here,
    node: NodeName,
    keepers: Keepers,
    memory: Arc<Memory>,
    /// Whoever looks on is told everything here; if nobody takes it, it is left out.
    seen: mpsc::Sender<Seen>,
    _cluster: AbortOnDropHandle<()>,
    _dir: TemporaryDir,
}

impl Workbench {
    /// For a module of `runtime: plugin`, which is given these secrets; `binary` is what keepers are started with. Within a
    /// runtime.
    ///
    /// # Errors
    /// If there is no room for it among the temporary files.
    pub fn open(
        module: ModuleSpec,
        bucket: BucketSpec,
        secrets: BTreeMap<SecretName, SecretValue>,
        binary: &Path,
        seen: mpsc::Sender<Seen>,
    ) -> Result<Self, WorkbenchError> {
        let dir = TemporaryDir::make()?;
        let keepers = Keepers::open(KeeperOptions { data_dir: dir.0.clone(), binary: binary.to_owned() })?;
        let socket = layout::agent_socket(keepers.data_dir());
        let failed = |operation| {
            let path = socket.clone();
            move |source| WorkbenchError::Io { operation, path, source }
        };
        let sockets = socket.parent().unwrap_or(keepers.data_dir());
        layout::make_dir(sockets).map_err(KeeperError::from)?;
        let listener = UnixListener::bind(&socket).map_err(failed("listen at"))?;
        let hostname = hostname::get()
            .map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned());
        let node = NodeName::new("here").expect("four letters are a name");
        let here = Here { name: node.to_string(), hostname, ..Here::default() };
        let named = module.secrets_for(&bucket);
        let memory = Memory::new(plan::node(&here), seen.clone()).with_secrets(named, secrets);
        let memory = Arc::new(memory);
        let cluster = tokio::spawn(Served(memory.clone()).serve(listener));
        Ok(Self {
            module,
            bucket,
            job: None,
            binary: binary.to_owned(),
            here,
            node,
            keepers,
            memory,
            seen,
            _cluster: AbortOnDropHandle::new(cluster),
            _dir: dir,
        })
    }

    /// The same for a worker, which is given the subtasks of a job; the bucket is what stands for it at gate 3.
    #[must_use]
    pub fn for_job(self, job: TriedJob) -> Self {
        Self { job: Some(job), ..self }
    }

    fn told(&self) -> sheaf_module::Bucket {
        plan::bucket(&self.bucket, Revision(1))
    }

    async fn see(&self, seen: Seen) {
        // Nobody looks on any more.
        let _ = self.seen.send(seen).await;
    }
}

/// Nobody else's, and gone with us.
#[derive(Debug)]
struct TemporaryDir(PathBuf);

impl TemporaryDir {
    fn make() -> Result<Self, WorkbenchError> {
        // Short: a socket's path may have 100 bytes.
        let chance = uuid::Uuid::new_v4().simple().to_string();
        let path = std::env::temp_dir().join(format!("sheaf-try-{}", &chance[..8]));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(WorkbenchError::Io { operation: "make the directory", path, source }),
        }
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // What cannot be removed stays among the temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
