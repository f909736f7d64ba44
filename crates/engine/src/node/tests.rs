//! Scenarios: a node beside a real replicated state, what it does written down line by line.

use std::fmt::Write as _;

use sheaf_model::{Check, CheckKind, NodeListRules, Part as TemplatePart, Template};

use super::*;
use crate::reconcile::{Ended, Life};
use crate::testing::World;
use crate::watched::{self, Watcher};
use crate::{Command, OnBucket};

mod artifact;
mod availability;
mod behind;
mod elsewhere;
mod leaving;
mod running;

/// Node 1 of a cluster. Everything it is told to do is done at once and successfully, unless a test says otherwise.
struct Scene {
    world: World,
    node: NodeState,
    now: Moment,
    told: usize,
    lines: Vec<String>,
    /// What the machine says to every check.
    machine: CheckAnswer,
    /// What was asked and not answered, when answers are held back.
    held: Option<Vec<Question>>,
    /// What was to be told at an end.
    farewells: Vec<Call>,
    /// Its agent is of an earlier version: it does not say what it has.
    is_old: bool,
    serial: u32,
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// With checks of the module `sleep@1`.
    fn with(change: impl FnOnce(&mut ModuleSpec)) -> Self {
        let mut world = World::with_nodes(3);
        world.apply_module("sleep", "2", change);
        let here = Here { name: "n1".into(), hostname: "n1.example.com".into(), ..Here::default() };
        let identity = Identity { node: NodeId(1), boot: "b1".into() };
        let mut scene = Self {
            world,
            node: NodeState::new(identity, here),
            now: Moment(100_000),
            told: 0,
            lines: Vec::new(),
            machine: CheckAnswer::Holds,
            held: None,
            farewells: Vec::new(),
            is_old: false,
            serial: 100,
        };
        scene.input(Input::Found(Vec::new()));
        scene.watch_anew();
        scene.input(Input::SessionOpened { start_in: Span(0) });
        scene.lines.clear();
        scene
    }

    /// Who asks for the watch.
    fn watcher(&self) -> Watcher {
        Watcher { node: NodeId(1), places: (!self.is_old).then(|| self.node.occupied()) }
    }

    /// The watch starts again with everything.
    fn watch_anew(&mut self) {
        let items = watched::everything(&self.world.state, &self.watcher()).collect();
        self.told = self.world.changes.len();
        self.input(Input::Watch(items));
    }

    /// The watch tells what has changed.
    fn sync(&mut self) {
        let (news, watcher) = (self.world.changes[self.told..].iter(), self.watcher());
        let mut items: Vec<_> = news.filter_map(|change| watched::item(change, &watcher)).collect();
        items.push(WatchItem::Synced(self.world.state.revision));
        self.told = self.world.changes.len();
        self.input(Input::Watch(items));
    }

    /// A new life of the agent begins, which finds this.
    fn restart(&mut self, found: Vec<Found>) {
        self.node = NodeState::new(
            Identity { node: NodeId(1), boot: "b1".into() },
            Here { name: "n1".into(), hostname: "n1.example.com".into(), ..Here::default() },
        );
        self.input(Input::Found(found));
    }

    fn input(&mut self, input: Input) {
        let actions = step(&mut self.node, input, self.now);
        for action in actions {
            self.perform(action);
        }
    }

