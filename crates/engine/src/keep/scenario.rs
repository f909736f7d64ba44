//! Runs the scenarios beside this file: each is the life of one keeper, as text.
//!
//! ```text
//! lease single 5 until 3000        what it was told; also: lease multi from 40, stop SIGNAL GRACE,
//! restart on_failure 1s..4s 2 in 60s
//! plugin                           it is told of its life by calls; also: plugin resumed
//! commands on_stop …               by commands for these calls; also: resumed commands on_stop …
//! limit on_stop 2s                 so long a call may take
//! farewell on_delete               nothing is run, only this said
//! secrets                          what it is started with has some
//! polled every 1s
//!
//! 10 begin                         at this moment this happens …
//!   kill all                       … and exactly this is done
//! 20 update asked, polled every 2s its bucket changed; also: update asked, polled never
//! ```

use sheaf_model::{BootId, Epoch, Exit, Moment, Restart, RestartWhen, Revision, Signal, Span, Stop};

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Call, End, Fence, Input, Keep, Lease, Sight, Telling};

#[test]
fn starting() {
    run(include_str!("scenarios/start.txt"));
}

#[test]
fn stopping() {
    run(include_str!("scenarios/stop.txt"));
}

#[test]
fn restarting() {
    run(include_str!("scenarios/restart.txt"));
}

#[test]
fn giving_up() {
    run(include_str!("scenarios/give_up.txt"));
}

#[test]
fn the_deadline() {
    run(include_str!("scenarios/deadline.txt"));
}

#[test]
fn the_check_at_exec() {
    run(include_str!("scenarios/check.txt"));
}

#[test]
fn commands() {
    run(include_str!("scenarios/commands.txt"));
}

#[test]
fn a_plugin() {
    run(include_str!("scenarios/plugin.txt"));
}

/// Several keepers in a file, each beginning with its lease.
fn run(text: &str) {
    let mut told = Vec::new();
    let mut keep = None;
    let mut lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let mut next = lines.next();
    while let Some((number, line)) = next {
        next = lines.next();
        if !line.starts_with(|c: char| c.is_ascii_digit()) {
            if line.starts_with("lease") {
                told.clear();
            }
            told.push(line);
            keep = None;
            continue;
        }
        let mut expected = Vec::new();
        while let Some((_, action)) = next.filter(|(_, line)| line.starts_with("  ")) {
            expected.push(action.trim().to_owned());
            next = lines.next();
        }
        let (at, input) = line.split_once(' ').unwrap();
        let keep = keep.get_or_insert_with(|| begin(&told));
        let input = input.split_once(", polled ").map_or(input, |(input, every)| {
            keep.poll_every(every.strip_prefix("every ").map(span));
            input
        });
        let actions = keep.step(parse_input(input), Moment(at.parse().unwrap()));
        let actions: Vec<String> = actions.iter().map(print).collect();
        assert_eq!(actions, expected, "line {}: {line}", number + 1);
    }
}

fn begin(told: &[&str]) -> Keep {
    let mut lease = Lease::Multi { from: Revision(1) };
    let mut stop = Stop::default();
    let mut restart = Restart::default();
    let mut poll = None;
    let mut limits = BTreeMap::new();
    let mut takes: Option<(bool, BTreeSet<Call>)> = None;
    let (mut plugin, mut farewell, mut secrets) = (None, None, false);
    for line in told {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["lease", "multi", "from", from] => lease = Lease::Multi { from: Revision(number(from)) },
            ["lease", "single", epoch, "until", until] => {
                lease = Lease::Single {
                    epoch: Epoch(number(epoch)),
                    boot: boot("b"),
                    until: Moment(number(until)),
                };
            }
            ["plugin"] => plugin = Some(false),
            ["plugin", "resumed"] => plugin = Some(true),
            ["commands", ref calls @ ..] => takes = Some((false, calls.iter().map(|it| call(it)).collect())),
            ["resumed", "commands", ref calls @ ..] => {
                takes = Some((true, calls.iter().map(|it| call(it)).collect()));
            }
            ["limit", name, limit] => drop(limits.insert(call(name), span(limit))),
            ["farewell", name] => farewell = Some(call(name)),
            ["secrets"] => secrets = true,
            ["polled", "every", every] => poll = Some(span(every)),
            ["stop", signal, grace] => stop = Stop { signal: parse_signal(signal), grace: span(grace) },
            ["restart", policy, backoff, count, "in", window] => {
                let (min, max) = backoff.split_once("..").unwrap();
                restart = Restart {
                    policy: [RestartWhen::Always, RestartWhen::OnFailure, RestartWhen::Never]
                        .into_iter()
                        .find(|when| when.as_str() == policy)
                        .unwrap(),
                    backoff_min: span(min),
                    backoff_max: span(max),
                    give_up_count: count.parse().unwrap(),
                    give_up_window: span(window),
                };
            }
            _ => panic!("not understood: {line}"),
        }
    }
    let telling = match (plugin, takes) {
        (Some(_), _) if farewell.is_some() => Telling::farewell(limits),
        (Some(resumed), _) => Telling::plugin(limits, resumed),
        (None, Some((resumed, takes))) => Telling::commands(takes, limits, resumed),
        (None, None) => Telling::default(),
    };
    let mut keep = Keep::new(lease, stop, restart, 0, Vec::new()).telling(telling).only(farewell);
    keep.poll_every(poll);
    keep.renew_secrets(secrets);
    keep
}

