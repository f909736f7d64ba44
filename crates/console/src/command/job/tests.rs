//! Every command about jobs against a cluster that is made up.

use sheaf_model::{ArrayRange, JobState, Subtasks};

use super::super::tests::{Bench, MODULE};
use crate::exit::Exit;

const ARRAY: &str = "kind: Job\nname: ndvi\nmodule: flume\nsubtasks: {array: 0-9}\n";

fn from_file(file: &str) -> String {
    format!("kind: Job\nname: ndvi\nmodule: flume\nsubtasks: {{file: '{file}'}}\n")
}

/// A cluster with a module and a job.
async fn with_job() -> Bench {
    let bench = Bench::new().await;
    bench.write("module.yaml", MODULE);
    bench.write("job.yaml", ARRAY);
    assert_eq!(bench.ran("apply -f module.yaml").await.0, Exit::Done);
    assert_eq!(bench.ran("job submit -f job.yaml").await.0, Exit::Done);
    bench
}

#[tokio::test]
async fn a_job_is_submitted_with_its_items() {
    let bench = Bench::new().await;
    bench.write("a.yaml", ARRAY);
    let (exit, data, talk) = bench.ran("job submit -f a.yaml").await;
    assert_eq!((exit, talk.as_str()), (Exit::Done, ""));
    insta::assert_snapshot!(data, @r"
    OUTCOME    NAME  ID  SUBTASKS
    submitted  ndvi   1        10
    ");
    let spec = bench.cluster.held().jobs[0].0.clone();
    assert_eq!(spec.subtasks, Subtasks::Array(ArrayRange { first: 0, last: 9, step: 1 }));
    assert_eq!(spec.request_id.expect("one was made").0.len(), 36);
    let (exit, _, talk) = bench.ran("job submit -f a.yaml").await;
    assert_eq!((exit, talk.as_str()), (Exit::Conflict, "error: there is a job ndvi already\n"));

    let named = format!("{}request_id: r1\n", ARRAY.replace("ndvi", "named"));
    bench.write("b.yaml", &named.replace("array: 0-9", "items: [1, {a: b, depends_on: [0]}]"));
    assert!(bench.ran("job submit -f b.yaml").await.1.contains("submitted"));
    assert!(bench.ran("job submit -f b.yaml").await.1.contains("unchanged"), "the same job");
    let items = bench.cluster.held().jobs[1].1.clone();
    assert_eq!((items[1].value.as_str(), items[1].depends_on.as_slice()), (r#"{"a":"b"}"#, &[0][..]));
}

#[tokio::test]
async fn a_job_that_is_too_large_is_sent_once() {
    let bench = Bench::new().await;
    bench.write("lines", &"1\n".repeat(30_001));
    bench.write("a.yaml", &from_file("lines"));
    let (exit, _, talk) = bench.ran("job submit -f a.yaml").await;
    assert_eq!((exit, talk.as_str()), (Exit::Error, "error: job ndvi has more than 30000 subtasks\n"));
    assert_eq!(bench.cluster.held().changes.len(), 1, "nothing makes it smaller");
}

#[tokio::test]
async fn items_come_from_a_file_beside_the_document_or_from_stdin() {
    let bench = Bench::new().await;
    bench.write("a.yaml", &from_file("tasks.jsonl"));
    let lines: String = (0..20_000).map(|n| format!("{{\"tile\": \"T{n}\"}}\n")).collect();
    bench.write("tasks.jsonl", &lines);
    let (exit, data, talk) = bench.ran("job submit -f a.yaml -o json").await;
    assert_eq!(exit, Exit::Done, "{talk}");
    let rows: serde_json::Value = serde_json::from_str(&data).expect("JSON");
    assert_eq!((&rows[0]["subtasks"], &rows[0]["outcome"]), (&20_000.into(), &"submitted".into()));
    assert_eq!(bench.cluster.held().jobs[0].1[19_999].value.as_str(), r#"{"tile":"T19999"}"#);

    bench.write("b.yaml", &from_file("-").replace("ndvi", "piped"));
    let (exit, _, talk) = bench.ran_with("job submit -f b.yaml", &lines).await;
    assert_eq!(exit, Exit::Done, "{talk}");
    assert_eq!(bench.cluster.held().jobs[1].1.len(), 20_000);
    let (exit, _, talk) = bench.ran_with("job submit -f -", &from_file("-")).await;
    assert_eq!(exit, Exit::Error);
    assert!(talk.starts_with("stdin: Job ndvi: subtasks.file: stdin is the document already"), "{talk}");
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_before_anything_is_sent() {
    let bench = Bench::new().await;
    bench.write("a.yaml", &from_file("tasks.jsonl"));
    bench.write("tasks.jsonl", "{}\n{tile}\n{\"depends_on\": 1}\n");
    bench.write("b.yaml", &ARRAY.replace("0-9", "9-0").replace("ndvi", "second"));
    bench.write("c.yaml", MODULE);
    bench.write("d.yaml", &from_file("missing.jsonl").replace("ndvi", "fourth"));
    let (exit, data, talk) = bench.ran("job submit -f a.yaml -f b.yaml -f c.yaml -f d.yaml").await;
    assert_eq!((exit, data.as_str()), (Exit::Error, ""));
    insta::assert_snapshot!(talk, @r#"
    b.yaml: Job second: subtasks.array: range 9-0 begins above its end; 0-9
    c.yaml: Module flume@1: kind: is not of kind Job; `sheaf apply` takes documents of every kind
    tasks.jsonl: line 2: this is no JSON: key must be a string at column 2; one JSON value a line, like {"tile": "T32"}
    tasks.jsonl: line 3: depends_on: expected a list of numbers of subtasks, found a number 1
    missing.jsonl: cannot be read: No such file or directory; a file of items, one JSON value a line; it is looked for beside the document
    "#);
    assert!(bench.cluster.held().jobs.is_empty());
    let (exit, _, talk) = bench.ran("apply -f b.yaml").await;
    let told = "b.yaml: Job second: subtasks.array: range 9-0 begins above its end; 0-9\n";
    assert_eq!((exit, talk.as_str()), (Exit::Error, told));

    bench.write("e.yaml", &from_file("-"));
    let lines = format!("{}nonsense\n{{}}\nmore of it\n", "{}\n".repeat(9000));
    let (exit, _, talk) = bench.ran_with("job submit -f e.yaml", &lines).await;
    assert_eq!(exit, Exit::Error);
    let places: Vec<_> =
        talk.lines().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(": ")).collect();
    assert_eq!(places, ["stdin: line 9001", "stdin: line 9003"], "{talk}");
    assert!(bench.cluster.held().jobs.is_empty(), "what broke off leaves nothing");
}

#[tokio::test]
async fn a_plan_says_what_would_be_submitted() {
    let bench = with_job().await;
    let (exit, _, talk) = bench.ran("job plan -f job.yaml").await;
    assert_eq!(exit, Exit::Error);
    assert!(talk.starts_with("job.yaml: Job ndvi: name: there is a job of this name"), "{talk}");
    let new = ARRAY.replace("ndvi", "new");
    bench.write("new.yaml", &new);
    let (exit, data, talk) = bench.ran("job plan -f new.yaml").await;
    assert_eq!((exit, talk.as_str()), (Exit::Changes, "1 job of 10 subtasks would be submitted\n"));
    insta::assert_snapshot!(data, @r"
    WOULD BE   NAME  MODULE   SUBTASKS  PRIORITY
    submitted  new   flume@1        10        50
    ");
    assert_eq!(bench.ran("job submit -f new.yaml --dry-run").await.0, Exit::Done);
    bench.write("bad.yaml", &format!("{}after: [ndvi, nothing]\n", new.replace("flume", "flum")));
    let (exit, _, talk) = bench.ran("job plan -f bad.yaml").await;
    assert_eq!(exit, Exit::Error);
    assert_eq!(talk.lines().count(), 2, "{talk}");
    assert!(talk.contains("Job new: after[1]: there is no job nothing; a job"), "{talk}");
    assert_eq!(bench.cluster.held().jobs.len(), 1);
}

#[tokio::test]
async fn a_job_is_printed_as_a_document_that_can_be_applied_again() {
    let bench = with_job().await;
    let (exit, document, talk) = bench.ran("job status ndvi -o yaml").await;
    assert_eq!((exit, talk.as_str()), (Exit::Done, ""));
    assert!(document.starts_with("kind: Job\nname: ndvi\nmodule: flume\nsubtasks:\n  array: "), "{document}");
    let (exit, data, talk) = bench.ran_with("apply -f - -o name", &document).await;
    assert_eq!((exit, data.as_str(), talk.as_str()), (Exit::Done, "ndvi\n", ""));
    assert_eq!(bench.cluster.held().jobs.len(), 1, "it is there");

    bench.write("b.yaml", &from_file("tasks.jsonl").replace("ndvi", "tiles"));
    bench.write("tasks.jsonl", "1\n2\n");
    assert_eq!(bench.ran("job submit -f b.yaml").await.0, Exit::Done);
    let (_, document, talk) = bench.ran("job status tiles -o yaml").await;
    assert!(document.contains("tiles.jsonl"), "{document}");
    let said = "the 2 items of tiles are not printed: its document wants them in tiles.jsonl, beside it\n";
    assert_eq!(talk, said);
    bench.write("again.yaml", &document);
    bench.write("tiles.jsonl", "1\n2\n");
    let (exit, data, talk) = bench.ran("apply -f again.yaml").await;
    assert_eq!((exit, data.contains("unchanged")), (Exit::Done, true), "{talk}");
    bench.write("tiles.jsonl", "1\n2\n3\n");
    let (exit, _, talk) = bench.ran("apply -f again.yaml").await;
    assert_eq!(exit, Exit::Conflict, "{talk}");
    assert!(talk.contains("and it differs in the number of its items; another name"), "{talk}");
}

#[tokio::test]
async fn jobs_of_a_file_are_submitted_after_those_that_they_come_after() {
    let bench = Bench::new().await;
    bench.write("module.yaml", MODULE);
    assert_eq!(bench.ran("apply -f module.yaml").await.0, Exit::Done);
    let job = |name: &str, after: &str| format!("---\n{}after: {after}\n", ARRAY.replace("ndvi", name));
    bench.write("all.yaml", &(job("last", "[middle]") + &job("middle", "[first]") + &job("first", "[]")));
    let (exit, data, talk) = bench.ran("job submit -f all.yaml -o name").await;
    assert_eq!((exit, data.as_str()), (Exit::Done, "first\nmiddle\nlast\n"), "{talk}");
    bench.write("ring.yaml", &(job("a", "[b]") + &job("b", "[c]") + &job("c", "[a]") + &job("d", "[]")));
    for command in ["job submit -f ring.yaml", "job plan -f ring.yaml"] {
        let (exit, _, talk) = bench.ran(command).await;
        assert_eq!(exit, Exit::Error);
        let wanted =
            "ring.yaml: Job a: after: a cycle: each of these jobs comes after the next: a → b → c → a";
        assert!(talk.contains(wanted) && talk.lines().count() == 1, "{talk}");
    }
    assert_eq!(bench.cluster.held().jobs.len(), 3);
}

#[tokio::test]
async fn of_several_jobs_all_must_be_good_before_the_first_is_submitted() {
    let bench = Bench::new().await;
    bench.write("module.yaml", MODULE);
    assert_eq!(bench.ran("apply -f module.yaml").await.0, Exit::Done);
    let job =
        |name: &str, from: &str, to: &str| format!("---\n{}", ARRAY.replace("ndvi", name).replace(from, to));
    let jobs = [job("good", "", ""), job("large", "0-9", "0-99999"), job("none", "flume", "flum")];
    bench.write("all.yaml", &jobs.concat());
    for command in ["job submit -f all.yaml", "job plan -f all.yaml", "apply -f all.yaml"] {
        let (exit, data, talk) = bench.ran(command).await;
        assert_eq!((exit, data.as_str()), (Exit::Error, ""));
        let large =
            "all.yaml: Job large: subtasks: there are 100000, and a job may have 30000; several jobs\n";
        assert!(talk.starts_with(large), "{command}: {talk}");
        assert!(talk.contains("all.yaml: Job none: module: there is no module flum"), "{command}: {talk}");
        assert_eq!(talk.lines().count(), 2, "{command}: {talk}");
    }
    assert!(bench.cluster.held().jobs.is_empty());

    bench.write("taken.yaml", &job("taken", "", ""));
    assert_eq!(bench.ran("job submit -f taken.yaml").await.0, Exit::Done);
    bench.write("both.yaml", &(job("good", "", "") + &job("taken", "", "")));
    let (exit, data, talk) = bench.ran("job submit -f both.yaml").await;
    assert_eq!((exit, data.as_str()), (Exit::Conflict, ""));
    let told = "error: both.yaml: Job taken: name: there is a job of this name; another name, or delete";
    assert!(talk.starts_with(told), "{talk}");
    let named = |name: &str| format!("{}request_id: {name}\n", job(name, "", ""));
    bench.write("named.yaml", &(named("a") + &named("b")));
    for outcome in ["submitted", "unchanged"] {
        let (exit, data, talk) = bench.ran("job submit -f named.yaml").await;
        assert_eq!((exit, data.matches(outcome).count()), (Exit::Done, 2), "{talk}");
    }
    assert_eq!(bench.cluster.held().jobs.len(), 3);
}

#[tokio::test]
async fn waiting_ends_as_the_job_does() {
    let bench = Bench::new().await;
    bench.write("a.yaml", &format!("{ARRAY}request_id: r\n"));
    for (state, exit) in [
        (Some(JobState::Finished), Exit::Done),
        (Some(JobState::Failed), Exit::Error),
        (Some(JobState::Canceled), Exit::Error),
        (None, Exit::TimedOut),
    ] {
        bench.cluster.held().job_state = state;
        let (ended, _, talk) = bench.ran("job submit -f a.yaml --wait --timeout 500ms").await;
        assert_eq!(ended, exit, "{state:?}: {talk}");
        if state == Some(JobState::Failed) {
            assert!(
                talk.starts_with("error: ndvi is failed, 22,500 finished, 12 failed, 500 running"),
                "{talk}"
            );
        }
    }
    bench.cluster.held().job_state = Some(JobState::Canceled);
    assert_eq!(bench.ran("job cancel ndvi --wait --timeout 5s").await.0, Exit::Done);
    assert_eq!(bench.ran("job cancel ndvi 7 --wait").await.0, Exit::Usage);
}

#[tokio::test]
async fn a_watch_ends_with_the_job() {
    let bench = with_job().await;
    bench.cluster.held().job_state = Some(JobState::Failed);
    let (exit, data, _) = bench.ran("job watch ndvi").await;
    assert_eq!(exit, Exit::Done);
    let words: Vec<_> = data.lines().map(|line| line.split(':').next().unwrap_or_default()).collect();
    assert_eq!(words, ["ndvi running 45%", "ndvi failed 45%"], "{data}");
    let (_, data, _) = bench.ran("job watch ndvi -o json").await;
    let last: serde_json::Value = serde_json::from_str(data.lines().last().unwrap()).expect("JSON");
    assert_eq!((data.lines().count(), &last["state"]), (2, &"failed".into()));
    assert_eq!(bench.ran("job watch nothing").await.0, Exit::NotFound);
}

#[tokio::test]
async fn subtasks_go_page_by_page() {
    let bench = with_job().await;
    let (_, data, talk) = bench.ran("job subtasks ndvi --limit 2 -o name").await;
    assert_eq!(
        (data.as_str(), talk.as_str()),
        ("0\n7\n", "there are more: go on with --after 2, or ask for --all\n")
    );
    assert_eq!(bench.ran("job subtasks ndvi 0-9 --state failed,ready -o name").await.1, "7\n8\n");
    assert_eq!(bench.ran("job subtasks ndvi --state waiting -o json").await.1, "[]\n");
    assert_eq!(bench.ran("job subtasks nothing").await.0, Exit::NotFound);
    assert!(bench.ran("job explain ndvi 3").await.1.contains("subtask 3  ready, not tried yet"));
    assert_eq!(bench.ran("job explain ndvi -o name").await.1, "gpu-01\n");
    assert_eq!(bench.ran("job list -o name").await.1, "ndvi\n");
    assert_eq!(bench.ran("job status ndvi -o name").await.1, "ndvi\n");
    assert_eq!(bench.ran("job status nothing").await.0, Exit::NotFound);
    let (exit, data, talk) = bench.ran("job logs ndvi 7 --attempt 2").await;
    assert_eq!((exit, data.as_str()), (Exit::Done, "n1 | subtask 7 attempt 2\n"));
    assert_eq!(talk, "n1: exited with exit code 2\n");
}

#[tokio::test]
async fn a_job_is_named_by_its_id_or_the_unique_beginning_of_that() {
    let bench = with_job().await;
    assert_eq!(bench.ran("job status 42 -o name").await.1, "ndvi\n");
    assert!(bench.ran("job pause 42").await.1.contains("paused   Job   ndvi"));
    for line in ["status 4", "subtasks 4", "explain 4", "logs 4 7", "retry 42 --dry-run"] {
        let (exit, _, talk) = bench.ran(&format!("job {line}")).await;
        assert_eq!(exit, Exit::Done, "{line}: {talk}");
    }
    let (exit, _, talk) = bench.ran("job cancel 7").await;
    assert_eq!((exit, talk.as_str()), (Exit::NotFound, "error: there is no job 7\n"));
    bench.write("more.yaml", &ARRAY.replace("ndvi", "tiles"));
    assert_eq!(bench.ran("job submit -f more.yaml").await.0, Exit::Done);
    for line in ["delete 4 --yes", "pause 4", "resume 4", "cancel 4", "retry 4"] {
        assert_eq!(
            bench.ran(&format!("job {line}")).await.0,
            Exit::NotFound,
            "{line}: a change wants the whole id"
        );
    }
    let (exit, _, talk) = bench.ran("job status 4").await;
    assert_eq!(exit, Exit::Usage);
    assert!(talk.contains("the ids of 2 jobs begin with 4; more of it: 42 ("), "{talk}");
    bench.write("four.yaml", &ARRAY.replace("ndvi", "'4'"));
    let (exit, _, talk) = bench.ran("job submit -f four.yaml").await;
    assert_eq!(exit, Exit::Done, "{talk}");
    assert_eq!(bench.ran("job status 4 -o name").await.1, "4\n", "a name goes before an id");
}

#[tokio::test]
async fn changes_say_what_they_did() {
    let bench = with_job().await;
    assert!(bench.ran("job pause ndvi").await.1.contains("paused   Job   ndvi"));
    assert!(bench.ran("job resume ndvi").await.1.contains("unchanged"));
    let (_, data, _) = bench.ran("job retry ndvi failed --dry-run").await;
    insta::assert_snapshot!(data, @r"
    OUTCOME           JOB   SUBTASKS
    would be retried  ndvi        12
    ");
    assert!(bench.ran("job reprioritize ndvi 0-9:2 --priority 90").await.1.contains("reprioritized  ndvi"));
    assert!(bench.ran("job cancel ndvi last --reason wrong").await.1.contains("canceled  ndvi"));
    assert_eq!(bench.cluster.held().asked, ["retry failed", "reprioritize 0-9:2 90", "cancel last wrong"]);
    let (exit, _, talk) = bench.ran_with("job delete ndvi", "n\n").await;
    assert_eq!(exit, Exit::Error);
    assert_eq!(talk, "delete ndvi and all that is known of it? [y/N] error: nothing was deleted\n");
    assert_eq!(bench.ran("job delete ndvi").await.0, Exit::Done);
    assert_eq!(bench.ran("job delete ndvi").await.0, Exit::NotFound);
    assert_eq!(bench.ran("job list").await.2, "no jobs yet; submit one: sheaf job submit -f FILE\n");
    let requests: Vec<_> = bench.cluster.held().changes.iter().map(|(_, id)| id.is_some()).collect();
    assert!(requests.iter().all(|id| *id), "each has an id");
}
