//! How often a thing is measured, and what is said of the times.

use std::time::{Duration, Instant};

use layernorm_host::Result;

use super::{Subject, Timed};

/// How long a batch of calls is to last: long beside the ticks of a device's clock.
const BATCH: Duration = Duration::from_millis(1);
const MAX_CALLS: usize = 100;

const MIN_BATCHES: usize = 10;
const MAX_BATCHES: usize = 2000;

/// The patience of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// For the batches of one figure.
    pub time: Duration,
    /// A slow device: one warm-up, and few batches.
    pub quick: bool,
}

/// Times of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    pub p20: Duration,
    pub p50: Duration,
    pub p80: Duration,
    pub batches: usize,
    /// Calls in a batch.
    pub calls: usize,
}

impl Sampling {
    /// Warms up for a fifth of the time, then measures.
    pub fn sample(&self, timed: Timed, subject: &mut dyn Subject) -> Result<Sampled> {
        let mut calls = 1;
        let start = Instant::now();
        loop {
            let time = subject.time(timed, calls)?;
            if subject.batches() {
                let each = time.as_secs_f64() / calls as f64;
                calls =
                    ((BATCH.as_secs_f64() / each.max(1e-9)).ceil() as usize).clamp(1, MAX_CALLS);
            }
            if self.quick || start.elapsed() * 5 >= self.time {
                break;
            }
        }
        let min_batches = if self.quick { 3 } else { MIN_BATCHES };
        let start = Instant::now();
        let mut times = Vec::new();
        while times.len() < min_batches
            || (start.elapsed() < self.time && times.len() < MAX_BATCHES)
        {
            times.push(subject.time(timed, calls)?.as_secs_f64() / calls as f64);
        }
        times.sort_by(f64::total_cmp);
        let percentile = |p| Duration::from_secs_f64(percentile(&times, p));
        Ok(Sampled {
            p20: percentile(0.2),
            p50: percentile(0.5),
            p80: percentile(0.8),
            batches: times.len(),
            calls,
        })
    }
}

/// Of sorted values, linear between two of them, as NumPy and PyTorch give it.
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let at = p * (sorted.len().saturating_sub(1)) as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    match (sorted.get(below), sorted.get(above)) {
        (Some(low), Some(high)) => low + (high - low) * at.fract(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::Output;
    use std::ops::Range;

    /// Calls that take 1, 2, 3, ... milliseconds, in a device's time and not the test's.
    struct Counted {
        calls: u32,
        batches: bool,
    }

    impl Subject for Counted {
        fn compute(&mut self) -> Result<()> {
            Ok(())
        }

        fn read(&self, _: Output, _: Range<usize>) -> Result<Vec<f64>> {
            Ok(Vec::new())
        }

        fn time(&mut self, _: Timed, calls: usize) -> Result<Duration> {
            self.calls += 1;
            let each = if self.batches {
                0.01
            } else {
                f64::from(self.calls)
            };
            Ok(Duration::from_secs_f64(each * calls as f64 / 1e3))
        }

        fn batches(&self) -> bool {
            self.batches
        }
    }

    #[test]
    fn percentiles_are_those_of_the_batches() {
        let sampling = Sampling {
            time: Duration::ZERO,
            quick: false,
        };
        let mut subject = Counted {
            calls: 0,
            batches: false,
        };
        let sampled = sampling.sample(Timed::Forward, &mut subject).unwrap();
        // One call to warm up, then 2 to 11 ms.
        assert_eq!((sampled.batches, sampled.calls), (10, 1));
        let micros = |time: Duration| time.as_micros();
        assert_eq!(micros(sampled.p50), 6500);
        assert_eq!(micros(sampled.p20), 3800);
        assert_eq!(micros(sampled.p80), 9200);
    }

    #[test]
    fn short_calls_are_batched() {
        let sampling = Sampling {
            time: Duration::ZERO,
            quick: false,
        };
        let mut subject = Counted {
            calls: 0,
            batches: true,
        };
        let sampled = sampling.sample(Timed::Forward, &mut subject).unwrap();
        assert_eq!(sampled.calls, 100);
        assert_eq!(sampled.p50.as_nanos(), 10_000);
    }

    #[test]
    fn one_value_is_every_percentile() {
        assert_eq!(percentile(&[3.0], 0.2), 3.0);
        assert_eq!(percentile(&[1.0, 2.0], 0.5), 1.5);
    }
}
