//! Containers that are nodes of a cluster.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sheaf_tests::documents::{self, Trace};
use sheaf_tests::{Machine, NodePlan, cli, image, wait_for};

use crate::world::{docker, names};

/// How long nodes may take to be ready, and buckets to run.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// What the names of all that these tests have Docker make begin with.
const PREFIX: &str = "sheaf-t-";

/// Containers `PREFIX-n1` and so on, their network and their image; removed when this ends.
pub(crate) struct Nodes {
    machine: Arc<Machine>,
    /// Before the names of all that Docker knows.
    prefix: String,
    count: usize,
}

impl Nodes {
    /// Makes an image of the binary and of `beat`, a network, and so many nodes that are ready. The first three are
    /// listed in `join`.
    pub(crate) fn start(machine: &Arc<Machine>, count: usize, beat: &Path) -> Self {
        sweep();
        let nodes =
            Self { machine: Arc::clone(machine), prefix: format!("{PREFIX}{}", std::process::id()), count };
        nodes.make_image(beat);
        docker(&["network", "create", &nodes.prefix]);
        fs::create_dir_all(machine.path("traces")).expect("a directory can be made in the test's own");
        let secret = machine.path("join.secret").display().to_string();
        cli::run(machine, &["secret", "keygen", &secret], b"").ok();
        for name in nodes.names() {
            nodes.run(&name);
        }
        for name in nodes.names() {
            nodes.log_in(&name);
        }
        nodes.wait_ready(count);
        nodes
    }

    pub(crate) fn names(&self) -> Vec<String> {
        (1..=self.count).map(|number| format!("n{number}")).collect()
    }

