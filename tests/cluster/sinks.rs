//! Sinks: what happens is delivered, each event at least once and in order, whoever leads and whoever is down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sheaf_model::MailSecurity;
use sheaf_tests::jobs::{job, over, submit};
use sheaf_tests::postbox::{Letter, Postbox};
use sheaf_tests::receiver::{Answer, Receiver, Request};
use sheaf_tests::tls::Tls;
use sheaf_tests::{Cases, Cluster, Machine, cli, wait_for};

use crate::https::{Issued, issued};
use crate::scene::event_kinds;
use crate::secure::core_limits;

/// What must stand nowhere: the key that webhooks are signed with …
const KEY: &str = "squeamish-ossifrage";
/// … and what mail servers are told.
const PASSWORD: &str = "correct-horse-battery";
/// Deliveries that were tried for a while are tried again after this at most.
pub(crate) const DELIVERED_WITHIN: Duration = Duration::from_secs(60);

/// Three agents with a key for secrets, which let sinks run one program.
pub(crate) fn cluster() -> Cluster {
    let machine = Arc::new(Machine::take());
    let key = machine.path("secrets.key");
    cli::run(&machine, &["secret", "keygen", &key.display().to_string()], b"").ok();
    let program = machine.path("notify").display().to_string();
    let script = format!(
        "#!/bin/sh\ncat >> {program}.told\ngrep '^Max core' /proc/self/limits >> {program}.cores\n\
         echo \"$SHEAF_SINK $SHEAF_TEST\" >> {program}.asked\n"
    );
    let path = machine.write("notify", &script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    let cluster = Cluster::plan(&machine, "", 3, |_, plan| {
        let key = key.display();
        plan.more = format!("[secrets]\nkey_file = \"{key}\"\n[sinks]\nexec_allow = [\"{program}\"]\n");
    });
    cluster.start_all();
    cluster.wait_ready();
    cluster
}

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cluster.apply(&modules());
    cases.run(
        "a sink is registered, shown, changed and deleted, and what is wrong is refused at once",
        || {
            documents(cluster);
        },
    );
    cases.run("a webhook hears all of a job in order, signed, and a test that says so", || webhook(cluster));
    cases.run("a receiver that drips holds nobody else, and redirects are not followed", || slow(cluster));
    cases.run("a program that the node allows is given events, and no other is run", || program(cluster));
    // A mail waits for what belongs into it; others go on meanwhile.
    let mut postbox = None;
    cases.run("2,500 subtasks fail, and a sink mails that", || postbox = Some(doomed(cluster)));
    cases.run(
        "mail by STARTTLS and by TLS after a login, webhooks by https, and only to whom the ca says",
        || {
            by_tls(cluster);
        },
    );
    cases.run("J23 2,500 failures are one mail, and no event's text is a header", || {
        mail(cluster, &postbox.expect("something failed"));
    });
    cases.run("J22 a receiver is down, the leader is killed, and each event arrives, in order", || {
        down(cluster);
    });
    cases.run("no key stands anywhere, and metrics say how deliveries went", || nowhere(cluster));
}

/// `quick` does what its item says; `broken` fails with the text of its item.
fn modules() -> String {
    let faulty = env!("CARGO_BIN_EXE_faulty");
    format!(
        "kind: Module\nname: quick\nversion: '1'\nruntime: exec\n\
         exec: {{command: /bin/sh, args: [-c, '${{item.do}}']}}\n---\n\
         kind: Module\nname: broken\nversion: '1'\nruntime: plugin\nworker: true\n\
         exec: {{command: '{faulty}', args: ['', worker], env: {{FAULTY_TRACE: /dev/null}}}}\n---\n"
    )
}

pub(crate) fn apply(cluster: &Cluster, document: &str) -> sheaf_tests::Output {
    cluster.cli_with(&["sink", "apply", "-f", "-"], document.as_bytes())
}

fn hook(name: &str, url: &str, more: &str) -> String {
    let webhook = format!("{{url: '{url}', secret: '${{secret.hook.key}}', timeout: 2s, batch: 4}}");
    format!("kind: Sink\nname: {name}\nwebhook: {webhook}\n{more}\n")
}

