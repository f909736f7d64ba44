//! Whether the simulation can find bugs: the search for those planted on purpose.
//!
//! In a build of its own, beside this one: no part of the product, nor of the tests, is ever built with them.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use sheaf_simulation::Planted;
use sheaf_tests::Machine;

use crate::ask::Ask;
use crate::figure::{Figures, Goal, brief};

pub(crate) fn run(_ask: &Ask, _machine: &Arc<Machine>, figures: &Figures) {
    let planted = Planted::ALL.len();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let begun = Instant::now();
    let searched = Command::new(cargo)
        .args(["test", "--quiet", "--release", "-p", "sheaf-simulation", "--features", "planted"])
        .args(["--test", "planted", "--", "--ignored", "--exact", "search", "--nocapture"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be started, as it was for this program");
    let said = String::from_utf8_lossy(&searched.stdout);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| line.contains("Planted::")).collect();
    for line in &lines {
        figures.note(line);
    }
    let found = lines.iter().filter(|line| line.starts_with('(')).count();
    figures.figure(
        "planted bugs found within 2,000 seeds each",
        &format!("{found} of {planted}"),
        &Goal { text: "all", reached: Some(found == planted) },
    );
    figures.aside("the search, with its build, took", &brief(begun.elapsed()));
    let complaint = String::from_utf8_lossy(&searched.stderr);
    assert!(searched.status.success() && found == planted, "the search failed:\n{said}{complaint}");
}
