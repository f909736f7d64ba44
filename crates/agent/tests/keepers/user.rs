//! An instance that runs as another user gets what is its own, and nothing that it puts in the place of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sheaf_agent::keeper::{Commands, Confine, Plan};
use sheaf_model::{Call, FileName, Phase, Span};

use crate::world::{World, ended, until, until_phase};

/// Only root's agent can run something as another user.
fn can_be_tested() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not tested: only root can run something as another user");
    }
    root
}

/// As nobody, with two files and a command for its polls.
fn plan(world: &World, script: &str) -> Plan {
    let mut plan = world.plan(script);
    plan.stop.grace = Span::seconds(5);
    plan.confine = Confine { user: Some("nobody".to_owned()), ..Confine::default() };
    plan.files = ["conf", "more"].map(|name| (FileName::new(name).unwrap(), format!("the {name}"))).to_vec();
    let bucket = sheaf_module::Bucket {
        name: plan.bucket.to_string(),
        config_json: "{}".to_owned(),
        poll_frequency_ms: Some(50),
        ..sheaf_module::Bucket::default()
    };
    let poll = ["/bin/sh", "-c", "echo polled"].map(str::to_owned).to_vec();
    let lines = BTreeMap::from([(Call::PeriodicPoll, poll)]);
    plan.commands = Some(Box::new(Commands { bucket, lines }));
    plan
}

fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

#[tokio::test]
async fn what_a_program_puts_in_the_place_of_its_files_is_not_given_to_it() {
    if !can_be_tested() {
        return;
    }
    let world = World::new();
    let plan = plan(&world, "cat conf more; echo; echo ready; exec sleep 1000");
    let (linked, named) = (world.dir.path().join("linked"), world.dir.path().join("named"));
    for file in [&linked, &named] {
        fs::write(file, "root's").unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    until_phase(&handle, Phase::Running).await;
    let polls = || world.output(&plan).iter().filter(|line| *line == "polled").count();
    until("it has read its files", || world.output(&plan).contains(&"the confthe more".to_owned())).await;
    let (conf, more) = (world.file(&plan, "conf"), world.file(&plan, "more"));
    let nobody = owner(&conf);
    assert!(nobody != 0 && owner(&more) == nobody && owner(conf.parent().unwrap()) == nobody);
    // What its program may do in its own directory.
    fs::remove_file(&conf).and_then(|()| symlink(&linked, &conf)).unwrap();
    fs::remove_file(&more).and_then(|()| fs::hard_link(&named, &more)).unwrap();
    let before = polls();
    until("it was polled since", || polls() > before + 1).await;
    assert_eq!((owner(&linked), owner(&named)), (0, 0), "they are root's");
    handle.stop();
    ended(&handle).await;
    // A next start writes its files anew, beside what they lead to.
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    until_phase(&handle, Phase::Running).await;
    for (file, outside, text) in [(&conf, &linked, "the conf"), (&more, &named, "the more")] {
        assert_eq!((owner(file), owner(outside)), (nobody, 0));
        assert_eq!(fs::read_to_string(file).unwrap(), text);
        assert_eq!(fs::read_to_string(outside).unwrap(), "root's");
    }
    handle.stop();
    ended(&handle).await;
}

#[tokio::test]
async fn a_directory_that_is_nobodys_any_more_is_taken_back() {
    if !can_be_tested() {
        return;
    }
    let world = World::new();
    let mut plan = plan(&world, "exec sleep 1000");
    for user in [Some("nobody".to_owned()), None] {
        plan.confine.user = user.clone();
        let handle = world.keepers.spawn(plan.clone()).await.unwrap();
        until_phase(&handle, Phase::Running).await;
        let dir = world.keepers.program_dir(&plan.bucket);
        assert_eq!(owner(&dir) == 0, user.is_none());
        assert_eq!(owner(&dir.join("conf")) == 0, user.is_none());
        handle.stop();
        ended(&handle).await;
    }
}

#[tokio::test]
async fn what_an_agent_makes_is_its_own_and_what_it_runs_has_the_mask_that_it_was_started_with() {
    // A core may be as large as before, too.
    let maximum = getrlimit(Resource::Core).maximum;
    let most = maximum.map_or(8192, |hard| hard.min(8192));
    setrlimit(Resource::Core, Rlimit { current: Some(most), maximum }).unwrap();
    let mask = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix("Umask:\t")).map(str::to_owned).unwrap()
    };
    let before = mask();
    for _ in 0..2 {
        sheaf_agent::keep_to_itself();
        sheaf_agent::dump_nothing();
        assert_eq!((mask(), getrlimit(Resource::Core).current), ("0077".to_owned(), Some(1)));
    }
    let world = World::new();
    let script = "umask; set -- $(grep '^Max core' /proc/self/limits); echo $5; env | grep -c 'SHEAF_UMASK\\|SHEAF_CORE'";
    let plan = world.plan(script);
    ended(&world.keepers.spawn(plan.clone()).await.unwrap()).await;
    assert_eq!(world.output(&plan), [before.as_str(), &most.to_string(), "0"]);
}
