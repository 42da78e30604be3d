//! The driver API's own rules, called as C calls them: contexts and their stack, handles of the wrong
//! owner, copies with pitches, pointers of either side, entry points by name.

use std::ptr::{null, null_mut};

use super::entry::*;
use super::error::Code;

const OK: u32 = 0;
const INVALID_VALUE: u32 = Code::INVALID_VALUE.0;
const INVALID_HANDLE: u32 = Code::INVALID_HANDLE.0;
const INVALID_CONTEXT: u32 = Code::INVALID_CONTEXT.0;

/// A context for one test, current in its thread.
pub(super) struct TestContext(usize);

impl TestContext {
    pub fn new() -> TestContext {
        let mut handle = 0;
        // SAFETY: `handle` is writable.
        unsafe {
            assert_eq!(cuInit(0), OK);
            assert_eq!(cuCtxCreate_v2(&mut handle, 0, 0), OK);
        }
        TestContext(handle)
    }

    pub fn handle(&self) -> usize {
        self.0
    }
}

impl Drop for TestContext {
    fn drop(&mut self) {
        // SAFETY: no pointer is passed.
        unsafe { cuCtxDestroy_v2(self.0) };
    }
}

fn current() -> usize {
    let mut handle = usize::MAX;
    // SAFETY: `handle` is writable.
    assert_eq!(unsafe { cuCtxGetCurrent(&mut handle) }, OK);
    handle
}

pub(super) fn alloc(bytes: usize) -> u64 {
    let mut address = 0;
    // SAFETY: `address` is writable.
    assert_eq!(unsafe { cuMemAlloc_v2(&mut address, bytes) }, OK);
    address
}

pub(super) fn read(address: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    // SAFETY: `out` has that many bytes.
    let code = unsafe { cuMemcpyDtoH_v2(out.as_mut_ptr(), address, bytes) };
    assert_eq!(code, OK);
    out
}

#[test]
fn contexts_stack() {
    let first = TestContext::new();
    let second = TestContext::new();
    assert_eq!(current(), second.0);
    let mut popped = 0;
    // SAFETY: `popped` is writable.
    unsafe {
        assert_eq!(cuCtxPopCurrent_v2(&mut popped), OK);
        assert_eq!((popped, current()), (second.0, first.0));
        assert_eq!(cuCtxPushCurrent_v2(second.0), OK);
        assert_eq!(cuCtxSetCurrent(first.0), OK);
        assert_eq!(current(), first.0);
        assert_eq!(cuCtxSetCurrent(0), OK);
        assert_eq!(current(), first.0, "the one below comes up");
        assert_eq!(cuCtxPopCurrent_v2(null_mut()), OK);
        assert_eq!(cuCtxPopCurrent_v2(null_mut()), INVALID_CONTEXT);
        assert_eq!(cuCtxSynchronize(), INVALID_CONTEXT);
    }
}

#[test]
fn a_destroyed_context_takes_its_memory_and_handles_along() {
    let context = TestContext::new();
    let address = alloc(64);
    let (mut stream, mut event) = (0, 0);
    // SAFETY: the results are writable.
    unsafe {
        assert_eq!(cuStreamCreate(&mut stream, 0), OK);
        assert_eq!(cuEventCreate(&mut event, 0), OK);
        assert_eq!(cuCtxPushCurrent_v2(context.0), OK);
        assert_eq!(cuCtxDestroy_v2(context.0), OK);
        // It is still below on the stack.
        assert_eq!(cuCtxSynchronize(), Code::CONTEXT_IS_DESTROYED.0);
        let _other = TestContext::new();
        assert_eq!(cuStreamSynchronize(stream), INVALID_HANDLE);
        assert_eq!(cuEventQuery(event), INVALID_HANDLE);
        assert_eq!(cuMemFree_v2(address), INVALID_VALUE);
    }
}

