//! Restart: whether and when a program that ended is started again.

use sheaf_model::{Exit, Moment, Restart, RestartWhen, Span};

/// What follows when a program has ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is started again at this moment.
    At(Moment),
    /// It is done: the policy does not start it again after such an end, and the end was a good one.
    Finished(String),
    /// It has failed: the policy does not start it again, or it ended too often.
    GiveUp(String),
}

/// Decides after an end at `now`. `recent` holds the moments of earlier restarts in this boot, oldest first.
///
/// The wait doubles with every restart that lies within the policy's window, from the shortest to the longest.
pub fn next(policy: &Restart, recent: &[Moment], exit: Exit, now: Moment) -> Next {
    let word = policy.policy.as_str();
    match policy.policy {
        RestartWhen::OnFailure | RestartWhen::Never if exit.is_success() => {
            return Next::Finished(format!("exited with 0, policy {word} does not restart it"));
        }
        RestartWhen::Never => return Next::GiveUp(format!("{exit}, policy {word} does not restart it")),
        RestartWhen::OnFailure | RestartWhen::Always => {}
    }
    let restarts = within(policy, recent, now).len();
    if restarts >= usize::try_from(policy.give_up_count).unwrap_or(usize::MAX) {
        return Next::GiveUp(format!(
            "{exit}; gave up after {restarts} restarts within {}",
            policy.give_up_window
        ));
    }
    Next::At(now.after(backoff(policy, restarts)))
}

/// Those of `recent` that still count at `now`.
pub fn within<'a>(policy: &Restart, recent: &'a [Moment], now: Moment) -> &'a [Moment] {
    let counts = |restart: &Moment| now.since(*restart) < policy.give_up_window;
    &recent[recent.iter().position(counts).unwrap_or(recent.len())..]
}

/// The wait before a restart that comes after `restarts` others.
fn backoff(policy: &Restart, restarts: usize) -> Span {
    let factor = u32::try_from(restarts).ok().and_then(|n| 1_u64.checked_shl(n)).unwrap_or(u64::MAX);
    Span(policy.backoff_min.0.saturating_mul(factor).min(policy.backoff_max.0.max(policy.backoff_min.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(policy: RestartWhen) -> Restart {
        Restart {
            policy,
            backoff_min: Span::seconds(1),
            backoff_max: Span::seconds(5),
            give_up_count: 4,
            give_up_window: Span::seconds(60),
        }
    }

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_then_it_gives_up() {
        let policy = policy(RestartWhen::OnFailure);
        let mut recent = Vec::new();
        for (ends, restarts) in [(0, 1000), (2000, 4000), (5000, 9000), (9000, 14_000)] {
            assert_eq!(next(&policy, &recent, Exit::Code(1), Moment(ends)), Next::At(Moment(restarts)));
            recent.push(Moment(restarts));
        }
        assert_eq!(
            next(&policy, &recent, Exit::Signal(9), Moment(15_000)),
            Next::GiveUp("signal 9; gave up after 4 restarts within 1m".to_owned())
        );
        // The first one lies a window back: one more is allowed, after the longest wait.
        assert_eq!(next(&policy, &recent, Exit::Code(1), Moment(61_000)), Next::At(Moment(66_000)));
        // All of them do: as if for the first time.
        assert_eq!(next(&policy, &recent, Exit::Code(1), Moment(90_000)), Next::At(Moment(91_000)));
    }

    #[test]
    fn the_policy_decides_whether_at_all() {
        let at = |when, exit| next(&policy(when), &[], exit, Moment(0));
        let done = |word: &str| Next::Finished(format!("exited with 0, policy {word} does not restart it"));
        let again = Next::At(Moment(1000));
        assert_eq!(at(RestartWhen::Always, Exit::Code(0)), again);
        assert_eq!(at(RestartWhen::OnFailure, Exit::Code(0)), done("on_failure"));
        assert_eq!(at(RestartWhen::OnFailure, Exit::NotStarted), again);
        assert_eq!(at(RestartWhen::Never, Exit::Code(0)), done("never"));
        assert_eq!(
            at(RestartWhen::Never, Exit::Code(3)),
            Next::GiveUp("exit code 3, policy never does not restart it".to_owned())
        );
    }

    #[test]
    fn extreme_policies_do_not_overflow() {
        let policy = Restart {
            backoff_max: Span(u64::MAX),
            give_up_count: u32::MAX,
            give_up_window: Span(u64::MAX),
            ..policy(RestartWhen::Always)
        };
        let recent = vec![Moment(0); 200];
        assert_eq!(next(&policy, &recent, Exit::Code(1), Moment(1)), Next::At(Moment(u64::MAX)));
        let never = Restart { give_up_count: 0, ..policy };
        assert!(matches!(next(&never, &[], Exit::Code(1), Moment(1)), Next::GiveUp(_)));
    }
}
