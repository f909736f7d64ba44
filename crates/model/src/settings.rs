//! Settings of the whole cluster, replicated: no node's config may differ in them.

use serde::{Deserialize, Serialize};

use crate::job::SUBTASKS_MAX;
use crate::measure::quoted;
use crate::{Defect, Span};

/// The longest lease, and what belongs to it.
const HOUR: Span = Span::seconds(3600);
/// No job may be allowed more subtasks, whatever the settings say: each has a number of 32 bits, and some memory on members.
const SUBTASKS_MOST: u32 = 100_000_000;
/// So many events may be kept, from the least to the most.
const EVENTS: (u64, u64) = (1_000, 1_000_000_000_000);

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

    /// That an election would cost single-node work: what is left of a lease after a heartbeat is shorter than two elections
    /// of the `longest` kind and half a second.
    pub fn election_warning(&self, longest: Span) -> Option<String> {
        let elections = Span(longest.0.saturating_mul(2).saturating_add(500));
        let slack = Span(self.ttl.0.saturating_sub(self.heartbeat.0));
        (slack < elections).then(|| {
            format!(
                "lease.ttl {} leaves {slack} after a heartbeat, less than two of the longest elections and 0.5s \
                 ({elections}): an election would cost single-node work",
                self.ttl
            )
        })
    }

    /// Everything that is wrong with them, under the path `lease`.
    pub fn defects(&self) -> Vec<Defect> {
        let ranges = [
            range("lease.heartbeat", self.heartbeat, Span::millis(50), Span::seconds(60)),
            range("lease.ttl", self.ttl, Span::millis(300), HOUR),
            range("lease.kill_margin", self.kill_margin, Span(0), HOUR),
            range("lease.stand_in", self.stand_in, Span(0), HOUR),
        ];
        self.contradictions()
            .into_iter()
            .filter(|it| it.path != "lease")
            .chain(ranges.into_iter().flatten())
            .collect()
    }

    /// What of them cannot be together, under the path `lease`.
    ///
    /// The margin covers 1 % clock drift on both sides and a kill that takes `k` ≥ 250 ms:
    /// `kill_margin ≥ 0.0203·ttl + 1.0203·k`.
    pub fn contradictions(&self) -> Vec<Defect> {
        let mut defects = Vec::new();
        if self.heartbeat.0 == 0 || self.ttl.0 < self.heartbeat.0.saturating_mul(3) {
            let least = Span(self.heartbeat.0.max(1).saturating_mul(3));
            defects.push(Defect::new(
                "lease.ttl",
                format!("ttl {} is shorter than three heartbeats of {}", self.ttl, self.heartbeat),
                format!("at least {least}"),
            ));
        }
        let least = self.ttl.0.saturating_mul(203).saturating_add(10_203 * 250).div_ceil(10_000);
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

impl std::fmt::Display for Voters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(n) => write!(f, "{n}"),
        }
    }
}

impl Voters {
    /// What is wrong with this number, under the path `voters`.
    pub fn defect(self) -> Option<Defect> {
        match self {
            Self::Auto | Self::Fixed(1 | 3 | 5 | 7) => None,
            Self::Fixed(n) => {
                Some(Defect::new("voters", format!("{n} voters cannot be"), "auto, 1, 3, 5 or 7"))
            }
        }
    }

    /// How many voters a cluster of `nodes` nodes should have, were they all fit to vote: an odd number.
    pub fn target(self, nodes: usize) -> usize {
        odd(match self {
            Self::Auto if nodes >= 10 => 5,
            Self::Auto => 3,
            Self::Fixed(n) => usize::from(n),
        })
    }

    /// How many of `nodes` nodes can vote when there are no others: the target, or the odd number that they suffice for.
    pub fn among(self, nodes: usize) -> usize {
        self.among_able(nodes, nodes)
    }

    /// The same when only `able` of them can.
    pub fn among_able(self, nodes: usize, able: usize) -> usize {
        odd(self.target(nodes).min(able))
    }
}

/// An even number of voters tolerates no more than one less would.
fn odd(voters: usize) -> usize {
    if voters.is_multiple_of(2) { voters.saturating_sub(1) } else { voters }
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

/// How lost voters are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// How long a voter is waited for that is lost.
    pub after: Span,
    /// The label over whose values voters are spread, e.g. `zone` for `zone=a` and `zone=b`; none: over nothing.
    pub spread: Option<String>,
}

impl Default for Repair {
    fn default() -> Self {
        Self { after: Span::seconds(300), spread: None }
    }
}

/// What jobs may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSettings {
    /// Most subtasks of a job that is submitted from now on; 1 to 100,000,000.
    pub max_subtasks: u32,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { max_subtasks: SUBTASKS_MAX }
    }
}

