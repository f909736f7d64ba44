//! Everything at once, by chance.

use std::sync::Arc;
use std::time::Duration;

use sheaf_tests::Machine;
use sheaf_tests::nemesis::{self, Plan};

/// How long things go wrong here; `bench nemesis` takes longer.
const CHAOS: Duration = Duration::from_secs(60);
/// Of the job; as many as are done in about that time.
const SUBTASKS: u32 = 3_000;
/// What is done, unless `SHEAF_SEED` says otherwise.
const SEED: u64 = 1;

/// J13 J15 with its job.
#[test]
fn nemesis() {
    let seed = std::env::var("SHEAF_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let machine = Arc::new(Machine::take());
    let plan = Plan { seed, chaos: CHAOS, beat: env!("CARGO_BIN_EXE_bench").into(), subtasks: SUBTASKS };
    let report = nemesis::run(&machine, &plan);
    println!("nemesis: {report:?}");
    // How many there are is up to the machine.
    assert_eq!(
        report.faults.missing(report.has_disk),
        Vec::<&str>::new(),
        "of each kind at least one: {report:?}"
    );
    assert!(report.calls.0 > 100 && report.reads > 50, "{report:?}");
}
