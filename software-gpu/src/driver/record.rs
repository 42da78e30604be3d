//! Launches written down with their counters: what a profiler of programs that use the driver reads.

use std::sync::Mutex;

use super::ffi::lock;
use crate::{Counters, LaunchConfig};

/// A launch that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaunchRecord {
    /// The kernel's name.
    pub kernel: String,
    /// The device's ordinal.
    pub device: i32,
    /// Its blocks and threads.
    pub config: LaunchConfig,
    /// What it did.
    pub counters: Counters,
}

static RECORD: Mutex<Option<Vec<LaunchRecord>>> = Mutex::new(None);

/// Keeps a record of every launch of the process from now on. What was kept before is forgotten.
pub fn record_launches() {
    *lock(&RECORD) = Some(Vec::new());
}

/// The launches since [`record_launches`] or the last call, in order.
pub fn recorded_launches() -> Vec<LaunchRecord> {
    lock(&RECORD).as_mut().map_or_else(Vec::new, std::mem::take)
}

pub(super) fn record(make: impl FnOnce() -> LaunchRecord) {
    if let Some(records) = lock(&RECORD).as_mut() {
        records.push(make());
    }
}
