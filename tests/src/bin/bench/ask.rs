//! What is asked of the benchmarks on the command line.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A benchmark's name and options; an option that is not given has the benchmark's own default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) name: String,
    rounds: Option<usize>,
    seconds: Option<u64>,
    minutes: Option<u64>,
    seed: Option<u64>,
    trials: Option<usize>,
    at_once: Option<usize>,
    buckets: Option<usize>,
    subtasks: Option<usize>,
    seeds: Option<u64>,
    large: Large,
    target: Option<String>,
    case: Option<String>,
    former: Option<PathBuf>,
    image: Option<String>,
    package: Option<PathBuf>,
    writers: Option<Vec<usize>>,
    to: To,
    tls: bool,
}

/// Whom writers ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum To {
    /// The member that leads; it forwards nothing.
    #[default]
    Leader,
    /// All members, by turns.
    All,
}

/// Whether large clusters are simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Large {
    /// After the seeds.
    #[default]
    Yes,
    No,
    /// And no seeds.
    Only,
}

impl Ask {
    /// Reads `NAME [--OPTION VALUE]… [--tls]`.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let name = words.next().ok_or("which benchmark?")?;
        let mut ask = Self { name, ..Self::default() };
        while let Some(option) = words.next() {
            if option == "--tls" {
                ask.tls = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{option} lacks its value"))?;
            match option.as_str() {
                "--rounds" => ask.rounds = Some(number(&option, &value)?),
                "--seconds" => ask.seconds = Some(number(&option, &value)?),
                "--minutes" => ask.minutes = Some(number(&option, &value)?),
                "--seed" => ask.seed = Some(number(&option, &value)?),
                "--trials" => ask.trials = Some(number(&option, &value)?),
                "--at-once" => ask.at_once = Some(number(&option, &value)?),
                "--buckets" => ask.buckets = Some(number(&option, &value)?),
                "--subtasks" => ask.subtasks = Some(number(&option, &value)?),
                "--seeds" => ask.seeds = Some(number(&option, &value)?),
                "--target" => ask.target = Some(value),
                "--case" => ask.case = Some(value),
                "--from" => ask.former = Some(value.into()),
                "--image" => ask.image = Some(value),
                "--package" => ask.package = Some(value.into()),
                "--large" => {
                    ask.large = match value.as_str() {
                        "yes" => Large::Yes,
                        "no" => Large::No,
                        "only" => Large::Only,
                        _ => return Err(format!("--large {value}: yes, no or only")),
                    }
                }
                "--writers" => {
                    let counts = value.split(',').map(|count| number(&option, count));
                    ask.writers = Some(counts.collect::<Result<_, _>>()?);
                }
                "--to" => {
                    ask.to = match value.as_str() {
                        "leader" => To::Leader,
                        "all" => To::All,
                        _ => return Err(format!("--to {value}: leader or all")),
                    }
                }
                _ => return Err(format!("there is no option {option}")),
            }
        }
        Ok(ask)
    }

    pub(crate) fn rounds(&self, default: usize) -> usize {
        self.rounds.unwrap_or(default)
    }

    pub(crate) fn seconds(&self, default: u64) -> u64 {
        self.seconds.unwrap_or(default)
    }

    pub(crate) fn minutes(&self, default: u64) -> u64 {
        self.minutes.unwrap_or(default)
    }

    pub(crate) fn seed(&self, default: u64) -> u64 {
        self.seed.unwrap_or(default)
    }

    pub(crate) fn trials(&self, default: usize) -> usize {
        self.trials.unwrap_or(default)
    }

    pub(crate) fn at_once(&self, default: usize) -> usize {
        self.at_once.unwrap_or(default)
    }

    pub(crate) fn buckets(&self, default: usize) -> usize {
        self.buckets.unwrap_or(default)
    }

    pub(crate) fn subtasks(&self, default: usize) -> usize {
        self.subtasks.unwrap_or(default)
    }

    pub(crate) fn seeds(&self, default: u64) -> u64 {
        self.seeds.unwrap_or(default)
    }

    pub(crate) fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// Whether what has this name is asked for: all is, unless a part of a name is given.
    pub(crate) fn has_case(&self, name: &str) -> bool {
        self.case.as_ref().is_none_or(|case| name.contains(case.as_str()))
    }

    /// The binary of another version.
    pub(crate) fn former(&self) -> Option<&Path> {
        self.former.as_deref()
    }

    /// An image that Docker has; none: one is made.
    pub(crate) fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// A Debian package; none: one is made.
    pub(crate) fn package(&self) -> Option<&Path> {
        self.package.as_deref()
    }

    pub(crate) fn large(&self) -> Large {
        self.large
    }

    pub(crate) fn writers(&self, default: &[usize]) -> Vec<usize> {
        self.writers.clone().unwrap_or_else(|| default.to_vec())
    }

    pub(crate) fn to(&self) -> To {
        self.to
    }

    /// Whether TLS is compared with none.
    pub(crate) fn tls(&self) -> bool {
        self.tls
    }
}

/// A whole number above 0.
fn number<T: FromStr + Default + PartialEq>(option: &str, text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| *number != T::default());
    number.ok_or_else(|| format!("{option} {text}: a whole number above 0"))
}
