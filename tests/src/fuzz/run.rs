//! Trying inputs, and what is found.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::mutate::{self, Soil};
use crate::cases::text;

/// The longest that an input may keep a processor busy.
pub const CPU: Duration = Duration::from_secs(3);
/// The most that memory may grow by an input, in bytes.
pub const GROWN: u64 = 256 << 20;
/// Inputs between two looks at the memory.
const BATCH: u64 = 128;
/// So much of an input is shown.
const SHOWN: usize = 600;

/// What is wrong with how an input was taken; fine if nothing.
pub(super) type Run = Box<dyn FnMut(&[u8]) -> Result<(), String>>;

/// Something that reads what others wrote.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// What it reads.
    pub about: &'static str,
    /// Inputs in a test: about a second's.
    pub inputs: u64,
    pub(super) prepare: fn() -> (Soil, Run),
}

/// A target, ready to be tried.
pub struct Runner {
    target: &'static Target,
    soil: Soil,
    run: Run,
    /// Whether memory can be looked at.
    measures: bool,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("target", &self.target.name).finish_non_exhaustive()
    }
}

/// What was tried.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// How many inputs.
    pub inputs: u64,
    /// What went wrong.
    pub failures: Vec<Failure>,
}

/// An input that was not taken as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of which target.
    pub target: &'static str,
    /// Which input.
    pub seed: u64,
    /// The input.
    pub input: Vec<u8>,
    /// What is wrong.
    pub what: String,
}

impl Failure {
    /// The command that repeats it.
    pub fn repeat(&self) -> String {
        let Self { target, seed, .. } = self;
        format!(
            "cargo run --release -p sheaf-tests --bin bench -- fuzz --target {target} --seed {seed} --trials 1"
        )
    }

    /// What failures have in common that are alike: what is wrong, without numbers.
    pub fn kind(&self) -> String {
        self.what.chars().filter(|c| !c.is_ascii_digit()).take(80).collect()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.input.get(..SHOWN).unwrap_or(&self.input).escape_ascii();
        let length = self.input.len();
        write!(f, "{}: {}\n  again: {}\n  its {length} bytes: {shown}", self.target, self.what, self.repeat())
    }
}

impl Runner {
    /// Makes everything that the target needs.
    pub fn of(target: &'static Target) -> Self {
        let (soil, run) = (target.prepare)();
        Self { target, soil, run, measures: Memory::begin().is_some() }
    }

    /// Tries the inputs of these seeds, until `stop` says so between some of them.
    pub fn tries(&mut self, seeds: Range<u64>, mut stop: impl FnMut(u64) -> bool) -> Tried {
        let mut tried = Tried::default();
        let mut next = seeds.start;
        while next < seeds.end && !stop(next) {
            let batch = next..seeds.end.min(next.saturating_add(BATCH));
            next = batch.end;
            tried.inputs += batch.end - batch.start;
            let memory = self.measures.then(Memory::begin).flatten();
            tried.failures.extend(batch.clone().filter_map(|seed| self.try_one(seed)));
            if memory.is_some_and(|memory| memory.grown() > GROWN) {
                tried.failures.extend(batch.filter_map(|seed| self.weigh(seed)));
            }
        }
        tried
    }

    fn try_one(&mut self, seed: u64) -> Option<Failure> {
        let input = mutate::input(&self.soil, seed);
        let begun = busy();
        let run = &mut self.run;
        let ended = catch_unwind(AssertUnwindSafe(|| run(&input)));
        let took = busy().saturating_sub(begun);
        let what = match ended {
            Err(panic) => format!("it panics: {}", text(&*panic)),
            Ok(Err(what)) => what,
            Ok(Ok(())) if took > CPU => format!("it takes {took:.1?} of a processor"),
            Ok(Ok(())) => return None,
        };
        Some(Failure { target: self.target.name, seed, input, what })
    }

    /// Tries an input once more, for its memory alone.
    fn weigh(&mut self, seed: u64) -> Option<Failure> {
        let memory = Memory::begin()?;
        let _failure = self.try_one(seed); // it is known already
        let grown = memory.grown();
        let what = format!("it takes {} MiB", grown >> 20);
        let input = mutate::input(&self.soil, seed);
        (grown > GROWN).then_some(Failure { target: self.target.name, seed, input, what })
    }
}

/// How long this thread has kept a processor busy.
fn busy() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The process's memory since some time.
struct Memory(u64);

impl Memory {
    /// From now on; none: the kernel does not tell.
    fn begin() -> Option<Self> {
        // The peak counts anew from here.
        fs::write("/proc/self/clear_refs", "5").ok()?;
        peak().map(Self)
    }

    /// By how many bytes it was more than at the beginning.
    fn grown(&self) -> u64 {
        peak().unwrap_or(self.0).saturating_sub(self.0)
    }
}

fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

/// Whether an error's text is for people: it says something, and nothing of how it is kept. What stands in the input may
/// stand in it.
pub(super) fn is_told(text: &str, input: &[u8]) -> Result<(), String> {
    const NOISE: [&str; 9] =
        ["Some(", "None)", "Ok(", "Err(", "Error {", "Error(", " { ", "PoisonError", "called `"];
    if text.trim().is_empty() {
        return Err("an error says nothing".to_owned());
    }
    let given = |word: &str| input.windows(word.len()).any(|part| part == word.as_bytes());
    match NOISE.iter().find(|word| text.contains(*word) && !given(word.trim())) {
        Some(word) => Err(format!("an error says {word:?}: {text}")),
        None => Ok(()),
    }
}

/// Demands that something holds.
pub(super) fn demand(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad() -> (Soil, Run) {
        let soil = Soil { corpus: vec![b"abc".to_vec()], words: Vec::new(), longest: 50, anew: None };
        let run = |input: &[u8]| match input.first() {
            Some(b'x') => panic!("at {}", input.len()),
            Some(b'\n') => Err(format!("{} is no line", input.len())),
            _ => Ok(()),
        };
        (soil, Box::new(run))
    }

    const BAD: Target = Target { name: "bad", about: "a target that fails", inputs: 1, prepare: bad };

    #[test]
    fn what_fails_is_found_and_its_seed_repeats_it() {
        static TARGET: Target = BAD;
        let mut runner = Runner::of(&TARGET);
        let tried = runner.tries(1..40_000, |_| false);
        assert_eq!(tried.inputs, 39_999);
        let kinds: std::collections::BTreeSet<_> = tried.failures.iter().map(Failure::kind).collect();
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [" is no line", "it panics: at "]);
        let one = &tried.failures[0];
        let again = Runner::of(&TARGET).tries(one.seed..one.seed + 1, |_| false);
        assert_eq!(again.failures, std::slice::from_ref(one));
        let told = one.to_string();
        assert!(told.contains(&format!("--target bad --seed {} --trials 1", one.seed)), "{told}");
        assert_eq!(runner.tries(1..1_000, |seed| seed > 300).inputs, 3 * BATCH);
    }

    #[test]
    fn errors_are_for_people() {
        assert!(is_told("there is no such thing", b"").is_ok());
        assert!(is_told(" ", b"").is_err());
        assert!(is_told("Some(3) is no number", b"3").is_err());
        assert!(is_told("\"Some(3)\" is no number", b"Some(3)").is_ok());
    }
}
