//! The operator's terminal: the commands that talk to a cluster as any client does, and how they print its answers.
//!
//! ```text
//!  arguments ──clap──► ClientCommand ──run──► command::NOUN::VERB ──asks──► connect::Cluster ──► wire's clients
//!                                                  │ reads documents, waits
//!                                                  └──prints──► Terminal: data to stdout, talk to stderr
//! ```
//!
//! Read in this order: [`command`] (what there is, one file for each verb), [`options`] and [`profile`] (what they
//! share), `connect` (which cluster, and its failures in our words), `documents` (`-f`), `wait` (`--wait`),
//! `table`, `text` and `when` (how answers look), [`output`] (the streams), [`exit`] (how a command ends); then [`top`], which
//! is a program of its own.
//!
//! The binary's own command line is put together in `app`, which carries out what starts processes (`agent`,
//! `dev`, `keep`) and hands everything else to [`run`]:
//!
//! ```text
//! #[derive(clap::Parser)]
//! struct Cli {
//!     #[command(flatten)]
//!     options: sheaf_console::Options,
//!     #[command(subcommand)]
//!     command: Command,
//! }
//! #[derive(clap::Subcommand)]
//! enum Command {
//!     Agent(…),
//!     #[command(flatten)]
//!     Client(sheaf_console::ClientCommand),
//! }
//! ```

pub mod command;
mod connect;
mod documents;
pub mod exit;
pub mod options;
pub mod output;
pub mod profile;
pub mod snapshot;
mod table;
mod text;
pub mod top;
mod wait;
mod when;

pub use command::{ClientCommand, end, run};
pub use exit::{Exit, Failure};
pub use options::Options;
pub use output::{Format, Terminal};
