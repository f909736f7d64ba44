//! Far more agents than this machine could run, as far as a leader sees them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sheaf_tests::cluster::SOON;
use sheaf_tests::crowd::Crowd;
use sheaf_tests::documents::{bucket, module};
use sheaf_tests::{Agent, Cases, Cluster, wait_for};

use crate::scene::{epoch, only_node, pids, trace};

/// The benchmark `storm` has 1,000.
const AGENTS: usize = 300;
/// For all of them to be with the new leader, on two cores that they share with it.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// The former leader stays away.
pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("300 agents that look for the new leader cost no further election and no lease", || {
        led_by_another(cluster);
    });
}

fn led_by_another(cluster: &Cluster) {
    cluster.apply(&module("steady", ""));
    let leader = cluster.leader();
    let others: Vec<&Agent> = cluster.agents().iter().filter(|agent| agent.name() != leader.name()).collect();
    let rules = format!("node_list_rules: [{}]", others[0].name());
    cluster.apply_and_wait(&bucket("/crowd", "steady", &trace(cluster, "crowd"), &rules));
    let before = cluster.status("/crowd");
    let crowd = Crowd::gather(cluster, AGENTS);
    crowd.wait_led_by(&leader.address(), SOON);
    let late: BTreeMap<String, u64> =
        others.iter().map(|agent| (agent.name(), late_heartbeats(agent))).collect();
    leader.kill();
    let killed = Instant::now();
    let ask = || others[0].try_json(&["cluster", "status", "-o", "json"]);
    let (new, term) = wait_for("another one leads", SOON, || {
        let status = ask()?;
        let new = others.iter().find(|agent| status["leader"] == agent.name().as_str());
        new.map(|new| (*new, status["term"].clone())).ok_or_else(|| status.to_string())
    });
    let began = crowd.wait_led_by(&new.address(), BACK_WITHIN);
    assert!(began.iter().all(|began| *began > killed), "these are new sessions");
    crowd.take_answers();
    let mut answers = 0;
    wait_for("twice as many heartbeats are acknowledged there as there are agents", SOON, || {
        answers += crowd.take_answers().len();
        if answers >= 2 * AGENTS { Ok(()) } else { Err(answers.to_string()) }
    });
    let status = ask().unwrap_or_else(|why| panic!("{why}"));
    assert_eq!((&status["leader"], &status["term"]), (&new.name().into(), &term), "no further election");
    assert_eq!(late_heartbeats(new), late[&new.name()], "half of each lease was left at any time");
    let after = others[0].json(&["bucket", "status", "/crowd", "-o", "json"]);
    assert_eq!(only_node(&after), others[0].name());
    assert_eq!((epoch(&after), pids(&after)), (epoch(&before), pids(&before)), "no lease was lost");
}

/// How often it heard, leading, a node later than half a lease after its heartbeat before.
fn late_heartbeats(agent: &Agent) -> u64 {
    let metrics = agent.metrics().expect("it answers");
    let count = metrics.lines().find_map(|line| line.strip_prefix("sheaf_late_heartbeats_total "));
    count.and_then(|count| count.parse().ok()).expect("they are counted from its start")
}
