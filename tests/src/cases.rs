//! Many cases on one cluster: starting agents for each would take longer than the cases themselves.

use std::any::Any;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::need::say;

/// Runs cases one after the other; one that fails does not keep the others from running.
#[derive(Debug)]
pub struct Cases {
    test: &'static str,
    only: Option<String>,
    failed: Vec<String>,
}

impl Cases {
    /// The cases of a test.
    pub fn of(test: &'static str) -> Self {
        let only = env::var("SHEAF_TEST_CASE").ok().filter(|part| !part.is_empty());
        Self { test, only, failed: Vec::new() }
    }

    /// What is run from now on, on the same cluster, is of another test: it is said as that one's.
    pub fn now_of(&mut self, test: &'static str) {
        self.test = test;
    }

    /// Runs a case. Its name begins with the ids of the parity cases that it proves.
    pub fn run(&mut self, name: &str, case: impl FnOnce()) {
        if self.only.as_ref().is_some_and(|part| !name.contains(part.as_str())) {
            return;
        }
        let begun = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(case));
        let seconds = begun.elapsed().as_secs_f64();
        match ended {
            Ok(()) => say(&format!("{}: {name} … ok ({seconds:.1} s)", self.test)),
            Err(panic) => {
                let text = text(&*panic);
                say(&format!("{}: {name} … FAILED ({seconds:.1} s): {text}", self.test));
                self.failed.push(format!("{}: {name}: {text}", self.test));
            }
        }
    }

    /// Fails if a case did. Its text is said again, since the end of a long output is what is kept of it; as that is not
    /// endless, only its beginning.
    ///
    /// # Panics
    /// With the names and the texts of those that failed.
    pub fn end(self) {
        let failed: Vec<&str> = self.failed.iter().map(|text| beginning(text)).collect();
        assert!(failed.is_empty(), "failed:\n{}", failed.join("\n"));
    }
}

/// The beginning of a text, as long as people read it.
fn beginning(text: &str) -> &str {
    const MOST: usize = 2000;
    text.char_indices().nth(MOST).map_or(text, |(at, _)| &text[..at])
}

/// What a panic says.
pub(crate) fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}
