//! The handle of one keeper.

use sheaf_model::{BootId, Epoch, Moment};
use tokio::sync::watch;

use crate::keeper::Status;

/// A connection to one keeper, kept up in the background. Dropping it ends the connection, never the keeper.
#[derive(Debug)]
pub struct Handle {
    status: watch::Receiver<Status>,
}

impl Handle {
    /// Tells the keeper a new deadline; the newest one wins. Never waits.
    pub fn deadline(&self, _epoch: Epoch, _boot: BootId, _until: Moment) {}

    /// Asks for an orderly end. Never waits; see [`Handle::ended`].
    pub fn stop(&self) {}

    /// Where the instance is. The channel closes when the keeper is gone and its bucket's lock is free; the last
    /// value then has `end` set ([`sheaf_engine::keep::End::KeeperLost`] if the keeper was killed).
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits for that and returns the last status.
    pub async fn ended(&self) -> Status {
        let mut status = self.status();
        while status.changed().await.is_ok() {}
        let last = status.borrow().clone();
        last
    }
}
