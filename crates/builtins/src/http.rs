//! `builtin:http`: a subtask is posted to a service, which is then asked how it is until it has ended.
//!
//! ```text
//!  subtask ─► post ──── POST, idempotency-key: CLUSTER-JOB-SUBTASK-ATTEMPT ───► 2xx and its id
//!              │ no answer, 5xx: the same once more     429: not now   else 3xx, 4xx: refused
//!              ▼
//!             follow ── GET, now and then ───► finished: its answer is the output      failed: with its message
//!              │ no answer, 5xx, 429: waits, longer each time     404 soon after the post: not yet
//!              ▼
//!             stopped, or given up ── DELETE
//! ```
//!
//! One attempt makes one upstream job, however often its post is sent, as long as the service knows a key again that it has
//! seen. Which service that is says the backend that the attempt goes through: `config` is how its `config` reads. What the
//! service is doing for a process that was killed is deleted by the job's next process on that node (`kept`).

mod client;
mod config;
mod kept;
mod template;
mod upstream;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sheaf_module::{Failure, Job, Module, ServeError, Subtask, serve};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::config::Config;
use self::kept::{Kept, Under};
use self::template::Scope;
use self::upstream::Upstream;
use crate::{CLUSTER, JOB_ID, KEPT};

/// Subtasks at a time, as far as the node has slots: they wait nearly always.
const AT_ONCE: u32 = 256;
/// For what is to be deleted upstream when the process is to end; less than a module's grace by default.
const LAST_WORDS: Duration = Duration::from_secs(8);
/// A service that asks to be left alone and not for how long.
pub(crate) const PAUSE: Duration = Duration::from_secs(10);

/// What all subtasks of this process share.
#[derive(Debug, Default)]
struct Shared {
    job: OnceLock<Job>,
    /// `CLUSTER-JOB`, which begins every key.
    origin: String,
    kept: Option<Kept>,
    /// By backend: what its document said, and what that means.
    configs: Mutex<BTreeMap<String, (String, Arc<Config>)>>,
    /// Backends that are to be left alone until then.
    pauses: Mutex<BTreeMap<String, Instant>>,
    /// What is under way, and what is still to be deleted.
    tasks: TaskTracker,
}

/// The module.
#[derive(Clone, Debug, Default)]
struct Http(Arc<Shared>);

/// Runs the module until its caller has no more for it.
pub(crate) fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(run()),
        Err(error) => {
            eprintln!("sheaf builtin http: its runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sheaf builtin http: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), ServeError> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let origin = format!("{}-{}", variable(CLUSTER), variable(JOB_ID));
    let kept = Kept::new(std::env::var_os(KEPT).map(Into::into));
    let http = Http(Arc::new(Shared { origin, kept: Some(kept), ..Shared::default() }));
    let served = serve(http.clone()).await;
    // Subtasks are broken off by that, and what they have posted is deleted.
    http.0.tasks.close();
    if tokio::time::timeout(LAST_WORDS, http.0.tasks.wait()).await.is_err() {
        eprintln!("sheaf builtin http: not everything could be deleted upstream within {LAST_WORDS:?}");
    }
    served
}

impl Module for Http {
    fn at_once(&self) -> u32 {
        AT_ONCE
    }

    async fn on_job(&self, job: Job) -> Result<(), Failure> {
        let _ = self.0.job.set(job); // a process works for one
        for under in self.0.kept.as_ref().map(Kept::left).unwrap_or_default() {
            let shared = self.0.clone();
            self.0.tasks.spawn(async move { shared.delete_left(under).await });
        }
        Ok(())
    }

    async fn on_subtask(&self, subtask: Subtask) -> Result<(), Failure> {
        let config = self.0.config(&subtask.backend, &subtask.backend_config_json)?;
        let scope = Scope {
            item: subtask.item()?,
            job: self.0.job.get().map(|job| job.name.clone()).unwrap_or_default(),
            subtask: subtask.number,
            attempt: subtask.attempt,
            backend: subtask.backend.clone(),
            key: format!("{}-{}-{}", self.0.origin, subtask.number, subtask.attempt),
            id: None,
        };
        let written = subtask.backend_config_json.clone();
        Upstream { shared: self.0.clone(), config, written, scope }.run(&subtask).await
    }
}

impl Shared {
    /// What a backend's document says in `config`.
    fn config(&self, backend: &str, written: &str) -> Result<Arc<Config>, Failure> {
        if backend.is_empty() {
            return Err(Failure::refused(
                "builtin:http sends subtasks through backends, and the job names none; backends: [NAME]",
            ));
        }
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, config)) = configs.get(backend)
            && known == written
        {
            return Ok(config.clone());
        }
        let wrong = |error: String| Failure::refused(format!("config of backend {backend}: {error}"));
        let config = Arc::new(Config::read(written).map_err(wrong)?);
        configs.insert(backend.to_owned(), (written.to_owned(), config.clone()));
        Ok(config)
    }

    /// Leaves a backend alone for so long.
    fn pause(&self, backend: &str, pause: Duration) {
        let until = Instant::now() + pause;
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pauses.entry(backend.to_owned()).or_insert(until);
        *known = until.max(*known);
    }

    /// Waits while a backend is to be left alone.
    async fn allowed(&self, backend: &str) {
        loop {
            let until = self.pauses.lock().unwrap_or_else(PoisonError::into_inner).get(backend).copied();
            match until.filter(|until| Instant::now() < *until) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }

    /// Deletes what a process of this job that was killed has left upstream.
    async fn delete_left(self: Arc<Self>, under: Under) {
        let Under { subtask, attempt, backend, config: written, item, id } = under;
        let config = match self.config(&backend, &written) {
            Ok(config) => config,
            Err(error) => return eprintln!("sheaf builtin http: {id} stays upstream: {error}"),
        };
        let job = self.job.get().map(|job| job.name.clone()).unwrap_or_default();
        let key = format!("{}-{subtask}-{attempt}", self.origin);
        let scope = Scope { item, job, subtask, attempt, backend, key, id: Some(id) };
        Upstream { shared: self, config, written, scope }.delete().await;
    }
}
