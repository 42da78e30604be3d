//! Runs a case on a device and compares every result with the oracle. NaN never passes.

use layernorm_host::{Device, FastLayerNorm, Result, Tensor};

use crate::data::{Case, Inputs, tensor};
use crate::oracle::{self, Output};
use crate::tolerance;

/// What a test says when it fails.
pub type Verdict = std::result::Result<(), String>;

/// A device's results for a case.
pub struct Results {
    pub y: Tensor,
    pub mean: Tensor,
    pub rstd: Tensor,
    pub dx: Tensor,
    pub dweight: Option<Tensor>,
    pub dbias: Option<Tensor>,
}

/// Both passes, into memory that holds NaN before.
pub fn run(case: &Case, inputs: &Inputs, device: &Device) -> Result<Results> {
    let device = device.with_poisoned_memory();
    let rows = |values: &[f64]| tensor(values, &case.shape(), case.dtype, &device);
    let parameter = |values: &Option<Vec<f64>>| {
        values
            .as_ref()
            .map(|values| tensor(values, &[case.n_cols], case.parameter_dtype, &device))
            .transpose()
    };
    let (x, dy) = (rows(&inputs.x)?, rows(&inputs.dy)?);
    let (weight, bias) = (parameter(&inputs.weight)?, parameter(&inputs.bias)?);
    let (y, saved) = FastLayerNorm::forward(&x, weight.as_ref(), bias.as_ref(), case.eps)?;
    let (mean, rstd) = (saved.mean().clone(), saved.rstd().clone());
    let (dx, dweight, dbias) = FastLayerNorm::backward(saved, &dy)?;
    Ok(Results {
        y,
        mean,
        rstd,
        dx,
        dweight,
        dbias,
    })
}

/// Runs a case and compares.
pub fn case(case: &Case, device: &Device) -> Verdict {
    let inputs = case.generate();
    run(case, &inputs, device)
        .map_err(|error| error.to_string())
        .and_then(|results| compare(case, &inputs, &results))
        .map_err(|reason| format!("{case:?}: {reason}"))
}

/// The oracle's results for a case.
pub fn expected(case: &Case, inputs: &Inputs) -> Output {
    oracle::layernorm(&oracle::Input {
        n_cols: case.n_cols,
        x: &inputs.x,
        weight: inputs.weight.as_deref(),
        bias: inputs.bias.as_deref(),
        dy: &inputs.dy,
        eps: f64::from(case.eps),
    })
}

/// Compares every result with the oracle.
pub fn compare(case: &Case, inputs: &Inputs, got: &Results) -> Verdict {
    let want = expected(case, inputs);
    let n = case.n_cols;
    let parameter = case.parameter_dtype;
    within("y", &got.y, &want.y, |i, y| {
        tolerance::y(case.dtype, y, want.y_terms[i / n], want.y_of_mean[i / n])
    })?;
    within("mean", &got.mean, &want.mean, |i, _| {
        tolerance::mean(case.dtype, want.mean_terms[i])
    })?;
    within("rstd", &got.rstd, &want.rstd, |_, rstd| {
        tolerance::rstd(case.dtype, rstd)
    })?;
    within("dx", &got.dx, &want.dx, |i, dx| {
        tolerance::dx(case.dtype, dx, want.dx_terms[i / n], want.dx_of_mean[i / n])
    })?;
    if let Some(got) = present("dweight", &got.dweight, case.weight)? {
        within("dweight", got, &want.dweight, |c, value| {
            let (terms, of_mean) = (want.dweight_terms[c], want.dweight_of_mean[c]);
            tolerance::dweight(parameter, value, terms, of_mean, case.n_rows)
        })?;
    }
    if let Some(got) = present("dbias", &got.dbias, case.bias)? {
        within("dbias", got, &want.dbias, |c, value| {
            tolerance::dbias(parameter, value, want.dbias_terms[c], case.n_rows)
        })?;
    }
    Ok(())
}

/// A gradient that must be there exactly where its parameter is.
fn present<'a>(
    name: &str,
    got: &'a Option<Tensor>,
    expected: bool,
) -> std::result::Result<Option<&'a Tensor>, String> {
    match got {
        Some(_) if !expected => Err(format!("{name} is there without its parameter")),
        None if expected => Err(format!("{name} is absent")),
        got => Ok(got.as_ref()),
    }
}

/// Compares a tensor with what is expected, element by element.
pub fn within(
    name: &str,
    got: &Tensor,
    want: &[f64],
    bound: impl Fn(usize, f64) -> f64,
) -> Verdict {
    let got = got.to_f64_vec().map_err(|error| error.to_string())?;
    if got.len() != want.len() {
        return Err(format!(
            "{name} has {} elements, not {}",
            got.len(),
            want.len()
        ));
    }
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let (error, bound) = ((got - want).abs(), bound(i, want));
        // A NaN is not within any bound, where `error > bound` would let it pass.
        let passes = error <= bound;
        if !passes {
            return Err(format!(
                "{name}[{i}] is {got:e}, expected {want:e}: off by {error:.2e}, allowed {bound:.2e}"
            ));
        }
    }
    Ok(())
}
