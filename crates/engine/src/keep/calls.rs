//! What a program is told, one call at a time.

use sheaf_model::{Call, Exit, Moment, Phase, Signal, Span};

use super::{Action, Keep, Life, Then};

impl Keep {
    /// Before the program is started: what is to be told then is told now.
    pub(super) fn prepare(&mut self, now: Moment) -> Vec<Action> {
        self.life = Life::Preparing;
        self.queue.extend(self.telling.before.iter().copied());
        self.next_call(now)
    }

    /// Nothing is started: one command is run, for an instance that did not run when it was to be told.
    pub(super) fn farewell(&mut self, call: Call, now: Moment) -> Vec<Action> {
        self.life = Life::Parting(now.after(self.stop.grace));
        self.queue.push_back(call);
        let mut actions =
            vec![self.report(Phase::Stopping, format!("{} is under way", self.telling.name(call)))];
        actions.extend(self.next_call(now));
        actions
    }

    /// The program is there; a plugin is told of its bucket before it counts as running.
    pub(super) fn executed(&mut self, now: Moment) -> Vec<Action> {
        let changed = std::mem::take(&mut self.changed).then_some(Call::UpdatedSource);
        let later = changed.into_iter().chain(std::mem::take(&mut self.purge).then_some(Call::Purge));
        if !self.telling.opening.is_empty() {
            self.life = Life::Opening;
            self.queue.extend(self.telling.opening.iter().copied().chain(later));
            return self.next_call(now);
        }
        self.life = Life::Running;
        self.queue.extend(later);
        let mut actions = vec![self.report(Phase::Running, String::new())];
        actions.extend(self.next_call(now));
        actions
    }

    /// Begins the next call, if none is under way.
    fn next_call(&mut self, now: Moment) -> Vec<Action> {
        if self.calling.is_some() {
            return vec![];
        }
        let Some(call) = self.queue.pop_front() else { return self.all_called(now) };
        let limit = self.telling.limit(call, self.stop.grace);
        let given_up = now.after(limit).after(self.telling.backstop());
        let until = match self.life {
            Life::Parting(until) => until.min(given_up),
            _ => given_up,
        };
        self.calling = Some((call, until));
        let mut actions = vec![Action::Call(call, limit), Action::Wake(until)];
        let name = self.telling.name(call);
        match self.life {
            Life::Opening => {
                actions.push(self.report(Phase::Starting, format!("waits for its answer to {name}")));
            }
            Life::Preparing => actions.push(self.report(Phase::Starting, format!("{name} is under way"))),
            _ => {}
        }
        actions
    }

    /// Nothing is left to be said for now.
    fn all_called(&mut self, now: Moment) -> Vec<Action> {
        match self.life {
            // What the commands have left is ended before the program starts.
            Life::Preparing => self.clear(Then::Place),
            Life::Opening if self.farewell.is_some() => self.part(self.farewell, now),
            Life::Opening => {
                self.life = Life::Running;
                let mut actions = vec![self.report(Phase::Running, self.said.clone())];
                if self.telling.tests {
                    self.queue.push_back(Call::TestSource);
                    actions.extend(self.next_call(now));
                } else {
                    actions.extend(self.wait_for_poll(now));
                }
                actions
            }
            Life::Running => self.wait_for_poll(now),
            Life::Parting(_) if self.stop.signal == Signal::Kill || self.is_only_a_command() => {
                let message = self.trouble.take().unwrap_or_default();
                self.clear(self.after_grace(message))
            }
            Life::Parting(until) => {
                self.life = Life::Stopping(until);
                vec![Action::Signal(self.stop.signal), Action::Wake(until)]
            }
            _ => vec![],
        }
    }

    /// Whether no program is there that could be given a signal.
    fn is_only_a_command(&self) -> bool {
        self.farewell.is_some() && self.telling.is_by_commands()
    }

