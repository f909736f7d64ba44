//! The clock of the control plane; the composition root gives the real one.

use sheaf_model::{Moment, Timestamp};

/// Time, as the control plane needs it.
pub trait Clock: Send + Sync + 'static {
    /// Now, on this machine's `CLOCK_BOOTTIME`, which goes on while the machine sleeps.
    fn moment(&self) -> Moment;
    /// Wall time, for people and history.
    fn wall(&self) -> Timestamp;
}
