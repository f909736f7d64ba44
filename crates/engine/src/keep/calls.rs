//! What a plugin is told, one call at a time.

use std::fmt;

use serde::{Deserialize, Serialize};
use sheaf_model::{Exit, Moment, Phase, Signal, Span};

use super::{Action, End, Keep, Life, Then};

/// Beyond a call's limit, until it is given up although nobody said so.
const BACKSTOP: Span = Span::seconds(1);

/// A call of `sheaf.module.v1` that a keeper makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// The handshake, once the program listens.
    Hello,
    /// Who it is.
    Init,
    /// The bucket runs in this process from now on.
    NewSource,
    /// The same, after it was suspended here.
    Resume,
    /// The bucket changed.
    UpdatedSource,
    /// Its `poll_frequency` has passed.
    PeriodicPoll,
    /// It was suspended.
    Suspend,
    /// It was deleted.
    Delete,
    /// It leaves the node for good.
    Decommission,
    /// The process is about to end.
    Stop,
}

impl Call {
    /// The calls that begin a plugin's start, new to its bucket or `resumed`.
    pub fn opening(resumed: bool) -> Vec<Self> {
        vec![Self::Hello, Self::Init, if resumed { Self::Resume } else { Self::NewSource }]
    }

    /// How long it may take. A stop's limit is the grace.
    pub const fn limit(self) -> Span {
        match self {
            Self::Hello => Span::seconds(10),
            Self::PeriodicPoll => Span::seconds(60),
            _ => Span::seconds(30),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello => "Hello",
            Self::Init => "OnInit",
            Self::NewSource => "OnNewSource",
            Self::Resume => "OnResume",
            Self::UpdatedSource => "OnUpdatedSource",
            Self::PeriodicPoll => "OnPeriodicPoll",
            Self::Suspend => "OnSuspend",
            Self::Delete => "OnDelete",
            Self::Decommission => "OnDecommission",
            Self::Stop => "OnStop",
        })
    }
}

impl Keep {
    pub(super) fn is_plugin(&self) -> bool {
        !self.opening.is_empty()
    }

    /// The program is there; a plugin is told of its bucket before it counts as running.
    pub(super) fn executed(&mut self, now: Moment) -> Vec<Action> {
        if !self.is_plugin() {
            self.life = Life::Running;
            return vec![self.report(Phase::Running, String::new())];
        }
        self.life = Life::Opening;
        self.queue.extend(self.opening.iter().copied());
        self.next_call(now)
    }

    /// Begins the next call, if none is under way.
    fn next_call(&mut self, now: Moment) -> Vec<Action> {
        if self.calling.is_some() {
            return vec![];
        }
        let Some(call) = self.queue.pop_front() else { return self.all_called(now) };
        let until = match self.life {
            Life::Parting(until) => until,
            _ => now.after(call.limit()).after(BACKSTOP),
        };
        self.calling = Some((call, until));
        let mut actions = vec![Action::Call(call), Action::Wake(until)];
        if self.life == Life::Opening {
            actions.push(self.report(Phase::Starting, format!("waits for its answer to {call}")));
        }
        actions
    }

    /// Nothing is left to be said for now.
    fn all_called(&mut self, now: Moment) -> Vec<Action> {
        match self.life {
            Life::Opening => {
                self.life = Life::Running;
                let mut actions = vec![self.report(Phase::Running, self.said.clone())];
                actions.extend(self.wait_for_poll(now));
                actions
            }
            Life::Running => self.wait_for_poll(now),
            Life::Parting(_) if self.stop.signal == Signal::Kill => {
                let message = self.trouble.take().unwrap_or_default();
                self.clear(Then::Over(End::Stopped, message))
            }
            Life::Parting(until) => {
                self.life = Life::Stopping(until);
                vec![Action::Signal(self.stop.signal), Action::Wake(until)]
            }
            _ => vec![],
        }
    }

    /// How often it is polled from now on.
    pub fn poll_every(&mut self, every: Option<Span>) {
        let every = every.filter(|every| every.0 > 0);
        if self.poll_every != every {
            self.poll_every = every;
            self.poll_at = None;
        }
    }

