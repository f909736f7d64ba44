//! What people write: documents and everything in them.

use std::str::FromStr;

use sheaf_model::document::{self, DEFECTS_MAX, Document};
use sheaf_model::fingerprint::normalised;
use sheaf_model::sink::HttpUrl;
use sheaf_model::{
    BackendName, BucketName, BucketScope, Bytes, ClusterId, Cores, Digest, Fingerprint, Frequency, JobName,
    MeasureError, ModuleRef, NodeListRules, NodeRule, ObjectKey, Prefix, Ranges, Revision, Run as Numbers,
    Scope, SecretName, Selector, Setting, SinkName, Span, SpanRange, SubtaskScope, Template, TemplateSet,
    Timestamp, TokenId, TokenName, TokenText,
};
use sheaf_wire::Bearer;

use super::corpus::{documents, texts};
use super::mutate::Soil;
use super::run::{Target, demand, is_told};

pub(super) const DOCUMENTS: Target = Target {
    name: "documents",
    about: "documents in YAML and JSON, and that what is written of them reads back",
    inputs: 3_000,
    prepare: || (soil(documents(), &WORDS, 32 << 10), Box::new(read_documents)),
};
pub(super) const ITEMS: Target = Target {
    name: "items",
    about: "lines of a job's file of items",
    inputs: 20_000,
    prepare: || {
        let corpus =
            ["{\"tile\": \"T32\"}", "7", "{\"depends_on\": [0, 1], \"a\": {\"b\": [1.5, null]}}", "\"x\""];
        (
            soil(texts(&corpus), &["depends_on", "\\u0000", "\\ud800", "[[[[", "4294967296"], 4096),
            Box::new(read_item),
        )
    },
};
pub(super) const RULES: Target = Target {
    name: "rules",
    about: "node_list_rules, and checking them against nodes",
    inputs: 4_000,
    prepare: || {
        let corpus = [
            "+import-*\n-import-03\n$gpu",
            "/^web\\d+$/i\n-$/zone=[ab]/",
            "-a?c*\n$zone=*",
            "/(a|b){2,5}\\w+/xsm",
            "web1",
        ];
        let words = ["\\w{9}", "(?:", "{1000}", "\\pL", "[^a]", "\n", "/i", "-$/", "(?i)", "\\/", ".*", "$"];
        (soil(texts(&corpus), &words, 2048), Box::new(read_rules))
    },
};
pub(super) const TEMPLATES: Target = Target {
    name: "templates",
    about: "templates of every kind, and filling them in",
    inputs: 20_000,
    prepare: || {
        let corpus = [
            "/a/${bucket.name}-${node.hostname}$${x}",
            "${bucket.config.a.0.b}",
            "${file.a.conf} ${secret.b.c} ${item.x} $HOME",
            "${job}/${subtask}/${attempt}/${dir}/${sheaf}/${artifact}/${node.labels}/${bucket.revision}",
        ];
        let words = ["${", "$${", "}", "bucket.config.", "item.", "file.", "secret.", "$", "..", "${item}"];
        (soil(texts(&corpus), &words, 4096), Box::new(read_template))
    },
};
pub(super) const AMOUNTS: Target = Target {
    name: "amounts",
    about: "sizes, durations, ranges of them, frequencies, cores",
    inputs: 60_000,
    prepare: || {
        let corpus =
            ["512MiB", "1h 30m", "1s..60s", "5 in 10m", "0.5", "3months 2days", "1024", "10MB", "2w"];
        let words = ["ms", "s", "h", "y", "..", " in ", "TiB", "kB", ".", ",", "µs", "٣", "months"];
        (soil(texts(&corpus), &words, 200), Box::new(read_amounts))
    },
};
pub(super) const SELECTORS: Target = Target {
    name: "selectors",
    about: "selectors of subtasks",
    inputs: 20_000,
    prepare: || {
        let corpus =
            ["7", "1-10", "1-10:2", "failed,last", "0-999:3, 5,running,waiting,ready,finished,canceled"];
        let words = ["-", ":", ",", "last", "failed", "4294967295", "0-", ":0", " "];
        (soil(texts(&corpus), &words, 4096), Box::new(read_selector))
    },
};
pub(super) const NAMES: Target = Target {
    name: "names",
    about: "names of everything, and prefixes of buckets",
    inputs: 40_000,
    prepare: || {
        let corpus =
            ["/logs/web", "/team-a/", "flume@1.11.0", "crawler.token", ".checkpoint/n1", "ndvi-2024"];
        (soil(texts(&corpus), &["..", "/", "//", "@", "/../", "é", "a"], 400), Box::new(read_names))
    },
};
pub(super) const TOKENS: Target = Target {
    name: "tokens",
    about: "tokens as people and nodes show them, and what people sign in their place",
    inputs: 40_000,
    prepare: || {
        let (secret, pin) = ("cd".repeat(32), "0f".repeat(32));
        let corpus = [
            format!("sheaf_0102030405ff.{secret}"),
            format!(" sheaf_0102030405ff.{secret}.{pin}\n"),
            signed(),
        ];
        let corpus: Vec<&str> = corpus.iter().map(String::as_str).collect();
        (soil(texts(&corpus), &["sheaf_", ".", "g", "é", "+f", "A"], 400), Box::new(read_token))
    },
};
pub(super) const URLS: Target = Target {
    name: "urls",
    about: "where webhooks post to",
    inputs: 40_000,
    prepare: || {
        let corpus =
            ["https://hooks.example.org:8443/a?b=c", "http://[::1]:80", "https://h", "http://10.0.0.1/x"];
        let words = ["https://", "@", "#", "\r\n", "[", "]", ":", "/../", "%0d%0a", "?", "::", "+80"];
        (soil(texts(&corpus), &words, 2100), Box::new(read_url))
    },
};
pub(super) const SETTINGS: Target = Target {
    name: "settings",
    about: "settings of the cluster",
    inputs: 40_000,
    prepare: || {
        let corpus = [
            "lease.ttl=3s",
            "voters=auto",
            "voters=5",
            "repair.spread=zone",
            "jobs.max_subtasks=9",
            "offer_window=1s",
        ];
        (
            soil(texts(&corpus), &["lease.", "=", "auto", "ms", "heartbeat", "raft."], 300),
            Box::new(read_setting),
        )
    },
};
pub(super) const FINGERPRINTS: Target = Target {
    name: "fingerprints",
    about: "what is alike in messages of failures",
    inputs: 40_000,
    prepare: || {
        let corpus = ["tile=17, at 2024-01-01T12:00 in /a/b: deadbeef failed", "é: 0x1f/2 \\srv\\x 100%"];
        (soil(texts(&corpus), &["/", "0", "é", "\u{2028}", "=", "a1"], 3000), Box::new(read_message))
    },
};

