//! A collector of OpenTelemetry, which remembers the spans that it took, and goes down and up again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status};

use crate::ports;
use crate::tls::Tls;

/// A span that was taken. Ids are hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Of the whole.
    pub trace: String,
    /// Of itself.
    pub span: String,
    /// Of what it is a part of; empty: of nothing.
    pub parent: String,
    /// What it is called.
    pub name: String,
    /// Who sent it.
    pub instance: String,
    /// What is said of it.
    pub attributes: BTreeMap<String, String>,
    /// It did not go well.
    pub failed: bool,
    /// When it began and ended, in nanoseconds since the epoch.
    pub times: (u64, u64),
}

/// Goes down when it is dropped.
pub struct Collector {
    port: u16,
    /// In front of it, on a port of its own: nobody else knows the other one.
    door: Option<(u16, TlsAcceptor)>,
    seen: Arc<Mutex<Vec<Seen>>>,
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Collector {
    /// On a port of its own on loopback.
    pub fn start() -> Self {
        Self::new(None)
    }

    /// The same by TLS.
    pub fn secured(tls: &Tls) -> Self {
        Self::new(Some((ports::free(1)[0], tls.for_http2())))
    }

    fn new(door: Option<(u16, TlsAcceptor)>) -> Self {
        let mut collector = Self { port: ports::free(1)[0], door, seen: Arc::default(), serving: None };
        collector.come_up();
        collector
    }

    /// Where spans are sent to.
    pub fn endpoint(&self) -> String {
        match &self.door {
            Some((port, _)) => format!("https://127.0.0.1:{port}"),
            None => format!("http://127.0.0.1:{}", self.port),
        }
    }

    /// Listens, on the same port as before.
    pub fn come_up(&mut self) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let (service, door) = (Service(self.seen.clone()), self.door.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            let serve = tonic::transport::Server::builder().add_service(TraceServiceServer::new(service));
            runtime.block_on(async {
                tokio::select! {
                    served = serve.serve(address) => served.expect("its port is free"),
                    () = open(door, address) => {}
                    // What is under way is cut off, as when it is killed.
                    _ = stopped => {}
                }
            });
        });
        self.serving = Some((stop, serving));
    }

    /// Nobody listens any more.
    pub fn go_down(&mut self) {
        if let Some((stop, serving)) = self.serving.take() {
            drop(stop);
            serving.join().expect("a collector does not panic");
        }
    }

    /// Everything that was taken so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.go_down();
    }
}

/// Lets in whoever comes by TLS; for ever, also where there is no such door.
async fn open(door: Option<(u16, TlsAcceptor)>, inner: SocketAddr) {
    let Some((port, tls)) = door else { return std::future::pending().await };
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("its port is free");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let tls = tls.clone();
        // It ends with the runtime.
        tokio::spawn(async move {
            let mut outer = tls.accept(stream).await?;
            let mut inner = TcpStream::connect(inner).await?;
            tokio::io::copy_bidirectional(&mut outer, &mut inner).await
        });
    }
}

struct Service(Arc<Mutex<Vec<Seen>>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut taken = Vec::new();
        for of_one in request.into_inner().resource_spans {
            let resource = of_one.resource.map(|resource| texts(resource.attributes)).unwrap_or_default();
            let instance = resource.get("service.instance.id").cloned().unwrap_or_default();
            for span in of_one.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                taken.push(Seen {
                    trace: hex(&span.trace_id),
                    span: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    name: span.name,
                    instance: instance.clone(),
                    attributes: texts(span.attributes),
                    failed: span.status.is_some_and(|status| status.code() == StatusCode::Error),
                    times: (span.start_time_unix_nano, span.end_time_unix_nano),
                });
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(taken);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Those that are texts.
fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |one: KeyValue| match one.value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => Some((one.key, text)),
        _ => None,
    };
    attributes.into_iter().filter_map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
