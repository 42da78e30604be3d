//! What the software device refuses, and the real driver may follow into undefined behaviour: handles that
//! are gone or made up, parameter buffers that are too short, images for another machine.

mod child;

use std::ffi::c_void;
use std::ptr::{null_mut, without_provenance_mut};

use cust::error::CudaError;
use cust::memory::DeviceBuffer;
use cust::module::Module;
use cust::sys::{self, CUresult};

const SOFTWARE: [(&str, &str); 1] = [("LAYERNORM_DRIVER", "software")];
const KERNELS: &str = include_str!("ptx/kernels.ptx");

/// Launches one thread with an `extra` list, or with nothing.
fn launch(function: sys::CUfunction, extra: *mut *mut c_void) -> CUresult {
    // SAFETY: the software device looks a handle up, and the list is null or has its end.
    unsafe { sys::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, null_mut(), null_mut(), extra) }
}

#[test]
fn a_parameter_buffer_that_is_too_short_is_refused() {
    let name = "a_parameter_buffer_that_is_too_short_is_refused";
    child::run(name, &SOFTWARE, || {
        let _context = cust::quick_init().unwrap();
        let module = Module::from_ptx(KERNELS, &[]).unwrap();
        let there = DeviceBuffer::from_slice(&[0_u32]).unwrap();
        let poke = module.get_function("poke").unwrap().to_raw();
        let mut buffer = [7_u8; 16];
        buffer[..8].copy_from_slice(&there.as_device_ptr().as_raw().to_le_bytes());
        let mut size = 11_usize;
        let mut extra: [*mut c_void; 5] = [
            without_provenance_mut(1),
            buffer.as_mut_ptr().cast(),
            without_provenance_mut(2),
            (&raw mut size).cast(),
            null_mut(),
        ];
        let got = launch(poke, extra.as_mut_ptr());
        assert_eq!(got, CUresult::CUDA_ERROR_INVALID_VALUE);
        let why = cuda_driver::last_fault().unwrap();
        assert!(why.contains("11 bytes") && why.contains("12"), "{why}");
        assert_eq!(there.as_host_vec().unwrap(), [0], "nothing ran");
    });
}

#[test]
fn machine_code_for_a_real_gpu_is_refused() {
    child::run("machine_code_for_a_real_gpu_is_refused", &SOFTWARE, || {
        let _context = cust::quick_init().unwrap();
        for image in [&b"\x7fELF\x02\x01\x01\x00"[..], b"\x50\xed\x55\xba\x01\x00"] {
            let got = Module::from_cubin(image, &[]);
            assert_eq!(got.err(), Some(CudaError::NoBinaryForGpu));
            assert!(cuda_driver::last_fault().unwrap().contains("machine code"));
        }
    });
}

#[test]
fn handles_that_are_gone_or_made_up_are_refused() {
    child::run(
        "handles_that_are_gone_or_made_up_are_refused",
        &SOFTWARE,
        || {
            let _context = cust::quick_init().unwrap();
            let module = Module::from_ptx(KERNELS, &[]).unwrap();
            let function = module.get_function("stop").unwrap().to_raw();
            drop(module);
            let made_up: sys::CUstream = without_provenance_mut(0xdead_beef);
            let got = launch(function, null_mut());
            assert_eq!(got, CUresult::CUDA_ERROR_INVALID_HANDLE);
            // SAFETY: handles are checked, not followed.
            unsafe {
                assert_eq!(
                    sys::cuStreamSynchronize(made_up),
                    CUresult::CUDA_ERROR_INVALID_HANDLE
                );
                assert_eq!(
                    sys::cuEventQuery(made_up.cast()),
                    CUresult::CUDA_ERROR_INVALID_HANDLE
                );
                assert_eq!(
                    sys::cuModuleUnload(made_up.cast()),
                    CUresult::CUDA_ERROR_INVALID_HANDLE
                );
                assert_eq!(
                    sys::cuCtxSetCurrent(made_up.cast()),
                    CUresult::CUDA_ERROR_INVALID_CONTEXT
                );
                assert_eq!(
                    sys::cuCtxGetDevice(null_mut()),
                    CUresult::CUDA_ERROR_INVALID_VALUE
                );
                assert_eq!(
                    sys::cuMemAlloc_v2(null_mut(), 16),
                    CUresult::CUDA_ERROR_INVALID_VALUE
                );
                let mut freed = 0;
                assert_eq!(sys::cuMemAlloc_v2(&mut freed, 16), CUresult::CUDA_SUCCESS);
                assert_eq!(sys::cuMemFree_v2(freed), CUresult::CUDA_SUCCESS);
                assert_eq!(sys::cuMemFree_v2(freed), CUresult::CUDA_ERROR_INVALID_VALUE);
                assert_eq!(sys::cuMemFree_v2(0), CUresult::CUDA_SUCCESS);
                let mut texture = null_mut();
                assert_eq!(
                    sys::cuTexRefCreate(&mut texture),
                    CUresult::CUDA_ERROR_NOT_SUPPORTED
                );
            }
            assert!(
                cuda_driver::last_fault()
                    .unwrap()
                    .contains("freed allocation")
            );
        },
    );
}
