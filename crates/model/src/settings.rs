//! Settings of the whole cluster, replicated: no node's config may differ in them.

use serde::{Deserialize, Serialize};

use crate::{Defect, Span};

/// How long a node may run single-node work after it was last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSettings {
    /// How often an agent is heard.
    pub heartbeat: Span,
    /// How long an acknowledgement holds, counted from the heartbeat's sending.
    pub ttl: Span,
    /// What clocks may drift and killing may take.
    pub kill_margin: Span,
    /// How long a stand-in holds the leases of an agent that restarts.
    pub stand_in: Span,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            heartbeat: Span::millis(500),
            ttl: Span::seconds(3),
            kill_margin: Span::seconds(1),
            stand_in: Span::seconds(60),
        }
    }
}

impl LeaseSettings {
    /// W: how long a leader waits, on its own clock, before it may free what it no longer acknowledges.
    pub fn wait(&self) -> Span {
        Span(self.ttl.0.saturating_add(self.kill_margin.0))
    }

    /// What is wrong with these settings, under the path `lease`.
    ///
    /// The margin covers 1 % clock drift on both sides and a kill that takes `k` ≥ 250 ms:
    /// `kill_margin ≥ 0.0203·ttl + 1.0203·k`.
    pub fn defects(&self) -> Vec<Defect> {
        let mut defects = Vec::new();
        if self.heartbeat.0 == 0 || self.ttl.0 < 3 * self.heartbeat.0 {
            let least = Span(3 * self.heartbeat.0.max(1));
            defects.push(Defect::new(
                "lease.ttl",
                format!("ttl {} is shorter than three heartbeats of {}", self.ttl, self.heartbeat),
                format!("at least {least}"),
            ));
        }
        let least = (203 * self.ttl.0 + 10_203 * 250).div_ceil(10_000);
        if self.kill_margin.0 < least {
            defects.push(Defect::new(
                "lease.kill_margin",
                format!("kill margin {} does not cover clock drift and a kill of 250ms", self.kill_margin),
                format!("at least {} with ttl {}", Span(least), self.ttl),
            ));
        }
        if self.ttl.0 > Span::seconds(3600).0 || self.stand_in.0 > Span::seconds(3600).0 {
            defects.push(Defect::new("lease", "longer than an hour", "ttl and stand_in of at most 1h"));
        }
        defects
    }
}

/// How many nodes vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Voters {
    /// 3; from 10 nodes on 5.
    #[default]
    Auto,
    /// 1, 3, 5 or 7.
    Fixed(u8),
}

impl Voters {
    /// How many voters a cluster of `nodes` live nodes should have.
    pub fn target(self, nodes: usize) -> usize {
        match self {
            Self::Auto if nodes >= 10 => 5,
            Self::Auto => 3,
            Self::Fixed(n) => usize::from(n),
        }
    }
}

/// All replicated settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Leases.
    pub lease: LeaseSettings,
    /// How many nodes vote.
    pub voters: Voters,
    /// How long the steward waits for verdicts after the first one of a bucket.
    pub offer_window: Span,
    /// How often gate 3 is asked again of a node.
    pub gate_interval: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: LeaseSettings::default(),
            voters: Voters::Auto,
            offer_window: Span::seconds(1),
            gate_interval: Span::seconds(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_must_cover_drift_and_kill() {
        assert!(LeaseSettings::default().defects().is_empty());
        let quick = LeaseSettings {
            heartbeat: Span::millis(150),
            ttl: Span::seconds(1),
            kill_margin: Span::millis(300),
            ..LeaseSettings::default()
        };
        assert!(quick.defects().is_empty(), "1 s / 300 ms leaves 0.27 s for a kill");
        let thin = LeaseSettings { kill_margin: Span::millis(275), ..quick };
        assert_eq!(thin.defects().len(), 1);
        let short = LeaseSettings { ttl: Span::millis(449), ..quick };
        assert_eq!(short.defects()[0].path, "lease.ttl");
    }
}
