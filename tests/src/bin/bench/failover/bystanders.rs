//! What runs on every node and has nothing to do with what goes wrong there: nothing of it may be interrupted elsewhere.

use std::fs::File;
use std::time::Duration;

use sheaf_tests::beats::{self, Life};
use sheaf_tests::documents::{Trace, bucket};
use sheaf_tests::{Cluster, wait_for};

use super::{LONGEST, NODES};

/// A program without a beat for so long does not live: far longer than one waits for its turn.
const SILENT: Duration = Duration::from_secs(1);

/// As many single-node buckets as there are nodes, and one that runs on each; all write into one file.
#[derive(Debug)]
pub(super) struct Bystanders {
    trace: Trace,
}

impl Bystanders {
    /// Registers them, each single-node bucket bound to another node at first.
    pub(super) fn start(cluster: &Cluster) -> Self {
        let trace = Trace::new(cluster.machine().path(&format!("bystanders.{}", cluster.agent(1).name())));
        let mut only = bucket("/bystanders/all", "beating", &trace, "multi_node: true");
        let mut anywhere = String::new();
        for agent in cluster.agents() {
            let node = agent.name();
            let name = format!("/bystanders/{node}");
            only += &bucket(&name, "beating", &trace, &format!("node_list_rules: [{node}]"));
            anywhere += &bucket(&name, "beating", &trace, "");
        }
        cluster.apply_and_wait(&only);
        cluster.apply_and_wait(&anywhere);
        Self { trace }
    }

    /// Waits until all of them live, and forgets the others.
    ///
    /// # Panics
    /// If they do not.
    pub(super) fn all(&self) -> Vec<Life> {
        // Those that live go on at its beginning.
        File::create(self.trace.path()).expect("the benchmark's own file can be emptied");
        let silent = u64::try_from(SILENT.as_nanos()).expect("a second");
        wait_for("every bystander lives", LONGEST, || {
            let lives = self.since(beats::now() - silent);
            let singles = lives.iter().filter(|life| life.epoch > 0).count();
            if (singles, lives.len()) == (NODES, 2 * NODES) { Ok(lives) } else { Err(format!("{lives:?}")) }
        })
    }

    /// How many of these live no more.
    pub(super) fn interrupted(&self, lives: &[Life]) -> usize {
        let asked = beats::now();
        wait_for("each had time to beat once more", LONGEST, || {
            let living = self.since(asked);
            let lives_on =
                |life: &&Life| living.iter().any(|other| (&other.node, other.id) == (&life.node, life.id));
            let missing = lives.iter().filter(|life| !lives_on(life)).count();
            let silent = Duration::from_nanos(beats::now() - asked);
            if missing == 0 || silent > SILENT { Ok(missing) } else { Err(format!("{missing} have not")) }
        })
    }

    /// Those that have beaten since then.
    fn since(&self, then: u64) -> Vec<Life> {
        beats::programs(&self.trace).into_iter().filter(|life| life.last > then).collect()
    }
}
