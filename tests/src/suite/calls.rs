//! The ways to call: the layer, the functions, fused addition, into and over given memory.

use layernorm_host::file::SafetensorsFile;
use layernorm_host::{
    DType, Device, Error, FastLayerNorm, GradientsInto, LayerNorm, Needs, Pinned, Tensor,
    fast_layernorm,
};

use super::{Test, text};
use crate::check::{self, Results, Verdict};
use crate::data::{Case, dtypes, tensor};
use crate::tolerance;

pub const TESTS: &[(&str, Test)] = &[
    ("layer_over_two_dimensions", two_dimensions),
    ("a_new_layer_is_ones_and_zeros", new_layer),
    ("a_layer_saved_and_loaded", saved_and_loaded),
    ("pinned_copies", pinned_copies),
    ("any_rank", any_rank),
    ("residual", residual),
    (
        "one_row_with_a_stride_beside_a_contiguous_residual",
        one_row,
    ),
    ("dx_over_dy", in_place),
    ("only_what_is_needed", needs),
    ("y_alone", y_alone),
    ("accumulate", accumulate),
];

fn two_dimensions(device: &Device) -> Verdict {
    let case = Case::new(6, 4 * 33, DType::F16, DType::F32);
    let inputs = case.generate();
    let shape = [4, 33];
    let parameter = |values: &Option<Vec<f64>>| {
        let values = values.as_ref().ok_or("a parameter is absent")?;
        tensor(values, &shape, DType::F32, device).map_err(text)
    };
    let (weight, bias) = (parameter(&inputs.weight)?, parameter(&inputs.bias)?);
    let layer = LayerNorm::from_parameters(&shape, Some(weight), Some(bias), case.eps);
    let layer = layer.map_err(text)?;
    let x = tensor(&inputs.x, &[2, 3, 4, 33], DType::F16, device).map_err(text)?;
    let y = fast_layernorm(&layer, &x).map_err(text)?;
    if y.shape() != x.shape() || y.dtype() != x.dtype() {
        return Err(format!("y is {y:?}"));
    }
    let (again, saved) = layer.forward(&x).map_err(text)?;
    if again.to_bytes().map_err(text)? != y.to_bytes().map_err(text)? {
        return Err("fast_layernorm and LayerNorm::forward differ".to_owned());
    }
    let (mean, rstd) = (saved.mean().clone(), saved.rstd().clone());
    if mean.shape() != [2, 3] {
        return Err(format!("mean is {mean:?}"));
    }
    let dy = tensor(&inputs.dy, x.shape(), DType::F16, device).map_err(text)?;
    let (dx, dweight, dbias) = FastLayerNorm::backward(saved, &dy).map_err(text)?;
    if dweight.as_ref().map(Tensor::shape) != Some(&shape) {
        return Err(format!("dweight is {dweight:?}"));
    }
    let results = Results {
        y,
        mean,
        rstd,
        dx,
        dweight,
        dbias,
    };
    check::compare(&case, &inputs, &results)
}

fn new_layer(device: &Device) -> Verdict {
    let layer = LayerNorm::new(&[3], DType::F32, device).map_err(text)?;
    let values =
        |tensor: Option<&Tensor>| tensor.map(|tensor| tensor.to_vec::<f32>().map_err(text));
    let weight = values(layer.weight()).transpose()?;
    let bias = values(layer.bias()).transpose()?;
    if (weight.as_deref(), bias.as_deref()) != (Some(&[1.0; 3][..]), Some(&[0.0; 3][..])) {
        return Err(format!("weight {weight:?}, bias {bias:?}"));
    }
    let shown = layer.to_string();
    if shown != "LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=True)" {
        return Err(shown);
    }
    Ok(())
}

fn saved_and_loaded(device: &Device) -> Verdict {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("layer.safetensors");
    for (dtype, parameter_dtype) in [(DType::F32, DType::F32), (DType::F16, DType::F16)] {
        let case = Case::new(3, 33, dtype, parameter_dtype);
        let inputs = case.generate();
        let parameter = |values: &Option<Vec<f64>>| {
            let values = values.as_ref().ok_or("a parameter is absent")?;
            tensor(values, &[33], parameter_dtype, device).map_err(text)
        };
        let (weight, bias) = (parameter(&inputs.weight)?, parameter(&inputs.bias)?);
        for layer in [
            LayerNorm::from_parameters(&[33], Some(weight.clone()), Some(bias), 1e-3),
            LayerNorm::from_parameters(&[33], Some(weight), None, 0.5),
        ] {
            let layer = layer.map_err(text)?;
            layer.save(&path).map_err(text)?;
            let file = SafetensorsFile::read(&path).map_err(text)?;
            let eps = file.eps().map_err(text)?.ok_or("no eps in the file")?;
            let loaded = LayerNorm::load(&path, "", eps, device).map_err(text)?;
            if loaded.to_string() != layer.to_string() {
                return Err(format!("{layer} came back as {loaded}"));
            }
            let x = tensor(&inputs.x, &case.shape(), dtype, device).map_err(text)?;
            let before = fast_layernorm(&layer, &x).map_err(text)?;
            same("y", &fast_layernorm(&loaded, &x).map_err(text)?, &before)?;
        }
    }
    Ok(())
}

