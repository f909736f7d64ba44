//! How a program is told of its life.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_model::{Call, Span};

/// What a keeper tells its program, and when. By default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telling {
    /// Told before each start, by commands; the program starts once all have succeeded.
    pub(super) before: Vec<Call>,
    /// Told to the program that is there; it runs once all have succeeded.
    pub(super) opening: Vec<Call>,
    /// What it can be told while it runs, and at its end.
    takes: BTreeSet<Call>,
    limits: BTreeMap<Call, Span>,
    by_commands: bool,
    /// It runs for its test, and ends when that is answered.
    pub(super) tests: bool,
}

impl Telling {
    /// A plugin's, which is told everything; its starts begin anew, or as `resumed`.
    pub fn plugin(limits: BTreeMap<Call, Span>, resumed: bool) -> Self {
        let opening = vec![Call::Hello, Call::Init, if resumed { Call::Resume } else { Call::NewSource }];
        let takes = Call::IN_DOCUMENTS.into();
        Self { opening, takes, limits, ..Self::default() }
    }

    /// A plugin's in a trial: it is told who it is, then to show what it makes of its bucket, and that it ends.
    pub fn trial(limits: BTreeMap<Call, Span>) -> Self {
        let opening = vec![Call::Hello, Call::Init];
        Self { opening, takes: [Call::Stop].into(), limits, tests: true, ..Self::default() }
    }

    /// A plugin's that is started only to be told how its bucket ended here: it is told who it is before.
    pub fn farewell(limits: BTreeMap<Call, Span>) -> Self {
        let takes = Call::IN_DOCUMENTS.into();
        Self { opening: vec![Call::Hello, Call::Init], takes, limits, ..Self::default() }
    }

    /// That of a program which knows nothing of it: a command is run for each of these calls.
    pub fn commands(takes: BTreeSet<Call>, limits: BTreeMap<Call, Span>, resumed: bool) -> Self {
        let wanted = if resumed && takes.contains(&Call::Resume) { Call::Resume } else { Call::NewSource };
        let before = takes.get(&wanted).copied().into_iter().collect();
        Self { before, takes, limits, by_commands: true, ..Self::default() }
    }

    /// Whether commands are run for what is to be told.
    pub(super) fn is_by_commands(&self) -> bool {
        self.by_commands
    }

    pub(super) fn takes(&self, call: Call) -> bool {
        self.takes.contains(&call)
    }

    pub(super) fn limit(&self, call: Call, grace: Span) -> Span {
        let usual = if call.is_farewell() { grace } else { call.limit() };
        self.limits.get(&call).copied().unwrap_or(usual)
    }

    /// What a call is called where people read of it.
    pub(super) fn name(&self, call: Call) -> String {
        if self.by_commands { call.as_str().to_owned() } else { call.to_string() }
    }

    /// That a call took longer than it may.
    pub(super) fn too_long(&self, call: Call, limit: Span) -> String {
        let name = self.name(call);
        if self.by_commands {
            format!("{name}: had not ended within {limit}")
        } else {
            format!("{name}: no answer within {limit}")
        }
    }

    /// Beyond a call's limit, until it is given up although nobody said so: who speaks with a plugin says it itself.
    pub(super) fn backstop(&self) -> Span {
        if self.by_commands { Span(0) } else { Span::seconds(1) }
    }
}
