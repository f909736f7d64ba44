//! Why something was not delivered, and how soon to try again. No text of the other side's stands in it where a secret could
//! stand in that text.

use std::time::Duration;

use sheaf_model::{NodeName, SecretName};
use sheaf_seal::SealError;
use sheaf_wire::outward::OutwardError;

/// The first wait after a failure; doubled with each further one …
const SOON: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// … and where trying again hardly helps before somebody acts.
const SLOW: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// See the module's doc.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undelivered {
    /// A secret that nobody has set.
    #[error("secret {0} does not exist; set it with `sheaf secret set {0}`")]
    NoSecret(SecretName),
    /// The delivering node cannot open it.
    #[error("node {node} leads and cannot open secret {name}: {}", sheaf_seal::NO_KEY)]
    NoKey { node: NodeName, name: SecretName },
    /// Nor with its key.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// What is sealed cannot be what it is used as.
    #[error("secret {name} cannot be used as {what}: {why}")]
    BadSecret { name: SecretName, what: &'static str, why: &'static str },
    /// An address that is none.
    #[error("its address cannot be used: {0}")]
    BadAddress(&'static str),
    /// Nobody is trusted.
    #[error(transparent)]
    Trust(#[from] OutwardError),
    /// There is no connection.
    #[error("connect to {to}: {source}")]
    Connect { to: String, source: std::io::Error },
    /// There is no TLS.
    #[error("TLS with {to}: {source}")]
    Tls { to: String, source: std::io::Error },
    /// Nothing was heard in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It does not speak HTTP, or stopped.
    #[error("its answer broke off or is no HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// A message that cannot be made.
    #[error("make the request: {0}")]
    Request(#[from] http::Error),
    /// It answered, and not well.
    #[error("it answered with status {status}{}", about(.status))]
    Status { status: u16, retry_after: Option<Duration> },
    /// A mail server said no.
    #[error("the mail server answered {code} to {step}{said}")]
    Mail { step: &'static str, code: u16, said: String },
    /// A mail server took a mail for some, and puts off others, who are left.
    #[error("the mail has not been taken for {} yet, and was for the others: {said}", .left.join(", "))]
    PutOff { left: Vec<String>, said: String },
    /// A mail server does not offer what is needed.
    #[error("the mail server {0}")]
    MailServer(&'static str),
    /// The conversation with it broke.
    #[error("the conversation with the mail server broke at {step}: {source}")]
    MailBroke { step: &'static str, source: std::io::Error },
    /// The node's own configuration does not name the program.
    #[error(
        "node {node} leads, and its configuration does not let sinks run {command}: name it in [sinks] exec_allow of the agent's \
         configuration on every node that may lead, and restart these agents"
    )]
    NotAllowed { node: NodeName, command: String },
    /// It could not be begun, or talked to.
    #[error("run {command} on node {node}: {source}")]
    Program { node: NodeName, command: String, source: std::io::Error },
    /// It ended badly.
    #[error("{command} on node {node} ended with {how}{said}")]
    Ended { node: NodeName, command: String, how: String, said: String },
    /// It ran too long.
    #[error("{command} on node {node} was killed after {within:?}, its timeout")]
    Killed { node: NodeName, command: String, within: Duration },
}

fn about(status: &u16) -> &'static str {
    match *status {
        300..=399 => "; redirects are not followed: give the sink the new url",
        401 | 403 => "; does it know the sink's secret?",
        404 | 410 => "; is the url right?",
        413 => "; a smaller batch may help",
        _ => "",
    }
}

impl Undelivered {
    /// Whether a mail server will not say otherwise when it is asked again.
    pub(super) fn is_for_good(&self) -> bool {
        matches!(self, Self::Mail { code: 500..=599, .. })
    }

    /// How long to wait after so many failures in a row; `chance` is any number, so that sinks do not come back together.
    pub(super) fn wait(&self, failures: u32, chance: u64) -> Duration {
        let (first, most) = match self {
            Self::Status { retry_after: Some(after), .. } => ((*after).max(SOON.0), (*after).max(SOON.0)),
            Self::Status { status: 408 | 429, .. } => SOON,
            Self::Status { status: 300..=499, .. } | Self::NotAllowed { .. } | Self::BadAddress(_) => SLOW,
            Self::Mail { code: 500..=599, .. } | Self::MailServer(_) => SLOW,
            _ => SOON,
        };
        let doubled = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let wait = doubled.min(most);
        let tenth = u64::try_from(wait.as_millis() / 10).unwrap_or(u64::MAX);
        wait + Duration::from_millis(chance % (tenth + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, after: Option<u64>) -> Undelivered {
        Undelivered::Status { status, retry_after: after.map(Duration::from_secs) }
    }

    #[test]
    fn waits_double_up_to_a_limit_and_are_longer_where_somebody_must_act() {
        let waits = |error: &Undelivered| [1, 2, 5, 60].map(|n| error.wait(n, 0).as_secs());
        assert_eq!(waits(&status(503, None)), [1, 2, 16, 30]);
        assert_eq!(waits(&status(429, None)), [1, 2, 16, 30]);
        assert_eq!(waits(&status(404, None)), [10, 20, 160, 300]);
        assert_eq!(waits(&status(429, Some(7))), [7, 7, 7, 7]);
        assert_eq!(waits(&Undelivered::TimedOut(Duration::from_secs(1))), [1, 2, 16, 30]);
        let some = status(503, None).wait(9, u64::MAX);
        assert!(some >= Duration::from_secs(30) && some <= Duration::from_secs(33), "{some:?}");
    }

    #[test]
    fn what_went_wrong_names_the_remedy() {
        let node = NodeName::new("n1").unwrap();
        let text = Undelivered::NotAllowed { node, command: "/bin/notify".to_owned() }.to_string();
        assert!(text.contains("node n1") && text.contains("[sinks] exec_allow"), "{text}");
        assert!(status(302, None).to_string().contains("redirects are not followed"));
        let name = SecretName::new("hook").unwrap();
        assert!(Undelivered::NoSecret(name).to_string().contains("sheaf secret set hook"));
    }
}
