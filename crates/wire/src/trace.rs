//! Traces: one from a person's command to the start of what it asked for, over every node that has a part in it.
//!
//! ```text
//!  console ──traceparent──► Front (a span for each hop) ──► Caller::trace ──► control: propose, apply, place
//!                                                                                │ told with acknowledgements
//!                                                    agents: gates, start ◄──────┘
//!  every process: Span, once it ends ──► bounded queue ──► Exporter ──OTLP──► a collector
//! ```
//!
//! A span's parent is handed over by whoever begins it: what belongs together happens on several nodes, seconds apart, so
//! that neither a thread nor a task could carry it. Without a collector a span is nothing, and hands on the parent that it
//! was given. Nothing waits for a collector, and nothing but telemetry depends on one: what finds no room is dropped and
//! counted.
//!
//! Read `span`, then `export`.

mod export;
mod span;

pub use export::{Exporter, Settings, TraceError, check_endpoint, start};
pub use span::{Kind, Span, begin, begin_as, begin_at, is_on};

pub(crate) use span::TRACEPARENT;
