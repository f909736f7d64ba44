//! Amounts as people write them: `512MiB`, `3s`, `1s..60s`, `5 in 10m`, `0.5`.
//!
//! What is printed reads back as the same amount. Nothing is rounded: an amount that cannot be kept exactly is
//! refused, with the one that can be in the remedy.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Span;

/// Why a text is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct MeasureError {
    /// What is wrong, with the offending text.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl MeasureError {
    fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] =
            [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match UNITS.iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

/// `512MiB`, `10MB`, `1024`; whole numbers only.
impl FromStr for Bytes {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        const REMEDY: &str = "a whole number with B, KiB, MiB, GiB, TiB, kB, MB, GB or TB, like 512MiB";
        let (number, unit) = number_and_rest(text.trim());
        if unit.starts_with(['.', ',']) {
            let remedy = "a whole number of a smaller unit, like 1536MiB for 1.5GiB";
            return Err(MeasureError::new(format!("size {} has a fraction", quoted(text)), remedy));
        }
        let size: u64 = match unit.trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(MeasureError::new(format!("{} is no size", quoted(text)), REMEDY)),
        };
        if number.is_empty() {
            return Err(MeasureError::new(format!("{} is no size", quoted(text)), REMEDY));
        }
        let too_large = || MeasureError::new(format!("size {} is too large", quoted(text)), "a smaller size");
        let number: u64 = number.parse().map_err(|_| too_large())?;
        number.checked_mul(size).map(Self).ok_or_else(too_large)
    }
}

/// Units of time in milliseconds. A year is 365.25 days and a month a twelfth of it, as they are printed.
const TIME_UNITS: [(&[&str], u64); 8] = [
    (&["ms", "msec", "millis"], 1),
    (&["s", "sec", "secs", "second", "seconds"], 1_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
    (&["w", "wk", "wks", "week", "weeks"], 604_800_000),
    (&["month", "months"], 2_630_016_000),
    (&["y", "yr", "yrs", "year", "years"], 31_557_600_000),
];

/// `500ms`, `3s`, `10m`, `1h30m`, `1h 30m`; whole numbers, whole milliseconds.
impl FromStr for Span {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        const REMEDY: &str = "whole numbers with ms, s, m, h or d, like 500ms, 10m or 1h30m";
        let too_long =
            || MeasureError::new(format!("duration {} is too long", quoted(text)), "a shorter one");
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(MeasureError::new("the duration is empty", REMEDY));
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (number, after) = number_and_rest(rest);
            if number.is_empty() {
                return Err(MeasureError::new(format!("{} is no duration", quoted(text)), REMEDY));
            }
            if after.starts_with(['.', ',']) {
                let remedy = "a whole number of a smaller unit, like 1500ms for 1.5s";
                return Err(MeasureError::new(format!("duration {} has a fraction", quoted(text)), remedy));
            }
            let after = after.trim_start();
            let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
            let (unit, next) = after.split_at(end);
            let number: u64 = number.parse().map_err(|_| too_long())?;
            let size = time_unit(text, number, unit)?;
            total = number.checked_mul(size).and_then(|part| total.checked_add(part)).ok_or_else(too_long)?;
            rest = next.trim_start();
        }
        Ok(Self(total))
    }
}

/// Milliseconds of one `unit`, which follows `number` in `text`.
fn time_unit(text: &str, number: u64, unit: &str) -> Result<u64, MeasureError> {
    if let Some((_, size)) = TIME_UNITS.iter().find(|(names, _)| names.contains(&unit)) {
        return Ok(*size);
    }
    let text = quoted(text);
    Err(match unit {
        "" => {
            MeasureError::new(format!("duration {text} has no unit"), format!("like {number}s or {number}ms"))
        }
        "M" => MeasureError::new(
            format!("duration {text} has the unit \"M\", which could be minutes or months"),
            format!("{number}m or {number}months"),
        ),
        "us" | "µs" | "usec" | "ns" | "nsec" | "nanos" => {
            MeasureError::new(format!("duration {text} is finer than a millisecond"), "at least 1ms")
        }
        other => MeasureError::new(
            format!("duration {text} has the unknown unit {}", quoted(other)),
            "ms, s, m, h or d",
        ),
    })
}

