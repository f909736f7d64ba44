//! A worker takes the subtasks of a job, as on a node, each once.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use sheaf_model::session::OrderedSubtask;
use sheaf_model::{Json, Span};
use sheaf_module::host::{End, Given, Told, Work};
use sheaf_module::{Subtask, SubtaskResult};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::conformance::{Found, Report, orderly};
use super::process::{For, Process, Wrong};
use super::{Seen, TriedJob, Workbench, WorkbenchError};
use crate::checks::ended;
use crate::keeper::clock;
use crate::work::hands::{Hands, Now, Terms, Why};

/// As on a node: see `crate::work`.
const READY_WITHIN: Span = Span::seconds(30);
/// Messages to the worker that it has not read.
const GIVEN: usize = 1024;
/// How long a check may take.
const CHECK_WITHIN: Duration = Duration::from_secs(60);
/// Subtasks of a bundle in checks.
const BUNDLE: usize = 20;
/// An item as large as one may well be.
const LARGE: usize = 400 << 10;

/// How the subtasks of a job went.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    finished: usize,
    failed: usize,
}

/// A stream to a worker that is ready.
struct Working {
    give: mpsc::Sender<Given>,
    work: Work,
}

impl Workbench {
    /// Asks gate 3, then has the worker take the job's subtasks until they have ended, or until `stop`, and ends it.
    ///
    /// # Errors
    /// If the module refuses, fails, or ends by itself, or one of the subtasks fails.
    pub fn work<'a>(
        &'a self,
        stop: LocalBoxFuture<'a, ()>,
    ) -> LocalBoxFuture<'a, Result<(), WorkbenchError>> {
        Box::pin(self.work_until(stop))
    }

    async fn work_until(&self, mut stop: LocalBoxFuture<'_, ()>) -> Result<(), WorkbenchError> {
        let job = self.job.as_ref().ok_or_else(|| wrong("there is no job to try"))?;
        self.ask().await?;
        let process = self.start(For::Job).await?;
        let work = async {
            let working = begin(&process, job).await.map_err(|wrong| wrong.why)?;
            self.see(Seen::Did(format!("it takes {} at once; Ctrl-C ends it", working.work.at_once))).await;
            self.all(&process, job, working).await
        };
        let done = tokio::select! {
            // It is ended next, whatever was under way.
            () = &mut stop => Ok(None),
            done = work => done.map(Some),
        };
        let until = Instant::now() + self.module.stop.grace.duration();
        let last = process.end(until).await;
        let done = done.map_err(WorkbenchError::Module)?;
        self.see(Seen::Did(ended(&last.map_err(WorkbenchError::Module)?))).await;
        match done {
            Some(Sums { failed: 0, .. }) | None => Ok(()),
            Some(Sums { failed, .. }) => Err(wrong(&format!("{failed} of its subtasks failed"))),
        }
    }

    /// Every subtask of the job. The error is for people.
    async fn all(&self, process: &Process<'_>, job: &TriedJob, working: Working) -> Result<Sums, String> {
        let Working { give, mut work } = working;
        let grace = self.module.stop.grace.duration();
        let timeout = job.timeout.map(Span::duration);
        let mut hands = Hands::new(Terms { at_once: work.at_once as usize, timeout, grace });
        let mut left = (0_u32..).zip(&job.items).map(|(n, item)| ordered(n, item)).peekable();
        let mut sums = Sums::default();
        loop {
            while hands.has_room() && left.peek().is_some() {
                let size = hands.bundle_size();
                let bundle = hands.take(left.by_ref().take(size).collect(), now());
                say(&give, Given { bundles: vec![bundle], stop: Vec::new() })?;
            }
            if hands.bundles() == 0 {
                let Sums { finished, failed } = sums;
                self.see(Seen::Did(format!("{finished} finished, {failed} failed"))).await;
                return Ok(sums);
            }
            let due = hands.due();
            tokio::select! {
                // Neither loses anything: what was told stays in the stream.
                told = work.next() => {
                    let told = told.map_err(|error| error.to_string())?;
                    let told = told.ok_or("Work: it ended the stream by itself")?;
                    self.hear(told, &mut hands, &mut sums).await?;
                }
                last = process.handle.ended() => return Err(ended(&last)),
                () = wait(due) => {
                    let due = hands.tick(now());
                    if due.disobeyed {
                        return Err("it did not stop what it was to stop within its grace".to_owned());
                    }
                    if !due.stop.is_empty() {
                        say(&give, Given { bundles: Vec::new(), stop: due.stop })?;
                    }
                }
            }
        }
    }

    async fn hear(&self, told: Told, hands: &mut Hands, sums: &mut Sums) -> Result<(), String> {
        for printed in told.output {
            let text = String::from_utf8_lossy(&printed.text).into_owned();
            for line in text.lines() {
                let line = line.to_owned();
                self.see(if printed.error { Seen::Errors(line) } else { Seen::Output(line) }).await;
            }
        }
        for End { id, result, message } in told.ends {
            let over = hands.ended(id, result, now()).map_err(|strange| strange.to_string())?;
            let which = over.subtask.subtask;
            let failed = match (result, over.why) {
                (SubtaskResult::Finished, _) => None,
                (
                    SubtaskResult::Failed
                    | SubtaskResult::Backend
                    | SubtaskResult::Refused
                    | SubtaskResult::NotNow(_),
                    _,
                ) => Some(message),
                (_, Some(Why::TimedOut)) => Some("it ran for longer than it may".to_owned()),
                // It stood behind one that takes long: on a node it would run elsewhere.
                (SubtaskResult::NotBegun | SubtaskResult::Stopped, _) => {
                    self.see(Seen::Did(format!("subtask {which} was left out, behind one that takes long")))
                        .await;
                    continue;
                }
            };
            match failed {
                None => sums.finished += 1,
                Some(why) => {
                    sums.failed += 1;
                    self.see(Seen::Did(format!("subtask {which} failed: {why}"))).await;
                }
            }
        }
        Ok(())
    }
}

