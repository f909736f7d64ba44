//! Keys and answers against the state, without a terminal and without a cluster.

use sheaf_model::BucketName;
use sheaf_model::view::{BucketRow, Concern, Level};
use sheaf_wire::logs::{LogLine, LogStream};

use super::super::ask::{Lines, Rows};
use super::super::screen::Page;
use super::*;
use crate::command::bucket::example as bucket;
use crate::command::job::example as job;
use crate::output::recorded::NOW;

fn state() -> State {
    State::new("h:1", NOW, (80, 24))
}

fn press(state: &mut State, keys: &str) {
    for c in keys.chars() {
        state.press(match c {
            '\n' => Key::Enter,
            '\x1b' => Key::Escape,
            '>' => Key::Right,
            c => Key::Char(c),
        });
    }
}

fn answered(state: &mut State, answer: Answer) {
    let ask = state.ask(state.screen());
    state.fold(&ask, Ok(Piece::Whole(answer)));
}

fn rows(names: &[&str], next: &str) -> Answer {
    let row = |name: &&str| BucketRow { name: (*name).to_owned(), ..bucket::rows()[0].clone() };
    Answer::Buckets(Rows { rows: names.iter().map(row).collect(), next: next.to_owned() })
}

fn chosen(state: &State) -> String {
    match sheet(state, state.screen()).body {
        Body::Table(grid) => grid.rows[grid.chosen(state.screen().look())].key.clone(),
        other => panic!("{other:?} is no table"),
    }
}

#[test]
fn only_what_is_seen_is_wanted() {
    let mut state = state();
    assert_eq!(state.wanted(), [Ask::Cluster, Ask::Concerns]);
    press(&mut state, "2");
    let wanted = state.wanted();
    assert!(matches!(&wanted[1], Ask::Buckets(part) if part.size == 18), "{wanted:?}");
    answered(&mut state, rows(&["/a", "/b"], ""));
    press(&mut state, "j\n");
    let name = BucketName::new("/b").expect("a name");
    assert_eq!(state.wanted(), [Ask::Cluster, Ask::Bucket(name.clone())]);
    press(&mut state, ">");
    assert_eq!(state.wanted(), [Ask::Cluster, Ask::Explain(name.clone()), Ask::Bucket(name.clone())]);
    press(&mut state, ">>");
    assert_eq!(state.screen().page(), Page::Logs);
    assert_eq!(state.wanted()[1], Ask::BucketLogs(name));
    assert_eq!(state.way(), ["Buckets", "/b"]);
    press(&mut state, "\x1b");
    assert_eq!(chosen(&state), "/b", "back where it was");
    press(&mut state, "1");
    assert_eq!(state.wanted(), [Ask::Cluster, Ask::Concerns]);
}

#[test]
fn of_two_nodes_with_one_name_the_one_that_is_meant_is_opened() {
    let mut state = state();
    let node = |number, status: &str| Concern {
        number: Some(number),
        ..Concern::new(Level::Watch, "node", "n3", status, "why")
    };
    answered(&mut state, Answer::Concerns(vec![node(3, "lost"), node(9, "draining")]));
    press(&mut state, "j");
    answered(&mut state, Answer::Concerns(vec![node(9, "draining")]));
    assert_eq!(chosen(&state), "node 9", "the chosen one stays chosen");
    answered(&mut state, Answer::Concerns(vec![node(3, "lost"), node(9, "draining")]));
    press(&mut state, "k\n");
    assert_eq!(state.wanted(), [Ask::Cluster, Ask::Node("+3".to_owned())]);
    assert_eq!(state.way(), ["Overview", "n3"]);
}

#[test]
fn an_instance_leads_to_its_very_node() {
    let mut state = state();
    press(&mut state, "2");
    answered(&mut state, rows(&["/a"], ""));
    press(&mut state, "\n");
    let mut status = bucket::status();
    for (instance, id) in status.instances.iter_mut().zip([3, 9]) {
        (instance.node, instance.node_id) = ("n3".to_owned(), id);
    }
    answered(&mut state, Answer::Bucket(Box::new(status)));
    press(&mut state, "j");
    assert_eq!(chosen(&state), "9");
    let Body::Table(grid) = sheet(&state, state.screen()).body else { panic!("no table") };
    assert_eq!(
        grid.rows.iter().map(|row| row.cells[0].as_str()).collect::<Vec<_>>(),
        ["n3 (node 3)", "n3 (node 9)"]
    );
    press(&mut state, "\n");
    assert_eq!(state.wanted(), [Ask::Cluster, Ask::Node("+9".to_owned())]);
    assert_eq!(state.way(), ["Buckets", "/a", "n3"]);
}

