//! The same by TLS, on the same port.

use sheaf_model::{Holder, NodeId, Timestamp};
use sheaf_trust::{Authority, PrivateKey, encode};
use sheaf_wire::inward::Identity;
use sheaf_wire::outward::{Outward, Wire};

use super::*;

/// A secured node whose certificate is for loopback, and who believes it.
struct Secured {
    served: Served,
    browser: Outward,
}

impl Secured {
    async fn with(limits: Limits) -> Self {
        let now = Timestamp::from_system(std::time::SystemTime::now());
        let authority = Authority::new(now).expect("an authority");
        let key = PrivateKey::new().expect("a key");
        let (holder, hour) = (Holder::Node(NodeId(1)), Duration::from_secs(3600));
        let hosts = ["127.0.0.1", "sheaf.example.org"];
        let certificate = authority.issue(&key.public(), holder, hosts, now, hour).expect("signed");
        let identity = Identity::read(encode(&[certificate]).as_bytes(), key.pem().as_bytes());
        let tls = Inward::of_operator(identity.expect("they belong together")).expect("TLS");
        let believed = encode(&[authority.certificate().to_vec()]);
        let browser = Outward::trusting(&believed).expect("a certificate");
        Self { served: Served::over(Some(tls), limits).await, browser }
    }

    async fn connect(&self) -> Box<dyn Wire> {
        let stream = self.served.connect().await;
        self.browser.secure("127.0.0.1", stream).await.expect("it speaks TLS")
    }

    /// What is answered by TLS.
    async fn ask(&self, head: &str, body: &str) -> String {
        self.served.ask_over(self.connect().await, head, body).await
    }
}

#[tokio::test]
async fn one_port_speaks_with_tls_and_without() {
    let secured = Secured::with(Limits::default()).await;
    let by_tls = secured.ask("GET / HTTP/1.1", "").await;
    let plain = secured.served.ask("GET / HTTP/1.1", "").await;
    for page in [&by_tls, &plain] {
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("default-src 'none'"), "{page}");
    }
    assert!(by_tls.contains("strict-transport-security: max-age=7\r\n"), "{by_tls}");
    assert!(!plain.contains("strict-transport-security"), "{plain}");
    let metrics = secured.served.ask("GET /metrics HTTP/1.1", "").await;
    let until = metrics.lines().find_map(|line| {
        line.strip_prefix("sheaf_http_certificate_expiry_timestamp_seconds{source=\"operator\"} ")
    });
    let until: f64 = until.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{metrics}"));
    let now = Timestamp::from_system(std::time::SystemTime::now());
    assert!(until > (now.0 / 1000) as f64, "{until}");
    // By the certificate's own names it is asked for, and by no other.
    let named = secured.ask("GET / HTTP/1.1\r\nhost: sheaf.example.org", "").await;
    assert!(named.starts_with("HTTP/1.1 200"), "{named}");
    let evil = secured.ask("GET / HTTP/1.1\r\nhost: evil.example.org", "").await;
    assert!(evil.starts_with("HTTP/1.1 403"), "{evil}");
    secured.served.end().await;
}

#[tokio::test]
async fn by_tls_a_session_is_for_that_alone() {
    let secured = Secured::with(Limits::default()).await;
    let entered = secured.ask("GET /api/v1/session HTTP/1.1", "").await;
    let set = entered.split("set-cookie: ").nth(1).and_then(|rest| rest.lines().next()).expect("a cookie");
    assert!(set.starts_with("__Host-sheaf-"), "{set}");
    assert!(set.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{set}");
    let cookie = set.split(';').next().expect("a name and a value");
    let csrf = entered.split("\"csrf\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let own = format!("cookie: {cookie}\r\nsheaf-csrf: {csrf}");
    let post = format!("POST /api/v1/node/undrain HTTP/1.1\r\ncontent-type: application/json\r\n{own}");
    let at = &secured.served.address;
    let body = "{\"node\":\"n1\"}";
    for (origin, status) in [
        // All is right but that nobody has logged in.
        (format!("https://{at}"), "401"),
        (format!("http://{at}"), "403"),
        ("https://elsewhere".to_owned(), "403"),
    ] {
        let answer = secured.ask(&format!("{post}\r\norigin: {origin}"), body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{origin}: {answer}");
    }
    let plain = secured.served.ask(&post, body).await;
    assert!(plain.starts_with("HTTP/1.1 403") && plain.contains("no session"), "{plain}");
    secured.served.end().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_off_and_counts_among_connections() {
    let open_within = Duration::from_millis(300);
    let secured = Secured::with(Limits { connections: 4, open_within, ..Limits::default() }).await;
    let mut slow = Vec::new();
    // Nothing, a beginning, a beginning that promises much, and noise, which is answered with an alert.
    for begin in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16noise"] {
        let mut stream = secured.served.connect().await;
        stream.write_all(begin).await.expect("it reads");
        slow.push(stream);
    }
    for stream in &mut slow {
        let answer = read(stream).await;
        assert!(!answer.contains("HTTP"), "{answer}");
    }
    assert!(secured.ask("GET /healthz HTTP/1.1", "").await.ends_with("ok\n"), "there is room again");

    let mut held = Vec::new();
    while let Ok(stream) = secured.browser.secure("127.0.0.1", secured.served.connect().await).await {
        held.push(stream);
        assert!(held.len() <= 4, "there is a bound");
    }
    // What has just ended may have its place for a moment still.
    assert!(held.len() >= 3, "{}", held.len());
    drop(held);
    secured.served.end().await;
}

#[tokio::test]
async fn a_node_that_stops_waits_for_no_handshake() {
    let forever = Duration::from_secs(3600);
    let secured = Secured::with(Limits { open_within: forever, ..Limits::default() }).await;
    let mut silent = secured.served.connect().await;
    let mut begun = secured.served.connect().await;
    begun.write_all(b"\x16\x03").await.expect("it reads");
    assert!(secured.ask("GET /healthz HTTP/1.1", "").await.ends_with("ok\n"));
    secured.served.end().await;
    assert_eq!((read(&mut silent).await, read(&mut begun).await), (String::new(), String::new()));
}
