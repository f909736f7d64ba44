//! SMTP (RFC 5321, 3207, 4954), the part of it that hands over one mail.
//!
//! Nobody gets a mail twice, and nobody misses it: once a server has taken it for some, those whom it puts off are told to the caller, who
//! tries again for them alone. Where it takes it for nobody, all are tried again. Whom it refuses for good, while others have the mail,
//! is left out and named.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sheaf_model::{Mail, MailSecurity};
use sheaf_wire::outward::Wire;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::undelivered::Undelivered;

/// Longest answer in bytes, all its lines together.
const ANSWER_MAX: usize = 64 << 10;
/// Characters of an answer that are shown.
const SHOWN: usize = 200;
/// How long a server has to say goodbye.
const QUIT: Duration = Duration::from_millis(500);

/// One mail for one server.
pub(super) struct Call<'a> {
    pub(super) mail: &'a Mail,
    /// Whom it is for of those that the sink names: the others have it.
    pub(super) to: &'a [String],
    /// Whom to log in as, and with what.
    pub(super) login: Option<(&'a str, &'a str)>,
    /// What this node calls itself.
    pub(super) node: &'a str,
    /// Headers and body, lines ended by CR LF.
    pub(super) text: &'a str,
}

/// Who makes TLS of a connection.
pub(super) trait Secure: Sync {
    /// Of this one.
    fn secure(&self, stream: TcpStream) -> impl Future<Output = Result<Box<dyn Wire>, Undelivered>> + Send;
}

/// What a server answered.
struct Answer {
    code: u16,
    lines: Vec<String>,
}

/// A conversation.
struct Talk<S> {
    stream: S,
    /// Heard and not yet read.
    heard: Vec<u8>,
}

impl Call<'_> {
    /// Hands the mail over. What the server said to it.
    pub(super) async fn deliver(&self, stream: TcpStream, tls: &impl Secure) -> Result<String, Undelivered> {
        match self.mail.security {
            MailSecurity::None => self.hand_over(Talk::new(stream), true).await,
            MailSecurity::Tls => self.hand_over(Talk::new(tls.secure(stream).await?), true).await,
            MailSecurity::StartTls => {
                let mut talk = Talk::new(stream);
                let offers = self.greet(&mut talk, true).await?;
                if !offers.iter().any(|offer| offer.eq_ignore_ascii_case("STARTTLS")) {
                    return Err(Undelivered::MailServer(
                        "offers no STARTTLS; security: tls or none says how else",
                    ));
                }
                talk.ask("STARTTLS", "STARTTLS").await?.expect(220, "STARTTLS", true)?;
                if !talk.heard.is_empty() {
                    // It would be taken for something that was said in secret.
                    return Err(Undelivered::MailServer("went on in plain after STARTTLS"));
                }
                self.hand_over(Talk::new(tls.secure(talk.stream).await?), false).await
            }
        }
    }

    /// Says who is here; what the server offers.
    async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        talk: &mut Talk<S>,
        greeted: bool,
    ) -> Result<Vec<String>, Undelivered> {
        if greeted {
            talk.answer("its greeting").await?.expect(220, "its greeting", true)?;
        }
        let answer = talk.ask("EHLO", &format!("EHLO {}", self.node)).await?.expect(250, "EHLO", true)?;
        Ok(answer.lines.into_iter().skip(1).collect())
    }

    async fn hand_over<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        &self,
        mut talk: Talk<S>,
        greeted: bool,
    ) -> Result<String, Undelivered> {
        let offers = self.greet(&mut talk, greeted).await?;
        if let Some((user, password)) = self.login {
            log_in(&mut talk, &offers, user, password).await?;
        }
        let from = format!("MAIL FROM:<{}>", self.mail.from);
        talk.ask("MAIL FROM", &from).await?.expect(250, "MAIL FROM", true)?;
        let (mut put_off, mut refused) = (Vec::new(), Vec::new());
        for to in self.to {
            let answer = talk.ask("RCPT TO", &format!("RCPT TO:<{to}>")).await?;
            match answer.expect(250, "RCPT TO", true) {
                Ok(_) => {}
                Err(error) if error.is_for_good() => refused.push((to, error)),
                Err(error) => put_off.push((to, error)),
            }
        }
        let some_take_it = put_off.len() + refused.len() < self.to.len();
        let some_have_it = self.to.len() < self.mail.to.len();
        if !some_take_it
            && !some_have_it
            && let Some((_, error)) = put_off.pop().or_else(|| refused.pop())
        {
            talk.part();
            return Err(error);
        }
        let said = if some_take_it { self.data(&mut talk).await? } else { "taken before".to_owned() };
        talk.part();
        self.conclude(said, &put_off, &refused)
    }

    /// The mail itself; what the server said to it.
    async fn data<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        talk: &mut Talk<S>,
    ) -> Result<String, Undelivered> {
        talk.ask("DATA", "DATA").await?.expect(354, "DATA", true)?;
        let answer =
            talk.ask("the mail", &(stuffed(self.text) + ".")).await?.expect(250, "the mail", true)?;
        Ok(format!("{} {}", answer.code, shown(&answer.lines)))
    }

    /// What is left to do once some have the mail.
    fn conclude(
        &self,
        said: String,
        put_off: &[(&String, Undelivered)],
        refused: &[(&String, Undelivered)],
    ) -> Result<String, Undelivered> {
        let some = refused.iter().map(|(to, error)| format!("{to}: {error}")).collect::<Vec<_>>().join("; ");
        if !some.is_empty() {
            tracing::warn!(server = self.mail.server, refused = some, "a mail was taken, though not for all");
        }
        if let Some((_, error)) = put_off.first() {
            let left = put_off.iter().map(|(to, _)| (*to).clone()).collect();
            return Err(Undelivered::PutOff { left, said: error.to_string() });
        }
        Ok(if some.is_empty() { said } else { format!("{said}; not for all: {some}") })
    }
}

