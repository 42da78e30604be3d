//! What a `CUresult` has no room for: the words of the last thing that went wrong, on stderr and kept
//! for whoever asks.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::ffi::lock;

static LAST: Mutex<Option<String>> = Mutex::new(None);
static UNSUPPORTED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Writes to stderr. Unlike `eprintln!` it cannot panic where stderr is closed.
pub(super) fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "software-gpu: {text}");
}

/// Keeps the text for [`last_fault`].
pub(super) fn remember(text: String) {
    *lock(&LAST) = Some(text);
}

/// The words of the last failure in this process: kernel, PTX line, block, thread and address of a
/// fault, the JIT's log, or what was wrong with a call on memory. The code alone says only `700`.
pub fn last_fault() -> Option<String> {
    lock(&LAST).clone()
}

/// Names an entry point that is not there, once.
pub(super) fn unsupported(name: &'static str) {
    if lock(&UNSUPPORTED).insert(name) {
        say(&format!("{name} is not supported"));
    }
}