const WORDS: [&str; 30] = [
    "---\n",
    "kind: ",
    "name: ",
    "  ",
    "- ",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "|\n",
    ">\n",
    "'",
    "\"",
    "{a: ",
    "}",
    "[",
    "]",
    ": ",
    "~",
    "null",
    "${bucket.config.x}",
    "${secret.a}",
    "1.5GiB",
    "depends_on",
    "\u{feff}",
    "\u{85}",
    "# ",
    "? ",
    "...\n",
    "{\"kind\":\"Bucket\"",
];

fn soil(corpus: Vec<Vec<u8>>, words: &[&str], longest: usize) -> Soil {
    Soil { corpus, words: texts(words), longest, anew: None }
}

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

fn read_documents(input: &[u8]) -> Result<(), String> {
    for file in ["", "x.json"] {
        let parsed = document::parse(file, input);
        let (documents, defects) = (&parsed.documents, &parsed.defects);
        demand(!(documents.is_empty() && defects.is_empty()), || "it is neither good nor bad".to_owned())?;
        demand(defects.len() <= DEFECTS_MAX + 1, || format!("{} defects", defects.len()))?;
        for defect in defects {
            demand(!defect.problem.trim().is_empty(), || format!("a defect says nothing: {defect:?}"))?;
            is_told(&defect.to_string(), input)?;
            demand(defect.to_string().len() < 20_000, || "a defect is told at any length".to_owned())?;
        }
        if defects.is_empty() {
            documents.iter().try_for_each(reads_back)?;
        }
    }
    Ok(())
}

/// Whether what is written of a document is read as the same.
fn reads_back(document: &Document) -> Result<(), String> {
    let value = match document {
        Document::Module(spec) => document::module_value(spec),
        Document::Bucket(put) => document::bucket_value(&put.spec, put.suspended == Some(true), put.base),
        Document::Backend(spec) => document::backend_value(spec),
        Document::Sink(spec) => document::sink_value(spec),
        Document::Job(_) => return Ok(()), // nothing writes jobs
    };
    let same = |again: &Document| match (document, again) {
        (Document::Bucket(one), Document::Bucket(other)) => one.spec == other.spec && one.base == other.base,
        (one, other) => one == other,
    };
    let yaml = document::yaml(&value);
    for (how, again) in
        [("a value", document::parse_values("", &[value])), ("YAML", document::parse("", yaml.as_bytes()))]
    {
        let alike =
            again.defects.is_empty() && again.documents.len() == 1 && again.documents.iter().all(same);
        demand(alike, || format!("written as {how} it is another: {:?}\n{yaml}", again.defects))?;
    }
    Ok(())
}

