//! Leadership is handed over: because somebody asks for it, because this node stops, or because its disk has no room for changes.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sheaf_consensus::Replica;
use sheaf_model::{Bytes, NodeId, NodeStatus, Term};
use sheaf_wire::ApiError;

use crate::Control;
use crate::node::find;

/// How often a leader looks whether its disk has room.
const EVERY: Duration = Duration::from_millis(250);
/// A leader without room waits so long before it hands over: what the others have said of their disks is newer then than what
/// filled its own, which may be theirs, too.
const LASTS: Duration = Duration::from_secs(3);
/// It tries again after so long, also when it has led again meanwhile.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Longer than an election takes. A leader that has begun to hand over takes no proposal and sends no heartbeat until another
/// one leads: if the heir does not, the others elect somebody.
pub(crate) const TRANSFER_WITHIN: Duration = Duration::from_secs(3);

/// The same for a node that is about to stop: then the others elect one.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// While it lives the leader of this term acknowledges and decides nothing, whoever else hands over as well; whoever asked for
/// it may go away meanwhile.
struct Frozen<'a> {
    control: &'a Control,
    /// None: it does not lead.
    term: Option<Term>,
}

impl<'a> Frozen<'a> {
    fn begin(control: &'a Control) -> Self {
        let mut live = control.live.lock();
        let term = live.sessions.as_mut().map(|sessions| {
            sessions.freeze(true);
            sessions.term
        });
        Self { control, term }
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let mut live = self.control.live.lock();
        if let Some(sessions) = live.sessions.as_mut().filter(|sessions| Some(sessions.term) == self.term) {
            sessions.freeze(false);
        }
    }
}

/// Hands leadership to `heir`, and returns who leads next, as this node sees it.
async fn hand_over(replica: &Replica, heir: NodeId) -> Result<NodeId, ApiError> {
    let mut leadership = replica.leadership();
    let term = leadership.borrow_and_update().term;
    replica.transfer_leader(heir).await.map_err(|error| ApiError::unavailable(error.to_string()))?;
    let stopping = || ApiError::unavailable("this node is stopping");
    let led = leadership.wait_for(|now| now.term > term && now.leader.is_some()).await;
    led.map_err(|_| stopping())?.leader.ok_or_else(stopping)
}

/// Why a voter cannot lead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unfit {
    /// It may be lost, or has only to be heard: by a leader that has just begun, or after it came back.
    Silent,
    /// The status it has.
    Is(&'static str),
}

/// Another voter that may be to lead.
struct Candidate {
    node: NodeId,
    unfit: Option<Unfit>,
    /// Whether its disk has room for changes; none: it has not said so yet.
    has_room: Option<bool>,
    /// How many entries of the log it lacks, if that is known.
    lag: Option<u64>,
}

impl Candidate {
    /// Whether it takes leadership at once, and then changes. One that lacks some of the log does not take it before it has
    /// that, and until somebody leads no lease is acknowledged: work would end for a hand-over that can wait.
    fn is_sure(&self) -> bool {
        self.has_room == Some(true) && self.lag == Some(0)
    }
}

/// Of those that can lead, one whose disk has room, if there is any; of those the one that lacks the least of the log.
fn preferred(candidates: &[Candidate]) -> Option<NodeId> {
    let fit = candidates.iter().filter(|other| other.unfit.is_none());
    let nearest = fit.min_by_key(|other| (other.has_room == Some(false), other.lag.unwrap_or(u64::MAX)));
    nearest.map(|other| other.node)
}

fn without_room(name: &str, reserve: Bytes) -> String {
    format!(
        "node {name} has too little free on its disk (less than {reserve}, which are kept for votes): it would take no change; \
         leadership stays where it is; free space on {name}, or leave out --to"
    )
}

/// When a leader without room has seen that, and has tried to hand over.
#[derive(Default)]
pub(crate) struct Relief {
    /// Since when, in this leadership.
    since: Option<Instant>,
    tried: Option<Instant>,
}

impl Relief {
    /// Whether leadership is to be handed over now. `helps`: this leader has no room, and another one that has is there.
    fn is_due(&mut self, helps: bool, now: Instant) -> bool {
        if !helps {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let is_rested = self.tried.is_none_or(|tried| now.duration_since(tried) >= AGAIN_AFTER);
        let is_due = is_rested && now.duration_since(since) >= LASTS;
        if is_due {
            self.tried = Some(now);
        }
        is_due
    }
}

impl Control {
    /// Before this node stops: if it leads, another voter is to lead, so that nobody has to notice its end first.
    pub fn hand_over(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.hand_over_now())
    }