async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    talk: &mut Talk<S>,
    offers: &[String],
    user: &str,
    password: &str,
) -> Result<(), Undelivered> {
    let ways = offers.iter().filter_map(|offer| {
        let (word, rest) = offer.split_once([' ', '='])?;
        word.eq_ignore_ascii_case("AUTH").then(|| rest.to_ascii_uppercase())
    });
    let ways = ways.collect::<Vec<_>>().join(" ");
    let offered = |way: &str| ways.split_whitespace().any(|offer| offer == way);
    // Nothing of what the server answers here is shown: it was told a secret.
    if offered("PLAIN") {
        let secret = STANDARD.encode(format!("\0{user}\0{password}"));
        talk.ask("AUTH", &format!("AUTH PLAIN {secret}")).await?.expect(235, "AUTH PLAIN", false)?;
    } else if offered("LOGIN") {
        talk.ask("AUTH", "AUTH LOGIN").await?.expect(334, "AUTH LOGIN", false)?;
        talk.ask("AUTH", &STANDARD.encode(user)).await?.expect(334, "AUTH LOGIN", false)?;
        talk.ask("AUTH", &STANDARD.encode(password)).await?.expect(235, "AUTH LOGIN", false)?;
    } else {
        return Err(Undelivered::MailServer(
            "offers neither AUTH PLAIN nor AUTH LOGIN here; leave out user and password",
        ));
    }
    Ok(())
}

/// No line of a mail is a single dot, which would end it.
fn stuffed(text: &str) -> String {
    text.split_inclusive("\r\n")
        .map(|line| if line.starts_with('.') { format!(".{line}") } else { line.to_owned() })
        .collect()
}

