//! Running a kernel: the launch against the limits, then its blocks.

mod access;
mod adversary;
mod block;
mod cluster;
mod copies;
mod flight;
mod footprint;
mod global;
mod host;
mod lanes;
mod launch;
mod limits;
mod mbarrier;
mod order;
mod room;
mod scalar;
mod shadow;
mod step;
mod tally;
mod together;
mod trace;
mod trouble;
mod warp;

pub(crate) use footprint::Footprint;

use crate::counters::Counters;
use crate::fault::Fault;
use crate::gpu::{Gpu, LaunchConfig};
use crate::module::Kernel;

/// Runs a kernel to its end; `before` is of a launch that may still run when it begins. Without the check of races what
/// it touched is not known.
pub(crate) fn launch(
    gpu: &Gpu,
    kernel: &Kernel,
    config: &LaunchConfig,
    cluster: Option<[u32; 3]>,
    before: Option<&Footprint>,
    params: &[u8],
) -> Result<(Counters, Footprint), Box<Fault>> {
    let cluster = limits::check(gpu, kernel, config, cluster, params)?;
    launch::Launch::new(gpu, kernel, config, cluster, before, params).run()
}
