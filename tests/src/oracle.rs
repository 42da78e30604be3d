//! LayerNorm in f64 by its definition, two passes, no cleverness but sums and means that carry what their roundings
//! lose: what every device is compared with, f64 kernels among them.

/// What a forward and a backward pass read, row-major, as the values that the device was given.
pub struct Input<'a> {
    pub n_cols: usize,
    pub x: &'a [f64],
    pub weight: Option<&'a [f64]>,
    pub bias: Option<&'a [f64]>,
    pub dy: &'a [f64],
    pub eps: f64,
}

/// What they write, and beside each result the size of the terms it is made of: a sum's rounding error is
/// relative to its terms, not to what is left of them.
#[derive(Default)]
pub struct Output {
    pub y: Vec<f64>,
    pub mean: Vec<f64>,
    pub rstd: Vec<f64>,
    pub dx: Vec<f64>,
    pub dweight: Vec<f64>,
    pub dbias: Vec<f64>,
    /// Of each row, the largest |xhat * weight| + |bias|.
    pub y_terms: Vec<f64>,
    /// Of each row, the largest |x|.
    pub mean_terms: Vec<f64>,
    /// Of each row, the largest sum of the sizes of dx's three terms.
    pub dx_terms: Vec<f64>,
    /// Of each column, the largest |dy * xhat|.
    pub dweight_terms: Vec<f64>,
    /// Of each column, the largest |dy|.
    pub dbias_terms: Vec<f64>,
    /// What an error in mean of the row's largest |x| would do to dx: of each row, the largest.
    pub dx_of_mean: Vec<f64>,
    /// The same for dweight, of each column.
    pub dweight_of_mean: Vec<f64>,
}

/// Computes both passes.
pub fn layernorm(input: &Input<'_>) -> Output {
    let n_cols = input.n_cols;
    let n = n_cols as f64;
    let weight = |c: usize| input.weight.map_or(1.0, |weight| weight[c]);
    let bias = |c: usize| input.bias.map_or(0.0, |bias| bias[c]);
    let mut out = Output {
        dweight: vec![0.0; n_cols],
        dbias: vec![0.0; n_cols],
        dweight_terms: vec![0.0; n_cols],
        dbias_terms: vec![0.0; n_cols],
        dweight_of_mean: vec![0.0; n_cols],
        ..Output::default()
    };
    for (x, dy) in input.x.chunks(n_cols).zip(input.dy.chunks(n_cols)) {
        let rounded = sum(x.iter().copied()) / n;
        // What rounding the mean left over, which f64's results show.
        let left_over = sum(x.iter().map(|x| x - rounded)) / n;
        let mean = rounded + left_over;
        let deviation = |x: &f64| (x - rounded) - left_over;
        let var = sum(x.iter().map(|x| deviation(x).powi(2))) / n;
        let rstd = 1.0 / (var + input.eps).sqrt();
        let xhat: Vec<f64> = x.iter().map(|x| deviation(x) * rstd).collect();
        let dxhat: Vec<f64> = (0..n_cols).map(|c| dy[c] * weight(c)).collect();
        let mean_dxhat = sum(dxhat.iter().copied()) / n;
        let mean_dxhat_xhat = sum(dxhat.iter().zip(&xhat).map(|(d, h)| d * h)) / n;

        // xhat moves by this for an error in mean as large as the row's largest element.
        let largest = x.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        // A denormal's digits end where the smallest normal's do: each of the mean's two roundings is that of one.
        let shift = largest.max(2.0 * f64::from(f32::MIN_POSITIVE)) * rstd;
        let (mut y_terms, mut dx_terms) = (0.0f64, 0.0f64);
        let mut dx_of_mean = 0.0f64;
        for c in 0..n_cols {
            let scaled = xhat[c] * weight(c);
            out.y.push(scaled + bias(c));
            y_terms = y_terms.max(scaled.abs() + bias(c).abs());

            let [own, of_mean, of_xhat] = [dxhat[c], mean_dxhat, xhat[c] * mean_dxhat_xhat];
            out.dx.push(rstd * (own - of_mean - of_xhat));
            dx_terms = dx_terms.max(rstd * (own.abs() + of_mean.abs() + of_xhat.abs()));
            let moved = mean_dxhat_xhat.abs() + (xhat[c] * mean_dxhat).abs();
            dx_of_mean = dx_of_mean.max(rstd * shift * moved);

            let dweight = dy[c] * xhat[c];
            out.dweight[c] += dweight;
            out.dweight_terms[c] = out.dweight_terms[c].max(dweight.abs());
            out.dweight_of_mean[c] = out.dweight_of_mean[c].max(shift * dy[c].abs());
            out.dbias[c] += dy[c];
            out.dbias_terms[c] = out.dbias_terms[c].max(dy[c].abs());
        }
        out.mean.push(mean);
        out.rstd.push(rstd);
        out.y_terms.push(y_terms);
        out.mean_terms.push(largest);
        out.dx_terms.push(dx_terms);
        out.dx_of_mean.push(dx_of_mean);
    }
    out
}

/// A sum with a second word for what each addition rounds off (Neumaier 1974).
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0f64, 0.0f64);
    for value in values {
        let next = sum + value;
        lost += if sum.abs() >= value.abs() {
            (sum - next) + value
        } else {
            (value - next) + sum
        };
        sum = next;
    }
    // An infinite or NaN sum loses NaN.
    if lost.is_nan() { sum } else { sum + lost }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gradients are those of the loss sum(dy * y), by central differences.
    #[test]
    fn gradients_agree_with_differences() {
        let (n_rows, n_cols) = (3, 5);
        let wave =
            |n: usize, f: f64| -> Vec<f64> { (0..n).map(|i| (f * (i + 1) as f64).sin()).collect() };
        let x = wave(n_rows * n_cols, 1.7);
        let dy = wave(n_rows * n_cols, 0.9);
        let (weight, bias) = (wave(n_cols, 2.3), wave(n_cols, 3.1));
        let run = |x: &[f64], weight: &[f64], bias: &[f64]| {
            let (weight, bias) = (Some(weight), Some(bias));
            let eps = 1e-3;
            layernorm(&Input {
                n_cols,
                x,
                weight,
                bias,
                dy: &dy,
                eps,
            })
        };
        let loss = |x: &[f64], weight: &[f64], bias: &[f64]| -> f64 {
            let y = run(x, weight, bias).y;
            y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
        };
        let out = run(&x, &weight, &bias);
        let step = 1e-5;
        let moved = |values: &[f64], i: usize, by: f64| {
            let mut values = values.to_vec();
            values[i] += by;
            values
        };
        for i in 0..x.len() {
            let up = loss(&moved(&x, i, step), &weight, &bias);
            let down = loss(&moved(&x, i, -step), &weight, &bias);
            assert!(
                ((up - down) / (2.0 * step) - out.dx[i]).abs() < 1e-8,
                "dx[{i}]"
            );
        }
        for c in 0..n_cols {
            let up = loss(&x, &moved(&weight, c, step), &bias);
            let down = loss(&x, &moved(&weight, c, -step), &bias);
            assert!(
                ((up - down) / (2.0 * step) - out.dweight[c]).abs() < 1e-8,
                "dweight[{c}]"
            );
            let up = loss(&x, &weight, &moved(&bias, c, step));
            let down = loss(&x, &weight, &moved(&bias, c, -step));
            assert!(
                ((up - down) / (2.0 * step) - out.dbias[c]).abs() < 1e-8,
                "dbias[{c}]"
            );
        }
    }
}
