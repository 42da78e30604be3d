//! What is printed: the JSON's schema, and the tables of the same numbers.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, bail};
use layernorm_host::Image;
use serde::Serialize;
use software_gpu::InstructionClass;
use software_gpu::driver::LaunchRecord;

use crate::minimum::Minimum;

#[derive(Serialize)]
pub struct Report {
    /// Grows when a field changes its meaning or goes.
    pub schema: u32,
    pub device: String,
    pub compute_capability: [u32; 2],
    pub problem: Problem,
    pub passes: Vec<Pass>,
}

#[derive(Serialize)]
pub struct Problem {
    pub n_rows: usize,
    pub n_cols: usize,
    pub dtype: String,
    /// Of weight and bias; null where there are none.
    pub weight: Option<String>,
}

#[derive(Serialize)]
pub struct Pass {
    pub pass: &'static str,
    pub minimum: Minimum,
    /// The kernels' unique bytes together, and how many times the minimum that is.
    pub unique_bytes: u64,
    pub times_minimum: f64,
    /// In the order of their launches.
    pub kernels: Vec<Kernel>,
}

#[derive(Serialize)]
pub struct Kernel {
    pub kernel: String,
    /// The PTX image that it is from.
    pub image: String,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared_bytes: u32,
    /// Of global memory, at least once.
    pub unique_bytes_read: u64,
    pub unique_bytes_written: u64,
    pub global_load: Requests,
    pub global_store: Requests,
    pub global_atomic: Requests,
    pub bytes_in_flight: InFlight,
    pub shared: Shared,
    /// Of warps.
    pub warp_instructions: u64,
    /// Of lanes.
    pub lane_instructions: u64,
    /// Of lanes, by class.
    pub instructions: BTreeMap<&'static str, Class>,
    pub divergent_branches: u64,
    pub barriers: u64,
}

/// A request is one instruction of one warp, a sector 32 bytes, counted for each request anew.
#[derive(Serialize)]
pub struct Requests {
    pub requests: u64,
    pub sectors: u64,
}

/// Bytes, as whole sectors, that a warp has under way in global loads and asynchronous copies.
#[derive(Serialize)]
pub struct InFlight {
    /// When it first needs some of them: the mean over warps that load.
    pub before_first_use: f64,
    /// The mean over every time that it needs some which are under way.
    pub at_waits: f64,
    pub most: u64,
    /// How often that was, of all warps.
    pub waits: u64,
}

#[derive(Serialize)]
pub struct Shared {
    pub requests: u64,
    /// Rounds that requests took beyond the least for their bytes, because lanes met in a bank.
    pub bank_conflicts: u64,
}

/// Instructions of a class.
#[derive(Serialize)]
pub struct Class {
    pub count: u64,
    /// For each element of x.
    pub per_element: f64,
}

impl Pass {
    pub fn new(pass: &'static str, minimum: Minimum, kernels: Vec<Kernel>) -> Pass {
        let bytes = |kernel: &Kernel| kernel.unique_bytes_read + kernel.unique_bytes_written;
        let unique_bytes = kernels.iter().map(bytes).sum();
        let least = minimum.bytes_read + minimum.bytes_written;
        Pass {
            pass,
            minimum,
            unique_bytes,
            times_minimum: ratio(unique_bytes, least),
            kernels,
        }
    }
}

impl Kernel {
    /// # Errors
    /// Where the device was told not to count.
    pub fn new(record: LaunchRecord, image: &Image, elements: u64) -> Result<Kernel> {
        let counters = &record.counters;
        let (Some(read), Some(written)) =
            (counters.unique_bytes_read, counters.unique_bytes_written)
        else {
            bail!(
                "the software GPU did not count; to mend it: unset SOFTWARE_GPU_CHECKS, or set it to `all`"
            );
        };
        let requests = |requests, sectors| Requests { requests, sectors };
        Ok(Kernel {
            image: format!("sm_{}", image.target),
            grid: record.config.grid,
            block: record.config.block,
            dynamic_shared_bytes: record.config.dynamic_shared,
            unique_bytes_read: read,
            unique_bytes_written: written,
            global_load: requests(counters.global_load_requests, counters.global_load_sectors),
            global_store: requests(
                counters.global_store_requests,
                counters.global_store_sectors,
            ),
            global_atomic: requests(
                counters.global_atomic_requests,
                counters.global_atomic_sectors,
            ),
            bytes_in_flight: InFlight {
                before_first_use: ratio(
                    counters.bytes_in_flight_before_first_use,
                    counters.loading_warps,
                ),
                at_waits: ratio(counters.bytes_in_flight_at_waits, counters.load_waits),
                most: counters.most_bytes_in_flight,
                waits: counters.load_waits,
            },
            shared: Shared {
                requests: counters.shared_requests,
                bank_conflicts: counters.shared_bank_conflicts,
            },
            warp_instructions: counters.warp_instructions,
            lane_instructions: counters.lane_instructions,
            instructions: InstructionClass::ALL
                .iter()
                .zip(counters.by_class)
                .map(|(class, count)| {
                    let per_element = ratio(count, elements);
                    (class.name(), Class { count, per_element })
                })
                .collect(),
            divergent_branches: counters.divergent_branches,
            barriers: counters.barriers,
            kernel: record.kernel,
        })
    }
}

