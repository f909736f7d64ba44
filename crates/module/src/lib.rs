//! Write a module of Sheaf in Rust: implement [`Module`], call [`serve`].
//!
//! ```text
//!  the node's agent, or the bucket's keeper            the module's program
//!    Host ── Hello, OnInit, OnNewSource … ──────────────► serve(MyModule)
//!    ContextServer ◄────────────── SetStatus, WhoAmI ────── Context
//!     └─ forwards ─► serve_cluster ◄── objects, checkpoint … ──┘
//!    Host::work ◄── Work: subtasks, and how they ended ─────► Module::on_subtask
//! ```
//!
//! ```no_run
//! use sheaf_module::{Bucket, Failure, Module};
//!
//! struct Hello;
//!
//! impl Module for Hello {
//!     async fn on_new_source(&self, bucket: Bucket) -> Result<(), Failure> {
//!         println!("hello from {}", bucket.name);
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), sheaf_module::ServeError> {
//!     sheaf_module::serve(Hello).await
//! }
//! ```
//!
//! Read `proto/sheaf/module/v1/module.proto` first: it says what is called when, and how things fail. Then [`Module`],
//! [`serve`] and [`Context`], the module's side; and [`host`], the other one, which an agent is built with.
//! `examples/rust` collects a directory, and counts words for jobs; `examples/python` polls a URL, and counts words as well, in plain grpcio. `sheaf module try` runs a module without a
//! cluster, and with `--conformance` checks what every one must do.

mod bucket;
mod context;
mod failure;
pub mod host;
mod module;
mod object;
mod proto;
mod refused;
mod secret;
mod serve;
mod work;

pub use bucket::{Bucket, Difference, Instance, Node};
pub use context::{Context, ContextError, ObjectWatch};
pub use failure::Failure;
pub use module::{CanRun, Module, Taken};
pub use object::{OBJECT_MAX, Object, ObjectChange, ObjectHead, ObjectPage, ObjectStep};
pub use refused::{Refused, Why};
pub use secret::{SECRET_MAX, Secret};
pub use serve::{ServeError, artifact, serve};
pub use work::{Job, Subtask, SubtaskResult};

/// The version of the protocol that this crate speaks, on both sides.
pub const PROTOCOL: u32 = 1;
/// Names the socket at which the program serves its module.
pub const SOCKET: &str = "SHEAF_MODULE_SOCKET";
/// Names the socket at which the program is served its context.
pub const CONTEXT: &str = "SHEAF_CONTEXT_SOCKET";
/// Names where what was pushed for the module's version is; see [`artifact()`].
pub const ARTIFACT: &str = "SHEAF_ARTIFACT";
/// Names the version of the protocol that the caller speaks.
pub const PROTOCOL_VARIABLE: &str = "SHEAF_MODULE_PROTOCOL";
/// No message of either side is larger, in bytes.
pub const MESSAGE_MAX: usize = 4 << 20;
/// Longest line of [`Context::set_status`], in bytes.
pub const STATUS_MAX: usize = 500;
