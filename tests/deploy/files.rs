//! Files that other tools read, each tried by the tool itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
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

/// A cluster that is made up: one node, which has the new version once it is restarted, and buckets in trouble before and after.
#[test]
fn an_upgrade_that_brings_another_bucket_into_trouble_is_not_calm() {
    let machine = Machine::take();
    let fake = "[ -e restarted ] && is=after version=2.0.0 || { is=before version=1.0.0; }\n\
        case \"$1 $2 $5\" in\n\
        node*) printf '[\\n  {\"name\":\"a\",\"status\":\"ready\",\"version\":\"%s\"}\\n]\\n' $version ;;\n\
        cluster*) printf '{\\n  \"fault_tolerance\": 1\\n}\\n' ;;\n\
        *state=unplaced) echo said beside it >&2; cat $is ;;\n\
        esac\n";
    let fake = machine.write("calm/fake", fake);
    let file = machine.write("calm/next", "#!/bin/sh\necho 2.0.0\n");
    let reach = machine.write("calm/reach", "#!/bin/sh\n[ \"$1\" != restart ] || touch restarted\n");
    for file in [&file, &reach] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("it can be run");
    }
    let run = |before: &str, after: &str| {
        for (name, buckets) in [("before", before), ("after", after)] {
            machine.write(&format!("calm/{name}"), buckets.replace(' ', "\n"));
        }
        // What an earlier run left.
        let _ = fs::remove_file(machine.path("calm/restarted"));
        let mut script = Command::new(deploy().join("scripts/rolling-upgrade.sh"));
        script.args(["--timeout", "2", "--transport"]).arg(&reach).arg(&file);
        script.env("SHEAF", format!("sh {}", fake.display())).current_dir(machine.path("calm"));
        let done = script.output().expect("it can be run");
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        (done.status.code(), said)
    };
    for (before, after) in [("", ""), ("/a /b", "/a /b"), ("/a /b", "/b"), ("/a", "")] {
        let (code, said) = run(before, after);
        assert!(code == Some(0) && said.contains("all 1 nodes have 2.0.0 (0 had it before)"), "{said}");
    }
    for (before, after, named) in [("", "/b", "/b"), ("/a", "/b", "/b"), ("/a /b", "/b /a/b /bb", "/a/b /bb")]
    {
        let (code, said) = run(before, after);
        let why = format!("in trouble now, and not before: {named}\n");
        assert!(code == Some(1) && said.contains("runs worse than before") && said.contains(&why), "{said}");
    }
    // More than fit into a program's arguments.
    let many: Vec<String> = (0..5_000).map(|n| format!("/a/team/with/rather/long/names/{n}")).collect();
    let many = many.join(" ");
    assert_eq!(run(&many, &many).0, Some(0));
    let (code, said) = run(&many, &format!("{many} /b"));
    assert!(code == Some(1) && said.ends_with("then run this again\n"), "{code:?}: {said}");
    assert!(said.contains("in trouble now, and not before: /b\n"), "{said}");
}

/// A cluster that is made up: another node came under the name of one that is lost, or that has left.
#[test]
fn an_upgrade_wants_a_lost_node_forgotten_whose_name_another_has() {
    let machine = Machine::take();
    let fake = "case \"$1\" in\n\
        node) echo '['; for one in '\"id\":4,\"status\":\"'$(cat former)'\",\"version\":\"1.0.0\"' \
        '\"id\":9,\"status\":\"ready\",\"version\":\"2.0.0\"'; do echo '  {\"name\":\"a\",'$one'},'; done; echo ']' ;;\n\
        cluster) printf '{\\n  \"fault_tolerance\": 1\\n}\\n' ;;\n\
        esac\n";
    let fake = machine.write("twice/fake", fake);
    let file = machine.write("twice/next", "#!/bin/sh\necho 2.0.0\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it can be run");
    let run = |former: &str, options: &[&str]| {
        machine.write("twice/former", former);
        let mut script = Command::new(deploy().join("scripts/rolling-upgrade.sh"));
        script.args(["--timeout", "1", "--transport", "/bin/false"]).args(options).arg(&file);
        script.env("SHEAF", format!("sh {}", fake.display())).current_dir(machine.path("twice"));
        let done = script.output().expect("it can be run");
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        (done.status.code(), said)
    };
    for options in [vec![], vec!["--dry-run"]] {
        let (code, said) = run("lost", &options);
        let wanted = ["two nodes are called a", "nothing was touched", "sheaf node forget 4 --yes"];
        assert!(code == Some(1) && wanted.iter().all(|part| said.contains(part)), "{said}");
        assert!(!said.contains("install"), "{said}");
    }
    let (code, said) = run("left", &[]);
    assert!(code == Some(0) && said.contains("all 1 nodes have 2.0.0 (1 had it before)"), "{said}");
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
