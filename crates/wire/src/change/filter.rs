//! The filters of lists: `KEY=VALUE` and `KEY!=VALUE`, separated by commas.

use std::fmt;

use sheaf_model::{Defect, nearest};

use crate::spec::short;

/// All terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// In the order written.
    pub terms: Vec<Term>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// One of the list's keys, or `label.` and a label's key.
    pub key: String,
    /// Written with `!=`.
    pub not: bool,
    /// As written, without the spaces around it; no comma in it.
    pub value: String,
}

/// Most terms of a filter.
const TERMS_MAX: usize = 32;

impl Filter {
    /// Reads a filter whose keys are among `keys`; one that ends with a dot stands for all that begin with it.
    pub fn parse(text: &str, keys: &[&str]) -> Result<Self, Vec<Defect>> {
        let (mut terms, mut defects) = (Vec::new(), Vec::new());
        let written = text.split(',').map(str::trim).filter(|written| !written.is_empty());
        // One more than may be says that there are too many.
        for written in written.take(TERMS_MAX + 1) {
            match term(written, keys) {
                Ok(term) => terms.push(term),
                Err(defect) => defects.push(defect),
            }
        }
        if terms.len() + defects.len() > TERMS_MAX {
            defects.truncate(TERMS_MAX);
            defects.push(Defect::new("filter", "too many terms", format!("at most {TERMS_MAX}")));
        }
        if defects.is_empty() { Ok(Self { terms }) } else { Err(defects) }
    }

    /// The same with one more term.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.terms.push(Term { key: key.into(), not: false, value: value.into() });
        self
    }
}

fn term(written: &str, keys: &[&str]) -> Result<Term, Defect> {
    let remedy = || format!("KEY=VALUE or KEY!=VALUE, KEY among {}", keys.join(", "));
    let Some((key, value)) = written.split_once('=') else {
        return Err(Defect::new("filter", format!("{:?} has no =", short(written)), remedy()));
    };
    let key = key.trim_end();
    let (key, not) = key.strip_suffix('!').map_or((key, false), |key| (key, true));
    let (key, value) = (key.trim(), value.trim());
    let known = keys.iter().any(|known| match known.strip_suffix('.') {
        Some(_) => key.strip_prefix(known).is_some_and(|rest| !rest.is_empty()),
        None => key == *known,
    });
    if !known {
        let meant = nearest(key, keys).map_or_else(remedy, |meant| format!("did you mean {meant}?"));
        return Err(Defect::new("filter", format!("unknown key {:?}", short(key)), meant));
    }
    Ok(Term { key: key.to_owned(), not, value: value.to_owned() })
}

/// Reads back as the same filter.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let sign = if term.not { "!=" } else { "=" };
            write!(f, "{comma}{}{sign}{}", term.key, term.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[&str] = &["state", "module", "label."];

    #[test]
    fn a_filter_is_read_and_printed() {
        let filter = Filter::parse(" state=running, label.team!=web ,", KEYS).unwrap();
        assert_eq!(filter.to_string(), "state=running,label.team!=web");
        assert_eq!(Filter::parse(&filter.to_string(), KEYS), Ok(filter));
        assert_eq!(Filter::parse("", KEYS), Ok(Filter::default()));
        assert_eq!(Filter::parse("label.team! =web", KEYS), Filter::parse("label.team!=web", KEYS));
    }

    #[test]
    fn every_bad_term_is_named() {
        let defects = Filter::parse("running,colour=red,label.=x,state=ok", KEYS).unwrap_err();
        let problems: Vec<_> = defects.iter().map(|defect| defect.problem.as_str()).collect();
        assert_eq!(problems, [r#""running" has no ="#, r#"unknown key "colour""#, r#"unknown key "label.""#]);
        assert!(Filter::parse(&"state=x,".repeat(TERMS_MAX + 1), KEYS).is_err());
        let defects = Filter::parse(&"x,".repeat(1 << 20), KEYS).unwrap_err();
        assert_eq!(defects.len(), TERMS_MAX + 1, "no more is told");
        assert!(Filter::parse(&"x".repeat(1 << 20), KEYS).unwrap_err()[0].problem.len() < 1_000);
    }
}
