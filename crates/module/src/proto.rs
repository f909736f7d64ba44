//! The generated code. Nothing of it leaves this crate.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::pedantic, reason = "generated")]

tonic::include_proto!("sheaf.module.v1");
