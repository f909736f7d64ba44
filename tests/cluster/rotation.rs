//! The authority that signs the certificates of a secured cluster is replaced; whoever calls meanwhile notices nothing.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use sheaf_tests::cluster::SOON;
use sheaf_tests::config::BRIEF_TTL;
use sheaf_tests::secured::{of_secret, private, shows, token, trust};
use sheaf_tests::{Agent, Cases, Cluster, Machine, cli, wait_for};

use crate::forming;
use crate::secure::{certificate, with_token};

/// How long a change of the authority may take, a node's lease included that is waited for.
const ROTATED_WITHIN: Duration = Duration::from_secs(60);

/// One cluster that formed by a join secret, and a node that joined by a token; both replaced their authority twice.
#[test]
fn rotated() {
    let machine = Arc::new(Machine::take());
    let secret = machine.path("join.secret");
    cli::run(&machine, &["secret", "keygen", &secret.display().to_string()], b"").ok();
    let mut cluster = Cluster::plan(&machine, "", 3, |_, plan| {
        plan.timing.ttl = BRIEF_TTL;
        plan.more = lasting(&secret);
    });
    cluster.start_all();
    let first = of_secret(&machine, &cluster, &secret);
    shows(&machine, Some(&first));
    cluster.wait_ready();
    let before = token(&cluster, &["--name", "before", "--role", "agent"]);
    cluster.add(with_token(&machine, "before.token", &before)).start();
    cluster.wait_ready();
    log_in(&machine, &cluster, &first);
    let mut cases = Cases::of("rotated");
    cases.run("another authority takes over while a node is down, and no call fails", || {
        takes_over(&machine, &cluster);
    });
    cases.run("the node that was down comes back with what it had", || comes_back(&cluster));
    cases.run("nodes join by tokens that were made before and after", || {
        join(&machine, &mut cluster, &before);
    });
    cases.run("once the former one is dropped whatever pins it says so", || {
        dropped(&machine, &cluster, &first, &before);
    });
    cases.run("it goes on without the leader that began it", || goes_on(&cluster));
    cases.run("a node that was away for too long says how it comes back", || too_late(&cluster));
    cases.run("history tells who did what", || history(&cluster));
    cases.end();
}

/// Certificates are renewed here for no other reason than the authority.
fn lasting(secret: &Path) -> String {
    format!(
        "[security]\njoin_secret_file = {:?}\ncertificate_lifetime = \"10m\"\n",
        secret.display().to_string()
    )
}

/// From now on commands show what the profile of the node's address has.
fn log_in(machine: &Machine, cluster: &Cluster, token: &str) {
    shows(machine, None);
    let file = private(machine, "person.token", token).display().to_string();
    for agent in cluster.agents() {
        agent.cli(&["login", "--profile", &agent.name(), "--token-file", &file]).ok();
    }
}

/// A client that asks and changes something again and again.
struct Calls {
    stop: Arc<AtomicBool>,
    calling: Option<JoinHandle<usize>>,
}

impl Calls {
    fn start(machine: &Arc<Machine>, address: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, machine, address) = (stop.clone(), machine.clone(), address.to_owned());
        let calling = std::thread::spawn(move || {
            let mut calls = 0;
            while !stopped.load(Ordering::Relaxed) {
                cli::run(&machine, &["node", "list", "--address", &address], b"").ok();
                for label in ["beat", "beat-"] {
                    cli::run(&machine, &["node", "label", "n2", label, "--address", &address], b"").ok();
                }
                calls += 3;
            }
            calls
        });
        Self { stop, calling: Some(calling) }
    }

    /// How many there were, none of which failed.
    fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.calling.take().map_or(0, |calling| calling.join().expect("no call fails"))
    }
}

/// Whatever becomes of the test: whoever calls on holds the machine.
impl Drop for Calls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn status(cluster: &Cluster) -> Value {
    cluster.json(&["cluster", "ca", "status", "-o", "json"])
}

fn wait_stage(cluster: &Cluster, stage: &str) -> Value {
    wait_for(&format!("the authority's change is {stage}"), ROTATED_WITHIN, || {
        let status = cluster.try_json(&["cluster", "ca", "status", "-o", "json"])?;
        if status["stage"] == stage { Ok(status) } else { Err(format!("{status:#}")) }
    })
}

