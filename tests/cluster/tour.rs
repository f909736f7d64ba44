//! A newcomer's first minutes: what the screen of `sheaf dev` and the readme say to try is run as it stands there.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sheaf_tests::cluster::SOON;
use sheaf_tests::manual::Block;
use sheaf_tests::{Follower, Machine, Output, cli, manual, processes, wait_for};

use crate::dev::{self, node};

/// What blocks of the readme are run by. `no`: they need other machines, services elsewhere, or programs built for them.
const RUNS: [&str; 6] = ["no", "top", "tour", "tour-back", "tour-lost", "tour-start"];

/// Stays until Ctrl-C.
const CLOCK: &str = "sheaf bucket logs /tour/clock -f";

/// What is run in other words: what stays is followed, and what says by its exit code that something would change is no
/// failure.
const CHANGES: [(&str, &str); 3] = [
    (CLOCK, ":"),
    ("sheaf bucket plan -f clock.yaml", "sheaf bucket plan -f clock.yaml || [ $? -eq 10 ]"),
    ("sheaf events --follow ", "sheaf events "),
];

#[test]
fn every_block_of_the_readme_says_what_runs_it() {
    let readme = manual::readme();
    let found: BTreeSet<String> =
        manual::blocks_of_text(&readme).into_iter().map(|block| block.run).collect();
    assert_eq!(found, RUNS.map(str::to_owned).into());
    // With the binary that is built already, and (in the cases of `top`) on a terminal.
    for (run, text) in [("tour-start", "cargo run --release -- dev"), ("top", "sheaf top")] {
        let blocks = manual::of_text(&readme, run);
        assert_eq!(blocks.iter().map(|block| block.text.as_str()).collect::<Vec<_>>(), [text]);
    }
    // Every change is made somewhere.
    for (from, _) in CHANGES {
        assert!(
            manual::of_text(&readme, "tour-back").iter().any(|block| block.text.contains(from)),
            "{from}"
        );
    }
}

/// `sheaf dev` in one terminal, and what somebody does in another.
struct Tour {
    dev: Follower,
    machine: Machine,
    /// Of a node that is not killed.
    address: String,
}

impl Tour {
    fn start() -> Self {
        let machine = Machine::take();
        let dev = dev::start(&machine);
        let address = node(&dev.lines(), "import-01").1;
        fs::create_dir(machine.path("work")).expect("a directory can be made in the test's own");
        Self { dev, machine, address }
    }

    /// Runs commands in a shell that finds the binary and the cluster.
    fn run(&self, block: &Block) -> String {
        let programs = self.machine.path(".");
        let address = [("SHEAF_ADDRESS", self.address.as_str())];
        block.run(&self.machine.path("work"), self.machine.place(), &[&programs], &address)
    }

    /// The same of one command.
    fn run_line(&self, command: &str) -> String {
        self.run(&Block { run: String::new(), line: 0, text: command.to_owned() })
    }

    /// A command that stays, until it has printed a line that has this in it.
    fn follow(&self, command: &str, wanted: &str) {
        let args: Vec<&str> = command.split(' ').skip(1).chain(["--address", &self.address]).collect();
        let follower = Follower::start(&self.machine, &args, b"");
        follower.wait_for_line(wanted, SOON, |line| line.contains(wanted));
        assert_eq!(follower.end(Signal::INT), 130, "{command}");
    }

    fn ask(&self, args: &[&str]) -> Output {
        cli::run(&self.machine, &[args, &["-o", "json", "--address", &self.address]].concat(), b"")
    }

    /// The node that has `/dev/report`, once it runs on another than this.
    fn report_not_on(&self, node: &str) -> String {
        wait_for("/dev/report runs", Duration::from_secs(30), || {
            let status: Value = self.ask(&["bucket", "status", "/dev/report"]).try_json()?;
            match status["node_affinity"][0].as_str() {
                Some(now) if status["state"] == "running" && now != node => Ok(now.to_owned()),
                _ => Err(format!("{status:#}")),
            }
        })
    }

