//! `sheaf module try`: the console says what is tried, the agent tries it.

use std::path::Path;

use sheaf_agent::workbench::{Seen, TriedJob, Workbench, WorkbenchError};
use sheaf_console::command::module::attempt::{Report, Shown, Tried, Try};
use sheaf_console::{Exit, Failure, Format, Terminal};
use tokio::sync::mpsc;

/// What is seen and not printed yet.
const SEEN: usize = 256;

/// Tries a module until Ctrl-C, or checks it.
pub(crate) async fn run(ask: &Try, binary: &Path, format: Format, out: &mut Terminal) -> Exit {
    let ended = attempt(ask, binary, format, out).await;
    sheaf_console::end(ended, out)
}

async fn attempt(ask: &Try, binary: &Path, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
    let Tried { module, bucket, job, secrets, conformance } = ask.read(out)?;
    let defects = sheaf_control::config_defects(&module, &bucket);
    if !defects.is_empty() {
        return Err(Failure::Defects(defects));
    }
    let (tell, mut seen) = mpsc::channel(SEEN);
    let mut bench =
        Workbench::open(module, bucket, secrets, binary, tell).map_err(|error| refused(&error))?;
    let works = job.is_some();
    if let Some((job, items)) = job {
        bench = bench.for_job(TriedJob { name: job.spec.name, items, timeout: job.spec.timeout });
    }
    let mut report = Report::new(format);
    let mut work = std::pin::pin!(async {
        if conformance {
            tokio::select! {
                // What runs ends with its keeper's connection.
                _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
                checked = bench.conformance() => checked.map(drop).map_err(|error| refused(&error)),
            }
        } else {
            let stop = Box::pin(async {
                let _ = tokio::signal::ctrl_c().await; // without signals there is no other end
            });
            let done = if works { bench.work(stop).await } else { bench.run(stop).await };
            done.map_err(|error| refused(&error))
        }
    });
    let ended = loop {
        tokio::select! {
            // What was seen is shown before the end is looked at.
            biased;
            Some(it) = seen.recv() => report.show(out, shown(it), conformance)?,
            ended = &mut work => break ended,
        }
    };
    while let Ok(it) = seen.try_recv() {
        report.show(out, shown(it), conformance)?;
    }
    ended?;
    if conformance { report.end(out) } else { Ok(Exit::Done) }
}

fn refused(error: &WorkbenchError) -> Failure {
    Failure::Refused(error.to_string())
}

fn shown(seen: Seen) -> Shown {
    match seen {
        Seen::Output(line) => Shown::Output(line),
        Seen::Errors(line) => Shown::Talk(format!("  ! {line}")),
        Seen::Status(line) => Shown::Talk(format!("status: {line}")),
        Seen::Line(kind, text) => Shown::Talk(format!("{kind}: {text}")),
        Seen::Did(text) => Shown::Talk(text),
        Seen::Checked(check, found) => Shown::Checked(check, found),
    }
}
