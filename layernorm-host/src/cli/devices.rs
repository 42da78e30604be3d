//! `layernorm devices`: what the tool can run on.

use std::fmt::Write;

use clap::Args;
use layernorm_host::{Device, Result};

/// List the devices that the tool can run on, by the names that --device takes.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Devices {}

const EXAMPLES: &str = "\
Examples:
  layernorm devices
  LAYERNORM_DRIVER=software layernorm devices       the GPU in software, where there is a real one too
  SOFTWARE_GPU_MODEL=a100,t4 layernorm devices      two of them, of other models";

impl Devices {
    pub fn run(self) -> Result<String> {
        let mut text = String::new();
        let devices = Device::all()?;
        for device in &devices {
            let _ = write!(text, "{:<12} {}", device.to_string(), device.name());
            if let Some((major, minor)) = device.compute_capability() {
                let _ = write!(text, ", compute capability {major}.{minor}");
            }
            if let Some((free, total)) = device.memory()? {
                let _ = write!(text, ", {} of {} free", gibibytes(free), gibibytes(total));
            }
            if let Some(target) = device.image_target() {
                let _ = write!(text, ", kernels for sm_{target}");
            }
            text.push('\n');
        }
        let software = devices.iter().any(|device| device.kind() == "software");
        text.push_str(if software {
            "No CUDA device is in use: there is none, or LAYERNORM_DRIVER names the software GPU.\n"
        } else {
            "software     the same kernels on a GPU in software: --device software\n"
        });
        Ok(text)
    }
}

fn gibibytes(bytes: usize) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
