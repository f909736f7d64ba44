//! From bytes to values: YAML 1.2 or JSON, within limits.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{DOCUMENTS_MAX, FILE_MAX};
use crate::{Bytes, Defect};

/// Deepest nesting of mappings and lists; what is read is later walked recursively.
pub(super) const DEPTH_MAX: usize = 64;
/// Most values in a document: more than its bytes could ever be read as.
const VALUES_MAX: usize = 500_000;
/// Most bytes of the texts in a document, each counted wherever an alias repeats it …
const TEXT_MAX: usize = 2 * FILE_MAX;
/// … and in all documents of a file together.
const TEXTS_MAX: usize = 8 * FILE_MAX;

/// The values of the documents in `bytes`, each or what is wrong with it. After a syntax error nothing follows.
pub(super) fn values(file: &str, bytes: &[u8]) -> Vec<Result<Value, Defect>> {
    if bytes.len() > FILE_MAX {
        let problem = format!("the text has {} bytes, more than {}", bytes.len(), Bytes(FILE_MAX as u64));
        return vec![Err(Defect::new("", problem, "several smaller files"))];
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let problem = format!("this is no text: byte {} is not UTF-8", error.valid_up_to() + 1);
            return vec![Err(Defect::new("", problem, "YAML or JSON, saved as UTF-8"))];
        }
    };
    if let Some(at) = text.find('\0') {
        let problem = format!("this is no text: byte {} is zero", at + 1);
        return vec![Err(Defect::new("", problem, "YAML or JSON, saved as UTF-8"))];
    }
    // JSON first: YAML reads nearly all of it, but neither two documents in a row nor `\ud83d\ude00`.
    if text.trim_start().starts_with('{') {
        match read_json(text) {
            Ok(values) => return values.into_iter().map(Ok).collect(),
            // What is well-formed JSON with a key there twice is no better YAML.
            Err(error) if error.is_data() || file.ends_with(".json") => {
                return vec![Err(explain_json(&error))];
            }
            Err(_) => {}
        }
    }
    read_yaml(text)
}

fn read_json(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    let documents = serde_json::Deserializer::from_str(text).into_iter::<Document>();
    documents.take(DOCUMENTS_MAX + 1).map(|document| document.map(|document| document.value)).collect()
}

fn explain_json(error: &serde_json::Error) -> Defect {
    let said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let problem = said.strip_suffix(&place).unwrap_or(&said);
    let problem = format!("line {}, column {}: {problem}", error.line(), error.column());
    Defect::new("", problem, if error.is_data() { "" } else { "valid JSON" })
}

fn read_yaml(text: &str) -> Vec<Result<Value, Defect>> {
    let options = serde_saphyr::options! {
        // The budget is per document.
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_nodes: 200_000,
            max_aliases: 1_000,
            max_total_scalar_bytes: 2 * FILE_MAX,
            max_recorded_anchor_events: 200_000,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 50_000 },
        // YAML 1.2: yes, no, on and off are texts. So are 0755 and 1_000, which other readers take for numbers.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    let mut bytes = text.as_bytes();
    let documents = serde_saphyr::read_with_options::<_, Document>(&mut bytes, options);
    let (mut values, mut texts) = (Vec::new(), 0);
    for read in documents.take(DOCUMENTS_MAX + 1) {
        match read {
            Ok(document) => {
                texts += document.text;
                if texts > TEXTS_MAX {
                    let problem = "the documents are too much, their aliases expanded";
                    values.push(Err(Defect::new("", problem, "several smaller files, and fewer aliases")));
                    break;
                }
                values.push(Ok(document.value));
            }
            Err(error) => values.push(Err(explain_yaml(&error))),
        }
    }
    values
}

/// A YAML error with its place first.
fn explain_yaml(error: &serde_saphyr::Error) -> Defect {
    let error = error.without_snippet();
    let place = match error {
        // Where the alias stands, not what it stands for.
        serde_saphyr::Error::AliasError { locations, .. } => Some(locations.reference_location),
        other => other.location(),
    };
    let place = place.map(|at| format!("line {}, column {}: ", at.line(), at.column())).unwrap_or_default();
    let (problem, remedy) = explain(error);
    Defect::new("", format!("{place}{problem}"), remedy)
}

