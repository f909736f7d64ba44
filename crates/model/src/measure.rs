//! Amounts as people write them: `512MiB`, `3s`, `1s..60s`, `5 in 10m`.

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

/// `512MiB`, `10MB`, `1024`.
impl FromStr for Bytes {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        text.parse().map(Self).map_err(|_| MeasureError::new(format!("{text:?} is no size"), "like 512MiB"))
    }
}

/// `500ms`, `3s`, `10m`, `1h30m`.
impl FromStr for Span {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        let duration = humantime::parse_duration(text)
            .map_err(|error| MeasureError::new(format!("{text:?}: {error}"), "like 3s"))?;
        Ok(Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}
