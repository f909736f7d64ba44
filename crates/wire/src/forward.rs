//! Every call works on every node: what must be answered elsewhere is carried there and back, bytes passed through.
//!
//! ```text
//!  client ──call──► Front ──class──► Route::target ─┬─ Local ───────────► the service here
//!                     ▲                             ├─ To(contact) ─────► the same Front there, one hop on
//!                     └── asked again until the     └─ Unavailable ─────► wait a little
//!                         deadline if nothing was
//!                         applied for sure
//! ```
//!
//! Read `class` (which call goes where), `front` (the loop above), `call` (what is carried),
//! `body` (what flows through), `front::onward` (there and back), `peers` (connections).

mod body;
mod call;
mod class;
mod front;
mod peers;

pub use class::{Class, class};
pub(crate) use front::{Front, Handler};
pub(crate) use peers::{Peers, Traffic};
use sheaf_model::Contact;

/// Where a call is answered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By this node.
    Local,
    /// By that node.
    To(Contact),
    /// By nobody for the moment, and why, for people. The call waits until its deadline.
    Unavailable(String),
}

/// Knows where calls are answered. Asked for every call and again after every failure, so it must be cheap.
pub trait Route: Send + Sync + 'static {
    /// Where a call of this class is answered; `path` is `/PACKAGE.SERVICE/METHOD`, for the few that differ from
    /// their class: the status of a cluster without a leader, say, is better told here than by nobody. Never asked
    /// for [`Class::Own`].
    fn target(&self, class: Class, path: &str) -> Target;

    /// A call was not answered where [`Self::target`] said, or it said nowhere, and waits to be asked again: it may be known
    /// better by then. Called with each failure, so it must be cheap, too.
    fn failed(&self) {}
}

/// A node that answers everything itself: a cluster of one, and tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Route for Alone {
    fn target(&self, _: Class, _: &str) -> Target {
        Target::Local
    }
}
