//! A few rows: which have one launch, and that it covers them.

use kernels_gpu::abi::{FEW_COLS, few_block, few_vecs};

use super::*;

/// dx beside dy, from anywhere or not.
fn apart(problem: &Problem, anywhere: bool) -> BackwardArgs {
    let (dx, dy) = (
        0x3000,
        0x2000 + u64::from(anywhere) * problem.dtype().size() as u64,
    );
    let args = backward_args(problem);
    BackwardArgs { dx, dy, ..args }
}

#[test]
fn one_launch_has_a_place_for_every_row_and_column() {
    for limits in [H100, H200, A100] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let size = dtype.size() as u32;
            for n_cols in (1..=8192).step_by(61).chain([64, 256, 1536, 4096, 8192]) {
                for (n_rows, anywhere) in [1, 2, 5, 54, 67, limits.sm_count as usize]
                    .into_iter()
                    .flat_map(|n_rows| [(n_rows, false), (n_rows, true)])
                {
                    let problem = problem(n_rows, n_cols, dtype);
                    let args = apart(&problem, anywhere);
                    let plan = backward(&problem, &args, true, &limits).unwrap();
                    let Some(few) = plan.few else {
                        // Rows that start anywhere for which an A100 has not the shared memory, and no tile.
                        assert!(limits == A100 && anywhere | (n_cols % 8 > 0) && n_cols > 4096);
                        continue;
                    };
                    assert_eq!((plan.sums, plan.rows, plan.n_partials), (None, None, 0));
                    let Some(Variant::Few { narrow }) = few.launch.entry.variant() else {
                        panic!("{:?}", few.launch);
                    };
                    let row_bytes = n_cols * dtype.size();
                    assert_eq!(narrow, anywhere || row_bytes % VECTOR_BYTES as usize != 0);
                    // A row fits its lanes, and its block the kernel; the device counts rows by shifts.
                    let vectors = few.lanes * few_vecs(size, narrow);
                    assert!((vectors * VECTOR_BYTES) as usize >= row_bytes);
                    assert!(few.launch.block <= few_block(size) && few.launch.block % 32 == 0);
                    assert!(few.lanes.is_power_of_two() || few.launch.block == few.lanes);
                    assert!(few.lanes <= 32 || few.lanes.is_multiple_of(32));
                    let places = few.launch.block / few.lanes;
                    let of_rows = few.launch.grid - few.column_blocks;
                    assert!((of_rows * places) as usize >= n_rows);
                    assert!((((of_rows - 1) * places) as usize) < n_rows, "idle blocks");
                    let slices = (n_cols as u32).div_ceil(FEW_COLS);
                    assert!((1..=slices).contains(&few.column_blocks));
                }
            }
        }
    }
}

#[test]
fn other_rows_have_partials() {
    let plan = |problem: &Problem, args: &BackwardArgs, needs_parameters| {
        backward(problem, args, needs_parameters, &H100).unwrap()
    };
    // dx over dy, which blocks for columns would still read.
    let few = problem(132, 1024, DType::BF16);
    let in_place = backward_args(&few);
    assert!(plan(&few, &in_place, true).few.is_none());
    let only_dx = plan(&few, &in_place, false).few.unwrap();
    assert_eq!(only_dx.column_blocks, 0);
    let only_parameters = BackwardArgs { dx: 0, ..in_place };
    let only_parameters = plan(&few, &only_parameters, true).few.unwrap();
    assert_eq!(only_parameters.launch.grid, only_parameters.column_blocks);
    // Too many, too long, too wide.
    let many = problem(133, 1024, DType::BF16);
    assert!(plan(&many, &apart(&many, false), true).few.is_none());
    let long = problem(4, 16_384, DType::BF16);
    assert!(plan(&long, &apart(&long, false), true).few.is_none());
    let wide = problem(4, 1024, DType::F64);
    assert!(plan(&wide, &apart(&wide, false), true).few.is_none());
    let none = problem(0, 1024, DType::BF16);
    assert!(plan(&none, &apart(&none, false), true).few.is_none());
}

/// What `Launcher::prepare` loads.
#[test]
fn the_kernels_that_may_be_needed_are_those_of_few_rows_too() {
    for (n_rows, is_few) in [(132, true), (133, false)] {
        let entries = entries(Pass::Backward, &problem(n_rows, 1024, DType::BF16), &H100);
        for narrow in [false, true] {
            let few = Some(Variant::Few { narrow });
            let is_there = entries.iter().any(|entry| entry.variant() == few);
            assert_eq!(is_there, is_few);
        }
    }
}