#[test]
fn streams_and_events_of_another_context_are_refused() {
    let first = TestContext::new();
    let (mut stream, mut event) = (0, 0);
    let address = alloc(4);
    // SAFETY: the results are writable.
    unsafe {
        assert_eq!(cuStreamCreate(&mut stream, 1), OK);
        let _second = TestContext::new();
        assert_eq!(cuEventCreate(&mut event, 0), OK);
        assert_eq!(cuEventRecord(event, stream), INVALID_HANDLE);
        assert_eq!(cuMemsetD8Async(address, 1, 4, stream), INVALID_HANDLE);
        let mut owner = 0;
        assert_eq!(cuStreamGetCtx(stream, &mut owner), OK);
        assert_eq!(owner, first.0);
        assert_eq!(cuStreamWaitEvent(stream, event, 0), OK);
    }
}

#[test]
fn events_tell_time_only_where_they_are_asked_to() {
    let _context = TestContext::new();
    let (mut timed, mut untimed, mut ms) = (0, 0, 0.0);
    // SAFETY: the results are writable.
    unsafe {
        assert_eq!(cuEventCreate(&mut timed, 0), OK);
        assert_eq!(cuEventCreate(&mut untimed, 2), OK);
        assert_eq!(cuEventQuery(timed), OK, "never recorded counts as done");
        assert_eq!(cuEventElapsedTime(&mut ms, timed, timed), INVALID_HANDLE);
        assert_eq!(cuEventRecord(timed, 0), OK);
        assert_eq!(cuEventRecord(untimed, 0), OK);
        assert_eq!(cuEventElapsedTime(&mut ms, timed, timed), OK);
        assert_eq!(ms, 0.0);
        assert_eq!(cuEventElapsedTime(&mut ms, timed, untimed), INVALID_HANDLE);
        assert_eq!(cuEventCreate(&mut timed, 64), INVALID_VALUE);
    }
}

#[test]
fn rows_are_filled_and_copied_by_their_pitch() {
    let _context = TestContext::new();
    let (mut address, mut pitch) = (0, 0);
    // SAFETY: the results are writable.
    unsafe {
        assert_eq!(cuMemAllocPitch_v2(&mut address, &mut pitch, 100, 3, 4), OK);
        assert_eq!(pitch, 512);
        assert_eq!(cuMemsetD8_v2(address, 0, 3 * pitch), OK);
        assert_eq!(cuMemsetD2D16_v2(address, pitch, 0x0201, 2, 3), OK);
        assert_eq!(cuMemsetD2D16_v2(address, 3, 0x0201, 2, 3), INVALID_VALUE);
    }
    assert_eq!(read(address + 512, 6), [1, 2, 1, 2, 0, 0]);

    let mut host = [9_u8; 12];
    // CUDA_MEMCPY2D: x, y, type, host, device, array and pitch of each end, then width and height.
    let copy: [u64; 16] = [
        1,
        1,
        2,
        0,
        address,
        0,
        512,
        0,
        0,
        1,
        host.as_mut_ptr().expose_provenance() as u64,
        0,
        0,
        4,
        3,
        2,
    ];
    // SAFETY: it describes 2 rows of 3 bytes, from an allocation of 3 rows to `host`, of 3 of 4 bytes.
    unsafe {
        assert_eq!(cuMemcpy2D_v2(copy.as_ptr().cast()), OK);
        assert_eq!(host, [2, 1, 2, 9, 2, 1, 2, 9, 9, 9, 9, 9]);
        let mut too_wide = copy;
        too_wide[14] = 5;
        assert_eq!(cuMemcpy2D_v2(too_wide.as_ptr().cast()), INVALID_VALUE);
        assert_eq!(cuMemcpy2D_v2(null()), INVALID_VALUE);
    }
}

