//! Where something belongs in a trace: what travels with a call and with what follows from it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::BucketName;

/// A span that others are parts of, as the W3C's Trace Context has it: `00-TRACE-SPAN-FLAGS`, in hexadecimal digits. It proves
/// nothing; nothing but telemetry may depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceContext {
    /// The whole; not 0.
    pub trace: u128,
    /// The part; not 0.
    pub span: u64,
    /// Somebody keeps it: parts of it are worth being told.
    pub sampled: bool,
}

/// What changed a bucket, so that what nodes do about it is seen as a part of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// The bucket.
    pub bucket: BucketName,
    /// The change.
    pub context: TraceContext,
}

/// Why a text is no [`TraceContext`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no trace context; one is 00-, 32 hexadecimal digits, -, 16 of them, -, 2 of them")]
pub struct NoTraceContext;

/// The one flag there is.
const SAMPLED: u8 = 1;

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled) * SAMPLED)
    }
}

impl FromStr for TraceContext {
    type Err = NoTraceContext;

    /// Reads a `traceparent`. Later versions may have more behind it.
    fn from_str(text: &str) -> Result<Self, NoTraceContext> {
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits);
            part.filter(|part| part.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)))
        };
        let (version, trace, span, flags) =
            (part(2).ok_or(NoTraceContext)?, part(32), part(16), part(2).ok_or(NoTraceContext)?);
        let more = parts.next().is_some();
        if version == "ff" || (version == "00" && more) {
            return Err(NoTraceContext);
        }
        let trace = trace.and_then(|digits| u128::from_str_radix(digits, 16).ok()).filter(|id| *id != 0);
        let span = span.and_then(|digits| u64::from_str_radix(digits, 16).ok()).filter(|id| *id != 0);
        let flags = u8::from_str_radix(flags, 16).map_err(|_| NoTraceContext)?;
        let (trace, span) = trace.zip(span).ok_or(NoTraceContext)?;
        Ok(Self { trace, span, sampled: flags & SAMPLED == SAMPLED })
    }
}

/// As its text.
impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_written_as_it_is_read() {
        let context: TraceContext = TEXT.parse().expect("the standard's own example");
        assert_eq!((context.span, context.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.to_string(), TEXT);
        let quiet = TraceContext { sampled: false, ..context };
        assert_eq!(quiet.to_string().parse::<TraceContext>(), Ok(quiet));
        let json = serde_json::to_string(&context).expect("a text");
        assert_eq!(json, format!("{TEXT:?}"));
        assert_eq!(serde_json::from_str::<TraceContext>(&json).expect("the same text"), context);
        assert!(
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09-more".parse::<TraceContext>().is_ok()
        );
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(NoTraceContext), "{bad}");
        }
    }
}
