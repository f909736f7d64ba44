//! A connection that was taken, and what is known of the other side.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use sheaf_model::Holder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::verify;
use crate::guard::Certificate;

/// Where a call comes from; with each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// The other side's address.
    pub(crate) remote: Option<SocketAddr>,
    /// Whose certificate it has shown, verified; none: it showed none.
    pub(crate) holder: Option<Holder>,
}

impl Arrived {
    /// The same, as guards see it.
    pub(crate) fn certificate(&self) -> Option<Certificate> {
        match self.holder? {
            Holder::Node(node) => Some(Certificate::Node(node)),
            Holder::Joining => Some(Certificate::Bootstrap),
            Holder::Person(_) => None,
        }
    }
}

/// With or without TLS.
#[derive(Debug)]
pub(crate) enum Connection {
    Plain(TcpStream, Arrived),
    Tls(Box<TlsStream<TcpStream>>, Arrived),
}

impl Connection {
    pub(super) fn plain(stream: TcpStream) -> Self {
        let arrived = Arrived { remote: stream.peer_addr().ok(), holder: None };
        Self::Plain(stream, arrived)
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        let (tcp, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        let arrived = Arrived { remote: tcp.peer_addr().ok(), holder: shown.and_then(verify::holder) };
        Self::Tls(Box::new(stream), arrived)
    }
}

impl Connected for Connection {
    type ConnectInfo = Arrived;

    fn connect_info(&self) -> Arrived {
        match self {
            Self::Plain(_, arrived) | Self::Tls(_, arrived) => *arrived,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream, _) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream, _) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream, _) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream, _) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream, _) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream, _) => stream.is_write_vectored(),
            Self::Tls(stream, _) => stream.is_write_vectored(),
        }
    }
}
