//! Commands over several things of which one fails: what was done is told, waited for, and the error comes last.

use sheaf_model::BucketName;

use super::*;

/// The names in the rows of an answer in JSON.
fn names(data: &str) -> Vec<String> {
    let rows: Vec<serde_json::Value> = serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"));
    rows.iter().map(|row| row["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn buckets_before_the_one_that_fails_are_told_and_waited_for() {
    let bench = Bench::with(3).await;
    let (exit, data, talk) = bench.ran("bucket suspend /b/0 /none /b/1 --wait --timeout 5s -o json").await;
    assert_eq!((exit, talk.as_str()), (Exit::NotFound, "error: there is no bucket /none\n"));
    assert_eq!(names(&data), ["/b/0"]);
    assert_eq!(bench.ran("bucket resume /none /b/0 -o json").await.1, "", "nothing was done");

    bench.cluster.held().lingers = 2;
    let (exit, data, _) = bench.ran("bucket delete /b/0 /none --yes --wait --timeout 5s -o json").await;
    assert_eq!((exit, names(&data)), (Exit::NotFound, vec!["/b/0".to_owned()]));
    assert_eq!(bench.cluster.held().lingers, 0, "it was waited for");
    bench.cluster.held().lingers = usize::MAX;
    let (exit, data, talk) = bench.ran("bucket delete /b/1 /none --yes --wait --timeout 200ms -o json").await;
    assert_eq!((exit, names(&data)), (Exit::NotFound, vec!["/b/1".to_owned()]));
    let said: Vec<&str> = talk.lines().collect();
    assert!(
        said[0].starts_with("error: the time to wait is over: /b/1 is deleted and may still run"),
        "{talk}"
    );
    assert_eq!(said[1..], ["error: there is no bucket /none"]);
}

#[tokio::test]
async fn files_before_the_one_that_fails_are_told_and_waited_for() {
    let bench = Bench::new().await;
    bench.write("a.yaml", &format!("{MODULE}---\n{}", bucket("/a", 1)));
    bench.write("b.yaml", &bucket("/b", 1));
    bench.cluster.held().refused = BucketName::new("/b").ok();
    bench.cluster.held().state = Some(BucketState::Partial);
    let line = "apply -f a.yaml -f b.yaml --wait --timeout 200ms -o json";
    let (exit, data, talk) = bench.ran(line).await;
    assert_eq!((exit, names(&data)), (Exit::Error, vec!["flume@1".to_owned(), "/a".to_owned()]), "{talk}");
    assert!(talk.contains("error: the time to wait is over: /a is partial"), "{talk}");
    assert!(talk.ends_with("error: it is refused\n"), "{talk}");
    bench.cluster.held().state = None;
    let (exit, data, talk) = bench.ran(line).await;
    assert_eq!((exit, names(&data).len()), (Exit::Error, 2), "{talk}");
    assert!(!talk.contains("time to wait") && talk.ends_with("error: it is refused\n"), "{talk}");
}

#[tokio::test]
async fn what_else_is_named_in_a_row_is_told_too() {
    let bench = Bench::new().await;
    bench.write("module.yaml", MODULE);
    let job = |name: &str| format!("kind: Job\nname: {name}\nmodule: flume\nsubtasks: {{array: 0-9}}\n");
    bench.write("a.yaml", &job("a"));
    bench.write("b.yaml", &job("b"));
    assert_eq!(bench.ran("apply -f module.yaml").await.0, Exit::Done);
    assert_eq!(bench.ran("job submit -f b.yaml").await.0, Exit::Done);
    let (exit, data, _) = bench.ran("job submit -f a.yaml -f b.yaml -o json").await;
    assert_eq!((exit, data.as_str()), (Exit::Conflict, ""), "all must be good before the first is submitted");
    assert_eq!(bench.ran("job submit -f a.yaml").await.0, Exit::Done);
    for (line, exit, name) in [
        ("job pause a none -o json", Exit::NotFound, "a"),
        ("cluster token revoke ci none --yes -o json", Exit::NotFound, "ci"),
    ] {
        let (ended, data, talk) = bench.ran(line).await;
        assert_eq!((ended, names(&data)), (exit, vec![name.to_owned()]), "{line}: {talk}");
    }
}
