//! The formula in float64, row by row on the host's cores, and the comparison with it. It shares nothing with
//! the kernels and the CPU path, and nothing with the oracle of the repository's tests.

use rayon::prelude::*;

use super::data::{Inputs, Value};
use super::{DX, MEAN, PARAMETERS, STATISTIC_MEAN, STATISTIC_RSTD, TensorError, Test, Y};

/// What a device gave. dweight and dbias are empty where it gave none.
pub struct Results<T> {
    pub y: Vec<T>,
    pub mean: Vec<f64>,
    pub rstd: Vec<f64>,
    pub dx: Vec<T>,
    pub dweight: Vec<f64>,
    pub dbias: Vec<f64>,
}

/// The largest error and the largest share of a bound.
#[derive(Clone, Copy, Default)]
struct Worst {
    largest: f64,
    of_bound: f64,
}

impl Worst {
    fn add(&mut self, got: f64, expected: f64, bound: f64) {
        let error = (got - expected).abs();
        // An exact result passes whatever its bound.
        let of_bound = if error == 0.0 { 0.0 } else { error / bound };
        self.merge(Worst {
            largest: error,
            of_bound,
        });
    }

    fn merge(&mut self, other: Worst) {
        self.largest = largest(self.largest, other.largest);
        self.of_bound = largest(self.of_bound, other.of_bound);
    }

    fn named(self, tensor: &'static str) -> TensorError {
        TensorError {
            tensor,
            largest: self.largest,
            of_bound: self.of_bound,
        }
    }
}