/// Two lengths of time, the first not longer than the second: `1s..60s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanRange {
    /// The shortest.
    pub min: Span,
    /// The longest.
    pub max: Span,
}

impl fmt::Display for SpanRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.min, self.max)
    }
}

impl FromStr for SpanRange {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        const REMEDY: &str = "two durations, like 1s..60s";
        let Some((min, max)) = text.split_once("..") else {
            return Err(MeasureError::new(format!("{} is no range of durations", quoted(text)), REMEDY));
        };
        let (min, max): (Span, Span) = (min.parse()?, max.parse()?);
        if min > max {
            let problem = format!("range {} begins above its end", quoted(text));
            return Err(MeasureError::new(problem, format!("{max}..{min}")));
        }
        Ok(Self { min, max })
    }
}

/// How often within which time: `5 in 10m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frequency {
    /// How often.
    pub count: u32,
    /// Within this time, which is not zero.
    pub window: Span,
}

impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.count, self.window)
    }
}

impl FromStr for Frequency {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        const REMEDY: &str = "a number and a duration, like 5 in 10m";
        let error = || MeasureError::new(format!("{} is no count in a time", quoted(text)), REMEDY);
        let (count, window) = text.split_once(" in ").ok_or_else(error)?;
        let (number, rest) = number_and_rest(count.trim());
        if number.is_empty() || !rest.is_empty() {
            return Err(error());
        }
        let too_large =
            || MeasureError::new(format!("{number} is too often"), format!("at most {}", u32::MAX));
        let count: u32 = number.parse().map_err(|_| too_large())?;
        let window: Span = window.parse()?;
        if window.0 == 0 {
            return Err(MeasureError::new(format!("the time in {} is zero", quoted(text)), REMEDY));
        }
        Ok(Self { count, window })
    }
}

/// A number of processor cores in thousandths: `2`, `0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// Thousandths of a core; at most [`Cores::MAX`].
    pub millis: u64,
}

impl Cores {
    /// A million cores, in thousandths; far beyond any machine, and exact as a JSON number.
    pub const MAX: u64 = 1_000_000_000;
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.millis / 1000)?;
        match self.millis % 1000 {
            0 => Ok(()),
            part => write!(f, ".{}", format!("{part:03}").trim_end_matches('0')),
        }
    }
}

impl FromStr for Cores {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        const REMEDY: &str = "cores with at most three decimals, like 2 or 0.5";
        let error = || MeasureError::new(format!("{} is no number of cores", quoted(text)), REMEDY);
        let (whole, rest) = number_and_rest(text.trim());
        let part = match rest.strip_prefix('.') {
            Some(part) => part,
            None if rest.is_empty() => "0",
            None => return Err(error()),
        };
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits {
            return Err(error());
        }
        let part = part.trim_end_matches('0');
        if part.len() > 3 {
            return Err(MeasureError::new(format!("{} is finer than a thousandth", quoted(text)), REMEDY));
        }
        let thousandths: u64 = format!("{part:0<3}").parse().map_err(|_| error())?;
        let whole: Option<u64> = whole.parse().ok();
        let millis = whole.and_then(|n| n.checked_mul(1000)).and_then(|n| n.checked_add(thousandths));
        match millis {
            Some(millis) if millis <= Self::MAX => Ok(Self { millis }),
            _ => Err(MeasureError::new(format!("{} are too many cores", quoted(text)), "at most 1000000")),
        }
    }
}

