use sheaf_model::{GateOutcome, ModuleRef};

use super::*;
use crate::node::told::tests::seen;

fn name(n: usize) -> BucketName {
    BucketName::new(&format!("/team/b{n}")).expect("a name")
}

fn open() -> Reports {
    let mut reports = Reports::default();
    reports.opened(Moment(0));
    reports
}

/// A message with phases: its number, and what is said of which bucket.
type Said = (u64, Vec<(BucketName, String)>);

fn read(out: Vec<Action>) -> Vec<Said> {
    let of = |action| match action {
        Action::Say(ToLeader::Phases { seq, instances }) => {
            (seq, instances.into_iter().map(|it| (it.bucket, it.message)).collect())
        }
        other => panic!("{other:?}"),
    };
    out.into_iter().map(of).collect()
}

/// What is said when everything that was gathered is due.
fn said(reports: &mut Reports, at: u64) -> Vec<Said> {
    let mut out = Vec::new();
    reports.flush(Moment(at), &mut out);
    read(out)
}

/// What is said again then.
fn said_again(reports: &mut Reports, at: u64) -> Vec<Said> {
    let mut out = Vec::new();
    reports.unconfirmed(Moment(at), &mut out);
    read(out)
}

fn tell(reports: &mut Reports, bucket: usize, message: &str, at: u64) {
    let seen = seen(Phase::Failed, message);
    reports.instance(&name(bucket), NodeId(1), seen.phase, Revision(1), &seen, Moment(at));
}

fn message(seq: u64, said: &[(usize, &str)]) -> Said {
    (seq, said.iter().map(|(bucket, what)| (name(*bucket), (*what).to_owned())).collect())
}

#[test]
fn what_is_recorded_later_says_nothing_of_what_was_said_before() {
    let mut reports = open();
    tell(&mut reports, 1, "the disk is full when this comes", 0);
    assert_eq!(said(&mut reports, 100)[0].0, 1);
    tell(&mut reports, 2, "there is room again", 100);
    assert_eq!(said(&mut reports, 200)[0].0, 2);
    assert_eq!(reports.recorded(2), [name(2)]);
    assert!(reports.waits(), "the first is not recorded");
    assert_eq!(said_again(&mut reports, 5000), [], "its number is not answered any more");
    assert_eq!(said(&mut reports, 5000), [message(3, &[(1, "the disk is full when this comes")])]);
    assert_eq!(reports.recorded(3), [name(1)]);
    assert!(!reports.waits());
}

#[test]
fn an_answer_that_takes_longer_than_it_takes_to_say_it_again_counts() {
    let mut reports = open();
    tell(&mut reports, 1, "the disk is slow", 0);
    let first = [message(1, &[(1, "the disk is slow")])];
    assert_eq!(said(&mut reports, 100), first);
    assert_eq!(said_again(&mut reports, 1099), []);
    assert_eq!(said_again(&mut reports, 1100), first);
    assert_eq!(said_again(&mut reports, 2000), [], "it was just said");
    assert_eq!(said_again(&mut reports, 2100), first);
    assert_eq!(reports.recorded(1), [name(1)]);
    assert!(!reports.waits());
    assert_eq!(reports.recorded(1), [], "the answer to the second saying");
    assert_eq!((said_again(&mut reports, 9000), said(&mut reports, 9000)), (vec![], vec![]));
}

#[test]
fn an_answer_to_what_has_changed_and_is_the_same_again_says_nothing_of_it() {
    let mut reports = open();
    tell(&mut reports, 1, "a", 0);
    assert_eq!(said(&mut reports, 100).len(), 1);
    tell(&mut reports, 1, "b", 100);
    assert_eq!(said(&mut reports, 200).len(), 1);
    tell(&mut reports, 1, "a", 200);
    assert_eq!(reports.recorded(1), [], "b may come into the log after it");
    assert_eq!(said(&mut reports, 300), [message(3, &[(1, "a")])]);
    assert_eq!(reports.recorded(2), []);
    assert_eq!(reports.recorded(3), [name(1)]);
}

