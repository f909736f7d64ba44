//! One sink's deliveries: what comes next is read from history by the cursor, delivered, tried again until it is, and recorded.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use sheaf_engine::sink::Sink;
use sheaf_engine::{Command, RecordSink, SinkCommand, SinkOutcome};
use sheaf_model::{Deliverable, Revision, SinkFilter, SinkName, SinkTarget, Span, Term, Timestamp};
use sheaf_store::{Ahead, Delivery};
use sheaf_wire::ApiError;

use super::digest::{Digest, Letter};
use super::hand::{Hand, Parcel};
use super::undelivered::Undelivered;
use crate::Control;
use crate::event::read;
use crate::place::Member;

/// Lines of history read at once.
const PAGE: usize = 500;
/// What happened within so long is delivered together.
const SPACING: Duration = Duration::from_millis(100);
/// Successes are recorded at most so often.
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// A failure that goes on is recorded so often.
const FAILURE_EVERY: Duration = Duration::from_secs(60);
/// How far the recorded cursor may stay behind where nothing is wanted: so much is read again by the next leader …
const BEHIND: u64 = 10_000;
/// … and for how long, so that it is not taken for one that history has left behind.
const BEHIND_FOR: Duration = Duration::from_secs(3600);
/// Failures that are told of at once; one alone is often nothing.
const TELL_FROM: u32 = 2;
/// Events counted of what a sink lags behind.
const COUNTED: u64 = 10_000;
/// How often they are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// How long nothing is looked at when nothing happens.
const REST: Duration = Duration::from_secs(60);
/// History cannot be read: how long until it is tried again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// How long a mail that others have is tried for those whom its server puts off.
const PUT_OFF_FOR: Duration = Duration::from_secs(3600);

/// Since when somebody is put off.
#[derive(Default)]
struct PutOff {
    since: Option<Instant>,
}

impl PutOff {
    /// Whether that has lasted long enough; the first time it has just begun.
    fn is_enough(&mut self, now: Instant) -> bool {
        now.duration_since(*self.since.get_or_insert(now)) >= PUT_OFF_FOR
    }
}

/// See the module's doc.
pub(super) struct Line {
    control: Control,
    member: Member,
    hand: Hand,
    name: SinkName,
    created: Revision,
    filter: SinkFilter,
    term: Term,
    /// Everything up to here is delivered, or was not wanted.
    place: Revision,
    /// What was recorded of that, and when.
    recorded: Revision,
    recorded_at: Instant,
    /// Delivered since.
    delivered: u64,
    /// In a row.
    failures: u32,
    /// The cluster knows that it fails, and since when it was told last.
    told_failing: bool,
    told_at: Option<Instant>,
    /// How many events wait in what was read, up to where that is, and when the oldest happened.
    waits: Option<(u64, Revision, Timestamp)>,
    counted_at: Option<Instant>,
}

impl Line {
    /// The deliveries of one sink, from its cursor on.
    pub(super) fn new(control: Control, member: Member, term: Term, sink: &Sink) -> Self {
        let hand = Hand::new(control.clone(), member.clone(), sink.spec.clone());
        Self {
            control,
            member,
            hand,
            name: sink.spec.name.clone(),
            created: sink.created,
            filter: sink.spec.filter.clone(),
            term,
            place: sink.cursor,
            recorded: sink.cursor,
            recorded_at: Instant::now(),
            delivered: 0,
            failures: 0,
            told_failing: sink.failing.is_some(),
            told_at: None,
            waits: None,
            counted_at: None,
        }
    }

    /// Never ends by itself.
    pub(super) async fn run(mut self) {
        let mut revision = self.member.replica.revision();
        loop {
            revision.mark_unchanged();
            let (batch, digest) = match &self.hand.spec().target {
                SinkTarget::Webhook(webhook) => (webhook.batch, None),
                SinkTarget::Exec(exec) => (exec.batch, None),
                SinkTarget::Mail(mail) => (0, Some(mail.digest)),
            };
            let went_on = match digest {
                None => Box::pin(self.deliver_next(batch)).await,
                Some(digest) => Box::pin(self.mail_next(digest)).await,
            };
            match went_on {
                Ok(true) => {}
                Ok(false) => {
                    self.stand_idle();
                    let rest = self.rest();
                    tokio::select! {
                        // Dropping it loses nothing: history is read from the cursor.
                        _ = revision.changed() => tokio::time::sleep(SPACING).await,
                        () = tokio::time::sleep(rest) => {}
                    }
                    self.record_if_due().await;
                }
                Err(error) => {
                    tracing::warn!(sink = %self.name, %error, "history cannot be read for a sink; trying again");
                    tokio::time::sleep(READ_AGAIN).await;
                }
            }
        }
    }