/// The digits that `text` begins with, and what follows them.
fn number_and_rest(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `text` in quotes, at most 60 characters of it: what is wrong need not be said at any length.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(text: &str) -> Result<u64, String> {
        text.parse::<Bytes>().map(|b| b.0).map_err(|e| format!("{}; {}", e.problem, e.remedy))
    }

    fn span(text: &str) -> Result<u64, String> {
        text.parse::<Span>().map(|s| s.0).map_err(|e| format!("{}; {}", e.problem, e.remedy))
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        assert_eq!(bytes("10MB"), Ok(10_000_000));
        assert_eq!(bytes("1 kB"), Ok(1000));
        assert_eq!(bytes("1024"), Ok(1024));
        assert_eq!(bytes("0"), Ok(0));
    }

    #[test]
    fn what_is_no_size_is_refused_with_a_remedy() {
        assert_eq!(
            bytes("1.5GiB").expect_err("a fraction"),
            "size \"1.5GiB\" has a fraction; a whole number of a smaller unit, like 1536MiB for 1.5GiB"
        );
        assert!(bytes("99999999TiB").expect_err("too large").contains("too large"));
        for text in ["", "MiB", "-1", "512Mi", "1 2", "0x10", "many", "1e3", "５MiB"] {
            assert!(bytes(text).expect_err(text).contains("is no size"), "{text}");
        }
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(span("500ms"), Ok(500));
        assert_eq!(span("3s"), Ok(3_000));
        assert_eq!(span("10m"), Ok(600_000));
        assert_eq!(span("1h30m"), Ok(5_400_000));
        assert_eq!(span(" 1h 30m 5 s "), Ok(5_405_000));
        assert_eq!(span("0s"), Ok(0));
    }

    #[test]
    fn a22_what_is_no_duration_is_refused_with_a_remedy() {
        assert_eq!(span("10").expect_err("no unit"), "duration \"10\" has no unit; like 10s or 10ms");
        assert_eq!(
            span("10M").expect_err("ambiguous"),
            "duration \"10M\" has the unit \"M\", which could be minutes or months; 10m or 10months"
        );
        assert_eq!(
            span("1.5s").expect_err("a fraction"),
            "duration \"1.5s\" has a fraction; a whole number of a smaller unit, like 1500ms for 1.5s"
        );
        assert!(span("5us").expect_err("too fine").contains("finer than a millisecond"));
        assert!(span("5 lightyears").expect_err("no unit of time").contains("unknown unit \"lightyears\""));
        // Once made a popular library panic.
        assert!(span("18446744073709551615s 1000000000ns").expect_err("too long").contains("too long"));
        for text in ["", "soon", "-3s", "3s!", "s"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_and_frequencies_are_read_and_printed() {
        let range: SpanRange = "1s..60s".parse().expect("a range");
        assert_eq!((range.min, range.max), (Span::seconds(1), Span::seconds(60)));
        assert_eq!(range.to_string(), "1s..1m");
        assert_eq!("60s..1s".parse::<SpanRange>().expect_err("backwards").remedy, "1s..1m");
        assert!("1s".parse::<SpanRange>().is_err());
        let frequency: Frequency = "5 in 10m".parse().expect("a frequency");
        assert_eq!((frequency.count, frequency.window), (5, Span::seconds(600)));
        for text in ["5", "5 in", "in 10m", "-5 in 10m", "5in10m", "5 in 0s", "99999999999 in 1m", "+5 in 1s"]
        {
            assert!(text.parse::<Frequency>().is_err(), "{text}");
        }
    }

    #[test]
    fn cores_are_read_and_printed() {
        for (text, millis, printed) in [
            ("2", 2000, "2"),
            ("0.5", 500, "0.5"),
            ("0.125", 125, "0.125"),
            ("1.50", 1500, "1.5"),
            ("2.0", 2000, "2"),
        ] {
            let cores: Cores = text.parse().expect("cores");
            assert_eq!((cores.millis, cores.to_string().as_str()), (millis, printed));
        }
        for text in ["", ".5", "5.", "-1", "0.0001", "1e3", "two", "99999999999999999999", "1.+2"] {
            assert!(text.parse::<Cores>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(n: u64, m: u64, count: u32, cores in 0..=Cores::MAX) {
            prop_assert_eq!(Bytes(n).to_string().parse(), Ok(Bytes(n)));
            prop_assert_eq!(Span(n).to_string().parse(), Ok(Span(n)));
            let range = SpanRange { min: Span(n.min(m)), max: Span(n.max(m)) };
            prop_assert_eq!(range.to_string().parse(), Ok(range));
            let frequency = Frequency { count, window: Span(m.max(1)) };
            prop_assert_eq!(frequency.to_string().parse(), Ok(frequency));
            let cores = Cores { millis: cores };
            prop_assert_eq!(cores.to_string().parse(), Ok(cores));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9a-zA-Z. µ+-]{0,24}|\\PC{0,16}") {
            let _ = text.parse::<Bytes>();
            let _ = text.parse::<Span>();
            let _ = text.parse::<SpanRange>();
            let _ = text.parse::<Frequency>();
            let _ = text.parse::<Cores>();
        }
    }
}
