//! What tests with containers share: Docker's commands, images of the binary, and an end that leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

/// Runs a command of Docker's and gives what it prints.
pub(crate) fn docker(args: &[&str]) -> String {
    run(Command::new("docker").args(args))
}

/// The lines that a command of Docker's prints; none if it fails.
pub(crate) fn names(args: &[&str]) -> Vec<String> {
    let done = Command::new("docker").args(args).stdin(Stdio::null()).output();
    let text = done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Everything that Docker knows by a name that begins like this: containers, networks, volumes, images.
pub(crate) fn left(prefix: &str) -> Vec<String> {
    let mut found = names(&["ps", "--all", "--format", "{{.Names}}"]);
    found.extend(names(&["network", "ls", "--format", "{{.Name}}"]));
    found.extend(names(&["volume", "ls", "--format", "{{.Name}}"]));
    found.retain(|name| name.starts_with(prefix));
    found
}

/// Removes all of it, also what a test that was killed has left.
pub(crate) fn sweep(prefix: &str) {
    let mine = |name: &String| name.starts_with(prefix);
    for name in names(&["ps", "--all", "--format", "{{.Names}}"]).iter().filter(|name| mine(name)) {
        names(&["rm", "--force", "--volumes", name]);
    }
    for (what, field) in [("network", "{{.Name}}"), ("volume", "{{.Name}}")] {
        for name in names(&[what, "ls", "--format", field]).iter().filter(|name| mine(name)) {
            names(&[what, "rm", name]);
        }
    }
    for name in names(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).iter().filter(|name| mine(name)) {
        names(&["rmi", "--force", name]);
    }
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
