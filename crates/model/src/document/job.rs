//! `kind: Job`, and its items.

use std::collections::BTreeSet;

use serde_json::Value;

use super::bucket::{label_defects, rules as read_rules};
use super::reader::{
    Defects, Fields, Wrong, list, mapping, measure, parsed, string, whole, word, wrong_type,
};
use crate::job::{ITEM_MAX, PRIORITY_MAX};
use crate::measure::quoted;
use crate::{
    ArrayRange, BackendName, Defect, FailureClass, Item, ItemSource, JobName, JobSpec, Json, ModuleRef,
    ModuleSpec, NodeListRules, RequestId, Retry, Runtime, Span, SpanRange, SubmitJob, Subtasks,
};

/// Longest id of a request in bytes.
const REQUEST_ID_MAX: usize = 128;
/// Most backends of a job.
const BACKENDS_MAX: usize = 64;
/// Most jobs that one comes after.
const AFTER_MAX: usize = 1_000;
const SOURCES: &str = "array: 0-99, items: [...] or file: tasks.jsonl";

/// Reads a job; none if name, module or subtasks cannot be read. Fields with defects stay at their defaults.
pub(super) fn read(value: &Value, defects: &mut Defects) -> Option<SubmitJob> {
    let mut fields = Fields::of(value, defects)?;
    fields.value("kind");
    let name = fields.required("name", "a name like ndvi-2024", parsed(JobName::new));
    let module = fields.required("module", "a module like ndvi or ndvi@2", parsed(ModuleRef::parse));
    let subtasks = fields.required("subtasks", SOURCES, read_subtasks);
    let priority = fields.get("priority", whole);
    let max_running = fields.get("max_running", whole);
    let retry = fields.get("retry", read_retry);
    let timeout = fields.get("timeout", measure("a duration like 30m"));
    let rules = fields.get("node_list_rules", read_rules);
    let backends = fields.get("backends", list("names of backends", each(BackendName::new), || None));
    let after = fields.get("after", list("names of jobs", each(JobName::new), || None));
    let labels = fields.get("labels", mapping(|key| Ok::<_, Wrong>(key.to_owned()), string, || None));
    let owner = fields.get("owner", string);
    let request_id = fields.get("request_id", string);
    fields.finish();

    let (subtasks, items) = subtasks?;
    let mut spec = JobSpec::new(name?, module?, subtasks);
    spec.priority = priority.unwrap_or(spec.priority);
    spec.max_running = max_running;
    spec.retry = retry.unwrap_or_default();
    spec.timeout = timeout;
    spec.node_list_rules = NodeListRules(rules.unwrap_or_default());
    spec.backends = backends.unwrap_or_default();
    spec.after = after.unwrap_or_default();
    spec.labels = labels.unwrap_or_default();
    spec.owner = owner;
    spec.request_id = request_id.map(RequestId);
    Some(SubmitJob { spec, items })
}

/// A string that is read further, any number of times.
fn each<T, E: Into<Wrong>>(read: fn(&str) -> Result<T, E>) -> impl FnMut(&Value, &mut Defects) -> Option<T> {
    move |value, defects| parsed(read)(value, defects)
}

fn read_subtasks(value: &Value, defects: &mut Defects) -> Option<(Subtasks, ItemSource)> {
    let mut fields = Fields::of(value, defects)?;
    let array = fields.value("array").is_some();
    let listed = fields.value("items").is_some();
    let file = fields.value("file").is_some();
    let read = match (array, listed, file) {
        (true, false, false) => {
            fields.get("array", read_array).map(|range| (Subtasks::Array(range), ItemSource::Array))
        }
        (false, true, false) => {
            let items = fields.get("items", list("items", read_item, || None));
            items.map(|items| (Subtasks::Items, ItemSource::Listed(items)))
        }
        (false, false, true) => {
            fields.get("file", string).map(|file| (Subtasks::Items, ItemSource::File(file)))
        }
        (false, false, false) => {
            fields.wrong("there is nothing in it", SOURCES);
            None
        }
        _ => {
            fields.wrong("array, items and file exclude each other", "one of them");
            None
        }
    };
    fields.finish();
    read
}

