//! What holds where systemd is the first process, asked from within, as root: what the package brings and takes away, how its unit
//! starts, stops and is hardened, and that what runs outlives the agent.
//!
//! In a container there are two more agents beside the unit, so that work can go elsewhere. An emulated machine is slow: there the
//! agent is alone, and does what depends on its control groups.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sheaf_tests::need::say;
use sheaf_tests::{Cases, manual, processes, wait_for};

use crate::world::run as done;

/// Set where the test runs within, to what it does there.
pub(crate) const WITHIN: &str = "SHEAF_TEST_WITHIN";
/// The version of the second package.
pub(crate) const NEXT: &str = "SHEAF_TEST_NEXT";
/// The node of the unit's agent.
pub(crate) const NODE: &str = "node-1";

const PACKAGE: &str = "/sheaf.deb";
const NEXT_PACKAGE: &str = "/next.deb";
const CONFIG: &str = "/etc/sheaf/agent.toml";
const BINARY: &str = "/usr/bin/sheaf";
/// What says which node this is, in its data directory.
const IDENTITY: &str = "/var/lib/sheaf/node.json";
/// By which the unit is started with the machine.
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/sheaf.service";
/// A copy of the binary, and all of the other agents: the package does not know of it.
const OTHER: &str = "/other";
/// For a step, on a machine that is emulated.
const SOON: Duration = Duration::from_secs(60);

/// The unit of the other agents.
const OTHERS: &str = "[Service]\nExecStart=/other/sheaf agent --config /other/%i.toml\nKillMode=process\nDelegate=yes\n\
    [Install]\nWantedBy=multi-user.target\n";

/// `/one` is for one node, `/all` for all, with a limit and a user.
const DOCUMENTS: &str = "kind: Module\nname: writing\nversion: '1'\nruntime: exec\n\
    exec: {command: /bin/sh, args: [-c, 'touch /usr/of-a-module || echo refused; exec sleep 100000']}\n---\n\
    kind: Module\nname: limited\nversion: '1'\nruntime: exec\nexec: {command: /bin/sleep, args: ['100000']}\n\
    user: sheaf\nlimits: {memory: 64MiB}\n---\n\
    kind: Bucket\nname: /one\nmodule: writing\n---\nkind: Bucket\nname: /all\nmodule: limited\nmulti_node: true\n";

/// What `systemd-analyze security` may come to, in tenths: it was 5.6 with systemd 252.
const EXPOSED: &str = "--threshold=60";

/// Rights that nothing in the unit has: CAP_NET_ADMIN, CAP_SYS_MODULE, CAP_SYS_ADMIN, CAP_SYS_BOOT, CAP_SYS_TIME.
const TAKEN_AWAY: [u32; 5] = [12, 16, 21, 22, 25];

/// A part of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In a container that has just been made.
    First,
    /// In the same after it was started again.
    Booted,
    /// In an emulated machine.
    Emulated,
}

impl Phase {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Booted => "booted",
            Self::Emulated => "emulated",
        }
    }

    /// The one that this process is to do; none: it does not run within.
    pub(crate) fn of_environment() -> Option<Self> {
        let said = env::var(WITHIN).ok()?;
        [Self::First, Self::Booted, Self::Emulated].into_iter().find(|phase| phase.as_str() == said)
    }

    /// The configuration of one of the agents. Alone, an agent leads again only some time after it was started again.
    fn config(self, number: usize) -> String {
        let name = format!("node-{number}");
        let dir = if name == NODE { "/var/lib/sheaf".to_owned() } else { format!("{OTHER}/data-{number}") };
        let ports = |last: usize| format!("127.0.0.1:74{}{last}", number + 1);
        let mut text = format!(
            "[node]\nname = {name:?}\nhostname = {name:?}\n[listen]\ngrpc = {:?}\nhttp = {:?}\n[storage]\ndir = {dir:?}\n",
            ports(0),
            ports(1)
        );
        let ttl = if self == Self::Emulated { "30s" } else { "6s" };
        let _ = writeln!(text, "[lease]\nttl = {ttl:?}\nstand_in = \"4s\"");
        if self != Self::Emulated {
            text.push_str("[cluster]\nbootstrap_expect = 3\n");
            text.push_str("join = [\"127.0.0.1:7420\", \"127.0.0.1:7430\", \"127.0.0.1:7440\"]\n");
        }
        text
    }

    /// Who is asked: another agent where there is one.
    const fn address(self) -> &'static str {
        match self {
            Self::First | Self::Booted => "127.0.0.1:7430",
            Self::Emulated => "127.0.0.1:7420",
        }
    }
}

