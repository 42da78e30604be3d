//! Handles are numbers that are looked up, not pointers that are followed: a handle that was destroyed,
//! or made up, is found to be so. Numbers are never used twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::error::{Code, Outcome};
use super::ffi::lock;

/// A handle as the client holds it.
pub(super) type Handle = usize;

/// A fresh handle. The small numbers are kept free: 0, 1 and 2 are streams.
pub(super) fn fresh() -> Handle {
    static NEXT: AtomicUsize = AtomicUsize::new(0x1000);
    NEXT.fetch_add(16, Ordering::Relaxed)
}

/// The living objects of one kind.
pub(super) struct Registry<T> {
    living: Mutex<BTreeMap<Handle, Arc<T>>>,
}

impl<T> Registry<T> {
    pub const fn new() -> Registry<T> {
        Registry {
            living: Mutex::new(BTreeMap::new()),
        }
    }

    pub fn insert(&self, handle: Handle, object: Arc<T>) {
        lock(&self.living).insert(handle, object);
    }

    pub fn get(&self, handle: Handle) -> Outcome<Arc<T>> {
        let found = lock(&self.living).get(&handle).cloned();
        found.ok_or(Code::INVALID_HANDLE)
    }

    pub fn remove(&self, handle: Handle) -> Outcome<Arc<T>> {
        lock(&self.living)
            .remove(&handle)
            .ok_or(Code::INVALID_HANDLE)
    }

    /// Removes the objects for which `gone` holds.
    pub fn remove_where(&self, gone: impl Fn(&T) -> bool) {
        // Dropped outside the lock: a drop may come back here.
        let dropped: Vec<Arc<T>> = {
            let mut living = lock(&self.living);
            living
                .extract_if(.., |_, object| gone(object))
                .map(|(_, object)| object)
                .collect()
        };
        drop(dropped);
    }
}
