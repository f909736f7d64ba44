//! One change, one row: its key, the columns people ask by, and its body.
//!
//! Numbers are unsigned in the model and signed in SQLite. They are stored bit by bit, so that keys stay distinct; they
//! order as they should below 2^63, which no counter here reaches.

use std::cell::RefCell;
use std::path::Path;

use rusqlite::{CachedStatement, Connection, ToSql, params};
use serde::Serialize;
use sheaf_engine::backend::Backend;
use sheaf_engine::sink::Sink;
use sheaf_engine::{Bucket, Change, Cluster, Emergency, Module, Object, Pushed, Release, Request, Secret};
use sheaf_model::{
    AuthorityRecord, Binding, BucketName, Event, Instance, Node, ObjectKey, ObjectValue, Prefix, Residue,
    Timestamp, TokenRecord, Voters,
};

use crate::codec::{self, Stored};
use crate::error::StoreError;
use crate::trail::Grants;

/// Writes rows within a transaction.
pub(crate) struct Rows<'t> {
    pub(crate) db: &'t Connection,
    pub(crate) path: &'t Path,
    /// The body of the row being written; kept for its memory.
    pub(crate) body: Vec<u8>,
    /// Events added.
    events: u64,
    /// Subtasks touched by transitions that were added, less those of jobs that are gone.
    pub(crate) touched: i64,
    /// Of the last event.
    hour: Option<i64>,
    /// See [`Grants`].
    pub(crate) grants: &'t mut Grants,
    /// Statements of this transaction, each with its text: it is looked up and put back once, and not for every row.
    statements: RefCell<Vec<(&'static str, CachedStatement<'t>)>>,
}

/// Hours since 1970.
pub(crate) fn hour(at: Timestamp) -> i64 {
    (at.0 / 3_600_000).cast_signed()
}

impl<'t> Rows<'t> {
    pub(crate) fn new(db: &'t Connection, path: &'t Path, grants: &'t mut Grants) -> Self {
        let statements = RefCell::default();
        Self { db, path, body: Vec::new(), events: 0, touched: 0, hour: None, grants, statements }
    }

