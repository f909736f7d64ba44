//! Somebody has taken a node's certificate: what it opens, what it does not, and that forgetting the node ends it.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use sheaf_model::watch::WatchItem;
use sheaf_model::{
    ClusterId, Contact, Digest, NodeId, NodeKey, NodeStatus, Rights, Role, TokenName, TokenText, TokenUse,
};
use sheaf_tests::cluster::SOON;
use sheaf_tests::config::BRIEF_TTL;
use sheaf_tests::documents::module;
use sheaf_tests::secured::{of_secret, private, shows, token};
use sheaf_tests::{Agent, Cases, Cluster, Machine, cli, wait_for};
use sheaf_trust::{Keyring, PrivateKey, pin};
use sheaf_wire::bucket::ListBuckets;
use sheaf_wire::cluster::CreateToken;
use sheaf_wire::logs::LogsOf;
use sheaf_wire::peer::{HelloAsk, JoinAsk, Joined, PeerClient, PeerHeader, WatchNode};
use sheaf_wire::{ApiError, Client, Credentials, Options, Pair, Transport};
use tokio::runtime::Runtime;

use crate::between::Between;

/// For an answer.
const WITHIN: Duration = Duration::from_secs(10);

/// Three voters, and two nodes that came in by a token and may not vote.
#[test]
fn taken() {
    let machine = Arc::new(Machine::take());
    let secret = machine.path("join.secret");
    cli::run(&machine, &["secret", "keygen", &secret.display().to_string()], b"").ok();
    let security = format!("[security]\njoin_secret_file = {:?}\n", secret.display().to_string());
    let mut cluster = Cluster::plan(&machine, "", 3, |_, plan| {
        plan.timing.ttl = BRIEF_TTL;
        plan.more.clone_from(&security);
    });
    cluster.start_all();
    let first = of_secret(&machine, &cluster, &secret);
    shows(&machine, Some(&first));
    cluster.wait_ready();
    cluster.apply(&module("steady", ""));
    let join = token(&cluster, &["--name", "agents", "--role", "agent"]);
    let file = private(&machine, "agents.token", &join);
    let security = format!("[security]\njoin_token_file = {:?}\n", file.display().to_string());
    for _ in 0..2 {
        cluster.add(|plan| plan.more.clone_from(&security)).start();
    }
    cluster.wait_ready();
    let join = TokenText::parse(&join).expect("it was printed");
    let scene = Scene { cluster: &cluster, join, gone: OnceCell::new() };
    let mut cases = Cases::of("taken");
    cases.run("a certificate opens no more than its node could", || scene.opens_no_more());
    cases.run("a certificate is its node: it is told every document", || scene.is_its_node());
    cases.run("a node's data directory is of no use to another", || scene.takes_nothing_over());
    cases.run("who answers in a node's place with another's certificate hears nothing", || scene.between());
    cases.run("the certificate of a node that was forgotten opens nothing", || scene.forgotten());
    cases.run("who shows nothing learns nothing", || scene.stranger());
    let thief = scene.thief(cluster.agent(4), true);
    cases.run("a join token is shown to members alone, where one answers", || {
        thief.waits(&mut cluster, &security);
    });
    cases.end();
}

struct Scene<'a> {
    cluster: &'a Cluster,
    /// A node that may not vote comes in by it.
    join: TokenText,
    /// One that voted, and whose machine is dead from [`Scene::takes_nothing_over`] on.
    gone: OnceCell<&'a Agent>,
}

/// Somebody who holds what a node shows, and tries it elsewhere.
struct Thief {
    runtime: Runtime,
    transport: Transport,
    cluster: ClusterId,
    node: NodeId,
    /// The authority of the cluster.
    authority: Digest,
}

