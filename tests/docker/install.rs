//! The manual's installation and upgrade, on machines that are containers with the package, reached by what stands in for ssh.
//! Their first process outlives the agent, as on a machine: so what runs outlives a restart of it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sheaf_tests::manual::{self, Block};
use sheaf_tests::{Cases, Machine, cli, need, wait_for};

use crate::world::{base, docker, file, left, run, sweep, workplace};

/// What the names of all that this makes begin with.
const PREFIX: &str = "sheaf-i-";
/// For a step of a cluster on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A machine's first process: takes in what others leave.
const FIRST: &str = "while :; do sleep 1 & wait; done";

/// What the next version's agent.toml says, and the present one's does not.
const OF_THE_NEXT: &str = "# of the next version";

const BUCKETS: &str = "kind: Module\nname: steady\nversion: '1'\nruntime: exec\nexec: {command: /bin/sleep, args: ['100000']}\n---\n\
    kind: Bucket\nname: /one\nmodule: steady\n---\nkind: Bucket\nname: /all\nmodule: steady\nmulti_node: true\n";

struct Fleet {
    machine: Arc<Machine>,
    name: String,
    work: PathBuf,
}

impl Fleet {
    fn start() -> Self {
        let machine = Arc::new(Machine::take());
        sweep(PREFIX);
        let name = format!("{PREFIX}{}", std::process::id());
        docker(&["import", &base().display().to_string(), &name]);
        docker(&["network", "create", &name]);
        let work = workplace(&machine);
        let fleet = Self { machine, name, work };
        for node in Self::nodes() {
            let container = format!("{}-{node}", fleet.name);
            let network = ["--network", &fleet.name, "--network-alias", node, "--hostname", node];
            let start =
                [&["run", "--detach", "--name", &container], &network[..], &[&fleet.name, "sh", "-c", FIRST]];
            docker(&start.concat());
            let systemctl = file("fleet/systemctl").display().to_string();
            docker(&["cp", &systemctl, &format!("{container}:/usr/bin/systemctl")]);
        }
        fleet
    }

    const fn nodes() -> [&'static str; 3] {
        ["import-01", "import-02", "import-03"]
    }

    /// Where the first node is reached from here.
    fn address(&self) -> String {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let ip = docker(&["inspect", "--format", format, &format!("{}-import-01", self.name)]);
        format!("{}:7420", ip.trim())
    }

    fn run(&self, block: &Block, more: &[(&str, &str)]) -> String {
        let programs = [file("fleet"), self.machine.place().to_owned()];
        let programs: Vec<&std::path::Path> = programs.iter().map(PathBuf::as_path).collect();
        let all = [&[("FLEET", self.name.as_str()), ("DEB_COMPRESS", "gzip")], more].concat();
        block.run(&self.work, self.machine.place(), &programs, &all)
    }

    fn json(&self, args: &[&str]) -> Result<Value, String> {
        let output = cli::run(&self.machine, &[args, &["-o", "json"]].concat(), b"");
        if output.code == 0 { output.try_json() } else { Err(output.to_string()) }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in Self::nodes() {
                let log =
                    ["exec", &format!("{}-{node}", self.name), "tail", "-n", "40", "/var/log/sheaf.log"];
                let done = Command::new("docker").args(log).output();
                let text =
                    done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
                let _ =
                    std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("--- {node}\n{text}\n"));
            }
        }
        sweep(&self.name);
    }
}

#[test]
#[ignore = "needs Docker; .ci/run runs it"]
fn installed_by_the_manual() {
    if !need::programs(&["docker", "debootstrap", "dpkg-deb", "strip", "objdump"]) {
        return;
    }
    let fleet = Fleet::start();
    let mut cases = Cases::of("installed");
    cases.run("the package, the secrets and the file on every node, then started", || install(&fleet));
    cases.run("upgraded one after the other, and nothing that runs notices", || upgrade(&fleet));
    cases.run("the package is purged and leaves no file", || removed(&fleet));
    cases.end();
    let name = fleet.name.clone();
    drop(fleet);
    assert_eq!(left(&name), [""; 0]);
}

