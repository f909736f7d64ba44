//! From values to a configuration.

use std::path::PathBuf;

use sheaf_model::{Bytes, Defect, LeaseSettings, NodeName, Span, Voters};
use toml::Value;

use super::values::Values;
use super::{Config, Https, Raft};

/// How long a node's certificate is good: it is renewed after two thirds, so a cluster may be down for ten days.
const CERTIFICATE: Span = Span::millis(30 * 24 * 3_600_000);

/// Builds the configuration, or gives all defects.
pub(super) fn config(mut values: Values) -> Result<Config, Vec<Defect>> {
    let machine = hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let hostname = text(&mut values, "node.hostname").unwrap_or_else(|| machine.clone());
    let name = name(&mut values, &machine);
    let lease = LeaseSettings::default();
    let join: Vec<String> = texts(&mut values, "cluster.join").into_iter().map(with_port).collect();
    let expect_all = u32::try_from(join.len()).unwrap_or(u32::MAX).max(1);
    let config = Config {
        hostname,
        labels: texts(&mut values, "node.labels"),
        grpc: address(&mut values, "listen.grpc").unwrap_or_else(|| "0.0.0.0:7420".to_owned()),
        http: http(&mut values),
        https: https(&mut values),
        advertise: address(&mut values, "listen.advertise"),
        bootstrap_expect: number(&mut values, "cluster.bootstrap_expect", 1).unwrap_or(expect_all),
        join,
        voters: voters(&mut values),
        allow: texts(&mut values, "modules.allow"),
        deny: texts(&mut values, "modules.deny"),
        lease: LeaseSettings {
            heartbeat: span(&mut values, "lease.heartbeat").unwrap_or(lease.heartbeat),
            ttl: span(&mut values, "lease.ttl").unwrap_or(lease.ttl),
            kill_margin: span(&mut values, "lease.kill_margin").unwrap_or(lease.kill_margin),
            stand_in: span(&mut values, "lease.stand_in").unwrap_or(lease.stand_in),
        },
        raft: Raft {
            heartbeat: span(&mut values, "raft.heartbeat").unwrap_or(Span::millis(100)),
            election_min: span(&mut values, "raft.election_min").unwrap_or(Span::millis(300)),
            election_max: span(&mut values, "raft.election_max").unwrap_or(Span::millis(500)),
        },
        slots: number(&mut values, "jobs.slots", 0).unwrap_or(0),
        dir: text(&mut values, "storage.dir").map_or_else(|| PathBuf::from("/var/lib/sheaf"), PathBuf::from),
        artifact_cache: size(&mut values, "storage.artifact_cache").unwrap_or(Bytes(10 << 30)),
        key_file: path(&mut values, "secrets.key_file"),
        exec_allow: programs(&mut values, "sinks.exec_allow"),
        join_secret_file: path(&mut values, "security.join_secret_file"),
        join_token_file: path(&mut values, "security.join_token_file"),
        certificate_lifetime: span(&mut values, "security.certificate_lifetime").unwrap_or(CERTIFICATE),
        otlp: collector(&mut values, "telemetry.otlp"),
        otlp_ca_file: path(&mut values, "telemetry.ca_file"),
        name: name.unwrap_or_else(|| NodeName::new("unnamed").expect("a name of letters is a name")),
    };
    let mut defects = values.defects;
    defects.extend(config.defects());
    if defects.is_empty() { Ok(config) } else { Err(defects) }
}

fn name(values: &mut Values, machine: &str) -> Option<NodeName> {
    let given = values.take("node.name");
    let (from, text) = match given {
        Some(given) => match given.value {
            Value::String(text) => (given.from, text),
            other => {
                values.wrong(
                    "node.name",
                    &given.from,
                    kind_problem("a text", &other),
                    "a name, like \"import-01\"",
                );
                return None;
            }
        },
        None => {
            ("the machine's hostname".to_owned(), machine.split('.').next().unwrap_or_default().to_owned())
        }
    };
    match NodeName::new(&text) {
        Ok(name) => Some(name),
        Err(error) => {
            values.wrong("node.name", &from, error.problem, error.remedy);
            None
        }
    }
}

fn text(values: &mut Values, key: &'static str) -> Option<String> {
    let given = values.take(key)?;
    match given.value {
        Value::String(text) if !text.is_empty() => Some(text),
        other => {
            values.wrong(key, &given.from, kind_problem("a text", &other), "a text that is not empty");
            None
        }
    }
}

/// Left out: on loopback. Empty: none.
fn http(values: &mut Values) -> Option<String> {
    let key = "listen.http";
    if values.is_empty_text(key) {
        values.take(key);
        return None;
    }
    Some(address(values, key).unwrap_or_else(|| "127.0.0.1:7421".to_owned()))
}

fn https(values: &mut Values) -> Https {
    Https {
        on: tls(values),
        certificate_file: path(values, "http.certificate_file"),
        key_file: path(values, "http.key_file"),
        names: host_names(values, "http.names"),
        strict_transport: span(values, "http.strict_transport").unwrap_or(Span(0)),
    }
}

/// Left out: as far as there is a certificate.
fn tls(values: &mut Values) -> bool {
    let key = "http.tls";
    let Some(given) = values.take(key) else { return true };
    match given.value.as_str() {
        Some("cluster") => true,
        Some("off") => false,
        _ => {
            let problem = format!("{} is no way to speak TLS", given.value);
            values.wrong(key, &given.from, problem, "\"cluster\" or \"off\"");
            true
        }
    }
}

/// Names without a port.
fn host_names(values: &mut Values, key: &'static str) -> Vec<String> {
    let from = values.from(key);
    let names = texts(values, key);
    let is_part = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    for name in names.iter().filter(|name| !name.bytes().all(is_part)) {
        let problem = format!("{name:?} is no name of a host");
        values.wrong(key, &from, problem, "names without a port, like [\"sheaf.example.org\"]");
    }
    names
}

