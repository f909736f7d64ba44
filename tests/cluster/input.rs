//! Everything that people can get wrong: a precise text with all defects, the right exit status, and nothing changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sheaf_tests::calls::runtime;
use sheaf_tests::documents::{bucket, module};
use sheaf_tests::{Cases, Cluster, Output, cli};
use sheaf_wire::bucket::{ApplyBucket, OnBucket};
use sheaf_wire::{ApiError, Client, Options};

use crate::load::put;
use crate::scene::{event_kinds, modules, revision, trace};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cluster.apply(&modules());
    let before = state(cluster);
    let mut unchanged = |name: &str, case: &dyn Fn(&Cluster)| {
        cases.run(name, || {
            case(cluster);
            assert!(state(cluster) == before, "something changed: {:#?}", state(cluster));
        });
    };
    unchanged("A21 names", &a21);
    unchanged("A22 all defects of a document at once", &a22);
    unchanged("all defects of all files at once", &all_files);
    unchanged("rules, durations, templates, amounts, types", &fields);
    unchanged("modules", &bad_modules);
    unchanged("what is no document", &no_documents);
    unchanged("too large, too deep, too much", &too_much);
    unchanged("same version with other content, stale revisions", &conflicts);
    unchanged("one bad document keeps its whole file out", &all_or_none);
    unchanged("the command line", &command_line);
    unchanged("an address where nobody answers", &unreachable);
    unchanged("config files", &config_files);
    unchanged("what is not there", &not_found);
    cases.run("an id of a request that was used for something else", || used_ids(cluster));
    cases.run("one node: written down, and there again after a restart", || one_node(cluster));
}

/// What a refused change must leave as it is.
fn state(cluster: &Cluster) -> BTreeMap<&'static str, String> {
    let ask = |args: &[&str]| cluster.cli(args).ok().stdout;
    BTreeMap::from([
        ("buckets", ask(&["bucket", "list", "--all", "-o", "yaml"])),
        ("modules", ask(&["module", "list", "--all", "-o", "yaml"])),
        ("history", ask(&["events", "--all", "-o", "json"])),
    ])
}

/// Applies a document that is refused with exit 1 and exactly these lines, each of the file.
fn refused(cluster: &Cluster, document: impl AsRef<[u8]>, lines: &[&str]) {
    let output = cluster.cli_with(&["apply", "-f", "-"], document.as_ref()).exits(1).calm();
    assert_eq!(output.stdout, "", "{output}");
    let expected: Vec<String> = lines.iter().map(|line| format!("stdin: {line}")).collect();
    let found: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(found, expected, "{output}");
}

fn a21(cluster: &Cluster) {
    for name in ["name/x", "/a/../b", "/a//b", "/a/./b", "/a b", "/a:b", "/a;b", "/a,b", "/a/"] {
        let document = bucket(name, "steady", &trace(cluster, "a21"), "");
        let output = cluster.cli_with(&["apply", "-f", "-"], document.as_bytes()).exits(1).calm();
        let lines: Vec<&str> = output.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "exactly one error: {output}");
        assert!(lines[0].starts_with(&format!("stdin: Bucket {name}: name: ")), "{output}");
        // As an argument it is wrong usage, with the same words.
        let usage = cluster.cli(&["bucket", "status", name]).exits(2).calm();
        assert!(usage.stderr.contains(name), "{usage}");
    }
}

fn a22(cluster: &Cluster) {
    let document = "kind: Bucket\nname: /logs/web\nmodule: nosuch\nnode_list_rules: ['web*', '/a(/']\n\
                    poll_frequency: 10 parsecs\nnode_list_rule: []\n";
    let output = cluster.cli_with(&["apply", "-f", "-"], document.as_bytes()).exits(1).calm();
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines.len(), 4, "{output}");
    for part in [
        "stdin: Bucket /logs/web: node_list_rules[1]: rule \"/a(/\", position 3: unclosed group; ",
        "stdin: Bucket /logs/web: poll_frequency: duration \"10 parsecs\" has the unknown unit \"parsecs\"; ms, s, m, h or d",
        "stdin: Bucket /logs/web: node_list_rule: unknown field \"node_list_rule\"; did you mean node_list_rules?",
        "stdin: Bucket /logs/web: module: there is no module nosuch; registered modules: ",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(part)), "{part:?} in {output}");
    }
}

