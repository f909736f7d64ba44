//! The calls of a bucket's life: what a module is told, and what its document may say about each.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Span, Template};

/// What a module is told of a bucket: a plugin by a call of `sheaf.module.v1`, an `exec` module by a command of its
/// document's `life_cycle`. New variants are added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Call {
    /// The handshake with a plugin, once its program listens.
    Hello,
    /// Who it is; plugins only.
    Init,
    /// The bucket runs in this process from now on; of an `exec` module: its program is about to start.
    NewSource,
    /// The same, after it was suspended here.
    Resume,
    /// The bucket changed.
    UpdatedSource,
    /// Its `poll_frequency` has passed.
    PeriodicPoll,
    /// It was suspended.
    Suspend,
    /// It was deleted.
    Delete,
    /// It leaves the node for good.
    Decommission,
    /// The process is about to end.
    Stop,
    /// What the bucket has collected so far is to be thrown away.
    Purge,
    /// The process is there to show what it makes of the bucket, and for nothing else.
    TestSource,
}

impl Call {
    /// Every call that a document may say something about, in the order of a bucket's life.
    pub const IN_DOCUMENTS: [Self; 11] = [
        Self::Init,
        Self::NewSource,
        Self::Resume,
        Self::UpdatedSource,
        Self::PeriodicPoll,
        Self::Purge,
        Self::Suspend,
        Self::Delete,
        Self::Decommission,
        Self::Stop,
        Self::TestSource,
    ];

    /// The word in documents, e.g. `on_new_source`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Init => "on_init",
            Self::NewSource => "on_new_source",
            Self::Resume => "on_resume",
            Self::UpdatedSource => "on_updated_source",
            Self::PeriodicPoll => "on_periodic_poll",
            Self::Suspend => "on_suspend",
            Self::Delete => "on_delete",
            Self::Decommission => "on_decommission",
            Self::Stop => "on_stop",
            Self::Purge => "on_purge",
            Self::TestSource => "on_test_source",
        }
    }

    /// How long it may take where the document does not say it. Those at the end have the grace of the stop, all together.
    pub const fn limit(self) -> Span {
        match self {
            Self::Hello => Span::seconds(10),
            Self::PeriodicPoll | Self::Purge => Span::seconds(60),
            _ => Span::seconds(30),
        }
    }

    /// Whether it is made at the end of an instance, within the grace of its stop.
    pub const fn is_farewell(self) -> bool {
        matches!(self, Self::Suspend | Self::Delete | Self::Decommission | Self::Stop)
    }
}

/// As in `sheaf.module.v1`, e.g. `OnNewSource`.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello => "Hello",
            Self::Init => "OnInit",
            Self::NewSource => "OnNewSource",
            Self::Resume => "OnResume",
            Self::UpdatedSource => "OnUpdatedSource",
            Self::PeriodicPoll => "OnPeriodicPoll",
            Self::Suspend => "OnSuspend",
            Self::Delete => "OnDelete",
            Self::Decommission => "OnDecommission",
            Self::Stop => "OnStop",
            Self::Purge => "OnPurge",
            Self::TestSource => "OnTestSource",
        })
    }
}

/// What a module's document says of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeCycleCall {
    /// What an `exec` module runs for it: the program and its arguments. Empty for plugins, which are called themselves.
    pub command: Vec<Template>,
    /// How long it may take; none: [`Call::limit`], and at the end of an instance the grace of its stop.
    pub timeout: Option<Span>,
}
