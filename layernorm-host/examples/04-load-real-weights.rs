//! Weights and activations of a real model, from a safetensors file: the first LayerNorm of all-MiniLM-L6-v2.
//!
//!     cargo run --example 04-load-real-weights

use std::path::Path;

use layernorm_host::file::SafetensorsFile;
use layernorm_host::{Device, LayerNorm, Result, fast_layernorm};

fn main() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/minilm_layernorm.safetensors");
    let group = "embeddings.LayerNorm/";
    let device = Device::auto()?;

    let file = SafetensorsFile::read(&path)?;
    let eps = file.eps()?.unwrap_or(LayerNorm::DEFAULT_EPS);
    // A model's own file names its weights with dots: "embeddings.LayerNorm." would be the prefix.
    let layer = LayerNorm::load(&path, group, eps, &device)?;
    let x = file.tensor(&format!("{group}x"), &device)?;

    let y = fast_layernorm(&layer, &x)?;

    println!("{layer}");
    println!("{x:?} -> {y:?}");
    let reference = file.float64(&format!("{group}y_f64")).unwrap_or_default();
    let y = y.to_vec::<f32>()?;
    let errors = y
        .iter()
        .zip(&reference)
        .map(|(y, reference)| (f64::from(*y) - reference).abs());
    let largest = errors.fold(0.0, f64::max);
    println!("largest difference from the float64 reference: {largest:.2e}");
    assert_eq!(y.len(), reference.len());
    assert!(largest < 1e-5, "too far off");
    Ok(())
}
