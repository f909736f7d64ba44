//! Selectors: which subtasks of a job a verb is about, as people write it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::measure::quoted;
use crate::{MeasureError, Ranges, Run, SubtaskState, nearest};

/// `7`, `1-10`, `1-10:2`, `failed`, `last`, or several of them with commas between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Numbers { run: Run, step: u32 },
    In(SubtaskState),
    Last,
}

/// Most parts of one.
const PARTS_MAX: usize = 1_000;

const REMEDY: &str = "like 7, 1-10, 1-10:2, failed or last; several with commas between";

impl FromStr for Selector {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        if text.split(',').nth(PARTS_MAX).is_some() {
            let problem = format!("{} has more than {PARTS_MAX} parts", quoted(text));
            let remedy = "ranges like 1-1000 instead of single numbers, or a condition".to_owned();
            return Err(MeasureError { problem, remedy });
        }
        text.split(',').map(|part| read(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn read(text: &str) -> Result<Part, MeasureError> {
    let wrong = |problem: String, remedy: &str| Err(MeasureError { problem, remedy: remedy.to_owned() });
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        if text == "last" {
            return Ok(Part::Last);
        }
        if let Some(state) = SubtaskState::ALL.into_iter().find(|state| state.as_str() == text) {
            return Ok(Part::In(state));
        }
        let mut known = SubtaskState::ALL.map(SubtaskState::as_str).to_vec();
        known.push("last");
        let meant = nearest(text, &known).map(|word| format!("did you mean {word}?"));
        return wrong(format!("{} selects no subtasks", quoted(text)), meant.as_deref().unwrap_or(REMEDY));
    }
    let (numbers, step) = text.split_once(':').unwrap_or((text, "1"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse::<u32>().ok()).flatten()
    };
    match (number(first), number(last), number(step)) {
        (Some(first), Some(last), _) if first > last => {
            wrong(format!("range {} begins above its end", quoted(text)), &format!("{last}-{first}"))
        }
        (Some(_), Some(_), Some(0)) => {
            wrong(format!("{} has a step of zero", quoted(text)), "a step of at least 1")
        }
        (Some(first), Some(last), Some(step)) => Ok(Part::Numbers { run: Run::new(first, last), step }),
        _ => wrong(format!("{} selects no subtasks", quoted(text)), REMEDY),
    }
}

impl Selector {
    /// The subtasks of a job of `count` that are meant; `of` answers which are in a state now. What the job does not have
    /// is not selected.
    pub fn select(&self, count: u32, of: impl Fn(SubtaskState) -> Ranges) -> Ranges {
        let mut all = Ranges::default();
        let Some(whole) = Run::first_of(count) else { return all };
        let mut states = BTreeSet::new();
        for part in &self.0 {
            match part {
                Part::Last => all.insert(Run::one(whole.last)),
                Part::In(state) if states.insert(*state) => {
                    of(*state).runs().for_each(|run| all.insert(run));
                }
                // What is named twice is asked for once.
                Part::In(_) => {}
                Part::Numbers { run, step } => {
                    let Some(run) = run.overlap(whole) else { continue };
                    if *step == 1 {
                        all.insert(run);
                    } else {
                        let step = usize::try_from(*step).unwrap_or(usize::MAX);
                        run.numbers().step_by(step).for_each(|number| all.insert(Run::one(number)));
                    }
                }
            }
        }
        all
    }

    /// In how many runs stands at most what is named by number, of a job of `count` subtasks: what selecting it costs.
    pub fn runs(&self, count: u32) -> u64 {
        let whole = Run::first_of(count);
        let named = self.0.iter().map(|part| match part {
            Part::Numbers { run, step } => {
                let within = whole.and_then(|whole| run.overlap(whole));
                within.map_or(0, |run| if *step == 1 { 1 } else { run.len().div_ceil(u64::from(*step)) })
            }
            Part::In(_) | Part::Last => 1,
        });
        named.sum()
    }

    /// The highest number that is named; for who wants to say that a job has none such.
    pub fn highest(&self) -> Option<u32> {
        let named = self.0.iter().filter_map(|part| match part {
            Part::Numbers { run, .. } => Some(run.last),
            Part::In(_) | Part::Last => None,
        });
        named.max()
    }
}

/// As it is written.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            match part {
                Part::Last => f.write_str("last")?,
                Part::In(state) => f.write_str(state.as_str())?,
                Part::Numbers { run, step: 1 } => run.fmt(f)?,
                Part::Numbers { run, step } => write!(f, "{run}:{step}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_select() {
        let failed = |state| {
            if state == SubtaskState::Failed { Ranges::from(Run::new(30, 31)) } else { Ranges::default() }
        };
        for (text, selected) in [
            ("7", "7"),
            ("1-10:2", "1,3,5,7,9"),
            ("1-3, failed,last", "1-3,30-31,99"),
            ("90-200", "90-99"),
            ("200", ""),
            ("finished", ""),
        ] {
            let selector: Selector = text.parse().expect(text);
            assert_eq!(selector.select(100, failed).to_string(), selected, "{text}");
            assert_eq!(selector.to_string().parse(), Ok(selector));
        }
        assert_eq!("1-3,50,last".parse::<Selector>().expect("two").highest(), Some(50));
    }

    #[test]
    fn what_selecting_costs_is_known_before() {
        let runs = |text: &str| text.parse::<Selector>().expect(text).runs(10_000_000);
        assert_eq!(runs("7,1-10,failed,last,1-4294967295"), 5);
        assert_eq!(runs("0-9999999:2"), 5_000_000);
        assert_eq!(runs("0-4294967295:3,0-9:4294967295"), 3_333_334 + 1);
        assert_eq!(runs("10000000"), 0, "the job does not have it");
        let asked = std::cell::Cell::new(0);
        let many: Selector = ["failed"; PARTS_MAX].join(",").parse().expect("as many as may be");
        many.select(10, |_| {
            asked.set(asked.get() + 1);
            Ranges::default()
        });
        assert_eq!(asked.get(), 1, "each state is asked for once");
        let error = ["1"; PARTS_MAX + 1].join(",").parse::<Selector>().expect_err("one too many");
        assert!(error.problem.ends_with("… has more than 1000 parts"), "{error}");
    }

    #[test]
    fn what_selects_nothing_is_refused_with_a_remedy() {
        for (text, said) in [
            ("10-1", "range \"10-1\" begins above its end; 1-10"),
            ("1-10:0", "\"1-10:0\" has a step of zero; a step of at least 1"),
            ("faild", "\"faild\" selects no subtasks; did you mean failed?"),
            (
                "",
                "\"\" selects no subtasks; like 7, 1-10, 1-10:2, failed or last; several with commas between",
            ),
            (
                "1-",
                "\"1-\" selects no subtasks; like 7, 1-10, 1-10:2, failed or last; several with commas between",
            ),
            (
                "99999999999",
                "\"99999999999\" selects no subtasks; like 7, 1-10, 1-10:2, failed or last; several with \
              commas between",
            ),
        ] {
            let error = text.parse::<Selector>().expect_err(text);
            assert_eq!(format!("{}; {}", error.problem, error.remedy), said);
        }
    }
}
