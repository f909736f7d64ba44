//! A whole agent with real keepers and programs, against a leader behind a real port.

#![allow(clippy::unwrap_used, reason = "this is all test; the linter knows that of #[test] functions only")]

mod leader;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use leader::{Leader, NODE, name};
use rustix::process::{Pid, Signal, kill_process_group};
use sheaf_agent::{Agent, AgentError, Handle, Members, NodeConfig, Options, facts};
use sheaf_engine::{Command, Register};
use sheaf_model::{
    Check, CheckKind, Contact, Exec, Gate, Json, ModuleName, ModuleSpec, ModuleVersion, NodeName, Part,
    Phase, Runtime, Span, Stop, Template,
};
use sheaf_wire::logs::LogsOf;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Longer than anything takes on a busy machine; only a failing test waits for so long.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    leader: Leader,
    address: String,
    dir: TempDir,
    _serving: AbortOnDropHandle<()>,
}

struct Life {
    handle: Handle,
    stop: CancellationToken,
    running: JoinHandle<Result<(), AgentError>>,
}

/// The data directory's identity.
const KEY: &str = "k";

impl World {
    async fn new() -> Self {
        let (leader, address, serving) = Leader::serve().await;
        let dir = tempfile::tempdir().unwrap();
        let world = Self { leader, address, dir, _serving: serving };
        world.leader.register(Register { key: KEY.into(), facts: facts::facts(&world.config(), "1") });
        world.leader.apply(module(|_| {}));
        world
    }

