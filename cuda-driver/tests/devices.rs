//! Several devices of several models: each with its own memory, limits and context.

mod child;

use cuda_driver as _;
use cust::CudaFlags;
use cust::context::{Context, CurrentContext};
use cust::device::{Device, DeviceAttribute};
use cust::memory::{CopyDestination, DeviceBuffer};
use cust::sys;

const TWO: [(&str, &str); 3] = [
    ("LAYERNORM_DRIVER", "software"),
    ("SOFTWARE_GPU_DEVICES", "2"),
    ("SOFTWARE_GPU_MODEL", "a100,t4"),
];

#[test]
fn each_device_has_the_limits_of_its_model() {
    child::run("each_device_has_the_limits_of_its_model", &TWO, || {
        cust::init(CudaFlags::empty()).unwrap();
        let devices: Vec<Device> = Device::devices().unwrap().map(Result::unwrap).collect();
        let [a100, t4] = devices[..] else {
            panic!("two devices, got {}", devices.len());
        };
        let capability = |device: Device| {
            let get = |attribute| device.get_attribute(attribute).unwrap();
            let major = get(DeviceAttribute::ComputeCapabilityMajor);
            (major, get(DeviceAttribute::ComputeCapabilityMinor))
        };
        assert_eq!((capability(a100), capability(t4)), ((8, 0), (7, 5)));
        assert!(a100.total_memory().unwrap() > t4.total_memory().unwrap());
        let threads = |d: Device| d.get_attribute(DeviceAttribute::MaxThreadsPerMultiprocessor);
        assert_eq!((threads(a100), threads(t4)), (Ok(2048), Ok(1024)));
    });
}

#[test]
fn memory_goes_from_one_device_to_the_other() {
    child::run("memory_goes_from_one_device_to_the_other", &TWO, || {
        cust::init(CudaFlags::empty()).unwrap();
        let first = Context::new(Device::get_device(0).unwrap()).unwrap();
        let data: Vec<u32> = (0..1 << 19).collect();
        let here = DeviceBuffer::from_slice(&data).unwrap();
        let second = Context::new(Device::get_device(1).unwrap()).unwrap();
        let there = DeviceBuffer::from_slice(&vec![0_u32; data.len()]).unwrap();
        // Allocated the same way on both, and yet at other addresses.
        assert_ne!(
            here.as_device_ptr().as_raw(),
            there.as_device_ptr().as_raw()
        );
        // SAFETY: the copy is within both buffers, each of its context.
        let copied = unsafe {
            sys::cuMemcpyPeer(
                there.as_device_ptr().as_raw(),
                raw(&second),
                here.as_device_ptr().as_raw(),
                raw(&first),
                data.len() * 4,
            )
        };
        assert_eq!(copied, sys::cudaError_enum::CUDA_SUCCESS);
        CurrentContext::set_current(&second).unwrap();
        let mut back = vec![0; data.len()];
        there.copy_to(&mut back).unwrap();
        assert_eq!(back, data);
        drop(there);
        CurrentContext::set_current(&first).unwrap();
        drop(here);
    });
}

fn raw(context: &Context) -> sys::CUcontext {
    CurrentContext::set_current(context).unwrap();
    let mut current = std::ptr::null_mut();
    // SAFETY: `current` is writable.
    let got = unsafe { sys::cuCtxGetCurrent(&mut current) };
    assert_eq!(got, sys::cudaError_enum::CUDA_SUCCESS);
    current
}