impl<'a> Scene<'a> {
    fn gone(&self) -> &'a Agent {
        self.gone.get().expect("its machine is dead")
    }

    fn thief(&self, agent: &Agent, shows_it: bool) -> Thief {
        let keyring = Keyring::of_node(&agent.dir()).expect("the files of a secured node");
        let own = keyring.own().filter(|_| shows_it);
        let own = own.map(|own| Pair { certificate: own.certificate, key: own.key });
        let credentials = Credentials { authorities: keyring.authorities(), own, ..Credentials::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let status = self.cluster.json(&["cluster", "status", "-o", "json"]);
        Thief {
            runtime: runtime.expect("threads can be started"),
            transport: Transport::tls(&credentials).expect("a node's files"),
            cluster: ClusterId::from(status["cluster"].as_str().expect("it has formed")),
            node: self.cluster.node_id(&agent.name()),
            authority: keyring.authorities().first().map(|der| Digest(pin(der))).expect("its authority"),
        }
    }

    fn opens_no_more(&self) {
        let (mine, leader, fresh) = (self.cluster.agent(4), self.cluster.leader(), self.cluster.agent(5));
        let thief = self.thief(mine, true);
        let chief = self.cluster.node_id(&leader.name());
        is_forbidden(&thief.speaks(leader, chief, thief.node), "may not vote");
        is_forbidden(&thief.speaks(leader, chief, chief), "does not speak for node");
        // It has no replica, and would open one for whoever votes.
        is_forbidden(&thief.speaks(fresh, self.cluster.node_id(&fresh.name()), thief.node), "is no member");
        assert!(!fresh.log().contains("this node becomes a member"));
        let peer = thief.peer(leader);
        let error = thief.fetches_authority(leader).expect_err("the authority's key");
        assert!(matches!(&error, ApiError::Precondition(why) if why.contains("is no member")), "{error}");
        for agent in [leader, fresh] {
            for (what, answer) in thief.looks_into(agent) {
                is_forbidden(&answer.expect_err(what), "is no member");
            }
        }
        let watch = WatchNode { cluster: thief.cluster.clone(), node: chief, places: None };
        let error = thief.runtime.block_on(peer.watch(watch, WITHIN)).map(drop).expect_err("another's");
        is_forbidden(&error, "does not speak for node");
        let client = thief.client(leader);
        // What a viewer may read is no secret from it.
        let reads = thief.runtime.block_on(client.list_buckets(ListBuckets::default()));
        reads.expect("members show to nodes what they show to viewers");
        let admin = CreateToken {
            name: TokenName::new("mine").expect("a name"),
            of: TokenUse::User(Rights::of(Role::Admin)),
            ttl: None,
        };
        let error = thief.runtime.block_on(client.create_token(admin)).map(drop).expect_err("a token");
        is_forbidden(&error, "needs the role admin");
    }

    fn is_its_node(&self) {
        let thief = self.thief(self.cluster.agent(4), true);
        let peer = thief.peer(self.cluster.leader());
        let told: Result<Vec<WatchItem>, ApiError> = thief.runtime.block_on(async {
            let watch = WatchNode { cluster: thief.cluster.clone(), node: thief.node, places: None };
            let mut items = peer.watch(watch, WITHIN).await?;
            let mut told = Vec::new();
            while !told.iter().any(|item| matches!(item, WatchItem::Synced(_))) {
                let Some(more) = items.next().await else { break };
                told.extend(more?);
            }
            Ok(told)
        });
        let told = told.expect("all that a node is told");
        let is_steady =
            |item: &WatchItem| matches!(item, WatchItem::Module(spec) if spec.name.as_str() == "steady");
        assert!(told.iter().any(is_steady), "{told:?}");
    }

    fn takes_nothing_over(&self) {
        let (mine, leader) = (self.cluster.agent(4), self.cluster.leader());
        let thief = self.thief(mine, true);
        // Another data directory than that of its node.
        is_refused(&thief.joins(leader, NodeKey::from("mine"), None), "join token");
        // Nodes tell each other which data directory is theirs.
        let key = thief.key_of(leader);
        assert_ne!(key, NodeKey::default());
        is_refused(&thief.joins(leader, key, Some(&self.join)), "only its own certificate");
        // One that is lost can say nothing against it, and votes.
        let gone = *self.gone.get_or_init(|| self.cluster.following_voter());
        let key = thief.key_of(gone);
        gone.kill_machine();
        self.cluster.wait_node(&gone.name(), "lost");
        let leader = self.cluster.leader();
        for token in [None, Some(&self.join)] {
            is_refused(&thief.joins(leader, key.clone(), token), "only its own certificate");
        }
    }

    fn between(&self) {
        let (gone, fresh) = (self.gone(), self.cluster.agent(5));
        let thief = self.thief(self.cluster.agent(4), true);
        let place = Contact::of(self.cluster.node_id(&gone.name()), gone.address());
        let between = Between::stand(&thief.runtime, &thief.transport, thief.cluster.clone(), place);
        // Who has a number and stands in the way of who looks for members anew.
        fresh.stop();
        fresh.start();
        wait_for(&format!("{} answers by asking a member", fresh.name()), SOON, || {
            let output = fresh.cli(&["node", "status", &fresh.name(), "-o", "json"]);
            let is_ready = output.code == 0 && output.json()["status"] == "ready";
            if is_ready { Ok(()) } else { Err(output.to_string()) }
        });
        let leader = self.cluster.leader();
        let said = format!(
            "node {} answers there, as its certificate says, and not node {}",
            thief.node,
            self.cluster.node_id(&gone.name())
        );
        wait_for(&format!("{} sees who answers", leader.name()), SOON, || {
            let log = leader.log_tail();
            if leader.log().contains(&said) { Ok(()) } else { Err(log) }
        });
        wait_for("it is counted", SOON, || {
            let metrics = leader.metrics().map_err(|error| error.to_string())?;
            let counted = metrics.lines().find_map(|line| line.strip_prefix("sheaf_impostors_total "));
            let counted = counted.and_then(|count| count.parse::<f64>().ok());
            if counted.is_some_and(|count| count >= 1.0) { Ok(()) } else { Err(format!("{counted:?}")) }
        });
        assert_eq!(between.heard(), Vec::<&str>::new(), "it is asked for nothing");
    }

    fn forgotten(&self) {
        let gone = self.gone();
        let thief = self.thief(gone, true);
        self.cluster.wait_node(&gone.name(), "lost");
        self.cluster.cli(&["node", "forget", "--yes", &gone.name()]).ok();
        let leader = self.cluster.leader();
        let peer = thief.peer(leader);
        let client = thief.client(leader);
        let run = |what: &str, answer: Result<(), ApiError>| {
            is_forbidden(&answer.expect_err(what), "has left");
        };
        run("members", thief.runtime.block_on(client.members()).map(drop));
        for (what, answer) in thief.looks_into(leader) {
            run(what, answer);
        }
        run("the authority", thief.fetches_authority(leader));
        is_forbidden(&thief.speaks(leader, self.cluster.node_id(&leader.name()), thief.node), "has left");
        let key = PrivateKey::new().expect("a key");
        let renewed = thief.runtime.block_on(peer.renew(&thief.cluster, key.public().raw(), WITHIN));
        let error = renewed.map(drop).expect_err("another certificate");
        assert!(matches!(&error, ApiError::Precondition(why) if why.contains("was forgotten")), "{error}");
        is_refused(&thief.joins(leader, NodeKey::from("new"), None), "join token");
        let told = thief.runtime.block_on(async {
            let watch = WatchNode { cluster: thief.cluster.clone(), node: thief.node, places: None };
            let mut items = peer.watch(watch, WITHIN).await?;
            items.next().await.unwrap_or_else(|| Ok(Vec::new()))
        });
        let told = told.expect("that it has left");
        let is_left =
            |item: &WatchItem| matches!(item, WatchItem::Own(own) if own.status == NodeStatus::Left);
        assert!(told.iter().any(is_left), "{told:?}");
        assert!(!told.iter().any(|item| matches!(item, WatchItem::Module(_))), "{told:?}");
    }

    fn stranger(&self) {
        let leader = self.cluster.leader();
        // The authority's certificate is no secret; this stranger has nothing else.
        let stranger = self.thief(self.cluster.agent(4), false);
        assert_eq!(stranger.key_of(leader), NodeKey::default());
        let error = stranger.speaks(leader, self.cluster.node_id(&leader.name()), stranger.node);
        assert!(matches!(&error, ApiError::Unauthenticated(_)), "{error}");
        is_refused(&stranger.joins(leader, NodeKey::from("new"), None), "join token");
        let client = stranger.client(leader);
        let error = stranger.runtime.block_on(client.members()).expect_err("no token");
        assert!(matches!(&error, ApiError::Unauthenticated(_)), "{error}");
    }
}

