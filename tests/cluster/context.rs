//! What plugins ask of the cluster: objects, checkpoints, lines for the owner, emergencies; and what becomes of it when
//! their agent, their node or their epoch is gone.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use sheaf_model::{BucketName, Claim, Epoch, ObjectKey};
use sheaf_tests::cluster::SOON;
use sheaf_tests::wait::watch_for;
use sheaf_tests::{Agent, Cases, Cluster, wait_for};
use sheaf_wire::instance::{GetObject, PutObject};
use sheaf_wire::{ApiError, Client, Options};

use crate::plugin::{bucket, example};
use crate::scene::{affinity, epoch, event_kinds, explain, names, only_node, pids};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    let asking = env!("CARGO_BIN_EXE_asking");
    let collector = example("collector").display().to_string();
    for (name, program) in [("asking", asking), ("collects", &collector)] {
        cluster.apply(&format!(
            "kind: Module\nname: {name}\nversion: '1'\nruntime: plugin\nexec: {{command: '{program}'}}\n---\n"
        ));
    }
    cases.run("a plugin keeps objects in the cluster, and what is wrong or too much is said", || {
        objects(cluster);
    });
    cases.run("what a plugin keeps is there on the next node, and goes with its bucket", || moves(cluster));
    cases.run("a write of an epoch that is over is refused", || fenced(cluster));
    cases.run("what a plugin asks waits for an agent that restarts", || agent_restarts(cluster));
    cases.run("every node of a multi-node bucket writes, and has a checkpoint of its own", || multi(cluster));
    cases.run("a plugin adds lines to the history, and not too many", || lines(cluster));
    let mut suspended = None;
    cases.run("A36 a plugin puts its bucket into quarantine", || suspended = Some(a36(cluster)));
    // The quarantine comes to its end meanwhile.
    cases.run("A37 a plugin disables its bucket", || a37(cluster));
    cases.run("A36 what an operator has suspended does not go on when its quarantine is over", || {
        stays_suspended(cluster, suspended.expect("it was suspended"));
    });
}

/// A bucket of the module `asking`, and what its processes are told to ask.
pub(crate) struct Asker<'c> {
    cluster: &'c Cluster,
    bucket: &'static str,
    dir: PathBuf,
    /// Of its config, beside the directory.
    config: &'static str,
}

impl<'c> Asker<'c> {
    fn start(cluster: &'c Cluster, bucket: &'static str, more: &str) -> Self {
        Self::start_with(cluster, bucket, "x: y", more)
    }

    /// The same with something in its config.
    pub(crate) fn start_with(
        cluster: &'c Cluster,
        bucket: &'static str,
        config: &'static str,
        more: &str,
    ) -> Self {
        let asker = Self { config, ..Self::of(cluster, bucket) };
        cluster.apply_and_wait(&asker.document(more));
        asker
    }

    /// One that runs already.
    pub(crate) fn of(cluster: &'c Cluster, bucket: &'static str) -> Self {
        let dir = cluster.machine().path(&format!("asks{}", bucket.replace('/', "+")));
        Self { cluster, bucket, dir, config: "x: y" }
    }

    fn document(&self, more: &str) -> String {
        let config = format!("{{dir: '{}', {}}}", self.dir.display(), self.config);
        bucket(self.bucket, "asking", &config, more)
    }

    /// Tells the process on a node to ask something, and does not wait for it.
    fn begin(&self, node: &str, name: &str, question: &str) -> PathBuf {
        let path = self.dir.join(node).join(name);
        let new = path.with_extension("asks");
        fs::write(&new, question).expect("a question");
        fs::rename(new, path.with_extension("ask")).expect("a question");
        path.with_extension("answer")
    }

    pub(crate) fn ask_on(&self, node: &str, question: &str) -> String {
        answer(question, &self.begin(node, "question", question))
    }

    /// Asks where the bucket runs.
    fn ask(&self, question: &str) -> String {
        self.ask_on(&only_node(&self.cluster.status(self.bucket)), question)
    }

    /// Asks, and expects that it is done; what was answered.
    pub(crate) fn done(&self, question: &str) -> String {
        let answer = self.ask(question);
        answer.strip_prefix("ok").unwrap_or_else(|| panic!("{question}: {answer}")).trim().to_owned()
    }