    /// How often it is polled from now on. Of one that runs it counts once it is told that its bucket changed.
    pub fn poll_every(&mut self, every: Option<Span>) {
        let every = every.filter(|every| every.0 > 0);
        if self.poll_every != every {
            self.poll_every = every;
            self.poll_at = None;
        }
    }

    /// The next poll: its time counts from the end of the last one, so that what was missed is not made up for; what came due
    /// during another call, or while the program was started again, comes now.
    fn wait_for_poll(&mut self, now: Moment) -> Vec<Action> {
        self.poll_at = self.poll_every.map(|every| {
            let (at, since) = *self.polled.get_or_insert((now, Span(0)));
            Moment(at.0.saturating_add(every.0).saturating_sub(since.0))
        });
        self.poll_at.map(Action::Wake).into_iter().collect()
    }

    /// What an earlier keeper knew: at that moment the last poll was so long ago.
    pub fn was_polled(&mut self, at: Moment, since: Span) {
        self.polled = Some((at, since));
    }

    /// When the last poll was, or it first ran, as a moment and how long before it.
    pub fn polled(&self) -> Option<(Moment, Span)> {
        self.polled
    }

    /// Whether the running program is to be polled now.
    pub(super) fn poll(&mut self, now: Moment) -> Vec<Action> {
        if self.life != Life::Running || self.calling.is_some() || self.poll_at.is_none_or(|at| now < at) {
            return vec![];
        }
        self.poll_at = None;
        // It counts also if nothing comes of it: a program that it ends is not polled at each of its starts.
        self.polled = Some((now, Span(0)));
        self.queue.push_back(Call::PeriodicPoll);
        self.next_call(now)
    }

    /// The bucket changed. A program that is there is told; one that was placed before is, once it is there; what comes
    /// later begins with what is new anyway.
    pub(super) fn update_asked(&mut self, now: Moment) -> Vec<Action> {
        if !self.telling.takes(Call::UpdatedSource) {
            // What it is not told of is how often it is polled. After a call that is under way that is looked at anyway.
            let waits = self.life == Life::Running && self.calling.is_none();
            return if waits { self.wait_for_poll(now) } else { vec![] };
        }
        match self.life {
            // It was told of the former one.
            Life::Preparing => self.clear(Then::Start),
            Life::Placing | Life::Checking | Life::Executing => {
                self.changed = true;
                vec![]
            }
            Life::Opening | Life::Running => {
                if !self.queue.contains(&Call::UpdatedSource) {
                    self.queue.push_back(Call::UpdatedSource);
                }
                self.next_call(now)
            }
            _ => vec![],
        }
    }

    /// What the bucket has collected is to be thrown away: by a program that is there, or once it is.
    pub(super) fn purge_asked(&mut self, now: Moment) -> Vec<Action> {
        let under_way = self.calling.is_some_and(|(call, _)| call == Call::Purge);
        if !self.telling.takes(Call::Purge) {
            return vec![Action::Purged(Err("the module has nothing to purge".to_owned()))];
        }
        match self.life {
            Life::Opening | Life::Running => {
                if !under_way && !self.queue.contains(&Call::Purge) {
                    self.queue.push_back(Call::Purge);
                }
                self.next_call(now)
            }
            _ => {
                self.purge = true;
                vec![]
            }
        }
    }

    /// The program does not take the change as it runs: it ends in an orderly way, and begins anew.
    pub(super) fn not_taken(&mut self, now: Moment) -> Vec<Action> {
        let is_there = matches!(self.life, Life::Opening | Life::Running);
        if self.calling.take().is_none() || !is_there {
            return vec![];
        }
        self.again = true;
        self.part(None, now)
    }

