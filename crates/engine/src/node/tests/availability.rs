//! Where it may run: gate 3 over time, the config, draining, and what fails.

use sheaf_model::{Drain, Runtime, Setting, TemplateName};

use super::*;
use crate::{DrainNode, Reply, SettingsCommand};

#[test]
fn gate_3_is_asked_once_for_all_buckets_of_a_module_and_again_every_interval() {
    let mut scene = Scene::with(file_check);
    for name in ["/a", "/b", "/c"] {
        scene.world.apply_bucket(name, |put| put.spec.multi_node = true);
    }
    scene.sync();
    let asked = |scene: &Scene| scene.lines.iter().filter(|line| line.starts_with("ask")).count();
    assert_eq!(asked(&scene), 1, "{:?}", scene.lines);
    assert_eq!(scene.lines.iter().filter(|line| line.starts_with("start")).count(), 3);
    scene.lines.clear();
    scene.pass(90_000);
    assert!((3..=4).contains(&asked(&scene)), "every 30 s: {:?}", scene.lines);
}

#[test]
fn another_gate_interval_holds_for_what_was_answered_before() {
    let mut scene = Scene::with(file_check);
    scene.world.apply_bucket("/m", |put| put.spec.multi_node = true);
    scene.sync();
    let mut asked_in = |minutes: u64, every: Span| {
        let change = SettingsCommand::Change(vec![Setting::GateInterval(every)]);
        let changed = scene.world.propose(Command::Settings(change));
        assert!(matches!(changed, Reply::Done(_)), "{changed:?}");
        scene.sync();
        scene.lines.clear();
        scene.pass(minutes * 60_000);
        scene.lines.iter().filter(|line| line.starts_with("ask")).count()
    };
    assert!(asked_in(10, Span::seconds(86_400)) <= 1, "not every 30 s any more");
    let asked = asked_in(1, Span::seconds(5));
    assert!((11..=13).contains(&asked), "{asked} times in a minute: what waited for a day does not");
}

/// A module whose checks hang has buckets enough to ask about without end.
#[test]
fn a_module_whose_checks_hang_keeps_no_other_from_being_asked() {
    let bucket_check = |module: &mut ModuleSpec| {
        let kind = CheckKind::File(Template(vec![TemplatePart::Name(TemplateName::BucketName)]));
        module.can_run_on_this_node.push(Check { kind, timeout: None });
    };
    let mut scene = Scene::with(bucket_check);
    scene.world.apply_module("other", "1", bucket_check);
    scene.held = Some(Vec::new());
    for n in 0..10 {
        scene.world.apply_bucket(&format!("/hangs/{n}"), |put| put.spec.multi_node = true);
    }
    scene.sync();
    let asked = |scene: &mut Scene| {
        let lines = std::mem::take(&mut scene.lines).into_iter();
        lines.filter(|line| line.starts_with("ask")).collect::<Vec<_>>()
    };
    assert_eq!(asked(&mut scene), ["ask Lasting of sleep@2"; 3], "not all that may be under way");
    for bucket in ["/o/1", "/o/2", "/o/3"] {
        scene.world.apply_bucket(bucket, |put| {
            put.spec.multi_node = true;
            put.spec.module = ModuleRef::parse("other").expect("a module's name");
        });
    }
    scene.sync();
    assert_eq!(asked(&mut scene), ["ask Lasting of other@1"], "at once");
    // One that hangs is given up: those who wait take turns.
    for expected in ["ask Lasting of other@1", "ask Lasting of sleep@2"] {
        let hung = scene.held.as_mut().expect("held back").remove(0);
        scene.answer(hung);
        assert_eq!(asked(&mut scene), [expected]);
    }
}

