//! The keeper's side of the binary, for tests: `keeper-probe keep …` is what `sheaf keep …` is, `keeper-probe runner …` what `sheaf runner …` is.
//! `keeper-probe agent DATA_DIR` is an agent that starts what the plan on its input says, and then does nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use sheaf_agent::keeper::keep_main;
use sheaf_agent::keepers::{KeeperOptions, Keepers};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(word) if word == "keep" => keep_main(args),
        Some(word) if word == "runner" => sheaf_agent::runner::runner_main(args),
        Some(word) if word == "agent" => agent(args.next().unwrap_or_default()),
        _ => ExitCode::FAILURE,
    }
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
