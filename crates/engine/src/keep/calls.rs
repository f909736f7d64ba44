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
    /// The process is about to end.
    Stop,
}

impl Call {
    /// The calls that begin a plugin's start.
    pub const OPENING: [Self; 3] = [Self::Hello, Self::Init, Self::NewSource];

    /// How long it may take. A stop's limit is the grace.
    pub const fn limit(self) -> Span {
        match self {
            Self::Hello => Span::seconds(10),
            Self::Init | Self::NewSource | Self::Stop => Span::seconds(30),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello => "Hello",
            Self::Init => "OnInit",
            Self::NewSource => "OnNewSource",
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
        let Some(call) = self.queue.pop_front() else { return self.all_called() };
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
    fn all_called(&mut self) -> Vec<Action> {
        match self.life {
            Life::Opening => {
                self.life = Life::Running;
                vec![self.report(Phase::Running, self.said.clone())]
            }
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

    /// A plugin that runs is to end: it is told so, and then gets the signal, all within the grace.
    pub(super) fn part(&mut self, now: Moment) -> Vec<Action> {
        let until = now.after(self.stop.grace);
        self.life = Life::Parting(until);
        self.queue.push_back(Call::Stop);
        let mut actions = vec![self.report(Phase::Stopping, format!("has {} to end", self.stop.grace))];
        actions.extend(self.next_call(now));
        actions
    }

    pub(super) fn called(&mut self, result: Result<(), String>, now: Moment) -> Vec<Action> {
        if self.calling.take().is_none() {
            return vec![]; // it comes too late
        }
        match (&self.life, result) {
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
    pub(super) fn not_answered(&mut self, now: Moment) -> Vec<Action> {
        let Some((call, _)) = self.calling else { return vec![] };
        self.called(Err(format!("{call}: no answer within {}", call.limit())), now)
    }

    /// No call is under way any more, or to be made.
    pub(super) fn hang_up(&mut self) {
        self.queue.clear();
        self.calling = None;
        self.said.clear();
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
