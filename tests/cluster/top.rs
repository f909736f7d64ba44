//! `sheaf top` on a real pseudo terminal, with real keys, and a screen that is read as a terminal would.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use sheaf_tests::documents::{Trace, bucket, program};
use sheaf_tests::jobs::{job, over, submit};
use sheaf_tests::processes::is_alive;
use sheaf_tests::screen::{Left, Screen};
use sheaf_tests::{Cases, Cluster, wait_for};

use crate::scene;

const SMALL: (u16, u16) = (80, 24);
const DOWN: &str = "\x1b[B";
const RIGHT: &str = "\x1b[C";

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    let spoken = scene(cluster);
    cases.run("the cluster, and what needs attention first", || overview(cluster));
    cases.run("lists are filtered and sorted, and a bucket says why not", || gates(cluster));
    cases.run("logs are followed, and do nothing to the terminal", || logs(cluster, &spoken));
    cases.run("a job is opened down to what an attempt printed", || attempts(cluster));
    cases.run("events come by themselves", || events(cluster));
    cases.run("any size, and the terminal back however it ends", || ends(cluster));
    cases.run("any command has colour on a terminal, unless NO_COLOR is set", || colour(cluster));
    cases.run("without a terminal it says what to use", || {
        let told = cluster.cli(&["top"]).exits(2);
        told.mentions(&["needs a terminal", "`sheaf cluster status`", "-o json"]);
    });
    cases.run("a node that is lost, a cluster without a leader, and back", || loss(cluster));
    cluster.delete(&["/top/web", "/top/speaker", "/top/nowhere"]);
}

/// What is looked at; the file of which a bucket prints what is written into it.
fn scene(cluster: &Cluster) -> Trace {
    cluster.apply(&scene::modules());
    let spoken = scene::trace(cluster, "spoken");
    fs::write(spoken.path(), "first words\n").expect("a file can be written in the test's own directory");
    let speaker = program("speaker", "exec tail -n +1 -F \"$TRACE\"", "");
    let failing = "kind: Module\nname: failing\nversion: '1'\nexec:\n  command: /bin/sh\n  \
                   args: [-c, 'echo \"about to fail at $SHEAF_SUBTASK\"; exit 3']\n---\n";
    cluster.apply(&[speaker.as_str(), failing].concat());
    let trace = scene::trace(cluster, "top");
    cluster.apply_and_wait(&bucket("/top/web", "steady", &trace, "multi_node: true"));
    cluster.apply_and_wait(&bucket("/top/speaker", "speaker", &spoken, ""));
    cluster.apply(&bucket("/top/nowhere", "refusing", &trace, ""));
    cluster.wait_state("/top/nowhere", "unplaced");
    spoken
}

fn screen(cluster: &Cluster, size: (u16, u16)) -> Screen {
    let address = cluster.agent(1).address();
    Screen::start(cluster.machine(), &["top", "--address", &address], size, false)
}

/// It ends by `q`, well.
fn quit(screen: Screen) {
    let pid = screen.pid();
    screen.press("q");
    assert_eq!(screen.end(), Left { code: 0, restored: true });
    assert!(!is_alive(pid));
}

fn overview(cluster: &Cluster) {
    let mut screen = screen(cluster, SMALL);
    let text =
        screen.shows(&["3 voters, 1 may fail", "3 nodes ready", "[1 Overview]", "/top/nowhere", "unplaced"]);
    assert!(screen.is_taken(), "{text}");
    screen.shows(&["ACT", "NOT secured", "leader", "3 ready"]);
    assert!(screen.text().lines().count() <= 24);
    screen.press("?");
    screen.shows(&["It changes nothing"]);
    screen.press(" ");
    // From what needs attention to the bucket itself.
    screen.wait_for("the overview again", |text| !text.contains("It changes nothing"));
    screen.press("\r");
    screen.shows(&["Overview > /top/nowhere", "[instances]", "refusing@1"]);
    quit(screen);
}

