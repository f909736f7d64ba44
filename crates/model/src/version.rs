//! Which build this is.

use std::hint::black_box;

/// Stands in the binary as it is, once, so that it can be found there: `strings sheaf | grep '^sheaf version '`.
const STAMP: &str = concat!("sheaf version ", env!("CARGO_PKG_VERSION"));
const BEFORE: usize = "sheaf version ".len();

/// The version of this build, such as `0.1.0`; the same for all parts of it.
pub fn version() -> &'static str {
    // Read from where it stands, and not put into the code as a number.
    black_box(STAMP).get(BEFORE..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_packages() {
        assert_eq!(version(), env!("CARGO_PKG_VERSION"));
    }
}
