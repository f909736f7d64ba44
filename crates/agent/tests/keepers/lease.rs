//! Single-node work: never without a lease, never under an epoch that was given up.

use std::fs;

use rustix::process::Signal;
use sheaf_agent::keeper::clock;
use sheaf_engine::keep::{End, Fence, Lease};
use sheaf_model::{BootId, Epoch, Moment, Phase, Revision};

use crate::world::{PATIENCE, World, ended, in_ms, is_alive, kill, single, until, until_phase};

#[tokio::test]
async fn everything_dies_at_the_deadline() {
    let world = World::new();
    let deadline = in_ms(1500);
    let mut plan =
        world.plan("trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 1000' & echo $SHEAF_EPOCH; sleep 1000");
    plan.lease = single(7, deadline);
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    let last = ended(&handle).await;
    assert!(clock::now() >= deadline);
    assert_eq!(world.processes(), [0; 0]);
    assert_eq!((last.phase, last.end, last.epoch), (Phase::Stopped, Some(End::LeaseEnded), Some(Epoch(7))));
    assert_eq!(world.output(&plan), ["7"]);
}

#[tokio::test]
async fn only_a_deadline_of_the_same_epoch_and_boot_prolongs() {
    let world = World::new();
    let first = in_ms(2000);
    let mut plan = world.plan("sleep 1000");
    plan.lease = single(7, first);
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    let pid = until_phase(&handle, Phase::Running).await.pid.unwrap();
    let prolonged = in_ms(4000);
    handle.deadline(Epoch(7), clock::boot_id(), prolonged);
    until("the first deadline has passed", || clock::now() > first).await;
    assert!(is_alive(pid), "it was prolonged");
    handle.deadline(Epoch(8), clock::boot_id(), in_ms(60_000));
    handle.deadline(Epoch(7), BootId::from("another"), in_ms(60_000));
    assert_eq!(ended(&handle).await.end, Some(End::LeaseEnded));
    assert!(clock::now() >= prolonged);
    assert!(!is_alive(pid));
}

/// A new agent is the second enforcer of what it finds, so it must know until when.
#[tokio::test]
async fn a_keeper_tells_a_new_agent_its_present_deadline() {
    let world = World::new();
    let mut plan = world.plan("sleep 1000");
    plan.lease = single(7, in_ms(600_000));
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    assert_eq!(handle.status().borrow().until, plan.lease.until());
    let prolonged = in_ms(700_000);
    handle.deadline(Epoch(7), clock::boot_id(), prolonged);
    let told = async {
        while world.keepers.adopt(&plan.bucket).await.unwrap().status().borrow().until != Some(prolonged) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the new agent is told");
    handle.stop();
    ended(&handle).await;
}

#[tokio::test]
async fn what_comes_too_late_is_never_executed() {
    let world = World::new();
    let mut plan = world.plan("touch ran; sleep 1000");
    let other_boot = Lease::Single { epoch: Epoch(9), boot: BootId::from("another"), until: in_ms(60_000) };
    world.keepers.give_up(&plan.bucket, Epoch(7)).unwrap();
    world.keepers.give_up(&plan.bucket, Epoch(3)).unwrap();
    world.keepers.give_up_multi(&plan.bucket, Revision(12)).unwrap();
    let fence = Fence { gave_up: Epoch(7), gave_up_multi: Revision(12) };
    assert_eq!(world.keepers.fence(&plan.bucket).unwrap(), fence);
    for (lease, end, message) in [
        (single(9, Moment(1)), End::LeaseEnded, "not started: its lease has ended"),
        (single(7, in_ms(60_000)), End::Refused, "not started: epoch 7 was given up (all up to 7)"),
        (other_boot, End::Refused, "not started: its lease is from before the machine was restarted"),
        (
            Lease::Multi { from: Revision(12) },
            End::Refused,
            "not started: the bucket ended at revision 12; this start comes from revision 12",
        ),
    ] {
        plan.lease = lease;
        let last = ended(&world.keepers.spawn(plan.clone()).await.unwrap()).await;
        assert_eq!((last.phase, last.end, last.message.as_str()), (Phase::Stopped, Some(end), message));
    }
    assert!(!world.file(&plan, "ran").exists());
    // The fence outlives the instance.
    world.keepers.remove(&plan.bucket).unwrap();
    assert_eq!(world.keepers.fence(&plan.bucket).unwrap(), fence);
    plan.lease = single(8, in_ms(60_000));
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    until("it runs", || world.file(&plan, "ran").exists()).await;
    handle.stop();
    ended(&handle).await;
}

/// A fence that cannot be read lets nothing start.
#[tokio::test]
async fn a_broken_fence_is_a_closed_one() {
    let world = World::new();
    let plan = world.plan("touch ran");
    fs::write(world.keepers.data_dir().join("fences/logs+web.json"), "{").unwrap();
    let last = ended(&world.keepers.spawn(plan.clone()).await.unwrap()).await;
    assert_eq!(last.phase, Phase::Failed);
    assert!(last.message.contains("logs+web.json cannot be read"), "{}", last.message);
    assert!(!world.file(&plan, "ran").exists());
    assert!(world.keepers.give_up(&plan.bucket, Epoch(1)).is_err());
}

/// The second enforcer: the keeper is stopped and cannot kill.
#[tokio::test]
async fn the_agent_can_kill_without_the_keepers_help() {
    let world = World::new();
    let mut plan = world.plan("setsid sleep 1000 & sleep 1000");
    plan.lease = single(7, in_ms(600_000));
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    let running = until_phase(&handle, Phase::Running).await;
    kill(running.keeper.pid.cast_signed(), Signal::STOP);
    assert!(world.keepers.kill(&plan.bucket).unwrap());
    assert!(!is_alive(running.pid.unwrap()));
    assert_eq!(ended(&handle).await.end, Some(End::KeeperLost));
    world.until_nothing_runs().await;
    assert!(world.keepers.kill(&plan.bucket).unwrap(), "nothing is left to kill");
}
