//! What a machine may lack.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a program lies, also in the directories of system programs.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|place| place.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Whether these programs are there. If not, says so; where `CI` is set that is a failure.
///
/// # Panics
/// When one is missing and `CI` is set.
pub fn programs(names: &[&str]) -> bool {
    let missing: Vec<&str> = names.iter().copied().filter(|name| program(name).is_none()).collect();
    missing.is_empty() || skipped(&missing.join(", "))
}

/// A Python with grpcio, its reflection and its tools: `SHEAF_TEST_PYTHON`, or python3 if it has them.
pub fn python() -> Option<PathBuf> {
    python_with("import grpc, grpc_reflection.v1alpha.reflection, grpc_tools.protoc, google.protobuf")
}

/// The same with a mail server, aiosmtpd.
pub fn mailer() -> Option<PathBuf> {
    python_with("import aiosmtpd.smtp")
}

fn python_with(imports: &str) -> Option<PathBuf> {
    let given = env::var_os("SHEAF_TEST_PYTHON").filter(|given| !given.is_empty()).map(PathBuf::from);
    given.or_else(|| program("python3")).filter(|python| {
        Command::new(python).args(["-c", imports]).output().is_ok_and(|done| done.status.success())
    })
}

/// A file of the SDK's examples.
pub fn example_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("crates/module/examples").join(name)
}

/// A program among the SDK's examples, which cargo builds with the workspace's tests, in a folder beside other programs of
/// theirs.
///
/// # Panics
/// If it was not built.
pub fn example_program(beside: &Path, name: &str) -> PathBuf {
    let built = beside.with_file_name("examples").join(name);
    assert!(built.exists(), "{}: cargo build -p sheaf-module --examples makes it", built.display());
    built
}

/// Says that a test was skipped for want of something; always false.
///
/// # Panics
/// When `CI` is set.
pub fn skipped(what: &str) -> bool {
    assert!(env::var_os("CI").is_none_or(|value| value.is_empty()), "needs {what}, and CI is set");
    say(&format!("skipped: needs {what}"));
    false
}

/// Says something that is seen also when the test passes.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
