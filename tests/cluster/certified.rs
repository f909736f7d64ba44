//! People and programs that show a certificate in place of a token.

use std::fs;

use serde_json::Value;
use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::bucket;
use sheaf_tests::secured::{private, shows, token};
use sheaf_tests::{Cluster, Machine, Output, dashboard, wait_for};

use crate::scene::trace;

/// Node 4 is no member: whatever it is asked is answered elsewhere.
pub(crate) fn certified(machine: &Machine, cluster: &Cluster, first: &str) {
    let made = ["--name", "cora", "--role", "operator", "--on", "/team-c/", "--ttl", "1h", "--certificate"];
    let cora = private(machine, "cora.pem", &format!("{}\n", token(cluster, &made)));
    let cora = cora.display().to_string();
    shows(machine, None);
    let call = |number: usize, args: &[&str], input: &str| -> Output {
        let mut args = args.to_vec();
        args.extend(["--certificate-file", cora.as_str()]);
        cluster.agent(number).cli_with(&args, input.as_bytes())
    };
    let trace = trace(cluster, "certified");
    let (mine, others) =
        (bucket("/team-c/x", "steady", &trace, ""), bucket("/team-d/x", "steady", &trace, ""));
    for number in 1..=4 {
        call(number, &["node", "list"], "").ok();
        call(number, &["apply", "-f", "-"], &mine).ok();
        let refused = call(number, &["apply", "-f", "-"], &others).exits(1);
        refused.mentions(&["cora (operator on /team-c/) may not change bucket /team-d/x"]);
        call(number, &["cluster", "token", "list"], "").exits(1).mentions(&["needs the role admin"]);
    }
    cluster.agent(2).cli(&["node", "list"]).exits(1).mentions(&["sheaf login"]);

    cluster.agent(3).cli(&["login", "--profile", "cora", "--certificate-file", &cora]).ok();
    cluster.agent(3).cli(&["node", "list"]).ok();
    fs::remove_file(machine.path(".config/sheaf/config.toml")).expect("login has written it");
    signed(cluster, &call(1, &["cluster", "token", "sign", "--for", "1m"], "").ok().stdout);
    // What is open already ends with it.
    let watch = cluster.agent(2).follow(&["events", "--follow", "--certificate-file", &cora]);
    call(2, &["node", "list"], "").ok();

    shows(machine, Some(first));
    let rows = cluster.json(&["cluster", "token", "list", "-o", "json"]);
    let row = rows.as_array().and_then(|rows| rows.iter().find(|row| row["name"] == "cora"));
    assert_eq!(row.expect("it is listed as tokens are")["certificate"], true);
    let events = cluster.cli(&["events", "-o", "json", "--all"]).ok().json_lines();
    let created = |event: &&Value| event["kind"] == "bucket.created" && event["subject"] == "/team-c/x";
    assert_eq!(events.iter().find(created).expect("the event of the bucket")["actor"], "user:cora");
    cluster.cli(&["cluster", "token", "revoke", "cora", "--yes"]).ok();
    shows(machine, None);
    for number in 1..=4 {
        wait_for("a revoked certificate is not taken", SOON, || {
            let output = call(number, &["node", "list"], "");
            let refused = output.code == 1 && output.stderr.contains("is not known here");
            if refused { Ok(()) } else { Err(output.to_string()) }
        });
    }
    assert_ne!(watch.finish(SOON).code, 0, "a stream ends with the certificate that opened it");
    shows(machine, Some(first));
    cluster.delete(&["/team-c/x"]);
}

/// Whoever speaks the protocol shows what was signed where a token would stand.
fn signed(cluster: &Cluster, text: &str) {
    let text = text.trim();
    let agent = cluster.agent(1);
    let (_, with) = dashboard::enter(agent);
    let login = |token: &str| {
        dashboard::ask(agent, "POST", "/api/v1/login", &with, &format!("{{\"token\":{token:?}}}")).0
    };
    let (said, signature) = text.rsplit_once('.').expect("a JSON Web Token");
    let spoilt: String = signature.chars().rev().collect();
    let answer = login(&format!("{said}.{spoilt}"));
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = login(text);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (head, body) = dashboard::ask(agent, "GET", "/api/v1/node/list", &dashboard::cookie(&answer), "");
    assert!(head.starts_with("HTTP/1.1 200"), "{head} {body}");
}
