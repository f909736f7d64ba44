//! A full disk: changes are refused and say why; who leads is still decided; with room again all goes on by itself. And a
//! broken one: nothing is promised on it, by voters or by others.

use std::sync::Arc;
use std::time::Duration;

use sheaf_tests::cluster::SOON;
use sheaf_tests::disk::SmallDisk;
use sheaf_tests::documents::bucket;
use sheaf_tests::syscalls::FailingSyncs;
use sheaf_tests::{Agent, Cases, Cluster, Machine, wait_for};

use crate::artifact;
use crate::scene::{self, epoch, only_node, pids, trace};

/// Of a small disk, in MiB.
const SIZE: u32 = 96;
/// Less than what agents keep for votes.
const LEFT: u64 = 16 << 20;

/// What an agent ends with whose disk failed.
const DISK_FAILED: i32 = 74;

/// Three agents, each on a small disk of its own: first one of them is full, then two, then all.
#[test]
fn full_disk() {
    let machine = Arc::new(Machine::take());
    let mount = |number: usize| SmallDisk::mount(&machine, &format!("small.{number}"), SIZE);
    let [Some(first), Some(second), Some(third)] = [1, 2, 3].map(mount) else { return };
    let disks = [first, second, third];
    let cluster = Cluster::plan(&machine, "", 3, |number, plan| {
        plan.dir = disks[number - 1].path().join(&plan.name);
    });
    cluster.start_all();
    cluster.wait_ready();
    let mut cases = Cases::of("disk_at_zero");
    let [.., last] = &disks;
    cases.run("a leader without room hands over to a voter that has, and none is handed it", || {
        hands_over(&cluster, last);
    });
    cases.run("an agent goes on voting", || at_zero(&cluster, last));
    cases.run("one that was not there meanwhile starts, and votes", || starts_at_zero(&cluster, last));
    cases.now_of("two_disks_full");
    cases.run(
        "changes are refused and the nodes named; reads and votes are not, and it goes on by itself",
        || {
            two_full(&cluster, &disks[WITH_ROOM..]);
        },
    );
    cases.now_of("full_disk");
    cases.run("changes are refused, votes are not, and what runs runs on", || full(&cluster, &disks));
    cases.run("a push for which there is no room is refused before it is sent", || no_room(&cluster));
    cases.run("a voter whose fsync fails ends, and says why; the others go on, and it catches up", || {
        broken(&cluster);
    });
    cases.end();
}

/// On a cluster with nodes that do not vote: the agent of one goes on with a disk that it can write nothing to for sure.
pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("what a node gives up is on its disk before it says so", || {
        what_is_given_up_is_on_disk_before_it_is_said(cluster);
    });
}

fn what_is_given_up_is_on_disk_before_it_is_said(cluster: &Cluster) {
    let agent = cluster.watchers()[0];
    let (node, only) = (agent.name(), format!("node_list_rules: [{}]", agent.name()));
    cluster.apply_and_wait(&bucket("/sworn", "steady", &trace(cluster, "sworn"), &only));
    let before = cluster.status("/sworn");
    let said = agent.log().len();
    let Some(failing) = FailingSyncs::of(agent.pid()) else { return };
    let leader = cluster.leader();
    leader.cli(&["bucket", "suspend", "/sworn"]).ok();
    wait_for("the node tries again, and says why", SOON, || {
        let log = agent.log().split_off(said);
        let tried = log.matches("could not be carried out; trying again later").count();
        if tried >= 2 && log.contains("Input/output error") { Ok(()) } else { Err(agent.log_tail()) }
    });
    assert!(agent.programs("/sworn").is_empty(), "it has ended");
    let status = leader.cli(&["bucket", "status", "/sworn", "-o", "json"]).ok().json();
    assert_eq!(
        (only_node(&status), epoch(&status)),
        (node, epoch(&before)),
        "and is not given up: {status:#}"
    );
    assert_eq!(status["state"], "stopping", "{status:#}");
    drop(failing);
    cluster.wait_state("/sworn", "suspended");
    let events = ["events", "--all", "--where", "subject=/sworn", "-o", "json"];
    let events = leader.cli(&events).ok().json_lines();
    let freed = events.iter().filter(|event| event["kind"] == "bucket.freed");
    let why: Vec<&str> = freed.filter_map(|event| event["message"].as_str()).collect();
    assert_eq!(why, ["given up by its node"], "as soon as it could be written");
    cluster.delete(&["/sworn"]);
}

