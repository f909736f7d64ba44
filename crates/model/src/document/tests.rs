//! Documents as people write them, and everything that can be wrong with them.

mod properties;

use super::*;
use crate::{BucketType, CheckKind, Revision, Span};

/// The module and the bucket of the manual.
pub(super) const EXAMPLE: &str = r#"
kind: Module
name: flume
version: "1.11.0"                    # required
runtime: exec
supports_multi_node: true
can_run_on_this_node:
  - file: /opt/flume/bin/flume-ng
  - memory_available: 512MiB
  - command: ["/usr/bin/test", "-r", "/etc/flume.conf"]
    timeout: 2s
  - port_free: 5140
exec:
  command: /opt/flume/bin/flume-ng
  args: ["agent", "--conf-file", "${file.flume.conf}", "--name", "${bucket.config.agent}"]
  env: {JAVA_OPTS: "-Xmx256m"}
files: {flume.conf: "a1.port = ${bucket.config.port}\n"}
stop: {signal: TERM, grace: 10s}
restart: {policy: on_failure, backoff: 1s..60s, give_up_after: 5 in 10m}
config_schema: {type: object}
limits: {memory: 1GiB, cpu: 2, open_files: 4096, processes: 200}
user: flume
---
kind: Bucket
name: /logs/web
type: harvest
module: flume
multi_node: true
node_list_rules: ["+import-*", "-import-03"]
config: {agent: a1, port: 5140}
suspended: false
poll_frequency: 10m
placement: least_loaded
on_node_lost: move
max_parallel: 1
labels: {team: web}
owner: data-eng
revision: 7
"#;

const BUCKET: &str = "kind: Bucket\nname: /a\nmodule: m\n";
const MODULE: &str = "kind: Module\nname: m\nversion: '1'\nexec: {command: /bin/true}\n";

/// What is said of a text, a line per defect.
fn defects(text: impl AsRef<[u8]>) -> Vec<String> {
    parse("", text.as_ref()).defects.iter().map(ToString::to_string).collect()
}

#[test]
fn the_manuals_documents_are_read() {
    let Parsed { documents, defects } = parse("flume.yaml", EXAMPLE.as_bytes());
    assert_eq!(defects, []);
    let [Document::Module(module), Document::Bucket(put)] = documents.as_slice() else {
        panic!("a module and a bucket: {documents:?}");
    };
    assert_eq!(module.can_run_on_this_node.len(), 4);
    assert!(
        matches!(&module.can_run_on_this_node[3].kind, CheckKind::PortFree(port) if port.literal() == Some("5140"))
    );
    assert_eq!(module.can_run_on_this_node[2].timeout, Some(Span::seconds(2)));
    assert_eq!(module.limits.cpu_millis, Some(2000));
    assert_eq!((put.base, put.suspended), (Some(Revision(7)), Some(false)));
    assert_eq!(put.spec.kind, BucketType::Harvest);
    assert_eq!(put.spec.config.as_str(), r#"{"agent":"a1","port":5140}"#);
    assert_eq!(put.spec.node_list_rules.texts(), ["+import-*", "-import-03"]);
}

#[test]
fn json_and_several_forms_are_read_alike() {
    let json = r#"{"kind":"Bucket","name":"/a","module":"m"} {"kind":"Bucket","name":"/b","module":"m",
        "owner":"\ud83d\ude00"}"#;
    assert_eq!(parse("", json.as_bytes()).documents.len(), 2);
    assert_eq!(defects("\u{feff}{kind: Bucket, name: /a, module: m}"), [""; 0]);
    assert_eq!(defects("---\n---\nkind: Bucket\nname: /a\nmodule: m\nowner:\nconfig: ~\n---\n"), [""; 0]);
    let values = [serde_json::json!({"kind": "Bucket", "name": "/a", "module": "m"})];
    assert_eq!(parse_values("", &values), parse("", BUCKET.as_bytes()));
}

