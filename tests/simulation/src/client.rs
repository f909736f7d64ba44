//! Clients: each owns a bucket, changes it, and asks again under the same request until it has an answer.

use std::sync::Arc;

use sheaf_engine::{Apply, Command, OnBucket, Proposal, Reply};
use sheaf_model::{
    BucketName, BucketSpec, Json, ModuleRef, NodeListRules, OnNodeLost, Placement, PutBucket, RequestId,
    Revision, Timestamp,
};

use crate::clock::{MS, SECOND};
use crate::event::{Ask, AtClient, Process, What};
use crate::outcome::Rule;
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Client {
    bucket: BucketName,
    module: &'static str,
    number: u64,
    pending: Option<(Arc<Proposal>, Expected)>,
    /// Whom to ask next.
    turn: usize,
    tries: u64,
    expected: Expected,
    /// A change was refused; a late copy of it may still be made, so that nothing is known exactly any more.
    muddled: bool,
    value: u64,
    settled: bool,
    /// A machine that its bucket shall leave.
    away: Option<usize>,
}

/// How the bucket must be, as far as its client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Expected {
    exists: bool,
    suspended: bool,
    multi: bool,
    value: u64,
}

impl Client {
    pub(crate) fn new(c: usize, multi: bool) -> Self {
        let bucket = BucketName::new(&format!("/b{c}")).expect("a slash, a letter and digits");
        Self {
            bucket,
            module: if c % 3 == 2 { "gated" } else { "plain" },
            number: 0,
            pending: None,
            turn: c,
            tries: 0,
            expected: Expected { multi, ..Expected::default() },
            muddled: false,
            value: 0,
            settled: false,
            away: None,
        }
    }
}

impl World {
    pub(crate) fn on_client(&mut self, c: usize, it: AtClient) {
        let (number, tries) = (self.clients[c].number, self.clients[c].tries);
        match it {
            AtClient::Next => self.change(c),
            AtClient::Again(of) if of == tries && self.clients[c].pending.is_some() => {
                self.clients[c].turn += 1;
                self.ask(c);
            }
            AtClient::Elsewhere(of) if of == number && self.clients[c].pending.is_some() => {
                let delay = self.random.between(20 * MS, 200 * MS);
                self.later(delay, Process::Client(c), What::Client(AtClient::Again(tries)));
            }
            AtClient::Answer(of, reply, revision) if of == number => self.answered(c, &reply, revision),
            _ => {}
        }
    }

    fn ask(&mut self, c: usize) {
        let client = &mut self.clients[c];
        client.tries += 1;
        let tries = client.tries;
        let Some((proposal, _)) = &client.pending else { return };
        let (me, number) = (Process::Client(c), client.number);
        let v = client.turn % self.voters.len();
        let ask = Ask { from: me, number, proposal: proposal.clone() };
        self.datagram(me, Process::Voter(v), What::Asked(ask));
        self.later(SECOND, me, What::Client(AtClient::Again(tries)));
    }

    /// Decides what to change next, and asks for it.
    fn change(&mut self, c: usize) {
        if self.clients[c].pending.is_some() {
            return;
        }
        let now = self.clients[c].expected;
        if !self.plan.changes && now.exists && !now.suspended && self.clients[c].away.is_none() {
            return;
        }
        let (command, expected) = if now.exists { self.verb(c, now) } else { self.put(c, now.multi) };
        let client = &mut self.clients[c];
        client.number += 1;
        let proposal = Proposal {
            actor: "client".into(),
            at: Timestamp(self.now / MS),
            request: Some(RequestId(format!("c{c}-{}", client.number))),
            command,
        };
        client.pending = Some((Arc::new(proposal), expected));
        self.ask(c);
    }

    fn verb(&mut self, c: usize, now: Expected) -> (Command, Expected) {
        let on = OnBucket { bucket: self.clients[c].bucket.clone(), base: None };
        if now.suspended && (self.healed || self.random.chance(800)) {
            return (Command::Resume(on), Expected { suspended: false, ..now });
        }
        match self.random.below(10) {
            _ if self.clients[c].away.is_some() => self.put(c, now.multi),
            0..4 => (Command::Suspend(on), Expected { suspended: true, ..now }),
            4 if !now.suspended => (Command::Restart(on), now),
            5 => {
                let gone = Expected { exists: false, suspended: false, ..now };
                (Command::DeleteBucket(on), gone)
            }
            6 => self.put(c, !now.multi),
            _ => self.put(c, now.multi),
        }
    }

    /// A client does not want its bucket on a machine any more.
    pub(crate) fn send_away(&mut self, bucket: &BucketName, m: usize) {
        let Some(c) = self.clients.iter().position(|client| client.bucket == *bucket) else { return };
        self.clients[c].away = Some(m);
        self.later(MS, Process::Client(c), What::Client(AtClient::Next));
    }

