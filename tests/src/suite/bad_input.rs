//! Misuse: each gets its typed error, with what was given and what is allowed, and nothing is written.

use layernorm_host::{
    DType, Device, Error, FastLayerNorm, GradientsInto, LayerNorm, Needs, Problem, Result, Tensor,
    fast_layernorm,
};

use super::{Test, text};
use crate::check::Verdict;

pub const TESTS: &[(&str, Test)] = &[
    ("forward", forward),
    ("eps", eps),
    ("backward", backward),
    ("sizes_that_overflow", overflow),
    ("tensors", tensors),
    ("shared_outputs", shared_outputs),
    ("another_device", another_device),
    ("ordinals", ordinals),
];

/// Expects an error of a certain kind whose text names certain things.
macro_rules! refused {
    ($got:expr, $kind:pat, $($named:expr),*) => {{
        let got = $got.map(|_| ());
        match &got {
            Err(error @ $kind) => {
                let message = error.to_string();
                $(if !message.contains($named) {
                    return Err(format!("{message:?} does not name {:?}", $named));
                })*
            }
            other => return Err(format!("{} gave {other:?}", stringify!($got))),
        }
    }};
}

fn zeros(dtype: DType, shape: &[usize], device: &Device) -> std::result::Result<Tensor, String> {
    Tensor::zeros(dtype, shape, device).map_err(text)
}

fn forward(device: &Device) -> Verdict {
    use DType::{BF16, F16, F32};
    let x = zeros(F32, &[2, 1023], device)?;
    let [w1024, b1023, w_half] =
        [(F32, 1024), (F32, 1023), (F16, 1023)].map(|(dtype, n)| zeros(dtype, &[n], device));
    let (w1024, b1023, w_half) = (w1024?, b1023?, w_half?);
    let mut y = zeros(F32, &[2, 1023], device)?;
    y.fill_bytes(0xFF).map_err(text)?;
    let mut forward = |x: &Tensor, w: Option<&Tensor>, b: Option<&Tensor>| -> Result<()> {
        FastLayerNorm::forward_into(x, w, b, 1e-5, &mut y).map(|_| ())
    };

    refused!(
        forward(&x, Some(&w1024), None),
        Error::ParameterLength { .. },
        "weight has 1024 elements, x has 1023 columns"
    );
    refused!(
        forward(&x, None, Some(&w1024)),
        Error::ParameterLength { .. },
        "bias has 1024"
    );
    refused!(
        forward(&x, Some(&w_half), None),
        Error::DTypeMismatch { .. },
        "weight is f16; allowed here: f32"
    );
    let x_bf16 = zeros(BF16, &[2, 1023], device)?;
    refused!(
        forward(&x_bf16, Some(&w_half), None),
        Error::DTypeMismatch { .. },
        "allowed here: bf16, f32"
    );
    let x_half = zeros(F16, &[2, 1023], device)?;
    refused!(
        forward(&x_half, Some(&w_half), Some(&b1023)),
        Error::DTypeMismatch { .. },
        "bias is f32; allowed here: f16"
    );
    refused!(
        forward(&zeros(F32, &[], device)?, None, None),
        Error::RankZero { .. },
        "x has rank 0"
    );
    refused!(
        forward(&zeros(F32, &[3, 0], device)?, None, None),
        Error::NoColumns { .. },
        "[3, 0]"
    );
    refused!(
        forward(&zeros(F32, &[3, 1023], device)?, None, None),
        Error::Shape { .. },
        "y has shape [2, 1023]; [3, 1023]"
    );
    refused!(
        forward(&x_half, None, None),
        Error::DTypeMismatch { .. },
        "y is f32; allowed here: f16"
    );

    let layer = LayerNorm::new(&[4, 1024], F32, device).map_err(text)?;
    refused!(
        fast_layernorm(&layer, &x),
        Error::NormalizedShape { .. },
        "[2, 1023]",
        "[4, 1024]"
    );
    refused!(
        fast_layernorm(&layer, &zeros(F32, &[1024], device)?),
        Error::NormalizedShape { .. },
        "[1024]"
    );
    let tall = zeros(F32, &[1023, 1], device)?;
    refused!(
        forward(&x, Some(&tall), None),
        Error::NormalizedShape { .. },
        "[1023, 1]"
    );
    let wide = zeros(F32, &[2, 4, 1024], device)?
        .columns(0..512)
        .map_err(text)?;
    let layer = LayerNorm::new(&[4, 512], F32, device).map_err(text)?;
    refused!(
        fast_layernorm(&layer, &wide),
        Error::Layout { .. },
        "1024 apart",
        "Tensor::copy"
    );

    refused!(
        LayerNorm::new(&[], F32, device),
        Error::RankZero { .. },
        "normalized_shape"
    );
    refused!(
        LayerNorm::new(&[0], F32, device),
        Error::NoColumns { .. },
        "[0]"
    );

    let kept = y.to_vec::<f32>().map_err(text)?;
    if kept.iter().any(|value| value.to_bits() != u32::MAX) {
        return Err("a refused call wrote to y".to_owned());
    }
    Ok(())
}

