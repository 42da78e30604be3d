//! Blocks in pairs: which rows have them, and that a launch is whole pairs.

use super::*;

fn planned(problem: &Problem, needs_parameters: bool, limits: &Limits) -> BackwardPlan {
    backward(problem, &backward_args(problem), needs_parameters, limits).unwrap()
}

fn is_paired(plan: &BackwardPlan) -> bool {
    let variant = plan.rows.and_then(|rows| rows.entry.variant());
    matches!(variant, Some(Variant::Paired { .. }))
}

#[test]
fn short_rows_are_paired_if_they_are_many() {
    for dtype in [DType::F16, DType::BF16] {
        for n_cols in [8, 64, 1000, 1024, 4096] {
            let paired = |n_rows, limits: &Limits| {
                is_paired(&planned(&problem(n_rows, n_cols, dtype), true, limits))
            };
            assert!(!paired(4091, &H100) && paired(4092, &H100), "{n_cols}");
            assert!(!paired(100_000, &A100), "{n_cols}");
            let one = Limits {
                sm_count: 1,
                ..H100
            };
            assert!(!paired(4092, &one), "{n_cols}");
        }
        // Long ones, and such as start anywhere, from the first that are not few.
        for n_cols in [4104, 8192, 7, 1023, 4099] {
            assert!(is_paired(&planned(
                &problem(133, n_cols, dtype),
                true,
                &H100
            )));
        }
    }
    assert!(!is_paired(&planned(
        &problem(100_000, 4096, DType::F32),
        true,
        &H100
    )));
    // Two blocks a multiprocessor: the only ones of f32.
    assert!(is_paired(&planned(
        &problem(133, 2047, DType::F32),
        true,
        &H100
    )));
}

#[test]
fn a_launch_is_whole_pairs_and_has_a_row_of_partials_for_each() {
    for limits in [H100, H200] {
        for n_rows in [133, 134, 1000, 4096, 70_161] {
            for n_cols in (1..=8192).step_by(61).chain([4096, 8192]) {
                for dtype in [DType::F16, DType::F32] {
                    let problem = problem(n_rows, n_cols, dtype);
                    let plan = planned(&problem, true, &limits);
                    if !is_paired(&plan) {
                        continue;
                    }
                    let rows = plan.rows.unwrap();
                    assert!(rows.grid.is_multiple_of(2));
                    assert_eq!(plan.n_partials, rows.grid / 2);
                    assert!(rows.shared_bytes <= limits.max_shared - STATIC_SHARED_BYTES);
                    let bytes = plan.n_partials as usize * partial_row_bytes(&problem);
                    assert!(bytes <= workspace_bytes(&problem, &limits));
                    let alone = planned(&problem, false, &limits);
                    assert!(!is_paired(&alone), "nothing to share");
                    assert_eq!(alone.rows.unwrap().block, rows.block);
                }
            }
        }
    }
}

/// What `Launcher::prepare` loads.
#[test]
fn both_kernels_may_be_needed() {
    for (n_rows, paired) in [(4091, false), (4092, true)] {
        let entries = entries(Pass::Backward, &problem(n_rows, 1024, DType::BF16), &H100);
        for (ragged, expected) in [(false, paired), (true, true)] {
            let is_there = entries.iter().any(
                |entry| matches!(entry.variant(), Some(Variant::Paired { ragged: r, .. }) if r == ragged),
            );
            assert_eq!(is_there, expected);
        }
    }
}
