//! More devices than one: each by its number, with results of its own, whatever device the thread's current context
//! is of. How many there are is read once a process, so the case is a process of its own.

use std::process::Command;
use std::ptr;

use cust::sys;
use layernorm_host::{
    DType, Device, Error, FastLayerNorm, ForwardPointers, Launcher, Problem, Result, Tensor,
};

/// Tells the process of the case from the test's own.
const CASE: &str = "ORDINALS_CASE";

#[test]
fn every_device_computes_by_its_number() {
    if std::env::var_os(CASE).is_some() {
        return case().unwrap();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "every_device_computes_by_its_number"])
        .envs([
            (CASE, "1"),
            ("LAYERNORM_DRIVER", "software"),
            ("SOFTWARE_GPU_DEVICES", "3"),
            ("SOFTWARE_GPU_MODEL", "h100"),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

/// x, and y as the tensors' way gives it.
fn pass(device: &Device) -> Result<(Tensor, Tensor)> {
    let values: Vec<f32> = (0..5 * 384).map(|i| (i as f32 * 0.7).sin()).collect();
    let x = Tensor::from_slice(&values, &[5, 384], device)?;
    let (y, _) = FastLayerNorm::forward(&x, None, None, 1e-5)?;
    Ok((x, y))
}

fn case() -> Result<()> {
    let devices = [2, 0, 1].map(|ordinal| Device::software(ordinal).unwrap());
    assert_eq!(
        devices.each_ref().map(Device::to_string),
        ["software:2", "software:0", "software:1"]
    );
    assert!(matches!(
        Device::software(3),
        Err(Error::Ordinal { count: 3, .. })
    ));
    let all: Vec<String> = Device::all()?.iter().map(Device::to_string).collect();
    assert_eq!(all, ["software:0", "software:1", "software:2", "cpu"]);

    let (x, expected) = pass(&devices[0])?;
    let expected = expected.to_bytes()?;
    let there = Tensor::zeros(DType::F32, &[384], &devices[1])?;
    assert!(matches!(
        FastLayerNorm::forward(&x, Some(&there), None, 1e-5),
        Err(Error::OtherDevice { got, expected, .. }) if (&*got, &*expected) == ("software:0", "software:2")
    ));

    // All at once, by tensors.
    std::thread::scope(|scope| {
        for device in &devices {
            scope.spawn(|| assert_eq!(pass(device).unwrap().1.to_bytes().unwrap(), expected));
        }
    });

    // By launches, while the current context is another device's.
    let problem = Problem::new(5, 384, DType::F32, DType::F32, 1e-5)?;
    for (device, current) in devices.iter().zip([0, 1, 2]) {
        let context = cust::device::Device::get_device(current)
            .and_then(cust::context::Context::new)
            .unwrap();
        let before = current_context();
        assert!(!before.is_null());
        let (x, _) = pass(device)?;
        let y = Tensor::empty(DType::F32, &[5, 384], &device.with_poisoned_memory())?;
        let pointers = ForwardPointers {
            x: x.device_address().unwrap(),
            y: y.device_address().unwrap(),
            ..ForwardPointers::default()
        };
        device.synchronize()?;
        let launcher = Launcher::new(device)?;
        // SAFETY: x and y are this device's, of the problem's shape, and outlive the work, which is waited for.
        unsafe { launcher.launch_forward(device.stream().unwrap(), &pointers, &problem)? };
        device.synchronize()?;
        assert_eq!(current_context(), before);
        assert_eq!(y.to_bytes()?, expected, "{device}");
        drop(context);
    }
    Ok(())
}

fn current_context() -> sys::CUcontext {
    let mut context = ptr::null_mut();
    // SAFETY: the call writes one value to where it is told.
    let result = unsafe { sys::cuCtxGetCurrent(&mut context) };
    assert_eq!(result, sys::CUresult::CUDA_SUCCESS);
    context
}
