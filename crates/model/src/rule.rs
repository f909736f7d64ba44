//! `node_list_rules`: which nodes a bucket may run on, by hostname and label.

use std::str::Chars;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::measure::quoted;

/// One rule, parsed; kept as data, so that reading it back never fails.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeRule {
    /// The rule as written.
    pub text: String,
    /// `-`: a node that matches is out.
    pub exclude: bool,
    /// `$`: the labels are matched, not the hostname.
    pub labels: bool,
    /// What is matched.
    pub pattern: Pattern,
}

/// What a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Pattern {
    /// Anchored, ignores case; only `*` and `?` are special.
    Glob(String),
    /// Searched anywhere, in the syntax of the `regex` crate; flags among `i`, `x`, `s`, `m`.
    Regex {
        /// The expression, `\/` already turned into `/`.
        source: String,
        /// The flags as written.
        flags: String,
    },
}

/// All rules of a bucket. Order does not matter; none: every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeListRules(pub Vec<NodeRule>);

/// Longest rule in bytes.
pub const RULE_MAX: usize = 1000;
/// Most rules of a bucket or a job.
pub const RULES_MAX: usize = 1_000;
/// Most of them that are expressions: each takes its memory on every node.
pub const EXPRESSIONS_MAX: usize = 64;
/// How much memory a compiled expression may take, for its program and again for its cache.
const REGEX_MAX: usize = 512 << 10;
/// The same for one that was registered when it was more.
const STORED_MAX: usize = 1 << 20;

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {}, position {position}: {problem}", quoted(rule))]
pub struct RuleError {
    /// The rule as written.
    pub rule: String,
    /// Where, in characters from 1.
    pub position: usize,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl NodeRule {
    /// Reads one rule: `[+|-][$](GLOB | /REGEX/FLAGS)`.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let error = |position: usize, problem: String, remedy: &str| RuleError {
            rule: text.to_owned(),
            position,
            problem,
            remedy: remedy.to_owned(),
        };
        if text.len() > RULE_MAX {
            let problem = format!("the rule has {} bytes, more than {RULE_MAX}", text.len());
            return Err(error(1, problem, "several shorter rules"));
        }
        if text.trim() != text {
            let position = if text.starts_with(char::is_whitespace) { 1 } else { text.chars().count() };
            return Err(error(position, "white space around the rule".to_owned(), "the same without it"));
        }
        let (exclude, rest) = match (text.strip_prefix('-'), text.strip_prefix('+')) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => (false, text),
        };
        let (labels, pattern) = rest.strip_prefix('$').map_or((false, rest), |pattern| (true, pattern));
        // The prefixes are one byte each.
        let before = text.len() - pattern.len();
        if pattern.is_empty() {
            return Err(error(
                before + 1,
                if before == 0 {
                    "the rule is empty".to_owned()
                } else {
                    format!("nothing follows {text:?}")
                },
                "a hostname, a glob like import-*, or an expression like /^import-\\d+$/",
            ));
        }
        let pattern = match pattern.strip_prefix('/') {
            None => Pattern::Glob(pattern.to_owned()),
            Some(expression) => parse_regex(expression, before + 2)
                .map_err(|(position, problem, remedy)| error(position, problem, &remedy))?,
        };
        Ok(Self { text: text.to_owned(), exclude, labels, pattern })
    }
}

/// Reads `REGEX/FLAGS`; `start` is the position of its first character.
fn parse_regex(text: &str, start: usize) -> Result<Pattern, (usize, String, String)> {
    let mut source = String::new();
    // Where each character of the source stands in the rule: `\/` is two characters there and one here.
    let mut positions = Vec::new();
    let mut chars = text.chars().zip(start..);
    let flags_at = loop {
        let Some((c, position)) = chars.next() else {
            return Err((start - 1, "the / is never closed".to_owned(), format!("/{text}/")));
        };
        match c {
            '/' => break position + 1,
            '\\' => match chars.next() {
                Some(('/', next)) => {
                    source.push('/');
                    positions.push(next);
                }
                Some((escaped, next)) => {
                    source.extend([c, escaped]);
                    positions.extend([position, next]);
                }
                None => continue,
            },
            _ => {
                source.push(c);
                positions.push(position);
            }
        }
    };
    if source.is_empty() {
        return Err((start, "the expression is empty".to_owned(), "/./ matches everything".to_owned()));
    }
    let mut flags = String::new();
    for (c, position) in chars {
        if !matches!(c, 'i' | 'x' | 's' | 'm') {
            let remedy = "flags are i, x, s and m; a slash inside the expression is written \\/";
            return Err((position, format!("unknown flag {c:?}"), remedy.to_owned()));
        }
        flags.push(c);
    }
    match build_regex(&source, &flags, REGEX_MAX) {
        Ok(_) => Ok(Pattern::Regex { source, flags }),
        Err(error) => {
            let (offset, problem, remedy) = explain(&error);
            let position =
                offset.map_or(start, |offset| positions.get(offset).copied().unwrap_or(flags_at - 1));
            Err((position, problem, remedy))
        }
    }
}

