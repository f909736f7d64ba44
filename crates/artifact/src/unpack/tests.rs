use std::io::Cursor;

use proptest::prelude::*;
use sheaf_model::{ModuleRef, Shape};
use tar::{Builder, EntryType, Header};

use super::*;
use crate::pack::pack;

pub(crate) fn artifact(blob: &[u8], shape: Shape) -> Artifact {
    let digest = Digest(Sha256::digest(blob).into());
    Artifact { module: ModuleRef::parse("m@1").unwrap(), digest, size: blob.len() as u64, shape }
}

/// One entry as no honest packer makes it: the name's bytes are put into the header as they are.
fn entry(kind: EntryType, name: &str, link: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut archive = Builder::new(Vec::new());
    archive.append(&header, content).unwrap();
    let mut bytes = archive.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

fn blob(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut blob = entries.concat();
    blob.extend([0; 1024]);
    blob
}

/// What unpacking says; nothing is left of it, within or beside.
fn refused(entries: &[Vec<u8>]) -> String {
    let blob = blob(entries);
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("deep/unpacked");
    fs::create_dir(folder.path().join("deep")).unwrap();
    let error = unpack(Cursor::new(&blob), &artifact(&blob, Shape::Directory), &to).unwrap_err();
    assert_eq!(fs::read_dir(folder.path().join("deep")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    error.to_string()
}

#[test]
fn evil_archives_are_refused_and_leave_nothing() {
    let file = |name: &str| entry(EntryType::Regular, name, "", 0o644, b"x");
    let link = |name: &str, to: &str| entry(EntryType::Symlink, name, to, 0o777, b"");
    let cases: [(&[Vec<u8>], &str); 17] = [
        (&[file("/etc/evil")], "an absolute path"),
        (&[file("../evil")], "a path that leads out of it"),
        (&[file("a/../../evil")], "a path that leads out of it"),
        (&[link("l", "/etc")], "a link that leads out of it"),
        (&[link("l", "../..")], "a link that leads out of it"),
        (&[link("l", "nowhere")], "a link to nothing"),
        (&[link("d", "../../"), file("d/evil")], "which lies below a link"),
        (&[file("d/evil"), link("d", "../../")], "twice"),
        (&[file("d"), file("d/evil")], "which lies below a file"),
        (&[link("a", "b"), link("b", "a")], "a link to nothing"),
        (&[file("sub/x"), link("sub/d", ".."), link("l", "sub/d/../..")], "a link that leads out of it"),
        (&[entry(EntryType::Link, "l", "/etc/passwd", 0o644, b"")], "a hard link"),
        (&[entry(EntryType::Char, "null", "", 0o666, b"")], "a device or pipe"),
        (&[entry(EntryType::Block, "sda", "", 0o666, b"")], "a device or pipe"),
        (&[entry(EntryType::Fifo, "pipe", "", 0o666, b"")], "a device or pipe"),
        (&[entry(EntryType::Regular, "su", "", 0o4755, b"x")], "setuid"),
        (&[file("a"), file("a")], "twice"),
    ];
    for (entries, problem) in cases {
        let said = refused(entries);
        assert!(said.contains(problem), "{problem}: {said}");
    }
}

#[test]
fn ten_gigabytes_of_zeros_are_refused_before_they_are_written() {
    let mut header = entry(EntryType::Regular, "zeros", "", 0o644, b"");
    let mut large = Header::new_gnu();
    large.as_old_mut().name[..5].copy_from_slice(b"zeros");
    large.set_entry_type(EntryType::Regular);
    large.set_mode(0o644);
    large.set_size(10 << 30);
    large.set_cksum();
    header[..512].copy_from_slice(large.as_bytes());
    assert_eq!(refused(&[header]), "the artifact holds more than 2GiB");
}

/// Each directory that an entry implies takes as much memory as one of its own.
#[test]
fn directories_without_an_entry_count_and_nothing_lies_too_deep() {
    let deep = |n: u32| entry(EntryType::Regular, &format!("{n}/{}x", "d/".repeat(44)), "", 0o644, b"");
    let most: Vec<Vec<u8>> = (0..2180).map(deep).collect(); // 46 each
    assert_eq!(refused(&most[..]), "the artifact holds more than 100000 files");
    let mut long = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(0);
    long.append_data(&mut header, format!("{}x", "d/".repeat(120)), &b""[..]).unwrap();
    let bytes = long.into_inner().unwrap();
    let said = refused(&[bytes[..bytes.len() - 1024].to_vec()]);
    assert!(said.ends_with("which lies too deep"), "{said}");
}

/// A name of 1 GiB would take that much memory.
#[test]
fn a_header_that_claims_a_name_without_end_is_refused() {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..3].copy_from_slice(b"l/l");
    header.set_entry_type(EntryType::GNULongName);
    header.set_mode(0o644);
    header.set_size(1 << 30);
    header.set_cksum();
    let said = refused(&[header.as_bytes().to_vec()]);
    assert_eq!(said, "the artifact holds \"l/l\", a header that is too long");
}

#[test]
fn other_bytes_garbage_and_cut_archives_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("unpacked");
    let whole = blob(&[entry(EntryType::Regular, "a", "", 0o644, &[7; 2000])]);
    let registered = artifact(&whole, Shape::Directory);
    let mut changed = whole.clone();
    changed[600] ^= 1;
    let said = |bytes: &[u8]| unpack(Cursor::new(bytes), &registered, &to).unwrap_err().to_string();
    assert!(said(&changed).contains("digest"));
    assert!(!to.exists());
    for garbage in [&whole[..700], &[9; 3000][..]] {
        assert!(!said(garbage).is_empty());
        assert!(!to.exists());
    }
    let missing = artifact(&whole, Shape::File(sheaf_model::FileName::new("b").unwrap()));
    let error = unpack(Cursor::new(&whole), &missing, &to).unwrap_err().to_string();
    assert_eq!(error, "the artifact does not hold the file b");
    unpack(Cursor::new(&whole), &registered, &to).unwrap();
    assert_eq!(fs::read(to.join("a")).unwrap(), [7; 2000]);
}

#[test]
fn what_was_unpacked_is_read_only_and_can_be_removed_all_the_same() {
    use std::os::unix::fs::PermissionsExt;
    let dir = entry(EntryType::Directory, "d/", "", 0o700, b"");
    let link = entry(EntryType::Symlink, "l", "d/run", 0o777, b"");
    let files = [("d/run", 0o700), ("d/text", 0o666)];
    let files = files.map(|(name, mode)| entry(EntryType::Regular, name, "", mode, b"x"));
    let blob = blob(&[&[dir][..], &files, &[link]].concat());
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("unpacked");
    unpack(Cursor::new(&blob), &artifact(&blob, Shape::Directory), &to).unwrap();
    let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["", "d", "d/run", "d/text", "l"].map(mode), [0o555, 0o555, 0o555, 0o444, 0o555]);
    assert!(is_sealed(&to));
    unseal(&to).unwrap();
    assert!(!is_sealed(&to));
    seal(&to).unwrap();
    assert_eq!(["", "d", "d/run", "d/text"].map(mode), [0o555, 0o555, 0o555, 0o444]);
    remove(&to).unwrap();
    assert!(!to.exists());
    remove(&to).unwrap();
}

