//! Leadership is handed over again and again, while clients write without a pause: no call fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use sheaf_model::{PutBucket, RequestId};
use sheaf_tests::calls::{client, runtime};
use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::bucket;
use sheaf_tests::{Agent, Cluster, wait_for};
use sheaf_wire::bucket::ApplyBucket;

use crate::load::put;
use crate::scene::{epoch, pids, trace};

/// So often.
const TIMES: usize = 10;
/// So many more calls say that a writer goes on.
const SOME: usize = 5;

pub(crate) fn handed_over(cluster: &Cluster) {
    let one = trace(cluster, "over.one");
    cluster.apply_and_wait(&bucket("/over/one", "steady", &one, ""));
    let (leader, before) = (cluster.leader(), cluster.status("/over/one"));
    let first = leader.name();
    let agents = [leader, cluster.following_voter()];
    // What is asked by an id may be asked twice; whoever gives none must know what came of it.
    let asks = agents.into_iter().flat_map(|agent| [(agent, true), (agent, false)]);
    let writers: Vec<Writer> =
        asks.enumerate().map(|(number, (agent, ids))| Writer::begin(cluster, number, agent, ids)).collect();
    for _ in 0..TIMES {
        writers.iter().for_each(Writer::goes_on);
        let former = cluster.leader().name();
        cluster.cli(&["cluster", "transfer"]).ok();
        assert_ne!(cluster.leader().name(), former);
    }
    if cluster.leader().name() == first {
        cluster.cli(&["cluster", "transfer"]).ok();
    }
    cluster.cli(&["cluster", "transfer", "--to", &first]).ok();
    assert_eq!(cluster.leader().name(), first);
    writers.iter().for_each(Writer::goes_on);
    let names: Vec<String> = writers.iter().map(|writer| writer.name.clone()).collect();
    let failed: Vec<String> = writers.into_iter().flat_map(Writer::end).collect();
    assert_eq!(failed, Vec::<String>::new(), "calls that failed");
    let after = cluster.status("/over/one");
    assert_eq!((pids(&after), epoch(&after)), (pids(&before), epoch(&before)), "nothing was interrupted");
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["/over/one"]).collect();
    cluster.delete(&names);
}

/// A client that changes one bucket, each time as soon as it has its answer.
struct Writer {
    name: String,
    answered: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    enough: Arc<AtomicBool>,
    writing: Option<JoinHandle<()>>,
}

impl Writer {
    fn begin(cluster: &Cluster, number: usize, to: &Agent, ids: bool) -> Self {
        let name = format!("/over/{number}");
        let (address, put) = (to.address(), put(cluster, &name, "nobody"));
        let (answered, failed, enough) = (Arc::default(), Arc::default(), Arc::default());
        let told = (Arc::clone(&answered), Arc::clone(&failed), Arc::clone(&enough));
        let writing = thread::spawn(move || runtime().block_on(write(&address, put, ids, told)));
        Self { name, answered, failed, enough, writing: Some(writing) }
    }

    fn goes_on(&self) {
        let wanted = self.answered.load(Ordering::Relaxed) + SOME;
        wait_for(&format!("{} is written on", self.name), SOON, || {
            let answered = self.answered.load(Ordering::Relaxed);
            let failed = self.failed.lock().expect("nobody panics with it").clone();
            if answered >= wanted { Ok(()) } else { Err(format!("{answered} of {wanted}; {failed:?}")) }
        });
    }

    /// What failed.
    fn end(mut self) -> Vec<String> {
        self.enough.store(true, Ordering::Relaxed);
        if let Some(writing) = self.writing.take() {
            writing.join().expect("a failure is noted");
        }
        self.failed.lock().expect("nobody panics with it").clone()
    }
}

/// Not even after a failure does it go on.
impl Drop for Writer {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

type Told = (Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>, Arc<AtomicBool>);

async fn write(address: &str, mut put: PutBucket, ids: bool, (answered, failed, enough): Told) {
    let (client, name) = (client(address), put.spec.name.clone());
    let mut turn = 0;
    while !enough.load(Ordering::Relaxed) {
        turn += 1;
        put.spec.owner = Some(format!("turn-{turn}"));
        let request = ids.then(|| RequestId(format!("{name}-{turn}")));
        match client.apply_bucket(ApplyBucket { put: put.clone(), request, validate_only: false }).await {
            Ok(_) => {
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let by = if ids { "with an id" } else { "without an id" };
                failed.lock().expect("nobody panics with it").push(format!("{turn} {by}: {error}"));
            }
        }
    }
}
