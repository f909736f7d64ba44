//! The whole state, read at start.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::Value;
use sheaf_engine::backend::Backend;
use sheaf_engine::sink::Sink;
use sheaf_engine::{Bucket, Change, Secret, State};
use sheaf_model::{AuthorityRecord, Binding, Instance, Node, TokenRecord};

use crate::codec::{self, Stored};
use crate::error::StoreError;
use crate::schema;
use crate::store::{Store, applied, open_for_reading, revision};

impl Store {
    /// The state as last written, and the applied position written with it; none: nothing was ever written.
    pub fn load(&self) -> Result<(State, Option<Vec<u8>>), StoreError> {
        let mut state = State::default();
        let mut put = |change| state.put(&change);
        self.rows("cluster", "id", |row| put(Change::Cluster(row)))?;
        self.rows("nodes", "id", |row| put(Change::Node(row)))?;
        self.rows("modules", "name || '@' || version", |row| put(Change::Module(row)))?;
        self.rows("artifacts", "module", |row| put(Change::Artifact(row)))?;
        self.rows("buckets", "name", |row: Bucket| put(Change::Bucket(Arc::new(row))))?;
        self.rows("bindings", "bucket", |row: Binding| put(Change::Binding(Arc::new(row))))?;
        self.rows("residues", "bucket", |row| put(Change::Residue(row)))?;
        self.rows("instances", "bucket || ' on node ' || node_id", |row: Instance| {
            put(Change::Instance(Arc::new(row)));
        })?;
        self.rows("requests", "revision", |row| put(Change::Request(row)))?;
        self.rows("objects", "bucket || ' ' || key", |row| put(Change::Object(row)))?;
        self.rows("secrets", "name", |row: Secret| put(Change::Secret(Arc::new(row))))?;
        self.rows("backends", "name", |row: Backend| put(Change::Backend(Arc::new(row))))?;
        self.rows("tokens", "id", |row: TokenRecord| put(Change::Token(Arc::new(row))))?;
        self.rows("authorities", "fingerprint", |row: AuthorityRecord| {
            put(Change::Authority(Arc::new(row)));
        })?;
        self.rows("sinks", "name", |row: Sink| put(Change::Sink(Arc::new(row))))?;
        self.load_jobs(&mut state)?;
        let (db, path) = self.db("load")?;
        let failed = StoreError::sqlite("load", path);
        state.revision = revision(db).map_err(&failed)?;
        let applied = applied(db).map_err(&failed)?;
        // The pages just read are not read again; the state in memory answers.
        db.execute_batch("PRAGMA shrink_memory").map_err(&failed)?;
        Ok((state, applied))
    }

    /// The nodes in the database at `path`, without opening it for more than reading.
    pub fn read_nodes(path: &Path) -> Result<Vec<Node>, StoreError> {
        let db = open_for_reading(path)?;
        let mut nodes = Vec::new();
        if let schema::Kind::Ours(_) = schema::identify(&db, path)? {
            rows(&db, path, "nodes", "id", |row| nodes.push(row))?;
        }
        Ok(nodes)
    }

    /// Gives every row of `table` to `put`. The writer's own connection sees one commit throughout: nobody else writes.
    pub(crate) fn rows<T: Stored>(
        &self,
        table: &'static str,
        key: &'static str,
        put: impl FnMut(T),
    ) -> Result<(), StoreError> {
        let (db, path) = self.db("load")?;
        rows(db, path, table, key, put)
    }

    /// Gives every row of a query that selects a number, a body and the row's key to `put`, in the query's order.
    pub(crate) fn pairs<T: Stored>(
        &self,
        sql: &str,
        table: &'static str,
        mut put: impl FnMut(u64, T),
    ) -> Result<(), StoreError> {
        let (db, path) = self.db("load")?;
        let failed = StoreError::sqlite("load", path);
        let mut statement = db.prepare(sql).map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let number: i64 = row.get(0).map_err(&failed)?;
            let body = row.get_ref(1).and_then(|body| Ok(body.as_blob()?)).map_err(&failed)?;
            put(number.cast_unsigned(), decoded(path, table, row, 2, body)?);
        }
        Ok(())
    }
}

/// Reads a body; if it is damaged the error names the row by its column `key`.
fn decoded<T: Stored>(
    path: &Path,
    table: &'static str,
    row: &rusqlite::Row<'_>,
    key: usize,
    body: &[u8],
) -> Result<T, StoreError> {
    codec::decode(body).map_err(|source| StoreError::Row {
        path: path.to_owned(),
        table,
        key: row.get(key).map_or_else(|error| error.to_string(), printed),
        source,
    })
}

fn rows<T: Stored>(
    db: &Connection,
    path: &Path,
    table: &'static str,
    key: &'static str,
    mut put: impl FnMut(T),
) -> Result<(), StoreError> {
    let failed = StoreError::sqlite("load", path);
    let mut statement = db.prepare(&format!("SELECT body, {key} FROM {table}")).map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let body = row.get_ref(0).and_then(|body| Ok(body.as_blob()?)).map_err(&failed)?;
        put(decoded(path, table, row, 1, body)?);
    }
    Ok(())
}

fn printed(key: Value) -> String {
    match key {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text,
        other => format!("{other:?}"),
    }
}