impl Report<'_> {
    /// A job's process, with all that can be asked of it.
    pub(super) async fn work(&mut self) -> Result<(), WorkbenchError> {
        let bench = self.bench;
        let Some(job) = &bench.job else { return Ok(()) };
        let Some(process) = self.started("handshake of a job's process", For::Job).await? else {
            return Ok(());
        };
        let begun = begin(&process, job).await;
        let ready = begun.as_ref().map(|working| format!("{} at once", working.work.at_once));
        if self.note("Work begins with at_once", ready.map_err(|wrong| wrong.why.clone())).await
            && let Ok(working) = begun
        {
            let mut checking = Checking { working, next: 0 };
            self.subtasks(&process, job, &mut checking).await;
        }
        let grace = bench.module.stop.grace.duration();
        let last = process.end(Instant::now() + grace).await;
        self.note("it ends within its grace", last.clone().and_then(|last| orderly(&last))).await;
        let left = match last {
            Ok(last) if last.left.is_empty() => Ok(String::new()),
            Ok(last) => Err(format!("it ended while these were alive: {}", last.left.join(", "))),
            Err(why) => Err(why),
        };
        self.note("it leaves nothing behind", left).await;
        Ok(())
    }

    /// Until one fails: after that nothing is known of the stream.
    async fn subtasks(&mut self, process: &Process<'_>, job: &TriedJob, checking: &mut Checking) {
        let some: Vec<String> = job.items.iter().map(|item| item.as_str().to_owned()).collect();
        if some.is_empty() {
            self.note("a bundle is answered", Err("the job has no subtask to try it with".to_owned())).await;
            return;
        }
        let items: Vec<String> = some.iter().cycle().take(BUNDLE).cloned().collect();
        let one = |text: &str| vec![vec![text.to_owned()]];
        let at_once = checking.working.work.at_once.min(64) as usize;
        let strange = "{\"no such\": [\"item\"]}";
        let large = format!("\"{}\"", "x".repeat(LARGE));
        let checks: [(&'static str, Vec<Vec<String>>, usize); 6] = [
            ("a bundle is answered", vec![items.clone()], 0),
            ("bundles side by side are answered", vec![items[..2].to_vec(); at_once], 0),
            ("an item that it cannot know is answered", one(strange), 0),
            ("a large item is answered", one(&large), 0),
            ("what is to be stopped is answered", vec![items.clone()], BUNDLE / 2),
            ("it still answers after all that", vec![items], 0),
        ];
        for (check, bundles, stopped) in checks {
            let found = tokio::select! {
                // Nothing is asked of it afterwards.
                found = timeout(CHECK_WITHIN, checking.answered(bundles, stopped)) => {
                    found.unwrap_or_else(|_| Err(format!("not all was answered within {CHECK_WITHIN:?}")))
                }
                last = process.handle.ended() => Err(ended(&last)),
            };
            if !self.note(check, found).await {
                return;
            }
        }
    }
}

