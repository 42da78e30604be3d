//! What a caller can leave out or ask for beside the plain passes: each with its result against the oracle, and
//! with the bytes that it moves, which for what was left out are none.

use layernorm_host::{DType, Strides};
use layernorm_tests::bench::Bench;
use layernorm_tests::data::Case;
use layernorm_tests::direct::Done;

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

fn bench(case: Case) -> Bench {
    let sm_count = if case.n_cols == LONG { 132 } else { 2 };
    Bench::new(case, "h100", sm_count)
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
            let bench = bench(Case {
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
            let bench = bench(Case::new(N_ROWS, n_cols, dtype, DType::F32));
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
        let mut bench = bench(case);
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
            let mut bench = bench(case);
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
        let mut bench = bench(case);
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
            let mut bench = bench(case);
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
        let mut bench = bench(case);
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
