//! Who gets in: what secures this node, and the files that secrets stand in.

use std::net::ToSocketAddrs as _;
use std::time::SystemTime;

use sheaf_control::Trust;
use sheaf_model::Timestamp;
use sheaf_seal::Key;
use sheaf_wire::Transport;

use super::{Finding, https};
use crate::config::Config;
use crate::{secure, telemetry};

const CHECK: &str = "security";

/// What was found, and how this node would reach others; none: that cannot be said.
pub(super) fn look(config: &Config) -> (Option<Transport>, Vec<Finding>) {
    let mut findings = Vec::new();
    let trust = match secure::trust(config, &config.dir) {
        Ok((trust, _)) => Some(trust),
        Err(error) => {
            let why = format!("{error:#}");
            let remedy = remedy(config, &why);
            findings.push(Finding::error(CHECK, why, remedy));
            None
        }
    };
    if let Some(trust) = &trust {
        findings.push(secured(config, trust));
        findings.extend(outlived(config, trust));
    }
    let is_secured = trust.as_ref().is_some_and(|trust| trust.keyring.is_some());
    findings.extend(https::look(config, is_secured));
    findings.extend(config.key_file.as_deref().map(|path| match Key::read(path) {
        Ok(key) => Finding::fine("secrets", format!("key {} in {}", key.id(), path.display())),
        Err(error) => Finding::error(
            "secrets",
            error.to_string(),
            "the same key file on every node, for the agent's user alone: `sheaf secret keygen FILE` makes it on the first; or \
             none, where no secrets are kept: leave out [secrets] key_file",
        ),
    }));
    findings.extend(config.otlp_ca_file.as_deref().map(|path| match telemetry::authorities(path) {
        Ok(_) => Finding::fine("traces", format!("collectors are believed by {}", path.display())),
        Err(error) => {
            let instead = "certificates of authorities in PEM; without them no traces are sent";
            Finding::warning("traces", format!("[telemetry] ca_file: {error:#}"), instead)
        }
    }));
    (trust.map(|trust| trust.transport), findings)
}

/// What to do where it cannot be said what secures this node, by what is named in `why`.
fn remedy(config: &Config, why: &str) -> String {
    if why.contains("join_token_file") {
        return "a token as `sheaf cluster token create --role agent` prints it, in a file for the agent's user alone".to_owned();
    }
    if why.contains("join_secret_file") {
        return "the file that all nodes share, for the agent's user alone: `sheaf secret keygen FILE` makes it on the first"
            .to_owned();
    }
    let dir = config.dir.join("trust");
    format!(
        "let the agent's user read and write all of {dir}; if something in it is lost, move {data} away and join anew by a token \
         (sheaf cluster token create)",
        dir = dir.display(),
        data = config.dir.display()
    )
}

fn secured(config: &Config, trust: &Trust) -> Finding {
    let Some(keyring) = &trust.keyring else {
        let listening = config.grpc.to_socket_addrs().ok().and_then(|mut found| found.next());
        return match listening.map(|listening| secure::refuse_open(trust, listening, config)) {
            Some(Err(_)) => Finding::error(CHECK, secure::exposed(config), secure::SECURE_IT),
            Some(Ok(())) => Finding::warning(
                CHECK,
                "nothing secures this agent: whoever reaches the port may do everything; it is on loopback alone",
                "for more than trying things: sheaf cluster init, or a join secret ([security])",
            ),
            None => Finding::error(
                CHECK,
                format!("[listen] grpc {:?} cannot be resolved", config.grpc),
                "an address of this machine, like 0.0.0.0:7420",
            ),
        };
    };
    let dir = keyring.dir().display();
    match keyring.own() {
        Some(own) => {
            let renewed = own.renew_at;
            if renewed < Timestamp::from_system(SystemTime::now()) {
                return Finding::warning(
                    CHECK,
                    format!("the certificate in {dir} should have been renewed at {renewed}"),
                    "start the agent, which does that; if it has expired, it says so, and the node joins anew by a token",
                );
            }
            Finding::fine(CHECK, format!("a certificate in {dir}, to be renewed at {renewed}"))
        }
        None if keyring.authority().is_some() => {
            Finding::fine(CHECK, format!("the authority of a new cluster in {dir}"))
        }
        None if trust.join.is_some() => {
            Finding::fine(CHECK, "a join secret: nodes that hold it form the cluster")
        }
        None => Finding::fine(CHECK, "a join token"),
    }
}

/// A join secret that is not needed any more.
fn outlived(config: &Config, trust: &Trust) -> Option<Finding> {
    let has_certificate = trust.keyring.as_ref().is_some_and(|keyring| keyring.own().is_some());
    let file = config.join_secret_file.as_deref().filter(|_| has_certificate && trust.join.is_some())?;
    Some(Finding::warning(
        CHECK,
        format!("{} is still here, and whoever reads it is an admin and can join as a voter", file.display()),
        "once all nodes are in: take it and the key join_secret_file off every node; those to come get tokens",
    ))
}