/// A stream on which checks are made.
struct Checking {
    working: Working,
    next: u64,
}

impl Checking {
    /// Gives bundles, has the last so many subtasks stopped, and waits until each is answered once.
    async fn answered(&mut self, bundles: Vec<Vec<String>>, stopped: usize) -> Found {
        let mut open = BTreeMap::new();
        let mut given = Vec::new();
        for items in bundles {
            let first = self.next;
            self.next += items.len() as u64;
            let number = |id: u64| u32::try_from(id).unwrap_or(u32::MAX);
            let all = (first..).zip(items).map(|(id, item)| Subtask::new(id, number(id), 1, item));
            given.push(all.collect::<Vec<_>>());
            open.extend((first..self.next).map(|id| (id, false)));
        }
        for (_, stops) in open.iter_mut().rev().take(stopped) {
            *stops = true;
        }
        let stop: Vec<u64> = open.iter().filter(|(_, stops)| **stops).map(|(id, _)| *id).collect();
        let give = &self.working.give;
        say(give, Given { bundles: given, stop: Vec::new() })?;
        if !stop.is_empty() {
            // And one that was answered long ago.
            let stop = stop.into_iter().chain([0]).collect();
            say(give, Given { bundles: Vec::new(), stop })?;
        }
        let mut sums: BTreeMap<&str, usize> = BTreeMap::new();
        while !open.is_empty() {
            let told = self.working.work.next().await.map_err(|error| error.to_string())?;
            let told = told.ok_or("Work: it ended the stream by itself")?;
            if let Some(printed) = told.output.iter().find(|it| !open.contains_key(&it.id)) {
                return Err(format!("it prints for subtask id {}, which it does not have", printed.id));
            }
            for end in told.ends {
                let stops = open.remove(&end.id).ok_or_else(|| {
                    format!("it answered for subtask id {}, which it does not have", end.id)
                })?;
                let was_stopped = matches!(end.result, SubtaskResult::Stopped | SubtaskResult::NotBegun);
                if was_stopped && !stops {
                    return Err(format!("subtask id {} was stopped, which nobody asked for", end.id));
                }
                *sums.entry(word(end.result)).or_default() += 1;
            }
        }
        let sums: Vec<String> = sums.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
        Ok(sums.join(", "))
    }
}

fn word(result: SubtaskResult) -> &'static str {
    match result {
        SubtaskResult::Finished => "finished",
        SubtaskResult::Failed => "failed",
        SubtaskResult::Stopped => "stopped",
        SubtaskResult::NotBegun => "not begun",
        SubtaskResult::Backend => "failed by its backend",
        SubtaskResult::Refused => "refused",
        SubtaskResult::NotNow(_) => "not now",
    }
}

/// Until the worker says how much it takes.
async fn begin(process: &Process<'_>, job: &TriedJob) -> Result<Working, Wrong> {
    let (give, given) = mpsc::channel(GIVEN);
    let slots = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let slots = u32::try_from(slots).unwrap_or(u32::MAX);
    let known = sheaf_module::Job::new(job.name.as_str(), process.module(), process.node(), slots);
    let work = process.within("Work", READY_WITHIN, process.host.work(known, given)).await?;
    let missing = || Wrong {
        why: "Work: it does not implement this call, and its document says worker: true".to_owned(),
        late: false,
        answered: true,
    };
    Ok(Working { give, work: work.ok_or_else(missing)? })
}

fn say(give: &mpsc::Sender<Given>, given: Given) -> Result<(), String> {
    give.try_send(given).map_err(|_| "it does not read what it is given".to_owned())
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn ordered(subtask: u32, item: &Json) -> OrderedSubtask {
    OrderedSubtask { subtask, attempt: 1, backend: None, item: item.clone() }
}

fn now() -> Now {
    Now { at: Instant::now(), wall: clock::wall() }
}

fn wrong(why: &str) -> WorkbenchError {
    WorkbenchError::Module(why.to_owned())
}
