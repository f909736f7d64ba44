//! Whole screens, as they are drawn.

use ratatui_core::layout::Rect;
use sheaf_model::Timestamp;
use sheaf_model::view::{BucketState, ClusterStatus, Concern, Level};
use sheaf_wire::ApiError;
use sheaf_wire::logs::{LogLine, LogStream};

use super::super::ask::{Answer, Ask, Lines, Piece, Rows};
use super::super::key::Key;
use super::*;
use crate::command::bucket::example as bucket;
use crate::command::job::example as job;
use crate::output::recorded::NOW;

fn state() -> State {
    let mut state = State::new("10.0.0.1:7420", NOW, (80, 24));
    let member = |id: u64| {
        serde_json::from_value(serde_json::json!({
            "name": format!("n{id}"), "id": id, "voter": true, "role": "voter", "match_lag": 0, "address": ""
        }))
        .expect("a member")
    };
    let mut status = ClusterStatus {
        leader: Some("n1".to_owned()),
        term: 3,
        commit: 4711,
        members: (1..=3).map(member).collect(),
        fault_tolerance: 1,
        cluster: "c1".to_owned(),
        secured: true,
        ..ClusterStatus::default()
    };
    (status.nodes.ready, status.nodes.lost, status.buckets.running, status.buckets.unplaced) = (2, 1, 4, 1);
    status.buckets.add(BucketState::WaitingForNode);
    state.fold(&Ask::Cluster, Ok(Piece::Whole(Answer::Cluster(Box::new(status)))));
    state
}

fn press(state: &mut State, keys: &str) {
    for c in keys.chars() {
        state.press(match c {
            '\n' => Key::Enter,
            '>' => Key::Right,
            c => Key::Char(c),
        });
    }
}

fn answered(state: &mut State, answer: Answer) {
    let ask = state.ask(state.screen());
    state.fold(&ask, Ok(Piece::Whole(answer)));
}

fn drawn(state: &State, colour: bool) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, state.size.0, state.size.1));
    draw(state, &mut buffer, colour);
    buffer
}

fn shown(state: &State) -> String {
    let buffer = drawn(state, false);
    let line = |y: u16| {
        let line: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
        line.trim_end().to_owned()
    };
    (0..buffer.area.height).map(line).collect::<Vec<_>>().join("\n")
}

fn buckets(state: &mut State) {
    press(state, "2");
    answered(state, Answer::Buckets(Rows { rows: bucket::rows(), next: String::new() }));
}

#[test]
fn the_overview_begins_with_what_needs_attention() {
    let mut state = state();
    let unplaced =
        Concern::new(Level::Act, "bucket", "/crawl", "unplaced", "none of 5 nodes is available: 5 refuse");
    let lost =
        Concern::new(Level::Act, "node", "n3", "lost", "its lease is over; what could go elsewhere did");
    answered(&mut state, Answer::Concerns(vec![lost, unplaced]));
    let text = shown(&state);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("leader n1  3 voters, 1 may fail  2 nodes ready, 1 LOST  by 10.0.0.1:7420"),
        "{text}"
    );
    assert!(lines[1].starts_with("[1 Overview]  2 Buckets"), "{text}");
    for part in [
        "1 of them may fail",
        "2 ready, 1 LOST",
        "1 UNPLACED, 1 waiting_for_node, 4 running",
        "> ACT",
        "its lease is over",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(text.find("lost") < text.find("/crawl"), "in the order of the answer\n{text}");
}

