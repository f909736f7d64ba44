//! What browsers on other machines are shown.

use super::Finding;
use crate::config::Config;
use crate::https::{Files, lapse};

const CHECK: &str = "https";

/// `secured`: this node has, or will get, a certificate of the cluster's authority.
pub(super) fn look(config: &Config, secured: bool) -> Vec<Finding> {
    if config.http.is_none() {
        return Vec::new();
    }
    if !config.https.on {
        return vec![Finding::fine(CHECK, "off ([http] tls): the dashboard is for this machine alone")];
    }
    let Some(files) = Files::of(config) else {
        let by_node = "with this node's certificate of the cluster's authority (sheaf cluster ca export)";
        return if secured { vec![Finding::fine(CHECK, by_node)] } else { Vec::new() };
    };
    let identity = match files.read() {
        Ok(identity) => identity,
        Err(error) => return vec![Finding::error(CHECK, error.to_string(), error.remedy())],
    };
    let mut findings = Vec::new();
    if let Some(why) = lapse(&identity) {
        let renew = "renew it; the agent takes what is new in the files by itself";
        findings.push(Finding::warning(
            CHECK,
            format!("the certificate of [http] certificate_file: {why}"),
            renew,
        ));
    }
    for name in config.https.names.iter().filter(|name| !identity.is_for(name)) {
        let message = format!(
            "the certificate is not for {name}, which is one of [http] names: browsers refuse it there"
        );
        findings.push(Finding::warning(CHECK, message, "a certificate with that name, too"));
    }
    let names = identity.names();
    let own = [config.hostname.as_str(), config.name.as_str()];
    if names.is_empty() && !own.iter().any(|name| identity.is_for(name)) {
        let message =
            "the certificate has no DNS names (subjectAltName), which are all that browsers look at";
        findings.push(Finding::warning(CHECK, message, "have it issued with the names that people type"));
    }
    if !secured {
        let message = "nothing secures this agent: with TLS, too, its dashboard is for this machine alone";
        let remedy = "secure it: sheaf cluster init, a join token or a join secret ([security])";
        findings.push(Finding::warning(CHECK, message, remedy));
    }
    if findings.is_empty() {
        let (names, end) = (names.join(", "), identity.not_after());
        findings.push(Finding::fine(CHECK, format!("a certificate for {names}, good until {end}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::check::Level;
    use crate::https::tests::{issued, written};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn config(dir: &Path, more: &[&str]) -> Config {
        let file = dir.join("agent.toml");
        std::fs::write(&file, "[node]\nname = \"a\"\n").expect("the test's own file");
        let flags: Vec<String> = more.iter().map(|flag| (*flag).to_owned()).collect();
        Config::load(Some(&file), [], &flags).expect("a good config")
    }

    #[test]
    fn what_browsers_will_be_shown_is_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let levels = |more: &[&str], secured| -> Vec<Level> {
            look(&config(dir.path(), more), secured).iter().map(|finding| finding.level).collect()
        };
        assert_eq!(levels(&[], true), [Level::Fine]);
        assert_eq!((levels(&[], false), levels(&["listen.http="], true)), (vec![], vec![]));
        assert_eq!(levels(&["http.tls=off"], true), [Level::Fine]);
        let (certificate, key) = issued(&["a.example.org"], 90 * DAY);
        written(dir.path(), &certificate, &key);
        let certificate = format!("http.certificate_file={}", dir.path().join("https.pem").display());
        let key = format!("http.key_file={}", dir.path().join("https.key").display());
        let files = [certificate.as_str(), key.as_str()];
        let found = look(&config(dir.path(), &files), true);
        assert!(found[0].level == Level::Fine && found[0].message.contains("a.example.org"), "{found:?}");
        assert_eq!(levels(&files, false), [Level::Warning]);
        let named = [certificate.as_str(), key.as_str(), "http.names=a.example.org,b.example.org"];
        let found = look(&config(dir.path(), &named), true);
        assert!(found.len() == 1 && found[0].message.contains("not for b.example.org"), "{found:?}");
        let (soon, its_key) = issued(&["a.example.org"], 3 * DAY);
        written(dir.path(), &soon, &its_key);
        assert_eq!(levels(&files, true), [Level::Warning]);
        let (_, other) = issued(&["a.example.org"], 90 * DAY);
        written(dir.path(), &soon, &other);
        let found = look(&config(dir.path(), &files), true);
        assert_eq!((found.len(), found[0].level), (1, Level::Error));
        assert!(found[0].remedy.contains("the key that belongs to it"), "{found:?}");
    }
}
