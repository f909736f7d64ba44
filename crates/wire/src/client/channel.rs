//! Connections, and what their errors say about a call.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use tonic::transport::Endpoint;

use crate::ApiError;
use crate::server::STREAM_WINDOW;

/// How a connection notices that the other side is dead or hung.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pings {
    /// How often, when nothing else is heard.
    pub(crate) every: Duration,
    /// Unanswered for so long: the connection is closed, its calls fail.
    pub(crate) within: Duration,
    /// Also while no call is under way.
    pub(crate) idle: bool,
}

impl Default for Pings {
    fn default() -> Self {
        Self { every: Duration::from_secs(10), within: Duration::from_secs(5), idle: false }
    }
}

/// What all answers on a connection may have under way together, in bytes: more than some hundred streams can fill that nobody goes
/// on reading, so that they hold up nothing else. A dashboard opens 256 for those who look at it, on one connection.
pub(crate) const CONNECTION_WINDOW: u32 = 320 << 20;
/// Longest headers that are read: errors may carry many defects.
const HEADERS: u32 = 1 << 20;
/// Calls given up whose late answers are still expected.
const RESET_MAX: usize = 1024;

/// How to connect to `host:port`.
pub(crate) fn endpoint(address: &str, connect_timeout: Duration, pings: Pings) -> Result<Endpoint, ApiError> {
    let wrong = || {
        ApiError::invalid("address", format!("{address:?} is no address"), "host:port, like 10.0.0.11:7420")
    };
    let address = address.trim();
    let uri = match address.split_once("://") {
        Some(("http", _)) => address.to_owned(),
        Some(_) => return Err(wrong()),
        None => format!("http://{address}"),
    };
    let endpoint = Endpoint::from_shared(uri).map_err(|_| wrong())?;
    if endpoint.uri().host().is_none_or(str::is_empty) || endpoint.uri().port_u16().is_none() {
        return Err(wrong());
    }
    Ok(endpoint
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .http2_keep_alive_interval(pings.every)
        .keep_alive_timeout(pings.within)
        .keep_alive_while_idle(pings.idle)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADERS)
        // Answers to calls given up at their deadline come late and must not end the connection of all others.
        .http2_max_concurrent_reset_streams(RESET_MAX)
        .http2_max_local_error_reset_streams(None))
}

/// An error with its causes, each once.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let said = cause.to_string();
        if !said.is_empty() && said != "transport error" && !text.contains(&said) {
            let colon = if text.is_empty() { "" } else { ": " };
            let _ = write!(text, "{colon}{said}");
        }
    }
    if text.is_empty() { error.to_string() } else { text }
}

/// Whether the error shows that nothing of the call can have reached anyone who would act on it: no connection, or
/// one that closed before, or a peer that refused the stream unread.
pub(crate) fn never_sent(error: &(dyn Error + 'static)) -> bool {
    let refused = |h2: &h2::Error| {
        h2.reason() == Some(h2::Reason::REFUSED_STREAM)
            // Streams beyond the last one that the peer still answers.
            || (h2.is_go_away() && h2.is_remote() && h2.reason() == Some(h2::Reason::NO_ERROR))
    };
    causes(error).any(|error| {
        error.is::<tonic::ConnectError>()
            || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
            || error.downcast_ref::<h2::Error>().is_some_and(refused)
    })
}

/// Whether the error is the connection's, not an answer.
pub(crate) fn broke(error: &(dyn Error + 'static)) -> bool {
    caused_by::<tonic::transport::Error>(error)
        || caused_by::<hyper::Error>(error)
        || caused_by::<h2::Error>(error)
}

/// The error, then what caused it, outermost first.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// Whether the error or one of its causes is a `T`.
pub(crate) fn caused_by<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| error.is::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: Duration = Duration::from_secs(3);

    #[tokio::test]
    async fn addresses_are_checked() {
        for good in ["127.0.0.1:7420", "ops1:7420", "[::1]:7420", "http://ops1:7420"] {
            assert!(endpoint(good, CONNECT, Pings::default()).is_ok(), "{good}");
        }
        for bad in ["", "ops1", "ops1:", ":7420", "ops1:port", "https://ops1:1", "a b:1", "ops1:99999"] {
            assert!(endpoint(bad, CONNECT, Pings::default()).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_was_never_sent_and_says_why() {
        let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let endpoint = endpoint(&format!("127.0.0.1:{port}"), CONNECT, Pings::default()).unwrap();
        let error = endpoint.connect().await.unwrap_err();
        assert!(never_sent(&error));
        assert!(explain(&error).contains("refused"), "{}", explain(&error));
    }
}
