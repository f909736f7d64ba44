//! A configuration as it holds, for whoever is to help. Of secrets it has nothing but the paths of their files.

use std::path::Path;

use serde_json::{Value, json};
use sheaf_model::redacted;

use super::{Config, Raft};

impl Config {
    /// Every key by its section, with what holds now, whether it was given or not.
    pub(crate) fn shown(&self) -> Value {
        let Self { lease, raft: Raft { heartbeat, election_min, election_max }, .. } = self;
        let path =
            |path: &Option<std::path::PathBuf>| path.as_deref().map(Path::display).map(|it| it.to_string());
        json!({
            "node": {"name": self.name.as_str(), "hostname": self.hostname, "labels": self.labels},
            "listen": {"grpc": self.grpc, "http": self.http, "advertise": self.advertise},
            "http": {
                "tls": if self.https.on { "cluster" } else { "off" },
                "certificate_file": path(&self.https.certificate_file),
                "key_file": path(&self.https.key_file),
                "names": self.https.names,
                "strict_transport": self.https.strict_transport.to_string(),
            },
            "cluster": {
                "join": self.join,
                "bootstrap_expect": self.bootstrap_expect,
                "voters": self.voters.to_string(),
            },
            "modules": {"allow": self.allow, "deny": self.deny},
            "lease": {
                "heartbeat": lease.heartbeat.to_string(),
                "ttl": lease.ttl.to_string(),
                "kill_margin": lease.kill_margin.to_string(),
                "stand_in": lease.stand_in.to_string(),
            },
            "raft": {
                "heartbeat": heartbeat.to_string(),
                "election_min": election_min.to_string(),
                "election_max": election_max.to_string(),
            },
            "jobs": {"slots": self.slots},
            "storage": {"dir": self.dir.display().to_string(), "artifact_cache": self.artifact_cache.to_string()},
            "secrets": {"key_file": path(&self.key_file)},
            "sinks": {"exec_allow": self.exec_allow},
            "security": {
                "join_secret_file": path(&self.join_secret_file),
                "join_token_file": path(&self.join_token_file),
                "certificate_lifetime": self.certificate_lifetime.to_string(),
            },
            "telemetry": {
                "otlp": self.otlp.as_deref().map(redacted),
                "ca_file": path(&self.otlp_ca_file),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::KEYS;
    use super::*;

    #[test]
    fn every_key_is_shown() {
        let flags = ["node.name=a".to_owned(), "telemetry.otlp=http://localhost:4317".to_owned()];
        let missing = tempfile::tempdir().expect("a temporary directory");
        let file = missing.path().join("agent.toml");
        std::fs::write(&file, "").expect("the file is written");
        let config = Config::load(Some(&file), [], &flags).expect("no defects");
        let shown = config.shown();
        let count: usize = shown
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, keys)| keys.as_object().map_or(0, serde_json::Map::len))
            .sum();
        for key in KEYS {
            let (section, key) = key.split_once('.').expect("a section and a key");
            assert!(shown[section].get(key).is_some(), "{section}.{key} in {shown:#}");
        }
        assert_eq!(count, KEYS.len());
        assert_eq!(shown["telemetry"]["otlp"], "http://localhost:4317");
    }
}
