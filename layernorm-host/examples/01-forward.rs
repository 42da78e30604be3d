//! The shortest way: a layer, an input, its output.
//!
//!     cargo run --example 01-forward

use layernorm_host::{DType, Device, LayerNorm, Result, Tensor, fast_layernorm};

fn main() -> Result<()> {
    let device = Device::auto()?;
    let layer = LayerNorm::new(&[4], DType::F32, &device)?;
    let x = Tensor::from_slice(
        &[1.0f32, 2.0, 3.0, 4.0, -10.0, 0.0, 10.0, 20.0],
        &[2, 4],
        &device,
    )?;

    let y = fast_layernorm(&layer, &x)?;

    println!("{layer} on {device} ({})", device.name());
    for (row, y) in y.to_vec::<f32>()?.chunks(4).enumerate() {
        println!("row {row}: {y:.4?}");
        let mean: f32 = y.iter().sum::<f32>() / 4.0;
        assert!(
            mean.abs() < 1e-6,
            "a normalised row has mean 0, this one {mean}"
        );
    }
    Ok(())
}
