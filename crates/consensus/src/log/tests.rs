use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::entry::RaftEntry;
use openraft::storage::RaftStateMachine;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{Membership, StorageError};
use sheaf_store::Store;
use tempfile::TempDir;

use super::*;
use crate::codec::Position;
use crate::machine::{Builder, Machine, Shared};
use crate::raft::{EntryPayload, StoredMembership, log_id};
use crate::snapshot::{Copies, SnapshotFile};
use crate::writer;

fn entry(term: u64, index: u64) -> Entry {
    Entry::new(log_id(term, index), EntryPayload::Blank)
}

fn large_entry(index: u64) -> Entry {
    let batch = codec::encode_batch([vec![7; 100_000].as_slice()].into_iter());
    Entry::new(log_id(1, index), EntryPayload::Normal(crate::raft::Payload(batch)))
}

async fn append(log: &mut LogStore, entries: Vec<Entry>) {
    let (caller, flushed) = Types::oneshot();
    log.append(entries, IOFlushed::signal(caller)).await.unwrap();
    flushed.await.unwrap().unwrap();
}

async fn indexes(log: &mut LogStore) -> Vec<u64> {
    let entries = log.try_get_log_entries(0..u64::MAX).await.unwrap();
    entries.iter().map(|entry| entry.log_id().index).collect()
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "wal"))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn votes_entries_and_the_commit_are_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let vote = Vote::new_committed(3, 2);
    {
        let mut log = LogStore::open(dir.path()).unwrap();
        log.save_vote(&vote).await.unwrap();
        append(&mut log, (0..10).map(|index| entry(3, index)).collect()).await;
        log.save_committed(Some(log_id(3, 7))).await.unwrap();
        log.truncate_after(Some(log_id(3, 8))).await.unwrap();
        append(&mut log, vec![entry(4, 9)]).await;
    }
    let mut log = LogStore::open(dir.path()).unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(3, 7)));
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(log_id(4, 9)));
    assert_eq!(indexes(&mut log).await, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_the_rest_stays() {
    for torn in [1, 3, 11] {
        let dir = TempDir::new().unwrap();
        {
            let mut log = LogStore::open(dir.path()).unwrap();
            append(&mut log, (0..5).map(|index| entry(1, index)).collect()).await;
        }
        let newest = files(dir.path()).pop().unwrap();
        let size = newest.metadata().unwrap().len();
        std::fs::OpenOptions::new().write(true).open(&newest).unwrap().set_len(size - torn).unwrap();
        let mut log = LogStore::open(dir.path()).unwrap();
        assert_eq!(indexes(&mut log).await, [0, 1, 2, 3]);
        let cuts: Vec<String> = log.cuts().iter().map(ToString::to_string).collect();
        let said = format!("{} ends within a record: its last ", newest.display());
        assert!(matches!(&cuts[..], [cut] if cut.starts_with(&said)), "{cuts:?}");
        append(&mut log, vec![entry(2, 4)]).await;
        drop(log);
        let mut log = LogStore::open(dir.path()).unwrap();
        assert_eq!(indexes(&mut log).await, [0, 1, 2, 3, 4]);
        assert!(log.cuts().is_empty());
    }
}

/// Whatever is damaged there, and however: it is not taken for what a crash leaves.
#[tokio::test]
async fn damage_before_the_last_record_is_refused_and_never_cut_off() {
    let dir = TempDir::new().unwrap();
    let last = {
        let mut log = LogStore::open(dir.path()).unwrap();
        log.save_vote(&Vote::new_committed(3, 2)).await.unwrap();
        append(&mut log, (0..4).map(|index| entry(3, index)).collect()).await;
        log.save_committed(Some(log_id(3, 2))).await.unwrap();
        log.sync().await.unwrap();
        let size = files(dir.path()).pop().unwrap().metadata().unwrap().len();
        append(&mut log, vec![entry(3, 4)]).await;
        usize::try_from(size).unwrap()
    };
    let file = files(dir.path()).pop().unwrap();
    let whole = std::fs::read(&file).unwrap();
    assert!(last > 150 && last < whole.len());
    for (at, flip) in (0..last).flat_map(|at| [0x01, 0x80, 0xff].map(|flip| (at, flip))) {
        let mut damaged = whole.clone();
        damaged[at] ^= flip;
        std::fs::write(&file, &damaged).unwrap();
        let error = LogStore::open(dir.path()).err();
        let kind = error.as_ref().map(io::Error::kind);
        assert_eq!(kind, Some(io::ErrorKind::InvalidData), "byte {at} ^ {flip:#x}: {error:?}");
        assert!(std::fs::read(&file).unwrap() == damaged, "byte {at} ^ {flip:#x}: it stays as it is");
    }
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(indexes(&mut LogStore::open(dir.path()).unwrap()).await, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn an_older_file_that_ends_too_early_is_damage_and_a_new_one_that_hardly_began_is_not() {
    let dir = TempDir::new().unwrap();
    {
        let mut log = LogStore::open(dir.path()).unwrap();
        for index in 0..100 {
            append(&mut log, vec![large_entry(index)]).await;
        }
    }
    let both = files(dir.path());
    let [oldest, newest] = &both[..] else { panic!("two files, not {both:?}") };
    let whole = std::fs::read(oldest).unwrap();
    std::fs::write(oldest, &whole[..whole.len() - 10]).unwrap();
    let error = LogStore::open(dir.path()).err().unwrap();
    let error = crate::service::log_error(dir.path(), error).to_string();
    assert!(error.contains("is damaged") && error.contains("move the whole data directory away"), "{error}");
    std::fs::write(oldest, &whole).unwrap();
    std::fs::OpenOptions::new().write(true).open(newest).unwrap().set_len(3).unwrap();
    let mut log = LogStore::open(dir.path()).unwrap();
    assert!(log.cuts()[0].to_string().contains("its last 3 bytes"), "{:?}", log.cuts());
    let left = indexes(&mut log).await;
    assert_eq!(left, (0..left.len() as u64).collect::<Vec<_>>(), "all of the older file");
    assert!(left.len() > 50, "{left:?}");
}

#[tokio::test]
async fn a_record_that_contradicts_those_before_it_is_damage() {
    let dir = TempDir::new().unwrap();
    let read = || std::fs::read(files(dir.path()).pop().unwrap()).unwrap();
    let (first, both) = {
        let mut log = LogStore::open(dir.path()).unwrap();
        append(&mut log, vec![entry(1, 0)]).await;
        let first = read().len();
        append(&mut log, vec![entry(1, 1)]).await;
        (first, read())
    };
    let newest = files(dir.path()).pop().unwrap();
    std::fs::write(&newest, [&both[..], &both[first..]].concat()).unwrap();
    let error = LogStore::open(dir.path()).err().unwrap();
    let error = crate::service::log_error(dir.path(), error).to_string();
    assert!(error.contains("reversed") && error.contains("move the whole data directory away"), "{error}");
    std::fs::write(&newest, &both).unwrap();
    assert_eq!(indexes(&mut LogStore::open(dir.path()).unwrap()).await, [0, 1]);
}

#[tokio::test]
async fn a_tail_of_zeros_is_cut_off_too() {
    let dir = TempDir::new().unwrap();
    {
        let mut log = LogStore::open(dir.path()).unwrap();
        append(&mut log, (0..5).map(|index| entry(1, index)).collect()).await;
    }
    let newest = files(dir.path()).pop().unwrap();
    std::fs::OpenOptions::new().append(true).open(newest).unwrap().write_all(&[0; 5000]).unwrap();
    let mut log = LogStore::open(dir.path()).unwrap();
    assert!(log.cuts()[0].to_string().contains("its last 5000 bytes"), "{:?}", log.cuts());
    assert_eq!(indexes(&mut log).await, [0, 1, 2, 3, 4]);
}

/// ext4 may set a file's size before the blocks of a write are there.
#[tokio::test]
async fn a_record_whose_last_blocks_were_never_written_is_cut_off() {
    let dir = TempDir::new().unwrap();
    let size = || files(dir.path()).pop().unwrap().metadata().unwrap().len();
    let before = {
        let mut log = LogStore::open(dir.path()).unwrap();
        append(&mut log, vec![entry(1, 0)]).await;
        let before = size();
        append(&mut log, vec![large_entry(1), large_entry(2)]).await;
        usize::try_from(before).unwrap()
    };
    let file = files(dir.path()).pop().unwrap();
    let whole = std::fs::read(&file).unwrap();
    let unwritten = |from: usize| {
        let mut bytes = whole.clone();
        bytes[from..].fill(0);
        bytes
    };
    for (from, left) in [(512, 1), (4096, 1), (65536, 1), (whole.len() - 4096, 2)] {
        let from = from / 512 * 512;
        let bytes = unwritten(from);
        std::fs::write(&file, &bytes).unwrap();
        let mut log = LogStore::open(dir.path()).unwrap();
        assert_eq!(indexes(&mut log).await, (0..left).collect::<Vec<u64>>(), "zeros from {from}");
        let [cut] = log.cuts() else { panic!("zeros from {from}: {:?}", log.cuts()) };
        assert!(cut.to_string().contains("are cut off"), "{cut}");
        append(&mut log, vec![entry(2, left)]).await;
        drop(log);
        let mut log = LogStore::open(dir.path()).unwrap();
        assert_eq!(indexes(&mut log).await, (0..=left).collect::<Vec<u64>>());
        assert!(log.cuts().is_empty());
    }

    // A whole record follows one whose length is damaged, and only then come zeros; or a block was lost within.
    let mut longer = [&whole[..], &[0; 20_000][..]].concat();
    let length = before + 20..before + 24;
    let damaged = u32::from_be_bytes(longer[length.clone()].try_into().unwrap()) + 110_000;
    longer[length].copy_from_slice(&damaged.to_be_bytes());
    let mut hole = [&whole[..], &[0; 20_000][..]].concat();
    hole[4096..8192].fill(0);
    for damaged in [longer, hole] {
        std::fs::write(&file, &damaged).unwrap();
        let error = LogStore::open(dir.path()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(std::fs::read(&file).unwrap() == damaged, "it stays as it is");
    }
}

#[tokio::test]
async fn files_behind_the_purge_point_go_away() {
    let dir = TempDir::new().unwrap();
    let mut log = LogStore::open(dir.path()).unwrap();
    for index in 0..300 {
        append(&mut log, vec![large_entry(index)]).await;
    }
    assert!(files(dir.path()).len() > 3);
    // Old entries come from their files, whole pieces at a time.
    assert!(log.limited_get_log_entries(0, 300).await.unwrap().len() < 20);
    assert_eq!(indexes(&mut log).await.len(), 300);
    log.purge(log_id(1, 290)).await.unwrap();
    log.sync().await.unwrap();
    assert!(files(dir.path()).len() < 3);
    assert_eq!(indexes(&mut log).await, (291..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn two_processes_cannot_open_one_log() {
    let dir = TempDir::new().unwrap();
    let _first = LogStore::open(dir.path()).unwrap();
    assert_eq!(LogStore::open(dir.path()).err().unwrap().kind(), io::ErrorKind::WouldBlock);
}

/// openraft's own suite for logs and state machines, over ours.
#[tokio::test]
async fn openraft_finds_log_and_machine_as_it_expects_them() {
    Suite::test_all(Fresh).await.unwrap();
}

struct Fresh;

impl StoreBuilder<Types, LogStore, Copying, TempDir> for Fresh {
    async fn build(&self) -> Result<(TempDir, LogStore, Copying), StorageError<Types>> {
        let dir = TempDir::new().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        let (state, position) = writer::load(&store).unwrap();
        let copies = Copies::new(store.reader(), dir.path(), 0).unwrap();
        let shared = Arc::new(Shared::new(state, position.clone(), 100));
        let started = writer::start(store, position.clone(), Default::default()).unwrap();
        let jobs = started.handle;
        let machine = Machine::new(shared, jobs, position);
        let log = LogStore::open(dir.path()).unwrap();
        Ok((dir, log, Copying { machine, copies, made: AtomicBool::new(false) }))
    }
}

/// The machine as the suite wants it: its snapshot can be installed elsewhere without a network in between.
struct Copying {
    machine: Machine,
    copies: Copies,
    made: AtomicBool,
}

impl RaftStateMachine<Types> for Copying {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        self.machine.applied_state().await
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<openraft::storage::EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        self.machine.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.made.store(true, Ordering::Relaxed);
        self.machine.get_snapshot_builder().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types>,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        self.machine.install_snapshot(meta, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, SnapshotFile>>, io::Error> {
        let Some(mut snapshot) = self.machine.get_current_snapshot().await? else { return Ok(None) };
        if self.made.load(Ordering::Relaxed) {
            snapshot.snapshot = SnapshotFile::Received(self.copies.make().await?.into_file());
        }
        Ok(Some(snapshot))
    }
}

#[test]
fn a_position_survives_its_encoding() {
    let voters = [[1, 2, 3].into(), [2, 3, 4].into()];
    let members = (1..=5).map(|id| (id, openraft::BasicNode::new(format!("10.0.0.{id}:7420"))));
    let membership =
        Membership::new(voters.to_vec(), members.collect::<std::collections::BTreeMap<_, _>>()).unwrap();
    let position = Position {
        applied: Some(log_id(7, 12_345)),
        membership: StoredMembership::new(Some(log_id(6, 12_000)), membership),
    };
    assert_eq!(codec::decode_position(&codec::encode_position(&position)).unwrap(), position);
    let empty = Position::default();
    assert_eq!(codec::decode_position(&codec::encode_position(&empty)).unwrap(), empty);
}

/// The log's tail does not follow on what the database holds: nothing may be founded on that.
#[tokio::test]
async fn a_gap_between_database_and_log_is_an_error() {
    let dir = TempDir::new().unwrap();
    let (database, raft) = (dir.path().join(crate::DATABASE), dir.path().join(crate::LOG));
    std::fs::create_dir(&raft).unwrap();
    drop(Store::open(&database).unwrap());
    {
        let mut log = LogStore::open(&raft).unwrap();
        append(&mut log, (0..10).map(|index| entry(1, index)).collect()).await;
        log.purge(log_id(1, 4)).await.unwrap();
        log.sync().await.unwrap();
    }
    let refused = crate::Offline::open(&database, Some(&raft)).map(drop).unwrap_err().to_string();
    assert!(refused.contains("entry 0 is missing, the next one is 5"), "{refused}");
}