#[test]
fn a_long_list_is_walked_page_by_page() {
    let mut state = state();
    let token = |state: &State| match state.ask(state.screen()) {
        Ask::Buckets(part) => part.token,
        other => panic!("{other:?}"),
    };
    press(&mut state, "2");
    answered(&mut state, rows(&["/a", "/b"], "/b"));
    press(&mut state, "jj");
    assert_eq!(token(&state), "/b", "beyond the last row");
    answered(&mut state, rows(&["/c", "/d"], ""));
    assert_eq!(chosen(&state), "/c");
    press(&mut state, "jj");
    assert_eq!((token(&state).as_str(), chosen(&state).as_str()), ("/b", "/d"), "there is no more");
    press(&mut state, "kk");
    assert_eq!(token(&state), "");
    answered(&mut state, rows(&["/a", "/b"], "/b"));
    assert_eq!(chosen(&state), "/b", "at the end of the page before");
    press(&mut state, "s");
    assert!(
        matches!(state.ask(state.screen()), Ask::Buckets(part) if part.size == 1000 && part.token.is_empty())
    );
}

#[test]
fn the_chosen_row_stays_chosen_when_others_come_and_go() {
    let mut state = state();
    press(&mut state, "2");
    answered(&mut state, rows(&["/a", "/b", "/c"], ""));
    press(&mut state, "j");
    answered(&mut state, rows(&["/0", "/a", "/b"], ""));
    assert_eq!(chosen(&state), "/b");
    answered(&mut state, rows(&["/0"], ""));
    assert_eq!(chosen(&state), "/0");
    answered(&mut state, rows(&[], ""));
    press(&mut state, "jk\n");
    assert_eq!(state.way().len(), 1, "nothing to open");
}

#[test]
fn a_filter_is_written_applied_and_cleared() {
    let mut state = state();
    press(&mut state, "2/webq");
    assert!(!state.done, "q is a letter of it");
    assert_eq!(state.typing.as_deref(), Some("webq"));
    state.press(Key::Backspace);
    press(&mut state, "\n");
    assert!(
        matches!(state.ask(state.screen()), Ask::Buckets(part) if part.filter.to_string() == "name=*web*")
    );
    press(&mut state, "/x\x1b");
    assert_eq!(state.screen().look().filter, "web", "left as it was");
    press(&mut state, "\x1b");
    assert_eq!(state.screen().look().filter, "");
    press(&mut state, "q");
    assert!(state.done);
}

#[test]
fn a_failure_group_leads_to_its_subtasks_and_to_what_they_printed() {
    let mut state = state();
    press(&mut state, "4");
    let list = Rows { rows: vec![job::row(job::status())], next: String::new() };
    answered(&mut state, Answer::Jobs(list));
    press(&mut state, "\n");
    answered(&mut state, Answer::Job(Box::new(job::status())));
    press(&mut state, "j\n");
    let Ask::Subtasks(of) = state.ask(state.screen()) else { panic!("subtasks") };
    assert_eq!(of.condition.as_deref(), Some("fingerprint = '1234567890abcdef'"));
    answered(&mut state, Answer::Subtasks(Rows { rows: job::subtasks(), next: String::new() }));
    press(&mut state, "j\n");
    assert_eq!(state.way(), ["Jobs", "ndvi-2024", "subtask 7"]);
    let tries = [3, 2, 1].map(|attempt| super::super::ask::AttemptRow { attempt, ..Default::default() });
    answered(&mut state, Answer::Attempts(tries.to_vec()));
    press(&mut state, "j\n");
    assert!(matches!(state.ask(state.screen()), Ask::Output(_, 7, 2)));
    press(&mut state, "\x1b\x1b\x1b\x1b");
    assert_eq!(state.way(), ["Jobs"], "the filter of the group first, then each place");
}

