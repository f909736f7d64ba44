//! The operator's manual, `deploy/README.md`, and the readme: their commands are run as they stand there.
//!
//! Before each block of commands a comment says by which test: `<!-- run: cluster -->`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli;

/// Commands of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// By which test they are run.
    pub run: String,
    /// Where they stand, from 1.
    pub line: usize,
    /// The commands.
    pub text: String,
}

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies below the root").to_owned()
}

/// The manual.
pub fn text() -> String {
    read("deploy/README.md")
}

/// The readme.
pub fn readme() -> String {
    read("README.md")
}

fn read(name: &str) -> String {
    let path = root().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All blocks of commands in it.
///
/// # Panics
/// If one does not say by which test it is run.
pub fn blocks() -> Vec<Block> {
    blocks_of_text(&text())
}

/// Those that a test runs, in their order.
///
/// # Panics
/// If there is none.
pub fn of(run: &str) -> Vec<Block> {
    of_text(&text(), run)
}

/// The same of another text: the readme, or the manual where the package has put it.
///
/// # Panics
/// If there is none.
pub fn of_text(text: &str, run: &str) -> Vec<Block> {
    let found: Vec<Block> = blocks_of_text(text).into_iter().filter(|block| block.run == run).collect();
    assert!(!found.is_empty(), "no block is run: {run}");
    found
}

/// Commands that the manual's sentences mention, without what stands for a name of the reader's own.
pub fn mentioned() -> BTreeSet<String> {
    mentioned_in(&text())
}

fn mentioned_in(text: &str) -> BTreeSet<String> {
    let mut within = false;
    let prose = text.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        within ^= is_fence;
        !within && !is_fence
    });
    let prose = prose.collect::<Vec<_>>().join("\n");
    let command = |quoted: &str| {
        let own = |word: &&str| word.chars().any(|c| !c.is_ascii_uppercase());
        quoted.split_whitespace().filter(own).collect::<Vec<_>>().join(" ")
    };
    let quoted = prose.split('`').skip(1).step_by(2).map(command);
    quoted.filter(|command| command.starts_with("sheaf ")).collect()
}

/// What the manual has people write into the configuration file, block by block.
pub fn settings() -> Vec<String> {
    let text = text();
    let blocks = text.split("\n```toml\n").skip(1);
    blocks.filter_map(|rest| rest.split("\n```").next()).map(str::to_owned).collect()
}

/// All blocks of commands in a text.
///
/// # Panics
/// If one does not say by which test it is run.
pub fn blocks_of_text(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut run = None;
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            if language == "sh" {
                let run: Option<&str> = run.take();
                let run = run.unwrap_or_else(|| panic!("line {}: <!-- run: … --> is missing", index + 1));
                blocks.push(Block { run: run.to_owned(), line: index + 1, text: inside.join("\n") });
            }
        }
        run = line.strip_prefix("<!-- run: ").and_then(|rest| rest.strip_suffix(" -->"));
    }
    blocks
}

impl Block {
    /// Its commands, with what is different where they are run.
    ///
    /// # Panics
    /// If one of the texts to be put in place of another is not there.
    #[must_use]
    pub fn with(&self, changes: &[(&str, &str)]) -> Self {
        let mut text = self.text.clone();
        for (from, to) in changes {
            assert!(text.contains(from), "{from:?} is not in the block at line {}:\n{text}", self.line);
            text = text.replace(from, to);
        }
        Self { text, ..self.clone() }
    }

    /// The same, where some may not be there.
    #[must_use]
    pub fn where_said(&self, changes: &[(&str, &str)]) -> Self {
        let text = changes.iter().fold(self.text.clone(), |text, (from, to)| text.replace(from, to));
        Self { text, ..self.clone() }
    }

    /// Runs its commands in `dir` until one fails, with programs of `programs` before all others; `place` is the test's own
    /// directory, and the home. What they print comes back.
    ///
    /// # Errors
    /// With everything, if one fails.
    pub fn try_run(
        &self,
        dir: &Path,
        place: &Path,
        programs: &[&Path],
        environment: &[(&str, &str)],
    ) -> Result<String, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = programs.iter().map(|it| it.to_path_buf()).chain(std::env::split_paths(&path));
        let mut command: Command = cli::plain("/bin/sh", place);
        command.args(["-eu", "-c", &self.text]).current_dir(dir);
        command.env("PATH", std::env::join_paths(all).expect("no path has a colon"));
        command.envs(environment.iter().copied());
        let done = command.output().map_err(|error| format!("sh: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&done.stdout), text(&done.stderr));
        if done.status.success() {
            return Ok(out);
        }
        let Self { line, text, .. } = self;
        Err(format!(
            "the block at line {line}: {}\n{text}\n--- stdout\n{out}\n--- stderr\n{err}",
            done.status
        ))
    }

    /// The same.
    ///
    /// # Panics
    /// If one fails.
    pub fn run(&self, dir: &Path, place: &Path, programs: &[&Path], environment: &[(&str, &str)]) -> String {
        self.try_run(dir, place, programs, environment).unwrap_or_else(|why| panic!("{why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_within_sentences() {
        let text = "`sheaf bucket\nexplain NAME` says\n```sh\n`sheaf no`\n```\nwhy; `sheaf` and `ls` or `sheaf top`.\n";
        assert_eq!(mentioned_in(text), ["sheaf bucket explain", "sheaf top"].map(str::to_owned).into());
    }

    #[test]
    fn blocks_say_by_which_test_they_are_run() {
        let text = "a\n\n<!-- run: x -->\n```sh\none\ntwo\n```\n```toml\nb\n```\n<!-- run: y -->\n```sh\nthree\n```\n";
        let found = blocks_of_text(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].run.as_str(), found[0].line, found[0].text.as_str()), ("x", 4, "one\ntwo"));
        assert_eq!((found[1].run.as_str(), found[1].text.as_str()), ("y", "three"));
        assert!(std::panic::catch_unwind(|| blocks_of_text("```sh\nnobody\n```\n")).is_err());
    }
}
