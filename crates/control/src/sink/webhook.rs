//! A request to a webhook, and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sheaf_model::sink::HttpUrl;
use sheaf_model::{SecretValue, Timestamp};
use sheaf_wire::outward::Wire;

use super::undelivered::Undelivered;

/// Longest wait that is granted to who asks for one.
const RETRY_AFTER_MAX: u64 = 600;

/// `POST` with the body, signed if there is a key.
pub(super) fn request(
    url: &HttpUrl,
    delivery: &str,
    body: String,
    key: Option<&SecretValue>,
    now: Timestamp,
) -> Result<Request<Full<Bytes>>, Undelivered> {
    let mut request = Request::post(&url.path)
        .header(header::HOST, url.authority())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("sheaf/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .header("sheaf-delivery", delivery);
    if let Some(key) = key {
        let mut signature = HeaderValue::from_str(&signature(key, &body, now)).map_err(http::Error::from)?;
        signature.set_sensitive(true);
        request = request.header("sheaf-signature", signature);
    }
    Ok(request.body(Full::new(Bytes::from(body)))?)
}

/// `t=SECONDS,v1=HEX`: when it was made, so that nobody can use it much later, and the signature of that and the body.
fn signature(key: &SecretValue, body: &str, now: Timestamp) -> String {
    let seconds = (now.0 / 1000).to_string();
    let v1 = sheaf_seal::hmac_sha256(key.reveal(), &[seconds.as_bytes(), b".", body.as_bytes()]);
    format!("t={seconds},v1={v1}")
}

/// Sends it. Of the answer only its head is waited for, and nothing of its body is read: it may say anything, at any length.
pub(super) async fn post(
    stream: Box<dyn Wire>,
    request: Request<Full<Bytes>>,
) -> Result<String, Undelivered> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer?,
        // The answer, if there is one, has been handed on by then. Dropping either ends the exchange.
        ended = &mut connection => {
            let answered = answer.await;
            match (answered, ended) {
                (Ok(answer), _) => answer,
                (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error.into()),
            }
        }
    };
    judge(&answer)
}

fn judge<T>(answer: &Response<T>) -> Result<String, Undelivered> {
    let status = answer.status();
    if status.is_success() {
        return Ok(format!("status {}", status.as_u16()));
    }
    let after =
        answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let heard = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let retry_after =
        after.filter(|_| heard).map(|after: u64| Duration::from_secs(after.min(RETRY_AFTER_MAX)));
    Err(Undelivered::Status { status: status.as_u16(), retry_after })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn url(path: &str) -> HttpUrl {
        HttpUrl { tls: false, host: "h".to_owned(), port: 8080, path: path.to_owned() }
    }

    /// Made with `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret`.
    #[test]
    fn a_signature_is_of_the_time_and_the_body() {
        let key = SecretValue::new(b"secret").unwrap();
        let made = signature(&key, "{\"a\":1}", Timestamp(1_700_000_000_999));
        assert_eq!(made, "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686");
        let request = request(&url("/x?y"), "d-1", "{}".to_owned(), Some(&key), Timestamp(1)).unwrap();
        assert_eq!(request.uri().to_string(), "/x?y");
        assert_eq!(request.headers()["host"], "h:8080");
        assert!(request.headers()["sheaf-signature"].is_sensitive());
        let unsigned = super::request(&url("/"), "d-1", "{}".to_owned(), None, Timestamp(1)).unwrap();
        assert!(unsigned.headers().get("sheaf-signature").is_none());
    }

    /// What a server that says `answer` makes of a request, and what it read of it.
    async fn answered(answer: &'static str) -> (Result<String, Undelivered>, String) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let request =
            request(&url("/hook"), "d-1", "{\"events\":[]}".to_owned(), None, Timestamp(1)).unwrap();
        let server = async move {
            let mut read = vec![0; 4096];
            let mut heard = String::new();
            while !heard.ends_with("{\"events\":[]}") {
                let n = theirs.read(&mut read).await.unwrap();
                heard.push_str(std::str::from_utf8(&read[..n]).unwrap());
            }
            theirs.write_all(answer.as_bytes()).await.unwrap();
            heard
        };
        let (outcome, heard) = tokio::join!(post(Box::new(ours), request), server);
        (outcome, heard)
    }

    #[tokio::test]
    async fn only_2xx_is_delivered_and_redirects_are_not_followed() {
        let (outcome, heard) = answered("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(outcome.unwrap(), "status 204");
        assert!(
            heard.starts_with("POST /hook HTTP/1.1\r\n") && heard.contains("sheaf-delivery: d-1"),
            "{heard}"
        );
        for (answer, expected) in [
            (
                "HTTP/1.1 302 Found\r\nLocation: http://other/\r\n\r\n",
                "status 302; redirects are not followed",
            ),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nhunter2", "status 404; is the url right?"),
            ("HTTP/1.1 500 Oh\r\n\r\n", "status 500"),
        ] {
            let error = answered(answer).await.0.expect_err(answer).to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
        let (outcome, _) = answered("HTTP/1.1 429 Slow\r\nRetry-After: 9999\r\n\r\n").await;
        let Err(Undelivered::Status { status: 429, retry_after }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(retry_after, Some(Duration::from_secs(600)));
        answered("hello\r\n\r\n").await.0.expect_err("no HTTP");
        answered("").await.0.expect_err("nothing at all");
    }
}