pub(crate) fn wait_status(
    cluster: &Cluster,
    name: &str,
    what: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Value {
    wait_for(&format!("sink {name}: {what}"), DELIVERED_WITHIN, || {
        let status = cluster.try_json(&["sink", "status", name, "-o", "json"])?;
        if is_so(&status) { Ok(status) } else { Err(format!("{status:#}")) }
    })
}

pub(crate) fn delete(cluster: &Cluster, name: &str) {
    cluster.cli(&["sink", "delete", name, "--yes"]).ok();
}

fn documents(cluster: &Cluster) {
    let wrong = "kind: Sink\nname: s\nwebhook: {url: 'ftp://h', secret: plainly, timeuot: 1s}\nfilter: {kinds: [job]}\n---\n\
                 kind: Sink\nname: t\n";
    let refused = apply(cluster, wrong).exits(1).mentions(&[
        "Sink s: webhook.url: it does not begin with https:// or http://",
        "webhook.secret: it would stand in the document in plain; ${secret.NAME}",
        "did you mean timeout?",
        "exactly one of webhook, mail and exec",
    ]);
    assert!(!refused.stderr.contains("plainly"), "{refused}");
    cluster
        .cli_with(&["bucket", "apply", "-f", "-"], b"kind: Sink\nname: s\nexec: {command: /x}\n")
        .exits(1)
        .mentions(&["Sink s: kind: is not of kind Bucket; `sheaf apply` takes documents of every kind"]);
    let warning = "Sink shown: secret hook.key does not exist; deliveries fail until you set it with `sheaf secret set hook.key`";
    apply(cluster, &hook("shown", "http://127.0.0.1:1/", "labels: {team: web}\nowner: ops"))
        .ok()
        .mentions(&[warning]);
    let yaml = cluster.cli(&["sink", "status", "shown", "-o", "yaml"]).ok().stdout;
    assert!(yaml.contains("${secret.hook.key}"), "{yaml}");
    let again = apply(cluster, &yaml).ok();
    assert!(again.stdout.contains("unchanged"), "{again}");
    let rows = cluster.json(&["sink", "list", "--where", "target=webhook,owner=ops", "-o", "json"]);
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows:#}");
    let rows = cluster.json(&["sink", "list", "-l", "team=web", "-o", "json"]);
    assert_eq!((rows.as_array().map(Vec::len), &rows[0]["name"]), (Some(1), &"shown".into()), "{rows:#}");
    let rows = cluster.json(&["sink", "list", "-l", "team=ops", "-o", "json"]);
    assert_eq!(rows.as_array().map(Vec::len), Some(0), "{rows:#}");
    submit(cluster, &job("something", "quick", "subtasks: {items: [{do: 'true'}]}"));
    let failing =
        wait_status(cluster, "shown", "the missing secret is said", |row| row["state"] == "failing");
    assert!(
        failing["last_error"].as_str().is_some_and(|text| text.contains("secret hook.key does not exist")),
        "{failing:#}"
    );
    wait_for("history says so", DELIVERED_WITHIN, || {
        let kinds = event_kinds(cluster, "shown");
        if kinds.iter().any(|kind| kind == "sink.failing") { Ok(()) } else { Err(format!("{kinds:?}")) }
    });
    apply(cluster, &(yaml + "suspended: true\n")).ok();
    wait_status(cluster, "shown", "it is suspended", |row| row["state"] == "suspended");
    let said = cluster.json(&["query", "SELECT name, state, target FROM sinks", "-o", "json"]);
    assert_eq!(said[0]["state"], "suspended", "{said:#}");
    delete(cluster, "shown");
    cluster.cli(&["sink", "status", "shown"]).exits(3).mentions(&["there is no sink shown"]);
    let kinds = event_kinds(cluster, "shown");
    for kind in ["sink.applied", "sink.failing", "sink.deleted"] {
        assert!(kinds.contains(&kind.to_owned()), "{kind} in {kinds:?}");
    }
    cluster.cli_with(&["secret", "set", "hook.key"], KEY.as_bytes()).ok();
}

/// The events of what was heard, each request's signature looked at.
fn events(heard: &[Request]) -> Vec<Value> {
    let mut all = Vec::new();
    for request in heard {
        let signature = request.headers.get("sheaf-signature").expect("it is signed");
        let (t, v1) = signature.split_once(",v1=").expect("t=…,v1=…");
        let t = t.strip_prefix("t=").expect("t=…");
        let made = sheaf_seal::hmac_sha256(KEY.as_bytes(), &[t.as_bytes(), b".", request.body.as_bytes()]);
        assert_eq!(made, v1);
        let body: Value = serde_json::from_str(&request.body).expect("JSON");
        assert_eq!(body["delivery"].as_str(), request.headers.get("sheaf-delivery").map(String::as_str));
        all.extend(body["events"].as_array().expect("events").iter().cloned());
    }
    all
}

/// The ids of events in the order in which each came first.
fn first_seen(events: &[Value]) -> Vec<(u64, String)> {
    let mut seen = BTreeSet::new();
    let place = |event: &Value| {
        (event["revision"].as_u64().expect("a revision"), event["id"].as_str().expect("an id").to_owned())
    };
    events.iter().map(place).filter(|(_, id)| seen.insert(id.clone())).collect()
}

fn in_order(seen: &[(u64, String)]) {
    for pair in seen.windows(2) {
        assert!(pair[0].0 <= pair[1].0, "{pair:?} came the wrong way round");
    }
}

/// Ids of a job's lines of history, as the cluster has them.
fn history(cluster: &Cluster, name: &str) -> Vec<String> {
    let sql = format!(
        "SELECT revision || '.' || n AS id FROM events WHERE subject = '{name}' ORDER BY revision, n"
    );
    let rows = cluster.json(&["query", &sql, "-o", "json"]);
    let rows = rows.as_array().expect("rows").clone();
    rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect()
}

fn failing_items(count: usize) -> String {
    vec!["{do: 'echo no licence >&2; exit 3'}"; count].join(", ")
}

fn webhook(cluster: &Cluster) {
    let receiver = Receiver::start();
    apply(cluster, &hook("hook", &receiver.url(), "filter: {subjects: ['seen-*']}")).ok();
    let items = format!("{}, {{do: 'true'}}, {{do: 'true'}}", failing_items(6));
    let retry = "retry: {max_attempts: 2, backoff: 10ms..20ms}";
    submit(cluster, &job("seen-1", "quick", &format!("subtasks: {{items: [{items}]}}\n{retry}")));
    submit(cluster, &job("unseen", "quick", "subtasks: {items: [{do: 'true'}]}"));
    assert_eq!(over(cluster, "seen-1")["counts"]["failed"], 6);
    over(cluster, "unseen");
    let wanted: BTreeSet<String> = history(cluster, "seen-1").into_iter().collect();
    assert!(wanted.len() >= 3, "{wanted:?}");
    wait_for("all of the job is heard", DELIVERED_WITHIN, || {
        let events = events(&receiver.heard());
        let count = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
        let ids: BTreeSet<String> = first_seen(&events).into_iter().map(|(_, id)| id).collect();
        let (failed, retried) = (count("subtask.failed"), count("subtask.retried"));
        if ids.is_superset(&wanted) && failed >= 6 && retried >= 6 {
            Ok(())
        } else {
            Err(format!("{events:#?}"))
        }
    });
    let heard = receiver.heard();
    let all = events(&heard);
    in_order(&first_seen(&all));
    assert!(all.iter().all(|event| event["subject"] == "seen-1"), "{all:#?}");
    assert!(
        heard.iter().all(|request| events(std::slice::from_ref(request)).len() <= 4),
        "a batch is 4 at most"
    );
    let failed = all.iter().find(|event| event["kind"] == "subtask.failed").expect("seen above");
    assert_eq!(
        (failed["class"].as_str(), failed["exit_code"].as_i64()),
        (Some("exit"), Some(3)),
        "{failed:#}"
    );
    assert!(
        failed["fingerprint"].is_string() && failed["node"].is_string() && failed["job"] == "seen-1",
        "{failed:#}"
    );
    let idle = wait_status(cluster, "hook", "all is delivered", |row| row["state"] == "idle");
    assert_eq!((idle["lag_events"].as_u64(), idle["lag_seconds"].as_u64()), (Some(0), Some(0)), "{idle:#}");
    wait_status(cluster, "hook", "that is recorded", |row| {
        row["delivered"].as_u64() >= Some(all.len() as u64)
    });
    let tested = cluster.json(&["sink", "test", "hook", "-o", "json"]);
    assert_eq!(tested[0]["outcome"], "delivered", "{tested:#}");
    let last = receiver.heard().pop().expect("the test was heard");
    let body: Value = serde_json::from_str(&last.body).expect("JSON");
    assert_eq!((body["test"].as_bool(), body["events"][0]["kind"].as_str()), (Some(true), Some("sink.test")));
    delete(cluster, "hook");
}

fn slow(cluster: &Cluster) {
    let (drips, quick) = (Receiver::start(), Receiver::start());
    drips.answers(Answer::Drips);
    for (name, receiver) in [("drips", &drips), ("quick", &quick)] {
        apply(cluster, &hook(name, &receiver.url(), "filter: {kinds: ['job.*']}")).ok();
    }
    for n in 0..3 {
        let name = format!("beside-{n}");
        submit(cluster, &job(&name, "quick", "subtasks: {items: [{do: 'true'}]}"));
        over(cluster, &name);
    }
    let wanted = history(cluster, "beside-2");
    wait_for("the other one hears all", DELIVERED_WITHIN, || {
        let ids: BTreeSet<String> =
            first_seen(&events(&quick.heard())).into_iter().map(|(_, id)| id).collect();
        if wanted.iter().all(|id| ids.contains(id)) { Ok(()) } else { Err(format!("{ids:?}")) }
    });
    let row = wait_status(cluster, "drips", "it fails, and more and more waits", |row| {
        row["state"] == "failing" && row["lag_events"].as_u64() >= Some(9)
    });
    assert!(row["last_error"].as_str().is_some_and(|text| text.contains("no answer within 2s")), "{row:#}");
    cluster.cli(&["sink", "test", "drips"]).exits(1).mentions(&["no answer within 2s"]);
    drips.answers(Answer::Head(format!("302 Found\r\nLocation: {}", quick.url())));
    let before = quick.heard().len();
    cluster.cli(&["sink", "test", "drips"]).exits(1).mentions(&["status 302", "redirects are not followed"]);
    assert_eq!(quick.heard().len(), before, "nobody went where it was redirected to");
    drips.answers(Answer::Head("200 OK".to_owned()));
    let row = wait_status(cluster, "drips", "it is well again", |row| row["state"] == "idle");
    assert!(row["failing_since"].is_null(), "{row:#}");
    let said = event_kinds(cluster, "drips");
    let told: Vec<&str> = said.iter().map(String::as_str).filter(|kind| *kind != "sink.applied").collect();
    assert_eq!(told, ["sink.failing", "sink.recovered"]);
    for name in ["drips", "quick"] {
        delete(cluster, name);
    }
}

fn program(cluster: &Cluster) {
    let program = cluster.machine().path("notify").display().to_string();
    let filter = "filter: {kinds: [job.submitted, job.finished], subjects: [told]}";
    apply(cluster, &format!("kind: Sink\nname: told\nexec: {{command: '{program}'}}\n{filter}\n")).ok();
    apply(
        cluster,
        "kind: Sink\nname: refused\nexec: {command: /bin/sh, args: [-c, 'id > /tmp/x']}\nsuspended: true\n",
    )
    .ok();
    cluster
        .cli(&["sink", "test", "refused"])
        .exits(1)
        .mentions(&["does not let sinks run /bin/sh", "[sinks] exec_allow"]);
    submit(cluster, &job("told", "quick", "subtasks: {items: [{do: 'true'}]}"));
    over(cluster, "told");
    let told = format!("{program}.told");
    wait_for("the program is told", DELIVERED_WITHIN, || {
        let text = fs::read_to_string(&told).unwrap_or_default();
        let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let kinds: Vec<&str> = lines.iter().filter_map(|line| line["kind"].as_str()).collect();
        if kinds == ["job.submitted", "job.finished"] { Ok(()) } else { Err(text) }
    });
    cluster.cli(&["sink", "test", "told"]).ok();
    let asked = fs::read_to_string(format!("{program}.asked")).unwrap_or_default();
    assert!(asked.contains("told 0\n") && asked.ends_with("told 1\n"), "{asked}");
    // Agents leave none, and what they run may, as without them.
    let cores = fs::read_to_string(format!("{program}.cores")).expect("it writes down what it may leave");
    let [soft, _] = core_limits(std::process::id());
    let has = |line: &str| line.split_whitespace().nth(4) == Some(soft.as_str());
    assert!(!cores.is_empty() && cores.lines().all(has), "{soft} bytes: {cores}");
    for name in ["told", "refused"] {
        delete(cluster, name);
    }
}

fn letters_about<'l>(letters: &'l [Letter], text: &str) -> Vec<&'l Letter> {
    letters
        .iter()
        .filter(|letter| letter.header("Subject").is_some_and(|subject| subject.contains(text)))
        .collect()
}

