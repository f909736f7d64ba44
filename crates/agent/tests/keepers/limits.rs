//! Where no control groups can be made, each process of an instance has its limits.

use std::os::unix::fs::symlink;
use std::process::Command;

use sheaf_agent::keeper::Confine;
use sheaf_agent::keepers::{KeeperOptions, Keepers};
use sheaf_model::{BucketName, Bytes, Exit, Limits, Phase};

use crate::world::{World, ended};

/// A world whose keepers see no groups; none, where nobody can keep them from it.
fn without_groups() -> Option<World> {
    let hidden =
        Command::new("unshare").args(["--mount", "umount", "--recursive", "/sys/fs/cgroup"]).status();
    if !hidden.is_ok_and(|status| status.success()) {
        eprintln!("not tested: only root can hide this machine's control groups");
        return None;
    }
    let mut world = World::new();
    let binary = world.dir.path().join("without-groups");
    symlink(env!("CARGO_BIN_EXE_keeper-probe"), &binary).unwrap();
    let data_dir = world.dir.path().to_owned();
    world.keepers = Keepers::open(KeeperOptions { data_dir, binary }).unwrap();
    Some(world)
}

#[tokio::test]
async fn where_there_are_no_groups_the_kernel_keeps_the_limits_of_each_process() {
    let Some(world) = without_groups() else { return };
    for (number, user) in [None, Some("nobody".to_owned())].into_iter().enumerate() {
        let mut plan = world.plan(
            "cat /proc/self/limits; echo groups $(grep -c /sheaf[.] /proc/self/cgroup)
             exec dd if=/dev/zero of=/dev/null bs=300M count=1",
        );
        plan.bucket = BucketName::new(&format!("/limited/{number}")).unwrap();
        // Of its user there are fewer processes.
        let limits = Limits {
            memory: Some(Bytes(128 << 20)),
            cpu_millis: Some(500),
            open_files: Some(77),
            processes: Some(4321),
        };
        plan.confine = Confine { limits, user: user.clone() };
        let last = ended(&world.keepers.spawn(plan.clone()).await.unwrap()).await;
        assert_eq!((last.phase, last.exit), (Phase::Failed, Some(Exit::Code(1))), "{last:?}");
        assert!(last.message.contains("memory"), "it cannot have 300 MiB: {last:?}");
        let lines = world.output(&plan);
        let limit = |name: &str| {
            let line = lines.iter().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!(limit("groups"), "0");
        assert_eq!((limit("Max open files"), limit("Max address space")), ("77".into(), "134217728".into()));
        // Nobody counts the processes of one instance, and the agent's own user has others.
        assert_eq!(limit("Max processes") == "4321", user.is_some(), "{lines:?}");
    }
}
