//! How far was read, what was counted, and by whom.

use std::collections::BTreeMap;

use anyhow::{Context, bail};

use super::super::tally::Tally;

/// First line of the file.
const HEAD: &str = "sheaf count 1";

/// Everything that is needed to go on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The highest epoch that has counted.
    pub(super) epoch: u64,
    /// By the name of the node whose output it is.
    pub(super) readings: BTreeMap<String, Reading>,
}

/// One node's output.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) offset: u64,
    /// The last bytes before the offset.
    pub(super) before: Vec<u8>,
    /// By the path that the lines come from.
    pub(super) tallies: BTreeMap<String, Tally>,
}

impl Reading {
    /// Counts a line, which begins with its source and a tab.
    pub(super) fn line(&mut self, line: &[u8]) {
        let tab = line.iter().position(|&byte| byte == b'\t');
        let (source, text) = tab.map_or((&b"?"[..], line), |tab| (&line[..tab], &line[tab + 1..]));
        let source = String::from_utf8_lossy(source).replace('\n', "?");
        self.tallies.entry(source).or_default().line(text);
    }
}

impl Checkpoint {
    /// All lines counted.
    pub(super) fn lines(&self) -> u64 {
        self.readings.values().flat_map(|reading| reading.tallies.values()).map(|tally| tally.lines).sum()
    }

    /// A line for each epoch, node, source and word; the lines after a node or source belong to it.
    pub(super) fn write(&self) -> String {
        let mut text = format!("{HEAD}\nepoch {}\n", self.epoch);
        for (node, reading) in &self.readings {
            let before: String = reading.before.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("node {} {before} {node}\n", reading.offset));
            for (source, tally) in &reading.tallies {
                text.push_str(&format!("source {} {} {source}\n", tally.lines, tally.words));
                for (word, times) in &tally.tokens {
                    text.push_str(&format!("word {times} {word}\n"));
                }
            }
        }
        text
    }

    /// What [`Checkpoint::write`] wrote.
    pub(super) fn read(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            bail!("its first line is not {HEAD:?}; remove it to begin anew");
        }
        let mut checkpoint = Self::default();
        let (mut node, mut source) = (String::new(), String::new());
        for line in lines {
            checkpoint.read_line(line, &mut node, &mut source).with_context(|| format!("line {line:?}"))?;
        }
        Ok(checkpoint)
    }

    fn read_line(&mut self, line: &str, node: &mut String, source: &mut String) -> anyhow::Result<()> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let number: u64 = first.parse().context("lacks a number")?;
        match kind {
            "epoch" => self.epoch = number,
            "node" => {
                let (before, name) = rest.split_once(' ').context("names no node")?;
                *node = name.to_owned();
                let reading = self.readings.entry(node.clone()).or_default();
                (reading.offset, reading.before) = (number, bytes(before)?);
            }
            "source" => {
                let (words, name) = rest.split_once(' ').context("names no source")?;
                *source = name.to_owned();
                let reading = self.readings.get_mut(node).context("belongs to no node")?;
                let tally = reading.tallies.entry(source.clone()).or_default();
                (tally.lines, tally.words) = (number, words.parse().context("lacks a number")?);
            }
            "word" => {
                let reading = self.readings.get_mut(node).context("belongs to no node")?;
                let tally = reading.tallies.get_mut(source).context("belongs to no source")?;
                tally.token(rest.to_owned(), number);
            }
            _ => bail!("is none of its lines; remove the file to begin anew"),
        }
        Ok(())
    }

    /// The epoch of a checkpoint whose other lines do not matter; 0 if there is none to be read.
    pub(super) fn epoch_of(text: &str) -> u64 {
        let line = text.lines().nth(1).and_then(|line| line.strip_prefix("epoch "));
        line.and_then(|epoch| epoch.parse().ok()).unwrap_or_default()
    }
}

fn bytes(hex: &str) -> anyhow::Result<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    };
    hex.as_bytes().chunks(2).map(pair).collect::<Option<_>>().context("holds no bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back() {
        let mut reading = Reading { offset: 12, before: vec![0, 255, 10], ..Reading::default() };
        reading.line(b"/var/log/with space.log\tone two two\n");
        reading.line(b"no source\n");
        let empty = Reading::default();
        let readings = BTreeMap::from([("a node".to_owned(), reading), ("empty".to_owned(), empty)]);
        let checkpoint = Checkpoint { epoch: 7, readings };
        let text = checkpoint.write();
        assert_eq!(Checkpoint::read(&text).expect("read"), checkpoint);
        assert_eq!(Checkpoint::epoch_of(&text), 7);
        assert_eq!(checkpoint.lines(), 2);
    }

    #[test]
    fn damage_is_told() {
        for bad in
            ["", "x", "sheaf count 1\nepoch x", "sheaf count 1\nword 1 x", "sheaf count 1\nnode 1 0g n"]
        {
            assert!(Checkpoint::read(bad).is_err(), "{bad:?}");
        }
    }
}
