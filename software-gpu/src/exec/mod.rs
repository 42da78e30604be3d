//! Running a kernel: the launch's limits, then its blocks.

use crate::counters::Counters;
use crate::fault::{Fault, FaultKind, Site};
use crate::gpu::{Gpu, LaunchConfig};
use crate::module::Kernel;

#[expect(
    clippy::result_large_err,
    reason = "a launch is a long call and a fault its end"
)]
pub(crate) fn launch(
    _gpu: &Gpu,
    kernel: &Kernel,
    _config: &LaunchConfig,
    _params: &[u8],
) -> Result<Counters, Fault> {
    Err(Fault {
        kind: FaultKind::InvalidLaunch,
        kernel: kernel.name.clone(),
        site: Site {
            line: 0,
            text: String::new(),
            block: [0; 3],
            thread: [0; 3],
        },
        other: None,
        address: None,
        allocation: None,
        detail: "no executor yet".into(),
    })
}
