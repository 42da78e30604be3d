//! PyTorch as a witness: what it gives for small and hard inputs, in float64 and float32. `fixtures/README.md` says
//! how the file was made.

use std::path::PathBuf;

use layernorm_host::Device;
use layernorm_host::file::SafetensorsFile;

use super::{Test, text};
use crate::check::{self, Verdict};
use crate::data::{Case, Inputs};
use crate::oracle::Output;

pub const TESTS: &[(&str, Test)] = &[
    ("gives_what_this_device_gives", device_agrees),
    ("gives_what_the_oracle_gives", |_| oracle_agrees()),
];

/// A group of the file.
pub struct Group {
    pub name: String,
    pub case: Case,
    pub inputs: Inputs,
    /// y, mean, rstd, dx, dweight, dbias in float64; the last two are empty without their parameters.
    pub f64: [Vec<f64>; 6],
    /// The same in float32.
    pub f32: [Vec<f64>; 6],
}

const RESULTS: [&str; 6] = ["y", "mean", "rstd", "dx", "dweight", "dbias"];

/// Every group of the file.
pub fn groups() -> Result<Vec<Group>, String> {
    // As cargo says when the suite runs: it may have been built elsewhere.
    let folder = std::env::var_os("CARGO_MANIFEST_DIR");
    let folder = folder.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let path = folder.join("fixtures/torch_layernorm.safetensors");
    let file = SafetensorsFile::read(&path).map_err(text)?;
    let cpu = Device::cpu();
    let names = file.names();
    let mut groups = Vec::new();
    for name in names.iter().filter_map(|name| name.strip_suffix("/x")) {
        let tensor = |key: &str| file.optional(&format!("{name}/{key}"), &cpu).map_err(text);
        let values = |key: &str| {
            let tensor = tensor(key)?;
            tensor
                .map(|tensor| tensor.to_f64_vec().map_err(text))
                .transpose()
        };
        let required = |key: &str| values(key)?.ok_or(format!("{name}/{key} is missing"));
        let x = tensor("x")?.ok_or("x is missing")?;
        let eps = file
            .metadata(&format!("{name}/eps"))
            .and_then(|eps| eps.parse().ok());
        let inputs = Inputs {
            x: required("x")?,
            dy: required("dy")?,
            weight: values("weight")?,
            bias: values("bias")?,
        };
        let case = Case {
            weight: inputs.weight.is_some(),
            bias: inputs.bias.is_some(),
            eps: eps.ok_or(format!("{name}/eps is missing"))?,
            ..Case::new(x.shape()[0], x.shape()[1], x.dtype(), x.dtype())
        };
        let results = |suffix: &str| {
            let mut results: [Vec<f64>; 6] = Default::default();
            for (result, key) in results.iter_mut().zip(RESULTS) {
                *result = values(&format!("{key}_{suffix}"))?.unwrap_or_default();
            }
            Ok::<_, String>(results)
        };
        groups.push(Group {
            name: name.to_owned(),
            case,
            inputs,
            f64: results("f64")?,
            f32: results("f32")?,
        });
    }
    Ok(groups)
}

/// The oracle's sizes of terms, with PyTorch's float64 results.
fn witness(group: &Group) -> Output {
    let [y, mean, rstd, dx, dweight, dbias] = group.f64.clone();
    Output {
        y,
        mean,
        rstd,
        dx,
        dweight,
        dbias,
        ..check::expected(&group.case, &group.inputs)
    }
}

fn device_agrees(device: &Device) -> Verdict {
    let groups = groups()?;
    if groups.len() < 40 {
        return Err(format!("the file has {} groups", groups.len()));
    }
    for group in &groups {
        let results = check::run(&group.case, &group.inputs, device).map_err(text)?;
        check::compare_with(&group.case, &witness(group), &results)
            .map_err(|reason| format!("{}: {reason}", group.name))?;
    }
    Ok(())
}

/// To 13 digits of each result's terms: both are float64.
fn oracle_agrees() -> Verdict {
    for group in groups()? {
        let (case, n) = (&group.case, group.case.n_cols);
        let want = witness(&group);
        let got = check::expected(case, &group.inputs);
        let compare = |name: &str, got: &[f64], want: &[f64], terms: &dyn Fn(usize) -> f64| {
            if got.len() != want.len() {
                return Err(format!(
                    "{}/{name}: {} and {} elements",
                    group.name,
                    got.len(),
                    want.len()
                ));
            }
            for (i, (got, want)) in got.iter().zip(want).enumerate() {
                let agree = match want.is_finite() {
                    true => (got - want).abs() <= 1e-13 * terms(i),
                    // Of an infinite row's mean PyTorch makes NaN, and the definition infinity.
                    false if name == "mean" => !got.is_finite(),
                    false => got == want || got.is_nan() && want.is_nan(),
                };
                if !agree {
                    return Err(format!(
                        "{}/{name}[{i}]: {got:e} and PyTorch's {want:e}",
                        group.name
                    ));
                }
            }
            Ok(())
        };
        // A mean's rounding is multiplied by rstd on its way to y and dx.
        let of_mean = |r: usize| want.mean_terms[r] * want.rstd[r];
        compare("y", &got.y, &want.y, &|i| {
            want.y_terms[i / n] + of_mean(i / n)
        })?;
        compare("mean", &got.mean, &want.mean, &|r| want.mean_terms[r])?;
        // PyTorch's own sums lose some of the variance's digits where the mean is large.
        compare("rstd", &got.rstd, &want.rstd, &|r| {
            want.rstd[r] * (1.0 + want.mean_terms[r] * want.rstd[r])
        })?;
        compare("dx", &got.dx, &want.dx, &|i| {
            want.dx_terms[i / n] + want.dx_of_mean[i / n]
        })?;
        if case.weight {
            let terms =
                |c: usize| case.n_rows as f64 * (want.dweight_terms[c] + want.dweight_of_mean[c]);
            compare("dweight", &got.dweight, &want.dweight, &terms)?;
        }
        if case.bias {
            let terms = |c: usize| case.n_rows as f64 * want.dbias_terms[c];
            compare("dbias", &got.dbias, &want.dbias, &terms)?;
        }
    }
    Ok(())
}
