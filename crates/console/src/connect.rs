//! The connection to a cluster, and its failures in our words.

use std::sync::Arc;
use std::time::Duration;

use sheaf_model::{Digest, RequestId, TraceContext};
use sheaf_wire::{ApiError, Applies, Bearer, Client, Credentials, Pin, Transport};

use crate::exit::Failure;
use crate::options::Options;
use crate::output::Terminal;
use crate::profile::{self, Environment, Profile};

/// Before a stream that broke off is opened again.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest text of an actor; longer ones would be refused.
const ACTOR_MAX: usize = 128;

/// A connection to the node that is meant.
pub(crate) async fn connect(options: &Options, out: &mut Terminal) -> Result<Client, Failure> {
    let environment = Environment::of_process();
    let profile = profile::meant(options, &environment, out)?;
    let (client, successor) = to(profile.clone(), options.trace).await?;
    if let Some(successor) = successor {
        profile::follow(options, &environment, &profile, successor, out);
    }
    Ok(client)
}

/// A connection to a node of that cluster; and the authority in DER that has taken the place of the one that the profile
/// believes, if one has: it is to believe that one from now on. Calls are a part of `trace`.
pub(crate) async fn to(
    profile: Profile,
    trace: Option<TraceContext>,
) -> Result<(Client, Option<Vec<u8>>), Failure> {
    let (address, how) = how(profile)?;
    let transport = how.transport.clone();
    let client = Client::connect(&address, sheaf_wire::Options { trace, ..how }).await?;
    Ok((client, transport.successor()))
}

/// Where a node of that cluster is, and how it is called.
pub(crate) fn how(profile: Profile) -> Result<(String, sheaf_wire::Options), Failure> {
    let Profile { address, token, certificate, .. } = profile;
    if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
        return Err(Failure::usage(format!("{address:?} is no address"), "HOST:PORT, like 127.0.0.1:7420"));
    }
    let pin = match (&token, &certificate) {
        (Some(token), _) => token.pin(),
        (None, Some(certificate)) => Some(sheaf_seal::sha256(certificate.authority())),
        (None, None) => None,
    };
    let signer = || certificate.map(|certificate| Bearer::Signer(certificate.signer()));
    let token = token.map(Bearer::Token).or_else(signer);
    let transport = over(pin)?;
    let options =
        sheaf_wire::Options { actor: Some(actor()), token, transport, ..sheaf_wire::Options::default() };
    Ok((address, options))
}

/// TLS with the authority that is pinned; without one, plain.
fn over(pin: Option<Digest>) -> Result<Transport, Failure> {
    let Some(pin) = pin else { return Ok(Transport::plain()) };
    let pin: Pin = Arc::new(move |der: &[u8]| sheaf_seal::sha256(der) == pin);
    tls(&Credentials { pin: Some(pin), ..Credentials::default() })
}

/// TLS with these.
pub(crate) fn tls(credentials: &Credentials) -> Result<Transport, Failure> {
    Transport::tls(credentials).map_err(|error| Failure::Refused(error.to_string()))
}

/// A new id for one change, so that it is made once however often it is sent.
pub(crate) fn request() -> Option<RequestId> {
    Some(RequestId(uuid::Uuid::new_v4().to_string()))
}

/// Goes on with a stream that broke off: a node stopped, the leader changed, the reader was too slow.
#[derive(Debug, Default)]
pub(crate) struct Reconnect {
    /// Something was received, so that there is something to go on with.
    begun: bool,
    /// The person knows that the connection is gone.
    told: bool,
}

impl Reconnect {
    /// Something was received, or a stream stands that may be silent for long.
    pub(crate) const fn received(&mut self) {
        (self.begun, self.told) = (true, false);
    }

