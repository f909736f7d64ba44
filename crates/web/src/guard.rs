//! Who may ask at all: names that lead here, origins, and what every answer says to a browser.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Uri};
use sheaf_wire::inward::Inward;

use crate::answer::Failed;
use crate::door::Peer;
use crate::metrics::served;
use crate::serve::Shared;

/// What a page may do: nothing but what it brings along itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// Asked for by machines under any name, and the same for everybody.
const PUBLIC: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

/// Names that lead to this node. Whoever has a page of another name resolve to this address must not read its answers
/// (DNS rebinding).
#[derive(Debug)]
pub(crate) struct Hosts {
    listening: IpAddr,
    names: Vec<String>,
    /// What its certificate says are its names, is so: nobody else's leads to who has the key.
    tls: Option<Inward>,
}

impl Hosts {
    pub(crate) fn new(listening: IpAddr, names: &[String], tls: Option<Inward>) -> Self {
        Self { listening, names: names.iter().map(|name| name.to_ascii_lowercase()).collect(), tls }
    }

    /// Whether `host`, as the header has it, is a name of this node. An address proves itself: only names can be bent.
    fn are(&self, host: &str) -> bool {
        let Some(name) = name_of(host).map(str::to_ascii_lowercase) else { return false };
        if name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name) {
            return true;
        }
        let is_own = |address: IpAddr| {
            address.is_loopback() || self.listening.is_unspecified() || address == self.listening
        };
        name.parse::<IpAddr>().is_ok_and(is_own) || self.tls.as_ref().is_some_and(|tls| tls.is_for(&name))
    }
}

