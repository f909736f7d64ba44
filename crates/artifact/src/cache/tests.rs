use sheaf_model::{FileName, Shape};

use super::*;
use crate::unpack::tests::{artifact, packed};

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

async fn receive(cache: &Cache, bytes: &[u8], from: usize, to: usize) -> Result<u64, CacheError> {
    let piece = Bytes::copy_from_slice(&bytes[from..to]);
    cache.receive(digest(bytes), bytes.len() as u64, from as u64, piece).await
}

/// A program's blob, and what it is registered as.
fn program(folder: &Path) -> (Vec<u8>, Artifact) {
    let source = folder.join("program");
    fs::write(&source, "#!/bin/sh\n").unwrap();
    let (packed, blob) = packed(&source);
    let artifact = artifact(&blob, packed.shape().clone());
    (blob, artifact)
}

#[tokio::test]
async fn a_blob_comes_in_pieces_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let cache = Cache::open(folder.path(), 0).unwrap();
    assert_eq!(receive(&cache, &bytes, 0, 30_000).await.unwrap(), 30_000);
    assert_eq!(
        receive(&cache, &bytes, 0, 30_000).await.unwrap(),
        30_000,
        "a piece that is here is left alone"
    );
    assert_eq!(
        receive(&cache, &bytes, 50_000, 60_000).await.unwrap(),
        30_000,
        "and one that comes too early"
    );
    drop(cache);
    let cache = Cache::open(folder.path(), 0).unwrap();
    assert_eq!(cache.received(&digest(&bytes), 100_000), 30_000);
    assert_eq!(receive(&cache, &bytes, 30_000, 60_000).await.unwrap(), 60_000);
    assert!(!cache.has(&digest(&bytes)));
    assert_eq!(receive(&cache, &bytes, 60_000, 100_000).await.unwrap(), 100_000);
    assert!(cache.has(&digest(&bytes)));
    let mut pieces = cache.read(digest(&bytes), 40_000).await.unwrap();
    let mut read = Vec::new();
    while let Some(piece) = pieces.next().await {
        read.extend_from_slice(&piece.unwrap());
    }
    assert!(read == bytes[40_000..]);
}

#[tokio::test]
async fn other_bytes_than_announced_are_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    let wanted = digest(b"right");
    let error = cache.receive(wanted, 5, 0, Bytes::from_static(b"wrong")).await.unwrap_err();
    assert!(matches!(error, CacheError::Digest { .. }), "{error}");
    assert_eq!(cache.received(&wanted, 5), 0);
    let error = cache.receive(wanted, 5, 0, Bytes::from_static(b"right and more")).await.unwrap_err();
    assert_eq!(error.to_string(), "more bytes came than the 5 announced");
    assert_eq!(cache.receive(wanted, 5, 0, Bytes::from_static(b"right")).await.unwrap(), 5);
    assert!(matches!(cache.read(digest(b"none"), 0).await, Err(CacheError::Absent(_))));
}

#[tokio::test]
async fn what_belongs_to_nobody_goes_and_what_was_just_pushed_stays() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    let blobs = [&b"one"[..], b"two", b"three"];
    for blob in blobs {
        receive(&cache, blob, 0, blob.len()).await.unwrap();
    }
    let here = || blobs.map(|blob| cache.has(&digest(blob)));
    cache.keep(Keep::default()).await;
    assert_eq!(here(), [true; 3], "nobody has said yet that they were registered");
    let set = |of: &[&[u8]]| of.iter().map(|blob| digest(blob)).collect::<BTreeSet<_>>();
    cache.keep(Keep { registered: set(&blobs), needed: set(&[b"one", b"two"]) }).await;
    assert_eq!(here(), [true, true, false], "there is no room for what is not needed");
    cache.keep_as_voter(set(&[b"two"])).await;
    cache.keep(Keep { registered: set(&[b"two"]), needed: BTreeSet::new() }).await;
    assert_eq!(here(), [false, true, false], "a voter keeps what is registered");
}

#[tokio::test]
async fn what_the_disk_lost_is_not_used_and_fetched_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (blob, artifact) = program(folder.path());
    assert!(matches!(artifact.shape, Shape::File(_)));
    let cache = Cache::open(&folder.path().join("cache"), 0).unwrap();
    receive(&cache, &blob, 0, blob.len()).await.unwrap();
    let mut torn = blob.clone();
    torn[520] ^= 1;
    fs::write(cache.blob(&artifact.digest), &torn).unwrap();
    assert!(matches!(cache.unpacked(&artifact).await, Err(CacheError::Unpack(UnpackError::Digest { .. }))));
    assert!(!cache.has(&artifact.digest));
    receive(&cache, &blob, 0, blob.len()).await.unwrap();
    let path = cache.unpacked(&artifact).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), b"#!/bin/sh\n");
}

#[tokio::test]
async fn a_blob_that_is_announced_as_what_it_is_not_stays_for_the_version_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let (blob, artifact) = program(folder.path());
    let cache = Cache::open(&folder.path().join("cache"), 0).unwrap();
    receive(&cache, &blob, 0, blob.len()).await.unwrap();
    let other = Artifact { shape: Shape::File(FileName::new("another").unwrap()), ..artifact.clone() };
    let error = cache.inspect(&other).await.unwrap_err();
    assert!(matches!(error, CacheError::Unpack(UnpackError::Missing(_))), "{error}");
    cache.inspect(&artifact).await.unwrap();
    let no_archive = b"no archive at all";
    receive(&cache, no_archive, 0, no_archive.len()).await.unwrap();
    let wrong = Artifact { digest: digest(no_archive), ..artifact };
    cache.inspect(&wrong).await.unwrap_err();
    assert!(!cache.has(&wrong.digest), "it is nobody's");
}