    /// Delivers the next part of history. Whether there may be more already.
    async fn deliver_next(&mut self, batch: u32) -> Result<bool, ApiError> {
        let Some((wanted, to, more)) = self.read_next().await? else { return Ok(true) };
        let batch = usize::try_from(batch).unwrap_or(1).max(1);
        let mut from = 0;
        while from < wanted.len() {
            let chunk = &wanted[from..(from + batch).min(wanted.len())];
            let (waiting, oldest) = ((wanted.len() - from) as u64, chunk[0].event.at);
            self.waits = Some((waiting, to, oldest));
            self.count().await;
            self.hand_over(Parcel::Events(chunk)).await;
            from += chunk.len();
            // All of a revision, or nothing of it.
            self.place = match wanted.get(from) {
                Some(next) => self.place.max(Revision(next.event.revision.0 - 1)),
                None => self.place.max(to),
            };
            self.has_delivered(chunk.len() as u64).await;
        }
        Ok(more)
    }

    /// Sends the next mails, once their time has come. Whether there may be more already.
    async fn mail_next(&mut self, digest: Span) -> Result<bool, ApiError> {
        let Some((wanted, to, more)) = self.read_next().await? else { return Ok(true) };
        let Some(first) = wanted.first() else { return Ok(more) };
        self.place = self.place.max(Revision(first.event.revision.0 - 1));
        self.waits = Some((wanted.len() as u64, to, first.event.at));
        self.count().await;
        let due = Timestamp(first.event.at.0.saturating_add(digest.0));
        // However the clocks of two leaders differ, nobody waits longer than that.
        let wait = Span(due.0.saturating_sub(self.control.clock.wall().0).min(digest.0));
        if wait.0 > 0 {
            self.record_if_due().await;
            tokio::time::sleep(wait.duration()).await;
        }
        let (letters, to, events) = self.fold().await?;
        for letter in &letters {
            self.hand_over(Parcel::Letter(letter, None)).await;
        }
        self.place = self.place.max(to);
        self.has_delivered(events).await;
        Ok(true)
    }

    /// Everything that waits, folded into mails; up to where, and how many events these are.
    async fn fold(&self) -> Result<(Vec<Letter>, Revision, u64), ApiError> {
        let mut digest = Digest::default();
        let mut at = self.place;
        loop {
            let part = self.read_from(at).await?;
            let wanted = part.found.iter().filter(|it| self.filter.selects(&it.event));
            wanted.for_each(|it| digest.add(it));
            at = part.to;
            if !part.more {
                let events = digest.events();
                return Ok((digest.letters(&self.name, &self.hand.cluster()), at, events));
            }
        }
    }

    /// What comes next of what the sink wants, up to where that goes, and whether history goes on; none: some was missed,
    /// which is recorded now.
    async fn read_next(&mut self) -> Result<Option<(Vec<Deliverable>, Revision, bool)>, ApiError> {
        let Delivery { mut found, to, more, dropped_to } = self.read_from(self.place).await?;
        if let Some(dropped) = dropped_to {
            let missed = Some((self.place, dropped));
            tracing::warn!(sink = %self.name, after = %self.place, to = %dropped, "history was dropped before it was delivered");
            self.place = dropped;
            // Without it nobody would know: it is said until it is heard.
            while !self.record(missed, SinkOutcome::Nothing).await {
                tokio::time::sleep(READ_AGAIN).await;
            }
            return Ok(None);
        }
        found.retain(|it| self.filter.selects(&it.event));
        if found.is_empty() {
            self.place = self.place.max(to);
        }
        Ok(Some((found, to, more)))
    }

    async fn read_from(&self, after: Revision) -> Result<Delivery, ApiError> {
        let ahead = Ahead { after, limit: PAGE, subtasks: self.filter.wants_subtasks() };
        read(&self.member, move |reader| reader.ahead(&ahead)).await
    }

    /// Delivers, however long that takes. A mail that some have is tried again for the others, but not for ever: whose mailbox is
    /// full keeps no mail from everybody. The next leader, if this one goes meanwhile, does not know who has it, and begins anew for
    /// all.
    async fn hand_over(&mut self, mut parcel: Parcel<'_>) {
        let mut put_off = PutOff::default();
        loop {
            let outcome = Box::pin(self.hand.deliver(&parcel)).await;
            let Err(error) = outcome else {
                self.failures = 0;
                return;
            };
            if let (Undelivered::PutOff { left, said }, Parcel::Letter(_, to)) = (&error, &mut parcel) {
                if put_off.is_enough(Instant::now()) {
                    let left = left.join(", ");
                    tracing::error!(sink = %self.name, "a mail is given up for {left}, whom its server has put off for {PUT_OFF_FOR:?}: {said}");
                    self.failures = 0;
                    return;
                }
                *to = Some(left.clone());
            }
            self.has_failed(&error).await;
        }
    }