#[test]
fn what_has_changed_since_is_not_said_again_as_it_was() {
    let mut reports = open();
    tell(&mut reports, 1, "a", 0);
    tell(&mut reports, 2, "a", 0);
    tell(&mut reports, 3, "a", 0);
    assert_eq!(said(&mut reports, 100)[0].1.len(), 3);
    tell(&mut reports, 1, "b", 500);
    assert_eq!(said(&mut reports, 600), [message(2, &[(1, "b")])]);
    tell(&mut reports, 2, "b", 1100);
    assert_eq!(said_again(&mut reports, 1100), [message(1, &[(3, "a")])]);
    assert_eq!(said(&mut reports, 1200), [message(3, &[(2, "b")])]);
    tell(&mut reports, 3, "b", 1200);
    assert_eq!(said_again(&mut reports, 2200), [message(2, &[(1, "b")]), message(3, &[(2, "b")])]);
    assert_eq!(said(&mut reports, 2200), [message(4, &[(3, "b")])], "nothing is left of the first");
    assert_eq!(reports.recorded(1), []);
    let recorded: Vec<_> = (2..=4).flat_map(|seq| reports.recorded(seq)).collect();
    assert_eq!(recorded, [name(1), name(2), name(3)]);
    assert!(!reports.waits());
}

#[test]
fn what_a_leader_of_the_former_release_answers_only_the_last_of_is_said_again_together() {
    let mut reports = open();
    for n in 1..=3 {
        tell(&mut reports, n, "a", 0);
        assert_eq!(said(&mut reports, 100), [message(n as u64, &[(n, "a")])]);
    }
    assert_eq!(reports.recorded(3), [name(3)]);
    assert_eq!(said_again(&mut reports, 1100), []);
    assert_eq!(said(&mut reports, 1100), [message(4, &[(1, "a"), (2, "a")])], "together");
    assert_eq!(reports.recorded(4), [name(1), name(2)]);
    assert!(!reports.waits());
}

#[test]
fn an_answer_to_a_first_saying_says_nothing_of_one_again_that_came_after_it() {
    let mut reports = open();
    tell(&mut reports, 1, "a", 0);
    assert_eq!(said(&mut reports, 100).len(), 1);
    tell(&mut reports, 2, "a", 500);
    assert_eq!(said(&mut reports, 600).len(), 1);
    assert_eq!(said_again(&mut reports, 1100), [message(1, &[(1, "a")])]);
    assert_eq!(reports.recorded(2), [name(2)]);
    assert_eq!(reports.recorded(1), [name(1)], "it was said again after the second");
    assert!(!reports.waits());
}

#[test]
fn in_a_new_session_all_is_said_under_new_numbers() {
    let mut reports = open();
    tell(&mut reports, 1, "a", 0);
    assert_eq!(said(&mut reports, 100)[0].0, 1);
    reports.lost();
    reports.opened(Moment(200));
    assert_eq!(reports.recorded(1), [], "to the former session");
    assert_eq!(said(&mut reports, 200), [message(2, &[(1, "a")])]);
    assert_eq!(reports.recorded(1), []);
    assert_eq!(reports.recorded(2), [name(1)]);
}

#[test]
fn however_much_there_is_to_say_each_message_fits_into_an_entry_of_the_log() {
    let mut reports = open();
    let long = "ä".repeat(100_000);
    (0..700).for_each(|n| tell(&mut reports, n, &long, 0));
    let all = said(&mut reports, 100);
    let weights = all.iter().map(|(_, some)| some.iter().map(|(_, message)| message.len()).sum::<usize>());
    assert!(weights.max() < Some(PIECE_BYTES + 2 * Instance::MESSAGE_MAX), "{} messages", all.len());
    let told: BTreeSet<_> = all.iter().flat_map(|(_, some)| some).map(|(bucket, _)| bucket).collect();
    assert_eq!(told.len(), 700);
}

#[test]
fn however_much_is_said_against_buckets_each_message_takes_only_so_much_of_it() {
    let mut reports = open();
    let (module, long) = (ModuleRef::parse("m@1").expect("a module"), "x".repeat(30_000));
    for n in 0..700 {
        let reason = if n < 500 { long.as_str() } else { "" };
        let gates = [GateOutcome::pass(""), GateOutcome::pass(""), GateOutcome::refuse(reason)];
        let (bucket, module) = (name(n), module.clone());
        reports.verdict(&Arc::new(Verdict { bucket, revision: Revision(1), module, gates }));
    }
    let mut out = Vec::new();
    reports.flush(Moment(100), &mut out);
    let mut told = BTreeSet::new();
    for action in out {
        let verdicts = match action {
            Action::Say(ToLeader::Verdicts(verdicts)) => verdicts,
            other => panic!("{other:?}"),
        };
        let bytes: usize = verdicts.iter().map(|verdict| verdict.weight()).sum();
        assert!(bytes < PIECE_BYTES + 2 * long.len() && verdicts.len() <= PIECE, "{bytes} bytes");
        told.extend(verdicts.iter().map(|verdict| verdict.bucket.clone()));
    }
    assert_eq!(told.len(), 700);
}
