//! The line to one worker: a task that shakes hands, has it work for a job, and keeps what its subtasks print.
//!
//! ```text
//!  workers ── bundles, stops ──► line ── Work ──► the worker's process, which the runner has started
//!          ◄─ Ready, Ends, Silent ┤ ◄──────────────┘
//!                                 └── output ──► the attempts' files
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_model::{Attempt, Call, Sealed, SecretName};
use sheaf_module::host::{End, Given, Printed, Told, Work};
use sheaf_module::{Job, Subtask};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Place;
use super::confide::{Confidant, Confided};
use super::start::OUTPUT;
use crate::keeper::output::{Output, STDERR, STDOUT};
use crate::keeper::{caller, clock};

/// How long a worker may take from Hello to its first message: what it loads for its job is loaded by then.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Messages that wait for a worker to read them. There are a few for each bundle, and no more bundles than the node has slots, all
/// of which it may be given in one go.
const GIVEN: usize = 1 << 16;

/// What is heard of a worker, by the ticket of its process.
#[derive(Debug)]
pub(super) enum Heard {
    /// It takes so many bundles at a time.
    Ready(u32),
    /// Subtasks have ended, and all they printed is kept.
    Ends(Vec<End>),
    /// Nothing more comes, and why; for people.
    Silent(String),
}

/// Whom to speak with.
#[derive(Debug)]
pub(super) struct Other {
    /// The runner's ticket for its process.
    pub(super) ticket: u64,
    /// Where it serves its module.
    pub(super) socket: PathBuf,
    /// What it works for.
    pub(super) job: Job,
}

/// See the module. Dropping it ends the connection.
#[derive(Debug)]
pub(super) struct Line {
    give: mpsc::Sender<Given>,
    /// What it has in hand, by id.
    attempts: Attempts,
    /// What answers it about secrets, if its module lists some.
    confided: Option<Confided>,
    _task: AbortOnDropHandle<()>,
}

type Attempts = Arc<Mutex<BTreeMap<u64, Attempt>>>;

impl Line {
    /// Opens one to a process that is about to start.
    pub(super) fn open(
        other: Other,
        place: Place,
        confidant: Option<Confidant>,
        tell: mpsc::Sender<(u64, Heard)>,
    ) -> Self {
        let (give, given) = mpsc::channel(GIVEN);
        let attempts = Attempts::default();
        let listener = Listener { other, place, tell, attempts: attempts.clone(), outputs: BTreeMap::new() };
        let confided = confidant.map(Confidant::serve);
        Self { give, attempts, confided, _task: AbortOnDropHandle::new(tokio::spawn(listener.run(given))) }
    }

    /// One at whose other end nobody is.
    #[cfg(test)]
    pub(super) fn to_nobody() -> Self {
        let (give, mut given) = mpsc::channel(GIVEN);
        let task = tokio::spawn(async move { while given.recv().await.is_some() {} });
        let attempts = Attempts::default();
        Self { give, attempts, confided: None, _task: AbortOnDropHandle::new(task) }
    }

    /// Hands over a bundle. False: it does not read what it is given.
    pub(super) fn give(&self, bundle: Vec<Subtask>, attempts: impl Iterator<Item = Attempt>) -> bool {
        let ids: Vec<u64> = bundle.iter().map(|it| it.id).collect();
        lock(&self.attempts).extend(ids.into_iter().zip(attempts));
        self.give.try_send(Given { bundles: vec![bundle], stop: Vec::new() }).is_ok()
    }

    /// These are the secrets now, of which it may be given those that its module lists.
    pub(super) fn confide(&self, secrets: &BTreeMap<SecretName, Sealed>) {
        if let Some(confided) = &self.confided {
            confided.update(secrets);
        }
    }

    /// Has it stop some, by id. False: it does not read what it is given.
    pub(super) fn stop(&self, ids: Vec<u64>) -> bool {
        ids.is_empty() || self.give.try_send(Given { bundles: Vec::new(), stop: ids }).is_ok()
    }
}

fn forget(attempts: &mut BTreeMap<u64, Attempt>, ends: &[End]) {
    for end in ends {
        attempts.remove(&end.id);
    }
}

