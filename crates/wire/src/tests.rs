//! Whole calls between real servers and clients on loopback.

pub(crate) mod fake;
mod forwarding;
mod guarded;
mod idle;
mod peers;
mod serving;
mod silence;
mod strange;
mod views;
