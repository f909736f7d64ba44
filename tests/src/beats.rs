//! Programs that record by themselves when they lived, and under which epoch: the proof that no two did at once.

use std::collections::BTreeMap;
use std::fs;

use crate::documents::{Trace, program};

/// First and last beat of each epoch, in nanoseconds since 1970.
pub type Lives = BTreeMap<u64, (u64, u64)>;

/// The module `beating@1`: its programs write many times a second who they are, their epoch, and when it is.
pub fn module() -> String {
    let script =
        r#"while :; do echo "$SHEAF_NODE $$ $SHEAF_EPOCH $(date +%s%N)" >> "$TRACE"; sleep 0.05; done"#;
    program("beating", script, "")
}

/// What was written so far.
pub fn lives(trace: &Trace) -> Lives {
    let mut lives = Lives::new();
    for line in fs::read_to_string(trace.path()).unwrap_or_default().lines() {
        let mut numbers = line.split(' ').skip(2).filter_map(|word| word.parse::<u64>().ok());
        // A line that was being written when its program died has no time.
        if let (Some(epoch), Some(at)) = (numbers.next(), numbers.next()) {
            let life = lives.entry(epoch).or_insert((at, at));
            *life = (life.0.min(at), life.1.max(at));
        }
    }
    lives
}

/// Which epochs lived at once, if any did.
///
/// # Errors
/// With the first two.
pub fn no_overlap(lives: &Lives) -> Result<(), String> {
    let in_order: Vec<_> = lives.iter().collect();
    for pair in in_order.windows(2) {
        let ((old, (_, last)), (new, (first, _))) = (pair[0], pair[1]);
        if last >= first {
            return Err(format!("epoch {old} beat at {last}, epoch {new} from {first} on"));
        }
    }
    Ok(())
}
