//! What systemd is told, where it has started the agent by a unit of `Type=notify`: that it serves, where it stands, that it reads
//! its configuration again, and that it stops. The protocol is that of sd_notify(3): a datagram of lines.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use sheaf_agent::NOTIFY_SOCKET;
use sheaf_control::Place;
use tokio_util::sync::CancellationToken;

/// How often it is looked at where the node stands.
const EVERY: Duration = Duration::from_secs(1);
/// How long a datagram may wait for room: systemd may be busy, and the agent has something else to do.
const WITHIN: Duration = Duration::from_secs(1);

/// Whoever wants to be told, if anybody does. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notifier(Option<Arc<Socket>>);

#[derive(Debug)]
struct Socket {
    own: UnixDatagram,
    to: SocketAddr,
}

impl Notifier {
    /// Whom the environment names. One that cannot be told is no reason not to start.
    pub(crate) fn of_environment() -> Self {
        let Some(name) = std::env::var_os(NOTIFY_SOCKET).filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        Self::at(&name).unwrap_or_else(|error| {
            tracing::warn!(%error, "{NOTIFY_SOCKET} cannot be used: systemd is told nothing");
            Self::default()
        })
    }

    /// A path, or an abstract name after an `@`.
    fn at(name: &OsStr) -> io::Result<Self> {
        let to = match name.as_bytes().strip_prefix(b"@") {
            Some(rest) => SocketAddr::from_abstract_name(rest)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let own = UnixDatagram::unbound()?;
        own.set_write_timeout(Some(WITHIN))?;
        Ok(Self(Some(Arc::new(Socket { own, to }))))
    }

    fn tell(&self, lines: &str) {
        let Some(Socket { own, to }) = self.0.as_deref() else { return };
        if let Err(error) = own.send_to_addr(lines.as_bytes(), to) {
            tracing::warn!(%error, lines, "systemd was not told");
        }
    }

    /// The configuration is read again; [`Notifier::reloaded`] must follow.
    pub(crate) fn reloads(&self) {
        self.tell("RELOADING=1");
    }

    /// It was read, or refused.
    pub(crate) fn reloaded(&self) {
        self.tell("READY=1");
    }

    /// Somebody asked the agent to stop. After this systemd waits for the end of the process and starts no other before. It
    /// counts as ready by then, whatever it has reached: one that ends in good order before that would have failed.
    pub(crate) fn stops(&self) {
        self.tell("READY=1\nSTOPPING=1\nSTATUS=stops");
    }

    /// Says that the agent serves, and from then on where its node stands, until `stop`. Nothing is waited for: a node whose
    /// cluster is not there yet has been started all the same.
    pub(crate) async fn follow(
        self,
        place: Arc<Place>,
        stop: CancellationToken,
    ) -> (&'static str, anyhow::Result<()>) {
        let (mut first, mut said) = ("READY=1\n", String::new());
        while self.0.is_some() && !stop.is_cancelled() {
            let now = standing(&place);
            if now != said {
                self.tell(&format!("{first}STATUS={now}"));
                (first, said) = ("", now);
            }
            tokio::select! {
                () = stop.cancelled() => {}
                // Dropping it loses nothing: whoever wakes looks anew.
                () = tokio::time::sleep(EVERY) => {}
            }
        }
        stop.cancelled().await;
        ("notify", Ok(()))
    }
}

/// Where the node stands, on one line, for `systemctl status`.
fn standing(place: &Place) -> String {
    let waiting = place.waiting_for.borrow().replace(['\n', '\r'], " ");
    let registration = place.registration.borrow().clone();
    let leader = place.leader_contact().map(|leader| leader.address);
    match (registration, leader) {
        (None, _) if waiting.is_empty() => "joins".to_owned(),
        (None, _) => format!("joins: {waiting}"),
        (Some(_), _) if !waiting.is_empty() => waiting,
        (Some(known), Some(leader)) => {
            format!("node {} of cluster {}, whose leader is at {leader}", known.node, known.cluster)
        }
        (Some(known), None) => {
            format!("node {} of cluster {}, which has no leader now", known.node, known.cluster)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut said = [0; 256];
        let length = socket.recv(&mut said).unwrap();
        String::from_utf8(said[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("sheaf-notify-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (name, socket) in [(path.into_os_string(), by_path), (format!("@{name}").into(), by_name)] {
            let notifier = Notifier::at(&name).unwrap();
            notifier.reloads();
            notifier.reloaded();
            notifier.stops();
            assert_eq!(heard(&socket), "RELOADING=1");
            assert_eq!(heard(&socket), "READY=1");
            assert!(heard(&socket).contains("\nSTOPPING=1\n"));
        }
    }

    #[test]
    fn nobody_who_listens_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        Notifier::at(dir.path().join("nobody").as_os_str()).unwrap().reloads();
        Notifier::default().reloads();
    }
}