/// The agent whose disk is full, where one is.
const ON_IT: usize = 3;

/// The one whose disk is not, where two are: the first.
const WITH_ROOM: usize = 1;

fn wait_ballast(agent: &Agent, there: bool) {
    let ballast = agent.dir().join("ballast");
    let what = if there { "room lies ready for votes" } else { "it is given up" };
    wait_for(what, SOON, || {
        if ballast.exists() == there {
            Ok(())
        } else {
            Err(format!("{}\n{}", ballast.display(), agent.log_tail()))
        }
    });
}

/// Another than the one on the full disk leads, and then dies: without the vote of that one nobody leads.
fn elects_with(cluster: &Cluster, voter: &Agent) -> String {
    let leader = cluster.leader();
    let name = leader.name();
    assert_ne!(name, voter.name());
    leader.kill();
    let other = cluster.agents().iter().find(|agent| ![name.clone(), voter.name()].contains(&agent.name()));
    let other = other.expect("there are three");
    wait_for("its vote decides", SOON, || {
        let status = other.try_json(&["cluster", "status", "-o", "json"])?;
        if status["leader"].is_string() && status["leader"] != name.as_str() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    assert!(voter.is_running() && !voter.has_ended(), "{}", voter.log_tail());
    name
}

fn hands_over(cluster: &Cluster, disk: &SmallDisk) {
    let full = cluster.agent(ON_IT);
    cluster.apply(&scene::modules());
    if cluster.leader().name() != full.name() {
        cluster.cli(&["cluster", "transfer", "--to", &full.name()]).ok();
    }
    let others: Vec<&Agent> = cluster.agents().iter().filter(|agent| agent.name() != full.name()).collect();
    let leader = || -> Result<String, String> {
        let status = others[0].try_json(&["cluster", "status", "-o", "json"])?;
        Ok(status["leader"].as_str().unwrap_or_default().to_owned())
    };
    disk.fill(LEFT);
    wait_for("one with room leads", SOON, || match leader()? {
        name if others.iter().any(|other| other.name() == name) => Ok(()),
        name => Err(format!("{name:?} leads\n{}", full.log_tail())),
    });
    let steady = trace(cluster, "over");
    let document = bucket("/handed/over", "steady", &steady, "suspended: true");
    wait_for("changes are taken, with its disk still full", SOON, || {
        let applied = others[0].cli_with(&["apply", "-f", "-"], document.as_bytes());
        if applied.code == 0 { Ok(()) } else { Err(applied.to_string()) }
    });
    let remedy = format!("free space on {}", full.name());
    wait_for("it has told the new leader of its disk", SOON, || {
        let status = others[0].try_json(&["cluster", "status", "-o", "json"])?;
        let message = status["message"].as_str().unwrap_or_default();
        if message.contains(&remedy) { Ok(()) } else { Err(status.to_string()) }
    });
    let before = leader();
    let refused = others[0].cli(&["cluster", "transfer", "--to", &full.name()]).exits(1);
    refused.mentions(&["would take no change", "less than 32MiB", &remedy]);
    assert_eq!(leader(), before, "leadership stays");
    others[0].cli(&["cluster", "transfer"]).ok();
    let after = leader().expect("it is known");
    assert!(Ok(&after) != before.as_ref() && after != full.name(), "{after} leads after {before:?}");
    disk.clear();
    cluster.cli(&["bucket", "delete", "--yes", "/handed/over"]).ok();
}

fn at_zero(cluster: &Cluster, disk: &SmallDisk) {
    let voter = cluster.agent(ON_IT);
    wait_ballast(voter, true);
    if cluster.leader().name() == voter.name() {
        cluster.cli(&["cluster", "transfer"]).ok();
    }
    disk.fill_up();
    wait_ballast(voter, false);
    let dead = elects_with(cluster, voter);
    disk.clear();
    wait_ballast(voter, true);
    cluster.named(&dead).start();
    cluster.wait_back(cluster.named(&dead));
}

fn starts_at_zero(cluster: &Cluster, disk: &SmallDisk) {
    let voter = cluster.agent(ON_IT);
    if cluster.leader().name() == voter.name() {
        cluster.cli(&["cluster", "transfer"]).ok();
    }
    voter.kill_machine();
    disk.fill_up();
    voter.start();
    wait_ballast(voter, false);
    let dead = elects_with(cluster, voter);
    disk.clear();
    wait_ballast(voter, true);
    cluster.named(&dead).start();
    cluster.wait_back(cluster.named(&dead));
    cluster.wait_back(voter);
}

fn full(cluster: &Cluster, disks: &[SmallDisk]) {
    cluster.apply(&scene::modules());
    let steady = trace(cluster, "full");
    cluster.apply_and_wait(&bucket("/full/runs", "steady", &steady, ""));
    let before = cluster.status("/full/runs");
    disks.iter().for_each(|disk| disk.fill(LEFT));
    let document = bucket("/full/new", "steady", &steady, "suspended: true");
    // One that comes before the leader has noticed waits for room, and is not confirmed in time.
    wait_for("changes are refused for it", SOON, || {
        let applied = cluster.cli_with(&["apply", "-f", "-"], document.as_bytes()).calm();
        let said = applied.code == 1 && applied.stderr.contains("bytes are free on the leader's disk");
        if said { Ok(()) } else { Err(applied.to_string()) }
    });
    // A vote needs its place on the disk, too.
    let leader = cluster.leader();
    let name = leader.name();
    leader.kill();
    wait_for("another one leads", SOON, || {
        let status = cluster.try_json(&["cluster", "status", "-o", "json"])?;
        if status["leader"].is_string() && status["leader"] != name {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    assert!(cluster.cli_with(&["apply", "-f", "-"], document.as_bytes()).code != 0, "it is still full");
    disks.iter().for_each(SmallDisk::clear);
    wait_for("with room again changes are taken", Duration::from_secs(30), || {
        let applied = cluster.cli_with(&["apply", "-f", "-"], document.as_bytes());
        if applied.code == 0 { Ok(()) } else { Err(applied.to_string()) }
    });
    leader.start();
    cluster.wait_back(leader);
    let after = cluster.wait_state("/full/runs", "running");
    if before["node_affinity"] == after["node_affinity"] && epoch(&before) == epoch(&after) {
        assert_eq!(pids(&before), pids(&after), "it was not interrupted");
    }
    cluster.delete(&["/full/runs"]);
    cluster.cli(&["bucket", "delete", "--yes", "/full/new"]).ok();
}

fn two_full(cluster: &Cluster, disks: &[SmallDisk]) {
    const REMEDY: &str = "free space on n2, n3; what can be written goes on by itself";
    cluster.apply(&scene::modules());
    let steady = trace(cluster, "two");
    cluster.apply_and_wait(&bucket("/two/runs", "steady", &steady, ""));
    let roomy = cluster.agent(WITH_ROOM);
    if cluster.leader().name() != roomy.name() {
        cluster.cli(&["cluster", "transfer", "--to", &roomy.name()]).ok();
    }
    cluster.wait_state("/two/runs", "running");
    let message = || -> Result<String, String> {
        let status = roomy.try_json(&["cluster", "status", "-o", "json"])?;
        Ok(status["message"].as_str().unwrap_or_default().to_owned())
    };
    let is_well = || match message()? {
        message if message.is_empty() => Ok(()),
        message => Err(message),
    };
    wait_for("nothing is wrong yet", SOON, is_well);
    disks.iter().for_each(|disk| disk.fill(LEFT));
    wait_for("it is seen whose disks are full", SOON, || {
        let message = message()?;
        if message.contains(REMEDY) { Ok(()) } else { Err(message) }
    });
    let shown = roomy.cli(&["cluster", "status"]).ok().stdout;
    assert!(shown.contains("no change can be made"), "{shown}");
    let document = bucket("/two/new", "steady", &steady, "suspended: true");
    let apply = || cluster.cli_with(&["apply", "-f", "-"], document.as_bytes());
    // At once, and not when its time is over: nothing of it is on its way.
    apply().exits(1).mentions(&["no change can be made", "less than 32MiB", REMEDY]);
    // What was acknowledged is read on every node, and leases are renewed.
    for agent in cluster.agents() {
        let status = agent.cli(&["bucket", "status", "/two/runs", "-o", "json"]).ok().json();
        assert_eq!(status["state"], "running", "{status:#}");
    }
    cluster.cli(&["bucket", "status", "/two/new"]).exits(3);
    roomy.kill();
    wait_for("another one leads, by votes that are on full disks", SOON, || {
        let status = cluster.try_json(&["cluster", "status", "-o", "json"])?;
        let leads = status["leader"].as_str().is_some_and(|leader| leader != roomy.name());
        if leads { Ok(()) } else { Err(status.to_string()) }
    });
    assert!(apply().code != 0, "it is still full");
    disks.iter().for_each(SmallDisk::clear);
    wait_for("with room again changes are taken", Duration::from_secs(30), || {
        let applied = apply();
        if applied.code == 0 { Ok(()) } else { Err(applied.to_string()) }
    });
    roomy.start();
    cluster.wait_back(roomy);
    wait_for("nothing is wrong any more", SOON, is_well);
    cluster.wait_state("/two/runs", "running");
    cluster.delete(&["/two/runs"]);
    cluster.cli(&["bucket", "delete", "--yes", "/two/new"]).ok();
}

/// What would leave less than is kept free.
fn no_room(cluster: &Cluster) {
    cluster.apply(&artifact::module("heavy"));
    let dir = artifact::program(cluster, "heavy", 70 << 20);
    let said = artifact::push(cluster, "heavy@1", &dir).exits(1);
    assert!(said.stderr.contains("there is no room for"), "{said}");
    for agent in cluster.agents() {
        let parts = std::fs::read_dir(agent.dir().join("artifacts/incoming")).expect("its parts");
        assert_eq!(parts.count(), 0, "nothing was sent to {}", agent.name());
    }
    let steady = trace(cluster, "room");
    cluster.apply(&bucket("/room", "steady", &steady, "suspended: true"));
    cluster.cli(&["bucket", "delete", "--yes", "/room"]).ok();
    cluster.cli(&["module", "delete", "--yes", "heavy@1"]).ok();
}

/// First one that follows, then the one that leads: who acknowledges a change has it on disk.
fn broken(cluster: &Cluster) {
    let steady = trace(cluster, "broken");
    let others = |agent: &Agent| cluster.voters().into_iter().find(|other| other.name() != agent.name());
    let roles: [fn(&Cluster) -> &Agent; 2] = [Cluster::following_voter, Cluster::leader];
    for (turn, role) in roles.into_iter().enumerate() {
        let agent = role(cluster);
        let other = others(agent).expect("three vote");
        let said = agent.log().len();
        let Some(failing) = FailingSyncs::of(agent.pid()) else { return };
        let name = format!("/broken/{turn}");
        let document = bucket(&name, "steady", &steady, "suspended: true");
        // Asked of another node, it is answered by whoever leads then.
        other.cli_with(&["apply", "-f", "-"], document.as_bytes()).ok();
        assert_eq!(agent.exit(SOON), DISK_FAILED, "{}", agent.log_tail());
        drop(failing);
        let log = agent.log().split_off(said);
        for part in [
            "FATAL: cannot write and sync the log: Input/output error",
            "ends with status 74; start it again",
        ] {
            assert!(log.contains(part), "{part}:\n{log}");
        }
        other.cli(&["bucket", "status", &name]).ok();
        agent.start();
        cluster.wait_back(agent);
        agent.cli(&["bucket", "status", &name]).ok();
    }
    cluster.cli(&["bucket", "delete", "--yes", "/broken/0", "/broken/1"]).ok();
}
