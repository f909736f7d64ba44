//! The log on disk: votes and entries in one ordered file sequence, kept by `raft-log`.
//!
//! What was checked in raft-log 0.4.6 before relying on it: its flush worker takes everything that waits, writes it with
//! one `writev` and one `fdatasync`, then calls back; a record cut off by a crash fails its checksum and is cut from the
//! tail at open (`tail` sees to it that nothing else is); files wholly behind the purge point are removed only after the
//! purge record is on disk, and the directory is synced after each creation and removal. After the first failed write or
//! sync its worker answers nothing but errors, and we end the process then: what a failed fsync left on disk is unknown,
//! and only a fresh read can tell.

use std::fmt::Debug;
use std::io::{self, Read as _};
use std::num::NonZeroU64;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::chunked_wal::ChunkedWal;
use raft_log::codeq::{Decode, Encode};
use raft_log::{Config, RaftLog, RaftWalTypes};
use rustix::thread;
use tokio::sync::oneshot;

use crate::codec::{self, LogIdV1, VoteV1};
use crate::end;
use crate::raft::{Entry, LogId, Types, Vote};

mod tail;

pub(crate) use tail::Cut;

/// Size at which a new file is begun. All entries of the newest file stay in memory, so this bounds memory; files are
/// removed whole, so it also bounds what outlives a purge.
const FILE_BYTES: usize = 8 << 20;
/// Entries of older files kept in memory for followers that are a little behind.
const CACHE_BYTES: usize = 4 << 20;
/// Read buffer while opening; the default of 64 MiB would be most of an idle agent's memory.
const READ_BUFFER: usize = 1 << 20;
/// How long the flush worker gathers before it writes: long enough to take what is queued, and too short for its thread to be put
/// to sleep for it. That would take as long as the wake-up does, on the way of every change.
const GATHER: Duration = Duration::from_nanos(200);
/// Entries handed out at once, to a follower or to be applied: one message stays well below gRPC's 4 MiB.
const READ_BYTES: usize = 1 << 20;

/// What `raft-log` is told about our types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LogTypes;

impl raft_log::Types for LogTypes {
    type LogId = LogIdV1;
    type LogPayload = Stored;
    type Vote = VoteV1;
    type Callback = Flushed;
    type UserData = String;

    fn log_index(log_id: &LogIdV1) -> u64 {
        log_id.index
    }

    fn payload_size(payload: &Stored) -> u64 {
        // The bookkeeping around a small entry weighs more than the entry.
        payload.0.len() as u64 + 100
    }
}

/// An entry's bytes as `codec::encode_entry` made them.
#[derive(Clone, Debug)]
struct Stored(Bytes);

/// What to do when everything written so far is on disk.
struct Flushed {
    tell: Tell,
    /// Where that ends, for a test that takes away what was not.
    #[cfg(test)]
    mark: crate::faults::Mark,
}

/// Whom to tell.
pub(crate) enum Tell {
    Raft(IOFlushed<Types>),
    Caller(oneshot::Sender<()>),
    /// Nobody waits; a failure ends the process all the same.
    Nobody,
}

impl Tell {
    /// It is on disk.
    pub(crate) fn on_disk(self) {
        match self {
            Self::Raft(callback) => callback.io_completed(Ok(())),
            // A caller that stopped waiting needs no answer.
            Self::Caller(caller) => drop(caller.send(())),
            Self::Nobody => {}
        }
    }
}

impl raft_log::Callback for Flushed {
    fn send(self, result: Result<(), io::Error>) {
        if let Err(error) = result {
            end::disk_failed("write and sync the log", &error);
        }
        #[cfg(test)]
        self.mark.reached();
        self.tell.on_disk();
    }
}

/// A record that is whole and contradicts those before it, as an entry that was there already, is damage, too. `raft-log` says so
/// with the one kind that nothing else has when it opens files.
fn contradiction(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::Other => io::Error::new(io::ErrorKind::InvalidData, error),
        _ => error,
    }
}

/// The log, shared by openraft's core (writes) and its replication tasks (reads).
#[derive(Clone)]
pub(crate) struct LogStore {
    // A plain mutex: every hold is a few memory operations, or the read of one old record from the page cache.
    log: Arc<Mutex<RaftLog<LogTypes>>>,
    cuts: Arc<[Cut]>,
}

