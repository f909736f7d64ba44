//! A web server of one page, for what polls one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Serves a text at every path, with an ETag; for as long as the test's process lives.
#[derive(Clone, Debug)]
pub struct Web {
    address: String,
    page: Arc<Mutex<Page>>,
}

#[derive(Debug, Default)]
struct Page {
    text: String,
    version: u64,
    /// How often it was sent, and how often it was as the asker knew it.
    sent: u64,
    unchanged: u64,
}

impl Web {
    /// On a port of its own on loopback.
    ///
    /// # Panics
    /// If there is none.
    pub fn start(text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has one").to_string();
        let web = Self { address, page: Arc::default() };
        web.set(text);
        let served = web.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _gone = served.answer(stream); // whoever asked does not wait any more
            }
        });
        web
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/list.txt", self.address)
    }

    /// Another text from now on.
    pub fn set(&self, text: &str) {
        let mut page = self.page();
        text.clone_into(&mut page.text);
        page.version += 1;
    }

    /// How often the text was sent, and how often only that it is as before.
    pub fn answers(&self) -> (u64, u64) {
        let page = self.page();
        (page.sent, page.unchanged)
    }

    fn page(&self) -> std::sync::MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut known = String::new();
        for line in BufReader::new(&stream).lines() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("if-none-match")
            {
                value.clone_into(&mut known);
            }
        }
        let answer = {
            let mut page = self.page();
            let etag = format!("\"{}\"", page.version);
            if known == etag {
                page.unchanged += 1;
                format!("HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\nConnection: close\r\n\r\n")
            } else {
                page.sent += 1;
                let (length, text) = (page.text.len(), &page.text);
                format!(
                    "HTTP/1.1 200 OK\r\nETag: {etag}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
                     Connection: close\r\n\r\n{text}"
                )
            }
        };
        stream.write_all(answer.as_bytes())
    }
}
