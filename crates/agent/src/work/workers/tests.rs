use sheaf_model::{
    ArrayRange, JobName, JobSpec, Json, ModuleName, ModuleRef, ModuleSpec, ModuleVersion, Runtime, Stop,
    Subtasks, Timestamp,
};

use super::*;

fn at(millis: u64) -> Now {
    use std::sync::OnceLock;
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let begin = *BEGIN.get_or_init(Instant::now);
    Now { at: begin + Duration::from_millis(millis), wall: Timestamp(millis) }
}

const ID: JobId = JobId(7);

/// A worker of job 7 that is ready for two bundles, with ticket 1. Nothing is at the other end of its line.
fn working() -> Workers {
    let mut workers = Workers::default();
    starting(&mut workers, 1);
    assert!(workers.heard(1, Heard::Ready(2), at(0)).is_empty());
    workers
}

fn job() -> Arc<Job> {
    let (name, version) = (ModuleName::new("m").unwrap(), ModuleVersion::new("1").unwrap());
    let mut module = ModuleSpec::new(name, version, Runtime::Worker);
    module.stop = Stop { grace: Span::millis(500), ..Stop::default() };
    let range = ArrayRange { first: 0, last: 9, step: 1 };
    let reference = ModuleRef::parse("m@1").unwrap();
    let mut spec = JobSpec::new(JobName::new("j").unwrap(), reference, Subtasks::Array(range));
    spec.timeout = Some(Span::millis(100));
    Arc::new(Job {
        id: ID,
        spec: Arc::new(spec),
        priority: 50,
        module: Arc::new(module),
        secrets: BTreeMap::new(),
        backends: BTreeMap::new(),
        artifact: None,
    })
}

fn starting(workers: &mut Workers, ticket: u64) {
    workers.started(job(), ticket, Line::to_nobody());
}

fn give(workers: &mut Workers, numbers: std::ops::Range<u32>, now: Now) {
    give_of(workers, &job(), numbers, now);
}

fn give_of(workers: &mut Workers, job: &Arc<Job>, numbers: std::ops::Range<u32>, now: Now) {
    let item = |subtask: u32| Json::new(&subtask.into());
    let subtask = |subtask| OrderedSubtask { subtask, attempt: 1, backend: None, item: item(subtask) };
    assert!(workers.give(job, numbers.map(subtask).collect(), now).is_empty());
}

fn end(id: u64, result: SubtaskResult, message: &str) -> End {
    End { id, result, message: message.to_owned() }
}

fn ended(ticket: u64, exit: Exit, message: &str) -> Ended {
    Ended { ticket, exit: Some(exit), stopped: None, message: message.to_owned() }
}

/// What is done, one line each.
fn told(all: Vec<Do>) -> Vec<String> {
    let line = |it| match it {
        Do::Stop(ticket) => format!("stop {ticket}"),
        Do::Kill(ticket) => format!("kill {ticket}"),
        Do::Again(_, subtask) => format!("{} again", subtask.subtask),
        Do::Fail(_, failure) => format!("all fail: {}", failure.message),
        Do::End(attempt, ran) => match ran.ending {
            Ending::Finished => format!("{} finished", attempt.subtask),
            Ending::Canceled => format!("{} canceled", attempt.subtask),
            Ending::HandedBack => format!("{} handed back", attempt.subtask),
            Ending::NotNow(pause, why) => format!("{} not for {pause}: {why}", attempt.subtask),
            Ending::Failed(failure) => {
                let exit = failure.exit.map_or(String::new(), |exit| format!(", {exit}"));
                format!("{} failed ({}{exit}): {}", attempt.subtask, failure.class.as_str(), failure.message)
            }
        },
    };
    all.into_iter().map(line).collect()
}

#[tokio::test]
async fn answers_end_attempts() {
    let mut workers = working();
    give(&mut workers, 0..3, at(0));
    let ends = vec![end(0, SubtaskResult::Finished, ""), end(1, SubtaskResult::Failed, "no luck")];
    let all = told(workers.heard(1, Heard::Ends(ends), at(10)));
    assert_eq!(all, ["0 finished", "1 failed (exit): no luck"]);
    assert_eq!((workers.busy(), workers.is_idle()), (1, false));
    // What is told of an unknown process is not heard.
    assert!(workers.heard(9, Heard::Ready(1), at(10)).is_empty());
}

