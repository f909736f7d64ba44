//! Subtasks that are posted to a service: each attempt once, whatever becomes of the answers, and nothing is left there that is
//! not wanted.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sheaf_tests::jobs::{self, job, over, soon, status};
use sheaf_tests::{Cases, Cluster, Machine, Service, cli, processes};

/// Two agents that run eight subtasks each, and open secrets.
pub(crate) fn cluster() -> Cluster {
    let machine = Arc::new(Machine::take());
    let key = machine.path("secrets.key");
    cli::run(&machine, &["secret", "keygen", &key.display().to_string()], b"").ok();
    let cluster = Cluster::plan(&machine, "", 2, |_, plan| {
        plan.more = format!("[secrets]\nkey_file = \"{}\"\n[jobs]\nslots = 8\n", key.display());
    });
    cluster.start_all();
    cluster.wait_ready();
    cluster
}

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cluster.cli_with(&["secret", "set", "service.token"], b"s3cret\n").ok();
    cluster.apply(
        "kind: Module\nname: post\nversion: '1'\nruntime: builtin:http\nsecrets: [service.token]\n\
         restart: {backoff: 100ms..400ms}\n",
    );
    cases
        .run("subtasks are posted once each, followed, and their answers are their output", || well(cluster));
    cases.run("the example does what it says", || example(cluster));
    cases.run(
        "O2 O6 O8 answers that are lost, late, or make no sense cost no attempt, and no second post",
        || {
            lost(cluster);
        },
    );
    cases.run("O4 O12 what a service refuses is not tried again, and what fails there is", || {
        refused(cluster);
    });
    cases.run("O5 O7 a service that asks to be left alone is, and no other", || throttled(cluster));
    cases.run("a service that is down opens its breaker, and is tried again", || down(cluster));
    cases.run("O11 no more are there at a time than the backend's limit", || limited(cluster));
    cases.run("O9 what is canceled or takes too long is deleted there", || deleted(cluster));
    cases.run("what a killed process has left there is deleted, and begun anew", || killed(cluster));
    cases.run("what makes no sense in a config is said", || wrong(cluster));
}

/// A backend that is this service, with how its answers are asked for.
fn backend(cluster: &Cluster, name: &str, service: &Service, more: &str) {
    let document = format!(
        "kind: Backend\nname: {name}\n{more}\nconfig:\n  url: '{}'\n  timeout: 2s\n  \
         headers: {{Authorization: 'Bearer ${{secret.service.token}}'}}\n  poll: {{every: 50ms..400ms}}\n",
        service.url()
    );
    cluster.cli_with(&["backend", "apply", "-f", "-"], document.as_bytes()).ok();
}

fn submit(cluster: &Cluster, name: &str, backends: &str, items: &[&str], more: &str) {
    let items = items.join(", ");
    let more = format!("subtasks: {{items: [{items}]}}\nbackends: [{backends}]\n{more}");
    jobs::submit(cluster, &job(name, "post", &more));
}

fn rows(cluster: &Cluster, name: &str) -> Vec<Value> {
    cluster.json(&["job", "subtasks", name, "-o", "json"]).as_array().cloned().unwrap_or_default()
}

fn finished(cluster: &Cluster, name: &str, count: usize) {
    let status = over(cluster, name);
    assert_eq!(
        (&status["state"], &status["counts"]["finished"]),
        (&"finished".into(), &count.into()),
        "{status:#}\n{:#?}",
        rows(cluster, name)
    );
}

fn well(cluster: &Cluster) {
    let service = Service::start();
    backend(cluster, "well", &service, "");
    submit(cluster, "posted", "well", &["{do: work, ms: 200}"; 12], "");
    finished(cluster, "posted", 12);
    assert_eq!((service.posts().len(), service.works().len(), service.keys().len()), (12, 12, 12));
    assert!(service.posts().iter().all(|post| post.token == "Bearer s3cret"), "{:?}", service.posts());
    let rows = rows(cluster, "posted");
    assert!(rows.iter().all(|row| row["attempt"] == 1 && row["backend"] == "well"), "{rows:#?}");
    let printed = cluster.cli(&["job", "logs", "posted", "7"]).ok().stdout;
    assert!(printed.contains("well has it as ") && printed.contains("\"status\":\"finished\""), "{printed}");
    let status = cluster.json(&["job", "status", "posted", "-o", "json"]);
    let key = service.keys().into_iter().next().unwrap_or_default();
    assert!(key.contains(&format!("-{}-", status["id"])), "{key}");
}

