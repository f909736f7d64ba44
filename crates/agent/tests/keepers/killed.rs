//! Keepers and agents that are killed.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use sheaf_agent::keepers::Found;
use sheaf_engine::keep::End;
use sheaf_model::{Epoch, Phase};

use crate::world::{PATIENCE, World, ended, in_ms, is_alive, kill, open, single, until, until_phase};

#[tokio::test]
async fn the_keepers_death_kills_the_program_and_what_it_has_started() {
    let world = World::new();
    let plan = world.plan("setsid sleep 1000 & (env -i sleep 1000 &) ; echo up; sleep 1000");
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    let running = until_phase(&handle, Phase::Running).await;
    until("all of it is there", || world.output(&plan) == ["up"]).await;
    kill(running.keeper.pid.cast_signed(), Signal::KILL);
    until("the program is dead", || !is_alive(running.pid.unwrap())).await;
    let last = ended(&handle).await;
    assert_eq!((last.phase, last.end.clone(), last.pid), (Phase::Failed, Some(End::KeeperLost), None));
    assert_eq!(last.message, "its keeper was killed, and the program with it");
    assert_eq!(world.processes(), [0; 0]);
    assert_eq!(world.keepers.last(&plan.bucket).1, Some(last));
    let handle = world.keepers.spawn(world.plan("exit 0")).await.unwrap();
    assert_eq!(ended(&handle).await.end, Some(End::Finished));
}

/// Nobody looks when the keeper is killed: what it leaves is ended before the next start.
#[tokio::test]
async fn leftovers_are_ended_before_a_new_start() {
    let world = World::new();
    let plan = world.plan("setsid sh -c 'echo $$; exec sleep 1000' & sleep 1000");
    let left = leave_behind(&world, &plan).await;
    let Found::Dead { status: Some(status), .. } = &world.keepers.scan().unwrap()[0] else { panic!() };
    assert_eq!((status.end.clone(), status.phase), (None, Phase::Running), "nobody could say more");
    let handle = world.keepers.spawn(world.plan("echo next; sleep 1000")).await.unwrap();
    until_phase(&handle, Phase::Running).await;
    assert!(!is_alive(left));
    handle.stop();
    ended(&handle).await;
}

#[tokio::test]
async fn leftovers_are_ended_before_an_epoch_is_given_up() {
    let world = World::new();
    let mut plan = world.plan("setsid sh -c 'echo $$; exec sleep 1000' & sleep 1000");
    plan.lease = single(7, in_ms(600_000));
    let left = leave_behind(&world, &plan).await;
    world.keepers.give_up(&plan.bucket, Epoch(7)).unwrap();
    assert!(!is_alive(left));
    assert_eq!(world.keepers.fence(&plan.bucket).unwrap().gave_up, Epoch(7));
}

/// Kills a keeper while no agent looks; the number of a process that outlives it.
async fn leave_behind(world: &World, plan: &sheaf_agent::keeper::Plan) -> u32 {
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    let keeper = until_phase(&handle, Phase::Running).await.keeper;
    until("it has left its group", || world.output(plan).len() == 1).await;
    drop(handle);
    kill(keeper.pid.cast_signed(), Signal::KILL);
    until("the keeper is dead", || matches!(world.keepers.scan().unwrap()[..], [Found::Dead { .. }])).await;
    let left = world.output(plan)[0].parse().unwrap();
    assert!(is_alive(left));
    left
}

/// A44: the agent is restarted; here it is even killed.
#[tokio::test]
async fn a_new_agent_finds_the_keeper_again_and_the_program_notices_nothing() {
    let world = World::new();
    let mut plan = world.plan("echo up; sleep 1000; echo down");
    plan.lease = single(7, in_ms(600_000));
    let mut agent = Command::new(env!("CARGO_BIN_EXE_keeper-probe"))
        .arg("agent")
        .arg(world.dir.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    agent.stdin.take().unwrap().write_all(&serde_json::to_vec(&plan).unwrap()).unwrap();
    until("the program runs", || {
        world.keepers.last(&plan.bucket).1.is_some_and(|status| status.phase == Phase::Running)
    })
    .await;
    until("it has said so", || world.output(&plan) == ["up"]).await;
    let before = world.keepers.last(&plan.bucket).1.unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();

    let keepers = open(world.dir.path());
    let Found::Alive { bucket } = &keepers.scan().unwrap()[0] else { panic!("it did not survive") };
    let handle = keepers.adopt(bucket).await.unwrap();
    let after = handle.status().borrow().clone();
    assert_eq!(after, before, "same keeper, same program, nothing said in between");
    assert!(is_alive(after.pid.unwrap()));
    handle.stop();
    assert_eq!(ended(&handle).await.end, Some(End::Stopped));
    assert_eq!(world.output(&plan), ["up"]);
    let Found::Dead { plan: Some(found), .. } = &keepers.scan().unwrap()[0] else { panic!() };
    assert_eq!(**found, plan);
    world.until_nothing_runs().await;
}

/// The agent is killed between starting a keeper and its first word; the next one may have looked before it held the
/// bucket, and never hears of it.
#[tokio::test]
async fn a_keeper_that_nobody_waits_for_runs_nothing_for_ever() {
    let world = World::new();
    let plan = world.plan("echo up; sleep 1000");
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    until("it has run once", || world.output(&plan) == ["up"]).await;
    handle.stop();
    ended(&handle).await;
    world.until_nothing_runs().await;

    let (agent, keeper) = UnixStream::pair().unwrap();
    drop(agent);
    let mut late = tokio::process::Command::new(env!("CARGO_BIN_EXE_keeper-probe"))
        .arg("keep")
        .args([world.dir.path().as_os_str(), plan.bucket.as_str().as_ref()])
        .stdin(Stdio::from(OwnedFd::from(keeper)))
        .spawn()
        .unwrap();
    let exit = tokio::time::timeout(PATIENCE, late.wait()).await;
    assert!(exit.is_ok_and(|exit| !exit.unwrap().success()));
    assert_eq!(world.output(&plan), ["up"], "it has started nothing");
    world.until_nothing_runs().await;
    assert!(matches!(world.keepers.scan().unwrap()[..], [Found::Dead { .. }]));
}
