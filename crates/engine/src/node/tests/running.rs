//! What runs: by the watch, by leases, over changes and restarts of the agent.

use sheaf_model::{Json, LifeCycleCall};

use super::*;

#[test]
fn a_multi_node_bucket_starts_at_once_and_without_a_leader() {
    let mut scene = Scene::new();
    scene.input(Input::SessionLost);
    let at = scene.world.apply_bucket("/m", |put| put.spec.multi_node = true).revision;
    scene.sync();
    scene.expect(&[&format!("start /m Multi(Revision({at}))")]);
    scene.input(Input::SessionOpened { start_in: Span(0) });
    scene.expect(&[&format!("verdict /m at {at}: yes"), "phase /m running"]);
    scene.pass(5000);
    scene.expect(&[]);
}

/// A13, A14
#[test]
fn a13_a14_rules_move_only_who_drops_out() {
    let mut scene = Scene::new();
    scene.world.apply_bucket("/m", |put| put.spec.multi_node = true);
    scene.sync();
    scene.pass(50);
    let pid = scene.pid("/m");
    scene.lines.clear();
    let at = scene
        .world
        .apply_bucket("/m", |put| {
            put.spec.multi_node = true;
            put.spec.node_list_rules = rules(&["n1", "n2"]);
        })
        .revision;
    scene.sync();
    scene.pass(50);
    scene.expect(&[&format!("verdict /m at {at}: yes"), "phase /m running"]);
    assert_eq!(scene.pid("/m"), pid, "it goes on");
    scene.world.apply_bucket("/m", |put| {
        put.spec.multi_node = true;
        put.spec.node_list_rules = rules(&["-n1"]);
    });
    scene.sync();
    scene.pass(50);
    assert_eq!(scene.lines.remove(0), "stop /m (this node is not available)");
    assert!(scene.lines.remove(0).starts_with("verdict /m"), "and the leader hears why");
    scene.expect(&["phase /m stopped", "remove /m"]);
}

/// A31, A33: its module has a command to poll by, and none for changes.
#[test]
fn how_often_it_is_polled_reaches_what_runs() {
    let mut scene = Scene::with(|module| {
        let command = vec![Template(vec![TemplatePart::Text("/bin/poll".to_owned())])];
        module.life_cycle.insert(Call::PeriodicPoll, LifeCycleCall { command, timeout: None });
    });
    let apply = |scene: &mut Scene, every: Option<u64>, port: u64| {
        let at = scene.world.apply_bucket("/m", |put| {
            put.spec.multi_node = true;
            put.spec.poll_frequency = every.map(Span::seconds);
            put.spec.config = Json::new(&serde_json::json!({"port": port}));
        });
        scene.sync();
        scene.pass(50);
        let did = |line: &String| ["start", "stop", "update"].iter().any(|verb| line.starts_with(verb));
        (at.revision, std::mem::take(&mut scene.lines).into_iter().filter(did).collect::<Vec<_>>())
    };
    let (at, did) = apply(&mut scene, None, 1);
    assert_eq!(did, [format!("start /m Multi(Revision({at}))")]);
    for every in [Some(1), Some(2), None] {
        let (at, did) = apply(&mut scene, every, 1);
        assert_eq!(did, [format!("update /m to {at}")]);
    }
    let (at, did) = apply(&mut scene, None, 2);
    assert_eq!(did, ["stop /m (changed)".to_owned(), format!("start /m Multi(Revision({at}))")]);
}

#[test]
fn a_single_node_bucket_starts_only_under_a_lease_for_exactly_its_epoch() {
    let mut scene = Scene::new();
    let epoch = scene.world.bound("/s", 1);
    scene.sync();
    scene.expect(&["heartbeat", &format!("verdict /s at {}: yes", scene.world.bucket("/s").revision)]);
    scene.pass(1000);
    scene.acknowledge(&[]);
    scene.acknowledge(&[("/s", Epoch(epoch.0 - 1))]);
    scene.expect(&[]);
    scene.acknowledge(&[("/s", epoch)]);
    scene.expect(&[&format!("start /s Single(Epoch({epoch}))"), "deadline /s 104000"]);
    scene.pass(500);
    scene.acknowledge(&[("/s", epoch)]);
    scene.expect(&["phase /s running", "deadline /s 104500"]);
    scene.pass(3000);
    scene.expect(&[&format!("kill /s {epoch}")]);
    scene.keeper_says("/s", Life::Dead(Ended::Lost), Phase::Stopped);
    scene.pass(2000);
    scene.expect(&["phase /s pending"]);
    scene.acknowledge(&[("/s", epoch)]);
    scene.expect(&[&format!("start /s Single(Epoch({epoch}))"), "deadline /s 109500"]);
}

