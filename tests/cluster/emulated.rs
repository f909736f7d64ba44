//! Limits by control groups of version 2, on a kernel that has no other, whatever this machine has: in a virtual machine that is
//! emulated, so that it takes no right and no processor but this one.
//!
//! ```text
//!  this test ── packs itself, the binary, what both load, and busybox ──► initramfs ── qemu boots it ──► init
//!      ▲                                                                                                  │ the same test, WITHIN
//!      └───────────────────────── second serial line: what it says, and `exit 0` ◄────────────────────────┘
//! ```

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sheaf_tests::{Cases, Cluster, Machine, emulator, image, need, processes, wait_for};

use crate::limits::{self, LIMITS, groups, is_kept};
use crate::plugin::bucket;
use crate::scene::pids;

/// Set where the test runs within.
const WITHIN: &str = "SHEAF_TEST_WITHIN";
/// Half a minute on two idle cores.
const ENDS_WITHIN: Duration = Duration::from_secs(300);
const ROOT: &str = "/sys/fs/cgroup";

/// The first process. The kernel's own messages are on the first serial line.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp SHEAF_BIN=/bin/sheaf SHEAF_TEST_WITHIN=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
/bin/cluster --ignored --exact emulated --nocapture >/dev/ttyS1 2>&1
echo \"exit $?\" >/dev/ttyS1
poweroff -f
";

pub(crate) fn run() {
    if env::var_os(WITHIN).is_some() {
        return within();
    }
    if !emulator::is_possible(&["busybox", "ldd", "strip"]) {
        return;
    }
    let machine = Machine::take();
    let initramfs = initramfs(&machine);
    let said = emulator::run(&machine, "", &[OsStr::new("-initrd"), initramfs.as_os_str()], ENDS_WITHIN);
    for line in said.lines().filter(|line| line.starts_with("emulated: ")) {
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", line.trim_end()));
    }
}

/// All that the machine has.
fn initramfs(machine: &Machine) -> PathBuf {
    let root = machine.path("root");
    for dir in ["dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(dir)).expect("a directory can be made in the test's own");
    }
    let busybox = need::program("busybox").expect("it was looked for");
    let own = env::current_exe().expect("a running test has a path");
    for (program, to) in
        [(machine.binary(), "bin/sheaf"), (own.as_path(), "bin/cluster"), (busybox.as_path(), "bin/busybox")]
    {
        image::put(&root, program, to);
        image::run(Command::new("strip").arg(root.join(to)));
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/tmp:/bin/sh\n").expect("a file can be written");
    fs::write(root.join("init"), INIT).expect("a file can be written");
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).expect("it is the test's own");
    let file = machine.path("initramfs");
    let script = "cd \"$0\" && find . | busybox cpio -o -H newc -R 0:0 >\"$1\"";
    image::run(Command::new("/bin/sh").args(["-c", script]).arg(&root).arg(&file));
    file
}

/// The agents are in groups as those of a service with `Delegate=yes`: the first has all of it, the second lacks the
/// processor's controller.
fn within() {
    let root = Path::new(ROOT);
    assert!(root.join("cgroup.controllers").exists(), "version 2, and nothing else");
    let (service, few) = (root.join("service"), root.join("few"));
    let lacking = few.join("service");
    enable(root, &["memory", "cpu", "pids"]);
    fs::create_dir(&service).expect("a group can be made");
    fs::create_dir(&few).expect("a group can be made");
    enable(&few, &["memory", "pids"]);
    fs::create_dir(&lacking).expect("a group can be made");
    let mut cluster = Cluster::start_with(1, |_, plan| plan.group = Some(service.clone()));
    let mut cases = Cases::of("emulated");
    cases.run("a node says that it keeps all limits", || {
        let notes = limits::notes(&cluster, "n1");
        assert!(!notes.iter().any(|note| note.starts_with("limits.")), "{notes:?}");
    });
    limits::kept(&mut cases, &cluster);
    cases.run("limits are kept again after the service was started again, as its manager does it", || {
        started_again(&cluster, &service);
    });
    cases.run("a node says which limit it cannot keep", || lacks_one(&mut cluster, lacking));
    cases.end();
}

fn enable(group: &Path, controllers: &[&str]) {
    for controller in controllers {
        fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"))
            .unwrap_or_else(|error| panic!("{controller} in {}: {error}", group.display()));
    }
}

fn started_again(cluster: &Cluster, service: &Path) {
    const FIELDS: [&str; 3] = ["limits.memory", "limits.cpu", "limits.processes"];
    let module = limits::module("lasting", "exec sleep 1000", LIMITS);
    // Without a lease, which would end: nobody else is there to prolong it.
    cluster.apply_and_wait(&[module, bucket("/lasting", "lasting", "{}", "multi_node: true")].concat());
    let before = pids(&cluster.status("/lasting"));
    let own = groups(before["n1"]);
    let all_kept = || FIELDS.iter().try_for_each(|field| is_kept(field, &own));
    assert_eq!(all_kept(), Ok(()));
    let agent = cluster.agent(1);
    assert_eq!(agent.stop(), 0);
    // ExecStopPost=, which systemd runs in a group beside.
    let control = service.join(".control");
    fs::create_dir(&control).expect("a group can be made");
    let vacate = "echo 0 >\"$0\" && exec \"$1\" agent vacate";
    let procs = control.join("cgroup.procs");
    image::run(Command::new("/bin/sh").args(["-c", vacate]).arg(&procs).arg(cluster.machine().binary()));
    fs::remove_dir(&control).expect("its group is empty");
    for file in ["cgroup.procs", "cgroup.subtree_control"] {
        let left = fs::read_to_string(service.join(file)).expect("the kernel says it");
        assert_eq!(left.trim(), "", "{file}");
    }
    let pid = u32::try_from(before["n1"]).expect("a process id");
    assert!(processes::is_alive(pid), "the program runs on");
    agent.start();
    cluster.wait_back(agent);
    wait_for("its limits are back", Duration::from_secs(10), all_kept);
    assert_eq!(pids(&cluster.wait_state("/lasting", "running")), before);
    cluster.delete(&["/lasting"]);
}

fn lacks_one(cluster: &mut Cluster, group: PathBuf) {
    cluster.add(|plan| plan.group = Some(group)).start();
    cluster.wait_ready();
    let notes = limits::notes(cluster, "n2");
    let lacks: Vec<&String> = notes.iter().filter(|note| note.starts_with("limits.")).collect();
    assert!(lacks.len() == 1 && lacks[0].starts_with("limits.cpu is not enforced"), "{notes:?}");
    let said = cluster.apply(&limits::module("shared", "exec sleep 1000", LIMITS)).stderr;
    assert!(said.contains("Module shared@1: limits.cpu is not enforced") && said.contains("(n2)"), "{said}");
    assert!(!said.contains("limits.memory") && !said.contains("limits.processes"), "{said}");
    // The others are kept there all the same.
    cluster.apply_and_wait(&bucket("/shared", "shared", "{}", "node_list_rules: [n2]"));
    let own = groups(pids(&cluster.status("/shared"))["n2"]);
    assert_eq!((is_kept("limits.memory", &own), is_kept("limits.processes", &own)), (Ok(()), Ok(())));
    assert!(is_kept("limits.cpu", &own).is_err(), "{own:?}");
    cluster.delete(&["/shared"]);
}