/// `f64::max` would drop a NaN.
fn largest(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// A gradient of weight or bias.
#[derive(Clone, Default)]
struct Column {
    sum: f64,
    /// The largest term's size.
    term: f64,
    /// What an error in mean of the row's largest |x| would do to a term, at most.
    of_mean: f64,
}

impl Column {
    fn add(&mut self, term: f64, of_mean: f64) {
        self.sum += term;
        self.term = self.term.max(term.abs());
        self.of_mean = self.of_mean.max(of_mean);
    }

    fn merge(&mut self, other: &Column) {
        self.sum += other.sum;
        self.term = self.term.max(other.term);
        self.of_mean = self.of_mean.max(other.of_mean);
    }

    fn compare<T: Value>(&self, got: f64, n_rows: usize, worst: &mut Worst) {
        let walk = (n_rows as f64).sqrt() * (PARAMETERS * self.term + MEAN * self.of_mean);
        worst.add(got, self.sum, T::INSIDE * walk + T::rounding(self.sum));
    }
}

/// What a part of the rows gives.
#[derive(Clone)]
struct Part {
    y: Worst,
    mean: Worst,
    rstd: Worst,
    dx: Worst,
    /// The squared distance of dx from the rounded reference.
    squares: f64,
    dweight: Vec<Column>,
    dbias: Vec<Column>,
}

impl Part {
    fn new(n_cols: usize) -> Self {
        Part {
            y: Worst::default(),
            mean: Worst::default(),
            rstd: Worst::default(),
            dx: Worst::default(),
            squares: 0.0,
            dweight: vec![Column::default(); n_cols],
            dbias: vec![Column::default(); n_cols],
        }
    }

    fn merge(&mut self, other: &Part) {
        self.y.merge(other.y);
        self.mean.merge(other.mean);
        self.rstd.merge(other.rstd);
        self.dx.merge(other.dx);
        self.squares += other.squares;
        for (columns, others) in [
            (&mut self.dweight, &other.dweight),
            (&mut self.dbias, &other.dbias),
        ] {
            for (column, other) in columns.iter_mut().zip(others) {
                column.merge(other);
            }
        }
    }
}

/// Parts that the rows are cut into: enough for any number of cores, and the same for all.
const PARTS: usize = 256;

/// Compares a device's results with the formula's. Gives dx's distance as well.
pub fn compare<T: Value>(
    inputs: &Inputs<T>,
    got: &Results<T>,
    test: &Test,
) -> (Vec<TensorError>, f64) {
    let n_cols = test.dim;
    let n_rows = got.mean.len();
    let widened = |values: &[T]| {
        let mut wide = vec![0.0; values.len()];
        T::widen(values, &mut wide);
        wide
    };
    let (weight, bias) = (widened(&inputs.weight), widened(&inputs.bias));
    let parts: Vec<Part> = (0..PARTS)
        .into_par_iter()
        .map(|part| {
            let mut rows = Rows {
                weight: &weight,
                bias: &bias,
                eps: f64::from(test.eps),
                part: Part::new(n_cols),
                row: Row::new(n_cols),
            };
            for row in part * n_rows / PARTS..(part + 1) * n_rows / PARTS {
                let of = row * n_cols..(row + 1) * n_cols;
                T::widen(&inputs.x[of.clone()], &mut rows.row.x);
                T::widen(&inputs.dy[of.clone()], &mut rows.row.dy);
                T::widen(&got.y[of.clone()], &mut rows.row.y);
                T::widen(&got.dx[of], &mut rows.row.dx);
                rows.compare::<T>(got.mean[row], got.rstd[row]);
            }
            rows.part
        })
        .collect();
    let mut all = Part::new(n_cols);
    parts.iter().for_each(|part| all.merge(part));

    let gradient = |columns: &[Column], got: &[f64]| {
        let mut worst = Worst::default();
        for (c, column) in columns.iter().enumerate() {
            // One that is absent is as wrong as can be.
            let got = got.get(c).copied().unwrap_or(f64::NAN);
            column.compare::<T>(got, n_rows, &mut worst);
        }
        worst
    };
    let errors = vec![
        all.y.named("y"),
        all.mean.named("mean"),
        all.rstd.named("rstd"),
        all.dx.named("dx"),
        gradient(&all.dweight, &got.dweight).named("dweight"),
        gradient(&all.dbias, &got.dbias).named("dbias"),
    ];
    (errors, all.squares.sqrt())
}

/// One row, widened, and what is computed of it.
struct Row {
    x: Vec<f64>,
    dy: Vec<f64>,
    y: Vec<f64>,
    dx: Vec<f64>,
    xhat: Vec<f64>,
    g: Vec<f64>,
}

impl Row {
    fn new(n_cols: usize) -> Self {
        Row {
            x: vec![0.0; n_cols],
            dy: vec![0.0; n_cols],
            y: vec![0.0; n_cols],
            dx: vec![0.0; n_cols],
            xhat: vec![0.0; n_cols],
            g: vec![0.0; n_cols],
        }
    }
}

struct Rows<'a> {
    weight: &'a [f64],
    bias: &'a [f64],
    eps: f64,
    part: Part,
    row: Row,
}