/// It began in time. Its keeper may have been stopped since, and then nobody else ends it.
#[test]
fn what_began_and_is_heard_of_only_after_its_lease_is_killed() {
    let mut scene = Scene::new();
    let epoch = scene.world.bound("/s", 1);
    scene.sync();
    scene.lines.clear();
    let ack = scene.acknowledged(&[("/s", epoch)]);
    let actions = step(&mut scene.node, Input::Acknowledged(ack), scene.now);
    let start = actions.into_iter().find_map(|action| match action {
        Action::Start(start) => Some(start),
        _ => None,
    });
    let start = start.expect("it has a lease");
    let mut seen = scene.seen(start.mode, start.origin, Life::Alive, Phase::Running);
    seen.deadline = start.until;
    scene.pass(3000);
    scene.expect(&[]);
    scene.input(Input::Done(scene.world.name("/s"), Done::Started(seen)));
    scene.expect(&[&format!("kill /s {epoch}")]);
}

#[test]
fn bound_by_the_watch_alone_nothing_starts_and_bound_elsewhere_nothing_either() {
    let mut scene = Scene::new();
    scene.world.bound("/s", 2);
    scene.sync();
    scene.acknowledge(&[("/s", scene.world.binding("/s").epoch)]);
    scene.pass(1000);
    scene.expect(&[&format!("verdict /s at {}: yes", scene.world.bucket("/s").revision)]);
}

/// A26, A28
#[test]
fn a26_a28_a_suspended_bucket_stops_gives_up_and_stays_off() {
    let mut scene = Scene::new();
    let epoch = scene.world.bound("/s", 1);
    scene.sync();
    scene.acknowledge(&[("/s", epoch)]);
    scene.pass(100);
    scene.lines.clear();
    scene.world.on("/s", Command::Suspend);
    scene.sync();
    let gave_up = format!("say gave up /s {epoch}");
    scene.expect(&["stop /s (the bucket is suspended)", &format!("give up /s {epoch}"), &gave_up]);
    scene.pass(1100);
    scene.expect(&["phase /s stopped", &gave_up]);
    scene.world.free("/s", epoch);
    scene.sync();
    scene.acknowledge(&[("/s", epoch)]);
    scene.pass(5000);
    scene.expect(&[]);
    scene.world.on("/s", Command::Resume);
    scene.sync();
    scene.acknowledge(&[("/s", epoch)]);
    let lines = std::mem::take(&mut scene.lines);
    assert!(lines.iter().all(|line| line.starts_with("verdict")), "not under what it gave up: {lines:?}");
}

/// A25
#[test]
fn a25_a_changed_config_restarts_once_and_the_same_again_does_nothing() {
    let mut scene = Scene::new();
    let epoch = scene.world.bound("/s", 1);
    scene.sync();
    scene.acknowledge(&[("/s", epoch)]);
    scene.pass(100);
    scene.lines.clear();
    scene.world.apply_bucket("/s", |put| {
        put.spec.config = sheaf_model::Json::new(&serde_json::json!({"port": 1}));
    });
    scene.sync();
    let lines = std::mem::take(&mut scene.lines);
    assert_eq!(lines[0], "stop /s (changed)");
    assert_eq!(lines[1], format!("start /s Single(Epoch({epoch}))"));
    scene.pass(100);
    scene.lines.clear();
    scene.sync();
    scene.watch_anew();
    scene.pass(1000);
    scene.expect(&[]);
    scene.world.on("/s", Command::Restart);
    scene.acknowledge(&[("/s", epoch)]);
    scene.lines.clear();
    scene.sync();
    assert_eq!(scene.lines[0], "stop /s (changed)");
}

/// A27
#[test]
fn a27_single_becomes_multi_without_interruption_and_the_way_back_is_confirmed() {
    let mut scene = Scene::new();
    let epoch = scene.world.bound("/s", 1);
    scene.sync();
    scene.acknowledge(&[("/s", epoch)]);
    scene.pass(100);
    scene.lines.clear();
    let pid = scene.pid("/s");
    scene.world.apply_bucket("/s", |put| put.spec.multi_node = true);
    scene.sync();
    let lines = std::mem::take(&mut scene.lines);
    assert!(lines.contains(&format!("/s becomes multi-node, not under {epoch}")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("gave up")), "it is alive: {lines:?}");
    scene.world.free("/s", epoch);
    scene.sync();
    scene.pass(10_000);
    assert_eq!(scene.pid("/s"), pid, "not interrupted, also when its lease is over");
    assert!(!scene.lines.iter().any(|line| line.starts_with("kill")), "{:?}", scene.lines);
    scene.lines.clear();

    let back = scene.world.apply_bucket("/s", |put| put.spec.multi_node = false).revision;
    scene.sync();
    let lines = std::mem::take(&mut scene.lines);
    let stop = lines.iter().position(|line| line.starts_with("stop /s")).expect("it stops");
    let confirm = lines.iter().position(|line| line.starts_with("confirm /s")).expect("it confirms");
    assert!(stop < confirm, "{lines:?}");
    assert!(lines.contains(&format!("say nothing left /s {back}")), "{lines:?}");
}

