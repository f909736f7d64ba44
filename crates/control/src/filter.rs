//! Filters and pages of lists: by name, so that a page continues where the last one ended whatever changes between.

use std::collections::BTreeMap;

use sheaf_model::rule::glob_matches;
use sheaf_wire::{Filter, Page, PageOf};

/// What a row says under a filter's key: any of these; none: the row has no such value.
pub(crate) type Values<'a> = &'a dyn Fn(&str) -> Vec<String>;

/// Whether all terms hold. A key without a value is equal to nothing; names are matched as globs.
pub(crate) fn selects(filter: &Filter, values: Values<'_>) -> bool {
    filter.terms.iter().all(|term| {
        let matches = |value: &String| match term.key.as_str() {
            "name" | "hostname" => glob_matches(&term.value, value),
            _ => *value == term.value,
        };
        values(&term.key).iter().any(matches) != term.not
    })
}

/// The value of `label.KEY`.
pub(crate) fn label(labels: &BTreeMap<String, String>, key: &str) -> Vec<String> {
    let value = key.strip_prefix("label.").and_then(|key| labels.get(key));
    value.cloned().into_iter().collect()
}

/// How many rows a page has at most.
pub(crate) fn size(of: &PageOf) -> usize {
    let size = if of.size == 0 { sheaf_wire::PAGE_MAX } else { of.size };
    usize::try_from(size).unwrap_or(usize::MAX).max(1)
}

/// One page of rows that come in the order of `key`, starting after the page's token.
pub(crate) fn page<T>(of: &PageOf, rows: impl Iterator<Item = T>, key: impl Fn(&T) -> String) -> Page<T> {
    let size = size(of);
    let mut taken: Vec<T> = rows.take(size + 1).collect();
    let more = taken.len() > size;
    taken.truncate(size);
    let next = if more { taken.last().map(&key).unwrap_or_default() } else { String::new() };
    Page { rows: taken, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap_or_repetition() {
        let names: Vec<String> = (0..7).map(|n| format!("/b/{n}")).collect();
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let rows = names.iter().filter(|name| **name > token).cloned();
            let page = page(&PageOf { size: 3, token: token.clone() }, rows, Clone::clone);
            seen.extend(page.rows);
            token = page.next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, names);
    }

    #[test]
    fn a_negated_term_selects_rows_without_the_value_too() {
        let filter = Filter::parse("owner!=ops", &["owner"]).expect("a filter");
        assert!(selects(&filter, &|_| Vec::new()));
        assert!(!selects(&filter, &|_| vec!["ops".to_owned()]));
    }

    #[test]
    fn names_are_globs_and_any_of_several_values_will_do() {
        let filter = Filter::parse("name=/logs/*,module=flume@1", &["name", "module"]).expect("a filter");
        let values = |key: &str| match key {
            "name" => vec!["/logs/web".to_owned()],
            _ => vec!["flume".to_owned(), "flume@1".to_owned()],
        };
        assert!(selects(&filter, &values));
    }
}