fn pinned_copies(device: &Device) -> Verdict {
    let values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let mut memory = Pinned::<f32>::new(1000, device).map_err(text)?;
    memory.copy_from_slice(&values);
    let mut x = Tensor::zeros(DType::F32, &[10, 100], device).map_err(text)?;
    let copying = x.start_write(memory).map_err(text)?;
    // While a copy is on its way, nothing else may write there.
    if x.copy_from_slice(&values).is_ok() {
        return Err("a tensor was written while a copy to it was on its way".to_owned());
    }
    let mut memory = copying.wait().map_err(text)?;
    if x.to_vec::<f32>().map_err(text)? != values {
        return Err("what was written is not what was given".to_owned());
    }
    memory.fill(f32::NAN);
    let (y, _) = FastLayerNorm::forward(&x, None, None, 1e-5).map_err(text)?;
    let memory = y.start_read(memory).and_then(|copying| copying.wait());
    let memory = memory.map_err(text)?;
    if *memory != y.to_vec::<f32>().map_err(text)?[..] {
        return Err("what was read is not what is there".to_owned());
    }
    for wrong in [
        y.start_read(Pinned::<f32>::new(999, device).map_err(text)?),
        x.start_write(Pinned::<f32>::new(0, device).map_err(text)?),
    ] {
        if !matches!(wrong, Err(Error::ElementCount { .. })) {
            return Err("a copy of another length was started".to_owned());
        }
    }
    // A copy that nobody waits for is waited for when it is dropped.
    drop(y.start_read(memory));
    Ok(())
}

fn any_rank(device: &Device) -> Verdict {
    let case = Case::new(12, 33, DType::F32, DType::F32);
    let inputs = case.generate();
    let flat = check::run(&case, &inputs, device).map_err(text)?;
    let flat = flat.y.to_vec::<f32>().map_err(text)?;
    let parameter = |values: &Option<Vec<f64>>| {
        let values = values.as_ref().ok_or("a parameter is absent")?;
        tensor(values, &[33], DType::F32, device).map_err(text)
    };
    let (weight, bias) = (parameter(&inputs.weight)?, parameter(&inputs.bias)?);
    for shape in [
        &[12, 33][..],
        &[3, 4, 33],
        &[2, 1, 6, 33],
        &[1, 2, 2, 3, 33],
    ] {
        let x = tensor(&inputs.x, shape, DType::F32, device).map_err(text)?;
        let forward = FastLayerNorm::forward(&x, Some(&weight), Some(&bias), case.eps);
        let (y, saved) = forward.map_err(text)?;
        if y.shape() != shape || saved.mean().shape() != &shape[..shape.len() - 1] {
            return Err(format!("{shape:?}: y {y:?}, mean {:?}", saved.mean()));
        }
        if y.to_vec::<f32>().map_err(text)? != flat {
            return Err(format!("{shape:?}: y differs from that of rank 2"));
        }
    }
    Ok(())
}

/// y of x + residual, and the gradient of both with what reaches the sum by other ways added.
fn residual(device: &Device) -> Verdict {
    for (dtype, parameter_dtype) in dtypes() {
        for n_cols in [33, 384] {
            let case = Case::new(5, n_cols, dtype, parameter_dtype);
            residual_case(&case, device).map_err(|reason| format!("{case:?}: {reason}"))?;
        }
    }
    Ok(())
}

