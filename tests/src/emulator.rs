//! Machines that are emulated: with a kernel of their own, which has control groups of version 2 and no others, whatever this
//! machine has. They take no right and no processor but this one.
//!
//! What runs there talks on the second serial line, `/dev/ttyS1`. Its last line is `exit 0`, and then it switches off.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::machine::Machine;
use crate::{image, need, processes, wait};

/// Whether there can be one, with what these programs make for it. If not, says so; where `CI` is set that is a failure.
///
/// # Panics
/// When something is missing and `CI` is set.
pub fn is_possible(programs: &[&str]) -> bool {
    if !cfg!(target_arch = "x86_64") {
        return need::skipped("a machine of x86_64: its kernel is fetched");
    }
    need::programs(&[programs, &["qemu-system-x86_64", "dpkg-deb"]].concat())
}

/// Boots one with these words on its kernel's command line, and with what `options` of qemu give it; it may be on for so long.
/// What it has said comes back.
///
/// # Panics
/// If it is not off in time, or its last word was not `exit 0`: with all that it said.
pub fn run(machine: &Machine, words: &str, options: &[&OsStr], within: Duration) -> String {
    let (console, said) = (machine.path("console"), machine.path("said"));
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"])
        .args(["-machine", "pc", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-append", &format!("console=ttyS0 quiet panic=-1 cgroup_no_v1=all {words}")])
        .arg("-kernel")
        .arg(kernel())
        .args(options)
        .args(["-serial", &format!("file:{}", console.display())])
        .args(["-serial", &format!("file:{}", said.display())])
        .env(processes::PLACE, machine.place())
        .stdin(Stdio::null());
    let mut child = qemu.spawn().unwrap_or_else(|error| panic!("{qemu:?}: {error}"));
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let all = || format!("--- it said\n{}--- its kernel\n{}", read(&said), read(&console));
    let status = wait::wait_for("it has run its test and is off", within, || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}\n{}", all())),
    });
    let done = status.success() && read(&said).lines().any(|line| line.trim_end() == "exit 0");
    assert!(done, "{status}\n{}", all());
    read(&said)
}

/// Debian's kernel for virtual machines; fetched once.
fn kernel() -> PathBuf {
    image::kept(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/kernel.sh"), "vmlinuz")
}
