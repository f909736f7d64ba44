//! Artifacts on disk and on their way: packed where they are pushed, kept where they are used.
//!
//! ```text
//!  console: pack ──pieces──► the leader's Cache ──fetch──► other voters' Caches      (a push; then the log says so)
//!                                   ▲
//!                 an agent's Cache ─┴─ fetch ──► unpack ──► ${artifact}              (before gate 3 is asked)
//! ```
//!
//! A blob is a plain tar archive, sorted and without times and owners: the same files give the same bytes on any machine,
//! and so the same digest. It is not compressed: what is pushed is mostly compressed already (jars, wheels, binaries in
//! images), every node would pay for it in processor time, and an archive that cannot grow when it is unpacked needs no
//! second limit.
//!
//! This is a crate of its own because three sides share it that must not know each other: the command line packs, the
//! control plane receives, the agent unpacks; the last two in one directory. Read [`pack`](mod@pack),
//! [`unpack`](mod@unpack), [`cache`], then `fetch`. Apart from all of it: [`bundle`], an archive for people.

pub mod bundle;
pub mod cache;
mod fetch;
pub mod pack;
pub mod unpack;

pub use bundle::Bundle;
pub use cache::{Cache, CacheError};
pub use fetch::{FetchError, holders};
pub use pack::{PackError, Packed, pack};
pub use unpack::{UnpackError, unpack};
