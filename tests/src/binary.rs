//! The binary under test.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `sheaf` that is tested: `SHEAF_BIN`, or what cargo builds of this tree in the profile of the tests.
/// Built once in this process; the caller holds the machine-wide lock.
pub(crate) fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match env::var_os("SHEAF_BIN").filter(|given| !given.is_empty()) {
        Some(given) => PathBuf::from(given),
        None => build(),
    })
}

/// Builds it beside the tests.
fn build() -> PathBuf {
    let this = env::current_exe().expect("a running test has a path");
    // target/PROFILE/deps/TEST, or target/PROFILE/BENCH
    let folder = this.parent().expect("a file lies in a folder");
    let folder =
        if folder.ends_with("deps") { folder.parent().expect("deps lies in a folder") } else { folder };
    let target = folder.parent().expect("a profile's folder lies in the target folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies below the root");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).env("CARGO_TARGET_DIR", target);
    command.args(match folder.file_name().and_then(|name| name.to_str()) {
        Some("release") => &["build", "--release", "--package", "sheaf", "--bin", "sheaf"][..],
        // What is shipped.
        Some("dist") => &["build", "--profile", "dist", "--package", "sheaf", "--bin", "sheaf"],
        // With the tests of the whole workspace, and so of the features that it has there: made of what is there already.
        _ => &["test", "--no-run", "--workspace", "--test", "binary"],
    });
    command.args(["--quiet", "--locked", "--offline"]);
    // What cargo told this test about itself is not meant for another build.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    let done = command.output().expect("cargo can be started");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {}\n{said}", done.status);
    folder.join("sheaf")
}
