//! Artifacts: wanted before gate 3 is asked, what gate 3 says until then, and what must not be removed.

use sheaf_model::{Exec, Template, TemplateName};

use super::*;
use crate::reconcile::Origin;
use crate::{DeleteModule, Reply};

const SEVEN: Digest = Digest([7; 32]);

fn uses_artifact(module: &mut ModuleSpec) {
    let command = Template(vec![TemplatePart::Name(TemplateName::Artifact)]);
    module.exec = Some(Exec { command, args: vec![], env: Default::default() });
}

/// A multi-node bucket `/m` of a module that cannot run without its artifact.
fn scene(more: impl FnOnce(&mut ModuleSpec)) -> Scene {
    let mut scene = Scene::with(|module| {
        uses_artifact(module);
        more(module);
    });
    scene.world.apply_bucket("/m", |put| put.spec.multi_node = true);
    scene.sync();
    scene
}

fn holds(scene: &mut Scene, holding: Holding) {
    scene.input(Input::Holds(SEVEN, holding));
    scene.pass(1_000); // verdicts share messages
}

fn ready(scene: &mut Scene) {
    holds(scene, Holding::Ready("/cache/07".to_owned()));
}

#[test]
fn gate_3_says_how_far_the_artifact_is_and_the_start_waits_for_it() {
    let mut scene = scene(|_| {});
    scene.expect(&["verdict /m at 10: no, can_run_on_this_node: module sleep@2 uses ${artifact} and none was pushed for it yet: \
        sheaf module push sleep@2 PATH"]);
    scene.pass(1_000);
    scene.world.push("2", 7);
    scene.sync();
    scene.expect(&[
        "want 070707070707 keep 070707070707",
        "verdict /m at 10: no, can_run_on_this_node: artifact 070707070707 is being fetched, 0 %",
    ]);
    holds(&mut scene, Holding::Fetching(40));
    scene.expect(&[
        "verdict /m at 10: no, can_run_on_this_node: artifact 070707070707 is being fetched, 40 %",
    ]);
    holds(&mut scene, Holding::Fetching(40));
    scene.expect(&[]);
    holds(&mut scene, Holding::Failed("no node that answers has it: n2: gone".to_owned()));
    scene.expect(&["verdict /m at 10: no, can_run_on_this_node: artifact 070707070707 is not here: no node that answers has it: \
        n2: gone"]);
    ready(&mut scene);
    scene.expect(&["start /m Multi(Revision(11))", "verdict /m at 10: yes", "phase /m running"]);
}

#[test]
fn checks_are_asked_when_the_artifact_is_there_and_not_before() {
    let mut scene = scene(file_check);
    scene.world.push("2", 7);
    scene.sync();
    scene.pass(100_000);
    assert!(!scene.lines.iter().any(|line| line.starts_with("ask")), "{:?}", scene.lines);
    scene.lines.clear();
    ready(&mut scene);
    assert!(scene.lines[0].starts_with("ask Lasting of sleep@2"), "{:?}", scene.lines);
    assert!(scene.lines.iter().any(|line| line.starts_with("start /m")), "{:?}", scene.lines);
}

