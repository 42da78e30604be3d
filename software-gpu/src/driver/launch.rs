//! Launches: parameters packed by the kernel's own list, then the device runs the kernel to its end.
//!
//! A fault comes back from the launch itself, as on a real device under `CUDA_LAUNCH_BLOCKING=1`, and
//! again from every later call in the context.

use super::capture::submit_launch;
use super::context::Context;
use super::error::{Code, Outcome};
use super::ffi::bytes;
use super::function;
use super::overlap;
use super::record::{LaunchRecord, record};
use super::report;
use super::stream::to_work_in;
use crate::exec::Footprint;
use crate::{Kernel, LaunchConfig, Model};

/// `CU_LAUNCH_PARAM_*`, the markers of the `extra` list.
const END: usize = 0;
const BUFFER_POINTER: usize = 1;
const BUFFER_SIZE: usize = 2;

/// A launch that the driver refuses before the device sees it.
fn refuse(kernel: &Kernel, code: Code, why: &str) -> Code {
    let text = format!("launch of `{}` refused: {why}", kernel.name());
    report::say(&text);
    report::remember(text);
    code
}

/// The parameter buffer from a pointer for each parameter.
///
/// # Safety
/// `pointers` has an entry for each parameter, null or pointing to its value.
unsafe fn pack(kernel: &Kernel, pointers: *mut *mut u8) -> Outcome<Vec<u8>> {
    let mut buffer = vec![0; kernel.param_bytes() as usize];
    for (index, param) in kernel.params().iter().enumerate() {
        // SAFETY: the caller's promise.
        let value = unsafe { *pointers.add(index) };
        if value.is_null() {
            let why = format!("the pointer to parameter {index} is null");
            return Err(refuse(kernel, Code::INVALID_VALUE, &why));
        }
        let (start, size) = (param.offset as usize, param.size as usize);
        // SAFETY: not null, so it points to the parameter's value, which has its size.
        let value = unsafe { bytes(value, size) }?;
        buffer[start..start + size].copy_from_slice(value);
    }
    Ok(buffer)
}

/// The parameter buffer that an `extra` list holds.
///
/// # Safety
/// `extra` is as `cuLaunchKernel` has it.
unsafe fn unpack_extra(kernel: &Kernel, extra: *mut *mut u8) -> Outcome<Vec<u8>> {
    let (mut start, mut size) = (None, None);
    // Two pairs and the end is all that a list can say: no end by then is a list without one.
    for pair in 0..=2 {
        // SAFETY: no end marker came yet, so there is another entry.
        let marker = unsafe { *extra.add(2 * pair) };
        if marker.addr() == END {
            break;
        }
        // SAFETY: a marker other than the end has a value behind it.
        let value = unsafe { *extra.add(2 * pair + 1) };
        match marker.addr() {
            BUFFER_POINTER if start.is_none() => start = Some(value),
            BUFFER_SIZE if size.is_none() && !value.is_null() => {
                // SAFETY: not null, and so it points to the size.
                size = Some(unsafe { value.cast::<usize>().read_unaligned() });
            }
            _ => return Err(Code::INVALID_VALUE),
        }
    }
    let (Some(start), Some(size)) = (start, size) else {
        let why = "`extra` does not name both a parameter buffer and its size";
        return Err(refuse(kernel, Code::INVALID_VALUE, why));
    };
    let needed = kernel.param_bytes() as usize;
    if size < needed {
        let why = format!("the parameter buffer has {size} bytes, the kernel's list {needed}");
        return Err(refuse(kernel, Code::INVALID_VALUE, &why));
    }
    // SAFETY: the buffer has `size` bytes, and that is enough.
    Ok(unsafe { bytes(start, needed) }?.to_vec())
}

/// The parameter buffer from whichever of the two the caller gave.
///
/// # Safety
/// As `cuLaunchKernel` has them.
unsafe fn parameters(
    kernel: &Kernel,
    pointers: *mut *mut u8,
    extra: *mut *mut u8,
) -> Outcome<Vec<u8>> {
    match (pointers.is_null(), extra.is_null()) {
        _ if kernel.params().is_empty() => Ok(Vec::new()),
        // SAFETY: not null; the rest is the caller's promise.
        (false, true) => unsafe { pack(kernel, pointers) },
        // SAFETY: not null; the rest is the caller's promise.
        (true, false) => unsafe { unpack_extra(kernel, extra) },
        (true, true) => {
            let why = format!("it takes {} parameters and got none", kernel.params().len());
            Err(refuse(kernel, Code::INVALID_VALUE, &why))
        }
        (false, false) => {
            let why = "both `kernelParams` and `extra` are given; one is allowed";
            Err(refuse(kernel, Code::INVALID_VALUE, why))
        }
    }
}

fn check_shared(kernel: &Kernel, model: &Model, dynamic: u32) -> Outcome {
    let allowed = kernel.max_dynamic_shared(model);
    if dynamic <= allowed {
        return Ok(());
    }
    let why = format!(
        "{dynamic} bytes of dynamic shared memory asked for; allowed are {allowed}, or more after \
         setting CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"
    );
    Err(refuse(kernel, Code::INVALID_VALUE, &why))
}

