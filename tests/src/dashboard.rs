//! What a node's dashboard answers, asked without a browser: one request on a connection of its own.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::Agent;
use crate::cluster::SOON;

/// The head and the body of an answer. `more` are further lines of the question's head, each with its end.
///
/// # Errors
/// Nobody is there, it says nothing for [`SOON`], or what it says has no end of a head.
pub fn try_ask(
    agent: &Agent,
    method: &str,
    path: &str,
    more: &str,
    body: &str,
) -> io::Result<(String, String)> {
    let host = agent.plan().http;
    let mut stream = TcpStream::connect(&host)?;
    stream.set_read_timeout(Some(SOON))?;
    let length = body.len();
    let ask = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    );
    stream.write_all(ask.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) => Ok((head.to_owned(), body.to_owned())),
        None => Err(io::Error::other(format!("no head in {answer:?}"))),
    }
}

/// The same of an agent that answers.
///
/// # Panics
/// If it does not.
pub fn ask(agent: &Agent, method: &str, path: &str, more: &str, body: &str) -> (String, String) {
    try_ask(agent, method, path, more, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// Comes as a browser does that has no session: the line of a head that shows the session's cookie, and the lines with which
/// its page changes something.
///
/// # Panics
/// If it gets none.
pub fn enter(agent: &Agent) -> (String, String) {
    let (head, body) = ask(agent, "GET", "/api/v1/session", "", "");
    let cookie = cookie(&head);
    let page = page(&cookie, &serde_json::from_str(&body).expect("JSON"));
    (cookie, page)
}

/// The line of a head that shows the cookie which an answer sets.
///
/// # Panics
/// If it sets none.
pub fn cookie(head: &str) -> String {
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a session's cookie");
    format!("cookie: {}\r\n", cookie.split(';').next().unwrap_or_default())
}

/// The lines with which the page of a session changes something; `session` is what is said of it.
///
/// # Panics
/// If nothing is said of a token for changes.
pub fn page(cookie: &str, session: &Value) -> String {
    let csrf = session["csrf"].as_str().expect("a token for changes");
    format!("{cookie}content-type: application/json\r\nsheaf-csrf: {csrf}\r\n")
}
