//! Time that a device spends on work, as the device itself counts it.

use std::time::{Duration, Instant};

use crate::device::{Device, Kind, cuda};
use crate::{Error, Result};

/// Measures how long work on a handle's stream takes: by CUDA events on CUDA devices and the software GPU
/// (which run the kernels and so say nothing about a real one's speed), by the clock on the CPU, whose work is
/// done when a call returns.
///
/// ```
/// use layernorm_host::{DType, Device, FastLayerNorm, Tensor, Timer};
///
/// let device = Device::auto()?;
/// let x = Tensor::zeros(DType::F32, &[64, 256], &device)?;
/// let mut timer = Timer::new(&device)?;
/// timer.start()?;
/// FastLayerNorm::forward(&x, None, None, 1e-5)?;
/// timer.stop()?;
/// let _time: std::time::Duration = timer.elapsed()?;
/// # Ok::<(), layernorm_host::Error>(())
/// ```
#[derive(Debug)]
pub struct Timer {
    marks: Marks,
}

#[derive(Debug)]
enum Marks {
    Host {
        start: Option<Instant>,
        stop: Option<Instant>,
    },
    Cuda {
        start: cuda::Event,
        stop: cuda::Event,
    },
}

impl Timer {
    /// A timer for the work that is given to this handle, and to its clones.
    ///
    /// # Errors
    ///
    /// [`Error::Cuda`] where the driver makes no events.
    pub fn new(device: &Device) -> Result<Self> {
        let marks = match &device.kind {
            Kind::Cpu { .. } => Marks::Host {
                start: None,
                stop: None,
            },
            Kind::Cuda(device) => Marks::Cuda {
                start: device.event()?,
                stop: device.event()?,
            },
        };
        Ok(Timer { marks })
    }

    /// The time starts when the device has done the work given to the stream so far.
    ///
    /// # Errors
    ///
    /// [`Error::Cuda`].
    pub fn start(&mut self) -> Result<()> {
        match &mut self.marks {
            Marks::Host { start, stop } => {
                (*start, *stop) = (Some(Instant::now()), None);
                Ok(())
            }
            Marks::Cuda { start, .. } => start.record(),
        }
    }

    /// The time ends when the device has done the work given to the stream so far. This waits for nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Cuda`].
    pub fn stop(&mut self) -> Result<()> {
        match &mut self.marks {
            Marks::Host { stop, .. } => {
                *stop = Some(Instant::now());
                Ok(())
            }
            Marks::Cuda { stop, .. } => stop.record(),
        }
    }

    /// The time from start to stop. Waits until the device is there.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`] before [`start`](Self::start) and [`stop`](Self::stop); [`Error::Cuda`] where the
    /// work failed.
    pub fn elapsed(&self) -> Result<Duration> {
        let elapsed = match &self.marks {
            Marks::Host { start, stop } => start
                .zip(*stop)
                .map(|(start, stop)| stop.duration_since(start)),
            Marks::Cuda { start, stop } => stop.since(start)?,
        };
        elapsed.ok_or(Error::Absent {
            asked: "a time",
            missing: "the timer was not started and stopped",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_counts_from_start_to_stop() {
        let mut timer = Timer::new(&Device::cpu()).unwrap();
        assert!(matches!(timer.elapsed(), Err(Error::Absent { .. })));
        timer.start().unwrap();
        assert!(matches!(timer.elapsed(), Err(Error::Absent { .. })));
        std::thread::sleep(Duration::from_millis(2));
        timer.stop().unwrap();
        assert!(timer.elapsed().unwrap() >= Duration::from_millis(2));
        timer.start().unwrap();
        assert!(matches!(timer.elapsed(), Err(Error::Absent { .. })));
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn events_are_recorded_on_the_handles_stream() {
        use crate::{DType, Tensor};
        let device = Device::software(0).unwrap().with_new_stream().unwrap();
        let mut timer = Timer::new(&device).unwrap();
        assert!(matches!(timer.elapsed(), Err(Error::Absent { .. })));
        timer.start().unwrap();
        let x = Tensor::zeros(DType::F32, &[8, 64], &device).unwrap();
        crate::FastLayerNorm::forward(&x, None, None, 1e-5).unwrap();
        timer.stop().unwrap();
        assert!(timer.elapsed().unwrap() > Duration::ZERO);
    }
}
