//! The whole state, read at start.

use sheaf_engine::State;

use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// The state as last written, and the applied position written with it; none: nothing was ever written.
    pub fn load(&self) -> Result<(State, Option<Vec<u8>>), StoreError> {
        unimplemented!()
    }
}