/// Problem and remedy, in our words where people meet it often.
fn explain(error: &serde_saphyr::Error) -> (String, &'static str) {
    use serde_saphyr::Error as E;
    match error {
        E::DuplicateMappingKey { key, .. } => {
            (format!("the key {:?} is there twice", key.as_deref().unwrap_or_default()), "each key once")
        }
        E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. }
        | E::AliasReplayCounterOverflow { .. } => {
            ("the aliases expand to too much".to_owned(), "fewer aliases, or the text itself")
        }
        E::AliasError { error, .. } => explain(error.without_snippet()),
        E::Budget { breach, .. } => budget(breach),
        E::UnknownAnchor { .. } => (
            "the alias names no anchor".to_owned(),
            "an anchor before it, or quotes around a text that begins with *",
        ),
        E::NonFiniteFloat { value, .. } => {
            (format!("the number {value} is not finite"), "a finite number, or quotes")
        }
        E::UnsupportedTag { tag, .. } => {
            (format!("the tag {tag} has no meaning here"), "the value without it")
        }
        other => {
            let text = other.to_string();
            let problem =
                text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem).to_owned();
            let remedy = remedy(&problem);
            (problem, remedy)
        }
    }
}

fn budget(breach: &serde_saphyr::budget::BudgetBreach) -> (String, &'static str) {
    use serde_saphyr::budget::BudgetBreach as B;
    match breach {
        B::Depth { .. } => (format!("nested deeper than {DEPTH_MAX}"), "less nesting"),
        B::Aliases { .. } | B::Anchors { .. } => ("too many aliases".to_owned(), "the text itself"),
        B::Nodes { .. } | B::Events { .. } | B::ScalarBytes { .. } => (
            "the document is too much, its aliases expanded".to_owned(),
            "smaller documents, and fewer aliases",
        ),
        _ => ("the document is beyond what is read".to_owned(), "a smaller document"),
    }
}

/// What was expected where the scanner stopped.
fn remedy(problem: &str) -> &'static str {
    let hints = [
        (
            "mapping values are not allowed",
            "the same indent for all keys of a mapping, quotes around a text with \": \"",
        ),
        ("unclosed bracket", "a closing ] or }"),
        ("unclosed quote", "a closing quote"),
        ("quoted scalar", "a closing quote"),
        ("tab", "spaces to indent with"),
        ("unexpected character", "quotes around the text"),
        ("illegal placement of ':'", "a closing ] or } before it, or quotes around the text"),
        ("<document start>", "--- on a line of its own before a further document"),
        ("block mapping", "KEY: VALUE, with the same indent for all keys of a mapping"),
        ("recursion limit", "less nesting, at most 64 deep"),
        ("null into string", "a key that is a text"),
    ];
    hints.iter().find(|(text, _)| problem.contains(text)).map_or("valid YAML 1.2 or JSON", |(_, hint)| hint)
}

/// One document's value.
struct Document {
    value: Value,
    /// Bytes of the texts in it.
    text: usize,
}

impl<'de> serde::Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let count = Count::default();
        let value = Strict { depth: 0, count: &count }.deserialize(deserializer)?;
        Ok(Self { value, text: count.text.get() })
    }
}

/// How much a document has turned out to be so far. Who reads YAML hands over what an alias stands for each time anew, and
/// does not count its bytes.
#[derive(Default)]
struct Count {
    values: Cell<usize>,
    text: Cell<usize>,
}

impl Count {
    fn value<E: Error>(&self) -> Result<(), E> {
        self.values.set(self.values.get() + 1);
        if self.values.get() <= VALUES_MAX {
            return Ok(());
        }
        Err(E::custom(format_args!("the document has more than {VALUES_MAX} values")))
    }

    fn text<E: Error>(&self, text: &str) -> Result<(), E> {
        self.text.set(self.text.get().saturating_add(text.len()));
        if self.text.get() <= TEXT_MAX {
            return Ok(());
        }
        Err(E::custom("the document is too much, its aliases expanded"))
    }
}

/// Reads a value as `serde_json` does, but refuses a key that is there twice, nesting that is too deep, and too much of it.
struct Strict<'c> {
    depth: usize,
    count: &'c Count,
}

impl Strict<'_> {
    fn deeper<E: Error>(&self) -> Result<usize, E> {
        match self.depth + 1 {
            depth if depth <= DEPTH_MAX => Ok(depth),
            _ => Err(E::custom(format_args!("nested deeper than {DEPTH_MAX}"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = serde_json::Number::from_f64(value);
        number.map(Value::Number).ok_or_else(|| E::custom(format_args!("the number {value} is not finite")))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.count.text(value)?;
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        self.count.text(&value)?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let (depth, count) = (self.deeper()?, self.count);
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self { depth, count })? {
            count.value()?;
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (depth, count) = (self.deeper()?, self.count);
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            count.value()?;
            count.text(&key)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} is there twice")));
            }
            let value = entries.next_value_seed(Self { depth, count })?;
            map.insert(key, value);
        }
        Ok(map.into())
    }
}
