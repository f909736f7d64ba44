//! A mail server that mail sinks deliver to: it remembers what it took, and goes down and up again.
//!
//! It speaks SMTP as RFC 5321 has it, as far as one mail needs it; where it is secured also by TLS (RFC 3207) and with who has
//! logged in (RFC 4954), and then it takes nothing from anybody else.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sheaf_model::MailSecurity;

use crate::ports;
use crate::receiver::{Shared, go_down, listen};
use crate::tls::Tls;

/// The answer after which TLS begins.
const TLS_NOW: &str = "220 2.0.0 go on by TLS";
/// The answer after which nothing is said any more.
const BYE: &str = "221 bye";
const UNKNOWN: &str = "500 5.5.1 not known here";

/// A mail that was taken.
#[derive(Clone, Debug, Default)]
pub struct Letter {
    /// Of the envelope.
    pub from: String,
    /// Of the envelope.
    pub to: Vec<String>,
    /// Headers and body, as they came; lines ended by a line feed.
    pub data: String,
}

/// Goes down when it is dropped.
pub struct Postbox {
    port: u16,
    shared: Arc<Shared<Letter>>,
    door: Option<Door>,
    serving: Option<JoinHandle<()>>,
}

/// Who is let in.
#[derive(Clone)]
struct Door {
    tls: Tls,
    how: MailSecurity,
    user: String,
    password: String,
}

impl Postbox {
    /// On a port of its own on loopback; in plain, for everybody.
    pub fn start() -> Self {
        Self::new(None)
    }

    /// The same by TLS, begun in that way, for who logs in as `user`: by `AUTH PLAIN` after STARTTLS, else by `AUTH LOGIN`.
    pub fn secured(tls: &Tls, how: MailSecurity, user: &str, password: &str) -> Self {
        Self::new(Some(Door { tls: tls.clone(), how, user: user.to_owned(), password: password.to_owned() }))
    }

    fn new(door: Option<Door>) -> Self {
        let mut postbox = Self { port: ports::free(1)[0], shared: Shared::new(), door, serving: None };
        postbox.come_up();
        postbox
    }

    /// `host:port`
    pub fn server(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Nobody listens any more.
    pub fn go_down(&mut self) {
        go_down(&self.shared, &mut self.serving);
    }

    /// Listens again, on the same port.
    pub fn come_up(&mut self) {
        let (shared, door) = (self.shared.clone(), self.door.clone());
        self.serving = Some(listen(self.port, &self.shared, move |stream| {
            let _gone = converse(stream, door.as_ref(), &shared); // whoever called has hung up
        }));
    }

    /// Every mail, in order.
    pub fn letters(&self) -> Vec<Letter> {
        self.shared.all()
    }
}

impl Drop for Postbox {
    fn drop(&mut self) {
        self.go_down();
    }
}

fn converse(stream: TcpStream, door: Option<&Door>, shared: &Shared<Letter>) -> io::Result<()> {
    let mut talk =
        Talk { door, shared, by_tls: false, has_greeted: false, is_known: false, letter: Letter::default() };
    if let Some(Door { tls, how: MailSecurity::Tls, .. }) = door {
        talk.by_tls = true;
        return talk.hold(tls.over(stream)?, true).map(drop);
    }
    let left = talk.hold(stream, true)?;
    if let (Some(stream), Some(Door { tls, .. })) = (left, door) {
        // What was said in plain counts no more.
        (talk.by_tls, talk.has_greeted) = (true, false);
        talk.hold(tls.over(stream)?, false)?;
    }
    Ok(())
}

/// With one who has called.
struct Talk<'a> {
    door: Option<&'a Door>,
    shared: &'a Shared<Letter>,
    by_tls: bool,
    has_greeted: bool,
    is_known: bool,
    letter: Letter,
}

