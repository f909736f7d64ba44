//! The life of a keeper, step by step.

use std::collections::VecDeque;

use super::{
    Action, Call, End, Exit, Input, Keep, Lease, Life, Moment, Next, NoExec, Phase, RENEWED_WITHIN, Report,
    Restart, Sight, Signal, Stop, Telling, Then, may_exec, restart,
};

impl Keep {
    /// A keeper that has not begun. `restarts` and `recent` are what an earlier keeper of the same bucket, at the
    /// same revision and in the same boot, has counted.
    pub fn new(lease: Lease, stop: Stop, restart: Restart, restarts: u32, recent: Vec<Moment>) -> Self {
        Self {
            lease,
            stop,
            restart,
            restarts,
            recent,
            exit: None,
            trouble: None,
            telling: Telling::default(),
            farewell: None,
            renews: false,
            changed: false,
            purge: false,
            tested: false,
            queue: VecDeque::new(),
            calling: None,
            said: String::new(),
            poll_failed: false,
            poll_every: None,
            poll_at: None,
            polled: None,
            again: false,
            life: Life::New,
        }
    }

    /// The same, of a program that is told of its life.
    pub fn telling(self, telling: Telling) -> Self {
        Self { telling, ..self }
    }

    /// The same, but nothing is run: this call is made, by a command or of a plugin that is started for it, and then it is
    /// over.
    pub fn only(self, farewell: Option<Call>) -> Self {
        Self { farewell, ..self }
    }

    /// Whether what the program is started with has secrets in it: before it is started again they are asked for anew.
    pub fn renew_secrets(&mut self, renews: bool) {
        self.renews = renews;
    }

    /// Whether a start waits for its secrets.
    pub fn is_renewing(&self) -> bool {
        matches!(self.life, Life::Renewing(_))
    }

    /// By what right the instance runs now.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Moments of the restarts that count.
    pub fn recent(&self) -> &[Moment] {
        &self.recent
    }

    /// Asked to end, and within its grace: the shell says `Emptied` as soon as nothing is left.
    pub fn is_stopping(&self) -> bool {
        matches!(self.life, Life::Parting(_) | Life::Stopping(_))
    }

    /// What follows from `input` at `now`. Inputs that come too late for where the keeper is change nothing.
    pub fn step(&mut self, input: Input, now: Moment) -> Vec<Action> {
        if let Some(actions) = self.deadline_passed(&input, now) {
            return actions;
        }
        match input {
            Input::Begin if self.life == Life::New => {
                self.clear(self.farewell.map_or(Then::Start, Then::Farewell))
            }
            Input::Emptied => self.emptied(now),
            Input::Spawned if self.life == Life::Placing => {
                self.life = Life::Checking;
                vec![Action::Look]
            }
            Input::Looked(sight) if matches!(self.life, Life::Sighting | Life::Checking) => {
                self.looked(&sight, now)
            }
            Input::Executed if self.life == Life::Executing => self.executed(now),
            Input::NotExecuted(why) if self.is_starting() => {
                self.trouble = Some(why);
                self.clear(Then::Judge(Exit::NotStarted))
            }
            Input::Ended(exit) => self.ended(exit),
            Input::StopAsked => self.stop_asked(None, now),
            Input::PartAsked(call) => self.stop_asked(Some(call), now),
            Input::UpdateAsked => self.update_asked(now),
            Input::Noted(why) => {
                self.trouble.get_or_insert(why);
                vec![]
            }
            Input::PurgeAsked => self.purge_asked(now),
            Input::NotTaken => self.not_taken(now),
            Input::NotAnswered => self.not_answered(now),
            Input::DeadlineMoved { .. } => self.deadline_moved(input, now),
            Input::Called(result) => self.called(result, now),
            Input::Said(line) => self.heard(line),
            Input::Renewed if self.is_renewing() => self.start_again(now),
            Input::Tick => self.tick(now),
            Input::Begin
            | Input::Spawned
            | Input::Looked(_)
            | Input::Executed
            | Input::NotExecuted(_)
            | Input::Renewed => vec![],
        }
    }

    /// Whatever comes in once the deadline has passed, everything is killed, and nothing is started again.
    /// (What has not been executed yet is refused by the check.)
    fn deadline_passed(&mut self, input: &Input, now: Moment) -> Option<Vec<Action>> {
        if self.lease.until().is_none_or(|until| now < until) {
            return None;
        }
        let end = |what: &str| Then::Over(End::LeaseEnded, what.to_owned());
        match &self.life {
            Life::Placing => Some(self.clear(end("not started: its lease has ended"))),
            Life::Preparing
            | Life::Executing
            | Life::Opening
            | Life::Running
            | Life::Parting(_)
            | Life::Stopping(_) => {
                if let Input::Ended(exit) = input {
                    self.exit = Some(*exit);
                }
                Some(self.clear(end("killed at the end of its lease")))
            }
            Life::Clearing(Then::Judge(_)) => {
                self.life = Life::Clearing(end("its lease has ended"));
                None
            }
            Life::Waiting(_) | Life::Renewing(_) => {
                Some(self.over(End::LeaseEnded, "its lease has ended".to_owned()))
            }
            Life::New | Life::Clearing(_) | Life::Sighting | Life::Checking | Life::Over => None,
        }
    }