fn eps(device: &Device) -> Verdict {
    let x = zeros(DType::F32, &[2, 8], device)?;
    for eps in [-1e-5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let shown = eps.to_string();
        refused!(
            FastLayerNorm::forward(&x, None, None, eps),
            Error::Eps { .. },
            &shown,
            "not negative"
        );
        let layer = LayerNorm::new(&[8], DType::F32, device).map_err(text)?;
        refused!(layer.with_eps(eps), Error::Eps { .. }, &shown);
    }
    Ok(())
}

fn backward(device: &Device) -> Verdict {
    let x = zeros(DType::F32, &[2, 8], device)?;
    let saved = || {
        FastLayerNorm::forward(&x, None, None, 1e-5)
            .map(|(_, saved)| saved)
            .map_err(text)
    };
    let other = zeros(DType::F32, &[8, 2], device)?;
    refused!(
        FastLayerNorm::backward(saved()?, &other),
        Error::Shape { .. },
        "dy has shape [8, 2]; [2, 8]"
    );
    let half = zeros(DType::F16, &[2, 8], device)?;
    refused!(
        FastLayerNorm::backward(saved()?, &half),
        Error::DTypeMismatch { .. },
        "dy is f16; allowed here: f32"
    );
    refused!(
        FastLayerNorm::backward_in_place(saved()?, other.clone()),
        Error::Shape { .. },
        "dy"
    );

    let dy = zeros(DType::F32, &[2, 8], device)?;
    let needs = Needs {
        dx: true,
        dweight: true,
        dbias: false,
    };
    refused!(
        FastLayerNorm::backward_needs(saved()?, &dy, needs),
        Error::Absent { .. },
        "dweight",
        "no weight"
    );
    let mut dbias = zeros(DType::F32, &[8], device)?;
    let into = GradientsInto {
        dbias: Some(&mut dbias),
        ..GradientsInto::default()
    };
    refused!(
        FastLayerNorm::backward_into(saved()?, &dy, into),
        Error::Absent { .. },
        "dbias",
        "no bias"
    );

    let mut dx = zeros(DType::F32, &[2, 9], device)?;
    let into = GradientsInto {
        dx: Some(&mut dx),
        ..GradientsInto::default()
    };
    refused!(
        FastLayerNorm::backward_into(saved()?, &dy, into),
        Error::Shape { .. },
        "dx has shape [2, 9]"
    );
    let wrong = zeros(DType::F32, &[2, 9], device)?;
    refused!(
        FastLayerNorm::backward_add(saved()?, &dy, &wrong),
        Error::Shape { .. },
        "dsum has shape [2, 9]"
    );
    Ok(())
}

fn overflow(device: &Device) -> Verdict {
    let huge = [usize::MAX, 2];
    refused!(
        Tensor::zeros(DType::F32, &huge, device),
        Error::Overflow { .. },
        &format!("{huge:?}")
    );
    refused!(
        Tensor::empty(DType::F32, &[usize::MAX / 2], device),
        Error::Overflow { .. },
        "at most"
    );
    refused!(
        Tensor::empty(DType::F32, &[0, usize::MAX, 2], device),
        Error::Overflow { .. },
        "overflows"
    );
    refused!(
        Tensor::from_slice(&[0.0f32], &huge, device),
        Error::Overflow { .. },
        "overflows"
    );
    refused!(
        LayerNorm::new(&huge, DType::F32, device),
        Error::Overflow { .. },
        "overflows"
    );
    refused!(
        Problem::new(usize::MAX, 1024, DType::F16, DType::F16, 0.0),
        Error::Overflow { .. },
        "overflows"
    );
    refused!(
        Problem::new(1, 1 << 31, DType::F16, DType::F16, 0.0),
        Error::TooManyColumns { .. },
        "2147483648",
        "2147483647"
    );
    refused!(
        Tensor::empty(DType::F16, &[1 << 46], device),
        Error::OutOfMemory { .. } | Error::OutOfHostMemory { .. },
        &(1usize << 47).to_string(),
        "out of memory"
    );
    if let Err(Error::OutOfMemory { free, total, .. }) =
        Tensor::empty(DType::F16, &[1 << 46], device)
        && !(0 < free && free <= total)
    {
        return Err(format!("{free} bytes of {total} are free"));
    }
    let layer = LayerNorm::new(&[1 << 45], DType::F32, device);
    refused!(
        layer,
        Error::OutOfMemory { .. } | Error::OutOfHostMemory { .. },
        &(1usize << 47).to_string()
    );
    Ok(())
}

