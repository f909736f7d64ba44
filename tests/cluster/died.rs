//! The machine of a node dies under commands that are told of their bucket's life, a plugin in Python, a test and a collector; once
//! for all of them, since it takes a lease until that is known.

use sheaf_tests::{Cases, Cluster};

use crate::context::Taken;
use crate::life::Left;
use crate::python::Moves;
use crate::trial::Tested;

/// On a cluster that has the modules of all of them.
pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster, has_python: bool) {
    let leader = cluster.leader().name();
    let mut numbers = (1..=cluster.agents().len()).rev();
    let number = numbers.find(|number| cluster.agent(*number).name() != leader).expect("another");
    let victim = cluster.agent(number);
    let (mut left, mut moves, mut tested, mut taken) = (None, None, None, None);
    cases.run("the machine of a node dies that runs something of each kind", || {
        left = Some(Left::begin(cluster, number));
        moves = has_python.then(|| Moves::begin(cluster, victim));
        tested = Some(Tested::begin(cluster, victim));
        // Last, so that it still collects.
        taken = Some(Taken::begin(cluster, victim));
        victim.kill_machine();
    });
    cases.run("a node dies, and the next one collects from the last checkpoint on", || {
        taken.as_mut().expect("it ran there").goes_on();
    });
    cases.run("a node dies, and what is told of its life by commands goes on elsewhere", || {
        left.as_mut().expect("they were there").go_on();
    });
    if let Some(moves) = &moves {
        cases.run(
            "a node dies, and a plugin in Python goes on elsewhere without reading anything twice",
            || {
                moves.goes_on();
            },
        );
    }
    cases.run("the node dies that a test runs on", || tested.expect("it ran there").fails());
    if !victim.is_running() {
        victim.start();
        cluster.wait_back(victim);
    }
    cases.run("commands tell a node that comes back what goes on elsewhere, once", || {
        left.as_ref().expect("they were there").are_told_of();
    });
    cases.run("a collector is purged where it went on, and collects all of it anew", || {
        taken.as_ref().expect("it ran there").is_purged();
    });
}