impl Thief {
    /// For who comes anew, at an address that stands first in its list and says that it leads.
    fn waits(&self, cluster: &mut Cluster, security: &str) {
        let address = cluster.agent(1).address().replace("127.0.0.1:", "127.0.0.10:");
        let place = Contact::of(self.node, &address);
        let between = Between::stand(&self.runtime, &self.transport, self.cluster.clone(), place);
        let fresh = cluster.add(|plan| {
            security.clone_into(&mut plan.more);
            plan.join.insert(0, address);
        });
        fresh.start();
        wait_for(&format!("{} has joined", fresh.name()), SOON, || {
            let output = fresh.cli(&["node", "status", &fresh.name(), "-o", "json"]);
            let is_ready = output.code == 0 && output.json()["status"] == "ready";
            if is_ready { Ok(()) } else { Err(output.to_string()) }
        });
        assert_eq!(between.heard(), Vec::<&str>::new(), "it is asked for nothing");
    }

    fn peer(&self, agent: &Agent) -> PeerClient {
        let _within = self.runtime.enter();
        PeerClient::new(&Contact::anyone(agent.address()), &self.transport)
            .expect("an agent's address is one")
    }

    fn client(&self, agent: &Agent) -> Client {
        let _within = self.runtime.enter();
        let options = Options { deadline: WITHIN, transport: self.transport.clone(), ..Options::default() };
        Client::lazy(&agent.address(), options).expect("an agent's address is one")
    }