fn build_regex(source: &str, flags: &str, most: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(source)
        .case_insensitive(flags.contains('i'))
        .ignore_whitespace(flags.contains('x'))
        .dot_matches_new_line(flags.contains('s'))
        .multi_line(flags.contains('m'))
        .size_limit(most)
        .dfa_size_limit(most)
        .nest_limit(50)
        .build()
}

/// Which character (from 0) is wrong, what is wrong with it, and what would be right.
///
/// The library only offers a text for people: the expression, below it a line of spaces and `^`, and `error: …`.
fn explain(error: &regex::Error) -> (Option<usize>, String, String) {
    match error {
        regex::Error::Syntax(text) => {
            let offset = text
                .lines()
                .find(|line| line.contains('^') && line.chars().all(|c| matches!(c, ' ' | '^')))
                .and_then(|line| line.find('^'))
                .and_then(|column| column.checked_sub(4));
            let problem = text.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or(text);
            (
                offset,
                problem.trim().to_owned(),
                "an expression in the syntax of Rust's regex crate".to_owned(),
            )
        }
        regex::Error::CompiledTooBig(_) => {
            (None, "the expression is too large once compiled".to_owned(), "smaller repetitions".to_owned())
        }
        other => (None, other.to_string(), "a simpler expression".to_owned()),
    }
}

impl NodeListRules {
    /// Reads all rules; the errors come with the index of their rule, all of them at once. None of too many is read.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, Vec<(usize, RuleError)>> {
        if let Some(many) = too_many(texts.iter().map(|text| text.as_ref())) {
            return Err(vec![many]);
        }
        let mut rules = Vec::new();
        let mut errors = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match NodeRule::parse(text.as_ref()) {
                Ok(rule) => rules.push(rule),
                Err(error) => errors.push((index, error)),
            }
        }
        if errors.is_empty() { Ok(Self(rules)) } else { Err(errors) }
    }

    /// The rules as written.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(|rule| rule.text.clone()).collect()
    }

    /// Makes the rules ready to be checked. Total: a stored rule that no longer compiles refuses every node.
    pub fn compile(&self) -> CompiledRules {
        let compiled = |rule: &NodeRule| CompiledRule {
            text: rule.text.clone(),
            exclude: rule.exclude,
            labels: rule.labels,
            matcher: match &rule.pattern {
                Pattern::Glob(glob) => Matcher::Glob(glob.clone()),
                Pattern::Regex { source, flags } => match build_regex(source, flags, STORED_MAX) {
                    Ok(regex) => Matcher::Regex(regex),
                    Err(error) => Matcher::Broken(explain(&error).1),
                },
            },
        };
        CompiledRules(self.0.iter().map(compiled).collect())
    }
}

/// The first rule that is one too many, with its index. Counts; reads none of them.
pub(crate) fn too_many<'a>(texts: impl Iterator<Item = &'a str>) -> Option<(usize, RuleError)> {
    let mut expressions = 0;
    for (index, text) in texts.enumerate() {
        let pattern = text.strip_prefix(['+', '-']).unwrap_or(text);
        let pattern = pattern.strip_prefix('$').unwrap_or(pattern);
        expressions += usize::from(pattern.starts_with('/'));
        let problem = if index >= RULES_MAX {
            format!("there are more than {RULES_MAX} rules")
        } else if expressions > EXPRESSIONS_MAX {
            format!("there are more than {EXPRESSIONS_MAX} expressions among the rules")
        } else {
            continue;
        };
        let remedy = "fewer rules: a glob or a label selects any number of nodes".to_owned();
        return Some((index, RuleError { rule: text.to_owned(), position: 1, problem, remedy }));
    }
    None
}

/// Rules ready to be checked against any number of nodes. Globs cost a copy; expressions cost far more, so a
/// bucket that has some is best compiled once.
#[derive(Clone, Debug, Default)]
pub struct CompiledRules(Vec<CompiledRule>);

