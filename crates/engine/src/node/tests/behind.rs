//! A watch that begins behind what is here: its member lags, and an agent that has restarted does not know what it had seen.

use sheaf_model::{ClusterEpoch, Drain};

use super::*;
use crate::{DrainNode, Refound};

/// What a member says at first that gets no further than the state is now; what it says afterwards is [`Scene::sync`].
fn behind(scene: &mut Scene) -> Vec<WatchItem> {
    scene.told = scene.world.changes.len();
    let watcher = Watcher { node: NodeId(1), places: Some([scene.world.name("/b")].into()) };
    watched::everything(&scene.world.state, &watcher).collect()
}

/// `/b` is made, and may run here in that mode.
fn made(scene: &mut Scene, multi: bool) -> Mode {
    if multi {
        let made = scene.world.apply_bucket("/b", |put| put.spec.multi_node = true);
        Mode::Multi(made.revision)
    } else {
        Mode::Single(scene.world.bound("/b", 1))
    }
}

/// What is started of `/b` as it is now.
fn origin(scene: &Scene) -> Origin {
    let bucket = scene.world.bucket("/b");
    let (revision, basis) = (bucket.current.revision, bucket.basis_for(NodeId(1)));
    let content = crate::reconcile::content(&bucket.current.spec);
    Origin { revision, basis, content, live: None, artifact: None }
}

/// The next life of the agent finds what was started of `/b` as it is now, and its watch begins with `view`.
fn restart(scene: &mut Scene, mode: Mode, life: Life, view: Vec<WatchItem>) {
    let origin = origin(scene);
    restart_with(scene, Observed { mode, origin, life }, view);
}

fn restart_with(scene: &mut Scene, observed: Observed, view: Vec<WatchItem>) {
    let Observed { mode, origin, life } = observed;
    let phase = if life == Life::Alive { Phase::Running } else { Phase::Stopped };
    let mut seen = scene.seen(mode, origin, life, phase);
    seen.deadline = mode.epoch().map(|_| scene.now.after(Span::seconds(60)));
    let bucket = scene.world.name("/b");
    scene.restart(vec![Found { bucket, seen: Some(*seen), fence: Fence::default() }]);
    scene.lines.clear();
    scene.farewells.clear();
    scene.input(Input::Watch(view));
    scene.input(Input::SessionOpened { start_in: Span(0) });
    scene.pass(5000);
}

/// What was done about `/b`, without what was said of it.
fn done(scene: &Scene) -> Vec<&str> {
    let words = ["start", "stop", "remove", "give up", "confirm"];
    let is_done = |line: &&str| words.iter().any(|word| line.starts_with(word));
    scene.lines.iter().map(String::as_str).filter(is_done).collect()
}

#[track_caller]
fn assert_untouched(scene: &Scene) {
    assert_eq!((done(scene), &*scene.farewells), (vec![], &[][..]));
}

/// Its lease is acknowledged, if it needs one.
fn go_on(scene: &mut Scene, mode: Mode) {
    let epochs: Vec<_> = mode.epoch().map(|epoch| ("/b", epoch)).into_iter().collect();
    scene.acknowledge(&epochs);
    scene.pass(1000);
}

#[test]
fn a_state_from_before_a_bucket_was_made_does_not_say_that_it_is_gone() {
    for multi in [true, false] {
        for life in [Life::Alive, Life::Dead(Ended::Lost), Life::Dead(Ended::Stopped)] {
            for catch_up in [Scene::watch_anew as fn(&mut Scene), Scene::sync] {
                let mut scene = Scene::new();
                let view = behind(&mut scene);
                let mode = made(&mut scene, multi);
                restart(&mut scene, mode, life, view);
                assert_untouched(&scene);
                // Another member is asked, or this one has caught up.
                catch_up(&mut scene);
                go_on(&mut scene, mode);
                match life {
                    Life::Alive => assert_untouched(&scene),
                    _ => assert!(done(&scene)[0].starts_with("start /b"), "{mode:?}: {:?}", scene.lines),
                }
                assert!(!scene.lines.contains(&"remove /b".to_owned()), "{:?}", scene.lines);
            }
        }
    }
}

