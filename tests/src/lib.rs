//! Cross-crate proof.
