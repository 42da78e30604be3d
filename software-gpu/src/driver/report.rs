//! What a `CUresult` has no room for: the words of the last thing that went wrong, on stderr and kept
//! for whoever asks.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Mutex;

use super::ffi::lock;

/// The last of the process, for a thread that has none of its own.
static LAST: Mutex<Option<String>> = Mutex::new(None);
static UNSUPPORTED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

thread_local! {
    /// The last of this thread: calls of other threads must not hide it.
    static OWN: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Writes to stderr. Unlike `eprintln!` it cannot panic where stderr is closed.
pub(super) fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "software-gpu: {text}");
}

/// Keeps the text for [`last_fault`].
pub(super) fn remember(text: String) {
    // A thread that is ending has nobody left to ask.
    let _ = OWN.try_with(|own| *own.borrow_mut() = Some(text.clone()));
    *lock(&LAST) = Some(text);
}

/// The words of the last failure of this thread's calls, or else of any thread's: kernel, PTX line,
/// block, thread and address of a fault, the JIT's log, or what was wrong with a call on memory. The
/// code alone says only `700`.
pub fn last_fault() -> Option<String> {
    let own = OWN.try_with(|own| own.borrow().clone()).ok().flatten();
    own.or_else(|| lock(&LAST).clone())
}

/// Names an entry point that is not there, once.
pub(super) fn unsupported(name: &'static str) {
    if lock(&UNSUPPORTED).insert(name) {
        say(&format!("{name} is not supported"));
    }
}