impl Rows<'_> {
    fn compare<T: Value>(&mut self, got_mean: f64, got_rstd: f64) {
        let Rows {
            weight,
            bias,
            eps,
            part,
            row,
        } = self;
        let n = row.x.len() as f64;
        let (mut sum, mut largest_x) = (0.0, 0.0f64);
        for &x in &row.x {
            sum += x;
            largest_x = largest_x.max(x.abs());
        }
        let mean = sum / n;
        let mut squares = 0.0;
        for &x in &row.x {
            squares += (x - mean).powi(2);
        }
        let rstd = (squares / n + *eps).sqrt().recip();
        // xhat moves by this for an error in mean as large as the row's largest element.
        let shift = largest_x * rstd;
        part.mean
            .add(got_mean, mean, T::INSIDE * STATISTIC_MEAN * largest_x);
        part.rstd
            .add(got_rstd, rstd, T::INSIDE * STATISTIC_RSTD * rstd);

        let (mut g_sum, mut g_xhat_sum) = (0.0, 0.0);
        let mut y_term = 0.0f64;
        for c in 0..row.x.len() {
            let (w, dy) = (weight[c], row.dy[c]);
            let xhat = (row.x[c] - mean) * rstd;
            let g = dy * w;
            row.xhat[c] = xhat;
            row.g[c] = g;
            g_sum += g;
            g_xhat_sum += g * xhat;
            y_term = y_term.max((xhat * w).abs() + bias[c].abs());
            part.dweight[c].add(dy * xhat, shift * dy.abs());
            part.dbias[c].add(dy, 0.0);
        }
        let (c1, c2) = (g_sum / n, g_xhat_sum / n);

        let (mut dx_term, mut moved) = (0.0f64, 0.0f64);
        for (g, xhat) in row.g.iter().zip(&row.xhat) {
            dx_term = dx_term.max(g.abs() + c1.abs() + (xhat * c2).abs());
            moved = moved.max(c2.abs() + (xhat * c1).abs());
        }
        let y_bound = T::INSIDE * Y * y_term;
        let dx_bound = T::INSIDE * (DX * rstd * dx_term + MEAN * rstd * shift * moved);
        for c in 0..row.x.len() {
            let y = row.xhat[c] * weight[c] + bias[c];
            part.y.add(row.y[c], y, y_bound + T::rounding(y));
            let dx = rstd * (row.g[c] - c1 - row.xhat[c] * c2);
            let got = row.dx[c];
            part.dx.add(got, dx, dx_bound + T::rounding(dx));
            part.squares += (got - T::round(dx)).powi(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_the_worst() {
        let mut worst = Worst::default();
        worst.add(1.0, 1.5, 1.0);
        assert_eq!((worst.largest, worst.of_bound), (0.5, 0.5));
        worst.add(f64::NAN, 1.0, 1.0);
        worst.add(1.0, 1.5, 1.0);
        assert!(worst.largest.is_nan() && worst.of_bound.is_nan());
    }

    /// x = [1, 3], dy = [1, 0], weight = [2, 1], no eps: mean 2, rstd 1, xhat = [-1, 1], g = [2, 0], their mean 1,
    /// that of g * xhat -1, so dx = [2 - 1 - 1, 0 - 1 + 1] = 0, dweight = [-1, 0], dbias = [1, 0].
    fn by_hand() -> (Inputs<f32>, Results<f32>, Test) {
        let inputs = Inputs {
            x: vec![1.0, 3.0],
            dy: vec![1.0, 0.0],
            weight: vec![2.0, 1.0],
            bias: vec![0.5, 0.0],
        };
        let results = Results {
            y: vec![-1.5, 1.0],
            mean: vec![2.0],
            rstd: vec![1.0],
            dx: vec![0.0, 0.0],
            dweight: vec![-1.0, 0.0],
            dbias: vec![1.0, 0.0],
        };
        let test = Test {
            dim: 2,
            eps: 0.0,
            ..Test::default()
        };
        (inputs, results, test)
    }

    #[test]
    fn the_formula_by_hand() {
        let (inputs, results, test) = by_hand();
        let (errors, distance) = compare(&inputs, &results, &test);
        assert!(
            errors.iter().all(|error| error.largest == 0.0),
            "{errors:?}"
        );
        assert_eq!(distance, 0.0);
    }

    #[test]
    fn a_wrong_element_of_any_result_is_seen() {
        type Spoil = fn(&mut Results<f32>);
        let spoilers: [(&str, Spoil); 6] = [
            ("y", |results| results.y[1] += 1e-4),
            ("mean", |results| results.mean[0] += 1e-4),
            ("rstd", |results| results.rstd[0] += 1e-4),
            ("dx", |results| results.dx[0] += 1e-4),
            ("dweight", |results| results.dweight[1] += 1e-4),
            ("dbias", |results| results.dbias.clear()),
        ];
        for (name, spoil) in spoilers {
            let (inputs, mut results, test) = by_hand();
            spoil(&mut results);
            for error in compare(&inputs, &results, &test).0 {
                assert_eq!(error.of_bound <= 1.0, error.tensor != name, "{error:?}");
            }
        }
    }
}
