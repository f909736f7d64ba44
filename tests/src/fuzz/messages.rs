//! What clients and peers send: messages of every call, filters, places in history; and what answers them.

use sheaf_model::session::ToNode;
use sheaf_model::watch::WatchItem;
use sheaf_model::{Cursor, NodeId};
use sheaf_simulation::random::Random;
use sheaf_wire::probe::{self, Probe};
use sheaf_wire::{ApiError, Filter};

use super::corpus::texts;
use super::log::grown;
use super::mutate::Soil;
use super::run::{Target, demand, is_told};

pub(super) const FILTERS: Target = Target {
    name: "filters",
    about: "filters of lists, and places in history",
    inputs: 40_000,
    prepare: || {
        let corpus = texts(&["state=running,label.team!=web", "name=/logs/*", "7.12", "4711"]);
        let words = texts(&["label.", "!=", "=", ",", " ", "state", "stat", "4294967295", ".", "name=/a*,"]);
        (Soil { corpus, words, longest: 4096, anew: None }, Box::new(read_filter))
    },
};
pub(super) const MESSAGES: Target = Target {
    name: "messages",
    about: "questions of every call, and that what was read is written as the same",
    inputs: 60_000,
    prepare: || {
        let probes = probe::questions();
        let soil = Soil { corpus: corpus(), words: words(), longest: 16 << 10, anew: Some(anew) };
        (soil, Box::new(move |input: &[u8]| read_message(&probes, input)))
    },
};
pub(super) const ANSWERS: Target = Target {
    name: "answers",
    about: "answers to every call, from nodes of other versions and from those that are none",
    inputs: 60_000,
    prepare: || {
        let probes = probe::answers();
        let corpus = each(probes.len(), &answers());
        let soil = Soil { corpus, words: words(), longest: 16 << 10, anew: Some(anew) };
        (soil, Box::new(move |input: &[u8]| read_answer(&probes, input)))
    },
};

/// Texts that mean something somewhere.
const TEXTS: [&str; 34] = [
    "/a",
    "/logs/web",
    "m",
    "flume@1.11.0",
    "1",
    "j",
    "n1",
    "+import-*",
    "/^a(/",
    "$gpu",
    "spread:zone",
    "random",
    "1-10:2",
    "failed,last",
    "state=running",
    "label.a!=b",
    "exit_code = 9",
    "SELECT 1",
    "viewer",
    "operator",
    "voter",
    "/team-a/",
    "exec",
    "plugin",
    "builtin:http",
    "${bucket.config.a}",
    "${secret.a}",
    "{\"a\": [1, {\"b\": null}]}",
    "https://h/x",
    "a@b.c",
    "lease.ttl",
    "3s",
    "on_stop",
    "7.1",
];

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// A field of bytes, text or message.
pub(super) fn field(number: u64, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(number << 3 | 2, &mut out);
    varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

/// A field that is a number.
pub(super) fn number(field: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3, &mut out);
    varint(value, &mut out);
    out
}

/// Any message: fields of low numbers, texts of the list, messages within messages.
fn message(random: &mut Random, depth: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..random.below(8) {
        let place = 1 + random.below(16);
        out.extend(match random.below(8) {
            0 | 1 => field(place, TEXTS[random.index(TEXTS.len())].as_bytes()),
            2 | 3 if depth < 4 => field(place, &message(random, depth + 1)),
            4 => number(place, random.below(4)),
            5 => number(place, random.any() >> random.below(64)),
            6 => field(place, &random.any().to_le_bytes()[..random.index(9)]),
            _ => field(place, b""),
        });
    }
    out
}

/// Which call, then a message.
pub(super) fn anew(random: &mut Random) -> Vec<u8> {
    let mut input = vec![random.any().to_le_bytes()[0]];
    input.extend(message(random, 0));
    input
}

/// Good messages, each for all calls: fields of one mean something in others, too.
fn each(calls: usize, good: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let calls = u8::try_from(calls).unwrap_or(u8::MAX);
    (0..calls).flat_map(|call| good.iter().map(move |good| [&[call][..], good].concat())).collect()
}

