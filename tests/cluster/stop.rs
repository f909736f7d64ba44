//! Programs that crash, and programs that do not want to end.

use std::fs;
use std::time::Duration;

use sheaf_tests::documents::{bucket, program};
use sheaf_tests::wait::watch_for;
use sheaf_tests::{Cases, Cluster, processes, wait_for};

use crate::scene::{only_node, pids, trace};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("A42 a program that crashes each time", || a42(cluster));
    cases.run("A43 a stop that is ignored by all", || a43(cluster));
    cases.run("a program that ends well is stopped by its signal alone", || gentle(cluster));
    cases.run("a program that ends by itself, and well", || ended(cluster));
    cases.run("delete --wait waits for the end of what runs", || delete_waits(cluster));
    cases.run("the death of a keeper ends what it keeps, and it is started again", || keeper_killed(cluster));
}

fn a42(cluster: &Cluster) {
    let trace = trace(cluster, "a42");
    let script = r#"echo "$SHEAF_NODE $$ ${SHEAF_EPOCH:-0} $SHEAF_REVISION" >> "$TRACE"; echo first words; echo "boom of $SHEAF_NODE" >&2; exit 42"#;
    let crashing = program(
        "crashing",
        script,
        "restart: {policy: on_failure, backoff: 200ms..400ms, give_up_after: 3 in 1m}",
    );
    cluster.apply(&[crashing, bucket("/a42", "crashing", &trace, "node_list_rules: [n1]")].concat());
    cluster.wait_status("/a42", "waits before the next try", |status| {
        status["instances"][0]["phase"] == "backoff" || status["state"] == "failed"
    });
    let status = cluster.wait_state("/a42", "failed");
    let said = status.to_string();
    assert!(said.contains("boom of n1") && said.contains("first words"), "the last output lines: {status:#}");
    assert!(said.contains("42"), "the exit status: {status:#}");
    let tries = trace.starts().len();
    assert_eq!(tries, 4, "the first and three more");
    watch_for("no try after it gave up", Duration::from_millis(1500), || {
        if trace.starts().len() == tries { Ok(()) } else { Err(format!("{:?}", trace.starts())) }
    });
    let logs = cluster.cli(&["bucket", "logs", "/a42"]).ok();
    assert!(logs.stdout.contains("boom of n1"), "{logs}");
    // With --wait that is an error, and not one that time could mend.
    let waited = cluster.cli(&["bucket", "resume", "/a42", "--wait"]).exits(1).calm();
    assert!(waited.stderr.contains("/a42 is failed"), "{waited}");
    assert_eq!(trace.starts().len(), 2 * tries, "a resume starts anew");
    cluster.delete(&["/a42"]);
}

fn a43(cluster: &Cluster) {
    // The program, a child, a grandchild in a session of its own, and an orphan: none of them minds SIGTERM.
    let script = "trap '' TERM INT HUP\n\
        (trap '' TERM; while :; do sleep 1; done) &\n\
        setsid sh -c \"trap '' TERM; sh -c 'trap \\\"\\\" TERM; while :; do sleep 1; done' & wait\" &\n\
        (setsid sh -c \"trap '' TERM; while :; do sleep 1; done\" &) \n\
        echo up >> \"$TRACE\"; while :; do sleep 1; done";
    let trace = trace(cluster, "a43");
    let stubborn = program("stubborn", script, "stop: {signal: TERM, grace: 1s}");
    cluster.apply_and_wait(&[stubborn, bucket("/a43", "stubborn", &trace, "")].concat());
    let agent = cluster.named(&only_node(&cluster.status("/a43")));
    let before = wait_for("all of them are up", Duration::from_secs(10), || {
        let found = agent.programs("/a43");
        let shells = found.iter().filter(|process| !process.command.starts_with("sleep")).count();
        if shells >= 5 { Ok(found) } else { Err(format!("{found:?}")) }
    });
    cluster.cli(&["bucket", "suspend", "/a43", "--wait"]).ok();
    let left: Vec<_> = before.iter().filter(|process| processes::is_alive(process.pid)).collect();
    assert!(left.is_empty(), "alive after the grace time: {left:?}");
    assert!(agent.programs("/a43").is_empty(), "{:?}", agent.programs("/a43"));
    cluster.delete(&["/a43"]);
}

fn gentle(cluster: &Cluster) {
    let script = r#"trap 'echo ended by USR1 >> "$TRACE"; exit 0' USR1; trap '' TERM; echo up >> "$TRACE"; while :; do sleep 0.1; done"#;
    let trace = trace(cluster, "gentle");
    let module = program("gentle", script, "stop: {signal: USR1, grace: 60s}");
    cluster.apply_and_wait(&[module, bucket("/gentle", "gentle", &trace, "")].concat());
    wait_for("its trap is set", Duration::from_secs(5), || {
        fs::read_to_string(trace.path()).map_err(|error| error.to_string())
    });
    cluster.cli(&["bucket", "suspend", "/gentle", "--wait", "--timeout", "20s"]).ok();
    let text = fs::read_to_string(trace.path()).expect("a trace was left");
    assert_eq!(text, "up\nended by USR1\n");
    cluster.delete(&["/gentle"]);
}

