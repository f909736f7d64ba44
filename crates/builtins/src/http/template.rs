//! `${…}` in a backend's config: what of a subtask goes where in a request.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The item, or a field of it.
    Item(Vec<String>),
    Job,
    Subtask,
    Attempt,
    Backend,
    /// What the service calls it.
    Id,
    /// What no other attempt has.
    Key,
    Secret(String),
}

/// Where a template stands, which says what it may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Path or body of what is posted.
    Submit,
    /// A path that is asked afterwards.
    Afterwards,
    /// A header's value.
    Header,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(Name),
}

/// A text with names in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

/// What names stand for in one attempt.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) item: Value,
    pub(super) job: String,
    pub(super) subtask: u32,
    pub(super) attempt: u32,
    pub(super) backend: String,
    pub(super) key: String,
    /// Once it is known.
    pub(super) id: Option<String>,
}

impl Place {
    const fn allows(self, name: &Name) -> bool {
        match name {
            Name::Id => matches!(self, Self::Afterwards),
            Name::Secret(_) => matches!(self, Self::Header),
            _ => true,
        }
    }

    const fn names(self) -> &'static str {
        match self {
            Self::Submit => "item, item.FIELD, job, subtask, attempt, backend, key",
            Self::Afterwards => "id, item, item.FIELD, job, subtask, attempt, backend, key",
            Self::Header => "secret.NAME, item, item.FIELD, job, subtask, attempt, backend, key",
        }
    }
}

impl Template {
    /// Reads one; `$${` writes `${`. The error is for people.
    pub(super) fn parse(text: &str, place: Place) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                plain.push_str(&rest[..at - 1]);
                plain.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            plain.push_str(&rest[..at]);
            let Some(length) = rest[at + 2..].find('}') else {
                return Err(format!("{:?} has no end; ${{NAME}}, or $${{ for ${{ itself", &rest[at..]));
            };
            let name = &rest[at + 2..at + 2 + length];
            let known = read(name).filter(|known| place.allows(known));
            let known =
                known.ok_or_else(|| format!("${{{name}}} is no name here; one of {}", place.names()))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Name(known));
            rest = &rest[at + 2 + length + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The secrets that it names.
    pub(super) fn secrets(&self) -> BTreeSet<&str> {
        let named = self.0.iter().filter_map(|part| match part {
            Part::Name(Name::Secret(name)) => Some(name.as_str()),
            _ => None,
        });
        named.collect()
    }

    /// With every name replaced; `encode` is applied to what comes in their places. The error is for people.
    pub(super) fn render(
        &self,
        scope: &Scope,
        secrets: &BTreeMap<String, String>,
        encode: impl Fn(&str) -> String,
    ) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Name(Name::Secret(name)) => {
                    let value = secrets.get(name).ok_or_else(|| format!("secret {name} is not known"))?;
                    text.push_str(value);
                }
                Part::Name(name) => text.push_str(&encode(&plain(&scope.value(name)?))),
            }
        }
        Ok(text)
    }

    /// As a value in a body: a name that stands alone keeps the type of what it stands for.
    pub(super) fn value(&self, scope: &Scope) -> Result<Value, String> {
        match self.0.as_slice() {
            [Part::Name(name)] => scope.value(name),
            _ => Ok(Value::String(self.render(scope, &BTreeMap::new(), str::to_owned)?)),
        }
    }
}

fn read(text: &str) -> Option<Name> {
    let field = |path: &str| {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        path.iter().all(|part| !part.is_empty()).then_some(path)
    };
    match text {
        "item" => Some(Name::Item(Vec::new())),
        "job" => Some(Name::Job),
        "subtask" => Some(Name::Subtask),
        "attempt" => Some(Name::Attempt),
        "backend" => Some(Name::Backend),
        "id" => Some(Name::Id),
        "key" => Some(Name::Key),
        _ => match (text.strip_prefix("item."), text.strip_prefix("secret.")) {
            (Some(path), _) => field(path).map(Name::Item),
            (_, Some(name)) if !name.is_empty() => Some(Name::Secret(name.to_owned())),
            _ => None,
        },
    }
}

impl Scope {
    fn value(&self, name: &Name) -> Result<Value, String> {
        Ok(match name {
            Name::Item(path) => {
                let found = path.iter().try_fold(&self.item, |at, field| at.get(field));
                found.cloned().ok_or_else(|| format!("the item has no field {}", path.join(".")))?
            }
            Name::Job => self.job.as_str().into(),
            Name::Subtask => self.subtask.into(),
            Name::Attempt => self.attempt.into(),
            Name::Backend => self.backend.as_str().into(),
            Name::Key => self.key.as_str().into(),
            Name::Id => self.id.as_deref().ok_or("what the service calls it is not known yet")?.into(),
            Name::Secret(name) => return Err(format!("secret {name} stands in headers alone")),
        })
    }
}

/// A text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// As it may stand in a segment of a path.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn scope() -> Scope {
        Scope {
            item: json!({"tile": "T 32/a", "year": 2024, "at": {"x": 1}}),
            job: "ndvi".to_owned(),
            subtask: 7,
            attempt: 2,
            backend: "vito".to_owned(),
            key: "c-9-7-2".to_owned(),
            id: Some("u/1".to_owned()),
        }
    }

    fn path(text: &str) -> Result<String, String> {
        Template::parse(text, Place::Afterwards)?.render(&scope(), &BTreeMap::new(), segment)
    }

    #[test]
    fn names_are_replaced_and_made_fit_for_where_they_stand() {
        assert_eq!(path("jobs/${id}?t=${item.tile}").unwrap(), "jobs/u%2F1?t=T%2032%2Fa");
        assert_eq!(path("${job}.${subtask}.${attempt}/${backend}/${key}").unwrap(), "ndvi.7.2/vito/c-9-7-2");
        assert_eq!(path("${item.at.x}").unwrap(), "1");
        assert_eq!(path("$X $${id} $").unwrap(), "$X ${id} $");
        let token = Template::parse("Bearer ${secret.token}", Place::Header).unwrap();
        assert_eq!(token.secrets(), ["token"].into());
        let secrets = BTreeMap::from([("token".to_owned(), "x/y".to_owned())]);
        assert_eq!(token.render(&scope(), &secrets, segment).unwrap(), "Bearer x/y");
    }

    #[test]
    fn in_a_body_a_name_that_stands_alone_keeps_its_type() {
        let value = |text: &str| Template::parse(text, Place::Submit).unwrap().value(&scope());
        assert_eq!(value("${item.year}").unwrap(), json!(2024));
        assert_eq!(value("${item}").unwrap(), scope().item);
        assert_eq!(value("year ${item.year}").unwrap(), json!("year 2024"));
        assert_eq!(value("plain").unwrap(), json!("plain"));
        assert_eq!(value("${item.no}").unwrap_err(), "the item has no field no");
    }

    #[test]
    fn what_cannot_stand_there_is_refused_with_what_can() {
        let refused = |text: &str, place| Template::parse(text, place).unwrap_err();
        assert!(refused("${id}", Place::Submit).contains("${id} is no name here; one of item"));
        assert!(refused("${secret.token}", Place::Afterwards).contains("no name here; one of id"));
        assert!(refused("${bucket.name}", Place::Header).contains("one of secret.NAME"));
        assert!(refused("a ${item", Place::Submit).contains("has no end"));
        assert!(refused("${item.}", Place::Submit).contains("no name here"));
    }
}
