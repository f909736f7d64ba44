//! Who may ask at all: names that lead here, origins, and what every answer says to a browser.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};

use crate::answer::Failed;
use crate::metrics::served;
use crate::serve::{Peer, Shared};

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
}

impl Hosts {
    pub(crate) fn new(listening: IpAddr, names: &[String]) -> Self {
        Self { listening, names: names.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether `host`, as the header has it, is a name of this node. An address proves itself: only names can be bent.
    fn are(&self, host: &str) -> bool {
        let name = name_of(host).to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name) {
            return true;
        }
        match name.parse::<IpAddr>() {
            Ok(address) => {
                address.is_loopback() || self.listening.is_unspecified() || address == self.listening
            }
            Err(_) => false,
        }
    }
}

/// A host without its port and without the brackets of an IPv6 address.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Around every answer: refuses who may not ask, counts, and says what a browser must know.
pub(crate) async fn guarded(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let peer = request.extensions().get::<Peer>().map(|Peer(peer)| peer.ip());
    let checked = near(peer, &path)
        .and_then(|()| check(&shared.hosts, request.method(), request.uri(), request.headers()));
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(failed) => failed.into_response(),
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
    response
}

/// Pages are for the node's own machine: what is typed and shown there is not encrypted on its way.
fn near(peer: Option<IpAddr>, path: &str) -> Result<(), Failed> {
    if PUBLIC.contains(&path) || peer.is_some_and(|peer| peer.to_canonical().is_loopback()) {
        return Ok(());
    }
    Err(Failed::forbidden(
        "a node's dashboard is for its own machine alone",
        "come through a tunnel: ssh -L 7421:127.0.0.1:7421 NODE, then http://127.0.0.1:7421/",
    ))
}

fn check(hosts: &Hosts, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Failed> {
    if PUBLIC.contains(&uri.path()) {
        return Ok(());
    }
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let host = text(header::HOST).unwrap_or_default();
    if !hosts.are(host) {
        return Err(Failed::forbidden(
            format!("{host:?} is no name of this node"),
            "ask by its address, by localhost, or by the hostname in its config file ([node] hostname)",
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
    match text(header::ORIGIN) {
        Some(origin) if origin.split_once("://").map(|(_, rest)| rest) != Some(host) => {
            Err(elsewhere(format!("asked by a page of {origin:?}")))
        }
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

    fn asked(host: &str, method: &Method, path: &str, more: &[(&'static str, &str)]) -> bool {
        let hosts = Hosts::new([127, 0, 0, 1].into(), &["Import-01".to_owned()]);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).expect("a header"));
        for (name, value) in more {
            headers.insert(*name, HeaderValue::from_str(value).expect("a header"));
        }
        check(&hosts, method, &path.parse().expect("a path"), &headers).is_ok()
    }

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
        ] {
            assert!(!asked(host, &Method::GET, "/api/v1/node/list", &[]), "{host}");
            assert!(asked(host, &Method::GET, "/metrics", &[]), "{host}");
        }
        let anywhere = Hosts::new([0, 0, 0, 0].into(), &[]);
        assert!(anywhere.are("10.0.0.1:7421") && !anywhere.are("evil.example"));
    }

    #[test]
    fn pages_are_for_the_nodes_own_machine_and_numbers_for_everybody() {
        for path in ["/", "/assets/app.js", "/api/v1/session", "/api/v1/node/list", "/metrics/", "/healthz/x"]
        {
            for own in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
                assert!(near(own.parse().ok(), path).is_ok(), "{own} {path}");
            }
            for other in ["10.0.0.1", "fe80::1", "::ffff:10.0.0.1", "0.0.0.0"] {
                assert!(near(other.parse().ok(), path).is_err(), "{other} {path}");
            }
            assert!(near(None, path).is_err(), "{path}");
        }
        for path in PUBLIC {
            assert!(near("10.0.0.1".parse().ok(), path).is_ok(), "{path}");
        }
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
