//! Running a kernel: the launch against the limits, then its blocks.

mod access;
mod adversary;
mod block;
mod cluster;
mod copies;
mod flight;
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

use crate::counters::Counters;
use crate::fault::Fault;
use crate::gpu::{Gpu, LaunchConfig};
use crate::module::Kernel;

/// Runs a kernel to its end.
pub(crate) fn launch(
    gpu: &Gpu,
    kernel: &Kernel,
    config: &LaunchConfig,
    cluster: Option<[u32; 3]>,
    params: &[u8],
) -> Result<Counters, Box<Fault>> {
    let cluster = limits::check(gpu, kernel, config, cluster, params)?;
    launch::Launch::new(gpu, kernel, config, cluster, params).run()
}
