//! Selectors: which subtasks of a job a verb is about, as people write it.

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

const REMEDY: &str = "like 7, 1-10, 1-10:2, failed or last; several with commas between";

impl FromStr for Selector {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
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
        for part in &self.0 {
            match part {
                Part::Last => all.insert(Run::one(whole.last)),
                Part::In(state) => of(*state).runs().for_each(|run| all.insert(run)),
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