fn parse_input(text: &str) -> Input {
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        ["begin"] => Input::Begin,
        ["emptied"] => Input::Emptied,
        ["spawned"] => Input::Spawned,
        ["executed"] => Input::Executed,
        ["exit", code] => Input::Ended(Exit::Code(code.parse().unwrap())),
        ["died", "of", signal] => Input::Ended(Exit::Signal(signal.parse().unwrap())),
        ["stop", "asked"] => Input::StopAsked,
        ["tick"] => Input::Tick,
        ["renewed"] => Input::Renewed,
        ["part", "asked"] => Input::PartAsked(Call::Suspend),
        ["update", "asked"] => Input::UpdateAsked,
        ["purge", "asked"] => Input::PurgeAsked,
        ["noted", ref why @ ..] => Input::Noted(why.join(" ")),
        ["not", "taken"] => Input::NotTaken,
        ["not", "answered"] => Input::NotAnswered,
        ["called"] => Input::Called(Ok(())),
        ["failed", ref why @ ..] => Input::Called(Err(why.join(" "))),
        ["said", ref line @ ..] => Input::Said(line.join(" ")),
        ["deadline", epoch, "in", at, "until", until] => {
            Input::DeadlineMoved { epoch: Epoch(number(epoch)), boot: boot(at), until: Moment(number(until)) }
        }
        ["not", "executed", ref why @ ..] => Input::NotExecuted(why.join(" ")),
        ["looked", ref seen @ ..] => Input::Looked(sight(seen)),
        _ => panic!("not understood: {text}"),
    }
}

fn sight(words: &[&str]) -> Sight {
    let mut sight = Sight { empty: true, fence: Fence::default(), boot: boot("b") };
    match words {
        [] => {}
        ["leftovers"] => sight.empty = false,
        ["gave_up", epoch] => sight.fence.gave_up = Epoch(number(epoch)),
        ["gave_up_multi", revision] => sight.fence.gave_up_multi = Revision(number(revision)),
        ["boot", other] => sight.boot = boot(other),
        _ => panic!("not understood: {words:?}"),
    }
    sight
}

fn print(action: &Action) -> String {
    match action {
        Action::KillAll => "kill all".to_owned(),
        Action::Arm(at) => format!("arm {at:?}").replace("Moment(", "").replace(')', ""),
        Action::Spawn => "spawn".to_owned(),
        Action::Look => "look".to_owned(),
        Action::Go => "go".to_owned(),
        Action::Call(call, _) => format!("call {call}"),
        Action::HangUp => "hang up".to_owned(),
        Action::Renew => "renew".to_owned(),
        Action::Purged(Ok(())) => "purged".to_owned(),
        Action::Purged(Err(why)) => format!("not purged: {why}"),
        Action::Signal(signal) => format!("signal {}", signal.as_str()),
        Action::Wake(at) => format!("wake {at:?}").replace("Moment(", "").replace(')', ""),
        Action::Exit => "exit".to_owned(),
        Action::Report(report) => {
            let end = match &report.end {
                None => "",
                Some(End::Finished) => " finished",
                Some(End::Stopped) => " asked",
                Some(End::GaveUp) => " gave_up",
                Some(End::LeaseEnded) => " lease_ended",
                Some(End::Refused) => " refused",
                Some(End::KeeperLost) => " keeper_lost",
            };
            let restarts =
                if report.restarts > 0 { format!(" restarts {}", report.restarts) } else { String::new() };
            let message =
                if report.message.is_empty() { String::new() } else { format!(": {}", report.message) };
            format!("report {}{end}{restarts}{message}", report.phase.as_str())
        }
    }
}

fn call(word: &str) -> Call {
    Call::IN_DOCUMENTS.into_iter().find(|call| call.as_str() == word).unwrap()
}

fn number(text: &str) -> u64 {
    text.parse().unwrap()
}

fn span(text: &str) -> Span {
    text.parse().unwrap()
}

fn boot(text: &str) -> BootId {
    BootId::from(text)
}

fn parse_signal(text: &str) -> Signal {
    Signal::ALL.into_iter().find(|signal| signal.as_str() == text).unwrap()
}
