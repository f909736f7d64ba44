//! The product as it is used: real agents, real programs, the command line and the API. Cases taken over from elsewhere
//! carry their ids (A1 and so on).
//!
//! | test | agents | what it proves |
//! | --- | --- | --- |
//! | `placement` | 5, then 6 | gates, single-node and multi-node buckets, changes, and how people see and explain them |
//! | `faults` | 5 | nothing acknowledged is lost and nothing runs twice, whoever is killed |
//! | … cases of `disaster` | the same | a majority that is lost for good, and what is made of the rest |
//! | `planned` | 3 | drain, move, hand over, settings, forget: nothing of it is a failure |
//! | … cases of `top` | the same | the whole screen: what it shows, follows and survives, and that it gives the terminal back |
//! | `plugins` | 3 | modules that are told of their bucket's life: plugins, good ones and bad ones, and commands |
//! | … cases of `trials` | the same | a bucket that is tried apart from the real one, and what instances may use |
//! | … cases of `crowd` | the same, and 300 that are only sessions | a storm of sessions costs no election and no lease |
//! | `secrets` | 4 | what is set in one place is known to those who must know it, and to nobody else |
//! | `artifacts` | 4 | programs that are pushed, and run where they were not before |
//! | `artifacts_apart` | 5 | nodes that do not vote give each other what they have, and keep no more than they have room for |
//! | … cases of `votes` | the same | how many vote, and who, is changed while everything runs |
//! | `jobs` | 3 | subtasks run, each to one end, whoever is killed, and people see and search what becomes of them |
//! | `workers` | 2 | the same through plugins that take many subtasks, good ones and bad ones; and backends |
//! | `http` | 2 | the same at services that are slow, lose answers, refuse, or ask to be left alone |
//! | `former` | 1 | a data directory of an earlier version is opened, and all of it is there |
//! | `sinks` | 3 | what happens is delivered to webhooks, by mail and to programs, whoever leads and whoever is down |
//! | `twenty` | 20 | the flume and the webcrawl example, and a change that reaches one node after the other |
//! | `secured`, `prepared` | 3, then 5; 1, then 3 | certificates, tokens and roles: who comes in, as whom, and who does not |
//! | … cases of `hostile` | the same | too much, too slow and too long, by TLS: with nothing, another authority's certificate, a token |
//! | `https` | 1 | the dashboard from other machines: by TLS alone, with the cluster's certificate or one's own |
//! | `restored` | 3, then 2 | a snapshot of a secured cluster goes on with the key of its authority, or with another authority |
//! | `rotated` | 3, then 6 | another authority takes the place of the one that signs certificates, and no call fails |
//! | `bundle` | 3 | what is to be shown to who helps, with nodes down and without a leader, and nothing secret in it |
//! | `traces` | 3 | one trace from a command to the starts on all nodes; a collector that is down disturbs nobody |
//! | `taken` | 5 | somebody has taken a node's certificate: what it opens, and that forgetting the node ends it |
//! | `flood` | 1 | thousands of connections, clients that never get to the point, requests of a gigabyte |
//! | … cases of `input` | the same | everything that people and programs can get wrong |
//! | `forming` | a few | how nodes come to belong to a cluster, and which are refused |
//! | `notified` | 2 | what systemd hears of an agent that is its unit's, and that nothing else speaks for that |
//! | `nemesis` | 7 | the same and everything else by chance, with changes meanwhile, and what must be true afterwards |
//! | `full_disk` | 3 | a full disk stops changes, not votes; a broken one ends its agent |
//! | … cases of `disk_at_zero` | the same | an agent whose disk others fill to the last byte votes, and starts |
//! | … cases of `two_disks_full` | the same | two voters whose disks are full stop changes, which says so, and neither reads nor votes |
//! | `emulated` | 1, then 2 | limits of instances on a kernel with control groups of version 2, in a virtual machine |
//! | `dev` | 4 | that nothing is left of what a newcomer sees first |
//! | `tour` | 3 | what a newcomer sees first, and what the screen of `sheaf dev` and the readme say to try, as it stands there |
//!
//! Starting agents takes longer than most cases, so cases share clusters; each has its own buckets.

