//! What systemd hears of an agent that it has started, by a stand-in for it.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::{bucket, module};
use sheaf_tests::{Cases, Cluster, Machine, processes};

use crate::scene::trace;

const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Who listens at a unit's socket.
struct Listener {
    socket: UnixDatagram,
    /// Lines that were said and not looked at yet.
    lines: VecDeque<String>,
}

impl Listener {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket can be made in the test's own directory");
        socket.set_read_timeout(Some(SOON)).expect("a socket has time-outs");
        Self { socket, lines: VecDeque::new() }
    }

    /// Waits for a line that is as wanted; what comes before it is passed over.
    fn hears(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        let mut before = Vec::new();
        loop {
            while let Some(line) = self.lines.pop_front() {
                if is_so(&line) {
                    return;
                }
                before.push(line);
            }
            let mut said = [0; 4096];
            let length = self.socket.recv(&mut said);
            let length =
                length.unwrap_or_else(|error| panic!("{what} is not heard ({error}) after {before:#?}"));
            let text = String::from_utf8_lossy(&said[..length]).into_owned();
            self.lines.extend(text.lines().map(str::to_owned));
        }
    }
}

/// Two agents; one is a unit's.
#[test]
fn notified() {
    let machine = Arc::new(Machine::take());
    let path = machine.path("notify");
    let mut systemd = Listener::at(&path);
    let cluster = Cluster::plan(&machine, "", 2, |number, plan| {
        if number == 1 {
            plan.environment = vec![(NOTIFY_SOCKET.to_owned(), path.display().to_string())];
        }
    });
    let agent = cluster.agent(1);
    agent.start();
    let mut cases = Cases::of("notified");
    cases.run("an agent is started where there is no cluster yet, and says what it waits for", || {
        systemd.hears("that it serves", |line| line == "READY=1");
        systemd.hears("what it waits for", |line| line.starts_with("STATUS=joins: 1 of 2 seen"));
    });
    cluster.start_all();
    cluster.wait_ready();
    cases.run("its status is where its node stands", || {
        let stands = |line: &str| line.starts_with("STATUS=node ") && line.contains(", whose leader is at ");
        systemd.hears("where it stands", stands);
    });
    cases.run("what it runs cannot speak for the unit", || hidden(&cluster));
    cases.run("a reload ends when the file was read, be it good or bad", || {
        for text in [agent.plan().toml(), "[node".to_owned()] {
            agent.write_config(&text);
            agent.signal(Signal::HUP);
            systemd.hears("that it reads its file", |line| line == "RELOADING=1");
            systemd.hears("that it has read it", |line| line == "READY=1");
        }
        agent.write_config(&agent.plan().toml());
    });
    cases.run("a stop is told", || {
        assert_eq!(agent.stop(), 0);
        systemd.hears("that it stops", |line| line == "STOPPING=1");
    });
    cases.end();
}

fn hidden(cluster: &Cluster) {
    let agent = cluster.agent(1);
    assert!(processes::variable(agent.pid(), NOTIFY_SOCKET).is_some(), "the agent has it");
    let check = "can_run_on_this_node: [{command: [/bin/sh, -c, 'test -z \"$NOTIFY_SOCKET\"']}]";
    let here = "node_list_rules: [n1]";
    let documents =
        [module("unheard", check), bucket("/unheard", "unheard", &trace(cluster, "unheard"), here)];
    // It is placed, so the check has not found it either.
    cluster.apply_and_wait(&documents.concat());
    let programs = agent.programs("/unheard");
    assert!(!programs.is_empty());
    for process in agent.processes().into_iter().chain(programs) {
        assert_eq!(processes::variable(process.pid, NOTIFY_SOCKET), None, "{process}");
    }
    cluster.delete(&["/unheard"]);
}