/// A bucket, a module, a job and a sink, as messages have them.
fn specs() -> [Vec<u8>; 4] {
    let bucket = [field(1, b"/a"), field(3, b"m@1"), field(5, b"+import-*"), field(7, b"{\"a\":1}")].concat();
    let exec = [field(1, b"/bin/true"), field(2, b"${dir}")].concat();
    let module =
        [field(1, b"m"), field(2, b"1"), field(3, b"exec"), field(5, &field(1, b"/x")), field(6, &exec)]
            .concat();
    let job = [field(1, b"j"), field(2, b"m"), field(3, &[number(1, 0), number(2, 9)].concat())].concat();
    let sink = [field(1, b"s"), field(2, &field(1, b"https://h/x"))].concat();
    [bucket, module, job, sink]
}

/// A good question of some calls.
fn corpus() -> Vec<Vec<u8>> {
    let [bucket, module, job, sink] = specs();
    let good = [
        field(1, &bucket),
        field(1, &module),
        [field(1, &module), field(2, &field(1, &bucket))].concat(),
        job,
        field(1, &sink),
        field(1, b"/a"),
        [field(1, b"j"), field(2, b"1-10:2"), field(5, b"state = 'failed'")].concat(),
        [field(1, b"alice"), field(2, b"operator"), field(3, b"/team-a/"), number(4, 60_000)].concat(),
        [field(1, b"SELECT name FROM nodes"), number(2, 10)].concat(),
        [field(1, b"i"), field(2, b"k"), field(3, b"c")].concat(),
    ];
    each(probe::questions().len(), &good)
}

/// A good answer to some calls.
fn answers() -> Vec<Vec<u8>> {
    let [bucket, module, job, sink] = specs();
    let at = number(1, 1_700_000_000);
    let instance =
        [field(1, b"n1"), field(2, b"running"), number(3, 7), field(5, &at), number(9, 1)].concat();
    let label = [field(1, b"team"), field(2, b"web")].concat();
    let row =
        [field(1, b"/a"), number(2, 3), number(3, 1), field(4, b"m@1"), field(9, &at), field(14, &label)];
    let status =
        [field(1, b"/a"), number(2, 7), number(3, 1), field(4, b"m@1"), number(11, 3), field(14, &instance)];
    let job_status =
        [field(1, b"j"), number(2, 1), number(3, 1), number(4, 50), field(8, &number(1, 3)), field(12, &at)];
    let node = [field(1, b"n1"), number(2, 1), field(4, b"h:1"), field(5, b"ready"), field(16, &at)].concat();
    let [row, status, job_status] = [row.concat(), status.concat(), job_status.concat()];
    let token = format!("sheaf_{}.{}.{}", "0".repeat(12), "1".repeat(64), "2".repeat(64));
    let sealed = [field(1, &[1; 8]), field(2, &[2; 12]), field(3, &[3; 24])].concat();
    let defect = [field(3, b"module"), field(4, b"there is no module x"), field(5, b"one of: m")].concat();
    let detail = [field(1, b"type.googleapis.com/sheaf.v1.Defects"), field(2, &field(1, &defect))].concat();
    let mut good = vec![
        field(1, &row),
        [number(1, 7), field(3, &status)].concat(),
        [field(1, &bucket), field(2, &status)].concat(),
        [field(1, &module), field(2, &field(1, b"m"))].concat(),
        [field(1, &job), field(2, &job_status)].concat(),
        [field(1, &sink), field(2, &field(1, b"s"))].concat(),
        [field(1, &[field(1, b"b"), number(2, 4)].concat()), field(2, &field(1, b"b"))].concat(),
        field(1, &job_status),
        field(1, &node),
        node,
        [field(1, b"n1"), field(2, &at), number(3, 1), field(4, b"a line")].concat(),
        [field(1, b"7.1"), number(2, 7), field(4, &at), field(5, b"bucket.bound"), field(6, b"/a")].concat(),
        [field(1, b"i"), field(2, b"k"), field(3, b"n1"), field(4, b"h:1"), field(5, b"c"), number(6, 1)]
            .concat(),
        [field(1, token.as_bytes()), field(2, &field(1, b"alice"))].concat(),
        field(1, &sealed),
        [number(1, 3), field(2, b"wrong"), field(3, &detail)].concat(),
        [field(1, b"name"), field(2, &field(1, &field(3, b"x")))].concat(),
    ];
    good.extend([row, status, job_status]);
    good.extend(told().iter().map(|json| field(1, json)));
    good
}