/// A21
#[test]
fn a21_each_bad_name_is_one_error_that_names_the_field() {
    for name in ["name/x", "/a/../b", "/a//b", "/a/./b", "/a b", "/a:b", "/a;b", "/a,b", "/a/"] {
        let parsed = parse("b.yaml", format!("kind: Bucket\nname: {name}\nmodule: m\n").as_bytes());
        assert_eq!(parsed.defects.len(), 1, "{:?}", parsed.defects);
        let defect = &parsed.defects[0];
        assert_eq!((defect.path.as_str(), &defect.document), ("name", &format!("Bucket {name}")));
        assert!(defect.problem.contains(name) && !defect.remedy.is_empty(), "{defect}");
        assert_eq!(parsed.documents, []);
    }
}

/// A22, as far as a text alone can tell: whether the module exists is said by who knows the modules.
#[test]
fn a22_all_defects_of_a_document_are_reported_with_their_paths() {
    let text = "kind: Bucket\nname: /logs/web\nmodule: nosuch\nnode_list_rules: ['web*', '/a(/']\n\
                poll_frequency: 10 parsecs\nnode_list_rule: []\n";
    let parsed = parse("b.yaml", text.as_bytes());
    let found: Vec<String> = parsed.defects.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "b.yaml: Bucket /logs/web: node_list_rules[1]: rule \"/a(/\", position 3: unclosed group; \
             an expression in the syntax of Rust's regex crate",
            "b.yaml: Bucket /logs/web: poll_frequency: duration \"10 parsecs\" has the unknown unit \"parsecs\"; \
             ms, s, m, h or d",
            "b.yaml: Bucket /logs/web: node_list_rule: unknown field \"node_list_rule\"; \
             did you mean node_list_rules?",
        ]
    );
    let [Document::Bucket(put)] = parsed.documents.as_slice() else { panic!("the bucket is there") };
    assert_eq!(put.spec.module.to_string(), "nosuch", "so that its module can be looked for");
    assert_eq!(put.spec.node_list_rules.texts(), ["web*"]);
}

#[test]
fn bad_fields_of_a_bucket() {
    #[rustfmt::skip]
    let table = [
        ("type: harvst", "type: unknown word \"harvst\"; did you mean harvest?"),
        ("type: 5", "type: expected a string, found a number 5; put it in quotes: \"5\""),
        ("multi_node: yes", "multi_node: expected true or false, found a string \"yes\"; true or false, without quotes"),
        ("node_list_rules: web1", "node_list_rules: expected a list of rules, found a string \"web1\""),
        ("node_list_rules: 5", "node_list_rules: expected a list of rules, found a number 5"),
        ("node_list_rules: [[]]", "node_list_rules[0]: expected a string, found a list of 0"),
        ("config: [1, 2]", "config: expected a mapping, found a list of 2"),
        ("poll_frequency: 10", "poll_frequency: duration \"10\" has no unit; like 10s or 10ms"),
        ("poll_frequency: [1]", "poll_frequency: expected a duration like 10m, found a list of 1"),
        ("poll_frequency: 0s", "poll_frequency: zero is no time between polls; a time like 10m"),
        ("placement: last_loaded", "placement: unknown word \"last_loaded\"; did you mean least_loaded?"),
        ("placement: {spread: zone}", "placement: expected a string, found a mapping with the key \"spread\""),
        ("placement: 'spread:'", "placement: \"\" is no name of a label; the part before =, like spread:zone for zone=a"),
        ("max_parallel: 0", "max_parallel: with 0 nodes at a time no update would ever happen; at least 1; leave it out for all"),
        ("max_parallel: -1", "max_parallel: expected a whole number, found -1; from 0 to 4294967295"),
        ("max_parallel: 1.5", "max_parallel: expected a whole number, found 1.5; from 0 to 4294967295"),
        ("revision: '7'", "revision: expected a whole number, found a string \"7\""),
        ("labels: {a b: c}", "labels[\"a b\"]: \"a b\" is no key of a label; letters, digits, _ . - and /, so that -l KEY=VALUE can select by it"),
        ("labels: {tier: 1}", "labels.tier: expected a string, found a number 1; put it in quotes: \"1\""),
        ("owner: ''", "owner: \"\" is no owner; a name, in one line"),
        ("suspended: 'true'", "suspended: expected true or false, found a string \"true\"; true or false, without quotes"),
        ("colour: red", "colour: unknown field \"colour\"; one of kind, name, type, module, multi_node, node_list_rules, config, \
            poll_frequency, placement, on_node_lost, max_parallel, labels, owner, suspended, revision"),
        ("on_node_lost: stay", "on_node_lost: unknown word \"stay\"; one of move, wait"),
    ];
    for (field, expected) in table {
        assert_eq!(defects(format!("{BUCKET}{field}\n")), [format!("Bucket /a: {expected}")]);
    }
    assert_eq!(
        defects("kind: Bucket\nmodule: flume@\n"),
        [
            "document 1: name: this field is missing; a path like /logs/web",
            "document 1: module: the version is empty; letters, digits, _ . + -, like 1.11.0"
        ]
    );
}