/// Where the mails of the sink `ops` come to.
fn doomed(cluster: &Cluster) -> Postbox {
    let postbox = Postbox::start();
    let mail = format!(
        "{{server: '{}', security: none, from: sheaf@example.org, to: [ops@example.org, night@example.org], digest: 15s}}",
        postbox.server()
    );
    let filter = "filter: {kinds: [subtask.failed, job.failed]}";
    apply(cluster, &format!("kind: Sink\nname: ops\nmail: {mail}\n{filter}\n")).ok();
    cluster.cli(&["sink", "test", "ops"]).ok();
    assert_eq!(letters_about(&postbox.letters(), "test of sink ops").len(), 1);
    let item = |text: &str| format!("{{do: '{text}'}}");
    let mut items: Vec<String> = (0..2_497).map(|n| item(&format!("cannot read /data/{n}.tif"))).collect();
    items.extend((0..2).map(|_| item("no licence")));
    items.push("{do: \"boom\\r\\nBcc: everybody@example.org\\r\\n\\r\\n.\\r\\nQUIT\"}".to_owned());
    let lines: String = items.iter().map(|item| format!("- {item}\n")).collect();
    let more = format!("subtasks:\n  items:\n{lines}retry: {{max_attempts: 1}}");
    submit(cluster, &job("doomed", "broken", &more.replace("\n- ", "\n  - ")));
    assert_eq!(over(cluster, "doomed")["counts"]["failed"], 2_500);
    postbox
}

