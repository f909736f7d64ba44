//! In which fields two documents differ.

use serde_json::Value;

use super::reader::segment;

/// A field in which two documents differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Field path, e.g. `config.port`; empty: the value as a whole.
    pub path: String,
    /// The old value; none: the field was not there.
    pub before: Option<Value>,
    /// The new value; none: the field is gone.
    pub after: Option<Value>,
}

/// The fields in which `new` differs from `old`, the deepest that tell them apart: fields of `old` in their order,
/// then new ones in theirs. Lists are compared item by item if they are of mappings and of one length, else whole.
pub fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(old), Some(new), &mut found);
    found
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Difference>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for (key, value) in old {
                compare(&join(path, key), Some(value), new.get(key), found);
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                compare(&join(path, key), None, Some(value), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new)))
            if old.len() == new.len() && old.iter().chain(new).all(Value::is_object) =>
        {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&format!("{path}[{index}]"), Some(old), Some(new), found);
            }
        }
        _ => found.push(Difference { path: path.to_owned(), before: old.cloned(), after: new.cloned() }),
    }
}

fn join(path: &str, key: &str) -> String {
    match segment(key) {
        key if path.is_empty() || key.starts_with('[') => format!("{path}{key}"),
        key => format!("{path}.{key}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_deepest_fields_that_differ_are_named() {
        let old = json!({"a": 1, "config": {"port": 1, "same": [1], "odd key": 1}, "rules": ["x"], "gone": {"x": 1},
            "checks": [{"file": "/a"}, {"file": "/b", "timeout": "2s"}]});
        let new = json!({"config": {"port": 2, "same": [1], "odd key": 2, "new": {"y": 1}}, "a": 1,
            "rules": ["x", "y"], "checks": [{"file": "/a"}, {"file": "/b"}]});
        let found: Vec<String> = differences(&old, &new)
            .into_iter()
            .map(|d| {
                let text = |value: Option<Value>| value.map_or("-".to_owned(), |value| value.to_string());
                format!("{}: {} → {}", d.path, text(d.before), text(d.after))
            })
            .collect();
        assert_eq!(
            found,
            [
                "config.port: 1 → 2",
                "config[\"odd key\"]: 1 → 2",
                "config.new: - → {\"y\":1}",
                "rules: [\"x\"] → [\"x\",\"y\"]",
                "gone: {\"x\":1} → -",
                "checks[1].timeout: \"2s\" → -",
            ]
        );
        assert!(differences(&old, &old).is_empty());
        assert_eq!(differences(&json!(1), &json!(2))[0].path, "");
    }
}
