//! `kind: Bucket`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::DEFECTS_MAX;
use super::reader::{
    Defects, Fields, Wrong, boolean, list, mapping, measure, parsed, string, whole, word, wrong_type,
};
use crate::measure::quoted;
use crate::rule::too_many;
use crate::{
    BucketName, BucketSpec, BucketType, Defect, Json, ModuleRef, NodeListRules, NodeRule, OnNodeLost,
    Placement, PutBucket, Revision,
};

/// Longest key or value of a label, or owner, in bytes.
const LABEL_MAX: usize = 200;

/// Reads a bucket; none if name or module cannot be read. Fields with defects stay at their defaults.
pub(super) fn read(value: &Value, defects: &mut Defects) -> Option<PutBucket> {
    let mut fields = Fields::of(value, defects)?;
    fields.value("kind");
    let name = fields.required("name", "a path like /logs/web", parsed(BucketName::new));
    let kind =
        fields.get("type", word(&[BucketType::Harvest, BucketType::Analytic].map(|t| (t.as_str(), t))));
    let module = fields.required("module", "a module like flume or flume@1.11.0", parsed(ModuleRef::parse));
    let multi_node = fields.get("multi_node", boolean);
    let rules = fields.get("node_list_rules", rules);
    let config = fields.get("config", object);
    let poll_frequency = fields.get("poll_frequency", measure("a duration like 10m"));
    let placement = fields.get("placement", parsed(read_placement));
    let on_node_lost =
        fields.get("on_node_lost", word(&[OnNodeLost::Move, OnNodeLost::Wait].map(|o| (o.as_str(), o))));
    let max_parallel = fields.get("max_parallel", whole);
    let labels = fields.get("labels", mapping(|key| Ok::<_, Wrong>(key.to_owned()), string, || None));
    let owner = fields.get("owner", string);
    let suspended = fields.get("suspended", boolean);
    let base = fields.get("revision", whole).map(Revision);
    fields.finish();

    let mut spec = BucketSpec::new(name?, module?);
    spec.kind = kind.unwrap_or_default();
    spec.multi_node = multi_node.unwrap_or_default();
    spec.node_list_rules = NodeListRules(rules.unwrap_or_default());
    spec.config = config.unwrap_or_default();
    spec.poll_frequency = poll_frequency;
    spec.placement = placement.unwrap_or_default();
    spec.on_node_lost = on_node_lost.unwrap_or_default();
    spec.max_parallel = max_parallel;
    spec.labels = labels.unwrap_or_default();
    spec.owner = owner;
    Some(PutBucket { spec, suspended, base, latest: false })
}

/// The rules of a bucket or a job. None of too many is read: to read one costs more than to write it.
pub(super) fn rules(value: &Value, defects: &mut Defects) -> Option<Vec<NodeRule>> {
    let texts = value.as_array().into_iter().flatten().map(|rule| rule.as_str().unwrap_or_default());
    if let Some((index, error)) = too_many(texts) {
        let Wrong { problem, remedy } = error.into();
        defects.push(Defect::new(format!("[{index}]"), problem, remedy));
        return None;
    }
    let rule = |value: &Value, defects: &mut Defects| parsed(NodeRule::parse)(value, defects);
    list("rules", rule, || None)(value, defects)
}

/// A mapping, kept as it is.
pub(super) fn object(value: &Value, defects: &mut Defects) -> Option<Json> {
    if !value.is_object() {
        defects.push(wrong_type("a mapping", value));
        return None;
    }
    Some(Json::new(value))
}

fn read_placement(text: &str) -> Result<Placement, Wrong> {
    match (text, text.strip_prefix("spread:")) {
        ("least_loaded", _) => Ok(Placement::LeastLoaded),
        ("random", _) => Ok(Placement::Random),
        (_, Some(label)) => Ok(Placement::Spread(label.to_owned())),
        (_, None) => {
            let remedy = match crate::nearest(text, &["least_loaded", "random"]) {
                Some(word) => format!("did you mean {word}?"),
                None => "least_loaded, random or spread:LABEL".to_owned(),
            };
            Err(Wrong::new(format!("unknown word {}", quoted(text)), remedy))
        }
    }
}

/// What is wrong with a bucket whose fields are each of the right type, whichever way it came here.
pub fn bucket_defects(spec: &BucketSpec) -> Vec<Defect> {
    let mut defects = Vec::new();
    let mut wrong =
        |path: String, problem: String, remedy: &str| defects.push(Defect::new(path, problem, remedy));
    if !spec.config.as_str().starts_with('{') {
        wrong("config".to_owned(), "expected a mapping".to_owned(), "keys and values");
    }
    if spec.poll_frequency.is_some_and(|every| every.0 == 0) {
        wrong("poll_frequency".to_owned(), "zero is no time between polls".to_owned(), "a time like 10m");
    }
    if spec.max_parallel == Some(0) {
        let problem = "with 0 nodes at a time no update would ever happen";
        wrong("max_parallel".to_owned(), problem.to_owned(), "at least 1; leave it out for all");
    }
    if let Placement::Spread(label) = &spec.placement
        && (label.is_empty() || !is_line(label) || label.contains(['=', ' ']))
    {
        let problem = format!("{} is no name of a label", quoted(label));
        wrong("placement".to_owned(), problem, "the part before =, like spread:zone for zone=a");
    }
    defects.extend(label_defects(spec.owner.as_deref(), &spec.labels));
    defects
}

/// What is wrong with an owner and with labels.
pub(super) fn label_defects(owner: Option<&str>, labels: &BTreeMap<String, String>) -> Vec<Defect> {
    let mut defects = Vec::new();
    let mut wrong =
        |path: String, problem: String, remedy: &str| defects.push(Defect::new(path, problem, remedy));
    if let Some(owner) = owner
        && (owner.is_empty() || !is_line(owner))
    {
        wrong("owner".to_owned(), format!("{} is no owner", quoted(owner)), "a name, in one line");
    }
    defects.extend(labels.iter().filter_map(|(key, value)| label_defect(key, value)).take(DEFECTS_MAX + 1));
    defects
}

fn label_defect(key: &str, value: &str) -> Option<Defect> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    let (problem, remedy) = if key.is_empty() || key.len() > LABEL_MAX || !key.chars().all(plain) {
        let remedy = "letters, digits, _ . - and /, so that -l KEY=VALUE can select by it";
        (format!("{} is no key of a label", quoted(key)), remedy)
    } else if !is_line(value) || value.contains(',') {
        let remedy = "one line without a comma, so that -l KEY=VALUE can select by it";
        (format!("{} is no value of a label", quoted(value)), remedy)
    } else {
        return None;
    };
    let path = format!("labels.{}", super::reader::segment(key)).replace(".[", "[");
    Some(Defect::new(path, problem, remedy))
}

/// Short and without control characters.
fn is_line(text: &str) -> bool {
    text.len() <= LABEL_MAX && !text.contains(char::is_control)
}
