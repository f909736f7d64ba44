//! One delivery: what a sink's document names is opened, the other side is reached, and it says whether it took what it was given.

use std::sync::Arc;

use sheaf_model::sink::HttpUrl;
use sheaf_model::{Confided, Deliverable, Mail, SecretName, SecretValue, SinkSpec, SinkTarget, Webhook};
use sheaf_wire::outward::{Outward, Wire};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::body::{self, Envelope};
use super::digest::Letter;
use super::undelivered::Undelivered;
use super::{exec, letter, smtp, webhook};
use crate::Control;
use crate::place::Member;

/// What is delivered at once.
pub(super) enum Parcel<'a> {
    /// Events, at least one.
    Events(&'a [Deliverable]),
    /// Events, as a mail; and whom it is for yet, if some have it already.
    Letter(&'a Letter, Option<Vec<String>>),
}

/// TLS with a mail server, begun in the midst of a conversation or before it.
struct MailTls<'a> {
    hand: &'a Hand,
    host: &'a str,
    mail: &'a Mail,
}

impl smtp::Secure for MailTls<'_> {
    async fn secure(&self, stream: TcpStream) -> Result<Box<dyn Wire>, Undelivered> {
        self.hand.secure(self.host, stream, self.mail.ca.as_deref(), &self.mail.server).await
    }
}

/// Who delivers to one sink, as its document is now.
pub(super) struct Hand {
    control: Control,
    member: Member,
    spec: Arc<SinkSpec>,
    /// Whom the other side's certificate must come from; made when it is first needed.
    tls: OnceCell<Outward>,
}

impl Hand {
    pub(super) fn new(control: Control, member: Member, spec: Arc<SinkSpec>) -> Self {
        Self { control, member, spec, tls: OnceCell::new() }
    }

    pub(super) fn spec(&self) -> &SinkSpec {
        &self.spec
    }

    /// The cluster's identity.
    pub(super) fn cluster(&self) -> String {
        self.member.replica.state().cluster.id.as_ref().map(|id| id.0.clone()).unwrap_or_default()
    }

