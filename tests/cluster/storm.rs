//! Far more calls at a time than a machine of this size can answer soon.

use std::time::Duration;

use futures::StreamExt as _;
use sheaf_tests::calls::runtime;
use sheaf_tests::documents::bucket;
use sheaf_tests::{Cases, Cluster};
use sheaf_wire::bucket::{ApplyBucket, ListBuckets, WatchBuckets};
use sheaf_wire::{Client, Options};
use tokio::task::JoinSet;

use crate::load::put;
use crate::scene::{epoch, event_kinds, pids, trace};

/// Connections to each node, each with a watch of its own.
const CONNECTIONS: usize = 16;
/// Changes, and lists of all buckets, that each asks for, one after the other.
const TURNS: usize = 20;
/// Longest time for one answer: nothing is refused here, only late.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("a storm of calls and watches costs no election and no lease", || storm(cluster));
}

fn storm(cluster: &Cluster) {
    let steady = trace(cluster, "storm");
    cluster.apply_and_wait(&bucket("/calm", "steady", &steady, ""));
    let (before, leader) = (cluster.status("/calm"), cluster.json(&["cluster", "status", "-o", "json"]));
    let names: Vec<String> =
        (0..CONNECTIONS * cluster.agents().len()).map(|number| format!("/storm/{number:03}")).collect();
    let changes = runtime().block_on(async {
        let mut calls = JoinSet::new();
        for (name, agent) in names.iter().zip(cluster.agents().iter().cycle()) {
            let options = Options { deadline: PATIENCE, ..Options::default() };
            let client = Client::lazy(&agent.address(), options).expect("an agent's address is one");
            let puts = ["one", "two"].map(|owner| put(cluster, name, owner));
            calls.spawn(async move {
                let watch = client.watch_buckets(WatchBuckets::default()).await;
                let mut watch = watch.unwrap_or_else(|error| panic!("a watch: {error}"));
                let reading = tokio::spawn(async move { while let Some(Ok(_)) = watch.next().await {} });
                let mut changes = 0;
                for turn in 0..TURNS {
                    let put = puts[turn % 2].clone();
                    let ask = ApplyBucket { put, request: None, validate_only: false };
                    client.apply_bucket(ask).await.unwrap_or_else(|error| panic!("a change: {error}"));
                    client
                        .list_buckets(ListBuckets::default())
                        .await
                        .unwrap_or_else(|error| panic!("a list: {error}"));
                    changes += 1;
                }
                reading.abort();
                changes
            });
        }
        calls.join_all().await.into_iter().sum::<usize>()
    });
    assert_eq!(changes, names.len() * TURNS);
    let (after, still) = (cluster.status("/calm"), cluster.json(&["cluster", "status", "-o", "json"]));
    assert_eq!((&still["leader"], &still["term"]), (&leader["leader"], &leader["term"]), "no election");
    assert_eq!((epoch(&after), pids(&after)), (epoch(&before), pids(&before)), "no lease was lost");
    for agent in cluster.agents() {
        let kinds = event_kinds(cluster, &agent.name());
        assert!(!kinds.iter().any(|kind| kind == "node.lost"), "{}: {kinds:?}", agent.name());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.cli(&[&["bucket", "delete", "--yes"], &names[..]].concat()).ok();
    cluster.delete(&["/calm"]);
}
