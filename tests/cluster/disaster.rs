//! A majority of the voters is lost for good: one that is left founds the cluster anew, and everybody else follows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sheaf_tests::documents::bucket;
use sheaf_tests::{Agent, Cases, Cluster, Output, cli, wait_for};

use crate::restored::is_unused;
use crate::scene::{affinity, epoch, event_kinds, names, only_node, trace};

/// Detection, leases, elections, restarts.
const SOON: Duration = Duration::from_secs(40);
/// What a snapshot begins with.
const MAGIC: &[u8] = b"SHEAF SNAPSHOT";
/// Above every epoch that the first founding may give out.
const SECOND: u64 = 1 << 48;

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    let voters: [String; 3] = sorted(cluster.voters()).try_into().expect("three of five nodes vote");
    let watchers: [String; 2] = sorted(cluster.watchers()).try_into().expect("two do not");
    let scene = Scene { cluster, voters, watchers };
    cases.run("recover refuses what would lose something that is there", || scene.refused());
    cases.run("the last voter founds the cluster anew, and waits for nodes that may know better", || {
        scene.recovered();
    });
    cases.run("voters that come back are welcome, and bring nothing of the former cluster", || {
        scene.returned();
    });
    cases.run("a snapshot is saved, and restored when no voter is left", || scene.restored());
}

fn sorted(agents: Vec<&Agent>) -> Vec<String> {
    let names: BTreeSet<String> = agents.into_iter().map(Agent::name).collect();
    names.into_iter().collect()
}

struct Scene<'a> {
    cluster: &'a Cluster,
    /// The last one survives.
    voters: [String; 3],
    watchers: [String; 2],
}

fn recover(cluster: &Cluster, agent: &Agent, more: &[&str]) -> Output {
    let config = agent.config().display().to_string();
    cli::run(cluster.machine(), &[&["recover", "--config", &config], more].concat(), b"")
}

