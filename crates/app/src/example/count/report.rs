//! The report, for people.

use std::collections::BTreeMap;

use super::super::tally::Tally;
use super::checkpoint::Checkpoint;

/// Words shown of each source.
const TOP: usize = 5;

/// The whole report: who made it, all sources, then each node's.
pub(super) fn text(checkpoint: &Checkpoint, node: &str, now: &str) -> String {
    let mut text = format!("Counted by {node} under epoch {}, {now}\n", checkpoint.epoch);
    let mut sum = BTreeMap::<&str, Tally>::new();
    for reading in checkpoint.readings.values() {
        for (source, tally) in &reading.tallies {
            sum.entry(source).or_default().add(tally);
        }
    }
    let all = sum.iter().map(|(source, tally)| (*source, tally)).collect();
    text.push_str(&table("all nodes", all));
    for (node, reading) in &checkpoint.readings {
        let rows = reading.tallies.iter().map(|(source, tally)| (source.as_str(), tally)).collect();
        text.push_str(&table(node, rows));
    }
    text
}

fn table(title: &str, mut rows: Vec<(&str, &Tally)>) -> String {
    rows.sort_by(|a, b| b.1.lines.cmp(&a.1.lines).then(a.0.cmp(b.0)));
    let width = rows.iter().map(|(source, _)| source.chars().count()).max().unwrap_or(0).max(6);
    let mut text = format!("\n{title}\n  {:width$} {:>9} {:>9}  most\n", "source", "lines", "words");
    for (source, tally) in rows {
        let top: Vec<String> = tally.top(TOP).iter().map(|(word, times)| format!("{word} {times}")).collect();
        let (lines, words) = (tally.lines, tally.words);
        text.push_str(&format!("  {source:width$} {lines:>9} {words:>9}  {}\n", top.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::Reading;
    use super::*;

    #[test]
    fn it_shows_sources_of_all_nodes_and_of_each() {
        let mut checkpoint = Checkpoint { epoch: 7, readings: BTreeMap::new() };
        for node in ["import-01", "import-02"] {
            let mut reading = Reading::default();
            reading.line(b"/var/log/dpkg.log\tstatus installed\n");
            reading.line(b"/var/log/dpkg.log\tstatus removed\n");
            reading.line(b"/a.log\tone\n");
            checkpoint.readings.insert(node.to_owned(), reading);
        }
        let text = text(&checkpoint, "work-01", "2026-11-21T20:00:00Z");
        let expected = "\
Counted by work-01 under epoch 7, 2026-11-21T20:00:00Z

all nodes
  source                lines     words  most
  /var/log/dpkg.log         4         8  status 4, installed 2, removed 2
  /a.log                    2         2  one 2

import-01
  source                lines     words  most
  /var/log/dpkg.log         2         4  status 2, installed 1, removed 1
  /a.log                    1         1  one 1
";
        assert!(text.starts_with(expected), "{text}");
    }
}