    /// A program that runs is to end: it is told why, if there is anything to tell, then that it ends, and then gets the
    /// signal, all within the grace. What it was told before that is not waited for: it may take longer than the grace.
    pub(super) fn part(&mut self, why: Option<Call>, now: Moment) -> Vec<Action> {
        let until = now.after(self.stop.grace);
        self.life = Life::Parting(until);
        self.purge |= self.queue.contains(&Call::Purge);
        self.queue.clear();
        let telling = &self.telling;
        self.queue.extend(why.into_iter().chain([Call::Stop]).filter(|call| telling.takes(*call)));
        let mut actions = vec![self.report(Phase::Stopping, format!("has {} to end", self.stop.grace))];
        actions.extend(self.cancel());
        actions.extend(self.next_call(now));
        actions
    }

    /// Ends the call under way, if there is one, and says what that means for a purge.
    pub(super) fn cancel(&mut self) -> Vec<Action> {
        let Some((call, _)) = self.calling.take() else { return vec![] };
        let mut actions = vec![Action::HangUp];
        actions.extend((call == Call::Purge).then(|| Action::Purged(Err(self.purge_ended()))));
        actions
    }

    /// That a purge came to nothing for what became of its instance.
    pub(super) fn purge_ended(&self) -> String {
        format!("{}: it was ended before it was done", self.telling.name(Call::Purge))
    }

    pub(super) fn called(&mut self, result: Result<(), String>, now: Moment) -> Vec<Action> {
        let Some((call, _)) = self.calling.take() else { return vec![] }; // it comes too late
        if call == Call::PeriodicPoll {
            self.polled = Some((now, Span(0)));
        }
        if call == Call::Purge {
            let mut actions = vec![Action::Purged(result)];
            actions.extend(self.next_call(now));
            return actions;
        }
        match (&self.life, result) {
            (Life::Running, Ok(())) if call == Call::TestSource => {
                self.tested = true;
                self.part(None, now)
            }
            (Life::Running, Err(why)) if call == Call::PeriodicPoll => {
                self.poll_failed = true;
                let mut actions = vec![self.report(Phase::Running, why)];
                actions.extend(self.next_call(now));
                actions
            }
            (Life::Running, Ok(())) if call == Call::PeriodicPoll && self.poll_failed => {
                self.poll_failed = false;
                let mut actions = vec![self.report(Phase::Running, self.said.clone())];
                actions.extend(self.next_call(now));
                actions
            }
            (Life::Preparing | Life::Opening | Life::Running, Err(why)) => {
                self.trouble = Some(why);
                self.clear(Then::Judge(Exit::NotStarted))
            }
            (Life::Parting(_), Err(why)) => {
                self.trouble = Some(why);
                self.next_call(now)
            }
            (Life::Preparing | Life::Opening | Life::Running | Life::Parting(_), Ok(())) => {
                self.next_call(now)
            }
            _ => vec![],
        }
    }

    /// The call under way was given up. What comes at the end goes on with what is left of it.
    pub(super) fn not_answered(&mut self, now: Moment) -> Vec<Action> {
        let Some((call, _)) = self.calling else { return vec![] };
        let limit = self.telling.limit(call, self.stop.grace);
        self.trouble = Some(self.telling.too_long(call, limit));
        if matches!(self.life, Life::Parting(_)) {
            self.calling = None;
            let mut actions = vec![Action::HangUp];
            actions.extend(self.next_call(now));
            return actions;
        }
        self.clear(Then::Judge(Exit::NotStarted))
    }

    /// No call is under way any more, or to be made.
    pub(super) fn hang_up(&mut self) {
        self.purge |= self.queue.contains(&Call::Purge);
        self.queue.clear();
        self.calling = None;
        self.said.clear();
        self.poll_failed = false;
        self.poll_at = None;
    }

    /// What a running program says of itself is shown until its phase changes; in its place, why a poll failed, until it says
    /// something again or the next one succeeds.
    pub(super) fn heard(&mut self, line: String) -> Vec<Action> {
        match self.life {
            Life::Opening => {
                self.said = line;
                vec![]
            }
            Life::Running if self.said != line || self.poll_failed => {
                self.said = line;
                self.poll_failed = false;
                vec![self.report(Phase::Running, self.said.clone())]
            }
            _ => vec![],
        }
    }
}
