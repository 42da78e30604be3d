//! Runs the passes and gathers what the driver wrote down of each launch.

use anyhow::{Context, Result, anyhow, bail};
use half::{bf16, f16};
use layernorm_host::{DType, Device, FastLayerNorm, Image, Tensor};
use software_gpu::driver::{LaunchRecord, choose_models, record_launches, recorded_launches};

use crate::minimum;
use crate::report::{Kernel, Pass, Problem, Report};

/// What to profile.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub n_rows: usize,
    pub n_cols: usize,
    pub dtype: DType,
    /// Of weight and bias; `None` where there are none.
    pub parameters: Option<DType>,
    pub forward: bool,
    pub backward: bool,
}

/// The software GPU as that model.
pub fn device(model: &str) -> Result<Device> {
    choose_models(model).map_err(|reason| anyhow!(reason))?;
    Ok(Device::software(0)?)
}

pub fn run(task: &Task, device: &Device) -> Result<Report> {
    let operand = |dtype, shape: &[usize], seed| operand(dtype, shape, seed, device);
    let shape = [task.n_rows, task.n_cols];
    let x = operand(task.dtype, &shape, 1)?;
    let parameter = |seed| {
        task.parameters
            .map(|dtype| operand(dtype, &shape[1..], seed))
            .transpose()
    };
    let (weight, bias) = (parameter(2)?, parameter(3)?);
    record_launches();
    let (_y, saved) = FastLayerNorm::forward(&x, weight.as_ref(), bias.as_ref(), 1e-5)?;
    let forward = recorded_launches();
    let mut passes = Vec::new();
    if task.forward {
        let kernels = kernels(task, device, forward)?;
        passes.push(Pass::new("forward", minimum::forward(task), kernels));
    }
    if task.backward {
        let dy = operand(task.dtype, &shape, 4)?;
        recorded_launches();
        FastLayerNorm::backward(saved, &dy)?;
        let kernels = kernels(task, device, recorded_launches())?;
        passes.push(Pass::new("backward", minimum::backward(task), kernels));
    }
    let (major, minor) = device.compute_capability().unwrap_or_default();
    Ok(Report {
        schema: 2,
        device: device.name().to_owned(),
        compute_capability: [major, minor],
        problem: Problem {
            n_rows: task.n_rows,
            n_cols: task.n_cols,
            dtype: task.dtype.to_string(),
            weight: task.parameters.map(|dtype| dtype.to_string()),
        },
        passes,
    })
}

fn kernels(task: &Task, device: &Device, launches: Vec<LaunchRecord>) -> Result<Vec<Kernel>> {
    let elements = task.n_rows * task.n_cols;
    let capability = device.compute_capability().unwrap_or_default();
    let kernel = |record: LaunchRecord| {
        let image = Image::with_kernel(&record.kernel, capability)
            .with_context(|| format!("no image has {}", record.kernel))?;
        Kernel::new(record, image, elements as u64)
    };
    launches.into_iter().map(kernel).collect()
}

/// Numbers of both signs, the same for a seed: nothing that is counted depends on them.
fn operand(dtype: DType, shape: &[usize], seed: u64, device: &Device) -> Result<Tensor> {
    let len = shape
        .iter()
        .try_fold(1usize, |len, n| len.checked_mul(*n))
        .context("more elements than there are addresses")?;
    if len > MOST_ELEMENTS {
        bail!("{len} elements; allowed are {MOST_ELEMENTS}, which take the software GPU a minute");
    }
    let number = |i: usize| {
        let bits = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.wrapping_mul(0xd1b5);
        (bits >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let bytes: Vec<u8> = match dtype {
        DType::F64 => (0..len)
            .flat_map(|i| f64::from(number(i)).to_le_bytes())
            .collect(),
        DType::F32 => (0..len).flat_map(|i| number(i).to_le_bytes()).collect(),
        DType::F16 => (0..len)
            .flat_map(|i| f16::from_f32(number(i)).to_le_bytes())
            .collect(),
        DType::BF16 => (0..len)
            .flat_map(|i| bf16::from_f32(number(i)).to_le_bytes())
            .collect(),
    };
    Ok(Tensor::from_bytes(&bytes, dtype, shape, device)?)
}

const MOST_ELEMENTS: usize = 1 << 29;

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since a process has one driver and one record of launches.
    #[test]
    fn the_kernels_touch_what_they_need() {
        let device = device("h100").unwrap();
        let task = Task {
            n_rows: 140,
            n_cols: 1024,
            dtype: DType::BF16,
            parameters: Some(DType::BF16),
            forward: true,
            backward: true,
        };
        let report = run(&task, &device).unwrap();
        let [forward, backward] = &report.passes[..] else {
            panic!("two passes");
        };
        let (x, parameter) = (140 * 1024 * 2, 1024 * 2);
        let read = |pass: &Pass| pass.minimum.bytes_read;
        assert_eq!(read(forward), x + 2 * parameter);
        assert_eq!(read(backward), 2 * x + parameter + 8 * 140);
        let [kernel] = &forward.kernels[..] else {
            panic!("one kernel");
        };
        // On an H100, from the image for its predecessor: the newest has what that has not.
        assert_eq!(kernel.image, "sm_80");
        // It reads every byte and writes every byte, and no other.
        assert_eq!(kernel.unique_bytes_read, forward.minimum.bytes_read);
        assert_eq!(kernel.unique_bytes_written, forward.minimum.bytes_written);
        assert_eq!(forward.times_minimum, 1.0);
        // A row of 2048 bytes is four warps', and all of it is asked for before any of it is used; so are weight and bias.
        assert_eq!(kernel.bytes_in_flight.before_first_use, 3.0 * 512.0);
        let lanes = kernel.instructions.values().map(|class| class.count);
        assert_eq!(kernel.lane_instructions, lanes.sum::<u64>());
        // More rows than multiprocessors: the second kernel adds up partials, which the first writes beside dx.
        assert!(backward.kernels.len() > 1 && backward.times_minimum > 1.0);
        let json = serde_json::to_value(&report).unwrap();
        let kernel = &json["passes"][0]["kernels"][0];
        assert_eq!(kernel["unique_bytes_read"], read(forward));
        assert!(kernel["instructions"]["float"]["per_element"].as_f64() > Some(1.0));
        assert!(report.to_string().contains(&backward.kernels[1].kernel));

        let nothing = Task { n_rows: 0, ..task };
        let report = run(&nothing, &device).unwrap();
        assert!(report.passes[0].kernels.is_empty());
        assert_eq!(report.passes[0].times_minimum, 0.0);
        let large = Task {
            n_rows: usize::MAX,
            ..task
        };
        assert!(run(&large, &device).is_err());
        assert!(super::device("v100").is_err());
    }
}
