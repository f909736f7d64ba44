//! Keepers as real processes: what they start, what they end, and what is left of them (nothing).

#![allow(clippy::unwrap_used, reason = "this is all test; the linter knows that of #[test] functions only")]

mod killed;
mod lease;
mod life;
mod limits;
mod runner;
mod stop;
mod user;
mod world;
