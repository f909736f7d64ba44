//! Files that other tools read, each tried by the tool itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sheaf_tests::{Machine, manual, need};

fn deploy() -> PathBuf {
    manual::root().join("deploy")
}

/// Runs a tool; all that it says, if it is content.
fn content(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}: {}\n{said}", done.status);
    said
}

/// Every shell script there.
pub(crate) fn scripts() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["debian/build.sh", "debian/postinst", "debian/prerm", "debian/postrm"]
        .into_iter()
        .chain(["container/build.sh", "scripts/rolling-upgrade.sh"])
        .map(|name| deploy().join(name))
        .collect();
    let docker = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker");
    for entry in fs::read_dir(docker).expect("it is there").flatten() {
        if fs::read_to_string(entry.path()).is_ok_and(|text| text.starts_with("#!/bin/sh")) {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn scripts_are_clean() {
    if need::programs(&["shellcheck"]) {
        content(Command::new("shellcheck").args(scripts()));
    }
}

#[test]
fn the_unit_is_one() {
    if !need::programs(&["systemd-analyze", "systemd-sysusers"]) {
        return;
    }
    let machine = Machine::take();
    let unit = fs::read_to_string(deploy().join("systemd/sheaf.service")).expect("it is there");
    assert!(unit.lines().any(|line| line == "Type=notify"), "`systemctl start` returns when it serves");
    for setting in ["KillMode=process", "Delegate=yes", "OOMPolicy=continue", "TasksMax=infinity"] {
        assert!(unit.lines().any(|line| line == setting), "{setting}: what runs must outlive the agent");
    }
    assert!(unit.lines().any(|line| line == "LimitCORE=0:infinity"), "keys are in its memory");
    let brought_back = "RestartForceExitStatus=SIGHUP";
    assert!(unit.lines().any(|line| line == brought_back), "{brought_back}: a reload may come too early");
    for setting in ["PrivateTmp=", "RuntimeDirectory=", "ProtectControlGroups=", "NoNewPrivileges="] {
        assert!(!unit.lines().any(|line| line.starts_with(setting)), "{setting} breaks what runs");
    }
    // The program must be there to be content, wherever it is to be installed.
    let here = unit.replace("/usr/bin/sheaf", &machine.binary().display().to_string());
    let file = machine.write("unit/sheaf.service", here);
    let said = content(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file));
    assert_eq!(said.trim(), "", "no complaints");
    content(
        Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=60"])
            .arg(&file),
    );
    content(Command::new("systemd-sysusers").arg("--dry-run").arg(deploy().join("systemd/sheaf.sysusers")));
}

#[test]
fn alerts_and_their_tests_are_right() {
    if !need::programs(&["promtool"]) {
        return;
    }
    let dir = deploy().join("observability");
    let run = |args: &[&str]| content(Command::new("promtool").args(args).current_dir(&dir));
    run(&["check", "config", "prometheus.yml"]);
    run(&["check", "rules", "alerts.yml"]);
    run(&["test", "rules", "alerts-test.yml"]);
}

/// What Kubernetes mounts others can read, unless the manifest says so; and a secret that others can read is refused.
#[test]
fn secrets_are_mounted_for_their_owner_alone() {
    let volumes = ["agents.yaml", "voters.yaml"].map(|name| {
        let text = fs::read_to_string(deploy().join("kubernetes").join(name)).expect("it is there");
        text.lines()
            .filter(|line| line.contains("secret: {secretName:"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    for volumes in volumes {
        assert!(
            !volumes.is_empty() && volumes.iter().all(|it| it.contains("defaultMode: 0400")),
            "{volumes:?}"
        );
    }
}

#[test]
fn manifests_are_kubernetes() {
    let given = std::env::var_os("SHEAF_TEST_KUBERNETES_VALIDATE").filter(|given| !given.is_empty());
    let Some(tool) = given.map(PathBuf::from).or_else(|| need::program("kubernetes-validate")) else {
        need::skipped("kubernetes-validate");
        return;
    };
    let dir = deploy().join("kubernetes");
    let list = fs::read_to_string(dir.join("kustomization.yaml")).expect("it is there");
    let all: Vec<String> = fs::read_dir(&dir)
        .expect("it is there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml")
        .collect();
    assert!(all.len() >= 4, "{all:?}");
    for name in all {
        assert!(list.contains(&format!("- {name}\n")), "{name} is not applied by the kustomization");
        content(Command::new(&tool).args(["--strict", &name]).current_dir(&dir));
    }
}

#[test]
fn twenty_nodes_are_twenty() {
    if !need::programs(&["docker-compose"]) {
        return;
    }
    let secret = std::env::temp_dir().join(format!("sheaf-compose.{}", std::process::id()));
    fs::write(&secret, "").expect("a file can be made for a while");
    let compose = |args: &[&str]| {
        let mut command = Command::new("docker-compose");
        command.args(["-p", "sheaf", "-f"]).arg(deploy().join("compose/twenty-nodes.yaml")).args(args);
        content(command.env("SHEAF_JOIN_SECRET", &secret))
    };
    let services = compose(&["config", "--services"]);
    let volumes = compose(&["config", "--volumes"]);
    fs::remove_file(&secret).expect("it was just made");
    let count = |text: &str, start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((count(&services, "import-"), count(&services, "work-")), (4, 16), "{services}");
    assert_eq!(count(&volumes, ""), 20, "{volumes}");
}