    fn is_starting(&self) -> bool {
        matches!(self.life, Life::Sighting | Life::Placing | Life::Checking | Life::Executing)
    }

    pub(super) fn clear(&mut self, then: Then) -> Vec<Action> {
        self.life = Life::Clearing(then);
        let mut actions = vec![Action::KillAll];
        // One that was under way is not tried again: it may be why the program has ended.
        if self.calling.is_some_and(|(call, _)| call == Call::Purge) {
            let why = self.trouble.clone().unwrap_or_else(|| self.purge_ended());
            actions.push(Action::Purged(Err(why)));
        }
        self.hang_up();
        actions
    }

    fn emptied(&mut self, now: Moment) -> Vec<Action> {
        match std::mem::replace(&mut self.life, Life::Over) {
            Life::Clearing(Then::Start) => self.start(),
            Life::Clearing(Then::Place) => self.place(),
            Life::Clearing(Then::Farewell(call)) if self.telling.is_by_commands() => self.farewell(call, now),
            Life::Clearing(Then::Farewell(_)) => self.start(),
            Life::Clearing(Then::Judge(exit)) => self.judge(exit, now),
            Life::Clearing(Then::Over(end, message)) => self.over(end, message),
            Life::Parting(_) | Life::Stopping(_) => {
                let message = self.trouble.take().unwrap_or_default();
                if std::mem::take(&mut self.again) { self.start() } else { self.over(self.parted(), message) }
            }
            life => {
                self.life = life;
                vec![]
            }
        }
    }

    fn start(&mut self) -> Vec<Action> {
        self.trouble = None;
        self.again = false;
        let mut actions = vec![self.report(Phase::Starting, String::new())];
        actions.extend(self.lease.until().map(Action::Arm));
        if self.telling.before.is_empty() {
            actions.extend(self.place());
        } else {
            self.life = Life::Sighting;
            actions.push(Action::Look);
        }
        actions
    }

    fn place(&mut self) -> Vec<Action> {
        self.life = Life::Placing;
        self.changed = false;
        vec![Action::Spawn]
    }

    fn looked(&mut self, sight: &Sight, now: Moment) -> Vec<Action> {
        let may = match self.farewell {
            None => may_exec(&self.lease, sight, now),
            // It runs nothing of its bucket: what was given up stays given up, and no lease is needed.
            Some(_) if sight.empty => Ok(()),
            Some(_) => Err(NoExec::NotEmpty),
        };
        match may {
            Ok(()) if self.life == Life::Sighting => self.prepare(now),
            Ok(()) => {
                self.life = Life::Executing;
                vec![Action::Go]
            }
            Err(NoExec::NotEmpty) => self.clear(Then::Start),
            Err(refusal @ NoExec::LeaseEnded) => {
                self.clear(Then::Over(End::LeaseEnded, format!("not started: {refusal}")))
            }
            Err(refusal) => self.clear(Then::Over(End::Refused, format!("not started: {refusal}"))),
        }
    }

    fn ended(&mut self, exit: Exit) -> Vec<Action> {
        match self.life {
            Life::Opening => {
                self.exit = Some(exit);
                self.trouble = self.calling.map(|(call, _)| format!("it ended before it answered {call}"));
                self.clear(Then::Judge(exit))
            }
            Life::Placing | Life::Checking | Life::Executing | Life::Running => {
                self.exit = Some(exit);
                self.clear(Then::Judge(exit))
            }
            // The rest of it has until the end of the grace.
            Life::Parting(_) | Life::Stopping(_) | Life::Clearing(Then::Over(..)) => {
                self.exit = Some(exit);
                if let Some((call, _)) = self.calling.filter(|(call, _)| self.farewell == Some(*call)) {
                    self.trouble.get_or_insert_with(|| format!("it ended before it answered {call}"));
                }
                vec![]
            }
            _ => vec![],
        }
    }