#[test]
fn a_plain_no_stops_what_runs_and_a_doubt_only_the_third_time() {
    let mut scene = Scene::with(file_check);
    scene.world.apply_bucket("/m", |put| put.spec.multi_node = true);
    scene.sync();
    scene.pass(31_000);
    scene.lines.clear();
    scene.machine = CheckAnswer::Unclear("/x: no answer within 5s".to_owned());
    scene.pass(60_000);
    let lines = std::mem::take(&mut scene.lines);
    assert!(!lines.iter().any(|line| line.starts_with("stop")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("unclear 2 of 3")), "{lines:?}");
    scene.pass(31_000);
    let lines = std::mem::take(&mut scene.lines);
    assert!(lines.iter().any(|line| line.starts_with("stop /m")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("remove")), "a doubt decommissions nothing: {lines:?}");
    scene.machine = CheckAnswer::Holds;
    scene.pass(31_000);
    assert!(scene.lines.iter().any(|line| line.starts_with("start /m")), "{:?}", scene.lines);
    scene.machine = CheckAnswer::Fails("/x does not exist".to_owned());
    scene.lines.clear();
    scene.pass(31_000);
    let lines = std::mem::take(&mut scene.lines);
    assert!(lines.iter().any(|line| line.starts_with("stop /m")), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("/x does not exist")), "{lines:?}");
    assert!(lines.contains(&"remove /m".to_owned()), "{lines:?}");
}

#[test]
fn a_port_that_its_own_instance_took_refuses_nothing_and_only_one_gets_it() {
    let mut scene = Scene::with(port_check);
    scene.held = Some(Vec::new());
    scene.world.apply_bucket("/a", |put| put.spec.multi_node = true);
    scene.world.apply_bucket("/b", |put| put.spec.multi_node = true);
    scene.sync();
    let first = scene.held.as_mut().expect("held back").remove(0);
    scene.lines.clear();
    scene.answer(first);
    let starts = |scene: &Scene| scene.lines.iter().filter(|line| line.starts_with("start")).count();
    assert_eq!(starts(&scene), 1, "the other one asks anew: {:?}", scene.lines);
    scene.machine = CheckAnswer::Fails("port 514 is in use".to_owned());
    scene.held = None;
    scene.pass(100);
    for question in scene.node.questions.under_way_now() {
        let answers = vec![scene.machine.clone()];
        scene.input(Input::Answered(question.0, question.1, answers));
    }
    scene.pass(90_000);
    assert_eq!(starts(&scene), 1, "{:?}", scene.lines);
    assert!(!scene.lines.iter().any(|line| line.starts_with("stop")), "{:?}", scene.lines);
    assert!(scene.lines.iter().any(|line| line.contains("verdict /b") && line.contains("in use")));
}

#[test]
fn a_config_that_denies_the_module_stops_it_and_a_command_is_not_asked() {
    let mut scene = Scene::new();
    scene.world.apply_bucket("/m", |put| put.spec.multi_node = true);
    scene.sync();
    scene.pass(50);
    scene.lines.clear();
    let deny = |deny: &[&str]| Here {
        name: "n1".into(),
        hostname: "n1.example.com".into(),
        deny: deny.iter().map(|name| (*name).to_owned()).collect(),
        ..Here::default()
    };
    scene.input(Input::Config(deny(&["sleep"])));
    assert_eq!(scene.lines[0], "stop /m (this node is not available)");
    scene.pass(50);
    scene.lines.clear();
    scene.input(Input::Config(deny(&[])));
    assert!(scene.lines.iter().any(|line| line.starts_with("start /m")), "{:?}", scene.lines);
}

/// A42
#[test]
fn a42_an_instance_that_gave_up_stays_down_until_something_changes() {
    let mut scene = Scene::new();
    scene.world.apply_bucket("/m", |put| put.spec.multi_node = true);
    scene.sync();
    scene.pass(50);
    scene.keeper_says("/m", Life::Dead(Ended::Finished), Phase::Failed);
    scene.pass(50);
    scene.lines.clear();
    scene.pass(5000);
    scene.expect(&[]);
    scene.world.phase("/m", 1, None, Phase::Failed);
    scene.sync();
    scene.pass(5000);
    scene.lines.clear();
    scene.world.on("/m", Command::Resume);
    scene.sync();
    assert!(scene.lines.iter().any(|line| line.starts_with("start /m")), "{:?}", scene.lines);
}

