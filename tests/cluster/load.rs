//! Many changes at a time, and what becomes of them when a member dies or is away.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::Value;
use sheaf_model::{Document, Json, PutBucket, RequestId, document};
use sheaf_tests::calls::{client, runtime};
use sheaf_tests::cluster::SOON;
use sheaf_tests::{Agent, Cases, Cluster, wait_for};
use sheaf_wire::bucket::{ApplyBucket, BucketChange, BucketStep, WatchBuckets};
use sheaf_wire::{Answers, Client, Options};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::scene::{event_kinds, trace};

/// Buckets registered while the leader dies.
const BUCKETS: usize = 200;
/// Entries that a voter misses: far more than the log keeps.
const ENTRIES: u64 = 20_000;
/// Longest time that may take.
const AWAY: Duration = Duration::from_secs(180);
/// Who write them. More writers would share entries, and so make fewer of them.
const WRITERS: usize = 4;

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("the leader is killed while 200 buckets are registered: each is there once", || {
        leader_killed(cluster);
    });
    cases.run("a voter away for 20,000 entries catches up by snapshot, a slow watcher is cut off", || {
        away(cluster);
    });
}

/// A suspended bucket: registered, and nothing runs.
pub(crate) fn put(cluster: &Cluster, name: &str, owner: &str) -> PutBucket {
    let trace = trace(cluster, "load");
    let more = format!("suspended: true\nowner: {owner}");
    let text = sheaf_tests::documents::bucket(name, "steady", &trace, &more);
    let parsed = document::parse("", text.as_bytes());
    assert_eq!(parsed.defects, []);
    match parsed.documents.into_iter().next() {
        Some(Document::Bucket(put)) => *put,
        other => panic!("a bucket: {other:?}"),
    }
}

/// The same with a document of more than so many bytes.
pub(crate) fn put_large(cluster: &Cluster, name: &str, owner: &str, bytes: usize) -> PutBucket {
    let mut put = put(cluster, name, owner);
    let mut config = put.spec.config.value();
    config["notes"] = "x".repeat(bytes).into();
    put.spec.config = Json::new(&config);
    put
}

