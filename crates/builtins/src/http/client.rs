//! One request, over a connection of its own, and its answer.
//!
//! Connections are not kept: a request on one that the service is just closing would be lost without anybody's knowing whether
//! it had arrived. Whether it may have is what [`NoAnswer`] says, and what a post must know. Redirects are not followed, so that
//! nothing in a header goes to another host.
//!
//! Nothing is shared with what delivers to sinks, `wire::outward`: builtins know nothing of wire, and no crate below the two
//! speaks with anybody. That one reads heads alone and keeps no account of what may have arrived.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

/// Longest answer that is read, in bytes.
const ANSWER_MAX: usize = 4 << 20;
/// Where machines keep the authorities that they believe, the first that is there.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    host: String,
    port: u16,
    tls: bool,
    /// Begins and ends with `/`.
    path: String,
}

/// Whom to ask.
pub(super) struct Client {
    base: Endpoint,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Below the base, without a slash at its begin.
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// JSON.
    pub(super) body: Option<Vec<u8>>,
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    /// How long it asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

/// Why nothing came back. For people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    /// It has not arrived there.
    #[error("{0}")]
    NotSent(String),
    /// It may have arrived, and may have been done.
    #[error("{0}")]
    Lost(String),
}

impl Endpoint {
    /// Reads `https://host:port/path`. The error is for people.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no http or https address; like https://tiles.example.org/api/");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err("a name and password stand in it; a header with a secret instead".to_owned());
        }
        if uri.query().is_some() || authority.host().is_empty() {
            return Err(wrong());
        }
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            tls,
            path: format!("{path}/"),
        })
    }

    /// As it stands in the header `host`.
    fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// As names are looked up: without the brackets of an address.
    fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// Neither its authorities nor their sessions.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Client {
    /// Of a service whose certificate an authority of `ca_file` has signed, or one that the machine believes. The error is for
    /// people. Blocks on the disk.
    pub(super) fn new(base: Endpoint, ca_file: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let tls = match (base.tls, ca_file) {
            (false, Some(_)) => {
                return Err("ca_file: url is not https, so nothing would be believed; https".to_owned());
            }
            (false, None) => None,
            (true, file) => {
                let name = ServerName::try_from(base.name().to_owned())
                    .map_err(|_| format!("url: {:?} is no name that a certificate could have", base.host))?;
                Some((connector(file)?, name))
            }
        };
        Ok(Self { base, tls, timeout })
    }

    /// Asks once, within the time limit.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Answer, NoAnswer> {
        let until = Instant::now() + self.timeout;
        let request = self.request(ask).map_err(NoAnswer::NotSent)?;
        let place = (self.base.name(), self.base.port);
        let late = || format!("no answer within {:?}", self.timeout);
        let connected = timeout_at(until, TcpStream::connect(place)).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(NoAnswer::NotSent(format!("{}: {error}", self.base.authority()))),
            Err(_) => return Err(NoAnswer::NotSent(format!("{}: {}", self.base.authority(), late()))),
        };
        let lost = |why: String| NoAnswer::Lost(format!("{}: {why}", self.base.authority()));
        let Some((connector, name)) = &self.tls else {
            let spoken = timeout_at(until, speak(stream, request)).await;
            return spoken.unwrap_or_else(|_| Err(late())).map_err(lost);
        };
        let secured = timeout_at(until, connector.connect(name.clone(), stream)).await;
        let stream = match secured {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(NoAnswer::NotSent(format!("{}: {error}", self.base.authority()))),
            Err(_) => return Err(NoAnswer::NotSent(format!("{}: {}", self.base.authority(), late()))),
        };
        let spoken = timeout_at(until, speak(stream, request)).await;
        spoken.unwrap_or_else(|_| Err(late())).map_err(lost)
    }

    fn request(&self, ask: &Ask) -> Result<Request<Full<Bytes>>, String> {
        let path = format!("{}{}", self.base.path, ask.path);
        let uri: Uri = path.parse().map_err(|_| format!("{path:?} is no path of a request"))?;
        let mut headers = HeaderMap::new();
        headers.extend(ask.headers.iter().cloned());
        let host = HeaderValue::from_str(&self.base.authority()).map_err(|error| error.to_string())?;
        headers.insert(HOST, host);
        if ask.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let mut request = Request::new(Full::new(Bytes::from(ask.body.clone().unwrap_or_default())));
        (*request.method_mut(), *request.uri_mut()) = (ask.method.clone(), uri);
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// The error is for people.
fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let (file, field) = match ca_file {
        Some(file) => (file.to_owned(), "ca_file"),
        None => {
            let found = AUTHORITIES.iter().map(PathBuf::from).find(|file| file.exists());
            let none = || {
                format!(
                    "url: this machine has none of {}; ca_file says which to believe",
                    AUTHORITIES.join(", ")
                )
            };
            (found.ok_or_else(none)?, "url")
        }
    };
    let at = |error: String| format!("{field}: {}: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&file).map_err(|error| at(error.to_string()))? {
        let certificate = certificate.map_err(|error| at(error.to_string()))?;
        let added = roots.add(certificate);
        // The machine's list may hold what is too old to be read; of one's own every one is meant.
        if let (Err(error), Some(_)) = (added, ca_file) {
            return Err(at(error.to_string()));
        }
    }
    if roots.is_empty() {
        return Err(at("there is no certificate in it; PEM".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| at(error.to_string()))?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Sends one request over a new connection, and reads the answer. The error is for people.
async fn speak<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| why(&error))?;
    let answered = async move {
        let response = sender.send_request(request).await.map_err(|error| why(&error))?;
        read(response).await
    };
    let mut answered = pin!(answered);
    let connection = pin!(connection);
    tokio::select! {
        // Nothing else comes over it.
        answer = &mut answered => answer,
        // What it brought is read all the same.
        _ = connection => ended(answered).await,
    }
}

async fn ended(answered: impl Future<Output = Result<Answer, String>>) -> Result<Answer, String> {
    answered.await
}

async fn read(response: Response<Incoming>) -> Result<Answer, String> {
    let status = response.status().as_u16();
    let text = |name: HeaderName| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let (location, retry_after) = (text(LOCATION), text(RETRY_AFTER).and_then(|text| pause(&text)));
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(|error| format!("its answer {status} broke off: {error}"))?.to_bytes();
    Ok(Answer { status, location, retry_after, body })
}

/// `Retry-After`: seconds, or a date. What is further away than a year is no time that a clock could be set to.
fn pause(text: &str) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let until = date(text.trim())?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default().min(LONGEST))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that is sent.
fn date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_once(", ")?.1.split(' ').collect();
    let [day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|known| *known == month)? as u64 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hour, minute, second] = clock[..] else { return None };
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970, counting years from March, so that a leap day ends one (Hinnant, chrono-compatible date algorithms).
    let (shifted, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (shifted / 400, shifted % 400);
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// With its causes.
fn why(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn ask(method: Method, body: Option<&str>) -> Ask {
        let headers = vec![(HeaderName::from_static("x-a"), HeaderValue::from_static("b"))];
        Ask { method, path: "jobs?x=1".to_owned(), headers, body: body.map(|body| body.as_bytes().to_vec()) }
    }

    /// Answers one connection with these bytes, and gives what was asked.
    async fn once(answer: &'static [u8], ask: Ask) -> (Result<Answer, NoAnswer>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = Endpoint::read(&format!("http://{}/api", listener.local_addr().unwrap())).unwrap();
        let client = Client::new(base, None, Duration::from_millis(500)).unwrap();
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer).await.unwrap();
            if answer.is_empty() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            String::from_utf8_lossy(&asked[..read]).into_owned()
        };
        tokio::join!(client.ask(&ask), served)
    }

    #[tokio::test]
    async fn a_request_is_asked_below_the_base_and_answered() {
        let answer =
            b"HTTP/1.1 201 Created\r\nlocation: /api/jobs/7\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\n{}";
        let (answer, asked) = once(answer, ask(Method::POST, Some("{\"a\":1}"))).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.location.as_deref()), (201, Some("/api/jobs/7")));
        assert_eq!((answer.retry_after, &answer.body[..]), (Some(Duration::from_secs(3)), &b"{}"[..]));
        assert!(
            asked.starts_with("POST /api/jobs?x=1 HTTP/1.1\r\n") && asked.ends_with("{\"a\":1}"),
            "{asked}"
        );
        for header in ["x-a: b", "host: 127.0.0.1:", "content-type: application/json", "content-length: 7"] {
            assert!(asked.contains(header), "{header}: {asked}");
        }
    }

    #[tokio::test]
    async fn what_may_have_arrived_is_told_from_what_has_not() {
        let (cut, _) = once(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", ask(Method::GET, None)).await;
        assert!(matches!(&cut, Err(NoAnswer::Lost(why)) if why.contains("broke off")), "{cut:?}");
        let (late, _) = once(b"", ask(Method::GET, None)).await;
        assert!(
            matches!(&late, Err(NoAnswer::Lost(why)) if why.contains("no answer within 500ms")),
            "{late:?}"
        );
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = Endpoint::read(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        drop(listener);
        let nobody = Client::new(base, None, Duration::from_secs(1)).unwrap();
        let refused = nobody.ask(&ask(Method::GET, None)).await;
        assert!(matches!(&refused, Err(NoAnswer::NotSent(why)) if why.contains("refused")), "{refused:?}");
    }

    #[test]
    fn a_base_is_an_address_with_a_path() {
        let read = |text: &str| Endpoint::read(text).map(|base| (base.authority(), base.path, base.tls));
        assert_eq!(read("https://h.example").unwrap(), ("h.example".to_owned(), "/".to_owned(), true));
        assert_eq!(read("http://h:8080/a/b/").unwrap(), ("h:8080".to_owned(), "/a/b/".to_owned(), false));
        assert_eq!(Endpoint::read("http://[::1]:81").unwrap().name(), "::1");
        for wrong in ["h.example", "/a", "ftp://h", "http://h/?a=b", "http://"] {
            assert!(Endpoint::read(wrong).unwrap_err().contains("is no http or https address"), "{wrong}");
        }
        assert!(Endpoint::read("http://me:pass@h").unwrap_err().contains("a header with a secret"));
    }

    #[test]
    fn a_pause_is_in_seconds_or_until_a_date() {
        assert_eq!(pause("120"), Some(Duration::from_secs(120)));
        for far in ["18446744073709551615", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            let until = std::time::Instant::now().checked_add(pause(far).unwrap());
            assert!(until.is_some(), "a time that there is: {far}");
        }
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let since = |text| date(text).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(since("Sun, 06 Nov 1994 08:49:37 GMT"), 784_111_777);
        assert_eq!(since("Thu, 29 Feb 2024 00:00:00 GMT"), 1_709_164_800);
        for wrong in ["soon", "Sun, 06 Nov 1994", "Sun, 06 Now 1994 08:49:37 GMT", "x, 0 Jan 1970 0:0:0 GMT"]
        {
            assert_eq!(pause(wrong), None, "{wrong}");
        }
    }
}
