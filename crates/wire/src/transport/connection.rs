//! A connection that was taken, and what is known of the other side.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use sheaf_model::{Holder, NodeId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::crowd::Place;
use super::verify;
use crate::guard::Certificate;

/// Calls at a time on one connection that whoever asks may make, as long as their answers have not gone. Probes, and nodes that look
/// for others, make one after the other.
pub(crate) const TO_ALL: usize = 16;

/// Where a call comes from; with each request.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    /// The other side's address.
    pub(crate) remote: Option<SocketAddr>,
    /// Whose certificate it has shown, verified; none: it showed none.
    pub(crate) holder: Option<Holder>,
    /// Places for the calls of its connection that whoever asks may make; clones share them.
    pub(crate) to_all: Arc<Semaphore>,
}

impl Arrived {
    pub(crate) fn new(remote: Option<SocketAddr>, holder: Option<Holder>) -> Self {
        Self { remote, holder, to_all: Arc::new(Semaphore::new(TO_ALL)) }
    }

    /// The same, as guards see it.
    pub(crate) fn certificate(&self) -> Option<Certificate> {
        match self.holder? {
            Holder::Node(node) => Some(Certificate::Node(node)),
            Holder::Joining => Some(Certificate::Bootstrap),
            Holder::Person(_) => None,
        }
    }
}

/// What a client of HTTP/2 sends first, in bytes.
const PREFACE: usize = 24;

/// A connection that was taken.
#[derive(Debug)]
pub(crate) struct Connection {
    io: Io,
    arrived: Arrived,
    /// Ends the connection, unless its preface has come by then; none: it has, or nobody waits for it.
    silence: Option<Pin<Box<Sleep>>>,
    /// Bytes of the preface that have come.
    heard: usize,
    /// Among those of which nobody knows whose they are.
    _place: Option<Place>,
    /// Among those of the node whose it is.
    _by_node: Option<Place<NodeId>>,
}

/// With or without TLS.
#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn plain(stream: TcpStream) -> Self {
        let arrived = Arrived::new(stream.peer_addr().ok(), None);
        Self::new(Io::Plain(stream), arrived)
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        let (tcp, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        let arrived = Arrived::new(tcp.peer_addr().ok(), shown.and_then(verify::holder));
        Self::new(Io::Tls(Box::new(stream)), arrived)
    }

    fn new(io: Io, arrived: Arrived) -> Self {
        Self { io, arrived, silence: None, heard: 0, _place: None, _by_node: None }
    }

    /// Which node has proven that it is one of the cluster.
    pub(crate) fn node(&self) -> Option<NodeId> {
        match self.arrived.holder {
            Some(Holder::Node(node)) => Some(node),
            _ => None,
        }
    }

    /// The same, which ends if it does not say within this time that it speaks HTTP/2: nothing else would end it.
    pub(crate) fn speaking_within(self, time: Duration) -> Self {
        Self { silence: Some(Box::pin(tokio::time::sleep(time))), ..self }
    }

    /// The same, which gives the place back when it ends.
    pub(crate) fn at(self, place: Place) -> Self {
        Self { _place: Some(place), ..self }
    }

    /// The same of a node's.
    pub(crate) fn by(self, place: Place<NodeId>) -> Self {
        Self { _by_node: Some(place), ..self }
    }
}

impl Connected for Connection {
    type ConnectInfo = Arrived;

    fn connect_info(&self) -> Arrived {
        self.arrived.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if let Some(silence) = &mut this.silence
            && silence.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = match &mut this.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if this.silence.is_some() {
            this.heard += buffer.filled().len() - before;
            if this.heard >= PREFACE {
                this.silence = None;
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