fn residual_case(case: &Case, device: &Device) -> Verdict {
    let device = device.with_poisoned_memory();
    let inputs = case.generate();
    let rows = |values: &[f64]| tensor(values, &case.shape(), case.dtype, &device).map_err(text);
    let weight = inputs.weight.as_ref().ok_or("weight is absent")?;
    let weight = tensor(weight, &[case.n_cols], case.parameter_dtype, &device).map_err(text)?;
    // Half and half: the sum is x again, exactly.
    let half: Vec<f64> = inputs.x.iter().map(|x| x / 2.0).collect();
    let (x, other) = (rows(&half)?, rows(&half)?);
    let forward = FastLayerNorm::forward_add(&x, &other, Some(&weight), None, case.eps);
    let (y, sum, saved) = forward.map_err(text)?;
    check::within("sum", &sum, &inputs.x, |_, _| 0.0)?;
    let (mean, rstd) = (saved.mean().clone(), saved.rstd().clone());
    // dx comes with dsum added: compare it by taking zeros, then see that dsum arrives.
    let (dy, zeros) = (rows(&inputs.dy)?, rows(&vec![0.0; inputs.x.len()])?);
    let (dx, dweight, dbias) = FastLayerNorm::backward_add(saved, &dy, &zeros).map_err(text)?;
    let without_bias = Case {
        bias: false,
        ..*case
    };
    let results = Results {
        y,
        mean,
        rstd,
        dx,
        dweight,
        dbias,
    };
    let mut expected = inputs.clone();
    expected.bias = None;
    check::compare(&without_bias, &expected, &results)?;

    let forward = FastLayerNorm::forward_add(&x, &other, Some(&weight), None, case.eps);
    let (_, _, saved) = forward.map_err(text)?;
    let dsum = rows(&inputs.dy)?;
    let (dx, _, _) = FastLayerNorm::backward_add(saved, &dy, &dsum).map_err(text)?;
    let want = check::expected(&without_bias, &expected);
    let with_dsum: Vec<f64> = want.dx.iter().zip(&inputs.dy).map(|(a, b)| a + b).collect();
    check::within("dx with dsum", &dx, &with_dsum, |i, dx| {
        let row = i / case.n_cols;
        let terms = want.dx_terms[row] + inputs.dy[i].abs();
        tolerance::dx(case.dtype, dx, terms, want.dx_of_mean[row])
    })
}

/// A batch of one row of a wider tensor keeps that tensor's stride, which then means nothing.
fn one_row(device: &Device) -> Verdict {
    let values: Vec<f64> = (0..24).map(f64::from).collect();
    let wide = tensor(&values, &[2, 12], DType::F32, device).map_err(text)?;
    let x = wide.rows_in(0..1).and_then(|row| row.columns(0..8));
    let x = x.map_err(text)?;
    let residual = tensor(&values[..8], &[1, 8], DType::F32, device).map_err(text)?;
    let forward = FastLayerNorm::forward_add(&x, &residual, None, None, 1e-5);
    let (_, sum, saved) = forward.map_err(text)?;
    let doubled: Vec<f64> = values[..8].iter().map(|value| 2.0 * value).collect();
    check::within("sum", &sum, &doubled, |_, _| 0.0)?;
    // And as dsum beside dx.
    let dsum = wide.rows_in(1..2).and_then(|row| row.columns(4..12));
    let dsum = dsum.map_err(text)?;
    let dy = Tensor::zeros(DType::F32, &[1, 8], device).map_err(text)?;
    let (dx, _, _) = FastLayerNorm::backward_add(saved, &dy, &dsum).map_err(text)?;
    check::within("dx", &dx, &values[16..24], |_, _| 0.0)
}

fn in_place(device: &Device) -> Verdict {
    for (dtype, parameter_dtype) in dtypes() {
        // Both ways, and with one dx.
        check::case(&Case::new(5, 4096, dtype, parameter_dtype), device)?;
        for n_cols in [33, 384] {
            // More rows than a device has multiprocessors: dweight is added in one order, too.
            let case = Case::new(1024, n_cols, dtype, parameter_dtype);
            let inputs = case.generate();
            let apart = check::run(&case, &inputs, device).map_err(text)?;
            let (saved, dy) = forward(&case, device)?;
            let (dx, dweight, _) = FastLayerNorm::backward_in_place(saved, dy).map_err(text)?;
            same("dx", &dx, &apart.dx)?;
            let dweights = dweight.as_ref().zip(apart.dweight.as_ref());
            let (dweight, other) = dweights.ok_or("dweight is absent")?;
            same("dweight", dweight, other)?;
        }
    }
    Ok(())
}