fn all_files(cluster: &Cluster) {
    let machine = cluster.machine();
    let trace = trace(cluster, "files");
    let bad_rule = bucket("/files/a", "steady", &trace, "node_list_rules: ['/abc']");
    let unknown = bucket("/files/b", "none", &trace, "");
    let one = machine.write("files/one.yaml", [bad_rule, bucket("/files/c", "steady", &trace, "")].concat());
    let two = machine.write("files/two.yaml", unknown);
    let folder = one.parent().expect("it lies in a folder").display().to_string();
    let output = cluster.cli(&["apply", "-f", &folder, "-f", "missing.yaml"]).exits(1).calm();
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{output}");
    let begins =
        |text: String| assert!(lines.iter().any(|line| line.starts_with(&text)), "{text:?} in {output}");
    begins(format!(
        "{}: Bucket /files/a: node_list_rules[0]: rule \"/abc\", position 1: the / is never closed; ",
        one.display()
    ));
    begins(format!("{}: Bucket /files/b: module: there is no module none; ", two.display()));
    begins("missing.yaml: cannot be read: No such file or directory".to_owned());
}

fn fields(cluster: &Cluster) {
    let head = "kind: Bucket\nname: /bad\nmodule: steady\nconfig: {trace: x}\n";
    #[rustfmt::skip]
    let table = [
        ("node_list_rules: ['/']", "node_list_rules[0]: rule \"/\", position 1: the / is never closed; //"),
        ("node_list_rules: ['-']", "node_list_rules[0]: rule \"-\", position 2: nothing follows \"-\"; a hostname, a glob like import-*, or an expression like /^import-\\d+$/"),
        ("node_list_rules: ['']", "node_list_rules[0]: rule \"\", position 1: the rule is empty; a hostname, a glob like import-*, or an expression like /^import-\\d+$/"),
        ("node_list_rules: ['/a/q']", "node_list_rules[0]: rule \"/a/q\", position 4: unknown flag 'q'; flags are i, x, s and m; a slash inside the expression is written \\/"),
        ("type: harvst", "type: unknown word \"harvst\"; did you mean harvest?"),
        ("type: 5", "type: expected a string, found a number 5; put it in quotes: \"5\""),
        ("multi_node: yes", "multi_node: expected true or false, found a string \"yes\"; true or false, without quotes"),
        ("node_list_rules: web1", "node_list_rules: expected a list of rules, found a string \"web1\""),
        ("poll_frequency: 10", "poll_frequency: duration \"10\" has no unit; like 10s or 10ms"),
        ("placement: last_loaded", "placement: unknown word \"last_loaded\"; did you mean least_loaded?"),
        ("max_parallel: 0", "max_parallel: with 0 nodes at a time no update would ever happen; at least 1; leave it out for all"),
        ("colour: red", "colour: unknown field \"colour\""),
    ];
    for (field, expected) in table {
        let output =
            cluster.cli_with(&["apply", "-f", "-"], format!("{head}{field}\n").as_bytes()).exits(1).calm();
        assert_eq!(output.stderr.lines().count(), 1, "{field}: {output}");
        assert!(output.stderr.starts_with(&format!("stdin: Bucket /bad: {expected}")), "{field}: {output}");
    }
    // What the module needs of the bucket.
    refused(
        cluster,
        "kind: Bucket\nname: /bad\nmodule: steady@1\n",
        &[
            "Bucket /bad: config.trace: missing; module steady@1 uses ${bucket.config.trace} in its env; set config.trace",
        ],
    );
    refused(
        cluster,
        "kind: Bucket\nname: /bad\nmodule: steady@1\nconfig:\n  trace:\n",
        &[
            "Bucket /bad: config.trace: its value is null; module steady@1 uses ${bucket.config.trace} in its env; set config.trace",
        ],
    );
    refused(
        cluster,
        "kind: Bucket\nname: /bad\nmodule: steady@2\n",
        &["Bucket /bad: module: there is no module steady@2; registered versions: 1"],
    );
}

