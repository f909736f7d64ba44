//! Backends: external systems that subtasks are sent to, as pools with a name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BackendName, Frequency, Json, Span};

/// Longest `config` in bytes of JSON: it goes with every grant.
pub const BACKEND_CONFIG_MAX: usize = 64 << 10;

/// What a person asks a backend to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendSpec {
    /// Its name; jobs name it.
    pub name: BackendName,
    /// No more than so many subtasks at a time, of all jobs together; none: as many as nodes run.
    pub max_running: Option<u32>,
    /// No more than so many are begun in a time; none: as fast as nodes run them.
    pub rate: Option<Frequency>,
    /// When it is left alone for a while.
    pub breaker: Breaker,
    /// What modules must know of it, a JSON object.
    pub config: Json,
    /// Free labels for people to select by.
    pub labels: BTreeMap<String, String>,
    /// Who answers for it.
    pub owner: Option<String>,
}

impl BackendSpec {
    /// One with every optional field as when a document leaves it out.
    pub fn new(name: BackendName) -> Self {
        Self {
            name,
            max_running: None,
            rate: None,
            breaker: Breaker::default(),
            config: Json::new(&serde_json::json!({})),
            labels: BTreeMap::new(),
            owner: None,
        }
    }
}

/// When a backend that fails is left alone: it opens after so many failures of class `backend` in a row, for a time that
/// doubles with each time that it opens again at the first try, and closes with the first success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// In a row; 0: it never opens.
    pub failures: u32,
    /// The first time …
    pub pause_min: Span,
    /// … up to this.
    pub pause_max: Span,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, pause_min: Span::seconds(30), pause_max: Span::seconds(600) }
    }
}