fn read_item(input: &[u8]) -> Result<(), String> {
    match document::item_line(input) {
        Ok(item) => {
            let sorted = item.depends_on.is_sorted_by(|a, b| a < b);
            demand(sorted, || format!("dependencies in no order: {:?}", item.depends_on))
        }
        Err(defects) => {
            demand(!defects.is_empty(), || "refused for nothing".to_owned())?;
            defects.iter().try_for_each(|defect| is_told(&defect.to_string(), input))
        }
    }
}

fn read_rules(input: &[u8]) -> Result<(), String> {
    let text = text(input);
    let lines: Vec<&str> = text.split('\n').collect();
    for line in &lines {
        match NodeRule::parse(line) {
            Ok(rule) => demand(rule.text == *line, || format!("{line:?} is kept as {:?}", rule.text))?,
            Err(error) => {
                is_told(&error.to_string(), input)?;
                let within = (1..=line.chars().count() + 1).contains(&error.position);
                demand(within, || format!("it is wrong at {}, beyond its end: {line:?}", error.position))?;
            }
        }
    }
    match NodeListRules::parse(&lines) {
        Ok(rules) => {
            demand(rules.texts() == lines, || "the rules are others".to_owned())?;
            let compiled = rules.compile();
            let labels = ["gpu".to_owned(), "zone=a".to_owned(), text.chars().take(50).collect()];
            for (hostname, labels) in
                [("import-01", &labels[..]), ("web1.example.org", &labels[..0]), ("", &labels[2..])]
            {
                if let Err(why) = compiled.check(hostname, labels) {
                    demand(!why.is_empty(), || format!("{hostname} is refused for nothing"))?;
                }
            }
            Ok(())
        }
        Err(errors) => demand(!errors.is_empty(), || "refused for nothing".to_owned()),
    }
}

fn read_template(input: &[u8]) -> Result<(), String> {
    use TemplateSet::{Check, Confidential, Instance, Program, SecretNames, Subtask};
    let text = text(input);
    let config = serde_json::json!({"a": [{"b": 1}], "port": 5140, "none": null, "text": "x"});
    let labels = ["gpu".to_owned()];
    let scope = Scope {
        bucket: Some(BucketScope { name: "/a", revision: Revision(7), config: &config }),
        node_name: "n1",
        node_hostname: "n1.example.org",
        node_labels: &labels,
        dir: Some("/var/lib/x"),
        files: Some("/var/lib/x/files"),
        sheaf: "/usr/bin/sheaf",
        artifact: None,
        subtask: Some(SubtaskScope { job: "j", subtask: 1, attempt: 2, item: &config }),
    };
    for set in [Instance, Confidential, SecretNames, Check, Subtask, Program] {
        match Template::parse(&text, set) {
            Ok(template) => {
                let again = Template::parse(&template.to_string(), set);
                demand(again.as_ref() == Ok(&template), || format!("{template} reads back as {again:?}"))?;
                for given in [scope, Scope::default()] {
                    if let Err(error) = template.render(&given) {
                        is_told(&error.to_string(), input)?;
                    }
                    let _pieces = template.render_but_secrets(&given);
                }
            }
            Err(error) => {
                is_told(&error.to_string(), input)?;
                demand(!error.remedy.is_empty(), || format!("no remedy: {error}"))?;
            }
        }
    }
    Ok(())
}

/// Whether an amount, if it is one, is printed so that it reads back.
fn amount<T>(text: &str) -> Result<(), String>
where
    T: FromStr<Err = MeasureError> + ToString + PartialEq + std::fmt::Debug,
{
    match text.parse::<T>() {
        Ok(amount) => {
            let again = amount.to_string().parse::<T>();
            demand(again.as_ref() == Ok(&amount), || format!("{amount:?} reads back as {again:?}"))
        }
        Err(error) => {
            is_told(&error.problem, text.as_bytes())?;
            demand(error.problem.len() + error.remedy.len() < 2_000, || "told at any length".to_owned())
        }
    }
}

fn read_amounts(input: &[u8]) -> Result<(), String> {
    let text = text(input);
    amount::<Bytes>(&text)?;
    amount::<Span>(&text)?;
    amount::<SpanRange>(&text)?;
    amount::<Frequency>(&text)?;
    amount::<Cores>(&text)
}

fn read_selector(input: &[u8]) -> Result<(), String> {
    let text = text(input);
    amount::<Selector>(&text)?;
    let Ok(selector) = text.parse::<Selector>() else { return Ok(()) };
    let (count, failed) = (1_000, Ranges::from(Numbers::new(30, 31)));
    let selected = selector.select(count, |_| failed.clone());
    demand(selected.runs().all(|run| run.last < count), || format!("{selected} of {count}"))?;
    let most = selector.runs(count) + 1;
    demand(selected.runs().count() as u64 <= most, || format!("{selected} in more than {most} runs"))
}

