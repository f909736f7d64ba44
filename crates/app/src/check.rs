//! `sheaf agent check`: is everything in place to start the agent here? Looks, changes nothing that stays.
//!
//! ```text
//!  config ──► disk (data directory)        ┐
//!         ──► machine (clock, limits, …)   ├──► Findings ──► a line each, or JSON or YAML ──► exit 0, or 1 with an error
//!         ──► security (who gets in)       │
//!         ──► network (ports, join list)   ┘
//! ```

mod disk;
mod https;
mod machine;
mod network;
mod security;

use std::io::Write;

use serde_json::{Value, json};
use sheaf_console::Format;
use sheaf_model::document;

pub(crate) use machine::open_files;

use crate::config::{Config, Warning};
use crate::data;

/// How a thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// In order.
    Fine,
    /// The agent would start, but.
    Warning,
    /// The agent would not start, or not work.
    Error,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What was found out about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    check: &'static str,
    level: Level,
    /// What was seen.
    message: String,
    /// What to do about it; empty where there is nothing to do.
    remedy: String,
}

impl Finding {
    fn fine(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Level::Fine, message: message.into(), remedy: String::new() }
    }

    fn warning(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, message: message.into(), remedy: remedy.into() }
    }

    fn error(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, level: Level::Error, message: message.into(), remedy: remedy.into() }
    }

    /// For people.
    fn line(&self) -> String {
        let Self { check, level, message, remedy } = self;
        let to_do = if remedy.is_empty() { "" } else { "; " };
        format!("{:<8} {check:<15} {message}{to_do}{remedy}", level.as_str())
    }

    fn json(&self) -> Value {
        json!({ "check": self.check, "result": self.level.as_str(), "message": self.message, "remedy": self.remedy })
    }
}

/// Looks at everything and says what was found; whether the agent can start. Warnings are no obstacle.
pub(crate) async fn run(config: &Config, format: Format, out: &mut impl Write) -> std::io::Result<bool> {
    let findings = findings(config).await;
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Fine);
    let startable = worst < Level::Error;
    let report = || {
        let findings: Vec<Value> = findings.iter().map(Finding::json).collect();
        json!({ "node": config.name.to_string(), "ok": startable, "findings": findings })
    };
    match format {
        Format::Json => writeln!(out, "{:#}", report())?,
        Format::Yaml => write!(out, "{}", document::yaml(&report()))?,
        Format::Table | Format::Wide => {
            for finding in &findings {
                writeln!(out, "{}", finding.line())?;
            }
        }
        // What is not in order.
        Format::Name => {
            for finding in findings.iter().filter(|finding| finding.level != Level::Fine) {
                writeln!(out, "{}", finding.check)?;
            }
        }
    }
    Ok(startable)
}

