//! Ending what was started, all of it.

use rustix::process::Signal;
use sheaf_engine::keep::End;
use sheaf_model::{Exit, Phase, Span};

use crate::world::{World, ended, is_alive, kill, until, until_phase};

#[tokio::test]
async fn a_program_that_heeds_the_signal_has_time_to_end() {
    let world = World::new();
    let mut plan = world.plan("trap 'echo bye; exit 7' INT; echo ready; while :; do sleep 0.01; done");
    plan.stop.signal = sheaf_model::Signal::Int;
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    let running = until_phase(&handle, Phase::Running).await;
    assert!(is_alive(running.pid.unwrap()));
    until("it is ready", || world.output(&plan) == ["ready"]).await;
    handle.stop();
    let last = ended(&handle).await;
    assert_eq!((last.phase, last.end, last.exit), (Phase::Stopped, Some(End::Stopped), Some(Exit::Code(7))));
    assert_eq!((last.pid, last.message.as_str()), (None, ""));
    assert!(world.output(&plan).contains(&"bye".to_owned()));
    world.until_nothing_runs().await;
}

/// A43: a stop request is ignored by the module and its grandchildren.
#[tokio::test]
async fn nothing_is_left_of_programs_that_ignore_the_signal_and_leave_their_group() {
    let world = World::new();
    let mut plan = world.plan(
        "trap '' TERM
         sh -c 'trap \"\" TERM; while :; do sleep 1000; done' &
         setsid sh -c 'trap \"\" TERM; setsid sh -c \"trap \\\"\\\" TERM; echo deep; sleep 1000\" & sleep 1000' &
         (setsid env -i sleep 1000 &)
         echo up; wait",
    );
    plan.stop.grace = Span::millis(200);
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    let status = until_phase(&handle, Phase::Running).await;
    until("all of them are there", || world.output(&plan).len() == 2).await;
    let group = format!("/proc/{0}/task/{0}/children", status.pid.unwrap());
    until("the program has children", || std::fs::read_to_string(&group).is_ok_and(|text| !text.is_empty()))
        .await;
    handle.stop();
    let last = ended(&handle).await;
    assert_eq!(last.end, Some(End::Stopped));
    assert_eq!(last.message, "killed: had not ended 200ms after the signal");
    assert_eq!(last.exit, Some(Exit::Signal(9)));
    assert_eq!(world.processes(), [0; 0]);
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_ended_before_it_is_started_again() {
    let world = World::new();
    let mut plan = world.plan("setsid sleep 1000 & echo $!; exit 1");
    plan.restart.policy = sheaf_model::RestartWhen::OnFailure;
    plan.restart.backoff_min = Span::millis(10);
    plan.restart.give_up_count = 1;
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    ended(&handle).await;
    let pids = world.output(&plan);
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| !is_alive(pid.parse().unwrap())));
}

#[tokio::test]
async fn a_keepers_own_term_is_an_orderly_stop_and_a_terminals_signals_are_nothing() {
    let world = World::new();
    let plan = world.plan("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    let keeper = until_phase(&handle, Phase::Running).await.keeper.pid.cast_signed();
    until("it is ready", || world.output(&plan) == ["ready"]).await;
    kill(keeper, Signal::HUP);
    kill(keeper, Signal::INT);
    kill(keeper, Signal::TERM);
    let last = ended(&handle).await;
    assert_eq!((last.end, last.exit), (Some(End::Stopped), Some(Exit::Code(0))));
    // The shell may say that its child was ended, too.
    assert!(world.output(&plan).contains(&"bye".to_owned()));
}
