//! How a node comes to belong to a cluster: it forms one with the others of its list, or joins one that is there.
//!
//! ```text
//!  dial every entry of `join` ──► somebody knows a cluster? ──yes──► ask its leader for a number
//!        ▲                                  │ no
//!        │                                  ▼
//!        └──────── not yet ◄── do enough of the list see each other, and is mine the smallest instance id?
//!                                           │ yes
//!                                           ▼ found: the log of one member, Form, Register
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sheaf_control::{Clock, Control, Member, Registration};
use sheaf_engine::{Command, Form, Proposal, Register, Reply};
use sheaf_model::{Actor, ClusterId, Contact, Facts, NodeId, Settings};
use sheaf_trust::PrivateKey;
use sheaf_wire::ApiError;
use sheaf_wire::peer::{Greeting, JoinAsk, Joined, PeerClient};

use crate::clock::SystemClock;
use crate::config::Config;
use crate::data::SharedDir;
use crate::init;
use crate::replica::ReplicaOpener;
use crate::secure::{self, Proof};

/// How often the list is dialled.
const EVERY: Duration = Duration::from_millis(250);
/// How long a leader may take to give a number.
const JOIN_WITHIN: Duration = Duration::from_secs(10);
/// How long the founding member may take to elect itself and to write its first entries.
const FOUND_WITHIN: Duration = Duration::from_secs(30);

/// Everything that forming needs.
pub(crate) struct Forming {
    pub(crate) config: Arc<Config>,
    pub(crate) control: Control,
    pub(crate) data: SharedDir,
    pub(crate) opener: Arc<ReplicaOpener>,
    pub(crate) facts: Facts,
    /// Why others should take it.
    pub(crate) proof: Proof,
}

impl Forming {
    /// Returns when this node is registered. Fails only with what waiting cannot mend.
    pub(crate) async fn run(&self) -> anyhow::Result<Registration> {
        let registration = self.registered().await?;
        self.control.place().waiting_for.send_replace(String::new());
        Ok(registration)
    }