fn gates(cluster: &Cluster) {
    let mut screen = screen(cluster, SMALL);
    screen.press("2");
    screen.shows(&["/top/nowhere", "/top/speaker", "/top/web", "3/3", "row 1 of 3"]);
    screen.press("/web\r");
    screen.wait_for("only what fits", |text| text.contains("/top/web") && !text.contains("/top/speaker"));
    screen.press("\x1b");
    screen.shows(&["/top/speaker"]);
    screen.press("/state=unplaced\r");
    screen.wait_for("by state", |text| text.contains("/top/nowhere") && !text.contains("/top/web"));
    screen.press("\x1b/colour=red\r");
    screen.shows(&["colour"]);
    screen.wait_for("what is wrong with it", |text| text.contains("unknown") || text.contains("one of"));
    screen.press("\x1b");
    screen.shows(&["row 1 of 3"]);
    // By name, the other way round.
    screen.press("sS");
    let text = screen.shows(&["NAME-", "sorted by NAME"]);
    assert!(text.find("/top/web") < text.find("/top/nowhere"), "{text}");
    screen.press("/nowhere\r");
    screen.wait_for("one row", |text| text.contains("row 1 of 1"));
    screen.press("\r");
    screen.shows(&["[instances]", "unplaced", "nothing of it runs"]);
    screen.press(RIGHT);
    screen.shows(&[
        "[gates]",
        "LOCAL_CONFIG",
        "refuse",
        "can_run_on_this_node",
        "/no/such/program does not exist",
    ]);
    screen.press(RIGHT);
    screen.shows(&["[history]", "REVISION"]);
    // From a node that runs something to what that is.
    screen.press("3");
    screen.shows(&["n1", "n2", "n3", "ready"]);
    screen.press("/n2\r");
    screen.wait_for("one row", |text| text.contains("row 1 of 1"));
    screen.press("\r");
    screen.shows(&["Nodes > n2", "[runs]", "/top/web", "WHY"]);
    screen.press(RIGHT);
    screen.shows(&["[facts]", "hostname", "memory"]);
    screen.press("\x1b[D");
    screen.shows(&["[runs]"]);
    screen.press("/web\r\r");
    screen.shows(&["Nodes > n2 > /top/web", "[instances]", "running"]);
    quit(screen);
}

fn say(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).open(path).expect("the test has made it");
    file.write_all(text.as_bytes()).expect("the test's own file can be written");
}

fn logs(cluster: &Cluster, spoken: &Trace) {
    let mut screen = screen(cluster, SMALL);
    screen.press("2/speaker\r");
    screen.wait_for("one row", |text| text.contains("row 1 of 1"));
    screen.press("\r");
    screen.shows(&["[instances]"]);
    screen.press(RIGHT);
    screen.press(RIGHT);
    screen.press(RIGHT);
    screen.shows(&["[logs]", "| first words", "following"]);
    say(spoken.path(), "second words\n");
    screen.shows(&["| second words"]);
    // Everything that a terminal could be made to do: a title, a cleared screen, another screen, colours, a reset, an answer.
    say(
        spoken.path(),
        "\x1b]0;owned\x07\x1b[2J\x1b[H\x1b[?1049l\x1bc\x1b[6n\x1b[31mred \u{9b}2J\u{202e}drow\n",
    );
    say(spoken.path(), "still here\n");
    let text = screen.shows(&["| still here"]);
    assert!(text.contains("| ␛]0;owned␇␛[2J␛[H␛[?1049l␛c␛[6n␛[31mred ␦2J␦drow"), "{text}");
    assert!(text.contains("[2 Buckets]") && text.contains("| first words") && screen.is_taken(), "{text}");
    let bytes = screen.bytes();
    for attack in [b"\x1b]0;".as_slice(), b"\x1bc", b"\x1b[6n", b"\x1b[?1049l", "\u{9b}".as_bytes()] {
        assert!(
            !bytes.windows(attack.len()).any(|window| window == attack),
            "{attack:?} has reached the terminal"
        );
    }
    // Held, it stands still.
    screen.press(" ");
    screen.shows(&["held at line"]);
    say(spoken.path(), "later words\n");
    screen.press("/later\r");
    screen.shows(&["| later words", "filter: later"]);
    quit(screen);
}

fn attempts(cluster: &Cluster) {
    submit(
        cluster,
        &job("topjob", "failing", "subtasks: {array: 0-4}\nretry: {max_attempts: 2, backoff: 10ms..20ms}"),
    );
    over(cluster, "topjob");
    let mut screen = screen(cluster, SMALL);
    screen.shows(&["1 failed"]);
    screen.press("4");
    screen.shows(&["topjob", "failed"]);
    screen.press("\r");
    screen.shows(&["Jobs > topjob", "[status]", "100% of 5", "5 failed", "10 exit", "FINGERPRINT"]);
    screen.press("\r");
    screen.shows(&["[subtasks]", "filter: fingerprint = '", "row 1 of 5"]);
    screen.press(DOWN);
    screen.press("\r");
    screen.shows(&["topjob > subtask 1", "[attempts]", "row 1 of 2"]);
    screen.press("\r");
    screen.shows(&["[output]", "| about to fail at 1", "it has ended"]);
    screen.press("\x1b");
    screen.shows(&["[subtasks]"]);
    screen.press("\x1b/0-1\r");
    screen.shows(&["row 1 of 2", "filter: 0-1"]);
    quit(screen);
}