/// How much of what happened is remembered; what exceeds either bound goes, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistorySettings {
    /// How old an event may become.
    pub age: Span,
    /// How many events are kept, and as many changes of subtasks beside. A subtask takes two: its grant, and its end.
    pub events: u64,
}

impl Default for HistorySettings {
    fn default() -> Self {
        Self { age: Span::seconds(30 * 86_400), events: 10_000_000 }
    }
}

impl HistorySettings {
    fn defects(self) -> Vec<Defect> {
        let (least, most) = EVENTS;
        let mut defects: Vec<Defect> =
            range("history.age", self.age, Span::seconds(3_600), Span::seconds(10 * 31_557_600))
                .into_iter()
                .collect();
        if !(least..=most).contains(&self.events) {
            let problem = format!("{} events cannot be the most that are kept", self.events);
            defects.push(Defect::new("history.events", problem, format!("{least} to {most}")));
        }
        defects
    }
}

/// What can be changed while the cluster runs, under one set of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changeable {
    /// What every node must know.
    pub settings: Settings,
    /// What the leader must know.
    pub repair: Repair,
    /// What every node that is asked to submit must know.
    pub jobs: JobSettings,
    /// What every member must know.
    pub history: HistorySettings,
}

/// The same as it stood in the log before there was anything of jobs in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is as in Changeable")]
pub struct ChangeableV1 {
    pub settings: Settings,
    pub repair: Repair,
}

impl Changeable {
    /// Every setting's name and value, as people write them.
    pub fn named(&self) -> Vec<(&'static str, String)> {
        let mut named: Vec<_> = self.settings.named().into();
        named.push(("repair.after", self.repair.after.to_string()));
        named.push(("repair.spread", self.repair.spread.clone().unwrap_or_default()));
        named.push(("jobs.max_subtasks", self.jobs.max_subtasks.to_string()));
        named.push(("history.age", self.history.age.to_string()));
        named.push(("history.events", self.history.events.to_string()));
        named
    }

    /// Changes one.
    pub fn put(&mut self, setting: &Setting) {
        let Self { settings, repair, jobs, history } = self;
        match setting {
            Setting::Heartbeat(span) => settings.lease.heartbeat = *span,
            Setting::Ttl(span) => settings.lease.ttl = *span,
            Setting::KillMargin(span) => settings.lease.kill_margin = *span,
            Setting::StandIn(span) => settings.lease.stand_in = *span,
            Setting::Voters(voters) => settings.voters = *voters,
            Setting::OfferWindow(span) => settings.offer_window = *span,
            Setting::GateInterval(span) => settings.gate_interval = *span,
            Setting::RepairAfter(span) => repair.after = *span,
            Setting::RepairSpread(label) => repair.spread.clone_from(label),
            Setting::MaxSubtasks(most) => jobs.max_subtasks = *most,
            Setting::HistoryAge(age) => history.age = *age,
            Setting::HistoryEvents(events) => history.events = *events,
        }
    }

    /// Changes one by its name.
    ///
    /// # Errors
    /// What is wrong with the name or the value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Defect> {
        self.put(&Setting::parse(key, value)?);
        Ok(())
    }

    /// Everything that is wrong with them, each under its path.
    pub fn defects(&self) -> Vec<Defect> {
        let mut defects = self.settings.defects();
        defects.extend(range("repair.after", self.repair.after, Span(0), Span::seconds(30 * 86_400)));
        defects.extend(self.repair.contradictions());
        let most = self.jobs.max_subtasks;
        if !(1..=SUBTASKS_MOST).contains(&most) {
            defects.push(Defect::new(
                "jobs.max_subtasks",
                format!("{most} subtasks cannot be the most of a job"),
                format!("1 to {SUBTASKS_MOST}; the default is {SUBTASKS_MAX}"),
            ));
        }
        defects.extend(self.history.defects());
        defects
    }

    /// What of them cannot be, each under its path, as a log has been looked at ever since: less than [`Self::defects`].
    pub fn contradictions(&self) -> Vec<Defect> {
        let mut defects = self.settings.contradictions();
        defects.extend(self.repair.contradictions());
        defects
    }
}

impl Repair {
    fn contradictions(&self) -> Vec<Defect> {
        let mut defects = Vec::new();
        let after = self.after;
        if after.0 < Span::seconds(1).0 {
            defects.push(Defect::new(
                "repair.after",
                format!("{after} is less than any node needs to come back"),
                "at least 1s; the default is 5m",
            ));
        }
        if self.spread.as_ref().is_some_and(|label| label.contains(['=', ',', ' '])) {
            defects.push(Defect::new(
                "repair.spread",
                "no label has such a key",
                "the part before =, e.g. zone",
            ));
        }
        defects
    }
}

