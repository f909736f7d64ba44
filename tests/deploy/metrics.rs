//! Names of metrics: those that alerts and dashboard use, and those that agents answer.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::Value;
use sheaf_tests::receiver::{Answer, Receiver};
use sheaf_tests::{Agent, Cluster, cli, manual, wait_for};

/// What is refused is tried again after a second.
const DELIVERED_WITHIN: Duration = Duration::from_secs(30);

/// Every name in the expressions of alerts and dashboard is one that some agent answers.
pub(crate) fn named(cluster: &Cluster) {
    let mut used = names(&read("alerts.yml"));
    used.extend(panels().iter().flat_map(|expression| names(expression)));
    assert!(used.len() > 20, "{used:?}");
    wait_for("agents answer every metric that is used", Duration::from_secs(20), || {
        let answered: BTreeSet<String> = cluster.agents().iter().flat_map(scrape).collect();
        let missing: Vec<&String> = used.difference(&answered).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are not in {answered:?}")) }
    });
}

/// A sink whose receiver refuses what it hears first, and takes it then: only of such a one is there something to be told.
pub(crate) fn sink(cluster: &Cluster) -> Receiver {
    let receiver = Receiver::start();
    receiver.answers(Answer::Head("500 Not now".to_owned()));
    let sheaf = |args: &[&str], input: &str| cli::run(cluster.machine(), args, input.as_bytes()).ok();
    let document = format!("kind: Sink\nname: pager\nwebhook: {{url: '{}', timeout: 2s}}\n", receiver.url());
    sheaf(&["sink", "apply", "-f", "-"], &document);
    sheaf(&["node", "label", "work-07", "watched"], "");
    let heard = |taken: bool| {
        wait_for(&format!("a delivery is answered, well: {taken}"), DELIVERED_WITHIN, || {
            let heard = receiver.heard();
            let found = heard.iter().any(|request| request.taken == taken);
            if found { Ok(()) } else { Err(format!("{heard:?}")) }
        });
    };
    heard(false);
    receiver.answers(Answer::Head("200 OK".to_owned()));
    heard(true);
    sheaf(&["node", "label", "work-07", "watched-"], "");
    receiver
}

/// A file that operators give their Prometheus or Grafana.
pub(crate) fn read(name: &str) -> String {
    let path = manual::root().join("deploy/observability").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The expressions of the dashboard.
pub(crate) fn panels() -> Vec<String> {
    let mut expressions = Vec::new();
    collect(&serde_json::from_str(&read("dashboard.json")).expect("it is JSON"), &mut expressions);
    assert!(expressions.len() > 20, "{expressions:?}");
    expressions
}

/// The expressions of a dashboard, wherever they stand.
fn collect(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            into.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, into));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
        _ => {}
    }
}

/// Words that are names of metrics; a histogram's parts are the histogram.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("sheaf_") || word.starts_with("process_"));
    ours.map(|word| {
        let whole = ["_bucket", "_count", "_sum"].iter().find_map(|part| word.strip_suffix(part));
        whole.unwrap_or(word).to_owned()
    })
    .collect()
}

/// What an agent answers: names of families.
fn scrape(agent: &Agent) -> Vec<String> {
    let answer = agent.metrics().unwrap_or_default();
    let types = answer.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn names_of_metrics_are_found_in_expressions() {
    let found =
        names("histogram_quantile(0.9, rate(sheaf_a_seconds_bucket{job=\"sheaf\"}[5m])) / process_open_fds");
    assert_eq!(found, ["process_open_fds", "sheaf_a_seconds"].map(str::to_owned).into());
}