impl Scene<'_> {
    fn last(&self) -> &Agent {
        self.cluster.named(&self.voters[2])
    }

    fn lost(&self) -> &[String] {
        &self.voters[..2]
    }

    fn refused(&self) {
        let (cluster, last) = (self.cluster, self.last());
        let (all, one) = (trace(cluster, "all"), trace(cluster, "one"));
        cluster.apply_and_wait(&bucket("/disaster/all", "steady", &all, "multi_node: true"));
        cluster.apply_and_wait(&bucket("/disaster/one", "steady", &one, ""));
        let id = || cluster.json(&["cluster", "status", "-o", "json"])["cluster"].clone();
        let before = id();
        let forced = ["--force-new-cluster", "--yes"];
        recover(cluster, last, &forced).exits(1).mentions(&["in use by another agent"]);
        last.stop();
        recover(cluster, last, &[]).exits(2).mentions(&["--force-new-cluster"]);
        let output = recover(cluster, last, &forced).exits(1).calm();
        output.mentions(&["still answer", &self.voters[0], &self.voters[1]]);
        let watcher = cluster.named(&self.watchers[0]);
        watcher.stop();
        recover(cluster, watcher, &forced).exits(1).mentions(&["holds no replica"]);
        watcher.start();
        last.start();
        cluster.wait_ready();
        let own = last.cli(&["cluster", "status", "-o", "json"]).ok().json();
        assert_eq!((&own["cluster"], &id()), (&before, &before), "nothing has changed");
    }

    /// The last voter goes away, and after that the others agree that a single-node bucket is multi-node.
    fn lagged(&self) {
        let (cluster, late) = (self.cluster, trace(self.cluster, "late"));
        let only = format!("node_list_rules: [{}]", self.watchers[1]);
        for more in [only.as_str(), ""] {
            cluster.apply_and_wait(&bucket("/disaster/late", "steady", &late, more));
        }
        self.last().stop();
        cluster.apply(&bucket("/disaster/late", "steady", &late, "multi_node: true"));
        let others: BTreeSet<String> = self.lost().iter().chain(&self.watchers).cloned().collect();
        cluster.wait_status("/disaster/late", "runs on all the others", |status| {
            affinity(status).is_superset(&others)
        });
    }

    fn recovered(&self) {
        let (cluster, last) = (self.cluster, self.last());
        let [near, apart] = self.watchers.each_ref().map(|name| cluster.named(name));
        self.lagged();
        let pid = near.pid();
        for name in self.lost() {
            cluster.named(name).kill_machine();
        }
        self.watchers.iter().for_each(|name| knows_no_leader(cluster.named(name)));
        // What it runs multi-node runs on, and nobody hears of it.
        apart.kill();
        last.tear_log();
        let hung = TcpListener::bind(cluster.named(&self.voters[0]).address()).expect("its port is free");
        let output = recover(cluster, last, &["--force-new-cluster", "--yes"])
            .exits(1)
            .mentions(&["takes connections and does not say who it is", "If it is a process that hangs"]);
        assert!(
            output.stdout.contains("ends within a record"),
            "what is missing at its end is said: {output}"
        );
        drop(hung);
        recover(cluster, last, &["--force-new-cluster"]).exits(1).mentions(&["give --yes"]);
        let output = recover(cluster, last, &["--force-new-cluster", "--yes"]).ok();
        let lost = self.lost().join(", ");
        assert!(output.stdout.contains(&format!("other voters, all silent: {lost}")), "{output}");
        last.start();
        let nodes = ["node", "list", "-o", "json"];
        let there = BTreeSet::from([near.name(), last.name()]);
        wait("the watcher follows", last, &nodes, |rows| ready(rows) == there);
        assert_eq!(near.pid(), pid, "as the same process");
        let all = ["bucket", "status", "/disaster/all", "-o", "json"];
        wait("it runs on both", last, &all, |status| {
            status["state"] == "running" && affinity(status) == there
        });
        // It asks a member once a second who leads.
        wait("it knows who leads", near, &["cluster", "status", "-o", "json"], |status| {
            status["cluster"].as_str().is_some_and(|id| id.contains("+1-"))
        });

        // The last voter does not know that it is multi-node; who runs it so is waited for, as for all that may.
        let mut away: BTreeSet<String> = self.lost().iter().cloned().chain([apart.name()]).collect();
        self.wait_confirmed_but_by(&away);
        let on = |agent: &Agent| agent.programs("/disaster/late").len();
        assert_eq!((on(apart), on(near), on(last)), (1, 0, 0), "it runs multi-node, and nowhere else");
        apart.start();
        away.remove(&apart.name());
        self.wait_confirmed_but_by(&away);
        assert_eq!((on(apart), on(near), on(last)), (0, 0, 0), "only the lost ones may run it");
    }

    /// Single-node buckets wait for a word of these nodes alone.
    fn wait_confirmed_but_by(&self, nodes: &BTreeSet<String>) {
        for name in ["/disaster/one", "/disaster/late"] {
            let status = ["bucket", "status", name, "-o", "json"];
            wait("it waits for those that may run it", self.last(), &status, |status| {
                let message = status["message"].as_str().unwrap_or_default();
                let waits =
                    message.split_once("waits for ").and_then(|(_, rest)| rest.split_once(" to confirm"));
                waits.is_some_and(|(names, _)| {
                    names.split(", ").map(str::to_owned).collect::<BTreeSet<_>>() == *nodes
                })
            });
        }
    }

    fn returned(&self) {
        let cluster = self.cluster;
        for name in self.lost() {
            cluster.named(name).start();
        }
        cluster.wait_ready();
        cluster.wait_status("/disaster/all", "runs on all nodes", |status| {
            status["state"] == "running" && affinity(status) == names(1..=5)
        });
        for name in ["/disaster/one", "/disaster/late"] {
            let status = cluster.wait_state(name, "running");
            let (node, epoch) = (only_node(&status), epoch(&status));
            assert!(epoch > SECOND, "{status:#}");
            let running = cluster.agents().iter().filter(|agent| !agent.programs(name).is_empty());
            assert_eq!(running.map(Agent::name).collect::<Vec<_>>(), [node], "{status:#}");
        }
        cluster.delete(&["/disaster/late"]);
        let id = cluster.json(&["cluster", "status", "-o", "json"])["cluster"].as_str().map(str::to_owned);
        assert_eq!(event_kinds(cluster, &id.unwrap_or_default()), ["cluster.refounded"]);
    }

    fn restored(&self) {
        let cluster = self.cluster;
        let file = cluster.machine().path("cluster.snapshot").display().to_string();
        cluster.agent(5).cli(&["cluster", "snapshot", "save", &file]).ok();
        let head = cluster.json(&["cluster", "snapshot", "inspect", &file, "-o", "json"]);
        let count = |key: &str| head[key].as_u64().unwrap_or_default();
        assert_eq!((count("cluster_epoch"), count("buckets")), (1, 2), "{head:#}");
        let newer = cluster.machine().path("newer.snapshot").display().to_string();
        let whole = std::fs::read(&file).expect("the snapshot is there");
        std::fs::write(&newer, of_another_format(&whole)).expect("it can be written");
        let inspect = cluster.cli(&["cluster", "snapshot", "inspect", &newer]).exits(1).calm();
        inspect.mentions(&["a snapshot of version 2, this build reads 1", "use the sheaf that made it"]);
        let later = trace(cluster, "later");
        cluster.apply_and_wait(&bucket("/disaster/later", "steady", &later, ""));
        let before = epoch(&cluster.status("/disaster/one"));

        // The first machine is there again, with an empty disk.
        let first = cluster.agent(1);
        let restore = |file: &str, more: &[&str]| {
            let config = first.config().display().to_string();
            let ask = ["cluster", "snapshot", "restore", file, "--config", &config, "--yes"];
            cli::run(cluster.machine(), &[&ask, more].concat(), b"")
        };
        restore(&file, &[]).exits(1).mentions(&["in use by another agent"]);
        first.kill_machine();
        let record = || std::fs::read(first.dir().join("node.json")).expect("it is a node's");
        let former = record();
        restore(&file, &[]).exits(1).mentions(&["a node of cluster", "unused"]);
        assert_eq!(record(), former, "nothing was changed");
        first.change(|plan| plan.dir = cluster.machine().path("n1.new"));
        restore(&file, &[]).exits(1).calm().mentions(&["still answer"]);
        is_unused(&first.dir());
        for agent in cluster.agents() {
            if agent.is_running() {
                agent.kill_machine();
            }
        }
        unusable(cluster, &whole, &first.dir(), |file| restore(file, &[]));
        restore(&file, &["--cluster-epoch", "1"]).exits(1).mentions(&["at least 2"]);
        restore(&file, &[]).ok();
        restore(&file, &[]).exits(1).mentions(&["a node of cluster"]);
        for agent in cluster.agents() {
            agent.start();
        }
        let all = ["bucket", "status", "/disaster/all", "-o", "json"];
        wait("it runs on all nodes", first, &all, |status| {
            status["state"] == "running" && affinity(status) == names(1..=5)
        });
        // The disk that is gone may have run anything; only its operator knows that nothing of it is alive.
        let one = ["bucket", "status", "/disaster/one", "-o", "json"];
        let gone = "sheaf node forget ";
        wait("only the lost disk is waited for", first, &one, |status| {
            status["message"].as_str().is_some_and(|text| text.split(gone).nth(1).is_some_and(is_number))
        });
        let waits = first.cli(&one).ok().json();
        let lost = waits["message"].as_str().and_then(|text| text.split(gone).nth(1)).unwrap_or_default();
        first.cli(&["node", "forget", lost]).ok();
        wait("it runs somewhere", first, &one, |status| status["state"] == "running");
        assert!(epoch(&first.cli(&one).ok().json()) > before + SECOND / 2);
        first.cli(&["bucket", "status", "/disaster/later"]).exits(3);
        let status = first.cli(&["cluster", "status", "-o", "json"]).ok().json();
        assert!(status["cluster"].as_str().is_some_and(|id| id.contains("+2-")), "{status:#}");
        cluster.delete(&["/disaster/all", "/disaster/one"]);
    }
}