fn read_names(input: &[u8]) -> Result<(), String> {
    let text = text(input);
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if let Ok(name) = BucketName::new(&text) {
        let parts = name.as_str().split('/').skip(1).all(plain);
        demand(parts && name.as_str() == text, || format!("{name} leads elsewhere"))?;
    }
    if let Ok(prefix) = Prefix::new(&text)
        && text.len() < 190
    {
        let within = BucketName::new(&format!("{prefix}x")).map_err(|error| error.to_string())?;
        let beside = BucketName::new(&format!("{}x", text.trim_end_matches('/')))
            .map_err(|error| error.to_string())?;
        demand(prefix.contains(&within) && !prefix.contains(&beside), || format!("{prefix} is no prefix"))?;
    }
    if let Ok(module) = ModuleRef::parse(&text) {
        demand(ModuleRef::parse(&module.to_string()) == Ok(module.clone()), || {
            format!("{module} is another")
        })?;
    }
    for error in [
        BucketName::new(&text).err(),
        Prefix::new(&text).err(),
        ModuleRef::parse(&text).err(),
        ObjectKey::new(&text).err(),
        SecretName::new(&text).err(),
        TokenName::new(&text).err(),
        JobName::new(&text).err(),
        BackendName::new(&text).err(),
        SinkName::new(&text).err(),
    ]
    .into_iter()
    .flatten()
    {
        is_told(&error.problem, input)?;
        demand(!error.remedy.is_empty(), || format!("no remedy: {error}"))?;
    }
    let _digest = text.parse::<Digest>();
    Ok(())
}

/// `{"alg":"ES256","x5c":["MAA="]}`, `{"aud":"c","sub":"0102030405ff","iat":1700000000,"exp":1700000300}`, and 64 bytes.
fn signed() -> String {
    let said = "eyJhbGciOiJFUzI1NiIsIng1YyI6WyJNQUE9Il19.\
                eyJhdWQiOiJjIiwic3ViIjoiMDEwMjAzMDQwNWZmIiwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjE3MDAwMDAzMDB9";
    format!("{said}.{}AQ", "AQEB".repeat(21))
}

/// Whatever is signed there, it is by none of no authorities.
fn read_signed(text: &str) -> Result<(), String> {
    let Ok(Bearer::Signed(signed)) = Bearer::parse(text) else { return Ok(()) };
    demand(!format!("{signed:?}").contains(text.trim()), || "all of it is printed".to_owned())?;
    match signed.verify(&ClusterId::from("c"), &[], Timestamp(1_700_000_000_000)) {
        Ok(_) => Err("it is believed".to_owned()),
        Err(why) => is_told(&why, &[]),
    }
}

fn read_token(input: &[u8]) -> Result<(), String> {
    let text = text(input);
    let _id = TokenId::parse(&text);
    read_signed(&text)?;
    match TokenText::parse(&text) {
        Ok(token) => {
            let revealed = token.reveal();
            demand(TokenText::parse(&revealed) == Ok(token.clone()), || "it is another one".to_owned())?;
            let secret = revealed.split('.').nth(1).unwrap_or_default();
            demand(!format!("{token:?}").contains(secret), || "its secret is printed".to_owned())
        }
        Err(error) => {
            let told = error.to_string();
            is_told(&told, &[])?;
            let secret: String = text.chars().skip(20).take(20).collect();
            let repeated = secret.chars().count() == 20 && told.contains(&secret);
            demand(!repeated, || "what may be a secret is repeated".to_owned())
        }
    }
}

fn read_url(input: &[u8]) -> Result<(), String> {
    let text = text(input);
    match HttpUrl::parse(&text) {
        Ok(url) => {
            let sent = format!("{}{}", url.authority(), url.path);
            demand(sent.chars().all(|c| c.is_ascii_graphic()), || format!("{sent:?} would be sent"))?;
            if sent.len() > 1_900 {
                return Ok(()); // with what is left out where it is usual it may be too long
            }
            let again = HttpUrl::parse(&format!("http{}://{sent}", if url.tls { "s" } else { "" }));
            demand(again.as_ref() == Ok(&url), || format!("{url:?} reads back as {again:?}"))
        }
        Err(error) => is_told(error, &[]),
    }
}

fn read_setting(input: &[u8]) -> Result<(), String> {
    let text = text(input);
    let (key, value) = text.split_once('=').unwrap_or((&text, ""));
    match Setting::parse(key, value) {
        Ok(_) => Ok(()),
        Err(defect) => is_told(&defect.problem, input),
    }
}

fn read_message(input: &[u8]) -> Result<(), String> {
    let text = text(input);
    let masked = normalised(&text);
    demand(masked.len() <= 2 * text.len() + 1, || "it grows".to_owned())?;
    demand(Fingerprint::of(&text) == Fingerprint::of(&text), || "it is not the same twice".to_owned())
}
