//! What instances may use, and as whom they run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sheaf_tests::{Cases, Cluster, wait_for};

use crate::context::Asker;
use crate::plugin::{bucket, lines, wait_line};
use crate::scene::pids;

pub(crate) fn module(name: &str, script: &str, more: &str) -> String {
    format!(
        "kind: Module\nname: {name}\nversion: '1'\nruntime: exec\nexec:\n  command: /bin/sh\n  args: [-c, '{script}']\n\
         restart: {{policy: on_failure, backoff: 100ms..100ms, give_up_after: 1 in 1m}}\nfiles: {{conf: the file}}\n{more}\n---\n"
    )
}

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    kept(cases, cluster);
    cases.run("an instance runs as its module's user", || user(cluster));
}

/// Those about what an instance may use; they need no program but a shell's.
pub(crate) fn kept(cases: &mut Cases, cluster: &Cluster) {
    cases.run("an instance has its limits, and the kernel keeps them", || limits(cluster));
    cases.run("an instance whose module names no limits has none", || unlimited(cluster));
    cases.run("an instance that wants too much memory is ended, says so, and is the only one", || {
        greedy(cluster);
    });
}

/// What a node says that it cannot enforce.
pub(crate) fn notes(cluster: &Cluster, node: &str) -> Vec<String> {
    let node = cluster.json(&["node", "status", node, "-o", "json"]);
    let notes = node["facts"]["notes"].as_array().cloned().unwrap_or_default();
    notes.iter().filter_map(|note| note.as_str().map(str::to_owned)).collect()
}

/// The directories of a process's groups that are an instance's own; of version 1 there are some, of version 2 one.
pub(crate) fn groups(pid: u64) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let own = text.lines().filter_map(|line| line.rsplit(':').next()).filter(|path| path.contains("/sheaf."));
    let mut own: Vec<&str> = own.map(|path| path.trim_start_matches('/')).collect();
    own.sort_unstable();
    own.dedup();
    let roots = ["memory", "cpu", "pids", ""].map(|name| Path::new("/sys/fs/cgroup").join(name));
    let all = roots.iter().flat_map(|root| own.iter().map(move |group| root.join(group)));
    all.filter(|group| group.is_dir()).collect()
}

/// Files in which the kernel keeps limits, of both versions, with what stands there of [`LIMITS`].
const FILES: [(&str, &str, &str); 5] = [
    ("limits.memory", "memory.max", "67108864"),
    ("limits.memory", "memory.limit_in_bytes", "67108864"),
    ("limits.cpu", "cpu.max", "50000 100000"),
    ("limits.cpu", "cpu.cfs_quota_us", "50000"),
    ("limits.processes", "pids.max", "8"),
];

/// What [`is_kept`] looks for.
pub(crate) const LIMITS: &str = "limits: {memory: 64MiB, cpu: 0.5, open_files: 77, processes: 8}";

/// Whether the kernel keeps a limit of [`LIMITS`] in one of these groups.
pub(crate) fn is_kept(field: &str, groups: &[PathBuf]) -> Result<(), String> {
    let mut seen = Vec::new();
    for (_, file, wanted) in FILES.iter().filter(|(of, ..)| *of == field) {
        for path in groups.iter().map(|group| group.join(file)) {
            let Ok(found) = fs::read_to_string(&path) else { continue };
            if found.trim() == *wanted {
                return Ok(());
            }
            seen.push(format!("{}: {}", path.display(), found.trim()));
        }
    }
    Err(format!("{field} is not kept: {seen:?} in {groups:?}"))
}

