//! What Docker has of a test, found by its name, so that its end leaves nothing.

use std::process::{Command, Stdio};

use crate::image::run;

/// Runs a command of Docker's and gives what it prints.
///
/// # Panics
/// If it fails.
pub fn docker(args: &[&str]) -> String {
    run(Command::new("docker").args(args))
}

/// The lines that a command of Docker's prints; none if it fails.
pub fn names(args: &[&str]) -> Vec<String> {
    let done = Command::new("docker").args(args).stdin(Stdio::null()).output();
    let text = done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Everything that Docker knows by a name that begins like this: containers, networks, volumes, images.
pub fn left(prefix: &str) -> Vec<String> {
    let mut found = names(&["ps", "--all", "--format", "{{.Names}}"]);
    found.extend(names(&["network", "ls", "--format", "{{.Name}}"]));
    found.extend(names(&["volume", "ls", "--format", "{{.Name}}"]));
    found.retain(|name| name.starts_with(prefix));
    found
}

/// Removes all of it, also what a test that was killed has left.
pub fn sweep(prefix: &str) {
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