#[test]
fn a_plugin_needs_a_program_that_is_of_no_bucket() {
    let plugin =
        |rest: &str| defects(format!("kind: Module\nname: m\nversion: '1'\nruntime: plugin\n{rest}\n"));
    assert_eq!(
        plugin("exec: {command: /bin/m, args: ['${dir}', '${node.name}']}\nlimits: {memory: 1GiB}"),
        [""; 0]
    );
    let needs = "Module m@1: exec: runtime plugin needs to know what to execute; exec: {command: …}";
    assert_eq!(plugin(""), [needs]);
    let remedy = "the text without ${bucket.…}: the plugin is told its bucket by OnNewSource";
    let of_bucket = |path: &str| {
        format!("Module m@1: {path}: a plugin is started for gate 3 without any bucket; {remedy}")
    };
    assert_eq!(
        plugin(
            "exec: {command: '/${bucket.name}', args: [a, '${bucket.config.x}'], env: {A: '${bucket.revision}'}}\nfiles: {f: '${bucket.name}'}"
        ),
        ["exec.command", "exec.args[1]", "exec.env.A", "files.f"].map(of_bucket)
    );
    assert_eq!(
        plugin("exec: {command: /m, env: {SHEAF_CONTEXT_SOCKET: x}}"),
        [
            "Module m@1: exec.env.SHEAF_CONTEXT_SOCKET: SHEAF_CONTEXT_SOCKET is set by Sheaf itself; another name"
        ]
    );
}