#[tokio::test]
async fn what_there_is_no_room_for_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    let bytes = vec![1; 1000];
    assert_eq!(receive(&cache, &bytes, 0, 500).await.unwrap(), 500);
    let full = Cache { spare: u64::MAX / 2, ..cache.clone() };
    let error = full.has_room(&digest(&bytes), 1000).unwrap_err();
    assert!(
        error.is_full() && error.to_string().starts_with("there is no room for 500 more bytes"),
        "{error}"
    );
    let error = receive(&full, &bytes, 500, 1000).await.unwrap_err();
    assert!(error.is_full(), "{error}");
    assert_eq!(full.received(&digest(&bytes), 1000), 0, "its part takes no room either");
    assert_eq!(receive(&cache, &bytes, 0, 1000).await.unwrap(), 1000, "there is room again");
    full.has_room(&digest(&bytes), 1000).unwrap();
}

async fn all(cache: &Cache, digest: Digest) -> io::Result<Vec<u8>> {
    let mut pieces = cache.read(digest, 0).await.unwrap();
    let mut read = Vec::new();
    while let Some(piece) = pieces.next().await {
        read.extend_from_slice(&piece?);
    }
    Ok(read)
}

#[tokio::test]
async fn what_the_disk_lost_is_found_when_it_is_given_to_another_node() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    let bytes = vec![7; PIECE + 10];
    receive(&cache, &bytes, 0, bytes.len()).await.unwrap();
    assert!(all(&cache, digest(&bytes)).await.unwrap() == bytes);
    let mut torn = bytes.clone();
    torn[PIECE + 1] ^= 1;
    fs::write(cache.blob(&digest(&bytes)), torn).unwrap();
    let error = all(&cache, digest(&bytes)).await.unwrap_err();
    assert!(error.to_string().contains("the disk lost it"), "{error}");
    assert!(!cache.has(&digest(&bytes)));
}

#[tokio::test]
async fn content_that_is_pushed_again_after_its_version_was_deleted_stays() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    let set = || BTreeSet::from([digest(b"one")]);
    receive(&cache, b"one", 0, 3).await.unwrap();
    cache.keep_as_voter(set()).await;
    cache.keep(Keep { registered: set(), needed: BTreeSet::new() }).await;
    cache.keep_as_voter(BTreeSet::new()).await;
    cache.keep(Keep::default()).await;
    assert!(!cache.has(&digest(b"one")), "its version was deleted");
    for (from, to) in [(0, 1), (1, 2), (2, 3)] {
        assert_eq!(receive(&cache, b"one", from, to).await.unwrap(), to as u64, "its pieces stay");
        cache.sweep().await;
    }
    assert!(cache.has(&digest(b"one")), "it is not registered yet");
    cache.keep_as_voter(set()).await;
    cache.keep_as_voter(BTreeSet::new()).await;
    assert!(!cache.has(&digest(b"one")));
}

#[tokio::test]
async fn a_blob_is_needed_by_what_runs_by_jobs_and_by_a_voter() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    let blob = digest(b"blob");
    let set = || BTreeSet::from([blob]);
    assert!(cache.is_needed(&blob), "nobody has said yet what is");
    cache.receive(blob, 4, 0, Bytes::from_static(b"bl")).await.unwrap();
    cache.keep(Keep { registered: set(), needed: BTreeSet::new() }).await;
    assert_eq!(
        (cache.is_needed(&blob), cache.received(&blob, 4)),
        (false, 2),
        "half of it stays, and is all"
    );
    cache.keep(Keep { registered: set(), needed: set() }).await;
    assert!(cache.is_needed(&blob));
    cache.keep(Keep { registered: set(), needed: BTreeSet::new() }).await;
    cache.keep_for_jobs(set());
    assert!(cache.is_needed(&blob));
    cache.keep_for_jobs(BTreeSet::new());
    assert!(!cache.is_needed(&blob));
    cache.keep_as_voter(set()).await;
    assert!(cache.is_needed(&blob));
}

#[tokio::test]
async fn parts_and_files_of_which_nothing_came_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    let (old, new, files, used) = (digest(b"old"), digest(b"new"), digest(b"files"), digest(b"used"));
    for part in [old, new] {
        cache.receive(part, 100, 0, Bytes::from_static(b"begun")).await.unwrap();
    }
    let long_ago = SystemTime::now() - 2 * UNREGISTERED;
    File::open(cache.path("incoming", &old)).unwrap().set_modified(long_ago).unwrap();
    for unpacked in [files, used] {
        fs::create_dir(cache.path("unpacked", &unpacked)).unwrap();
    }
    cache.keep(Keep { registered: BTreeSet::new(), needed: BTreeSet::from([used]) }).await;
    assert_eq!((cache.received(&old, 100), cache.received(&new, 100)), (0, 5));
    assert!(!cache.path("unpacked", &files).exists());
    assert!(cache.path("unpacked", &used).exists(), "something runs from it");
    assert_eq!(cache.receive(old, 100, 0, Bytes::from_static(b"anew")).await.unwrap(), 4);
}
