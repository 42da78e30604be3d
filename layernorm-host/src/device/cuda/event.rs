//! Events: points of a stream's work that the device notes the time of.

use std::ptr;
use std::time::Duration;

use cust::sys;

use super::{CudaDevice, context};
use crate::Result;

/// An event of the handle's stream.
pub(crate) struct Event {
    event: sys::CUevent,
    device: CudaDevice,
    recorded: bool,
}

// SAFETY: an event's handle is a name that the driver looks up, in calls that any thread may make.
unsafe impl Send for Event {}
// SAFETY: as above; through a shared reference it is only waited for and read.
unsafe impl Sync for Event {}

impl CudaDevice {
    pub fn event(&self) -> Result<Event> {
        let context = &self.shared.context;
        let _current = context.enter()?;
        let mut event = ptr::null_mut();
        // SAFETY: the call writes one handle to where it is told; the context is current.
        context::check(unsafe { sys::cuEventCreate(&mut event, 0) })
            .map_err(|error| context.error("making an event", error))?;
        Ok(Event {
            event,
            device: self.clone(),
            recorded: false,
        })
    }
}

impl Event {
    /// Notes the time when the stream has done the work given to it so far.
    pub fn record(&mut self) -> Result<()> {
        let context = &self.device.shared.context;
        let _current = context.enter()?;
        // SAFETY: event and stream are of this context and live as long as `self`.
        let result = unsafe { sys::cuEventRecord(self.event, self.device.stream.as_inner()) };
        context::check(result).map_err(|error| context.error("recording an event", error))?;
        self.recorded = true;
        Ok(())
    }

    /// Waits for the event; the time since `start`, `None` where one of them was never recorded or they were
    /// recorded the other way round.
    pub fn since(&self, start: &Event) -> Result<Option<Duration>> {
        if !(self.recorded && start.recorded) {
            return Ok(None);
        }
        let context = &self.device.shared.context;
        let _current = context.enter()?;
        let failed = |error| context.error("waiting for an event", error);
        // SAFETY: both events live, and are of this context.
        context::check(unsafe { sys::cuEventSynchronize(self.event) }).map_err(failed)?;
        let mut milliseconds = 0.0f32;
        // SAFETY: as above; the call writes one number to where it is told.
        context::check(unsafe {
            sys::cuEventElapsedTime(&mut milliseconds, start.event, self.event)
        })
        .map_err(failed)?;
        Ok(Duration::try_from_secs_f64(f64::from(milliseconds) * 1e-3).ok())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Ok(_current) = self.device.shared.context.enter() {
            // A failure cannot be reported from here, and leaves an event behind, no more.
            // SAFETY: the event is destroyed here alone, and nothing reaches it after drop.
            let _ = unsafe { sys::cuEventDestroy_v2(self.event) };
        }
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Event(recorded: {})", self.recorded)
    }
}