fn install(fleet: &Fleet) {
    let binary = fleet.machine.binary().display().to_string();
    let here =
        [("target/dist/sheaf", binary.as_str()), ("01 02 03 04", "01 02 03"), ("seq -w 1 16", "seq -w 1 0")];
    for block in manual::of("install") {
        fleet.run(&block.where_said(&here), &[]);
    }
    let secret = fleet.work.join("join.secret").display().to_string();
    cli::run(&fleet.machine, &["login", "--address", &fleet.address(), "--join-secret", &secret], b"").ok();
    wait_for("three nodes are ready", SOON, || {
        let rows = fleet.json(&["node", "list"])?;
        let ready = rows.as_array().into_iter().flatten().filter(|row| row["status"] == "ready").count();
        if ready == 3 { Ok(()) } else { Err(rows.to_string()) }
    });
    cli::run(&fleet.machine, &["apply", "-f", "-", "--wait"], BUCKETS.as_bytes()).ok();
}

/// What runs: by node its process, and since when.
fn programs(fleet: &Fleet, bucket: &str) -> Value {
    let status = wait_for(&format!("{bucket} runs"), SOON, || {
        let status = fleet.json(&["bucket", "status", bucket])?;
        if status["state"] == "running" { Ok(status) } else { Err(status.to_string()) }
    });
    let rows = status["instances"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<Value> = rows
        .iter()
        .map(|row| serde_json::json!([row["node"], row["pid"], row["epoch"], row["started_at"]]))
        .collect();
    all.sort_by_key(Value::to_string);
    Value::Array(all)
}

fn upgrade(fleet: &Fleet) {
    let before = [programs(fleet, "/one"), programs(fleet, "/all")];
    let (binary, version) = fleet.machine.next_version();
    let packages = fleet.work.join("upgrade");
    fs::create_dir_all(&packages).expect("a directory can be made in the test's own");
    // With another agent.toml than before; nobody is there to say which is to stay.
    let next = fleet.work.join("next");
    run(Command::new("cp").arg("-r").arg(manual::root().join("deploy")).arg(&next));
    let told = next.join("agent.toml");
    let text = fs::read_to_string(&told).expect("it was copied");
    fs::write(&told, format!("{text}{OF_THE_NEXT}\n")).expect("it is the test's own");
    let mut build = Command::new(next.join("debian/build.sh"));
    run(build.arg(&binary).arg(&packages).env("DEB_COMPRESS", "gzip"));
    for block in manual::of("upgrade") {
        let said = fleet.run(&block.where_said(&[("sheaf_*.deb", "upgrade/sheaf_*.deb")]), &[]);
        assert!(said.contains(&format!("all 3 nodes have {version} (0 had it before)")), "{said}");
        // Where it has been, it has nothing to do.
        let again = fleet.run(&block.where_said(&[("sheaf_*.deb", "upgrade/sheaf_*.deb")]), &[]);
        assert!(again.contains("(3 had it before)"), "{again}");
    }
    let rows = fleet.json(&["node", "list"]).expect("it is answered");
    let versions: Vec<&Value> = rows.as_array().into_iter().flatten().map(|row| &row["version"]).collect();
    assert!(versions.len() == 3 && versions.iter().all(|it| **it == version.as_str()), "{rows:#}");
    assert_eq!([programs(fleet, "/one"), programs(fleet, "/all")], before, "the same processes, untouched");
    let read = |file: &str| docker(&["exec", &format!("{}-import-01", fleet.name), "cat", file]);
    assert!(read("/etc/sheaf/agent.toml").contains("join_secret_file"), "the node's own stays");
    assert!(read("/etc/sheaf/agent.toml.dpkg-dist").contains(OF_THE_NEXT));
}

/// There is no systemd here to kill what is left; the rest of the package's scripts is run.
fn removed(fleet: &Fleet) {
    let node = format!("{}-import-03", fleet.name);
    docker(&["exec", &node, "sh", "-c", "sheaf agent stop --release"]);
    docker(&["exec", &node, "dpkg", "--purge", "sheaf"]);
    let listed = docker(&[
        "exec",
        &node,
        "sh",
        "-c",
        "ls -d /var/lib/sheaf /etc/sheaf /usr/bin/sheaf 2>/dev/null || true",
    ]);
    assert_eq!(listed.trim(), "", "a purge leaves nothing");
}
