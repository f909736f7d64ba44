//! Reading fields: whatever is wrong with a value is noted with its path, and reading goes on.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::DEFECTS_MAX;
use crate::measure::quoted;
use crate::{Defect, MeasureError, NameError, Template, TemplateSet, nearest};

/// Where defects are noted; their paths begin at the value that is being read.
pub(super) type Defects = Vec<Defect>;

/// The fields of a mapping. Each is asked for by name; [`Fields::finish`] refuses what nobody asked for.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    asked: Vec<&'static str>,
    defects: &'a mut Defects,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, if it is a mapping.
    pub(super) fn of(value: &'a Value, defects: &'a mut Defects) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { map, asked: Vec::new(), defects }),
            other => {
                defects.push(wrong_type("a mapping", other));
                None
            }
        }
    }

    /// The value of `name`. A field without a value (`owner:`) is as good as absent.
    pub(super) fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.push(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Reads `name`, if it is there.
    pub(super) fn get<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value, &mut Defects) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(name)?;
        at(name, self.defects, |defects| read(value, defects))
    }

    /// Reads `name`, which must be there.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        remedy: &str,
        read: impl FnOnce(&Value, &mut Defects) -> Option<T>,
    ) -> Option<T> {
        let Some(value) = self.value(name) else {
            self.defects.push(Defect::new(name, "this field is missing", remedy));
            return None;
        };
        at(name, self.defects, |defects| read(value, defects))
    }

    /// Notes a defect of the mapping as a whole.
    pub(super) fn wrong(&mut self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.defects.push(Defect::new("", problem, remedy));
    }

    /// Refuses every field that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.map.keys().filter(|key| !self.asked.contains(&key.as_str())) {
            if is_enough(self.defects) {
                break;
            }
            let remedy = match nearest(key, &self.asked) {
                Some(name) => format!("did you mean {name}?"),
                None => format!("one of {}", self.asked.join(", ")),
            };
            self.defects.push(Defect::new(segment(key), format!("unknown field {}", quoted(key)), remedy));
        }
    }
}

/// Whether so much is wrong that nobody would read more of it. What is left out then does not make a value valid.
fn is_enough(defects: &[Defect]) -> bool {
    defects.len() > DEFECTS_MAX
}

/// Reads something that stands at `path`: its defects go under it.
fn at<T>(path: &str, defects: &mut Defects, read: impl FnOnce(&mut Defects) -> T) -> T {
    let mut found = Vec::new();
    let value = read(&mut found);
    defects.extend(found.into_iter().map(|defect| defect.under(path)));
    value
}

/// A key as a part of a path: in brackets and quotes unless it is a plain word.
pub(super) fn segment(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !key.is_empty() && key.len() <= 100 && key.chars().all(plain) {
        key.to_owned()
    } else {
        format!("[{}]", quoted(key))
    }
}

/// "expected … , found …"; a text that is written like something else should have been in quotes.
pub(super) fn wrong_type(expected: &str, found: &Value) -> Defect {
    let remedy = match found {
        Value::Number(_) | Value::Bool(_) if expected == "a string" => {
            format!("put it in quotes: \"{found}\"")
        }
        _ => String::new(),
    };
    Defect::new("", format!("expected {expected}, found {}", described(found)), remedy)
}

fn described(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("a number {number}"),
        Value::String(text) => format!("a string {}", quoted(text)),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(map) => match map.keys().next() {
            Some(key) => format!("a mapping with the key {}", quoted(key)),
            None => "an empty mapping".to_owned(),
        },
    }
}

/// A string.
pub(super) fn string(value: &Value, defects: &mut Defects) -> Option<String> {
    let Value::String(text) = value else {
        defects.push(wrong_type("a string", value));
        return None;
    };
    Some(text.clone())
}

/// `true` or `false`; the other words of older YAML are named in the remedy.
pub(super) fn boolean(value: &Value, defects: &mut Defects) -> Option<bool> {
    let Value::Bool(value) = value else {
        let mut defect = wrong_type("true or false", value);
        defect.remedy = "true or false, without quotes".to_owned();
        defects.push(defect);
        return None;
    };
    Some(*value)
}

/// A whole number that is not negative and fits `T`.
pub(super) fn whole<T: TryFrom<u64>>(value: &Value, defects: &mut Defects) -> Option<T> {
    match value {
        Value::Number(number) => {
            let whole = number.as_u64().and_then(|n| T::try_from(n).ok());
            if whole.is_none() {
                let problem = format!("expected a whole number, found {number}");
                let most = u64::MAX >> (64 - 8 * size_of::<T>().clamp(1, 8));
                defects.push(Defect::new("", problem, format!("from 0 to {most}")));
            }
            whole
        }
        other => {
            defects.push(wrong_type("a whole number", other));
            None
        }
    }
}

