//! What is left of a bucket that is bound to another node.

use super::*;
use crate::Reply;
use crate::watched::item;

/// `/s` runs on this node under the epoch returned.
fn runs_here(scene: &mut Scene) -> Epoch {
    let epoch = scene.world.bound("/s", 1);
    scene.sync();
    scene.acknowledge(&[("/s", epoch)]);
    scene.pass(100);
    scene.lines.clear();
    epoch
}

/// The leader has chosen; no node has heard of it.
fn bind(scene: &mut Scene, node: u64) -> Epoch {
    let basis = scene.world.bucket("/s").current.revision;
    let bind = Command::Bind(scene.world.bind_command("/s", node, basis));
    let reply = scene.world.propose(bind);
    assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    scene.world.binding("/s").epoch
}

/// It ran here until its lease was over, and runs on node 2 since.
fn failed_over(scene: &mut Scene) {
    let epoch = runs_here(scene);
    scene.pass(3000);
    scene.keeper_says("/s", Life::Dead(Ended::Lost), Phase::Stopped);
    scene.world.free("/s", epoch);
    bind(scene, 2);
    scene.lines.clear();
}

/// What an agent finds of an instance that has ended.
fn dead(scene: &mut Scene, mode: Mode) -> Found {
    let bucket = scene.world.bucket("/s");
    let (revision, content) = (bucket.current.revision, crate::reconcile::content(&bucket.current.spec));
    let origin = Origin { revision, basis: revision, content, live: None, artifact: None };
    let seen = scene.seen(mode, origin, Life::Dead(Ended::Lost), Phase::Stopped);
    Found { bucket: scene.world.name("/s"), seen: Some(*seen), fence: Fence::default() }
}

fn removed(scene: &Scene) -> usize {
    scene.lines.iter().filter(|line| *line == "remove /s").count()
}

/// It is bound to another node: what is here goes.
#[track_caller]
fn assert_goes_on_elsewhere(scene: &mut Scene) {
    scene.farewells.clear();
    bind(scene, 2);
    scene.sync();
    scene.pass(5000);
    assert_gone(scene);
}

/// Its directory was removed, once, and it was told why.
#[track_caller]
fn assert_gone(scene: &Scene) {
    assert_eq!((removed(scene), &*scene.farewells), (1, &[Call::Decommission][..]), "{:?}", scene.lines);
}

#[track_caller]
fn assert_kept(scene: &Scene) {
    assert_eq!((removed(scene), &*scene.farewells), (0, &[][..]), "{:?}", scene.lines);
}

#[test]
fn what_is_left_of_a_bucket_goes_once_the_bucket_is_bound_elsewhere() {
    let mut scene = Scene::new();
    failed_over(&mut scene);
    scene.pass(5000);
    assert_kept(&scene);
    scene.sync();
    scene.pass(5000);
    assert_gone(&scene);
    let at = |line: &str| scene.lines.iter().position(|it| it == line);
    let stopped = at("phase /s stopped");
    assert!(stopped.is_some() && stopped < at("remove /s"), "{:?}", scene.lines);
    scene.watch_anew();
    scene.pass(60_000);
    assert_gone(&scene);
}

#[test]
fn a_node_that_comes_back_is_told_so_of_what_it_has() {
    let mut scene = Scene::new();
    failed_over(&mut scene);
    let found = dead(&mut scene, Mode::Single(Epoch(1)));
    scene.restart(vec![found]);
    scene.lines.clear();
    scene.watch_anew();
    scene.pass(60_000);
    assert_kept(&scene); // the leader is to know first that nothing of it is alive
    scene.input(Input::SessionOpened { start_in: Span(0) });
    scene.pass(5000);
    assert_gone(&scene);
}

#[test]
fn an_agent_of_an_earlier_version_is_told_nothing_of_it() {
    let mut scene = Scene::new();
    scene.is_old = true;
    failed_over(&mut scene);
    scene.sync();
    scene.pass(5000);
    scene.watch_anew();
    scene.pass(5000);
    assert_kept(&scene);
    scene.world.on("/s", Command::DeleteBucket);
    scene.sync();
    scene.pass(5000);
    assert_eq!((removed(&scene), &*scene.farewells), (1, &[Call::Delete][..]), "{:?}", scene.lines);
}

#[test]
fn a_bucket_that_was_suspended_here_and_goes_on_elsewhere_leaves_nothing() {
    let mut scene = Scene::new();
    let epoch = runs_here(&mut scene);
    scene.world.on("/s", Command::Suspend);
    scene.sync();
    scene.world.free("/s", epoch);
    scene.sync();
    scene.world.on("/s", Command::Resume);
    scene.sync();
    scene.pass(5000);
    // It may be resumed here.
    assert_eq!((removed(&scene), &*scene.farewells), (0, &[Call::Suspend][..]), "{:?}", scene.lines);
    assert_goes_on_elsewhere(&mut scene);
}

#[test]
fn a_bucket_that_comes_back_before_anything_was_removed_finds_what_it_left() {
    let mut scene = Scene::new();
    failed_over(&mut scene);
    scene.input(Input::SessionLost);
    scene.sync();
    scene.pass(5000);
    let other = scene.world.binding("/s").epoch;
    scene.world.free("/s", other);
    let epoch = bind(&mut scene, 1);
    scene.sync();
    scene.input(Input::SessionOpened { start_in: Span(0) });
    scene.acknowledge(&[("/s", epoch)]);
    scene.pass(1000);
    assert!(scene.lines.contains(&format!("start /s Single(Epoch({epoch}))")), "{:?}", scene.lines);
    assert_kept(&scene);
}

