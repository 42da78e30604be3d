//! Modules and launches through cust: what works, and what the driver refuses without losing the
//! context. `LAYERNORM_DRIVER=nvidia` runs these on a real GPU.

use std::ffi::{CString, c_void};
use std::ptr::null_mut;

use cuda_driver::Backend;
use cust::context::Context;
use cust::error::CudaError;
use cust::function::FunctionAttribute;
use cust::launch;
use cust::memory::{CopyDestination, DeviceBuffer};
use cust::module::Module;
use cust::stream::{Stream, StreamFlags};
use cust::sys::{self, CUresult};

const KERNELS: &str = include_str!("ptx/kernels.ptx");

fn start() -> (Context, Module, Stream) {
    // The software device, unless the environment asks for another driver to be tested.
    if std::env::var_os(cuda_driver::SETTING).is_none() {
        cuda_driver::choose(Backend::Software).expect("nothing chose a driver before");
    }
    let context = cust::quick_init().expect("the software device starts");
    let module = Module::from_ptx(KERNELS, &[]).expect("the kernels load");
    let stream = Stream::new(StreamFlags::NON_BLOCKING, None).unwrap();
    (context, module, stream)
}

#[test]
fn a_kernel_adds_vectors() {
    let (_context, module, stream) = start();
    let n = 1000_u32;
    let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let y: Vec<f32> = (0..n).map(|i| 0.5 * i as f32).collect();
    let (x_there, y_there) = (
        DeviceBuffer::from_slice(&x).unwrap(),
        DeviceBuffer::from_slice(&y).unwrap(),
    );
    let z_there = DeviceBuffer::from_slice(&vec![f32::NAN; n as usize]).unwrap();
    let add = module.get_function("vector_add").unwrap();
    let (blocks, threads) = (n.div_ceil(128), 128);
    // SAFETY: the parameters are the kernel's, and the buffers have n elements.
    unsafe {
        launch!(add<<<blocks, threads, 0, stream>>>(
            x_there.as_device_ptr(),
            y_there.as_device_ptr(),
            z_there.as_device_ptr(),
            n
        ))
    }
    .unwrap();
    stream.synchronize().unwrap();
    let z = z_there.as_host_vec().unwrap();
    assert!((0..n as usize).all(|i| z[i] == x[i] + y[i]), "{z:?}");
}

#[test]
fn names_that_are_not_there_are_not_found() {
    let (_context, module, _stream) = start();
    assert_eq!(
        module.get_function("absent").err(),
        Some(CudaError::NotFound)
    );
    let absent = CString::new("absent").unwrap();
    assert_eq!(
        module.get_global::<u32>(&absent).err(),
        Some(CudaError::NotFound)
    );
}

#[test]
fn a_modules_variable_can_be_read_and_written() {
    let (_context, module, _stream) = start();
    let name = CString::new("counter").unwrap();
    let mut counter = module.get_global::<u32>(&name).unwrap();
    let mut value = 0;
    counter.copy_to(&mut value).unwrap();
    assert_eq!(value, 5);
    counter.copy_from(&6).unwrap();
    counter.copy_to(&mut value).unwrap();
    assert_eq!(value, 6);
}

