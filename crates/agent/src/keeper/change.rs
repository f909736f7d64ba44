//! What changed of a bucket, as its program is told.

use serde_json::{Value, json};
use sheaf_model::Span;
use sheaf_module::{Bucket, Difference};

/// A bucket as its document says it, as far as modules know it.
fn document(bucket: &Bucket) -> Value {
    let config: Value = serde_json::from_str(&bucket.config_json).unwrap_or_default();
    json!({
        "type": bucket.kind,
        "module": bucket.module,
        "multi_node": bucket.multi_node,
        "config": config,
        "labels": bucket.labels,
        "owner": bucket.owner,
        "poll_frequency": bucket.poll_frequency_ms.map(|every| Span::millis(every).to_string()),
    })
}

/// The same with its name and revision.
fn whole(bucket: &Bucket) -> Value {
    let mut value = document(bucket);
    value["name"] = bucket.name.as_str().into();
    value["revision"] = bucket.revision.into();
    value
}

/// In which fields two of them differ: path, before, after.
fn found(old: &Bucket, new: &Bucket) -> impl Iterator<Item = (String, Option<Value>, Option<Value>)> {
    let found = sheaf_model::document::differences(&document(old), &document(new)).into_iter();
    // An owner and a frequency that are not there are null and empty here.
    let there = |value: Option<Value>| value.filter(|value| !value.is_null() && value != "");
    found.map(move |it| (it.path, there(it.before), there(it.after)))
}

/// In which fields of its document a bucket changed, as plugins are told.
pub(crate) fn differences(old: &Bucket, new: &Bucket) -> Vec<Difference> {
    let json = |value: Option<Value>| value.map(|value| value.to_string());
    found(old, new)
        .map(|(path, before, after)| Difference { path, before_json: json(before), after_json: json(after) })
        .collect()
}

/// The same as commands find it in the file `SHEAF_CHANGE`.
pub(super) fn change(old: &Bucket, new: &Bucket) -> Value {
    let differences: Vec<Value> = found(old, new)
        .map(|(path, before, after)| json!({"path": path, "before": before, "after": after}))
        .collect();
    json!({"old": whole(old), "new": whole(new), "differences": differences})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_was_and_what_is() {
        let old = Bucket {
            name: "/a".to_owned(),
            revision: 7,
            config_json: "{\"port\":1}".to_owned(),
            ..Bucket::default()
        };
        let new = Bucket {
            revision: 9,
            config_json: "{\"port\":2}".to_owned(),
            owner: "me".to_owned(),
            ..old.clone()
        };
        let told = change(&old, &new);
        assert_eq!(told["old"]["config"]["port"], 1);
        assert_eq!((&told["new"]["revision"], &told["new"]["name"]), (&json!(9), &json!("/a")));
        let expected = json!([
            {"path": "config.port", "before": 1, "after": 2},
            {"path": "owner", "before": null, "after": "me"},
        ]);
        assert_eq!(told["differences"], expected);
    }
}
