//! Prints the launches that the library would make, a line of JSON each, without a GPU: what another engine
//! that launches these kernels itself, or a benchmark, needs beside the PTX.
//!
//! `plan SM_COUNT MAX_SHARED_BYTES X_DTYPE WEIGHT_DTYPE N_ROWS N_COLS...`, for an H200:
//! `cargo run --release --example plan -- 132 232448 bf16 bf16 32768 1024 4096`

use kernels_gpu::abi::{BackwardArgs, ForwardArgs};
use layernorm_host::plan::{self, Launch, Limits};
use layernorm_host::{DType, Problem};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sm_count, max_shared, x, weight, n_rows, n_cols @ ..] = arguments.as_slice() else {
        return Err(
            "usage: plan SM_COUNT MAX_SHARED_BYTES X_DTYPE WEIGHT_DTYPE N_ROWS N_COLS...".into(),
        );
    };
    let limits = Limits {
        max_grid: i32::MAX as u32,
        max_block: 1024,
        sm_count: sm_count.parse()?,
        max_shared: max_shared.parse()?,
    };
    for n_cols in n_cols {
        let n_cols: usize = n_cols.parse()?;
        let problem = Problem::new(n_rows.parse()?, n_cols, dtype(x)?, dtype(weight)?, 1e-5)?;
        let stride = n_cols as u64;
        // Addresses stand for their alignment alone, which memory from a driver's allocator has.
        let forward = ForwardArgs {
            x_stride: stride,
            y_stride: stride,
            ..Default::default()
        };
        let backward = BackwardArgs {
            dy_stride: stride,
            x_stride: stride,
            dx_stride: stride,
            ..Default::default()
        };
        let plan = plan::backward(&problem, &backward, &limits)?;
        let forward = plan::forward(&problem, &forward, &limits)?;
        for launch in [forward, plan.sums, plan.rows, Some(plan.reduce)]
            .into_iter()
            .flatten()
        {
            print(n_cols, &launch);
        }
    }
    Ok(())
}

fn dtype(name: &str) -> std::result::Result<DType, String> {
    DType::ALL
        .into_iter()
        .find(|dtype| dtype.to_string() == name)
        .ok_or_else(|| format!("dtype {name}: allowed are f32, f16, bf16, f64"))
}

fn print(n_cols: usize, launch: &Launch) {
    let Launch {
        entry,
        grid,
        grid_y,
        block,
        shared_bytes,
    } = launch;
    println!(
        "{{\"n_cols\":{n_cols},\"entry\":\"{entry}\",\"grid\":[{grid},{grid_y},1],\"block\":{block},\"shared_bytes\":{shared_bytes}}}"
    );
}
