//! The deployment of twenty nodes, for real: `deploy/compose/twenty-nodes.yaml` as the manual starts it, with rsyslogd, wget and
//! gpmetis of Debian, through what happens to a cluster: a node that is killed, one that is cut off, an upgrade, the end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sheaf_tests::manual::{self, Block};
use sheaf_tests::{Cases, Machine, Output, cli, need, ports, wait_for};

use crate::world::{base, docker, file, left, run, sweep, workplace};

/// What the names of all that this makes begin with.
const PREFIX: &str = "sheaf-w-";
/// For a step of twenty nodes on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// From `up` to the last node: a benchmark says 30 s; this only finds what does not come at all.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// Two cores are few for twenty agents.
const TIMING: [(&str, &str); 4] = [
    ("SHEAF_RAFT_HEARTBEAT", "150ms"),
    ("SHEAF_ELECTION_MIN", "1s"),
    ("SHEAF_ELECTION_MAX", "2s"),
    ("SHEAF_LEASE_TTL", "6s"),
];

struct Twenty {
    machine: Arc<Machine>,
    name: String,
    work: PathBuf,
    /// Where import-01 is reached, and its dashboard.
    ports: [String; 2],
}

impl Twenty {
    fn new() -> Self {
        let machine = Arc::new(Machine::take());
        sweep(PREFIX);
        let name = format!("{PREFIX}{}", std::process::id());
        let work = workplace(&machine);
        let free = ports::free(2);
        let ports = [0, 1].map(|place| free[place].to_string());
        Self { machine, name, work, ports }
    }

    fn image(&self, tag: &str) -> String {
        format!("{}:{tag}", self.name)
    }

    fn environment(&self, tag: &str) -> Vec<(&'static str, String)> {
        let compose = manual::root().join("deploy/compose/twenty-nodes.yaml").display().to_string();
        let secret = self.work.join("join.secret").display().to_string();
        let more = [
            ("SHEAF_IMAGE", self.image(tag)),
            ("SHEAF_PORT", self.ports[0].clone()),
            ("SHEAF_HTTP_PORT", self.ports[1].clone()),
            ("SHEAF_JOIN_SECRET", secret),
            ("PROJECT", self.name.clone()),
            ("COMPOSE", compose),
        ];
        TIMING.iter().map(|(key, value)| (*key, (*value).to_owned())).chain(more).collect()
    }