    /// The next poll: its time counts from the end of the last one, so that what was missed is not made up for; what came due
    /// during another call comes now.
    fn wait_for_poll(&mut self, now: Moment) -> Vec<Action> {
        self.poll_at = self.poll_every.map(|every| self.poll_at.unwrap_or(now.after(every)));
        self.poll_at.map(Action::Wake).into_iter().collect()
    }

    /// Whether the running program is to be polled now.
    pub(super) fn poll(&mut self, now: Moment) -> Vec<Action> {
        if self.life != Life::Running || self.calling.is_some() || self.poll_at.is_none_or(|at| now < at) {
            return vec![];
        }
        self.poll_at = None;
        self.queue.push_back(Call::PeriodicPoll);
        self.next_call(now)
    }

    /// The bucket changed; a program that is there is told. One that is not begins with what is new anyway.
    pub(super) fn update_asked(&mut self, now: Moment) -> Vec<Action> {
        if !self.is_plugin() || !matches!(self.life, Life::Opening | Life::Running) {
            return vec![];
        }
        if !self.queue.contains(&Call::UpdatedSource) {
            self.queue.push_back(Call::UpdatedSource);
        }
        self.next_call(now)
    }

    /// The program does not take the change as it runs: it ends in an orderly way, and begins anew.
    pub(super) fn not_taken(&mut self, now: Moment) -> Vec<Action> {
        let is_there = matches!(self.life, Life::Opening | Life::Running);
        if self.calling.take().is_none() || !is_there {
            return vec![];
        }
        self.again = true;
        self.queue.clear();
        self.part(None, now)
    }

    /// A plugin that runs is to end: it is told why, if there is anything to tell, then that it ends, and then gets the
    /// signal, all within the grace.
    pub(super) fn part(&mut self, why: Option<Call>, now: Moment) -> Vec<Action> {
        let until = now.after(self.stop.grace);
        self.life = Life::Parting(until);
        self.queue.clear();
        self.queue.extend(why.into_iter().chain([Call::Stop]));
        let mut actions = vec![self.report(Phase::Stopping, format!("has {} to end", self.stop.grace))];
        if self.calling.is_some() {
            actions.push(Action::Wake(until)); // the call under way is waited for, but not longer than the rest
        }
        actions.extend(self.next_call(now));
        actions
    }

    pub(super) fn called(&mut self, result: Result<(), String>, now: Moment) -> Vec<Action> {
        let Some((call, _)) = self.calling.take() else { return vec![] }; // it comes too late
        match (&self.life, result) {
            (Life::Running, Err(why)) if call == Call::PeriodicPoll => {
                let mut actions = vec![self.report(Phase::Running, why)];
                actions.extend(self.next_call(now));
                actions
            }
            (Life::Opening | Life::Running, Err(why)) => {
                self.trouble = Some(why);
                self.clear(Then::Judge(Exit::NotStarted))
            }
            (Life::Parting(_), Err(why)) => {
                self.trouble = Some(why);
                self.next_call(now)
            }
            (Life::Opening | Life::Running | Life::Parting(_), Ok(())) => self.next_call(now),
            _ => vec![],
        }
    }

    /// The call under way was given up.
    pub(super) fn not_answered(&mut self) -> Vec<Action> {
        let Some((call, _)) = self.calling.take() else { return vec![] };
        self.trouble = Some(format!("{call}: no answer within {}", call.limit()));
        self.clear(Then::Judge(Exit::NotStarted))
    }

    /// No call is under way any more, or to be made.
    pub(super) fn hang_up(&mut self) {
        self.queue.clear();
        self.calling = None;
        self.said.clear();
        self.poll_at = None;
    }

    /// What a running program says of itself is shown until its phase changes.
    pub(super) fn heard(&mut self, line: String) -> Vec<Action> {
        match self.life {
            Life::Opening => {
                self.said = line;
                vec![]
            }
            Life::Running if self.said != line => {
                self.said = line;
                vec![self.report(Phase::Running, self.said.clone())]
            }
            _ => vec![],
        }
    }
}
