//! Copies from tensor to tensor on one device, and what is refused.

use layernorm_host::{DType, Device, Error, Result, Tensor};

/// The GPU if there is one, else the software GPU.
#[cfg(feature = "cuda")]
fn gpu() -> Device {
    let device = Device::auto().unwrap();
    match device.kind() {
        "cpu" => Device::software(0).unwrap(),
        _ => device,
    }
}

fn devices() -> Vec<Device> {
    vec![
        Device::cpu(),
        #[cfg(feature = "cuda")]
        gpu().with_new_stream().unwrap(),
    ]
}

/// 0, 1, 2, ... of f32.
fn counted(shape: &[usize], device: &Device) -> Tensor {
    let len: usize = shape.iter().product();
    let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
    Tensor::from_slice(&values, shape, device).unwrap()
}

#[test]
fn a_copy_has_the_elements_and_its_own_memory() -> Result<()> {
    for device in devices() {
        // More than one core's share of a host copy, and no multiple of it.
        for shape in [[3, 5], [1, 1], [67_001, 3]] {
            let from = counted(&shape, &device);
            let mut to = Tensor::zeros(DType::F32, &shape, &device.with_poisoned_memory())?;
            to.copy_from(&from)?;
            assert_eq!(to.to_vec::<f32>()?, from.to_vec::<f32>()?, "{device}");
            drop(from);
            to.fill_bytes(0)?;
        }
        // A part of it, from a part of another's memory and from another stream.
        let from = counted(&[6, 4], &device);
        let mut to = Tensor::zeros(DType::F32, &[2, 4], &device.with_new_stream()?)?;
        to.copy_from(&from.rows_in(3..5)?)?;
        assert_eq!(
            to.to_vec::<f32>()?,
            [12., 13., 14., 15., 16., 17., 18., 19.]
        );
        let mut nothing = Tensor::zeros(DType::F32, &[0, 4], &device)?;
        nothing.copy_from(&from.rows_in(0..0)?)?;
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_written() -> Result<()> {
    for device in devices() {
        let mut to = counted(&[2, 4], &device);
        let before = to.to_vec::<f32>()?;
        let other = Tensor::zeros(DType::F32, &[4, 2], &device)?;
        assert!(matches!(to.copy_from(&other), Err(Error::Shape { .. })));
        let other = Tensor::zeros(DType::BF16, &[2, 4], &device)?;
        assert!(matches!(
            to.copy_from(&other),
            Err(Error::DTypeMismatch { .. })
        ));
        let strided = counted(&[2, 8], &device).columns(0..4)?;
        assert!(matches!(to.copy_from(&strided), Err(Error::Layout { .. })));
        let shared = to.clone();
        let other = Tensor::zeros(DType::F32, &[2, 4], &device)?;
        assert!(matches!(
            to.copy_from(&other),
            Err(Error::SharedOutput { .. })
        ));
        drop(shared);
        #[cfg(feature = "cuda")]
        {
            let elsewhere = match device.kind() {
                "cpu" => gpu(),
                _ => Device::cpu(),
            };
            let other = Tensor::zeros(DType::F32, &[2, 4], &elsewhere)?;
            assert!(matches!(
                to.copy_from(&other),
                Err(Error::OtherDevice { .. })
            ));
        }
        assert_eq!(to.to_vec::<f32>()?, before);
    }
    Ok(())
}
