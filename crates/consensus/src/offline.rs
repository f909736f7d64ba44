//! A replica that no process runs, for after a disaster: what it holds, and a new cluster of one that goes on from there.
//!
//! ```text
//!  state.db ──load──► State ──tail of the log──► State ──proposals──► state.db of the new replica, at one entry more,
//!     (only read)                (only read)                          its member alone; a log with nothing but a vote
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use openraft::BasicNode;
use openraft::entry::RaftEntry;
use openraft::storage::RaftLogStorage;
use sheaf_engine::{Change, Proposal, Reply, State};
use sheaf_model::{Contact, NodeId, Term};
use sheaf_store::{Store, StoreError};

use crate::codec::{self, CodecError, LogIdV1, Position};
use crate::error::OpenError;
use crate::log::LogStore;
use crate::peer::Peer;
use crate::raft::{self, EntryPayload, Membership, StoredMembership, Vote};
use crate::service;
use crate::writer;

/// Names of a replica's parts in its folder.
pub const DATABASE: &str = "state.db";
/// See [`DATABASE`].
pub const LOG: &str = "raft";

/// Why there is no new cluster. Nothing of the old replica was changed.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The old replica cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It never belonged to a cluster.
    #[error("{0} holds no state of any cluster")]
    Empty(PathBuf),
    /// An entry of the log cannot be read.
    #[error("read the log: {0}")]
    Entry(#[from] CodecError),
    /// The state refuses one of the proposals.
    #[error("found the cluster anew: {0}")]
    Refused(String),
    /// The new replica cannot be written.
    #[error("write the new replica: {0}")]
    Store(#[from] StoreError),
    /// See [`OfflineError::Store`].
    #[error("write the new replica in {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

/// Where members and nodes were reached when the database in `dir` was last written, each address as that of the last one that
/// was alive there; none where there is no database, or none that can be read: whoever opens it will say why.
pub fn nodes_on_disk(dir: &Path) -> Vec<Contact> {
    let database = dir.join(DATABASE);
    let position = Store::read_applied(&database).ok().flatten();
    let position = position.and_then(|position| codec::decode_position(&position).ok()).unwrap_or_default();
    let mut nodes = Store::read_nodes(&database).unwrap_or_default();
    nodes.sort_by_key(|node| node.status.is_alive());
    let nodes = nodes.into_iter().map(|node| (node.facts.address, node.id));
    let members = position.membership.nodes().map(|(id, node)| (node.addr.clone(), NodeId(*id)));
    let by_address: BTreeMap<String, NodeId> = nodes.chain(members).collect();
    by_address.into_iter().map(|(address, node)| Contact::of(node, address)).collect()
}

/// A replica that no process runs.
pub struct Offline {
    database: PathBuf,
    store: Store,
    state: State,
    position: Position,
    /// What the log's tail changed beyond the database.
    tail: Vec<Change>,
    /// The latest term that it knows of.
    term: u64,
    /// What was cut off the log's end, for people.
    cuts: Vec<String>,
}

impl Offline {
    /// Reads the database, and the log's tail where there is one. Everything in the log counts as agreed: where a majority
    /// is lost, nobody can tell any more what else is. Fails while a process has them open.
    pub fn open(database: &Path, log: Option<&Path>) -> Result<Self, OfflineError> {
        if !database.is_file() {
            return Err(OfflineError::Empty(database.to_owned()));
        }
        let store = Store::open(database).map_err(OpenError::Store)?;
        let (state, position) = writer::load(&store).map_err(OpenError::from)?;
        let term = position.applied.map_or(0, |applied| LogIdV1::from(&applied).term);
        let (tail, cuts) = (Vec::new(), Vec::new());
        let mut offline = Self { database: database.to_owned(), store, state, position, tail, term, cuts };
        if let Some(dir) = log {
            let log = LogStore::open(dir).map_err(|source| service::log_error(dir, source))?;
            if let (Some(applied), true) = (offline.position.applied, log.is_pristine()) {
                let dir = dir.display().to_string();
                return Err(OpenError::LogLost { dir, applied: applied.index }.into());
            }
            offline.read_tail(&log)?;
        }
        if offline.state.cluster.id.is_none() {
            return Err(OfflineError::Empty(database.to_owned()));
        }
        Ok(offline)
    }

    fn read_tail(&mut self, log: &LogStore) -> Result<(), OfflineError> {
        self.term = self.term.max(log.term());
        self.cuts = log.cuts().iter().map(ToString::to_string).collect();
        let unread = |source| OpenError::Log { dir: self.database.display().to_string(), source };
        let mut next = self.position.applied.map_or(0, |applied| applied.index + 1);
        while next < log.end() {
            for entry in log.entries_from(next).map_err(unread)? {
                let log_id = entry.log_id();
                if log_id.index != next {
                    let why = format!("entry {next} is missing, the next one is {}", log_id.index);
                    return Err(unread(io::Error::new(io::ErrorKind::InvalidData, why)).into());
                }
                next += 1;
                match entry.payload {
                    EntryPayload::Blank => {}
                    EntryPayload::Membership(membership) => {
                        self.position.membership = StoredMembership::new(Some(log_id), membership);
                    }
                    EntryPayload::Normal(batch) => {
                        for proposal in codec::decode_batch(&batch.0)? {
                            let term = raft::term_of(&log_id);
                            // Its answer went, or was to go, to somebody who is not there any more.
                            sheaf_engine::apply(&mut self.state, term, &proposal, &mut self.tail);
                        }
                    }
                }
                self.position.applied = Some(log_id);
            }
        }
        Ok(())
    }

    /// What it holds, the log's tail included.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What a crash had left at the log's end, and is cut off now; one line for people each.
    pub fn cuts(&self) -> &[String] {
        &self.cuts
    }

    /// In which term [`found`](Self::found) applies proposals.
    pub fn term(&self) -> Term {
        Term(self.term)
    }

    /// Who had a vote when this was written, and where they were reached.
    pub fn voters(&self) -> Vec<Peer> {
        let membership = self.position.membership.membership();
        let voters = membership.voter_ids().filter_map(|id| Some((id, membership.get_node(&id)?)));
        voters.map(|(id, node)| Peer { node: NodeId(id), address: node.addr.clone() }).collect()
    }

    /// Applies `proposals` and writes what comes of it to the new folder `to`, as the replica of a cluster whose only
    /// member is the one that `member` chooses from the new state. On disk when this returns; the old replica stays as it
    /// is. Returns the new state and the member.
    pub async fn found(
        mut self,
        to: &Path,
        proposals: &[Proposal],
        member: impl FnOnce(&State) -> Peer,
    ) -> Result<(State, Peer), OfflineError> {
        let failed = |source| OfflineError::Io { path: to.to_owned(), source };
        std::fs::create_dir(to).map_err(failed)?;
        let term = self.term();
        for proposal in proposals {
            let reply = sheaf_engine::apply(&mut self.state, term, proposal, &mut self.tail);
            if let Reply::Refused(refusal) = reply {
                return Err(OfflineError::Refused(refusal.to_string()));
            }
        }
        let member = member(&self.state);
        let index = self.position.applied.map_or(0, |applied| applied.index) + 1;
        let log_id = raft::log_id(self.term, index);
        let node = BasicNode::new(member.address.clone());
        let members = BTreeMap::from([(member.node.0, node)]);
        let membership = Membership::new(vec![[member.node.0].into()], members);
        let membership = membership.map_err(|error| OfflineError::Refused(error.to_string()))?;
        let membership = StoredMembership::new(Some(log_id), membership);
        let position = Position { applied: Some(log_id), membership };
        let database = to.join(DATABASE);
        self.store.backup(&database)?;
        let mut store = Store::open(&database)?;
        store.write(&self.tail, self.state.revision, &codec::encode_position(&position))?;
        store.make_durable()?;
        let log = to.join(LOG);
        std::fs::create_dir(&log).map_err(failed)?;
        // A log that ever took part holds a vote: one without would look as if it had been lost.
        LogStore::open(&log)
            .map_err(failed)?
            .save_vote(&Vote::new(self.term + 1, member.node.0))
            .await
            .map_err(failed)?;
        for folder in [&log, to] {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        Ok((self.state, member))
    }
}
