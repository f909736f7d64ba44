//! Programs that record by themselves when they lived, and under which epoch: the proof that no two did at once.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::documents::Trace;

/// Between two beats of [`run`].
const BEAT: Duration = Duration::from_millis(20);

/// The module `beating@1`: its programs write many times a second who they are, their epoch, and when it is. `beat` is
/// a program that calls [`run`] when it is started as `beat beat FILE`; it costs next to nothing, so that there may be
/// many.
pub fn module(beat: &Path) -> String {
    format!(
        "kind: Module\nname: beating\nversion: '1'\nruntime: exec\nexec:\n  command: {}\n  \
         args: [beat, '${{bucket.config.trace}}']\nrestart: {{policy: always, backoff: 100ms..1s, \
         give_up_after: 100 in 10m}}\nstop: {{grace: 1s}}\n---\n",
        beat.display()
    )
}

/// Writes a beat into a file again and again, until it is killed.
///
/// # Errors
/// When the file cannot be written.
#[expect(clippy::disallowed_methods, reason = "the program does nothing else between two beats")]
pub fn run(file: &Path) -> std::io::Result<()> {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "0".to_owned());
    // When it began tells it from any other, as its process id would not: another container may have the same.
    let who = format!("{} {} {}", variable("SHEAF_NODE"), now(), variable("SHEAF_EPOCH"));
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    loop {
        // One write, so that lines of several programs stay whole.
        file.write_all(format!("{who} {}\n", now()).as_bytes())?;
        std::thread::sleep(BEAT);
    }
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A program, from its first beat to its last, in nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Where it ran.
    pub node: String,
    /// What tells it from others.
    pub id: u64,
    /// Under which epoch; 0 for multi-node work.
    pub epoch: u64,
    /// First beat.
    pub first: u64,
    /// Last beat.
    pub last: u64,
}

/// Every program that has beaten so far, by its first beat.
pub fn programs(trace: &Trace) -> Vec<Life> {
    let text = fs::read_to_string(trace.path()).unwrap_or_default();
    let mut found: BTreeMap<(&str, u64, u64), (u64, u64)> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let node = words.next().unwrap_or_default();
        let mut numbers = words.filter_map(|word| word.parse::<u64>().ok());
        // A line that was being written when its program died has no time.
        if let (Some(id), Some(epoch), Some(at)) = (numbers.next(), numbers.next(), numbers.next()) {
            let life = found.entry((node, id, epoch)).or_insert((at, at));
            *life = (life.0.min(at), life.1.max(at));
        }
    }
    let mut lives: Vec<Life> = found
        .into_iter()
        .map(|((node, id, epoch), (first, last))| Life { node: node.to_owned(), id, epoch, first, last })
        .collect();
    lives.sort_by_key(|life| life.first);
    lives
}

/// That of programs in the order of their first beats none beat before the last beat of the one before, no epoch is smaller
/// than the one before, and none is used on two nodes: an epoch is one binding, to one node.
///
/// # Errors
/// With every pair of which that is not so.
pub fn one_at_a_time<'a>(lives: impl IntoIterator<Item = &'a Life>) -> Result<(), String> {
    let mut former: Option<&Life> = None;
    let mut wrong = Vec::new();
    for life in lives {
        if let Some(former) = former {
            if life.first <= former.last {
                let both = Duration::from_nanos(former.last.min(life.last) - life.first);
                wrong.push(format!("both for {both:?}: {former:?} and {life:?}"));
            }
            if life.epoch < former.epoch {
                wrong.push(format!("a smaller epoch: {former:?}, then {life:?}"));
            }
            // 0: multi-node work, which has none.
            if life.epoch == former.epoch && life.epoch > 0 && life.node != former.node {
                wrong.push(format!("one epoch on two nodes: {former:?}, then {life:?}"));
            }
        }
        if former.is_none_or(|former| former.last < life.last) {
            former = Some(life);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(epoch: u64, first: u64, last: u64) -> Life {
        Life { node: "n1".to_owned(), id: 7, epoch, first, last }
    }

    #[test]
    fn one_after_the_other_is_right_and_two_at_once_are_not() {
        assert_eq!(one_at_a_time(&[life(1, 0, 5), life(1, 6, 7), life(3, 8, 9)]), Ok(()));
        assert!(one_at_a_time(&[life(1, 0, 5), life(1, 5, 7)]).is_err());
        assert!(one_at_a_time(&[life(1, 0, 50), life(2, 10, 12), life(3, 20, 22)]).is_err());
        let back = one_at_a_time(&[life(2, 0, 5), life(1, 6, 7)]);
        assert!(back.is_err_and(|text| text.contains("a smaller epoch")));
        let elsewhere = |epoch, first, last| Life { node: "n2".to_owned(), ..life(epoch, first, last) };
        let both = one_at_a_time(&[life(2, 0, 5), elsewhere(2, 6, 7)]);
        assert!(both.is_err_and(|text| text.contains("one epoch on two nodes")));
        assert_eq!(
            one_at_a_time(&[life(0, 0, 5), elsewhere(0, 6, 7)]),
            Ok(()),
            "multi-node work has no epoch"
        );
    }
}
