//! What a configuration says, and what can be wrong with it.

use super::*;

fn load(text: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<Config, Vec<Defect>> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, text).expect("the file is written");
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    Config::load(Some(&path), environment, &flags)
}

const DOCUMENTED: &str = r#"
[node]
name = "import-01"
hostname = "import-01"
labels = ["import", "zone=a"]
[listen]
grpc = "0.0.0.0:7420"
http = "127.0.0.1:7421"
advertise = "10.0.0.11:7420"
[cluster]
join = ["10.0.0.11:7420", "10.0.0.12", "10.0.0.13:7420"]
bootstrap_expect = 3
voters = "auto"
[modules]
allow = ["flume"]
deny = []
[lease]
heartbeat = "500ms"
ttl = "3s"
kill_margin = "1s"
stand_in = "60s"
[raft]
heartbeat = "75ms"
election_min = "300ms"
election_max = "500ms"
[jobs]
slots = 0
[storage]
dir = "/var/lib/sheaf"
artifact_cache = "10GiB"
"#;

#[test]
fn the_documented_file_is_read() {
    let config = load(DOCUMENTED, &[], &[]).expect("no defects");
    assert_eq!(config.name.as_str(), "import-01");
    assert_eq!(config.join[1], "10.0.0.12:7420");
    assert_eq!(config.lease, LeaseSettings::default());
    assert_eq!(config.artifact_cache, Bytes(10 << 30));
    assert!(config.warnings().is_empty());
}

#[test]
fn an_empty_file_is_a_cluster_of_one() {
    let config = load("[node]\nname = \"a\"", &[], &[]).expect("no defects");
    assert!(config.join.is_empty());
    assert_eq!((config.bootstrap_expect, config.voters), (1, Voters::Auto));
    assert_eq!(config.artifact_cache, Bytes(10 << 30));
    let [heartbeat, election_min, election_max] = [100, 300, 500].map(Span::millis);
    assert_eq!(config.raft, Raft { heartbeat, election_min, election_max });
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let environment = [("SHEAF_CONFIG_LEASE_TTL", "6s"), ("SHEAF_CONFIG_CLUSTER_BOOTSTRAP_EXPECT", "2")];
    let config = load(DOCUMENTED, &environment, &["lease.ttl=7s", "modules.allow=a, b"]).expect("no defects");
    assert_eq!(config.lease.ttl, Span::seconds(7));
    assert_eq!(config.bootstrap_expect, 2);
    assert_eq!(config.allow, ["a", "b"]);
}

#[test]
fn every_defect_is_found_with_its_place_and_remedy() {
    let text = r#"
        colour = "red"
        [node]
        name = "bad name"
        [cluster]
        voters = 2
        bootstrap_expect = 0
        [lease]
        tll = "3s"
        kill_margin = "10ms"
        [raft]
        election_min = 300
        [storage]
        artifact_cache = 10
        [http]
        tls = "yes"
        certificate_file = "/etc/sheaf/https.pem"
        names = ["https://sheaf.example.org"]
        strict_transport = "soon"
        [sinks]
        exec_allow = ["notify"]
        [telemetry]
        otlp = "localhost:4317"
    "#;
    let defects = load(text, &[("SHEAF_CONFIG_RAFT_HEARTBEATS", "1s")], &["x"]).expect_err("defects");
    let places: Vec<&str> = defects.iter().map(|defect| defect.path.as_str()).collect();
    for place in [
        "colour",
        "node.name",
        "cluster.voters",
        "cluster.bootstrap_expect",
        "lease.tll",
        "lease.kill_margin",
        "raft.election_min",
        "raft.heartbeats",
        "storage.artifact_cache",
        "http.tls",
        "http.key_file",
        "http.names",
        "http.strict_transport",
        "sinks.exec_allow",
        "telemetry.otlp",
    ] {
        assert!(places.contains(&place), "{place} in {defects:#?}");
    }
    let unknown = defects.iter().find(|defect| defect.path == "lease.tll").expect("found above");
    assert_eq!(unknown.remedy, "did you mean lease.ttl?");
    let size = defects.iter().find(|defect| defect.path == "storage.artifact_cache").expect("found above");
    assert!(size.remedy.contains("\"10GiB\""), "{size}");
}

#[test]
fn a_certificate_and_its_key_belong_together() {
    let load = |more: &[&str]| {
        let flags: Vec<String> = more.iter().map(|flag| format!("http.{flag}")).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        load("[node]\nname = \"a\"", &[], &flags).map(|config| config.https)
    };
    let left_out = load(&[]).expect("no defects");
    assert!(left_out.on && left_out.certificate_file.is_none() && left_out.strict_transport == Span(0));
    assert!(!load(&["tls=off"]).expect("no defects").on);
    let both = ["certificate_file=/a", "key_file=/b", "strict_transport=180d", "names=x.example.org, y"];
    let both = load(&both).expect("no defects");
    assert_eq!(both.names, ["x.example.org", "y"]);
    for (more, place) in [
        (&["certificate_file=/a"][..], "http.key_file"),
        (&["key_file=/b"][..], "http.certificate_file"),
        (&["certificate_file=/a", "key_file=/b", "tls=off"][..], "http.tls"),
        (&["strict_transport=1d"][..], "http.strict_transport"),
    ] {
        let defects = load(more).expect_err("they contradict each other");
        assert!(defects.len() == 1 && defects[0].path == place, "{more:?}: {defects:?}");
    }
}

#[test]
fn a_syntax_error_names_line_and_column() {
    let defects = load("[node]\nname = ", &[], &[]).expect_err("no TOML");
    assert!(defects[0].problem.contains("line 2"), "{}", defects[0]);
}

/// Chance that is the same each time (an xorshift; Marsaglia, 2003).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most.max(1) as u64).unwrap_or(0)
    }
}

/// The documented file with a few pieces cut out, doubled or overwritten.
#[test]
fn whatever_the_file_says_it_is_a_configuration_or_defects_that_say_what_is_wrong() {
    const PIECES: [&str; 16] = [
        "\"",
        "[",
        "]",
        "=",
        "\n",
        "-1",
        "18446744073709551615",
        "99999999999999999999",
        "584554049y",
        "true",
        "1.5",
        "{",
        "1979-05-27T07:32:00Z",
        "'''",
        "\\u0000",
        "é",
    ];
    let mut chance = Chance(0x5eed);
    for _ in 0..3_000 {
        let mut text: Vec<char> = DOCUMENTED.chars().collect();
        for _ in 0..=chance.below(4) {
            let at = chance.below(text.len());
            let end = (at + chance.below(20)).min(text.len());
            text.splice(at..end, PIECES[chance.below(PIECES.len())].chars());
        }
        let text: String = text.into_iter().collect();
        match load(&text, &[], &[]) {
            Ok(config) => drop(config.warnings()),
            Err(defects) => {
                assert!(!defects.is_empty(), "{text}");
                for defect in defects {
                    assert!(!defect.problem.trim().is_empty(), "{defect}\n{text}");
                    let noise = ["Some(", "Err(", "Error {"];
                    assert!(!noise.iter().any(|word| defect.problem.contains(word)), "{defect}\n{text}");
                }
            }
        }
    }
}

#[test]
fn times_at_the_end_of_all_numbers_are_defects() {
    let text = "[node]\nname = \"a\"\n[raft]\nheartbeat = \"18446744073709551615ms\"\n";
    let defects = load(text, &[], &[]).expect_err("it is no heartbeat");
    assert!(defects.iter().any(|defect| defect.path == "raft.election_min"), "{defects:?}");
}