fn ended(cluster: &Cluster) {
    let trace = trace(cluster, "ended");
    let script = r#"echo "$SHEAF_NODE $$ ${SHEAF_EPOCH:-0} $SHEAF_REVISION" >> "$TRACE""#;
    let everywhere = bucket("/ended/all", "brief", &trace, "multi_node: true\nnode_list_rules: [n1, n2]");
    let documents = [program("brief", script, ""), bucket("/ended/one", "brief", &trace, ""), everywhere];
    cluster.cli_with(&["apply", "-f", "-", "--wait", "--timeout", "20s"], documents.concat().as_bytes()).ok();
    for name in ["/ended/one", "/ended/all"] {
        let status = cluster.status(name);
        let wanted = (&status["state"], &status["desired"], &status["running"]);
        assert_eq!(wanted, (&"running".into(), &0.into(), &0.into()), "as wanted, nowhere: {status:#}");
        let message = status["message"].as_str().unwrap_or_default();
        let again = format!("exit code 0; `sheaf bucket restart {name}` runs it again");
        assert!(message.starts_with("ended well on ") && message.ends_with(&again), "{message}");
        let before = trace.starts().len();
        cluster.cli(&["bucket", "restart", name, "--wait", "--timeout", "20s"]).ok();
        let runs = if name == "/ended/one" { 1 } else { 2 };
        assert_eq!(trace.starts().len(), before + runs, "each once more");
    }
    cluster.delete(&["/ended/one", "/ended/all"]);
}

fn delete_waits(cluster: &Cluster) {
    let trace = trace(cluster, "lingering");
    let script = r#"trap '' TERM; echo up >> "$TRACE"; while :; do sleep 0.1; done"#;
    let slow = program("lingering", script, "stop: {signal: TERM, grace: 2s}");
    let everywhere = bucket("/slow/all", "lingering", &trace, "multi_node: true\nnode_list_rules: [n1, n2]");
    cluster.apply_and_wait(&[slow, bucket("/slow/one", "lingering", &trace, ""), everywhere].concat());
    wait_for("their traps are set", Duration::from_secs(10), || {
        let text = fs::read_to_string(trace.path()).unwrap_or_default();
        if text.lines().count() == 3 { Ok(()) } else { Err(text) }
    });
    for name in ["/slow/one", "/slow/all"] {
        let short =
            cluster.cli(&["bucket", "delete", "--yes", name, "--wait", "--timeout", "100ms"]).exits(4);
        short.mentions(&[format!("{name} is deleted and may still run on ").as_str()]);
        cluster.cli(&["bucket", "status", name]).exits(3).calm();
    }
    cluster.apply_and_wait(&bucket("/slow/two", "lingering", &trace, "multi_node: true"));
    cluster.cli(&["bucket", "delete", "--yes", "/slow/two", "--wait"]).ok();
    let left: Vec<_> = cluster.agents().iter().flat_map(|agent| agent.programs("/slow/two")).collect();
    assert!(left.is_empty(), "{left:?}");
    for name in ["/slow/one", "/slow/all"] {
        wait_for("they end, too", Duration::from_secs(20), || {
            let left: Vec<_> = cluster.agents().iter().flat_map(|agent| agent.programs(name)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
}

fn keeper_killed(cluster: &Cluster) {
    let trace = trace(cluster, "keeper");
    cluster.apply_and_wait(&bucket("/keeper", "steady", &trace, "multi_node: true"));
    let agent = cluster.agent(2);
    let pid = u32::try_from(pids(&cluster.status("/keeper"))["n2"]).expect("a process id");
    let parent = parent(pid);
    let keeper = agent.processes().into_iter().find(|process| process.pid == parent);
    let keeper =
        keeper.unwrap_or_else(|| panic!("the program's parent {parent} keeps it: {:?}", agent.processes()));
    assert!(keeper.is_keeper(), "{keeper}");
    processes::signal(keeper.pid, rustix::process::Signal::KILL);
    wait_for("the program ends with its keeper", Duration::from_secs(5), || {
        if processes::is_alive(pid) { Err(format!("{pid} is alive")) } else { Ok(()) }
    });
    cluster.wait_status("/keeper", "runs again on n2", |status| {
        pids(status).get("n2").is_some_and(|new| *new != u64::from(pid))
    });
    cluster.delete(&["/keeper"]);
}

fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is alive");
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().nth(1).and_then(|field| field.parse().ok()).expect("a parent in /proc/PID/stat")
}