    /// Whether there is something to go on with.
    pub(crate) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Waits before the next try; fails with what cannot get better by trying.
    pub(crate) async fn again(&mut self, out: &mut Terminal, error: Option<ApiError>) -> Result<(), Failure> {
        match error {
            Some(error) if !self.begun || !error.can_retry() => return Err(error.into()),
            Some(error) if !self.told => {
                out.say(&format!("{}; trying again", Failure::from(error)));
                self.told = true;
            }
            _ => {}
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

/// Who asks, for history: `cli:USER@HOST`.
fn actor() -> String {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = set("USER").or_else(|| set("LOGNAME")).unwrap_or_else(|| "unknown".to_owned());
    let host =
        hostname::get().map_or_else(|_| "unknown".to_owned(), |host| host.to_string_lossy().into_owned());
    printable(&format!("cli:{user}@{host}"))
}

/// What a header can carry.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).take(ACTOR_MAX).collect()
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::NotFound(text) => Self::NotFound(text),
            ApiError::Conflict(text) => Self::Conflict(text),
            ApiError::Invalid(defects) => Self::Defects(defects),
            ApiError::Unreachable { address, why } => Self::Unreachable { address, reason: cause(&why) },
            ApiError::Unavailable { reason, applied: Applies::Perhaps } => Self::Refused(format!(
                "{reason}; a change may have been made all the same: look before asking again"
            )),
            ApiError::DeadlineExceeded(text) => Self::Refused(format!(
                "{text}; a change may have been made all the same: look before asking again"
            )),
            ApiError::Unimplemented(text) => Self::Refused(format!(
                "{text}; the node runs another version of sheaf, `sheaf node list -o wide` tells"
            )),
            ApiError::Internal(text) => {
                Self::Refused(format!("{text}; this is a bug of sheaf, please report it"))
            }
            ApiError::Precondition(text)
            | ApiError::Busy(text)
            | ApiError::Exhausted(text)
            | ApiError::Unauthenticated(text)
            | ApiError::Forbidden(text) => Self::Refused(text),
            ApiError::Unavailable { reason, applied: Applies::No } => Self::Refused(reason),
        }
    }
}

/// The innermost of a transport's errors, without the system's number: what a person can act on.
fn cause(why: &str) -> String {
    let inner = why.rsplit(": ").next().unwrap_or(why);
    let text = inner.split(" (os error").next().unwrap_or(inner);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use sheaf_model::Defect;

    use super::*;
    use crate::output::recorded;

    #[test]
    fn every_error_of_the_api_has_its_exit_code() {
        let text = || "why".to_owned();
        let cases = [
            (ApiError::NotFound(text()), 3),
            (ApiError::Conflict(text()), 6),
            (ApiError::Invalid(vec![Defect::new("a", "b", "c")]), 1),
            (ApiError::Precondition(text()), 1),
            (ApiError::unavailable("no leader"), 1),
            (ApiError::DeadlineExceeded(text()), 1),
            (ApiError::Busy(text()), 1),
            (ApiError::Exhausted(text()), 1),
            (ApiError::Unauthenticated(text()), 1),
            (ApiError::Forbidden(text()), 1),
            (ApiError::Unimplemented(text()), 1),
            (ApiError::Internal(text()), 1),
            (ApiError::Unreachable { address: text(), why: text() }, 1),
        ];
        for (error, code) in cases {
            let said = error.to_string();
            assert_eq!(Failure::from(error).exit().code(), code, "{said}");
        }
    }

    #[test]
    fn nobody_there_is_said_plainly() {
        let why = "transport error: tcp connect error: Connection refused (os error 111)".to_owned();
        let failure = Failure::from(ApiError::Unreachable { address: "127.0.0.1:7420".to_owned(), why });
        let text = failure.message();
        assert!(
            text.starts_with("error: cannot reach 127.0.0.1:7420: connection refused; is an agent"),
            "{text}"
        );
    }

    #[test]
    fn an_actor_can_be_sent() {
        assert_eq!(printable("cli:jürgen@ops 1"), "cli:j?rgen@ops?1");
        assert_eq!(printable(&"x".repeat(500)).len(), ACTOR_MAX);
        assert!(actor().starts_with("cli:"));
    }

    #[tokio::test]
    async fn an_address_is_a_host_and_a_port() {
        for bad in ["7420", "localhost", ":7420", "host:port", "host:"] {
            let options = Options { address: Some(bad.to_owned()), ..Options::default() };
            assert_eq!(
                connect(&options, &mut recorded::terminal("").0).await.expect_err(bad).exit().code(),
                2
            );
        }
    }
}
