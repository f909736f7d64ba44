//! A snapshot of a secured cluster is restored: with the key of its authority, or with an authority that is made then.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sheaf_tests::config::BRIEF_TTL;
use sheaf_tests::documents::{bucket, module};
use sheaf_tests::secured::{config, copy, of_secret, secret, shows, token, trust};
use sheaf_tests::{Agent, Cases, Cluster, Machine, Output, cli, wait_for};

use crate::scene::trace;
use crate::secure::{certificate, with_token};

/// An election, starts of programs, and a node that follows.
const GOES_ON_WITHIN: Duration = Duration::from_secs(60);
/// The key that only voters have.
const KEY: &str = "authority.key";

/// Three voters that formed by a join secret are lost at once; what is left of them is a snapshot and the folder `trust` of one.
#[test]
fn restored() {
    let machine = Arc::new(Machine::take());
    let secret = secret(&machine, "join.secret");
    let mut cluster = Cluster::plan(&machine, "", 3, |_, plan| {
        plan.timing.ttl = BRIEF_TTL;
        plan.more = config(&secret);
    });
    cluster.start_all();
    let first = of_secret(&machine, &cluster, &secret);
    shows(&machine, Some(&first));
    cluster.wait_ready();
    let saved = Saved::of(&machine, &cluster);
    let mut cases = Cases::of("restored");
    cases.run("without the authority's key a restore is refused, and both ways out are said", || {
        saved.refused(&cluster);
    });
    cases.run("with the folder trust of a voter it goes on, and a former voter follows", || {
        saved.goes_on(&cluster);
    });
    cases.run("with an authority that is made then it goes on, and a node joins anew", || {
        saved.begins_anew(&mut cluster);
    });
    cases.end();
}

/// What is left.
struct Saved {
    machine: Arc<Machine>,
    snapshot: String,
    /// A voter's.
    trust: PathBuf,
    /// The token of an admin.
    admin: String,
}

impl Saved {
    /// Of a cluster that runs something, and whose machines are all dead then.
    fn of(machine: &Arc<Machine>, cluster: &Cluster) -> Self {
        cluster.apply(&module("steady", ""));
        cluster.apply_and_wait(&bucket("/kept", "steady", &trace(cluster, "kept"), "multi_node: true"));
        let admin = token(cluster, &["--name", "ada", "--role", "admin"]);
        token(cluster, &["--name", "cora", "--role", "viewer", "--certificate"]);
        let kept = machine.path("kept.trust");
        copy(&trust(cluster.agent(1)), &kept, None);
        let snapshot = machine.path("cluster.snapshot").display().to_string();
        cluster.cli(&["cluster", "snapshot", "save", &snapshot]).ok();
        cluster.agents().iter().for_each(Agent::kill_machine);
        Self { machine: machine.clone(), snapshot, trust: kept, admin }
    }

    fn restore(&self, agent: &Agent, more: &[&str]) -> Output {
        let config = agent.config().display().to_string();
        let ask = ["cluster", "snapshot", "restore", self.snapshot.as_str(), "--config", config.as_str()];
        cli::run(&self.machine, &[&ask[..], more].concat(), b"")
    }

    fn refused(&self, cluster: &Cluster) {
        let agent = cluster.agent(1);
        let joining = agent.plan().more;
        agent.change(|plan| plan.dir = self.machine.path("n1.without"));
        let refused = || {
            let said = ["trust/authority.key; it is not there", "Copy the folder trust", "--new-authority"];
            self.restore(agent, &["--yes"]).exits(1).mentions(&said);
            is_unused(&agent.dir());
        };
        refused();
        // Its join secret is no key of the cluster's either way.
        agent.change(|plan| plan.more.clear());
        refused();
        // What every node has is not enough.
        copy(&self.trust, &agent.dir().join("trust"), Some(KEY));
        refused();
        self.restore(agent, &["--new-authority"]).exits(1).mentions(&["give --yes"]);
        is_unused(&agent.dir());
        assert!(agent.dir().join("trust/node.pem").exists(), "nothing was changed");
        agent.change(|plan| plan.more = joining);
    }