    fn fetches_authority(&self, at: &Agent) -> Result<(), ApiError> {
        let peer = self.peer(at);
        self.runtime.block_on(peer.fetch_authority(&self.cluster, &self.authority, WITHIN)).map(drop)
    }

    /// What a node shows to members alone: output, and what is there to see for who is to help.
    fn looks_into(&self, agent: &Agent) -> [(&'static str, Result<(), ApiError>); 2] {
        let peer = self.peer(agent);
        let of = LogsOf {
            bucket: sheaf_model::BucketName::new("/any").expect("a name"),
            follow: false,
            since: None,
            tail: None,
            previous: false,
        };
        [
            ("logs", self.runtime.block_on(peer.logs(of, WITHIN)).map(drop)),
            ("debug", self.runtime.block_on(peer.collect_debug(&self.cluster, WITHIN)).map(drop)),
        ]
    }

    /// Why no message of the log is taken from `from`.
    fn speaks(&self, to: &Agent, number: NodeId, from: NodeId) -> ApiError {
        let header = PeerHeader { cluster: self.cluster.clone(), from, to: number };
        let peer = self.peer(to);
        let answer = self.runtime.block_on(peer.raft(header, Bytes::from_static(b"x"), WITHIN));
        answer.expect_err("it is no member's")
    }

    fn joins(&self, at: &Agent, key: NodeKey, token: Option<&TokenText>) -> Joined {
        let facts = sheaf_model::Facts {
            name: sheaf_model::NodeName::new("thief").expect("a name"),
            hostname: "thief".to_owned(),
            address: "127.0.0.1:9".to_owned(),
            labels: vec![],
            allow: vec![],
            deny: vec![],
            version: "1".to_owned(),
            cpu: 1,
            memory_total: sheaf_model::Bytes(1 << 30),
            notes: vec![],
        };
        let wanted = PrivateKey::new().expect("a key");
        let ask = JoinAsk {
            key,
            cluster: Some(self.cluster.clone()),
            facts,
            public_key: wanted.public().raw().to_vec(),
            token: token.cloned(),
        };
        let peer = self.peer(at);
        self.runtime.block_on(peer.join(&ask, WITHIN)).expect("it is answered")
    }

    /// The key of a node's data directory, as it tells.
    fn key_of(&self, agent: &Agent) -> NodeKey {
        let ask = HelloAsk {
            instance: "thief".to_owned(),
            key: NodeKey::from("thief"),
            cluster: Some(self.cluster.clone()),
            node: Some(self.node),
            nonce: None,
        };
        let peer = self.peer(agent);
        self.runtime.block_on(peer.hello(ask, WITHIN)).expect("it says who it is").key
    }
}

fn is_forbidden(error: &ApiError, why: &str) {
    assert!(matches!(error, ApiError::Forbidden(text) if text.contains(why)), "{error:?}");
}

fn is_refused(joined: &Joined, why: &str) {
    assert!(matches!(joined, Joined::Refused(text) if text.contains(why)), "{joined:?}");
}