fn tensors(device: &Device) -> Verdict {
    refused!(
        Tensor::from_slice(&[1.0f32; 5], &[2, 3], device),
        Error::ElementCount { .. },
        "5 elements",
        "[2, 3]",
        "6"
    );
    refused!(
        Tensor::from_bytes(&[0; 13], DType::F32, &[3], device),
        Error::ElementCount { .. },
        "[3]"
    );
    let mut x = zeros(DType::F32, &[2, 3], device)?;
    refused!(
        x.to_vec::<half::f16>(),
        Error::DTypeMismatch { .. },
        "f16",
        "f32"
    );
    refused!(
        x.copy_from_slice(&[half::f16::ONE; 6]),
        Error::DTypeMismatch { .. },
        "f16",
        "f32"
    );
    refused!(
        x.copy_from_slice(&[1.0f32; 7]),
        Error::ElementCount { .. },
        "7 elements",
        "6"
    );
    refused!(x.reshape(&[4]), Error::ElementCount { .. }, "[4]");
    refused!(x.columns(2..4), Error::Layout { .. }, "2..4 of 3");
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tried")]
    {
        refused!(x.columns(2..1), Error::Layout { .. }, "2..1 of 3");
    }
    refused!(x.rows_in(0..3), Error::Layout { .. }, "0..3 of 2");
    refused!(
        zeros(DType::F32, &[], device)?.columns(0..0),
        Error::RankZero { .. },
        "rank 0"
    );
    refused!(
        zeros(DType::F32, &[3], device)?.rows_in(0..0),
        Error::RankZero { .. },
        "rank"
    );
    refused!(
        Tensor::empty_strided(DType::F32, &[2, 8], 7, device),
        Error::Layout { .. },
        "7 elements apart"
    );
    refused!(
        x.columns(0..2).map_err(text)?.reshape(&[4]),
        Error::Layout { .. },
        "Tensor::copy"
    );
    Ok(())
}

fn shared_outputs(device: &Device) -> Verdict {
    let x = zeros(DType::F32, &[2, 8], device)?;
    let mut y = zeros(DType::F32, &[2, 8], device)?;
    let _view = y.columns(0..1).map_err(text)?;
    refused!(
        FastLayerNorm::forward_into(&x, None, None, 0.0, &mut y),
        Error::SharedOutput { .. },
        "y shares"
    );
    refused!(
        y.copy_from_slice(&[1.0f32; 16]),
        Error::SharedOutput { .. },
        "only owner"
    );
    let mut over_x = x.clone();
    refused!(
        FastLayerNorm::forward_into(&x, None, None, 0.0, &mut over_x),
        Error::SharedOutput { .. },
        "y shares"
    );
    let (_, saved) = FastLayerNorm::forward(&x, None, None, 0.0).map_err(text)?;
    let dy = zeros(DType::F32, &[2, 8], device)?;
    let _other = dy.clone();
    refused!(
        FastLayerNorm::backward_in_place(saved, dy),
        Error::SharedOutput { .. },
        "dx shares"
    );
    Ok(())
}

fn another_device(device: &Device) -> Verdict {
    let other = match device.kind() {
        "cpu" => Device::software(0).map_err(text)?,
        _ => Device::cpu(),
    };
    let there = format!("is on {other}, x is on {device}");
    let there = there.as_str();
    let x = zeros(DType::F32, &[2, 8], device)?;
    let (rows, columns) = (
        zeros(DType::F32, &[2, 8], &other)?,
        zeros(DType::F32, &[8], &other)?,
    );
    refused!(
        FastLayerNorm::forward(&x, Some(&columns), None, 0.0),
        Error::OtherDevice { name: "weight", .. },
        there
    );
    refused!(
        FastLayerNorm::forward(&x, None, Some(&columns), 0.0),
        Error::OtherDevice { name: "bias", .. },
        there
    );
    refused!(
        FastLayerNorm::forward_add(&x, &rows, None, None, 0.0),
        Error::OtherDevice {
            name: "residual",
            ..
        },
        there
    );
    let mut y = zeros(DType::F32, &[2, 8], &other)?;
    refused!(
        FastLayerNorm::forward_into(&x, None, None, 0.0, &mut y),
        Error::OtherDevice { name: "y", .. },
        there
    );
    let (_, saved) = FastLayerNorm::forward(&x, None, None, 0.0).map_err(text)?;
    refused!(
        FastLayerNorm::backward(saved, &rows),
        Error::OtherDevice { name: "dy", .. },
        there
    );
    let back = rows.to_device(device).map_err(text)?;
    FastLayerNorm::forward(&back, None, None, 0.0)
        .map(|_| ())
        .map_err(text)
}

fn ordinals(device: &Device) -> Verdict {
    let beyond = 1_000_000;
    match device.kind() {
        "cuda" => {
            refused!(
                Device::cuda(beyond),
                Error::Ordinal { .. },
                "cuda device 1000000"
            );
            refused!(
                Device::software(0),
                Error::DriverChosen { .. },
                "LAYERNORM_DRIVER=software"
            );
        }
        // Opens no device.
        "cpu" => {}
        _ => {
            refused!(
                Device::software(beyond),
                Error::Ordinal { .. },
                "software device 1000000"
            );
            refused!(
                Device::cuda(0),
                Error::DriverChosen { .. } | Error::NoDevice { .. },
                "cuda"
            );
        }
    }
    Ok(())
}
