//! What is looked at: a small cluster with something of everything, and a browser in front of it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use sheaf_tests::browser::Browser;
use sheaf_tests::documents::{Trace, bucket, module, program};
use sheaf_tests::{Agent, Cluster};

/// A cluster, and a browser that has one of its nodes open.
pub(crate) struct Scene {
    // Ends before the machine of the cluster.
    pub(crate) browser: Browser,
    pub(crate) cluster: Cluster,
    /// What is written into it, `/web/speaker` prints.
    spoken: Trace,
}

impl Scene {
    /// Registers what cases share, and opens the overview.
    pub(crate) fn set(cluster: Cluster) -> Self {
        let spoken = Trace::new(cluster.machine().path("spoken"));
        fs::write(spoken.path(), "first words\n").expect("a file can be written in the test's own directory");
        cluster.apply(&modules());
        let trace = Trace::new(cluster.machine().path("trace"));
        cluster.apply_and_wait(&bucket("/web/all", "steady", &trace, "multi_node: true"));
        cluster.apply_and_wait(&bucket("/web/one", "steady", &trace, "owner: data-eng"));
        cluster.apply_and_wait(&bucket("/web/speaker", "speaker", &spoken, ""));
        cluster.apply(&bucket("/web/nowhere", "refusing", &trace, ""));
        cluster.wait_state("/web/nowhere", "unplaced");
        let browser = Browser::start(cluster.machine());
        let scene = Self { browser, cluster, spoken };
        scene.browser.goto(&scene.address(""));
        scene
    }

    /// The address of a page of the first node.
    pub(crate) fn address(&self, page: &str) -> String {
        address(self.cluster.agent(1), page)
    }

    /// Goes to a page, as a link leads there.
    pub(crate) fn open(&self, page: &str) -> &Browser {
        self.browser.goto(&self.address(page));
        &self.browser
    }

    /// Has `/web/speaker` print a line.
    pub(crate) fn say(&self, line: &str) {
        let mut file = OpenOptions::new().append(true).open(self.spoken.path()).expect("it was made above");
        writeln!(file, "{line}").expect("the test's own file can be written");
    }

    /// A bucket's document whose programs stay.
    pub(crate) fn steady(&self, name: &str, more: &str) -> String {
        bucket(name, "steady", &Trace::new(self.cluster.machine().path("trace")), more)
    }
}

/// The address of a page of a node.
pub(crate) fn address(agent: &Agent, page: &str) -> String {
    format!("http://{}/#/{page}", agent.plan().http)
}

/// A page of something by its name.
pub(crate) fn of(page: &str, name: &str) -> String {
    format!("{page}?name={}", name.replace('/', "%2F"))
}

fn modules() -> String {
    let shell = |name: &str, script: &str| {
        format!(
            "kind: Module\nname: {name}\nversion: '1'\nruntime: exec\nexec: {{command: /bin/sh, args: [-c, {script:?}]}}\n---\n"
        )
    };
    [
        module("steady", ""),
        module("refusing", "can_run_on_this_node: [{file: /no/such/program}]"),
        program("speaker", "exec tail -n +1 -F \"$TRACE\"", ""),
        shell("failing", "echo about to fail at $SHEAF_SUBTASK; echo no licence >&2; exit 3"),
        shell("slow", "sleep 0.4"),
    ]
    .concat()
}