    pub(crate) fn container(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    /// From nothing: what `ldd` names, where it names it, and the two programs.
    fn make_image(&self, beat: &Path) {
        let root = self.machine.path("image");
        for dir in ["tmp", "var/lib/sheaf", "etc/sheaf", "traces"] {
            fs::create_dir_all(root.join(dir)).expect("a directory can be made in the test's own");
        }
        for (from, to) in [(self.machine.binary(), "sheaf"), (beat, "beat")] {
            image::put(&root, from, to);
        }
        let tar = self.machine.path("image.tar");
        let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status();
        assert!(packed.is_ok_and(|status| status.success()), "tar of {}", root.display());
        docker(&["import", &tar.display().to_string(), &self.prefix]);
    }

    fn run(&self, name: &str) {
        let join = ["n1", "n2", "n3"].map(|name| format!("{name}:7420")).to_vec();
        let (address, http) = ("0.0.0.0:7420".to_owned(), "127.0.0.1:7421".to_owned());
        let mut plan = NodePlan::new(name, address, http, join, self.count, "/var/lib/sheaf".into());
        plan.more = "[security]\njoin_secret_file = \"/etc/sheaf/join.secret\"\n".to_owned();
        let config = self.machine.write(&format!("{name}.toml"), plan.toml());
        let dir = self.machine.path(name);
        fs::create_dir_all(&dir).expect("a directory can be made in the test's own");
        let mount = |from: &Path, to: &str| format!("{}:{to}", from.display());
        docker(&[
            "run",
            "--detach",
            "--name",
            &self.container(name),
            "--hostname",
            name,
            "--network",
            &self.prefix,
            "--network-alias",
            name,
            "--env",
            &format!("SHEAF_CONFIG_LISTEN_ADVERTISE={name}:7420"),
            "--env",
            "HOME=/tmp",
            "--volume",
            &mount(&config, "/etc/sheaf/agent.toml"),
            "--volume",
            &mount(&self.machine.path("join.secret"), "/etc/sheaf/join.secret"),
            "--volume",
            &mount(&dir, "/var/lib/sheaf"),
            "--volume",
            &mount(&self.machine.path("traces"), "/traces"),
            &self.prefix,
            "/sheaf",
            "agent",
        ]);
    }

    /// What reaches other machines is secured: from then on commands in the container show a token.
    fn log_in(&self, name: &str) {
        wait_for(&format!("a login on {name}"), READY_WITHIN, || {
            let done = self.cli(name, &["login", "--join-secret", "/etc/sheaf/join.secret"]);
            if done.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&done.stderr).into_owned())
            }
        });
    }

    /// What an agent has logged.
    pub(crate) fn log(&self, node: &str) -> String {
        let done = Command::new("docker").args(["logs", "--tail", "60", &self.container(node)]).output();
        done.map(|done| String::from_utf8_lossy(&done.stderr).into_owned()).unwrap_or_default()
    }

    /// Runs `sheaf` in a node's container; it asks that node.
    pub(crate) fn cli(&self, node: &str, args: &[&str]) -> Output {
        let container = self.container(node);
        let command = [&["exec", container.as_str(), "/sheaf"], args].concat();
        Command::new("docker").args(command).stdin(Stdio::null()).output().expect("docker can be started")
    }

    /// The JSON that a command prints.
    pub(crate) fn try_json(&self, node: &str, args: &[&str]) -> Result<Value, String> {
        let done = self.cli(node, args);
        let found = serde_json::from_slice(&done.stdout).ok().filter(|_| done.status.success());
        found.ok_or_else(|| {
            format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
        })
    }

    /// The JSON that a command prints, asked of the first node that answers.
    fn json(&self, args: &[&str]) -> Result<Value, String> {
        let mut last = String::new();
        for name in self.names() {
            match self.try_json(&name, args) {
                Ok(found) => return Ok(found),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// History about a bucket.
    pub(crate) fn events(&self, bucket: &str) -> Vec<Value> {
        let filter = format!("subject={bucket}");
        let leader = self.leader();
        let done = self.cli(&leader, &["events", "--all", "--where", &filter, "-o", "json"]);
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        text.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect()
    }

    pub(crate) fn apply(&self, documents: &str) {
        self.apply_by("n1", documents);
    }

    pub(crate) fn apply_by(&self, node: &str, documents: &str) {
        let mut child = Command::new("docker")
            .args(["exec", "--interactive", &self.container(node), "/sheaf", "apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker can be started");
        let mut input = child.stdin.take().expect("it was asked for");
        input.write_all(documents.as_bytes()).expect("it is read to its end");
        drop(input);
        let done = child.wait_with_output().expect("it can be waited for");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// The document of a bucket whose programs beat.
    pub(crate) fn bucket(&self, name: &str, more: &str) -> String {
        let inside = Path::new("/traces").join(name.trim_start_matches('/'));
        documents::bucket(name, "beating", &Trace::new(inside), more)
    }

    /// What its programs have written.
    pub(crate) fn trace(&self, name: &str) -> Trace {
        Trace::new(self.machine.path("traces").join(name.trim_start_matches('/')))
    }

    /// The name of the node that leads.
    pub(crate) fn leader(&self) -> String {
        wait_for("there is a leader", READY_WITHIN, || {
            let status = self.json(&["cluster", "status", "-o", "json"])?;
            status["leader"].as_str().map(str::to_owned).ok_or_else(|| status.to_string())
        })
    }

    pub(crate) fn wait_ready(&self, count: usize) {
        wait_for(&format!("{count} nodes are ready"), READY_WITHIN, || {
            let rows = self.json(&["node", "list", "-o", "json"])?;
            let ready = rows.as_array().into_iter().flatten().filter(|row| row["status"] == "ready").count();
            let status = self.json(&["cluster", "status", "-o", "json"])?;
            if ready == count && status["leader"].is_string() { Ok(()) } else { Err(rows.to_string()) }
        });
    }

    pub(crate) fn wait_running(&self, bucket: &str, count: u64) -> Value {
        wait_for(&format!("{count} of {bucket} run"), READY_WITHIN, || {
            let status = self.json(&["bucket", "status", bucket, "-o", "json"])?;
            if status["state"] == "running" && status["running"] == count {
                Ok(status)
            } else {
                Err(status.to_string())
            }
        })
    }

    /// Waits until a single-node bucket runs, and not on this node.
    pub(crate) fn wait_elsewhere(&self, bucket: &str, node: &str, within: Duration) {
        let asked = self.names().into_iter().find(|name| name != node).expect("there are more");
        wait_for(&format!("{bucket} runs elsewhere than on {node}"), within, || {
            let status = self.try_json(&asked, &["bucket", "status", bucket, "-o", "json"])?;
            let there = status["node_affinity"][0] == node;
            if status["state"] == "running" && !there { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// Moves a single-node bucket until it runs on a node that does not lead; that node, and its epoch there.
    pub(crate) fn place_away_from_leader(&self, bucket: &str) -> (String, u64) {
        let leader = self.leader();
        let status = self.wait_running(bucket, 1);
        if status["node_affinity"][0] == leader.as_str() {
            let done = self.cli(&leader, &["bucket", "move", bucket]);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            self.wait_elsewhere(bucket, &leader, READY_WITHIN);
        }
        let status = self.wait_running(bucket, 1);
        let node = status["node_affinity"][0].as_str().expect("it is bound").to_owned();
        (node, status["affinity_epoch"].as_u64().expect("a binding has an epoch"))
    }

    pub(crate) fn disconnect(&self, node: &str) {
        docker(&["network", "disconnect", "--force", &self.prefix, &self.container(node)]);
    }

    pub(crate) fn connect(&self, node: &str) {
        docker(&["network", "connect", "--alias", node, &self.prefix, &self.container(node)]);
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in self.names() {
                let _ = writeln!(std::io::stderr(), "--- log of {name}\n{}", self.log(&name));
            }
        }
        remove(&self.prefix);
    }
}

/// Removes what a test that was killed has left over; whoever holds the machine-wide lock is the only one.
fn sweep() {
    let images = names(&["images", "--format", "{{.Repository}}"]);
    images.iter().filter(|name| name.starts_with(PREFIX)).for_each(|name| remove(name));
}

/// Removes a test's containers, its network and its image.
fn remove(prefix: &str) {
    let containers = names(&["ps", "--all", "--format", "{{.Names}}"]);
    for name in containers.iter().filter(|name| name.starts_with(&format!("{prefix}-"))) {
        names(&["rm", "--force", "--volumes", name]);
    }
    names(&["network", "rm", prefix]);
    names(&["rmi", "--force", prefix]);
}
