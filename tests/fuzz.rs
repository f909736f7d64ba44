//! Each target of `sheaf_tests::fuzz` for about a second: the same inputs every time. `bench fuzz --minutes N` tries others.

use std::sync::{Mutex, PoisonError};

use sheaf_tests::fuzz::{Runner, TARGETS, target};

/// One at a time: memory is looked at for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn tried(name: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let target = target(name).unwrap_or_else(|| panic!("there is no target {name}"));
    let tried = Runner::of(target).tries(1..1 + target.inputs, |_| false);
    assert_eq!(tried.inputs, target.inputs);
    let told: Vec<String> = tried.failures.iter().take(5).map(ToString::to_string).collect();
    assert!(told.is_empty(), "{} of {} inputs:\n{}", tried.failures.len(), tried.inputs, told.join("\n"));
}

macro_rules! targets {
    ($($name:ident)*) => {
        /// The names of the tests below.
        const TESTS: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                tried(stringify!($name));
            }
        )*
    };
}

targets! {
    documents items rules templates amounts selectors names tokens urls settings fingerprints
    filters messages answers modules bytes commands snapshots archives queries
}

#[test]
fn every_target_has_its_test() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, TESTS);
}
