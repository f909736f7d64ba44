//! How many vote, and who: changed while everything runs on.

use std::collections::BTreeSet;

use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::bucket;
use sheaf_tests::{Agent, Cases, Cluster, wait_for};

use crate::planned::wait_members;
use crate::scene::{epoch, pids, trace};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("the number of voters is changed, and nothing is interrupted", || numbers(cluster));
    cases.run("a vote is taken over by a node of the zone that would have none", || spread(cluster));
}

/// Those that vote, once there are so many.
fn voters(cluster: &Cluster, number: usize) -> BTreeSet<String> {
    let found = wait_members(cluster, &format!("{number} vote"), |found| {
        found.iter().filter(|(_, voter)| *voter).count() == number
    });
    found.into_iter().filter(|(_, voter)| *voter).map(|(name, _)| name).collect()
}

fn numbers(cluster: &Cluster) {
    // One that never restarts: it is asked all the time.
    let leader = cluster.leader();
    let (one, all) = (trace(cluster, "votes.one"), trace(cluster, "votes.all"));
    let documents =
        [bucket("/votes/one", "steady", &one, ""), bucket("/votes/all", "steady", &all, "multi_node: true")];
    cluster.apply_and_wait(&documents.concat());
    let status = |name: &str| leader.json(&["bucket", "status", name, "-o", "json"]);
    let before = ["/votes/one", "/votes/all"].map(status);
    let first = voters(cluster, 3);
    for (number, tolerated) in [(1, 0), (5, 2), (3, 1)] {
        leader.cli(&["cluster", "settings", &format!("voters={number}")]).ok();
        assert!(voters(cluster, number).contains(&leader.name()));
        wait_for("it is told how many may fail", SOON, || {
            let status = leader.json(&["cluster", "status", "-o", "json"]);
            let is_so = status["fault_tolerance"] == tolerated && status["leader"] == leader.name().as_str();
            if is_so { Ok(()) } else { Err(format!("{status:#}")) }
        });
    }
    let last = voters(cluster, 3);
    let after = ["/votes/one", "/votes/all"].map(status);
    assert_eq!(after.each_ref().map(pids), before.each_ref().map(pids), "{first:?}, {last:?}");
    assert_eq!(epoch(&after[0]), epoch(&before[0]));
    assert_eq!((one.starts().len(), all.starts().len()), (1, 5), "nothing was started again");
}

fn spread(cluster: &Cluster) {
    let members = voters(cluster, 3);
    let leader = cluster.leader();
    let (voting, mut others): (Vec<&Agent>, Vec<&Agent>) =
        cluster.agents().iter().partition(|agent| members.contains(&agent.name()));
    let followers: Vec<&Agent> = voting.into_iter().filter(|agent| agent.name() != leader.name()).collect();
    others.sort_by_key(|agent| cluster.node_id(&agent.name()));
    let [victim, third] = followers[..] else { panic!("three vote") };
    // Of the others the first one would be chosen if there were no zones.
    let [first, heir] = others[..] else { panic!("two do not") };
    for (agent, zone) in [(leader, "a"), (first, "a"), (victim, "b"), (heir, "b"), (third, "c")] {
        leader.cli(&["node", "label", &agent.name(), &format!("zone={zone}")]).ok();
    }
    leader.cli(&["cluster", "settings", "repair.spread=zone"]).ok();
    victim.kill_machine();
    cluster.wait_node(&victim.name(), "lost");
    leader.cli(&["node", "forget", "--yes", &victim.name()]).ok();
    let votes = |found: &[(String, bool)], agent: &Agent| found.contains(&(agent.name(), true));
    let found = wait_members(cluster, "the vote is taken over, and its former owner is no member", |found| {
        found.iter().filter(|(_, voter)| *voter).count() == 3
            && !found.iter().any(|(name, _)| *name == victim.name())
    });
    assert!(votes(&found, heir) && !votes(&found, first), "{found:?}");
}
