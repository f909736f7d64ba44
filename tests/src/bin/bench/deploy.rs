//! What is shipped: how large binary, package and image are, and how soon twenty nodes of that image are one cluster, started as
//! the shipped file has them, with the product's defaults.
//!
//! That is of the profile `dist`: `SHEAF_BIN=target/dist/sheaf`, or all of this in that profile. Sizes of another one are not
//! its sizes.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_tests::containers::sweep;
use sheaf_tests::image::try_run;
use sheaf_tests::{Machine, cli, manual, ports, secured, wait_for};

use crate::ask::Ask;
use crate::figure::{Figures, Goal, brief};

/// What the names of all that Docker makes here begin with.
const PREFIX: &str = "sheaf-b-";
/// In the shipped file.
const NODES: usize = 20;
const VOTERS: usize = 5;
/// Whom agents run as in containers.
const USER: u32 = 65532;
/// A cluster that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(300);

/// Sweeps up when it ends.
struct Swept(String);

impl Drop for Swept {
    fn drop(&mut self) {
        sweep(&self.0);
    }
}

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    size(figures, "binary", length(machine.binary()), 30);
    size(figures, "Debian package", package(ask, machine), 12);
    // Also what a run that was killed has left.
    sweep(PREFIX);
    let made = Swept(format!("{PREFIX}{}", std::process::id()));
    let image = image(ask, machine, &made.0);
    let bytes = image.as_ref().map_err(Clone::clone).and_then(|image| image_size(image));
    size(figures, "image", bytes, 40);
    match image.and_then(|image| up(machine, &made.0, &image)) {
        Ok(took) => {
            let goal = Goal::within("30 s", took, Duration::from_secs(30));
            figures.figure("docker-compose up until twenty are ready and five vote", &brief(took), &goal);
        }
        Err(why) => figures.note(&format!("twenty nodes are NOT MEASURED: {why}")),
    }
}

/// `bytes`: why there is nothing, if there is not.
fn size(figures: &Figures, what: &str, bytes: Result<u64, String>, megabytes: u64) {
    match bytes {
        Ok(bytes) => {
            let text = format!("{megabytes} MB");
            let goal = Goal { text: &text, reached: Some(bytes <= megabytes * 1_000_000) };
            // Far fewer bytes than an f64 can count.
            figures.figure(&format!("size of the {what}"), &format!("{:.1} MB", bytes as f64 / 1e6), &goal);
        }
        Err(why) => figures.note(&format!("the {what} is NOT MEASURED: {why}")),
    }
}

fn length(file: &Path) -> Result<u64, String> {
    fs::metadata(file).map(|found| found.len()).map_err(|error| format!("{}: {error}", file.display()))
}

/// Packed as it is shipped.
fn package(ask: &Ask, machine: &Machine) -> Result<u64, String> {
    if let Some(given) = ask.package() {
        return length(given);
    }
    let mut build = Command::new(manual::root().join("deploy/debian/build.sh"));
    build.arg(machine.binary()).arg(machine.place()).env_remove("DEB_COMPRESS");
    try_run(&mut build).and_then(|file| length(Path::new(file.trim())))
}

fn image(ask: &Ask, machine: &Machine, name: &str) -> Result<String, String> {
    if let Some(given) = ask.image() {
        return Ok(given.to_owned());
    }
    let image = format!("{name}:1");
    let mut build = Command::new(manual::root().join("deploy/container/build.sh"));
    try_run(build.arg(machine.binary()).arg(&image))?;
    Ok(image)
}

fn image_size(image: &str) -> Result<u64, String> {
    let bytes = try_run(Command::new("docker").args(["image", "inspect", "--format", "{{.Size}}", image]))?;
    bytes.trim().parse().map_err(|error| format!("{bytes}: {error}"))
}

/// How long it took from `up` until all are ready and as many vote as should.
fn up(machine: &Machine, project: &str, image: &str) -> Result<Duration, String> {
    let secret = secured::secret(machine, "join.secret");
    // Agents refuse one that others can read.
    chown(&secret, Some(USER), Some(USER)).map_err(|error| format!("only root can do it: {error}"))?;
    let free = ports::free(2);
    let [port, http] = [0, 1].map(|place| free[place].to_string());
    let compose = |args: &[&str]| {
        let file: PathBuf = manual::root().join("deploy/compose/twenty-nodes.yaml");
        let mut command = Command::new("docker-compose");
        command.args(["-p", project, "-f"]).arg(file).args(args);
        command.env("SHEAF_IMAGE", image).env("SHEAF_JOIN_SECRET", &secret);
        try_run(command.env("SHEAF_PORT", &port).env("SHEAF_HTTP_PORT", &http))
    };
    let begun = Instant::now();
    compose(&["up", "-d"])?;
    let (address, secret) = (format!("127.0.0.1:{port}"), secret.display().to_string());
    let told = |args: &[&str]| {
        let output = cli::run(machine, args, b"");
        if output.code == 0 { Ok(output) } else { Err(output.to_string()) }
    };
    wait_for("the first node knows the secret", LONGEST, || {
        told(&["login", "--address", &address, "--join-secret", &secret]).map(drop)
    });
    wait_for("all nodes are ready, and five vote", LONGEST, || {
        let rows = told(&["node", "list", "-o", "json"])?.try_json()?;
        let count = |key: &str, value: serde_json::Value| {
            rows.as_array().into_iter().flatten().filter(|row| row[key] == value).count()
        };
        let found =
            (count("status", "ready".into()), count("voter", true.into()), count("leader", true.into()));
        if found == (NODES, VOTERS, 1) { Ok(()) } else { Err(format!("ready, voters, leaders: {found:?}")) }
    });
    let took = begun.elapsed();
    compose(&["down", "--volumes", "--timeout", "5"])?;
    Ok(took)
}
