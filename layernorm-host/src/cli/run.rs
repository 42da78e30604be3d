//! `layernorm run`: LayerNorm forward and backward over the groups of a safetensors file.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use layernorm_host::file::{SafetensorsFile, SafetensorsWriter};
use layernorm_host::{Device, FastLayerNorm, LayerNorm, Result, Tensor};

use super::DeviceName;

/// Normalise the activations of a safetensors file, forward and backward.
///
/// For each group G with G/x, G/weight and G/bias: G/y, G/mean and G/rstd. With G/dy also: G/dx,
/// G/dweight and G/dbias. Where the file has float64 references (G/y_f64, G/dx_f64, G/dweight_f64,
/// G/dbias_f64), prints how far the results are from them.
#[derive(Args)]
pub struct Run {
    /// The file to read: f32, f16, bf16 or f64 tensors.
    input: PathBuf,
    /// The file to write the results to, whole or not at all.
    #[arg(long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// auto (the GPU if there is one, else software), cuda, software, cpu; cuda:1 is the second GPU.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Added to the variance; without it, the file's metadata `eps`, else 1e-5.
    #[arg(long, allow_negative_numbers = true)]
    eps: Option<f32>,
}

impl Run {
    pub fn run(self) -> Result<String> {
        let contents = SafetensorsFile::read(&self.input)?;
        let groups = groups(&contents)?;
        let eps = match self.eps {
            Some(eps) => eps,
            None => contents.eps()?.unwrap_or(LayerNorm::DEFAULT_EPS),
        };
        let mut output = self
            .out
            .as_deref()
            .map(SafetensorsWriter::create)
            .transpose()?;

        let device = self.device.open()?;
        let mut text = String::new();
        let _ = write!(text, "device {device}: {}", device.name());
        if let (Some((major, minor)), Some(target)) =
            (device.compute_capability(), device.image_target())
        {
            let _ = write!(
                text,
                ", compute capability {major}.{minor}, kernels for sm_{target}",
            );
        }
        text.push('\n');
        for group in groups {
            // Once for the driver to compile the kernels, then once for the time.
            Results::compute(&contents, &group, eps, &device)?;
            let results = Results::compute(&contents, &group, eps, &device)?;
            results.describe(&mut text, &contents, &group, eps)?;
            if let Some(output) = &mut output {
                results.save(output, &group)?;
            }
        }
        if let Some(mut output) = output {
            output.metadata("eps", format!("{eps:e}"));
            output.finish()?;
        }
        Ok(text)
    }
}

/// Every `G` for which the file has `G/x`, in order.
fn groups(contents: &SafetensorsFile) -> Result<Vec<String>> {
    let names = contents.names();
    let groups = names.iter().filter_map(|name| name.strip_suffix("/x"));
    let groups: Vec<String> = groups.map(str::to_owned).collect();
    if groups.is_empty() {
        return Err(contents.missing("<group>/x"));
    }
    Ok(groups)
}

/// What one group gives.
struct Results {
    x: Tensor,
    weight: Tensor,
    forward: Duration,
    backward: Option<Duration>,
    /// Name in the group, and the tensor.
    tensors: Vec<(&'static str, Tensor)>,
}

impl Results {
    fn compute(contents: &SafetensorsFile, group: &str, eps: f32, device: &Device) -> Result<Self> {
        let x = contents.tensor(&format!("{group}/x"), device)?;
        let weight = contents.tensor(&format!("{group}/weight"), device)?;
        let bias = contents.tensor(&format!("{group}/bias"), device)?;
        let dy = contents.optional(&format!("{group}/dy"), device)?;

        device.synchronize()?;
        let start = Instant::now();
        let (y, saved) = FastLayerNorm::forward(&x, Some(&weight), Some(&bias), eps)?;
        device.synchronize()?;
        let mut results = Results {
            x,
            weight,
            forward: start.elapsed(),
            backward: None,
            tensors: vec![
                ("y", y),
                ("mean", saved.mean().clone()),
                ("rstd", saved.rstd().clone()),
            ],
        };
        if let Some(dy) = dy {
            let start = Instant::now();
            let (dx, dweight, dbias) = FastLayerNorm::backward(saved, &dy)?;
            device.synchronize()?;
            results.backward = Some(start.elapsed());
            let gradients = [("dx", Some(dx)), ("dweight", dweight), ("dbias", dbias)];
            let gradients = gradients.into_iter();
            results
                .tensors
                .extend(gradients.filter_map(|(name, tensor)| Some((name, tensor?))));
        }
        Ok(results)
    }

    fn describe(
        &self,
        text: &mut String,
        contents: &SafetensorsFile,
        group: &str,
        eps: f32,
    ) -> Result<()> {
        let _ = writeln!(
            text,
            "{group}: x {:?} {}, weight and bias {:?} {}, eps {eps:e}",
            self.x.shape(),
            self.x.dtype(),
            self.weight.shape(),
            self.weight.dtype(),
        );
        let _ = write!(text, "  forward {}", milliseconds(self.forward));
        if let Some(backward) = self.backward {
            let _ = write!(text, ", backward {}", milliseconds(backward));
        }
        text.push('\n');
        for (name, tensor) in &self.tensors {
            if let Some(reference) = contents.float64(&format!("{group}/{name}_f64")) {
                let got = tensor.to_f64_vec()?;
                let Some(error) = Distance::between(&got, &reference) else {
                    let (got, expected) = (got.len(), reference.len());
                    let _ = writeln!(
                        text,
                        "  {name:<8} has {got} elements, its reference {expected}"
                    );
                    continue;
                };
                let _ = writeln!(
                    text,
                    "  {name:<8} error: {:.2e} of the norm, {:.2e} at most",
                    error.relative, error.largest
                );
            }
        }
        Ok(())
    }

    fn save(&self, output: &mut SafetensorsWriter, group: &str) -> Result<()> {
        for (name, tensor) in &self.tensors {
            output.add(format!("{group}/{name}"), tensor)?;
        }
        Ok(())
    }
}

/// How far a result is from its reference.
#[derive(Debug, PartialEq)]
struct Distance {
    /// The difference's norm over the reference's.
    relative: f64,
    /// The largest difference of an element.
    largest: f64,
}

impl Distance {
    /// `None` for different lengths. A NaN anywhere makes both numbers NaN.
    fn between(got: &[f64], reference: &[f64]) -> Option<Self> {
        if got.len() != reference.len() {
            return None;
        }
        let (mut squares, mut norm, mut largest) = (0.0, 0.0, 0.0f64);
        for (&got, &reference) in got.iter().zip(reference) {
            let difference = (got - reference).abs();
            squares += difference * difference;
            norm += reference * reference;
            // `max` would drop a NaN.
            if difference > largest || difference.is_nan() {
                largest = difference;
            }
            if largest.is_nan() {
                break;
            }
        }
        let relative = if squares == 0.0 {
            0.0
        } else {
            (squares / norm).sqrt()
        };
        Some(Distance { relative, largest })
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let distance = |got: &[f64], reference: &[f64]| Distance::between(got, reference);
        let same = distance(&[3.0, 4.0], &[3.0, 4.0]).unwrap();
        assert_eq!((same.relative, same.largest), (0.0, 0.0));
        let off = distance(&[3.0, 5.0], &[3.0, 4.0]).unwrap();
        assert_eq!((off.relative, off.largest), (0.2, 1.0));
        assert_eq!(distance(&[1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn nan_shows() {
        let nan = Distance::between(&[f64::NAN, 4.0], &[3.0, 4.0]).unwrap();
        assert!(nan.relative.is_nan() && nan.largest.is_nan());
    }
}
