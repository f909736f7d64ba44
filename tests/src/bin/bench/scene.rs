//! Clusters with the product's defaults, the documents they get, and clients.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sheaf_model::{BucketName, BucketSpec, Json, ModuleRef, PutBucket, TokenText, document};
use sheaf_tests::beats;
pub(crate) use sheaf_tests::calls::{client, runtime};
use sheaf_tests::config::Timing;
use sheaf_tests::net::Net;
use sheaf_tests::{Agent, Cluster, Machine, NodePlan, secured};
use sheaf_wire::Client;
use sheaf_wire::bucket::ListBuckets;

/// What agents do whose config file says nothing of timing. (The files of these say it, with these values.)
const DEFAULTS: Timing = Timing { heartbeat: "100ms", election: ("300ms", "500ms"), ttl: "3s" };
/// Bytes of a bucket's spec, as JSON.
pub(crate) const SPEC: usize = 300;
/// Documents of a file.
const FILE: usize = 1000;
/// The module of every bucket, with a small program.
pub(crate) const MODULE: &str = "kind: Module\nname: bench\nversion: '1'\nruntime: exec\nexec: {command: /bin/sleep, args: ['100000']}\n---\n";

/// Starts agents and waits until they are ready. Prefixes tell the clusters of a machine apart.
pub(crate) fn cluster(machine: &Arc<Machine>, prefix: &str, count: usize) -> Cluster {
    cluster_with(machine, prefix, count, "")
}

/// The same with lines at the end of every config.
pub(crate) fn cluster_with(machine: &Arc<Machine>, prefix: &str, count: usize, more: &str) -> Cluster {
    planned(machine, prefix, count, |plan| more.clone_into(&mut plan.more))
}

/// The same with whatever else is to be different on every node.
pub(crate) fn planned(
    machine: &Arc<Machine>,
    prefix: &str,
    count: usize,
    mut change: impl FnMut(&mut NodePlan),
) -> Cluster {
    started(Cluster::plan(machine, prefix, count, |_, plan| {
        plan.timing = DEFAULTS;
        change(plan);
    }))
}

/// The same, secured by a join secret; and the token that commands show from then on.
pub(crate) fn secured(
    machine: &Arc<Machine>,
    prefix: &str,
    count: usize,
    secret: &Path,
) -> (Cluster, TokenText) {
    let more = secured::config(secret);
    let cluster = Cluster::plan(machine, prefix, count, |_, plan| {
        plan.timing = DEFAULTS;
        plan.more.clone_from(&more);
    });
    cluster.start_all();
    let token = secured::of_secret(machine, &cluster, secret);
    secured::shows(machine, Some(&token));
    (started(cluster), TokenText::parse(&token).expect("login writes a token"))
}

/// The same, with a network between the agents that can be cut; what passes through it takes a little longer.
pub(crate) fn cluster_and_net(machine: &Arc<Machine>, prefix: &str, count: usize) -> (Cluster, Net) {
    let mut net = Net::new(count);
    let cluster = Cluster::plan(machine, prefix, count, |number, plan| {
        plan.timing = DEFAULTS;
        net.put_between(number, plan);
    });
    let addresses: Vec<String> = cluster.agents().iter().map(Agent::address).collect();
    net.run(&addresses);
    (started(cluster), net)
}

fn started(cluster: Cluster) -> Cluster {
    cluster.start_all();
    cluster.wait_ready();
    cluster.apply(MODULE);
    cluster
}

/// Registers the module `beating`, whose program is this one.
pub(crate) fn beating(cluster: &Cluster) {
    cluster.apply(&beats::module(&cluster.machine().program(&this(), "beat")));
}

/// The file of this program.
pub(crate) fn this() -> PathBuf {
    std::env::current_exe().expect("a running program has a path")
}

/// Ends a cluster and removes its data, so that the next one has the disk for itself.
pub(crate) fn end(cluster: Cluster) {
    let dirs: Vec<_> = cluster.agents().iter().map(Agent::dir).collect();
    drop(cluster);
    for dir in dirs {
        // Left where it is, it disturbs nothing but the disk's free space.
        let _ = fs::remove_dir_all(dir);
    }
    settle_disk();
}

/// Waits until what was written before is on the disk: it must not be in the way of what is measured next.
pub(crate) fn settle_disk() {
    rustix::fs::sync();
}

/// A bucket of [`SPEC`] bytes that is switched off: nothing is started of it.
pub(crate) fn suspended(name: &str) -> PutBucket {
    let mut spec = BucketSpec::new(bucket_name(name), module());
    let config = |pad: usize| Json::new(&json!({"pad": "x".repeat(pad)}));
    spec.config = config(0);
    let bare = json_of(&spec).len();
    spec.config = config(SPEC.saturating_sub(bare));
    PutBucket { spec, suspended: Some(true), base: None, latest: false }
}

/// A bucket that runs.
pub(crate) fn running(name: &str, multi_node: bool) -> PutBucket {
    let mut spec = BucketSpec::new(bucket_name(name), module());
    spec.multi_node = multi_node;
    PutBucket { spec, suspended: Some(false), base: None, latest: false }
}

/// The document of a suspended bucket, as JSON.
pub(crate) fn json_of(spec: &BucketSpec) -> String {
    document::bucket_value(spec, true, None).to_string()
}

pub(crate) fn bucket_name(name: &str) -> BucketName {
    BucketName::new(name).expect("the names of benchmarks are paths")
}

pub(crate) fn module() -> ModuleRef {
    ModuleRef::parse("bench@1").expect("a module's name with its version")
}

/// Documents of suspended buckets: `PREFIX/0000000` and so on.
pub(crate) fn documents(prefix: &str, numbers: std::ops::Range<usize>) -> String {
    let mut text = String::new();
    for number in numbers {
        let put = suspended(&format!("{prefix}/{number:07}"));
        let _ = writeln!(text, "{}---", document::bucket_yaml(&put.spec, true, None));
    }
    text
}

/// Registers so many suspended buckets; how long it took.
pub(crate) fn fill(cluster: &Cluster, count: usize) -> Duration {
    let begun = Instant::now();
    for first in (0..count).step_by(FILE) {
        let text = documents("/filled", first..count.min(first + FILE));
        cluster.cli_with(&["apply", "-f", "-"], text.as_bytes()).ok();
    }
    begun.elapsed()
}

/// How long the first page of the list takes, and its rows.
pub(crate) async fn first_page(client: &Client) -> Result<(Duration, usize), String> {
    let begun = Instant::now();
    let page = client.list_buckets(ListBuckets::default()).await.map_err(|error| error.to_string())?;
    Ok((begun.elapsed(), page.rows.len()))
}