impl LogStore {
    /// Opens or creates the log in `dir`, which must exist. Fails while another process has it open.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.to_str().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not UTF-8", dir.display()))
        })?;
        let mut config = Config::new(path);
        config.wal.chunk_max_size = Some(FILE_BYTES);
        config.wal.read_buffer_size = Some(READ_BUFFER);
        config.wal.flush_batch_wait = Some(GATHER);
        config.log_cache_capacity = Some(CACHE_BYTES);
        let cuts = {
            // Something may be cut off, and what another process writes is no end of a log.
            let _owner = ChunkedWal::<RaftWalTypes<LogTypes>>::acquire_lock(&config.wal)?;
            tail::look(dir)?
        };
        let _punctual = Punctual::begin();
        let log = RaftLog::open(Arc::new(config)).map_err(contradiction)?;
        for cut in &cuts {
            tracing::warn!("{cut}");
        }
        Ok(Self { log: Arc::new(Mutex::new(log)), cuts: cuts.into() })
    }

    /// What was cut off its end when it was opened.
    pub(crate) fn cuts(&self) -> &[Cut] {
        &self.cuts
    }

    /// Whether it holds nothing: no vote, no entry, nothing purged. A log that ever took part holds a vote.
    pub(crate) fn is_pristine(&self) -> bool {
        let log = self.lock();
        let state = log.log_state();
        state.vote().is_none() && state.last().is_none()
    }

    /// The latest term that it voted in or holds an entry of; 0: none.
    pub(crate) fn term(&self) -> u64 {
        let log = self.lock();
        let state = log.log_state();
        let voted = state.vote().map_or(0, |vote| vote.restore().leader_id.term);
        voted.max(state.last().map_or(0, |last| last.term))
    }

    /// One past its last entry.
    pub(crate) fn end(&self) -> u64 {
        self.lock().log_state().last().map_or(0, |last| last.index + 1)
    }

    /// Some entries from `index` on, at least one where there is one.
    pub(crate) fn entries_from(&self, index: u64) -> io::Result<Vec<Entry>> {
        let entries = self.read(index, self.end(), READ_BYTES)?;
        if entries.is_empty() {
            let why = format!("entry {index} is missing");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(entries)
    }

    /// Bytes of its files.
    pub(crate) fn bytes(&self) -> u64 {
        let stat = self.lock().stat();
        stat.open_chunk.size + stat.closed_chunks.iter().map(|chunk| chunk.size).sum::<u64>()
    }

    fn lock(&self) -> MutexGuard<'_, RaftLog<LogTypes>> {
        // A panic while holding it can only come from raft-log itself; its next answer tells what is wrong.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries of `[from, to)`, stopping after the one that passes `READ_BYTES`.
    fn read(&self, from: u64, to: u64, limit: usize) -> io::Result<Vec<Entry>> {
        let log = self.lock();
        let mut entries = Vec::new();
        let mut bytes = 0;
        for item in log.read(from, to) {
            let (log_id, stored) = item?;
            bytes += stored.0.len();
            entries.push(codec::decode_entry(log_id.restore(), &stored.0).map_err(invalid_data)?);
            if bytes >= limit {
                break;
            }
        }
        Ok(entries)
    }

    /// Returns once everything written before is on disk.
    async fn sync(&self) -> io::Result<()> {
        let (caller, flushed) = oneshot::channel();
        flush(&mut self.lock(), Tell::Caller(caller))?;
        flushed.await.map_err(|_| io::Error::other("the log's flush worker has stopped"))
    }
}

/// While it lives, threads that this one starts will wake on time. By default Linux lets every timed wait be 50 µs late,
/// and an acknowledged change waits for two such, one on the leader and one on a follower.
struct Punctual {
    before: Option<NonZeroU64>,
}

impl Punctual {
    fn begin() -> Option<Self> {
        let before = NonZeroU64::new(thread::current_timer_slack().ok()?);
        // Where it is not allowed, waits are as long as they are anywhere.
        thread::set_current_timer_slack(NonZeroU64::new(1)).ok()?;
        Some(Self { before })
    }
}