#[test]
fn one_copy_serves_host_and_device() {
    let _context = TestContext::new();
    let address = alloc(8);
    let data = *b"unified!";
    let mut back = [0; 8];
    // SAFETY: all ends have 8 bytes.
    unsafe {
        assert_eq!(
            cuMemcpy(address, data.as_ptr().expose_provenance() as u64, 8),
            OK
        );
        let to = back.as_mut_ptr().expose_provenance() as u64;
        assert_eq!(cuMemcpy(to, address, 8), OK);
        assert_eq!(back, data);
        assert_eq!(cuMemcpy(address, address + 4, 8), INVALID_VALUE);
        assert_eq!(cuMemFree_v2(address), OK);
        assert_eq!(
            cuMemcpy(to, address, 8),
            INVALID_VALUE,
            "freed, and not taken for the host's"
        );
        assert_eq!(cuMemcpyHtoD_v2(to, address as *const u8, 8), INVALID_VALUE);
    }
}

#[test]
fn pointers_tell_whose_they_are() {
    let _context = TestContext::new();
    let address = alloc(100);
    let (mut kind, mut base, mut size, mut host) = (0_u32, 0_u64, 0_usize, null_mut());
    // SAFETY: the results are writable for their attributes.
    unsafe {
        assert_eq!(
            cuPointerGetAttribute((&raw mut kind).cast(), 2, address + 9),
            OK
        );
        assert_eq!(kind, 2);
        assert_eq!(
            cuMemGetAddressRange_v2(&mut base, &mut size, address + 99),
            OK
        );
        assert_eq!((base, size), (address, 100));
        assert_eq!(cuMemAllocHost_v2(&mut host, 64), OK);
        let host_address = host.expose_provenance() as u64;
        assert_eq!(
            cuPointerGetAttribute((&raw mut kind).cast(), 2, host_address + 1),
            OK
        );
        assert_eq!(kind, 1);
        let unknown = (&raw const size).addr() as u64;
        let attribute = cuPointerGetAttribute((&raw mut kind).cast(), 2, unknown);
        assert_eq!(attribute, INVALID_VALUE);
        let (mut ordinal, mut attributes) = (0_i32, [2_u32, 9]);
        let mut outs = [(&raw mut kind).cast::<u8>(), (&raw mut ordinal).cast()];
        let all = cuPointerGetAttributes(2, attributes.as_mut_ptr(), outs.as_mut_ptr(), unknown);
        assert_eq!((all, kind, ordinal), (OK, 0, -2));
        assert_eq!(cuMemFreeHost(host), OK);
        assert_eq!(cuMemFreeHost(host), INVALID_VALUE);
    }
}

#[test]
fn host_memory_is_registered_once() {
    let _context = TestContext::new();
    let mut page = [0_u8; 256];
    let start = page.as_mut_ptr();
    // SAFETY: the ranges are inside `page`.
    unsafe {
        assert_eq!(cuMemHostRegister_v2(start, 128, 0), OK);
        let overlap = cuMemHostRegister_v2(start.add(64), 128, 0);
        assert_eq!(overlap, Code::HOST_MEMORY_ALREADY_REGISTERED.0);
        assert_eq!(
            cuMemFreeHost(start),
            INVALID_VALUE,
            "registered, not allocated"
        );
        assert_eq!(cuMemHostUnregister(start), OK);
        let again = cuMemHostUnregister(start);
        assert_eq!(again, Code::HOST_MEMORY_NOT_REGISTERED.0);
    }
}

#[test]
fn entry_points_are_found_by_name() {
    let find = |name: &[u8], version| {
        let (mut found, mut status) = (null_mut(), 9);
        let name = name.as_ptr();
        // SAFETY: the name ends in a zero, the results are writable.
        let code = unsafe { cuGetProcAddress_v2(name, &mut found, version, 0, &mut status) };
        (code, found.cast_const().cast::<()>(), status)
    };
    let alloc = find(b"cuMemAlloc\0", 12080);
    assert_eq!(alloc, (OK, cuMemAlloc_v2 as *const (), 0));
    assert_eq!(find(b"cuCtxCreate\0", 10000).1, cuCtxCreate_v2 as *const ());
    assert_eq!(find(b"cuCtxCreate\0", 12000).1, cuCtxCreate_v3 as *const ());
    assert_eq!(find(b"cuInit\0", 12000).1, cuInit as *const ());
    assert_eq!(find(b"cuNothing\0", 12000), (Code::NOT_FOUND.0, null(), 1));
}