fn takes_over(machine: &Arc<Machine>, cluster: &Cluster) {
    assert_eq!(status(cluster)["stage"], "settled");
    let voters = || (1..=3).map(|number| cluster.agent(number));
    let key = |agent: &Agent| fs::read(agent.dir().join("trust/authority.key")).expect("a voter has it");
    for agent in voters() {
        trust(agent);
    }
    let before: Vec<_> = voters().map(certificate).collect();
    let former = key(cluster.agent(1));
    cluster.agent(4).kill();
    let calls = Calls::start(machine, &cluster.agent(1).address());
    let within = format!("{}s", ROTATED_WITHIN.as_secs());
    cluster.cli(&["cluster", "ca", "rotate", "--wait", "--timeout", &within]).ok();
    for agent in voters() {
        agent.cli(&["node", "list"]).ok();
    }
    assert!(calls.end() > 0);
    let status = status(cluster);
    assert_eq!((&status["stage"], &status["authorities"][1]["stage"]), (&"renewed".into(), &"former".into()));
    let new = key(cluster.agent(1));
    assert_ne!(new, former);
    for (agent, before) in voters().zip(before) {
        assert!(certificate(agent) != before && key(agent) == new, "{}", agent.name());
    }
    let profiles =
        fs::read_to_string(machine.path(".config/sheaf/config.toml")).expect("login has written it");
    let pin = status["authorities"][0]["fingerprint"].as_str().expect("a fingerprint");
    assert!(profiles.contains(pin), "the profile has learned it:\n{profiles}");
}

fn comes_back(cluster: &Cluster) {
    let agent = cluster.agent(4);
    let before = certificate(agent);
    agent.start();
    cluster.wait_back(agent);
    wait_for("it has a certificate of the new authority", SOON, || {
        if certificate(agent) == before { Err(agent.log_tail()) } else { Ok(()) }
    });
    wait_stage(cluster, "renewed");
    for agent in cluster.agents() {
        agent.cli(&["node", "list"]).ok();
    }
}

fn join(machine: &Machine, cluster: &mut Cluster, before: &str) {
    cluster.add(with_token(machine, "again.token", before)).start();
    let after = token(cluster, &["--name", "after", "--role", "agent"]);
    cluster.add(with_token(machine, "after.token", &after)).start();
    cluster.wait_ready();
}

fn dropped(machine: &Arc<Machine>, cluster: &Cluster, first: &str, before: &str) {
    wait_stage(cluster, "renewed");
    cluster.cli(&["cluster", "ca", "rotate", "--finish", "--yes", "--wait"]).ok();
    assert_eq!(status(cluster)["stage"], "settled");
    let said = "has replaced its authority since the token was made";
    shows(machine, Some(first));
    wait_for("a token that pins the former authority is worth nothing", SOON, || {
        let output = cluster.agent(2).cli(&["node", "list"]);
        if output.code == 1 && output.stderr.contains(said) { Ok(()) } else { Err(output.to_string()) }
    });
    shows(machine, None);
    for number in 1..=4 {
        cluster.agent(number).cli(&["node", "list"]).ok();
    }
    let late = forming::more(cluster, "late", with_token(machine, "late.token", before));
    late.start();
    wait_for("a node with such a token says so", SOON, || {
        if late.log().contains(said) { Ok(()) } else { Err(late.log_tail()) }
    });
    late.kill();
}

fn goes_on(cluster: &Cluster) {
    // Away from here on, and for too long.
    cluster.agent(6).kill();
    cluster.cli(&["cluster", "transfer", "--to", "n2"]).ok();
    cluster.cli(&["cluster", "ca", "rotate"]).ok();
    cluster.agent(2).kill();
    wait_for("another one leads", SOON, || {
        let status = cluster.try_json(&["cluster", "status", "-o", "json"])?;
        match status["leader"].as_str() {
            Some(leader) if leader != "n2" => Ok(()),
            _ => Err(format!("{status:#}")),
        }
    });
    cluster.agent(2).start();
    wait_stage(cluster, "renewed");
    cluster.cli(&["cluster", "ca", "rotate"]).exits(1).mentions(&["is being replaced already"]);
}

fn too_late(cluster: &Cluster) {
    wait_for("all but one have new certificates, and that one is lost", ROTATED_WITHIN, || {
        let output = cluster.cli(&["cluster", "ca", "rotate", "--finish", "--yes"]);
        if output.code == 0 && output.stderr.contains("to join anew") && output.stderr.contains("n6") {
            Ok(())
        } else {
            Err(output.to_string())
        }
    });
    wait_stage(cluster, "settled");
    let agent = cluster.agent(6);
    agent.start();
    wait_for("it says that it must join anew", SOON, || {
        if agent.log().contains("it joins anew then, with an empty data directory and a join token") {
            Ok(())
        } else {
            Err(agent.log_tail())
        }
    });
    agent.kill();
    cluster.cli(&["node", "list"]).ok();
}

fn history(cluster: &Cluster) {
    let events = cluster.cli(&["events", "-o", "json", "--all"]).ok().json_lines();
    let by = |kind: &str| -> Vec<String> {
        let events = events.iter().filter(|event| event["kind"] == kind);
        events.filter_map(|event| event["actor"].as_str()).map(str::to_owned).collect()
    };
    let person = "user:join-secret";
    let added = by("authority.added");
    assert_eq!(added.iter().filter(|actor| *actor == person).count(), 2, "{added:?}");
    let issues = by("authority.issues");
    assert!(issues.len() == 2 && issues.iter().all(|actor| actor.starts_with("leader:")), "{issues:?}");
    assert_eq!(by("authority.dropped"), [person, person]);
    for agent in cluster.agents() {
        assert!(!agent.log().contains("PRIVATE KEY"), "the log of {}", agent.name());
    }
}
