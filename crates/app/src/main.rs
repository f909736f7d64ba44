//! Sheaf.
fn main() {}