/// Its name was another bucket's before.
#[test]
fn nor_does_a_state_in_which_its_name_was_free_or_anothers() {
    for (gone, elsewhere) in [(true, false), (false, false), (false, true)] {
        let mut scene = Scene::new();
        scene.world.apply_bucket("/b", |put| {
            put.spec.node_list_rules = rules(&["-n1"]);
        });
        if elsewhere {
            let basis = scene.world.bucket("/b").current.revision;
            let bind = Command::Bind(scene.world.bind_command("/b", 2, basis));
            scene.world.propose(bind);
        }
        let mut view = behind(&mut scene);
        if elsewhere {
            let epoch = scene.world.binding("/b").epoch;
            scene.world.on("/b", Command::DeleteBucket);
            scene.world.free("/b", epoch);
        } else {
            scene.world.on("/b", Command::DeleteBucket);
        }
        if gone {
            view = behind(&mut scene);
        }
        let mode = made(&mut scene, false);
        restart(&mut scene, mode, Life::Alive, view);
        assert_untouched(&scene);
        scene.sync();
        go_on(&mut scene, mode);
        assert_untouched(&scene);
    }
}

/// It was deleted and made anew while nobody looked, as a bucket for all nodes, and went on as that.
#[test]
fn nor_does_one_from_before_it_went_on_as_multi_node() {
    let mut scene = Scene::new();
    let epoch = scene.world.bound("/b", 1);
    let origin = origin(&scene);
    scene.world.on("/b", Command::DeleteBucket);
    scene.world.free("/b", epoch);
    let view = behind(&mut scene);
    let mode = made(&mut scene, true);
    restart_with(&mut scene, Observed { mode, origin, life: Life::Alive }, view);
    assert_untouched(&scene);
    scene.sync();
    scene.pass(1000);
    assert_untouched(&scene);
}

/// It was switched off, restarted, bound to another node, freed: all before it began here.
#[test]
fn nothing_that_was_so_before_it_began_ends_it() {
    let mut scene = Scene::new();
    let former = scene.world.bound("/b", 1);
    let bound = behind(&mut scene);
    scene.world.on("/b", Command::Suspend);
    let suspended = behind(&mut scene);
    scene.world.free("/b", former);
    scene.world.on("/b", Command::Resume);
    let free = behind(&mut scene);
    let basis = scene.world.bucket("/b").current.revision;
    let bind = Command::Bind(scene.world.bind_command("/b", 1, basis));
    scene.world.propose(bind);
    let mode = Mode::Single(scene.world.binding("/b").epoch);
    for view in [bound, suspended, free] {
        restart(&mut scene, mode, Life::Alive, view);
        assert_untouched(&scene);
        scene.watch_anew();
        go_on(&mut scene, mode);
        assert_untouched(&scene);
    }
}

#[test]
fn what_was_deleted_since_goes_once_the_watch_says_so() {
    for multi in [true, false] {
        let mut scene = Scene::new();
        let view = behind(&mut scene);
        let mode = made(&mut scene, multi);
        restart(&mut scene, mode, Life::Alive, view);
        assert_untouched(&scene);
        scene.world.on("/b", Command::DeleteBucket);
        if let Some(epoch) = mode.epoch() {
            scene.world.free("/b", epoch);
        }
        scene.sync();
        scene.pass(5000);
        assert_eq!(scene.farewells, [Call::Delete; 2], "stopped, and removed: {:?}", scene.lines);
        assert!(scene.lines.contains(&"remove /b".to_owned()), "{:?}", scene.lines);
    }
}