    fn put(&mut self, c: usize, multi: bool) -> (Command, Expected) {
        let nodes = self.machines.len();
        let away = self.clients[c].away.take();
        let rules: Vec<String> = match self.random.below(5) {
            _ if away.is_some() => away.iter().map(|m| format!("-n{m}")).collect(),
            _ if self.plan.anywhere => Vec::new(),
            0 => vec![format!("n{}", self.random.index(nodes))],
            1 => vec![format!("n{}", self.random.index(nodes)), format!("n{}", self.random.index(nodes))],
            2 => vec![format!("-n{}", self.random.index(nodes))],
            3 => vec!["$zone=a".to_owned()],
            _ => Vec::new(),
        };
        let lost =
            if !self.plan.anywhere && self.random.chance(100) { OnNodeLost::Wait } else { OnNodeLost::Move };
        let placement = match self.random.below(3) {
            0 => Placement::LeastLoaded,
            1 => Placement::Random,
            _ => Placement::Spread("zone".to_owned()),
        };
        let client = &mut self.clients[c];
        client.value += 1;
        let module = ModuleRef::parse(client.module).expect("a name of letters");
        let mut spec = BucketSpec::new(client.bucket.clone(), module);
        spec.multi_node = multi;
        spec.node_list_rules = rules_of(&rules);
        spec.on_node_lost = lost;
        spec.placement = placement;
        spec.config = config(client.value);
        let put = PutBucket { spec, suspended: None, base: None, latest: false };
        let expected = Expected {
            exists: true,
            suspended: client.expected.suspended && client.expected.exists,
            multi,
            value: client.value,
        };
        (Command::Apply(Apply { modules: vec![], buckets: vec![put] }), expected)
    }

    fn answered(&mut self, c: usize, reply: &Reply, revision: Revision) {
        let Some((proposal, expected)) = self.clients[c].pending.take() else { return };
        let client = &mut self.clients[c];
        if matches!(reply, Reply::Refused(_)) {
            client.muddled = true;
        } else {
            client.expected = expected;
            self.counts.acknowledged += 1;
            let request = proposal.request.clone().unwrap_or_default();
            if !self.truth.state.request_ids.contains_key(&request) {
                self.broken(Rule::Acknowledged, format!("{request} is acknowledged and not committed"));
            }
            self.truth.acknowledge(request);
        }
        self.line(|| format!("client {c}: {:?} at {revision}: {reply:?}", proposal.command));
        self.go_on(c);
    }

    fn go_on(&mut self, c: usize) {
        let client = &mut self.clients[c];
        let ready = client.expected.exists && !client.expected.suspended;
        if self.healed {
            // Most end with a bucket that shall run.
            if client.settled || ready || self.random.chance(200) {
                self.clients[c].settled = true;
                return;
            }
        } else if !self.plan.changes && ready {
            return;
        }
        let suspended = self.clients[c].expected.suspended;
        let delay = match self.random.below(4) {
            0 | 1 if suspended => self.random.between(30 * MS, 800 * MS),
            0 => self.random.between(MS, 100 * MS),
            1 => self.random.between(100 * MS, 1500 * MS),
            _ => self.random.between(SECOND, 8 * SECOND),
        };
        self.later(delay, Process::Client(c), What::Client(AtClient::Next));
    }

    /// Whether every acknowledged change is there, at the end.
    pub(crate) fn judge_clients(&mut self) {
        for c in 0..self.clients.len() {
            let client = &self.clients[c];
            if client.muddled {
                continue;
            }
            let (is, name) = (self.truth.state.buckets.get(&client.bucket), client.bucket.clone());
            let is = is.map_or(Expected { multi: client.expected.multi, ..Expected::default() }, |bucket| {
                let spec = &bucket.current.spec;
                let same = spec.config == config(client.expected.value);
                let value = if same { client.expected.value } else { 0 };
                Expected { exists: true, suspended: bucket.suspended, multi: spec.multi_node, value }
            });
            let mut wanted = client.expected;
            if !wanted.exists {
                wanted.value = 0;
            }
            if client.pending.is_some() {
                self.broken(Rule::Runs, format!("the client of {name} still has no answer"));
            } else if is != wanted {
                self.broken(
                    Rule::Acknowledged,
                    format!("{name} is {is:?} and was acknowledged as {wanted:?}"),
                );
            }
        }
    }
}

fn config(value: u64) -> Json {
    Json::new(&value.into())
}

fn rules_of(texts: &[String]) -> NodeListRules {
    NodeListRules::parse(texts).expect("names of nodes and labels")
}