/// One of them, with the value that it is to have. New ones are added at the end, and to [`Setting::is_new`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// `lease.heartbeat`
    Heartbeat(Span),
    /// `lease.ttl`
    Ttl(Span),
    /// `lease.kill_margin`
    KillMargin(Span),
    /// `lease.stand_in`
    StandIn(Span),
    /// `voters`
    Voters(Voters),
    /// `offer_window`
    OfferWindow(Span),
    /// `gate_interval`
    GateInterval(Span),
    /// `repair.after`
    RepairAfter(Span),
    /// `repair.spread`
    RepairSpread(Option<String>),
    /// `jobs.max_subtasks`
    MaxSubtasks(u32),
    /// `history.age`
    HistoryAge(Span),
    /// `history.events`
    HistoryEvents(u64),
}

impl Setting {
    /// Whether it came after the release before this one, whose members cannot read it in their log, and end.
    pub const fn is_new(&self) -> bool {
        matches!(self, Self::HistoryAge(_) | Self::HistoryEvents(_))
    }

    /// One by its name, and its value as people write it.
    ///
    /// # Errors
    /// What is wrong with the name or the value.
    pub fn parse(key: &str, value: &str) -> Result<Self, Defect> {
        let span = || span(key, value);
        Ok(match key {
            "lease.heartbeat" => Self::Heartbeat(span()?),
            "lease.ttl" => Self::Ttl(span()?),
            "lease.kill_margin" => Self::KillMargin(span()?),
            "lease.stand_in" => Self::StandIn(span()?),
            "offer_window" => Self::OfferWindow(span()?),
            "gate_interval" => Self::GateInterval(span()?),
            "voters" => {
                let number = value.parse().map(Voters::Fixed).ok();
                let voters = if value == "auto" { Some(Voters::Auto) } else { number };
                Self::Voters(voters.ok_or_else(|| {
                    Defect::new(
                        key,
                        format!("{} is no number of voters", quoted(value)),
                        "auto, 1, 3, 5 or 7",
                    )
                })?)
            }
            "repair.after" => Self::RepairAfter(span()?),
            "repair.spread" => Self::RepairSpread((!value.is_empty()).then(|| value.to_owned())),
            "jobs.max_subtasks" => Self::MaxSubtasks(value.parse().map_err(|_| {
                let remedy = format!("a whole number from 1 to {SUBTASKS_MOST}");
                Defect::new(key, format!("{} is no number of subtasks", quoted(value)), remedy)
            })?),
            "history.age" => Self::HistoryAge(span()?),
            "history.events" => Self::HistoryEvents(value.parse().map_err(|_| {
                let remedy = format!("a whole number from {} to {}", EVENTS.0, EVENTS.1);
                Defect::new(key, format!("{} is no number of events", quoted(value)), remedy)
            })?),
            _ => {
                let names: Vec<&str> =
                    Changeable::default().named().into_iter().map(|(name, _)| name).collect();
                let near = crate::nearest(key, &names).map(|name| format!("did you mean {name}?"));
                let remedy = near.unwrap_or_else(|| format!("one of {}", names.join(", ")));
                return Err(Defect::new(key, "there is no such setting", remedy));
            }
        })
    }
}

/// That `value` is shorter than `least` or longer than `most`.
fn range(path: &str, value: Span, least: Span, most: Span) -> Option<Defect> {
    let problem = if value < least {
        "is too short"
    } else if value > most {
        "is too long"
    } else {
        return None;
    };
    Some(Defect::new(path, format!("{value} {problem}"), format!("{least} to {most}")))
}

fn span(key: &str, value: &str) -> Result<Span, Defect> {
    value.parse::<Span>().map_err(|_| {
        Defect::new(
            key,
            format!("{} is no duration", quoted(value)),
            "a number with a unit, like 500ms, 3s or 1m",
        )
    })
}