#[path = "cluster/artifact.rs"]
mod artifact;
#[path = "cluster/backends.rs"]
mod backends;
#[path = "cluster/between.rs"]
mod between;
#[path = "cluster/blobs.rs"]
mod blobs;
#[path = "cluster/calls.rs"]
mod calls;
#[path = "cluster/certified.rs"]
mod certified;
#[path = "cluster/change.rs"]
mod change;
#[path = "cluster/context.rs"]
mod context;
#[path = "cluster/crowd.rs"]
mod crowd;
#[path = "cluster/debug.rs"]
mod debug;
#[path = "cluster/dev.rs"]
mod dev;
#[path = "cluster/died.rs"]
mod died;
#[path = "cluster/disaster.rs"]
mod disaster;
#[path = "cluster/disk.rs"]
mod disk;
#[path = "cluster/down.rs"]
mod down;
#[path = "cluster/emulated.rs"]
mod emulated;
#[path = "cluster/ended.rs"]
mod ended;
#[path = "cluster/flood.rs"]
mod flood;
#[path = "cluster/former.rs"]
mod former;
#[path = "cluster/forming.rs"]
mod forming;
#[path = "cluster/handover.rs"]
mod handover;
#[path = "cluster/hostile.rs"]
mod hostile;
#[path = "cluster/http.rs"]
mod http;
#[path = "cluster/https.rs"]
mod https;
#[path = "cluster/input.rs"]
mod input;
#[path = "cluster/jobs.rs"]
mod jobs;
#[path = "cluster/life.rs"]
mod life;
#[path = "cluster/limits.rs"]
mod limits;
#[path = "cluster/load.rs"]
mod load;
#[path = "cluster/loss.rs"]
mod loss;
#[path = "cluster/mails.rs"]
mod mails;
#[path = "cluster/multi.rs"]
mod multi;
#[path = "cluster/nemesis.rs"]
mod nemesis;
#[path = "cluster/notify.rs"]
mod notify;
#[path = "cluster/obstacle.rs"]
mod obstacle;
#[path = "cluster/people.rs"]
mod people;
#[path = "cluster/planned.rs"]
mod planned;
#[path = "cluster/plugin.rs"]
mod plugin;
#[path = "cluster/python.rs"]
mod python;
#[path = "cluster/query.rs"]
mod query;
#[path = "cluster/reload.rs"]
mod reload;
#[path = "cluster/restart.rs"]
mod restart;
#[path = "cluster/restored.rs"]
mod restored;
#[path = "cluster/rollout.rs"]
mod rollout;
#[path = "cluster/rotation.rs"]
mod rotation;
#[path = "cluster/scene.rs"]
mod scene;
#[path = "cluster/secret.rs"]
mod secret;
#[path = "cluster/secure.rs"]
mod secure;
#[path = "cluster/single.rs"]
mod single;
#[path = "cluster/sinks.rs"]
mod sinks;
#[path = "cluster/starved.rs"]
mod starved;
#[path = "cluster/stop.rs"]
mod stop;
#[path = "cluster/storm.rs"]
mod storm;
#[path = "cluster/taken.rs"]
mod taken;
#[path = "cluster/top.rs"]
mod top;
#[path = "cluster/tour.rs"]
mod tour;
#[path = "cluster/traces.rs"]
mod traces;
#[path = "cluster/trial.rs"]
mod trial;
#[path = "cluster/turn.rs"]
mod turn;
#[path = "cluster/twenty.rs"]
mod twenty;
#[path = "cluster/votes.rs"]
mod votes;
#[path = "cluster/workers.rs"]
mod workers;

use sheaf_tests::{Cases, Cluster};

/// Gates and runs: first five nodes, then a sixth. Nodes 1 to 3 have a label that some modules ask for.
#[test]
fn placement() {
    let mut cluster = Cluster::start_with(5, |number, plan| {
        if number <= 3 {
            plan.labels = vec!["three".to_owned()];
        }
        plan.deny = vec!["denied".to_owned()];
    });
    let mut cases = Cases::of("placement");
    cluster.apply(&scene::modules());
    single::cases(&mut cases, &cluster);
    multi::cases(&mut cases, &cluster);
    multi::cases_of_a_sixth_node(&mut cases, &mut cluster);
    change::cases(&mut cases, &cluster);
    stop::cases(&mut cases, &cluster);
    people::cases(&mut cases, &cluster);
    reload::cases(&mut cases, &cluster);
    cases.end();
}

/// Who is killed, restarted or away; in this order, for what a case leaves behind is what the next begins with. At last all but one
/// of the voters are lost: what is left is enough to go on.
#[test]
fn faults() {
    let cluster = Cluster::start(5);
    let mut cases = Cases::of("faults");
    cluster.apply(&scene::modules());
    calls::cases(&mut cases, &cluster);
    storm::cases(&mut cases, &cluster);
    starved::cases(&mut cases, &cluster);
    disk::cases(&mut cases, &cluster);
    loss::cases(&mut cases, &cluster);
    restart::cases(&mut cases, &cluster);
    load::cases(&mut cases, &cluster);
    cases.now_of("disaster");
    // The lease that the product has.
    cluster.cli(&["cluster", "settings", "lease.ttl=3s"]).ok();
    disaster::cases(&mut cases, &cluster);
    cases.end();
}