#[test]
fn bad_fields_of_a_module() {
    #[rustfmt::skip]
    let table = [
        ("runtime: builtin:http", "exec: builtin:http is part of the binary: there is nothing else to execute; nothing of it; what it does stands in the backend's config"),
        ("runtime: builtin:htp", "runtime: there is no builtin:htp in this version; exec, plugin or builtin:http"),
        ("runtime: docker", "runtime: unknown runtime \"docker\"; exec or plugin"),
        ("can_run_on_this_node: [{file: /a}, {fil: /b}]", "can_run_on_this_node[1]: no check is named; one of file, dir, env, \
            label, memory_available, disk_available, port_free, command\n\
            can_run_on_this_node[1].fil: unknown field \"fil\"; did you mean file?"),
        ("can_run_on_this_node: [{file: /a, dir: /b}]", "can_run_on_this_node[0]: file and dir are two checks; one entry of the list for each"),
        ("can_run_on_this_node: [{file: a}]", "can_run_on_this_node[0].file: \"a\" is no absolute path; a path that begins with /"),
        ("can_run_on_this_node: [{file: '${dir}/x'}]", "can_run_on_this_node[0].file: ${dir} has no value here: checks are asked \
            before there is an instance and its directory at position 1; one of bucket.name, bucket.revision, bucket.config, \
            node.name, node.hostname, node.labels, sheaf, artifact"),
        ("can_run_on_this_node: [{port_free: 0}, {file: 5}, {port_free: '${bucket.config.port}'}, {port_free: 70000}]",
            "can_run_on_this_node[1].file: expected a string, found a number 5; put it in quotes: \"5\"\n\
            can_run_on_this_node[0].port_free: \"0\" is no port; from 1 to 65535, or a template like ${bucket.config.port}\n\
            can_run_on_this_node[3].port_free: \"70000\" is no port; from 1 to 65535, or a template like ${bucket.config.port}"),
        ("can_run_on_this_node: [{file: /}, {dir: /}, {command: [/bin/true], timeout: 2}]",
            "can_run_on_this_node[2].timeout: duration \"2\" has no unit; like 2s or 2ms"),
        ("can_run_on_this_node: [{command: [], timeout: 0s}]", "can_run_on_this_node[0].timeout: no check ends in no time; a time like 2s\n\
            can_run_on_this_node[0].command: the command is empty; a program and its arguments, like [\"/bin/true\"]"),
        ("can_run_on_this_node: [{command: /bin/test -r /x}]", "can_run_on_this_node[0].command: expected a list of strings, \
            found a string \"/bin/test -r /x\"; [\"/bin/test\", \"-r\", \"/x\"]"),
        ("can_run_on_this_node: [{memory_available: 1.5GiB}]", "can_run_on_this_node[0].memory_available: size \"1.5GiB\" has a fraction; \
            a whole number of a smaller unit, like 1536MiB for 1.5GiB"),
        ("can_run_on_this_node: [{env: A-B=1}]", "can_run_on_this_node[0].env: \"A-B\" is no name of a variable; NAME or NAME=value"),
        ("can_run_on_this_node: [{label: ''}]", "can_run_on_this_node[0].label: the label is empty; a label or a glob, like gpu or zone=*"),
        ("files: {a/b: x}", "files[\"a/b\"]: name \"a/b\" contains '/'; letters, digits, _ . - with a letter or digit first, like flume"),
        ("files: {flume.conf: '${file.flum.conf}'}", "files.flume.conf: ${file.flum.conf} is no file of this module; did you mean ${file.flume.conf}?"),
        ("files: {a: '${nope}', b: '${file.a}'}", "files.a: unknown name \"nope\" at position 1; one of bucket.name, bucket.revision, \
            bucket.config, node.name, node.hostname, node.labels, dir, file, sheaf, item, job, subtask, attempt, artifact, secret; $${ writes the characters ${"),
        ("stop: {signal: SIGTERM}", "stop.signal: unknown word \"SIGTERM\"; did you mean TERM?"),
        ("stop: {signal: TRM, grace: x}", "stop.signal: unknown word \"TRM\"; did you mean TERM?\n\
            stop.grace: \"x\" is no duration; whole numbers with ms, s, m, h or d, like 500ms, 10m or 1h30m"),
        ("restart: {policy: on-failure, backoff: 60s..1s, give_up_after: 5}", "restart.policy: unknown word \"on-failure\"; did you mean on_failure?\n\
            restart.backoff: range \"60s..1s\" begins above its end; 1s..1m\n\
            restart.give_up_after: \"5\" is no count in a time; a number and a duration, like 5 in 10m"),
        ("restart: {backoff: 0s..0s}", "restart.backoff: a first wait of 0s would restart in a tight loop; at least 10ms, like 1s..60s"),
        ("config_schema: text", "config_schema: expected a mapping, found a string \"text\""),
        ("limits: {memory: 0, cpu: 0.0001, open_files: many}", "limits.cpu: \"0.0001\" is finer than a thousandth; \
            cores with at most three decimals, like 2 or 0.5\n\
            limits.open_files: expected a whole number, found a string \"many\"\n\
            limits.memory: nothing can run with a limit of zero; more; leave it out for no limit"),
        (
            "life_cycle: {on_stop: {command: [/bin/x], timeout: 11s}}",
            "life_cycle.on_stop.timeout: 11s is more than stop.grace (10s), which all calls at the end share; at most \
             10s, or a longer stop.grace",
        ),
        (
            "life_cycle: {on_resumed: {}}",
            "life_cycle.on_resumed: unknown field \"on_resumed\"; did you mean on_resume?",
        ),
        ("user: a/b", "user: \"a/b\" is no name of a user; a user of the machine, like flume"),
        ("supports_multi_node: on", "supports_multi_node: expected true or false, found a string \"on\"; true or false, without quotes"),
    ];
    for (field, expected) in table {
        let expected: Vec<String> = expected.lines().map(|line| format!("Module m@1: {line}")).collect();
        assert_eq!(defects(format!("{MODULE}{field}\n")), expected, "{field}");
    }
}