    /// Says so, and waits until the next try.
    async fn has_failed(&mut self, error: &Undelivered) {
        self.failures = self.failures.saturating_add(1);
        let name = self.name.to_string();
        metrics::counter!("sheaf_sink_failures_total", "sink" => name).increment(1);
        let chance = RandomState::new().hash_one(self.failures);
        let wait = error.wait(self.failures, chance);
        let next = self.control.clock.wall().0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(0));
        let why = error.to_string();
        if self.failures == TELL_FROM {
            tracing::warn!(sink = %self.name, error = why, "deliveries fail; trying again");
        }
        self.control.sinks.change(&self.name, |standing| {
            standing.failures = self.failures;
            standing.error = Some(why.clone());
            standing.next_try = Some(Timestamp(next));
        });
        self.count().await;
        let told = self.told_failing && self.told_at.is_some_and(|at| at.elapsed() < FAILURE_EVERY);
        if self.failures >= TELL_FROM && !told {
            let outcome = SinkOutcome::Failed { failures: self.failures, why };
            if self.record(None, outcome).await {
                (self.told_failing, self.told_at) = (true, Some(Instant::now()));
            }
        }
        tokio::time::sleep(wait).await;
        self.control.sinks.change(&self.name, |standing| standing.next_try = None);
    }

    async fn has_delivered(&mut self, events: u64) {
        let name = self.name.to_string();
        metrics::counter!("sheaf_sink_delivered_total", "sink" => name).increment(events);
        self.delivered += events;
        self.control.sinks.change(&self.name, |standing| {
            standing.place = self.place;
            standing.failures = 0;
            standing.lag = standing.lag.saturating_sub(events);
            standing.error = None;
        });
        self.record_if_due().await;
    }

    /// Counts what waits: what was read, and now and then what history holds after that.
    async fn count(&mut self) {
        let Some((waiting, mut after, oldest)) = self.waits else { return };
        let mut lag = waiting;
        let is_due = self.counted_at.is_none_or(|at| at.elapsed() >= COUNT_EVERY);
        if is_due {
            while lag < COUNTED
                && let Ok(part) = self.read_from(after).await
            {
                lag += part.found.iter().filter(|it| self.filter.selects(&it.event)).count() as u64;
                after = part.to;
                if !part.more {
                    break;
                }
            }
            self.counted_at = Some(Instant::now());
        }
        self.control.sinks.change(&self.name, |standing| {
            standing.place = self.place;
            standing.oldest = Some(oldest);
            standing.lag = if is_due { lag.min(COUNTED) } else { standing.lag.max(lag) };
        });
    }

    fn stand_idle(&mut self) {
        self.waits = None;
        self.control.sinks.change(&self.name, |standing| {
            standing.place = self.place;
            (standing.lag, standing.oldest) = (0, None);
        });
    }

    /// How long until something is due though nothing happens.
    fn rest(&self) -> Duration {
        if self.delivered == 0 {
            return REST;
        }
        RECORD_EVERY.saturating_sub(self.recorded_at.elapsed()).max(Duration::from_millis(10))
    }

    /// Records what was delivered; and now and then that nothing was to be.
    async fn record_if_due(&mut self) {
        let since = self.recorded_at.elapsed();
        if self.delivered > 0 {
            // That it is well again is said at once.
            if since >= RECORD_EVERY || self.told_failing {
                self.record(None, SinkOutcome::Delivered).await;
            }
        } else if self.place.0.saturating_sub(self.recorded.0) > BEHIND
            || (self.place > self.recorded && since >= BEHIND_FOR)
        {
            self.record(None, SinkOutcome::Nothing).await;
        }
    }

    /// Moves the cursor. Whether it is moved: without a majority it is not.
    async fn record(&mut self, missed: Option<(Revision, Revision)>, outcome: SinkOutcome) -> bool {
        let well = outcome == SinkOutcome::Delivered;
        let record = RecordSink {
            name: self.name.clone(),
            created: self.created,
            term: self.term,
            cursor: self.place,
            delivered: self.delivered,
            missed,
            outcome,
        };
        let command = Command::Sink(SinkCommand::Record(record));
        let decided = self.control.decide(&self.member.replica, self.term, command).await;
        if decided {
            (self.recorded, self.delivered) = (self.place, 0);
            if well {
                (self.told_failing, self.told_at) = (false, None);
            }
        }
        // Also where it was not decided, so that it is not asked for without end.
        self.recorded_at = Instant::now();
        if let Some(sink) = self.member.replica.state().sinks.get(&self.name) {
            // Further only by what a former line of this very leader had under way: that was delivered.
            self.place = self.place.max(sink.cursor);
        }
        decided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_put_off_for_an_hour_is_given_up() {
        let (mut put_off, begun) = (PutOff::default(), Instant::now());
        let enough = [0, 10, 3_599, 3_600].map(|after| put_off.is_enough(begun + Duration::from_secs(after)));
        assert_eq!(enough, [false, false, false, true]);
    }
}