/// Finite work of many subtasks.
#[test]
fn jobs() {
    let cluster = Cluster::start(3);
    let mut cases = Cases::of("jobs");
    jobs::cases(&mut cases, &cluster);
    turn::cases(&mut cases, &cluster);
    ended::cases(&mut cases, &cluster);
    query::cases(&mut cases, &cluster);
    cases.end();
}

/// The same through processes that take many subtasks each.
#[test]
fn workers() {
    let cluster = Cluster::start(2);
    let mut cases = Cases::of("workers");
    workers::cases(&mut cases, &cluster);
    backends::cases(&mut cases, &cluster);
    cases.end();
}

/// The same at a service that they are posted to.
#[test]
fn http() {
    let cluster = http::cluster();
    let mut cases = Cases::of("http");
    http::cases(&mut cases, &cluster);
    cases.end();
}

/// Far too much for one node; then everything that people can get wrong. In this order: the former counts what the agent's
/// process has ever taken of its machine.
#[test]
fn flood() {
    let cluster = flood::cluster();
    let mut cases = Cases::of("flood");
    flood::cases(&mut cases, &cluster);
    cluster.wait_ready();
    cases.now_of("input");
    input::cases(&mut cases, &cluster);
    cases.end();
}

/// What an earlier version has written.
#[test]
fn former() {
    former::run();
}

/// Where what happens is delivered to.
#[test]
fn sinks() {
    let cluster = sinks::cluster();
    let mut cases = Cases::of("sinks");
    sinks::cases(&mut cases, &cluster);
    mails::cases(&mut cases, &cluster);
    cases.end();
}

/// The same limits by the other version of control groups than this machine may have.
#[test]
#[ignore = "needs qemu; .ci/run runs it"]
fn emulated() {
    emulated::run();
}

/// Technologies with a life cycle of their own; then what else a module's document says. At last the leader is lost, in
/// front of a crowd.
#[test]
fn plugins() {
    let cluster = Cluster::start(3);
    let mut cases = Cases::of("plugins");
    plugin::cases(&mut cases, &cluster);
    context::cases(&mut cases, &cluster);
    life::cases(&mut cases, &cluster);
    let has_python = python::cases(&mut cases, &cluster);
    cases.now_of("trials");
    cluster.apply(&plugin::faulty(""));
    trial::cases(&mut cases, &cluster, has_python);
    limits::cases(&mut cases, &cluster);
    cases.now_of("crowd");
    crowd::cases(&mut cases, &cluster);
    cases.end();
}

/// What modules must know and nobody else.
#[test]
fn secrets() {
    let cluster = secret::cluster();
    let mut cases = Cases::of("secrets");
    secret::cases(&mut cases, &cluster);
    cases.end();
}

/// Programs that no node has had before.
#[test]
fn artifacts() {
    let cluster = Cluster::start(4);
    let mut cases = Cases::of("artifacts");
    artifact::cases(&mut cases, &cluster);
    blobs::cases(&mut cases, &cluster);
    artifact::loss(&mut cases, &cluster);
    cases.end();
}

/// Programs on nodes that do not vote; then who votes.
#[test]
fn artifacts_apart() {
    // Which of them vote is chance; those that do keep everything, whatever their room.
    let cluster = Cluster::start_with(5, |_, plan| plan.more = artifact::ROOM.to_owned());
    let mut cases = Cases::of("artifacts_apart");
    artifact::apart(&mut cases, &cluster);
    // Who votes; at last one of them is forgotten. By now votes may be taken away: the election is long over.
    cases.now_of("votes");
    cluster.apply(&scene::modules());
    votes::cases(&mut cases, &cluster);
    cases.end();
}

/// The cluster on the whole screen; then what operators do. At last a node is forgotten, and the voters are made up.
#[test]
fn planned() {
    let mut cluster = Cluster::start(3);
    let mut cases = Cases::of("top");
    top::cases(&mut cases, &cluster);
    cases.now_of("planned");
    cluster.apply(&scene::modules());
    planned::cases(&mut cases, &cluster);
    planned::repair(&mut cases, &mut cluster);
    cases.end();
}
