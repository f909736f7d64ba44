//! What `sheaf dev` shows at work: two small programs on real input, run as `exec` modules through `${sheaf}`.
//!
//! ```text
//!  /var/log/*.log, the agent's log ──collect──► NODE.log ──count──► report
//!   (on every node that may)           │                     │ (on one node)
//!                                      └ offsets             └ counts, epoch
//! ```
//!
//! Both keep what they need to go on after any end, SIGTERM and SIGKILL included: neither catches a signal, so both
//! end at once. Nothing here is asynchronous; call [`Example::run`] where blocking harms nobody.

mod collect;
mod count;
mod durable;
mod source;
mod tally;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use sheaf_model::Span;

/// `sheaf example`
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Example {
    /// Follow log files and append what is new to one file
    Collect(collect::Collect),
    /// Count the words of what was collected
    Count(count::Count),
}

impl Example {
    /// Runs the program until a signal ends it, or it cannot go on: what it writes cannot be written, or another has
    /// taken over its work.
    pub(crate) fn run(&self) -> ExitCode {
        let ran = match self {
            Self::Collect(collect) => collect::run(collect),
            Self::Count(count) => count::run(count),
        };
        match ran {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Nobody is left to tell when stderr is closed.
                let _ = writeln!(std::io::stderr().lock(), "sheaf: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Reads `500ms`, `1s`.
fn duration(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|error: sheaf_model::MeasureError| error.to_string())?;
    match span.0 {
        0 => Err("longer than nothing, like 1s".to_owned()),
        millis => Ok(Duration::from_millis(millis)),
    }
}

/// Says when something is due that is due every so often.
struct Pace {
    every: Duration,
    last: Option<std::time::Instant>,
}

impl Pace {
    const fn new(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// Whether it is due; if so, it is not for another while.
    fn due(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= self.every);
        if due {
            self.last = Some(std::time::Instant::now());
        }
        due
    }
}

/// Waits until it is worth looking again.
#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own, of one thread: nothing else waits for it"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A size for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// `5 lines`, `1 line`.
fn several(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