/// What agents are told, as JSON.
fn told() -> Vec<Vec<u8>> {
    let (state, _) = grown();
    let versions = state.modules.values().flat_map(|versions| versions.values());
    let mut items: Vec<WatchItem> =
        versions.take(2).map(|module| WatchItem::Module(module.spec.clone())).collect();
    items.extend(state.nodes.values().take(1).map(|node| WatchItem::Own(Box::new(node.clone()))));
    items.extend([
        WatchItem::Reset,
        WatchItem::Settings(state.cluster.settings),
        WatchItem::Synced(state.revision),
    ]);
    let step = ToNode::Redirect { leader: Some("h:1".to_owned()), node: Some(NodeId(1)) };
    let json = [serde_json::to_vec(&items), serde_json::to_vec(&step)];
    json.into_iter().map(|json| json.expect("it is plain data")).collect()
}

fn words() -> Vec<Vec<u8>> {
    let plain = TEXTS.iter().map(|text| text.as_bytes().to_vec());
    let fields = TEXTS.iter().zip([1, 2, 3, 4, 5, 6, 7, 8].into_iter().cycle());
    plain.chain(fields.map(|(text, number)| field(number, text.as_bytes()))).collect()
}

/// Whether a refusal is one of what was sent, and says what is wrong.
fn is_told_of(call: &str, error: &ApiError, input: &[u8]) -> Result<(), String> {
    let theirs = matches!(error, ApiError::Invalid(_) | ApiError::Exhausted(_));
    demand(theirs, || format!("{call}: the question is refused as {error:?}"))?;
    is_told(&error.to_string(), input).map_err(|what| format!("{call}: {what}"))
}

fn read_message(probes: &[Probe], input: &[u8]) -> Result<(), String> {
    let Some((call, message)) = input.split_first() else { return Ok(()) };
    let probe = &probes[usize::from(*call) % probes.len()];
    let call = probe.call();
    match probe.read(message) {
        Err(error) => is_told_of(call, &error, input),
        Ok(None) => Ok(()),
        Ok(Some(once)) => match probe.read(&once) {
            Ok(Some(twice)) => demand(once == twice, || format!("{call}: read again it is another")),
            other => Err(format!("{call}: what a client would send for it is answered {other:?}")),
        },
    }
}

/// Whatever is wrong with an answer, it is told, and nobody asks again for it.
fn read_answer(probes: &[Probe], input: &[u8]) -> Result<(), String> {
    let Some((which, answer)) = input.split_first() else { return Ok(()) };
    let probe = &probes[usize::from(*which) % probes.len()];
    let Err(error) = probe.read(answer) else { return Ok(()) };
    let name = probe.call();
    demand(!error.can_retry(), || format!("{name}: it would be asked for again: {error:?}"))?;
    is_told(&error.to_string(), input).map_err(|what| format!("{name}: {what}"))
}

fn read_filter(input: &[u8]) -> Result<(), String> {
    const KEYS: &[&str] = &["name", "state", "module", "label."];
    let text = String::from_utf8_lossy(input).into_owned();
    match Filter::parse(&text, KEYS) {
        Ok(filter) => {
            let again = Filter::parse(&filter.to_string(), KEYS);
            demand(again.as_ref() == Ok(&filter), || format!("{filter} reads back as {again:?}"))?;
        }
        Err(defects) => {
            demand((1..=40).contains(&defects.len()), || format!("{} defects", defects.len()))?;
            defects.iter().try_for_each(|defect| is_told(&defect.to_string(), input))?;
        }
    }
    match text.parse::<Cursor>() {
        Ok(cursor) => {
            let again = cursor.to_string().parse::<Cursor>();
            demand(again == Ok(cursor), || format!("{cursor} reads back as {again:?}"))
        }
        Err(error) => is_told(&error.to_string(), input),
    }
}
