//! `apply -f` with many buckets, as a script does it: one file, one transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_tests::Machine;

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times};
use crate::scene;

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let buckets = ask.buckets(1000);
    let cluster = scene::cluster(machine, "", 3);
    scene::settle_disk();
    let (mut new, mut again) = (Vec::new(), Vec::new());
    for trial in 0..ask.trials(5) {
        let text = scene::documents(&format!("/trial/{trial:03}"), 0..buckets);
        let file = machine.write(&format!("trial-{trial}.yaml"), text).display().to_string();
        for times in [&mut new, &mut again] {
            let begun = Instant::now();
            cluster.cli(&["apply", "-f", &file]).ok();
            times.push(begun.elapsed());
        }
    }
    let new: Times = new.into_iter().collect();
    let name = format!("{buckets} new buckets of {} bytes, 3 agents", scene::SPEC);
    if buckets == 1000 {
        figures.figure(
            &name,
            &new.to_string(),
            &Goal::within("2 s (p50)", new.median(), Duration::from_secs(2)),
        );
    } else {
        figures.aside(&name, &new.to_string());
    }
    figures.aside("the same again, unchanged", &again.into_iter().collect::<Times>().to_string());
    scene::end(cluster);
}