#[expect(clippy::too_many_arguments, reason = "the driver API has as many")]
pub(super) unsafe fn cuLaunchKernel(
    handle: usize,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    stream: usize,
    pointers: *mut *mut u8,
    extra: *mut *mut u8,
) -> Outcome {
    let config = LaunchConfig {
        grid: [grid_x, grid_y, grid_z],
        block: [block_x, block_y, block_z],
        dynamic_shared: shared_bytes,
    };
    // SAFETY: passed on unchanged.
    unsafe { launch(handle, &config, None, false, stream, pointers, extra) }
}

/// A launch, in clusters of a size if that is said; `overlaps` the launch before on its stream, which then may still run
/// when it begins.
///
/// # Safety
/// As for `cuLaunchKernel`.
unsafe fn launch(
    handle: usize,
    config: &LaunchConfig,
    cluster: Option<[u32; 3]>,
    overlaps: bool,
    stream: usize,
    pointers: *mut *mut u8,
    extra: *mut *mut u8,
) -> Outcome {
    let context = to_work_in(stream)?;
    let function = function::well(handle)?;
    if function.context != context.handle {
        return Err(Code::INVALID_HANDLE);
    }
    let kernel = &function.kernel;
    let model = context.device().gpu.model();
    check_shared(kernel, model, config.dynamic_shared)?;
    // SAFETY: the caller passes what the driver API asks for.
    let params = unsafe { parameters(kernel, pointers, extra) }?;
    let config = *config;
    submit_launch(stream, move || {
        // Looked up again: a graph may outlive the kernel's module.
        let kernel = &function::well(handle)?.kernel;
        let before = overlap::take(&context, stream).filter(|_| overlaps);
        let touched = run(&context, kernel, &config, cluster, before.as_ref(), &params)?;
        overlap::keep(&context, stream, touched);
        Ok(())
    })
}

/// Runs a launch to its end, and the context ends with a fault of it.
fn run(
    context: &Context,
    kernel: &Kernel,
    config: &LaunchConfig,
    cluster: Option<[u32; 3]>,
    before: Option<&Footprint>,
    params: &[u8],
) -> Outcome<Footprint> {
    let launched = context.device().run(|gpu| {
        gpu.launch_behind(kernel, config, cluster, before, params)
            .map_err(Box::new)
    });
    let fault = match launched {
        Ok((counters, touched)) => {
            record(|| LaunchRecord {
                kernel: kernel.name().to_owned(),
                device: context.device().ordinal,
                config: *config,
                counters,
            });
            return Ok(touched);
        }
        Err(fault) => fault,
    };
    let (code, words) = (Code::from(&*fault), fault.to_string());
    if fault.kind.is_sticky() {
        context.lose(code, &words);
    }
    report::say(&words);
    report::remember(words);
    Err(code)
}

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ExtendedConfig {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: usize,
    attributes: *const Attribute,
    n_attributes: u32,
}

/// `CUlaunchAttribute`: what it is, and a value of up to 64 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attribute {
    id: u32,
    padding: u32,
    value: [u64; 8],
}

const _: () = assert!(size_of::<ExtendedConfig>() == 56 && size_of::<Attribute>() == 72);

/// Attributes that change nothing where work is done at its call: none, cache hints, synchronisation
/// policy, how clusters are scheduled, priority, memory domains.
const HINTS: [u32; 8] = [0, 1, 3, 5, 8, 9, 10, 14];

/// The attribute with a cluster's blocks along x, y and z.
const CLUSTER_DIMENSION: u32 = 4;

/// The attribute by which a launch may begin before the one before it on its stream has ended.
const PROGRAMMATIC_STREAM_SERIALIZATION: u32 = 6;

pub(super) unsafe fn cuLaunchKernelEx(
    config: *const u8,
    handle: usize,
    pointers: *mut *mut u8,
    extra: *mut *mut u8,
) -> Outcome {
    if config.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: not null, and so a `CUlaunchConfig` by the driver API's contract.
    let config = unsafe { config.cast::<ExtendedConfig>().read_unaligned() };
    if config.n_attributes > 0 && config.attributes.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    let (mut cluster, mut overlaps) = (None, false);
    for index in 0..config.n_attributes as usize {
        // SAFETY: the list has `n_attributes` entries, by the driver API's contract.
        let attribute = unsafe { config.attributes.add(index).read_unaligned() };
        if attribute.id == CLUSTER_DIMENSION {
            let [xy, z, ..] = attribute.value;
            cluster = Some([xy as u32, (xy >> 32) as u32, z as u32]);
        } else if attribute.id == PROGRAMMATIC_STREAM_SERIALIZATION {
            overlaps = attribute.value[0] as u32 != 0;
        } else if !HINTS.contains(&attribute.id) {
            report::say(&format!(
                "launch attribute {} is not supported",
                attribute.id
            ));
            return Err(Code::NOT_SUPPORTED);
        }
    }
    let launch_config = LaunchConfig {
        grid: config.grid,
        block: config.block,
        dynamic_shared: config.shared_bytes,
    };
    // SAFETY: passed on unchanged.
    unsafe {
        launch(
            handle,
            &launch_config,
            cluster,
            overlaps,
            config.stream,
            pointers,
            extra,
        )
    }
}
