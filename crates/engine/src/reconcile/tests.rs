use super::*;

const fn origin(revision: u64, content: u64) -> Origin {
    Origin { revision: Revision(revision), basis: Revision(revision), content, live: None, artifact: None }
}

const SINGLE: Mode = Mode::Single(Epoch(7));
const MULTI: Mode = Mode::Multi(Revision(20));

fn alive(mode: Mode) -> Observed {
    Observed { mode, origin: origin(5, 1), life: Life::Alive }
}

fn dead(mode: Mode, ended: Ended) -> Observed {
    Observed { life: Life::Dead(ended), ..alive(mode) }
}

fn want(mode: Mode) -> Desired {
    Desired { run: Run::Want(mode, origin(5, 1)), ..Desired::default() }
}

fn nothing(why: &'static str) -> Desired {
    Desired { run: Run::Nothing(why), ..Desired::default() }
}

/// What shall be, what is, and the way from the one to the other.
#[test]
fn the_difference_is_a_line() {
    let leaving = Desired { give_up: Some(Epoch(7)), remove: true, ..nothing("its binding is leaving") };
    let becomes = Desired { give_up: Some(Epoch(7)), ..want(MULTI) };
    let changed = Desired { run: Run::Want(MULTI, origin(9, 2)), ..Desired::default() };
    let rules_only = Desired { run: Run::Want(MULTI, origin(9, 1)), ..Desired::default() };
    let ended = Desired { confirm: Some(Revision(30)), ..nothing("it is not bound to this node") };
    let ended_and_again = Desired { confirm: Some(Revision(30)), ..want(Mode::Multi(Revision(31))) };
    let waits = Desired { hold: Some("it waits for its lease"), ..want(SINGLE) };
    let cases: [(&Desired, Option<Observed>, &str); 20] = [
        (&nothing("suspended"), None, "as it shall be"),
        (&want(MULTI), None, "start revision 5"),
        (&want(SINGLE), None, "start revision 5 under epoch 7"),
        (&waits, None, "as it shall be"),
        (&want(MULTI), Some(alive(Mode::Multi(Revision(6)))), "as it shall be"),
        (&want(SINGLE), Some(alive(SINGLE)), "as it shall be"),
        (&want(SINGLE), Some(dead(SINGLE, Ended::Lost)), "start revision 5 under epoch 7"),
        (&want(SINGLE), Some(dead(SINGLE, Ended::Finished)), "as it shall be"),
        (
            &want(SINGLE),
            Some(dead(Mode::Single(Epoch(3)), Ended::Finished)),
            "start revision 5 under epoch 7",
        ),
        (
            &want(SINGLE),
            Some(alive(Mode::Single(Epoch(3)))),
            "stop (another epoch), start revision 5 under epoch 7",
        ),
        (&nothing("suspended"), Some(alive(MULTI)), "stop (suspended)"),
        (&nothing("suspended"), Some(Observed { life: Life::Stopping, ..alive(MULTI) }), "as it shall be"),
        (&leaving, Some(alive(SINGLE)), "stop (its binding is leaving), give up epoch 7, remove"),
        (&leaving, None, "give up epoch 7"),
        (&becomes, Some(alive(SINGLE)), "go on as multi-node from state 20, not under epoch 7"),
        (&becomes, Some(dead(SINGLE, Ended::Lost)), "give up epoch 7, start revision 5"),
        (&changed, Some(alive(MULTI)), "stop (changed), start revision 9"),
        (&rules_only, Some(alive(MULTI)), "as it shall be"),
        (
            &ended,
            Some(alive(MULTI)),
            "stop (it is not bound to this node), confirm that nothing multi-node is left up to 30",
        ),
        (
            &ended_and_again,
            Some(alive(MULTI)),
            "stop (multi-node has ended), confirm that nothing multi-node is left up to 30, start revision 5",
        ),
    ];
    for (desired, observed, line) in cases {
        assert_eq!(diff(desired, observed.as_ref()).to_string(), line, "{desired:?} from {observed:?}");
    }
}

#[test]
fn an_instance_is_outdated_by_content_and_by_a_restart_and_not_by_rules() {
    let started = origin(5, 1);
    assert!(!started.outdated(origin(5, 1)));
    assert!(!started.outdated(origin(9, 1)), "a release that changed only where it runs");
    assert!(started.outdated(origin(9, 2)), "another config");
    let restarted =
        Origin { revision: Revision(5), basis: Revision(8), content: 1, live: None, artifact: None };
    assert!(started.outdated(restarted), "a restart was asked for");
    assert!(!restarted.outdated(restarted));
    assert!(!origin(9, 1).outdated(origin(5, 2)), "what is newer than wanted is left alone");
}

/// Its module has a command to poll by, and none for changes.
#[test]
fn an_instance_that_is_only_polled_is_told_of_a_release_that_leaves_its_content() {
    let polled = |revision, content| Origin { live: Some(content), ..origin(revision, content) };
    let runs = Observed { origin: polled(5, 1), ..alive(MULTI) };
    let steps = |wanted| {
        let desired = Desired { run: Run::Want(MULTI, wanted), ..Desired::default() };
        diff(&desired, Some(&runs)).to_string()
    };
    assert_eq!(steps(polled(9, 1)), "tell it of revision 9");
    assert_eq!(steps(polled(9, 2)), "stop (changed), start revision 9");
    let restarted = Origin { revision: Revision(5), basis: Revision(9), ..polled(5, 1) };
    assert_eq!(steps(restarted), "stop (changed), start revision 5");
}

#[test]
fn content_is_the_module_and_the_config() {
    let name = sheaf_model::BucketName::new("/a").expect("a name");
    let module = |text| sheaf_model::ModuleRef::parse(text).expect("a reference");
    let one = BucketSpec::new(name.clone(), module("flume@1"));
    assert_eq!(
        content(&one),
        content(&BucketSpec { multi_node: true, owner: Some("me".into()), ..one.clone() })
    );
    assert_ne!(content(&one), content(&BucketSpec::new(name, module("flume@2"))));
    let config = sheaf_model::Json::new(&serde_json::json!({"port": 1}));
    assert_ne!(content(&one), content(&BucketSpec { config, ..one.clone() }));
}