    /// Asks for what ends the process, which may be too late to write the answer down.
    fn last_word(&self, question: &str) {
        self.begin(&only_node(&self.cluster.status(self.bucket)), "last", question);
    }

    pub(crate) fn refused(&self, question: &str, why: &str, text: &str) {
        let answer = self.ask(question);
        assert!(
            answer.starts_with(&format!("Some({why}) ")) && answer.contains(text),
            "{question}: {answer}"
        );
    }
}

fn answer(question: &str, path: &PathBuf) -> String {
    let answer = wait_for(&format!("an answer to {question}"), Duration::from_secs(40), || {
        fs::read_to_string(path).map_err(|error| error.to_string())
    });
    fs::remove_file(path).expect("the answer is there");
    answer
}

fn objects(cluster: &Cluster) {
    let asker = Asker::start(cluster, "/objects", "");
    assert_eq!(asker.done("get k"), "none");
    let first = asker.done("set k 0 one");
    assert_eq!(asker.done("get k"), format!("{first} one"));
    asker.refused("set k 0 two", "Conflict", &format!("exists, at version {first}"));
    let second = asker.done(&format!("set k {first} two"));
    asker.refused(
        &format!("set k {first} three"),
        "Conflict",
        &format!("is at version {second}, not {first}"),
    );
    for key in ["list/a", "list/b"] {
        asker.done(&format!("put {key} x"));
    }
    assert_eq!(asker.done("list list/"), "list/a list/b");
    let status = cluster.status("/objects");
    assert_eq!((&status["objects"], &status["object_bytes"]), (&3.into(), &18.into()), "{status:#}");
    asker.done("note somewhere");
    assert_eq!(asker.done("list"), "k list/a list/b", "the checkpoint is not among them");
    let followed = asker.done("follow list/ list/c");
    assert_eq!(followed, "reset put:list/a put:list/b synced put:list/c synced gone:list/c synced");
    asker.done("delete k");
    assert_eq!(asker.done("get k"), "none");
    asker.refused("put .checkpoint x", "Invalid", "those are Sheaf's own");
    asker.refused(&format!("put {} x", "k".repeat(257)), "Invalid", "longer than 256");
    asker.done("big large 524288");
    asker.refused("big large 524289", "Exhausted", "would have 524289 bytes; at most 524288 are kept");
    cluster.delete(&["/objects"]);
}

fn moves(cluster: &Cluster) {
    let asker = Asker::start(cluster, "/moves", "");
    let version = asker.done("put k kept");
    asker.done("note page-7");
    let from = only_node(&cluster.status("/moves"));
    cluster.cli(&["bucket", "move", "/moves", "--wait"]).ok();
    let to = only_node(&cluster.status("/moves"));
    assert_ne!(from, to);
    assert_eq!(asker.done("get k"), format!("{version} kept"));
    assert_eq!(asker.done("checkpoint"), "page-7");
    // It becomes multi-node, and begins anew for it: its node goes on from there. Back again what was noted last counts.
    let before = pids(&cluster.status("/moves"))[&to];
    cluster.apply(&asker.document("multi_node: true"));
    cluster.wait_status("/moves", "all nodes run it, and its own anew", |status| {
        let pids = pids(status);
        pids.len() == 3 && pids[&to] != before
    });
    let on = |question: &str| asker.ask_on(&to, question);
    assert_eq!((on("checkpoint"), on("note page-8")), ("ok page-7".to_owned(), "ok".to_owned()));
    cluster.apply_and_wait(&asker.document(""));
    assert_eq!(asker.done("checkpoint"), "page-8");
    cluster.delete(&["/moves"]);
    let asker = Asker::start(cluster, "/moves", "");
    assert_eq!((asker.done("get k"), asker.done("checkpoint")), ("none".to_owned(), String::new()));
    cluster.delete(&["/moves"]);
}

/// A client of an agent, and a runtime to call it on.
fn client(agent: &Agent) -> (tokio::runtime::Runtime, Client) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client =
        runtime.block_on(Client::connect(&agent.address(), Options::default())).expect("a connection");
    (runtime, client)
}

