//! A launch's size against what the kernel and the device allow.

use crate::fault::{Fault, FaultKind, Site};
use crate::gpu::{Gpu, LaunchConfig};
use crate::module::Kernel;

/// An error if the launch cannot be.
pub(super) fn check(
    gpu: &Gpu,
    kernel: &Kernel,
    config: &LaunchConfig,
    params: &[u8],
) -> Result<(), Box<Fault>> {
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
    Ok(())
}
