//! Real activations of a real model against float64 references that PyTorch computed: the witness that is
//! not this project's own oracle.

use std::path::PathBuf;

use layernorm_host::{Device, FastLayerNorm, Tensor};
use safetensors::SafeTensors;

use super::{Test, text};
use crate::check::Verdict;
use crate::tolerance;

pub const TESTS: &[(&str, Test)] = &[("minilm", minilm)];

fn minilm(device: &Device) -> Verdict {
    // The environment's first: the tests may have been carried to a machine without cargo.
    let folder = std::env::var_os("CARGO_MANIFEST_DIR");
    let folder = folder.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let path = folder.join("fixtures/minilm_layernorm.safetensors");
    let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
    let device = device.with_poisoned_memory();
    for group in ["embeddings.LayerNorm", "encoder.layer.2.output.LayerNorm"] {
        let view = |name: &str| {
            let name = format!("{group}/{name}");
            file.tensor(&name)
                .map_err(|error| format!("{name}: {error}"))
        };
        let tensor = |name: &str| {
            let view = view(name)?;
            let dtype = layernorm_host::DType::F32;
            Tensor::from_bytes(view.data(), dtype, view.shape(), &device).map_err(text)
        };
        let [x, weight, bias, dy] = [tensor("x"), tensor("weight"), tensor("bias"), tensor("dy")];
        let (x, weight, bias, dy) = (x?, weight?, bias?, dy?);
        let forward = FastLayerNorm::forward(&x, Some(&weight), Some(&bias), 1e-12);
        let (y, saved) = forward.map_err(text)?;
        let (dx, dweight, dbias) = FastLayerNorm::backward(saved, &dy).map_err(text)?;
        let results = [Some(y), Some(dx), dweight, dbias];
        for (result, (name, allowed)) in results.into_iter().zip(tolerance::FIXTURE) {
            let got = result.ok_or(format!("{name} is absent"))?;
            let got = got.to_vec::<f32>().map_err(text)?;
            let reference = view(&format!("{name}_f64"))?;
            let (want, _) = reference.data().as_chunks();
            let want: Vec<f64> = want
                .iter()
                .map(|bytes| f64::from_le_bytes(*bytes))
                .collect();
            if got.len() != want.len() {
                return Err(format!(
                    "{group}/{name}: {} elements, not {}",
                    got.len(),
                    want.len()
                ));
            }
            let squares =
                |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
            let off = squares(&mut got.iter().zip(&want).map(|(&g, w)| f64::from(g) - w));
            let error = (off / squares(&mut want.iter().copied())).sqrt();
            // A NaN is not within any bound, where `error > allowed` would let it pass.
            let passes = error <= allowed;
            if !passes {
                return Err(format!(
                    "{group}/{name} is {error:.2e} of the norm off, allowed {allowed:.0e}"
                ));
            }
        }
    }
    Ok(())
}