    /// Runs a block of the manual: with other names, and a Debian in the image.
    fn run(&self, block: &Block) -> String {
        let binary = self.machine.binary().display().to_string();
        let build = format!("--base {} {binary} {}", base().display(), self.image("1"));
        let (project, address) = (format!("-p {}", self.name), format!("127.0.0.1:{}", self.ports[0]));
        let block = block.where_said(&[
            ("target/dist/sheaf sheaf:0.1.0", &build),
            ("-p sheaf", &project),
            ("deploy/compose/join.secret", "join.secret"),
            ("127.0.0.1:7420", &address),
        ]);
        let environment = self.environment("1");
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(key, value)| (*key, value.as_str())).collect();
        block.run(&self.work, self.machine.place(), &[self.machine.place()], &environment)
    }

    fn cli(&self, args: &[&str], input: &[u8]) -> Output {
        cli::run(&self.machine, args, input)
    }

    fn json(&self, args: &[&str]) -> Result<Value, String> {
        let output = self.cli(&[args, &["-o", "json"]].concat(), b"");
        if output.code == 0 { output.try_json() } else { Err(output.to_string()) }
    }

    fn container(&self, node: &str) -> String {
        // docker-compose numbers what it makes.
        format!("{}_{node}_1", self.name)
    }

    fn exec(&self, node: &str, script: &str) -> String {
        docker(&["exec", &self.container(node), "bash", "-c", script])
    }

    fn apply(&self, example: &str, changes: &[(&str, &str)]) {
        let path = manual::root().join("deploy/examples").join(example);
        let mut text = std::fs::read_to_string(path).expect("the example is there");
        for (from, to) in changes {
            assert!(text.contains(from), "{from:?} in {example}");
            text = text.replace(from, to);
        }
        self.cli(&["apply", "-f", "-", "--wait"], text.as_bytes()).ok();
    }

    fn affinity(&self, bucket: &str) -> Result<BTreeSet<String>, String> {
        let status = self.json(&["bucket", "status", bucket])?;
        if status["state"] != "running" {
            return Err(status.to_string());
        }
        let hosts = status["node_affinity"].as_array().into_iter().flatten();
        Ok(hosts.filter_map(|host| host.as_str().map(str::to_owned)).collect())
    }

    /// So many nodes are ready, five of them vote, and one leads.
    fn wait_ready(&self, count: usize, within: Duration) {
        wait_for(&format!("{count} nodes are ready and five vote"), within, || {
            let rows = self.json(&["node", "list"])?;
            let rows: Vec<&Value> = rows.as_array().into_iter().flatten().collect();
            let number = |of: &dyn Fn(&Value) -> bool| rows.iter().filter(|row| of(row)).count();
            let found = (
                number(&|row| row["status"] == "ready"),
                number(&|row| row["voter"] == true),
                number(&|row| row["leader"] == true),
            );
            if found == (count, 5, 1) { Ok(()) } else { Err(format!("ready, voters, leaders: {found:?}")) }
        });
    }

    /// A node that runs the single-node bucket and is none that this test talks to; the epoch there.
    fn place(&self) -> (String, u64) {
        let status = wait_for("the graph is partitioned somewhere", SOON, || {
            let status = self.json(&["bucket", "status", "/graph/partition"])?;
            if status["state"] == "running" { Ok(status) } else { Err(status.to_string()) }
        });
        let node = status["node_affinity"][0].as_str().expect("it is bound").to_owned();
        (node, status["affinity_epoch"].as_u64().expect("it has an epoch"))
    }

    fn wait_elsewhere(&self, node: &str, epoch: u64) {
        wait_for(&format!("the graph is partitioned elsewhere than on {node}"), SOON, || {
            let status = self.json(&["bucket", "status", "/graph/partition"])?;
            let later = status["affinity_epoch"].as_u64().is_some_and(|now| now > epoch);
            let moved = status["node_affinity"][0] != node && later;
            if status["state"] == "running" && moved { Ok(()) } else { Err(status.to_string()) }
        });
    }
}

impl Drop for Twenty {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in ["import-01", "import-02", "work-01"] {
                let done =
                    Command::new("docker").args(["logs", "--tail", "30", &self.container(node)]).output();
                let text =
                    done.map(|done| String::from_utf8_lossy(&done.stderr).into_owned()).unwrap_or_default();
                let _ =
                    std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("--- {node}\n{text}\n"));
            }
        }
        sweep(&self.name);
    }
}

#[test]
#[ignore = "needs Docker; .ci/run runs it"]
fn twenty_nodes() {
    if !need::programs(&["docker", "docker-compose", "debootstrap", "ldd", "tar", "strip"]) {
        return;
    }
    let twenty = Twenty::new();
    let mut cases = Cases::of("twenty nodes");
    cases.run("the product's image runs alone, as nobody, and says that it is healthy", || product(&twenty));
    cases.run("up, and all ready", || up(&twenty));
    cases.run("the four examples", || examples(&twenty));
    cases.run("a dashboard is opened from another node by https", || by_https(&twenty));
    cases.run("a node is killed", || killed(&twenty));
    cases.run("a node is cut off", || cut_off(&twenty));
    cases.run("a rolling upgrade", || upgrade(&twenty));
    cases.run("down, and nothing is left", || down(&twenty));
    cases.end();
}

