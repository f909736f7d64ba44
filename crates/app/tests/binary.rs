//! The program itself, as a shell sees it. This target is also why `cargo test` makes `sheaf` of the same build as the tests:
//! the suites that start agents take that one.

use std::process::Command;

fn sheaf(args: &[&str]) -> (i32, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_sheaf")).args(args).output().expect("it can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().expect("it ends by itself"), text(&done.stdout), text(&done.stderr))
}

#[test]
fn it_says_what_it_is() {
    let (code, stdout, stderr) = sheaf(&["version"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.contains(env!("CARGO_PKG_VERSION")), "{stdout}");
}

#[test]
fn an_unknown_command_names_itself_and_changes_nothing() {
    let (code, stdout, stderr) = sheaf(&["bukcet", "list"]);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(
        stderr.contains("bukcet") && stderr.contains("bucket") && !stderr.contains("panicked"),
        "{stderr}"
    );
}