    async fn hand_over_now(&self) {
        let voters = self.place.member().map_or(0, |member| member.replica.metrics().voters().count());
        if !self.place.leads() || voters < 2 {
            return;
        }
        match self.transfer_to(None, LEAVE_WITHIN).await {
            Ok(heir) => tracing::info!(heir, "another node leads now"),
            Err(error) => tracing::warn!(%error, "nobody has taken leadership"),
        }
    }

    pub(crate) async fn transfer_to(&self, to: Option<&str>, within: Duration) -> Result<String, ApiError> {
        let heir = self.heir(to)?;
        self.transfer_leadership(heir, within).await?;
        Ok(self.node_name(heir))
    }

    async fn transfer_leadership(&self, heir: NodeId, within: Duration) -> Result<(), ApiError> {
        let member = self.member()?;
        if heir == member.replica.node() {
            return Ok(());
        }
        // What is acknowledged from here on would only delay the heir's first decisions.
        let _frozen = Frozen::begin(self);
        let handed = tokio::time::timeout(within, hand_over(&member.replica, heir)).await;
        let name = self.node_name(heir);
        let Ok(led) = handed else {
            return Err(ApiError::DeadlineExceeded(format!(
                "node {name} did not take leadership within {within:?}, and nobody else leads yet: no change is taken until \
                 somebody does (sheaf cluster status)"
            )));
        };
        let led = led?;
        if led != heir {
            let leads = self.node_name(led);
            return Err(ApiError::unavailable(format!(
                "node {name} did not take leadership; the others have elected node {leads}"
            )));
        }
        Ok(())
    }

    /// Why a voter cannot lead now; none: it can, as far as is known. One that does not take leadership costs an election.
    fn unfit_to_lead(&self, node: NodeId) -> Option<Unfit> {
        let why = self.see(|sight| {
            let known = sight.state.nodes.get(&node)?;
            let silent = |sessions: &sheaf_engine::Sessions| {
                !sessions.is_answering(node) || sessions.is_suspect(sight.state, node, sight.now)
            };
            match known.status {
                NodeStatus::Ready | NodeStatus::Draining if sight.sessions.is_none_or(silent) => {
                    Some(Unfit::Silent)
                }
                NodeStatus::Ready | NodeStatus::Draining => None,
                other => Some(Unfit::Is(other.as_str())),
            }
        });
        why.ok().flatten()
    }

    /// The voter that is to lead: the one named, else, of those that are there, the one to prefer.
    /// [`ApiError::Unavailable`] while it may only have to be heard first: such a call is asked again by itself.
    fn heir(&self, to: Option<&str>) -> Result<NodeId, ApiError> {
        let member = self.member()?;
        if !member.replica.leadership().borrow().leading {
            return Err(ApiError::unavailable("this node does not lead"));
        }
        let Some(to) = to else {
            let candidates = self.candidates(&member.replica);
            return preferred(&candidates).ok_or_else(|| {
                if candidates.iter().any(|other| other.unfit == Some(Unfit::Silent)) {
                    ApiError::unavailable("no other voter answers now")
                } else {
                    ApiError::Precondition("there is no other voter that could lead now".to_owned())
                }
            });
        };
        let metrics = member.replica.metrics();
        let node = self.see_rows(|sight| find(sight.state, to).map(|node| node.id))??;
        if !metrics.voters().any(|voter| voter.peer.node == node) {
            let names: Vec<String> = metrics.voters().map(|voter| self.node_name(voter.peer.node)).collect();
            return Err(ApiError::Precondition(format!(
                "node {to} does not vote; voters: {}",
                names.join(", ")
            )));
        }
        if node == metrics.node {
            return Ok(node);
        }
        let stays = "leadership stays where it is, since no change would be taken until another is elected";
        match self.unfit_to_lead(node) {
            Some(Unfit::Silent) => {
                Err(ApiError::unavailable(format!("node {to} does not answer now: {stays}")))
            }
            Some(Unfit::Is(status)) => Err(ApiError::Precondition(format!("node {to} is {status}: {stays}"))),
            None if self.has_room(&member.replica, node) == Some(false) => {
                Err(ApiError::Precondition(without_room(to, Bytes(member.replica.reserve_bytes()))))
            }
            None => Ok(node),
        }
    }

    /// All other voters, as they are now.
    fn candidates(&self, replica: &Replica) -> Vec<Candidate> {
        let metrics = replica.metrics();
        let others = metrics.voters().filter(|voter| voter.peer.node != metrics.node);
        let candidate = |voter: &sheaf_consensus::MemberMetrics| {
            let node = voter.peer.node;
            Candidate {
                node,
                unfit: self.unfit_to_lead(node),
                has_room: self.has_room(replica, node),
                lag: voter.match_lag,
            }
        };
        others.map(candidate).collect()
    }

