//! Documents of every kind, applied together.

use sheaf_model::JobState;

use super::*;

const BACKEND: &str = "kind: Backend\nname: vito\nmax_running: 5\n";
const SINK: &str = "kind: Sink\nname: hook\nwebhook: {url: 'https://hooks.example.org/sheaf'}\n";

fn job(name: &str, more: &str) -> String {
    format!("kind: Job\nname: {name}\nmodule: flume\nsubtasks: {{array: 0-9}}\n{more}")
}

/// So many lines, each of which begins so.
fn tells(talk: &str, wanted: &[&str]) {
    let lines: Vec<&str> = talk.lines().collect();
    assert_eq!(lines.len(), wanted.len(), "{talk}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.starts_with(wanted), "{wanted}: {talk}");
    }
}

/// What became of each, in the order told.
fn outcomes(data: &str) -> Vec<String> {
    let rows: Vec<serde_json::Value> = serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"));
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let said = |row| format!("{} {} {}", text(row, "outcome"), text(row, "kind"), text(row, "name"));
    rows.iter().map(said).collect()
}

#[tokio::test]
async fn every_kind_is_applied_in_an_order_in_which_each_finds_what_it_names() {
    let bench = Bench::new().await;
    let late = job("late", "backends: [vito]\nafter: [early]\n");
    bench.write("a.yaml", &[&late, SINK, &bucket("/a", 1)].join("---\n"));
    bench.write("b.yaml", &[&job("early", ""), BACKEND, MODULE].join("---\n"));
    let line = "apply -f a.yaml -f b.yaml -o json";
    let (exit, data, talk) = bench.ran(line).await;
    assert_eq!(exit, Exit::Done, "{talk}");
    let created = [
        "created Module flume@1",
        "created Bucket /a",
        "applied Backend vito",
        "applied Sink hook",
        "submitted Job early",
        "submitted Job late",
    ];
    assert_eq!(outcomes(&data), created);
    assert!(talk.ends_with("warning: nobody sees to it\n"), "{talk}");
    assert_eq!(bench.cluster.held().applies, [(2, true), (1, false), (1, false)]);

    let (exit, data, talk) = bench.ran(line).await;
    assert_eq!(exit, Exit::Done, "{talk}");
    let again: Vec<String> =
        created.iter().map(|it| format!("unchanged {}", it.split_once(' ').unwrap_or_default().1)).collect();
    let sorted = |mut all: Vec<String>| {
        all.sort_unstable();
        all
    };
    assert_eq!(sorted(outcomes(&data)), sorted(again));
    assert_eq!(bench.cluster.held().jobs.len(), 2, "none twice");
}

#[tokio::test]
async fn everything_wrong_with_any_kind_is_told_at_once_and_nothing_changed() {
    let bench = Bench::new().await;
    let late = job("late", "backends: [nowhere]\nafter: [never]\n").replace("flume", "flum");
    bench.write("a.yaml", &[&late, &bucket("/a", 1), BACKEND].join("---\n"));
    bench.write("b.yaml", &format!("{BACKEND}---\n{SINK}colour: red\n"));
    let (exit, data, talk) = bench.ran("apply -f a.yaml -f b.yaml").await;
    assert_eq!((exit, data.as_str()), (Exit::Error, ""));
    let wanted = [
        "b.yaml: Sink hook: colour: unknown field \"colour\"; one of ",
        "b.yaml: Backend vito: name: another file has this name too; each name once",
        "a.yaml: Job late: module: there is no module flum; one that is registered, see `sheaf module list`",
        "a.yaml: Job late: backends[0]: there is no backend nowhere; one that is registered",
        "a.yaml: Job late: after[0]: there is no job never; a job that was submitted before",
        "a.yaml: Bucket /a: module: there is no module \"flume\"; one that is registered",
    ];
    tells(&talk, &wanted);
    assert!(bench.cluster.held().changes.is_empty());
}

#[tokio::test]
async fn what_the_cluster_has_no_room_for_is_known_before_anything_is_changed() {
    let bench = Bench::new().await;
    bench.write("a.yaml", &[MODULE, &bucket("/a", 1), BACKEND, SINK].join("---\n"));
    bench.write("sinks.yaml", &[SINK, &SINK.replace("name: hook", "name: other")].join("---\n"));
    bench.cluster.held().full = true;
    for (line, said) in [
        ("apply -f a.yaml", "error: there are too many backends\n"),
        ("sink apply -f sinks.yaml", "error: there are too many sinks\n"),
    ] {
        let (exit, data, talk) = bench.ran(line).await;
        assert_eq!((exit, data.as_str(), talk.as_str()), (Exit::Error, "", said), "{line}");
    }
    assert!(bench.cluster.held().changes.is_empty());
    bench.cluster.held().full = false;
    for line in ["apply -f a.yaml", "sink apply -f sinks.yaml"] {
        let (exit, _, talk) = bench.ran(line).await;
        assert_eq!(exit, Exit::Done, "{line}: {talk}");
    }
    assert_eq!(bench.cluster.held().sinks.len(), 2);
}