    fn config(&self) -> NodeConfig {
        NodeConfig {
            name: NodeName::new("n1").unwrap(),
            hostname: "n1".to_owned(),
            address: self.address.clone(),
            labels: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }

    fn agent(&self) -> Life {
        self.agent_with(PathBuf::from(env!("CARGO_BIN_EXE_keeper-probe")))
    }

    /// An agent whose keepers are this program.
    fn agent_with(&self, binary: PathBuf) -> Life {
        self.agent_of(self.options(binary))
    }

    fn options(&self, binary: PathBuf) -> Options {
        Options {
            data_dir: self.dir.path().to_owned(),
            cluster: "c".into(),
            node: NODE,
            key: KEY.into(),
            incarnation: facts::new_incarnation(),
            config: self.config(),
            version: "1".to_owned(),
            own: self.address.clone(),
            members: Arc::new(Vec::new),
            binary,
            transport: sheaf_wire::Transport::plain(),
            cache: sheaf_artifact::Cache::open(&self.dir.path().join("artifacts"), 0).unwrap(),
            slots: 2,
            seal: None,
            stand_in: false,
            elsewhere: Arc::new(facts::Strain::default),
        }
    }

    fn agent_of(&self, options: Options) -> Life {
        let (agent, handle) = Agent::new(options).unwrap();
        let stop = CancellationToken::new();
        Life { handle, stop: stop.clone(), running: tokio::spawn(agent.run(stop)) }
    }

    async fn until_phase(&self, bucket: &str, phase: Phase) -> Option<u32> {
        until(&format!("{bucket} is {}", phase.as_str()), || {
            self.leader.instance(bucket).is_some_and(|instance| instance.phase == phase)
        })
        .await;
        self.leader.instance(bucket).and_then(|instance| instance.pid)
    }

    /// A program that is a keeper after a while, and leaves a file before.
    fn slow_keeper(&self) -> (PathBuf, PathBuf) {
        let (program, begun) = (self.dir.path().join("slow-keeper"), self.dir.path().join("begun"));
        let keeper = env!("CARGO_BIN_EXE_keeper-probe");
        let script = format!("#!/bin/sh\n: > {}\nsleep 0.5\nexec {keeper} \"$@\"\n", begun.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        (program, begun)
    }

    fn has_directory(&self, bucket: &str) -> bool {
        let file = bucket.trim_start_matches('/').replace('/', "+");
        self.dir.path().join("instances").join(file).exists()
    }
}

impl Life {
    async fn end(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.running).await.unwrap().unwrap().unwrap();
    }
}

/// No test leaves a process behind, not even one that fails.
impl Drop for World {
    fn drop(&mut self) {
        for pid in processes_below(self.dir.path()) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn processes_below(dir: &Path) -> Vec<i32> {
    let dir = dir.to_string_lossy().into_owned();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let names_it = |pid: &i32| {
        ["environ", "cmdline"].iter().any(|file| {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&dir)
        })
    };
    pids.filter(names_it).collect()
}

fn template(text: &str) -> Template {
    Template(vec![Part::Text(text.to_owned())])
}

fn module(change: impl FnOnce(&mut ModuleSpec)) -> ModuleSpec {
    let mut module =
        ModuleSpec::new(ModuleName::new("m").unwrap(), ModuleVersion::new("1").unwrap(), Runtime::Exec);
    let script = "echo up; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let args = vec![template("-c"), template(script)];
    module.exec = Some(Exec { command: template("/bin/sh"), args, env: Default::default() });
    module.stop = Stop { grace: Span::seconds(20), ..Stop::default() };
    change(&mut module);
    module
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "waited in vain until {what}");
}

/// Its watch begins at the member that is stopped, as the node's own would.
#[tokio::test]
async fn what_a_stopped_member_does_not_tell_the_leader_is_asked_for() {
    let world = World::new().await;
    let (stopped, _serving) = world.leader.stopped_member().await;
    let leader = Contact { address: world.address.clone(), node: None };
    let members: Members = Arc::new(move || vec![leader.clone()]);
    let probe = PathBuf::from(env!("CARGO_BIN_EXE_keeper-probe"));
    let life = world.agent_of(Options { own: stopped, members, ..world.options(probe) });
    let has_begun = || world.leader.watched_in_vain() > 0 && world.leader.heartbeats() > 0;
    until("it watches, and has a session", has_begun).await;
    world.leader.put("/m/one", |_| {});
    world.leader.bind("/m/one");
    world.until_phase("/m/one", Phase::Running).await;
    life.end().await;
}

/// A29, A44
#[tokio::test]
async fn a44_an_agent_that_restarts_finds_what_it_runs_and_ends_what_is_gone() {
    let world = World::new().await;
    let life = world.agent();
    world.leader.put("/m/stays", |spec| spec.multi_node = true);
    world.leader.put("/m/goes", |spec| spec.multi_node = true);
    let stays = world.until_phase("/m/stays", Phase::Running).await.unwrap();
    let goes = world.until_phase("/m/goes", Phase::Running).await.unwrap();
    life.end().await;
    assert!(is_alive(stays) && is_alive(goes), "keepers outlive the agent");
    world.leader.on("/m/goes", Command::DeleteBucket);
    // Only where it runs changes: nothing is restarted, also not by an agent that was away.
    world.leader.put("/m/stays", |spec| {
        spec.multi_node = true;
        spec.owner = Some("me".to_owned());
    });

    let life = world.agent();
    until("what was deleted is gone", || !is_alive(goes) && !world.has_directory("/m/goes")).await;
    until("its end is confirmed", || !world.leader.has_residue("/m/goes")).await;
    until("what stays is known again", || {
        world
            .leader
            .instance("/m/stays")
            .is_some_and(|it| it.pid == Some(stays) && it.phase == Phase::Running)
    })
    .await;
    assert!(is_alive(stays));

    let ask = LogsOf { bucket: name("/m/stays"), follow: false, since: None, tail: Some(5), previous: false };
    let lines: Vec<_> = life.handle.logs(ask).await.unwrap().collect().await;
    assert!(lines.iter().any(|line| line.as_ref().is_ok_and(|line| line.text == "up" && line.node == "n1")));
    let state = life.handle.state().await.unwrap();
    assert!(state.has_session && state.instances.iter().any(|it| it.pid == Some(stays)), "{state:?}");
    world.leader.on("/m/stays", Command::Suspend);
    until("it is suspended", || !is_alive(stays)).await;
    assert!(world.has_directory("/m/stays"), "kept for its return");
    life.end().await;
}

#[tokio::test]
async fn two_hundred_instances_of_one_node_outlive_their_agent_and_are_found_again() {
    const COUNT: usize = 200;
    let world = World::new().await;
    world.leader.apply(module(|module| {
        module.version = ModuleVersion::new("2").unwrap();
        let args = vec![template("100000")];
        module.exec = Some(Exec { command: template("/bin/sleep"), args, env: Default::default() });
    }));
    let names: Vec<String> = (0..COUNT).map(|number| format!("/many/{number}")).collect();
    let life = world.agent();
    for name in &names {
        world.leader.put(name, |spec| {
            spec.multi_node = true;
            spec.module = sheaf_model::ModuleRef::parse("m@2").unwrap();
        });
    }
    let running = || -> Option<BTreeSet<u32>> {
        let of = |name: &String| world.leader.instance(name).filter(|it| it.phase == Phase::Running)?.pid;
        names.iter().map(of).collect()
    };
    until("all of them run", || running().is_some()).await;
    let before = running().unwrap();
    assert_eq!(before.len(), COUNT);
    life.end().await;
    assert!(before.iter().all(|pid| is_alive(*pid)), "keepers outlive the agent");

    let life = world.agent();
    let found = async {
        loop {
            let state = life.handle.state().await.unwrap();
            let runs = state.instances.iter().filter(|it| it.phase == Phase::Running);
            let pids: BTreeSet<u32> = runs.filter_map(|it| it.pid).collect();
            if state.has_session && pids.len() == COUNT {
                return pids;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let found = timeout(PATIENCE, found).await.expect("all of them are found again");
    assert!(found == before, "the same processes");
    life.end().await;
}

#[tokio::test]
async fn a_single_node_instance_lives_as_long_as_it_is_acknowledged() {
    let world = World::new().await;
    let life = world.agent();
    world.leader.put("/s", |_| {});
    until("the node has answered", || world.leader.verdict("/s").is_some_and(|it| it.eligible())).await;
    let epoch = world.leader.bind("/s");
    let pid = world.until_phase("/s", Phase::Running).await.unwrap();
    assert_eq!(world.leader.instance("/s").unwrap().epoch, Some(epoch));
    sleep(Duration::from_millis(3500)).await; // longer than a lease: it is prolonged all the time
    assert!(is_alive(pid));
    world.leader.keep_silent(true);
    until("its lease is over", || !is_alive(pid)).await;
    world.leader.keep_silent(false);
    until("it runs again", || {
        world.leader.instance("/s").is_some_and(|it| it.phase == Phase::Running && it.pid != Some(pid))
    })
    .await;
    world.leader.on("/s", Command::Suspend);
    until("it is given up", || world.leader.gave_up("/s") == Some(epoch)).await;
    assert!(processes_below(world.dir.path()).is_empty(), "given up with nothing of it alive");
    life.end().await;
}

/// The settings may change while its session stands.
#[tokio::test]
async fn heartbeats_are_as_far_apart_as_the_last_acknowledgement_says() {
    let world = World::new().await;
    world.leader.beat_every(Span::seconds(600), Span::millis(20));
    let life = world.agent();
    until("it is heard as often as it was told since", || world.leader.heartbeats() >= 20).await;
    life.end().await;
}

/// Neither its next life nor a stand-in could find what is not there yet, and nobody would prolong its lease.
#[tokio::test]
async fn an_agent_that_stops_waits_for_what_it_is_starting() {
    let world = World::new().await;
    let (keeper, begun) = world.slow_keeper();
    let life = world.agent_with(keeper);
    world.leader.put("/s", |_| {});
    until("the node has answered", || world.leader.verdict("/s").is_some_and(|it| it.eligible())).await;
    let epoch = world.leader.bind("/s");
    until("its keeper is being started", || begun.exists()).await;
    life.end().await;
    assert!(world.dir.path().join("instances/s/status.json").exists(), "its keeper holds the bucket");

    let life = world.agent();
    world.until_phase("/s", Phase::Running).await.unwrap();
    assert_eq!(world.leader.instance("/s").unwrap().epoch, Some(epoch));
    let ask = LogsOf { bucket: name("/s"), follow: false, since: None, tail: Some(5), previous: false };
    let lines: Vec<_> = life.handle.logs(ask).await.unwrap().collect().await;
    assert_eq!(lines.len(), 1, "it was started once: {lines:?}");
    life.end().await;
}

/// A27
#[tokio::test]
async fn a27_from_single_to_multi_without_interruption_and_back_with_a_confirmation() {
    let world = World::new().await;
    let life = world.agent();
    world.leader.put("/s", |_| {});
    until("the node has answered", || world.leader.verdict("/s").is_some_and(|it| it.eligible())).await;
    let epoch = world.leader.bind("/s");
    let pid = world.until_phase("/s", Phase::Running).await.unwrap();
    world.leader.put("/s", |spec| spec.multi_node = true);
    until("it counts as multi-node", || world.leader.instance("/s").is_some_and(|it| it.epoch.is_none()))
        .await;
    world.leader.free("/s", epoch);
    sleep(Duration::from_millis(3500)).await; // longer than a lease: it needs none
    assert!(is_alive(pid), "not interrupted");
    life.end().await;

    let life = world.agent();
    until("it is known again", || world.leader.instance("/s").is_some_and(|it| it.epoch.is_none())).await;
    assert!(is_alive(pid), "not interrupted by a restart of the agent either");
    world.leader.put("/s", |spec| spec.multi_node = false);
    until("its end is confirmed", || !world.leader.has_residue("/s")).await;
    assert!(!is_alive(pid));
    life.end().await;
}

/// A25, A42
#[tokio::test]
async fn a25_a42_changes_restart_once_and_crashes_end_in_failed() {
    let world = World::new().await;
    let life = world.agent();
    world.leader.put("/m", |spec| spec.multi_node = true);
    let first = world.until_phase("/m", Phase::Running).await.unwrap();
    let changed = |port: u64| Json::new(&serde_json::json!({ "port": port }));
    world.leader.put("/m", |spec| {
        spec.multi_node = true;
        spec.config = changed(1);
    });
    until("it was restarted", || {
        world.leader.instance("/m").is_some_and(|it| it.phase == Phase::Running && it.pid != Some(first))
    })
    .await;
    assert!(!is_alive(first));
    let crash = |version: &str, give_up_count: u32| {
        world.leader.apply(module(|module| {
            module.version = ModuleVersion::new(version).unwrap();
            module.exec.as_mut().unwrap().args = vec![template("-c"), template("echo no luck; exit 7")];
            module.restart.backoff_min = Span::millis(10);
            module.restart.backoff_max = Span::millis(20);
            module.restart.give_up_count = give_up_count;
        }));
        world.leader.put("/m", |spec| {
            spec.multi_node = true;
            spec.module = sheaf_model::ModuleRef::parse(&format!("m@{version}")).unwrap();
        });
    };
    let restarting = async || life.handle.state().await.unwrap().restarting;
    assert_eq!(restarting().await, 0);
    crash("2", 1_000_000);
    let again = async {
        while restarting().await != 1 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("it is started again and again");
    crash("3", 5);
    world.until_phase("/m", Phase::Failed).await;
    let failed = world.leader.instance("/m").unwrap();
    assert!(failed.message.contains("no luck"), "{failed:?}");
    assert_eq!((failed.restarts, restarting().await), (5, 0));
    life.end().await;
}

/// A1, A13, A41
#[tokio::test]
async fn all_three_gates_are_told_and_a_config_read_again_counts() {
    let world = World::new().await;
    let life = world.agent();
    world.leader.apply(module(|module| {
        module.version = ModuleVersion::new("3").unwrap();
        let kind = CheckKind::File(template("/opt/flume/bin/flume-ng"));
        module.can_run_on_this_node = vec![Check { kind, timeout: None }];
    }));
    world.leader.put("/no", |spec| {
        spec.multi_node = true;
        spec.module = sheaf_model::ModuleRef::parse("m@3").unwrap();
    });
    world.leader.put("/yes", |spec| spec.multi_node = true);
    let pid = world.until_phase("/yes", Phase::Running).await.unwrap();
    until("the refusal is told", || world.leader.verdict("/no").is_some()).await;
    let verdict = world.leader.verdict("/no").unwrap();
    let (gate, outcome) = verdict.refusal().unwrap();
    assert_eq!((gate, &*outcome.reason), (Gate::CanRunOnThisNode, "/opt/flume/bin/flume-ng does not exist"));
    let config = NodeConfig { deny: vec!["m".to_owned()], ..world.config() };
    life.handle.reload(config).await.unwrap();
    until("what is denied stops", || !is_alive(pid)).await;
    until("and the leader hears why", || {
        world.leader.verdict("/yes").is_some_and(|it| it.gates[0].pass == Some(false))
    })
    .await;
    life.end().await;
}