#[test]
fn what_the_config_or_the_rules_refuse_is_not_fetched() {
    let mut scene = Scene::with(uses_artifact);
    scene.world.push("2", 7);
    scene.world.apply_bucket("/other", |put| put.spec.node_list_rules = rules(&["-n1"]));
    scene.sync();
    let wants = |scene: &Scene| {
        scene.lines.iter().filter(|line| line.starts_with("want")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(wants(&scene), ["want  keep "]);
    scene.lines.clear();
    scene.world.apply_bucket("/m", |_| {});
    scene.sync();
    assert_eq!(wants(&scene), ["want 070707070707 keep 070707070707"]);
    scene.lines.clear();
    let deny = vec!["sleep".to_owned()];
    scene.input(Input::Config(Here { name: "n1".into(), deny, ..Here::default() }));
    assert_eq!(wants(&scene), ["want  keep "]);
}

#[test]
fn what_runs_runs_on_without_its_artifact_and_keeps_it_whatever_becomes_of_its_bucket() {
    let mut scene = scene(|_| {});
    scene.world.push("2", 7);
    scene.sync();
    ready(&mut scene);
    scene.lines.clear();
    holds(&mut scene, Holding::Failed("somebody removed it".to_owned()));
    scene.expect(&["verdict /m at 10: unknown, can_run_on_this_node: artifact 070707070707 is not here: somebody removed it; \
        what runs, runs on"]);
    scene.world.apply_module("sleep", "3", uses_artifact);
    scene.world.push("3", 8);
    scene.world.apply_bucket("/m", |put| {
        put.spec.multi_node = true;
        put.latest = true;
    });
    scene.sync();
    assert!(
        scene.lines.contains(&"want 080808080808 keep 070707070707 080808080808".to_owned()),
        "{:?}",
        scene.lines
    );
    assert!(!scene.lines.iter().any(|line| line.starts_with("stop")), "{:?}", scene.lines);
    scene.lines.clear();
    scene.input(Input::Holds(Digest([8; 32]), Holding::Ready("/cache/08".to_owned())));
    let lines = std::mem::take(&mut scene.lines);
    assert!(lines.iter().any(|line| line.starts_with("start /m")), "{lines:?}");
    assert!(lines.contains(&"want 080808080808 keep 080808080808".to_owned()), "{lines:?}");
}

#[test]
fn an_agent_that_comes_back_knows_what_was_started_from_which_artifact() {
    let mut scene = scene(|_| {});
    scene.world.push("2", 7);
    let none = Revision(1);
    let origin =
        Origin { revision: none, basis: none, content: 0, live: None, artifact: Some(Digest([9; 32])) };
    let seen = scene.seen(Mode::Multi(none), origin, Life::Alive, Phase::Running);
    let found = Found { bucket: scene.world.name("/m"), seen: Some(*seen), fence: Fence::default() };
    scene.restart(vec![found]);
    scene.lines.clear();
    scene.watch_anew();
    assert!(
        scene.lines.contains(&"want 070707070707 keep 070707070707 090909090909".to_owned()),
        "{:?}",
        scene.lines
    );
}

#[test]
fn a_version_that_is_deleted_takes_its_artifact_along() {
    let mut scene = scene(|_| {});
    scene.world.push("2", 7);
    scene.sync();
    scene.world.on("/m", Command::DeleteBucket);
    let artifact = scene.world.artifact("2", 7);
    let version = artifact.module.version.clone().expect("it has one");
    let reply =
        scene.world.propose(Command::DeleteModule(DeleteModule { name: artifact.module.name, version }));
    assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    assert!(scene.world.state.artifacts.is_empty());
    scene.lines.clear();
    scene.sync();
    assert!(scene.lines.contains(&"want  keep ".to_owned()), "{:?}", scene.lines);
}

#[test]
fn the_leaders_question_about_a_job_has_its_artifact_fetched_and_kept_for_a_while() {
    let mut scene = Scene::with(uses_artifact);
    let about = |scene: &Scene, rules: &[&str]| {
        let module = sheaf_model::ModuleRef::parse("sleep@2").expect("a reference");
        let mut spec = BucketSpec::new(scene.world.name("/jobs/j"), module);
        let rules = rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>();
        spec.node_list_rules = sheaf_model::NodeListRules::parse(&rules).expect("rules");
        let module = scene.world.state.module(&spec.module).expect("it is registered").spec.clone();
        Input::Judge { question: 5, spec: Arc::new(spec), module, fetch: true }
    };
    let ask = about(&scene, &[]);
    scene.input(ask);
    scene.expect(&["judged /jobs/j: false"]);
    scene.world.push("2", 7);
    scene.sync();
    scene.lines.clear();
    let elsewhere = about(&scene, &["+other-*"]);
    scene.input(elsewhere);
    scene.expect(&["judged /jobs/j: false"]);
    let ask = about(&scene, &[]);
    scene.input(ask);
    scene.expect(&["judged /jobs/j: false", "want 070707070707 keep 070707070707"]);
    scene.input(Input::Holds(SEVEN, Holding::Ready("/cache/07".to_owned())));
    let ask = about(&scene, &[]);
    scene.input(ask);
    scene.expect(&["judged /jobs/j: true"]);
    scene.pass(601_000);
    scene.lines.clear();
    scene.input(Input::SessionLost);
    assert!(scene.lines.contains(&"want  keep ".to_owned()), "{:?}", scene.lines);
}