#[test]
fn buckets_and_their_gates_fit_a_small_terminal() {
    let mut state = state();
    buckets(&mut state);
    let text = shown(&state);
    for part in ["NAME", "> /crawl", "unplaced", "import-01, import-02", "row 1 of 3", "[2 Buckets]"] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(!text.contains("OWNER"), "columns for wide screens are left out\n{text}");
    press(&mut state, "G\n>");
    answered(&mut state, Answer::Explain(Box::new(bucket::explanation())));
    press(&mut state, "jj");
    let text = shown(&state);
    for part in [
        "Buckets > /logs/web",
        "[gates]",
        "chosen: import-01, 3h ago, under epoch 42",
        "load 0.10", // over the edge of the first line
        "CAN_RUN",
        "> web-01",
        "local_config          refuse   module \"flume\"",
        "node_list_rules       refuse",
        "can_run_on_this_node  unknown  not asked: refused by local_config",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(!text.contains("web-16"), "the second page of the table\n{text}");
    state.size = (200, 50);
    assert!(shown(&state).contains("web-16"), "a large one shows more");
}

#[test]
fn a_job_is_read_at_a_glance() {
    let mut state = state();
    press(&mut state, "4");
    answered(&mut state, Answer::Jobs(Rows { rows: vec![job::row(job::status())], next: String::new() }));
    press(&mut state, "\n");
    let mut status = job::status();
    status.failed_attempts.refused = 2;
    answered(&mut state, Answer::Job(Box::new(status)));
    let text = shown(&state);
    for part in [
        "Jobs > ndvi-2024  running: 500 run",
        "[##################......................] 45% of 50,000",
        "812.5/s, 34s left",
        "40 exit, 3 lost, 2 refused for good",
        "> ",
        "no such file: <path>",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

#[test]
fn what_a_log_says_to_a_terminal_is_only_shown() {
    let mut state = state();
    buckets(&mut state);
    press(&mut state, "G\n>>>");
    let line = |text: &str| LogLine {
        node: "n\x1b[31m1".to_owned(),
        at: NOW,
        stream: LogStream::Stderr,
        text: text.to_owned(),
    };
    let lines = [
        line("\x1b]0;owned\x07\x1b[2J\x1b[Hgone"),
        line("wide 日本語 \u{202e}txt"),
        line(&"long ".repeat(40)),
    ];
    answered(&mut state, Answer::Lines(Lines { lines: lines.into(), ..Lines::default() }));
    let text = shown(&state);
    assert!(text.contains("n␛[31m1 ! ␛]0;owned␇␛[2J␛[Hgone"), "{text}");
    assert!(text.contains("wide 日") && text.contains("␦txt"), "{text}");
    let buffer = drawn(&state, true);
    assert!(buffer.content().iter().all(|cell| !cell.symbol().contains(char::is_control)));
    assert!(text.lines().all(|line| super::width(line) <= 100), "{text}");
}

#[test]
fn without_colour_words_and_marks_say_the_same() {
    let mut state = state();
    buckets(&mut state);
    let plain = |buffer: &Buffer| {
        buffer.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    };
    assert!(plain(&drawn(&state, false)));
    assert!(!plain(&drawn(&state, true)), "states have colours where they may");
    let text = shown(&state);
    assert!(text.contains("> /crawl") && text.contains(BucketState::Unplaced.as_str()), "{text}");
}

#[test]
fn a_lost_connection_says_how_old_everything_is() {
    let mut state = state();
    buckets(&mut state);
    state.now = Timestamp(NOW.0 + 12_000);
    state.fold(
        &Ask::Cluster,
        Err(ApiError::DeadlineExceeded("no answer from 10.0.0.1:7420 within 4s".to_owned())),
    );
    let text = shown(&state);
    assert!(
        text.starts_with("NO ANSWER for 12s, shown is what was then; asking 10.0.0.1:7420: no answer"),
        "{text}"
    );
    assert!(text.contains("12s old") && text.contains("/logs/web"), "{text}");
}

#[test]
fn a_small_terminal_and_every_other_size_are_survived() {
    let mut state = state();
    buckets(&mut state);
    state.size = (79, 24);
    assert!(shown(&state).contains("This terminal is 79x24; sheaf top needs 80x24."));
    for (width, height) in [(0, 0), (1, 1), (3, 200), (80, 23), (80, 24), (81, 25), (400, 100)] {
        state.size = (width, height);
        for keys in ["1", "2", "3", "4", "5", "2\n", ">", ">", ">", ">", "?"] {
            press(&mut state, keys);
            drawn(&state, true);
        }
        press(&mut state, "?");
    }
}

#[test]
fn the_help_and_the_keys_fit_80_columns() {
    let mut state = state();
    buckets(&mut state);
    assert!(shown(&state).ends_with("q quit"));
    press(&mut state, "?");
    let text = shown(&state);
    assert!(!text.contains('…') && text.contains("changes nothing"), "{text}");
    press(&mut state, "x/web");
    let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
    assert_eq!(
        draw(&state, &mut buffer, false),
        Some(Position::new(4, 23)),
        "the cursor is where one writes"
    );
}