/// Asks an agent for these changes, one after the other.
pub(crate) fn apply_each(agent: &Agent, puts: impl Iterator<Item = PutBucket>) {
    runtime().block_on(async {
        let client = client(&agent.address());
        for put in puts {
            let name = put.spec.name.clone();
            let ask = ApplyBucket { put, request: None, validate_only: false };
            client.apply_bucket(ask).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    });
}

/// Asks for a change, with the same id again and again until it is answered; how often it was asked.
async fn acknowledged(clients: &[Client], put: PutBucket, request: RequestId) -> usize {
    let begun = Instant::now();
    for attempt in 1.. {
        let client = &clients[attempt % clients.len()];
        let ask = ApplyBucket { put: put.clone(), request: Some(request.clone()), validate_only: false };
        match client.apply_bucket(ask).await {
            Ok(_) => return attempt,
            Err(error) => {
                assert!(error.can_retry(), "{}: {error}", put.spec.name);
                assert!(begun.elapsed() < Duration::from_secs(60), "{}: still {error}", put.spec.name);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    unreachable!("a count of attempts does not end")
}

fn leader_killed(cluster: &Cluster) {
    let leader = cluster.leader();
    let options = || Options { deadline: Duration::from_secs(2), ..Options::default() };
    let done = AtomicUsize::new(0);
    let attempts = runtime().block_on(async {
        let others = cluster.agents().iter().filter(|agent| agent.name() != leader.name());
        let clients: Vec<Client> = others
            .map(|agent| Client::lazy(&agent.address(), options()).expect("an agent's address is one"))
            .collect();
        let writer = async |part: usize| {
            let mut attempts = 0;
            for number in (part..BUCKETS).step_by(8) {
                let name = format!("/load/{number:03}");
                let request = RequestId(format!("load-{number}"));
                attempts += acknowledged(&clients[..], put(cluster, &name, "me"), request).await;
                if done.fetch_add(1, Ordering::Relaxed) == BUCKETS / 4 {
                    leader.kill();
                }
            }
            attempts
        };
        let writers = futures_of((0..8).map(writer));
        writers.await.into_iter().sum::<usize>()
    });
    // Nodes that forward ask the next leader by themselves, so a client may not notice at all.
    assert!(attempts >= BUCKETS, "{attempts} attempts");
    leader.start();
    cluster.wait_back(leader);
    let expected: BTreeSet<String> = (0..BUCKETS).map(|number| format!("/load/{number:03}")).collect();
    for agent in cluster.agents() {
        let rows = agent.cli(&["bucket", "list", "--where", "name=/load/*", "-o", "json"]).ok().json();
        let rows = rows.as_array().cloned().unwrap_or_default();
        let found: BTreeSet<String> =
            rows.iter().filter_map(|row| Some(row["name"].as_str()?.to_owned())).collect();
        assert_eq!((rows.len(), &found), (BUCKETS, &expected), "{}", agent.name());
    }
    // History is read on any member, and one that was away may be behind for a moment.
    wait_for("history has each of them", SOON, || {
        let events = ["events", "--all", "--where", "kind=bucket.created", "-o", "json"];
        let events = cluster.cli(&events).ok().json_lines();
        let created = events.iter().filter_map(|event| event["subject"].as_str());
        let created = created.filter(|name| expected.contains(*name)).count();
        assert!(created <= BUCKETS, "each was created once: {created}");
        if created == BUCKETS { Ok(()) } else { Err(created.to_string()) }
    });
    for number in [0, BUCKETS / 4, BUCKETS - 1] {
        assert_eq!(
            event_kinds(cluster, &format!("/load/{number:03}")),
            ["bucket.created"],
            "none was changed twice"
        );
    }
    let all: Vec<&str> = expected.iter().map(String::as_str).collect();
    cluster.cli(&[&["bucket", "delete", "--yes"], &all[..]].concat()).ok();
}

/// Runs futures that borrow, all at once.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    futures::future::join_all(futures).await
}

fn away(cluster: &Cluster) {
    let leader = cluster.leader().name();
    let voter = cluster.following_voter();
    let commit = |status: &Value| status["commit"].as_u64().unwrap_or(0);
    let status = || cluster.named(&leader).json(&["cluster", "status", "-o", "json"]);
    let goal = commit(&status()) + ENTRIES;
    voter.kill();
    let begun = Instant::now();
    runtime().block_on(async {
        let address = cluster.leader().address();
        let watcher = Client::lazy(&address, Options::default()).expect("an agent's address is one");
        let slow = watcher.watch_buckets(WatchBuckets::default()).await;
        let slow = slow.unwrap_or_else(|error| panic!("a watch: {error}"));
        let mut writers = JoinSet::new();
        for part in 0..WRITERS {
            let client = Client::lazy(&address, Options::default()).expect("an agent's address is one");
            let puts = ["one", "two"].map(|owner| put(cluster, &format!("/away/{part:02}"), owner));
            writers.spawn(write_until(client, puts, goal));
        }
        while let Some(ended) = writers.join_next().await {
            ended.expect("a writer does not panic");
        }
        assert_eq!(beginnings(slow).await, 2, "who reads too slowly begins anew");
    });
    let leading = cluster.named(&leader);
    wait_for("that is counted", SOON, || {
        let node = leading.json(&["node", "status", &leader, "-o", "json"]);
        let queues = &node["facts"]["full_queues"];
        if queues["watches"].as_u64() >= Some(1) { Ok(()) } else { Err(format!("{:#}", node["facts"])) }
    });
    let shown = leading.cli(&["node", "status", &leader]).ok();
    assert!(shown.stdout.contains("full queues") && shown.stdout.contains("watches "), "{shown}");
    let reached = commit(&status());
    assert!(reached >= goal, "{reached} of {goal} after {:?}", begun.elapsed());
    let log = voter.log().len();
    voter.start();
    wait_for("it has caught up", Duration::from_secs(60), || {
        let status = status();
        let members = status["members"].as_array().cloned().unwrap_or_default();
        let own = members.into_iter().find(|member| member["name"] == voter.name().as_str());
        match own {
            Some(member) if member["match_lag"].as_u64().is_some_and(|lag| lag < 10) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    cluster.wait_ready();
    assert!(voter.log()[log..].contains("installed a snapshot"), "its log:\n{}", voter.log_tail());
    let list = |agent: &Agent| agent.cli(&["bucket", "list", "--all", "-o", "yaml"]).ok().stdout;
    assert_eq!(list(voter), list(cluster.leader()));
    let history = |agent: &Agent| {
        agent.cli(&["bucket", "history", "/away/00", "--limit", "100", "-o", "yaml"]).ok().stdout
    };
    assert_eq!(history(voter), history(cluster.leader()));
    let all: Vec<String> = (0..WRITERS).map(|part| format!("/away/{part:02}")).collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    cluster.cli(&[&["bucket", "delete", "--yes"], &names[..]].concat()).ok();
}

/// Reads a watch up to its second beginning, or until there is nothing more; how often everything began.
async fn beginnings(mut steps: Answers<BucketStep>) -> usize {
    let mut resets = 0;
    while resets < 2
        && let Ok(Some(step)) = timeout(SOON, steps.next()).await
    {
        let step = step.unwrap_or_else(|error| panic!("a watch goes on: {error}"));
        resets += usize::from(step.change == BucketChange::Reset);
    }
    resets
}

/// Changes a bucket to and fro until the log is long enough.
async fn write_until(client: Client, puts: [PutBucket; 2], goal: u64) {
    let begun = Instant::now();
    for turn in 0.. {
        assert!(begun.elapsed() < AWAY, "not done within {AWAY:?}, after {turn} changes by one of {WRITERS}");
        let ask = ApplyBucket { put: puts[turn % 2].clone(), request: None, validate_only: false };
        if let Err(error) = client.apply_bucket(ask).await {
            assert!(error.can_retry(), "{error}");
        }
        if turn % 50 == 0 && client.cluster_status().await.is_ok_and(|status| status.commit >= goal) {
            return;
        }
    }
}
