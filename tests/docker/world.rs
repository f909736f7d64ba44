//! What tests with containers share: files of these tests, a Debian, and a place to work in.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use sheaf_tests::containers::{docker, left, names, sweep};
use sheaf_tests::image::kept;
pub(crate) use sheaf_tests::image::run;
use sheaf_tests::{Machine, manual};

/// A file of these tests.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(name)
}

/// The archive of a small Debian with what the examples wrap, and with systemd; made once.
pub(crate) fn base() -> PathBuf {
    kept(&file("base.sh"), "debian-systemd.tar")
}

/// A directory in which the manual's commands are run: the tree's `deploy` is there.
pub(crate) fn workplace(machine: &Machine) -> PathBuf {
    let work = machine.path("work");
    fs::create_dir_all(&work).expect("a directory can be made in the test's own");
    let deploy = work.join("deploy");
    if !deploy.exists() {
        std::os::unix::fs::symlink(manual::root().join("deploy"), deploy).expect("a link can be made");
    }
    work
}
