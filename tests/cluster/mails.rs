//! Mail to a server that is not ours, while it is down and up again and leaders are killed.

use std::collections::BTreeSet;

use sheaf_tests::jobs::{job, over, submit};
use sheaf_tests::mailserver::MailServer;
use sheaf_tests::postbox::Letter;
use sheaf_tests::{Cases, Cluster, need, wait_for};

use crate::sinks::{DELIVERED_WITHIN, apply, delete, wait_status};

/// What is told of each job.
const KINDS: [&str; 2] = ["job.submitted", "job.finished"];

/// Of a cluster of three that has the module `quick`.
pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    let Some(python) = need::mailer() else {
        need::skipped("python aiosmtpd");
        return;
    };
    let mut server = MailServer::planned(cluster.machine(), python);
    let document = format!(
        "kind: Sink\nname: post\nmail: {{server: '{}', security: none, from: sheaf@example.org, to: [ops@example.org], \
         digest: 1s}}\nfilter: {{kinds: [{}], subjects: ['post-*']}}\n",
        server.server(),
        KINDS.join(", ")
    );
    apply(cluster, &document).ok();
    cases.run("a mail server is down, the leader is killed, and each event is in one mail", || {
        down(cluster, &mut server);
    });
    cases.run("a mail server takes mails, the leader is killed, and none is sent again", || {
        recorded(cluster, &server);
    });
    cases.run("a mail server is killed at work, and the leader too, and nothing is lost", || {
        at_work(cluster, &mut server);
    });
    delete(cluster, "post");
}

fn one(cluster: &Cluster, name: &str) {
    submit(cluster, &job(name, "quick", "subtasks: {items: [{do: 'true'}]}"));
    over(cluster, name);
}

/// Kills the leader; whom to start again.
fn lose_leader(cluster: &Cluster) -> String {
    let leader = cluster.leader().name();
    cluster.named(&leader).kill();
    cluster.leader();
    leader
}

fn come_back(cluster: &Cluster, name: &str) {
    cluster.named(name).start();
    cluster.wait_back(cluster.named(name));
}

/// In how many mails each of both lines of a job stands.
fn told(letters: &[Letter], name: &str) -> [usize; 2] {
    let texts: Vec<String> = letters.iter().map(Letter::text).collect();
    KINDS.map(|kind| {
        let line = format!(" {kind} {name}");
        texts.iter().map(|text| text.matches(&line).count()).sum()
    })
}

/// Waits until all of these jobs are told.
fn all_told(server: &MailServer, names: &[&str]) {
    wait_for(&format!("mails about {names:?}"), DELIVERED_WITHIN, || {
        let letters = server.letters();
        let counts: Vec<[usize; 2]> = names.iter().map(|name| told(&letters, name)).collect();
        let all = counts.iter().flatten().all(|count| *count > 0);
        if all { Ok(()) } else { Err(format!("{counts:?} in {} mails", letters.len())) }
    });
}

/// Waits until nothing is left to deliver, and where the sink is then is known to a majority.
fn settled(cluster: &Cluster, events: u64) {
    wait_status(cluster, "post", "all is delivered, and recorded", |row| {
        row["state"] == "idle" && row["lag_events"] == 0 && row["delivered"].as_u64() >= Some(events)
    });
}

/// Each event is in one mail, and no mail came twice.
fn once(server: &MailServer, names: &[&str]) {
    let letters = server.letters();
    for name in names {
        assert_eq!(told(&letters, name), [1, 1], "{name} in {letters:#?}");
    }
    let ids: BTreeSet<&str> = letters.iter().filter_map(|letter| letter.header("Message-ID")).collect();
    assert_eq!(ids.len(), letters.len(), "{letters:#?}");
    assert!(
        letters.iter().all(|letter| letter.from == "sheaf@example.org" && letter.to == ["ops@example.org"])
    );
}

fn down(cluster: &Cluster, server: &mut MailServer) {
    one(cluster, "post-0");
    wait_status(cluster, "post", "nobody is there", |row| {
        let error = row["last_error"].as_str().unwrap_or_default();
        row["state"] == "failing" && error.contains("connect to 127.0.0.1")
    });
    let gone = lose_leader(cluster);
    one(cluster, "post-1");
    wait_status(cluster, "post", "the next leader finds nobody either", |row| row["state"] == "failing");
    server.come_up();
    all_told(server, &["post-0", "post-1"]);
    settled(cluster, 4);
    come_back(cluster, &gone);
    once(server, &["post-0", "post-1"]);
}

fn recorded(cluster: &Cluster, server: &MailServer) {
    let gone = lose_leader(cluster);
    one(cluster, "post-2");
    all_told(server, &["post-2"]);
    settled(cluster, 6);
    come_back(cluster, &gone);
    once(server, &["post-0", "post-1", "post-2"]);
}

/// What was under way may come again then, as with every sink.
fn at_work(cluster: &Cluster, server: &mut MailServer) {
    one(cluster, "post-3");
    server.go_down();
    one(cluster, "post-4");
    server.come_up();
    let before = server.letters().len();
    one(cluster, "post-5");
    wait_for("a mail comes", DELIVERED_WITHIN, || match server.letters().len() {
        now if now > before => Ok(()),
        same => Err(format!("{same} mails")),
    });
    let gone = lose_leader(cluster);
    one(cluster, "post-6");
    all_told(server, &["post-3", "post-4", "post-5", "post-6"]);
    come_back(cluster, &gone);
    wait_status(cluster, "post", "all is delivered", |row| {
        row["state"] == "idle" && row["failing_since"].is_null()
    });
}
