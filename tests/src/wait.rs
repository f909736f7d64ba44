//! Waiting for what is to come true.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(40);
/// Between the first two of a wait; twice as long after each. Most of what is waited for comes at once, and there are
/// thousands of waits.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Looks again and again until it is so, and gives what was found. `look` says what it saw as long as it is not.
///
/// # Panics
/// When `within` is over, with what was waited for and what was seen last.
pub fn wait_for<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let (begun, mut rest) = (Instant::now(), FIRST_PAUSE);
    loop {
        let seen = match look() {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(begun.elapsed() < within, "not so within {within:?}: {what}\n  last seen: {seen}");
        sleep(rest);
        rest = (2 * rest).min(PAUSE);
    }
}

/// The same for what is only true or not.
///
/// # Panics
/// As [`wait_for`].
pub fn wait_until(what: &str, within: Duration, mut look: impl FnMut() -> bool) {
    wait_for(what, within, || if look() { Ok(()) } else { Err("it is not so".to_owned()) });
}

/// Looks for all of `span` and fails at the first look that finds something wrong: for what must not happen.
///
/// # Panics
/// With what was found.
pub fn watch_for(what: &str, span: Duration, mut look: impl FnMut() -> Result<(), String>) {
    let begun = Instant::now();
    while begun.elapsed() < span {
        if let Err(found) = look() {
            panic!("after {:?}: {what}\n  found: {found}", begun.elapsed());
        }
        pause();
    }
}

/// Until the next look.
pub(crate) fn pause() {
    sleep(PAUSE);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause of every wait in tests; their threads run nothing else"
)]
fn sleep(span: Duration) {
    thread::sleep(span);
}
