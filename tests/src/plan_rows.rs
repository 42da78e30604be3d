//! One small shape for each kernel that the plan can choose, and what a device computes for it: the work of
//! `plan-rows`, which holds a GPU against the software GPU, and gives a sanitizer or a profiler something to
//! look at.
//!
//! The backward pass gets the mean and rstd of the oracle, rounded to f32, and not the device's own: its
//! kernels then have no approximate instruction anywhere before them, and must give the same bits on every
//! device. Of the forward pass's results rstd comes from `rsqrt.approx`, and y from rstd.

use std::collections::BTreeSet;

use layernorm_host::plan::{self, Limits};
use layernorm_host::{
    BackwardPointers, DType, Device, Entry, FastLayerNorm, ForwardPointers, Launcher, Problem,
    Result, Tensor, Variant,
};

use crate::check::{Results, compare, expected};
use crate::data::{Case, dtypes, tensor};

/// A shape, and the kernels that no shape before it launches.
pub struct PlanRow {
    pub case: Case,
    pub entries: Vec<Entry>,
    /// Whether the forward kernel puts a row's mean together from parts, weighed by an approximate division: two
    /// devices may have other bits for it, and for y.
    pub mean_of_parts: bool,
}

impl PlanRow {
    /// `37x1024_bf16_f32`: rows, columns, dtype of x, dtype of the parameters; `_in_place` if dx is dy.
    pub fn name(&self) -> String {
        let Case {
            n_rows,
            n_cols,
            dtype,
            parameter_dtype,
            in_place,
            ..
        } = self.case;
        let in_place = if in_place { "_in_place" } else { "" };
        format!("{n_rows}x{n_cols}_{dtype}_{parameter_dtype}{in_place}")
    }
}

/// Longest row that is tried. Above it the plan has nothing new.
const MAX_COLS: usize = 256 << 10;

/// More than the blocks of any kernel that stay on an H100 have in work at a time.
const MAX_ROWS: usize = 9000;

/// For each pair of dtypes, the shortest of some row lengths that launches a kernel which no shorter one
/// does. What is left are the kernels that none of them launches, which views and other addresses do.
///
/// Each shape has about `elements` elements, but 3 rows at least and at most `MAX_ROWS`. Backward few rows have kernels of
/// their own, unless dx lies over dy: each length is tried both ways.
pub fn plan_rows(elements: usize, limits: &Limits) -> Result<(Vec<PlanRow>, Vec<Entry>)> {
    let mut seen = BTreeSet::new();
    let mut rows = Vec::new();
    for (dtype, parameter_dtype) in dtypes() {
        let both_ways = lengths().into_iter().flat_map(|n_cols| {
            let n_rows = (elements / n_cols).clamp(3, MAX_ROWS);
            Case::new(n_rows, n_cols, dtype, parameter_dtype).in_place_or_not()
        });
        for case in both_ways {
            let mut entries = launched(&case, limits)?;
            let mean_of_parts = entries.first().is_some_and(has_mean_of_parts);
            entries.retain(|entry| seen.insert(entry.to_string()));
            if !entries.is_empty() {
                rows.push(PlanRow {
                    case,
                    entries,
                    mean_of_parts,
                });
            }
        }
    }
    let left = Entry::all()
        .into_iter()
        .filter(|entry| !seen.contains(&entry.to_string()))
        .collect();
    Ok((rows, left))
}

/// Powers of two, and the numbers a quarter and half of the way to the next, each with a neighbour whose rows are ragged.
fn lengths() -> BTreeSet<usize> {
    let powers = (0..).map(|power| 1usize << power);
    powers
        .take_while(|power| *power <= MAX_COLS)
        .flat_map(|power| [power, power + power / 4, power + power / 2])
        .flat_map(|length| [length, length + 3])
        .filter(|length| *length <= MAX_COLS)
        .collect()
}

/// Of a forward kernel.
fn has_mean_of_parts(entry: &Entry) -> bool {
    matches!(
        entry.variant(),
        Some(Variant::Cluster { .. } | Variant::SharedCluster { .. } | Variant::Any)
    )
}

