//! What peers and the disk hand over: messages of Raft, entries of the log, snapshots, archives.

use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use sheaf_consensus::{decode_batch, probe};
use sheaf_console::snapshot;
use sheaf_engine::{Change, Command, Form, Proposal, State, apply};
use sheaf_model::view::SnapshotHead;
use sheaf_model::{
    Actor, Artifact, ClusterId, Digest, FileName, ModuleRef, RequestId, Settings, Shape, Term, Timestamp,
};

use super::corpus::{golden, texts};
use super::mutate::Soil;
use super::run::{Target, demand, is_told};

pub(super) const BYTES: Target = Target {
    name: "bytes",
    about: "everything that members send each other, or read from their disks",
    inputs: 40_000,
    prepare: || {
        let words = texts(&["\u{1}", "\u{1}\u{1}", "\u{1}\u{2}", "\u{1}\u{6}", "\u{0}", "\u{7f}"]);
        (Soil { corpus: golden(), words, longest: 16 << 10, anew: None }, Box::new(read_bytes))
    },
};
pub(super) const COMMANDS: Target = Target {
    name: "commands",
    about: "entries of the log that are damaged or made up, applied",
    inputs: 10_000,
    prepare: || {
        let (state, _) = grown();
        let corpus = golden().into_iter().filter(|bytes| decode_batch(bytes).is_ok()).collect();
        let words = texts(&["/a", "n1", "\u{7f}", "\u{0}", "\u{1}"]);
        let soil = Soil { corpus, words, longest: 8 << 10, anew: None };
        (soil, Box::new(move |input: &[u8]| run_commands(&state, input)))
    },
};
pub(super) const SNAPSHOTS: Target = Target {
    name: "snapshots",
    about: "files of snapshots",
    inputs: 4_000,
    prepare: || {
        let place = Place::new();
        let path = place.0.join("snapshot");
        let mut corpus = vec![written()];
        corpus.push(corpus[0].iter().copied().take(40).collect());
        let words = texts(&["{", "}", "\"bytes\":", "null", "18446744073709551615"]);
        let run = move |input: &[u8]| {
            let path = &path;
            let _kept = &place;
            fs::write(path, input).map_err(|error| error.to_string())?;
            match snapshot::read(path, &mut std::io::sink()) {
                Ok(_) => Ok(()),
                Err(error) => is_told(&error.to_string(), input),
            }
        };
        (Soil { corpus, words, longest: 16 << 10, anew: None }, Box::new(run))
    },
};
pub(super) const ARCHIVES: Target = Target {
    name: "archives",
    about: "artifacts, looked at before they are unpacked",
    inputs: 10_000,
    prepare: || {
        let words = texts(&[
            "../",
            "/etc/passwd",
            "ustar\u{0}00",
            "././@LongLink",
            "0000644\u{0}",
            "5",
            "2",
            "\u{0}",
        ]);
        (Soil { corpus: vec![packed()], words, longest: 64 << 10, anew: None }, Box::new(read_archive))
    },
};

/// A directory of the target's own, removed with it.
pub(super) struct Place(pub(super) PathBuf);

impl Place {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sheaf-fuzz.{}.{count}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made for temporary files");
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What only the table of requests holds.
pub(super) const HIDDEN: &str = "what-no-query-may-see";

/// A state that all golden commands were applied to, as far as they could be, and everything that changed.
pub(super) fn grown() -> (State, Vec<Change>) {
    let (mut state, mut changes) = (State::default(), Vec::new());
    let form = Form { cluster: ClusterId::from("c"), settings: Settings::default() };
    let proposal = Proposal {
        actor: Actor::from("test"),
        at: Timestamp(1_000),
        request: Some(RequestId::from(HIDDEN)),
        command: Command::Form(form),
    };
    apply(&mut state, Term(1), &proposal, &mut changes);
    // Twice: what one of them needs another may have made.
    for _ in 0..2 {
        for proposal in golden().iter().filter_map(|bytes| decode_batch(bytes).ok()).flatten() {
            apply(&mut state, Term(1), &proposal, &mut changes);
        }
    }
    (state, changes)
}

fn read_bytes(input: &[u8]) -> Result<(), String> {
    let bytes = Bytes::copy_from_slice(input);
    for (name, read) in probe::ALL {
        if let Err(error) = read(&bytes) {
            is_told(&error.to_string(), input).map_err(|what| format!("{name}: {what}"))?;
        }
    }
    Ok(())
}

fn run_commands(state: &State, input: &[u8]) -> Result<(), String> {
    let Ok(proposals) = decode_batch(input) else { return Ok(()) };
    let (mut state, mut changes) = (state.clone(), Vec::new());
    for proposal in &proposals {
        let before = state.revision.0;
        let _reply = apply(&mut state, Term(1), proposal, &mut changes);
        let next = state.revision.0 == before + 1;
        demand(next, || format!("revision {} follows {before}", state.revision))?;
    }
    Ok(())
}

/// A snapshot as `cluster snapshot save` writes it, but for its checksum.
fn written() -> Vec<u8> {
    let head = SnapshotHead { cluster: "c1".to_owned(), revision: 7, bytes: 16, ..SnapshotHead::default() };
    let head = serde_json::to_vec(&head).expect("it is plain data");
    let mut bytes = b"SHEAF SNAPSHOT\x01".to_vec();
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend([7; 16]);
    bytes.extend([0; 4]);
    bytes
}

/// An archive with a directory, a file and a link in it.
fn packed() -> Vec<u8> {
    let place = Place::new();
    let root = place.0.join("program");
    fs::create_dir_all(root.join("lib")).expect("the directory is the target's own");
    fs::write(root.join("lib/a.txt"), "text").expect("the directory is the target's own");
    std::os::unix::fs::symlink("lib/a.txt", root.join("link")).expect("the directory is the target's own");
    let mut blob = Vec::new();
    let packed = sheaf_artifact::pack(&root).expect("it may be packed");
    packed.write(&mut blob).expect("memory takes it");
    blob
}

fn read_archive(input: &[u8]) -> Result<(), String> {
    let module = ModuleRef::parse("m@1").map_err(|error| error.to_string())?;
    let name = FileName::new("a.txt").map_err(|error| error.to_string())?;
    for shape in [Shape::Directory, Shape::File(name)] {
        let size = input.len() as u64;
        let artifact = Artifact { module: module.clone(), digest: Digest([0; 32]), size, shape };
        if let Err(error) = sheaf_artifact::unpack::inspect(Cursor::new(input), &artifact) {
            is_told(&error.to_string(), input)?;
        }
    }
    Ok(())
}