impl Drop for Punctual {
    fn drop(&mut self) {
        let _ = thread::set_current_timer_slack(self.before);
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        self.read(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES)
    }

    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        // In pieces: after a restart or a long absence the range may be far more than fits in memory.
        let (from, to) = bounds(&range);
        stream::unfold((self.clone(), from), move |(log, from)| async move {
            if from >= to {
                return None;
            }
            match log.read(from, to, READ_BYTES) {
                Ok(entries) => {
                    let next = from + entries.len() as u64;
                    // An empty piece means the entries are gone; openraft sees the short read and judges.
                    let next = if entries.is_empty() { to } else { next };
                    Some((stream::iter(entries.into_iter().map(Ok).collect::<Vec<_>>()), (log, next)))
                }
                Err(error) => Some((stream::iter(vec![Err(error)]), (log, to))),
            }
        })
        .flatten()
        .boxed()
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.lock().log_state().vote().map(|vote| vote.restore()))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let log = self.lock();
        let state = log.log_state();
        Ok(LogState {
            last_purged_log_id: state.purged().map(|id| id.restore()),
            last_log_id: state.last().map(|id| id.restore()),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.lock().save_vote(VoteV1::from(vote))?;
        self.sync().await
    }

    /// Written with the next flush, without one of its own: it only spares a restarted member to wait for the leader
    /// before it shows the state that it showed before.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut log = self.lock();
        let known = log.log_state().committed().copied();
        let last = log.log_state().last().copied();
        match committed.as_ref().map(LogIdV1::from) {
            Some(id) if Some(id) > known && Some(id) <= last => log.commit(id).map(drop),
            _ => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.lock().log_state().committed().map(|id| id.restore()))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut log = self.lock();
        let records = entries
            .into_iter()
            .map(|entry| (LogIdV1::from(&entry.log_id()), Stored(codec::encode_entry(&entry.payload))));
        log.append(records)?;
        flush(&mut log, Tell::Raft(callback))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let mut log = self.lock();
        let keep = last_log_id.map_or(0, |id| id.index + 1);
        if log.log_state().last().is_none_or(|last| last.index < keep) {
            return Ok(());
        }
        // Reaches the disk in order with the append that follows; a crash in between brings back entries that were
        // never acknowledged, which Raft allows.
        log.truncate(keep).map(drop)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let mut log = self.lock();
        log.purge(LogIdV1::from(&log_id))?;
        flush(&mut log, Tell::Nobody)
    }
}

/// Has everything written so far synced, then tells.
fn flush(log: &mut RaftLog<LogTypes>, tell: Tell) -> io::Result<()> {
    #[cfg(test)]
    if let Some(disk) = crate::faults::Disk::of(&log.config().wal.dir) {
        let end = log.stat().open_chunk.global_end;
        return disk.write(tell, end, || {
            log.flush(true, None)?;
            log.wait_worker_idle()
        });
    }
    #[cfg(test)]
    let mark = crate::faults::Mark::of(&log.config().wal.dir, log.stat().open_chunk.global_end);
    let flushed = Flushed {
        tell,
        #[cfg(test)]
        mark,
    };
    log.flush(true, Some(flushed))
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last + 1,
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

fn invalid_data(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Encode for LogIdV1 {
    fn encode<W: io::Write>(&self, mut out: W) -> Result<usize, io::Error> {
        out.write_all(&self.term.to_be_bytes())?;
        out.write_all(&self.index.to_be_bytes())?;
        Ok(16)
    }
}

impl Decode for LogIdV1 {
    fn decode<R: io::Read>(mut from: R) -> Result<Self, io::Error> {
        let (mut term, mut index) = ([0; 8], [0; 8]);
        from.read_exact(&mut term)?;
        from.read_exact(&mut index)?;
        Ok(Self { term: u64::from_be_bytes(term), index: u64::from_be_bytes(index) })
    }
}

impl Encode for VoteV1 {
    fn encode<W: io::Write>(&self, out: W) -> Result<usize, io::Error> {
        write_sized(out, &codec::encode_vote(&self.restore()))
    }
}

impl Decode for VoteV1 {
    fn decode<R: io::Read>(from: R) -> Result<Self, io::Error> {
        codec::decode_vote(&read_sized(from)?).map_err(invalid_data)
    }
}

impl Encode for Stored {
    fn encode<W: io::Write>(&self, out: W) -> Result<usize, io::Error> {
        write_sized(out, &self.0)
    }
}

impl Decode for Stored {
    fn decode<R: io::Read>(from: R) -> Result<Self, io::Error> {
        Ok(Self(read_sized(from)?.into()))
    }
}

fn write_sized(mut out: impl io::Write, bytes: &[u8]) -> io::Result<usize> {
    let size = u32::try_from(bytes.len()).map_err(invalid_data)?;
    out.write_all(&size.to_be_bytes())?;
    out.write_all(bytes)?;
    Ok(bytes.len() + 4)
}

fn read_sized(mut from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut size = [0; 4];
    from.read_exact(&mut size)?;
    let size = u64::from(u32::from_be_bytes(size));
    // Not `vec![0; size]`: a torn size must not reserve 4 GiB before the checksum is looked at.
    let mut bytes = Vec::new();
    if from.by_ref().take(size).read_to_end(&mut bytes)? as u64 != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
