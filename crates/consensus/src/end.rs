//! Ending the process at once, where going on could break a promise.

use std::error::Error;

/// The status of a process whose disk failed it: `EX_IOERR` of `sysexits.h`, and nothing else here ends with it.
const DISK_FAILED: i32 = 74;

/// After a failed write or fsync nobody knows what is on disk, so nothing may be promised on top of it, and trying again
/// proves nothing: the kernel may have thrown the pages away. A restart reads what is really there.
#[expect(clippy::disallowed_methods, reason = "the orderly way out would still answer calls")]
pub(crate) fn disk_failed(doing: &str, error: &dyn Error) -> ! {
    let text = format!(
        "cannot {doing}: {error}. What is on disk is unknown now, so this process ends with status {DISK_FAILED}; start it \
         again, and it reads what is really there. If that does not help, the disk is broken: give this node an empty \
         data directory on another one"
    );
    say(&text);
    std::process::exit(DISK_FAILED)
}

/// What must not be in memory is: a mistake of ours, so with what a debugger can look at.
pub(crate) fn broken(what: &str) -> ! {
    say(&format!("{what}; ending the process, a restart begins with what is on disk"));
    std::process::abort()
}

fn say(text: &str) {
    tracing::error!("{text}");
    // Also where nobody asked for logs.
    eprintln!("sheaf: FATAL: {text}");
}