fn bad_modules(cluster: &Cluster) {
    refused(
        cluster,
        "kind: Module\nname: flume\nruntime: exec\nexec: {command: a}\n",
        &[
            "Module flume: version: this field is missing; a version in quotes, like \"1.11.0\"; a version's content never changes",
        ],
    );
    let head = "kind: Module\nname: bad\nversion: '1'\nruntime: exec\n";
    #[rustfmt::skip]
    let table = [
        ("exec: {command: '/bin/${bucket.nme}'}", "exec.command: "),
        ("exec: {command: '/bin/${bucket.name'}", "exec.command: "),
        ("exec: {command: /bin/true, args: ['${file.x}']}", "exec.args[0]: ${file.x} is no file of this module; a file of that name under files"),
        ("exec: {command: /bin/true}\nstop: {signal: TURN}", "stop.signal: unknown word \"TURN\"; one of TERM, INT, HUP, QUIT, USR1, USR2, KILL"),
        ("exec: {command: /bin/true}\nlimits: {memory: 1 GB of it}", "limits.memory: "),
        ("exec: {command: /bin/true}\ncan_run_on_this_node: [{files: /x}]", "can_run_on_this_node[0]"),
        ("exec: {command: /bin/true}\nuser: '-x'", "user: \"-x\" is no name of a user; a user of the machine, like flume"),
    ];
    for (field, expected) in table {
        let output =
            cluster.cli_with(&["apply", "-f", "-"], format!("{head}{field}\n").as_bytes()).exits(1).calm();
        assert!(output.stderr.starts_with(&format!("stdin: Module bad@1: {expected}")), "{field}: {output}");
    }
    let plugin = "kind: Module\nname: bad\nversion: '1'\nruntime: plugin\n";
    let output = cluster.cli_with(&["module", "apply", "-f", "-"], plugin.as_bytes()).exits(1).calm();
    assert!(
        output.stderr.starts_with("stdin: Module bad@1: exec: runtime plugin needs to know what to execute"),
        "{output}"
    );
}

