//! SQLite: the durable, searchable image of the replicated state; loads it, writes changes, snapshots it.
//!
//! The log decides, memory answers, and this crate remembers: what is written here may lag behind both, because the
//! log's tail is applied again at start. So a commit does not wait for the disk; only what stands behind
//! [`Store::make_durable`] may be purged from the log. A power cut can take the last commits, never a part of one.
//!
//! ```text
//!                    load, once at start
//!   State ◄──────────────────────────────────────┐
//!     │ apply                                    │
//!     ▼                                          │
//!  [Change] ──write, one transaction a batch──► Store ──make_durable──► log may be purged up to here
//!  + applied position                            │ ▲
//!                                      backup,   │ │ replace, after a crash finished by the next open
//!                                      in steps  ▼ │
//!                                            snapshot file ◄──► another member
//!
//!  views, SQL ──events, tail, releases──► Reader (own read-only connections, any thread)
//! ```
//!
//! Read in this order: `schema.sql` (what stands where), `codec` (how a row's body is written), `row`, `job` (with `ends`,
//! `steps` and `trail`) and `write`, `load`, `store` (open, durability), `prune`, `snapshot`, `reader`, `history`,
//! `delivery`, `attempts`, `pace`, `items` and `object`, `query`, `error`.
//!
//! Everything here blocks; asynchronous callers put it on a thread of its own.

mod attempts;
mod codec;
mod delivery;
mod ends;
mod error;
mod history;
mod items;
mod job;
mod load;
mod object;
mod pace;
mod prune;
mod query;
mod reader;
mod row;
mod schema;
mod snapshot;
mod steps;
mod store;
mod trail;
mod write;

pub use attempts::{FailedAlike, FailedGroups};
pub use codec::CodecError;
pub use delivery::{Ahead, Delivery};
pub use ends::{AttemptState, RanAttempt};
pub use error::StoreError;
pub use history::{EventFilter, Releases};
pub use pace::Lately;
pub use query::{Ask, Found, QueryError, Wanted};
pub use reader::Reader;
pub use steps::steps_of;
pub use store::Store;