#[test]
fn bad_executables_and_headers_of_a_module() {
    let head = "kind: Module\nname: m\nversion: '1'\n";
    #[rustfmt::skip]
    let table = [
        ("", "exec: runtime exec needs to know what to execute; exec: {command: …}"),
        ("exec: {args: [x]}", "exec.command: this field is missing; the program to run, like /opt/flume/bin/flume-ng"),
        ("exec: {command: ' '}", "exec.command: the command is empty; the program to run, like /opt/flume/bin/flume-ng"),
        ("exec: {command: [a, b]}", "exec.command: expected a string, found a list of 2"),
        ("exec: {command: a, args: [1, '${file.x}'], env: {1A: x, SHEAF_NODE: y, OK: \"a\\0\"}}",
            "exec.args[0]: expected a string, found a number 1; put it in quotes: \"1\"\n\
            exec.args[1]: ${file.x} is no file of this module; a file of that name under files\n\
            exec.env.1A: \"1A\" is no name of a variable; letters, digits and _, no digit first\n\
            exec.env.OK: there is a zero byte in it; the text without it\n\
            exec.env.SHEAF_NODE: SHEAF_NODE is set by Sheaf itself; another name"),
    ];
    for (field, expected) in table {
        let expected: Vec<String> = expected.lines().map(|line| format!("Module m@1: {line}")).collect();
        assert_eq!(defects(format!("{head}{field}\n")), expected, "{field}");
    }
    assert_eq!(
        defects("kind: Module\nname: flume\nexec: {command: a}\n"),
        [
            "Module flume: version: this field is missing; a version in quotes, like \"1.11.0\"; a version's content never changes"
        ]
    );
    assert_eq!(
        defects("kind: Module\nname: flume\nversion: 1.10\nexec: {command: a}\n"),
        ["Module flume: version: expected a string, found a number 1.1; put it in quotes: \"1.1\""]
    );
}

#[test]
fn kinds_and_shapes_that_are_no_documents() {
    const REMEDY: &str = "kind: Backend, kind: Bucket, kind: Job, kind: Module or kind: Sink";
    let expected = format!("document 1: kind: this version does not know kind Thread; {REMEDY}");
    assert_eq!(defects("kind: Thread\nname: x\nanything: 1\n"), [expected]);
    assert_eq!(
        defects("kind: bucket\n"),
        ["document 1: kind: unknown kind \"bucket\"; did you mean Bucket?"]
    );
    assert_eq!(defects("name: x\n"), [format!("document 1: kind: this field is missing; {REMEDY}")]);
    assert_eq!(
        defects("kind: 1\n"),
        ["document 1: kind: expected Backend, Bucket, Job, Module or Sink, found a number 1"]
    );
    assert_eq!(
        defects("- kind: Bucket\n"),
        [
            "document 1: expected a mapping, found a list of 1; documents one after the other, with a line --- between them"
        ]
    );
    assert_eq!(
        defects(format!("{BUCKET}---\nhello\n")),
        [format!("document 2: expected a mapping, found a string \"hello\"; {REMEDY}")]
    );
    assert_eq!(
        defects(format!("{BUCKET}---\n{MODULE}---\n{BUCKET}---\n{MODULE}")),
        [
            "Bucket /a: name: document 1 has this name already; each name once",
            "Module m@1: name: document 2 has this name already; each name once"
        ]
    );
}

