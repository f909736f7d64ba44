//! Keys and values from three places, before anybody looks at what they mean.

use std::collections::BTreeMap;

use sheaf_model::{Defect, nearest};
use toml::Value;

use super::ENVIRONMENT;

/// Every key there is, `section.key`.
pub(super) const KEYS: [&str; 33] = [
    "node.name",
    "node.hostname",
    "node.labels",
    "listen.grpc",
    "listen.http",
    "listen.advertise",
    "http.tls",
    "http.certificate_file",
    "http.key_file",
    "http.names",
    "http.strict_transport",
    "cluster.join",
    "cluster.bootstrap_expect",
    "cluster.voters",
    "modules.allow",
    "modules.deny",
    "lease.heartbeat",
    "lease.ttl",
    "lease.kill_margin",
    "lease.stand_in",
    "raft.heartbeat",
    "raft.election_min",
    "raft.election_max",
    "jobs.slots",
    "storage.dir",
    "storage.artifact_cache",
    "secrets.key_file",
    "sinks.exec_allow",
    "security.join_secret_file",
    "security.join_token_file",
    "security.certificate_lifetime",
    "telemetry.otlp",
    "telemetry.ca_file",
];

/// A value and where it comes from, for error texts.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) from: String,
}

/// All values given, by key.
#[derive(Debug, Default)]
pub(super) struct Values {
    given: BTreeMap<&'static str, Given>,
    pub(super) defects: Vec<Defect>,
}

impl Values {
    /// Reads a file's text. A syntax error is the only defect then: nothing else could be known for sure.
    pub(super) fn from_toml(file: &str, text: &str) -> Result<Self, Vec<Defect>> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let place = error.span().map(|span| {
                let before = text.get(..span.start).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
                format!("line {line}, column {column}: ")
            });
            let problem = format!("{}{}", place.unwrap_or_default(), error.message().trim());
            vec![Defect { file: file.to_owned(), ..Defect::new("", problem, "TOML, like ttl = \"3s\"") }]
        })?;
        let mut values = Self::default();
        for (section, value) in table {
            match value {
                Value::Table(keys) => {
                    for (key, value) in keys {
                        values.set(&format!("{section}.{key}"), value, file);
                    }
                }
                value => values.set(&section, value, file),
            }
        }
        Ok(values)
    }

    /// `SHEAF_CONFIG_LEASE_TTL=6s` sets `lease.ttl`.
    pub(super) fn override_by_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) {
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix(ENVIRONMENT) else { continue };
            let key = rest.to_ascii_lowercase().replacen('_', ".", 1);
            self.set(&key, Value::String(value), &name);
        }
    }

    /// `lease.ttl=6s`, as given to `--set`.
    pub(super) fn override_by_flags(&mut self, flags: &[String]) {
        for flag in flags {
            match flag.split_once('=') {
                Some((key, value)) => self.set(key.trim(), Value::String(value.trim().to_owned()), "--set"),
                None => {
                    let problem = format!("{flag:?} has no =");
                    let defect = Defect::new("", problem, "--set section.key=value, like --set lease.ttl=6s");
                    self.defects.push(Defect { file: "--set".to_owned(), ..defect });
                }
            }
        }
    }

    fn set(&mut self, key: &str, value: Value, from: &str) {
        match KEYS.into_iter().find(|known| *known == key) {
            Some(known) => {
                self.given.insert(known, Given { value, from: from.to_owned() });
            }
            None => {
                let remedy = match nearest(key, &KEYS) {
                    Some(known) => format!("did you mean {known}?"),
                    None => format!("known keys: {}", KEYS.join(", ")),
                };
                let defect = Defect::new(key, "unknown key", remedy);
                self.defects.push(Defect { file: from.to_owned(), ..defect });
            }
        }
    }

    /// Takes the value of a key, if it was given.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Given> {
        self.given.remove(key)
    }

    /// Where a key's value comes from; empty: it was not given.
    pub(super) fn from(&self, key: &'static str) -> String {
        self.given.get(key).map(|given| given.from.clone()).unwrap_or_default()
    }

    /// Whether a key was given as an empty text.
    pub(super) fn is_empty_text(&self, key: &'static str) -> bool {
        self.given.get(key).is_some_and(|given| given.value.as_str() == Some(""))
    }

    /// A value that cannot be used.
    pub(super) fn wrong(
        &mut self,
        key: &'static str,
        from: &str,
        problem: String,
        remedy: impl Into<String>,
    ) {
        self.defects.push(Defect { file: from.to_owned(), ..Defect::new(key, problem, remedy) });
    }
}
