//! `sheaf dev`: a newcomer's first command.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use sheaf_tests::{Follower, Machine, cli, processes, wait_for};

/// Three agents, the examples, and the screen.
const UP: Duration = Duration::from_secs(60);

/// Starts it where all is kept; it has said that it is ready.
pub(crate) fn start(machine: &Machine) -> Follower {
    let dev = Follower::start(machine, &["dev", "--dir", &dir(machine)], b"");
    dev.wait_for_line("that it is ready", UP, |line| line.starts_with("Ctrl-C stops everything"));
    dev
}

fn dir(machine: &Machine) -> String {
    machine.path("dev").display().to_string()
}

/// What it shows is there.
pub(crate) fn shows_what_is_there(machine: &Machine, dev: &Follower) {
    let ending = |word: &str| dev.lines().iter().filter(|line| line.trim_end().ends_with(word)).count();
    assert_eq!((ending("  leader"), ending("  voter")), (1, 2), "one may be killed: {:#?}", dev.lines());
    // A node that the report never runs on: it allows collecting only.
    let address = node(&dev.lines(), "import-01").1;
    let ask =
        |args: &[&str]| cli::run(machine, &[args, &["-o", "json", "--address", &address]].concat(), b"").ok();
    let logs = ask(&["bucket", "status", "/dev/logs"]).json();
    assert_eq!(logs["node_affinity"], serde_json::json!(["import-01", "import-02"]), "{logs:#}");
    let report = ask(&["bucket", "status", "/dev/report"]).json();
    let shown = dev.lines().join("\n");
    for instance in [&logs, &report].into_iter().flat_map(|status| status["instances"].as_array()).flatten() {
        assert!(shown.contains(&format!("(pid {})", instance["pid"])), "{instance} in\n{shown}");
    }
    let counted = format!("{}/report/report.txt", dir(machine));
    wait_for("something real was counted", Duration::from_secs(20), || match fs::read_to_string(&counted) {
        Ok(text) if text.chars().any(|c| c.is_ascii_digit()) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// What was kept goes on, and even a kill of the parent leaves nothing.
pub(crate) fn goes_on_and_is_killed(machine: &Machine) {
    let again = start(machine);
    let address = node(&again.lines(), "import-01").1;
    let kept =
        cli::run(machine, &["bucket", "history", "/dev/logs", "-o", "json", "--address", &address], b"");
    assert_eq!(kept.ok().json().as_array().map(Vec::len), Some(1), "registered once, kept");
    assert_eq!(again.end(Signal::KILL), 128 + 9);
    wait_for("nothing is left after a kill", Duration::from_secs(40), || {
        match processes::of(machine.place()).as_slice() {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        }
    });
}

#[test]
fn dev_without_a_directory_leaves_nothing() {
    let machine = Machine::take();
    let temporary = machine.path("t");
    fs::create_dir(&temporary).expect("a directory can be made in the test's own");
    let found = || fs::read_dir(&temporary).expect("it is the test's own").count();
    let dev = Follower::start_with_temporary(&machine, &["dev", "--nodes", "4"], &temporary);
    dev.wait_for_line("that it is ready", UP, |line| line.starts_with("Ctrl-C stops everything"));
    let lines = dev.lines();
    let agents = ["import-01", "import-02", "work-01", "import-03"].map(|name| node(&lines, name).0);
    assert!(agents.into_iter().all(processes::is_alive), "{lines:#?}");
    let is_said = lines.iter().any(|line| line.contains("4 nodes") && line.contains("(removed at the end)"));
    assert!(is_said, "{lines:#?}");
    assert_eq!(found(), 1, "everything is in one place");
    assert_eq!(dev.end(Signal::INT), 0);
    assert_eq!(processes::of(machine.place()), [], "nothing is left after Ctrl-C");
    assert_eq!(found(), 0, "nor in the directory for temporary files");
}

/// The agent's process and address that the screen shows for a node.
pub(crate) fn node(lines: &[String], name: &str) -> (u32, String) {
    let words = |line: &String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let row = lines.iter().map(words).find(|words| words.first().is_some_and(|first| first == name));
    let row = row.unwrap_or_else(|| panic!("{name} in {lines:#?}"));
    let pid = row.get(3).and_then(|word| word.parse().ok());
    (pid.unwrap_or_else(|| panic!("a process in {row:?}")), row[1].clone())
}
