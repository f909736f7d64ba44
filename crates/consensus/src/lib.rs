//! Raft: the one log that every member agrees on, and this node's replica of the state that the log leads to.
//!
//! The only crate that knows openraft and the log on disk. What it offers is [`Replica`]: propose a command, read what
//! is agreed, watch changes, change the membership.
//!
//! ```text
//!            propose                                    changes, state, revision
//!  control ──────────► proposer ─entries─► openraft ─committed─► machine ──► ring ──► watchers
//!     │                  (group commit)     │    ▲                  │ │
//!     │ confirm_leadership                  │    │ messages         │ └─► State (memory)
//!     └────────────────► reads ──round──────┤    ▼                  └───► writer ──► SQLite (store)
//!                                           │  network ──► Peers ──► other members ──► serve
//!                                           ▼
//!                                          log (votes and entries, one fsync a batch)
//! ```
//!
//! Reading order: `replica` (the handle), `proposer`, `machine`, `writer`, `ring`, `log`, `reads`; then `peer` (what
//! members say to each other), `network` (asking), `serve` (answering), `snapshot`; `codec` holds every byte written to
//! disk, `membership` and `service` the rest of the handle: forming, opening, closing; `beat` and `elect` are the timers of
//! a leader and of everybody else, `timer` counts those that come late; `end` ends the process; `offline` is for after a disaster; [`probe`] for tests.
//!
//! Everything of openraft runs on a runtime of its own, so that no storm of API calls delays a heartbeat.

#[cfg(test)]
extern crate self as sheaf_consensus;

mod beat;
mod codec;
mod elect;
mod end;
mod error;
#[cfg(test)]
mod faults;
mod log;
mod machine;
mod membership;
mod network;
mod offline;
mod options;
mod peer;
pub mod probe;
mod proof;
mod proposer;
mod raft;
mod reads;
mod replica;
mod ring;
mod serve;
mod service;
mod snapshot;
mod space;
mod timer;
mod writer;

pub use codec::{CodecError, VERSION, decode_batch, encode_batch, encode_proposal};
pub use error::{MembershipError, OpenError, ProposeError, ReadError, ServiceError};
pub use offline::{DATABASE, LOG, Offline, OfflineError, nodes_on_disk};
pub use options::Options;
pub use peer::{HandleError, Peer, PeerError, PeerStream, Peers, Traffic};
pub use proposer::{Applied, ENTRY_BYTES, fits};
pub use replica::{Leadership, MemberMetrics, Metrics, Replica};
pub use ring::{ChangeSet, Changes, Lagged};
pub use service::Service;
pub use snapshot::SavedCopy;
pub use space::make_room;
