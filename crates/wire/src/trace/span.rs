//! One part of a trace.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;
use std::time::SystemTime;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span as Recording};
use sheaf_model::TraceContext;

/// The W3C's header.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// Set once, when there is a collector.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Begins spans from now on. False: something else does already.
pub(super) fn install(tracer: SdkTracer) -> bool {
    TRACER.set(tracer).is_ok()
}

/// Whether spans of this process go anywhere.
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work within this process.
    Internal,
    /// A call that somebody else answers.
    Client,
    /// A call that is answered here.
    Server,
}

/// Something that takes time. It ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    /// Of itself; if nobody keeps it, what it was given.
    context: Option<TraceContext>,
    /// None: nobody keeps it.
    recording: Option<Recording>,
}

/// Begins work within this process.
pub fn begin(name: impl Into<Cow<'static, str>>, parent: Option<TraceContext>) -> Span {
    begin_as(Kind::Internal, name, parent)
}

/// Begins a span; without a parent, a trace.
pub fn begin_as(kind: Kind, name: impl Into<Cow<'static, str>>, parent: Option<TraceContext>) -> Span {
    match TRACER.get() {
        Some(tracer) => Span::over(tracer, SpanBuilder::from_name(name).with_kind(kind.into()), parent),
        None => Span { context: parent, recording: None },
    }
}

/// The same for work that began then.
pub fn begin_at(at: SystemTime, name: impl Into<Cow<'static, str>>, parent: Option<TraceContext>) -> Span {
    match TRACER.get() {
        Some(tracer) => Span::over(tracer, SpanBuilder::from_name(name).with_start_time(at), parent),
        None => Span { context: parent, recording: None },
    }
}

impl Span {
    fn over(tracer: &SdkTracer, builder: SpanBuilder, parent: Option<TraceContext>) -> Self {
        let above = match parent {
            Some(parent) => Context::new().with_remote_span_context(foreign(parent)),
            None => Context::new(),
        };
        let span = tracer.build_with_context(builder, &above);
        let context = own(span.span_context()).or(parent);
        Self { context, recording: Some(span).filter(|span| span.is_recording()) }
    }

    /// What parts of it are given as their parent; none: nobody keeps anything.
    pub fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// Says more about it. Never anything secret.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: &dyn fmt::Display) -> Self {
        self.say(key, value);
        self
    }

    /// The same, later.
    pub fn say(&mut self, key: &'static str, value: &dyn fmt::Display) {
        if let Some(span) = &mut self.recording {
            span.set_attribute(KeyValue::new(key, value.to_string()));
        }
    }

    /// It did not go well.
    pub fn failed(&mut self, why: &dyn fmt::Display) {
        if let Some(span) = &mut self.recording {
            span.set_status(Status::error(why.to_string()));
        }
    }

    /// Ends it now.
    pub fn end(self) {
        drop(self);
    }

    /// Ended then.
    pub fn end_at(mut self, at: SystemTime) {
        if let Some(span) = &mut self.recording {
            span.end_with_timestamp(at);
        }
    }
}

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Internal => Self::Internal,
            Kind::Client => Self::Client,
            Kind::Server => Self::Server,
        }
    }
}

/// A span of elsewhere.
fn foreign(context: TraceContext) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let (trace, span) = (TraceId::from(context.trace), SpanId::from(context.span));
    SpanContext::new(trace, span, flags, true, TraceState::NONE)
}

/// A span of ours; none: it is none.
fn own(context: &SpanContext) -> Option<TraceContext> {
    context.is_valid().then(|| TraceContext {
        trace: u128::from_be_bytes(context.trace_id().to_bytes()),
        span: u64::from_be_bytes(context.span_id().to_bytes()),
        sampled: context.is_sampled(),
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

    use super::*;

    const PARENT: TraceContext = TraceContext { trace: 7 << 100, span: 9, sampled: true };

    fn tracer(sampler: Sampler) -> SdkTracer {
        SdkTracerProvider::builder().with_sampler(sampler).build().tracer("test")
    }

    fn begun(tracer: &SdkTracer, parent: Option<TraceContext>) -> Span {
        Span::over(tracer, SpanBuilder::from_name("work"), parent)
    }

    #[test]
    fn contexts_survive_the_library() {
        assert_eq!(own(&foreign(PARENT)), Some(PARENT));
        let quiet = TraceContext { sampled: false, ..PARENT };
        assert_eq!(own(&foreign(quiet)), Some(quiet));
        assert_eq!(own(&SpanContext::NONE), None);
    }

    #[test]
    fn a_span_belongs_to_its_parents_trace() {
        let tracer = tracer(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)));
        let span = begun(&tracer, Some(PARENT)).with("sheaf.bucket", &"/a");
        let context = span.context().expect("it has one");
        assert_eq!((context.trace, context.sampled), (PARENT.trace, true));
        assert_ne!(context.span, PARENT.span);
        let of_it = begun(&tracer, Some(context)).context().expect("it has one");
        assert_eq!(of_it.trace, PARENT.trace);
        let alone = begun(&tracer, None).context().expect("a trace of its own");
        assert_ne!(alone.trace, PARENT.trace);
    }

    #[test]
    fn what_nobody_keeps_says_so_to_its_parts() {
        let tracer = tracer(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)));
        let span = begun(&tracer, None);
        assert!(span.recording.is_none());
        assert!(span.context().is_some_and(|context| !context.sampled), "{span:?}");
        let quiet = begun(&tracer, Some(TraceContext { sampled: false, ..PARENT }));
        assert!(quiet.recording.is_none() && quiet.context().is_some_and(|it| it.trace == PARENT.trace));
    }
}
