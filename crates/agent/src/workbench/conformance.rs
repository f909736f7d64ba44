//! What every module must do, whatever it is for: a fixed list of checks, in the order of a bucket's life.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures::future::LocalBoxFuture;
use sheaf_model::{Call, Exit, Span};
use sheaf_module::{Bucket, CanRun};
use tokio::time::Instant;

use super::process::{For, Process};
use super::{Seen, Workbench, WorkbenchError};
use crate::checks::DEFAULT_TIMEOUT;
use crate::keeper::Status;
use crate::keeper::change::differences;

/// A label as large as a bucket's message may well be; no message has more than 4 MiB.
const LARGE: usize = 3 << 20;
/// How often gate 3 is asked at the same time.
const AT_ONCE: usize = 4;
/// How long OnTestSource may take, and what it is asked for.
const TEST: (Duration, u64) = (Duration::from_secs(10), 3);

/// What was found, or why it failed.
pub(super) type Found = Result<String, String>;

impl Workbench {
    /// Makes all checks, each of them seen; whether none failed. After a failed start those that need it are left out.
    ///
    /// # Errors
    /// If a process cannot be started for reasons that are not the module's.
    pub fn conformance(&self) -> LocalBoxFuture<'_, Result<bool, WorkbenchError>> {
        Box::pin(self.checked())
    }

    async fn checked(&self) -> Result<bool, WorkbenchError> {
        let mut report = Report { bench: self, failed: 0 };
        if let Some(gate) = report.started("handshake", For::Gate).await? {
            report.gate(gate).await;
            if self.job.is_some() {
                report.work().await?;
                return Ok(report.failed == 0);
            }
            report.life().await?;
            report.second_life().await?;
            report.end_alone().await?;
            report.test().await?;
        }
        Ok(report.failed == 0)
    }
}

pub(super) struct Report<'a> {
    pub(super) bench: &'a Workbench,
    failed: u32,
}

impl<'a> Report<'a> {
    pub(super) async fn note(&mut self, check: &'static str, found: Found) -> bool {
        let passed = found.is_ok();
        self.failed += u32::from(!passed);
        self.bench.see(Seen::Checked(check, found)).await;
        passed
    }

