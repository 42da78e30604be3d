//! What a caller can leave out or ask for beside the plain passes: each with its result against the oracle, and
//! with the bytes that it moves, which for what was left out are none.

use layernorm_host::{BackwardPointers, DType, ForwardPointers, Problem, Strides};
use layernorm_tests::check;
use layernorm_tests::data::{Case, Inputs};
use layernorm_tests::direct::{Direct, Done};
use layernorm_tests::oracle::Output;
use layernorm_tests::tolerance;

/// Rows in registers, at any start, in shared memory, and longer than that; backward by rows and by columns.
const COLUMNS: [usize; 5] = [96, 1023, 1024, 4099, 16_448];

/// Of a row that goes over clusters of 16 blocks, which only whole devices have.
const LONG: usize = 230_400;

const DTYPES: [(DType, DType); 4] = [
    (DType::F32, DType::F32),
    (DType::F16, DType::F16),
    (DType::BF16, DType::F32),
    (DType::F64, DType::F64),
];

const N_ROWS: usize = 5;

/// More than two for some of the seven such clusters that a device has.
const LONG_ROWS: usize = 17;

/// A case's operands on the device, what the oracle expects, and the sizes in bytes.
struct Bench {
    direct: Direct,
    case: Case,
    inputs: Inputs,
    want: Output,
    problem: Problem,
    forward: ForwardPointers,
    backward: BackwardPointers,
    of_rows: u64,
    of_columns: u64,
    of_statistics: u64,
}