impl Talk<'_> {
    /// Until one of both hangs up; the connection if it is to become TLS now.
    fn hold<S: Read + Write>(&mut self, stream: S, greets: bool) -> io::Result<Option<S>> {
        let mut reader = BufReader::new(stream);
        if greets {
            reader.get_mut().write_all(b"220 postbox ESMTP\r\n")?;
        }
        while let Some(said) = line(&mut reader)? {
            let answer = self.answer(&said, &mut reader)?;
            reader.get_mut().write_all(format!("{answer}\r\n").as_bytes())?;
            match answer {
                // What comes before TLS could be anybody's.
                TLS_NOW if reader.buffer().is_empty() => return Ok(Some(reader.into_inner())),
                TLS_NOW | BYE => break,
                _ => {}
            }
        }
        Ok(None)
    }

    fn answer<S: Read + Write>(&mut self, said: &str, reader: &mut BufReader<S>) -> io::Result<&'static str> {
        let word = said.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        if let Some(refused) = self.refused(&word) {
            return Ok(refused);
        }
        let address = || {
            said.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(inner, _)| inner.to_owned())
        };
        Ok(match word.as_str() {
            "EHLO" => {
                self.has_greeted = true;
                self.offers()
            }
            "STARTTLS" if self.door.is_some() => TLS_NOW,
            "AUTH" => self.log_in(said, reader)?,
            "MAIL" => {
                self.letter = Letter { from: address().unwrap_or_default(), ..Letter::default() };
                "250 2.1.0 well"
            }
            "RCPT" => {
                self.letter.to.extend(address());
                "250 2.1.5 well"
            }
            "DATA" => {
                reader.get_mut().write_all(b"354 go on\r\n")?;
                self.letter.data = data(reader)?;
                self.shared.add(self.letter.clone());
                "250 2.0.0 queued"
            }
            "QUIT" => BYE,
            _ => UNKNOWN,
        })
    }

    /// What comes too early is not answered with more.
    fn refused(&self, word: &str) -> Option<&'static str> {
        self.door?;
        match word {
            "EHLO" | "QUIT" => None,
            "STARTTLS" => self.by_tls.then_some("503 5.5.1 it is TLS already"),
            _ if !self.by_tls => Some("530 5.7.0 STARTTLS first"),
            _ if !self.has_greeted => Some("503 5.5.1 EHLO first, and once more by TLS"),
            "AUTH" => None,
            _ => (!self.is_known).then_some("530 5.7.0 AUTH first"),
        }
    }

    fn offers(&self) -> &'static str {
        match (self.door.map(|door| door.how), self.by_tls) {
            (None, _) => "250-postbox\r\n250-8BITMIME\r\n250 SIZE 1000000",
            (Some(_), false) => "250-postbox\r\n250-8BITMIME\r\n250 STARTTLS",
            (Some(MailSecurity::Tls), true) => "250-postbox\r\n250-8BITMIME\r\n250 AUTH LOGIN",
            (Some(_), true) => "250-postbox\r\n250-8BITMIME\r\n250 AUTH PLAIN",
        }
    }

    fn log_in<S: Read + Write>(&mut self, said: &str, reader: &mut BufReader<S>) -> io::Result<&'static str> {
        let Some(Door { how, user, password, .. }) = self.door else { return Ok(UNKNOWN) };
        let words: Vec<&str> = said.split(' ').collect();
        self.is_known = match (how, &words[..]) {
            (MailSecurity::StartTls, ["AUTH", "PLAIN", told]) => {
                *told == STANDARD.encode(format!("\0{user}\0{password}"))
            }
            (MailSecurity::Tls, ["AUTH", "LOGIN"]) => {
                let mut told = Vec::new();
                for question in ["Username:", "Password:"] {
                    let question = format!("334 {}\r\n", STANDARD.encode(question));
                    reader.get_mut().write_all(question.as_bytes())?;
                    told.extend(line(reader)?);
                }
                told == [user, password].map(|text| STANDARD.encode(text))
            }
            _ => false,
        };
        Ok(if self.is_known { "235 2.7.0 welcome" } else { "535 5.7.8 nobody knows you" })
    }
}

/// The next line, without its end; none: there is no more.
fn line<S: Read>(reader: &mut BufReader<S>) -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = reader.read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Up to the line with a dot alone.
fn data<S: Read>(reader: &mut BufReader<S>) -> io::Result<String> {
    let mut data = String::new();
    while let Some(text) = line(reader)? {
        if text == "." {
            return Ok(data);
        }
        data.push_str(text.strip_prefix('.').unwrap_or(&text));
        data.push('\n');
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

impl Letter {
    /// The value of a header, as it came.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (headers, _) = self.data.split_once("\n\n")?;
        headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// What stands before the first empty line, a line each.
    pub fn headers(&self) -> Vec<&str> {
        self.data.split_once("\n\n").map(|(headers, _)| headers.lines().collect()).unwrap_or_default()
    }

    /// The text, decoded.
    pub fn text(&self) -> String {
        let body = self.data.split_once("\n\n").map(|(_, body)| body).unwrap_or_default();
        let body: String = body.split_whitespace().collect();
        let bytes = STANDARD.decode(body).expect("the text is in base64");
        String::from_utf8(bytes).expect("the text is UTF-8")
    }
}