/// As it stands there, but for where the service is.
fn example(cluster: &Cluster) {
    let read = |name: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies below the root");
        let path = root.join("deploy/examples/http").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let service = Service::start();
    let module = read("module.yaml").replace("name: post", "name: example-post");
    cluster.apply(&module);
    cluster.cli_with(&["secret", "set", "tiles.token"], b"t0ken").ok();
    let backend = read("backend.yaml");
    assert!(backend.contains("https://tiles.example.org/api/"), "{backend}");
    let backend = backend.replace("https://tiles.example.org/api/", &service.url());
    let document = read("job.yaml").replace("module: post", "module: example-post");
    // Together: the only backend of the job is not there before.
    cluster.cli_with(&["apply", "-f", "-"], format!("{backend}---\n{document}").as_bytes()).ok();
    finished(cluster, "tiles", 2);
    let works = service.works();
    let bodies: Vec<&Value> = works.iter().map(|work| &work.body).collect();
    assert!(bodies.iter().all(|body| body["year"] == 2024 && body["title"].is_string()), "{bodies:?}");
    assert!(service.posts().iter().all(|post| post.token == "Bearer t0ken"));
}

fn lost(cluster: &Cluster) {
    let service = Service::start();
    backend(cluster, "fickle", &service, "");
    let items = ["{do: lost}", "{do: late}", "{do: shy}", "{do: moody, times: 8}", "{do: work}"];
    submit(cluster, "fickle", "fickle", &items, "retry: {max_attempts: 1}");
    finished(cluster, "fickle", items.len());
    assert_eq!((service.works().len(), service.keys().len()), (5, 5), "one there for each");
    let often = |does: &str| {
        let works = service.works();
        let work = works.iter().find(|work| work.body["do"] == does).expect("it was posted");
        service.posts().iter().filter(|post| post.key == work.key).count()
    };
    assert_eq!(["lost", "late", "shy", "work"].map(often), [2, 2, 1, 1], "sent again only without an answer");
}

fn refused(cluster: &Cluster) {
    let service = Service::start();
    backend(cluster, "strict", &service, "");
    let more = "retry: {max_attempts: 3, backoff: 10ms..20ms}";
    submit(cluster, "strict", "strict", &["{do: bad}", "{do: fail}", "{do: work}"], more);
    let status = over(cluster, "strict");
    assert_eq!(
        (&status["counts"]["finished"], &status["counts"]["failed"]),
        (&1.into(), &2.into()),
        "{status:#}"
    );
    let tries = &status["failed_attempts"];
    assert_eq!((&tries["refused"], &tries["exit"], &tries["backend"]), (&1.into(), &3.into(), &0.into()));
    let rows = rows(cluster, "strict");
    let message = |which: usize| rows[which]["message"].as_str().unwrap_or_default();
    assert!(message(0).contains("status 400") && message(0).contains("SENTINEL9 is not known"), "{rows:#?}");
    assert!(message(1).contains("tile 7 has no data"), "{rows:#?}");
    assert_eq!(service.posts().iter().filter(|post| post.status == Some(400)).count(), 1);
    let explained = cluster.json(&["job", "explain", "strict", "0", "-o", "json"]);
    assert!(explained["why"].to_string().contains("retry_on"), "{explained:#}");
}