    /// Delivers, within the sink's timeout. What the other side said, for people.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<String, Undelivered> {
        self.within_time(parcel, false).await
    }

    /// Delivers one event that says it is a test.
    pub(super) async fn test(&self, event: &Deliverable) -> Result<String, Undelivered> {
        let events = std::slice::from_ref(event);
        match &self.spec.target {
            SinkTarget::Mail(_) => {
                let letter = Letter::test(&self.spec.name, &self.cluster(), event);
                self.within_time(&Parcel::Letter(&letter, None), true).await
            }
            SinkTarget::Webhook(_) | SinkTarget::Exec(_) => {
                self.within_time(&Parcel::Events(events), true).await
            }
        }
    }

    async fn within_time(&self, parcel: &Parcel<'_>, test: bool) -> Result<String, Undelivered> {
        let within = self.spec.target.timeout().duration();
        // A program is ended in its own way when its time is over.
        let given = Box::pin(self.give(parcel, test));
        if matches!(self.spec.target, SinkTarget::Exec(_)) {
            return given.await;
        }
        tokio::time::timeout(within, given).await.unwrap_or(Err(Undelivered::TimedOut(within)))
    }

    async fn give(&self, parcel: &Parcel<'_>, test: bool) -> Result<String, Undelivered> {
        match (&self.spec.target, parcel) {
            (SinkTarget::Webhook(webhook), Parcel::Events(events)) => self.post(webhook, events, test).await,
            (SinkTarget::Exec(program), Parcel::Events(events)) => {
                let envelope = self.envelope(events, test);
                let programs = &self.control.sink_programs;
                exec::run(program, programs, &self.control.place.identity.name, &envelope).await
            }
            (SinkTarget::Mail(mail), Parcel::Letter(letter, left)) => {
                self.mail(mail, letter, left.as_ref().unwrap_or(&mail.to)).await
            }
            // Lines make letters of what goes to mail servers, and of nothing else.
            (SinkTarget::Mail(_), Parcel::Events(_)) => Err(Undelivered::BadAddress("events are no mail")),
            (_, Parcel::Letter(..)) => Err(Undelivered::BadAddress("a mail is for a mail server")),
        }
    }

    fn envelope<'a>(&self, events: &'a [Deliverable], test: bool) -> Envelope<'a> {
        let delivery = body::delivery_id(&self.spec.name, events, test, self.control.clock.wall());
        Envelope { sink: self.spec.name.to_string(), cluster: self.cluster(), delivery, test, events }
    }

    async fn post(
        &self,
        webhook: &Webhook,
        events: &[Deliverable],
        test: bool,
    ) -> Result<String, Undelivered> {
        let (url, to) = match &webhook.url {
            Confided::Plain(url) => (HttpUrl::parse(url).map_err(Undelivered::BadAddress)?, None),
            Confided::Secret(name) => {
                let text = self.text_of(name, "a url")?;
                let bad = |why| Undelivered::BadSecret { name: name.clone(), what: "a url", why };
                (HttpUrl::parse(text.trim()).map_err(bad)?, Some(webhook.url.to_string()))
            }
        };
        let key = webhook.secret.as_ref().map(|name| self.secret(name)).transpose()?;
        let envelope = self.envelope(events, test);
        let body = envelope.json();
        let request =
            webhook::request(&url, &envelope.delivery, body, key.as_ref(), self.control.clock.wall())?;
        let to = to.unwrap_or_else(|| url.authority());
        let stream = self.reach(&url.host, url.port, &to).await?;
        let stream: Box<dyn Wire> = if url.tls {
            self.secure(&url.host, stream, webhook.ca.as_deref(), &to).await?
        } else {
            Box::new(stream)
        };
        webhook::post(stream, request).await
    }

    async fn mail(&self, mail: &Mail, letter: &Letter, to: &[String]) -> Result<String, Undelivered> {
        let password = mail.password.as_ref().map(|name| self.text_of(name, "a password")).transpose()?;
        let login = mail.user.as_deref().zip(password.as_deref());
        let bad = Undelivered::BadAddress("it is no host:port");
        let (host, port) = sheaf_model::sink::host_and_port(&mail.server, 0).ok_or(bad)?;
        let stream = self.reach(&host, port, &mail.server).await?;
        let node = self.control.place.identity.name.as_str();
        let text = letter::text(mail, letter, self.control.clock.wall());
        let call = smtp::Call { mail, to, login, node, text: &text };
        call.deliver(stream, &MailTls { hand: self, host: &host, mail }).await
    }

    async fn reach(&self, host: &str, port: u16, to: &str) -> Result<TcpStream, Undelivered> {
        let failed = |source| Undelivered::Connect { to: to.to_owned(), source };
        let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(stream)
    }

    async fn secure(
        &self,
        host: &str,
        stream: TcpStream,
        ca: Option<&str>,
        to: &str,
    ) -> Result<Box<dyn Wire>, Undelivered> {
        let prepared = self.tls.get_or_try_init(|| async move {
            match ca {
                Some(pem) => Outward::trusting(pem),
                None => match tokio::task::spawn_blocking(Outward::system).await {
                    Ok(system) => system,
                    // It stops with this process.
                    Err(_) => std::future::pending().await,
                },
            }
        });
        let failed = |source| Undelivered::Tls { to: to.to_owned(), source };
        prepared.await?.secure(host, stream).await.map_err(failed)
    }

    fn secret(&self, name: &SecretName) -> Result<SecretValue, Undelivered> {
        let secret = self.member.replica.state().secrets.get(name).cloned();
        let secret = secret.ok_or_else(|| Undelivered::NoSecret(name.clone()))?;
        let key = self.control.sealing.as_ref().and_then(|sealing| sealing.key.as_ref());
        let no_key =
            || Undelivered::NoKey { node: self.control.place.identity.name.clone(), name: name.clone() };
        Ok(key.ok_or_else(no_key)?.open(name, &secret.sealed)?)
    }

    fn text_of(&self, name: &SecretName, what: &'static str) -> Result<String, Undelivered> {
        let value = self.secret(name)?;
        let text = String::from_utf8(value.reveal().to_vec()).ok().filter(|text| !text.contains('\0'));
        let bad = || Undelivered::BadSecret { name: name.clone(), what, why: "it is no text" };
        text.ok_or_else(bad)
    }
}