fn mail(cluster: &Cluster, postbox: &Postbox) {
    wait_for("the mail comes", DELIVERED_WITHIN, || {
        let letters = postbox.letters();
        if letters_about(&letters, "job doomed").is_empty() {
            Err(format!("{} mails", letters.len()))
        } else {
            Ok(())
        }
    });
    wait_status(cluster, "ops", "all is delivered", |row| row["state"] == "idle");
    let letters = postbox.letters();
    let about = letters_about(&letters, "job doomed");
    assert_eq!(
        about.len(),
        1,
        "one mail, not {}: {:?}",
        about.len(),
        about.iter().map(|l| l.header("Subject")).collect::<Vec<_>>()
    );
    let letter = about[0];
    assert_eq!((letter.from.as_str(), letter.to.len()), ("sheaf@example.org", 2));
    assert_eq!(letter.header("Subject"), Some("[sheaf] job doomed: 2500 subtasks failed, job.failed"));
    let text = letter.text();
    for part in
        ["2497 × exit: cannot read /data/", "2 × exit: no licence", "1 × exit: boom", "job.failed doomed"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let names: BTreeMap<&str, usize> = letter
        .headers()
        .into_iter()
        .filter_map(|line| line.split_once(": "))
        .fold(BTreeMap::new(), |mut names, (name, _)| {
            *names.entry(name).or_default() += 1;
            names
        });
    assert!(!names.contains_key("Bcc") && names.values().all(|count| *count == 1), "{names:?}");
    delete(cluster, "ops");
}

/// What a test of the sink says; it failed if nothing is delivered.
fn tested(cluster: &Cluster, document: &str) -> Result<(), String> {
    apply(cluster, &format!("{document}filter: {{subjects: [nothing]}}\n")).ok();
    let output = cluster.cli(&["sink", "test", "secured"]).calm();
    if output.code == 0 { Ok(()) } else { Err(output.stderr) }
}

fn by_tls(cluster: &Cluster) {
    let (known, stranger) = (issued(&["127.0.0.1"]), issued(&["127.0.0.1"]));
    let tls = Tls::showing(&known.certificate, &known.key);
    for (name, value) in [("mail.password", PASSWORD), ("mail.wrong", "incorrect")] {
        cluster.cli_with(&["secret", "set", name], value.as_bytes()).ok();
    }
    let mail = |server: &str, more: &str, password: &str, ca: &Issued| {
        let ca = &ca.authority;
        let login = format!("user: ops, password: '${{secret.{password}}}'");
        let who = "from: sheaf@example.org, to: [ops@example.org]";
        let document = format!("mail: {{server: '{server}', {more}{login}, {who}, ca: {ca:?}}}\n");
        tested(cluster, &format!("kind: Sink\nname: secured\n{document}"))
    };
    let refused = |outcome: Result<(), String>, why: &str| {
        let said = outcome.expect_err(why);
        assert!(said.contains(why) && !said.contains("incorrect"), "{why}: {said}");
    };
    let postbox = Postbox::secured(&tls, MailSecurity::StartTls, "ops", PASSWORD);
    let (server, right) = (postbox.server(), "mail.password");
    mail(&server, "", right, &known).expect("STARTTLS is how mail is sent unless the document says else");
    refused(mail(&server, "", right, &stranger), "comes from an authority that is not trusted");
    let elsewhere = server.replace("127.0.0.1", "localhost");
    refused(mail(&elsewhere, "", right, &known), "its certificate is of another name");
    refused(mail(&server, "", "mail.wrong", &known), "answered 535 to AUTH PLAIN");
    assert_eq!(letters_about(&postbox.letters(), "test of sink secured").len(), 1);
    let postbox = Postbox::secured(&tls, MailSecurity::Tls, "ops", PASSWORD);
    mail(&postbox.server(), "security: tls, ", right, &known).expect("TLS from the first byte");
    assert_eq!(letters_about(&postbox.letters(), "test of sink secured").len(), 1);

    let receiver = Receiver::by_https(&tls);
    let post = |ca: &Issued| {
        let (url, ca) = (receiver.url(), &ca.authority);
        let webhook = format!("{{url: '{url}', secret: '${{secret.hook.key}}', ca: {ca:?}}}");
        tested(cluster, &format!("kind: Sink\nname: secured\nwebhook: {webhook}\n"))
    };
    refused(post(&stranger), "comes from an authority that is not trusted");
    post(&known).expect("the server's certificate comes from whom the document names");
    assert_eq!(events(&receiver.heard()).len(), 1);
    delete(cluster, "secured");
}

fn down(cluster: &Cluster) {
    let mut receiver = Receiver::start();
    apply(cluster, &hook("steady", &receiver.url(), "filter: {subjects: ['j22-*']}")).ok();
    let one = |cluster: &Cluster, n: usize| {
        let items = format!("{}, {{do: 'true'}}", failing_items(3));
        let name = format!("j22-{n}");
        submit(
            cluster,
            &job(&name, "quick", &format!("subtasks: {{items: [{items}]}}\nretry: {{max_attempts: 1}}")),
        );
        over(cluster, &name);
    };
    one(cluster, 0);
    wait_for("the first is heard", DELIVERED_WITHIN, || {
        if receiver.heard().is_empty() { Err("nothing".to_owned()) } else { Ok(()) }
    });
    receiver.go_down();
    one(cluster, 1);
    // The first try may still find the former connection, and its end.
    let row = wait_status(cluster, "steady", "it fails, as nobody is there", |row| {
        let error = row["last_error"].as_str().unwrap_or_default();
        row["state"] == "failing" && !row["next_try"].is_null() && error.contains("connect to 127.0.0.1")
    });
    let told = cluster.leader().metrics().expect("it answers");
    for name in ["sheaf_sink_failures_total{sink=\"steady\"}", "sheaf_sink_lag_events{sink=\"steady\"}"] {
        assert!(told.contains(name), "what the alert asks for: {name} in {told}");
    }
    let cursor = row["cursor"].as_u64();
    let leader = cluster.leader().name();
    cluster.named(&leader).kill();
    cluster.leader();
    one(cluster, 2);
    let row = wait_status(cluster, "steady", "the next leader tries, too", |row| {
        row["state"] == "failing" && row["lag_events"].as_u64() > Some(3)
    });
    assert!(row["cursor"].as_u64() >= cursor && !row["failing_since"].is_null(), "{row:#}");
    receiver.come_up();
    cluster.named(&leader).start();
    cluster.wait_back(cluster.named(&leader));
    // And once more, while deliveries go on.
    let next = cluster.leader().name();
    cluster.named(&next).kill();
    cluster.leader();
    one(cluster, 3);
    cluster.named(&next).start();
    cluster.wait_back(cluster.named(&next));
    let wanted: Vec<String> = (0..4).flat_map(|n| history(cluster, &format!("j22-{n}"))).collect();
    wait_for("each event is heard", DELIVERED_WITHIN, || {
        let taken: Vec<Request> = receiver.heard().into_iter().filter(|request| request.taken).collect();
        let events = events(&taken);
        let ids: BTreeSet<String> = first_seen(&events).into_iter().map(|(_, id)| id).collect();
        let failed: BTreeSet<String> = events
            .iter()
            .filter(|event| event["kind"] == "subtask.failed")
            .filter_map(|event| event["id"].as_str().map(str::to_owned))
            .collect();
        let missing: Vec<&String> = wanted.iter().filter(|id| !ids.contains(*id)).collect();
        if missing.is_empty() && failed.len() >= 12 {
            Ok(())
        } else {
            Err(format!("{missing:?}, {} failed", failed.len()))
        }
    });
    in_order(&first_seen(&events(&receiver.heard())));
    wait_status(cluster, "steady", "all is delivered", |row| {
        row["state"] == "idle" && row["failing_since"].is_null()
    });
}

fn nowhere(cluster: &Cluster) {
    let mut texts = Vec::new();
    for command in [
        &["sink", "list", "-o", "json"][..],
        &["sink", "status", "steady", "-o", "json"],
        &["sink", "status", "steady", "-o", "yaml"],
        &["query", "SELECT * FROM sinks", "-o", "json"],
        &["events", "--all", "-o", "json"],
    ] {
        texts.push(cluster.cli(command).ok().stdout);
    }
    texts.extend(cluster.agents().iter().map(sheaf_tests::Agent::log));
    for text in &texts {
        assert!(!text.contains(KEY) && !text.contains(PASSWORD), "the key or the password in {text}");
    }
    cluster.cli(&["secret", "delete", "hook.key", "--yes"]).exits(1).mentions(&["Sink steady"]);
    let text = cluster.leader().metrics().expect("it answers");
    for name in ["sheaf_sink_delivered_total{sink=\"steady\"}", "sheaf_sink_lag_events{sink=\"steady\"} 0"] {
        assert!(text.contains(name), "{name} in {text}");
    }
    delete(cluster, "steady");
}