#[tokio::test]
async fn a_crash_fails_what_had_begun_and_another_is_started_after_a_rest() {
    let mut workers = working();
    give(&mut workers, 0..1, at(0));
    give(&mut workers, 2..3, at(0));
    assert!(workers.ended(ended(1, Exit::Code(3), "a\nb\n"), at(20)).unwrap().is_empty());
    // What it has said before is heard.
    let ends = vec![end(1, SubtaskResult::Finished, "")];
    assert_eq!(told(workers.heard(1, Heard::Ends(ends), at(20))), ["2 finished"]);
    let all = told(workers.heard(1, Heard::Silent("broken".to_owned()), at(21)));
    let why = "its worker ended: exit code 3; it said last: a; b";
    assert_eq!(all, [format!("0 failed (exit, exit code 3): {why}")]);
    assert!(workers.is_idle() && !workers.has_room(ID, true, at(500).at));
    assert_eq!(workers.due(at(500).at), Some(at(1021).at));
    assert!(workers.has_room(ID, true, at(1021).at), "after a second");
    // It was of use before, so the next rest is as short; after one that was of none it is longer.
    starting(&mut workers, 2);
    workers.heard(2, Heard::Ready(1), at(1100));
    give(&mut workers, 4..5, at(1100));
    workers.ended(ended(2, Exit::Code(3), ""), at(1200)).unwrap();
    let all = told(workers.tick(at(1700)));
    assert_eq!(all, ["4 failed (exit, exit code 3): its worker ended: exit code 3"]);
    assert_eq!(workers.due(at(1700).at), Some(at(3700).at));
}

#[tokio::test]
async fn nobody_is_blamed_for_a_crash_among_many_and_then_each_is_run_alone() {
    let mut workers = working();
    for id in 0..9 {
        give(&mut workers, 0..1, at(id));
        workers.heard(1, Heard::Ends(vec![end(id, SubtaskResult::Finished, "")]), at(id));
    }
    assert!(workers.bundle_size(ID) > Some(1));
    give(&mut workers, 0..3, at(10));
    workers.heard(1, Heard::Silent("broken".to_owned()), at(11));
    let all = told(workers.ended(ended(1, Exit::Signal(11), ""), at(11)).unwrap());
    assert_eq!(all, ["0 handed back", "1 handed back", "2 handed back"]);
    starting(&mut workers, 2);
    workers.heard(2, Heard::Ready(1), at(1100));
    give(&mut workers, 0..1, at(1100));
    workers.heard(2, Heard::Ends(vec![end(0, SubtaskResult::Finished, "")]), at(1100));
    assert_eq!(workers.bundle_size(ID), Some(1), "one by one");
    give(&mut workers, 1..2, at(1101));
    workers.heard(2, Heard::Silent("broken".to_owned()), at(1102));
    let all = told(workers.ended(ended(2, Exit::Signal(11), ""), at(1102)).unwrap());
    assert_eq!(all, ["1 failed (exit, signal 11): its worker ended: signal 11"]);
}

#[tokio::test]
async fn a_wrong_word_ends_the_process() {
    let mut workers = working();
    give(&mut workers, 0..1, at(0));
    give(&mut workers, 1..3, at(0));
    let ends = vec![end(5, SubtaskResult::Finished, "")];
    assert_eq!(told(workers.heard(1, Heard::Ends(ends), at(5))), ["kill 1"]);
    assert!(!workers.has_room(ID, true, at(5).at));
    let all = told(workers.ended(ended(1, Exit::Signal(9), ""), at(6)).unwrap());
    let why = "its worker answered for subtask id 5, which it was never given";
    assert_eq!(
        all,
        [format!("0 failed (exit): {why}"), "1 handed back".to_owned(), "2 handed back".to_owned()]
    );
}

#[tokio::test]
async fn one_that_never_is_ready_fails_what_waits_for_it() {
    let mut workers = Workers::default();
    starting(&mut workers, 1);
    assert!(!workers.has_room(ID, true, at(0).at));
    let all = told(workers.ended(ended(1, Exit::Code(7), "no mood"), at(5)).unwrap());
    assert_eq!(all, ["all fail: its worker ended: exit code 7; it said last: no mood"]);
    starting(&mut workers, 2);
    assert!(workers.heard(2, Heard::Silent("Hello: no answer".to_owned()), at(10)).is_empty());
    assert_eq!(told(workers.tick(at(509))), [] as [&str; 0]);
    assert_eq!(told(workers.tick(at(510))), ["kill 2"]);
    let all = told(workers.ended(ended(2, Exit::Signal(9), ""), at(511)).unwrap());
    assert_eq!(all, ["all fail: Hello: no answer"]);
}

/// J25
#[tokio::test]
async fn j25_too_late_is_stopped_and_what_does_not_obey_ends_its_worker() {
    let mut workers = working();
    give(&mut workers, 0..1, at(0));
    give(&mut workers, 1..2, at(0));
    assert!(workers.tick(at(100)).is_empty(), "it is told on its line");
    let ends = vec![end(0, SubtaskResult::Stopped, "")];
    assert_eq!(
        told(workers.heard(1, Heard::Ends(ends), at(110))),
        ["0 failed (timeout): it ran for longer than 100ms"]
    );
    give(&mut workers, 2..3, at(550));
    assert_eq!(told(workers.tick(at(600))), ["kill 1"]);
    let all = told(workers.ended(ended(1, Exit::Signal(9), ""), at(601)).unwrap());
    let late = "1 failed (timeout): it ran for longer than 100ms, did not stop within 500ms, and its worker was killed";
    assert_eq!(all, [late, "2 handed back"]);
}