/// From nothing but the binary, its libraries, and whom this machine believes.
fn product(twenty: &Twenty) {
    let image = twenty.image("product");
    let build = manual::root().join("deploy/container/build.sh");
    run(Command::new(build).arg(twenty.machine.binary()).arg(&image));
    let name = format!("{}-alone", twenty.name);
    // Nobody asks for that user: it is the image's own.
    let user = docker(&["inspect", "--format", "{{.Config.User}}", &image]);
    assert_eq!(user.trim(), "65532:65532");
    let flags = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"];
    let here = ["--env", "SHEAF_CONFIG_LISTEN_GRPC=127.0.0.1:7420"];
    docker(&[&["run", "--detach", "--name", &name], &flags[..], &here[..], &[&image]].concat());
    let said = docker(&["exec", &name, "/usr/bin/sheaf", "agent", "ready", "--timeout", "60s"]);
    assert!(said.contains("is ready"), "{said}");
    // What its health check runs.
    let health = docker(&["inspect", "--format", "{{.Config.Healthcheck.Test}}", &image]);
    assert_eq!(health.trim(), "[CMD /usr/bin/sheaf agent ready]");
    // Whom it believes where it goes out by TLS.
    let believed = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if believed.exists() {
        let copy = twenty.machine.path("authorities.pem");
        docker(&["cp", &format!("{name}:{}", believed.display()), &copy.display().to_string()]);
        assert_eq!(std::fs::read(&copy).ok(), std::fs::read(believed).ok());
    }
    docker(&["stop", "--time", "30", &name]);
    let code = docker(&["inspect", "--format", "{{.State.ExitCode}}", &name]);
    assert_eq!(code.trim(), "0");
    let size = docker(&["image", "inspect", "--format", "{{.Size}}", &image]);
    say(&format!("the product's image has {} MB", size.trim().parse::<u64>().unwrap_or(0) / 1_000_000));
    docker(&["rm", "--volumes", &name]);
}

fn up(twenty: &Twenty) {
    let begun = Instant::now();
    for block in manual::of("compose") {
        let said = twenty.run(&block);
        assert!(said.contains("import-01"), "{said}");
    }
    twenty.wait_ready(20, READY_WITHIN);
    say(&format!("images, up, all ready and voters chosen: {:.1} s", begun.elapsed().as_secs_f64()));
    let health = || {
        let format = "{{.State.Health.Status}}";
        docker(&["inspect", "--format", format, &twenty.container("import-01")]).trim().to_owned()
    };
    wait_for("its health check says so, too", SOON, || {
        let health = health();
        if health == "healthy" { Ok(()) } else { Err(health) }
    });
}

fn say(text: &str) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{text}\n"));
}

fn set(prefix: &str, count: u32) -> BTreeSet<String> {
    (1..=count).map(|number| format!("{prefix}-{number:02}")).collect()
}