    /// None: it failed to start, which was noted.
    pub(super) async fn started(
        &mut self,
        check: &'static str,
        what: For,
    ) -> Result<Option<Process<'a>>, WorkbenchError> {
        match self.bench.start(what).await {
            Ok(process) => {
                self.note(check, Ok(format!("version {}", sheaf_module::PROTOCOL))).await;
                Ok(Some(process))
            }
            Err(WorkbenchError::Module(why)) => {
                self.note(check, Err(why)).await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Gate 3, in a process that is never told anything else.
    async fn gate(&mut self, gate: Process<'a>) {
        let before = content(&gate.dir);
        let told = self.bench.told();
        let first = can_run(&gate, told.clone()).await;
        self.note("gate 3 is answered", first.clone().map(shown)).await;
        let answers = first.is_ok();
        let mut all = vec![first];
        all.push(can_run(&gate, told.clone()).await);
        all.extend(futures::future::join_all((0..AT_ONCE).map(|_| can_run(&gate, told.clone()))).await);
        let same = all.windows(2).all(|pair| pair[0] == pair[1]);
        let found = if same {
            Ok(format!("{} times the same", all.len()))
        } else {
            let all: Vec<String> = all.into_iter().map(|it| it.map_or_else(|why| why, shown)).collect();
            Err(format!("the same question was answered differently: {}", all.join("; ")))
        };
        self.note("gate 3 is answered the same again", found).await;
        let unchanged = if content(&gate.dir) == before {
            Ok(String::new())
        } else {
            Err("files in its directory changed; CanRunOnThisNode looks, and changes nothing".to_owned())
        };
        self.note("gate 3 changes nothing", unchanged).await;
        if answers {
            self.strange(&gate).await;
        }
        let mut large = told;
        large.labels.insert("large".to_owned(), "x".repeat(LARGE));
        let found = can_run(&gate, large).await.map(|_| format!("{} MiB", LARGE >> 20));
        self.note(
            "a large message is taken",
            found.map_err(|why| format!("{why}; messages have up to 4 MiB")),
        )
        .await;
        let grace = self.bench.module.stop.grace;
        let found = gate.end(Instant::now() + grace.duration()).await;
        self.note("the process for gate 3 ends when asked to", found.and_then(|last| orderly(&last))).await;
    }

    /// What no caller of this version says, and that it is still there afterwards. Of one that answers gate 3.
    async fn strange(&mut self, gate: &Process<'_>) {
        let unknown =
            gate.within("a call that the protocol does not have", DEFAULT_TIMEOUT, gate.host.no_such_call());
        let found = match unknown.await {
            Ok(None) => Ok("UNIMPLEMENTED".to_owned()),
            Ok(Some(())) => {
                Err("it was answered as if there were one; UNIMPLEMENTED is the answer".to_owned())
            }
            Err(wrong) => Err(format!("{}; UNIMPLEMENTED is the answer", wrong.why)),
        };
        self.note("an unknown call is not implemented", found).await;
        let found = match gate.within("CanRunOnThisNode", DEFAULT_TIMEOUT, gate.host.garbage()).await {
            Ok(None) => Ok("UNIMPLEMENTED".to_owned()),
            Err(wrong) if wrong.answered => Ok(wrong.why),
            Ok(Some(())) => Err("bytes that are no message were taken for one".to_owned()),
            Err(wrong) => Err(format!("{}; an error is the answer", wrong.why)),
        };
        self.note("bytes that are no message are refused", found).await;
        let more = gate.host.can_run_with_more(self.bench.told(), gate.node());
        let found = gate.within("CanRunOnThisNode", DEFAULT_TIMEOUT, more).await;
        let found = found.map(|answer| shown(answer.unwrap_or(CanRun::Yes)));
        let why = |wrong: super::process::Wrong| {
            format!("{}; fields that are not known are passed over", wrong.why)
        };
        self.note("unknown fields are passed over", found.map_err(why)).await;
        let still = can_run(gate, self.bench.told()).await.map(shown);
        self.note("it still answers after all that", still).await;
    }

    /// From OnNewSource to a suspension, with all that can be said in between.
    async fn life(&mut self) -> Result<(), WorkbenchError> {
        let Some(process) = self.begin("handshake of a bucket's process").await? else { return Ok(()) };
        let told = self.bench.told();
        let host = &process.host;
        let begun = host.on_new_source(told.clone());
        if !self.call(&process, "OnNewSource", Call::NewSource, begun).await {
            let _ = process.end(Instant::now()).await; // what is wrong was noted
            return Ok(());
        }
        for check in ["OnPeriodicPoll", "OnPeriodicPoll again"] {
            self.call(&process, check, Call::PeriodicPoll, host.on_periodic_poll(told.clone())).await;
        }
        let mut new = told.clone();
        new.revision += 1;
        new.labels.insert("conformance".to_owned(), "1".to_owned());
        let changes = differences(&told, &new);
        let updated = host.on_updated_source(told.clone(), new.clone(), changes);
        let found = process.within("OnUpdatedSource", process.limit(Call::UpdatedSource), updated).await;
        let found = found.map(|live| match live {
            Some(()) => "taken as it runs".to_owned(),
            None => "the process is started anew for it".to_owned(),
        });
        self.note("OnUpdatedSource", found.map_err(|wrong| wrong.why)).await;
        self.call(&process, "OnPeriodicPoll after a change", Call::PeriodicPoll, host.on_periodic_poll(new))
            .await;
        self.call(&process, "OnPurge", Call::Purge, host.on_purge()).await;
        self.call(&process, "OnPeriodicPoll after a purge", Call::PeriodicPoll, host.on_periodic_poll(told))
            .await;
        self.call(&process, "OnSuspend", Call::Suspend, host.on_suspend()).await;
        self.stop(process, ["OnStop", "it ends within its grace", "it leaves nothing behind"]).await;
        Ok(())
    }

    /// From OnResume to the end of the bucket.
    async fn second_life(&mut self) -> Result<(), WorkbenchError> {
        let Some(process) = self.begin("handshake after a suspension").await? else { return Ok(()) };
        let told = self.bench.told();
        self.call(&process, "OnResume", Call::Resume, process.host.on_resume(told)).await;
        self.call(&process, "OnDecommission", Call::Decommission, process.host.on_decommission()).await;
        self.call(&process, "OnDelete", Call::Delete, process.host.on_delete()).await;
        let checks = ["OnStop again", "it ends within its grace again", "it leaves nothing behind again"];
        self.stop(process, checks).await;
        Ok(())
    }

    /// Of a bucket that did not run when it was deleted.
    async fn end_alone(&mut self) -> Result<(), WorkbenchError> {
        let Some(process) = self.begin("handshake for its end alone").await? else { return Ok(()) };
        self.call(&process, "OnDelete alone", Call::Delete, process.host.on_delete()).await;
        let checks =
            ["OnStop at last", "it ends within its grace at last", "it leaves nothing behind at last"];
        self.stop(process, checks).await;
        Ok(())
    }

    async fn test(&mut self) -> Result<(), WorkbenchError> {
        let Some(process) = self.begin("handshake of a test").await? else { return Ok(()) };
        let (time, objects) = TEST;
        let limit = Span::millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let asked = process.host.on_test_source(self.bench.told(), objects, limit.0);
        let found = process.within("OnTestSource", limit, asked).await;
        let found = match found {
            Ok(_) => Ok(String::new()),
            // After its time it is ended, and what it has shown counts.
            Err(wrong) if wrong.late => Ok("it takes as long as it may".to_owned()),
            Err(wrong) if wrong.why.contains("cannot be tested") => Ok("it cannot be tested".to_owned()),
            Err(wrong) => Err(wrong.why),
        };
        self.note("OnTestSource", found).await;
        let grace = self.bench.module.stop.grace.duration();
        let ended = process.end(Instant::now() + grace).await;
        self.note("a test ends when asked to", ended.and_then(|last| orderly(&last))).await;
        Ok(())
    }

    /// A bucket's process up to OnInit.
    async fn begin(&mut self, check: &'static str) -> Result<Option<Process<'a>>, WorkbenchError> {
        let Some(process) = self.started(check, For::Bucket).await? else { return Ok(None) };
        let init = process.host.on_init(self.bench.instance(&process.dir));
        if self.call(&process, "OnInit", Call::Init, init).await {
            return Ok(Some(process));
        }
        let _ = process.end(Instant::now()).await; // what is wrong was noted
        Ok(None)
    }

    async fn call(
        &mut self,
        process: &Process<'_>,
        check: &'static str,
        call: Call,
        work: impl Future<Output = Result<(), sheaf_module::host::CallError>>,
    ) -> bool {
        let begun = Instant::now();
        let found = process.within(check, process.limit(call), work).await;
        let took = begun.elapsed().as_millis();
        self.note(check, found.map(|_| format!("{took} ms")).map_err(|wrong| wrong.why)).await
    }

    async fn stop(&mut self, process: Process<'_>, checks: [&'static str; 3]) {
        let begun = Instant::now();
        let (told, last) = process.stop().await;
        self.note(checks[0], told.map(|()| String::new())).await;
        let took = begun.elapsed().as_millis();
        let ended = last.clone().and_then(|last| orderly(&last)).map(|how| format!("{how}, {took} ms"));
        self.note(checks[1], ended).await;
        let left = match last {
            Ok(last) if last.left.is_empty() => Ok(String::new()),
            Ok(last) => Err(format!(
                "it ended while these, which it had started, were alive: {}",
                last.left.join(", ")
            )),
            Err(why) => Err(why),
        };
        self.note(checks[2], left).await;
    }
}

async fn can_run(gate: &Process<'_>, bucket: Bucket) -> Result<CanRun, String> {
    let node = gate.node();
    let asked = gate.host.can_run_on_this_node(bucket, node);
    let answer = gate.within("CanRunOnThisNode", DEFAULT_TIMEOUT, asked).await;
    answer.map(|answer| answer.unwrap_or(CanRun::Yes)).map_err(|wrong| wrong.why)
}

fn shown(answer: CanRun) -> String {
    match answer {
        CanRun::Yes => "yes".to_owned(),
        CanRun::No(reason) => format!("no: {reason}"),
    }
}

/// A process that was asked to end exits with 0.
pub(super) fn orderly(last: &Status) -> Found {
    match last.exit {
        Some(exit @ Exit::Code(0)) => Ok(exit.to_string()),
        Some(exit) => Err(format!("{exit}; a process that is asked to end exits with 0")),
        None => Err("nobody saw how it ended".to_owned()),
    }
}

/// Every file below a directory, with its length and when it was changed.
fn content(dir: &Path) -> BTreeMap<PathBuf, (u64, Option<SystemTime>)> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                dirs.push(entry.path());
            }
            found.insert(entry.path(), (about.len(), about.modified().ok()));
        }
    }
    found
}
