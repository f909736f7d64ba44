//! An agent that is about to stop for longer.

use sheaf_model::NodeStatus;

use super::*;

#[test]
fn an_agent_that_leaves_waits_for_a_binding_that_is_on_its_way_to_it() {
    let mut scene = Scene::new();
    scene.input(Input::Leave(Leaving::SingleNode));
    scene.expect(&["say Release", "heartbeat"]);
    scene.acknowledge(&[]);
    assert!(!scene.node.has_left(), "the leader may have decided something before it heard that");
    let epoch = scene.world.bound("/s", 1);
    scene.world.set_status(1, NodeStatus::Restarting);
    scene.sync();
    assert!(!scene.node.has_left(), "it had");
    scene.world.free("/s", epoch);
    scene.sync();
    assert!(scene.node.has_left());
}

#[test]
fn what_was_asked_of_one_leader_is_asked_of_the_next() {
    let mut scene = Scene::new();
    scene.input(Input::Leave(Leaving::SingleNode));
    scene.lines.clear();
    scene.input(Input::SessionLost);
    scene.input(Input::SessionOpened { start_in: Span(0) });
    scene.expect(&["say Release", "heartbeat"]);
    scene.world.set_status(1, NodeStatus::Restarting);
    scene.sync();
    assert!(!scene.node.has_left(), "as the former leader asked, for all that this one knows");
    scene.acknowledge(&[]);
    assert!(scene.node.has_left());
}

#[test]
fn what_a_watch_shows_of_an_earlier_time_does_not_let_an_agent_go() {
    let mut scene = Scene::new();
    // Something stood in for its former life.
    scene.world.set_status(1, NodeStatus::Restarting);
    scene.sync();
    scene.world.set_status(1, NodeStatus::Ready);
    let epoch = scene.world.bound("/s", 1);
    scene.input(Input::Leave(Leaving::SingleNode));
    assert!(!scene.node.has_left(), "the leader may not have heard that");
    scene.acknowledge(&[("/s", epoch)]);
    assert!(!scene.node.has_left(), "its watch does not show what the leader knew then");
    scene.world.set_status(1, NodeStatus::Restarting);
    scene.sync();
    assert!(!scene.node.has_left(), "something is bound to it");
    scene.world.free("/s", epoch);
    scene.sync();
    assert!(scene.node.has_left());
}

#[test]
fn what_was_sent_before_it_asked_is_no_answer() {
    let mut scene = Scene::new();
    scene.world.set_status(1, NodeStatus::Restarting);
    scene.sync();
    let (sent, asked) = (scene.now, scene.now.after(Span(10)));
    scene.now = asked;
    scene.input(Input::Leave(Leaving::SingleNode));
    scene.now = sent;
    scene.acknowledge(&[]);
    assert!(!scene.node.has_left());
    scene.now = asked;
    scene.acknowledge(&[]);
    assert!(scene.node.has_left());
}

#[test]
fn an_agent_that_no_leader_hears_does_not_wait_for_one_longer_than_it_counts_as_live() {
    let mut scene = Scene::new();
    scene.pass(60_000);
    scene.input(Input::SessionLost);
    scene.input(Input::Leave(Leaving::SingleNode));
    scene.pass(3900);
    assert!(!scene.node.has_left());
    assert!(scene.node.next_wake().is_some(), "it will look again by itself");
    scene.pass(100);
    assert!(scene.node.has_left());
    assert_eq!(scene.node.next_wake(), None, "once");
}

#[test]
fn a_node_that_was_forgotten_ends_everything_whatever_it_knows() {
    let mut scene = Scene::new();
    scene.world.apply_bucket("/m", |put| put.spec.multi_node = true);
    scene.sync();
    let name = scene.world.name("/m");
    let seen = scene.node.places[&name].seen.as_deref().cloned();
    scene.input(Input::SessionLost);
    scene.lines.clear();
    scene.input(Input::Left);
    scene.expect(&["stop /m (this node has left the cluster)", "remove /m"]);
    assert_eq!(scene.farewells, [Call::Decommission, Call::Decommission]);
    // Its own replica tells what was.
    scene.watch_anew();
    scene.pass(60_000);
    scene.expect(&[]);

    // The next life of its agent finds a program, and hears nothing else.
    scene.restart(vec![Found { bucket: name, seen, fence: Fence::default() }]);
    scene.expect(&[]);
    scene.input(Input::Left);
    scene.expect(&["stop /m (this node has left the cluster)", "remove /m"]);
    scene.watch_anew();
    scene.pass(60_000);
    assert!(!scene.lines.iter().any(|line| line.starts_with("start")), "{:?}", scene.lines);
}

#[test]
fn a_node_that_was_forgotten_tells_also_what_does_not_run() {
    let mut scene = Scene::new();
    let first = Revision(1);
    let origin = Origin { revision: first, basis: first, content: 0, live: None, artifact: None };
    let ends = [("/crashed", Ended::Lost), ("/failed", Ended::Finished), ("/off", Ended::Stopped)];
    let mut found: Vec<Found> = ends
        .map(|(bucket, ended)| {
            let seen = scene.seen(Mode::Single(Epoch(7)), origin, Life::Dead(ended), Phase::Stopped);
            Found { bucket: scene.world.name(bucket), seen: Some(*seen), fence: Fence::default() }
        })
        .into();
    let sworn = Fence { gave_up: Epoch(7), ..Fence::default() };
    found.push(Found { bucket: scene.world.name("/sworn"), seen: None, fence: sworn });
    scene.restart(found);
    scene.pass(60_000);
    scene.expect(&[]);
    scene.input(Input::Left);
    // It does not know of any bucket whether it is deleted.
    scene.expect(&["remove /crashed", "remove /failed", "remove /off"]);
    assert_eq!(scene.farewells, [Call::Decommission; 3]);
    // It is told so again and again.
    scene.input(Input::Left);
    scene.pass(60_000);
    scene.expect(&[]);
}