    /// How many events were added.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn put(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Cluster(cluster) => self.cluster(cluster),
            Change::Node(node) => self.node(node),
            Change::Module(module) => self.module(module),
            Change::ModuleGone(name, version) => self.run(
                "DELETE FROM modules WHERE name = ? AND version = ?",
                &[&name.as_str(), &version.as_str()],
            ),
            Change::Bucket(bucket) => self.bucket(bucket),
            Change::BucketGone(name) => self.gone("DELETE FROM buckets WHERE name = ?", name),
            Change::Binding(binding) => self.binding(binding),
            Change::BindingGone(name) => self.gone("DELETE FROM bindings WHERE bucket = ?", name),
            Change::Residue(residue) => self.residue(residue),
            Change::ResidueGone(name) => self.gone("DELETE FROM residues WHERE bucket = ?", name),
            Change::Instance(instance) => self.instance(instance),
            Change::InstanceGone(name, node) => self.run(
                "DELETE FROM instances WHERE bucket = ? AND node_id = ?",
                &[&name.as_str(), &node.0.cast_signed()],
            ),
            Change::Request(request) => self.request(request),
            Change::RequestGone(revision) => {
                self.run("DELETE FROM requests WHERE revision = ?", &[&revision.0.cast_signed()])
            }
            Change::Release(name, release) => self.release(name, release),
            Change::Event(event) => self.event(event),
            Change::Object(object) => self.object(object),
            Change::ObjectValue(bucket, key, value) => self.object_value(bucket, key, value),
            Change::ObjectGone(bucket, key) => {
                let of: [&dyn ToSql; 2] = [&bucket.as_str(), &key.as_str()];
                self.run("DELETE FROM objects WHERE bucket = ? AND key = ?", &of)?;
                self.run("DELETE FROM object_values WHERE bucket = ? AND key = ?", &of)
            }
            Change::ObjectsGone(bucket) => {
                self.gone("DELETE FROM objects WHERE bucket = ?", bucket)?;
                self.gone("DELETE FROM object_values WHERE bucket = ?", bucket)
            }
            Change::Artifact(pushed) => self.artifact(pushed),
            Change::ArtifactGone(module) => {
                self.run("DELETE FROM artifacts WHERE module = ?", &[&module.to_string()])
            }
            Change::Secret(secret) => self.secret(secret),
            Change::SecretGone(name) => self.run("DELETE FROM secrets WHERE name = ?", &[&name.as_str()]),
            Change::Backend(backend) => self.backend(backend),
            Change::BackendGone(name) => self.run("DELETE FROM backends WHERE name = ?", &[&name.as_str()]),
            Change::Token(token) => self.token(token),
            Change::TokenGone(id) => self.run("DELETE FROM tokens WHERE id = ?", &[&id.to_string()]),
            Change::Authority(authority) => self.authority(authority),
            Change::AuthorityGone(fingerprint) => {
                self.run("DELETE FROM authorities WHERE fingerprint = ?", &[&fingerprint.to_string()])
            }
            Change::Sink(sink) => self.sink(sink),
            Change::SinkGone(name) => self.run("DELETE FROM sinks WHERE name = ?", &[&name.as_str()]),
            change => self.put_of_jobs(change),
        }
    }

    pub(crate) fn run(&self, sql: &'static str, values: &[&dyn ToSql]) -> Result<(), StoreError> {
        self.execute(sql, values).map(drop)
    }

    /// Runs a statement; how many rows it touched.
    fn execute(&self, sql: &'static str, values: &[&dyn ToSql]) -> Result<usize, StoreError> {
        let failed = StoreError::sqlite("write to", self.path);
        let mut statements = self.statements.borrow_mut();
        // By its place in memory, which is enough: one that is found nowhere is prepared once more.
        if let Some((_, statement)) = statements.iter_mut().find(|(known, _)| std::ptr::eq(*known, sql)) {
            return statement.execute(values).map_err(failed);
        }
        let mut statement = self.db.prepare_cached(sql).map_err(&failed)?;
        let touched = statement.execute(values).map_err(failed);
        statements.push((sql, statement));
        touched
    }

    fn gone(&self, sql: &'static str, name: &BucketName) -> Result<(), StoreError> {
        self.run(sql, &[&name.as_str()])
    }

    pub(crate) fn encode<T: Stored>(&mut self, table: &'static str, value: &T) -> Result<(), StoreError> {
        codec::encode(value, &mut self.body).map_err(|source| StoreError::Encode { table, source })
    }

    fn cluster(&mut self, cluster: &Cluster) -> Result<(), StoreError> {
        self.encode("cluster", cluster)?;
        let lease = &cluster.settings.lease;
        let voters = match cluster.settings.voters {
            Voters::Auto => "auto".to_owned(),
            Voters::Fixed(n) => n.to_string(),
        };
        self.run(
            "INSERT OR REPLACE INTO cluster VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                cluster.id.as_ref().map(|id| id.0.as_str()),
                cluster.epoch.0.cast_signed(),
                cluster.formed_at.0.cast_signed(),
                voters,
                lease.heartbeat.0.cast_signed(),
                lease.ttl.0.cast_signed(),
                lease.kill_margin.0.cast_signed(),
                lease.stand_in.0.cast_signed(),
                self.body,
            ],
        )
    }

    fn node(&mut self, node: &Node) -> Result<(), StoreError> {
        self.encode("nodes", node)?;
        let facts = &node.facts;
        self.run(
            "INSERT OR REPLACE INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                node.id.0.cast_signed(),
                facts.name.as_str(),
                facts.hostname,
                facts.address,
                node.status.as_str(),
                node.since.0.cast_signed(),
                node.reason,
                json(&node.labels()),
                json(&facts.allow),
                json(&facts.deny),
                facts.version,
                facts.cpu,
                facts.memory_total.0.cast_signed(),
                node.registered.0.cast_signed(),
                node.revision.0.cast_signed(),
                self.body,
            ],
        )
    }

    fn module(&mut self, module: &Module) -> Result<(), StoreError> {
        self.encode("modules", module)?;
        self.run(
            "INSERT OR REPLACE INTO modules VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                module.spec.name.as_str(),
                module.spec.version.as_str(),
                module.spec.runtime.to_string(),
                module.spec.supports_multi_node,
                module.revision.0.cast_signed(),
                module.at.0.cast_signed(),
                self.body,
            ],
        )
    }

    fn artifact(&mut self, pushed: &Pushed) -> Result<(), StoreError> {
        self.encode("artifacts", pushed)?;
        let artifact = &pushed.artifact;
        self.run(
            "INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                artifact.module.to_string(),
                artifact.digest.to_string(),
                artifact.size.cast_signed(),
                artifact.shape.file(),
                pushed.revision.0.cast_signed(),
                pushed.at.0.cast_signed(),
                self.body,
            ],
        )
    }

    fn secret(&mut self, secret: &Secret) -> Result<(), StoreError> {
        self.encode("secrets", secret)?;
        self.run(
            "INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?, ?, ?)",
            params![
                secret.name.as_str(),
                secret.sealed.key.to_string(),
                secret.revision.0.cast_signed(),
                secret.at.0.cast_signed(),
                secret.actor,
                self.body,
            ],
        )
    }

    fn backend(&mut self, backend: &Backend) -> Result<(), StoreError> {
        self.encode("backends", backend)?;
        self.run(
            "INSERT OR REPLACE INTO backends VALUES (?, ?, ?, ?, ?)",
            params![
                backend.spec.name.as_str(),
                backend.spec.max_running,
                backend.opened.as_ref().map(|opened| opened.until.0.cast_signed()),
                backend.revision.0.cast_signed(),
                self.body,
            ],
        )
    }

    fn sink(&mut self, sink: &Sink) -> Result<(), StoreError> {
        self.encode("sinks", sink)?;
        let failing = sink.failing.as_ref();
        let missed = sink.missed_last.map(|(after, to)| (after.0.cast_signed(), to.0.cast_signed()));
        self.run(
            "INSERT OR REPLACE INTO sinks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                sink.spec.name.as_str(),
                sink.spec.target.as_str(),
                sink.spec.target.place(),
                sink.spec.suspended,
                sink.cursor.0.cast_signed(),
                sink.delivered.cast_signed(),
                sink.last_success.map(|at| at.0.cast_signed()),
                failing.map(|failing| failing.since.0.cast_signed()),
                failing.map_or(0, |failing| failing.failures),
                failing.map_or("", |failing| failing.why.as_str()),
                sink.missed.cast_signed(),
                missed.map(|(after, _)| after),
                missed.map(|(_, to)| to),
                json(&sink.spec.labels),
                sink.spec.owner,
                sink.revision.0.cast_signed(),
                self.body,
            ],
        )
    }

    fn token(&mut self, token: &TokenRecord) -> Result<(), StoreError> {
        self.encode("tokens", token)?;
        let prefix = token.of.rights().and_then(|rights| rights.prefix.as_ref()).map(Prefix::as_str);
        self.run(
            "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                token.id.to_string(),
                token.name.as_str(),
                token.of.as_str(),
                prefix,
                token.expires_at.map(|at| at.0.cast_signed()),
                token.revision.0.cast_signed(),
                self.body,
            ],
        )
    }

    fn authority(&mut self, authority: &AuthorityRecord) -> Result<(), StoreError> {
        self.encode("authorities", authority)?;
        self.run(
            "INSERT OR REPLACE INTO authorities VALUES (?, ?, ?)",
            params![authority.fingerprint.to_string(), authority.revision.0.cast_signed(), self.body],
        )
    }

    fn bucket(&mut self, bucket: &Bucket) -> Result<(), StoreError> {
        self.encode("buckets", bucket)?;
        let spec = &bucket.current.spec;
        let rules: Vec<&str> = spec.node_list_rules.0.iter().map(|rule| rule.text.as_str()).collect();
        self.run(
            "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                spec.name.as_str(),
                bucket.revision.0.cast_signed(),
                bucket.current.revision.0.cast_signed(),
                bucket.next.as_ref().map(|next| next.release.revision.0.cast_signed()),
                bucket.created.0.cast_signed(),
                spec.kind.as_str(),
                spec.module.to_string(),
                spec.multi_node,
                bucket.suspended,
                json(&rules),
                spec.config.as_str(),
                spec.poll_frequency.map(|span| span.0.cast_signed()),
                spec.placement.to_string(),
                spec.on_node_lost.as_str(),
                spec.max_parallel,
                json(&spec.labels),
                spec.owner,
                self.body,
                bucket.quarantined_until().map(|until| until.0.cast_signed()),
                bucket.emergency.as_ref().map(Emergency::reason),
            ],
        )
    }

    fn binding(&mut self, binding: &Binding) -> Result<(), StoreError> {
        self.encode("bindings", binding)?;
        self.run(
            "INSERT OR REPLACE INTO bindings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                binding.bucket.as_str(),
                binding.node.0.cast_signed(),
                binding.epoch.0.cast_signed(),
                binding.since.0.cast_signed(),
                binding.revision.0.cast_signed(),
                binding.basis.0.cast_signed(),
                binding.leaving.as_ref().map(ToString::to_string),
                binding.decision.why,
                self.body,
            ],
        )
    }

    fn residue(&mut self, residue: &Residue) -> Result<(), StoreError> {
        self.encode("residues", residue)?;
        let nodes: Vec<u64> = residue.nodes.keys().map(|node| node.0).collect();
        self.run(
            "INSERT OR REPLACE INTO residues VALUES (?, ?, ?)",
            params![residue.bucket.as_str(), json(&nodes), self.body],
        )
    }

    fn instance(&mut self, instance: &Instance) -> Result<(), StoreError> {
        self.encode("instances", instance)?;
        self.run(
            "INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                instance.bucket.as_str(),
                instance.node.0.cast_signed(),
                instance.phase.as_str(),
                instance.epoch.map(|epoch| epoch.0.cast_signed()),
                instance.revision.0.cast_signed(),
                instance.pid,
                instance.started_at.map(|at| at.0.cast_signed()),
                instance.restarts,
                instance.exit.map(|exit| exit.to_string()),
                instance.message,
                self.body,
            ],
        )
    }

    fn request(&mut self, request: &Request) -> Result<(), StoreError> {
        self.encode("requests", request)?;
        self.run(
            "INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?)",
            params![request.revision.0.cast_signed(), request.id.0, request.at.0.cast_signed(), self.body],
        )
    }

    fn release(&mut self, bucket: &BucketName, release: &Release) -> Result<(), StoreError> {
        self.encode("releases", release)?;
        self.run(
            "INSERT OR REPLACE INTO releases VALUES (?, ?, ?, ?, ?, ?)",
            params![
                bucket.as_str(),
                release.revision.0.cast_signed(),
                release.at.0.cast_signed(),
                release.actor,
                release.spec.module.to_string(),
                self.body,
            ],
        )
    }

    fn object(&mut self, object: &Object) -> Result<(), StoreError> {
        self.encode("objects", object)?;
        self.run(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)",
            params![
                object.bucket.as_str(),
                object.key.as_str(),
                object.entry.version.0.cast_signed(),
                object.entry.size,
                object.entry.at.0.cast_signed(),
                self.body,
            ],
        )
    }

    fn object_value(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        value: &ObjectValue,
    ) -> Result<(), StoreError> {
        self.run(
            "INSERT OR REPLACE INTO object_values VALUES (?, ?, ?)",
            params![bucket.as_str(), key.as_str(), value.as_bytes()],
        )
    }

    /// An event never changes: one that is there already stays, and is not counted again.
    fn event(&mut self, event: &Event) -> Result<(), StoreError> {
        let added = self.execute(
            "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                event.revision.0.cast_signed(),
                event.n,
                event.at.0.cast_signed(),
                event.kind,
                event.subject,
                event.actor,
                event.node,
                event.before,
                event.after,
                event.message,
            ],
        )?;
        self.events += added as u64;
        let hour = hour(event.at);
        if self.hour.replace(hour) == Some(hour) {
            // Revisions only grow within a batch, so the first event of the hour was the lowest.
            return Ok(());
        }
        self.run(
            "INSERT INTO event_hours VALUES (?, ?)
             ON CONFLICT (hour) DO UPDATE SET revision = min(revision, excluded.revision)",
            params![hour, event.revision.0.cast_signed()],
        )
    }
}

/// JSON text of what has no way to fail.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value)
        .expect("strings and numbers in lists and maps with string keys are always JSON")
}
