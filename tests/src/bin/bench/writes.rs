//! A writer that asks all the time, to see how long no change is acknowledged while another node comes to lead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sheaf_tests::{Agent, wait_for};
use sheaf_wire::bucket::ApplyBucket;

use crate::scene;

/// Between two changes: far less than what is measured, and time for everything else.
const PAUSE: Duration = Duration::from_millis(2);
/// So many changes say that it goes on.
const SOME: usize = 20;
/// Nothing that is done to a cluster meanwhile keeps it from changes for longer.
const LONGEST: Duration = Duration::from_secs(60);

/// Ends its writer when it is asked for what it has seen.
pub(crate) struct Writes {
    /// When each change was acknowledged.
    acknowledged: Arc<Mutex<Vec<Instant>>>,
    enough: Arc<AtomicBool>,
    writer: JoinHandle<()>,
}

impl Writes {
    /// One that asks this node. Changes are being acknowledged when this returns.
    pub(crate) fn begin(to: &Agent, name: &str) -> Self {
        let (acknowledged, enough) = (Arc::default(), Arc::default());
        let told = (Arc::clone(&acknowledged), Arc::clone(&enough));
        let (address, name) = (to.address(), name.to_owned());
        let writer = thread::spawn(move || scene::runtime().block_on(write(&address, &name, told)));
        let writes = Self { acknowledged, enough, writer };
        writes.some_more();
        writes
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn some_more(&self) {
        let wanted = self.count() + SOME;
        wait_for("changes are acknowledged", LONGEST, || {
            let count = self.count();
            if count >= wanted { Ok(()) } else { Err(format!("{count} of {wanted}")) }
        });
    }

    /// The longest time between two acknowledged changes of which the later one came after `since`, some of now included.
    ///
    /// # Panics
    /// If no change is acknowledged any more.
    pub(crate) fn longest_silence(self, since: Instant) -> Duration {
        self.some_more();
        self.enough.store(true, Ordering::Relaxed);
        self.writer.join().expect("the writer notes each failure as none");
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let silences = acknowledged.windows(2).filter(|pair| pair[1] > since).map(|pair| pair[1] - pair[0]);
        silences.max().unwrap_or_default()
    }
}

async fn write(
    address: &str,
    name: &str,
    (acknowledged, enough): (Arc<Mutex<Vec<Instant>>>, Arc<AtomicBool>),
) {
    let client = scene::client(address);
    let mut turn = 0_usize;
    while !enough.load(Ordering::Relaxed) {
        let mut put = scene::suspended("/writes");
        put.spec.owner = Some(format!("{name}-{turn}"));
        turn += 1;
        let ask = ApplyBucket { put, request: None, validate_only: false };
        if client.apply_bucket(ask).await.is_ok() {
            acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