    /// Hands over when this leader's disk has no room for changes, and those of a majority have. Never ends by itself.
    pub(crate) async fn keep_room(&self, replica: &Replica, relief: &mut Relief) {
        relief.since = None;
        loop {
            tokio::time::sleep(EVERY).await;
            let heir = self.heir_with_room(replica);
            if !relief.is_due(heir.is_some(), Instant::now()) {
                continue;
            }
            let Some(heir) = heir else { continue };
            let name = self.node_name(heir);
            tracing::warn!(
                "this node's disk has no room for changes: leadership is handed over to node {name}"
            );
            // Once another one leads, this loop is dropped; what comes back is why none does.
            if let Err(error) = self.transfer_leadership(heir, TRANSFER_WITHIN).await {
                tracing::warn!(%error, "nobody else has taken leadership; trying again in {AGAIN_AFTER:?}");
            }
        }
    }

    /// Who is to lead instead of this leader without room; none: it has room, or changes would be taken by no other one, or nobody
    /// has all of the log yet, which comes since this one adds nothing to it.
    fn heir_with_room(&self, replica: &Replica) -> Option<NodeId> {
        if replica.has_room() || self.shortage(replica).is_none_or(|shortage| shortage.stops_changes()) {
            return None;
        }
        let mut candidates = self.candidates(replica);
        candidates.retain(Candidate::is_sure);
        preferred(&candidates)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sheaf_model::Moment;

    use super::*;
    use crate::propose::tests::{One, Still};

    const FIT: Candidate = Candidate { node: NodeId(1), unfit: None, has_room: Some(true), lag: Some(0) };

    #[test]
    fn a_voter_with_room_is_preferred_to_one_that_lacks_less() {
        let full = Candidate { node: NodeId(2), has_room: Some(false), ..FIT };
        let behind = Candidate { node: NodeId(3), lag: Some(7), ..FIT };
        let unheard = Candidate { node: NodeId(4), has_room: None, lag: None, ..FIT };
        let silent = Candidate { node: NodeId(5), unfit: Some(Unfit::Silent), ..FIT };
        let all = [silent, full, unheard, behind];
        assert_eq!(preferred(&all), Some(NodeId(3)));
        assert_eq!(preferred(&all[..3]), Some(NodeId(4)), "it has not said that it is full");
        assert_eq!(preferred(&all[..2]), Some(NodeId(2)), "better than none");
        assert_eq!(preferred(&all[..1]), None);
    }

    #[test]
    fn only_a_voter_that_lacks_nothing_and_has_room_is_sure_to_take_leadership() {
        assert!(FIT.is_sure());
        let unsure = [
            Candidate { lag: Some(1), ..FIT },
            Candidate { lag: None, ..FIT },
            Candidate { has_room: None, ..FIT },
            Candidate { has_room: Some(false), ..FIT },
        ];
        assert!(unsure.iter().all(|other| !other.is_sure()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_hand_over_that_ends_does_not_end_the_silence_of_another() {
        let one = One::formed().await;
        let control = one.control(Arc::new(Still));
        let is_frozen = || control.live.lock().sessions.as_ref().expect("it leads").is_frozen();
        control.live.begin(Term(1), Moment(0));
        let (asked, own) = (Frozen::begin(&control), Frozen::begin(&control));
        drop(asked);
        assert!(is_frozen());
        control.live.begin(Term(3), Moment(0));
        assert!(!is_frozen(), "it leads again");
        let next = Frozen::begin(&control);
        drop(own);
        assert!(is_frozen(), "that was of the former leadership");
        drop(next);
        assert!(!is_frozen());
    }

    #[test]
    fn who_has_no_room_is_named_with_the_remedy() {
        assert_eq!(
            without_room("n3", Bytes(32 << 20)),
            "node n3 has too little free on its disk (less than 32MiB, which are kept for votes): it would take no change; \
             leadership stays where it is; free space on n3, or leave out --to"
        );
    }

    #[test]
    fn a_leader_without_room_hands_over_once_that_lasts_and_not_again_soon() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut relief = Relief::default();
        assert!(!relief.is_due(true, at(0)) && !relief.is_due(true, at(2)));
        // There was room again meanwhile.
        assert!(!relief.is_due(false, at(3)) && !relief.is_due(true, at(4)) && !relief.is_due(true, at(6)));
        assert!(relief.is_due(true, at(7)));
        assert!(!relief.is_due(true, at(8)) && !relief.is_due(true, at(36)));
        assert!(relief.is_due(true, at(37)), "nobody has taken it");
        relief.since = None;
        assert!(!relief.is_due(true, at(60)) && !relief.is_due(true, at(66)), "it leads again");
        assert!(relief.is_due(true, at(67)));
    }
}