fn shown(lines: &[String]) -> String {
    let text = lines.join(" ");
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

impl Answer {
    /// The answer, if it is what is expected; else it is the reason, with its words if these may be shown.
    fn expect(self, code: u16, step: &'static str, show: bool) -> Result<Self, Undelivered> {
        if self.code == code || (code == 250 && self.code == 251) {
            return Ok(self);
        }
        let said = if show { format!(": {}", shown(&self.lines)) } else { String::new() };
        Err(Undelivered::Mail { step, code: self.code, said })
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Talk<S> {
    /// Takes leave. Nobody waits for the answer: a server that gives none has the mail all the same, and is not to get it again.
    fn part(mut self) {
        tokio::spawn(async move {
            let _ = tokio::time::timeout(QUIT, self.ask("QUIT", "QUIT")).await;
        });
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    fn new(stream: S) -> Self {
        Self { stream, heard: Vec::new() }
    }

    /// Says a line, and hears the answer.
    async fn ask(&mut self, step: &'static str, line: &str) -> Result<Answer, Undelivered> {
        let said = async {
            self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
            self.stream.flush().await
        };
        said.await.map_err(|source| Undelivered::MailBroke { step, source })?;
        self.answer(step).await
    }

    async fn answer(&mut self, step: &'static str) -> Result<Answer, Undelivered> {
        let broke = |kind: std::io::ErrorKind| Undelivered::MailBroke { step, source: kind.into() };
        let mut lines = Vec::new();
        let mut bytes = 0;
        loop {
            let line = self.line(step).await?;
            bytes += line.len();
            if bytes > ANSWER_MAX {
                return Err(broke(std::io::ErrorKind::InvalidData));
            }
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok());
            let code = code.ok_or_else(|| broke(std::io::ErrorKind::InvalidData))?;
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Answer { code, lines });
            }
        }
    }

    /// The next line, without its end.
    async fn line(&mut self, step: &'static str) -> Result<String, Undelivered> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let mut buffer = [0; 1024];
            let read = self.stream.read(&mut buffer).await;
            let read = match read {
                Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if self.heard.len() > ANSWER_MAX => Err(std::io::ErrorKind::InvalidData.into()),
                other => other,
            };
            let n = read.map_err(|source| Undelivered::MailBroke { step, source })?;
            self.heard.extend_from_slice(&buffer[..n]);
        }
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::Span;
    use tokio::net::TcpListener;

    use super::*;

    fn mail(to: &[&str], security: MailSecurity) -> Mail {
        Mail {
            server: "mail:25".to_owned(),
            security,
            user: None,
            password: None,
            from: "sheaf@example.org".to_owned(),
            to: to.iter().map(|to| (*to).to_owned()).collect(),
            digest: Span::seconds(60),
            timeout: Span::seconds(5),
            ca: None,
        }
    }

    struct NoTls;

    impl Secure for NoTls {
        async fn secure(&self, _: TcpStream) -> Result<Box<dyn Wire>, Undelivered> {
            Err(Undelivered::MailServer("is not asked for TLS"))
        }
    }

    /// Hands a mail to a server that answers by what each line begins with, and where it is to answer with nothing is silent from
    /// then on; what it heard.
    async fn handed(
        mail: &Mail,
        login: Option<(&str, &str)>,
        answers: &'static [(&'static str, &'static str)],
    ) -> (Result<String, Undelivered>, Vec<String>) {
        handed_to(&mail.to, mail, login, answers).await
    }

    async fn handed_to(
        to: &[String],
        mail: &Mail,
        login: Option<(&str, &str)>,
        answers: &'static [(&'static str, &'static str)],
    ) -> (Result<String, Undelivered>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut talk = Talk::new(stream);
            let mut heard = Vec::new();
            talk.stream.write_all(b"220 hello\r\n").await.unwrap();
            let mut in_mail = false;
            while let Ok(line) = talk.line("").await {
                heard.push(line.clone());
                if in_mail && line != "." {
                    continue;
                }
                in_mail = line == "DATA";
                let answer =
                    answers.iter().find(|(begin, _)| line.starts_with(begin)).map(|(_, answer)| *answer);
                let answer = answer.unwrap_or(if in_mail { "354 go on" } else { "250 well" });
                if answer.is_empty() {
                    continue;
                }
                talk.stream.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
            }
            heard
        };
        let call = Call { mail, to, login, node: "n1", text: "Subject: x\r\n\r\n.\r\nhello\r\n" };
        tokio::join!(call.deliver(stream, &NoTls), server)
    }

    #[tokio::test]
    async fn a_mail_is_handed_over_and_no_line_of_it_ends_it() {
        let mail = mail(&["a@example.org", "b@example.org"], MailSecurity::None);
        let (outcome, heard) = handed(&mail, None, &[(".", "250 queued as 7")]).await;
        assert_eq!(outcome.unwrap(), "250 queued as 7");
        let expected = [
            "EHLO n1",
            "MAIL FROM:<sheaf@example.org>",
            "RCPT TO:<a@example.org>",
            "RCPT TO:<b@example.org>",
            "DATA",
            "Subject: x",
            "",
            "..",
            "hello",
            ".",
            "QUIT",
        ];
        assert_eq!(heard, expected);
    }

    #[tokio::test]
    async fn it_is_taken_if_one_may_have_it_and_refused_if_none_may() {
        let two = mail(&["a@example.org", "b@example.org"], MailSecurity::None);
        let (outcome, _) = handed(&two, None, &[("RCPT TO:<a", "550 no such user")]).await;
        let said = outcome.unwrap();
        assert!(said.contains("not for all: a@example.org") && said.contains("no such user"), "{said}");
        let one = mail(&["a@example.org"], MailSecurity::None);
        let error = handed(&one, None, &[("RCPT TO:<a", "550 no such user")]).await.0.unwrap_err();
        assert_eq!(error.to_string(), "the mail server answered 550 to RCPT TO: no such user");
    }

    #[tokio::test]
    async fn a_server_that_is_silent_after_goodbye_has_the_mail() {
        let mail = mail(&["a@example.org"], MailSecurity::None);
        let silent = handed(&mail, None, &[(".", "250 queued"), ("QUIT", "")]);
        let (outcome, heard) =
            tokio::time::timeout(Duration::from_secs(20), silent).await.expect("it is left");
        assert_eq!(outcome.unwrap(), "250 queued");
        assert_eq!(heard.last().map(String::as_str), Some("QUIT"));
    }

    #[tokio::test]
    async fn who_is_put_off_is_tried_again_alone_and_everybody_if_nobody_has_it() {
        let recipients = |heard: &[String]| -> Vec<String> {
            let named = heard.iter().filter_map(|line| line.strip_prefix("RCPT TO:<"));
            named.map(|it| it.trim_end_matches("@example.org>").to_owned()).collect()
        };
        let is_sent = |heard: &[String]| heard.iter().any(|line| line == "DATA");
        let three = mail(&["a@example.org", "b@example.org", "c@example.org"], MailSecurity::None);
        let busy = &[("RCPT TO:<b", "450 come back"), ("RCPT TO:<c", "550 nobody")];
        let (outcome, heard) = handed(&three, None, busy).await;
        let error = outcome.unwrap_err();
        let Undelivered::PutOff { left, .. } = &error else { panic!("{error}") };
        assert_eq!(*left, ["b@example.org"], "c is refused for good, and a has it");
        assert!(is_sent(&heard));
        assert!(
            error.to_string().contains("b@example.org") && error.to_string().contains("come back"),
            "{error}"
        );

        let (outcome, heard) = handed_to(left, &three, None, busy).await;
        assert!(
            matches!(&outcome, Err(Undelivered::PutOff { left: again, .. }) if again == left),
            "{outcome:?}"
        );
        assert_eq!((recipients(&heard), is_sent(&heard)), (vec!["b".to_owned()], false));
        let (outcome, heard) = handed_to(left, &three, None, &[]).await;
        assert_eq!((outcome.is_ok(), recipients(&heard)), (true, vec!["b".to_owned()]));
        let (outcome, _) = handed_to(left, &three, None, &[("RCPT TO:<b", "550 nobody")]).await;
        assert!(outcome.unwrap().contains("not for all: b@example.org"), "others have it");

        let nobody =
            &[("RCPT TO:<a", "550 nobody"), ("RCPT TO:<b", "450 come back"), ("RCPT TO:<c", "450 wait")];
        let (outcome, heard) = handed(&three, None, nobody).await;
        assert!(matches!(outcome, Err(Undelivered::Mail { code: 450, .. })), "all are tried again");
        assert!(!is_sent(&heard));
    }

    #[tokio::test]
    async fn a_password_is_shown_to_who_offers_to_hear_it_and_in_no_error() {
        let mail = mail(&["a@example.org"], MailSecurity::None);
        let login = Some(("me", "hunter2"));
        let plain = &[("EHLO", "250-hi\r\n250-AUTH LOGIN PLAIN\r\n250 SIZE"), ("AUTH", "535 not hunter2")];
        let (outcome, heard) = handed(&mail, login, plain).await;
        assert_eq!(outcome.unwrap_err().to_string(), "the mail server answered 535 to AUTH PLAIN");
        assert_eq!(heard[1], "AUTH PLAIN AG1lAGh1bnRlcjI=");
        let by_login = &[
            ("EHLO", "250-hi\r\n250 AUTH LOGIN"),
            ("AUTH", "334 x"),
            ("bWU=", "334 x"),
            ("aHVudGVyMg==", "235 ok"),
        ];
        let (outcome, heard) = handed(&mail, login, by_login).await;
        assert!(outcome.is_ok() && heard.contains(&"aHVudGVyMg==".to_owned()), "{heard:?}");
        let error = handed(&mail, login, &[]).await.0.unwrap_err().to_string();
        assert!(error.contains("neither AUTH PLAIN nor AUTH LOGIN"), "{error}");
    }

    #[tokio::test]
    async fn without_the_tls_that_was_asked_for_nothing_is_said() {
        let mail = mail(&["a@example.org"], MailSecurity::StartTls);
        let (outcome, heard) = handed(&mail, Some(("me", "hunter2")), &[]).await;
        assert!(outcome.unwrap_err().to_string().contains("offers no STARTTLS"));
        assert_eq!(heard, ["EHLO n1"]);
        let injected = &[("EHLO", "250-hi\r\n250 STARTTLS"), ("STARTTLS", "220 go\r\n250 AUTH PLAIN")];
        let (outcome, heard) = handed(&mail, None, injected).await;
        assert!(outcome.unwrap_err().to_string().contains("in plain after STARTTLS"));
        assert_eq!(heard.len(), 2);
    }

    #[tokio::test]
    async fn what_is_no_smtp_is_an_error() {
        let mail = mail(&["a@example.org"], MailSecurity::None);
        let error = handed(&mail, None, &[("EHLO", "hello")]).await.0.unwrap_err();
        assert!(matches!(error, Undelivered::MailBroke { step: "EHLO", .. }), "{error}");
    }
}
