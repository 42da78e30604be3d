//! `cuGetProcAddress`: entry points by name, as clients of the newer runtimes find them.

use super::entry::find;
use super::error::{Code, Outcome};
use super::ffi::{put, put_if_wanted, str_of};

/// Names without a number stand for the newest form that a client of that CUDA version knows. Where
/// that changed after CUDA 3.2, the versions that it changed at.
const CHANGED: &[(&str, &[(i32, &str)])] = &[
    (
        "cuCtxCreate",
        &[
            (13000, "cuCtxCreate_v4"),
            (11040, "cuCtxCreate_v3"),
            (0, "cuCtxCreate_v2"),
        ],
    ),
    (
        "cuGetProcAddress",
        &[(12000, "cuGetProcAddress_v2"), (0, "cuGetProcAddress")],
    ),
    (
        "cuGraphInstantiate",
        &[
            (12000, "cuGraphInstantiateWithFlags"),
            (0, "cuGraphInstantiate_v2"),
        ],
    ),
    (
        "cuStreamGetCaptureInfo",
        &[
            (11030, "cuStreamGetCaptureInfo_v2"),
            (0, "cuStreamGetCaptureInfo"),
        ],
    ),
    (
        "cuMemPrefetchAsync",
        &[(13000, "cuMemPrefetchAsync_v2"), (0, "cuMemPrefetchAsync")],
    ),
    (
        "cuMemAdvise",
        &[(13000, "cuMemAdvise_v2"), (0, "cuMemAdvise")],
    ),
    (
        "cuEventElapsedTime",
        &[(12080, "cuEventElapsedTime_v2"), (0, "cuEventElapsedTime")],
    ),
    (
        "cuDeviceGetUuid",
        &[(11040, "cuDeviceGetUuid_v2"), (0, "cuDeviceGetUuid")],
    ),
];

/// The entry point of a name with or without its number, for a client of that CUDA version.
fn resolve(name: &str, version: i32) -> Option<*const u8> {
    if let Some((_, forms)) = CHANGED.iter().find(|(base, _)| *base == name) {
        let form = forms.iter().find(|(since, _)| version >= *since);
        return form.and_then(|(_, name)| find(name));
    }
    find(name).or_else(|| find(&format!("{name}_v2")))
}

pub(super) unsafe fn cuGetProcAddress(
    name: *const u8,
    out: *mut *mut u8,
    version: i32,
    flags: u64,
) -> Outcome {
    // SAFETY: passed on unchanged.
    unsafe { cuGetProcAddress_v2(name, out, version, flags, std::ptr::null_mut()) }
}

pub(super) unsafe fn cuGetProcAddress_v2(
    name: *const u8,
    out: *mut *mut u8,
    version: i32,
    flags: u64,
    status: *mut u32,
) -> Outcome {
    // SAFETY: null or a C string, by the driver API's contract.
    let name = unsafe { str_of(name) }?;
    if flags > 2 || name.is_empty() {
        return Err(Code::INVALID_VALUE);
    }
    let found = resolve(name, version);
    // SAFETY: null or writable, by the driver API's contract.
    unsafe {
        put(out, found.unwrap_or(std::ptr::null()).cast_mut())?;
        // CU_GET_PROC_ADDRESS_SUCCESS or CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND.
        put_if_wanted(status, if found.is_some() { 0 } else { 1 });
    }
    found.map(drop).ok_or(Code::NOT_FOUND)
}