#[tokio::test]
async fn what_is_wrong_with_one_is_not_told_of_those_that_name_it() {
    let bench = Bench::new().await;
    let early = job("early", "").replace("array: 0-9", "file: lines.jsonl");
    let late = job("late", "after: [early, worse]\nbackends: [broken]\n");
    let broken = "kind: Backend\nname: broken\nmax_running: 0\n";
    bench.write("a.yaml", &[MODULE, &early, &job("worse", "colour: red\n"), &late, broken].join("---\n"));
    bench.write("lines.jsonl", "{tile}\n");
    let (exit, data, talk) = bench.ran("apply -f a.yaml").await;
    assert_eq!((exit, data.as_str()), (Exit::Error, ""));
    let wanted =
        ["a.yaml: Job worse: colour: ", "a.yaml: Backend broken: max_running: ", "lines.jsonl: line 1: "];
    tells(&talk, &wanted);
    assert!(bench.cluster.held().changes.is_empty());
}

#[tokio::test]
async fn a_job_may_have_no_backend_but_one_that_comes_along() {
    let bench = Bench::new().await;
    bench.write("post.yaml", "kind: Module\nname: post\nversion: \"1\"\nruntime: builtin:http\n");
    assert_eq!(bench.ran("apply -f post.yaml").await.0, Exit::Done);
    let tiles = job("tiles", "backends: [vito]\n").replace("flume", "post");
    bench.write("large.yaml", &format!("{BACKEND}---\n{}", tiles.replace("0-9", "0-99999")));
    let (exit, data, talk) = bench.ran("apply -f large.yaml").await;
    let told = "large.yaml: Job tiles: subtasks: there are 100000, and a job may have 30000; several jobs\n";
    assert_eq!((exit, data.as_str(), talk.as_str()), (Exit::Error, "", told));
    assert!(bench.cluster.held().backends.is_empty());
    bench.write("a.yaml", &format!("{BACKEND}---\n{tiles}"));
    let (exit, _, talk) = bench.ran("apply -f a.yaml").await;
    assert_eq!((exit, bench.cluster.held().jobs.len()), (Exit::Done, 1), "{talk}");
}

#[tokio::test]
async fn another_job_of_the_name_is_a_conflict_and_nothing_changed() {
    let bench = Bench::new().await;
    bench.write("a.yaml", &format!("{MODULE}---\n{}", job("ndvi", "")));
    assert_eq!(bench.ran("apply -f a.yaml").await.0, Exit::Done);
    let changes = bench.cluster.held().changes.len();
    for (more, fields) in [
        ("priority: 90\n", "priority"),
        ("max_running: 2\nowner: me\n", "max_running, owner"),
        ("request_id: r1\n", "request_id"),
    ] {
        bench.write("b.yaml", &format!("{BACKEND}---\n{}", job("ndvi", more)));
        let (exit, data, talk) = bench.ran("apply -f b.yaml").await;
        let told = format!(
            "error: b.yaml: Job ndvi: name: there is a job of this name, and it differs in {fields}; another name, or \
             delete that one before: what a job is never changes\n"
        );
        assert_eq!((exit, data.as_str(), talk), (Exit::Conflict, "", told));
    }
    assert_eq!(bench.cluster.held().changes.len(), changes);
    // With a defect elsewhere it is one of all that is told.
    bench.write("c.yaml", &bucket("/a", 1).replace("flume", "none"));
    let (exit, _, talk) = bench.ran("apply -f b.yaml -f c.yaml").await;
    assert_eq!((exit, talk.lines().count()), (Exit::Error, 2), "{talk}");
}

#[tokio::test]
async fn waiting_is_for_buckets_and_jobs() {
    let bench = Bench::new().await;
    bench.write("a.yaml", &[MODULE, &bucket("/a", 1), &job("ndvi", "")].join("---\n"));
    for (bucket, job, exit) in [
        (BucketState::Running, Some(JobState::Finished), Exit::Done),
        (BucketState::Running, Some(JobState::Failed), Exit::Error),
        (BucketState::Running, None, Exit::TimedOut),
        (BucketState::Partial, Some(JobState::Finished), Exit::TimedOut),
    ] {
        bench.cluster.held().state = Some(bucket);
        bench.cluster.held().job_state = job;
        let (ended, _, talk) = bench.ran("apply -f a.yaml --wait --timeout 500ms").await;
        assert_eq!(ended, exit, "{bucket:?} {job:?}: {talk}");
    }
}