fn lock(attempts: &Attempts) -> std::sync::MutexGuard<'_, BTreeMap<u64, Attempt>> {
    // All holds are short, and none crosses an await.
    attempts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task behind a line.
struct Listener {
    other: Other,
    place: Place,
    tell: mpsc::Sender<(u64, Heard)>,
    attempts: Attempts,
    /// Of subtasks that have printed something, by id.
    outputs: BTreeMap<u64, Output>,
}

impl Listener {
    async fn run(mut self, given: mpsc::Receiver<Given>) {
        let why = match self.talk(given).await {
            Ok(()) => "Work: it ended the stream by itself".to_owned(),
            Err(why) => why,
        };
        self.tell(Heard::Silent(why)).await;
    }

    /// Until the worker ends it. The error is for people.
    async fn talk(&mut self, given: mpsc::Receiver<Given>) -> Result<(), String> {
        let limit = Call::Hello.limit();
        let until = Instant::now() + limit.duration();
        let host = caller::greet(&self.other.socket, limit, until).await?;
        let ready = timeout(READY_WITHIN, host.work(self.other.job.clone(), given)).await;
        let ready = ready.map_err(|_| format!("Work: no first message within {READY_WITHIN:?}"))?;
        let mut work = ready.map_err(|error| match error {
            sheaf_module::host::CallError::Unimplemented { .. } => {
                "Work: it does not implement this call, and its document says worker: true".to_owned()
            }
            error => error.to_string(),
        })?;
        self.tell(Heard::Ready(work.at_once)).await;
        while let Some(told) = next(&mut work).await? {
            let ends = self.keep(told).await?;
            if !ends.is_empty() {
                self.tell(Heard::Ends(ends)).await;
            }
        }
        Ok(())
    }

    /// The loop ends with the agent.
    async fn tell(&self, heard: Heard) {
        let _ = self.tell.send((self.other.ticket, heard)).await;
    }

    /// Keeps what was printed. Of those that failed without a word their last lines are the message.
    async fn keep(&mut self, told: Told) -> Result<Vec<End>, String> {
        let Told { output, mut ends } = told;
        if output.is_empty() && self.outputs.is_empty() {
            forget(&mut lock(&self.attempts), &ends);
            return Ok(ends);
        }
        let mut files = Vec::new();
        {
            let mut attempts = lock(&self.attempts);
            for printed in output {
                let attempt = attempts.get(&printed.id).copied().ok_or_else(|| {
                    format!("its worker prints for subtask id {}, which it does not have", printed.id)
                })?;
                files.push((printed, attempt));
            }
            forget(&mut attempts, &ends);
        }
        let (place, outputs) = (self.place.clone(), std::mem::take(&mut self.outputs));
        // Files may wait for a disk.
        let kept = tokio::task::spawn_blocking(move || {
            let mut outputs = write(&place, files, outputs);
            finish(&mut outputs, &mut ends);
            (outputs, ends)
        });
        let (outputs, ends) = kept.await.map_err(|error| format!("its output: {error}"))?;
        self.outputs = outputs;
        Ok(ends)
    }
}

async fn next(work: &mut Work) -> Result<Option<Told>, String> {
    work.next().await.map_err(|error| error.to_string())
}

fn write(
    place: &Place,
    printed: Vec<(Printed, Attempt)>,
    mut outputs: BTreeMap<u64, Output>,
) -> BTreeMap<u64, Output> {
    let at = clock::wall();
    for (Printed { id, text, error }, attempt) in printed {
        let output = outputs.entry(id).or_insert_with(|| Output::made_late(place.output(attempt), OUTPUT));
        output.take(if error { STDERR } else { STDOUT }, &text, at);
    }
    outputs
}

/// Of those that have ended.
fn finish(outputs: &mut BTreeMap<u64, Output>, ends: &mut [End]) {
    for end in ends {
        let Some(mut output) = outputs.remove(&end.id) else { continue };
        output.finish(clock::wall());
        if end.message.trim().is_empty() {
            end.message = output.last_lines();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_may_be_given_thousands_of_bundles_in_one_go() {
        let line = Line::to_nobody();
        assert!((0..10_000).all(|_| line.give(Vec::new(), std::iter::empty())));
    }
}