    fn judge(&mut self, exit: Exit, now: Moment) -> Vec<Action> {
        self.exit = Some(exit);
        if self.farewell.is_some() {
            // It is not tried again.
            let why = self.trouble.take().unwrap_or_else(|| exit.to_string());
            return self.over(End::GaveUp, why);
        }
        let said = |why: String| match &self.trouble {
            Some(trouble) => format!("{trouble}; {why}"),
            None => why,
        };
        match restart::next(&self.restart, &self.recent, exit, now) {
            Next::Finished(why) => self.over(End::Finished, why),
            Next::GiveUp(why) => {
                let message = match &self.trouble {
                    // Nobody expects that a test is made again.
                    Some(trouble) if self.telling.tests => trouble.clone(),
                    _ => said(why),
                };
                self.over(End::GaveUp, message)
            }
            Next::At(at) => {
                let wait = at.since(now);
                let message = said(format!("{exit}; starts again in {wait}"));
                self.recent = restart::within(&self.restart, &self.recent, now).to_vec();
                self.life = Life::Waiting(at);
                vec![self.report(Phase::Backoff, message), Action::Wake(at)]
            }
        }
    }

    fn stop_asked(&mut self, why: Option<Call>, now: Moment) -> Vec<Action> {
        self.again = false;
        let stopped = Then::Over(End::Stopped, String::new());
        match &self.life {
            Life::New | Life::Waiting(_) | Life::Renewing(_) => self.over(End::Stopped, String::new()),
            Life::Running if why.into_iter().chain([Call::Stop]).any(|call| self.telling.takes(call)) => {
                self.part(why, now)
            }
            Life::Opening | Life::Running if self.stop.signal == Signal::Kill => self.clear(stopped),
            Life::Opening | Life::Running => {
                let until = now.after(self.stop.grace);
                self.life = Life::Stopping(until);
                let mut actions = self.cancel();
                self.hang_up();
                let report = self.report(Phase::Stopping, format!("has {} to end", self.stop.grace));
                actions.extend([Action::Signal(self.stop.signal), Action::Wake(until), report]);
                actions
            }
            Life::Sighting | Life::Preparing | Life::Placing | Life::Checking | Life::Executing => {
                self.clear(stopped)
            }
            Life::Clearing(Then::Start | Then::Place | Then::Farewell(_) | Then::Judge(_)) => {
                self.life = Life::Clearing(stopped);
                vec![]
            }
            Life::Clearing(Then::Over(..)) | Life::Parting(_) | Life::Stopping(_) | Life::Over => vec![],
        }
    }

    fn deadline_moved(&mut self, moved: Input, now: Moment) -> Vec<Action> {
        let Input::DeadlineMoved { epoch, boot, until } = moved else { return vec![] };
        match &mut self.lease {
            Lease::Single { epoch: held, boot: held_boot, until: held_until }
                if *held == epoch && *held_boot == boot && *held_until < until && now < *held_until =>
            {
                *held_until = until;
                if matches!(self.life, Life::New | Life::Over) { vec![] } else { vec![Action::Arm(until)] }
            }
            _ => vec![],
        }
    }

    fn tick(&mut self, now: Moment) -> Vec<Action> {
        match self.life {
            Life::Parting(until) if now >= until => {
                let call = self.calling.map_or(Call::Stop, |(call, _)| call);
                let message = format!("killed: {}", self.telling.too_long(call, self.stop.grace));
                self.clear(self.after_grace(message))
            }
            Life::Preparing | Life::Opening | Life::Running | Life::Parting(_)
                if self.calling.is_some_and(|(_, until)| now >= until) =>
            {
                self.not_answered(now)
            }
            Life::Stopping(until) if now >= until => {
                let message = format!("killed: had not ended {} after the signal", self.stop.grace);
                self.clear(self.after_grace(message))
            }
            Life::Waiting(at) if now >= at && self.renews => {
                let until = now.after(RENEWED_WITHIN);
                self.life = Life::Renewing(until);
                vec![Action::Renew, Action::Wake(until)]
            }
            Life::Waiting(at) | Life::Renewing(at) if now >= at => self.start_again(now),
            _ => self.poll(now),
        }
    }

    fn start_again(&mut self, now: Moment) -> Vec<Action> {
        self.restarts = self.restarts.saturating_add(1);
        self.recent.push(now);
        self.clear(Then::Start)
    }

    pub(super) fn after_grace(&self, message: String) -> Then {
        if self.again { Then::Start } else { Then::Over(self.parted(), message) }
    }

    /// Why one that was to end is over.
    fn parted(&self) -> End {
        if self.tested { End::Finished } else { End::Stopped }
    }

    fn over(&mut self, end: End, message: String) -> Vec<Action> {
        self.life = Life::Over;
        let phase = if end == End::GaveUp { Phase::Failed } else { Phase::Stopped };
        let Action::Report(report) = self.report(phase, message) else { return vec![Action::Exit] };
        vec![Action::Report(Report { end: Some(end), ..report }), Action::Exit]
    }

    pub(super) fn report(&self, phase: Phase, message: String) -> Action {
        Action::Report(Report { phase, message, restarts: self.restarts, exit: self.exit, end: None })
    }
}
