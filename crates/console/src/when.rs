//! Times as people read and write them.

use std::time::Duration;

use sheaf_model::{Revision, Timestamp};

use crate::exit::Failure;

/// How long ago: `42s`, `12m`, `3h`, `5d`. What lies ahead by a differing clock is `0s`.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    span(then.until(now))
}

/// The age of an RFC 3339 text, itself if it is none, `-` if there is none.
pub(crate) fn age_of(now: Timestamp, then: Option<&str>) -> String {
    let Some(text) = then.filter(|text| !text.is_empty()) else { return "-".to_owned() };
    match humantime::parse_rfc3339(text) {
        Ok(time) => age(now, Timestamp::from_system(time)),
        Err(_) => text.to_owned(),
    }
}

/// How long until an RFC 3339 text; itself if it is none.
pub(crate) fn left(now: Timestamp, then: &str) -> String {
    match humantime::parse_rfc3339(then) {
        Ok(time) => span(now.until(Timestamp::from_system(time))),
        Err(_) => then.to_owned(),
    }
}

/// A length of time in one or two units.
pub(crate) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{minutes}m"),
        7200..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

/// Where to begin in what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// After this revision.
    Revision(Revision),
    /// From this time on.
    Time(Timestamp),
}

/// Reads `--since`: a revision (`1234`), a time (`2026-01-10T12:00:00Z`, `2026-01-10`), or how long ago (`10m`).
pub(crate) fn since(text: &str, now: Timestamp) -> Result<Since, Failure> {
    if let Ok(revision) = text.parse() {
        return Ok(Since::Revision(Revision(revision)));
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(Since::Time(Timestamp(now.0.saturating_sub(ago))));
    }
    let whole = if text.len() == "2026-01-10".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
    match humantime::parse_rfc3339_weak(&whole) {
        Ok(time) => Ok(Since::Time(Timestamp::from_system(time))),
        Err(_) => Err(Failure::usage(
            format!("--since {text:?} is no revision, time or duration"),
            "like 1234, 2026-01-10T12:00:00Z or 10m",
        )),
    }
}

/// The same where only a time makes sense.
pub(crate) fn since_time(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    match since(text, now)? {
        Since::Time(time) => Ok(time),
        Since::Revision(_) => Err(Failure::usage(
            format!("--since {text:?} is no time or duration"),
            "like 2026-01-10T12:00:00Z or 10m",
        )),
    }
}

/// Reads a length of time for clap: `500ms`, `60s`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; like 60s or 1h30m"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::recorded::NOW;

    #[test]
    fn ages_are_short() {
        let ago = |seconds: u64| age(NOW, Timestamp(NOW.0 - seconds * 1000));
        let ages = [0, 59, 119, 120, 7199, 7200, 172_799, 172_800].map(ago);
        assert_eq!(ages, ["0s", "59s", "119s", "2m", "119m", "2h", "47h", "2d"]);
        assert_eq!(age(NOW, Timestamp(NOW.0 + 5000)), "0s");
        assert_eq!(age_of(NOW, Some("2026-01-10T11:50:00.000Z")), "10m");
        assert_eq!(age_of(NOW, None), "-");
        assert_eq!(age_of(NOW, Some("soon")), "soon");
    }

    #[test]
    fn since_is_a_revision_a_time_or_an_age() {
        let read = |text| since(text, NOW).expect("a good text");
        assert_eq!(read("1234"), Since::Revision(Revision(1234)));
        assert_eq!(read("10m"), Since::Time(Timestamp(NOW.0 - 600_000)));
        assert_eq!(read("2026-01-10T12:00:00Z"), Since::Time(NOW));
        assert_eq!(read("2026-01-10 12:00:00"), Since::Time(NOW));
        assert_eq!(read("2026-01-10"), Since::Time(Timestamp(NOW.0 - 12 * 3_600_000)));
        for bad in ["", "yesterday", "-5m", "2026-13-01", "2026-01-10T", "10 parsecs"] {
            let error = since(bad, NOW).expect_err("a bad text");
            assert_eq!(error.exit().code(), 2, "{bad}");
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
        assert!(since_time("12", NOW).is_err());
    }
}
