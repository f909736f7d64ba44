//! Calls from the test's own process, where a command for each would be too slow, or says too little.

use sheaf_wire::{Client, Options};
use tokio::runtime::Runtime;

/// For clients in this process.
///
/// # Panics
/// If no thread can be started.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be started")
}

/// A client of an agent's; made within a runtime.
///
/// # Panics
/// If that is no address.
pub fn client(address: &str) -> Client {
    Client::lazy(address, Options::default()).expect("an agent's address is one")
}