/// A log buffer filled with something that is no log.
fn load_with_log(image: &[u8], size: usize) -> (CUresult, String, usize) {
    let mut log = vec![b'#'; size];
    let mut options = [
        sys::CUjit_option_enum::CU_JIT_ERROR_LOG_BUFFER,
        sys::CUjit_option_enum::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ];
    let mut values: [*mut c_void; 2] = [
        log.as_mut_ptr().cast(),
        std::ptr::without_provenance_mut(size),
    ];
    let mut module = null_mut();
    // SAFETY: the image ends in a zero, the lists have two entries, the buffer has its size.
    let code = unsafe {
        sys::cuModuleLoadDataEx(
            &mut module,
            image.as_ptr().cast(),
            2,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(0);
    let text = String::from_utf8(log[..end].to_vec()).unwrap();
    (code, text, values[1].addr())
}

#[test]
fn the_jits_log_names_the_line() {
    let (_context, _module, _stream) = start();
    let broken = KERNELS.replace("add.f32 %f3, %f1, %f2;", "addd.f32 %f3, %f1, %f2;");
    let line = 1 + broken
        .lines()
        .position(|line| line.contains("addd"))
        .unwrap();
    let image = CString::new(broken).unwrap();
    let (code, log, written) = load_with_log(image.as_bytes_with_nul(), 4096);
    assert_eq!(code, CUresult::CUDA_ERROR_INVALID_PTX);
    assert!(
        log.contains(&format!("line {line}")) && log.contains("addd"),
        "{log}"
    );
    assert_eq!(written, log.len());

    let (code, cut, written) = load_with_log(image.as_bytes_with_nul(), 8);
    assert_eq!(code, CUresult::CUDA_ERROR_INVALID_PTX);
    assert_eq!((cut.as_str(), written), (&log[..7], 8));
}

#[test]
fn images_that_are_not_ptx_are_refused() {
    let (_context, _module, _stream) = start();
    let (code, ..) = load_with_log(b"\0", 4096);
    assert_eq!(code, CUresult::CUDA_ERROR_INVALID_IMAGE);
    let newer = CString::new(KERNELS.replace(".version 6.3", ".version 99.0")).unwrap();
    let (code, log, _) = load_with_log(newer.as_bytes_with_nul(), 4096);
    assert_eq!(code, CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    assert!(
        log.contains("line ") && log.contains("PTX version 99.0"),
        "{log}"
    );
    let line = 1 + KERNELS
        .lines()
        .position(|line| line.starts_with(".target"))
        .unwrap();
    let other = CString::new(KERNELS.replace(".target sm_75", ".target sm_120")).unwrap();
    let (code, log, _) = load_with_log(other.as_bytes_with_nul(), 4096);
    assert_eq!(code, CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    assert!(
        log.contains(&format!("line {line}")) && log.contains("target sm_120"),
        "{log}"
    );
    let malformed = CString::new(KERNELS.replacen("ret;", "ret", 1)).unwrap();
    let (code, log, _) = load_with_log(malformed.as_bytes_with_nul(), 4096);
    assert_eq!(code, CUresult::CUDA_ERROR_INVALID_PTX);
    assert!(log.contains("line ") && log.contains("expected"), "{log}");
    let missing = Module::from_file("/no/such/module.ptx");
    assert_eq!(missing.err(), Some(CudaError::FileNotFound));
}

/// Launches with a raw grid, block, shared size and parameters.
fn raw_launch(
    function: sys::CUfunction,
    [grid, block, shared]: [u32; 3],
    stream: sys::CUstream,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> CUresult {
    // SAFETY: each test passes lists of the form that the driver API has, or null.
    unsafe {
        sys::cuLaunchKernel(
            function, grid, 1, 1, block, 1, 1, shared, stream, params, extra,
        )
    }
}

#[test]
fn parameters_come_in_a_buffer_too() {
    let (_context, module, _stream) = start();
    let there = DeviceBuffer::from_slice(&[0_u32]).unwrap();
    let poke = module.get_function("poke").unwrap().to_raw();
    let mut buffer = [0_u8; 16];
    buffer[..8].copy_from_slice(&there.as_device_ptr().as_raw().to_le_bytes());
    buffer[8..12].copy_from_slice(&77_u32.to_le_bytes());
    let mut with = |mut size: usize| {
        let mut extra: [*mut c_void; 5] = [
            std::ptr::without_provenance_mut(1),
            buffer.as_mut_ptr().cast(),
            std::ptr::without_provenance_mut(2),
            (&raw mut size).cast(),
            null_mut(),
        ];
        raw_launch(poke, [1, 1, 0], null_mut(), null_mut(), extra.as_mut_ptr())
    };
    assert_eq!(with(12), CUresult::CUDA_SUCCESS);
    assert_eq!(there.as_host_vec().unwrap(), [77]);
    assert_eq!(with(16), CUresult::CUDA_SUCCESS);
    let none = raw_launch(poke, [1, 1, 0], null_mut(), null_mut(), null_mut());
    assert_eq!(none, CUresult::CUDA_ERROR_INVALID_VALUE);
    let mut one_is_null: [*mut c_void; 2] = [buffer.as_mut_ptr().cast(), null_mut()];
    let got = raw_launch(
        poke,
        [1, 1, 0],
        null_mut(),
        one_is_null.as_mut_ptr(),
        null_mut(),
    );
    assert_eq!(got, CUresult::CUDA_ERROR_INVALID_VALUE);
}

#[test]
fn a_launch_that_is_refused_does_not_lose_the_context() {
    let (_context, module, stream) = start();
    let stop = module.get_function("stop").unwrap().to_raw();
    let launch = |shape| raw_launch(stop, shape, null_mut(), null_mut(), null_mut());
    for shape in [[0, 1, 0], [1, 0, 0], [1, 1025, 0], [1, 1, 48 * 1024 + 1]] {
        assert_eq!(
            launch(shape),
            CUresult::CUDA_ERROR_INVALID_VALUE,
            "{shape:?}"
        );
    }
    let shared = module.get_function("through_shared").unwrap();
    let there = DeviceBuffer::from_slice(&[0_u32; 256]).unwrap();
    // SAFETY: the parameters are the kernel's; it is not run, for it has at most 128 threads.
    let too_many = unsafe { launch!(shared<<<1, 256, 1024, stream>>>(there.as_device_ptr())) };
    assert!(
        matches!(
            too_many,
            Err(CudaError::InvalidValue | CudaError::LaunchOutOfResources)
        ),
        "{too_many:?}"
    );
    stream.synchronize().expect("the context is well");
    assert_eq!(there.as_host_vec().unwrap(), [0; 256]);
}

#[test]
fn shared_memory_beyond_48_kib_has_to_be_opted_into() {
    let (_context, module, stream) = start();
    let function = module.get_function("through_shared").unwrap();
    let there = DeviceBuffer::from_slice(&[u32::MAX; 128]).unwrap();
    let big = 100 << 10;
    // SAFETY: the parameters are the kernel's, and the buffer has an element a thread.
    let launch = || unsafe { launch!(function<<<1, 128, big, stream>>>(there.as_device_ptr())) };
    assert_eq!(launch(), Err(CudaError::InvalidValue));
    let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    let opt_in = |bytes| {
        // SAFETY: the function is loaded.
        unsafe { sys::cuFuncSetAttribute(function.to_raw(), attribute, bytes) }
    };
    assert_eq!(opt_in(228 << 10), CUresult::CUDA_ERROR_INVALID_VALUE);
    assert_eq!(opt_in(big as i32), CUresult::CUDA_SUCCESS);
    assert_eq!(launch(), Ok(()));
    let expected: Vec<u32> = (0..128).map(|tid| tid ^ 1).collect();
    assert_eq!(there.as_host_vec().unwrap(), expected);
}

#[test]
fn a_function_tells_its_attributes_and_occupancy() {
    let (_context, module, _stream) = start();
    let add = module.get_function("vector_add").unwrap();
    let shared = module.get_function("through_shared").unwrap();
    let threads =
        |f: &cust::function::Function| f.get_attribute(FunctionAttribute::MaxThreadsPerBlock);
    assert_eq!((threads(&add), threads(&shared)), (Ok(1024), Ok(128)));
    let occupancy =
        |block: u32, dynamic| add.max_active_blocks_per_multiprocessor(block.into(), dynamic);
    // 2048 threads and 228 KiB of shared memory on a multiprocessor, 1 KiB of each block's kept.
    assert_eq!(occupancy(1024, 0), Ok(2));
    assert_eq!(occupancy(32, 0), Ok(32));
    assert_eq!(occupancy(32, 40 << 10), Ok(5));
    assert_eq!(occupancy(32, 56 << 10), Ok(0), "not opted into");
    let (blocks, block) = add.suggested_launch_configuration(0, 0.into()).unwrap();
    assert_eq!((blocks, block), (132 * 2, 1024));
}
