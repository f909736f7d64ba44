//! The keeper's side of the binary, for tests: `keeper-probe keep …` is what `sheaf keep …` is, `keeper-probe runner …` what `sheaf runner …` is.
//! `keeper-probe agent DATA_DIR` is an agent that starts what the plan on its input says, and then does nothing. Under the name
//! `without-groups` it is the same where no control groups are to be seen, which takes root's rights.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use sheaf_agent::keeper::keep_main;
use sheaf_agent::keepers::{KeeperOptions, Keepers};

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|name| Path::new(&name).ends_with("without-groups")) {
        return without_groups(args);
    }
    match args.next() {
        Some(word) if word == "keep" => keep_main(args),
        Some(word) if word == "runner" => sheaf_agent::runner::runner_main(args),
        Some(word) if word == "agent" => agent(args.next().unwrap_or_default()),
        _ => ExitCode::FAILURE,
    }
}

/// Becomes the same by its own name, where none are mounted.
fn without_groups(args: impl Iterator<Item = OsString>) -> ExitCode {
    let hide = "umount --recursive /sys/fs/cgroup && exec \"$0\" \"$@\"";
    let error = match std::env::current_exe() {
        Ok(own) => Command::new("unshare").args(["--mount", "sh", "-c", hide]).arg(own).args(args).exec(),
        Err(error) => error,
    };
    eprintln!("unshare: {error}");
    ExitCode::FAILURE
}

fn agent(data_dir: OsString) -> ExitCode {
    let spawn = || -> Result<(), Box<dyn std::error::Error>> {
        let plan = serde_json::from_reader(std::io::stdin())?;
        let options = KeeperOptions { data_dir: PathBuf::from(data_dir), binary: std::env::current_exe()? };
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let _handle = Keepers::open(options)?.spawn(plan).await?;
            std::future::pending().await
        })
    };
    match spawn() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
