//! Many agents that are nothing but their two streams, all in this process: a session with the leader, and a watch from any
//! member. They open them anew as agents do, and run nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{self, FuturesUnordered};
use futures::{FutureExt as _, StreamExt as _};
use sheaf_model::session::{Heartbeat, Hello, ToLeader, ToNode};
use sheaf_model::{
    BootId, Bytes, ClusterId, Contact, Facts, Incarnation, Load, Moment, NodeId, NodeKey, NodeName, Revision,
};
use sheaf_wire::peer::{JoinAsk, Joined, PeerClient, WatchNode};
use sheaf_wire::{Answers, Transport};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::wait::wait_for;
use crate::{Agent, Cluster};

/// Opening a stream takes at most so long, as for an agent.
const OPENING: Duration = Duration::from_secs(1);
/// After nobody was the leader.
const PAUSE: Duration = Duration::from_millis(50);
/// From the second try on, not all ask in the same moment, as agents do not.
const SPREAD: u64 = 300;
/// Until one has its number.
const JOINING: Duration = Duration::from_secs(10);
/// So many ask for a number at a time.
const JOINING_AT_ONCE: usize = 16;
/// For all of them to have both streams, at first.
const GATHERING: Duration = Duration::from_secs(90);

/// See the module. Ends with it.
pub struct Crowd {
    // Its tasks end with it.
    _runtime: Runtime,
    shared: Arc<Shared>,
    count: usize,
}

/// What all of them know and note.
struct Shared {
    cluster: ClusterId,
    members: Vec<String>,
    begun: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// By their places: where the session leads, and since when it stands.
    sessions: BTreeMap<usize, (String, Instant)>,
    watches: BTreeSet<usize>,
    /// From sending a heartbeat until it was acknowledged.
    answers: Vec<Duration>,
    /// Sessions that ended because a heartbeat was not acknowledged for two of them.
    silences: usize,
}

