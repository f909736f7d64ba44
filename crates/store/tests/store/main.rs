//! The store as its callers see it: `memory` (what is read back equals what was written), `files` (opened, refused, out
//! of space), `delivery` (what sinks read), `snapshots` (backed up, replaced). `kit` makes what is written.

mod delivery;
mod files;
mod jobs;
mod kit;
mod memory;
mod query;
mod snapshots;