/// A snapshot that is damaged, and two of a later Sheaf: refused, and nothing is changed.
fn unusable(cluster: &Cluster, whole: &[u8], dir: &Path, restore: impl Fn(&str) -> Output) {
    let file = cluster.machine().path("unusable.snapshot").display().to_string();
    let before = content(dir);
    let others: [(&[u8], _); 3] = [
        (&whole[..whole.len() / 2], ["is damaged", "use another copy"]),
        (
            &of_another_format(whole),
            ["is a snapshot of version 2, this build reads 1", "use the sheaf that made it"],
        ),
        (&of_a_newer_schema(whole), ["its schema is 99, this build knows", "start a Sheaf at least as new"]),
    ];
    for (other, said) in others {
        std::fs::write(&file, other).expect("it can be written");
        restore(&file).exits(1).calm().mentions(&said);
        assert_eq!(content(dir), before, "nothing was changed: {said:?}");
    }
}

/// As a later Sheaf may write it: another layout of the file.
fn of_another_format(snapshot: &[u8]) -> Vec<u8> {
    let mut file = snapshot.to_vec();
    file[MAGIC.len()] += 1;
    sealed(file)
}

/// The same layout, but a database that only a later Sheaf can read.
fn of_a_newer_schema(snapshot: &[u8]) -> Vec<u8> {
    let mut file = snapshot.to_vec();
    let head = file[MAGIC.len() + 1..][..4].try_into().map(u32::from_le_bytes).expect("four bytes");
    let database = MAGIC.len() + 5 + head as usize;
    assert_eq!(&file[database..][..15], b"SQLite format 3", "where the database begins");
    // Where SQLite keeps the version that its user gives.
    file[database + 60..][..4].copy_from_slice(&99_u32.to_be_bytes());
    sealed(file)
}