fn no_documents(cluster: &Cluster) {
    const REMEDY: &str = "kind: Backend, kind: Bucket, kind: Job, kind: Module or kind: Sink";
    refused(cluster, "", &["there is no document; kind: Bucket or kind: Module, and so on"]);
    refused(
        cluster,
        b"\x7fELF\x02\x01\xff\xfe",
        &["this is no text: byte 7 is not UTF-8; YAML or JSON, saved as UTF-8"],
    );
    refused(cluster, b"PK\x03\x04\0\0", &["this is no text: byte 5 is zero; YAML or JSON, saved as UTF-8"]);
    refused(
        cluster,
        "hello",
        &[&format!("document 1: expected a mapping, found a string \"hello\"; {REMEDY}")],
    );
    refused(
        cluster,
        "kind: bucket\nname: /a\n",
        &["document 1: kind: unknown kind \"bucket\"; did you mean Bucket?"],
    );
    refused(
        cluster,
        "kind: Thread\nname: x\n",
        &[&format!("document 1: kind: this version does not know kind Thread; {REMEDY}")],
    );
    let binary = cluster.cli_with(
        &["apply", "-f", "-"],
        &std::fs::read(cluster.machine().binary()).unwrap_or_default()[..300_000],
    );
    assert_eq!(
        binary.exits(1).calm().stderr.lines().count(),
        1,
        "a program instead of a document is one error"
    );
    for text in [
        "kind: Bucket\nname: [a, b\nmodule: m\n",
        "a: b: c\n",
        "a: 'x",
        "{\"kind\": \"Bucket\",\n \"name\" 5}",
    ] {
        let output = cluster.cli_with(&["apply", "-f", "-"], text.as_bytes()).exits(1).calm();
        assert!(output.stderr.starts_with("stdin: ") && output.stderr.contains("line "), "where: {output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
}

fn too_much(cluster: &Cluster) {
    let mut large = String::from("kind: Bucket\nname: /large\nmodule: steady\nconfig: {trace: x, text: '");
    large.extend(std::iter::repeat_n('x', 10 << 20));
    large.push_str("'}\n");
    let output = cluster.cli_with(&["apply", "-f", "-"], large.as_bytes()).exits(1).calm();
    output.says("stdin: the file is longer than 4 MiB; several smaller files in a directory");
    let half = format!(
        "kind: Bucket\nname: /large\nmodule: steady\nconfig: {{trace: '{}'}}\n",
        "x".repeat(600 << 10)
    );
    let output = cluster.cli_with(&["apply", "-f", "-"], half.as_bytes()).exits(1).calm();
    assert!(output.stderr.starts_with("stdin: Bucket /large: the document has 61"), "{output}");
    assert!(output.stderr.contains("more than 512KiB; less in it"), "{output}");
    // What a file may hold is more than what is applied as one. The first of two is not applied either.
    let trace = trace(cluster, "much");
    let many: String = (0..8_000)
        .map(|n| bucket(&format!("/much/{n}"), "steady", &trace, &format!("owner: '{}'", "x".repeat(120))))
        .collect();
    let large = cluster.machine().write("much.yaml", many).display().to_string();
    let small = bucket("/little", "steady", &trace, "");
    let small = cluster.machine().write("little.yaml", small).display().to_string();
    for files in [&[&large][..], &[&small, &large], &[&large, &small]] {
        let files = files.iter().flat_map(|file| ["-f", file.as_str()]);
        let args: Vec<&str> = ["apply"].into_iter().chain(files).collect();
        let output = cluster.cli(&args).exits(1).calm();
        assert!(output.stderr.starts_with(&format!("{large}: its 8000 documents take ")), "{output}");
        assert!(
            output.stderr.contains("1047552 is the most; several smaller files: `sheaf apply -f DIR`"),
            "{output}"
        );
        assert_eq!((output.stderr.lines().count(), output.stdout.as_str()), (1, ""), "{output}");
    }
    let nine = |text: &str| [text; 9].join(", ");
    let mut bomb = format!("a0: &a0 [{}]\n", nine("lol"));
    for level in 1..10 {
        let _ = writeln!(bomb, "a{level}: &a{level} [{}]", nine(&format!("*a{}", level - 1)));
    }
    let output = cluster.cli_with(&["apply", "-f", "-"], bomb.as_bytes()).exits(1).calm();
    assert!(output.stderr.contains("alias") && output.stderr.contains("line "), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    let deep = format!("a: {}", "[".repeat(100_000));
    let output = cluster.cli_with(&["apply", "-f", "-"], deep.as_bytes()).exits(1).calm();
    assert!(output.stderr.contains("at most 64") || output.stderr.contains("deeper than 64"), "{output}");
}

fn conflicts(cluster: &Cluster) {
    let other = module("steady", "stop: {grace: 33s}");
    let output = cluster.cli_with(&["apply", "-f", "-"], other.as_bytes()).exits(6).calm();
    output.says(
        "error: module steady@1 is registered with other content, and a version never changes; give it a new version",
    );
    let trace = trace(cluster, "conflicts");
    let stale = bucket("/conflict", "steady", &trace, "revision: 5");
    let output = cluster.cli_with(&["apply", "-f", "-"], stale.as_bytes()).exits(6).calm();
    output.says("error: bucket /conflict does not exist, so it is not at revision 5");
    let two = [bucket("/conflict", "steady", &trace, ""), bucket("/conflict", "steady", &trace, "")].concat();
    refused(cluster, two, &["Bucket /conflict: name: document 1 has this name already; each name once"]);
}

fn all_or_none(cluster: &Cluster) {
    let trace = trace(cluster, "none");
    let good = [module("newcomer", ""), bucket("/good", "newcomer", &trace, "")].concat();
    let bad = bucket("/bad", "none", &trace, "");
    let output = cluster.cli_with(&["apply", "-f", "-"], [good, bad].concat().as_bytes()).exits(1).calm();
    assert!(output.stderr.starts_with("stdin: Bucket /bad: module: there is no module none"), "{output}");
    cluster.cli(&["bucket", "status", "/good"]).exits(3);
    cluster.cli(&["module", "status", "newcomer"]).exits(3);
}

fn command_line(cluster: &Cluster) {
    let wrong: [(&[&str], &str); 9] = [
        (&["bukket", "list"], "bucket"),
        (&["bucket", "lst"], "list"),
        (&["bucket", "list", "--limit", "0"], "--limit"),
        (&["bucket", "list", "-o", "xml"], "xml"),
        (&["bucket", "list", "--where", "colour=red"], "colour"),
        (&["bucket", "status", "/a", "--wait"], "--wait"),
        (&["bucket", "suspend"], "NAME"),
        (&["apply"], "--file"),
        (&["apply", "-f", "-", "--wait", "--timeout", "soon"], "soon"),
    ];
    for (args, part) in wrong {
        let output = cluster.cli(args).calm();
        assert_eq!(output.code, 2, "{output}");
        assert!(output.stderr.contains(part), "{part:?} in {output}");
    }
    let two = "kind: Bucket\nname: /a\nmodule: steady\nconfig: {trace: x}\n---\nkind: Bucket\nname: /b\nmodule: steady\nconfig: {trace: x}\n";
    let output =
        cluster.cli_with(&["apply", "-f", "-", "--if-revision", "3"], two.as_bytes()).exits(2).calm();
    assert!(output.stderr.contains("--if-revision is given for 2 buckets"), "{output}");
    let version = cli::run(cluster.machine(), &["version"], b"").ok();
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{version}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(cli::run(cluster.machine(), &["completions", shell], b"").ok().stdout.contains("sheaf"));
    }
    assert!(cli::run(cluster.machine(), &["man"], b"").ok().stdout.contains(".TH"));
}

fn unreachable(cluster: &Cluster) {
    let ask = |address: &str| -> Output {
        cli::run(cluster.machine(), &["bucket", "list", "--address", address], b"")
    };
    // Nobody listens there: it belongs to an agent that is not started.
    let nobody = Cluster::plan(cluster.machine(), "nobody-", 1, |_, _| {});
    let address = nobody.agent(1).address();
    ask(&address).exits(1).calm().says(&format!(
        "error: cannot reach {address}: connection refused; is an agent running there? start one with `sheaf agent` or \
         `sheaf dev`, or name another with --address or SHEAF_ADDRESS"
    ));
    let unknown = ask("no-such-host.invalid:7420").exits(1).calm();
    assert!(unknown.stderr.starts_with("error: cannot reach no-such-host.invalid:7420: "), "{unknown}");
    let wrong = ask("nowhere").exits(2).calm();
    assert!(wrong.stderr.contains("\"nowhere\" is no address; HOST:PORT, like 127.0.0.1:7420"), "{wrong}");
}

fn config_files(cluster: &Cluster) {
    let run = |text: &str| {
        let file = cluster.machine().write("bad.toml", text);
        let path = file.display().to_string();
        let [checked, started] = [&["agent", "check"][..], &["agent"]].map(|verb| {
            cli::run(cluster.machine(), &[verb, &["--config", &path]].concat(), b"").exits(2).calm()
        });
        assert_eq!(checked.stderr, started.stderr, "both say the same");
        started.stderr.replace(&path, "FILE")
    };
    assert_eq!(
        run("[lease]\ntll = '3s'\n[raft]\nheartbeat = 5\n"),
        "sheaf: FILE: lease.tll: unknown key; did you mean lease.ttl?\n\
         sheaf: FILE: raft.heartbeat: expected a duration, found integer 5; a text, like \"500ms\" or \"3s\"\n"
    );
    let syntax = run("[node]\nname = \n");
    assert!(syntax.starts_with("sheaf: FILE: line 2, column "), "{syntax}");
    let bad = run(
        "[cluster]\njoin = ['127.0.0.1:1']\nbootstrap_expect = 3\nvoters = 2\n[node]\nname = 'bad name'\n",
    );
    for part in ["cluster.bootstrap_expect: ", "cluster.voters: 2 is no number of voters", "node.name: "] {
        assert!(bad.contains(part), "{part:?} in {bad}");
    }
    let missing =
        cli::run(cluster.machine(), &["agent", "--config", "/no/such/file.toml"], b"").exits(2).calm();
    assert!(
        missing.stderr.contains("/no/such/file.toml: cannot be read: No such file or directory"),
        "{missing}"
    );
}

fn not_found(cluster: &Cluster) {
    let asks: [(&[&str], &str); 9] = [
        (&["bucket", "status", "/none"], "/none"),
        (&["bucket", "explain", "/none"], "/none"),
        (&["bucket", "history", "/none"], "/none"),
        (&["bucket", "logs", "/none"], "/none"),
        (&["bucket", "suspend", "/none"], "/none"),
        (&["bucket", "resume", "/none"], "/none"),
        (&["bucket", "restart", "/none"], "/none"),
        (&["module", "status", "none"], "none"),
        (&["node", "status", "none"], "none"),
    ];
    for (args, part) in asks {
        let output = cluster.cli(args).exits(3).calm();
        assert!(output.stderr.starts_with("error: ") && output.stderr.contains(part), "{output}");
        assert_eq!(output.stdout, "", "{output}");
    }
}

fn used_ids(cluster: &Cluster) {
    let first = under_one_id(cluster);
    assert_eq!(cluster.agent(1).stop(), 0, "{}", cluster.agent(1).log_tail());
    cluster.start_all();
    cluster.wait_ready();
    assert_eq!(under_one_id(cluster), first, "it is remembered");
    let status = cluster.status("/ids");
    assert_eq!((&status["suspended"], revision(&status)), (&true.into(), first), "{status:#}");
    assert_eq!(event_kinds(cluster, "/ids"), ["bucket.created"]);
    cluster.delete(&["/ids"]);
}

/// Registers a bucket, and asks for something else under the same id; when the bucket was registered.
fn under_one_id(cluster: &Cluster) -> u64 {
    let [mine, yours] = ["me", "you"].map(|owner| put(cluster, "/ids", owner));
    let bucket = mine.spec.name.clone();
    let id = || Some("input-1".into());
    runtime().block_on(async {
        let address = cluster.agent(1).address();
        let client = Client::lazy(&address, Options::default()).expect("an agent's address is one");
        let apply = |put| client.apply_bucket(ApplyBucket { put, request: id(), validate_only: false });
        let first = apply(mine).await.expect("the first of its id").revision.0;
        let used = "request id \"input-1\" was already used for \"apply Bucket /ids\"";
        let other = apply(yours).await.expect_err("of other content");
        let text = format!("{used} with other content at revision {first}; use a new one");
        assert_eq!(other, ApiError::Conflict(text));
        let resume = client.resume_bucket(OnBucket { bucket, base: None, request: id() });
        let text = format!("{used} at revision {first}; use a new one");
        assert_eq!(resume.await.expect_err("something else"), ApiError::Conflict(text));
        first
    })
}

fn one_node(cluster: &Cluster) {
    let trace = trace(cluster, "one");
    cluster.apply_and_wait(&bucket("/one", "steady", &trace, "labels: {team: web}\nowner: me"));
    let (before, status) = (state(cluster), cluster.status("/one"));
    assert_eq!(cluster.agent(1).stop(), 0, "{}", cluster.agent(1).log_tail());
    cluster.start_all();
    cluster.wait_ready();
    let after = cluster.wait_state("/one", "running");
    assert_eq!(
        (revision(&after), &after["instances"][0]["pid"]),
        (revision(&status), &status["instances"][0]["pid"])
    );
    assert_eq!(state(cluster)["buckets"], before["buckets"]);
    assert_eq!(state(cluster)["modules"], before["modules"]);
    cluster.delete(&["/one"]);
}
