//! `layernorm devices`: what the tool can run on.

use std::fmt::Write;

use clap::Args;
use layernorm_host::{Device, Result};

/// List the devices that the tool can run on.
#[derive(Args)]
pub struct Devices {}

impl Devices {
    pub fn run(self) -> Result<String> {
        let mut text = String::new();
        let devices = Device::all()?;
        for device in &devices {
            let (major, minor) = device.compute_capability();
            let (free, total) = device.memory()?;
            let image = device.image_target();
            let _ = writeln!(
                text,
                "{device:<12} {}, compute capability {major}.{minor}, {} of {} free, kernels for sm_{image}",
                device.name(),
                gibibytes(free),
                gibibytes(total),
            );
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