#[derive(Clone, Debug)]
struct CompiledRule {
    text: String,
    exclude: bool,
    labels: bool,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Glob(String),
    Regex(Regex),
    /// A stored expression that this version's library refuses, and why.
    Broken(String),
}

impl CompiledRules {
    /// Whether a node of this hostname and these labels may run the bucket; either way, why.
    ///
    /// A yes needs no reason where no rule includes. A no names every rule that excludes, and the include rules
    /// if there are some and none of them matches.
    pub fn check(&self, hostname: &str, labels: &[String]) -> Result<String, String> {
        let mut refusals = Vec::new();
        let mut included = None;
        for rule in &self.0 {
            if let Matcher::Broken(problem) = &rule.matcher {
                refusals.push(format!("rule {} is no longer understood: {problem}", rule.quoted()));
            }
            let Some(matched) = rule.matches(hostname, labels) else { continue };
            if rule.exclude {
                let label = if rule.labels { format!(" (label {matched:?})") } else { String::new() };
                refusals.push(format!("excluded by rule {}{label}", rule.quoted()));
            } else if included.is_none() {
                let what = if rule.labels { "label" } else { "hostname" };
                included = Some(format!("{what} {matched:?} matches rule {}", rule.quoted()));
            }
        }
        let includes: Vec<&CompiledRule> = self.0.iter().filter(|rule| !rule.exclude).collect();
        if included.is_none() && !includes.is_empty() {
            refusals.push(not_included(&includes, hostname, labels));
        }
        if refusals.is_empty() { Ok(included.unwrap_or_default()) } else { Err(refusals.join("; ")) }
    }
}

/// That none of `rules`, all of the include rules, matches.
fn not_included(rules: &[&CompiledRule], hostname: &str, labels: &[String]) -> String {
    let list = rules.iter().map(|rule| rule.quoted()).collect::<Vec<_>>().join(", ");
    let by_label = rules.iter().any(|rule| rule.labels);
    let by_hostname = rules.iter().any(|rule| !rule.labels);
    let labels =
        if labels.is_empty() { "no label".to_owned() } else { format!("none of the labels {labels:?}") };
    match (by_hostname, by_label) {
        (true, false) => format!("hostname {hostname:?} matches no include rule of [{list}]"),
        (false, _) => format!("{labels} matches an include rule of [{list}]"),
        (true, true) => format!("hostname {hostname:?} and {labels} matches an include rule of [{list}]"),
    }
}

impl CompiledRule {
    fn quoted(&self) -> String {
        format!("\"{}\"", self.text)
    }

    /// The hostname or label that matches.
    fn matches<'a>(&self, hostname: &'a str, labels: &'a [String]) -> Option<&'a str> {
        if self.labels {
            return labels.iter().map(String::as_str).find(|label| self.matcher.matches(label));
        }
        let short = hostname.split('.').next().unwrap_or_default();
        let matched = match &self.matcher {
            Matcher::Glob(glob) => {
                glob_matches(glob, short) || (glob.contains('.') && glob_matches(glob, hostname))
            }
            other => other.matches(hostname),
        };
        matched.then_some(hostname)
    }
}

impl Matcher {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Glob(glob) => glob_matches(glob, text),
            Self::Regex(regex) => regex.is_match(text),
            Self::Broken(_) => false,
        }
    }
}

/// Whether all of `text` matches `glob`, ignoring case; `*` is any run of characters, `?` any one, all others
/// are themselves. Takes at most `glob` × `text` steps and no memory.
pub fn glob_matches(glob: &str, text: &str) -> bool {
    let (mut glob, mut text) = (glob.chars(), text.chars());
    // After the last star: what of the glob follows it, and where the text that it has not taken begins.
    let mut star: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let (mut wanted, mut given) = (glob.clone(), text.clone());
        match (wanted.next(), given.next()) {
            (Some('*'), _) => {
                star = Some((wanted.clone(), text.clone()));
                glob = wanted;
                continue;
            }
            (Some(w), Some(g)) if w == '?' || same_letter(w, g) => {
                (glob, text) = (wanted, given);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        // A mismatch: the last star takes one character more.
        let Some((after, from)) = &mut star else { return false };
        if from.next().is_none() {
            return false;
        }
        (glob, text) = (after.clone(), from.clone());
    }
}

fn same_letter(a: char, b: char) -> bool {
    a == b
        || a.eq_ignore_ascii_case(&b)
        || (!a.is_ascii() && !b.is_ascii() && a.to_lowercase().eq(b.to_lowercase()))
}

#[cfg(test)]
mod tests;