fn needs(device: &Device) -> Verdict {
    for n_cols in [33, 384] {
        let case = Case::new(37, n_cols, DType::F32, DType::F32);
        let inputs = case.generate();
        let all = check::run(&case, &inputs, device).map_err(text)?;
        for bits in 0..8 {
            let needs = Needs {
                dx: bits & 1 != 0,
                dweight: bits & 2 != 0,
                dbias: bits & 4 != 0,
            };
            let (saved, dy) = forward(&case, device)?;
            let got = FastLayerNorm::backward_needs(saved, &dy, needs).map_err(text)?;
            for (name, needed, got, want) in [
                ("dx", needs.dx, got.dx, Some(&all.dx)),
                ("dweight", needs.dweight, got.dweight, all.dweight.as_ref()),
                ("dbias", needs.dbias, got.dbias, all.dbias.as_ref()),
            ] {
                match (got, want) {
                    (Some(got), Some(want)) if needed => same(name, &got, want)?,
                    (None, _) if !needed => {}
                    _ => return Err(format!("{needs:?}: {name} is there or not against it")),
                }
            }
        }
    }
    Ok(())
}

/// Without statistics y is what it is with them, by kernels of every kind.
fn y_alone(device: &Device) -> Verdict {
    for dtype in DType::ALL {
        for (n_rows, n_cols) in [
            (0, 8),
            (1, 33),
            (37, 256),
            (5, 1023),
            (3, 8201),
            (2, 60_000),
        ] {
            let case = Case::new(n_rows, n_cols, dtype, dtype);
            let inputs = case.generate();
            let x = tensor(&inputs.x, &case.shape(), dtype, device).map_err(text)?;
            let layer = LayerNorm::new(&[n_cols], dtype, device).map_err(text)?;
            let (y, _) = layer.forward(&x).map_err(text)?;
            let alone = fast_layernorm(&layer, &x).map_err(text)?;
            same(&format!("y of {dtype}, {n_rows} x {n_cols}"), &alone, &y)?;
        }
    }
    Ok(())
}

fn accumulate(device: &Device) -> Verdict {
    // A few rows, and more than a device has multiprocessors.
    let cases = dtypes()
        .into_iter()
        .flat_map(|dtypes| [(5, dtypes), (1024, dtypes)]);
    for (n_rows, (dtype, parameter_dtype)) in cases {
        let case = Case::new(n_rows, 33, dtype, parameter_dtype);
        let inputs = case.generate();
        let want = check::expected(&case, &inputs);
        // 2 is exact in every dtype.
        let two = || tensor(&[2.0; 33], &[33], parameter_dtype, device).map_err(text);
        let (mut dweight, mut dbias) = (two()?, two()?);
        let (saved, dy) = forward(&case, device)?;
        let into = GradientsInto {
            dx: None,
            dweight: Some(&mut dweight),
            dbias: Some(&mut dbias),
            accumulate: true,
        };
        FastLayerNorm::backward_into(saved, &dy, into).map_err(text)?;
        let added = |values: &[f64]| values.iter().map(|value| value + 2.0).collect::<Vec<_>>();
        check::within("dweight", &dweight, &added(&want.dweight), |c, value| {
            let (terms, of_mean) = (want.dweight_terms[c] + 2.0, want.dweight_of_mean[c]);
            tolerance::dweight(parameter_dtype, value, terms, of_mean, n_rows)
        })?;
        check::within("dbias", &dbias, &added(&want.dbias), |c, value| {
            tolerance::dbias(parameter_dtype, value, want.dbias_terms[c] + 2.0, n_rows)
        })?;
    }
    Ok(())
}

fn forward(case: &Case, device: &Device) -> Result<(layernorm_host::Saved, Tensor), String> {
    let inputs = case.generate();
    let rows = |values: &[f64]| tensor(values, &case.shape(), case.dtype, device).map_err(text);
    let parameter = |values: &Option<Vec<f64>>| {
        let values = values.as_ref().ok_or("a parameter is absent")?;
        tensor(values, &[case.n_cols], case.parameter_dtype, device).map_err(text)
    };
    let (weight, bias) = (parameter(&inputs.weight)?, parameter(&inputs.bias)?);
    let x = rows(&inputs.x)?;
    let forward = FastLayerNorm::forward(&x, Some(&weight), Some(&bias), case.eps);
    let (_, saved) = forward.map_err(text)?;
    Ok((saved, rows(&inputs.dy)?))
}

fn same(name: &str, got: &Tensor, want: &Tensor) -> Verdict {
    if got.to_bytes().map_err(text)? == want.to_bytes().map_err(text)? {
        Ok(())
    } else {
        Err(format!("{name} is not the same bits"))
    }
}