/// A host without its port and without the brackets of an IPv6 address; none: it is something else. A browser is led to it as it
/// stands there, and goes to somebody else's where that is `import-01:1@evil.example`.
fn name_of(host: &str) -> Option<&str> {
    let (name, rest) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.bytes().all(|c| c.is_ascii_digit());
    (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

/// Around every answer: refuses who may not ask, counts, and says what a browser must know.
pub(crate) async fn guarded(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let peer = request.extensions().get::<Peer>().copied();
    let by_tls = peer.is_some_and(|peer| peer.by_tls);
    let reach = Reach::of(&shared);
    let better = reach.better(peer, &shared.hosts, &request);
    let checked = reach.near(peer, &path).and_then(|()| check(&shared.hosts, by_tls, &request));
    let mut response = match (checked, better) {
        (Ok(()), _) => next.run(request).await,
        (Err(_), Some(url)) => Redirect::temporary(&url).into_response(),
        (Err(failed), None) => failed.into_response(),
    };
    served(route.as_deref(), response.status(), begun.elapsed());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if path.starts_with("/api/") {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Some(span) = shared.options.strict_transport.filter(|_| by_tls)
        && let Ok(value) = HeaderValue::from_str(&format!("max-age={}", span.as_secs()))
    {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    response
}

/// From where pages may be asked for.
#[derive(Clone, Copy, Debug)]
struct Reach {
    /// Whoever looks shows a token.
    secured: bool,
    /// TLS is spoken.
    tls: bool,
}

impl Reach {
    fn of(shared: &Shared) -> Self {
        Self { secured: shared.options.secured, tls: shared.tls.is_some() }
    }

    /// Pages are for the node's own machine, and by TLS for others if they show a token: what is typed and shown must not be
    /// read on its way.
    fn near(self, peer: Option<Peer>, path: &str) -> Result<(), Failed> {
        if PUBLIC.contains(&path) || peer.is_some_and(is_near) {
            return Ok(());
        }
        let tunnel = "come through a tunnel: ssh -L 7421:127.0.0.1:7421 NODE, then http://127.0.0.1:7421/";
        match self {
            Self { secured: true, tls: true } if peer.is_some_and(|peer| peer.by_tls) => Ok(()),
            Self { secured: true, tls: true } => Err(Failed::forbidden(
                "without TLS a node's dashboard is for its own machine alone",
                "ask by https:// on the same port",
            )),
            Self { secured: true, tls: false } => Err(Failed::forbidden(
                "this node speaks no TLS here ([http] tls), so that its dashboard is for its own machine alone",
                tunnel,
            )),
            Self { secured: false, .. } => Err(Failed::forbidden(
                "nothing secures this cluster, so that a node's dashboard is for its own machine alone",
                tunnel,
            )),
        }
    }

    /// Where the same page is by TLS, for a browser on another machine that asks without.
    fn better(self, peer: Option<Peer>, hosts: &Hosts, request: &Request) -> Option<String> {
        let path = request.uri().path();
        let page = matches!(*request.method(), Method::GET | Method::HEAD) && !path.starts_with("/api/");
        let plain = peer.is_none_or(|peer| !peer.by_tls && !is_near(peer));
        if !(self.secured && self.tls && plain && page) || PUBLIC.contains(&path) {
            return None;
        }
        let host = request.headers().get(header::HOST)?.to_str().ok().filter(|host| hosts.are(host))?;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        Some(format!("https://{host}{path}"))
    }
}

/// Whether it is on the node's own machine.
fn is_near(peer: Peer) -> bool {
    peer.address.ip().to_canonical().is_loopback()
}

fn check(hosts: &Hosts, by_tls: bool, request: &Request) -> Result<(), Failed> {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    if PUBLIC.contains(&uri.path()) {
        return Ok(());
    }
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let host = text(header::HOST).unwrap_or_default();
    if !hosts.are(host) {
        return Err(Failed::forbidden(
            format!("{host:?} is no name of this node"),
            "ask by its address, by localhost, by the hostname in its config file ([node] hostname), or by another name that \
             stands there ([http] names)",
        ));
    }
    let elsewhere = |why: String| Failed::forbidden(why, "a page of this node, or no browser");
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    match site {
        Some("cross-site" | "same-site") if changes || uri.path().starts_with("/api/") => {
            return Err(elsewhere("asked by a page of another site".to_owned()));
        }
        _ => {}
    }
    // Without TLS it may be behind something on this machine that speaks it.
    let is_own = |origin: &str| {
        origin.split_once("://").is_some_and(|(scheme, rest)| rest == host && (scheme == "https" || !by_tls))
    };
    match text(header::ORIGIN) {
        Some(origin) if !is_own(origin) => Err(elsewhere(format!("asked by a page of {origin:?}"))),
        _ => Ok(()),
    }
}

/// What leads nowhere.
pub(crate) async fn not_found(uri: Uri) -> Failed {
    Failed::not_found(format!("there is nothing at {}", uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, method: &Method, path: &str, more: &[(&'static str, &str)]) -> Request {
        let mut request = http::Request::builder().method(method).uri(path).header(header::HOST, host);
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        request.body(axum::body::Body::empty()).expect("a request")
    }

    fn asked(host: &str, method: &Method, path: &str, more: &[(&'static str, &str)]) -> bool {
        let hosts = Hosts::new([127, 0, 0, 1].into(), &["Import-01".to_owned()], None);
        check(&hosts, false, &request(host, method, path, more)).is_ok()
    }

    fn peer(address: &str, by_tls: bool) -> Option<Peer> {
        Some(Peer { address: (address.parse::<IpAddr>().expect("an address"), 1).into(), by_tls })
    }

    const ALL: Reach = Reach { secured: true, tls: true };

    #[test]
    fn only_its_own_names_lead_to_a_node() {
        for host in
            ["127.0.0.1:7421", "localhost:7421", "[::1]:7421", "import-01:7421", "IMPORT-01", "127.9.9.9"]
        {
            assert!(asked(host, &Method::GET, "/api/v1/node/list", &[]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:7421",
            "10.0.0.1:7421",
            "localhost.evil.example",
            "127.0.0.1.x",
            "import-01:7421@evil.example",
            "import-01:@evil.example:80",
            "[::1]@evil.example",
            "[::1]evil.example:7421",
            "[::1",
        ] {
            assert!(!asked(host, &Method::GET, "/api/v1/node/list", &[]), "{host}");
            assert!(asked(host, &Method::GET, "/metrics", &[]), "{host}");
        }
        let anywhere = Hosts::new([0, 0, 0, 0].into(), &[], None);
        assert!(anywhere.are("10.0.0.1:7421") && !anywhere.are("evil.example"));
    }

    #[test]
    fn pages_are_for_the_nodes_own_machine_or_by_tls_and_numbers_for_everybody() {
        let open = [Reach { secured: false, tls: true }, Reach { secured: false, tls: false }];
        let plain = Reach { secured: true, tls: false };
        for path in ["/", "/assets/app.js", "/api/v1/session", "/api/v1/node/list", "/metrics/", "/healthz/x"]
        {
            for reach in [ALL, plain, open[0], open[1]] {
                for own in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
                    let both = [false, true].map(|by_tls| reach.near(peer(own, by_tls), path).is_ok());
                    assert_eq!(both, [true, true], "{own} {path}");
                }
                for other in ["10.0.0.1", "fe80::1", "::ffff:10.0.0.1", "0.0.0.0"] {
                    assert!(reach.near(peer(other, false), path).is_err(), "{other} {path}");
                    let by_tls = reach.near(peer(other, true), path).is_ok();
                    assert_eq!(by_tls, reach.secured && reach.tls, "{other} {path} {reach:?}");
                }
                assert!(reach.near(None, path).is_err(), "{path}");
            }
        }
        for path in PUBLIC {
            assert!(open[1].near(peer("10.0.0.1", false), path).is_ok(), "{path}");
        }
    }

    #[test]
    fn who_asks_for_a_page_without_tls_from_elsewhere_is_led_to_it_by_tls() {
        let hosts = Hosts::new([0, 0, 0, 0].into(), &["import-01".to_owned()], None);
        let led = |reach: Reach, from: &str, by_tls, host: &str, method: &Method, path: &str| {
            reach.better(peer(from, by_tls), &hosts, &request(host, method, path, &[]))
        };
        let get = |from: &str, path: &str| led(ALL, from, false, "import-01:7421", &Method::GET, path);
        assert_eq!(get("10.0.0.9", "/").as_deref(), Some("https://import-01:7421/"));
        assert_eq!(get("10.0.0.9", "/x?y=%0d%0a").as_deref(), Some("https://import-01:7421/x?y=%0d%0a"));
        assert_eq!(
            get("10.0.0.9", "//evil.example/").as_deref(),
            Some("https://import-01:7421//evil.example/")
        );
        for stays in ["/api/v1/session", "/metrics", "/healthz", "/readyz"] {
            assert_eq!(get("10.0.0.9", stays), None, "{stays}");
        }
        assert_eq!(get("127.0.0.1", "/"), None, "the machine itself");
        for (reach, by_tls, host, method) in [
            (ALL, true, "import-01:7421", Method::GET),
            (ALL, false, "evil.example", Method::GET),
            (ALL, false, "import-01:7421@evil.example", Method::GET),
            (ALL, false, "[10.0.0.1]@evil.example", Method::GET),
            (ALL, false, "import-01:7421", Method::POST),
            (Reach { tls: false, ..ALL }, false, "import-01:7421", Method::GET),
            (Reach { secured: false, ..ALL }, false, "import-01:7421", Method::GET),
        ] {
            assert_eq!(led(reach, "10.0.0.9", by_tls, host, &method, "/"), None, "{host} {method}");
        }
    }

    #[test]
    fn by_tls_a_page_without_it_is_another_site() {
        let hosts = Hosts::new([0, 0, 0, 0].into(), &[], None);
        let own = "10.0.0.1:7421";
        let post = |by_tls, origin: &str| {
            let asked = request(own, &Method::POST, "/api/v1/job/pause", &[("origin", origin)]);
            check(&hosts, by_tls, &asked).is_ok()
        };
        assert!(post(true, "https://10.0.0.1:7421") && !post(true, "http://10.0.0.1:7421"));
        assert!(
            !post(true, "https://10.0.0.1") && !post(true, "https://10.0.0.2:7421") && !post(true, "null")
        );
        assert!(post(false, "https://10.0.0.1:7421"), "something on this machine speaks TLS for it");
    }

    #[test]
    fn other_pages_neither_read_nor_change() {
        let own = "127.0.0.1:7421";
        let post = |more: &[(&'static str, &str)]| asked(own, &Method::POST, "/api/v1/job/pause", more);
        assert!(post(&[]) && post(&[("origin", "http://127.0.0.1:7421"), ("sec-fetch-site", "same-origin")]));
        assert!(!post(&[("origin", "http://127.0.0.1:7431")]), "another port is another site");
        assert!(!post(&[("origin", "null")]) && !post(&[("sec-fetch-site", "cross-site")]));
        assert!(!asked(own, &Method::GET, "/api/v1/node/list", &[("sec-fetch-site", "same-site")]));
        assert!(asked(own, &Method::GET, "/", &[("sec-fetch-site", "cross-site")]), "a link may lead here");
    }
}