    async fn registered(&self) -> anyhow::Result<Registration> {
        let known = self.control.place().registration.borrow().clone();
        if let Some(known) = known {
            self.refuse_another_cluster(&known).await?;
            if known.node == FOUNDER && known.cluster.refounding().is_none() {
                self.found(known.cluster.clone()).await?;
            }
            return Ok(self.number_anew(known).await);
        }
        // Where an authority was made beforehand, the cluster begins.
        let trust = &self.control.place().trust;
        let is_first = trust.keyring.as_ref().is_some_and(|keyring| keyring.authority().is_some());
        if self.config.join.is_empty() || is_first {
            return self.found(new_cluster()).await;
        }
        loop {
            let wanted_proof = self.control.place().wants_proof();
            let (greetings, silent) = self.dial_or_why(self.listed()).await;
            if !wanted_proof && self.control.place().wants_proof() {
                // Somebody has proven that it is a member: who was heard before that may only say so.
                continue;
            }
            if let Some(registration) = self.join_one(&greetings).await? {
                return Ok(registration);
            }
            if self.should_found(&greetings, &silent) {
                return self.found(new_cluster()).await;
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// A node of a cluster that was founded anew may have registered after the state that this one goes on from: its leader
    /// gives it a number then. Where the leader cannot be asked now, the known one counts, and the work that needs none goes
    /// on.
    async fn number_anew(&self, known: Registration) -> Registration {
        let place = self.control.place();
        if known.cluster.refounding().is_none() || place.member().is_some() {
            return known;
        }
        let contacts = place.members.borrow().contacts().collect::<Vec<_>>();
        let mut greetings = self.dial(contacts).await;
        greetings.retain(|_, greeting| greeting.cluster.as_ref() == Some(&known.cluster));
        self.join_one(&greetings).await.ok().flatten().unwrap_or(known)
    }

    /// A data directory of another cluster than the one that the list leads to is not used: somebody gave it the wrong
    /// list, or moved the directory. Nodes that do not answer now say nothing either way.
    async fn refuse_another_cluster(&self, known: &Registration) -> anyhow::Result<()> {
        let own = &self.control.place().identity.instance;
        let greetings = self.dial(self.listed()).await;
        let others = greetings.iter().filter(|(_, greeting)| greeting.instance != *own);
        let related = |other: &ClusterId| other.succeeds(&known.cluster) || known.cluster.succeeds(other);
        let found = others.filter_map(|(entry, greeting)| Some((entry, greeting.cluster.as_ref()?)));
        let found: Vec<(&String, &ClusterId)> = found.filter(|(_, other)| !related(other)).collect();
        if let Some((entry, other)) = found.first()
            && !found.iter().any(|(_, cluster)| **cluster == known.cluster)
        {
            bail!(
                "the data directory {} belongs to cluster {}, but {entry} is of cluster {other}; correct [cluster] \
                 join, or give this node another [storage] dir to join there as a new node",
                self.config.dir.display(),
                known.cluster
            );
        }
        Ok(())
    }

    /// Greets all of them at once; those that answered, by address.
    async fn dial(&self, contacts: Vec<Contact>) -> BTreeMap<String, Greeting> {
        self.dial_or_why(contacts).await.0
    }

    /// The entries of the list, and who is there if this node knows.
    fn listed(&self) -> Vec<Contact> {
        let members = self.control.place().members.borrow();
        self.config.join.iter().map(|entry| members.named(Contact::anyone(entry))).collect()
    }

    /// The same, and why the others did not.
    async fn dial_or_why(
        &self,
        contacts: Vec<Contact>,
    ) -> (BTreeMap<String, Greeting>, BTreeMap<String, ApiError>) {
        let place = self.control.place();
        let dials = contacts.into_iter().map(|contact| async move {
            let answer = sheaf_control::hello(place, &contact).await;
            (contact.address, answer)
        });
        let (mut greetings, mut silent) = (BTreeMap::new(), BTreeMap::new());
        for (entry, answer) in futures::future::join_all(dials).await {
            match answer {
                Ok(greeting) => drop(greetings.insert(entry, greeting)),
                Err(error) => drop(silent.insert(entry, error)),
            }
        }
        (greetings, silent)
    }

    /// Asks for a number where a cluster is known. None: nobody knows one, or nobody could give a number now.
    async fn join_one(&self, greetings: &BTreeMap<String, Greeting>) -> anyhow::Result<Option<Registration>> {
        for target in self.leaders(greetings).await {
            let at = &target.address;
            match self.ask_to_join(&target).await {
                Ok((Joined::Registered { cluster, node, certified }, key, leader)) => {
                    // Before anything else: without a certificate the number is of no use.
                    let place = self.control.place();
                    secure::keep(&place.trust, certified.as_ref(), key.as_ref())?;
                    // Whoever sends the log is looked up at members, and the list may name none.
                    place.members.send_modify(|members| members.note(leader));
                    return self.remember(Registration { cluster, node }, greetings, false).map(Some);
                }
                Ok((Joined::Refused(reason), ..)) => {
                    bail!("the cluster at {at} refuses this node: {reason}")
                }
                Ok((Joined::Redirect(_), ..)) => {
                    self.wait_for(format!("the cluster at {at} has no leader now"));
                }
                Err(error) => self.wait_for(format!("joining at {at}: {error}")),
            }
        }
        Ok(None)
    }

    /// Whom to ask for a number: first whom members name. Where members prove that they are, so must whom others name, before it is
    /// shown a token.
    async fn leaders(&self, greetings: &BTreeMap<String, Greeting>) -> Vec<Contact> {
        let place = self.control.place();
        let (mut by_members, mut by_others) = (BTreeSet::new(), BTreeSet::new());
        let others = greetings.iter().filter(|(_, greeting)| greeting.instance != place.identity.instance);
        for (entry, greeting) in others.filter(|(_, greeting)| greeting.cluster.is_some()) {
            let itself = || Contact { address: entry.clone(), node: greeting.node };
            let named = if greeting.member { &mut by_members } else { &mut by_others };
            named.insert(greeting.leader.clone().unwrap_or_else(itself));
        }
        by_others.retain(|leader| !by_members.contains(leader));
        if place.wants_proof() {
            let asked = by_others.iter().map(|leader| Contact::anyone(&leader.address)).collect();
            let answers = self.dial(asked).await.into_iter().filter(|(_, greeting)| greeting.member);
            by_others = answers.map(|(address, greeting)| Contact { address, node: greeting.node }).collect();
        }
        by_members.into_iter().chain(by_others).collect()
    }

    /// What is said there, the key that a certificate was asked for, and who said it.
    async fn ask_to_join(&self, target: &Contact) -> Result<(Joined, Option<PrivateKey>, Contact), ApiError> {
        let trust = &self.control.place().trust;
        let key = secure::new_key(trust).map_err(|error| ApiError::Internal(error.to_string()))?;
        let mut target = target.clone();
        let cluster = self.control.place().cluster();
        // A redirect or two: whoever is asked may know the leader better.
        for _ in 0..3 {
            let ask = JoinAsk {
                key: self.facts_key(),
                cluster: cluster.clone(),
                facts: self.facts.clone(),
                public_key: key.as_ref().map(|key| key.public().raw().to_vec()).unwrap_or_default(),
                token: self.proof.token.clone(),
            };
            match PeerClient::new(&target, &trust.transport)?.join(&ask, JOIN_WITHIN).await? {
                Joined::Redirect(Some(leader)) if leader.address != target.address => target = leader,
                answer => return Ok((answer, key, target)),
            }
        }
        Ok((Joined::Redirect(None), key, target))
    }

    fn facts_key(&self) -> sheaf_model::NodeKey {
        self.control.place().identity.key.clone()
    }

    /// Enough nodes of the list see each other, none knows a cluster, and this one has the smallest instance id.
    fn should_found(
        &self,
        greetings: &BTreeMap<String, Greeting>,
        silent: &BTreeMap<String, ApiError>,
    ) -> bool {
        let own = &self.control.place().identity.instance;
        let listed: BTreeSet<&String> = greetings.values().map(|greeting| &greeting.instance).collect();
        let expect = self.config.bootstrap_expect as usize;
        if !listed.contains(own) {
            let list = self.config.join.join(", ");
            let why: String = silent.iter().map(|(entry, why)| format!("; {entry}: {why}")).collect();
            self.wait_for(format!("waiting for a cluster at {list} (this node is not in the list){why}"));
            return false;
        }
        if listed.len() < expect {
            let list: Vec<&str> = silent.keys().map(String::as_str).collect();
            let why: Vec<String> = silent.iter().map(|(entry, why)| format!("{entry}: {why}")).collect();
            let (seen, list, why) = (listed.len(), list.join(", "), why.join("; "));
            self.wait_for(format!("{seen} of {expect} seen, waiting for {list} ({why})"));
            return false;
        }
        if greetings.values().any(|greeting| greeting.cluster.is_some()) {
            return false;
        }
        let blind =
            greetings.iter().find(|(_, greeting)| !listed.iter().all(|id| greeting.seen.contains(id)));
        if let Some((entry, _)) = blind {
            self.wait_for(format!("waiting until {entry} sees the others too"));
            return false;
        }
        self.wait_for("the first node of the list is forming the cluster".to_owned());
        listed.first() == Some(&own)
    }

    fn wait_for(&self, what: String) {
        self.control.place().waiting_for.send_if_modified(|known| {
            let changed = *known != what;
            if changed {
                tracing::info!("{what}");
                *known = what;
            }
            changed
        });
    }

    /// Forms a cluster of this node alone; the others join it. Goes on where an earlier life was interrupted.
    async fn found(&self, cluster: ClusterId) -> anyhow::Result<Registration> {
        let registration = Registration { cluster, node: FOUNDER };
        self.remember(registration.clone(), &BTreeMap::new(), true)?;
        let place = self.control.place();
        secure::found(&place.trust, FOUNDER, self.facts.hosts()).context("make the cluster's authority")?;
        let member = match place.member() {
            Some(member) => member,
            None => self.control.become_member(FOUNDER).await.context("open the replica")?,
        };
        let founding = async {
            if !member.replica.is_initialized().await? {
                member.replica.initialize(place.identity.address.clone()).await?;
            }
            if member.replica.state().nodes.is_empty() {
                self.write_first_entries(&member, &registration.cluster).await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(FOUND_WITHIN, founding).await.map_err(|_| {
            anyhow::anyhow!("forming a cluster took longer than {FOUND_WITHIN:?}; is the disk slow?")
        })??;
        Ok(registration)
    }

    async fn write_first_entries(&self, member: &Member, cluster: &ClusterId) -> anyhow::Result<()> {
        let mut leadership = member.replica.leadership();
        leadership
            .wait_for(|now| now.leading || now.leader.is_some())
            .await
            .context("wait for the first election")?;
        if !leadership.borrow().leading {
            return Ok(()); // The others formed it already; this is only a member that has not caught up.
        }
        let settings =
            Settings { lease: self.config.lease, voters: self.config.voters, ..Settings::default() };
        let form = Command::Form(Form { cluster: cluster.clone(), settings });
        let register = Command::Register(Register { key: self.facts_key(), facts: self.facts.clone() });
        let secured = init::first_entries(&self.control.place().trust, self.proof.secret.as_ref())?;
        // The node's number last: whoever finds it in the log finds all of it there.
        for command in std::iter::once(form).chain(secured).chain([register]) {
            let actor = Actor(format!("node:{}", self.facts.name));
            let proposal = Proposal { actor, at: SystemClock.wall(), request: None, command };
            let applied = member.replica.propose(&proposal).await.context("write the first entries")?;
            // After a restart the log may hold them already; it was not applied yet when that was looked at.
            let formed = member.replica.state().cluster.id.as_ref() == Some(cluster);
            match applied.reply {
                Reply::Refused(_) if formed && !matches!(proposal.command, Command::Register(_)) => {}
                Reply::Refused(refusal) => bail!("form the cluster: {refusal}"),
                _ => {}
            }
        }
        init::forget(&self.control.place().trust);
        tracing::info!(%cluster, "formed a cluster");
        Ok(())
    }

    /// On disk first, then known to everybody.
    fn remember(
        &self,
        registration: Registration,
        greetings: &BTreeMap<String, Greeting>,
        member: bool,
    ) -> anyhow::Result<Registration> {
        self.data.update(|record| {
            // It may have learned meanwhile that the cluster goes on as another.
            if record.cluster.as_ref().is_none_or(|known| !known.succeeds(&registration.cluster)) {
                record.cluster = Some(registration.cluster.clone());
                record.node = Some(registration.node);
                record.member |= member;
            }
        })?;
        let place = self.control.place();
        place.members.send_modify(|members| {
            for greeting in greetings.values() {
                members.note(Contact::anyone(&greeting.address));
            }
        });
        self.opener.belongs_to(registration.cluster.clone());
        place.registration.send_replace(Some(registration.clone()));
        tracing::info!(cluster = %registration.cluster, node = %registration.node, "registered");
        Ok(registration)
    }
}

/// The first node that registers gets this number; the member that forms the log must know it before.
const FOUNDER: NodeId = NodeId(1);

fn new_cluster() -> ClusterId {
    ClusterId(uuid::Uuid::new_v4().to_string())
}
