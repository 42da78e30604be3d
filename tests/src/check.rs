//! Runs a case on a device and compares every result with the oracle. NaN never passes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use layernorm_host::{DType, Device, FastLayerNorm, Result, Tensor};

use crate::data::{Case, Inputs, round, tensor};
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
    both(case, inputs, &rows(&inputs.x)?, rows(&inputs.dy)?)
}

/// Runs a case and compares.
pub fn case(case: &Case, device: &Device) -> Verdict {
    case_as(case, Form::Plain, device)
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

/// Compares every result with the oracle, whose results must be finite.
pub fn compare(case: &Case, inputs: &Inputs, got: &Results) -> Verdict {
    let want = expected(case, inputs);
    let results = [
        &want.y,
        &want.mean,
        &want.rstd,
        &want.dx,
        &want.dweight,
        &want.dbias,
    ];
    if results
        .into_iter()
        .flatten()
        .any(|value| !value.is_finite())
    {
        return Err("the reference is not finite".to_owned());
    }
    compare_with(case, &want, got)
}

/// Compares every result with given ones, of which some may be infinite or NaN: the results must be so too.
pub fn compare_with(case: &Case, want: &Output, got: &Results) -> Verdict {
    let n = case.n_cols;
    let parameter = case.parameter_dtype;
    within("y", &got.y, &want.y, |i, y| {
        tolerance::y(case.dtype, y, want.y_terms[i / n])
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

/// Compares a tensor with what is expected, element by element. Where that is NaN the result must be, and where
/// it is more than the dtype holds the result must be infinite.
pub fn within(
    name: &'static str,
    got: &Tensor,
    want: &[f64],
    bound: impl Fn(usize, f64) -> f64,
) -> Verdict {
    let dtype = got.dtype();
    let got = got.to_f64_vec().map_err(|error| error.to_string())?;
    if got.len() != want.len() {
        return Err(format!(
            "{name} has {} elements, not {}",
            got.len(),
            want.len()
        ));
    }
    let mut worst = 0.0f64;
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let want = held(want, dtype);
        if !want.is_finite() {
            // An infinite mean of an infinite row may have become NaN on its way.
            let passes = match name {
                "mean" => !got.is_finite(),
                _ => got == want || got.is_nan() && want.is_nan(),
            };
            if !passes {
                return Err(format!("{name}[{i}] is {got:e}, expected {want}"));
            }
            continue;
        }
        let (error, bound) = ((got - want).abs(), bound(i, want));
        // A NaN is not within any bound, where `error > bound` would let it pass.
        let passes = error <= bound;
        if !passes {
            return Err(format!(
                "{name}[{i}] is {got:e}, expected {want:e}: off by {error:.2e}, allowed {bound:.2e}"
            ));
        }
        if error > 0.0 {
            worst = worst.max(error / bound);
        }
    }
    let mut all = WORST.lock().unwrap_or_else(PoisonError::into_inner);
    let share = all.entry((name, dtype.name())).or_default();
    *share = share.max(worst);
    Ok(())
}

/// What a dtype makes of a value that it may not hold.
fn held(value: f64, dtype: DType) -> f64 {
    // The largest finite value and half a unit.
    let end = match dtype {
        DType::F64 => f64::INFINITY,
        DType::F32 => f64::from(f32::MAX) + 2f64.powi(103),
        DType::F16 => 65_520.0,
        DType::BF16 => f64::from(half::bf16::MAX) + 2f64.powi(119),
    };
    if value.abs() >= end {
        f64::INFINITY.copysign(value)
    } else {
        value
    }
}

/// The largest share of its bound that any error has had, of each result and dtype.
static WORST: Mutex<BTreeMap<(&str, &str), f64>> = Mutex::new(BTreeMap::new());

/// The largest shares of bounds that this process has seen, as lines to print.
pub fn worst() -> String {
    let all = WORST.lock().unwrap_or_else(PoisonError::into_inner);
    let line = |((name, dtype), share): (&(&str, &str), &f64)| {
        format!("  {name:<8} {dtype:<5} {share:.2}\n")
    };
    let lines: String = all.iter().map(line).collect();
    format!("largest share of what is allowed:\n{lines}")
}

/// How a case is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Rows one after the other, new memory for all results.
    Plain,
    /// Rows that lie apart by a number of elements that is no multiple of 16 bytes, from an odd element on.
    Strided,
    /// x is the sum of two tensors, and a gradient is added to dx.
    Residual,
}

/// Runs a case in a form and compares.
pub fn case_as(case: &Case, form: Form, device: &Device) -> Verdict {
    let inputs = case.generate();
    let verdict = match form {
        Form::Plain => in_place_or_not(case, &inputs, |case| run(case, &inputs, device)),
        Form::Strided => in_place_or_not(case, &inputs, |case| strided(case, &inputs, device)),
        Form::Residual => residual(case, inputs, device),
    };
    verdict.map_err(|reason| format!("{case:?}, {form:?}: {reason}"))
}

/// Compares both ways, whose dx are the same bits.
fn in_place_or_not(
    case: &Case,
    inputs: &Inputs,
    run: impl Fn(&Case) -> Result<Results>,
) -> Verdict {
    let mut all = Vec::new();
    for in_place in [false, true] {
        let results = run(&Case { in_place, ..*case }).map_err(|error| error.to_string())?;
        compare(case, inputs, &results)
            .map_err(|reason| format!("in place: {in_place}: {reason}"))?;
        all.push(results.dx.to_bytes().map_err(|error| error.to_string())?);
    }
    match all[0] == all[1] {
        true => Ok(()),
        false => Err("dx is other bits in place".to_owned()),
    }
}

type Parameters = [Option<Tensor>; 2];

fn parameters(case: &Case, inputs: &Inputs, device: &Device) -> Result<Parameters> {
    let parameter = |values: &Option<Vec<f64>>| {
        let values = values.as_ref();
        values
            .map(|values| tensor(values, &[case.n_cols], case.parameter_dtype, device))
            .transpose()
    };
    Ok([parameter(&inputs.weight)?, parameter(&inputs.bias)?])
}

/// Forward and backward over given x and dy.
fn both(case: &Case, inputs: &Inputs, x: &Tensor, dy: Tensor) -> Result<Results> {
    let [weight, bias] = parameters(case, inputs, x.device())?;
    let (y, saved) = FastLayerNorm::forward(x, weight.as_ref(), bias.as_ref(), case.eps)?;
    let (mean, rstd) = (saved.mean().clone(), saved.rstd().clone());
    let (dx, dweight, dbias) = match case.in_place {
        true => FastLayerNorm::backward_in_place(saved, dy)?,
        false => FastLayerNorm::backward(saved, &dy)?,
    };
    Ok(Results {
        y,
        mean,
        rstd,
        dx,
        dweight,
        dbias,
    })
}

fn strided(case: &Case, inputs: &Inputs, device: &Device) -> Result<Results> {
    let device = &device.with_poisoned_memory();
    let (n_cols, left) = (case.n_cols, 1);
    let stride = n_cols + left + 2;
    // Into wider rows of NaN, which reach the results if they are read.
    let embedded = |values: &[f64]| {
        let mut wide = vec![f64::NAN; case.n_rows * stride];
        for (row, values) in wide.chunks_mut(stride).zip(values.chunks(n_cols)) {
            row[left..left + n_cols].copy_from_slice(values);
        }
        tensor(&wide, &[case.n_rows, stride], case.dtype, device)
            .and_then(|wide| wide.columns(left..left + n_cols))
    };
    both(case, inputs, &embedded(&inputs.x)?, embedded(&inputs.dy)?)
}

fn residual(case: &Case, mut inputs: Inputs, device: &Device) -> Verdict {
    let device = &device.with_poisoned_memory();
    let x = inputs.x.clone();
    // Other random values of the right dtype: dy's, turned about.
    let residual: Vec<f64> = inputs.dy.iter().rev().copied().collect();
    let dsum: Vec<f64> = x.iter().rev().copied().collect();
    // What is normalised is the sum, rounded to x's dtype.
    for (x, residual) in inputs.x.iter_mut().zip(&residual) {
        *x = match case.dtype {
            DType::F64 => *x + residual,
            // By way of f32, as the library says.
            dtype => round(f64::from(*x as f32 + *residual as f32), dtype),
        };
    }
    let results = || {
        let rows = |values: &[f64]| tensor(values, &case.shape(), case.dtype, device);
        let [weight, bias] = parameters(case, &inputs, device)?;
        let (y, _, saved) = FastLayerNorm::forward_add(
            &rows(&x)?,
            &rows(&residual)?,
            weight.as_ref(),
            bias.as_ref(),
            case.eps,
        )?;
        let (mean, rstd) = (saved.mean().clone(), saved.rstd().clone());
        let (dy, dsum) = (rows(&inputs.dy)?, rows(&dsum)?);
        let (dx, dweight, dbias) = FastLayerNorm::backward_add(saved, &dy, &dsum)?;
        Result::Ok(Results {
            y,
            mean,
            rstd,
            dx,
            dweight,
            dbias,
        })
    };
    let results = results().map_err(|error| error.to_string())?;
    let mut want = expected(case, &inputs);
    for (i, (dx, dsum)) in want.dx.iter_mut().zip(&dsum).enumerate() {
        *dx += dsum;
        // The incoming gradient is one more term.
        let terms = &mut want.dx_terms[i / case.n_cols];
        *terms = terms.max(dsum.abs());
    }
    compare_with(case, &want, &results)
}