/// 0 of 0 is 0: a problem without rows launches nothing and needs nothing.
fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            n_rows,
            n_cols,
            dtype,
            weight,
        } = &self.problem;
        let [major, minor] = self.compute_capability;
        let weight = weight.as_deref().unwrap_or("no");
        writeln!(
            f,
            "{n_rows} x {n_cols} {dtype}, {weight} weight and bias, on {} (compute capability {major}.{minor})",
            self.device
        )?;
        for pass in &self.passes {
            let Minimum {
                bytes_read,
                bytes_written,
            } = pass.minimum;
            writeln!(f, "\n{}", pass.pass)?;
            writeln!(
                f,
                "  needs     {bytes_read:>14} bytes read {bytes_written:>14} written"
            )?;
            let sum = |of: fn(&Kernel) -> u64| pass.kernels.iter().map(of).sum::<u64>();
            writeln!(
                f,
                "  touches   {:>14} bytes read {:>14} written: {:.4} times as many",
                sum(|kernel| kernel.unique_bytes_read),
                sum(|kernel| kernel.unique_bytes_written),
                pass.times_minimum
            )?;
            for kernel in &pass.kernels {
                write!(f, "{kernel}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kernel {
            kernel,
            image,
            grid: [gx, gy, gz],
            block: [bx, by, bz],
            dynamic_shared_bytes,
            ..
        } = self;
        writeln!(
            f,
            "  {kernel} of {image}: grid {gx} x {gy} x {gz}, block {bx} x {by} x {bz}, {dynamic_shared_bytes} bytes \
             of dynamic shared memory"
        )?;
        writeln!(
            f,
            "    unique    {:>14} bytes read {:>14} written",
            self.unique_bytes_read, self.unique_bytes_written
        )?;
        for (name, Requests { requests, sectors }, unique) in [
            ("loads", &self.global_load, Some(self.unique_bytes_read)),
            (
                "stores",
                &self.global_store,
                Some(self.unique_bytes_written),
            ),
            ("atomics", &self.global_atomic, None),
        ] {
            write!(
                f,
                "    {name:9} {requests:>14} requests {sectors:>16} sectors"
            )?;
            match unique {
                Some(unique) if *sectors > 0 => writeln!(
                    f,
                    ", {:.3} for each 32 unique bytes",
                    *sectors as f64 * 32.0 / unique.max(1) as f64
                )?,
                _ => writeln!(f)?,
            }
        }
        let InFlight {
            before_first_use,
            at_waits,
            most,
            waits,
        } = self.bytes_in_flight;
        writeln!(
            f,
            "    in flight {before_first_use:>14.0} bytes a warp before first use, {at_waits:.0} at each of \
             {waits} waits, {most} at most"
        )?;
        writeln!(
            f,
            "    shared    {:>14} requests {:>16} bank conflicts",
            self.shared.requests, self.shared.bank_conflicts
        )?;
        writeln!(
            f,
            "    control   {:>14} divergent branches, {} barriers",
            self.divergent_branches, self.barriers
        )?;
        writeln!(
            f,
            "    executed  {:>14} instructions of warps, {} of lanes; for each element:",
            self.warp_instructions, self.lane_instructions
        )?;
        write!(f, "             ")?;
        for (name, class) in &self.instructions {
            if class.count > 0 {
                write!(f, " {name} {:.3}", class.per_element)?;
            }
        }
        writeln!(f)
    }
}