fn events(cluster: &Cluster) {
    let mut screen = screen(cluster, (120, 30));
    screen.press("5");
    screen.shows(&["bucket.created", "/top/web"]);
    screen.press("/kind=bucket.suspended subject=/top/web\r");
    screen.shows(&["nothing is like that"]);
    cluster.cli(&["bucket", "suspend", "/top/web", "--wait"]).ok();
    screen.shows(&["bucket.suspended", "/top/web", "by cli:"]);
    screen.press("\r");
    screen.shows(&["Events > /top/web", "suspended"]);
    cluster.cli(&["bucket", "resume", "/top/web", "--wait"]).ok();
    // Followed: nothing was pressed.
    screen.shows(&["runs on 3 of 3"]);
    quit(screen);
}

fn ends(cluster: &Cluster) {
    let mut one = screen(cluster, SMALL);
    one.shows(&["[1 Overview]", "q quit"]);
    one.resize((200, 50));
    one.wait_for("all of a large screen", |text| text.lines().count() > 40 && text.contains("q quit"));
    one.press("3");
    one.shows(&["HOSTNAME", "LABELS"]);
    one.resize((60, 10));
    one.shows(&["This terminal is 60x10; sheaf top needs 80x24"]);
    one.resize(SMALL);
    one.shows(&["[3 Nodes]", "q quit"]);
    // A shell would have stopped it; here nothing does, and it goes on.
    one.press("\x1a");
    one.press("1");
    one.shows(&["[1 Overview]"]);
    one.signal(Signal::CONT);
    one.press("2");
    one.shows(&["[2 Buckets]", "/top/web"]);
    quit(one);
    for end in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut one = screen(cluster, SMALL);
        one.shows(&["3 nodes ready"]);
        one.signal(end);
        assert_eq!(one.end(), Left { code: 130, restored: true }, "{end:?}");
    }
    let mut one = screen(cluster, SMALL);
    one.shows(&["3 nodes ready"]);
    one.press("\x03");
    assert_eq!(one.end(), Left { code: 0, restored: true }, "Ctrl-C is a key here");
    let mut one = screen(cluster, SMALL);
    one.shows(&["3 nodes ready"]);
    let pid = one.pid();
    assert_eq!(one.hang_up(), 130, "the line broke");
    assert!(!is_alive(pid));
    let address = cluster.agent(1).address();
    let mut one = Screen::start(cluster.machine(), &["top", "--address", &address], SMALL, true);
    one.press("3");
    one.shows(&["[3 Nodes]", "ready"]);
    quit(one);
    let nobody = Screen::start(cluster.machine(), &["top", "--address", "127.0.0.1:1"], SMALL, false);
    assert_eq!(nobody.end(), Left { code: 1, restored: true }, "said before the screen is taken");
}

fn colour(cluster: &Cluster) {
    let address = cluster.agent(1).address();
    let list = ["bucket", "list", "--address", &address];
    for wanted in [true, false] {
        let screen = Screen::start(cluster.machine(), &list, SMALL, wanted);
        let bytes = wait_for("the list is there", Duration::from_secs(30), || {
            let bytes = String::from_utf8_lossy(&screen.bytes()).into_owned();
            if bytes.contains("/top/web") { Ok(bytes) } else { Err(bytes) }
        });
        assert_eq!(screen.end().code, 0);
        assert_eq!(bytes.contains('\x1b'), wanted, "{bytes:?}");
    }
    let piped = cluster.cli(&list[..2]).ok().stdout;
    assert!(piped.contains("/top/web") && !piped.contains('\x1b'), "{piped:?}");
}

fn loss(cluster: &Cluster) {
    let mut screen = screen(cluster, SMALL);
    screen.press("3");
    screen.shows(&["3 nodes ready", "[3 Nodes]", "n3"]);
    let first = cluster.agent(1).address();
    let asks_it = |text: &str| text.lines().next().is_some_and(|line| line.contains(&first));
    assert!(asks_it(&screen.text()));
    // The very node that is asked: another is, and says that it is lost.
    cluster.agent(1).kill_machine();
    screen.wait_for("that it is asked no more", |text| {
        text.contains("2 nodes ready, 1 LOST") && !asks_it(text) && text.contains("lost")
    });
    screen.press("1");
    screen.shows(&["ACT", "n1", "lost"]);
    // Keys are heard while nothing answers.
    cluster.agent(2).kill();
    screen.wait_for("that nothing can be decided", |text| {
        text.contains("NO LEADER") || text.contains("NO ANSWER")
    });
    screen.press("?");
    screen.shows(&["It changes nothing"]);
    screen.press("?");
    screen.press("3");
    screen.shows(&["[3 Nodes]", "n2"]);
    cluster.start_all();
    cluster.wait_ready();
    screen.shows(&["3 nodes ready"]);
    screen.press("1");
    screen.wait_for("that n1 is well", |text| text.contains("[1 Overview]") && !text.contains("lost"));
    quit(screen);
}