impl Crowd {
    /// Has so many nodes registered, and waits until each has both streams. They are never asked to vote: the cluster keeps
    /// the voters that it has.
    ///
    /// # Panics
    /// If they do not get there.
    pub fn gather(cluster: &Cluster, count: usize) -> Self {
        let voters = cluster.voters();
        cluster.cli(&["cluster", "settings", &format!("voters={}", voters.len())]).ok();
        let status = cluster.json(&["cluster", "status", "-o", "json"]);
        let shared = Arc::new(Shared {
            cluster: ClusterId::from(status["cluster"].as_str().unwrap_or_default()),
            members: voters.into_iter().map(Agent::address).collect(),
            begun: Instant::now(),
            seen: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads can be started");
        let joining = (0..count).map(|place| Member::join(shared.clone(), place));
        let all =
            runtime.block_on(stream::iter(joining).buffer_unordered(JOINING_AT_ONCE).collect::<Vec<_>>());
        for agent in all.into_iter().map(Arc::new) {
            runtime.spawn(agent.clone().hold_session());
            runtime.spawn(agent.hold_watch());
        }
        let crowd = Self { _runtime: runtime, shared, count };
        wait_for("each has both streams", GATHERING, || {
            let seen = crowd.seen();
            let (sessions, watches) = (seen.sessions.len(), seen.watches.len());
            if (sessions, watches) == (count, count) { Ok(()) } else { Err(format!("{sessions}, {watches}")) }
        });
        crowd
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.seen()
    }

    /// Waits until all have a session there, and says when each began.
    ///
    /// # Panics
    /// If they do not get there in time.
    pub fn wait_led_by(&self, address: &str, within: Duration) -> Vec<Instant> {
        wait_for(&format!("all sessions are with {address}"), within, || {
            let seen = self.seen();
            let there = seen.sessions.values().filter(|(leader, _)| leader == address);
            let since: Vec<Instant> = there.map(|(_, since)| *since).collect();
            if since.len() == self.count {
                Ok(since)
            } else {
                Err(format!("{} of {}", since.len(), self.count))
            }
        })
    }

    /// How long heartbeats took until they were acknowledged, since this was last asked.
    pub fn take_answers(&self) -> Vec<Duration> {
        std::mem::take(&mut self.seen().answers)
    }

    /// How often an agent gave a leader up because it did not acknowledge for two heartbeats.
    pub fn silences(&self) -> usize {
        self.seen().silences
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them.
struct Member {
    shared: Arc<Shared>,
    place: usize,
    node: NodeId,
    key: NodeKey,
    facts: Facts,
}

/// A session that stands.
struct Opened {
    address: String,
    messages: mpsc::Sender<ToLeader>,
    answers: Answers<ToNode>,
    heartbeat: Duration,
}

/// What an address answered.
enum Reply {
    Welcome(Opened),
    Elsewhere(String),
    Nothing,
}

impl Member {
    async fn join(shared: Arc<Shared>, place: usize) -> Self {
        let name = format!("crowd-{place:04}");
        let key = NodeKey::from(name.as_str());
        let facts = Facts {
            name: NodeName::new(&name).expect("a good name"),
            hostname: name,
            // Nobody calls them.
            address: format!("127.9.{}.{}:9", place / 250, place % 250 + 1),
            labels: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            version: "0".to_owned(),
            cpu: 1,
            memory_total: Bytes(1 << 30),
            notes: Vec::new(),
        };
        let ask = JoinAsk {
            key: key.clone(),
            cluster: None,
            facts: facts.clone(),
            public_key: Vec::new(),
            token: None,
        };
        let joined = async {
            let mut address = shared.members[0].clone();
            loop {
                let contact = Contact::anyone(&address);
                let client =
                    PeerClient::new(&contact, &Transport::plain()).expect("an agent's address is one");
                match client.join(&ask, OPENING).await {
                    Ok(Joined::Registered { node, .. }) => return node,
                    Ok(Joined::Redirect(Some(leader))) => address = leader.address,
                    Ok(Joined::Refused(why)) => panic!("crowd-{place}: {why}"),
                    _ => sleep(PAUSE).await,
                }
            }
        };
        let node = timeout(JOINING, joined).await.expect("a cluster with a leader registers nodes");
        Self { shared, place, node, key, facts }
    }

    async fn hold_session(self: Arc<Self>) {
        let mut tries = 0;
        loop {
            if let Some(opened) = self.search().await {
                tries = 0;
                let known = (opened.address.clone(), Instant::now());
                self.shared.seen().sessions.insert(self.place, known);
                self.keep(opened).await;
                self.shared.seen().sessions.remove(&self.place);
                continue;
            }
            tries += 1;
            // As good as chance, since all have different places.
            let spread = if tries > 1 { (self.place as u64 * 7919 + tries * 104_729) % SPREAD } else { 0 };
            sleep(PAUSE + Duration::from_millis(spread)).await;
        }
    }

    /// Asks all at once, and follows where they point: the first one that welcomes it.
    async fn search(&self) -> Option<Opened> {
        let mut asked: BTreeSet<String> = self.shared.members.iter().cloned().collect();
        let mut asking: FuturesUnordered<_> =
            self.shared.members.iter().map(|address| self.ask(address.clone()).boxed()).collect();
        while let Some(reply) = asking.next().await {
            match reply {
                Reply::Welcome(opened) => return Some(opened),
                Reply::Elsewhere(leader) if asked.insert(leader.clone()) => {
                    asking.push(self.ask(leader).boxed());
                }
                Reply::Elsewhere(_) | Reply::Nothing => {}
            }
        }
        None
    }

    async fn ask(&self, address: String) -> Reply {
        timeout(OPENING, self.open(address)).await.ok().flatten().unwrap_or(Reply::Nothing)
    }

    async fn open(&self, address: String) -> Option<Reply> {
        let (messages, waiting) = mpsc::channel(64);
        let hello = ToLeader::Hello(Box::new(Hello {
            cluster: self.shared.cluster.clone(),
            node: self.node,
            key: self.key.clone(),
            boot: BootId("crowd".to_owned()),
            incarnation: Incarnation("crowd".to_owned()),
            facts: self.facts.clone(),
            fresh: false,
            stand_in: false,
            work: None,
        }));
        let waiting = stream::unfold(waiting, |mut waiting| async { Some((waiting.recv().await?, waiting)) });
        let said = stream::once(std::future::ready(hello)).chain(waiting).boxed();
        let client = PeerClient::new(&Contact::anyone(&address), &Transport::plain()).ok()?;
        let mut answers = client.session(said, OPENING).await.ok()?;
        Some(match answers.next().await? {
            Ok(ToNode::Welcome { heartbeat, .. }) => {
                Reply::Welcome(Opened { address, messages, answers, heartbeat: heartbeat.duration() })
            }
            Ok(ToNode::Redirect { leader: Some(leader), .. }) => Reply::Elsewhere(leader),
            _ => Reply::Nothing,
        })
    }

    /// Heartbeats until it breaks, or is not acknowledged for two of them.
    async fn keep(&self, mut opened: Opened) {
        let mut beats = interval(opened.heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered: VecDeque<(Moment, Instant)> = VecDeque::new();
        loop {
            tokio::select! {
                _ = beats.tick() => {
                    if unanswered.front().is_some_and(|(_, at)| at.elapsed() >= 2 * opened.heartbeat) {
                        self.shared.seen().silences += 1;
                        return;
                    }
                    let sent_at = Moment(self.shared.begun.elapsed().as_millis() as u64);
                    unanswered.push_back((sent_at, Instant::now()));
                    let heartbeat = Heartbeat { sent_at, load: Load::default(), seen: Revision(0) };
                    if opened.messages.try_send(ToLeader::Heartbeat(heartbeat)).is_err() {
                        return;
                    }
                }
                answer = opened.answers.next() => match answer {
                    Some(Ok(ToNode::Acknowledged(acknowledged))) => {
                        while let Some((_, at)) = unanswered.pop_front_if(|(sent, _)| *sent <= acknowledged.sent_at) {
                            self.shared.seen().answers.push(at.elapsed());
                        }
                    }
                    Some(Ok(ToNode::Redirect { .. } | ToNode::Refused { .. }) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
            }
        }
    }

    async fn hold_watch(self: Arc<Self>) {
        let mut turn = self.place;
        loop {
            let contact = Contact::anyone(&self.shared.members[turn % self.shared.members.len()]);
            let ask = WatchNode { cluster: self.shared.cluster.clone(), node: self.node, places: None };
            let client = PeerClient::new(&contact, &Transport::plain()).expect("an agent's address is one");
            if let Ok(mut items) = client.watch(ask, OPENING).await {
                self.shared.seen().watches.insert(self.place);
                while let Some(Ok(_)) = items.next().await {}
                self.shared.seen().watches.remove(&self.place);
            }
            turn += 1;
            sleep(PAUSE).await;
        }
    }
}
