//! Root directories that are made from nothing: programs, and what they load. And what is kept between runs to make them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Copies a program to `to` below `root`, and the libraries that it loads, its loader included, to where they lie here.
///
/// # Panics
/// If one cannot be read or written.
pub fn put(root: &Path, program: &Path, to: &str) {
    for library in libraries(program) {
        let place = root.join(library.strip_prefix("/").expect("ldd says whole paths"));
        copy(&library, &place);
    }
    copy(program, &root.join(to));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a file has a folder")).expect("it can be made");
    fs::copy(from, to).unwrap_or_else(|error| panic!("copying {}: {error}", from.display()));
}

/// As `ldd` says; of one that is linked statically none.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let done = Command::new("ldd").arg(program).output().expect("ldd can be started");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(PathBuf::from).collect()
}

/// A file that is kept between runs, in `SHEAF_CI_DIR`: one that is not there is made by `script`, which is given its path.
///
/// # Panics
/// If it cannot be made.
pub fn kept(script: &Path, name: &str) -> PathBuf {
    let given = env::var_os("SHEAF_CI_DIR").filter(|given| !given.is_empty()).map(PathBuf::from);
    let dir = given.unwrap_or_else(|| env::temp_dir().join("sheaf-ci"));
    fs::create_dir_all(&dir).expect("a directory can be made for what is kept");
    let file = dir.join(name);
    run(Command::new(script).arg(&file));
    file
}

/// Runs a command and gives what it prints.
///
/// # Panics
/// If it fails.
pub fn run(command: &mut Command) -> String {
    try_run(command).unwrap_or_else(|why| panic!("{why}"))
}

/// The same, where it may fail.
///
/// # Errors
/// How, and what it complains of.
pub fn try_run(command: &mut Command) -> Result<String, String> {
    let done = command.stdin(Stdio::null()).output();
    let done = done.map_err(|error| format!("{command:?}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() {
        Ok(text(&done.stdout))
    } else {
        Err(format!("{command:?}: {}\n{}", done.status, text(&done.stderr)))
    }
}