#[test]
fn what_a_drain_that_is_over_took_away_stays() {
    let mut scene = Scene::new();
    made(&mut scene, true);
    let drain = Drain { deadline: None, keep_multi_node: false };
    scene.world.propose(Command::Drain(DrainNode { node: NodeId(1), drain }));
    let view = behind(&mut scene);
    scene.world.propose(Command::Undrain(NodeId(1)));
    let mode = Mode::Multi(scene.world.state.revision);
    restart(&mut scene, mode, Life::Dead(Ended::Lost), view);
    assert_untouched(&scene);
    scene.sync();
    scene.pass(1000);
    assert_eq!(done(&scene), [format!("start /b {mode:?}")]);
    assert!(scene.farewells.is_empty(), "{:?}", scene.farewells);
}

/// The state that it was started from differs from the one that the watch begins with in nothing that a node is told.
#[test]
fn what_this_node_refuses_is_stopped_at_once_and_removed_when_the_watch_has_come_as_far() {
    let mut scene = Scene::new();
    made(&mut scene, true);
    let view = behind(&mut scene);
    scene.world.phase("/b", 2, None, Phase::Running);
    let mode = Mode::Multi(scene.world.state.revision);
    restart(&mut scene, mode, Life::Alive, view);
    assert_untouched(&scene);
    let here = Here { deny: vec!["sleep".to_owned()], ..(**scene.node.here()).clone() };
    scene.input(Input::Config(here));
    scene.pass(5000);
    assert_eq!(done(&scene), ["stop /b (this node is not available)"]);
    assert!(scene.farewells.is_empty(), "{:?}", scene.farewells);
    // All of them are told of it.
    scene.world.apply_bucket("/other", |put| put.spec.node_list_rules = rules(&["-n1"]));
    scene.sync();
    scene.pass(5000);
    assert_eq!(done(&scene), ["stop /b (this node is not available)", "remove /b"]);
    assert_eq!(scene.farewells, [Call::Decommission]);
}

/// A snapshot knows nothing of what was done afterwards, and yet its revisions go on beyond all of that.
#[test]
fn what_a_cluster_that_was_founded_anew_says_is_believed_at_once() {
    for is_known in [true, false] {
        let mut scene = Scene::new();
        let before = scene.world.state.clone();
        made(&mut scene, true);
        let snapshot = if is_known { scene.world.state.clone() } else { before };
        for _ in 0..100 {
            scene.world.on("/b", Command::Restart);
        }
        let mode = Mode::Multi(scene.world.state.revision);
        let former = std::mem::replace(&mut scene.world.state, snapshot);
        let cluster = former.cluster.id.clone().expect("it was formed").founded_anew(ClusterEpoch(1), "1a2b");
        let reply = scene.world.propose(Command::Refound(Refound { cluster, may_be_behind: true }));
        assert!(matches!(reply, crate::Reply::Done(_)), "{reply:?}");
        let view = behind(&mut scene);
        scene.world.state = former;
        restart(&mut scene, mode, Life::Alive, view);
        if is_known {
            let from = Mode::Multi(Revision(1 << 32));
            assert_eq!(done(&scene), ["stop /b (changed)".to_owned(), format!("start /b {from:?}")]);
        } else {
            assert_eq!(done(&scene), ["stop /b (the bucket is gone)", "remove /b"]);
            assert_eq!(scene.farewells, [Call::Delete; 2]);
        }
    }
}

/// A message ends where it is full, a stream wherever it breaks.
#[test]
fn what_is_told_in_parts_counts_once_all_of_it_is_there() {
    for (from_the_start, breaks) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut scene = Scene::new();
        let told = scene.told;
        made(&mut scene, true);
        let mut items = behind(&mut scene);
        if !from_the_start {
            let news = scene.world.changes[told..].iter();
            items = news.filter_map(|change| watched::item(change, &scene.watcher())).collect();
            items.push(WatchItem::Synced(scene.world.state.revision));
        }
        let last = items.pop().expect("it ends with Synced");
        for item in items {
            scene.input(Input::Watch(vec![item]));
            scene.pass(1000);
        }
        assert_untouched(&scene);
        if breaks {
            scene.watch_anew();
        } else {
            scene.input(Input::Watch(vec![last]));
        }
        scene.pass(1000);
        assert!(matches!(&done(&scene)[..], [one] if one.starts_with("start /b ")), "{:?}", scene.lines);
    }
}
