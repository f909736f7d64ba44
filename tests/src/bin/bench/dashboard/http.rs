//! As much of HTTP/1.1 as an open dashboard needs: a connection that is kept, and a stream.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer may take longer.
const LONGEST: Duration = Duration::from_secs(60);

/// A connection to a node's dashboard, opened when it is first used, and anew once the node has closed it.
pub(crate) struct Line {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

/// What was answered.
pub(crate) struct Got {
    pub(crate) body: Vec<u8>,
    /// Of head and body, as they were sent.
    pub(crate) bytes: usize,
}

/// Asks for all of these at once, each on a line of its own, as a page does.
///
/// # Errors
/// As [`Line::get`], of the first that fails.
pub(crate) async fn get_all(lines: &mut [Line], paths: &[impl AsRef<str>]) -> io::Result<Vec<Got>> {
    let mut asking = Vec::new();
    for (line, path) in lines.iter_mut().zip(paths) {
        asking.push(line.get(path.as_ref()));
    }
    futures::future::try_join_all(asking).await
}

struct Head {
    status: u16,
    /// None: in chunks.
    length: Option<usize>,
    bytes: usize,
}

impl Line {
    pub(crate) fn to(address: &str) -> Self {
        Self { address: address.to_owned(), stream: None }
    }

    /// Asks for a path, and waits for the whole answer.
    ///
    /// # Errors
    /// Nobody answers, not in time, or not with 200.
    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Got> {
        let kept = self.stream.is_some();
        match self.exchange(path).await {
            // One that was idle for a while is closed by the node, as for any browser.
            Err(_) if kept => {
                self.stream = None;
                self.exchange(path).await
            }
            answer => answer,
        }
    }

    async fn exchange(&mut self, path: &str) -> io::Result<Got> {
        let answer = timeout(LONGEST, async {
            let head = self.begin(path).await?;
            let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let mut body = vec![0; head.length.unwrap_or(0)];
            stream.read_exact(&mut body).await?;
            Ok::<_, io::Error>((head, body))
        });
        let (head, body) = answer.await.map_err(|_| io::ErrorKind::TimedOut)??;
        if head.status != 200 {
            let said = String::from_utf8_lossy(&body).into_owned();
            return Err(io::Error::other(format!("{path}: {} {said}", head.status)));
        }
        Ok(Got { bytes: head.bytes + body.len(), body })
    }

    /// Asks for a stream; [`Self::chunk`] has what it says.
    ///
    /// # Errors
    /// Nobody answers, or not with a stream.
    pub(crate) async fn follow(&mut self, path: &str) -> io::Result<()> {
        self.stream = None;
        match self.begin(path).await? {
            Head { status: 200, length: None, .. } => Ok(()),
            Head { status, .. } => Err(io::Error::other(format!("{path}: {status}, and no stream"))),
        }
    }

    /// What the stream says next.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) async fn chunk(&mut self) -> io::Result<String> {
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let mut size = String::new();
        stream.read_line(&mut size).await?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await?;
        Ok(String::from_utf8_lossy(&chunk).into_owned())
    }

    async fn begin(&mut self, path: &str) -> io::Result<Head> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(BufReader::new(stream));
        }
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let ask = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        stream.write_all(ask.as_bytes()).await?;
        let mut head = Head { status: 0, length: None, bytes: 0 };
        let mut line = String::new();
        loop {
            line.clear();
            let read = stream.read_line(&mut line).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            head.bytes += read;
            if head.status == 0 {
                head.status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(1);
            }
            let Some((name, value)) = line.trim_end().split_once(':') else {
                if line.trim_end().is_empty() {
                    return Ok(head);
                }
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                head.length = value.trim().parse().ok();
            }
        }
    }
}