#[test]
fn a_log_follows_until_it_is_held() {
    let mut state = state();
    press(&mut state, "2");
    answered(&mut state, rows(&["/a"], ""));
    press(&mut state, "\n>>>");
    let lines = |from: u32, to: u32| {
        let line = |n: u32| LogLine {
            node: "n1".to_owned(),
            at: NOW,
            stream: LogStream::Stdout,
            text: n.to_string(),
        };
        Answer::Lines(Lines { lines: (from..to).map(line).collect(), ..Lines::default() })
    };
    let last = |state: &State| match sheet(state, state.screen()).body {
        Body::Log(log) => log.lines.last().cloned().unwrap_or_default(),
        other => panic!("{other:?} is no log"),
    };
    answered(&mut state, lines(0, 100));
    assert_eq!(last(&state), "n1 | 99");
    press(&mut state, "kk");
    let ask = state.ask(state.screen());
    state.fold(&ask, Ok(Piece::More(lines(100, 200))));
    assert_eq!(last(&state), "n1 | 97", "it stands still");
    press(&mut state, "g");
    assert_eq!(last(&state), "n1 | 18", "as much as there is room for");
    press(&mut state, "G");
    assert_eq!(last(&state), "n1 | 199");
    press(&mut state, "kj");
    state.fold(&ask, Ok(Piece::More(lines(200, 201))));
    assert_eq!(last(&state), "n1 | 200", "down at the end follows again");
    press(&mut state, "/19\n");
    assert_eq!(last(&state), "n1 | 199");
}

#[test]
fn what_is_not_answered_stays_and_is_said_to_be_old() {
    let mut state = state();
    press(&mut state, "2");
    answered(&mut state, rows(&["/a"], ""));
    let ask = state.ask(state.screen());
    state.fold(&ask, Err(ApiError::unavailable("no leader")));
    assert_eq!(chosen(&state), "/a");
    assert_eq!(state.trouble(&ask), Some(("no leader", Some(NOW))));
    assert!(state.link.trouble.is_none(), "the node answers, if only with this");
    state.fold(&Ask::Cluster, Err(ApiError::DeadlineExceeded("no answer within 4s".to_owned())));
    assert!(state.link.trouble.is_some());
    state.fold(&ask, Err(ApiError::NotFound("gone".to_owned())));
    assert!(state.answer(&ask).is_none(), "what is gone is not shown as if it were there");
}

#[test]
fn any_keys_in_any_order_do_no_harm() {
    let all = [
        Key::Char('s'),
        Key::Char('S'),
        Key::Char('/'),
        Key::Char('j'),
        Key::Char('?'),
        Key::Char(' '),
        Key::Enter,
        Key::Escape,
        Key::Backspace,
        Key::Tab,
        Key::BackTab,
        Key::Up,
        Key::Down,
        Key::Left,
        Key::Right,
        Key::Home,
        Key::End,
        Key::PageUp,
        Key::PageDown,
        Key::Control('u'),
    ];
    let mut state = state();
    let mut seed = 1_u64;
    for _ in 0..20_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = usize::try_from(seed >> 40).expect("24 bits");
        state.press(all[draw % all.len()]);
        let answer = match state.ask(state.screen()) {
            Ask::Buckets(_) => rows(&["/a", "/b"], ["", "/b"][draw % 2]),
            Ask::Explain(_) => Answer::Explain(Box::new(bucket::explanation())),
            Ask::Bucket(_) => Answer::Bucket(Box::new(bucket::status())),
            Ask::Jobs(_) => Answer::Jobs(Rows { rows: vec![job::row(job::status())], next: String::new() }),
            Ask::Job(_) => Answer::Job(Box::new(job::status())),
            Ask::Subtasks(_) => Answer::Subtasks(Rows { rows: job::subtasks(), next: "9".to_owned() }),
            Ask::Why(..) => Answer::Why(Box::new(job::explanation())),
            Ask::BucketLogs(_) | Ask::Output(..) => Answer::Lines(Lines::default()),
            Ask::Events(_) => Answer::Events(std::collections::VecDeque::new()),
            Ask::Concerns => Answer::Concerns(Vec::new()),
            _ => continue,
        };
        answered(&mut state, answer);
        assert!(!state.wanted().is_empty() && state.known.len() < 60, "what nobody wants is dropped");
    }
    assert!(!state.done);
}
