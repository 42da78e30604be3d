//! Faults of a kernel: the CUDA error that a real device gives, for the launch and for whatever comes
//! after it in that context; the words by a query and on stderr.

mod child;

use cust::context::Context;
use cust::device::Device;
use cust::error::{CudaError, CudaResult};
use cust::launch;
use cust::memory::DeviceBuffer;
use cust::module::Module;
use cust::stream::{Stream, StreamFlags};
use cust::sys::{self, CUresult};

const SOFTWARE: [(&str, &str); 1] = [("LAYERNORM_DRIVER", "software")];
const KERNELS: &str = include_str!("ptx/kernels.ptx");

fn poke(module: &Module, stream: &Stream, address: u64) -> CudaResult<()> {
    let poke = module.get_function("poke")?;
    // SAFETY: the parameters are the kernel's. Where it writes is what the software device checks.
    unsafe { launch!(poke<<<1, 1, 0, stream>>>(address, 1_u32)) }
}

/// Starts, makes the kernel fail, and checks what every later call gives.
fn fails_with(expected: CudaError, address: impl FnOnce(u64) -> u64) {
    let _context = cust::quick_init().unwrap();
    let module = Module::from_ptx(KERNELS, &[]).unwrap();
    let stream = Stream::new(StreamFlags::NON_BLOCKING, None).unwrap();
    let there = DeviceBuffer::from_slice(&[0_u32; 4]).unwrap();
    let base = there.as_device_ptr().as_raw();
    assert_eq!(poke(&module, &stream, base), Ok(()));
    assert_eq!(cuda_driver::last_fault(), None);

    let address = address(base);
    assert_eq!(poke(&module, &stream, address), Err(expected));
    let words = cuda_driver::last_fault().expect("the fault is told");
    for part in [
        "`poke`",
        "st.global.u32",
        "block (0, 0, 0)",
        "thread (0, 0, 0)",
    ] {
        assert!(words.contains(part), "no {part} in: {words}");
    }
    assert!(words.contains(&format!("{address:#x}")), "{words}");

    assert_eq!(stream.synchronize(), Err(expected));
    assert_eq!(poke(&module, &stream, base), Err(expected));
    assert_eq!(there.as_host_vec().err(), Some(expected));
    assert_eq!(DeviceBuffer::from_slice(&[0_u8]).err(), Some(expected));
    assert_eq!(Module::from_ptx(KERNELS, &[]).err(), Some(expected));
    assert_eq!(Device::num_devices(), Ok(1), "devices have no fault");
}

#[test]
fn an_access_out_of_bounds_is_error_700() {
    let name = "an_access_out_of_bounds_is_error_700";
    let stderr = child::run(name, &SOFTWARE, || {
        fails_with(CudaError::IllegalAddress, |base| base + 16);
    });
    if let Some(stderr) = stderr {
        assert!(
            stderr.contains("poke") && stderr.contains("CUDA error 700"),
            "{stderr}"
        );
    }
}

#[test]
fn a_null_pointer_is_error_700() {
    child::run("a_null_pointer_is_error_700", &SOFTWARE, || {
        fails_with(CudaError::IllegalAddress, |_| 0);
    });
}

#[test]
fn a_misaligned_access_is_error_716() {
    child::run("a_misaligned_access_is_error_716", &SOFTWARE, || {
        fails_with(CudaError::MisalignedAddress, |base| base + 2);
    });
}

#[test]
fn a_use_after_free_is_error_700() {
    child::run("a_use_after_free_is_error_700", &SOFTWARE, || {
        fails_with(CudaError::IllegalAddress, |_| {
            let freed = DeviceBuffer::from_slice(&[0_u32; 4]).unwrap();
            freed.as_device_ptr().as_raw()
        });
        assert!(cuda_driver::last_fault().unwrap().contains("freed"));
    });
}

#[test]
fn a_trap_is_error_715() {
    child::run("a_trap_is_error_715", &SOFTWARE, || {
        let _context = cust::quick_init().unwrap();
        let module = Module::from_ptx(KERNELS, &[]).unwrap();
        let stream = Stream::new(StreamFlags::NON_BLOCKING, None).unwrap();
        let stop = module.get_function("stop").unwrap();
        // SAFETY: the kernel has no parameters.
        let got = unsafe { launch!(stop<<<1, 1, 0, stream>>>()) };
        assert_eq!(got, Err(CudaError::IllegalInstruction));
    });
}

/// A fault is a context's, not the device's: another context goes on, and the primary context is well
/// again after a reset.
#[test]
fn a_fault_is_lost_with_its_context() {
    child::run("a_fault_is_lost_with_its_context", &SOFTWARE, || {
        let context = cust::quick_init().unwrap();
        let module = Module::from_ptx(KERNELS, &[]).unwrap();
        let stream = Stream::new(StreamFlags::NON_BLOCKING, None).unwrap();
        assert_eq!(poke(&module, &stream, 0), Err(CudaError::IllegalAddress));
        let mut second = std::ptr::null_mut();
        // SAFETY: `second` is writable, and destroyed once.
        unsafe {
            let created = sys::cuCtxCreate_v2(&mut second, 0, 0);
            assert_eq!(created, CUresult::CUDA_SUCCESS);
            assert_eq!(sys::cuCtxSynchronize(), CUresult::CUDA_SUCCESS);
            assert_eq!(sys::cuCtxDestroy_v2(second), CUresult::CUDA_SUCCESS);
            assert_eq!(
                sys::cuCtxSynchronize(),
                CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            );
            assert_eq!(
                sys::cuCtxDestroy_v2(second),
                CUresult::CUDA_ERROR_INVALID_CONTEXT
            );
        }
        drop((module, stream));
        // SAFETY: nothing of the context is used after it.
        unsafe { Context::reset(&Device::get_device(0).unwrap()) }.unwrap();
        drop(context);
        let _context = cust::quick_init().unwrap();
        let module = Module::from_ptx(KERNELS, &[]).unwrap();
        let stream = Stream::new(StreamFlags::NON_BLOCKING, None).unwrap();
        let there = DeviceBuffer::from_slice(&[0_u32]).unwrap();
        assert_eq!(
            poke(&module, &stream, there.as_device_ptr().as_raw()),
            Ok(())
        );
        assert_eq!(there.as_host_vec(), Ok(vec![1]));
    });
}