/// The kernels that a case launches from memory as an allocator gives it, the forward pass's first.
fn launched(case: &Case, limits: &Limits) -> Result<Vec<Entry>> {
    let problem = problem(case)?;
    let somewhere = 1 << 32;
    let forward = ForwardPointers {
        x: somewhere,
        weight: somewhere,
        bias: somewhere,
        y: somewhere,
        mean: somewhere,
        rstd: somewhere,
        ..ForwardPointers::default()
    };
    let backward = BackwardPointers {
        dy: somewhere,
        x: somewhere,
        weight: somewhere,
        mean: somewhere,
        rstd: somewhere,
        dx: if case.in_place {
            somewhere
        } else {
            2 * somewhere
        },
        dweight: somewhere,
        dbias: somewhere,
        workspace: somewhere,
        workspace_bytes: plan::workspace_bytes(&problem, limits),
        ..BackwardPointers::default()
    };
    let forward = plan::forward(&problem, &forward.args(&problem)?, limits)?;
    let launches = backward.launches(&problem, limits)?;
    let (plan, has_reduce) = (launches.plan, launches.reduce.is_some());
    let few = plan.few.map(|few| few.launch);
    let reduce = has_reduce.then_some(plan.reduce);
    let launches = [forward, plan.sums, plan.rows, few, reduce];
    Ok(launches
        .into_iter()
        .flatten()
        .map(|launch| launch.entry)
        .collect())
}

fn problem(case: &Case) -> Result<Problem> {
    Problem::new(
        case.n_rows,
        case.n_cols,
        case.dtype,
        case.parameter_dtype,
        case.eps,
    )
}

/// Both passes on a launcher's device, compared with the oracle.
///
/// # Errors
///
/// Where the device refuses, or a result is off by more than its tolerance.
pub fn run(
    case: &Case,
    device: &Device,
    launcher: &Launcher,
) -> std::result::Result<Results, String> {
    let inputs = case.generate();
    let want = expected(case, &inputs);
    let text = |error: layernorm_host::Error| error.to_string();
    let compute = || -> Result<Results> {
        let rows = |values: &[f64]| tensor(values, &case.shape(), case.dtype, device);
        let parameter = |values: &Option<Vec<f64>>| {
            let values = values.as_deref().unwrap_or_default();
            tensor(values, &[case.n_cols], case.parameter_dtype, device)
        };
        let (x, dy) = (rows(&inputs.x)?, rows(&inputs.dy)?);
        let (weight, bias) = (parameter(&inputs.weight)?, parameter(&inputs.bias)?);
        let (y, saved) = FastLayerNorm::forward(&x, Some(&weight), Some(&bias), case.eps)?;
        let (mean, rstd) = (saved.mean().clone(), saved.rstd().clone());

        let statistic =
            |values: &[f64]| tensor(values, &[case.n_rows], case.dtype.accumulator(), device);
        let (host_mean, host_rstd) = (statistic(&want.mean)?, statistic(&want.rstd)?);
        let problem = problem(case)?;
        let workspace_bytes = launcher.workspace_bytes(&problem);
        let workspace = Tensor::empty(DType::F32, &[workspace_bytes.div_ceil(4)], device)?;
        let dx = match case.in_place {
            true => dy.clone(),
            false => Tensor::empty(case.dtype, &case.shape(), device)?,
        };
        let gradient = || Tensor::empty(case.parameter_dtype, &[case.n_cols], device);
        let (dweight, dbias) = (gradient()?, gradient()?);
        let address = |tensor: &Tensor| tensor.device_address().unwrap_or(0);
        let pointers = BackwardPointers {
            dy: address(&dy),
            x: address(&x),
            weight: address(&weight),
            mean: address(&host_mean),
            rstd: address(&host_rstd),
            dx: address(&dx),
            dweight: address(&dweight),
            dbias: address(&dbias),
            workspace: address(&workspace),
            workspace_bytes,
            ..BackwardPointers::default()
        };
        device.synchronize()?;
        // SAFETY: each address is that of a tensor of this device with the problem's shape and dtype, which
        // lives until the synchronisation below; what is written overlaps nothing, but dx may be dy.
        unsafe { launcher.launch_backward(std::ptr::null_mut(), &pointers, &problem)? };
        device.synchronize()?;
        Ok(Results {
            y,
            mean,
            rstd,
            dx,
            dweight: Some(dweight),
            dbias: Some(dbias),
        })
    };
    let results = compute().map_err(text)?;
    compare(case, &inputs, &results)?;
    Ok(results)
}