#[test]
fn what_was_sworn_before_a_restart_is_said_whatever_comes_first() {
    for session_first in [true, false] {
        let mut scene = Scene::new();
        scene.world.apply_bucket("/s", |put| put.spec.multi_node = true);
        scene.sync();
        let back = scene.world.apply_bucket("/s", |put| put.spec.multi_node = false).revision;
        let bucket = scene.world.name("/s");
        // It was written down, and nobody was told before the agent ended.
        let fence = Fence { gave_up_multi: back, ..Fence::default() };
        scene.restart(vec![Found { bucket, seen: None, fence }]);
        scene.lines.clear();
        if session_first {
            scene.input(Input::SessionOpened { start_in: Span(0) });
            scene.pass(10_000);
            scene.watch_anew();
        } else {
            scene.watch_anew();
            scene.input(Input::SessionOpened { start_in: Span(0) });
        }
        scene.pass(100);
        let said = format!("say nothing left /s {back}");
        assert!(scene.lines.contains(&said), "session first: {session_first}: {:?}", scene.lines);
    }
}

/// A29, A44
#[test]
fn a29_a44_what_is_found_is_adopted_or_stopped() {
    let mut scene = Scene::new();
    let keep = scene.world.apply_bucket("/keep", |put| put.spec.multi_node = true).revision;
    let epoch = scene.world.bound("/single", 1);
    let state = scene.world.state.revision;
    let origin = |revision: Revision, bucket: &str| Origin {
        revision,
        basis: revision,
        content: crate::reconcile::content(&scene.world.bucket(bucket).current.spec),
        live: None,
        artifact: None,
    };
    let (of_keep, of_single) =
        (origin(keep, "/keep"), origin(scene.world.bucket("/single").current.revision, "/single"));
    let gone = Origin { revision: Revision(1), basis: Revision(1), content: 0, live: None, artifact: None };
    let alive = [
        ("/keep", Mode::Multi(state), of_keep),
        ("/single", Mode::Single(epoch), of_single),
        ("/gone", Mode::Multi(Revision(1)), gone),
    ];
    let mut found = Vec::new();
    for (bucket, mode, origin) in alive {
        let mut seen = scene.seen(mode, origin, Life::Alive, Phase::Running);
        seen.deadline = mode.epoch().map(|_| Moment(102_000));
        let bucket = scene.world.name(bucket);
        found.push(Found { bucket, seen: Some(*seen), fence: Fence::default() });
    }
    scene.restart(found);
    scene.expect(&[]);
    scene.input(Input::SessionOpened { start_in: Span(0) });
    scene.watch_anew();
    scene.pass(50);
    let lines = std::mem::take(&mut scene.lines);
    assert!(!lines.iter().any(|line| line.starts_with("start")), "{lines:?}");
    let stopped: Vec<_> = lines.iter().filter(|line| line.starts_with("stop")).collect();
    assert_eq!(stopped, ["stop /gone (the bucket is gone)"]);
    assert!(lines.contains(&"remove /gone".to_owned()), "{lines:?}");
    scene.acknowledge(&[("/single", epoch)]);
    scene.expect(&["deadline /single 103050"]);
}

/// Its keeper does not answer, so that nobody knows whether it still has a lease; or knows that it has none.
#[test]
fn what_is_found_alive_without_a_lease_is_killed() {
    let mut scene = Scene::new();
    let none = Revision(0);
    let origin = Origin { revision: none, basis: none, content: 0, live: None, artifact: None };
    let lease_ends = [("/hung", None), ("/late", Some(Moment(100_000))), ("/held", Some(Moment(100_001)))];
    let found = lease_ends.map(|(bucket, deadline)| {
        let seen = scene.seen(Mode::Single(Epoch(7)), origin, Life::Alive, Phase::Running);
        let seen = Some(Seen { deadline, ..*seen });
        Found { bucket: scene.world.name(bucket), seen, fence: Fence::default() }
    });
    scene.restart(found.into());
    scene.expect(&["kill /hung 7", "kill /late 7"]);
    scene.pass(1);
    scene.expect(&["kill /held 7"]);
}