/// One of some words, each with what it stands for.
pub(super) fn word<T: Copy>(words: &[(&'static str, T)]) -> impl FnOnce(&Value, &mut Defects) -> Option<T> {
    move |value, defects| {
        let text = string(value, defects)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let remedy = match nearest(&text, &known) {
                Some(word) => format!("did you mean {word}?"),
                None => format!("one of {}", known.join(", ")),
            };
            defects.push(Defect::new("", format!("unknown word {}", quoted(&text)), remedy));
        }
        found.map(|(_, meaning)| *meaning)
    }
}

/// A string that is read further by `read`.
pub(super) fn parsed<T, E: Into<Wrong>>(
    read: impl FnOnce(&str) -> Result<T, E>,
) -> impl FnOnce(&Value, &mut Defects) -> Option<T> {
    move |value, defects| {
        let text = string(value, defects)?;
        read(&text).map_err(|error| defects.push(error.into().defect())).ok()
    }
}

/// An amount; `expected` says what is asked for where there is no string at all, as in "a duration like 10s".
pub(super) fn measure<T: FromStr<Err = MeasureError>>(
    expected: &'static str,
) -> impl FnOnce(&Value, &mut Defects) -> Option<T> {
    move |value, defects| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => {
                defects.push(wrong_type(expected, other));
                return None;
            }
        };
        text.parse().map_err(|error: MeasureError| defects.push(Wrong::from(error).defect())).ok()
    }
}

/// A template of one of the sets.
pub(super) fn template(set: TemplateSet) -> impl Fn(&Value, &mut Defects) -> Option<Template> + Copy {
    move |value, defects| {
        let text = string(value, defects)?;
        let template = Template::parse(&text, set);
        let wrong = |error: crate::TemplateError| Wrong {
            problem: format!("{} at position {}", error.problem, error.position),
            remedy: error.remedy,
        };
        template.map_err(|error| defects.push(wrong(error).defect())).ok()
    }
}

/// A list; `of` says of what. Items that cannot be read become `instead`, so that the others keep their places.
pub(super) fn list<T>(
    of: &'static str,
    mut read: impl FnMut(&Value, &mut Defects) -> Option<T>,
    instead: impl Fn() -> Option<T>,
) -> impl FnOnce(&Value, &mut Defects) -> Option<Vec<T>> {
    move |value, defects| {
        let Value::Array(items) = value else {
            defects.push(wrong_type(&format!("a list of {of}"), value));
            return None;
        };
        let mut read_all = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if is_enough(defects) {
                break;
            }
            let read = at(&format!("[{index}]"), defects, |defects| read(item, defects));
            read_all.extend(read.or_else(&instead));
        }
        Some(read_all)
    }
}

/// A mapping of any keys. Values that cannot be read become `instead`, so that their keys are known.
pub(super) fn mapping<K: Ord, V>(
    mut key: impl FnMut(&str) -> Result<K, Wrong>,
    mut read: impl FnMut(&Value, &mut Defects) -> Option<V>,
    instead: impl Fn() -> Option<V>,
) -> impl FnOnce(&Value, &mut Defects) -> Option<BTreeMap<K, V>> {
    move |value, defects| {
        let Value::Object(map) = value else {
            defects.push(wrong_type("a mapping", value));
            return None;
        };
        let mut all = BTreeMap::new();
        for (name, value) in map {
            if is_enough(defects) {
                break;
            }
            at(&segment(name), defects, |defects| {
                let key = key(name).map_err(|wrong| defects.push(wrong.defect())).ok();
                if let (Some(key), Some(value)) = (key, read(value, defects).or_else(&instead)) {
                    all.insert(key, value);
                }
            });
        }
        Some(all)
    }
}

/// What is wrong, and what would be right.
pub(super) struct Wrong {
    pub(super) problem: String,
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }

    fn defect(self) -> Defect {
        Defect::new("", self.problem, self.remedy)
    }
}

impl From<NameError> for Wrong {
    fn from(error: NameError) -> Self {
        Self { problem: error.problem, remedy: error.remedy }
    }
}

impl From<MeasureError> for Wrong {
    fn from(error: MeasureError) -> Self {
        Self { problem: error.problem, remedy: error.remedy }
    }
}

impl From<crate::RuleError> for Wrong {
    fn from(error: crate::RuleError) -> Self {
        Self { problem: error.to_string(), remedy: error.remedy }
    }
}
