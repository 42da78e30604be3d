//! The layer: parameters, the shape they have, and eps.

use std::fmt;
use std::path::Path;

use crate::file::{SafetensorsFile, SafetensorsWriter};
use crate::functional;
use crate::pass::ForwardInputs;
use crate::problem::elements;
use crate::{DType, Device, Error, Result, Saved, Tensor};

/// LayerNorm with its parameters, the twin of `torch.nn.LayerNorm`.
///
/// ```
/// use layernorm_host::{DType, Device, LayerNorm, Tensor, fast_layernorm};
///
/// let device = Device::auto()?;
/// let layer = LayerNorm::new(&[4], DType::F32, &device)?;
/// let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[1, 4], &device)?;
/// let y = fast_layernorm(&layer, &x)?;
/// assert_eq!(y.shape(), [1, 4]);
/// assert_eq!(layer.to_string(), "LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)");
/// # Ok::<(), layernorm_host::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerNorm {
    normalized_shape: Vec<usize>,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    eps: f32,
}

impl LayerNorm {
    /// PyTorch's default eps.
    pub const DEFAULT_EPS: f32 = 1e-5;

    /// A layer over the trailing dimensions `normalized_shape`, with weight ones, bias zeros and eps
    /// 1e-5. `dtype` is that of weight and bias: x's, or f32.
    ///
    /// # Errors
    ///
    /// [`Error::RankZero`], [`Error::NoColumns`], [`Error::Overflow`]; [`Error::OutOfMemory`] and
    /// [`Error::Cuda`] from the device.
    pub fn new(normalized_shape: &[usize], dtype: DType, device: &Device) -> Result<Self> {
        let weight = Tensor::ones(dtype, normalized_shape, device)?;
        let bias = Tensor::zeros(dtype, normalized_shape, device)?;
        Self::from_parameters(
            normalized_shape,
            Some(weight),
            Some(bias),
            Self::DEFAULT_EPS,
        )
    }

    /// A layer with the given parameters; an absent weight is ones, an absent bias zeros.
    ///
    /// # Errors
    ///
    /// [`Error::RankZero`], [`Error::NoColumns`], [`Error::Overflow`] for the shape;
    /// [`Error::Shape`], [`Error::DTypeMismatch`], [`Error::OtherDevice`], [`Error::Layout`] for the
    /// parameters; [`Error::Eps`].
    ///
    /// ```
    /// use layernorm_host::{Device, LayerNorm, Tensor};
    ///
    /// let weight = Tensor::from_slice(&[0.5f32, 2.0], &[2], &Device::cpu())?;
    /// let layer = LayerNorm::from_parameters(&[2], Some(weight), None, 1e-12)?;
    /// assert!(layer.weight().is_some() && layer.bias().is_none());
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn from_parameters(
        normalized_shape: &[usize],
        weight: Option<Tensor>,
        bias: Option<Tensor>,
        eps: f32,
    ) -> Result<Self> {
        if normalized_shape.is_empty() {
            return Err(Error::RankZero {
                name: "normalized_shape",
            });
        }
        if elements("normalized_shape", normalized_shape)? == 0 {
            return Err(Error::NoColumns {
                name: "normalized_shape",
                shape: normalized_shape.to_vec(),
            });
        }
        for (name, parameter) in [("weight", &weight), ("bias", &bias)] {
            let Some(parameter) = parameter else { continue };
            if parameter.shape() != normalized_shape {
                return Err(Error::Shape {
                    name,
                    got: parameter.shape().to_vec(),
                    expected: normalized_shape.to_vec(),
                });
            }
            parameter.require_contiguous(name)?;
        }
        if let (Some(weight), Some(bias)) = (&weight, &bias) {
            if weight.dtype() != bias.dtype() {
                return Err(Error::DTypeMismatch {
                    name: "bias",
                    got: bias.dtype(),
                    allowed: vec![weight.dtype()],
                });
            }
            if !weight.device().is_same(bias.device()) {
                return Err(Error::OtherDevice {
                    name: "bias",
                    got: bias.device().to_string(),
                    expected: weight.device().to_string(),
                });
            }
        }
        LayerNorm {
            normalized_shape: normalized_shape.to_vec(),
            weight,
            bias,
            eps: Self::DEFAULT_EPS,
        }
        .with_eps(eps)
    }

