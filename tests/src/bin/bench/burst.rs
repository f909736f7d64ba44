//! Many writers at a time, each waiting for its answer before it writes again.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::figure::Times;

/// Before anything counts.
const WARM: Duration = Duration::from_secs(1);
/// After a write that failed.
const PAUSE: Duration = Duration::from_millis(10);

/// One who writes; what, is its own affair.
pub(crate) trait Writer: Send + 'static {
    /// Writes something new under a name, and returns when it is acknowledged.
    fn write(&mut self, name: String) -> impl Future<Output = Result<(), String>> + Send;
}

/// What came of a burst.
#[derive(Clone, Debug)]
pub(crate) struct Burst {
    /// Acknowledged per second.
    pub(crate) rate: f64,
    /// How long each took.
    pub(crate) times: Times,
    pub(crate) failed: usize,
    /// Why, of one of them.
    pub(crate) why: Option<String>,
}

/// What one writer has seen.
#[derive(Default)]
struct Tally {
    times: Vec<Duration>,
    failed: usize,
    why: Option<String>,
}

/// A name of a write: as long for every writer and every number.
pub(crate) fn name(burst: usize, writer: usize, number: usize) -> String {
    format!("/b/{burst:02}/{writer:03}/{number:07}")
}

/// Has all of them write for `span`, after a second that does not count. `number` tells bursts on one store apart.
pub(crate) async fn run<W: Writer>(writers: Vec<W>, number: usize, span: Duration) -> Burst {
    let counted = Instant::now() + WARM;
    let mut tasks = JoinSet::new();
    for (writer, it) in writers.into_iter().enumerate() {
        tasks.spawn(write(it, number, writer, counted, counted + span));
    }
    let mut all = Tally::default();
    for tally in tasks.join_all().await {
        all.times.extend(tally.times);
        all.failed += tally.failed;
        all.why = all.why.or(tally.why);
    }
    // Far fewer writes than an f64 can count.
    let rate = all.times.len() as f64 / span.as_secs_f64();
    Burst { rate, times: all.times.into_iter().collect(), failed: all.failed, why: all.why }
}

async fn write<W: Writer>(mut it: W, burst: usize, writer: usize, counted: Instant, end: Instant) -> Tally {
    let mut tally = Tally::default();
    for number in 0.. {
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        let done = it.write(name(burst, writer, number)).await;
        let now = Instant::now();
        match done {
            Ok(()) if now >= counted && now < end => tally.times.push(now - begun),
            Ok(()) => {}
            Err(why) => {
                tally.failed += 1;
                tally.why = Some(why);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    tally
}