#[test]
fn a_view_from_before_is_waited_out() {
    let mut scene = Scene::new();
    let old: Vec<_> = watched::everything(&scene.world.state, &scene.watcher()).collect();
    let then = scene.told;
    scene.world.apply_bucket("/m", |put| put.spec.multi_node = true);
    scene.sync();
    scene.pass(50);
    scene.lines.clear();
    scene.input(Input::Watch(old));
    scene.pass(50);
    scene.expect(&[]);
    scene.told = then; // the member that is behind tells what follows its own view
    scene.sync();
    scene.pass(50);
    scene.expect(&[]);
}

#[test]
fn a_start_that_cannot_be_carried_out_is_tried_again_and_then_given_up() {
    let mut scene = Scene::new();
    scene.world.apply_bucket("/m", |put| put.spec.multi_node = true);
    let name = scene.world.name("/m");
    let mut items: Vec<_> = scene.world.changes[scene.told..]
        .iter()
        .filter_map(|change| watched::item(change, &scene.watcher()))
        .collect();
    items.push(WatchItem::Synced(scene.world.state.revision));
    scene.told = scene.world.changes.len();
    let mut actions = step(&mut scene.node, Input::Watch(items), scene.now);
    let mut starts = 0;
    for _ in 0..10 {
        if actions.iter().any(|action| matches!(action, Action::Start(_))) {
            starts += 1;
            let failed = Done::Failed { reason: "no more processes".to_owned(), again: true };
            step(&mut scene.node, Input::Done(name.clone(), failed), scene.now);
        }
        scene.now = scene.now.after(Span::seconds(70));
        actions = step(&mut scene.node, Input::Tick, scene.now);
    }
    assert_eq!(starts, 5);
    let seen = scene.node.places[&name].seen.as_ref().expect("what became of it");
    assert_eq!((seen.phase, seen.message.as_str()), (Phase::Failed, "no more processes"));
}

#[test]
fn a_bucket_that_is_not_registered_is_judged_and_nothing_is_kept_of_it() {
    let mut scene = Scene::with(file_check);
    let spec = Arc::new(BucketSpec::new(
        scene.world.name("/p"),
        sheaf_model::ModuleRef::parse("sleep@2").expect("a reference"),
    ));
    let module = scene.world.state.module(&spec.module).expect("it is registered").spec.clone();
    scene.input(Input::Judge { question: 5, spec, module, fetch: false });
    scene.expect(&["ask Lasting of sleep@2 for plan", "judged /p: true"]);
    scene.pass(60_000);
    scene.expect(&[]);
    assert!(scene.node.places.is_empty());
}

#[test]
fn what_comes_for_a_former_leaders_question_answers_none_of_the_next_that_has_its_number() {
    let mut scene = Scene::with(file_check);
    scene.held = Some(Vec::new());
    for name in ["/former", "/next"] {
        let module = sheaf_model::ModuleRef::parse("sleep@2").expect("a reference");
        let spec = Arc::new(BucketSpec::new(scene.world.name(name), module));
        let module = scene.world.state.module(&spec.module).expect("it is registered").spec.clone();
        scene.input(Input::SessionLost);
        scene.input(Input::SessionOpened { start_in: Span(0) });
        scene.input(Input::Judge { question: 5, spec, module, fetch: false });
    }
    scene.lines.clear();
    let asked = scene.held.take().expect("held back");
    assert_eq!(asked.len(), 2);
    for (asked, answer) in asked.into_iter().zip([CheckAnswer::Fails("gone".to_owned()), CheckAnswer::Holds])
    {
        scene.input(Input::Answered(asked.key, asked.part, vec![answer]));
    }
    scene.expect(&["judged /next: true"]);
}

