//! Lane-instructions a second a core of the software GPU, on the kernels that ship, as the library plans them:
//!
//!     cargo bench --package layernorm-tests --bench software_gpu [-- N_ROWS N_COLS]
//!
//! bf16, 4096 rows of 1024 columns by default. Each launch is done a few times and the fastest counts. The number of
//! cores that a launch used divides its rate; the rate for a second of a core's own time is what that would be if
//! nobody else had the cores.

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use layernorm_host::plan;
use layernorm_host::{BackwardPointers, DType, ForwardPointers, Problem};
use layernorm_tests::direct::{Direct, Ready};
use software_gpu::{Checks, Gpu, Model};

const REPEATS: usize = 5;

fn main() {
    let mut sizes = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok());
    let (n_rows, n_cols) = (sizes.next().unwrap_or(4096), sizes.next().unwrap_or(1024));
    println!(
        "{n_rows} x {n_cols} bf16 on {} cores",
        rayon::current_num_threads()
    );
    for (name, checks) in [
        ("off", Checks::OFF),
        ("memory", Checks::MEMORY),
        ("all", Checks::ALL),
    ] {
        let mut direct = Direct::new("h100", 132, true);
        direct.gpu = Gpu::with_checks(Model::h100(), checks);
        for ready in launches(&direct, n_rows, n_cols) {
            time(&direct, &ready, name);
        }
    }
}

/// Both passes' kernels, in their order.
fn launches(direct: &Direct, n_rows: usize, n_cols: usize) -> Vec<Ready> {
    let dtype = DType::BF16;
    let problem = Problem::new(n_rows, n_cols, dtype, dtype, 1e-5).expect("a problem");
    let values: Vec<f64> = (0..n_rows * n_cols)
        .map(|i| (i * 37 % 101) as f64 * 0.05 - 2.5)
        .collect();
    let (x, dy) = (direct.upload(&values, dtype), direct.upload(&values, dtype));
    let [weight, bias] = [0, 1].map(|_| direct.upload(&values[..n_cols], dtype));
    let of_rows = values.len() * dtype.size();
    let forward = ForwardPointers {
        x,
        weight,
        bias,
        y: direct.alloc(of_rows),
        mean: direct.filled(4 * n_rows),
        rstd: direct.filled(4 * n_rows),
        ..ForwardPointers::default()
    };
    let workspace_bytes = plan::workspace_bytes(&problem, &direct.limits);
    let backward = BackwardPointers {
        dy,
        x,
        weight,
        mean: forward.mean,
        rstd: forward.rstd,
        dx: direct.alloc(of_rows),
        dweight: direct.alloc(n_cols * dtype.size()),
        dbias: direct.alloc(n_cols * dtype.size()),
        workspace: direct.alloc(workspace_bytes),
        workspace_bytes,
        ..BackwardPointers::default()
    };
    let args = forward.args(&problem).expect("addresses that fit");
    let launch = plan::forward(&problem, &args, &direct.limits).expect("a plan");
    let launch = launch.expect("there are rows");
    let mut ready = vec![direct.ready(&launch, &args.pointers())];
    let launches = backward.launches(&problem, &direct.limits);
    let launches = launches.expect("a plan");
    let rows = [launches.plan.sums, launches.plan.rows];
    for launch in rows.into_iter().flatten() {
        ready.push(direct.ready(&launch, &launches.rows.pointers()));
    }
    if let (Some(few), Some(args)) = (&launches.plan.few, &launches.few) {
        ready.push(direct.ready(&few.launch, &args.pointers()));
    }
    if let Some(reduce) = &launches.reduce {
        ready.push(direct.ready(&launches.plan.reduce, &reduce.pointers()));
    }
    ready
}

fn time(direct: &Direct, ready: &Ready, checks: &str) {
    let (mut best, mut best_of_cores) = (Duration::MAX, Duration::MAX);
    let mut lanes = 0;
    for _ in 0..REPEATS {
        let (start, of_cores) = (Instant::now(), ProcessTime::now());
        lanes = direct.run(ready).lane_instructions;
        best_of_cores = best_of_cores.min(of_cores.elapsed());
        best = best.min(start.elapsed());
    }
    let cores = rayon::current_num_threads();
    println!(
        "checks {checks}: {}: {:.1} ms, {lanes} lane-instructions, {:.3e} a second a core, {:.3e} a second of a \
         core's own time",
        ready.name(),
        best.as_secs_f64() * 1e3,
        lanes as f64 / best.as_secs_f64() / cores as f64,
        lanes as f64 / best_of_cores.as_secs_f64(),
    );
}
