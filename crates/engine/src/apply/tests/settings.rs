//! What holds for all nodes, changed.

use super::*;

fn change(world: &mut World, changes: &[(&str, &str)]) -> Reply {
    let parse = |(key, value): &(&str, &str)| Setting::parse(key, value).expect("a setting");
    let changes = changes.iter().map(parse).collect();
    world.propose(Command::Settings(SettingsCommand::Change(changes)))
}

/// One of what can be asked, for properties of all commands.
pub(super) fn any(flag: bool, n: u64, term: Term) -> Command {
    Command::Settings(if flag {
        SettingsCommand::Change(vec![Setting::Ttl(Span(n * 100)), Setting::Voters(Voters::Fixed(3))])
    } else {
        SettingsCommand::Settle(SettleLease { changed: Revision(n), term })
    })
}

#[test]
fn settings_that_break_the_margin_are_refused_and_change_nothing() {
    let mut world = World::with_nodes(1);
    let before = world.state.cluster.clone();
    let wrong = [
        ("lease.ttl", "900ms"),
        ("voters", "2"),
        ("lease.kill_margin", "100ms"),
        ("repair.after", "0s"),
        ("repair.spread", "zone=a"),
    ];
    let mut wanted = before.changeable();
    wrong.iter().for_each(|(key, value)| wanted.set(key, value).expect("a setting"));
    // As earlier builds asked for it, too.
    let former = ChangeableV1 { settings: wanted.settings, repair: wanted.repair };
    for reply in [change(&mut world, &wrong), world.propose(Command::ChangeSettingsV1(former))] {
        let Reply::Refused(Refusal::Invalid(defects)) = reply else { panic!("taken") };
        let paths: Vec<&str> = defects.iter().map(|defect| defect.path.as_str()).collect();
        let all = ["lease.ttl", "lease.kill_margin", "voters", "repair.after", "repair.spread"];
        assert_eq!(paths, all, "all at once");
        assert_eq!(world.state.cluster, before);
    }
}

#[test]
fn two_who_change_different_settings_do_not_undo_each_other() {
    let mut world = World::with_nodes(1);
    assert!(matches!(change(&mut world, &[("voters", "5")]), Reply::Done(_)));
    assert!(matches!(change(&mut world, &[("offer_window", "2s")]), Reply::Done(_)));
    assert!(matches!(change(&mut world, &[("voters", "5")]), Reply::Unchanged(_)));
    let settings = world.state.cluster.settings;
    assert_eq!((settings.voters, settings.offer_window), (Voters::Fixed(5), Span::seconds(2)));
    assert_eq!(settings.lease, LeaseSettings::default());
    assert!(matches!(change(&mut world, &[("history.age", "90d")]), Reply::Done(_)));
    assert!(matches!(change(&mut world, &[("history.events", "50000000")]), Reply::Done(_)));
    let history = HistorySettings { age: Span::seconds(90 * 86_400), events: 50_000_000 };
    assert_eq!((world.state.cluster.history, world.state.cluster.settings), (history, settings));
}

/// Each would be right without the other.
#[test]
fn what_fits_to_what_was_before_and_not_to_what_is_now_is_refused() {
    let mut world = World::with_nodes(1);
    assert!(matches!(change(&mut world, &[("lease.heartbeat", "1s")]), Reply::Done(_)));
    let Reply::Refused(Refusal::Invalid(defects)) = change(&mut world, &[("lease.ttl", "2s")]) else {
        panic!("taken");
    };
    assert_eq!(defects[0].path, "lease.ttl");
    assert!(matches!(change(&mut world, &[("gate_interval", "0s")]), Reply::Refused(Refusal::Invalid(_))));
}

#[test]
fn settings_as_earlier_builds_wrote_them_leave_those_of_jobs_alone() {
    let mut world = World::with_nodes(1);
    assert!(matches!(change(&mut world, &[("jobs.max_subtasks", "7")]), Reply::Done(_)));
    let settings = world.state.cluster.settings;
    let repair = Repair { after: Span::seconds(9), spread: None };
    let former = ChangeableV1 { settings, repair: repair.clone() };
    assert!(matches!(world.propose(Command::ChangeSettingsV1(former)), Reply::Done(_)));
    assert_eq!((world.state.cluster.jobs.max_subtasks, &world.state.cluster.repair), (7, &repair));
    let Reply::Refused(Refusal::Invalid(defects)) = change(&mut world, &[("jobs.max_subtasks", "0")]) else {
        panic!("taken");
    };
    assert_eq!(defects[0].path, "jobs.max_subtasks");
}