async fn findings(config: &Config) -> Vec<Finding> {
    // What cannot be read here is told by the look at the data directory.
    let runs = data::holder(&config.dir).ok().flatten();
    let record = data::look(&config.dir);
    let known = record.as_ref().ok().and_then(Option::as_ref);
    let mut findings = vec![Finding::fine("config", format!("node {} ({})", config.name, config.hostname))];
    let warnings = config.warnings().into_iter();
    findings.extend(warnings.map(|Warning { problem, remedy }| Finding::warning("config", problem, remedy)));
    findings.extend(disk::look(config, &record, runs));
    findings.extend(machine::look(config));
    let (transport, secured) = security::look(config);
    findings.extend(secured);
    findings.extend(network::ports(config, runs));
    findings.extend(network::join(config, known, transport.as_ref()).await);
    findings
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config(dir: &std::path::Path, more: &[&str]) -> Config {
        let file = dir.join("agent.toml");
        std::fs::write(&file, "[node]\nname = \"a\"\n").expect("the test's own file");
        let mut flags = vec![
            format!("storage.dir={}", dir.join("data").display()),
            "listen.grpc=127.0.0.1:0".to_owned(),
            "listen.http=127.0.0.1:0".to_owned(),
        ];
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        Config::load(Some(&file), [], &flags).expect("a good config")
    }

    async fn found(config: &Config) -> (bool, Value) {
        let mut out = Vec::new();
        let startable = run(config, Format::Json, &mut out).await.expect("a vector takes all");
        (startable, serde_json::from_slice(&out).expect("it is JSON"))
    }

    fn of<'a>(report: &'a Value, check: &str) -> Vec<&'a Value> {
        let findings = report["findings"].as_array().expect("a list");
        findings.iter().filter(|finding| finding["check"] == check).collect()
    }

    #[tokio::test]
    async fn a_machine_in_order_can_start_and_nothing_is_left_on_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = config(dir.path(), &[]);
        let (startable, report) = found(&config).await;
        assert!(startable && report["ok"] == true, "{report:#}");
        for check in
            ["config", "data directory", "disk", "clock", "timers", "memory", "open files", "security"]
        {
            assert!(!of(&report, check).is_empty(), "{check} in {report:#}");
        }
        let left: Vec<_> = std::fs::read_dir(dir.path()).expect("it is there").flatten().collect();
        assert_eq!(left.len(), 1, "only the config file: {left:?}");
    }

    #[tokio::test]
    async fn every_error_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let open = dir.path().join("join.secret");
        std::fs::write(&open, "00").expect("the test's own file");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = taken.local_addr().expect("it has one");
        let more = [
            format!("listen.http={port}"),
            format!("security.join_secret_file={}", open.display()),
            "listen.grpc=0.0.0.0:0".to_owned(),
            "cluster.join=no-such-host.invalid:7420".to_owned(),
        ];
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let (startable, report) = found(&config(dir.path(), &more)).await;
        assert!(!startable && report["ok"] == false);
        let all = report["findings"].as_array().expect("a list");
        let without: Vec<_> =
            all.iter().filter(|finding| finding["result"] == "error" && finding["remedy"] == "").collect();
        assert!(without.is_empty(), "{without:#?}");
        for (check, part) in [("http port", "in use"), ("security", "mode"), ("join", "cannot be resolved")] {
            let all = of(&report, check);
            let wrong = all.iter().find(|finding| finding["result"] == "error");
            let wrong = wrong.unwrap_or_else(|| panic!("{check} is wrong in {report:#}"));
            let text = format!("{} {}", wrong["message"], wrong["remedy"]);
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    #[tokio::test]
    async fn what_is_unlikely_to_be_meant_is_a_warning_with_a_remedy() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let more = [
            "raft.election_max=1200ms",
            "cluster.bootstrap_expect=2",
            "cluster.join=127.0.0.1:1,127.0.0.1:2,127.0.0.1:3,127.0.0.1:4",
        ];
        let (_, report) = found(&config(dir.path(), &more)).await;
        let warned = of(&report, "config");
        let warned: Vec<_> = warned.iter().filter(|finding| finding["result"] == "warning").collect();
        for (finding, part) in warned.iter().zip(["a longer lease.ttl", "3 or more of them"]) {
            assert!(finding["remedy"].as_str().is_some_and(|remedy| remedy.contains(part)), "{finding:#}");
        }
        assert_eq!(warned.len(), 2, "{report:#}");
    }

    #[tokio::test]
    async fn files_that_cannot_be_used_are_errors_with_a_remedy() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bad = dir.path().join("bad");
        std::fs::write(&bad, "no key, no token, no certificate").expect("the test's own file");
        let closed = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&bad, closed).expect("the test's own file");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("the test's own directory");
        std::fs::write(data.join("node.json"), "{").expect("the test's own file");
        let bad = bad.display();
        let pair = format!("http.certificate_file={bad} http.key_file={bad}");
        for (check, keys, part) in [
            ("data directory", String::new(), "node.json"),
            ("https", pair, "PEM"),
            ("secrets", format!("secrets.key_file={bad}"), "sheaf secret keygen"),
            ("security", format!("security.join_secret_file={bad}"), "sheaf secret keygen"),
            ("security", format!("security.join_token_file={bad}"), "sheaf cluster token create"),
        ] {
            let more: Vec<&str> = keys.split_whitespace().collect();
            let (startable, report) = found(&config(dir.path(), &more)).await;
            assert!(!startable, "{report:#}");
            let all = of(&report, check);
            let wrong = all.iter().find(|finding| finding["result"] == "error");
            let wrong = wrong.unwrap_or_else(|| panic!("{check} is wrong in {report:#}"));
            assert!(wrong["remedy"].as_str().is_some_and(|remedy| remedy.contains(part)), "{wrong:#}");
        }
    }

    #[tokio::test]
    async fn what_others_reach_unsecured_is_an_error_and_loopback_a_warning() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (startable, report) = found(&config(dir.path(), &["listen.grpc=0.0.0.0:0"])).await;
        assert!(!startable && of(&report, "security")[0]["result"] == "error", "{report:#}");
        let (startable, report) = found(&config(dir.path(), &[])).await;
        assert!(startable && of(&report, "security")[0]["result"] == "warning", "{report:#}");
    }
}
