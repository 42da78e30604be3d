//! Prints the launches that the library would make, without a GPU: all that another engine which launches
//! these kernels itself needs beside the PTX, and what `benches/peers.py` launches.
//!
//! `plan CAPABILITY SM_COUNT MAX_SHARED_BYTES MEMORY_KHZ MEMORY_BUS_BITS X_DTYPE WEIGHT_DTYPE N_ROWS N_COLS...`, for an H100:
//! `cargo run --release --example plan -- 90 132 232448 2619000 5120 bf16 bf16 32768 1024 4096`
//!
//! With `CLUSTERS=off` in the environment it plans as for a device without thread-block clusters, to compare; with
//! `IN_PLACE=on` for dx over dy.
//!
//! A line of JSON for each pass: how large a workspace it needs, and its launches in their order. A launch has
//! the image that its entry point is in (90: `layernorm_sm_90.ptx`), grid, block, cluster, dynamic shared
//! memory, whether it may be launched to begin before the one before it has ended, and the parameters in the kernel's order: of each its name, and either a type and a value, or the
//! buffer whose address is wanted (`null`: address 0) and how many bytes from its start.

use std::ffi::c_void;

use kernels_gpu::abi::{BackwardArgs, FewArgs, ForwardArgs, ReduceArgs};
use layernorm_host::plan::{self, Launch, Limits};
use layernorm_host::{BackwardPointers, DType, ForwardPointers, IMAGES, Problem};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [
        capability,
        sm_count,
        max_shared,
        memory_khz,
        memory_bits,
        x,
        weight,
        n_rows,
        n_cols @ ..,
    ] = arguments.as_slice()
    else {
        return Err(
            "usage: plan CAPABILITY SM_COUNT MAX_SHARED_BYTES MEMORY_KHZ MEMORY_BUS_BITS X_DTYPE WEIGHT_DTYPE N_ROWS N_COLS..."
                .into(),
        );
    };
    let capability: u32 = capability.parse()?;
    let limits = Limits {
        max_grid: i32::MAX as u32,
        max_block: 1024,
        sm_count: sm_count.parse()?,
        max_shared: max_shared.parse()?,
        compute_capability: match std::env::var("CLUSTERS").as_deref() {
            Ok("off") => (8, 0),
            _ => (capability / 10, capability % 10),
        },
        memory_rate: plan::memory_rate(memory_khz.parse()?, memory_bits.parse()?),
    };
    for n_cols in n_cols {
        let (n_rows, n_cols) = (n_rows.parse()?, n_cols.parse()?);
        let problem = Problem::new(n_rows, n_cols, dtype(x)?, dtype(weight)?, 1e-5)?;
        print_forward(&problem, &limits, capability)?;
        print_backward(&problem, &limits, capability)?;
    }
    Ok(())
}

fn dtype(name: &str) -> Result<DType, String> {
    DType::ALL
        .into_iter()
        .find(|dtype| dtype.to_string() == name)
        .ok_or_else(|| {
            let allowed = DType::ALL.map(|dtype| dtype.to_string()).join(", ");
            format!("dtype {name}: allowed are {allowed}")
        })
}

fn print_forward(problem: &Problem, limits: &Limits, capability: u32) -> Result<(), Failure> {
    let pointers = ForwardPointers {
        x: address("x"),
        weight: address("weight"),
        bias: address("bias"),
        y: address("y"),
        mean: address("mean"),
        rstd: address("rstd"),
        ..ForwardPointers::default()
    };
    let args = pointers.args(problem)?;
    let launch = plan::forward(problem, &args, limits)?;
    let launches = launch.map(|launch| json(&launch, &forward_parameters(&args), capability));
    print(problem, "forward", 0, launches.into_iter().collect());
    Ok(())
}

fn print_backward(problem: &Problem, limits: &Limits, capability: u32) -> Result<(), Failure> {
    let workspace_bytes = plan::workspace_bytes(problem, limits);
    let pointers = BackwardPointers {
        dy: address("dy"),
        x: address("x"),
        weight: address("weight"),
        mean: address("mean"),
        rstd: address("rstd"),
        dx: match std::env::var("IN_PLACE").as_deref() {
            Ok("on") => address("dy"),
            _ => address("dx"),
        },
        dweight: address("dweight"),
        dbias: address("dbias"),
        workspace: address("workspace"),
        workspace_bytes,
        ..BackwardPointers::default()
    };
    let launches = pointers.launches(problem, limits)?;
    let rows = backward_parameters(&launches.rows);
    let mut lines: Vec<String> = [launches.plan.sums, launches.plan.rows]
        .iter()
        .flatten()
        .map(|launch| json(launch, &rows, capability))
        .collect();
    if let (Some(few), Some(args)) = (&launches.plan.few, &launches.few) {
        lines.push(json(&few.launch, &few_parameters(args), capability));
    }
    if let Some(reduce) = &launches.reduce {
        let parameters = reduce_parameters(reduce);
        lines.push(json(&launches.plan.reduce, &parameters, capability));
    }
    print(problem, "backward", workspace_bytes, lines);
    Ok(())
}

