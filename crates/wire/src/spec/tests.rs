//! Documents survive the way; strange ones are refused with all that is wrong.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::json;
use sheaf_model::{
    BucketName, BucketSpec, BucketType, Bytes, Call, Check, CheckKind, Defect, Exec, FileName, Json,
    LifeCycleCall, Limits, ModuleName, ModuleRef, ModuleSpec, ModuleVersion, NodeListRules, OnNodeLost,
    Placement, PutBucket, Restart, RestartWhen, Revision, Runtime, Signal, Span, Stop, Template, TemplateSet,
};

use super::*;

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_.-]{0,8}[a-z0-9]"
}

/// Any JSON that a document may hold; big integers and fractions among its numbers.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-z]{1,6}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Json> {
    btree_map("[a-z]{1,6}", value(), 0..5)
        .prop_map(|map| Json::new(&Value::Object(map.into_iter().collect())))
}

fn span() -> impl Strategy<Value = Span> {
    (1..3_600_000_u64).prop_map(Span)
}

fn module_ref() -> impl Strategy<Value = ModuleRef> {
    (name(), option::of("[0-9]\\.[0-9]{1,2}")).prop_map(|(name, version)| ModuleRef {
        name: ModuleName::new(&name).unwrap(),
        version: version.map(|version| ModuleVersion::new(&version).unwrap()),
    })
}

fn rules() -> impl Strategy<Value = NodeListRules> {
    let rule = prop::sample::select(vec!["import-*", "-import-03", "$gpu", "-$zone=?", "/^web\\d+$/i", "+a"]);
    vec(rule, 0..4).prop_map(|texts| NodeListRules::parse(&texts).unwrap())
}

fn bucket() -> impl Strategy<Value = BucketSpec> {
    let placement = prop_oneof![
        Just(Placement::LeastLoaded),
        Just(Placement::Random),
        "[a-z]{1,5}".prop_map(Placement::Spread)
    ];
    let first = (name(), module_ref(), any::<bool>(), any::<bool>(), rules(), object());
    let second = (option::of(span()), placement, any::<bool>(), option::of(1..50_u32));
    let third = (btree_map("[a-z]{1,6}", "[a-zA-Z0-9 ]{0,6}", 0..3), option::of("[a-z-]{1,9}"));
    (first, second, third).prop_map(|(first, second, third)| BucketSpec {
        name: BucketName::new(&format!("/{}", first.0)).unwrap(),
        kind: if first.2 { BucketType::Analytic } else { BucketType::Harvest },
        module: first.1,
        multi_node: first.3,
        node_list_rules: first.4,
        config: first.5,
        poll_frequency: second.0,
        placement: second.1,
        on_node_lost: if second.2 { OnNodeLost::Wait } else { OnNodeLost::Move },
        max_parallel: second.3,
        labels: third.0,
        owner: third.1,
    })
}

fn template(set: TemplateSet) -> impl Strategy<Value = Template> {
    let texts = vec![
        "/opt/x",
        "/a/${bucket.name}",
        "/a-${node.hostname}-b",
        "/$HOME $${x}",
        "/${bucket.config.port}",
    ];
    prop::sample::select(texts).prop_map(move |text| Template::parse(text, set).unwrap())
}

fn check() -> impl Strategy<Value = Check> {
    let set = TemplateSet::Check;
    let kind = prop_oneof![
        template(set).prop_map(CheckKind::File),
        template(set).prop_map(CheckKind::Dir),
        Just(CheckKind::Env(Template::parse("HOME", set).unwrap())),
        Just(CheckKind::Label(Template::parse("gpu*", set).unwrap())),
        (1..1_u64 << 40).prop_map(|bytes| CheckKind::MemoryAvailable(Bytes(bytes))),
        (1..1_u64 << 40).prop_map(|bytes| CheckKind::DiskAvailable(Bytes(bytes))),
        Just(CheckKind::PortFree(Template::parse("${bucket.config.port}", set).unwrap())),
        vec(template(set), 1..3).prop_map(CheckKind::Command),
    ];
    (kind, option::of(span())).prop_map(|(kind, timeout)| Check { kind, timeout })
}