#[test]
fn errors_have_names() {
    let mut text = null();
    // SAFETY: `text` is writable; a text that comes back ends in a zero.
    unsafe {
        assert_eq!(cuGetErrorName(700, &mut text), OK);
        let name = std::ffi::CStr::from_ptr(text.cast());
        assert_eq!(name.to_str(), Ok("CUDA_ERROR_ILLEGAL_ADDRESS"));
        assert_eq!(cuGetErrorString(12345, &mut text), INVALID_VALUE);
        assert!(text.is_null());
    }
}

#[test]
fn no_panic_leaves_an_entry_point() {
    let code = super::ffi::guard("cuTest", || panic!("broken {}", 1));
    assert_eq!(code, Code::UNKNOWN.0);
    let words = super::last_fault().unwrap();
    assert!(
        words.contains("cuTest") && words.contains("broken 1"),
        "{words}"
    );
}

#[test]
fn clusters_by_the_launch_and_by_the_kernel() {
    const TEXT: &str = ".version 8.0\n.target sm_90\n.address_size 64\n\
        .visible .entry free()\n{\n\tret;\n}\n\
        .visible .entry fixed() .explicitcluster .reqnctapercluster 2, 1, 1\n{\n\tret;\n}\n\0";
    let _context = TestContext::new();
    let (mut module, mut free, mut fixed) = (0, 0, 0);
    let function = |out: &mut usize, module, name: &std::ffi::CStr| {
        // SAFETY: the name ends in a zero.
        let code = unsafe { cuModuleGetFunction(out, module, name.as_ptr().cast()) };
        assert_eq!(code, OK);
    };
    // SAFETY: the text ends in a zero.
    let code = unsafe { cuModuleLoadData(&mut module, TEXT.as_ptr()) };
    assert_eq!(code, OK);
    function(&mut free, module, c"free");
    function(&mut fixed, module, c"fixed");
    // A `CUlaunchConfig`, whose attribute is a cluster of `size` blocks along x.
    let launch = |function: usize, blocks: u32, size: u32| {
        let attribute = [4u64, 1 << 32 | u64::from(size), 1, 0, 0, 0, 0, 0, 0];
        let dimensions = [blocks, 1, 1, 32, 1, 1, 0, 0];
        let mut config = [0u8; 56];
        for (at, value) in dimensions.iter().enumerate() {
            config[4 * at..][..4].copy_from_slice(&value.to_le_bytes());
        }
        config[40..48].copy_from_slice(&attribute.as_ptr().addr().to_le_bytes());
        config[48] = 1;
        // SAFETY: the configuration is as the driver API has it, and the kernel has no parameters.
        unsafe { cuLaunchKernelEx(config.as_ptr(), function, null_mut(), null_mut()) }
    };
    assert_eq!(launch(free, 8, 4), OK);
    assert_eq!(launch(free, 8, 3), INVALID_VALUE, "8 is no multiple of 3");
    assert_eq!(launch(free, 16, 16), Code::INVALID_CLUSTER_SIZE.0);
    assert_eq!(launch(fixed, 8, 2), OK);
    assert_eq!(launch(fixed, 8, 4), Code::INVALID_CLUSTER_SIZE.0);
    // SAFETY: no pointers but the configuration's.
    unsafe {
        let plain =
            |blocks| cuLaunchKernel(fixed, blocks, 1, 1, 32, 1, 1, 0, 0, null_mut(), null_mut());
        assert_eq!(plain(8), OK);
        assert_eq!(plain(7), INVALID_VALUE);
        let mut width = 0;
        assert_eq!(cuFuncGetAttribute(&mut width, 11, fixed), OK);
        assert_eq!(width, 2);
        assert_eq!(cuFuncSetAttribute(free, 14, 1), OK);
    }
    assert_eq!(launch(free, 16, 16), OK);
}