fn throttled(cluster: &Cluster) {
    let (busy, free) = (Service::start(), Service::start());
    backend(cluster, "busy", &busy, "max_running: 3");
    backend(cluster, "free", &free, "");
    busy.throttle(3, 3);
    submit(cluster, "busy", "busy", &["{do: work}"; 6], "retry: {max_attempts: 1}");
    let shown = soon("it says that it is left alone", || {
        let row = cluster.json(&["backend", "status", "busy", "-o", "json"]);
        (row["state"] == "open").then_some(row)
    });
    assert!(shown["message"].as_str().is_some_and(|text| text.contains("status 429")), "{shown:#}");
    submit(cluster, "free", "free", &["{do: work}"; 6], "");
    finished(cluster, "free", 6);
    finished(cluster, "busy", 6);
    let status = cluster.json(&["job", "status", "busy", "-o", "json"]);
    assert_eq!(status["failed_attempts"].to_string().matches(":0").count(), 5, "{status:#}");
    let posts = busy.posts();
    let (last_refused, first_taken) = (
        posts.iter().rposition(|post| post.status == Some(429)).expect("it was refused"),
        posts.iter().position(|post| post.status == Some(201)).expect("it was taken"),
    );
    assert!(last_refused < first_taken, "{posts:#?}");
    let waited = posts[first_taken].at.duration_since(posts[0].at);
    assert!(waited >= Duration::from_secs(3), "{waited:?}");
    assert_eq!(busy.works().len(), 6);
}

fn down(cluster: &Cluster) {
    let service = Service::start();
    backend(cluster, "down", &service, "max_running: 2\nbreaker: {failures: 2, pause: 1s..2s}");
    service.down(true);
    submit(cluster, "patient", "down", &["{do: work}"; 3], "retry: {max_attempts: 9, backoff: 10ms..50ms}");
    soon("its breaker opens", || {
        let row = cluster.json(&["backend", "status", "down", "-o", "json"]);
        (row["state"] == "open" && row["message"].to_string().contains("status 500")).then_some(())
    });
    service.down(false);
    finished(cluster, "patient", 3);
    let status = cluster.json(&["job", "status", "patient", "-o", "json"]);
    assert!(status["failed_attempts"]["backend"].as_u64() >= Some(2), "{status:#}");
    assert_eq!(service.works().len(), 3);
}

fn limited(cluster: &Cluster) {
    let service = Service::start();
    backend(cluster, "narrow-service", &service, "max_running: 2");
    submit(cluster, "narrow", "narrow-service", &["{do: work, ms: 150}"; 10], "");
    finished(cluster, "narrow", 10);
    assert!((1..=2).contains(&service.most_at_once()), "{}", service.most_at_once());
}

fn deleted(cluster: &Cluster) {
    let service = Service::start();
    backend(cluster, "endless", &service, "");
    submit(cluster, "endless", "endless", &["{do: hang}"; 3], "");
    soon("all of it is there", || (service.running().len() == 3).then_some(()));
    cluster.cli(&["job", "cancel", "endless"]).ok();
    assert_eq!(over(cluster, "endless")["state"], "canceled");
    soon("none of it is there any more", || service.running().is_empty().then_some(()));
    submit(
        cluster,
        "slow",
        "endless",
        &["{do: hang}"],
        "timeout: 500ms\nretry: {max_attempts: 2, backoff: 10ms..20ms}",
    );
    let status = over(cluster, "slow");
    assert_eq!((&status["state"], &status["failed_attempts"]["timeout"]), (&"failed".into(), &2.into()));
    soon("nothing of that either", || service.running().is_empty().then_some(()));
    assert_eq!((service.works().len(), service.keys().len()), (5, 5));
}

/// The processes that post, on any node.
fn posting(cluster: &Cluster) -> Vec<Pid> {
    let all = processes::of(cluster.machine().place()).into_iter();
    let those = all.filter(|process| process.command.contains("builtin http"));
    those.filter_map(|process| Pid::from_raw(process.pid.cast_signed())).collect()
}

