//! What a launch costs the host: the time of a call to [`Launcher`] that puts a pass on a stream, without the
//! device's work. Prints a line of JSON for each pass, microseconds a call: the 20th, 50th and 80th percentile
//! of the rounds.
//!
//! `launch_cost N_ROWS N_COLS DTYPE [ROUNDS]`, on the device that `Device::auto()` or `LAYERNORM_DRIVER` gives.

use std::time::Instant;

use layernorm_host::{BackwardPointers, DType, Device, ForwardPointers, Launcher, Problem, Tensor};

/// Launches between two waits for the device: fewer than a stream takes before it makes the host wait.
const LAUNCHES: u32 = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (shape, rounds) = match arguments.as_slice() {
        [shape @ .., rounds] if shape.len() == 3 => (shape, rounds.parse()?),
        shape if shape.len() == 3 => (shape, 25),
        _ => return Err("usage: launch_cost N_ROWS N_COLS f32|f16|bf16|f64 [ROUNDS]".into()),
    };
    let (n_rows, n_cols) = (shape[0].parse()?, shape[1].parse()?);
    let dtype = DType::ALL
        .into_iter()
        .find(|dtype| dtype.to_string() == shape[2])
        .ok_or("dtype: f32, f16, bf16 and f64 are allowed")?;
    let device = match Device::auto()? {
        device if device.kind() == "cpu" => Device::software(0)?,
        device => device,
    };
    let launcher = Launcher::new(&device)?;
    let problem = Problem::new(n_rows, n_cols, dtype, dtype, 1e-5)?;
    launcher.prepare(&problem)?;

    let tensor = |dtype: DType, shape: &[usize]| Tensor::ones(dtype, shape, &device);
    let rows: Vec<Tensor> = (0..4)
        .map(|_| tensor(dtype, &[n_rows, n_cols]))
        .collect::<Result<_, _>>()?;
    let parameters: Vec<Tensor> = (0..4)
        .map(|_| tensor(dtype, &[n_cols]))
        .collect::<Result<_, _>>()?;
    let statistics: Vec<Tensor> = (0..2)
        .map(|_| tensor(dtype.accumulator(), &[n_rows]))
        .collect::<Result<_, _>>()?;
    let workspace_bytes = launcher.workspace_bytes(&problem);
    let workspace = tensor(DType::F32, &[workspace_bytes.div_ceil(4).max(1)])?;
    let address = |tensor: &Tensor| tensor.device_address().unwrap_or(0);

    let forward = ForwardPointers {
        x: address(&rows[0]),
        weight: address(&parameters[0]),
        bias: address(&parameters[1]),
        y: address(&rows[1]),
        mean: address(&statistics[0]),
        rstd: address(&statistics[1]),
        ..ForwardPointers::default()
    };
    let backward = BackwardPointers {
        dy: address(&rows[2]),
        x: address(&rows[0]),
        weight: address(&parameters[0]),
        mean: address(&statistics[0]),
        rstd: address(&statistics[1]),
        dx: address(&rows[3]),
        dweight: address(&parameters[2]),
        dbias: address(&parameters[3]),
        workspace: address(&workspace),
        workspace_bytes,
        ..BackwardPointers::default()
    };
    let stream = std::ptr::null_mut();
    let forward = || {
        // SAFETY: the operands are this device's tensors, of the problem's shape and dtype, and outlive the
        // synchronisation in `time`.
        unsafe { launcher.launch_forward(stream, &forward, &problem) }
    };
    let backward = || {
        // SAFETY: as above, and the workspace has the size that the launcher asks for.
        unsafe { launcher.launch_backward(stream, &backward, &problem) }
    };
    let [low, median, high] = time(&device, rounds, forward)?;
    print(&device, "forward", &problem, [low, median, high]);
    let times = time(&device, rounds, backward)?;
    print(&device, "backward", &problem, times);
    Ok(())
}

/// Percentiles of the microseconds that a call takes the host.
fn time(
    device: &Device,
    rounds: usize,
    launch: impl Fn() -> layernorm_host::Result<()>,
) -> layernorm_host::Result<[f64; 3]> {
    for _ in 0..20 {
        launch()?;
    }
    device.synchronize()?;
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds.max(1) {
        let start = Instant::now();
        for _ in 0..LAUNCHES {
            launch()?;
        }
        times.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(LAUNCHES));
        device.synchronize()?;
    }
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[(part * (times.len() - 1) as f64).round() as usize];
    Ok([at(0.2), at(0.5), at(0.8)])
}

fn print(device: &Device, pass: &str, problem: &Problem, [low, median, high]: [f64; 3]) {
    println!(
        "{{\"device\":\"{}\",\"pass\":\"{pass}\",\"n_rows\":{},\"n_cols\":{},\"dtype\":\"{}\",\
         \"us\":[{low:.3},{median:.3},{high:.3}]}}",
        device.name(),
        problem.n_rows(),
        problem.n_cols(),
        problem.dtype(),
    );
}
