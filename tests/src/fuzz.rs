//! Inputs that nobody would write, for everything that reads what others wrote.
//!
//! ```text
//!  corpus, words ──► mutate ──input──► a target's run ──► fine
//!        seed ────────┘                               └──► Failure: what is wrong, and the line that repeats it
//! ```
//!
//! An input follows from its target and one number alone, so that number repeats it: there is no corpus that grows. What is
//! demanded of every input: no panic, no more than [`CPU`] and [`GROWN`], errors that say something and say it to people;
//! of many: what was read and is written reads back as the same.
//!
//! `tests/fuzz.rs` tries each target for about a second; `bench fuzz` as long as it is told. Read `run`, `mutate`, `corpus`,
//! then any file of targets.

mod corpus;
mod log;
mod messages;
mod modules;
mod mutate;
mod query;
mod run;
mod texts;

pub use run::{CPU, Failure, GROWN, Runner, Target, Tried};

/// Every target.
pub const TARGETS: [Target; 20] = [
    texts::DOCUMENTS,
    texts::ITEMS,
    texts::RULES,
    texts::TEMPLATES,
    texts::AMOUNTS,
    texts::SELECTORS,
    texts::NAMES,
    texts::TOKENS,
    texts::URLS,
    texts::SETTINGS,
    texts::FINGERPRINTS,
    messages::FILTERS,
    messages::MESSAGES,
    messages::ANSWERS,
    modules::MODULES,
    log::BYTES,
    log::COMMANDS,
    log::SNAPSHOTS,
    log::ARCHIVES,
    query::QUERIES,
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    const ALL: &[Target] = &TARGETS;
    ALL.iter().find(|target| target.name == name)
}