    /// A layer whose weight is `{prefix}weight` of a safetensors file, and whose bias is `{prefix}bias` if
    /// the file has it. The weight's shape is the normalized shape; the prefix is such as
    /// `encoder.layer.0.output.LayerNorm.`, or empty.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::NotSafetensors`], [`Error::MissingTensor`],
    /// [`Error::UnsupportedDType`] from the file; as [`from_parameters`](Self::from_parameters) for what
    /// it holds.
    pub fn load(path: &Path, prefix: &str, eps: f32, device: &Device) -> Result<Self> {
        let file = SafetensorsFile::read(path)?;
        let weight = file.tensor(&format!("{prefix}weight"), device)?;
        let bias = file.optional(&format!("{prefix}bias"), device)?;
        let normalized_shape = weight.shape().to_vec();
        Self::from_parameters(&normalized_shape, Some(weight), bias, eps)
    }

    /// Writes weight and bias, as far as the layer has them, to a safetensors file, with eps in its
    /// metadata. The file is replaced as a whole or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::File`] where the file cannot be written; [`Error::Cuda`] from the copies to the host.
    ///
    /// ```
    /// use layernorm_host::{DType, Device, LayerNorm};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("layer.safetensors");
    /// let layer = LayerNorm::new(&[384], DType::BF16, &Device::cpu())?;
    /// layer.save(&path)?;
    /// let loaded = LayerNorm::load(&path, "", LayerNorm::DEFAULT_EPS, &Device::cpu())?;
    /// assert_eq!(loaded.normalized_shape(), [384]);
    /// assert_eq!(loaded.weight().unwrap().to_bytes()?, layer.weight().unwrap().to_bytes()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut file = SafetensorsWriter::create(path)?;
        for (name, parameter) in [("weight", &self.weight), ("bias", &self.bias)] {
            if let Some(parameter) = parameter {
                file.add(name, parameter)?;
            }
        }
        file.metadata("eps", format!("{:e}", self.eps));
        file.finish()
    }

    /// The same layer without a bias, which stands for zeros.
    pub fn without_bias(self) -> Self {
        LayerNorm { bias: None, ..self }
    }

    /// The same layer without weight and bias, PyTorch's `elementwise_affine=False`.
    ///
    /// ```
    /// use layernorm_host::{DType, Device, LayerNorm};
    ///
    /// let layer = LayerNorm::new(&[4], DType::F32, &Device::cpu())?.without_affine();
    /// assert_eq!(
    ///     layer.to_string(),
    ///     "LayerNorm((4,), eps=1e-05, elementwise_affine=False, bias=False)"
    /// );
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn without_affine(self) -> Self {
        LayerNorm {
            weight: None,
            bias: None,
            ..self
        }
    }

    /// The same layer with another eps, which is added to the variance.
    ///
    /// # Errors
    ///
    /// [`Error::Eps`] where it is negative or not finite.
    pub fn with_eps(self, eps: f32) -> Result<Self> {
        if eps.is_finite() && eps >= 0.0 {
            Ok(LayerNorm { eps, ..self })
        } else {
            Err(Error::Eps { got: eps })
        }
    }

    /// The trailing dimensions of x that are normalised over.
    pub fn normalized_shape(&self) -> &[usize] {
        &self.normalized_shape
    }

    /// The scale, of the normalized shape; `None` stands for ones.
    pub fn weight(&self) -> Option<&Tensor> {
        self.weight.as_ref()
    }

    /// The shift, of the normalized shape; `None` stands for zeros.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The scale, to be changed.
    ///
    /// ```
    /// use layernorm_host::{DType, Device, LayerNorm};
    ///
    /// let mut layer = LayerNorm::new(&[2], DType::F32, &Device::cpu())?;
    /// if let Some(weight) = layer.weight_mut() {
    ///     weight.copy_from_slice(&[0.5f32, 2.0])?;
    /// }
    /// assert_eq!(layer.weight().unwrap().to_vec::<f32>()?, [0.5, 2.0]);
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn weight_mut(&mut self) -> Option<&mut Tensor> {
        self.weight.as_mut()
    }

    /// The shift, to be changed.
    pub fn bias_mut(&mut self) -> Option<&mut Tensor> {
        self.bias.as_mut()
    }

    /// What is added to the variance.
    pub fn eps(&self) -> f32 {
        self.eps
    }

    /// Normalises x and keeps what backward needs, for
    /// [`FastLayerNorm::backward`](crate::FastLayerNorm::backward).
    ///
    /// # Errors
    ///
    /// As [`FastLayerNorm::forward`](crate::FastLayerNorm::forward).
    ///
    /// ```
    /// use layernorm_host::{DType, Device, FastLayerNorm, LayerNorm, Tensor};
    ///
    /// let layer = LayerNorm::new(&[4], DType::F32, &Device::cpu())?;
    /// let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[1, 4], &Device::cpu())?;
    /// let (y, saved) = layer.forward(&x)?;
    /// let (dx, dweight, dbias) = FastLayerNorm::backward(saved, &y)?;
    /// assert_eq!(dx.shape(), [1, 4]);
    /// assert_eq!((dweight.unwrap().shape(), dbias.unwrap().shape()), (&[4][..], &[4][..]));
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn forward(&self, x: &Tensor) -> Result<(Tensor, Saved)> {
        functional::forward(self.inputs(x))
    }

    fn inputs<'a>(&'a self, x: &'a Tensor) -> ForwardInputs<'a> {
        ForwardInputs {
            x,
            residual: None,
            weight: self.weight.as_ref(),
            bias: self.bias.as_ref(),
            normalized_shape: &self.normalized_shape,
            eps: self.eps,
        }
    }
}