impl Settings {
    /// Every setting's name and value, as people write them.
    fn named(&self) -> [(&'static str, String); 7] {
        [
            ("lease.heartbeat", self.lease.heartbeat.to_string()),
            ("lease.ttl", self.lease.ttl.to_string()),
            ("lease.kill_margin", self.lease.kill_margin.to_string()),
            ("lease.stand_in", self.lease.stand_in.to_string()),
            ("voters", self.voters.to_string()),
            ("offer_window", self.offer_window.to_string()),
            ("gate_interval", self.gate_interval.to_string()),
        ]
    }

    /// Everything that is wrong with them, each under its path.
    pub fn defects(&self) -> Vec<Defect> {
        let mut defects = self.lease.defects();
        defects.extend(self.voters.defect());
        defects.extend(range("offer_window", self.offer_window, Span(0), Span::seconds(60)));
        defects.extend(range("gate_interval", self.gate_interval, Span::seconds(1), Span::seconds(86_400)));
        defects
    }

    /// What of them cannot be, each under its path, as a log has been looked at ever since: less than [`Self::defects`].
    pub fn contradictions(&self) -> Vec<Defect> {
        let mut defects = self.lease.contradictions();
        defects.extend(self.voters.defect());
        defects
    }
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

    #[test]
    fn every_setting_has_its_range_and_no_value_breaks_the_arithmetic() {
        let paths = |changes: &[(&str, &str)]| -> Vec<String> {
            let mut wanted = Changeable::default();
            for (key, value) in changes {
                wanted.set(key, value).expect("a duration");
            }
            let mut paths: Vec<String> = wanted.defects().into_iter().map(|defect| defect.path).collect();
            paths.dedup();
            paths
        };
        let tiny = [("lease.heartbeat", "1ms"), ("lease.ttl", "3ms"), ("lease.kill_margin", "256ms")];
        assert_eq!(paths(&tiny), ["lease.heartbeat", "lease.ttl"]);
        for (key, value) in [
            ("gate_interval", "0s"),
            ("gate_interval", "25h"),
            ("offer_window", "61s"),
            ("lease.stand_in", "2h"),
            ("lease.kill_margin", "2h"),
            ("repair.after", "999ms"),
            ("repair.after", "800h"),
        ] {
            assert_eq!(paths(&[(key, value)]), [key], "{value}");
        }
        for (key, value) in [
            ("gate_interval", "1s"),
            ("offer_window", "0s"),
            ("lease.stand_in", "0s"),
            ("repair.after", "1s"),
        ] {
            assert!(paths(&[(key, value)]).is_empty(), "{key} {value}");
        }
        let endless = Span(u64::MAX);
        let lease =
            LeaseSettings { heartbeat: endless, ttl: endless, kill_margin: endless, stand_in: endless };
        assert_eq!(lease.defects().len(), 4, "{:?}", lease.defects());
        assert_eq!(lease.wait(), endless);
    }

    #[test]
    fn voters_are_an_odd_number_of_the_nodes_that_there_are() {
        let among = |voters: Voters| [0, 1, 2, 3, 4, 9, 10, 40].map(|nodes| voters.among(nodes));
        assert_eq!(among(Voters::Auto), [0, 1, 1, 3, 3, 3, 5, 5]);
        assert_eq!(among(Voters::Fixed(7)), [0, 1, 1, 3, 3, 7, 7, 7]);
        // Never set, but a log may hold it.
        assert_eq!(among(Voters::Fixed(4)), [0, 1, 1, 3, 3, 3, 3, 3]);
        assert_eq!([1, 9, 10].map(|nodes| Voters::Auto.target(nodes)), [3, 3, 5]);
    }

    #[test]
    fn how_many_subtasks_a_job_may_have_is_a_number_within_bounds() {
        let mut all = Changeable::default();
        assert_eq!(all.jobs.max_subtasks, SUBTASKS_MAX);
        all.set("jobs.max_subtasks", "5").unwrap();
        assert!(all.named().contains(&("jobs.max_subtasks", "5".to_owned())) && all.defects().is_empty());
        let defect = all.set("jobs.max_subtasks", "many").unwrap_err();
        assert!(defect.problem.contains("no number of subtasks"), "{defect}");
        for wrong in [0, SUBTASKS_MOST + 1] {
            all.jobs.max_subtasks = wrong;
            assert_eq!(all.defects()[0].path, "jobs.max_subtasks");
        }
        assert!(all.set("jobs.max_subtask", "1").unwrap_err().remedy.contains("jobs.max_subtasks?"));
    }

    #[test]
    fn how_much_history_is_kept_has_its_bounds() {
        let mut all = Changeable::default();
        let kept = all.named().into_iter().filter(|(name, _)| name.starts_with("history."));
        let kept: Vec<(&str, String)> = kept.collect();
        assert_eq!(kept, [("history.age", "30days".to_owned()), ("history.events", "10000000".to_owned())]);
        for (key, good, wrong) in
            [("history.age", "90d", ["59m", "11y"]), ("history.events", "50000000", ["999", "1000000000001"])]
        {
            for value in wrong {
                all.set(key, value).unwrap();
                assert_eq!(all.defects()[0].path, key, "{value}");
            }
            all.set(key, good).unwrap();
            assert!(all.defects().is_empty(), "{key} {good}");
        }
        assert!(all.set("history.events", "all").unwrap_err().problem.contains("no number of events"));
    }
}