#[test]
fn what_is_no_text_of_documents_is_one_defect() {
    let nothing = ["there is no document; kind: Bucket or kind: Module, and so on"];
    for text in ["", "\n", "# only a comment\n", "---\n", "---\n---\n~\n"] {
        assert_eq!(defects(text), nothing, "{text:?}");
    }
    assert_eq!(
        defects(b"\x7fELF\xff"),
        ["this is no text: byte 5 is not UTF-8; YAML or JSON, saved as UTF-8"]
    );
    assert_eq!(defects(b"PK\0\0"), ["this is no text: byte 3 is zero; YAML or JSON, saved as UTF-8"]);
    let ten_megabytes = vec![b'a'; 10 << 20];
    assert_eq!(
        defects(ten_megabytes),
        ["the text has 10485760 bytes, more than 4MiB; several smaller files"]
    );
    let large = format!("{BUCKET}config: {{a: '{}'}}\n", "x".repeat(600 << 10));
    assert_eq!(defects(large), ["Bucket /a: the document has 614460 bytes, more than 512KiB; less in it"]);
}

#[test]
fn syntax_errors_say_where_and_what_was_expected() {
    #[rustfmt::skip]
    let table = [
        ("kind: Bucket\nname: [a, b\nmodule: m\n", "line 3, column 7: illegal placement of ':' indicator; a closing ] or } before it"),
        ("a: 'x", "line 1, column 4: unclosed quote; a closing quote"),
        ("a: 'x\nb: 1\n", "line 2, column 1: invalid indentation in multiline quoted scalar; a closing quote"),
        ("a: b: c\n", "line 1, column 5: mapping values are not allowed in this context; the same indent"),
        ("a: @x\n", "line 1, column 4: unexpected character: `@'; quotes around the text"),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: the key \"a\" is there twice; each key once"),
        ("{\"a\": 1,\n \"a\": 2}", "line 2, column 4: the key \"a\" is there twice"),
        ("a: *x\n", "line 1, column 4: the alias names no anchor; an anchor before it"),
        ("a: .inf\n", "line 1, column 4: the number .inf is not finite; a finite number"),
        ("a: !secret x\n", "the tag !secret has no meaning here; the value without it"),
        ("a: !!python/object:os.system x\n", "has no meaning here"),
    ];
    for (text, expected) in table {
        let found = defects(text);
        assert_eq!(found.len(), 1, "{text:?}: {found:?}");
        assert!(found[0].contains(expected), "{text:?}: {found:?}");
    }
    let json = parse("x.json", b"{\"kind\": \"Bucket\",\n \"name\" 5}");
    assert_eq!(json.defects[0].problem, "line 2, column 9: expected `:`");
    assert_eq!(json.defects[0].file, "x.json");
    let deep = defects(format!("a: {}", "[".repeat(500)));
    assert!(
        deep.len() == 1 && deep[0].contains("line 1, column 68: ") && deep[0].contains("at most 64"),
        "{deep:?}"
    );
    assert_eq!(defects("- ".repeat(100_000)).len(), 1);
    let deep = defects("{\"a\":".repeat(100) + "1" + &"}".repeat(100));
    assert!(deep[0].contains("deeper than 64"), "{deep:?}");
    // What was complete before is still read.
    let later =
        parse("", format!("{BUCKET}---\na: 1\na: 2\n---\nkind: Bucket\nname: /b\nmodule: m\n").as_bytes());
    assert_eq!(later.documents.len(), 2);
    assert_eq!(later.defects[0].document, "document 2");
}

