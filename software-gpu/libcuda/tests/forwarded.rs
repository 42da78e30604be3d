//! cuda-driver's way to NVIDIA's driver, with this library in its place: a machine without a GPU tests
//! the loading, the lookup and the calls that a machine with one makes.

mod child;

use child::on_the_software_device;
use cuda_driver::{Backend, Error};
use cust::launch;
use cust::memory::DeviceBuffer;
use cust::module::Module;
use cust::stream::{Stream, StreamFlags};

const KERNELS: &str = include_str!("../../../cuda-driver/tests/ptx/kernels.ptx");

#[test]
fn a_driver_that_loads_and_has_a_device_is_preferred() {
    let name = "a_driver_that_loads_and_has_a_device_is_preferred";
    on_the_software_device(name, &[], || {
        assert_eq!(cuda_driver::backend(), Ok(Backend::Nvidia));
        let _context = cust::quick_init().unwrap();
        let module = Module::from_ptx(KERNELS, &[]).unwrap();
        let stream = Stream::new(StreamFlags::NON_BLOCKING, None).unwrap();
        let x = DeviceBuffer::from_slice(&[1.5_f32; 100]).unwrap();
        let z = DeviceBuffer::from_slice(&[0.0_f32; 100]).unwrap();
        let add = module.get_function("vector_add").unwrap();
        // SAFETY: the parameters are the kernel's, and the buffers have 100 elements.
        unsafe {
            launch!(add<<<1, 128, 0, stream>>>(
                x.as_device_ptr(),
                x.as_device_ptr(),
                z.as_device_ptr(),
                100_u32
            ))
        }
        .unwrap();
        stream.synchronize().unwrap();
        assert_eq!(z.as_host_vec().unwrap(), [3.0; 100]);
        assert_eq!(cuda_driver::last_fault(), None);
    });
}

#[test]
fn a_driver_without_devices_is_passed_over() {
    let variables = [("SOFTWARE_GPU_DEVICES", "0")];
    on_the_software_device(
        "a_driver_without_devices_is_passed_over",
        &variables,
        || {
            assert_eq!(cuda_driver::backend(), Ok(Backend::Software));
        },
    );
}

#[test]
fn a_forced_driver_without_devices_says_why() {
    let variables = [
        ("SOFTWARE_GPU_DEVICES", "0"),
        ("LAYERNORM_DRIVER", "nvidia"),
    ];
    on_the_software_device(
        "a_forced_driver_without_devices_says_why",
        &variables,
        || {
            let error = cuda_driver::backend().unwrap_err();
            assert_eq!(error, Error::NotStarted { code: 100 });
            assert!(error.to_string().contains("CUDA error 100"), "{error}");
        },
    );
}