/// Empty: none, as where it is left out.
fn path(values: &mut Values, key: &'static str) -> Option<PathBuf> {
    let given = values.take(key)?;
    match given.value {
        Value::String(text) => Some(text).filter(|text| !text.is_empty()).map(PathBuf::from),
        other => {
            values.wrong(
                key,
                &given.from,
                kind_problem("a text", &other),
                "the path of a file, or \"\" for none",
            );
            None
        }
    }
}

/// Empty: none, as where it is left out.
fn collector(values: &mut Values, key: &'static str) -> Option<String> {
    if values.is_empty_text(key) {
        values.take(key);
        return None;
    }
    let from = values.from(key);
    let endpoint = text(values, key)?;
    if let Err(error) = sheaf_wire::trace::check_endpoint(&endpoint) {
        values.wrong(
            key,
            &from,
            error.to_string(),
            "a collector of OpenTelemetry, like \"http://localhost:4317\"",
        );
        return None;
    }
    Some(endpoint)
}

/// A list of texts; from the environment and from flags, separated by commas.
fn texts(values: &mut Values, key: &'static str) -> Vec<String> {
    let Some(given) = values.take(key) else { return Vec::new() };
    let split = |text: &str| text.split(',').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect();
    match given.value {
        Value::String(text) => split(&text),
        Value::Array(items) => {
            let mut texts = Vec::new();
            for (index, item) in items.into_iter().enumerate() {
                match item {
                    Value::String(text) if !text.trim().is_empty() => texts.push(text.trim().to_owned()),
                    other => {
                        let problem = format!("item {}: {}", index + 1, kind_problem("a text", &other));
                        values.wrong(key, &given.from, problem, "a list of texts, like [\"a\", \"b\"]");
                    }
                }
            }
            texts
        }
        other => {
            values.wrong(
                key,
                &given.from,
                kind_problem("a list", &other),
                "a list of texts, like [\"a\", \"b\"]",
            );
            Vec::new()
        }
    }
}

/// Absolute paths of programs.
fn programs(values: &mut Values, key: &'static str) -> Vec<String> {
    let from = values.from(key);
    let programs = texts(values, key);
    for program in programs.iter().filter(|program| !program.starts_with('/')) {
        let problem = format!("{program:?} is no absolute path");
        values.wrong(key, &from, problem, "paths of programs, like [\"/usr/local/bin/notify\"]");
    }
    programs
}

fn number(values: &mut Values, key: &'static str, least: u32) -> Option<u32> {
    let given = values.take(key)?;
    let number = match &given.value {
        Value::Integer(number) => u32::try_from(*number).ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    match number.filter(|number| (least..=100_000).contains(number)) {
        Some(number) => Some(number),
        None => {
            let problem = format!("{} is no number from {least} to 100000", given.value);
            values.wrong(key, &given.from, problem, format!("a whole number, at least {least}"));
            None
        }
    }
}

fn span(values: &mut Values, key: &'static str) -> Option<Span> {
    let given = values.take(key)?;
    let parsed = match &given.value {
        Value::String(text) => text.parse::<Span>().map_err(|error| (error.problem, error.remedy)),
        other => Err((kind_problem("a duration", other), "a text, like \"500ms\" or \"3s\"".to_owned())),
    };
    match parsed {
        Ok(span) => Some(span),
        Err((problem, remedy)) => {
            values.wrong(key, &given.from, problem, remedy);
            None
        }
    }
}

fn size(values: &mut Values, key: &'static str) -> Option<Bytes> {
    let given = values.take(key)?;
    let parsed = match &given.value {
        Value::String(text) => text.parse::<Bytes>().map_err(|error| (error.problem, error.remedy)),
        other => Err((kind_problem("a size", other), "a text, like \"10GiB\"".to_owned())),
    };
    match parsed {
        Ok(size) => Some(size),
        Err((problem, remedy)) => {
            values.wrong(key, &given.from, problem, remedy);
            None
        }
    }
}

fn voters(values: &mut Values) -> Voters {
    let Some(given) = values.take("cluster.voters") else { return Voters::Auto };
    let found = match &given.value {
        Value::String(text) if text == "auto" => Some(Voters::Auto),
        Value::String(text) => text.parse().ok().map(Voters::Fixed),
        Value::Integer(number) => u8::try_from(*number).ok().map(Voters::Fixed),
        _ => None,
    };
    match found {
        Some(Voters::Auto) => Voters::Auto,
        Some(Voters::Fixed(n @ (1 | 3 | 5 | 7))) => Voters::Fixed(n),
        _ => {
            let problem = format!("{} is no number of voters", given.value);
            values.wrong("cluster.voters", &given.from, problem, "\"auto\", 1, 3, 5 or 7");
            Voters::Auto
        }
    }
}

/// `host:port`, with a port from 0 to 65535.
fn address(values: &mut Values, key: &'static str) -> Option<String> {
    let given = values.take(key)?;
    let remedy = "host:port, like 10.0.0.11:7420";
    match &given.value {
        Value::String(text) => {
            let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if port.is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
                return Some(text.clone());
            }
            values.wrong(key, &given.from, format!("{text:?} is no address"), remedy);
        }
        other => values.wrong(key, &given.from, kind_problem("an address", other), remedy),
    }
    None
}

/// An entry of the join list may leave out the port.
fn with_port(entry: String) -> String {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => entry,
        _ => format!("{entry}:7420"),
    }
}

fn kind_problem(wanted: &str, found: &Value) -> String {
    format!("expected {wanted}, found {} {found}", found.type_str())
}
