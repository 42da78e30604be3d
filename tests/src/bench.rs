//! One pass on a small device, against the oracle: for tests that look at what the launches did.

use layernorm_host::{BackwardPointers, ForwardPointers, Problem};

use crate::check;
use crate::data::{Case, Inputs};
use crate::direct::{Direct, Done};
use crate::oracle::Output;
use crate::tolerance;

/// A case's operands on the device, what the oracle expects, and the sizes in bytes.
pub struct Bench {
    pub direct: Direct,
    pub case: Case,
    pub inputs: Inputs,
    pub want: Output,
    pub problem: Problem,
    pub forward: ForwardPointers,
    pub backward: BackwardPointers,
    pub of_rows: u64,
    pub of_columns: u64,
    pub of_statistics: u64,
}

impl Bench {
    /// A device of its own, whose checks are on.
    pub fn new(case: Case, model: &str, sm_count: u32) -> Bench {
        let direct = Direct::new(model, sm_count, true);
        let inputs = case.generate();
        let want = check::expected(&case, &inputs);
        let (dtype, parameter) = (case.dtype, case.parameter_dtype);
        let statistics = dtype.accumulator();
        let of_rows = case.n_rows * case.n_cols * dtype.size();
        let of_columns = case.n_cols * parameter.size();
        let of_statistics = case.n_rows * statistics.size();
        let or_absent = |values: &Option<Vec<f64>>| {
            values
                .as_ref()
                .map_or(0, |values| direct.upload(values, parameter))
        };
        let forward = ForwardPointers {
            x: direct.upload(&inputs.x, dtype),
            weight: or_absent(&inputs.weight),
            bias: or_absent(&inputs.bias),
            y: direct.alloc(of_rows),
            mean: direct.alloc(of_statistics),
            rstd: direct.alloc(of_statistics),
            ..ForwardPointers::default()
        };
        let dy = direct.upload(&inputs.dy, dtype);
        let backward = BackwardPointers {
            dy,
            x: forward.x,
            weight: forward.weight,
            mean: direct.upload(&want.mean, statistics),
            rstd: direct.upload(&want.rstd, statistics),
            dx: match case.in_place {
                true => dy,
                false => direct.alloc(of_rows),
            },
            dweight: direct.alloc(of_columns),
            dbias: direct.alloc(of_columns),
            ..BackwardPointers::default()
        };
        let problem = Problem::new(case.n_rows, case.n_cols, dtype, parameter, case.eps);
        Bench {
            direct,
            case,
            inputs,
            want,
            problem: problem.expect("a problem"),
            forward,
            backward,
            of_rows: of_rows as u64,
            of_columns: of_columns as u64,
            of_statistics: of_statistics as u64,
        }
    }

    /// The forward pass.
    pub fn run_forward(&self) -> Done {
        self.direct
            .forward(&self.problem, &self.forward)
            .expect("rows")
    }

    /// The backward pass, launch by launch.
    pub fn run_backward(&self) -> Vec<Done> {
        self.direct.backward(&self.problem, &self.backward)
    }

    fn close(&self, name: &str, got: &[f64], want: &[f64], bound: impl Fn(usize, f64) -> f64) {
        assert_eq!(got.len(), want.len(), "{name}");
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            // A NaN is within no bound.
            let passes = (got - want).abs() <= bound(i, *want);
            assert!(
                passes,
                "{:?}: {name}[{i}] is {got:e}, expected {want:e}",
                self.case
            );
        }
    }

    /// y, against the oracle.
    pub fn y_is_right(&self) {
        let want = &self.want;
        let rows = self.gathered(self.forward.y, self.problem.strides().y);
        self.close("y", &rows, &want.y, |i, y| {
            let row = i / self.case.n_cols;
            tolerance::y(self.case.dtype, y, want.y_terms[row])
        });
    }

    /// mean and rstd.
    pub fn statistics_are_right(&self) {
        let dtype = self.case.dtype;
        let read = |address| {
            self.direct
                .download(address, self.case.n_rows, dtype.accumulator())
        };
        let want = &self.want;
        self.close("mean", &read(self.forward.mean), &want.mean, |i, _| {
            tolerance::mean(dtype, want.mean_terms[i])
        });
        self.close("rstd", &read(self.forward.rstd), &want.rstd, |_, rstd| {
            tolerance::rstd(dtype, rstd)
        });
    }

    /// dx, with `added` to every element.
    pub fn dx_is_right(&self, added: &[f64]) {
        let want = &self.want;
        let sums: Vec<f64> = match added {
            [] => want.dx.clone(),
            added => want
                .dx
                .iter()
                .zip(added)
                .map(|(dx, added)| dx + added)
                .collect(),
        };
        let rows = self.gathered(self.backward.dx, self.problem.strides().dx);
        self.close("dx", &rows, &sums, |i, dx| {
            let row = i / self.case.n_cols;
            let terms = want.dx_terms[row] + added.get(i).map_or(0.0, |added| added.abs());
            tolerance::dx(self.case.dtype, dx, terms, want.dx_of_mean[row])
        });
    }

    /// dweight.
    pub fn dweight_is_right(&self) {
        let (parameter, want) = (self.case.parameter_dtype, &self.want);
        let got = self
            .direct
            .download(self.backward.dweight, self.case.n_cols, parameter);
        self.close("dweight", &got, &want.dweight, |c, value| {
            let (terms, of_mean) = (want.dweight_terms[c], want.dweight_of_mean[c]);
            tolerance::dweight(parameter, value, terms, of_mean, self.case.n_rows)
        });
    }

    /// dbias.
    pub fn dbias_is_right(&self) {
        let (parameter, want) = (self.case.parameter_dtype, &self.want);
        let got = self
            .direct
            .download(self.backward.dbias, self.case.n_cols, parameter);
        self.close("dbias", &got, &want.dbias, |c, value| {
            tolerance::dbias(parameter, value, want.dbias_terms[c], self.case.n_rows)
        });
    }

    /// The rows of a tensor whose rows lie apart, one after the other.
    pub fn gathered(&self, address: u64, stride: usize) -> Vec<f64> {
        let (n_cols, dtype) = (self.case.n_cols, self.case.dtype);
        let row = |r: usize| {
            let at = address + (r * stride * dtype.size()) as u64;
            self.direct.download(at, n_cols, dtype)
        };
        (0..self.case.n_rows).flat_map(row).collect()
    }

    /// Rows that lie apart, with NaN between them.
    pub fn scattered(&self, values: &[f64], stride: usize) -> u64 {
        let (n_cols, dtype) = (self.case.n_cols, self.case.dtype);
        let address = self
            .direct
            .upload(&vec![f64::NAN; self.case.n_rows * stride], dtype);
        for (r, row) in values.chunks(n_cols).enumerate() {
            let at = address + (r * stride * dtype.size()) as u64;
            self.direct.write(at, row, dtype);
        }
        address
    }

    /// Holds what was read and written to so many bytes, of a launch over the rows.
    pub fn moved(&self, what: &str, done: &Done, read: u64, written: u64) {
        let name = format!("{what}, {:?}, {}", self.case, done.launch.entry);
        assert_eq!(done.read(), read, "{name}: bytes read");
        assert_eq!(done.written(), written, "{name}: bytes written");
    }
}