/// With the checksum of what it holds now: whole, not damaged.
fn sealed(mut file: Vec<u8>) -> Vec<u8> {
    let end = file.len() - 4;
    let crc = crc32fast::hash(&file[..end]);
    file[end..].copy_from_slice(&crc.to_le_bytes());
    file
}

/// What lies in a data directory, with its bytes, but for who has its lock.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("readable").path());
    let entries = entries.filter(|path| !path.ends_with("lock"));
    entries.filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?))).collect()
}

/// Who holds no replica has nobody left to ask: it says so at once, and so does its number for alerts.
fn knows_no_leader(agent: &Agent) {
    wait_for(&format!("{} knows of no leader", agent.name()), SOON, || {
        let metrics = agent.metrics().map_err(|error| error.to_string())?;
        let line = metrics.lines().find(|line| line.starts_with("sheaf_raft_has_leader "));
        if line == Some("sheaf_raft_has_leader 0") { Ok(()) } else { Err(format!("{line:?}")) }
    });
    let status = agent.cli(&["cluster", "status", "-o", "json"]).exits(1).calm().json();
    assert!(status["message"].to_string().contains("no member that it reaches knows of one"), "{status:#}");
}

fn is_number(text: &str) -> bool {
    text.parse::<u64>().is_ok()
}

fn ready(rows: &serde_json::Value) -> BTreeSet<String> {
    let ready = rows.as_array().into_iter().flatten().filter(|row| row["status"] == "ready");
    ready.filter_map(|row| row["name"].as_str().map(str::to_owned)).collect()
}

fn wait(what: &str, agent: &Agent, args: &[&str], is_so: impl Fn(&serde_json::Value) -> bool) {
    wait_for(what, SOON, || {
        let seen = agent.try_json(args)?;
        if is_so(&seen) { Ok(()) } else { Err(format!("{seen:#}")) }
    });
}
