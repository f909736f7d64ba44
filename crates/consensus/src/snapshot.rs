//! Snapshots: the SQLite database as a file, copied while it is written, sent and received in chunks, never whole in
//! memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use sheaf_engine::State;
use sheaf_store::{Reader, Store, StoreError};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::codec::{self, LogIdV1, MembershipV1, Position, VoteV1};
use crate::peer::{self, HandleError, SnapshotHeadV1};
use crate::raft::Vote;
use crate::replica::Replica;
use crate::space::{self, Space};

/// Bytes of one chunk: a few chunks fit in a connection's window, and each is far below gRPC's 4 MiB.
const CHUNK: usize = 256 << 10;
/// How the names of files begin that are worthless after a restart.
const PREFIX: &str = "snapshot-";

/// What openraft passes around as a snapshot.
#[derive(Debug)]
pub(crate) enum SnapshotFile {
    /// This member's own database; copied only when it is sent.
    Live,
    /// A database received from the leader, complete and on disk.
    Received(TempFile),
}

/// A file that is removed when nobody needs it any more.
#[derive(Debug)]
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // Gone already when it became the database. What cannot be removed now is removed at the next start.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Makes copies of the database.
#[derive(Clone)]
pub(crate) struct Copies {
    database: Reader,
    dir: PathBuf,
    /// See `Options::reserve_bytes`.
    reserve: u64,
    made: Arc<AtomicU64>,
}

impl Copies {
    /// Copies go to `dir`; what earlier processes left there is removed.
    pub(crate) fn new(database: Reader, dir: &Path, reserve: u64) -> io::Result<Self> {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { database, dir: dir.to_owned(), reserve, made: Arc::default() })
    }

    /// A copy for a test.
    #[cfg(test)]
    pub(crate) fn backup(&self, to: &Path) -> Result<(), StoreError> {
        self.database.backup(to)
    }

    fn temp(&self, purpose: &str) -> TempFile {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        TempFile(self.dir.join(format!("{PREFIX}{purpose}-{n}")))
    }

    /// A consistent copy of the database as it is now; writing goes on meanwhile.
    pub(crate) async fn make(&self) -> io::Result<DatabaseCopy> {
        let (database, file) = (self.database.clone(), self.temp("out"));
        let copied = tokio::task::spawn_blocking(move || {
            database.backup(file.path())?;
            let position = Store::read_applied(file.path())?;
            Ok::<_, StoreError>((file, position))
        });
        let (file, position) = copied.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        let bytes = std::fs::metadata(file.path())?.len();
        let position =
            position.as_deref().map(codec::decode_position).transpose().map_err(io::Error::other)?;
        Ok(DatabaseCopy { file, position: position.unwrap_or_default(), bytes })
    }

    /// What only votes may use.
    pub(crate) const fn reserve(&self) -> u64 {
        self.reserve
    }

    /// Whether `bytes` more fit on the disk without touching what only votes may use.
    pub(crate) fn check_space(&self, bytes: u64) -> Result<(), HandleError> {
        match space::look(&self.dir, self.reserve.saturating_add(bytes)) {
            Space::Enough => Ok(()),
            Space::Short { free_bytes } => Err(HandleError::DiskFull { free_bytes }),
        }
    }

    /// Writes a received database to disk. Fails unless exactly `bytes` bytes come.
    pub(crate) async fn receive<E>(
        &self,
        bytes: u64,
        mut chunks: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> io::Result<TempFile>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let temp = self.temp("in");
        let mut file = File::create(temp.path()).await?;
        let mut received = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(io::Error::other)?;
            received += chunk.len() as u64;
            file.write_all(&chunk).await?;
        }
        if received != bytes {
            let why = format!("{received} of {bytes} bytes came");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        file.sync_all().await?;
        Ok(temp)
    }
}

/// A copy of the database, to be sent.
pub(crate) struct DatabaseCopy {
    file: TempFile,
    position: Position,
    bytes: u64,
}

impl DatabaseCopy {
    #[cfg(test)]
    pub(crate) fn into_file(self) -> TempFile {
        self.file
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is sent: the head, and the file in chunks. The copy must live until the chunks are read.
    pub(crate) async fn open(
        &self,
        vote: &Vote,
    ) -> io::Result<(Bytes, BoxStream<'static, io::Result<Bytes>>)> {
        let head = SnapshotHeadV1 {
            vote: VoteV1::from(vote),
            last: self.position.applied.as_ref().map(LogIdV1::from),
            membership_log_id: self.position.membership.log_id().as_ref().map(LogIdV1::from),
            membership: MembershipV1::from(self.position.membership.membership()),
            bytes: self.bytes,
        };
        Ok((peer::encode_snapshot_head(&head), self.chunks().await?))
    }

    async fn chunks(&self) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
        let file = File::open(self.file.path()).await?;
        let chunks = stream::try_unfold(file, |mut file| async move {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            while chunk.len() < CHUNK && file.read_buf(&mut chunk).await? > 0 {}
            Ok((!chunk.is_empty()).then(|| (chunk.freeze(), file)))
        });
        Ok(chunks.boxed())
    }

    /// Loads what it holds, as a restore would, and goes on to its bytes.
    async fn loaded(self) -> io::Result<SavedCopy> {
        let path = self.file.path().to_owned();
        let loading = tokio::task::spawn_blocking(move || {
            let store = Store::open(&path)?;
            Ok::<_, StoreError>(store.load()?.0)
        });
        let state = loading.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        // Opening it may have changed its size by what SQLite keeps beside the rows.
        let bytes = std::fs::metadata(self.file.path())?.len();
        let chunks = self.chunks().await?;
        // The copy is removed when its last byte has been read, or nobody reads it any more.
        let chunks = chunks.map(move |chunk| {
            let _kept = &self;
            chunk
        });
        Ok(SavedCopy { state, bytes, chunks: chunks.boxed() })
    }
}

/// A copy of the database for whoever keeps it.
pub struct SavedCopy {
    /// What it holds.
    pub state: State,
    /// Its size.
    pub bytes: u64,
    /// Its bytes, in order.
    pub chunks: BoxStream<'static, io::Result<Bytes>>,
}

impl Replica {
    /// A copy of the database as it is now, checked to be loadable. Memory may be ahead of it: see [`Replica::stored`].
    /// Fails when the disk has no room for it.
    pub async fn copy(&self) -> io::Result<SavedCopy> {
        let copies = &self.inner.copies;
        let size = copies.database.size()?;
        copies.check_space(size).map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error))?;
        copies.make().await?.loaded().await
    }
}
