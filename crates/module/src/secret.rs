//! A secret that the cluster keeps for the module.

use std::fmt;

/// Longest value of a secret in bytes.
pub const SECRET_MAX: usize = 64 << 10;

/// A secret's value. Printing it prints nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Of this value.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self(value.into())
    }

    /// The value, as it was set.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same as text; none: it is none.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
