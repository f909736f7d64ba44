//! One connection: whether it speaks TLS, and then its requests.
//!
//! A client that speaks TLS begins with a byte that no request begins with, so that one port is enough: who comes from the node's own
//! machine, and what scrapes and probes, may go on without.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sheaf_wire::Place;
use sheaf_wire::inward::Inward;
use sheaf_wire::outward::Wire;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::serve::Limits;
use crate::stall::Stalling;

/// What a request brings along of its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) by_tls: bool,
}

/// Longest head of a request in bytes.
const HEAD_MAX: usize = 64 << 10;
/// What a record of a handshake begins with (RFC 8446, 5.1).
const HANDSHAKE: u8 = 0x16;

/// Where connections come in.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    /// None: TLS is not spoken.
    pub(crate) tls: Option<Inward>,
    pub(crate) stop: CancellationToken,
}

/// A connection whose requests can be read.
enum Opened {
    Plain(TcpStream),
    Tls(Box<dyn Wire>),
}

impl Door {
    /// A connection until it ends. Its place is given back then.
    pub(crate) async fn serve(self, stream: TcpStream, address: SocketAddr, _place: Place) {
        // Without it an event would wait for the next one; a connection that is gone already ends below.
        let _ = stream.set_nodelay(true);
        let opening = tokio::time::timeout(self.limits.open_within, open(self.tls.as_ref(), stream));
        let opened = tokio::select! {
            () = self.stop.cancelled() => return,
            opened = opening => opened,
        };
        match opened {
            Ok(Ok(Opened::Plain(stream))) => self.talk(stream, Peer { address, by_tls: false }).await,
            Ok(Ok(Opened::Tls(stream))) => self.talk(stream, Peer { address, by_tls: true }).await,
            // How a client's connection ends is the client's business.
            Ok(Err(_)) | Err(_) => {}
        }
    }

    async fn talk(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: Peer) {
        let Self { router, limits, stop, .. } = self;
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            router.clone().call(request)
        });
        let io = TokioIo::new(Stalling::new(stream, limits.stalled));
        let serving = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_within)
            .max_buf_size(HEAD_MAX)
            .serve_connection(io, service);
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            // The same.
            _ended = serving.as_mut() => {}
            () = stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                // What is still under way then is cut off.
                let _ = tokio::time::timeout(limits.grace, serving).await;
            }
        }
    }
}

/// Waits for the first byte and, where that begins TLS, for the rest of the handshake.
async fn open(tls: Option<&Inward>, stream: TcpStream) -> std::io::Result<Opened> {
    let Some(tls) = tls else { return Ok(Opened::Plain(stream)) };
    let mut first = [0];
    // It stays where it is, for who reads next.
    match stream.peek(&mut first).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ if first == [HANDSHAKE] => Ok(Opened::Tls(tls.accept(stream).await?)),
        _ => Ok(Opened::Plain(stream)),
    }
}