fn print(problem: &Problem, pass: &str, workspace_bytes: usize, launches: Vec<String>) {
    let (n_rows, n_cols) = (problem.n_rows(), problem.n_cols());
    let (x, weight) = (problem.dtype(), problem.parameter_dtype());
    println!(
        "{{\"pass\":\"{pass}\",\"n_rows\":{n_rows},\"n_cols\":{n_cols},\"x\":\"{x}\",\"weight\":\"{weight}\",\
         \"workspace_bytes\":{workspace_bytes},\"launches\":[{}]}}",
        launches.join(",")
    );
}

fn json(launch: &Launch, parameters: &[String], capability: u32) -> String {
    let Launch {
        entry,
        grid,
        grid_y,
        block,
        shared_bytes,
        overlaps,
    } = launch;
    let image = IMAGES
        .iter()
        .rev()
        .filter(|image| image.target <= capability)
        .find_map(|image| Some((image.target, image.kernel(&entry.to_string())?)));
    let (image, ptx) = image.map_or(("null".to_owned(), String::new()), |(target, ptx)| {
        (target.to_string(), ptx)
    });
    format!(
        "{{\"image\":{image},\"entry\":\"{entry}\",\"grid\":[{grid},{grid_y},1],\"block\":[{block},1,1],\
         \"cluster\":{},\"shared_bytes\":{shared_bytes},\"overlaps\":{overlaps},\"parameters\":[{}]}}",
        cluster(&ptx),
        parameters.join(",")
    )
}

/// The cluster that the kernel itself asks for. Such a kernel is launched as any other: its grid is a
/// multiple of it.
fn cluster(ptx: &str) -> String {
    let asked = ptx
        .lines()
        .find_map(|line| line.trim().strip_prefix(".reqnctapercluster"));
    let mut sizes: Vec<&str> =
        asked.map_or(vec![], |sizes| sizes.split(',').map(str::trim).collect());
    sizes.resize(3, "1");
    format!("[{}]", sizes.join(","))
}

/// The buffers that a pass's operands are. In this program each has an address that stands for it.
const BUFFERS: [&str; 11] = [
    "x",
    "weight",
    "bias",
    "y",
    "mean",
    "rstd",
    "dy",
    "dx",
    "dweight",
    "dbias",
    "workspace",
];

/// More than any buffer is large.
const APART: u64 = 1 << 48;

fn address(buffer: &str) -> u64 {
    let index = BUFFERS.iter().position(|name| *name == buffer);
    (index.expect("a buffer's name") as u64 + 1) * APART
}

fn pointer(name: &str, value: u64) -> String {
    if value == 0 {
        return format!("{{\"name\":\"{name}\",\"buffer\":null,\"offset\":0}}");
    }
    let (buffer, offset) = (BUFFERS[(value / APART) as usize - 1], value % APART);
    format!("{{\"name\":\"{name}\",\"buffer\":\"{buffer}\",\"offset\":{offset}}}")
}

fn number(name: &str, kind: &str, value: impl std::fmt::Display) -> String {
    format!("{{\"name\":\"{name}\",\"type\":\"{kind}\",\"value\":{value}}}")
}

/// Writes out an argument struct's fields in its own order. Naming all of them, as `let` must, makes a
/// parameter that is added an error here, and the addresses show that none is out of place.
macro_rules! parameters {
    ($args:expr, $struct:ident { $($field:ident: $kind:ident),* $(,)? }) => {{
        let $struct { $($field),* } = $args;
        let order = [$(std::ptr::from_ref($field).cast::<c_void>()),*];
        assert_eq!(order, $args.pointers(), "not the order of the kernel's parameters");
        vec![$(parameters!(@one $kind $field)),*]
    }};
    (@one address $field:ident) => { pointer(stringify!($field), *$field) };
    (@one $kind:ident $field:ident) => { number(stringify!($field), stringify!($kind), *$field) };
}

fn forward_parameters(args: &ForwardArgs) -> Vec<String> {
    parameters!(
        args,
        ForwardArgs {
            x: address,
            residual: address,
            weight: address,
            bias: address,
            y: address,
            sum: address,
            mean: address,
            rstd: address,
            n_rows: u64,
            x_stride: u64,
            y_stride: u64,
            n_cols: u32,
            eps: f32,
            inv_n: f32,
        }
    )
}

fn backward_parameters(args: &BackwardArgs) -> Vec<String> {
    parameters!(
        args,
        BackwardArgs {
            dy: address,
            x: address,
            weight: address,
            mean: address,
            rstd: address,
            dsum: address,
            dx: address,
            partial_dweight: address,
            partial_dbias: address,
            n_rows: u64,
            dy_stride: u64,
            x_stride: u64,
            dx_stride: u64,
            n_cols: u32,
            inv_n: f32,
            row_sums: address,
        }
    )
}

fn few_parameters(args: &FewArgs) -> Vec<String> {
    parameters!(
        args,
        FewArgs {
            dy: address,
            x: address,
            weight: address,
            mean: address,
            rstd: address,
            dsum: address,
            dx: address,
            dweight: address,
            dbias: address,
            dy_stride: u64,
            x_stride: u64,
            dx_stride: u64,
            n_rows: u32,
            n_cols: u32,
            inv_n: f32,
            lanes: u32,
            column_blocks: u32,
            accumulate: u32,
        }
    )
}

fn reduce_parameters(args: &ReduceArgs) -> Vec<String> {
    parameters!(
        args,
        ReduceArgs {
            partial_dweight: address,
            partial_dbias: address,
            dweight: address,
            dbias: address,
            n_partials: u32,
            n_cols: u32,
            accumulate: u32,
        }
    )
}
