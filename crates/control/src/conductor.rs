//! The leader's loop: asks the steward what is due, proposes it, and looks again when something may have changed.

use std::time::{Duration, Instant};

use sheaf_consensus::Replica;
use sheaf_engine::{Command, Proposal, Reply, steward};
use sheaf_model::{Actor, Term};
use sheaf_wire::trace;
use tokio_util::sync::CancellationToken;

use crate::Control;
use crate::place::Member;
use crate::transfer::Relief;

/// Looks are at least so far apart: under a storm of answers each look serves many.
const SPACING: Duration = Duration::from_millis(2);
/// So many times the time that a look took passes before the next: looking at everything costs at most a tenth of a
/// core, however much there is and however often it changes.
const REST: u32 = 9;
/// Looks are at most so far apart, whatever was missed.
const AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// How long a decision may take to be applied before it is decided anew.
const DECIDE_WITHIN: Duration = Duration::from_secs(5);

/// One look at everything.
pub(crate) struct Looked {
    /// How long nothing more will be due.
    wake_in: Duration,
    /// How long it took to see what is due.
    took: Duration,
}

/// What came of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    /// It is applied.
    Holds,
    /// It was applied and changed nothing: something else came before it.
    Overtaken,
    /// It never came into the log.
    Never,
    /// That is not known, and it may hold later.
    Unsure,
}

impl Control {
    /// Follows leadership and conducts while this node leads. Runs until told to stop.
    pub(crate) async fn run_conductor(&self, member: Member, stop: CancellationToken) {
        let replica = &member.replica;
        let mut leadership = replica.leadership();
        let mut relief = Relief::default();
        loop {
            let now = *leadership.borrow_and_update();
            if now.leading {
                self.floor.clear();
                self.traces.clear();
                self.live.begin(now.term, self.clock.moment());
                tracing::info!(term = %now.term, "this node leads");
                metrics::counter!("sheaf_raft_leaderships_total").increment(1);
                let changed = leadership.wait_for(|then| !then.leading || then.term != now.term);
                tokio::select! {
                    () = stop.cancelled() => return,
                    // Dropping these loses nothing: all of them look at everything again when they begin.
                    _ = changed => {}
                    () = self.conduct(replica, now.term) => {}
                    () = self.keep_members(replica, now.since) => {}
                    () = self.dispatch(&member, now.term) => {}
                    () = self.run_sinks(&member, now.term) => {}
                    () = self.keep_room(replica, &mut relief) => {}
                }
                self.floor.clear();
                self.sinks.clear();
                self.live.end();
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // Dropping `changed` loses nothing: the value stays.
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Never ends by itself.
    async fn conduct(&self, replica: &Replica, term: Term) {
        let mut revision = replica.revision();
        // Nothing may be decided before an entry of this term is applied; reading the index waits for that.
        while replica.confirm_leadership().await.is_err() {
            tokio::time::sleep(SPACING).await;
        }
        loop {
            revision.mark_unchanged();
            let Looked { wake_in, took } = self.look(replica, term).await;
            tokio::select! {
                // Dropping these loses at most a wake-up, and the next look comes within a second anyway.
                () = self.live.conduct.notified() => {}
                _ = revision.changed() => {}
                () = tokio::time::sleep(wake_in) => {}
            }
            tokio::time::sleep(SPACING.max(took.saturating_mul(REST))).await;
        }
    }

    /// Does all that is due.
    pub(crate) async fn look(&self, replica: &Replica, term: Term) -> Looked {
        let (now, wall) = (self.clock.moment(), self.clock.wall());
        let began = Instant::now();
        let (due, is_news) = {
            let mut live = self.live.lock();
            let Some(sessions) = live.sessions.as_mut().filter(|sessions| sessions.term == term) else {
                return Looked { wake_in: AT_LEAST_EVERY, took: Duration::ZERO };
            };
            let told = sessions.told();
            let due = steward::due(&replica.state(), sessions, now, wall);
            (due, sessions.told() != told)
        };
        let took = began.elapsed();
        if is_news {
            // Answers that came before this leader had applied what they are about count from now on.
            self.live.heard();
        }
        let proposals = due.commands.into_iter().map(|command| self.decide(replica, term, command));
        futures::future::join_all(proposals).await;
        let wake_in = due.wake_at.map_or(AT_LEAST_EVERY, |at| at.since(now).duration());
        Looked { wake_in: wake_in.clamp(SPACING, AT_LEAST_EVERY), took }
    }

    /// Proposes what the leader of `term` has decided. Whether it holds: it may have been overtaken.
    pub(crate) async fn decide(&self, replica: &Replica, term: Term, command: Command) -> bool {
        self.decided(replica, term, command).await == Decided::Holds
    }

    /// What came of it.
    pub(crate) async fn decided(&self, replica: &Replica, term: Term, command: Command) -> Decided {
        let proposal = Proposal {
            actor: Actor(format!("leader:{}", self.place.identity.name)),
            at: self.clock.wall(),
            request: None,
            command,
        };
        let placing = self.placing(&proposal.command);
        let proposed = tokio::time::timeout(DECIDE_WITHIN, replica.propose_in_term(term, &proposal)).await;
        if let (Some(mut span), false) = (placing, matches!(proposed, Ok(Ok(_)))) {
            span.failed(&"not applied");
        }
        match proposed {
            Ok(Ok(applied)) => match applied.reply {
                Reply::Refused(refusal) => {
                    tracing::debug!(%refusal, command = ?proposal.command, "not decided");
                    Decided::Overtaken
                }
                _ => {
                    tracing::debug!(command = ?proposal.command, "decided");
                    if matches!(proposal.command, Command::Bind(_)) {
                        metrics::counter!("sheaf_placements_total").increment(1);
                    }
                    Decided::Holds
                }
            },
            Ok(Err(error)) => {
                tracing::debug!(%error, "not decided");
                if error.may_hold() { Decided::Unsure } else { Decided::Never }
            }
            Err(_) => {
                let why = self.why_unconfirmed(replica);
                tracing::warn!("a decision was not applied within {DECIDE_WITHIN:?}: {why}");
                Decided::Unsure
            }
        }
    }

    /// A placement as a part of what changed its bucket lately.
    fn placing(&self, command: &Command) -> Option<trace::Span> {
        let Command::Bind(bind) = command else { return None };
        let change = self.traces.of(&bind.bucket, Instant::now())?;
        let span = trace::begin("sheaf.place", Some(change));
        let span = span.with("sheaf.bucket", &bind.bucket).with("sheaf.node", &self.node_name(bind.node));
        self.traces.placed(&bind.bucket, span.context().unwrap_or(change));
        Some(span)
    }
}
