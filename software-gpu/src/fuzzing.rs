//! What a fuzzer calls: any bytes in, and no more to it than coming back, soon and without a panic. Where
//! the bytes are refused there must be a reason.
//!
//! The targets of `fuzz/` call these with libFuzzer's bytes, the test `fuzz` with random ones.

use crate::{Gpu, Model, Module, Settings};

/// The parser alone.
///
/// # Panics
/// Where the parser has a mistake.
pub fn parser(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = crate::ptx::parse(&text) {
        assert!(!error.reason.is_empty());
    }
}

/// The whole loader: parsing, placement of the variables in memory, decoding.
///
/// # Panics
/// Where the loader has a mistake.
pub fn loader(bytes: &[u8]) {
    let settings = Settings {
        // Variables may take as much from the host, and no more.
        host_bytes: 1 << 20,
        ..Settings::default()
    };
    let gpu = Gpu::with_settings(Model::h100(), settings);
    let (before, _) = gpu.memory_info();
    match Module::load(bytes, &gpu) {
        Ok(module) => {
            for kernel in module.kernels() {
                assert!(kernel.registers() <= 255 && !kernel.name().is_empty());
            }
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
            for problem in &error.problems {
                assert!(problem.line as usize <= lines && !problem.reason.is_empty());
            }
        }
    }
    assert_eq!(gpu.memory_info().0, before, "what was placed is given back");
}
