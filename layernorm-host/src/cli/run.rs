//! `layernorm run`: LayerNorm forward and backward over the groups of a safetensors file, or over an array.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use layernorm_host::file::{Safetensors, npy};
use layernorm_host::{Device, FastLayerNorm, LayerNorm, Tensor};

use super::output::Sink;
use super::source::{Operands, Source};
use super::{DeviceName, Failure, Printed, Result};

/// Normalise the activations of a file, forward and backward.
///
/// Of a safetensors file: for each group G with G/x, G/weight and G/bias it gives G/y, G/mean and G/rstd. With
/// G/dy also: G/dx, G/dweight and G/dbias. Where the file has float64 references (G/y_f64, G/dx_f64,
/// G/dweight_f64, G/dbias_f64), it prints how far the results are from them.
///
/// Of a .npy file, which is x itself: y, mean and rstd, and with --dy the gradients. NumPy has no bf16.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// The file to read: f32, f16, bf16 or f64, safetensors or .npy, told apart by their content; - is stdin.
    input: PathBuf,
    /// The file to write the results to, whole or not at all: safetensors, or y alone where the name ends in
    /// .npy; - is stdout, and the text goes to stderr then.
    #[arg(long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// auto (the GPU if there is one, else software), cuda, software, cpu; cuda:1 is the second GPU.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Added to the variance; without it, the file's metadata `eps`, else 1e-5.
    #[arg(long, allow_negative_numbers = true)]
    eps: Option<f32>,
    /// weight for a .npy x; without it: ones.
    #[arg(long, value_name = "NPY")]
    weight: Option<PathBuf>,
    /// bias for a .npy x; without it: zeros.
    #[arg(long, value_name = "NPY")]
    bias: Option<PathBuf>,
    /// dy for a .npy x; without it the forward pass alone runs.
    #[arg(long, value_name = "NPY")]
    dy: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  layernorm run tests/fixtures/minilm_layernorm.safetensors --out out.safetensors
  layernorm run activations.safetensors --device cuda:1 --eps 1e-6
  layernorm run x.npy --weight w.npy --bias b.npy --out y.npy
  cat x.npy | layernorm run - --device cpu --out - > y.npy";

impl Run {
    pub fn run(self) -> Result<Printed, Failure> {
        let others = [&self.weight, &self.bias, &self.dy].map(|path| path.as_deref());
        let source = Source::read(&self.input, others)?;
        let groups = source.groups()?;
        let eps = match self.eps {
            Some(eps) => eps,
            None => source.eps()?.unwrap_or(LayerNorm::DEFAULT_EPS),
        };
        let output = self.out.as_deref().map(|path| Output::new(path, &source));
        let mut output = output.transpose()?;

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
            Results::compute(source.operands(&group, &device)?, eps, &device)?;
            let results = Results::compute(source.operands(&group, &device)?, eps, &device)?;
            results.describe(&mut text, &source, &group, eps)?;
            if let Some(output) = &mut output {
                output.add(&group, &results.tensors)?;
            }
        }
        match output {
            None => Ok(Printed::text(text)),
            Some(output) => output.finish(eps, text),
        }
    }
}

/// Where the results go.
struct Output {
    path: PathBuf,
    sink: Sink,
    content: Content,
}

enum Content {
    Safetensors(Safetensors),
    /// y alone.
    Npy(Vec<u8>),
}

impl Output {
    fn new(path: &Path, source: &Source) -> Result<Self, Failure> {
        let sink = Sink::create(path)?;
        let forward_alone = source.is_forward_alone();
        let is_npy = match sink.is_stdout() {
            true => forward_alone,
            false => path.extension().is_some_and(|extension| extension == "npy"),
        };
        if is_npy && !forward_alone {
            return Err(Failure::usage(
                "a .npy file holds y alone, of one x, without gradients; --out OUT.safetensors holds all",
            ));
        }
        Ok(Output {
            path: path.to_owned(),
            sink,
            content: match is_npy {
                true => Content::Npy(Vec::new()),
                false => Content::Safetensors(Safetensors::new()),
            },
        })
    }

    fn add(&mut self, group: &str, tensors: &[(&str, Tensor)]) -> Result<()> {
        for (name, tensor) in tensors {
            match &mut self.content {
                Content::Npy(bytes) if *name == "y" => *bytes = npy::to_bytes(tensor)?,
                Content::Npy(_) => {}
                Content::Safetensors(content) if group.is_empty() => content.add(*name, tensor)?,
                Content::Safetensors(content) => content.add(format!("{group}/{name}"), tensor)?,
            }
        }
        Ok(())
    }

    fn finish(self, eps: f32, text: String) -> Result<Printed, Failure> {
        let bytes = match self.content {
            Content::Npy(bytes) => bytes,
            Content::Safetensors(mut content) => {
                content.metadata("eps", format!("{eps:e}"));
                content.into_bytes(&self.path)?
            }
        };
        if self.sink.is_stdout() {
            super::note(&text);
            return Ok(Printed::bytes(bytes));
        }
        self.sink.finish(&bytes)?;
        Ok(Printed::text(text))
    }
}

/// What one group gives.
struct Results {
    x: Tensor,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    forward: Duration,
    backward: Option<Duration>,
    /// Name in the group, and the tensor.
    tensors: Vec<(&'static str, Tensor)>,
}

impl Results {
    fn compute(operands: Operands, eps: f32, device: &Device) -> Result<Self> {
        let Operands {
            x,
            weight,
            bias,
            dy,
        } = operands;
        device.synchronize()?;
        let start = Instant::now();
        let (y, saved) = FastLayerNorm::forward(&x, weight.as_ref(), bias.as_ref(), eps)?;
        device.synchronize()?;
        let mut results = Results {
            x,
            weight,
            bias,
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

    fn describe(&self, text: &mut String, source: &Source, group: &str, eps: f32) -> Result<()> {
        let (shape, dtype) = (self.x.shape(), self.x.dtype());
        let _ = write!(text, "{}: x {shape:?} {dtype}", source.title(group));
        let parameters = match (&self.weight, &self.bias) {
            (Some(weight), Some(_)) => Some(("weight and bias", weight)),
            (Some(weight), None) => Some(("weight", weight)),
            (None, Some(bias)) => Some(("bias", bias)),
            (None, None) => None,
        };
        if let Some((names, parameter)) = parameters {
            let (shape, dtype) = (parameter.shape(), parameter.dtype());
            let _ = write!(text, ", {names} {shape:?} {dtype}");
        }
        let _ = writeln!(text, ", eps {eps:e}");
        let _ = write!(text, "  forward {}", milliseconds(self.forward));
        if let Some(backward) = self.backward {
            let _ = write!(text, ", backward {}", milliseconds(backward));
        }
        text.push('\n');
        for (name, tensor) in &self.tensors {
            if let Some(reference) = source.reference(group, name) {
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
