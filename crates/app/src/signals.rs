//! What an agent is told by signals. Until somebody listens to a kind of them, one of that kind ends the process: they are
//! listened to before anything that takes time, and what comes early is kept until it can be done.

use anyhow::Context;
use sheaf_agent::Leaving;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// All that an agent heeds.
pub(crate) struct Signals {
    /// SIGHUP: its configuration is to be read again.
    pub(crate) hangup: Signal,
    pub(crate) stops: Stops,
}

/// Those that ask it to stop.
pub(crate) struct Stops {
    terminate: Signal,
    interrupt: Signal,
    release: Signal,
}

/// What SIGTERM and SIGINT mean to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It is soon started again: a stand-in holds its leases, so that its node's work stays where it is.
    Restart,
    /// It is away for longer: its node's work goes elsewhere first.
    Release(Leaving),
    /// Everything ends with it.
    End,
}

impl Signals {
    /// Must be called within a runtime.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let heed = |kind, name: &'static str| signal(kind).with_context(|| format!("wait for {name}"));
        let stops = Stops {
            terminate: heed(SignalKind::terminate(), "SIGTERM")?,
            interrupt: heed(SignalKind::interrupt(), "SIGINT")?,
            release: heed(SignalKind::user_defined1(), "SIGUSR1")?,
        };
        Ok(Self { hangup: heed(SignalKind::hangup(), "SIGHUP")?, stops })
    }
}

impl Stops {
    /// The next of them, as what it means to an agent that departs like this. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, departure: Departure) -> Departure {
        tokio::select! {
            _ = self.terminate.recv() => departure,
            _ = self.interrupt.recv() => departure,
            _ = self.release.recv() => departure.released(),
        }
    }

    /// The next SIGTERM. Dropping the future loses nothing.
    pub(crate) async fn terminated(&mut self) {
        self.terminate.recv().await;
    }
}

impl Departure {
    /// What is meant by asking for a release.
    const fn released(self) -> Self {
        match self {
            Self::Restart | Self::End => Self::Release(Leaving::SingleNode),
            Self::Release(leaving) => Self::Release(leaving),
        }
    }
}