pub(crate) fn packed(path: &Path) -> (crate::Packed, Vec<u8>) {
    let packed = pack(path).unwrap();
    let mut blob = Vec::new();
    packed.write(&mut blob).unwrap();
    assert_eq!((packed.digest, packed.size), (Digest(Sha256::digest(&blob).into()), blob.len() as u64));
    (packed, blob)
}

#[test]
fn a_file_keeps_its_name_and_whether_it_can_be_executed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.sh");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let (packed, blob) = packed(&path);
    let to = folder.path().join("unpacked");
    unpack(Cursor::new(&blob), &artifact(&blob, packed.shape().clone()), &to).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&to), mode(&to.join("run.sh"))), (0o555, 0o555));
    remove(&to).unwrap();
    assert!(!to.exists());
}

#[test]
fn what_cannot_be_pushed_is_said_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    fs::create_dir(&dir).unwrap();
    symlink("/etc", dir.join("out")).unwrap();
    let said = pack(&dir).unwrap_err().to_string();
    assert!(said.contains("d/out: a link that leads out"), "{said}");
    fs::remove_file(dir.join("out")).unwrap();
    symlink("nowhere", dir.join("loose")).unwrap();
    assert!(pack(&dir).unwrap_err().to_string().contains("d/loose: a link to nothing"));
    fs::remove_file(dir.join("loose")).unwrap();
    File::create(dir.join("zeros")).unwrap().set_len(10 << 30).unwrap();
    assert!(pack(&dir).unwrap_err().to_string().contains("more than 2GiB"));
    assert!(pack(&folder.path().join("none")).unwrap_err().to_string().contains("none: "));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The order in which files are made, and when, changes nothing; and what was packed is what is unpacked.
    #[test]
    fn packing_is_deterministic_and_reads_back(
        files in prop::collection::btree_map("[a-c]{1,3}/[a-z]{1,150}", prop::collection::vec(any::<u8>(), 0..2000), 1..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let make = |root: &Path, backwards: bool| {
            let mut all: Vec<_> = files.iter().collect();
            if backwards {
                all.reverse();
            }
            for (name, content) in all {
                let path = root.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, content).unwrap();
                File::open(&path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            }
        };
        let (a, b, to) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("to"));
        make(&a, false);
        make(&b, true);
        let (_, first) = packed(&a);
        let (_, second) = packed(&b);
        prop_assert!(first == second);
        unpack(Cursor::new(&first), &artifact(&first, Shape::Directory), &to).unwrap();
        for (name, content) in &files {
            prop_assert_eq!(&fs::read(to.join(name)).unwrap(), content);
        }
        let (_, again) = packed(&to);
        prop_assert!(first == again);
    }

    /// Whatever the bytes are: an answer, and nothing beside.
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("to");
        let _ = unpack(Cursor::new(&bytes), &artifact(&bytes, Shape::Directory), &to);
    }
}
