//! The package and its unit under a systemd that is the first process: of a container, whose control groups are of the version that
//! this machine has, and of an emulated machine, where they are of version 2.
//!
//! ```text
//!  this test ── the package, and itself ──┬─► a container         ── systemd ── the same test, WITHIN it
//!                                         └─► an emulated machine ── systemd ── the same test, WITHIN it
//! ```

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sheaf_tests::need::say;
use sheaf_tests::{Machine, emulator, manual, need};

use crate::within::{self, NEXT, Phase, WITHIN};
use crate::world::{base, docker, left, run, sweep};

/// What the names of all that this makes begin with.
const PREFIX: &str = "sheaf-u-";
/// Forty seconds on two idle cores.
const ENDS_WITHIN: Duration = Duration::from_secs(400);

/// Docker gives a container that is not privileged its control groups to read. Privileged it would not start where Docker lacks
/// a right itself; these are what systemd, the unit and the programs in it need.
const FIRST: &str =
    "for mount in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,rw,bind \"$mount\" 2>/dev/null; done
exec /lib/systemd/systemd";
const RIGHTS: [&str; 6] = ["SYS_ADMIN", "SYS_PTRACE", "SYS_NICE", "SYSLOG", "IPC_LOCK", "DAC_READ_SEARCH"];

/// Runs the test in the emulated machine, and switches it off.
const TESTING: &str = "[Unit]
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/sh -c '/within --ignored --exact unit::in_an_emulated_machine --nocapture; echo \"exit $$?\"'
StandardOutput=file:/dev/ttyS1
StandardError=file:/dev/ttyS1
";

/// A machine of the test: a container.
struct Container(String);

impl Container {
    fn start(name: &str) -> Self {
        docker(&["import", &base().display().to_string(), name]);
        let rights = RIGHTS.into_iter().flat_map(|right| ["--cap-add", right]);
        let open =
            ["seccomp=unconfined", "apparmor=unconfined"].into_iter().flat_map(|it| ["--security-opt", it]);
        let own = ["/run", "/run/lock", "/tmp"].into_iter().flat_map(|place| ["--tmpfs", place]);
        let mut args = vec!["run", "--detach", "--name", name, "--hostname", within::NODE];
        args.extend(rights.chain(open).chain(own));
        args.extend(["--cgroupns", "private", "--env", "container=docker", "--stop-signal", "SIGRTMIN+3"]);
        args.extend([name, "/bin/sh", "-c", FIRST]);
        docker(&args);
        Self(name.to_owned())
    }

    fn put(&self, file: &Path, to: &str) {
        docker(&["cp", &file.display().to_string(), &format!("{}:{to}", self.0)]);
    }

    /// Runs a part of the test there. What it says is said at once.
    fn run(&self, phase: Phase, next: &str) {
        let [phase, next] = [format!("{WITHIN}={}", phase.as_str()), format!("{NEXT}={next}")];
        let mut command = Command::new("docker");
        command.args(["exec", "--env", &phase, "--env", &next, &self.0]);
        command.args(["/within", "--ignored", "--exact", "unit::in_a_container", "--nocapture"]);
        let status =
            command.stdin(Stdio::null()).status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(status.success(), "{command:?}: {status}; what failed is said above");
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let done = Command::new("docker").args(["logs", "--tail", "40", &self.0]).output();
            let text =
                done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
            say(&format!("--- its systemd\n{text}"));
        }
        sweep(&self.0);
    }
}

#[test]
#[ignore = "needs Docker; .ci/run runs it"]
fn in_a_container() {
    if let Some(phase) = Phase::of_environment() {
        return within::run(phase);
    }
    if !need::programs(&["docker", "debootstrap", "dpkg-deb", "strip", "objdump"]) {
        return;
    }
    let machine = Machine::take();
    sweep(PREFIX);
    let name = format!("{PREFIX}{}", std::process::id());
    let container = Container::start(&name);
    let (binary, version) = machine.next_version();
    container.put(&package(&machine, machine.binary(), "now"), "/sheaf.deb");
    container.put(&package(&machine, &binary, "then"), "/next.deb");
    container.put(&own(&machine), "/within");
    container.run(Phase::First, &version);
    // As a machine that reboots.
    docker(&["restart", "--time", "60", &name]);
    container.run(Phase::Booted, &version);
    drop(container);
    assert_eq!(left(&name), [""; 0]);
}

#[test]
#[ignore = "emulates a machine, on the Debian of the tests with Docker; .ci/run runs it"]
fn in_an_emulated_machine() {
    if let Some(phase) = Phase::of_environment() {
        return within::run(phase);
    }
    if !emulator::is_possible(&["debootstrap", "mkfs.ext4", "strip", "objdump"]) {
        return;
    }
    let machine = Machine::take();
    let disk = disk(&machine);
    let words = format!(
        "root=/dev/nvme0n1 rootwait rw init=/lib/systemd/systemd systemd.hostname={} systemd.getty_auto=no \
         systemd.show_status=no systemd.log_target=console",
        within::NODE
    );
    let drive = format!("file={},if=none,format=raw,id=root,cache=unsafe", disk.display());
    let options = ["-drive", &drive, "-device", "nvme,drive=root,serial=1"].map(OsStr::new);
    let said = emulator::run(&machine, &words, &options, ENDS_WITHIN);
    for line in said.lines().filter(|line| line.starts_with("unit: ")) {
        say(line.trim_end());
    }
}

/// The package of a binary. How it is packed says nothing about what is in it, and takes its time.
fn package(machine: &Machine, binary: &Path, name: &str) -> PathBuf {
    let dir = machine.path(name);
    fs::create_dir_all(&dir).expect("a directory can be made in the test's own");
    let mut build = Command::new(manual::root().join("deploy/debian/build.sh"));
    PathBuf::from(run(build.arg(binary).arg(&dir).env("DEB_COMPRESS", "none")).trim())
}

/// This test, without what only debuggers read.
fn own(machine: &Machine) -> PathBuf {
    let own = env::current_exe().expect("a running test has a path");
    let file = machine.path("within");
    run(Command::new("strip").arg("-o").arg(&file).arg(own));
    file
}

/// The emulated machine's: the Debian, and what the test needs in it.
fn disk(machine: &Machine) -> PathBuf {
    let (root, disk) = (machine.path("root"), machine.path("disk"));
    fs::create_dir_all(&root).expect("a directory can be made in the test's own");
    run(Command::new("tar").arg("-xf").arg(base()).arg("-C").arg(&root));
    for (from, to) in [(own(machine), "within"), (package(machine, machine.binary(), "now"), "sheaf.deb")] {
        fs::copy(&from, root.join(to)).unwrap_or_else(|error| panic!("copying {}: {error}", from.display()));
    }
    let unit = format!("{TESTING}Environment=HOME=/root {WITHIN}={}\n", Phase::Emulated.as_str());
    fs::write(root.join("etc/systemd/system/testing.service"), unit).expect("a file can be written");
    let wanted = root.join("etc/systemd/system/multi-user.target.wants/testing.service");
    fs::create_dir_all(wanted.parent().expect("a link has a folder")).expect("it can be made");
    std::os::unix::fs::symlink("../testing.service", wanted).expect("a link can be made");
    let ext4 = ["-q", "-O", "^has_journal", "-E", "lazy_itable_init=1", "-d"];
    run(Command::new("mkfs.ext4").args(ext4).arg(&root).arg(&disk).arg("2G"));
    fs::remove_dir_all(&root).expect("it is the test's own");
    disk
}
