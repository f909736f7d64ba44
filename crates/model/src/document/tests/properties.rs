//! What is written reads back as the same; and no bytes, however wrong, make reading panic.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::*;

/// Texts that a writer of YAML may get wrong.
#[rustfmt::skip]
const AWKWARD: &[&str] = &[
    "", " ", "yes", "no", "~", "null", "true", "1.10", "0x1F", "0755", "1_000", ".inf", "2024-01-01",
    "12:30:45", "- a", "a: b", "a #b", "#a", "'", "\"", "\\", "{", "[", "&a", "*a", "!a", "|", ">", "%",
    "@", "`", "?", "? a", "-", "---", "...", "--- a", "=", "<<", "a\nb", "a\n", "\na", "\n", "\n\n",
    " a\nb", "a \nb", "a\n b\n\n", "\ta", "a\t", "a\r\nb", "\r", "\u{85}", "\u{2028}", "\u{feff}a",
    "\u{7f}", "\u{1}", "\u{fffe}", "😀", "$${a}", "${", "a\n---\nb", "a\n# b", " # ", "key: |", "1e3",
    "-0.0", "+1", "1.", ".5", "0o7", "NaN", "é: è", "x\n\n  y\n z",
];

/// Awkward texts and any others.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(AWKWARD).prop_map(str::to_owned),
        "\\PC{0,12}",
        "[a \n:#'\"-]{0,10}",
        any::<String>().prop_map(|text| text.chars().take(20).collect()),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(-0.0)),
        Just(json!(1e300)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(text(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Json> {
    btree_map(text(), value(), 0..4).prop_map(|map| Json::new(&Value::Object(map.into_iter().collect())))
}

/// Any time that is not zero.
fn span() -> impl Strategy<Value = Span> {
    prop_oneof![1..100_000u64, 1..=u64::MAX].prop_map(Span)
}

fn bucket() -> impl Strategy<Value = BucketSpec> {
    let rule = prop_oneof![
        Just("+import-*"),
        Just("-import-03"),
        Just("$gpu"),
        Just("-$/^a\\/b$/i"),
        Just("a: 'b'\\")
    ];
    let placement = prop_oneof![
        Just(Placement::LeastLoaded),
        Just(Placement::Random),
        "[a-z_.:#-]{1,8}".prop_map(Placement::Spread)
    ];
    let line = "[^\\p{C},\\n]{0,12}";
    let words = (
        "(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,5}){1,3}",
        "[a-z0-9][A-Za-z0-9_.-]{0,8}(@[A-Za-z0-9_.+-]{1,8})?",
        btree_map("[A-Za-z0-9_./-]{1,8}", line, 0..3),
        option::of("[^\\p{C}]{1,12}"),
    );
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), placement);
    (words, switches, vec(rule, 0..4), object(), option::of(span()), option::of(1..=u32::MAX)).prop_map(
        |(
            (name, module, labels, owner),
            (analytic, multi_node, wait, placement),
            rules,
            config,
            every,
            parallel,
        )| {
            let name = BucketName::new(&name).expect("a name");
            let module = ModuleRef::parse(&module).expect("a module");
            BucketSpec {
                kind: if analytic { BucketType::Analytic } else { BucketType::Harvest },
                multi_node,
                node_list_rules: NodeListRules::parse(&rules).expect("rules"),
                config,
                poll_frequency: every,
                placement,
                on_node_lost: if wait { OnNodeLost::Wait } else { OnNodeLost::Move },
                max_parallel: parallel,
                labels,
                owner,
                ..BucketSpec::new(name, module)
            }
        },
    )
}

/// A template of a set; only names that every set has, and a file that every generated module has.
fn template(set: TemplateSet) -> impl Strategy<Value = Template> {
    let names = match set {
        TemplateSet::Check => vec!["${node.name}", "${bucket.config.a.0}", "$${x}", "$$", "${sheaf}"],
        TemplateSet::Confidential => vec!["${dir}", "${file.a.conf}", "${secret.a.b}", "$${x}"],
        _ => vec!["${dir}", "${file.a.conf}", "${bucket.config}", "$${x}", "$HOME", "${node.labels}"],
    };
    let part = prop_oneof![text(), proptest::sample::select(names).prop_map(str::to_owned)];
    vec(part, 0..4).prop_filter_map("a template", move |parts| {
        Template::parse(&parts.concat().replace('\0', ""), set).ok()
    })
}

fn check() -> impl Strategy<Value = Check> {
    let path = || {
        template(TemplateSet::Check).prop_map(|mut path| {
            path.0.insert(0, Part::Text("/".to_owned()));
            Template::parse(&path.to_string(), TemplateSet::Check).expect("a template still")
        })
    };
    let label = template(TemplateSet::Check).prop_filter("not empty", |label| !label.0.is_empty());
    let port = prop_oneof![
        (1..=u16::MAX).prop_map(|port| port.to_string()),
        Just("${bucket.config.port}".to_owned())
    ];
    let kind = prop_oneof![
        path().prop_map(CheckKind::File),
        path().prop_map(CheckKind::Dir),
        label.prop_map(CheckKind::Label),
        "[A-Z_]{1,4}(=[^\\p{C}$]{0,5})?".prop_map(|text| {
            CheckKind::Env(Template::parse(&text, TemplateSet::Check).expect("a template"))
        }),
        any::<u64>().prop_map(|size| CheckKind::MemoryAvailable(Bytes(size))),
        (0..9999u64).prop_map(|size| CheckKind::DiskAvailable(Bytes(size << 20))),
        port.prop_map(|port| CheckKind::PortFree(
            Template::parse(&port, TemplateSet::Check).expect("a template")
        )),
        vec(template(TemplateSet::Check), 0..3).prop_map(|mut command| {
            command.insert(0, Template::parse("/bin/true", TemplateSet::Check).expect("a template"));
            CheckKind::Command(command)
        }),
    ];
    (kind, option::of(span())).prop_map(|(kind, timeout)| Check { kind, timeout })
}

fn module() -> impl Strategy<Value = ModuleSpec> {
    let instance = || template(TemplateSet::Instance);
    let confidential = || template(TemplateSet::Confidential);
    let exec = (
        instance()
            .prop_filter("not blank", |command| command.literal().is_none_or(|text| !text.trim().is_empty())),
        vec(instance(), 0..4),
        btree_map("[A-Za-z_][A-Z0-9_]{0,6}", confidential(), 0..3),
    );
    let files = btree_map("[a-z0-9][a-z0-9_.-]{0,6}", confidential(), 0..3);
    let restart = (0..3usize, 10..u64::MAX, 10..u64::MAX, any::<u32>(), span());
    let limits = (
        option::of(1..=u64::MAX),
        option::of(1..=Cores::MAX),
        option::of(1..=u64::MAX),
        option::of(1..=u64::MAX),
        option::of("[a-z_][a-z0-9_-]{0,8}"),
    );
    let head = ("[a-z0-9][A-Za-z0-9_.-]{0,8}", "[A-Za-z0-9_.+-]{1,8}", any::<bool>(), option::of(object()));
    let call = (vec(instance(), 0..3), option::of(1..=u64::MAX));
    let stop = (0..Signal::ALL.len(), any::<u64>(), btree_map(0..Call::IN_DOCUMENTS.len(), call, 0..3));
    (head, vec(check(), 0..4), exec, files, stop, restart, limits).prop_map(
        |((name, version, multi, schema), checks, (command, args, env), files, stop, restart, limits)| {
            let name = ModuleName::new(&name).expect("a name");
            let version = ModuleVersion::new(&version).expect("a version");
            let file = |name: &str| FileName::new(name).expect("a name");
            let mut files: BTreeMap<_, _> =
                files.into_iter().map(|(name, text)| (file(&name), text)).collect();
            files.insert(file("a.conf"), Template::default());
            let policies = [RestartWhen::Always, RestartWhen::OnFailure, RestartWhen::Never];
            let grace = stop.1;
            let life_cycle = stop.2.into_iter().map(|(call, (args, timeout))| {
                let call = Call::IN_DOCUMENTS[call];
                let command =
                    std::iter::once(Template::parse("/bin/x", TemplateSet::Instance).expect("a template"));
                // Those at the end must fit into the grace.
                let timeout = timeout.filter(|timeout| !call.is_farewell() || *timeout <= grace).map(Span);
                (call, LifeCycleCall { command: command.chain(args).collect(), timeout })
            });
            ModuleSpec {
                // No command line is told who it is.
                life_cycle: life_cycle.filter(|(call, _)| *call != Call::Init).collect(),
                supports_multi_node: multi,
                can_run_on_this_node: checks,
                exec: Some(Exec { command, args, env }),
                files,
                stop: Stop { signal: Signal::ALL[stop.0], grace: Span(stop.1) },
                restart: Restart {
                    policy: policies[restart.0],
                    backoff_min: Span(restart.1.min(restart.2)),
                    backoff_max: Span(restart.1.max(restart.2)),
                    give_up_count: restart.3,
                    give_up_window: restart.4,
                },
                config_schema: schema,
                limits: Limits {
                    memory: limits.0.map(Bytes),
                    cpu_millis: limits.1,
                    open_files: limits.2,
                    processes: limits.3,
                },
                user: limits.4,
                ..ModuleSpec::new(name, version, Runtime::Exec)
            }
        },
    )
}

/// What stands under `secrets`.
fn secrets() -> impl Strategy<Value = Vec<Template>> {
    let entry = |text: &str| Template::parse(text, TemplateSet::SecretNames).expect("a template");
    vec(prop_oneof![Just(entry("a")), Just(entry("${bucket.config.b}"))], 0..3)
}

fn only(parsed: Parsed) -> Result<Document, TestCaseError> {
    prop_assert_eq!(&parsed.defects, &vec![]);
    prop_assert_eq!(parsed.documents.len(), 1);
    Ok(parsed.documents.into_iter().next().expect("one document"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_written_bucket_reads_back(spec in bucket(), suspended: bool, revision: Option<u64>) {
        let base = revision.map(Revision);
        let expected = PutBucket { spec, suspended: suspended.then_some(true), base, latest: false };
        let yaml = bucket_yaml(&expected.spec, suspended, base);
        prop_assert_eq!(only(parse("", yaml.as_bytes()))?, Document::Bucket(Box::new(expected.clone())), "{}", yaml);
        let value = bucket_value(&expected.spec, suspended, base);
        let json = serde_json::to_string_pretty(&value).expect("JSON");
        prop_assert_eq!(only(parse("", json.as_bytes()))?, Document::Bucket(Box::new(expected)));
    }

    #[test]
    fn a_written_module_reads_back(plain in module(), secrets in secrets()) {
        let spec = ModuleSpec { secrets, ..plain };
        let yaml = module_yaml(&spec);
        prop_assert_eq!(only(parse("", yaml.as_bytes()))?, Document::Module(Box::new(spec.clone())), "{}", yaml);
        prop_assert_eq!(only(parse_values("", &[module_value(&spec)]))?, Document::Module(Box::new(spec)));
    }

    #[test]
    fn only_equal_values_have_no_differences(old in value(), new in value()) {
        prop_assert!(differences(&old, &old).is_empty());
        prop_assert_eq!(differences(&old, &new).is_empty(), old == new);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200)) {
        let parsed = parse("", &bytes);
        prop_assert!(!(parsed.documents.is_empty() && parsed.defects.is_empty()));
    }

    #[test]
    fn no_value_makes_it_panic(kind in "Bucket|Module", fields in btree_map(
        "name|version|runtime|module|exec|files|stop|restart|limits|life_cycle|config|labels|can_run_on_this_node|placement|owner",
        value(),
        0..8,
    )) {
        let mut document = json!({"kind": kind});
        document.as_object_mut().expect("a mapping").extend(fields);
        let parsed = parse_values("", &[document]);
        prop_assert!(parsed.documents.len() + parsed.defects.len() > 0);
    }

    /// The manual's documents with a few pieces cut out, doubled or overwritten.
    #[test]
    fn no_mutation_makes_it_panic(
        cuts in vec((any::<prop::sample::Index>(), 0..12usize, "[ \n\t:{}\\[\\]&*!|>'\"#%@a0-]{0,4}"), 1..6)
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, length, instead) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, instead.chars());
        }
        let text: String = text.into_iter().collect();
        let parsed = parse("", text.as_bytes());
        prop_assert!(parsed.documents.len() + parsed.defects.len() > 0, "{}", text);
        for defect in parsed.defects {
            prop_assert!(!defect.problem.is_empty());
        }
    }
}
