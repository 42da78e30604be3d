//! A caller who owns memory and stream, here through cust: the library only launches.
//!
//!     cargo run --example 03-own-stream

use cust::memory::{CopyDestination, DeviceBuffer};
use cust::stream::{Stream, StreamFlags};
use layernorm_host::{DType, Device, ForwardPointers, Launcher, Problem};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    // On a machine without a GPU the software GPU stands in: the CPU launches no kernels.
    let device = match Device::auto()? {
        device if device.kind() == "cpu" => Device::software(0)?,
        device => device,
    };
    let launcher = Launcher::new(&device)?;
    let problem = Problem::new(3, 8, DType::F32, DType::F32, 1e-5)?;
    launcher.prepare(&problem)?;

    // From here on everything is the caller's: context, stream, memory.
    let _context = cust::context::Context::new(cust::device::Device::get_device(0)?)?;
    let stream = Stream::new(StreamFlags::NON_BLOCKING, None)?;
    let host: Vec<f32> = (0..24).map(|i| i as f32).collect();
    let x = DeviceBuffer::from_slice(&host)?;
    let y = DeviceBuffer::from_slice(&[f32::NAN; 24])?;

    let pointers = ForwardPointers {
        x: x.as_device_ptr().as_raw(),
        y: y.as_device_ptr().as_raw(),
        ..ForwardPointers::default()
    };
    // SAFETY: x and y are this device's, have 3 rows of 8 columns, and outlive the synchronisation.
    unsafe { launcher.launch_forward(stream.as_inner().cast(), &pointers, &problem)? };
    stream.synchronize()?;

    let mut result = [0.0f32; 24];
    y.copy_to(&mut result)?;
    println!("on {device}, a stream of our own: {:.4?}", &result[..8]);
    assert!(
        result.chunks(8).all(|row| row == &result[..8]),
        "every row is 8 numbers in a row"
    );
    assert!(
        result.iter().sum::<f32>().abs() < 1e-4,
        "normalised rows have mean 0"
    );
    Ok(())
}