/// Normalises x, of any rank, by a layer whose normalized shape its last dimensions have. Gives y, of
/// x's shape and dtype, with the bits that [`LayerNorm::forward`] gives it. mean and rstd are neither kept nor
/// written. The name is Unsloth's.
///
/// # Errors
///
/// As [`FastLayerNorm::forward`](crate::FastLayerNorm::forward).
///
/// ```
/// use layernorm_host::{DType, Device, LayerNorm, Tensor, fast_layernorm};
///
/// let layer = LayerNorm::new(&[2], DType::F32, &Device::cpu())?.with_eps(0.0)?;
/// let x = Tensor::from_slice(&[1.0f32, 3.0], &[1, 2], &Device::cpu())?;
/// assert_eq!(fast_layernorm(&layer, &x)?.to_vec::<f32>()?, [-1.0, 1.0]);
/// # Ok::<(), layernorm_host::Error>(())
/// ```
pub fn fast_layernorm(layernorm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
    functional::forward_alone(layernorm.inputs(x))
}

/// As PyTorch 2.15 prints its own.
impl fmt::Display for LayerNorm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LayerNorm((")?;
        for (i, dimension) in self.normalized_shape.iter().enumerate() {
            write!(f, "{}{dimension}", if i == 0 { "" } else { ", " })?;
        }
        if self.normalized_shape.len() == 1 {
            f.write_str(",")?;
        }
        let python = |is: bool| if is { "True" } else { "False" };
        write!(
            f,
            "), eps={}, elementwise_affine={}, bias={})",
            python_float(self.eps),
            python(self.weight.is_some() || self.bias.is_some()),
            python(self.bias.is_some()),
        )
    }
}

/// A number as Python's `repr` has it: Rust's form, but for an exponent, which has its sign and two digits.
fn python_float(value: f32) -> String {
    let text = format!("{value:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            let digits = digits.strip_suffix(".0").unwrap_or(digits);
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_shown_as_pytorch_shows_its_own() {
        // What `print(torch.nn.LayerNorm(...))` gives with PyTorch 2.15.
        let (all, no_bias, none) = (
            "elementwise_affine=True, bias=True",
            "elementwise_affine=True, bias=False",
            "elementwise_affine=False, bias=False",
        );
        let device = Device::cpu();
        let layer = |shape: &[usize], eps| {
            let layer = LayerNorm::new(shape, DType::F32, &device).unwrap();
            layer.with_eps(eps).unwrap()
        };
        for (shape, eps, expected) in [
            (&[1024][..], 1e-5, "(1024,), eps=1e-05"),
            (&[2, 3], 1e-5, "(2, 3), eps=1e-05"),
            (&[4], 1e-12, "(4,), eps=1e-12"),
            (&[4], 2.5e-7, "(4,), eps=2.5e-07"),
            (&[4], 1e-4, "(4,), eps=0.0001"),
            (&[4], 0.0, "(4,), eps=0.0"),
            (&[4], 1.0, "(4,), eps=1.0"),
            (&[4], 123456.0, "(4,), eps=123456.0"),
            (&[4], 1e16, "(4,), eps=1e+16"),
        ] {
            let shown = layer(shape, eps).to_string();
            assert_eq!(shown, format!("LayerNorm({expected}, {all})"));
        }
        let weight = || Tensor::ones(DType::F32, &[4], &device).unwrap();
        for (weight, expected) in [(Some(weight()), no_bias), (None, none)] {
            let layer = LayerNorm::from_parameters(&[4], weight, None, 1e-5).unwrap();
            let expected = format!("LayerNorm((4,), eps=1e-05, {expected})");
            assert_eq!(layer.to_string(), expected);
        }
    }
}
