//! A launch's size against what the kernel and the device allow.

use crate::fault::{Fault, FaultKind, Site};
use crate::gpu::{Gpu, LaunchConfig};
use crate::module::Kernel;

/// Blocks of a cluster that every device with clusters takes; more need the kernel's opt-in.
const PORTABLE_CLUSTER: u32 = 8;
const MOST_CLUSTER: u32 = 16;

/// The cluster's size, or an error if the launch cannot be.
pub(super) fn check(
    gpu: &Gpu,
    kernel: &Kernel,
    config: &LaunchConfig,
    cluster: Option<[u32; 3]>,
    params: &[u8],
) -> Result<[u32; 3], Box<Fault>> {
    let model = gpu.model();
    let fail = |kind, detail: String| {
        Err(Box::new(Fault {
            kind,
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
            detail,
        }))
    };
    for (what, got, most) in [
        ("grid", config.grid, model.max_grid),
        ("block", config.block, model.max_block),
    ] {
        if (0..3).any(|axis| got[axis] == 0 || got[axis] > most[axis]) {
            let detail = format!("the {what} is {got:?}, allowed are 1 to {most:?}");
            return fail(FaultKind::InvalidLaunch, detail);
        }
    }
    // Cannot overflow: each is at most 1024.
    let threads: u32 = config.block.iter().product();
    if threads > model.max_threads_per_block {
        let most = model.max_threads_per_block;
        return fail(
            FaultKind::InvalidLaunch,
            format!("the block has {threads} threads, allowed are {most}"),
        );
    }
    if threads > kernel.max_threads() {
        let most = kernel.max_threads();
        let detail =
            format!("the block has {threads} threads, the kernel's `.maxntid` allows {most}");
        return fail(FaultKind::OutOfResources, detail);
    }
    if let Some(wanted) = kernel.required_block
        && wanted != config.block
    {
        let detail = format!(
            "the block is {:?}, the kernel's `.reqntid` asks for {wanted:?}",
            config.block
        );
        return fail(FaultKind::OutOfResources, detail);
    }
    let cluster = match cluster_size(kernel, config, cluster, model.compute_capability) {
        Ok(cluster) => cluster,
        Err((kind, detail)) => return fail(kind, detail),
    };
    let shared = u64::from(kernel.dynamic_start) + u64::from(config.dynamic_shared);
    let most = u64::from(kernel.max_shared(model));
    if shared > most {
        let detail = format!(
            "the block needs {shared} bytes of shared memory, {} of them dynamic; allowed are {most}",
            config.dynamic_shared
        );
        return fail(FaultKind::InvalidLaunch, detail);
    }
    let registers =
        u64::from(kernel.registers()).next_multiple_of(8) * u64::from(threads.next_multiple_of(32));
    if registers > model.registers_per_block.into() {
        let detail = format!(
            "the block needs {registers} registers, allowed are {}",
            model.registers_per_block
        );
        return fail(FaultKind::OutOfResources, detail);
    }
    if params.len() < kernel.param_bytes() as usize {
        let detail = format!(
            "{} bytes of parameters, the kernel has {}",
            params.len(),
            kernel.param_bytes()
        );
        return fail(FaultKind::ParameterBuffer, detail);
    }
    Ok(cluster)
}

/// The cluster's size, from the launch and the kernel.
fn cluster_size(
    kernel: &Kernel,
    config: &LaunchConfig,
    asked: Option<[u32; 3]>,
    (major, _): (u32, u32),
) -> Result<[u32; 3], (FaultKind, String)> {
    let required = kernel.required_cluster;
    let cluster = match (asked, required) {
        (Some(asked), Some(required)) if asked != required => {
            let detail = format!(
                "the cluster is {asked:?}, the kernel's `.reqnctapercluster` asks for {required:?}"
            );
            return Err((FaultKind::ClusterSize, detail));
        }
        (None, None) if kernel.explicit_cluster => {
            let detail = "the kernel is `.explicitcluster` and the launch names no cluster";
            return Err((FaultKind::ClusterSize, detail.into()));
        }
        (None, None) => return Ok([1; 3]),
        (Some(cluster), _) | (None, Some(cluster)) => cluster,
    };
    if major < 9 {
        let detail = format!("a cluster of {cluster:?}; devices before sm_90 have none");
        return Err((FaultKind::InvalidLaunch, detail));
    }
    let size = cluster.iter().fold(1, |a: u32, b| a.saturating_mul(*b));
    let allowed = if kernel.allows_non_portable_cluster() {
        MOST_CLUSTER
    } else {
        PORTABLE_CLUSTER
    };
    let allowed = allowed.min(kernel.max_cluster.unwrap_or(MOST_CLUSTER));
    if size == 0 || size > allowed {
        let detail = format!(
            "the cluster {cluster:?} has {size} blocks, allowed are 1 to {allowed}{}",
            if allowed == PORTABLE_CLUSTER {
                ", or 16 after setting CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED"
            } else {
                ""
            }
        );
        return Err((FaultKind::ClusterSize, detail));
    }
    if (0..3).any(|axis| !config.grid[axis].is_multiple_of(cluster[axis])) {
        let detail = format!(
            "the grid {:?} is no multiple of the cluster {cluster:?}",
            config.grid
        );
        return Err((FaultKind::InvalidLaunch, detail));
    }
    Ok(cluster)
}