/// Says what the unit said, if the test fails.
struct Journal;

impl Drop for Journal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = ["systemctl", "status", "--no-pager", "sheaf"];
            let journal = ["journalctl", "--unit=sheaf", "--no-pager", "--lines=80"];
            for [program, args @ ..] in [status, journal] {
                let done = Command::new(program).args(args).output();
                let text = done.map(|done| done.stdout).unwrap_or_default();
                say(&String::from_utf8_lossy(&text));
            }
        }
    }
}

pub(crate) fn run(phase: Phase) {
    let _journal = Journal;
    let booted = || Command::new("systemctl").args(["is-active", "multi-user.target"]).output();
    wait_for("the machine is up", SOON, || match booted() {
        Ok(done) if done.status.success() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let here = Here { phase };
    let mut cases = Cases::of("unit");
    match phase {
        Phase::First => {
            cases.run(
                "the package makes a user and directories, enables the unit and starts nothing",
                installed,
            );
            cases.run("systemd has nothing to say against the unit", verified);
            cases.run("it starts, and its programs are hardened, limited and somebody", || here.started());
            cases.run("it restarts, and its programs notice nothing", || here.restarted());
            cases
                .run("its agent is killed and comes back, and its programs notice nothing", || here.killed());
            cases.run("it reads its file again", || here.reloaded());
            cases.run("it stops: programs stay until nobody stands in for the agent", || here.stopped());
            cases.run("it is stopped for longer: work goes elsewhere, and the agent stays away", || {
                here.released();
            });
            cases.run("the package is upgraded, and programs notice nothing", || here.upgraded());
        }
        Phase::Booted => {
            cases.run("it starts with the machine", || here.booted());
            cases.run("the package is removed: nothing runs, and everything is kept", || here.removed());
            cases.run("the package is back, and the node is the one that it was", || here.back());
            cases.run("the package is purged after a stop, and nothing is left", || here.purged());
        }
        Phase::Emulated => {
            cases.run(
                "the package makes a user and directories, enables the unit and starts nothing",
                installed,
            );
            cases.run("it starts, and its programs are hardened, limited and somebody", || here.started());
            cases.run("it restarts, and its programs notice nothing", || here.restarted());
            cases
                .run("its agent is killed and comes back, and its programs notice nothing", || here.killed());
            cases.run("the package is purged after a stop, and nothing is left", || here.purged());
        }
    }
    cases.end();
}

/// What a command says, on both streams, if it is content.
fn said(program: &str, args: &[&str]) -> String {
    let done = Command::new(program).args(args).output();
    let done = done.unwrap_or_else(|error| panic!("{program} {args:?}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{program} {args:?}: {}\n{text}", done.status);
    text
}

fn systemctl(args: &[&str]) -> String {
    done(Command::new("systemctl").args(args))
}

/// A property of the unit.
fn property(name: &str) -> String {
    systemctl(&["show", "--property", name, "--value", "sheaf"]).trim().to_owned()
}

fn agent() -> u32 {
    property("MainPID").parse().expect("a process id, or 0")
}

/// A field of what the kernel says of a process.
fn field(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

/// Processes of the package's binary: agent, keepers, stand-in.
fn own_processes() -> Vec<String> {
    let all = fs::read_dir("/proc").expect("it is mounted").flatten();
    let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.starts_with(BINARY)).collect()
}

/// How much memory a process's group may have, in bytes, by the version that there is.
fn memory_limit(pid: u32) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let found = groups.lines().find_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let (root, file) = match controllers {
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ => return None,
        };
        fs::read_to_string(format!("{root}{group}/{file}")).ok()
    });
    found.unwrap_or_default().trim().to_owned()
}