#[test]
fn a_drained_node_runs_no_multi_node_work() {
    let mut scene = Scene::new();
    scene.world.apply_bucket("/m", |put| put.spec.multi_node = true);
    scene.sync();
    scene.pass(50);
    scene.lines.clear();
    let drain = |keep_multi_node| {
        let drain = Drain { keep_multi_node, ..Drain::default() };
        Command::Drain(DrainNode { node: NodeId(1), drain })
    };
    scene.world.propose(drain(true));
    scene.sync();
    assert!(scene.lines.is_empty(), "{:?}", scene.lines);
    scene.world.propose(drain(false));
    scene.sync();
    assert_eq!(scene.lines[0], "stop /m (this node is being drained)");
}

#[test]
fn a_new_life_starts_no_single_node_work_until_the_former_cannot_run() {
    let mut scene = Scene::new();
    scene.input(Input::SessionLost);
    scene.input(Input::SessionOpened { start_in: Span::seconds(4) });
    let epoch = scene.world.bound("/a", 1);
    scene.world.apply_bucket("/m", |put| put.spec.multi_node = true);
    scene.sync();
    scene.acknowledge(&[("/a", epoch)]);
    scene.pass(50);
    assert!(scene.lines.iter().any(|line| line.starts_with("start /m")), "{:?}", scene.lines);
    assert!(!scene.lines.iter().any(|line| line.starts_with("start /a")), "{:?}", scene.lines);
    for _ in 0..8 {
        scene.pass(500);
        scene.acknowledge(&[("/a", epoch)]);
    }
    assert!(scene.lines.iter().any(|line| line.starts_with("start /a")), "{:?}", scene.lines);
}

#[test]
fn the_same_inputs_give_the_same_actions() {
    let run = || {
        let mut scene = Scene::with(file_check);
        for n in 0..50 {
            scene.world.apply_bucket(&format!("/m{n}"), |put| put.spec.multi_node = n % 2 == 0);
        }
        scene.sync();
        scene.world.on("/m4", |on: OnBucket| Command::DeleteBucket(on));
        scene.sync();
        scene.pass(61_000);
        scene.lines
    };
    assert_eq!(run(), run());
}

#[test]
fn a_plugin_is_asked_about_each_bucket_and_retired_with_the_last_one_it_may_run() {
    let mut scene = Scene::with(|module| module.runtime = Runtime::Plugin);
    for name in ["/a", "/b"] {
        scene.world.apply_bucket(name, |put| put.spec.multi_node = true);
    }
    scene.sync();
    let asked = scene.lines.iter().filter(|line| line.starts_with("ask")).count();
    assert_eq!(asked, 2, "{:?}", scene.lines);
    scene.world.on("/a", Command::DeleteBucket);
    scene.sync();
    assert!(!scene.lines.iter().any(|line| line.starts_with("retire")), "{:?}", scene.lines);
    scene.world.on("/b", Command::DeleteBucket);
    scene.sync();
    assert_eq!(scene.lines.iter().filter(|line| line.starts_with("retire")).count(), 1, "{:?}", scene.lines);
}

/// A25
#[test]
fn a25_a_plugin_is_told_of_a_change_and_restarted_only_for_another_module() {
    let mut scene = Scene::with(|module| module.runtime = Runtime::Plugin);
    scene.world.apply_bucket("/a", |put| put.spec.multi_node = true);
    scene.sync();
    scene.lines.clear();
    scene.world.apply_bucket("/a", |put| {
        put.spec.multi_node = true;
        put.spec.owner = Some("me".to_owned());
    });
    scene.sync();
    let lines = std::mem::take(&mut scene.lines);
    assert!(lines.iter().any(|line| line.starts_with("update /a to")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("stop") || line.starts_with("start")), "{lines:?}");
    scene.world.on("/a", Command::Restart);
    scene.sync();
    let lines = std::mem::take(&mut scene.lines);
    assert!(lines.iter().any(|line| line.starts_with("stop /a")), "{lines:?}");
}
