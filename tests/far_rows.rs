//! Rows that lie more than 2^31 and 2^32 elements apart: their addresses need 64 bits, in the plan's numbers and in
//! every kernel. The memory between them is not there: it is taken as it is touched.

use layernorm_host::{BackwardPointers, DType, ForwardPointers, Problem, Strides};
use layernorm_tests::check;
use layernorm_tests::data::Case;
use layernorm_tests::direct::Direct;
use layernorm_tests::tolerance;

/// Elements from a row to the next: row 1 starts above 2^31, row 2 above 2^32, and a product in 32 bits would have
/// them start at columns 8 and 16 of row 0.
const STRIDE: usize = (1 << 31) + 8;

const N_ROWS: usize = 3;

/// By one kernel of each kind: rows in registers, at any start, longer ones; backward by rows and by columns.
const COLUMNS: [usize; 4] = [384, 1023, 4096, 9000];

/// Places of the rows of a tensor of halves with this stride.
fn places(base: u64) -> [u64; N_ROWS] {
    [0, 1, 2].map(|row| base + row * STRIDE as u64 * DType::F16.size() as u64)
}

/// An allocation that holds three such rows.
fn far(direct: &Direct, n_cols: usize) -> u64 {
    let elements = (N_ROWS - 1) * STRIDE + n_cols;
    direct.alloc_sparse((elements * DType::F16.size()) as u64)
}

#[test]
fn rows_more_than_two_and_four_thousand_million_elements_away() {
    let dtype = DType::F16;
    // As many multiprocessors as rows: those are few, and have a backward kernel of their own.
    let devices = COLUMNS.map(|n_cols| [(n_cols, 2), (n_cols, N_ROWS as u32)]);
    for (n_cols, sm_count) in devices.into_iter().flatten() {
        let direct = Direct::new("h100", sm_count, false);
        let case = Case::new(N_ROWS, n_cols, dtype, dtype);
        let inputs = case.generate();
        let want = check::expected(&case, &inputs);
        let contiguous = Problem::new(N_ROWS, n_cols, dtype, dtype, case.eps).unwrap();
        let parameter = |values: &Option<Vec<f64>>| direct.upload(values.as_ref().unwrap(), dtype);
        let (weight, bias) = (parameter(&inputs.weight), parameter(&inputs.bias));
        let statistics = |values: &[f64]| direct.upload(values, DType::F32);
        let near = || direct.alloc(N_ROWS * n_cols * dtype.size());
        let apart = |base: u64, values: &[f64]| {
            for (at, row) in places(base).into_iter().zip(values.chunks(n_cols)) {
                direct.write(at, row, dtype);
            }
        };
        // One far tensor at a time, so that the addresses stay within what any host gives out.
        for which in ["x", "y", "dy", "dx"] {
            let base = far(&direct, n_cols);
            let mut strides = contiguous.strides();
            match which {
                "x" => strides.x = STRIDE,
                "y" => strides.y = STRIDE,
                "dy" => strides.dy = STRIDE,
                _ => strides.dx = STRIDE,
            }
            let problem = contiguous.with_strides(Strides { ..strides }).unwrap();
            let x = match which {
                "x" => {
                    apart(base, &inputs.x);
                    base
                }
                _ => direct.upload(&inputs.x, dtype),
            };
            let name = format!("{n_cols} columns, far {which}");
            if matches!(which, "x" | "y") {
                let pointers = ForwardPointers {
                    x,
                    weight,
                    bias,
                    y: if which == "y" { base } else { near() },
                    ..ForwardPointers::default()
                };
                direct.forward(&problem, &pointers).expect("rows");
                let rows = rows_of(&direct, pointers.y, problem.strides().y, n_cols);
                close(&name, &rows, &want.y, |i, y| {
                    let row = i / n_cols;
                    tolerance::y(dtype, y, want.y_terms[row])
                });
            }
            let dy = match which {
                "dy" => {
                    apart(base, &inputs.dy);
                    base
                }
                _ => direct.upload(&inputs.dy, dtype),
            };
            let dweight = direct.alloc(n_cols * dtype.size());
            let pointers = BackwardPointers {
                dy,
                x,
                weight,
                mean: statistics(&want.mean),
                rstd: statistics(&want.rstd),
                dx: if which == "dx" { base } else { near() },
                dweight,
                ..BackwardPointers::default()
            };
            direct.backward(&problem, &pointers);
            let rows = rows_of(&direct, pointers.dx, problem.strides().dx, n_cols);
            close(&name, &rows, &want.dx, |i, dx| {
                let row = i / n_cols;
                tolerance::dx(dtype, dx, want.dx_terms[row], want.dx_of_mean[row])
            });
            let sums = direct.download(dweight, n_cols, dtype);
            close(&name, &sums, &want.dweight, |c, value| {
                let (terms, of_mean) = (want.dweight_terms[c], want.dweight_of_mean[c]);
                tolerance::dweight(dtype, value, terms, of_mean, N_ROWS)
            });
            direct.free(&[base]);
        }
    }
}

fn rows_of(direct: &Direct, base: u64, stride: usize, n_cols: usize) -> Vec<f64> {
    let size = DType::F16.size();
    let at = |row: usize| base + (row * stride * size) as u64;
    (0..N_ROWS)
        .flat_map(|row| direct.download(at(row), n_cols, DType::F16))
        .collect()
}

fn close(name: &str, got: &[f64], want: &[f64], bound: impl Fn(usize, f64) -> f64) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        // A NaN is within no bound.
        let passes = (got - want).abs() <= bound(i, *want);
        assert!(passes, "{name}: element {i} is {got:e}, expected {want:e}");
    }
}