fn examples(twenty: &Twenty) {
    twenty.apply("flume.yaml", &[]);
    twenty.apply("rsyslog.yaml", &[]);
    // A web server that is there anyway: what anybody may ask an agent.
    let url = "http://import-01:7421/healthz";
    twenty.apply("webcrawl.yaml", &[("url: http://www.example.com/", &format!("url: {url}"))]);
    twenty.apply("partition.yaml", &[]);
    for (bucket, nodes) in [
        ("/logs/web", set("import", 4)),
        ("/logs/syslog", set("import", 4)),
        ("/crawl/site", set("work", 16)),
    ] {
        wait_for(&format!("{bucket} runs where it should"), SOON, || {
            let found = twenty.affinity(bucket)?;
            if found == nodes { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
    // A line through the network into rsyslogd of another node.
    twenty.exec("work-01", "echo '<13>Nov 21 10:00:00 web1 shop: order 7 was paid' >/dev/tcp/import-02/5142");
    let find = |name: &str| format!("cat $(find /var/lib/sheaf -path '*{name}')");
    wait_for("rsyslogd has it", SOON, || {
        let text = twenty.exec("import-02", &find("received.log"));
        if text.contains("order 7 was paid") { Ok(()) } else { Err(text) }
    });
    wait_for("wget has fetched it", SOON, || {
        let text = twenty.exec("work-16", &find("mirror/import-01:7421/healthz"));
        if text.trim() == "ok" { Ok(()) } else { Err(text) }
    });
    let (node, _) = twenty.place();
    wait_for("gpmetis has cut the graph", SOON, || {
        let text = twenty.exec(&node, &find("parts.txt"));
        if text.lines().count() == 7 { Ok(()) } else { Err(text) }
    });
}

/// By the wget of a distribution, which believes whom it is told to.
fn by_https(twenty: &Twenty) {
    let authority = twenty.cli(&["cluster", "ca", "export"], b"").ok().stdout;
    assert!(authority.starts_with("-----BEGIN CERTIFICATE-----"), "{authority}");
    twenty.exec("work-01", &format!("cat >/tmp/ca.pem <<'END'\n{authority}END"));
    let get = "wget -q -O - --ca-certificate=/tmp/ca.pem";
    // Without TLS it is led to the same page with.
    for scheme in ["https", "http"] {
        let page = twenty.exec("work-01", &format!("{get} {scheme}://import-01:7421/"));
        assert!(page.contains("/assets/app.js"), "{scheme}: {page}");
    }
    let refused = "if wget -q -O - https://import-01:7421/; then exit 1; fi";
    assert!(
        !twenty.exec("work-01", refused).contains("/assets/app.js"),
        "whom it does not know it does not ask"
    );
}

fn killed(twenty: &Twenty) {
    let (node, epoch) = twenty.place();
    let container = twenty.container(&node);
    docker(&["kill", &container]);
    twenty.wait_elsewhere(&node, epoch);
    docker(&["start", &container]);
    twenty.wait_ready(20, SOON);
}

fn cut_off(twenty: &Twenty) {
    let (node, epoch) = twenty.place();
    let (network, container) = (format!("{}_nodes", twenty.name), twenty.container(&node));
    docker(&["network", "disconnect", "--force", &network, &container]);
    twenty.wait_elsewhere(&node, epoch);
    let alive = "for all in /proc/[0-9]*/environ; do \
        tr '\\0' '\\n' <$all 2>/dev/null | grep -x SHEAF_BUCKET=/graph/partition; done; true";
    wait_for("its own program has ended there", SOON, || {
        let left = twenty.exec(&node, alive);
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    });
    docker(&["network", "connect", "--alias", &node, &network, &container]);
    twenty.wait_ready(20, SOON);
}

/// All of them, as the script does it when no node is named.
fn upgrade(twenty: &Twenty) {
    let (binary, version) = twenty.machine.next_version();
    let image = twenty.image("2");
    let build = manual::root().join("deploy/container/build.sh");
    run(Command::new(build).arg("--base").arg(base()).arg(&binary).arg(&image));
    let list =
        || twenty.json(&["node", "list"]).expect("it is answered").as_array().cloned().unwrap_or_default();
    let before = list();
    let mut script = Command::new(manual::root().join("deploy/scripts/rolling-upgrade.sh"));
    script.arg("--transport").arg(file("recreate")).arg(&binary);
    script
        .envs(twenty.environment("2"))
        .env("SHEAF", twenty.machine.binary())
        .env("HOME", twenty.machine.place());
    let said = run(&mut script);
    assert!(said.contains(&format!("all 20 nodes have {version} (0 had it before)")), "{said}");
    // Who votes comes after who does not, and whoever led then is the last.
    let order: Vec<&str> = said.lines().filter_map(|line| line.strip_suffix(": restart")).collect();
    assert_eq!(order.len(), 20, "{said}");
    let voted = |node: &str| before.iter().any(|row| row["name"] == node && row["voter"] == true);
    assert!(
        order[..15].iter().all(|node| !voted(node)) && order[15..].iter().all(|node| voted(node)),
        "{order:?}"
    );
    assert!(before.iter().any(|row| row["name"] == order[19] && row["leader"] == true), "{order:?}");
    twenty.wait_ready(20, SOON);
    let after = list();
    assert!(after.len() == 20 && after.iter().all(|row| row["version"] == version.as_str()), "{after:#?}");
    for bucket in ["/logs/web", "/logs/syslog", "/crawl/site", "/graph/partition"] {
        wait_for(&format!("{bucket} runs as before"), SOON, || twenty.affinity(bucket));
    }
}

fn down(twenty: &Twenty) {
    for block in manual::of("compose-down") {
        twenty.run(&block);
    }
    assert_eq!(left(&twenty.name), [""; 0]);
}