fn exec() -> impl Strategy<Value = Exec> {
    let set = TemplateSet::Instance;
    let env = btree_map("[A-Z]{1,6}", template(TemplateSet::Confidential), 0..3);
    (template(set), vec(template(set), 0..3), env).prop_map(|(command, args, env)| Exec {
        command,
        args,
        env,
    })
}

fn restart() -> impl Strategy<Value = Restart> {
    let policies = vec![RestartWhen::Always, RestartWhen::OnFailure, RestartWhen::Never];
    (prop::sample::select(policies), 10..60_000_u64, 0..60_000_u64, 1..9_u32, 600_000..900_000_u64).prop_map(
        |(policy, min, more, give_up_count, window)| Restart {
            policy,
            backoff_min: Span(min),
            backoff_max: Span(min + more),
            give_up_count,
            give_up_window: Span(window),
        },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    (
        option::of(1 << 20..1_u64 << 40),
        option::of(1..64_000_u64),
        option::of(64..9999_u64),
        option::of(1..999_u64),
    )
        .prop_map(|(memory, cpu_millis, open_files, processes)| Limits {
            memory: memory.map(Bytes),
            cpu_millis,
            open_files,
            processes,
        })
}

fn module() -> impl Strategy<Value = ModuleSpec> {
    let files = btree_map(name(), template(TemplateSet::Confidential), 0..3);
    let entry = |text| Template::parse(text, TemplateSet::SecretNames).unwrap();
    let secrets = option::of(Just(vec![entry("token"), entry("${bucket.config.token}")]));
    // Calls at the end must fit into the grace.
    let stop = (prop::sample::select(Signal::ALL.to_vec()), 5_000..60_000_u64, life_cycle());
    let first = (name(), "[0-9]\\.[0-9]{1,2}(-rc1)?", any::<bool>(), vec(check(), 0..4), exec(), secrets);
    (first, files, stop, restart(), option::of(object()), limits(), option::of("[a-z]{1,8}")).prop_map(
        |(first, files, (signal, grace, life_cycle), restart, config_schema, limits, user)| ModuleSpec {
            name: ModuleName::new(&first.0).unwrap(),
            version: ModuleVersion::new(&first.1).unwrap(),
            runtime: Runtime::Exec,
            supports_multi_node: first.2,
            can_run_on_this_node: first.3,
            exec: Some(first.4),
            files: files.into_iter().map(|(name, text)| (FileName::new(&name).unwrap(), text)).collect(),
            stop: Stop { signal, grace: Span(grace) },
            restart,
            config_schema,
            limits,
            user,
            life_cycle: life_cycle.into_iter().filter(|(call, _)| *call != Call::Init).collect(),
            secrets: first.5.unwrap_or_default(),
        },
    )
}

fn life_cycle() -> impl Strategy<Value = BTreeMap<Call, LifeCycleCall>> {
    let call = (vec(template(TemplateSet::Instance), 1..3), option::of(1..5_000_u64))
        .prop_map(|(command, timeout)| LifeCycleCall { command, timeout: timeout.map(Span) });
    btree_map(prop::sample::select(Call::IN_DOCUMENTS.to_vec()), call, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_bucket_survives_being_asked_and_answered(
        spec in bucket(),
        suspended in option::of(any::<bool>()),
        base in option::of(any::<u64>()),
        latest in any::<bool>(),
    ) {
        prop_assert_eq!(&bucket_spec(Some(bucket_answer(spec.clone()))).unwrap(), &spec);
        let put = PutBucket { spec, suspended, base: base.map(Revision), latest };
        let documents = read(Vec::new(), vec![put.clone().into()]).unwrap();
        prop_assert_eq!(documents.buckets, vec![put]);
    }

    #[test]
    fn a_module_survives_being_asked_and_answered(spec in module()) {
        prop_assert_eq!(&module_spec(Some(module_answer(spec.clone()))).unwrap(), &spec);
        let documents = read(vec![Some(module_request(spec.clone()))], Vec::new()).unwrap();
        prop_assert_eq!(documents.modules, vec![spec]);
    }
}

fn asked(bucket: v1::BucketSpec) -> BucketMessage {
    BucketMessage { bucket: Some(bucket), ..BucketMessage::default() }
}

fn defects(modules: Vec<Option<v1::ModuleSpec>>, buckets: Vec<BucketMessage>) -> Vec<Defect> {
    match read(modules, buckets) {
        Err(ApiError::Invalid(defects)) => defects,
        other => panic!("refused as invalid, not {other:?}"),
    }
}

fn paths(defects: &[Defect]) -> Vec<&str> {
    defects.iter().map(|defect| defect.path.as_str()).collect()
}

#[test]
fn an_empty_message_is_refused_by_what_is_missing() {
    assert_eq!(paths(&defects(Vec::new(), vec![BucketMessage::default()])), ["bucket"]);
    assert_eq!(paths(&defects(vec![None], Vec::new())), ["module"]);
    let two = vec![BucketMessage::default(), BucketMessage::default()];
    assert_eq!(paths(&defects(Vec::new(), two)), ["buckets[0].bucket", "buckets[1].bucket"]);
    let empty = defects(Vec::new(), vec![asked(v1::BucketSpec::default())]);
    assert!(paths(&empty).contains(&"name") && paths(&empty).contains(&"module"), "{empty:?}");
    let empty = defects(vec![Some(v1::ModuleSpec::default())], Vec::new());
    assert!(paths(&empty).contains(&"name") && paths(&empty).contains(&"version"), "{empty:?}");
}

#[test]
fn unknown_numbers_and_bad_texts_of_a_bucket_are_refused_together() {
    let bucket = v1::BucketSpec {
        name: "/a//b".to_owned(),
        r#type: 7,
        module: "flume@".to_owned(),
        node_list_rules: vec!["web*".to_owned(), "/a(/".to_owned()],
        config_json: Some("[1]".to_owned()),
        placement: "anywhere".to_owned(),
        on_node_lost: -1,
        max_parallel: Some(0),
        poll_frequency_ms: Some(0),
        ..v1::BucketSpec::default()
    };
    let found = defects(Vec::new(), vec![asked(bucket)]);
    let found = paths(&found);
    for path in ["type", "on_node_lost", "name", "module", "node_list_rules[1]", "config", "placement"] {
        assert!(found.contains(&path), "{path} in {found:?}");
    }
    let bucket = v1::BucketSpec {
        name: "/a".to_owned(),
        module: "flume".to_owned(),
        max_parallel: Some(0),
        poll_frequency_ms: Some(u64::MAX),
        ..v1::BucketSpec::default()
    };
    let found = defects(Vec::new(), vec![asked(v1::BucketSpec { poll_frequency_ms: Some(0), ..bucket })]);
    assert_eq!(paths(&found), ["poll_frequency_ms", "max_parallel"]);
    assert_eq!(found[0].document, "Bucket /a");
}

#[test]
fn what_is_wrong_with_a_module_is_said_by_the_fields_of_the_message() {
    let check = |kind| v1::Check { kind, timeout_ms: None };
    let module = v1::ModuleSpec {
        name: "flume".to_owned(),
        version: "1".to_owned(),
        can_run_on_this_node: vec![
            check(Some(v1::check::Kind::File("${nothing}".to_owned()))),
            check(None),
            check(Some(v1::check::Kind::Command(v1::Command::default()))),
        ],
        exec: Some(v1::Exec { command: "${bucket.nam}".to_owned(), ..v1::Exec::default() }),
        files: BTreeMap::from([("a/b".to_owned(), String::new())]),
        stop: Some(v1::Stop { signal: 99, grace_ms: None }),
        restart: Some(v1::Restart {
            policy: 9,
            backoff_min_ms: Some(100),
            backoff_max_ms: Some(10),
            give_up_window_ms: Some(0),
            ..v1::Restart::default()
        }),
        ..v1::ModuleSpec::default()
    };
    let found = defects(vec![Some(module)], Vec::new());
    let found = paths(&found);
    for path in [
        "can_run_on_this_node[0].file",
        "can_run_on_this_node[1]",
        "exec.command",
        "stop.signal",
        "restart.policy",
        "restart.backoff_min_ms",
        "restart.give_up_count",
    ] {
        assert!(found.contains(&path), "{path} in {found:?}");
    }
    assert!(found.iter().any(|path| path.starts_with("files")), "{found:?}");
    assert!(!found.contains(&"can_run_on_this_node[1].file"), "the stand-in is not judged: {found:?}");
}

#[test]
fn defects_of_all_documents_come_together() {
    let good = v1::BucketSpec { name: "/a".to_owned(), module: "m".to_owned(), ..v1::BucketSpec::default() };
    let bad = v1::BucketSpec { name: "b".to_owned(), ..good.clone() };
    let worse = v1::BucketSpec { name: "/c".to_owned(), r#type: 3, ..good.clone() };
    let found =
        defects(vec![None], vec![asked(good.clone()), asked(bad), asked(worse), BucketMessage::default()]);
    assert_eq!(found.len(), 4, "{found:?}");
    let twice = defects(Vec::new(), vec![asked(good.clone()), asked(good)]);
    assert_eq!(paths(&twice), ["name"]);
}

#[test]
fn integers_in_a_config_stay_integers() {
    let config = json!({"port": 5140, "ratio": 0.5});
    let bucket = v1::BucketSpec {
        name: "/a".to_owned(),
        module: "m".to_owned(),
        config: config::structure(&config),
        ..v1::BucketSpec::default()
    };
    let documents = read(Vec::new(), vec![asked(bucket)]).unwrap();
    assert_eq!(documents.buckets[0].spec.config.as_str(), r#"{"port":5140,"ratio":0.5}"#);
}

/// A check takes two bytes on its way, and hundreds as a value.
#[test]
fn a_document_that_is_too_long_is_not_made_into_values() {
    let module = v1::ModuleSpec {
        name: "m".to_owned(),
        version: "1".to_owned(),
        can_run_on_this_node: vec![v1::Check::default(); SPEC_MAX / 2],
        ..v1::ModuleSpec::default()
    };
    let found = defects(vec![Some(module)], Vec::new());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].document, "Module m@1");
    assert!(found[0].problem.ends_with(" bytes, more than 512KiB"), "{found:?}");
    let empty = vec![None; DOCUMENTS_MAX + 1];
    assert_eq!(defects(empty, Vec::new())[0].problem, "there are more than 10000 documents");
}

/// A number of a list takes two bytes in a document, and eleven in a message.
#[test]
fn a_list_of_many_numbers_is_accepted_and_shown() {
    let numbers = Json::new(&json!({ "numbers": vec![7; 190_000] }));
    let bucket = v1::BucketSpec {
        name: "/a".to_owned(),
        module: "m".to_owned(),
        config: config::structure(&numbers.value()),
        ..v1::BucketSpec::default()
    };
    assert!(bucket.encoded_len() > SPEC_MAX);
    let bucket = read(Vec::new(), vec![asked(bucket)]).unwrap().buckets.remove(0).spec;
    assert_eq!(bucket.config, numbers);
    assert_eq!(bucket_spec(Some(bucket_answer(bucket.clone()))).unwrap(), bucket);
    let module = v1::ModuleSpec {
        name: "m".to_owned(),
        version: "1".to_owned(),
        exec: Some(v1::Exec { command: "/x".to_owned(), ..v1::Exec::default() }),
        config_schema: config::structure(&json!({ "enum": vec![7; 190_000] })),
        ..v1::ModuleSpec::default()
    };
    let module = read(vec![Some(module)], Vec::new()).unwrap().modules.remove(0);
    assert_eq!(module_spec(Some(module_answer(module.clone()))).unwrap(), module);
}

/// Its module's version, and what was left out, stand in an answer.
#[test]
fn the_longest_document_is_shown_with_all_that_was_added() {
    let bucket = |length: usize| v1::BucketSpec {
        name: "/a".to_owned(),
        module: "m".to_owned(),
        config_json: Some(json!({ "a": "x".repeat(length) }).to_string()),
        ..v1::BucketSpec::default()
    };
    let others =
        json!({"kind": "Bucket", "name": "/a", "module": "m", "multi_node": false, "config": {"a": ""}});
    let longest = DOCUMENT_MAX - others.to_string().len();
    let found = defects(Vec::new(), vec![asked(bucket(longest + 1))]);
    assert_eq!(found[0].problem, "the document has 524289 bytes, more than 512KiB");
    let mut bucket = read(Vec::new(), vec![asked(bucket(longest))]).unwrap().buckets.remove(0).spec;
    bucket.module = ModuleRef::parse("m@1.11.0").unwrap();
    assert_eq!(bucket_spec(Some(bucket_answer(bucket.clone()))).unwrap(), bucket);
}
