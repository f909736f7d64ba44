//! Sheaf.
pub mod keeper;
pub mod keepers;
pub mod logs;