fn limits(cluster: &Cluster) {
    let notes = notes(cluster, "n1");
    let lacks = |field: &str| notes.iter().any(|note| note.starts_with(field));
    let script = "ulimit -n; (for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done); exec sleep 1000";
    let said = cluster.apply(&module("limited", script, LIMITS));
    for field in ["limits.memory", "limits.cpu", "limits.processes"] {
        let warned = said.stderr.contains(&format!("Module limited@1: {field} "));
        assert_eq!(warned, lacks(field), "{field} with {notes:?}: {said}");
    }
    let said = cluster.apply_and_wait(&bucket("/limited", "limited", "{}", ""));
    for field in ["limits.memory", "limits.cpu", "limits.processes"] {
        let warned = said.stderr.contains(&format!("Module limited@1: {field} "));
        assert_eq!(warned, lacks(field), "who registers a bucket of it hears of {field}, too: {said}");
    }
    wait_line(cluster, "/limited", "77");
    if !lacks("limits.processes") {
        wait_for("a process too many", Duration::from_secs(10), || {
            let said = lines(cluster, "/limited").join("\n");
            if said.to_lowercase().contains("fork") { Ok(()) } else { Err(said) }
        });
    }
    let running = pids(&cluster.status("/limited"));
    let own = running.values().next().map(|pid| groups(*pid)).unwrap_or_default();
    for field in ["limits.memory", "limits.cpu", "limits.processes"].into_iter().filter(|field| !lacks(field))
    {
        assert_eq!(is_kept(field, &own), Ok(()));
    }
    cluster.delete(&["/limited"]);
    wait_for("its groups are gone", Duration::from_secs(10), || {
        let left: Vec<&PathBuf> = own.iter().filter(|group| group.exists()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

fn unlimited(cluster: &Cluster) {
    let free = module("free", "exec sleep 1000", "");
    cluster.apply_and_wait(&[free, bucket("/free", "free", "{}", "")].concat());
    let running = pids(&cluster.status("/free"));
    let own = running.values().next().map(|pid| groups(*pid)).expect("it runs");
    for field in ["limits.memory", "limits.cpu", "limits.processes"] {
        assert!(is_kept(field, &own).is_err(), "{field} in {own:?}");
    }
    cluster.delete(&["/free"]);
}

fn greedy(cluster: &Cluster) {
    let lacks = notes(cluster, "n1").iter().any(|note| note.starts_with("limits.memory"));
    // Another one with as much beside it.
    let more = "limits: {memory: 64MiB}";
    let modest = module("modest", "exec sleep 1000", more);
    cluster.apply_and_wait(&[modest, bucket("/modest", "modest", "{}", "node_list_rules: [n1]")].concat());
    let before = pids(&cluster.status("/modest"));
    // With a group it is said why a program was ended.
    cluster.apply(&module("greedy", "dd if=/dev/zero of=/dev/null bs=300M count=1", more));
    cluster.apply(&bucket("/greedy", "greedy", "{}", "node_list_rules: [n1]"));
    let status = cluster.wait_state("/greedy", "failed");
    let message = status["message"].to_string();
    let why = if lacks { "memory" } else { "it wanted more memory than limits.memory, which is 64MiB" };
    assert!(message.contains(why), "{status:#}");
    let status = cluster.status("/modest");
    assert_eq!((pids(&status), &status["instances"][0]["restarts"]), (before, &0.into()), "it runs on");
    cluster.delete(&["/greedy", "/modest"]);
}

fn user(cluster: &Cluster) {
    // The tests' own directory is closed to others.
    let mut above = cluster.agent(1).dir();
    while above.pop() && above.starts_with("/tmp") && above.as_path() != Path::new("/tmp") {
        let _ = fs::set_permissions(&above, fs::Permissions::from_mode(0o711));
    }
    let script = "id -un; umask; cat \"$SHEAF_DIR/conf\" && echo && echo mine > \"$SHEAF_DIR/own\" && cat own; echo $USER $HOME; sleep 1000";
    let is_possible = !notes(cluster, "n1").iter().any(|note| note.starts_with("user "));
    // Whoever may not run it may not ask for it either.
    let check = "can_run_on_this_node: [{command: [/bin/sh, -c, 'test \"$(id -un)\" = nobody']}]\n";
    let more = format!("user: nobody\n{}", if is_possible { check } else { "" });
    let said = cluster.apply(&module("other", script, &more));
    cluster.apply(&bucket("/other", "other", "{}", ""));
    if !is_possible {
        assert!(said.stderr.contains("Module other@1: user is possible only"), "{said}");
        let status = cluster.wait_state("/other", "failed");
        assert!(status["message"].to_string().contains("runs as root"), "{status:#}");
    } else {
        cluster.wait_state("/other", "running");
        let own = fs::read_to_string("/proc/self/status").expect("this process");
        let mask = own.lines().find_map(|line| line.strip_prefix("Umask:\t")).expect("its mask");
        for line in ["| nobody", "| the file", "| mine", &format!("| {mask}")] {
            wait_line(cluster, "/other", line);
        }
        closed(cluster);
        // What it started is its user's too, and ends with it.
        cluster.cli(&["bucket", "suspend", "/other", "--wait"]).ok();
        // What is written for a command is its user's to read.
        let command =
            "life_cycle: {on_updated_source: {command: [/bin/sh, -c, 'cat \"$SHEAF_CHANGE\"; echo']}}";
        cluster.apply(&module("other_told", "exec sleep 1000", &format!("user: nobody\n{command}")));
        for port in [1, 2] {
            cluster.apply_and_wait(&bucket("/other_told", "other_told", &format!("{{port: {port}}}"), ""));
        }
        wait_for("its command reads what changed", Duration::from_secs(10), || {
            let said = lines(cluster, "/other_told").join("\n");
            if said.contains(r#""path":"config.port","before":1,"after":2"#) { Ok(()) } else { Err(said) }
        });
        cluster.delete(&["/other_told"]);
        let asks = cluster.machine().path("asks+other_plugin");
        fs::create_dir(&asks).expect("a directory");
        fs::set_permissions(&asks, fs::Permissions::from_mode(0o777)).expect("its mode");
        cluster.apply(&format!(
            "kind: Module\nname: asking\nversion: '2'\nruntime: plugin\nexec: {{command: '{}'}}\nuser: nobody\n---\n",
            open_copy(cluster).display()
        ));
        // Its context is its user's to use.
        let asker = Asker::start_with(cluster, "/other_plugin", "x: y", "");
        let version = asker.done("put k kept");
        assert_eq!(asker.done("get k"), format!("{version} kept"));
        cluster.delete(&["/other_plugin"]);
    }
    let nobody = module("stranger", "true", "user: no_such_user");
    cluster.apply(&nobody);
    cluster.apply(&bucket("/stranger", "stranger", "{}", ""));
    let status = cluster.wait_state("/stranger", "failed");
    assert!(
        status["message"].to_string().contains("there is no user no_such_user on this node"),
        "{status:#}"
    );
    cluster.delete(&["/other", "/stranger"]);
}

/// Where nobody else's programs must pass, nobody else reads.
fn closed(cluster: &Cluster) {
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    for agent in cluster.voters() {
        let dir = agent.dir();
        assert_eq!((mode(&dir), mode(&dir.join("raft"))), (0o711, 0o700), "{}", dir.display());
        let files = fs::read_dir(&dir).expect("its files").flatten().map(|entry| entry.path());
        let files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
        assert!(files.iter().any(|path| path.ends_with("state.db")), "{files:?}");
        for path in files {
            // What is only there for a moment may be gone.
            let mode = fs::metadata(&path).map_or(0, |found| found.permissions().mode() & 0o077);
            assert_eq!(mode, 0, "{} is open to others", path.display());
        }
    }
}

/// A plugin of the tests where every user can execute it.
fn open_copy(cluster: &Cluster) -> PathBuf {
    let copy = cluster.machine().path("asking");
    fs::copy(env!("CARGO_BIN_EXE_asking"), &copy).expect("a copy");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("its mode");
    copy
}