/// `7`, `0-49999` or `0-100:10`.
fn read_array(value: &Value, defects: &mut Defects) -> Option<ArrayRange> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        other => {
            defects.push(wrong_type("a range like 0-49999", other));
            return None;
        }
    };
    let (numbers, step) = text.split_once(':').unwrap_or((&text, "1"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |digits: &str| {
        let digits = digits.trim();
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    match (number(first), number(last), number(step)) {
        (Some(first), Some(last), Some(step)) => Some(ArrayRange { first, last, step }),
        _ => {
            let problem = format!("{} is no range", quoted(&text));
            defects.push(Defect::new("", problem, "like 0-49999, or 0-100:10 for every tenth"));
            None
        }
    }
}

/// An item as a document, or a line of a file, has it: any value; of a mapping `depends_on` is ours.
fn read_item(value: &Value, defects: &mut Defects) -> Option<Item> {
    let mut depends_on = BTreeSet::new();
    let mut value = value.clone();
    if let Value::Object(fields) = &mut value
        && let Some(needed) = fields.remove("depends_on")
        && !needed.is_null()
    {
        let mut found = Vec::new();
        let read = list("numbers of subtasks", whole::<u32>, || None)(&needed, &mut found);
        if !found.is_empty() {
            defects.extend(found.into_iter().map(|defect| defect.under("depends_on")));
            return None;
        }
        depends_on.extend(read.unwrap_or_default());
    }
    let item = Item { value: Json::new(&value), depends_on: depends_on.into_iter().collect() };
    let length = item.value.as_str().len() + 4 * item.depends_on.len();
    if length > ITEM_MAX {
        let problem = format!("the item has {length} bytes, more than {ITEM_MAX}");
        defects.push(Defect::new("", problem, "less in it, like the name of a file"));
        return None;
    }
    Some(item)
}

/// Reads one line of a file of items.
pub fn item_line(line: &[u8]) -> Result<Item, Vec<Defect>> {
    let value: Value = serde_json::from_slice(line).map_err(|error| {
        // It is one line, and whoever reads many knows which.
        let problem = format!("this is no JSON: {error}").replace(" at line 1 column ", " at column ");
        vec![Defect::new("", problem, "one JSON value a line, like {\"tile\": \"T32\"}")]
    })?;
    let mut defects = Vec::new();
    read_item(&value, &mut defects).ok_or(defects)
}

fn read_retry(value: &Value, defects: &mut Defects) -> Option<Retry> {
    let mut fields = Fields::of(value, defects)?;
    let mut retry = Retry::default();
    if let Some(most) = fields.get("max_attempts", whole) {
        retry.max_attempts = most;
    }
    if let Some(SpanRange { min, max }) = fields.get("backoff", measure("two durations like 1s..60s")) {
        (retry.backoff_min, retry.backoff_max) = (min, max);
    }
    let classes = FailureClass::TRIED_AGAIN.map(|class| (class.as_str(), class));
    let class = |value: &Value, defects: &mut Defects| word(&classes)(value, defects);
    if let Some(classes) = fields.get("retry_on", list("classes of failures", class, || None)) {
        retry.retry_on = classes.into_iter().collect();
    }
    fields.finish();
    Some(retry)
}

/// What is wrong with a job whose fields are each of the right type, whichever way it came here.
pub fn job_defects(spec: &JobSpec) -> Vec<Defect> {
    let mut defects = Vec::new();
    let mut wrong = |path: &str, problem: String, remedy: &str| {
        defects.push(Defect::new(path, problem, remedy));
    };
    if let Subtasks::Array(range) = &spec.subtasks {
        if range.step == 0 {
            wrong("subtasks.array", "a step of zero".to_owned(), "a step of at least 1");
        } else if range.last < range.first {
            let remedy = format!("{}-{}", range.last, range.first);
            wrong("subtasks.array", format!("range {range} begins above its end"), &remedy);
        } else if u32::try_from(range.count()).is_err() {
            let remedy = format!("at most {}, and as many as the cluster allows", u32::MAX);
            wrong("subtasks.array", format!("range {range} has {} subtasks", range.count()), &remedy);
        }
    }
    if spec.priority > PRIORITY_MAX {
        let remedy = format!("0 to {PRIORITY_MAX}, higher first");
        wrong("priority", format!("{} is above the highest", spec.priority), &remedy);
    }
    if spec.max_running == Some(0) {
        let problem = "with 0 at a time nothing would ever run";
        wrong("max_running", problem.to_owned(), "at least 1; leave it out for as many as there is room for");
    }
    if spec.retry.max_attempts == 0 {
        let problem = "max_attempts counts every try, so 0 would be none";
        wrong("retry.max_attempts", problem.to_owned(), "at least 1, which is never again");
    }
    if spec.retry.backoff_max < spec.retry.backoff_min {
        let (min, max) = (spec.retry.backoff_min, spec.retry.backoff_max);
        wrong("retry.backoff", format!("{min}..{max} ends below its begin"), &format!("{max}..{min}"));
    }
    if spec.timeout == Some(Span(0)) {
        wrong("timeout", "in no time nothing could ever finish".to_owned(), "a time like 30m");
    }
    if spec.after.len() > AFTER_MAX {
        let why = format!("{} of them, and a job may name {AFTER_MAX}", spec.after.len());
        wrong("after", why, "fewer jobs, of which others come after one another");
    }
    let mut seen = BTreeSet::new();
    for (index, name) in spec.after.iter().enumerate().take(AFTER_MAX) {
        let path = format!("after[{index}]");
        if *name == spec.name {
            wrong(&path, "a job cannot come after itself".to_owned(), "another job");
        } else if !seen.insert(name) {
            wrong(&path, format!("{name} is there already"), "each once");
        }
    }
    if spec.backends.len() > BACKENDS_MAX {
        let why = format!("{} of them, and a job may name {BACKENDS_MAX}", spec.backends.len());
        wrong("backends", why, "fewer backends, each with room for more");
    }
    let mut seen = BTreeSet::new();
    for (index, name) in spec.backends.iter().enumerate().take(BACKENDS_MAX) {
        if !seen.insert(name) {
            wrong(&format!("backends[{index}]"), format!("{name} is there already"), "each once");
        }
    }
    if spec.request_id.as_ref().is_some_and(|id| id.0.is_empty() || id.0.len() > REQUEST_ID_MAX) {
        let remedy = format!("from 1 to {REQUEST_ID_MAX} bytes; leave it out to have one made");
        wrong("request_id", "empty, or too long".to_owned(), &remedy);
    }
    defects.extend(label_defects(spec.owner.as_deref(), &spec.labels));
    defects
}

/// What is wrong with a job against the module that its subtasks would be run by.
pub fn job_module_defects(spec: &JobSpec, module: &ModuleSpec) -> Vec<Defect> {
    let mut defects = Vec::new();
    let named = format!("module {}@{}", module.name, module.version);
    let mut wrong = |why: &str| {
        defects.push(Defect::new("module", format!("{named} {why}"), "another module"));
    };
    if module.runtime == Runtime::Plugin {
        wrong("is plugin, and jobs run exec modules and plugins that say worker: true");
    }
    if module.secrets.iter().any(|name| name.literal().is_none()) {
        wrong("has its bucket's config say which secrets it may ask for, and a job has no such config");
    }
    if matches!(module.runtime, Runtime::Builtin(_)) && spec.backends.is_empty() {
        let problem = format!("module {} sends subtasks through backends, and there is none", spec.module);
        defects.push(Defect::new("backends", problem, "[NAME], see `sheaf backend list`"));
    }
    defects
}

/// Why no job can be of a module that depends on a bucket.
pub fn module_for_buckets(module: &ModuleSpec) -> Option<Defect> {
    module.is_for_buckets().then(|| {
        let problem =
            format!("module {}@{} is for buckets: it names ${{bucket…}}", module.name, module.version);
        Defect::new("module", problem, "a module that names the subtask, or neither")
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Document, job_value, parse, parse_values};
    use super::*;

    const FULL: &str = r#"
kind: Job
name: ndvi-2024
module: ndvi@2
subtasks: {array: 0-49999}
priority: 90
max_running: 500
retry: {max_attempts: 1, backoff: 2s..30s, retry_on: [exit, lost]}
timeout: 30m
node_list_rules: ["$gpu"]
backends: [vito, cdse]
after: [other-job]
labels: {team: eo}
owner: data-eng
request_id: "7f0c-1"
"#;

    fn read(text: &str) -> SubmitJob {
        let parsed = parse("", text.as_bytes());
        assert_eq!(parsed.defects, []);
        match parsed.documents.into_iter().next() {
            Some(Document::Job(job)) => *job,
            other => panic!("a job, not {other:?}"),
        }
    }

    fn defects(fields: &str) -> Vec<String> {
        let text = format!("kind: Job\nname: a\nmodule: m\n{fields}\n");
        parse("", text.as_bytes()).defects.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_field_is_read() {
        let job = read(FULL);
        assert_eq!(job.items, ItemSource::Array);
        let spec = job.spec;
        assert_eq!((spec.name.as_str(), spec.module.to_string().as_str()), ("ndvi-2024", "ndvi@2"));
        assert_eq!(spec.subtasks, Subtasks::Array(ArrayRange { first: 0, last: 49_999, step: 1 }));
        assert_eq!(
            (spec.priority, spec.max_running, spec.timeout),
            (90, Some(500), Some(Span::seconds(1800)))
        );
        assert_eq!((spec.retry.max_attempts, spec.retry.backoff_max), (1, Span::seconds(30)));
        assert_eq!(spec.retry.retry_on, [FailureClass::Exit, FailureClass::Lost].into());
        assert_eq!((spec.backends.len(), spec.after.len(), spec.labels.len()), (2, 1, 1));
        assert_eq!(spec.request_id, Some(RequestId("7f0c-1".to_owned())));
        let bare = read("kind: Job\nname: a\nmodule: m\nsubtasks: {file: '-'}");
        assert_eq!(bare.items, ItemSource::File("-".to_owned()));
        let expected = JobSpec::new(bare.spec.name.clone(), bare.spec.module.clone(), Subtasks::Items);
        assert_eq!(bare.spec, expected);
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_job() {
        let again = |spec: &JobSpec| {
            let parsed = parse_values("", &[job_value(spec, "a.jsonl")]);
            assert_eq!(parsed.defects, []);
            match parsed.documents.into_iter().next() {
                Some(Document::Job(job)) => *job,
                other => panic!("a job, not {other:?}"),
            }
        };
        let spec = read(FULL).spec;
        let written = again(&spec);
        // The id belongs to the request that brought it.
        assert_eq!((written.spec, written.items), (JobSpec { request_id: None, ..spec }, ItemSource::Array));
        let bare = read("kind: Job\nname: a\nmodule: m\nsubtasks: {items: [1]}\nretry: {retry_on: []}").spec;
        let written = again(&bare);
        assert_eq!((written.spec, written.items), (bare.clone(), ItemSource::File("a.jsonl".to_owned())));
        assert_eq!(job_value(&bare, "a.jsonl").as_object().map(serde_json::Map::len), Some(5));
    }

    #[test]
    fn a_module_that_takes_no_subtasks_is_told() {
        let module = |text: &str| {
            let text = format!("kind: Module\nname: m\nversion: '1'\n{text}\n");
            match parse("", text.as_bytes()).documents.into_iter().next() {
                Some(Document::Module(spec)) => *spec,
                other => panic!("a module, not {other:?}"),
            }
        };
        let spec = read("kind: Job\nname: a\nmodule: m\nsubtasks: {array: 0}").spec;
        let said = |text: &str| {
            let module = module(text);
            let all = job_module_defects(&spec, &module).into_iter().chain(module_for_buckets(&module));
            all.map(|defect| defect.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(said("exec: {command: /bin/true}"), [""; 0]);
        assert_eq!(
            said("runtime: plugin\nexec: {command: /bin/true}"),
            [
                "module: module m@1 is plugin, and jobs run exec modules and plugins that say worker: true; another module"
            ]
        );
        assert_eq!(
            said("exec: {command: '${bucket.name}'}"),
            [
                "module: module m@1 is for buckets: it names ${bucket…}; a module that names the subtask, or neither"
            ]
        );
        assert_eq!(
            said("runtime: 'builtin:http'"),
            [
                "backends: module m sends subtasks through backends, and there is none; [NAME], see `sheaf backend list`"
            ]
        );
    }

    #[test]
    fn items_keep_what_is_theirs() {
        let job = read(
            "kind: Job\nname: a\nmodule: m\nsubtasks: {items: [{tile: T1}, 7, {tile: T2, depends_on: [1, 0, 1]}]}",
        );
        let ItemSource::Listed(items) = job.items else { panic!("a list") };
        let texts: Vec<_> = items.iter().map(|item| item.value.as_str()).collect();
        assert_eq!(texts, [r#"{"tile":"T1"}"#, "7", r#"{"tile":"T2"}"#]);
        assert_eq!(items[2].depends_on, [0, 1]);
        assert_eq!(item_line(br#"{"depends_on": null}"#).map(|item| item.depends_on), Ok(Vec::new()));
    }

    #[test]
    fn a_line_that_is_no_item_says_why() {
        let said = |line: &str| item_line(line.as_bytes()).unwrap_err()[0].to_string();
        assert!(said("{tile}").starts_with("this is no JSON: key must be a string at column 2; one"));
        assert!(said("").starts_with("this is no JSON: EOF"));
        assert!(said(r#"{"depends_on": [-1]}"#).starts_with("depends_on[0]: expected a whole number"));
        let long = format!("\"{}\"", "x".repeat(ITEM_MAX));
        assert!(said(&long).starts_with("the item has 524290 bytes, more than 524288"));
    }

    #[test]
    fn jobs_that_make_no_sense() {
        const ARRAY: &str = "subtasks: {array: 0-9}\n";
        let of = |fields: &str| defects(&format!("{ARRAY}{fields}"));
        let cases = [
            (defects(""), "Job a: subtasks: this field is missing; array: 0-99, items"),
            (defects("subtasks: {}"), "Job a: subtasks: there is nothing in it; array"),
            (defects("subtasks: {array: 0-9, file: a}"), "Job a: subtasks: array, items and file exclude"),
            (defects("subtasks: {array: 9-0}"), "Job a: subtasks.array: range 9-0 begins above its end; 0-9"),
            (defects("subtasks: {array: 0-9:0}"), "Job a: subtasks.array: a step of zero"),
            (defects("subtasks: {array: all}"), "Job a: subtasks.array: \"all\" is no range; like 0-49999"),
            (defects("subtasks: {array: 0-4294967295}"), "Job a: subtasks.array: range 0-4294967295 has"),
            (of("priority: 101"), "Job a: priority: 101 is above the highest; 0 to 100, higher first"),
            (of("max_running: 0"), "Job a: max_running: with 0 at a time nothing would ever run"),
            (of("retry: {max_attempts: 0}"), "Job a: retry.max_attempts: max_attempts counts every try"),
            (
                of("retry: {retry_on: [exits]}"),
                "Job a: retry.retry_on[0]: unknown word \"exits\"; did you mean",
            ),
            (of("timeout: 0s"), "Job a: timeout: in no time"),
            (of("after: [b, a, b]"), "Job a: after[1]: a job cannot come after itself"),
            (of("backends: [b, b]"), "Job a: backends[1]: b is there already; each once"),
            (of("owner: ''"), "Job a: owner: \"\" is no owner"),
            (of("request_id: ''"), "Job a: request_id: empty"),
            (of("prioritty: 1"), "Job a: prioritty: unknown field \"prioritty\"; did you mean priority?"),
        ];
        for (found, expected) in cases {
            let first = found.first().map(String::as_str).unwrap_or_default();
            assert!(first.starts_with(expected), "{expected}: {found:?}");
        }
        assert_eq!(of("after: [b, a, b]").len(), 2, "all at once");
    }
}
