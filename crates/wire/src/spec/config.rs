//! JSON objects as `google.protobuf.Struct`, whose numbers are doubles, and as text where that is not enough.

use prost_types::Struct;
use prost_types::value::Kind;
use serde_json::{Map, Number, Value};
use sheaf_model::document::{DEFECTS_MAX, DOCUMENT_MAX, is_deeper};
use sheaf_model::{Bytes, Defect, Json};

use super::short;

/// Integers up to this are the same as a double.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Deepest object that goes as a message: each level takes up to three messages, and readers stop at a hundred within one
/// another.
const DEEPEST: usize = 24;
/// Longest text of an object that is read, in bytes: white space in it does not count for the document.
const TEXT_MAX: usize = 2 * DOCUMENT_MAX;

/// The value of `config` and `config_json` of a message; none: neither is there.
pub(super) fn value(
    name: &str,
    object: Option<Struct>,
    text: Option<String>,
    document: &str,
    defects: &mut Vec<Defect>,
) -> Option<Value> {
    let Some(text) = text else {
        return object.map(|object| Value::Object(map(name, object, document, defects)));
    };
    let field = format!("{name}_json");
    if text.len() > TEXT_MAX {
        let problem = format!("{} bytes of text", text.len());
        defects.push(Defect::new(field, problem, format!("at most {}", Bytes(TEXT_MAX as u64))).of(document));
        return None;
    }
    let value: Value = match serde_json::from_str(&text) {
        Ok(value) => value,
        Err(error) => {
            defects.push(
                Defect::new(field, format!("this is no JSON: {error}"), "the text of an object").of(document),
            );
            return None;
        }
    };
    if let Some(object) = object
        && structure(&value).as_ref() != Some(&object)
    {
        let problem = format!("{name} and {field} say different things");
        defects.push(Defect::new(field, problem, "one of both, the other cleared").of(document));
    }
    Some(value)
}

fn map(path: &str, object: Struct, document: &str, defects: &mut Vec<Defect>) -> Map<String, Value> {
    let mut map = Map::with_capacity(object.fields.len());
    for (key, value) in object.fields {
        let value = json(&format!("{path}.{}", short(&key)), value, document, defects);
        map.insert(key, value);
    }
    map
}

fn json(path: &str, value: prost_types::Value, document: &str, defects: &mut Vec<Defect>) -> Value {
    match value.kind {
        Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::NumberValue(number)) => number_value(number).unwrap_or_else(|| {
            let problem = format!("{number} is not finite");
            note(defects, || Defect::new(path, problem, "a finite number").of(document));
            Value::Null
        }),
        Some(Kind::StructValue(object)) => Value::Object(map(path, object, document, defects)),
        Some(Kind::ListValue(list)) => {
            let items = list.values.into_iter().enumerate();
            Value::Array(
                items.map(|(i, item)| json(&format!("{path}[{i}]"), item, document, defects)).collect(),
            )
        }
        None => {
            let remedy = "one of google.protobuf.Value's kinds";
            note(defects, || Defect::new(path, "a value of no kind", remedy).of(document));
            Value::Null
        }
    }
}

/// About how many bytes the object has as JSON; a number counts as one digit.
pub(super) fn length(object: &Struct) -> usize {
    2 + object.fields.iter().map(|(key, value)| key.len() + 4 + value_length(value)).sum::<usize>()
}

fn value_length(value: &prost_types::Value) -> usize {
    match &value.kind {
        None | Some(Kind::NullValue(_) | Kind::BoolValue(_)) => 4,
        Some(Kind::NumberValue(_)) => 1,
        Some(Kind::StringValue(text)) => text.len() + 2,
        Some(Kind::StructValue(object)) => length(object),
        Some(Kind::ListValue(list)) => {
            2 + list.values.iter().map(|item| value_length(item) + 1).sum::<usize>()
        }
    }
}

/// Notes one more, unless nobody would read it.
fn note(defects: &mut Vec<Defect>, defect: impl FnOnce() -> Defect) {
    if defects.len() <= DEFECTS_MAX {
        defects.push(defect());
    }
}

/// A double as JSON: without a fraction it is an integer.
fn number_value(number: f64) -> Option<Value> {
    if number.fract() == 0.0 && number.abs() <= EXACT {
        #[allow(clippy::cast_possible_truncation, reason = "an integer that i64 holds")]
        return Some(Value::Number(Number::from(number as i64)));
    }
    Number::from_f64(number).map(Value::Number)
}