fn fenced(cluster: &Cluster) {
    let asker = Asker::start(cluster, "/fenced", "");
    let status = cluster.status("/fenced");
    let (old, node) = (epoch(&status), only_node(&status));
    let claim = Claim { node: cluster.node_id(&node), epoch: Some(Epoch(old)) };
    let ask = |value: &[u8]| PutObject {
        bucket: BucketName::new("/fenced").expect("a name"),
        key: ObjectKey::new("k").expect("a key"),
        value: value.into(),
        base: None,
        claim,
        token: 0,
    };
    // Whichever node is asked: the leader decides.
    for agent in cluster.agents() {
        let (runtime, client) = client(agent);
        runtime.block_on(client.put_object(ask(b"in time"))).expect("it is bound");
    }
    cluster.cli(&["bucket", "move", "/fenced", "--wait"]).ok();
    let new = epoch(&cluster.status("/fenced"));
    assert!(new > old);
    for agent in cluster.agents() {
        let (runtime, client) = client(agent);
        match runtime.block_on(client.put_object(ask(b"too late"))) {
            Err(ApiError::Precondition(why)) => {
                assert!(
                    why.contains(&format!("epoch {old} of bucket /fenced on node {node} is over")),
                    "{why}"
                );
                assert!(why.contains(&format!("under epoch {new}")), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(asker.done("get k").ends_with(" in time"));
    cluster.delete(&["/fenced"]);
}

fn agent_restarts(cluster: &Cluster) {
    let asker = Asker::start(cluster, "/away", "node_list_rules: [n3]");
    let before = cluster.status("/away");
    let agent = cluster.named("n3");
    agent.stop();
    let (put, get) = (asker.begin("n3", "put", "put k v"), asker.begin("n3", "get", "get other"));
    let refused = || fs::read_to_string(&put).is_ok();
    watch_for(
        "no answer",
        Duration::from_secs(1),
        || {
            if refused() { Err(answer("put", &put)) } else { Ok(()) }
        },
    );
    agent.start();
    assert!(answer("put k v", &put).starts_with("ok "));
    assert_eq!(answer("get other", &get), "ok none");
    cluster.wait_back(agent);
    let after = cluster.wait_state("/away", "running");
    assert_eq!(
        (pids(&before), epoch(&before)),
        (pids(&after), epoch(&after)),
        "the same process all the while"
    );
    cluster.delete(&["/away"]);
}

fn multi(cluster: &Cluster) {
    let asker = Asker::start(cluster, "/many", "multi_node: true");
    let done = |node: &str, question: &str| {
        let answer = asker.ask_on(node, question);
        answer.strip_prefix("ok").unwrap_or_else(|| panic!("{node}: {question}: {answer}")).trim().to_owned()
    };
    for node in ["n1", "n2", "n3"] {
        done(node, &format!("put of/{node} {node}"));
        done(node, &format!("note {node}"));
    }
    for node in ["n1", "n2", "n3"] {
        assert_eq!(done(node, "list of/"), "of/n1 of/n2 of/n3", "whoever wrote them");
        assert_eq!(done(node, "checkpoint"), node);
        assert_eq!(done(node, "peers"), "n1 n2 n3");
    }
    // One of two wins.
    let version = done("n1", "set lock 0 n1");
    let lost = asker.ask_on("n2", "set lock 0 n2");
    assert!(lost.starts_with("Some(Conflict) "), "{lost}");
    assert_eq!(done("n3", "get lock"), format!("{version} n1"));
    // A quarantine stops all of them.
    asker.begin("n2", "last", "quarantine 2500 all of us");
    cluster.wait_status("/many", "nothing of it runs anywhere", |status| {
        status["state"] == "quarantined" && affinity(status).is_empty()
    });
    let status = cluster.wait_state("/many", "running");
    assert_eq!(affinity(&status), names(1..=3));
    cluster.delete(&["/many"]);
}

fn lines(cluster: &Cluster) {
    let asker = Asker::start(cluster, "/lines", "");
    for number in 1..=10 {
        asker.done(&format!("line progress line {number}"));
    }
    asker.refused("line progress one more", "Exhausted", "there is room in");
    let asker = Asker::start(cluster, "/lines/other", "");
    asker.refused("line Progress x", "Invalid", "one word of a-z");
    let filter = "subject=/lines";
    let events = cluster.cli(&["events", "--all", "--where", filter, "-o", "json"]).ok().json_lines();
    let lines: Vec<&Value> = events.iter().filter(|event| event["kind"] == "bucket.line").collect();
    assert_eq!(lines.len(), 10, "{events:?}");
    assert_eq!((&lines[2]["after"], &lines[2]["message"]), (&"progress".into(), &"line 3".into()));
    let actor = lines[2]["actor"].as_str().unwrap_or_default();
    assert!(actor.starts_with("module:asking@1 on n"), "{actor}");
    cluster.delete(&["/lines", "/lines/other"]);
}

/// A36. At last it is suspended, since now.
fn a36(cluster: &Cluster) -> Instant {
    let asker = Asker::start(cluster, "/a36", "");
    let before = cluster.status("/a36");
    asker.refused("quarantine 99999999999 too long", "Invalid", "at most 366 days ahead");
    asker.last_word("quarantine 2500 the source asks for a pause");
    let status = cluster.wait_state("/a36", "quarantined");
    assert_eq!(status["emergency"], "the source asks for a pause");
    assert!(status["quarantined_until"].as_str().is_some_and(|until| until.ends_with('Z')), "{status:#}");
    let message = status["message"].to_string();
    assert!(message.contains("until 2") && message.contains("the source asks for a pause"), "{status:#}");
    assert!(affinity(&status).is_empty() && status["suspended"] == false, "{status:#}");
    let explained = explain(cluster, "/a36")["message"].to_string();
    assert!(explained.contains("the source asks for a pause"), "{explained}");
    let after = cluster.wait_state("/a36", "running");
    assert!(epoch(&after) > epoch(&before));
    let kinds = event_kinds(cluster, "/a36");
    let has = |kind: &str| kinds.iter().any(|it| it == kind);
    assert!(has("bucket.quarantined") && has("bucket.resumed"), "{kinds:?}");
    // An operator has the last word, either way.
    asker.last_word("quarantine 600000 much longer");
    cluster.wait_state("/a36", "quarantined");
    cluster.cli(&["bucket", "resume", "/a36", "--wait"]).ok();
    cluster.wait_state("/a36", "running");
    asker.last_word("quarantine 2500 shortly");
    cluster.wait_state("/a36", "quarantined");
    cluster.cli(&["bucket", "suspend", "/a36"]).ok();
    cluster.wait_state("/a36", "suspended");
    Instant::now()
}

fn stays_suspended(cluster: &Cluster, since: Instant) {
    let state = || {
        let status = cluster.status("/a36");
        if status["state"] == "suspended" { Ok(()) } else { Err(format!("{status:#}")) }
    };
    let rest = Duration::from_millis(3500).saturating_sub(since.elapsed());
    watch_for("it stays suspended", rest, state);
    assert_eq!(state(), Ok(()));
    cluster.delete(&["/a36"]);
}

/// A37
fn a37(cluster: &Cluster) {
    let asker = Asker::start(cluster, "/a37", "");
    asker.last_word("disable . the licence is over");
    let status = cluster.wait_state("/a37", "suspended");
    assert_eq!(status["suspended"], true);
    assert_eq!(status["message"], "its module had it suspended: the licence is over");
    let filter = "subject=/a37,kind=bucket.suspended";
    let events = cluster.cli(&["events", "--all", "--where", filter, "-o", "json"]).ok().json_lines();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["message"], "the licence is over");
    assert!(events[0]["actor"].to_string().contains("module:asking@1 on n"), "{events:?}");
    cluster.cli(&["bucket", "resume", "/a37", "--wait"]).ok();
    assert_eq!(cluster.wait_state("/a37", "running")["message"], "");
    cluster.delete(&["/a37"]);
}

/// What the collector wrote on a node, from its files: the node may be dead.
fn collected(agent: &Agent, bucket: &str) -> Vec<usize> {
    let output = agent.dir().join("instances").join(&bucket[1..]).join("output/current.log");
    let text = fs::read_to_string(output).unwrap_or_default();
    text.lines().filter_map(|line| line.rsplit(' ').next()?.strip_prefix("line-")?.parse().ok()).collect()
}

/// A collector whose node dies while it collects.
pub(crate) struct Taken<'c> {
    cluster: &'c Cluster,
    first: &'c Agent,
    /// Who goes on, and how many lines that one has collected by then.
    next: Option<(&'c Agent, usize)>,
}

impl<'c> Taken<'c> {
    /// It is at work when this returns, and for a moment longer.
    pub(crate) fn begin(cluster: &'c Cluster, first: &'c Agent) -> Self {
        let dir = cluster.machine().path("taken-over");
        fs::create_dir(&dir).expect("a directory");
        let write = |from: usize, to: usize| {
            use std::io::Write as _;
            let mut file =
                fs::File::options().append(true).create(true).open(dir.join("a.log")).expect("a file");
            let lines: String = (from..to).map(|n| format!("line-{n:06}\n")).collect();
            file.write_all(lines.as_bytes()).expect("room to write");
        };
        let config = format!("{{directory: '{}'}}", dir.display());
        let only = format!("node_list_rules: [{}]", first.name());
        for more in [only.as_str(), ""] {
            cluster.apply_and_wait(&bucket("/taken", "collects", &config, more));
        }
        assert_eq!(only_node(&cluster.status("/taken")), first.name());
        write(0, 1000);
        for batch in 1..=6 {
            write(batch * 1000, batch * 1000 + 1000);
            let enough = (batch * 1000).min(5000);
            wait_for("it collects", SOON, || {
                let found = collected(first, "/taken").len();
                if found >= enough { Ok(()) } else { Err(format!("{found} lines")) }
            });
        }
        Self { cluster, first, next: None }
    }

    pub(crate) fn goes_on(&mut self) {
        let (cluster, first) = (self.cluster, self.first);
        let said = collected(first, "/taken");
        let rest = cluster.agents().iter().find(|agent| agent.name() != first.name()).expect("another");
        let (runtime, client) = client(rest);
        let key = ObjectKey::new(&format!(".checkpoint/{}", first.name())).expect("a key");
        let ask = GetObject { bucket: BucketName::new("/taken").expect("a name"), key };
        let noted = wait_for("the checkpoint", SOON, || {
            runtime.block_on(client.get_object(ask.clone())).map_err(|error| error.to_string())
        });
        let noted: Value =
            serde_json::from_slice(noted.value.as_bytes()).expect("the collector's checkpoint");
        let noted = usize::try_from(noted["a.log"].as_u64().expect("a place")).expect("small")
            / "line-000000\n".len();
        assert_eq!(said, (0..said.len()).collect::<Vec<_>>(), "none lost or doubled before");
        assert!(noted <= said.len() && noted >= 1000, "{noted} of {} were noted", said.len());
        let status = wait_for("another node runs it", SOON, || {
            let status = rest.try_json(&["bucket", "status", "/taken", "-o", "json"])?;
            let moved = status["state"] == "running" && only_node(&status) != first.name();
            if moved { Ok(status) } else { Err(format!("{status:#}")) }
        });
        let second = cluster.named(&only_node(&status));
        let again = wait_for("all lines", SOON, || {
            let again = collected(second, "/taken");
            if again.last() == Some(&6999) { Ok(again) } else { Err(format!("{:?}", again.last())) }
        });
        assert_eq!(
            again,
            (noted..7000).collect::<Vec<_>>(),
            "from the last checkpoint on, none lost or doubled"
        );
        self.next = Some((second, again.len()));
    }

    /// Its first node is back.
    pub(crate) fn is_purged(&self) {
        let (second, before) = self.next.expect("another node went on");
        self.cluster.cli(&["bucket", "purge", "/taken", "--wait"]).ok();
        wait_for("all of it is collected anew", SOON, || {
            let anew = collected(second, "/taken").split_off(before);
            if anew == (0..7000).collect::<Vec<_>>() { Ok(()) } else { Err(format!("{} lines", anew.len())) }
        });
        self.cluster.delete(&["/taken"]);
    }
}
