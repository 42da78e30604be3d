//! What addresses are refused, and where the parameters point.

use super::*;

const LIMITS: Limits = Limits {
    max_grid: i32::MAX as u32,
    max_block: 1024,
    sm_count: 4,
    max_shared: 96 << 10,
    compute_capability: (8, 6),
    memory_rate: 0,
};

fn problem(n_rows: usize) -> Problem {
    Problem::new(n_rows, 384, DType::F16, DType::F32, 1e-5).unwrap()
}

const POINTERS: BackwardPointers = BackwardPointers {
    dy: 0x1000,
    x: 0x2000,
    weight: 0x3000,
    mean: 0x4000,
    rstd: 0x5000,
    dsum: 0,
    dx: 0x6000,
    dweight: 0x7000,
    dbias: 0x8000,
    workspace: 0x10_0000,
    workspace_bytes: 1 << 20,
    accumulate: false,
};

#[test]
fn forward_addresses_are_checked() {
    let good = ForwardPointers {
        x: 0x1000,
        y: 0x2000,
        ..ForwardPointers::default()
    };
    assert!(good.args(&problem(3)).is_ok());
    assert!(ForwardPointers::default().args(&problem(0)).is_ok());
    for (bad, name) in [
        (ForwardPointers { x: 0, ..good }, "x"),
        (ForwardPointers { y: 0, ..good }, "y"),
        (ForwardPointers { x: 0x1001, ..good }, "x"),
        (ForwardPointers { weight: 2, ..good }, "weight"),
        (ForwardPointers { mean: 2, ..good }, "mean"),
    ] {
        let error = bad.args(&problem(3)).unwrap_err();
        assert!(
            matches!(error, Error::Address { name: got, .. } if got == name),
            "{error}"
        );
    }
}

#[test]
fn partials_lie_in_the_workspace_one_after_the_other() {
    let launches = POINTERS.launches(&problem(100), &LIMITS).unwrap();
    let half = u64::from(launches.plan.n_partials) * 384 * 4;
    let reduce = launches.reduce.unwrap();
    assert_eq!(reduce.partial_dweight, 0x10_0000);
    assert_eq!(reduce.partial_dbias, 0x10_0000 + half);
    assert_eq!(launches.rows.partial_dbias, reduce.partial_dbias);
    assert!(2 * half <= plan::workspace_bytes(&problem(100), &LIMITS) as u64);
}

#[test]
fn gradients_that_are_not_wanted_cost_nothing() {
    let only_dx = BackwardPointers {
        dweight: 0,
        dbias: 0,
        workspace: 0,
        ..POINTERS
    };
    assert_eq!(only_dx.launches(&problem(9), &LIMITS).unwrap().reduce, None);
    let only_dbias = BackwardPointers {
        dx: 0,
        dweight: 0,
        x: 0,
        mean: 0,
        rstd: 0,
        ..POINTERS
    };
    let launches = only_dbias.launches(&problem(9), &LIMITS).unwrap();
    assert_eq!(launches.rows.partial_dweight, 0);
    assert_ne!(launches.rows.partial_dbias, 0);
}

#[test]
fn a_few_rows_need_no_workspace() {
    let pointers = BackwardPointers {
        workspace: 0,
        workspace_bytes: 0,
        accumulate: true,
        ..POINTERS
    };
    let launches = pointers.launches(&problem(3), &LIMITS).unwrap();
    let (plan, few) = (launches.plan.few.unwrap(), launches.few.unwrap());
    assert_eq!((launches.plan.rows, launches.reduce), (None, None));
    assert_eq!((few.dx, few.dweight, few.dbias), (0x6000, 0x7000, 0x8000));
    assert_eq!((few.n_rows, few.n_cols, few.accumulate), (3, 384, 1));
    assert_eq!(
        (few.lanes, few.column_blocks),
        (plan.lanes, plan.column_blocks)
    );
    let needed =
        |pointers: &BackwardPointers, n_rows| pointers.workspace_needed(&problem(n_rows), &LIMITS);
    assert_eq!(needed(&POINTERS, 3).unwrap(), 0);
    // dx over dy goes by partials.
    let in_place = BackwardPointers {
        dx: pointers.dy,
        ..pointers
    };
    let error = in_place.launches(&problem(3), &LIMITS).unwrap_err();
    assert!(matches!(error, Error::Workspace { got: 0, .. }), "{error}");
    let bytes = needed(&in_place, 3).unwrap();
    let with = |workspace_bytes| BackwardPointers {
        workspace: 0x10_0000,
        workspace_bytes,
        ..in_place
    };
    assert!(with(bytes).launches(&problem(3), &LIMITS).is_ok());
    assert!(with(bytes - 1).launches(&problem(3), &LIMITS).is_err());
    // The workspace that is there does not matter, other operands do.
    assert_eq!(needed(&with(bytes), 3).unwrap(), bytes);
    assert!(needed(&POINTERS, 100).unwrap() > 0);
    let absent = BackwardPointers { x: 0, ..POINTERS };
    let error = needed(&absent, 3).unwrap_err();
    assert!(matches!(error, Error::Address { name: "x", .. }), "{error}");
}

#[test]
fn no_rows_still_give_zero_gradients() {
    let pointers = BackwardPointers {
        workspace: 0,
        workspace_bytes: 0,
        ..POINTERS
    };
    let launches = pointers.launches(&problem(0), &LIMITS).unwrap();
    let reduce = launches.reduce.unwrap();
    assert_eq!((launches.plan.rows, reduce.n_partials), (None, 0));
    assert!(reduce.partial_dweight != 0 && reduce.partial_dbias != 0);
}

#[test]
fn a_workspace_that_does_not_fit_is_an_error() {
    let fits = POINTERS.launches(&problem(1000), &LIMITS).unwrap();
    let needed = fits.plan.n_partials as usize * 384 * 2 * 4;
    let small = BackwardPointers {
        workspace_bytes: needed - 1,
        ..POINTERS
    };
    let error = small.launches(&problem(1000), &LIMITS).unwrap_err();
    assert!(matches!(error, Error::Workspace { needed: got, .. } if got == needed));
    let crooked = BackwardPointers {
        workspace: 0x10_0004,
        ..POINTERS
    };
    let error = crooked.launches(&problem(9), &LIMITS).unwrap_err();
    assert!(matches!(
        error,
        Error::Address {
            name: "workspace",
            ..
        }
    ));
}