/// A member that is behind tells of a binding that was over before the instance here began.
#[test]
fn a_binding_from_before_what_is_here_removes_nothing() {
    for multi in [false, true] {
        let mut scene = Scene::new();
        scene.world.apply_bucket("/s", |_| {});
        let old = bind(&mut scene, 2);
        let places = Some([scene.world.name("/s")].into());
        let watcher = Watcher { node: NodeId(1), places };
        let behind: Vec<_> = watched::everything(&scene.world.state, &watcher).collect();
        let is_told = |item: &WatchItem| matches!(item, WatchItem::BoundElsewhere(..));
        assert!(behind.iter().any(is_told), "{behind:?}");
        scene.world.free("/s", old);
        let mode = if multi {
            Mode::Multi(scene.world.apply_bucket("/s", |put| put.spec.multi_node = true).revision)
        } else {
            Mode::Single(bind(&mut scene, 1))
        };
        let found = dead(&mut scene, mode);
        scene.restart(vec![found]);
        scene.input(Input::Watch(behind));
        scene.input(Input::SessionOpened { start_in: Span(0) });
        scene.pass(5000);
        assert_kept(&scene);
        scene.watch_anew();
        scene.acknowledge(&mode.epoch().map(|epoch| ("/s", epoch)).into_iter().collect::<Vec<_>>());
        scene.pass(5000);
        assert!(scene.lines.iter().any(|line| line.starts_with("start /s")), "{:?}", scene.lines);
        assert_kept(&scene);
    }
}

/// Its lease says that the node's turn has come, before its watch does.
#[test]
fn under_a_later_lease_nothing_is_removed() {
    let mut scene = Scene::new();
    failed_over(&mut scene);
    let other = scene.world.binding("/s").epoch;
    let mut items: Vec<_> =
        scene.world.changes[scene.told..].iter().filter_map(|it| item(it, &scene.watcher())).collect();
    items.push(WatchItem::Synced(scene.world.state.revision));
    scene.told = scene.world.changes.len();
    scene.world.free("/s", other);
    let epoch = bind(&mut scene, 1);
    scene.acknowledge(&[("/s", epoch)]);
    scene.input(Input::Watch(items));
    scene.pass(2000);
    assert_kept(&scene);
    scene.acknowledge(&[("/s", epoch)]);
    scene.sync();
    scene.pass(100);
    assert!(scene.lines.contains(&format!("start /s Single(Epoch({epoch}))")), "{:?}", scene.lines);
    assert_kept(&scene);
}

/// What it said last shows why this node is left out.
#[test]
fn what_gave_up_here_stays_until_the_next_update() {
    let mut scene = Scene::new();
    let epoch = runs_here(&mut scene);
    scene.keeper_says("/s", Life::Dead(Ended::Finished), Phase::Failed);
    scene.world.phase("/s", 1, Some(epoch), Phase::Failed);
    scene.world.free("/s", epoch);
    bind(&mut scene, 2);
    scene.sync();
    scene.pass(5000);
    assert_kept(&scene);
    scene.world.on("/s", Command::Restart);
    scene.sync();
    scene.pass(5000);
    assert_gone(&scene);
}

#[test]
fn what_ran_while_all_nodes_did_goes_where_the_bucket_is_not_bound() {
    let mut scene = Scene::new();
    scene.world.apply_bucket("/s", |put| put.spec.multi_node = true);
    scene.sync();
    scene.pass(100);
    let single = scene.world.apply_bucket("/s", |_| {}).revision;
    scene.sync();
    scene.pass(5000);
    assert!(scene.lines.contains(&format!("confirm /s {single}")), "{:?}", scene.lines);
    assert_eq!(removed(&scene), 0, "it may be bound here: {:?}", scene.lines);
    for node in 1..=3 {
        let confirm = scene.world.confirm_command("/s", node, single);
        scene.world.propose(confirm);
    }
    scene.sync();
    assert_goes_on_elsewhere(&mut scene);
}

/// Where it goes next may be here.
#[test]
fn of_a_binding_that_is_to_end_nothing_is_told() {
    let mut scene = Scene::new();
    scene.world.apply_bucket("/s", |_| {});
    let epoch = bind(&mut scene, 2);
    let name = scene.world.name("/s");
    let told = |scene: &Scene, node: u64| {
        let watcher = Watcher { node: NodeId(node), places: Some([name.clone()].into()) };
        let all: Vec<_> = watched::everything(&scene.world.state, &watcher).collect();
        let elsewhere = WatchItem::BoundElsewhere(name.clone(), epoch);
        let last = scene.world.changes.iter().rev().find_map(|change| match change {
            crate::Change::Binding(_) => item(change, &watcher),
            _ => None,
        });
        (all.contains(&elsewhere), last == Some(elsewhere))
    };
    assert_eq!(told(&scene, 1), (true, true));
    assert_eq!(told(&scene, 2), (false, false), "it is its own");
    scene.world.on("/s", Command::Suspend);
    assert_eq!(told(&scene, 1), (false, false));
}