/// The object as a message; none: it is no object.
pub(super) fn structure(value: &Value) -> Option<Struct> {
    let Value::Object(map) = value else { return None };
    Some(Struct { fields: map.iter().map(|(key, value)| (key.clone(), message(value))).collect() })
}

fn message(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        // Every number of JSON has a nearest double.
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.iter().map(message).collect() })
        }
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| (key.clone(), message(value))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    prost_types::Value { kind: Some(kind) }
}

/// What an answer says of an object: as a message, and as text only if the message is not exact.
pub(super) fn answer(object: &Json) -> (Option<Struct>, Option<String>) {
    let value = object.value();
    let shallow = Some(&value).filter(|value| !is_deeper(value, DEEPEST));
    let Some(structure) = shallow.and_then(structure) else {
        return (None, Some(object.as_str().to_owned()));
    };
    let back = map("", structure.clone(), "", &mut Vec::new());
    let exact = Json::new(&Value::Object(back)) == *object;
    (Some(structure), (!exact).then(|| object.as_str().to_owned()))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::json;

    use super::*;

    fn read(object: Option<Struct>, text: Option<&str>) -> (Option<Value>, Vec<Defect>) {
        let mut defects = Vec::new();
        (value("config", object, text.map(str::to_owned), "Bucket /a", &mut defects), defects)
    }

    #[test]
    fn what_a_double_holds_goes_without_text() {
        let object =
            Json::new(&json!({"a": [1, -2, 0.5, null, true, {"b": "c"}], "port": 5140, "big": 1u64 << 53}));
        let (structure, text) = answer(&object);
        assert_eq!(text, None);
        assert_eq!(Json::new(&read(structure, None).0.expect("a value")), object);
    }

    #[test]
    fn what_no_double_holds_goes_by_text() {
        for value in [json!({"id": 9_007_199_254_740_993_u64}), json!({"id": u64::MAX}), json!({"x": 1.0})] {
            let object = Json::new(&value);
            let (structure, text) = answer(&object);
            assert!(text.is_some(), "{value}");
            let (read, defects) = read(structure, text.as_deref());
            assert_eq!((read, defects), (Some(object.value()), Vec::new()));
        }
    }

    #[test]
    fn what_is_nested_too_deep_for_a_reader_goes_by_text_alone() {
        let nested = |depth: usize| (1..depth).fold(json!({}), |inner, _| json!({ "a": inner }));
        let (structure, text) = answer(&Json::new(&nested(DEEPEST)));
        let bytes = structure.expect("a message").encode_to_vec();
        // As a part of what is part of an answer.
        let field = prost_types::Value {
            kind: Some(Kind::StructValue(Struct::decode(&*bytes).expect("it is read"))),
        };
        let around = prost_types::ListValue { values: vec![field] }.encode_to_vec();
        assert!(prost_types::ListValue::decode(&*around).is_ok() && text.is_none());
        let deep = Json::new(&nested(DEEPEST + 1));
        assert_eq!(answer(&deep), (None, Some(deep.as_str().to_owned())));
        assert_eq!(read(None, Some(deep.as_str())).0, Some(deep.value()));
    }

    #[test]
    fn strange_values_are_refused_at_their_place() {
        let number = |n| prost_types::Value { kind: Some(Kind::NumberValue(n)) };
        let list =
            prost_types::ListValue { values: vec![number(f64::NAN), prost_types::Value { kind: None }] };
        let list = prost_types::Value { kind: Some(Kind::ListValue(list)) };
        let fields = [("a".to_owned(), number(f64::INFINITY)), ("b".to_owned(), list)].into();
        let (_, defects) = read(Some(Struct { fields }), None);
        let paths: Vec<_> = defects.iter().map(|defect| defect.path.as_str()).collect();
        assert_eq!(paths, ["config.a", "config.b[0]", "config.b[1]"]);
        let (_, defects) = read(None, Some("{"));
        assert_eq!(defects[0].path, "config_json");
        let (_, defects) = read(structure(&json!({"a": 1})), Some(r#"{"a":2}"#));
        assert_eq!(defects[0].path, "config_json");
    }
}