#[test]
fn aliases_expand_within_limits() {
    let shared = "kind: Bucket\nname: /a\nmodule: m\nconfig:\n  a: &x {p: 1}\n  b: *x\n  c: {<<: *x, q: 2}\n";
    let parsed = parse("", shared.as_bytes());
    let [Document::Bucket(put)] = parsed.documents.as_slice() else { panic!("{:?}", parsed.defects) };
    assert_eq!(put.spec.config.as_str(), r#"{"a":{"p":1},"b":{"p":1},"c":{"p":1,"q":2}}"#);

    let nine = |text: &str| [text; 9].join(", ");
    let mut bomb = format!("a0: &a0 [{}]\n", nine("lol"));
    for level in 1..10 {
        bomb += &format!("a{level}: &a{level} [{}]\n", nine(&format!("*a{}", level - 1)));
    }
    let wide = format!("a: &a '{}'\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 900].join(", "));
    for text in [bomb, wide] {
        let found = defects(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("alias") && found[0].contains("line "), "{found:?}");
    }
}

#[test]
fn there_is_an_end_to_what_is_said() {
    let many = parse("", "kind: Nope\n---\n".repeat(5_000).as_bytes());
    assert_eq!(many.defects.len(), DEFECTS_MAX + 1);
    assert_eq!(many.defects[DEFECTS_MAX].problem, "there is more wrong than is said here");
    let text = format!("kind: Bucket\nname: {}\nmodule: m\n", "x".repeat(400_000));
    let long = parse("", text.as_bytes());
    assert!(long.defects[0].problem.len() < 1_100 && long.defects[0].document == "document 1");
    let buckets: String =
        (0..=DOCUMENTS_MAX).map(|n| format!("kind: Bucket\nname: /b/{n}\nmodule: m\n---\n")).collect();
    assert!(parse("", buckets.as_bytes()).defects[0].problem.contains("more than 10000 documents"));
}

/// Each of these once took minutes, or gigabytes: what is wrong was compared with what else is, or told at any length.
#[test]
fn what_is_wrong_with_a_document_costs_no_more_than_reading_it() {
    let module = "kind: Module\nname: m\nversion: '1'\nexec: {command: /x, args: ARGS}\nfiles: {FILES}\n";
    let list = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
    let checks = format!(
        "{{\"kind\":\"Module\",\"name\":\"m\",\"version\":\"1\",\"exec\":{{\"command\":\"/x\"}},\
         \"can_run_on_this_node\":{},\"secrets\":{}}}",
        list("0", 100_000),
        list("\"\"", 90_000)
    );
    let files: String = (0..9_000).map(|n| format!("a{n:04}: '',")).collect();
    let misnamed = module.replace("ARGS", &list("'${file.b}'", 14_000)).replace("FILES", &files);
    let unknown: String = (0..20_000).map(|n| format!("nam{n:05}: 1\n")).collect();
    let names: String = (0..40_000).map(|n| format!("j{n:05},")).collect();
    let job = format!("kind: Job\nname: j\nmodule: m\nsubtasks: {{array: 0-9}}\nafter: [{names}]\n");
    for (text, said) in [
        (checks, "expected a mapping, found a number 0"),
        (misnamed, "one of a0000, a0001"),
        (format!("{BUCKET}{unknown}"), "unknown field \"nam00000\""),
        (job, "40000 of them, and a job may name 1000"),
    ] {
        let parsed = parse("", text.as_bytes());
        assert!((1..=DEFECTS_MAX + 1).contains(&parsed.defects.len()), "{}", parsed.defects.len());
        assert!(parsed.defects.iter().any(|defect| defect.to_string().contains(said)), "{said}");
    }
}

#[test]
fn values_are_nested_no_deeper_than_texts() {
    let nested = |depth: usize| {
        let config: Value = (1..depth).fold(serde_json::json!({}), |inner, _| serde_json::json!([inner]));
        let config = serde_json::json!({ "a": config });
        parse_values(
            "",
            &[serde_json::json!({"kind": "Bucket", "name": "/a", "module": "m", "config": config})],
        )
    };
    // The document and its config are two of them.
    assert_eq!(nested(62).defects, []);
    assert_eq!(nested(63).defects[0].problem, "nested deeper than 64");
    assert_eq!(nested(100).documents, []);
}

#[test]
fn a_module_names_secrets_where_nobody_sees_them() {
    let good = "kind: Module\nname: m\nversion: '1'\nexec: {command: /x, env: {T: '${secret.a}'}}\nfiles: {f: 'x${secret.b.c}'}\n\
                secrets: [d, '${bucket.config.token}']\n";
    assert_eq!(defects(good), [""; 0]);
    let bad = "kind: Module\nname: m\nversion: '1'\nexec: {command: '${secret.a}', args: ['${secret.a}']}\n\
               secrets: [d, 'no name', '${node.name}']\n";
    let said = defects(bad);
    for start in
        ["exec.command: ", "exec.args[0]: ", "secrets[1]: name \"no name\" contains ' '", "secrets[2]: "]
    {
        assert!(said.iter().any(|text| text.contains(start)), "{start} in {said:#?}");
    }
    assert_eq!(said.len(), 4, "{said:#?}");
}
