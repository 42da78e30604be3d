//! The backward kernels of a few rows: rows that lie apart, and what is not asked for, with the bytes that are moved.

use layernorm_host::{BackwardPointers, DType, Strides, Variant};
use layernorm_tests::bench::Bench;
use layernorm_tests::data::Case;
use layernorm_tests::direct::Done;

const DTYPES: [(DType, DType); 3] = [
    (DType::F32, DType::F32),
    (DType::F16, DType::F16),
    (DType::BF16, DType::F32),
];

/// Of rows at multiples of 16 bytes and not; in part of a warp, a block's warps, and 192 lanes.
const COLUMNS: [usize; 5] = [96, 1023, 1024, 3000, 4100];

/// Each case on a device that has as many multiprocessors, so that its only launch is of such a kernel.
fn each(test: impl Fn(Bench)) {
    for (dtype, parameter) in DTYPES {
        for n_cols in COLUMNS {
            for n_rows in [1, 5, 12] {
                let case = Case::new(n_rows, n_cols, dtype, parameter);
                test(Bench::new(case, "h100", 12));
            }
        }
    }
}

fn only_launch(bench: &Bench) -> Done {
    let mut done = bench.run_backward();
    assert_eq!(done.len(), 1, "{:?}", bench.case);
    let done = done.remove(0);
    let variant = done.launch.entry.variant();
    assert!(matches!(variant, Some(Variant::Few { .. })), "{variant:?}");
    done
}

#[test]
fn rows_may_lie_apart() {
    each(|mut bench| {
        let n_cols = bench.case.n_cols;
        for more in [[8, 16, 24], [1, 2, 3]] {
            let [x, dy, dx] = more.map(|more| n_cols.next_multiple_of(8) + more);
            let strides = Strides {
                x,
                dy,
                dx,
                ..bench.problem.strides()
            };
            bench.problem = bench.problem.with_strides(strides).expect("strides");
            let nothing = vec![f64::NAN; bench.inputs.x.len()];
            bench.backward = BackwardPointers {
                x: bench.scattered(&bench.inputs.x, x),
                dy: bench.scattered(&bench.inputs.dy, dy),
                dx: bench.scattered(&nothing, dx),
                ..bench.backward
            };
            only_launch(&bench);
            bench.dx_is_right(&[]);
            bench.dweight_is_right();
            bench.dbias_is_right();
        }
    });
}

#[test]
fn dbias_alone_reads_dy_alone() {
    each(|mut bench| {
        bench.backward = BackwardPointers {
            dy: bench.backward.dy,
            dbias: bench.backward.dbias,
            ..BackwardPointers::default()
        };
        let done = only_launch(&bench);
        bench.dbias_is_right();
        bench.moved("dbias alone", &done, bench.of_rows, bench.of_columns);
    });
}

#[test]
fn dx_alone_is_written_alone() {
    each(|mut bench| {
        (bench.backward.dweight, bench.backward.dbias) = (0, 0);
        let done = only_launch(&bench);
        bench.dx_is_right(&[]);
        assert_eq!(done.written(), bench.of_rows, "{:?}", bench.case);
        // Without blocks for columns it may lie over dy.
        bench.backward.dx = bench.backward.dy;
        only_launch(&bench);
        bench.dx_is_right(&[]);
    });
}

#[test]
fn parameters_alone_need_no_weight_and_write_no_dx() {
    each(|mut bench| {
        (bench.backward.dx, bench.backward.weight) = (0, 0);
        let done = only_launch(&bench);
        bench.dweight_is_right();
        bench.dbias_is_right();
        let read = 2 * bench.of_rows + 2 * bench.of_statistics;
        bench.moved("parameters alone", &done, read, 2 * bench.of_columns);
    });
}