    /// The commands that the screen says to try.
    fn screen(&self) -> Vec<String> {
        let lines = self.dev.lines();
        let says = lines.iter().position(|line| line.starts_with("Try next")).expect("it says what to try");
        // What a command is for stands beside it, or below it and further in.
        let commands = lines[says + 1..].iter().take_while(|line| !line.is_empty()).filter_map(|line| {
            line.strip_prefix("  ")?.split("   ").next().filter(|command| !command.is_empty())
        });
        commands.map(str::to_owned).collect()
    }

    /// The one of them that has this in it.
    fn command(&self, part: &str) -> String {
        let all = self.screen();
        let found = all.iter().find(|command| command.contains(part)).cloned();
        found.unwrap_or_else(|| panic!("{part:?} in {all:#?}"))
    }

    /// Each of them but those that end an agent and bring it back.
    fn try_screen(&self) {
        for command in self.screen() {
            if command.contains("kill -9 ") || command.contains(" agent --config ") {
                continue;
            }
            if let Some(address) = command.strip_prefix("http://") {
                let answer = page(address.trim_end_matches('/'));
                assert!(answer.starts_with("HTTP/1.1 200 "), "{command}: {answer}");
            } else if command.contains(" logs -f ") {
                self.follow(&command, "| following ");
            } else {
                self.run_line(&command);
            }
        }
    }
}

/// What a browser gets.
fn page(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let ask = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let asked = stream.write_all(ask.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
    asked.unwrap_or_else(|error| panic!("{address}: {error}"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// One `sheaf dev` for all of it: what it shows, what there is to try, its end; then once more, for what was kept.
#[test]
fn tour() {
    let tour = Tour::start();
    dev::shows_what_is_there(&tour.machine, &tour.dev);
    let readme = manual::readme();
    let run = |run: &str| -> String {
        let one = |block: &Block| {
            let said = tour.run(&block.where_said(&CHANGES));
            if block.text.contains(CLOCK) {
                tour.follow(CLOCK, "| epoch ");
            }
            said
        };
        manual::of_text(&readme, run).iter().map(one).collect()
    };
    let said = run("tour");
    for part in ["import-01", "work-01", "/dev/logs", "/dev/report", "local_config"] {
        assert!(said.contains(part), "{part:?} in\n{said}");
    }
    // Its node is lost, and brought back from another terminal.
    let home = tour.report_not_on("");
    tour.run_line(&tour.command("kill -9 "));
    tour.report_not_on(&home);
    let said = run("tour-lost");
    assert!(said.matches("bucket.bound").count() >= 2, "{said}");
    let agent = tour.command(" agent --config ");
    assert!(agent.ends_with(&format!("/{home}/agent.toml")), "{agent}");
    let back = Follower::start(&tour.machine, &agent.split(' ').skip(1).collect::<Vec<_>>(), b"");
    wait_for("the node is back", SOON, || {
        let row = tour.ask(&["node", "status", &home]).try_json()?;
        if row["status"] == "ready" { Ok(()) } else { Err(format!("{row:#}\n{}", back.talk())) }
    });
    let said = run("tour-back");
    for part in ["144", "vito", "tiles"] {
        assert!(said.contains(part), "{part:?} in\n{said}");
    }
    // A program that runs need not have printed yet.
    for (bucket, wanted) in [("/tour/hello", "hello from "), ("/tour/guarded", "a token: 7 characters")] {
        wait_for(wanted, SOON, || {
            let said = tour.run_line(&format!("sheaf bucket logs {bucket}"));
            if said.contains(wanted) { Ok(()) } else { Err(said) }
        });
    }
    let counted = tour.command("cat ");
    let counted = counted.strip_prefix("cat ").expect("it is the whole command");
    wait_for("something was counted", SOON, || match Path::new(counted).exists() {
        true => Ok(()),
        false => Err(format!("{counted} is not there")),
    });
    tour.try_screen();
    let Tour { dev, machine, .. } = tour;
    assert_eq!(dev.end(Signal::INT), 0);
    back.finish(SOON).calm();
    assert_eq!(processes::of(machine.place()), [], "nothing is left, nor of what others started there");
    dev::goes_on_and_is_killed(&machine);
}