    fn pass(&mut self, span: u64) {
        let end = self.now.after(Span(span));
        while let Some(wake) = self.node.next_wake().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.input(Input::Tick);
        }
        self.now = end;
        self.input(Input::Tick);
    }

    fn acknowledge(&mut self, epochs: &[(&str, Epoch)]) {
        let ack = self.acknowledged(epochs);
        self.input(Input::Acknowledged(ack));
    }

    fn acknowledged(&self, epochs: &[(&str, Epoch)]) -> Acknowledged {
        let epochs = epochs.iter().map(|(name, epoch)| (self.world.name(name), *epoch)).collect();
        let own = self.world.state.nodes[&NodeId(1)].revision;
        let (boot, ttl, traces) = ("b1".into(), Span::seconds(3), Vec::new());
        let heartbeat = Span::millis(500);
        Acknowledged { boot, sent_at: self.now, ttl, epochs, heartbeat, own, traces }
    }

    fn seen(&mut self, mode: Mode, origin: Origin, life: Life, phase: Phase) -> Box<Seen> {
        self.serial += 1;
        Box::new(Seen {
            observed: Observed { mode, origin, life },
            phase,
            pid: Some(self.serial),
            started_at: None,
            restarts: 0,
            exit: None,
            message: String::new(),
            deadline: mode.epoch().and(Some(self.now)),
            purged: None,
        })
    }

    fn keeper_says(&mut self, bucket: &str, life: Life, phase: Phase) {
        let name = self.world.name(bucket);
        let mut seen = self.node.places[&name].seen.clone().expect("it has an instance");
        seen.observed.life = life;
        seen.phase = phase;
        self.input(Input::Seen(name, Some(seen)));
    }

    fn perform(&mut self, action: Action) {
        let note = |scene: &mut Self, line: String| scene.lines.push(line);
        match action {
            Action::Ask(question) => {
                let text = if question.key.question.is_some() { "for plan" } else { "" };
                note(
                    self,
                    format!("ask {:?} of {} {text}", question.part, question.key.module).trim_end().into(),
                );
                match &mut self.held {
                    Some(held) => held.push(question),
                    None => self.answer(question),
                }
            }
            Action::Start(start) => {
                note(self, format!("start {} {:?}", start.bucket.name, start.mode));
                let seen = self.seen(start.mode, start.origin, Life::Alive, Phase::Running);
                self.input(Input::Done(start.bucket.name.clone(), Done::Started(seen)));
            }
            Action::Update(start) => {
                let seen = self.seen(start.mode, start.origin, Life::Alive, Phase::Running);
                note(self, format!("update {} to {}", start.bucket.name, start.origin.revision));
                self.input(Input::Done(start.bucket.name.clone(), Done::Updated(seen)));
            }
            Action::Stop(bucket, why, farewell) => {
                note(self, format!("stop {bucket} ({why})"));
                self.farewells.extend(farewell);
                self.input(Input::Done(bucket.clone(), Done::Told));
                self.keeper_says(bucket.as_str(), Life::Dead(Ended::Stopped), Phase::Stopped);
            }
            Action::BecomeMulti(bucket, state, epoch) => {
                note(self, format!("{bucket} becomes multi-node, not under {epoch}"));
                let had = self.node.places[&bucket].seen.clone().expect("it has an instance");
                let observed = Observed { mode: Mode::Multi(state), ..had.observed };
                self.input(Input::Done(bucket, Done::BecameMulti(Box::new(Seen { observed, ..*had }))));
            }
            Action::GiveUp(bucket, epoch) => {
                note(self, format!("give up {bucket} {epoch}"));
                self.input(Input::Done(bucket, Done::GaveUp(epoch)));
            }
            Action::Confirm(bucket, revision) => {
                note(self, format!("confirm {bucket} {revision}"));
                self.input(Input::Done(bucket, Done::Confirmed(revision)));
            }
            Action::Remove(bucket, call) => {
                note(self, format!("remove {bucket}"));
                self.farewells.push(call);
                self.input(Input::Done(bucket, Done::Removed));
            }
            Action::Purge(bucket, revision) => note(self, format!("purge {bucket} {revision}")),
            Action::Kill(bucket, epoch) => note(self, format!("kill {bucket} {epoch}")),
            Action::MoveDeadline(bucket, _, until) => note(self, format!("deadline {bucket} {}", until.0)),
            Action::HeartbeatNow => note(self, "heartbeat".to_owned()),
            Action::Say(message) => self.said(message),
            Action::Retire(module) => note(self, format!("retire {module}")),
            Action::WantArtifacts(wanted) => {
                let needed: Vec<String> = wanted.needed.iter().map(|it| it.digest.short()).collect();
                let keep: Vec<String> = wanted.keep.needed.iter().map(Digest::short).collect();
                note(self, format!("want {} keep {}", needed.join(" "), keep.join(" ")));
            }
            Action::Note(..) => {}
        }
    }

    fn answer(&mut self, question: Question) {
        let asked = question.checks.len() + usize::from(question.plugin.is_some());
        let answers = vec![self.machine.clone(); asked];
        self.input(Input::Answered(question.key, question.part, answers));
    }

    /// What the leader hears; it records phases at once.
    fn said(&mut self, message: ToLeader) {
        match message {
            ToLeader::Verdicts(verdicts) => {
                for verdict in verdicts {
                    let mut line = format!("verdict {} at {}:", verdict.bucket, verdict.revision);
                    match verdict.refusal() {
                        None => line.push_str(" yes"),
                        Some((gate, it)) => {
                            let pass = if it.pass.is_none() { "unknown" } else { "no" };
                            write!(line, " {pass}, {}: {}", gate.as_str(), it.reason).expect("a string");
                        }
                    }
                    self.lines.push(line);
                }
            }
            ToLeader::Phases { seq, instances } => {
                for it in instances {
                    self.lines.push(format!("phase {} {}", it.bucket, it.phase.as_str()));
                }
                self.input(Input::Recorded(seq));
            }
            ToLeader::GaveUp { bucket, epoch } => self.lines.push(format!("say gave up {bucket} {epoch}")),
            ToLeader::NothingLeft { bucket, revision } => {
                self.lines.push(format!("say nothing left {bucket} {revision}"));
            }
            ToLeader::Judged { verdict, .. } => {
                self.lines.push(format!("judged {}: {}", verdict.bucket, verdict.eligible()));
            }
            other => self.lines.push(format!("say {other:?}")),
        }
    }

    /// The lines since the last time, and that there are no others.
    #[track_caller]
    fn expect(&mut self, lines: &[&str]) {
        assert_eq!(std::mem::take(&mut self.lines), lines);
    }

    fn pid(&self, bucket: &str) -> Option<u32> {
        self.node.places[&self.world.name(bucket)].seen.as_ref().and_then(|seen| seen.pid)
    }
}

fn file_check(module: &mut ModuleSpec) {
    let kind = CheckKind::File(Template(vec![TemplatePart::Text("/x".to_owned())]));
    module.can_run_on_this_node.push(Check { kind, timeout: None });
}

fn port_check(module: &mut ModuleSpec) {
    let kind = CheckKind::PortFree(Template(vec![TemplatePart::Text("514".to_owned())]));
    module.can_run_on_this_node.push(Check { kind, timeout: None });
}

fn rules(texts: &[&str]) -> NodeListRules {
    NodeListRules::parse(texts).expect("good rules")
}