impl Bench {
    fn new(case: Case) -> Bench {
        let sm_count = if case.n_cols == LONG { 132 } else { 2 };
        let direct = Direct::new("h100", sm_count, true);
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
        let backward = BackwardPointers {
            dy: direct.upload(&inputs.dy, dtype),
            x: forward.x,
            weight: forward.weight,
            mean: direct.upload(&want.mean, statistics),
            rstd: direct.upload(&want.rstd, statistics),
            dx: direct.alloc(of_rows),
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

    fn run_forward(&self) -> Done {
        self.direct
            .forward(&self.problem, &self.forward)
            .expect("rows")
    }

    fn run_backward(&self) -> Vec<Done> {
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

    fn y_is_right(&self) {
        let want = &self.want;
        let rows = self.gathered(self.forward.y, self.problem.strides().y);
        self.close("y", &rows, &want.y, |i, y| {
            let row = i / self.case.n_cols;
            tolerance::y(self.case.dtype, y, want.y_terms[row])
        });
    }

    fn statistics_are_right(&self) {
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
    fn dx_is_right(&self, added: &[f64]) {
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

    fn dweight_is_right(&self) {
        let (parameter, want) = (self.case.parameter_dtype, &self.want);
        let got = self
            .direct
            .download(self.backward.dweight, self.case.n_cols, parameter);
        self.close("dweight", &got, &want.dweight, |c, value| {
            let (terms, of_mean) = (want.dweight_terms[c], want.dweight_of_mean[c]);
            tolerance::dweight(parameter, value, terms, of_mean, self.case.n_rows)
        });
    }

    fn dbias_is_right(&self) {
        let (parameter, want) = (self.case.parameter_dtype, &self.want);
        let got = self
            .direct
            .download(self.backward.dbias, self.case.n_cols, parameter);
        self.close("dbias", &got, &want.dbias, |c, value| {
            tolerance::dbias(parameter, value, want.dbias_terms[c], self.case.n_rows)
        });
    }

    /// The rows of a tensor whose rows lie apart, one after the other.
    fn gathered(&self, address: u64, stride: usize) -> Vec<f64> {
        let (n_cols, dtype) = (self.case.n_cols, self.case.dtype);
        let row = |r: usize| {
            let at = address + (r * stride * dtype.size()) as u64;
            self.direct.download(at, n_cols, dtype)
        };
        (0..self.case.n_rows).flat_map(row).collect()
    }

    /// Rows that lie apart, with NaN between them.
    fn scattered(&self, values: &[f64], stride: usize) -> u64 {
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
    fn moved(&self, what: &str, done: &Done, read: u64, written: u64) {
        let name = format!("{what}, {:?}, {}", self.case, done.launch.entry);
        assert_eq!(done.read(), read, "{name}: bytes read");
        assert_eq!(done.written(), written, "{name}: bytes written");
    }
}

fn each(test: impl Fn(Case)) {
    for (dtype, parameter) in DTYPES {
        for n_cols in COLUMNS {
            test(Case::new(N_ROWS, n_cols, dtype, parameter));
        }
    }
    for (dtype, parameter) in [(DType::F32, DType::F32), (DType::BF16, DType::F32)] {
        test(Case::new(LONG_ROWS, LONG, dtype, parameter));
    }
}

/// The last launch over rows: all but the sum over the partials.
fn over_rows(done: &[Done]) -> &Done {
    let rows = done
        .iter()
        .rfind(|done| done.launch.entry.variant().is_some());
    rows.expect("a kernel over rows")
}

#[test]
fn without_weight_or_bias_neither_is_read() {
    each(|case| {
        for (weight, bias) in [(false, false), (true, false), (false, true), (true, true)] {
            let bench = Bench::new(Case {
                weight,
                bias,
                ..case
            });
            let done = bench.run_forward();
            let parameters = u64::from(weight) + u64::from(bias);
            let read = bench.of_rows + parameters * bench.of_columns;
            let written = bench.of_rows + 2 * bench.of_statistics;
            bench.moved("weight and bias", &done, read, written);
            bench.y_is_right();
            bench.statistics_are_right();
        }
    });
}

#[test]
fn f32_parameters_beside_half_precision_rows() {
    for dtype in [DType::F16, DType::BF16] {
        for n_cols in COLUMNS {
            let bench = Bench::new(Case::new(N_ROWS, n_cols, dtype, DType::F32));
            assert_eq!(bench.of_columns, 4 * n_cols as u64);
            let done = bench.run_forward();
            let written = bench.of_rows + 2 * bench.of_statistics;
            bench.moved("f32", &done, bench.of_rows + 2 * bench.of_columns, written);
            bench.y_is_right();
            bench.run_backward();
            bench.dx_is_right(&[]);
            bench.dweight_is_right();
            bench.dbias_is_right();
        }
    }
}

#[test]
fn without_statistics_none_are_written() {
    each(|case| {
        let mut bench = Bench::new(case);
        (bench.forward.mean, bench.forward.rstd) = (0, 0);
        let done = bench.run_forward();
        let read = bench.of_rows + 2 * bench.of_columns;
        bench.moved("no statistics", &done, read, bench.of_rows);
        bench.y_is_right();
    });
}

#[test]
fn rows_that_lie_apart_are_read_and_written_without_their_gaps() {
    each(|case| {
        // A gap of whole vectors, and one that lets no row but the first start at a vector.
        for gap in [64, 3] {
            let mut bench = Bench::new(case);
            let stride = case.n_cols + gap;
            let strides = Strides {
                x: stride,
                y: stride + 16,
                dy: stride + 32,
                dx: stride + 48,
            };
            bench.problem = bench.problem.with_strides(strides).expect("strides");
            bench.forward.x = bench.scattered(&bench.inputs.x, strides.x);
            bench.forward.y = bench.scattered(&[], strides.y);
            bench.backward.x = bench.forward.x;
            bench.backward.dy = bench.scattered(&bench.inputs.dy, strides.dy);
            bench.backward.dx = bench.scattered(&[], strides.dx);
            let done = bench.run_forward();
            let read = bench.of_rows + 2 * bench.of_columns;
            let written = bench.of_rows + 2 * bench.of_statistics;
            bench.moved("strides", &done, read, written);
            bench.y_is_right();
            bench.run_backward();
            bench.dx_is_right(&[]);
            bench.dweight_is_right();
            for (address, stride) in [
                (bench.forward.y, strides.y),
                (bench.backward.dx, strides.dx),
            ] {
                let whole = bench
                    .direct
                    .download(address, case.n_rows * stride, case.dtype);
                let gaps = whole.chunks(stride).flat_map(|row| &row[case.n_cols..]);
                assert!(
                    gaps.into_iter().all(|value| value.is_nan()),
                    "{case:?}: a gap was written"
                );
            }
        }
    });
}

#[test]
fn dx_over_dy() {
    each(|case| {
        let mut bench = Bench::new(case);
        bench.backward.dx = bench.backward.dy;
        let done = bench.run_backward();
        let written = over_rows(&done).written();
        assert!(written >= bench.of_rows, "{case:?}: {written}");
        bench.dx_is_right(&[]);
        bench.dweight_is_right();
        bench.dbias_is_right();
    });
}

#[test]
fn gradients_that_are_not_needed_move_no_bytes() {
    each(|case| {
        for bits in 1..8 {
            let mut bench = Bench::new(case);
            let [dx, dweight, dbias] = [1, 2, 4].map(|bit| bits & bit != 0);
            if !dx {
                bench.backward.dx = 0;
            }
            if !dweight {
                bench.backward.dweight = 0;
            }
            if !dbias {
                bench.backward.dbias = 0;
            }
            let done = bench.run_backward();
            let what = format!("dx {dx}, dweight {dweight}, dbias {dbias}");
            let rows = over_rows(&done);
            let by_columns = rows.variant().starts_with("columns");
            let has_sums = done[0].variant().starts_with("sums");
            assert_eq!(
                has_sums,
                by_columns && dx,
                "{what}, {case:?}: the rows' sums"
            );
            // dx and dweight take x and the statistics, dx alone weight and, by columns, the rows' sums.
            let needs_x = dx || dweight;
            let mut read = bench.of_rows;
            if needs_x {
                read += bench.of_rows + 2 * bench.of_statistics;
            }
            if dx {
                read += bench.of_columns + u64::from(by_columns) * 2 * bench.of_statistics;
            }
            let launch = &rows.launch;
            let n_partials = if by_columns {
                launch.grid_y
            } else {
                launch.grid / rows.blocks_of_a_row()
            };
            let partial =
                u64::from(n_partials) * (case.n_cols * case.dtype.accumulator().size()) as u64;
            let partials = (u64::from(dweight) + u64::from(dbias)) * partial;
            bench.moved(&what, rows, read, u64::from(dx) * bench.of_rows + partials);
            if dweight || dbias {
                let reduce = done.last().expect("launches");
                let gradients = (u64::from(dweight) + u64::from(dbias)) * bench.of_columns;
                bench.moved(&what, reduce, partials, gradients);
            } else {
                assert!(
                    done.iter().all(|done| done.variant() != "reduce"),
                    "{what}, {case:?}"
                );
            }
            if dx {
                bench.dx_is_right(&[]);
            }
            if dweight {
                bench.dweight_is_right();
            }
            if dbias {
                bench.dbias_is_right();
            }
        }
    });
}

#[test]
fn a_residual_is_added_in_the_same_pass() {
    each(|case| {
        let mut bench = Bench::new(case);
        // Twice x less x: the sum is x again, exactly.
        let times = |factor: f64| {
            bench
                .inputs
                .x
                .iter()
                .map(|x| factor * x)
                .collect::<Vec<_>>()
        };
        let (twice, less) = (times(2.0), times(-1.0));
        bench.forward.x = bench.direct.upload(&twice, case.dtype);
        bench.forward.residual = bench.direct.upload(&less, case.dtype);
        bench.forward.sum = bench.direct.alloc(bench.of_rows as usize);
        let done = bench.run_forward();
        let read = 2 * bench.of_rows + 2 * bench.of_columns;
        let written = 2 * bench.of_rows + 2 * bench.of_statistics;
        bench.moved("residual", &done, read, written);
        bench.y_is_right();
        let sum = bench.gathered(bench.forward.sum, case.n_cols);
        assert!(sum == bench.inputs.x, "{case:?}: x + residual");

        (bench.backward.dweight, bench.backward.dbias) = (0, 0);
        bench.backward.dsum = bench.direct.upload(&less, case.dtype);
        let done = bench.run_backward();
        let rows = over_rows(&done);
        let sums = u64::from(rows.variant().starts_with("columns"));
        let read = 3 * bench.of_rows + bench.of_columns + 2 * (1 + sums) * bench.of_statistics;
        bench.moved("dsum", rows, read, bench.of_rows);
        bench.dx_is_right(&less);
    });
}