/// Runs the manual's commands, as the package has brought them.
fn by_the_manual(name: &str) {
    let text = fs::read_to_string("/usr/share/doc/sheaf/README.md").expect("the package has it");
    for block in manual::of_text(&text, name) {
        block.run(Path::new("/"), Path::new("/root"), &[], &[]);
    }
}

fn installed() {
    said("dpkg", &["--install", PACKAGE]);
    assert_eq!(systemctl(&["is-enabled", "sheaf"]).trim(), "enabled");
    assert_eq!((property("ActiveState").as_str(), own_processes()), ("inactive", vec![]));
    done(Command::new("id").args(["-u", "sheaf"]));
    for (dir, mode) in [("/var/lib/sheaf", "711 root"), ("/etc/sheaf", "755 root")] {
        assert_eq!(done(Command::new("stat").args(["-c", "%a %U", dir])).trim(), mode, "{dir}");
    }
}

fn verified() {
    // Nobody can read manuals here.
    assert_eq!(said("systemd-analyze", &["verify", "--man=no", "sheaf.service"]), "");
    said("systemd-analyze", &["security", "--no-pager", EXPOSED, "sheaf.service"]);
}

struct Here {
    phase: Phase,
}

impl Here {
    fn sheaf(&self, args: &[&str]) -> String {
        let mut command = Command::new(Path::new(OTHER).join("sheaf"));
        done(command.args(args).env("SHEAF_ADDRESS", self.phase.address()))
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.sheaf(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// Waits until the unit's agent reaches a leader.
    fn ready(&self) {
        done(Command::new(BINARY).args(["agent", "ready", "--timeout", "60s"]));
    }

    /// Waits until the unit's status line says this.
    fn says(part: &str) {
        wait_for(&format!("its status says {part}"), SOON, || {
            let said = property("StatusText");
            if said.contains(part) { Ok(()) } else { Err(said) }
        });
    }

    /// Where a bucket's programs run.
    fn instances(&self, bucket: &str) -> (BTreeMap<String, u32>, String) {
        let status = self.json(&["bucket", "status", bucket]);
        let rows = status["instances"].as_array().into_iter().flatten();
        let running = rows.filter(|row| row["phase"] == "running").filter_map(|row| {
            let pid = row["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())?;
            Some((row["node"].as_str()?.to_owned(), pid))
        });
        (running.collect(), status.to_string())
    }

    /// The processes of `/one` and `/all` on the unit's node, once both run there.
    fn programs(&self) -> [u32; 2] {
        ["/one", "/all"].map(|bucket| {
            wait_for(&format!("{bucket} runs on {NODE}"), SOON, || {
                let (running, status) = self.instances(bucket);
                running.get(NODE).copied().ok_or(status)
            })
        })
    }

    fn started(&self) {
        fs::create_dir_all(OTHER).expect("it can be made");
        fs::copy(BINARY, Path::new(OTHER).join("sheaf")).expect("it can be copied");
        fs::write(CONFIG, self.phase.config(1)).expect("it can be written");
        systemctl(&["start", "sheaf"]);
        if self.phase == Phase::First {
            // Nobody else is there yet.
            Self::says("joins: 1 of 3 seen");
            fs::write("/etc/systemd/system/other@.service", OTHERS).expect("it can be written");
            for number in [2, 3] {
                fs::write(format!("{OTHER}/{number}.toml"), self.phase.config(number))
                    .expect("it can be written");
            }
            systemctl(&["enable", "--now", "other@2", "other@3"]);
        }
        self.ready();
        Self::says("whose leader is at");
        fs::write("/documents", DOCUMENTS).expect("it can be written");
        self.sheaf(&["apply", "-f", "/documents", "--wait", "--timeout", "60s"]);
        self.one_here();
        let [one, all] = self.programs();
        let user = done(Command::new("id").args(["-u", "sheaf"]));
        let user_of = |pid| field(pid, "Uid").split_whitespace().next().map(str::to_owned);
        assert_eq!([one, all].map(user_of), ["0", user.trim()].map(|user| Some(user.to_owned())));
        for pid in [agent(), one, all] {
            assert_eq!([field(pid, "Seccomp"), field(pid, "NoNewPrivs")], ["2", "0"], "process {pid}");
            let rights = u64::from_str_radix(&field(pid, "CapBnd"), 16).expect("a number");
            assert!(TAKEN_AWAY.iter().all(|right| rights & (1 << right) == 0), "process {pid}: {rights:x}");
            let environment = fs::read(format!("/proc/{pid}/environ")).expect("it lives");
            let told = String::from_utf8_lossy(&environment).contains("NOTIFY_SOCKET=");
            assert_eq!(told, pid == agent(), "the agent alone speaks for the unit");
        }
        wait_for("a program has tried to write to /usr", SOON, || {
            let log = self.sheaf(&["bucket", "logs", "/one"]);
            if log.contains("refused") { Ok(()) } else { Err(log) }
        });
        assert_eq!(memory_limit(all), "67108864");
    }

    /// Has `/one` on the unit's node.
    fn one_here(&self) {
        if self.phase != Phase::Emulated {
            // That the agent reaches a leader is not yet that the leader has heard of its node.
            wait_for("the bucket is moved here", SOON, || {
                let mut command = Command::new(Path::new(OTHER).join("sheaf"));
                let asked = ["bucket", "move", "/one", "--to", NODE, "--wait", "--timeout", "60s"];
                let output = command.args(asked).env("SHEAF_ADDRESS", self.phase.address()).output();
                let output = output.map_err(|error| error.to_string())?;
                if output.status.success() {
                    Ok(())
                } else {
                    Err(String::from_utf8_lossy(&output.stderr).into_owned())
                }
            });
        }
    }

    /// Waits until the agent is another process than this, and what ran runs on as it did.
    fn again(&self, agent_before: u32, programs: [u32; 2]) {
        wait_for("the agent is another process", SOON, || match agent() {
            pid if pid != 0 && pid != agent_before => Ok(()),
            other => Err(format!("process {other}")),
        });
        self.ready();
        assert_eq!(self.programs(), programs, "the same processes, untouched");
        wait_for("the limit is kept again", SOON, || match memory_limit(programs[1]).as_str() {
            "67108864" => Ok(()),
            other => Err(other.to_owned()),
        });
    }

    fn restarted(&self) {
        let (agent, programs) = (agent(), self.programs());
        systemctl(&["restart", "sheaf"]);
        self.again(agent, programs);
    }

    fn killed(&self) {
        let (agent, programs) = (agent(), self.programs());
        processes::signal(agent, Signal::KILL);
        self.again(agent, programs);
        assert_eq!(property("NRestarts"), "1");
    }

    fn reloaded(&self) {
        let agent_before = agent();
        let more = self.phase.config(1).replace("[listen]", "labels = [\"read-again\"]\n[listen]");
        fs::write(CONFIG, more).expect("it can be written");
        systemctl(&["reload", "sheaf"]);
        wait_for("its label is known", SOON, || {
            let status = self.json(&["node", "status", NODE]);
            if status["labels"][0] == "read-again" { Ok(()) } else { Err(status.to_string()) }
        });
        assert_eq!(agent(), agent_before);
    }

    /// Waits until `/one` runs on another node, and not here.
    fn elsewhere(&self, one: u32) {
        wait_for("/one runs elsewhere", SOON, || {
            let (running, status) = self.instances("/one");
            if running.keys().any(|node| node != NODE) { Ok(()) } else { Err(status) }
        });
        assert!(!processes::is_alive(one), "process {one} runs on");
    }

    /// Starts it after a stop: work for all nodes has never ended here.
    fn starts_again(&self, all: u32) {
        assert!(processes::is_alive(all), "the program of /all has ended");
        systemctl(&["start", "sheaf"]);
        self.ready();
        self.one_here();
        assert_eq!(self.programs()[1], all);
    }

    fn stopped(&self) {
        let [one, all] = self.programs();
        systemctl(&["stop", "sheaf"]);
        assert_eq!((property("ActiveState").as_str(), agent()), ("inactive", 0));
        assert!([one, all].into_iter().all(processes::is_alive), "what runs outlives a stop");
        let left = own_processes();
        assert!(left.iter().any(|line| line.contains(" stand-in ")), "{left:?}");
        self.elsewhere(one);
        let left = own_processes();
        assert!(left.iter().all(|line| line.contains(" keep ")), "keepers alone: {left:?}");
        self.starts_again(all);
    }

    fn released(&self) {
        let [one, all] = self.programs();
        by_the_manual("stop");
        wait_for("it stays away", SOON, || match property("ActiveState").as_str() {
            "inactive" => Ok(()),
            other => Err(other.to_owned()),
        });
        self.elsewhere(one);
        self.starts_again(all);
    }

    fn version(&self) -> Value {
        self.json(&["node", "status", NODE])["version"].clone()
    }

    fn upgraded(&self) {
        let (agent_before, programs) = (agent(), self.programs());
        for package in [PACKAGE, NEXT_PACKAGE] {
            let text = said("dpkg", &["--install", package]);
            assert!(text.contains("what it runs outlives: systemctl restart sheaf"), "{text}");
            assert_eq!((agent(), self.programs()), (agent_before, programs), "an upgrade restarts nothing");
        }
        systemctl(&["restart", "sheaf"]);
        self.again(agent_before, programs);
        let next = env::var(NEXT).expect("it was told");
        wait_for("the next version runs", SOON, || match self.version() {
            version if version == next.as_str() => Ok(()),
            other => Err(other.to_string()),
        });
    }

    fn booted(&self) {
        self.ready();
        self.one_here();
        self.programs();
        assert_eq!([property("ActiveState"), property("NRestarts")], ["active", "0"]);
    }

    fn removed(&self) {
        let programs = self.programs();
        by_the_manual("remove");
        assert_eq!((own_processes(), property("LoadState").as_str()), (vec![], "not-found"));
        assert!(!programs.into_iter().any(processes::is_alive), "nothing outlives a removal");
        self.elsewhere(programs[0]);
        assert!(!Path::new(BINARY).exists());
        for file in [IDENTITY, CONFIG] {
            assert!(Path::new(file).exists(), "{file} is gone");
        }
    }

    fn back(&self) {
        let identity = || fs::read_to_string(IDENTITY).expect("it is there");
        let before = identity();
        let text = said("dpkg", &["--install", PACKAGE]);
        assert!(text.contains("systemctl start sheaf"), "{text}");
        assert_eq!((systemctl(&["is-enabled", "sheaf"]).trim(), own_processes()), ("enabled", vec![]));
        systemctl(&["start", "sheaf"]);
        self.ready();
        self.one_here();
        self.programs();
        assert_eq!(identity(), before);
    }

    fn purged(&self) {
        let programs = self.programs();
        systemctl(&["stop", "sheaf"]);
        by_the_manual("purge");
        assert_eq!((own_processes(), property("LoadState").as_str()), (vec![], "not-found"));
        assert!(!programs.into_iter().any(processes::is_alive), "nothing outlives a removal");
        for path in [BINARY, "/var/lib/sheaf", "/etc/sheaf", ENABLED] {
            assert!(fs::symlink_metadata(path).is_err(), "{path} is left");
        }
    }
}