fn killed(cluster: &Cluster) {
    let service = Service::start();
    backend(cluster, "watched", &service, "");
    let items = ["{do: hang}", "{do: hang}", "{do: hang}", "{do: hang}"];
    let more = "retry: {max_attempts: 5, backoff: 10ms..50ms}\nnode_list_rules: [n1]";
    submit(cluster, "watched", "watched", &items, more);
    soon("all of it is there", || (service.running().len() == 4).then_some(()));
    for process in posting(cluster) {
        // One that has nothing to do may have ended by itself.
        let _gone = kill_process(process, Signal::KILL);
    }
    soon("what was left there is deleted", || {
        let works = service.works();
        (works.len() >= 8 && works[..4].iter().all(|work| work.deleted)).then_some(())
    });
    soon("each is there once", || {
        let items: Vec<_> = service.running().into_iter().map(|work| work.key).collect();
        (items.len() == 4).then_some(())
    });
    let counts = status(cluster, "watched")["counts"].clone();
    assert_eq!((&counts["running"], &counts["failed"]), (&4.into(), &0.into()), "{counts:#}");
    cluster.cli(&["job", "cancel", "watched"]).ok();
    over(cluster, "watched");
    soon("none of it is there any more", || service.running().is_empty().then_some(()));
}

fn wrong(cluster: &Cluster) {
    let service = Service::start();
    let refused = |document: &str, parts: &[&str]| {
        cluster.cli_with(&["apply", "-f", "-"], document.as_bytes()).exits(1).mentions(parts).calm();
    };
    let module = "kind: Module\nname: wrong\nversion: '1'\n";
    refused(&format!("{module}runtime: builtin:htp\n"), &["there is no builtin:htp", "builtin:http"]);
    refused(
        &format!("{module}runtime: builtin:http\nexec: {{command: /bin/true}}\n"),
        &["exec", "builtin:http is part of the binary"],
    );
    refused("kind: Bucket\nname: /a\nmodule: post\n", &["post@1 is for jobs", "it takes subtasks"]);
    let fails = |name: &str, config: &str, item: &str, wanted: &str| {
        let document = format!("kind: Backend\nname: {name}\nconfig: {config}\n");
        cluster.cli_with(&["backend", "apply", "-f", "-"], document.as_bytes()).ok();
        submit(cluster, name, name, &[item], "retry: {max_attempts: 3, backoff: 10ms..20ms}");
        let status = over(cluster, name);
        assert_eq!(status["failed_attempts"]["refused"], 1, "{status:#}");
        let message = rows(cluster, name)[0]["message"].clone();
        assert!(message.as_str().is_some_and(|text| text.contains(wanted)), "{wanted}: {message}");
    };
    let url = service.url();
    fails("no-url", "{}", "{do: work}", "config of backend no-url: missing field `url`");
    fails("misspelt", &format!("{{url: '{url}', pol: {{}}}}"), "{do: work}", "unknown field `pol`");
    let tile = format!("{{url: '{url}', submit: {{body: {{tile: '${{item.tile}}'}}}}}}");
    fails("no-tile", &tile, "{do: work}", "submit.body: the item has no field tile");
    let elsewhere = format!("{{url: '{url}', submit: {{path: jbos}}}}");
    fails("elsewhere", &elsewhere, "{do: work}", "status 404: ");
    let unlisted = format!("{{url: '{url}', headers: {{A: '${{secret.other}}'}}}}");
    cluster
        .cli_with(
            &["backend", "apply", "-f", "-"],
            format!("kind: Backend\nname: unlisted\nconfig: {unlisted}\n").as_bytes(),
        )
        .ok();
    submit(cluster, "unlisted", "unlisted", &["{do: work}"], "retry: {max_attempts: 1}");
    over(cluster, "unlisted");
    let message = rows(cluster, "unlisted")[0]["message"].to_string();
    assert!(message.contains("does not name secret other"), "{message}");
    let document = job("nowhere-to", "post", "subtasks: {items: [{do: work}]}");
    cluster
        .cli_with(&["job", "submit", "-f", "-"], document.as_bytes())
        .exits(1)
        .mentions(&["backends"])
        .calm();
    assert!(service.works().is_empty());
}
