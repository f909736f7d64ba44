//! A real Prometheus with the configuration that operators get: it reads what agents answer, and has what panels and alerts ask
//! for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sheaf_tests::{Cluster, need, outside, ports, processes, wait_for};

use crate::metrics::{panels, read};

/// For one that scrapes and evaluates every second.
const SOON: Duration = Duration::from_secs(20);
/// What need not be there: nobody has given these agents a certificate for their dashboards.
const ABSENT: &str = "source=\"operator\"";

pub(crate) fn asked(cluster: &Cluster) {
    if !need::programs(&["promtool", "prometheus"]) {
        return;
    }
    for agent in cluster.agents() {
        linted(&agent.metrics().expect("it answers"));
    }
    let prometheus = Prometheus::start(cluster);
    wait_for("every agent is scraped, more than once", SOON, || {
        let scraped = prometheus.rows("sum_over_time(up{job=\"sheaf\"}[1m]) >= 3")?;
        let targets = prometheus.get("/api/v1/targets")?;
        if scraped.len() == cluster.agents().len() { Ok(()) } else { Err(targets.to_string()) }
    });
    let alerts = wait_for("every alert is evaluated", SOON, || {
        let rules = prometheus.get("/api/v1/rules")?;
        let groups = rules["groups"].as_array().into_iter().flatten();
        let alerts: Vec<Value> =
            groups.filter_map(|group| group["rules"].as_array()).flatten().cloned().collect();
        let all = alerts.len() > 20 && alerts.iter().all(|alert| alert["health"] == "ok");
        if all { Ok(alerts) } else { Err(rules.to_string()) }
    });
    let mut selected = BTreeSet::new();
    for panel in panels() {
        let panel = panel.replace("$__rate_interval", "1m");
        let rows = prometheus.rows(&panel).unwrap_or_else(|why| panic!("{panel}: {why}"));
        let has = |label: &str| rows.iter().all(|row| row["metric"][label].is_string());
        assert!(!rows.is_empty() && grouped_by(&panel).into_iter().all(has), "{panel}: {rows:#?}");
        selected.extend(selectors(&panel));
    }
    selected.extend(alerts.iter().filter_map(|alert| alert["query"].as_str()).flat_map(selectors));
    selected.retain(|selector| !selector.contains(ABSENT));
    let is_nowhere =
        |selector: &&String| prometheus.rows(selector).unwrap_or_else(|why| panic!("{why}")).is_empty();
    let nowhere: Vec<&String> = selected.iter().filter(is_nowhere).collect();
    assert!(nowhere.is_empty(), "no agent has ever said anything of {nowhere:?}");
}

/// Names, help and types are as Prometheus has them.
fn linted(metrics: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("promtool can be started");
    let mut input = child.stdin.take().expect("it was asked for");
    input.write_all(metrics.as_bytes()).expect("promtool reads it all");
    drop(input);
    let done = child.wait_with_output().expect("a child can be waited for");
    assert!(done.status.success(), "{}\n{metrics}", String::from_utf8_lossy(&done.stderr));
}

/// Ended when this ends.
struct Prometheus {
    child: Child,
    address: String,
}

impl Prometheus {
    fn start(cluster: &Cluster) -> Self {
        let machine = cluster.machine();
        machine.write("prometheus/alerts.yml", read("alerts.yml"));
        let config = machine.write("prometheus/prometheus.yml", config(cluster));
        let data = machine.path("prometheus/data");
        let log = File::create(machine.path("prometheus/log")).expect("it is the test's own");
        let address = format!("127.0.0.1:{}", ports::free(1)[0]);
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            // By this it is found and ended if this test is killed.
            .env(processes::PLACE, machine.place())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().expect("Prometheus can be started");
        Self { child, address }
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address);
        let (_, body) = outside::ask(&self.address, None, &request)?;
        let said: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        if said["status"] == "success" { Ok(said["data"].clone()) } else { Err(body) }
    }

    /// What an expression comes to now.
    fn rows(&self, expression: &str) -> Result<Vec<Value>, String> {
        let query: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.get(&format!("/api/v1/query?query={query}"))?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The one for operators, with these agents for its targets, and in a hurry.
fn config(cluster: &Cluster) -> String {
    let mut config = String::new();
    for line in read("prometheus.yml").lines() {
        if line.trim_start().starts_with("- ") && line.ends_with(":7421") {
            continue;
        }
        config.push_str(&line.replace("_interval: 15s", "_interval: 1s"));
        config.push('\n');
        if line.trim() == "- targets:" {
            let agents = cluster.agents().iter();
            config.extend(agents.map(|agent| format!("          - {}\n", agent.plan().http)));
        }
    }
    assert_eq!(config.matches("_interval: 1s").count(), 2, "{config}");
    config
}

/// Labels that an expression's rows have by what it is grouped by; `le` is used up by quantiles.
fn grouped_by(expression: &str) -> Vec<&str> {
    let labels = expression.split("by (").nth(1).and_then(|rest| rest.split(')').next()).unwrap_or_default();
    labels.split(',').map(str::trim).filter(|label| !label.is_empty() && *label != "le").collect()
}

/// Names, each with what is asked of its labels.
fn selectors(expression: &str) -> Vec<String> {
    let whole = |(open, _): (usize, &str)| {
        let before = expression[..open].rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let close = open + expression[open..].find('}')?;
        Some(expression[before.map_or(0, |at| at + 1)..=close].to_owned())
    };
    expression.match_indices('{').filter_map(whole).collect()
}

#[test]
fn what_is_asked_for_is_found_in_expressions() {
    let expression = "histogram_quantile(0.9, sum by (le, method) (rate(a_seconds_bucket{job=\"sheaf\"}[5m]))) / b{x=\"y\"}";
    assert_eq!(selectors(expression), ["a_seconds_bucket{job=\"sheaf\"}", "b{x=\"y\"}"]);
    assert_eq!(grouped_by(expression), ["method"]);
    assert_eq!((selectors("time() > 1"), grouped_by("time() > 1")), (vec![], vec![]));
}