#[tokio::test]
async fn what_is_canceled_is_canceled_whatever_becomes_of_its_worker() {
    let mut workers = working();
    give(&mut workers, 0..3, at(0));
    assert!(workers.cancel(|attempt| attempt.subtask < 2, at(1)).is_empty());
    let ends = vec![end(1, SubtaskResult::NotBegun, "")];
    assert_eq!(told(workers.heard(1, Heard::Ends(ends), at(2))), ["1 canceled"]);
    assert_eq!(told(workers.tick(at(501))), ["kill 1"]);
    let all = told(workers.ended(ended(1, Exit::Signal(9), ""), at(502)).unwrap());
    assert_eq!(all, ["0 canceled", "2 handed back"]);
}

#[tokio::test]
async fn one_that_has_nothing_to_do_goes_and_one_that_is_dismissed_hands_back() {
    let mut workers = working();
    assert_eq!(told(workers.tick(at(29_999))), [] as [&str; 0]);
    assert_eq!(workers.due(at(0).at), Some(at(30_000).at));
    assert_eq!(told(workers.tick(at(30_000))), ["stop 1"]);
    workers.heard(1, Heard::Silent(String::new()), at(30_001));
    assert!(workers.ended(ended(1, Exit::Code(0), ""), at(30_002)).unwrap().is_empty());
    assert!(
        workers.has_room(ID, true, at(30_002).at) && workers.processes() == 0,
        "as if there had been none"
    );
    starting(&mut workers, 2);
    workers.heard(2, Heard::Ready(1), at(0));
    give(&mut workers, 0..2, at(0));
    assert_eq!(told(workers.dismiss_all()), ["stop 2"]);
    workers.heard(2, Heard::Silent(String::new()), at(1));
    let all = told(workers.ended(ended(2, Exit::Code(0), ""), at(2)).unwrap());
    assert_eq!(all, ["0 handed back", "1 handed back"]);
    // No worker's: the runner has other processes.
    assert!(workers.ended(ended(3, Exit::Code(0), ""), at(2)).is_err());
}

#[tokio::test]
async fn a_worker_that_died_by_itself_is_not_forgotten_when_the_node_is_left() {
    let mut workers = working();
    give(&mut workers, 0..1, at(0));
    assert!(
        workers.ended(ended(1, Exit::Code(3), "boom"), at(1)).unwrap().is_empty(),
        "its last words may come"
    );
    assert!(workers.dismiss_all().is_empty());
    assert_eq!(told(workers.tick(at(600))).len(), 1);
    assert!(workers.is_idle());
}

#[tokio::test]
async fn no_more_workers_are_started_than_there_are_slots() {
    let mut workers = Workers::default();
    starting(&mut workers, 1);
    assert!(!workers.may_start(1) && workers.may_start(2));
    assert!(!workers.has_room(JobId(8), workers.may_start(1), at(0).at));
    assert!(workers.heard(1, Heard::Ready(1), at(0)).is_empty());
    assert!(workers.may_start(1), "it has nothing to do, and makes room");
    give(&mut workers, 0..1, at(0));
    assert!(!workers.may_start(1));
}

#[tokio::test]
async fn what_is_not_to_run_here_goes_back_and_what_has_begun_when_its_process_has_ended() {
    let mut workers = working();
    give(&mut workers, 0..3, at(0));
    let jobs = BTreeSet::from([ID, JobId(8)]);
    assert!(workers.give_back(&jobs, false, at(5)).is_empty(), "its worker is asked");
    let ends = vec![end(1, SubtaskResult::NotBegun, ""), end(2, SubtaskResult::NotBegun, "")];
    assert_eq!(told(workers.heard(1, Heard::Ends(ends), at(10))), ["1 again", "2 again"]);
    assert_eq!(told(workers.give_back(&jobs, true, at(20))), ["stop 1"]);
    assert!(workers.give_back(&jobs, true, at(21)).is_empty(), "once");
    assert!(workers.ended(ended(1, Exit::Code(1), ""), at(30)).unwrap().is_empty());
    assert_eq!(told(workers.tick(at(600))), ["0 handed back"]);
    assert!(workers.is_idle());
}

#[tokio::test]
async fn what_comes_back_from_a_worker_is_of_the_job_as_it_was_given() {
    let mut workers = working();
    let urgent = Arc::new(Job { priority: 90, ..Arc::into_inner(job()).unwrap() });
    give(&mut workers, 0..2, at(0));
    give_of(&mut workers, &urgent, 2..5, at(0));
    assert!(workers.give_back(&[ID].into(), false, at(5)).is_empty());
    let again = |id| {
        let ends = Heard::Ends(vec![end(id, SubtaskResult::NotBegun, "")]);
        match &workers.heard(1, ends, at(9))[..] {
            [Do::Again(job, subtask)] => (job.priority, subtask.subtask),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([1, 3, 4].map(again), [(50, 1), (90, 3), (90, 4)]);
    let ends = [0, 2].map(|id| end(id, SubtaskResult::Finished, ""));
    workers.heard(1, Heard::Ends(ends.into()), at(10));
    assert!(workers.is_idle() && workers.all[&ID].given.is_empty());
}
