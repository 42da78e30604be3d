//! cust: it links, finds the device, and moves memory, streams and events. `LAYERNORM_DRIVER=nvidia`
//! runs these on a real GPU.

use cuda_driver::Backend;
use cust::context::Context;
use cust::device::{Device, DeviceAttribute};
use cust::error::CudaError;
use cust::event::{Event, EventFlags, EventStatus};
use cust::memory::{
    AsyncCopyDestination, CopyDestination, DeviceBuffer, LockedBuffer, mem_get_info,
};
use cust::stream::{Stream, StreamFlags, StreamWaitEventFlags};

fn start() -> Context {
    // The software device, unless the environment asks for another driver to be tested.
    if std::env::var_os(cuda_driver::SETTING).is_none() {
        cuda_driver::choose(Backend::Software).expect("nothing chose a driver before");
    }
    cust::quick_init().expect("the software device starts")
}

#[test]
fn the_driver_is_decided_once() {
    let _context = start();
    let (used, other) = match cuda_driver::backend().unwrap() {
        Backend::Software => (Backend::Software, Backend::Nvidia),
        Backend::Nvidia => (Backend::Nvidia, Backend::Software),
    };
    assert_eq!(cuda_driver::choose(used), Ok(()));
    let error = cuda_driver::choose(other).unwrap_err();
    assert_eq!(error, cuda_driver::ChooseError::AlreadyChosen(used));
}

#[test]
fn the_device_says_what_it_is() {
    let _context = start();
    let device = Device::get_device(0).unwrap();
    let attribute = |attribute| device.get_attribute(attribute).unwrap();
    assert_eq!(attribute(DeviceAttribute::WarpSize), 32);
    assert_eq!(attribute(DeviceAttribute::MaxThreadsPerBlock), 1024);
    assert!(device.total_memory().unwrap() >= 1 << 32);
    let devices = Device::num_devices().unwrap();
    let absent = Device::get_device(devices).unwrap_err();
    assert_eq!(absent, CudaError::InvalidDevice);
    if cuda_driver::backend() == Ok(Backend::Software) {
        assert_eq!(devices, 1);
        assert_eq!(device.name().unwrap(), "Software GPU (H100)");
        assert_eq!(attribute(DeviceAttribute::ComputeCapabilityMajor), 9);
        assert_eq!(attribute(DeviceAttribute::MultiprocessorCount), 132);
    }
}

#[test]
fn memory_goes_there_and_comes_back() {
    let _context = start();
    let data: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let there = DeviceBuffer::from_slice(&data).unwrap();
    let mut copy = DeviceBuffer::from_slice(&vec![-1.0_f32; 1000]).unwrap();
    there.copy_to(&mut copy).unwrap();
    let mut back = vec![0.0; 1000];
    copy.index(10..20).copy_to(&mut back[10..20]).unwrap();
    assert_eq!(back[10..20], data[10..20]);
    assert_eq!(copy.as_host_vec().unwrap(), data);

    copy.set_32(0x3f80_0000).unwrap();
    assert_eq!(copy.as_host_vec().unwrap(), vec![1.0; 1000]);
    let (free, total) = mem_get_info().unwrap();
    assert!(free < total);
}

#[test]
fn more_memory_than_there_is_is_an_error() {
    let _context = start();
    // SAFETY: nothing reads it: it is not given.
    let got = unsafe { DeviceBuffer::<u8>::uninitialized(1 << 40) };
    assert_eq!(got.err(), Some(CudaError::OutOfMemory));
}

#[test]
fn streams_and_events_keep_time() {
    let _context = start();
    let one = Stream::new(StreamFlags::NON_BLOCKING, None).unwrap();
    let two = Stream::new(StreamFlags::DEFAULT, Some(-1)).unwrap();
    assert_eq!(two.get_priority(), Ok(-1));
    let start = Event::new(EventFlags::DEFAULT).unwrap();
    let end = Event::new(EventFlags::DEFAULT).unwrap();

    let data = LockedBuffer::new(&7_u32, 1 << 16).unwrap();
    let mut back = LockedBuffer::new(&0_u32, 1 << 16).unwrap();
    let mut there = DeviceBuffer::from_slice(&[0_u32; 1 << 16]).unwrap();
    start.record(&one).unwrap();
    // SAFETY: the buffers live until the streams are synchronised.
    unsafe { there.async_copy_from(&data[..], &one) }.unwrap();
    end.record(&one).unwrap();
    // The call keeps the event it is given, and destroys it.
    let written = Event::new(EventFlags::DISABLE_TIMING).unwrap();
    written.record(&one).unwrap();
    two.wait_event(written, StreamWaitEventFlags::DEFAULT)
        .unwrap();
    // SAFETY: as above.
    unsafe { there.async_copy_to(&mut back[..], &two) }.unwrap();
    two.synchronize().unwrap();
    assert_eq!(back[..], data[..]);
    assert_eq!(end.query(), Ok(EventStatus::Ready));
    assert!(end.elapsed_time_f32(&start).unwrap() > 0.0);

    let (sender, receiver) = std::sync::mpsc::channel();
    two.add_callback(Box::new(move || sender.send(42).unwrap()))
        .unwrap();
    assert_eq!(receiver.recv(), Ok(42));
}
