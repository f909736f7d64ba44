//! The generated code. Nothing of it leaves this crate.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::pedantic, reason = "generated")]

/// The public API.
pub(crate) mod v1 {
    tonic::include_proto!("sheaf.v1");
}

/// Between agents.
pub(crate) mod peer {
    /// The one version so far.
    pub(crate) mod v1 {
        tonic::include_proto!("sheaf.peer.v1");
    }
}

/// Every file, for reflection.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