    fn goes_on(&self, cluster: &Cluster) {
        let agent = cluster.agent(1);
        agent.change(|plan| plan.dir = self.machine.path("n1.kept"));
        copy(&self.trust, &agent.dir().join("trust"), None);
        let said = ["nothing is missing", "leave out --new-authority"];
        self.restore(agent, &["--yes", "--new-authority"]).exits(1).mentions(&said);
        is_unused(&agent.dir());
        self.restore(agent, &["--yes"]).ok();
        let of_voter = fs::read(self.trust.join("node.pem")).expect("it was copied");
        assert_ne!(certificate(agent), of_voter, "it is another node");
        agent.start();
        self.serves(agent, &self.admin);
        assert_eq!(tokens(agent), names(&["ada", "cora", "join-secret"]));
        let follower = cluster.agent(2);
        follower.start();
        let rows = ["node", "list", "--where", "status=ready", "-o", "json"];
        wait_for("a former voter follows", GOES_ON_WITHIN, || {
            let rows = agent.cli(&rows).try_json()?;
            if names_in(&rows).contains("n2") {
                Ok(())
            } else {
                Err(format!("{rows:#}\n{}", follower.log_tail()))
            }
        });
        [agent, follower].into_iter().for_each(Agent::kill_machine);
    }

    fn begins_anew(&self, cluster: &mut Cluster) {
        let agent = cluster.agent(1);
        agent.change(|plan| {
            plan.dir = self.machine.path("n1.anew");
            plan.more.clear();
        });
        let trust = agent.dir().join("trust");
        copy(&self.trust, &trust, Some(KEY));
        let said = self.restore(agent, &["--yes", "--new-authority"]).ok().stdout;
        let new = fingerprint(&said);
        for part in ["neither believe it nor follow", "are revoked: cora\n", "keep a copy of that folder"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let before = said.lines().find_map(|line| line.strip_prefix("what was in that folder before is in "));
        let before = Path::new(before.expect("where it is"));
        let [was, of_voter] = [before, self.trust.as_path()].map(|folder| fs::read(folder.join("node.pem")));
        assert_eq!(was.expect("it is there"), of_voter.expect("it was copied"));
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&trust), mode(&trust.join(KEY))), (0o700, 0o600));

        agent.start();
        let admin = self.admin.rsplit_once('.').map(|(token, _)| format!("{token}.{new}"));
        let admin = admin.expect("it pins the authority");
        self.serves(agent, &admin);
        shows(&self.machine, Some(&self.admin));
        agent.cli(&["node", "list"]).exits(1).mentions(&["belongs to another cluster than the token"]);
        shows(&self.machine, Some(&admin));
        let status = agent.cli(&["cluster", "ca", "status", "-o", "json"]).ok().json();
        assert_eq!(
            (&status["stage"], status["authorities"].as_array().map(Vec::len)),
            (&"settled".into(), Some(1))
        );
        assert_eq!(status["authorities"][0]["fingerprint"], new, "{status:#}");
        assert_eq!(tokens(agent), names(&["ada", "join-secret"]));

        let join = token(cluster, &["--name", "late", "--role", "agent"]);
        cluster.add(with_token(&self.machine, "late.token", &join)).start();
        cluster.wait_node("n4", "ready");
        cluster.agents().iter().for_each(Agent::kill_machine);
    }

    /// It answers over TLS to who shows that token, which pins the authority, and runs what was registered.
    fn serves(&self, agent: &Agent, token: &str) {
        shows(&self.machine, Some(token));
        wait_for("what was registered is there", GOES_ON_WITHIN, || {
            assert!(!agent.has_ended(), "it has ended by itself:\n{}", agent.log_tail());
            let output = agent.cli(&["bucket", "status", "/kept"]);
            if output.code == 0 { Ok(()) } else { Err(format!("{output}\n{}", agent.log_tail())) }
        });
        wait_for("what was registered runs", GOES_ON_WITHIN, || match agent.programs("/kept").len() {
            1 => Ok(()),
            other => Err(format!("{other} programs\n{}", agent.log_tail())),
        });
    }
}

/// Nobody's yet; and nothing is left of what was tried.
pub(crate) fn is_unused(dir: &Path) {
    let record = fs::read(dir.join("node.json")).expect("who opens it writes it");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    assert!(record["cluster"].is_null() && record["node"].is_null(), "{record:#}");
    let entries = fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("readable").file_name());
    let known = ["lock", "node.json", "trust"];
    let left: Vec<_> = entries.filter(|name| !known.iter().any(|known| name == known)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The one that is told.
fn fingerprint(said: &str) -> String {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("the new cluster has an authority that is made now: "));
    line.unwrap_or_else(|| panic!("an authority in {said}")).to_owned()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn names_in(rows: &Value) -> BTreeSet<String> {
    let rows = rows.as_array().into_iter().flatten();
    rows.filter_map(|row| row["name"].as_str()).map(str::to_owned).collect()
}

fn tokens(agent: &Agent) -> BTreeSet<String> {
    names_in(&agent.cli(&["cluster", "token", "list", "-o", "json"]).ok().json())
}
